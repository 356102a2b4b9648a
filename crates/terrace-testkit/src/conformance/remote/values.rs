//! Values of one key.

use super::{Bench, LONG};
use crate::wait;
use std::time::Duration;
use terrace_core::remote::{SweepRule, Validity};
use terrace_core::{Key, Namespace, Ttl, Version};

pub(super) async fn what_is_set_is_what_is_read(bench: Bench<'_>) {
    let key = Bench::key("key");
    let version = bench.set(&key, "Ada", LONG).await;
    assert_eq!(bench.read(&key).await, Some((version, "Ada".to_owned())));
    let remaining = bench.get(&key).await.and_then(|stored| stored.remaining).and_then(Ttl::duration);
    assert!(remaining.is_some_and(|left| left <= Duration::from_hours(1) && left > Duration::from_mins(55)));
    bench.set(&key, "Bob", Ttl::Never).await;
    let stored = bench.get(&key).await.expect("it was set");
    assert_eq!(stored.remaining, None, "what does not end has no bound here");
}

pub(super) async fn an_absent_key_is_none(bench: Bench<'_>) {
    let key = Bench::key("key");
    assert_eq!(bench.get(&key).await, None);
    let (_, existed) = bench.invalidate(&key).await;
    assert!(!existed);
}

pub(super) async fn versions_of_a_key_only_rise(bench: Bench<'_>) {
    let key = Bench::key("key");
    let mut last = bench.set(&key, "0", LONG).await;
    for round in 0..20 {
        let version = match round % 3 {
            0 => bench.invalidate(&key).await.0,
            1 => bench.lease(&key, round).await.version,
            _ => bench.set(&key, "again", LONG).await,
        };
        assert!(version.supersedes(last), "{version} follows {last}");
        last = version;
    }
}

pub(super) async fn a_ttl_of_nothing_removes(bench: Bench<'_>) {
    let key = Bench::key("key");
    for nothing in [Duration::ZERO, Duration::from_micros(999)] {
        let before = bench.set(&key, "kept", LONG).await;
        let version = bench.set(&key, "not kept", Ttl::After(nothing)).await;
        assert!(version.supersedes(before));
        assert_eq!(bench.get(&key).await, None);
    }
}

pub(super) async fn an_entry_ends_with_its_ttl(bench: Bench<'_>) {
    let key = Bench::key("key");
    bench.set(&key, "short", Ttl::After(Duration::from_millis(30))).await;
    let gone = async || bench.get(&key).await.is_none().then_some(());
    wait::until_some("the entry to end", gone).await;
    let (_, existed) = bench.invalidate(&key).await;
    assert!(!existed, "what has ended does not exist");
}

pub(super) async fn odd_keys_are_keys(bench: Bench<'_>) {
    let long = "k".repeat(1024);
    let texts = ["*", "user:[a-z]?", "{tag}", "}:d:x", "a\\b", " ", "\u{1f980}", "$6\"'", "x}:l:y", &long];
    for text in texts {
        let key = Bench::key(text);
        let version = bench.set(&key, text, LONG).await;
        assert_eq!(bench.read(&key).await, Some((version, text.to_owned())));
    }
    for text in texts {
        let key = Bench::key(text);
        assert!(bench.invalidate(&key).await.1, "{text:?} was still there");
    }
}

pub(super) async fn large_values_come_back_whole(bench: Bench<'_>) {
    let key = Bench::key("key");
    let text = "0123456789abcdef".repeat(1 << 16);
    let version = bench.set(&key, &text, LONG).await;
    let (found, read) = bench.read(&key).await.expect("it was set");
    assert!(found == version && read == text);
}

pub(super) async fn opening_again_is_harmless(bench: Bench<'_>) {
    let key = Bench::key("key");
    let version = bench.set(&key, "kept", LONG).await;
    bench.remote.open(&bench.namespace).await.expect("it opens again");
    assert_eq!(bench.read(&key).await, Some((version, "kept".to_owned())));
}

pub(super) async fn health_says_who_answers(bench: Bench<'_>) {
    let health = bench.remote.health().await.expect("it is well");
    assert!(health.server.contains(' '), "a name and a version, not {:?}", health.server);
}

pub(super) async fn namespaces_do_not_see_each_other(bench: Bench<'_>) {
    let other = Namespace::new(&format!("{}-x", bench.namespace)).expect("valid");
    let key = Bench::key("key");
    bench.remote.open(&other).await.expect("it opens");
    bench.set(&key, "mine", LONG).await;
    assert_eq!(bench.remote.get(&other, &key).await.expect("a read succeeds"), None);
    let keys = std::slice::from_ref(&key);
    let theirs = bench.remote.invalidate(&other, keys).await.expect("an invalidation succeeds");
    assert!(!theirs[0].existed);
    assert!(bench.get(&key).await.is_some());
}

fn is_same(validity: Validity) -> bool {
    matches!(validity, Validity::Same { .. })
}

pub(super) async fn a_version_is_the_same_until_it_is_replaced_or_dead(bench: Bench<'_>) {
    let key = Bench::key("key");
    assert_eq!(bench.validate(&key, 1.into()).await, Validity::Missing);
    let first = bench.set(&key, "first", LONG).await;
    let Validity::Same { remaining } = bench.validate(&key, first).await else { panic!("it is there") };
    let left = remaining.and_then(Ttl::duration).expect("it ends");
    assert!(left <= Duration::from_hours(1) && left > Duration::from_mins(55));
    let second = bench.set(&key, "second", Ttl::Never).await;
    assert_eq!(bench.validate(&key, first).await, Validity::Changed);
    assert_eq!(bench.validate(&key, second).await, Validity::Same { remaining: None });
    let sweep = bench.remote.sweep(&bench.namespace, &SweepRule::All).await.expect("a sweep begins").sweep;
    assert_eq!(bench.validate(&key, second).await, Validity::Missing, "it is dead and still there");
    bench.remote.retire(&bench.namespace, &sweep).await.expect("it ends");
    let lease = bench.lease(&Bench::key("loaded"), 1).await;
    assert!(bench.fill(&Bench::key("loaded"), &lease, "loaded", LONG).await);
    assert!(is_same(bench.validate(&Bench::key("loaded"), lease.version).await));
    bench.invalidate(&Bench::key("loaded")).await;
    assert_eq!(bench.validate(&Bench::key("loaded"), lease.version).await, Validity::Missing);
}

pub(super) async fn versions_are_asked_for_in_order_and_end_with_their_values(bench: Bench<'_>) {
    let keys: Vec<Key> = (0..300).map(|n| Bench::key(&n.to_string())).collect();
    let mut asked = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        let version = if n % 3 == 0 { Version::from(1) } else { bench.set(key, "v", LONG).await };
        asked.push((key.clone(), if n % 3 == 1 { Version::from(version.get() - 1) } else { version }));
    }
    let told = bench.remote.validate(&bench.namespace, &asked).await.expect("asking succeeds");
    for (n, told) in told.iter().enumerate() {
        let is_right = match n % 3 {
            0 => *told == Validity::Missing,
            1 => *told == Validity::Changed,
            _ => is_same(*told),
        };
        assert!(is_right, "{n}: {told:?}");
    }
    assert_eq!(told.len(), keys.len());
    assert!(bench.remote.validate(&bench.namespace, &[]).await.expect("nothing is asked").is_empty());
    let short = Bench::key("short");
    let version = bench.set(&short, "v", Ttl::After(Duration::from_millis(30))).await;
    let ended = async || (bench.validate(&short, version).await == Validity::Missing).then_some(());
    wait::until_some("the entry to end", ended).await;
}
