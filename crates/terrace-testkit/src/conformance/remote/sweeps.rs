//! Many keys by a rule.

use super::{Bench, LEASE, LONG};
use terrace_core::remote::{LeaseOutcome, SweepRule};
use terrace_core::{Glob, Namespace};

fn matching(pattern: &str) -> SweepRule {
    SweepRule::Matching(Glob::new(pattern).expect("a valid pattern"))
}

impl Bench<'_> {
    async fn sweep(&self, rule: &SweepRule) -> u64 {
        self.remote.sweep(&self.namespace, rule).await.expect("a sweep succeeds")
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
