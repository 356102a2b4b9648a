//! Which keys are looked up most: whatever the way of a lookup, and wherever its answer comes from.

use crate::fixture::{Node, loader};
use std::convert::Infallible;
use std::time::Duration;
use terrace::{AdaptiveTtl, Cache, Clock, EntryOptions, Fetched, HotKey, L1, Policy};

/// Enough lookups for every way of it to be looked at some times.
const ROUNDS: u64 = 61 * 40;

fn of<'a>(hot: &'a [HotKey], key: &str) -> &'a HotKey {
    hot.iter().find(|hot| hot.key == key).unwrap_or_else(|| panic!("{key} is not among {hot:?}"))
}

fn assert_about(hot: &[HotKey], key: &str, lookups: u64) {
    let found = of(hot, key);
    let (least, most) = (lookups * 8 / 10, lookups * 12 / 10);
    assert!((least..=most).contains(&found.lookups), "{key} was looked up {lookups} times: {found:?}");
}

#[tokio::test]
async fn every_way_to_look_up_counts_and_peeking_does_not() {
    let node = Node::first().await;
    for _ in 0..ROUNDS {
        node.texts.get("got").await.unwrap();
        node.texts.get_entry("entry").await.unwrap();
        node.texts.get_or_load("loaded", loader("v")).await.unwrap();
        node.texts.get_many(&["one".to_owned(), "many".to_owned()]).await.unwrap();
        node.texts.peek("peeked");
    }
    for _ in 0..ROUNDS {
        let absent = async |_| Ok::<_, Infallible>(Fetched::absent());
        node.texts.fetch("fetched", EntryOptions::new(), absent).await.unwrap();
    }
    let hot = node.texts.hot_keys(usize::MAX);
    for key in ["got", "entry", "loaded", "one", "many", "fetched"] {
        assert_about(&hot, key, ROUNDS);
    }
    assert_eq!(hot.len(), 6);
    assert!(hot.iter().all(|hot| hot.keyspace == "texts" && hot.error == 0));
    assert!(hot.is_sorted_by(|one, other| one.lookups >= other.lookups));
}

#[tokio::test]
async fn the_hottest_keys_of_all_keyspaces_come_first() {
    let cache = Cache::memory().unwrap();
    let users = cache.keyspace::<u64, u64>("users").build().unwrap();
    let teams = cache.keyspace::<u64, u64>("teams").build().unwrap();
    for round in 0..ROUNDS * 5 {
        users.get(&1).await.unwrap();
        if round % 4 == 0 {
            teams.get(&1).await.unwrap();
        }
        users.get(&(1_000 + round)).await.unwrap();
    }
    let names = |hot: Vec<HotKey>| hot.into_iter().map(|hot| (hot.keyspace, hot.key)).collect::<Vec<_>>();
    assert_eq!(names(cache.hot_keys(2)), [("users".into(), "1".into()), ("teams".into(), "1".into())]);
    assert_about(&users.hot_keys(1), "1", ROUNDS * 5);
    assert_about(&teams.hot_keys(1), "1", ROUNDS * 5 / 4);
    assert!(users.hot_keys(0).is_empty());
}

#[tokio::test]
async fn many_threads_that_read_do_not_lose_the_hottest_key() {
    let cache = Cache::memory().unwrap();
    let users = cache.keyspace::<u64, u64>("users").build().unwrap();
    users.put(&7, 7).await.unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let users = users.clone();
            scope.spawn(move || {
                for round in 0..50_000 {
                    users.peek(&7);
                    let key = if round % 2 == 0 { 7 } else { thread * 1_000_000 + round };
                    futures_util::FutureExt::now_or_never(users.get(&key));
                }
            });
        }
    });
    let hottest = users.hot_keys(1).remove(0);
    assert_eq!(hottest.key, "7");
    assert!(hottest.lookups <= 220_000, "{hottest:?}");
}

#[tokio::test]
async fn as_many_keys_are_counted_as_the_cache_is_told() {
    let refused = Cache::builder().hot_keys_max(HotKey::COUNTED_MAX + 1).build().unwrap_err();
    assert_eq!((refused.setting, refused.value.as_str()), ("hot_keys_max", "4097"));
    for hot_keys_max in [0, 3, HotKey::COUNTED_MAX] {
        let cache = Cache::builder().hot_keys_max(hot_keys_max).build().unwrap();
        let users = cache.keyspace::<u64, u64>("users").build().unwrap();
        for round in 0..ROUNDS {
            users.get(&(round % 7)).await.unwrap();
        }
        assert_eq!(users.hot_keys(usize::MAX).len(), hot_keys_max.min(7));
        assert_eq!(cache.hot_keys(usize::MAX).len(), hot_keys_max.min(7));
    }
}

