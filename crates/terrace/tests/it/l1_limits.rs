//! Memory only: bounds, weights, background expiry, and settings that cannot be.

use crate::fixture::{HOUR, Node, loader, runtime};
use crate::jitter::Dice;
use std::time::Duration;
use terrace::{Cache, Clock, ConfigError, KeyspaceError, L1, Policy, Tier};
use terrace_testkit::fake::FakeRemote;
use terrace_testkit::wait::until;

#[tokio::test]
async fn never_more_entries_than_allowed_and_each_under_its_own_key() {
    for policy in [Policy::Default, Policy::Lru] {
        for bound in [1, 2, 100] {
            let cache = Cache::builder().l1(L1::entries(bound).policy(policy)).build().unwrap();
            let numbers = cache.keyspace::<u64, u64>("numbers").build().unwrap();
            for n in 0..1_000 {
                numbers.put(&n, n * 10).await.unwrap();
                if n % 10 == 0 {
                    assert!(cache.stats().total.entries <= bound as u64, "{policy:?} {bound}");
                }
            }
            let mut found = 0;
            for n in 0..1_000 {
                if let Some(value) = numbers.get(&n).await.unwrap() {
                    assert_eq!(*value, n * 10);
                    found += 1;
                }
            }
            let stats = cache.stats().total;
            assert_eq!(found, stats.entries, "{policy:?} {bound}");
            assert_eq!(stats.evictions + stats.entries, 1_000, "{policy:?} {bound}");
        }
    }
}

#[tokio::test]
async fn never_more_bytes_than_allowed() {
    let cache = Cache::builder().l1(L1::entries(0).bytes(10_000)).build().unwrap();
    let texts = cache.keyspace::<u64, String>("texts").build().unwrap();
    for n in 0..500 {
        texts.put(&n, "v".repeat(100)).await.unwrap();
        assert!(cache.stats().total.bytes <= 10_000);
    }
    let stats = cache.stats().total;
    assert!(stats.bytes > 8_000, "the room is used: {} bytes", stats.bytes);
    assert!((30..45).contains(&stats.entries), "100 bytes of value each: {}", stats.entries);
}

#[tokio::test]
async fn a_value_that_does_not_fit_leaves_no_older_one_behind() {
    let cache = Cache::builder().l1(L1::entries(0).bytes(10_000)).build().unwrap();
    let texts = cache.keyspace::<u64, String>("texts").build().unwrap();
    texts.put(&1, "small".to_owned()).await.unwrap();
    texts.put(&1, "v".repeat(20_000)).await.unwrap();
    assert_eq!(texts.get(&1).await.unwrap(), None);
    assert_eq!(cache.stats().total.entries, 0);
}

#[tokio::test]
async fn a_weigher_has_the_last_word() {
    let weigh = |value: &String| if value == "heavy" { 6_000 } else { 10 };
    let l1 = || L1::entries(0).bytes(10_000);
    let alone = Cache::builder().l1(l1()).build().unwrap();
    let clock = Clock::manual();
    let remote = FakeRemote::new(clock.clone());
    let both = Cache::builder().l1(l1()).clock(clock).l2(remote).build().unwrap();
    for cache in [alone, both] {
        let texts = cache.keyspace::<u64, String>("texts").weigher(weigh).build().unwrap();
        texts.put(&1, "heavy".to_owned()).await.unwrap();
        assert!((6_000..7_000).contains(&cache.stats().total.bytes), "put: {}", cache.stats().total.bytes);
        texts.clear().await.unwrap();
        texts.get_or_load(&2, loader("heavy")).await.unwrap();
        assert!((6_000..7_000).contains(&cache.stats().total.bytes), "loaded: {}", cache.stats().total.bytes);
        texts.put(&1, "heavy".to_owned()).await.unwrap();
        assert!(cache.stats().total.entries <= 1, "two do not fit");
    }
}

#[tokio::test]
async fn a_value_promoted_from_l2_weighs_what_it_weighed_when_it_was_put() {
    let node = Node::first().await;
    let reader = node.another().await;
    node.put("k", &"v".repeat(500)).await;
    let put = node.cache.stats().total.bytes;
    assert!((500..800).contains(&put), "{put}");
    assert_eq!(reader.source("k").await.unwrap().0, Tier::L2);
    assert_eq!(reader.cache.stats().total.bytes, put);
}

