//! Values of one key.

use super::{Bench, LONG};
use crate::wait;
use std::time::Duration;
use terrace_core::{Namespace, Ttl};

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