#[tokio::test]
async fn where_no_key_is_counted_an_adaptive_ttl_is_refused() {
    let cache = Cache::builder().hot_keys_max(0).build().unwrap();
    let adaptive = || EntryOptions::new().adaptive_ttl(AdaptiveTtl::up_to(4.0));
    let refused = cache.keyspace::<u64, u64>("users").options(adaptive()).build().unwrap_err().to_string();
    assert!(refused.contains("adaptive_ttl") && refused.contains("hot_keys_max"), "{refused}");
    let users = cache.keyspace::<u64, u64>("users").build().unwrap();
    let replaced = cache.keyspace::<u64, u64>("users").options(adaptive()).replace(&users).map(|_| ());
    assert!(replaced.unwrap_err().to_string().contains("adaptive_ttl"));
    let loaded = users.get_or_load_with(&1, adaptive(), || async { Ok::<_, Infallible>(1) }).await;
    assert!(loaded.unwrap_err().to_string().contains("adaptive_ttl"));
    let fetched = users.fetch(&1, adaptive(), |_| async { Ok::<_, Infallible>(Fetched::value(1)) }).await;
    assert!(fetched.unwrap_err().to_string().contains("adaptive_ttl"));
    assert!(users.put_with(&1, 1, adaptive()).await.unwrap_err().to_string().contains("adaptive_ttl"));
    assert_eq!(users.get(&1).await.unwrap(), None, "nothing was stored");
}

#[tokio::test]
async fn what_memory_has_of_a_hot_key_is_told_and_that_is_no_lookup() {
    let clock = Clock::manual();
    let l1 = L1::entries(2).policy(Policy::Lru);
    let cache = Cache::builder().clock(clock.clone()).l1(l1).build().unwrap();
    let users = cache.keyspace::<u64, String>("users").build().unwrap();
    users.put(&1, "ann".to_owned()).await.unwrap();
    clock.advance(Duration::from_secs(20));
    for _ in 0..ROUNDS {
        users.get(&1).await.unwrap();
        users.get(&404).await.unwrap();
    }
    let before = users.hot_keys(10);
    let bytes = of(&before, "1").l1_bytes.expect("it is there");
    assert!((1..1_000).contains(&bytes) && cache.stats().total.bytes == bytes, "{before:?}");
    assert_eq!(of(&before, "404").l1_bytes, None);
    let hot = of(&before, "1");
    assert!((hot.per_second - hot.lookups as f64 / 20.0).abs() < 1e-6, "{hot:?}");
    users.put(&2, "ben".to_owned()).await.unwrap();
    let lookups = cache.stats().total.requests;
    for _ in 0..ROUNDS {
        assert_eq!(users.hot_keys(10), before);
    }
    assert_eq!(cache.stats().total.requests, lookups);
    users.put(&3, "cy".to_owned()).await.unwrap();
    assert_eq!((users.peek(&1), users.peek(&2).is_some()), (None, true), "the least recent one had to go");
    assert_eq!(of(&users.hot_keys(10), "1").l1_bytes, None);
}

#[tokio::test]
async fn a_copy_that_is_invalidated_is_not_told() {
    let cache = Cache::builder().l1(L1::entries(50_000)).build().unwrap();
    let users = cache.keyspace::<u64, String>("users").build().unwrap();
    // Of so many, copies that are invalidated are still there for a while.
    users.put_many((100..20_000).map(|id| (id, String::new()))).await.unwrap();
    let tagged = EntryOptions::new().tag("t").unwrap();
    users.put_with(&7, "ann".to_owned(), tagged).await.unwrap();
    for _ in 0..ROUNDS {
        users.get(&7).await.unwrap();
    }
    assert!(of(&cache.hot_keys(1), "7").l1_bytes.is_some());
    users.invalidate().tag("t").unwrap().send().await.unwrap();
    assert_eq!(of(&cache.hot_keys(1), "7").l1_bytes, None);
}
