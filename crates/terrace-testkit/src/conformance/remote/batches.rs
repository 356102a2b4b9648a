//! Many keys in one call.

use super::{Bench, LONG};
use crate::conformance::samples;
use terrace_core::{Key, Ttl};

fn keys(texts: &[&str]) -> Vec<Key> {
    texts.iter().map(|text| Bench::key(text)).collect()
}

pub(super) async fn many_are_read_in_order(bench: Bench<'_>) {
    bench.set(&Bench::key("a"), "A", LONG).await;
    bench.set(&Bench::key("c"), "C", Ttl::Never).await;
    let asked = keys(&["c", "b", "a", "c"]);
    let found = bench.remote.get_many(&bench.namespace, &asked).await.expect("a read succeeds");
    let texts: Vec<_> = asked
        .iter()
        .zip(&found)
        .map(|(key, stored)| {
            stored.as_ref().map(|stored| samples::opened(&bench.namespace, key, &stored.bytes).1)
        })
        .collect();
    assert_eq!(texts, ["C", "", "A", "C"].map(|text| Some(text.to_owned()).filter(|text| !text.is_empty())));
}

pub(super) async fn many_are_set_in_order(bench: Bench<'_>) {
    let entry = |text: &str, value: &str, ttl| {
        let key = Bench::key(text);
        let sealed = samples::sealed(&bench.namespace, &key, value, ttl);
        (key, sealed, ttl)
    };
    let nothing = Ttl::After(std::time::Duration::ZERO);
    let late = bench.lease(&Bench::key("b"), 1).await;
    bench.set(&Bench::key("gone"), "there", LONG).await;
    let entries = vec![
        entry("a", "1", LONG),
        entry("b", "2", Ttl::Never),
        entry("a", "3", LONG),
        entry("gone", "", nothing),
    ];
    let versions = bench.remote.set_many(&bench.namespace, entries).await.expect("a set succeeds");
    assert_eq!(versions.len(), 4);
    assert_eq!(bench.read(&Bench::key("a")).await, Some((versions[2], "3".to_owned())), "the last one wins");
    assert_eq!(bench.read(&Bench::key("b")).await, Some((versions[1], "2".to_owned())));
    assert_eq!(bench.get(&Bench::key("gone")).await, None);
    assert!(!bench.fill(&Bench::key("b"), &late, "late", LONG).await);
}

pub(super) async fn invalidations_say_what_existed(bench: Bench<'_>) {
    bench.set(&Bench::key("a"), "A", LONG).await;
    let late = bench.lease(&Bench::key("b"), 1).await;
    let asked = keys(&["a", "b", "a"]);
    let done = bench.remote.invalidate(&bench.namespace, &asked).await.expect("an invalidation succeeds");
    let existed: Vec<bool> = done.iter().map(|done| done.existed).collect();
    assert_eq!(existed, [true, false, false]);
    assert!(done[2].version.supersedes(done[0].version));
    assert!(!bench.fill(&Bench::key("b"), &late, "late", LONG).await);
}

pub(super) async fn batches_of_nothing_are_nothing(bench: Bench<'_>) {
    let (remote, namespace) = (bench.remote, &bench.namespace);
    assert!(remote.get_many(namespace, &[]).await.expect("nothing fails").is_empty());
    assert!(remote.set_many(namespace, Vec::new()).await.expect("nothing fails").is_empty());
    assert!(remote.invalidate(namespace, &[]).await.expect("nothing fails").is_empty());
    assert!(remote.generations(namespace, &[]).await.expect("nothing fails").is_empty());
    assert!(remote.bump_tags(namespace, &[]).await.expect("nothing fails").is_empty());
}

pub(super) async fn large_batches_are_whole(bench: Bench<'_>) {
    let asked: Vec<Key> = (0..1500).map(|index| Bench::key(&format!("key:{index}"))).collect();
    let entry = |key: &Key| (key.clone(), samples::sealed(&bench.namespace, key, key.as_str(), LONG), LONG);
    let versions = bench.remote.set_many(&bench.namespace, asked.iter().map(entry).collect()).await;
    let versions = versions.expect("a set succeeds");
    let found = bench.remote.get_many(&bench.namespace, &asked).await.expect("a read succeeds");
    assert_eq!(found.len(), asked.len());
    for ((key, stored), version) in asked.iter().zip(&found).zip(&versions) {
        let stored = stored.as_ref().expect("it was set");
        let opened = samples::opened(&bench.namespace, key, &stored.bytes);
        assert_eq!(opened, (*version, key.as_str().to_owned()));
    }
    let done = bench.remote.invalidate(&bench.namespace, &asked).await.expect("an invalidation succeeds");
    assert!(done.len() == asked.len() && done.iter().all(|done| done.existed));
}
