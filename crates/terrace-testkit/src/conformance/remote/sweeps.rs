//! Many keys by a rule.

use super::super::{names, swept};
use super::{Bench, LEASE, LONG};
use terrace_core::remote::{LeaseOutcome, RemoteError, SweepRule};
use terrace_core::{Glob, Namespace};

fn matching(pattern: &str) -> SweepRule {
    SweepRule::Matching(Glob::new(pattern).expect("a valid pattern"))
}

impl Bench<'_> {
    async fn sweep(&self, rule: &SweepRule) -> u64 {
        swept(self.remote, &self.namespace, rule).await
    }
}

pub(super) async fn a_sweep_voids_every_lease(bench: Bench<'_>) {
    for rule in [SweepRule::All, matching("nothing that there is")] {
        let key = Bench::key("key");
        let late = bench.lease(&key, 1).await;
        assert_eq!(bench.sweep(&rule).await, 0);
        assert!(!bench.fill(&key, &late, "old", LONG).await);

        let late = bench.lease(&key, 2).await;
        bench.sweep(&rule).await;
        let next = bench.ask(&key, 3, LEASE, None).await;
        let LeaseOutcome::Granted(next) = next else {
            panic!("a void lease holds nobody up, so not {next:?}")
        };
        assert!(!bench.fill(&key, &late, "old", LONG).await);
        assert!(bench.fill(&key, &next, "new", LONG).await);
        bench.invalidate(&key).await;
    }
}

pub(super) async fn a_sweep_of_all_spares_other_namespaces(bench: Bench<'_>) {
    let key = Bench::key("key");
    let siblings =
        ["x", "-", "0"].map(|end| Namespace::new(&format!("{}{end}", bench.namespace)).expect("valid"));
    for namespace in &siblings {
        bench.remote.open(namespace).await.expect("it opens");
        let sibling = Bench { remote: bench.remote, namespace: namespace.clone() };
        sibling.set(&key, "theirs", LONG).await;
    }
    for index in 0..700 {
        bench.set(&Bench::key(&format!("key:{index}")), "mine", LONG).await;
    }
    assert_eq!(bench.sweep(&SweepRule::All).await, 700);
    assert_eq!(bench.get(&Bench::key("key:0")).await, None);
    for namespace in siblings {
        let sibling = Bench { remote: bench.remote, namespace };
        assert!(sibling.get(&key).await.is_some());
    }
}

pub(super) async fn a_pattern_names_keys_and_nothing_else(bench: Bench<'_>) {
    let texts =
        ["user:1", "user:2", "user:10", "users:1", "u*er:1", "org:7", "}:d:user:1", "[a]", "a\\", "é"];
    for (pattern, expected) in [
        ("user:?", &["user:1", "user:2"][..]),
        ("user:*", &["user:1", "user:2", "user:10"]),
        ("u\\*er:*", &["u*er:1"]),
        ("*:1", &["user:1", "users:1", "u*er:1", "}:d:user:1"]),
        ("[ou]*", &["user:1", "user:2", "user:10", "users:1", "u*er:1", "org:7"]),
        ("\\[a\\]", &["[a]"]),
        ("a\\\\", &["a\\"]),
        ("*}:d:*", &["}:d:user:1"]),
        ("..*", &[]),
        ("\u{e9}", &["é"]),
        ("*", &texts),
    ] {
        for text in texts {
            bench.set(&Bench::key(text), text, LONG).await;
        }
        let removed = bench.sweep(&matching(pattern)).await;
        let mut gone = Vec::new();
        for text in texts {
            if bench.get(&Bench::key(text)).await.is_none() {
                gone.push(text);
            }
        }
        assert_eq!(
            gone,
            texts.into_iter().filter(|text| expected.contains(text)).collect::<Vec<_>>(),
            "{pattern}"
        );
        assert_eq!(removed, expected.len() as u64, "{pattern}");
    }
}