#[tokio::test]
async fn a_value_of_memory_only_keyspaces_needs_no_codec_and_never_leaves() {
    struct Opaque;
    let clock = Clock::manual();
    let remote = FakeRemote::new(clock.clone());
    let cache = Cache::builder().clock(clock.clone()).default_ttl(HOUR).l2(remote.clone()).build().unwrap();
    let handles = cache.keyspace::<u64, Opaque>("handles").memory_only().build().unwrap();
    handles.put(&1, Opaque).await.unwrap();
    handles.get_or_load(&2, async || Ok::<_, std::convert::Infallible>(Opaque)).await.unwrap();
    clock.advance(HOUR / 2);
    assert!(handles.get(&1).await.unwrap().is_some(), "L2's L1 TTL is not for values that L2 does not have");
    assert_eq!(handles.get_entry(&2).await.unwrap().unwrap().tier, Tier::L1);
    handles.remove(&1).await.unwrap();
    handles.clear().await.unwrap();
    assert!(handles.get(&2).await.unwrap().is_none());
    assert_eq!(remote.calls_total(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_leaves_in_the_background() {
    let clock = Clock::manual();
    let l1 = L1::default().cleanup(Duration::from_secs(1));
    let cache = Cache::builder().clock(clock.clone()).l1(l1).build().unwrap();
    let numbers = cache.keyspace::<u64, u64>("numbers").ttl(Duration::from_secs(10)).build().unwrap();
    for n in 0..5_000 {
        numbers.put(&n, n).await.unwrap();
    }
    clock.advance(Duration::from_secs(11));
    assert_eq!(cache.stats().total.entries, 5_000);
    until("the expired entries to leave", || cache.stats().total.entries == 0).await;
    assert_eq!(cache.stats().total.expirations, 5_000);
}

#[test]
fn background_expiry_survives_the_runtime_it_ran_on() {
    let clock = Clock::manual();
    let l1 = L1::default().cleanup(Duration::from_millis(1));
    let cache = Cache::builder().clock(clock.clone()).l1(l1).build().unwrap();
    let numbers = cache.keyspace::<u64, u64>("numbers").ttl(Duration::from_secs(10)).build().unwrap();
    runtime().block_on(async { numbers.put(&1, 1).await }).unwrap();
    clock.advance(Duration::from_secs(11));
    runtime().block_on(async {
        numbers.put(&2, 2).await.unwrap();
        until("the first entry to leave", || cache.stats().total.entries == 1).await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_adds_up_whatever_happened() {
    let clock = Clock::manual();
    let l1 = L1::entries(100).bytes(10_000).cleanup(Duration::from_millis(1));
    let cache = Cache::builder().clock(clock.clone()).l1(l1).build().unwrap();
    let spaces = ["a", "b"].map(|name| cache.keyspace::<u64, String>(name).ttl(HOUR).build().unwrap());
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..4 {
        let (spaces, dice, clock) = (spaces.clone(), Dice::new(client), clock.clone());
        clients.spawn(async move {
            for _ in 0..1_000 {
                let (space, key) = (&spaces[dice.one_of(&[0, 1])], dice.below(300));
                let ttl = Duration::from_secs(dice.below(20));
                let options = terrace::EntryOptions::default().ttl(ttl);
                let value = "v".repeat(dice.one_of(&[1, 100, 1_000, 12_000]));
                match dice.below(10) {
                    0 => drop(space.remove(&key).await.map(|removed| removed.existed)),
                    1 => clock.advance(Duration::from_millis(50)),
                    2 if dice.below(100) == 0 => drop(space.clear().await.map(|cleared| cleared.count)),
                    3..6 => drop(space.get_or_load_with(&key, options, loader(&value)).await),
                    _ => drop(space.put_with(&key, value, options).await.map(|written| written.ttl)),
                }
            }
        });
    }
    crate::fixture::within("the clients", clients.join_all()).await;
    let stats = cache.stats();
    assert!(stats.total.entries <= 100 && stats.total.bytes <= 10_000, "{stats:?}");
    for space in &spaces {
        space.clear().await.unwrap();
        let left = &cache.stats().keyspaces[space.name()];
        assert_eq!((left.entries, left.bytes), (0, 0), "{}", space.name());
    }
}

fn refused<T>(result: Result<T, ConfigError>) -> ConfigError {
    result.err().expect("the setting cannot be")
}

#[test]
fn settings_that_cannot_be_are_refused_by_name() {
    let no_bound = refused(Cache::builder().l1(L1::entries(0)).build());
    assert_eq!(no_bound.setting, "entries_max");
    let no_tier = refused(Cache::builder().no_l1().build());
    assert_eq!(no_tier.setting, "tiers");
    for interval in [Duration::ZERO, Duration::from_nanos(1)] {
        let cleanup = refused(Cache::builder().l1(L1::default().cleanup(interval)).build());
        assert_eq!(cleanup.setting, "cleanup");
        assert!(cleanup.to_string().starts_with("`cleanup` cannot be "), "{cleanup}");
    }
    let cache = Cache::memory().unwrap();
    let setting = |error: KeyspaceError| match error {
        KeyspaceError::Setting(error) => error.setting,
        other => panic!("{other}"),
    };
    let numbers = |name| cache.keyspace::<u64, u64>(name);
    assert_eq!(setting(numbers("a").load_timeout(Duration::ZERO).build().unwrap_err()), "load_timeout");
    assert_eq!(setting(numbers("a").value_bytes_max(0).build().unwrap_err()), "value_bytes_max");
    assert_eq!(setting(numbers("a").no_l1().build().unwrap_err()), "tiers");
    assert!(matches!(numbers("A").build().unwrap_err(), KeyspaceError::Name(_)));
    numbers("a").build().unwrap();
    let again = cache.keyspace::<String, String>("a").build().unwrap_err();
    assert_eq!(again, KeyspaceError::Open { name: "a".to_owned() });
}

#[tokio::test]
async fn values_larger_than_allowed_are_refused_by_put_and_not_kept_by_a_load() {
    let clock = Clock::manual();
    let cache = Cache::builder().clock(clock.clone()).l2(FakeRemote::new(clock)).build().unwrap();
    let texts = cache.keyspace::<u64, String>("texts").value_bytes_max(100).build().unwrap();
    texts.put(&1, "old".to_owned()).await.unwrap();
    let too_large = texts.put(&1, "v".repeat(200)).await.unwrap_err();
    assert!(matches!(too_large.kind(), terrace::ErrorKind::ValueTooLarge { bytes: 202, bytes_max: 100, .. }));
    assert_eq!(*texts.get(&1).await.unwrap().unwrap(), "old", "nothing was changed");
    let large = "v".repeat(200);
    assert_eq!(*texts.get_or_load(&2, loader(&large)).await.unwrap(), large);
    assert_eq!(texts.get(&2).await.unwrap(), None);
    assert_eq!(*texts.get_or_load(&2, loader("small")).await.unwrap(), "small", "the key is free at once");
}
