//! Which keys the tiers hold, page by page.

use crate::fixture::{HOUR, Node};
use std::collections::BTreeSet;
use std::time::Duration;
use terrace::{Cache, EntryOptions, ErrorKind, Glob, HeldKey, KeyPlace, Keyspace, L1, Tier, Ttl};
use terrace_testkit::fake::{Fault, Operation, Point};

type Texts = Keyspace<String, String>;

fn glob(pattern: &str) -> Glob {
    Glob::new(pattern).expect("a valid pattern")
}

/// All that is listed. `between` is called after each page.
async fn listed(texts: &Texts, pattern: &str, count: usize, mut between: impl AsyncFnMut()) -> Vec<HeldKey> {
    let (mut all, mut at) = (Vec::new(), Some(KeyPlace::FIRST));
    while let Some(place) = at {
        // Through its text, as over HTTP.
        let place: KeyPlace = place.to_string().parse().expect("a place");
        let page = texts.list(&glob(pattern), &place, count).await.expect("it is listed");
        let page = page.expect("no server has changed");
        assert!(page.keys.len() <= count, "the fake gives no more than was asked for");
        all.extend(page.keys);
        at = page.next;
        between().await;
    }
    all
}

fn names(held: &[HeldKey], tier: Tier) -> BTreeSet<&str> {
    held.iter().filter(|held| held.tier == tier).map(|held| held.key.as_str()).collect()
}

#[tokio::test]
async fn every_copy_that_stays_is_listed_once_whatever_is_overwritten_meanwhile() {
    let cache = Cache::builder().l1(L1::entries(100_000)).build().unwrap();
    let texts: Texts = cache.keyspace("texts").build().unwrap();
    let other: Texts = cache.keyspace("other").build().unwrap();
    for index in 0..2_000 {
        texts.put(&format!("k{index}"), "v".to_owned()).await.unwrap();
        other.put(&format!("o{index}"), "v".to_owned()).await.unwrap();
    }
    for count in [1, 7, 1_000, 1_000_000] {
        let mut overwritten = 0;
        let all = listed(&texts, "k*", count, async || {
            for _ in 0..20 {
                texts.put(&format!("k{}", overwritten % 2_000), "w".to_owned()).await.unwrap();
                overwritten += 1;
            }
        })
        .await;
        assert_eq!((all.len(), names(&all, Tier::L1).len()), (2_000, 2_000), "{count}");
    }
    assert_eq!(cache.stats().total.requests, 0, "to list is not to look up");
}

#[tokio::test]
async fn a_page_tells_what_a_tier_knows_of_a_key() {
    let node = Node::first().await;
    node.texts.put_with("user:1", "v".to_owned(), EntryOptions::default().ttl(HOUR)).await.unwrap();
    node.put("motd", "v").await;
    node.texts.get_or_load("gone", async || Ok::<_, std::convert::Infallible>("v".to_owned())).await.unwrap();
    node.texts.remove("gone").await.unwrap();
    let all = listed(&node.texts, "user:*", 10, async || ()).await;
    let [l1, l2] = &all[..] else { panic!("{all:?}") };
    assert_eq!((&*l1.key, l1.tier, l1.ttl), ("user:1", Tier::L1, Some(Ttl::After(HOUR))));
    assert!(l1.bytes > Some(100));
    assert_eq!((&*l2.key, l2.tier, l2.bytes), ("user:1", Tier::L2, None));
    assert!(matches!(l2.ttl, Some(Ttl::After(left)) if left <= HOUR && left + Duration::from_secs(1) > HOUR));
    let all = listed(&node.texts, "*", 10, async || ()).await;
    assert_eq!(names(&all, Tier::L1), ["motd", "user:1"].into());
    assert_eq!(names(&all, Tier::L2), ["motd", "user:1"].into());
    let beside = node.another().await;
    let all = listed(&beside.texts, "*", 1, async || ()).await;
    assert_eq!((all.len(), names(&all, Tier::L2)), (2, ["motd", "user:1"].into()));
}

#[tokio::test]
async fn what_is_dead_is_listed_by_neither_tier() {
    let node = Node::first().await;
    for key in ["a1", "a2", "b1", "t"] {
        let options = EntryOptions::default().ttl(HOUR).tag("t").unwrap();
        let options = if key == "t" { options } else { EntryOptions::default().ttl(HOUR) };
        node.texts.put_with(key, "v".to_owned(), options).await.unwrap();
    }
    // What was swept is not removed yet.
    let _gate = node.remote.hold(Operation::Names, Point::BeforeEffect);
    node.texts.invalidate().pattern("a*").unwrap().tag("t").unwrap().send().await.unwrap();
    let all = listed(&node.texts, "*", 10, async || ()).await;
    assert_eq!(names(&all, Tier::L1), ["b1"].into());
    // Whose tag was bumped takes room in L2 until it is read or its time is over.
    assert_eq!(names(&all, Tier::L2), ["b1", "t"].into());
    node.remote.set_fault(Some(Fault::Unavailable));
    node.texts.remove("b1").await.unwrap();
    node.remote.set_fault(None);
    let page = node.texts.list(&glob("b*"), &KeyPlace::FIRST_OF_L2, 10).await;
    let keys = page.unwrap().unwrap().keys;
    assert!(keys.is_empty(), "L2 may not know of the removal yet: {keys:?}");
}

#[tokio::test]
async fn a_place_is_lost_where_nobody_can_go_on() {
    let node = Node::first().await;
    for index in 0..10 {
        node.put(&format!("k{index}"), "v").await;
    }
    let all = glob("*");
    let begun = node.texts.list(&all, &KeyPlace::FIRST_OF_L2, 3).await.unwrap().unwrap().next.unwrap();
    assert!(node.texts.list(&all, &begun, 3).await.unwrap().is_some());
    node.remote.fail_over(0);
    assert_eq!(node.texts.list(&all, &begun, 3).await.unwrap(), None);
    node.remote.set_fault(Some(Fault::Unavailable));
    let down = node.texts.list(&all, &KeyPlace::FIRST_OF_L2, 3).await.unwrap_err();
    assert!(matches!(down.kind(), ErrorKind::Remote(_)), "{down}");

    let foreign: KeyPlace = "l1.ffffffffffffffff.0.k".parse().unwrap();
    let page = node.texts.list(&all, &foreign, 3).await.unwrap().unwrap();
    assert_eq!((page.keys.len(), page.next), (0, Some(KeyPlace::FIRST_OF_L2)), "another process's L1");
    let alone = Cache::memory().unwrap().keyspace::<String, String>("texts").build().unwrap();
    assert_eq!(alone.list(&all, &foreign, 3).await.unwrap(), None);
    let beyond = alone.list(&all, &KeyPlace::FIRST_OF_L2, 3).await.unwrap().unwrap();
    assert_eq!((beyond.keys.len(), beyond.next), (0, None));
}
