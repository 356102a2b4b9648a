//! Who may load, and whose result is stored.

use super::{Bench, LEASE, LONG};
use crate::wait;
use std::time::Duration;
use terrace_core::remote::{Lease, LeaseOutcome, LeaseToken, Validity};
use terrace_core::{Key, Ttl, Version};

pub(super) async fn one_load_at_a_time(bench: Bench<'_>) {
    let key = Bench::key("key");
    let lease = bench.lease(&key, 1).await;
    match bench.ask(&key, 2, LEASE, None).await {
        LeaseOutcome::Held { remaining } => assert!(remaining <= LEASE && remaining > LEASE / 2),
        other => panic!("somebody else is loading, so not {other:?}"),
    }
    let again = bench.ask(&key, 1, LEASE, None).await;
    assert_eq!(again, LeaseOutcome::Granted(lease.clone()), "asking again with one's own token is harmless");
    assert!(bench.fill(&key, &lease, "loaded", LONG).await);
    match bench.ask(&key, 3, LEASE, None).await {
        LeaseOutcome::Hit(stored) => assert!(stored.remaining.is_some()),
        other => panic!("the value is there, so not {other:?}"),
    }
}

pub(super) async fn a_lease_given_back_lets_the_next_one_load(bench: Bench<'_>) {
    let key = Bench::key("key");
    let first = bench.lease(&key, 1).await;
    bench.remote.release(&bench.namespace, &key, &first).await.expect("it is given back");
    let second = bench.lease(&key, 2).await;
    bench.remote.release(&bench.namespace, &key, &first).await.expect("giving back again is harmless");
    assert!(matches!(bench.ask(&key, 3, LEASE, None).await, LeaseOutcome::Held { .. }));
    assert!(!bench.fill(&key, &first, "late", LONG).await);
    assert!(bench.fill(&key, &second, "in time", LONG).await);
}

pub(super) async fn a_lease_is_renewed_by_its_holder_alone(bench: Bench<'_>) {
    let key = Bench::key("key");
    let lease = bench.lease(&key, 1).await;
    let renew = async |lease: &Lease, duration: Duration| {
        let renewed = bench.remote.renew(&bench.namespace, &key, lease, duration).await;
        renewed.expect("renewing succeeds")
    };
    assert!(renew(&lease, 3 * LEASE).await);
    match bench.ask(&key, 2, LEASE, None).await {
        LeaseOutcome::Held { remaining } => assert!(remaining > LEASE, "{remaining:?}"),
        other => panic!("it is held, so not {other:?}"),
    }
    assert!(!renew(&Lease { token: LeaseToken(2), ..lease.clone() }, 9 * LEASE).await);
    assert!(renew(&lease, LEASE).await, "one that is waited for is renewed as well");
    match bench.ask(&key, 2, LEASE, None).await {
        LeaseOutcome::Held { remaining } => assert!(remaining <= LEASE, "{remaining:?}"),
        other => panic!("it is held, so not {other:?}"),
    }
    assert!(bench.fill(&key, &lease, "loaded", LONG).await);
    assert!(!renew(&lease, LEASE).await);
    let next = bench.lease(&Bench::key("other"), 3).await;
    bench.invalidate(&key).await;
    assert!(!renew(&next, LEASE).await, "it is of another key");
}

pub(super) async fn a_fill_has_the_version_of_its_lease(bench: Bench<'_>) {
    let key = Bench::key("key");
    let (before, _) = bench.invalidate(&key).await;
    let lease = bench.lease(&key, 1).await;
    assert!(lease.version.supersedes(before));
    assert!(bench.fill(&key, &lease, "loaded", LONG).await);
    assert_eq!(bench.read(&key).await, Some((lease.version, "loaded".to_owned())));
    let (after, existed) = bench.invalidate(&key).await;
    assert!(after.supersedes(lease.version) && existed);
}

pub(super) async fn a_fill_happens_once(bench: Bench<'_>) {
    let key = Bench::key("key");
    let lease = bench.lease(&key, 1).await;
    assert!(bench.fill(&key, &lease, "first", LONG).await);
    assert!(!bench.fill(&key, &lease, "second", LONG).await);
    assert_eq!(bench.read(&key).await.expect("it was filled").1, "first");
}

pub(super) async fn an_invalidation_voids_the_lease(bench: Bench<'_>) {
    let key = Bench::key("key");
    let late = bench.lease(&key, 1).await;
    bench.invalidate(&key).await;
    assert!(!bench.fill(&key, &late, "old", LONG).await);
    assert_eq!(bench.get(&key).await, None);
    let next = bench.lease(&key, 2).await;
    assert!(!bench.fill(&key, &late, "old", LONG).await, "also not while somebody else holds one");
    assert!(bench.fill(&key, &next, "new", LONG).await);
}

