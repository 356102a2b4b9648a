//! Changes on a condition: what is looked at, and that nothing comes between the look and the change.

use crate::fixture::{HOUR, LEASE, Node, Texts, ended, spawn};
use std::time::Duration;
use terrace::{Cache, Clock, Effect, Entry, EntryOptions, Error, ErrorKind, OriginFn, Version, Written};
use terrace_testkit::fake::{Fault, Operation};

fn is_at(version: Version) -> impl Fn(Option<&Entry<String>>) -> bool + Send + Sync + 'static {
    move |there| there.is_some_and(|there| there.version == version)
}

async fn create(texts: &Texts, key: &str, value: &str) -> Result<Option<Written>, Error> {
    texts.put_if(key, value.to_owned(), EntryOptions::new(), |there| there.is_none()).await
}

async fn replace(texts: &Texts, key: &str, version: Version, value: &str) -> Option<Written> {
    let replaced = texts.put_if(key, value.to_owned(), EntryOptions::new(), is_at(version)).await;
    replaced.expect("L2 answers")
}

fn memory() -> (Clock, Texts) {
    let clock = Clock::manual();
    let cache = Cache::builder().clock(clock.clone()).default_ttl(HOUR).build().expect("valid settings");
    (clock, cache.keyspace("texts").build().expect("a new keyspace"))
}

async fn value(texts: &Texts, key: &str) -> Option<String> {
    texts.get(key).await.expect("a valid key").map(|value| (*value).clone())
}

/// What has to hold of every keyspace whose changes stay in the tiers.
async fn keeps_conditions(texts: &Texts) {
    let first = create(texts, "k", "1").await.expect("L2 answers").expect("nothing is there");
    assert_eq!((first.effect, first.replaced), (Effect::Applied, Some(false)));
    assert_eq!(create(texts, "k", "2").await.expect("L2 answers"), None);
    let second = replace(texts, "k", first.version, "2").await.expect("it is that version");
    assert!(second.version.supersedes(first.version));
    assert_eq!(second.replaced, Some(true));
    assert_eq!(replace(texts, "k", first.version, "3").await, None);
    assert_eq!(value(texts, "k").await.as_deref(), Some("2"));
    assert_eq!(
        texts.get_entry("k").await.expect("a valid key").map(|entry| entry.version),
        Some(second.version)
    );
    assert!(texts.remove_if("k", is_at(first.version)).await.expect("L2 answers").is_none());
    let removed =
        texts.remove_if("k", is_at(second.version)).await.expect("L2 answers").expect("it is that version");
    assert!(removed.existed);
    assert_eq!(value(texts, "k").await, None);
    assert_eq!(replace(texts, "k", second.version, "3").await, None, "it is gone");

    let tagged = EntryOptions::new().tag("t").expect("a tag");
    texts.put_with("k", "old".to_owned(), tagged).await.expect("stored");
    texts.invalidate().tag("t").expect("a tag").send().await.expect("invalidated");
    let created =
        create(texts, "k", "new").await.expect("L2 answers").expect("what a tag has killed is not there");
    texts.invalidate().pattern("k*").expect("a pattern").send().await.expect("invalidated");
    assert_eq!(replace(texts, "k", created.version, "newer").await, None, "a pattern has killed it");
    let gone = EntryOptions::new().ttl(Duration::ZERO);
    let written = texts.put_if("k", "x".to_owned(), gone, |there| there.is_none()).await.expect("L2 answers");
    assert!(written.is_some());
    assert_eq!(value(texts, "k").await, None, "a TTL of nothing keeps nothing");
}

#[tokio::test]
async fn a_change_is_made_only_of_what_is_there() {
    keeps_conditions(&memory().1).await;
    keeps_conditions(&Node::first().await.texts).await;
    keeps_conditions(&Node::first_without_l1().await.texts).await;
    keeps_conditions(&Node::first_hearing().await.texts).await;
}

#[tokio::test]
async fn what_is_past_its_ttl_is_not_there() {
    let (clock, texts) = memory();
    let node = Node::first().await;
    let short = || EntryOptions::new().ttl(Duration::from_secs(1)).grace(HOUR);
    for (clock, texts) in [(&clock, &texts), (&node.clock, &node.texts)] {
        let written = texts.put_with("k", "old".to_owned(), short()).await.expect("stored");
        clock.advance(Duration::from_secs(2));
        assert_eq!(replace(texts, "k", written.version, "new").await, None);
        assert!(create(texts, "k", "new").await.expect("L2 answers").is_some());
        assert_eq!(value(texts, "k").await.as_deref(), Some("new"));
    }
}

