//! A hit in L1 allocates nothing.

use crate::fixture::{HOUR, Node, loader};
use allocation_counter::measure;
use futures_util::FutureExt;
use std::sync::Arc;
use terrace::{Cache, CacheKey, Clock, Keyspace, L1, Policy};

/// Hits with this key allocate nothing, whichever way it is asked for.
fn assert_free<K, Q, V>(keyspace: &Keyspace<K, V>, key: &Q, value: V)
where
    K: CacheKey + Clone + Send + Sync + std::borrow::Borrow<Q> + 'static,
    Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
    V: Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static,
{
    keyspace.put(key, value.clone()).now_or_never().expect("nothing to wait for").expect("stored");
    let expected = Some(Arc::new(value));
    let mut found = [const { None }; 3];
    let load = async || -> Result<V, &'static str> { unreachable!("it is there") };
    let mut hit = || {
        found[0] = keyspace.get(key).now_or_never().expect("nothing to wait for").expect("a valid key");
        found[1] = keyspace.peek(key);
        found[2] = keyspace.get_or_load(key, load).now_or_never().expect("nothing to wait for").ok();
    };
    hit();
    let used = measure(|| (0..200).for_each(|_| hit()));
    assert_eq!(used.count_total, 0, "{used:?}");
    assert!(found.iter().all(|found| *found == expected));
}

#[test]
fn a_hit_allocates_nothing_for_any_short_key() {
    for policy in [Policy::Default, Policy::Lru] {
        for clock in [Clock::system(), Clock::manual()] {
            let l1 = L1::entries(1_000).policy(policy).ttl(HOUR);
            let cache = Cache::builder().clock(clock).l1(l1).build().unwrap();
            assert_free(&cache.keyspace::<u64, u64>("numbers").build().unwrap(), &u64::MAX, 7);
            let texts = cache.keyspace::<String, String>("texts").build().unwrap();
            assert_free(&texts, "user:42", "a value".to_owned());
            let pairs = cache.keyspace::<(String, u64), Vec<u8>>("pairs").build().unwrap();
            assert_free(&pairs, &("org:with:colons".to_owned(), 7), vec![1, 2, 3]);
            let triples = cache.keyspace::<(u8, i32, u64), ()>("triples").build().unwrap();
            assert_free(&triples, &(1, -2, 3), ());
        }
    }
}

#[tokio::test]
async fn next_to_an_l2_a_hit_allocates_nothing_either() {
    let node = Node::first().await;
    node.load("k", "v").await;
    let mut found = 0;
    let used = measure(|| {
        for _ in 0..200 {
            let call = node.texts.get("k").now_or_never().expect("nothing to wait for");
            found += call.expect("a valid key").map_or(0, |value| value.len());
            let call = node.texts.get_or_load("k", loader("")).now_or_never();
            found += call.expect("nothing to wait for").map_or(0, |value| value.len());
        }
    });
    assert_eq!((used.count_total, found), (0, 400), "{used:?}");
}

#[test]
fn a_lookup_that_is_looked_at_allocates_nothing_whatever_its_key() {
    let cache = Cache::memory().unwrap();
    let numbers = cache.keyspace::<u64, u64>("numbers").build().unwrap();
    for key in 0..9_000 {
        numbers.put(&key, key).now_or_never().expect("nothing to wait for").expect("stored");
    }
    let mut found = 0;
    let mut read = |key: u64| {
        let call = numbers.get(&key).now_or_never().expect("nothing to wait for");
        found += u64::from(call.expect("a valid key").is_some());
    };
    read(0);
    // Each is looked at once in 61 rounds: so all of them come and go among the keys that are counted.
    let used = measure(|| (0..9_000 * 61).for_each(|round| read(round % 9_000)));
    assert_eq!(used.count_total, 0, "{used:?}");
    assert!(found > 9_000 * 30 && !numbers.hot_keys(1).is_empty());
}

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(vec![1_u8; 100]))).count_total, 1);
}