pub(super) async fn what_was_swept_is_dead_before_it_is_removed(bench: Bench<'_>) {
    let keys = ["user:1", "user:2", "org:1"].map(Bench::key);
    for key in &keys {
        bench.set(key, "old", LONG).await;
    }
    let users = matching("user:*");
    let sweep = bench.remote.sweep(&bench.namespace, &users).await.expect("a sweep succeeds").sweep;
    assert_eq!(
        bench.remote.sweeps(&bench.namespace).await.expect("they are told"),
        std::slice::from_ref(&sweep)
    );
    let found = bench.remote.get_many(&bench.namespace, &keys).await.expect("it succeeds");
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(bench.get(&keys[0]).await, None);
    let mut dead = names(bench.remote, &bench.namespace, &users).await.expect("they are told");
    dead.sort();
    assert_eq!(dead, keys[..2], "they are still there");

    let lease = bench.ask(&keys[0], 1, LEASE, None).await;
    let LeaseOutcome::Granted(lease) = lease else { panic!("a dead value is loaded anew, so not {lease:?}") };
    assert!(bench.fill(&keys[0], &lease, "new", LONG).await);
    bench.set(&keys[1], "new", LONG).await;
    assert_eq!(bench.remote.reap(&bench.namespace, &sweep, &keys).await.expect("it succeeds"), 0);
    for key in &keys {
        assert!(bench.get(key).await.is_some(), "what came later lives, and what is not named");
    }
}

pub(super) async fn a_sweep_is_ended_by_its_own_name_alone(bench: Bench<'_>) {
    let (key, users) = (Bench::key("user:1"), matching("user:*"));
    let first = bench.remote.sweep(&bench.namespace, &users).await.expect("a sweep succeeds").sweep;
    bench.set(&key, "old", LONG).await;
    let second = bench.remote.sweep(&bench.namespace, &users).await.expect("a sweep succeeds").sweep;
    bench.remote.retire(&bench.namespace, &first).await.expect("it succeeds");
    assert_eq!(bench.get(&key).await, None, "the later one still holds");
    let keys = std::slice::from_ref(&key);
    assert_eq!(bench.remote.reap(&bench.namespace, &first, keys).await.expect("it succeeds"), 0);
    assert_eq!(bench.remote.reap(&bench.namespace, &second, keys).await.expect("it succeeds"), 1);
    bench.remote.retire(&bench.namespace, &second).await.expect("it succeeds");
    assert_eq!(bench.remote.sweeps(&bench.namespace).await.expect("they are told"), []);

    let by_pattern = bench.remote.sweep(&bench.namespace, &users).await.expect("a sweep succeeds").sweep;
    let all = bench.remote.sweep(&bench.namespace, &SweepRule::All).await.expect("a sweep succeeds").sweep;
    assert_eq!(
        bench.remote.sweeps(&bench.namespace).await.expect("they are told"),
        std::slice::from_ref(&all)
    );
    for sweep in [by_pattern, all] {
        bench.remote.retire(&bench.namespace, &sweep).await.expect("it succeeds");
    }
}

pub(super) async fn a_sweep_tells_of_one_number_that_rises_or_of_none(bench: Bench<'_>) {
    let mut told = Vec::new();
    for rule in [matching("user:*"), SweepRule::All, matching("user:*")] {
        let swept = bench.remote.sweep(&bench.namespace, &rule).await.expect("it succeeds");
        bench.remote.retire(&bench.namespace, &swept.sweep).await.expect("it ends");
        told.push(swept.version);
    }
    let several = [None; 3];
    assert!(told == several || told.is_sorted_by(|one, next| one.is_some() && one < next), "{told:?}");
}

pub(super) async fn only_so_many_sweeps_are_active(bench: Bench<'_>) {
    let key = Bench::key("last");
    let mut active = Vec::new();
    for n in 0..64 {
        let sweep = bench.remote.sweep(&bench.namespace, &matching(&format!("{n}*"))).await;
        active.push(sweep.expect("there is room").sweep);
    }
    let late = bench.lease(&key, 1).await;
    let refused = bench.remote.sweep(&bench.namespace, &matching("last")).await;
    assert!(matches!(refused, Err(RemoteError::Refused { .. })), "{refused:?}");
    assert!(bench.fill(&key, &late, "v", LONG).await, "what is refused changes nothing");
    bench.remote.sweep(&bench.namespace, &matching("7*")).await.expect("it takes the place of its like");
    bench.remote.retire(&bench.namespace, &active[0]).await.expect("it succeeds");
    assert_eq!(bench.sweep(&matching("last")).await, 1);
    bench.sweep(&SweepRule::All).await;
}