#[tokio::test]
async fn that_the_origin_has_nothing_is_nothing() {
    let node = Node::first().await;
    let remembering = EntryOptions::new().negative_ttl(HOUR);
    let load = |_| async { Ok::<_, std::convert::Infallible>(terrace::Fetched::absent()) };
    let absent = node.texts.fetch("k", remembering, load).await;
    assert!(absent.expect("it loads").is_none());
    assert!(create(&node.texts, "k", "new").await.expect("L2 answers").is_some());
    assert_eq!(node.get("k").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn what_counts_is_l2_and_not_a_copy_of_it() {
    let (one, two) = {
        let one = Node::first().await;
        let two = one.another().await;
        (one, two)
    };
    let old = one.put("k", "1").await;
    assert_eq!(two.get("k").await.as_deref(), Some("1"));
    let new = one.put("k", "2").await;
    assert_eq!(two.get("k").await.as_deref(), Some("1"), "it does not hear of changes, and has a copy");
    assert_eq!(replace(&two.texts, "k", old.version, "3").await, None);
    assert!(replace(&two.texts, "k", new.version, "3").await.is_some());
    assert_eq!(one.another_without_l1().await.get("k").await.as_deref(), Some("3"));
}

/// Adds one, so often, by looking and then replacing what was looked at.
async fn count(texts: Texts, times: u32) {
    for _ in 0..times {
        loop {
            let there = texts.get_entry("n").await.expect("a valid key");
            let number: u32 = there.as_ref().map_or(0, |there| there.value.parse().expect("a number"));
            let next = (number + 1).to_string();
            let made = match there {
                None => create(&texts, "n", &next).await,
                Some(there) => texts.put_if("n", next, EntryOptions::new(), is_at(there.version)).await,
            };
            match made {
                Ok(Some(_)) => break,
                Ok(None) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Contended) => {}
                Err(error) => panic!("{error}"),
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_count_nobody_is_lost() {
    const EACH: u32 = 50;
    let texts = memory().1;
    let tasks: Vec<_> = (0..4).map(|_| spawn(count(texts.clone(), EACH))).collect();
    for task in tasks {
        ended(task).await;
    }
    assert_eq!(value(&texts, "n").await, Some((4 * EACH).to_string()));
}

#[tokio::test]
async fn while_l2_cannot_be_asked_nothing_is_changed() {
    let node = Node::first().await;
    let written = node.put("k", "1").await;
    node.remote.set_fault(Some(Fault::Unavailable));
    let error = create(&node.texts, "other", "1").await.expect_err("L2 is away");
    let ErrorKind::ConditionUnknown(unknown) = error.kind() else { panic!("{error}") };
    assert!(unknown.is_unsent() && error.is_retryable(), "{error}");
    node.remote.set_fault(None);
    node.is_asked_again().await;
    assert!(replace(&node.texts, "k", written.version, "2").await.is_some());
    assert_eq!(node.another_without_l1().await.get("other").await, None);
}

#[tokio::test]
async fn what_may_have_been_changed_is_not_read_from_a_copy() {
    let node = Node::first().await;
    let written = node.put("k", "1").await;
    assert_eq!(node.get("k").await.as_deref(), Some("1"));
    node.remote.fail_next(Operation::SetIf, Fault::TimeoutAfterEffect);
    let made = node.texts.put_if("k", "2".to_owned(), EntryOptions::new(), is_at(written.version)).await;
    let error = made.expect_err("nobody knows");
    let ErrorKind::ConditionUnknown(unknown) = error.kind() else { panic!("{error}") };
    assert!(!unknown.is_unsent() && !error.is_retryable(), "{error}");
    assert_eq!(node.get("k").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_load_that_began_before_is_not_kept_after() {
    let node = Node::first_hearing().await;
    let (mut held, loading) = node.loading("k");
    held.started().await;
    assert!(create(&node.texts, "k", "new").await.expect("L2 answers").is_some());
    held.bring("old");
    assert_eq!(
        **ended(loading).await.as_ref().expect("it loads"),
        "old",
        "it is for the one who asked before"
    );
    assert_eq!(node.get("k").await.as_deref(), Some("new"));
    node.clock.advance(LEASE * 2);
    assert_eq!(node.another_without_l1().await.get("k").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn an_invalidation_that_l2_has_not_seen_stands_in_the_way() {
    let node = Node::first().await;
    let written = node.put("k", "1").await;
    node.remote.set_fault(Some(Fault::Unavailable));
    let removed = node.texts.remove("k").await.expect("it is queued");
    assert_eq!(removed.effect, Effect::Queued);
    let made = node.texts.put_if("k", "2".to_owned(), EntryOptions::new(), is_at(written.version)).await;
    assert!(matches!(made.expect_err("it is queued").kind(), ErrorKind::ConditionUnknown(_)));
    node.remote.set_fault(None);
    node.is_asked_again().await;
    terrace_testkit::wait::until_some("L2 to be told", async || {
        let made = node.texts.put_if("k", "2".to_owned(), EntryOptions::new(), is_at(written.version)).await;
        made.ok().map(|made| assert!(made.is_none(), "what was removed is not there"))
    })
    .await;
}

#[tokio::test]
async fn who_writes_to_an_origin_cannot_be_asked() {
    let cache = Cache::memory().expect("a cache");
    let load = |_: String| std::future::ready(Ok::<_, std::convert::Infallible>(None::<String>));
    let origin = OriginFn::load(load).store(|_, _| std::future::ready(Ok(())));
    let texts: Texts = cache.keyspace("texts").write_through(origin).build().expect("a new keyspace");
    let error = create(&texts, "k", "1").await.expect_err("its origin may have something else");
    assert!(matches!(error.kind(), ErrorKind::ConditionUnsupported), "{error}");
}
