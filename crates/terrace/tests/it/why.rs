//! Why a key is answered as it is.

use crate::fixture::{LEASE, Node};
use terrace::{Change, DeadBy, EntryOptions, Tag, Tier, Trusted};
use terrace_testkit::fake::{Fault, Loss};
use terrace_testkit::wait::until;

#[tokio::test]
async fn it_tells_of_both_tiers_and_of_what_changed_the_key() {
    let node = Node::first_hearing().await;
    let other = node.another_hearing().await;
    let nothing = node.texts.why("k").await.unwrap();
    assert_eq!((nothing.answer, nothing.l1, nothing.l2, nothing.partition), (None, None, None, Some(0)));

    let tagged = EntryOptions::default().tag("t").unwrap();
    let written = node.texts.put_with("k", "v".to_owned(), tagged).await.unwrap();
    let why = node.texts.why("k").await.unwrap();
    assert_eq!(why.answer, Some(Tier::L1));
    for held in [&why.l1, &why.l2] {
        let held = held.as_ref().expect("it is there");
        assert_eq!(
            (held.version, held.tags.as_slice(), &held.dead_by),
            (written.version, &[Tag::new("t").unwrap()][..], &None)
        );
    }
    assert!(matches!(why.trust, Trusted::For(left) if left <= LEASE));
    assert!(
        matches!(&why.changes[..], [set] if matches!(set.change, Change::Set(_)) && set.number == written.version)
    );
    assert_eq!(node.cache.stats().total.requests, 0, "asking why is no lookup");

    other.texts.invalidate().tag("t").unwrap().send().await.unwrap();
    until("the bump is heard", || node.texts.peek("k").is_none()).await;
    let why = node.texts.why("k").await.unwrap();
    assert_eq!(why.answer, None);
    assert_eq!(why.l2.and_then(|held| held.dead_by), Some(DeadBy::Tag(Tag::new("t").unwrap())));
    assert!(why.l1.is_none_or(|held| held.dead_by == Some(DeadBy::Ban)));
    assert!(matches!(why.changes[0].change, Change::Tag(_)));
    assert_ne!(why.changes[0].by, why.changes[1].by, "who did it is told");
}

#[tokio::test]
async fn it_tells_that_a_copy_is_suspect_and_that_l2_is_away() {
    let node = Node::first_hearing().await;
    node.put("k", "v").await;
    node.remote.set_loss(Loss::Everything);
    node.clock.advance(LEASE * 2);
    let why = node.texts.why("k").await.unwrap();
    assert_eq!((why.trust, why.answer), (Trusted::Lapsed, Some(Tier::L2)));
    assert_eq!(why.l1.and_then(|held| held.dead_by), Some(DeadBy::Trust));
    node.remote.set_fault(Some(Fault::Unavailable));
    node.texts.remove("k").await.unwrap();
    let why = node.texts.why("k").await.unwrap();
    assert!(why.l2_error.is_some() && why.is_pending);
}

#[tokio::test]
async fn it_tells_of_a_load_under_way() {
    let node = Node::first().await;
    let (mut held, loading) = node.loading("k");
    held.started().await;
    let why = node.texts.why("k").await.unwrap();
    assert!(why.is_loading && why.trust == Trusted::Always && why.partition.is_none());
    held.bring("v");
    crate::fixture::ended(loading).await.unwrap();
    assert!(!node.texts.why("k").await.unwrap().is_loading);
}
