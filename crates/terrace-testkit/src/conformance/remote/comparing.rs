//! Changes on a condition.

use super::{Bench, LONG, samples};
use futures_util::future::join_all;
use std::time::Duration;
use terrace_core::remote::{Compared, Expected, SweepRule};
use terrace_core::{Glob, Key, Ttl, Version};

impl Bench<'_> {
    async fn set_if(&self, key: &Key, expected: Expected, text: Option<&str>, ttl: Ttl) -> Compared {
        let value = text.map(|text| (samples::sealed(&self.namespace, key, text, ttl), ttl));
        let compared = self.remote.set_if(&self.namespace, key, expected, value).await;
        compared.expect("a comparison succeeds")
    }
}

fn made(compared: Compared) -> Version {
    match compared {
        Compared::Changed(version) => version,
        Compared::Differs { there } => panic!("expected a change, and {there:?} is there"),
    }
}

pub(super) async fn a_value_is_created_once(bench: Bench<'_>) {
    if !bench.remote.can_compare() {
        return;
    }
    let key = Bench::key("key");
    let first = made(bench.set_if(&key, Expected::Absent, Some("first"), LONG).await);
    assert_eq!(bench.read(&key).await, Some((first, "first".to_owned())));
    let second = bench.set_if(&key, Expected::Absent, Some("second"), LONG).await;
    assert_eq!(second, Compared::Differs { there: Some(first) });
    assert_eq!(bench.read(&key).await, Some((first, "first".to_owned())));
    bench.invalidate(&key).await;
    assert!(made(bench.set_if(&key, Expected::Absent, Some("third"), LONG).await).supersedes(first));
}

pub(super) async fn a_value_is_replaced_and_removed_only_at_the_version_that_is_there(bench: Bench<'_>) {
    if !bench.remote.can_compare() {
        return;
    }
    let key = Bench::key("key");
    let none = bench.set_if(&key, Expected::Version(7.into()), Some("none"), LONG).await;
    assert_eq!(none, Compared::Differs { there: None });
    let old = bench.set(&key, "old", LONG).await;
    let other = bench.set(&key, "other", LONG).await;
    let differs = Compared::Differs { there: Some(other) };
    assert_eq!(bench.set_if(&key, Expected::Version(old), Some("new"), LONG).await, differs);
    assert_eq!(bench.set_if(&key, Expected::Version(old), None, LONG).await, differs);
    assert_eq!(bench.read(&key).await, Some((other, "other".to_owned())));
    let new = made(bench.set_if(&key, Expected::Version(other), Some("new"), Ttl::Never).await);
    assert!(new.supersedes(other));
    assert_eq!(bench.read(&key).await, Some((new, "new".to_owned())));
    let gone = made(bench.set_if(&key, Expected::Version(new), None, LONG).await);
    assert!(gone.supersedes(new));
    assert_eq!(bench.get(&key).await, None);
    let (_, existed) = bench.invalidate(&key).await;
    assert!(!existed);
}

pub(super) async fn what_is_dead_counts_as_absent(bench: Bench<'_>) {
    if !bench.remote.can_compare() {
        return;
    }
    let (swept, spared) = (Bench::key("user:1"), Bench::key("org:1"));
    let before = [bench.set(&swept, "v", LONG).await, bench.set(&spared, "v", LONG).await];
    for pattern in ["user:*", "team:*"] {
        let rule = SweepRule::Matching(Glob::new(pattern).expect("a valid pattern"));
        bench.remote.sweep(&bench.namespace, &rule).await.expect("a sweep begins");
    }
    let dead = bench.set_if(&swept, Expected::Version(before[0]), Some("new"), LONG).await;
    assert_eq!(dead, Compared::Differs { there: None });
    let spared_is_there = bench.set_if(&spared, Expected::Absent, Some("new"), LONG).await;
    assert_eq!(spared_is_there, Compared::Differs { there: Some(before[1]) });
    let created = made(bench.set_if(&swept, Expected::Absent, Some("new"), LONG).await);
    assert_eq!(bench.read(&swept).await, Some((created, "new".to_owned())));
    let replaced = made(bench.set_if(&spared, Expected::Version(before[1]), Some("new"), LONG).await);
    assert_eq!(bench.read(&spared).await, Some((replaced, "new".to_owned())));
    let nothing = Ttl::After(Duration::ZERO);
    made(bench.set_if(&spared, Expected::Version(replaced), Some("not kept"), nothing).await);
    assert_eq!(bench.get(&spared).await, None, "a TTL of nothing removes");
}

pub(super) async fn a_change_on_a_condition_voids_the_lease_and_one_that_is_not_made_does_not(
    bench: Bench<'_>,
) {
    if !bench.remote.can_compare() {
        return;
    }
    let key = Bench::key("key");
    let lease = bench.lease(&key, 1).await;
    bench.set_if(&key, Expected::Version(7.into()), Some("not made"), LONG).await;
    assert!(bench.fill(&key, &lease, "loaded", LONG).await, "nothing was changed");
    bench.invalidate(&key).await;
    let lease = bench.lease(&key, 2).await;
    made(bench.set_if(&key, Expected::Absent, Some("made"), LONG).await);
    assert!(!bench.fill(&key, &lease, "loaded", LONG).await, "the load began before the change");
}

pub(super) async fn of_many_who_compare_with_one_version_one_has_its_way(bench: Bench<'_>) {
    if !bench.remote.can_compare() {
        return;
    }
    let key = Bench::key("key");
    let version = bench.set(&key, "0", LONG).await;
    let compare = |_| bench.set_if(&key, Expected::Version(version), Some("1"), LONG);
    let all = join_all((0..20).map(compare)).await;
    let made = all.iter().filter(|one| matches!(one, Compared::Changed(_))).count();
    assert_eq!(made, 1, "{all:?}");
}