pub(super) async fn a_set_voids_the_lease(bench: Bench<'_>) {
    let key = Bench::key("key");
    let late = bench.lease(&key, 1).await;
    let version = bench.set(&key, "written", LONG).await;
    assert!(!bench.fill(&key, &late, "loaded before", LONG).await);
    assert_eq!(bench.read(&key).await, Some((version, "written".to_owned())));
}

pub(super) async fn a_lease_that_ran_out_fills_nothing(bench: Bench<'_>) {
    let key = Bench::key("key");
    let short = Duration::from_millis(30);
    let LeaseOutcome::Granted(late) = bench.ask(&key, 1, short, None).await else {
        panic!("nobody else holds it")
    };
    let next =
        wait::until_some("the lease to run out", async || match bench.ask(&key, 2, LEASE, None).await {
            LeaseOutcome::Granted(lease) => Some(lease),
            _ => None,
        })
        .await;
    assert!(!bench.fill(&key, &late, "late", LONG).await);
    assert!(bench.fill(&key, &next, "in time", LONG).await);
}

pub(super) async fn a_dead_value_is_loaded_again(bench: Bench<'_>) {
    let key = Bench::key("key");
    let dead = bench.set(&key, "dead", LONG).await;
    assert!(matches!(bench.ask(&key, 1, LEASE, None).await, LeaseOutcome::Hit(_)));
    let other = Some((dead.get() - 1).into());
    assert!(matches!(bench.ask(&key, 1, LEASE, other).await, LeaseOutcome::Hit(_)));
    let LeaseOutcome::Granted(lease) = bench.ask(&key, 1, LEASE, Some(dead)).await else {
        panic!("a dead value counts as absent")
    };
    assert!(bench.get(&key).await.is_some(), "it stays until the fill replaces it");
    assert!(matches!(bench.ask(&key, 2, LEASE, Some(dead)).await, LeaseOutcome::Held { .. }));
    assert!(bench.fill(&key, &lease, "alive", LONG).await);
    assert_eq!(bench.read(&key).await, Some((lease.version, "alive".to_owned())));
    assert!(
        matches!(bench.ask(&key, 3, LEASE, Some(dead)).await, LeaseOutcome::Hit(_)),
        "the new one is not the dead one"
    );
}

pub(super) async fn settling_ends_every_lease_and_tells_what_is_there(bench: Bench<'_>) {
    let keys = ["same", "missing", "changed"].map(Bench::key);
    let before = [bench.set(&keys[0], "same", LONG).await, 1.into(), bench.set(&keys[2], "old", LONG).await];
    let changed = bench.set(&keys[2], "changed", LONG).await;
    let dead = [Some(before[0]), None, Some(changed)];
    let mut leases = Vec::new();
    for (key, dead) in keys.iter().zip(dead) {
        let LeaseOutcome::Granted(lease) = bench.ask(key, 1, LEASE, dead).await else {
            panic!("a dead value counts as absent")
        };
        leases.push(lease);
    }
    let asked: Vec<(Key, Version)> = keys.iter().cloned().zip(before).collect();
    let told = bench.remote.settle(&bench.namespace, &asked).await.expect("settling succeeds");
    assert!(matches!(told[..], [Validity::Same { .. }, Validity::Missing, Validity::Changed]), "{told:?}");
    for (key, lease) in keys.iter().zip(&leases) {
        assert!(!bench.fill(key, lease, "loaded before", LONG).await, "{key:?}");
    }
    assert_eq!(bench.read(&keys[0]).await, Some((before[0], "same".to_owned())));
    assert!(matches!(bench.ask(&keys[0], 2, LEASE, dead[0]).await, LeaseOutcome::Granted(_)));
    assert_eq!(bench.remote.settle(&bench.namespace, &[]).await.expect("of nothing"), []);
}

pub(super) async fn every_fill_has_its_own_version(bench: Bench<'_>) {
    let key = Bench::key("key");
    let mut last = bench.invalidate(&key).await.0;
    for token in 0..5 {
        let lease = bench.lease(&key, token).await;
        assert!(lease.version.supersedes(last), "two values never share a version");
        last = lease.version;
        let short = Ttl::After(Duration::from_millis(5));
        assert!(bench.fill(&key, &lease, "loaded", short).await);
        wait::until_some("the entry to end", async || bench.get(&key).await.is_none().then_some(())).await;
    }
}

pub(super) async fn a_value_of_no_time_is_accepted_and_not_kept(bench: Bench<'_>) {
    let key = Bench::key("key");
    let lease = bench.lease(&key, 1).await;
    assert!(bench.fill(&key, &lease, "gone", Ttl::After(Duration::ZERO)).await);
    assert_eq!(bench.get(&key).await, None);
    bench.lease(&key, 2).await;
}
