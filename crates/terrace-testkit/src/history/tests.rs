//! Each rule with a small history that breaks it and the same without the fault; K5 against a search through all orders.

use super::{Answer, Forgetting, Operation, Outcome, Promises, Read, Report, Rule, Source, What, check};
use proptest::prelude::*;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use std::time::Duration;

const DELTA: u64 = 1000;
const KEY: u64 = 7;

fn promises() -> Promises {
    Promises::within(Duration::from_nanos(DELTA), Duration::from_micros(5))
}

fn value(version: u64, source: Source) -> Read {
    Read { key: KEY, version, source: Some(source), is_anchored: true, has_asked: false }
}

fn read(node: u32, (begun, ended): (u64, u64), read: Read) -> Operation {
    Operation { node, key: KEY, begun, ended, what: What::Read(Answer::Fresh(read)) }
}

fn fresh(node: u32, during: (u64, u64), version: u64) -> Operation {
    read(node, during, value(version, Source::L1))
}

fn asked(node: u32, during: (u64, u64), version: u64) -> Operation {
    read(node, during, Read { has_asked: true, ..value(version, Source::L2) })
}

fn change(node: u32, (begun, ended): (u64, u64), version: u64, outcome: Outcome) -> Operation {
    Operation { node, key: KEY, begun, ended, what: What::Change { version, outcome } }
}

fn broken(operations: &[Operation], promises: &Promises) -> Vec<Rule> {
    check(operations, promises).violations.into_iter().map(|violation| violation.rule).collect()
}

fn kept(operations: &[Operation]) {
    assert_eq!(broken(operations, &promises()), []);
}

#[test]
fn k1_a_node_knows_what_it_acknowledged() {
    for outcome in [Outcome::Applied, Outcome::Queued, Outcome::Refused] {
        let changed = change(1, (10, 20), 2, outcome);
        assert_eq!(broken(&[changed, fresh(1, (21, 22), 1)], &promises()), [Rule::Node]);
        kept(&[changed, fresh(1, (21, 22), 2)]);
        kept(&[changed, fresh(1, (20, 22), 1)]);
        kept(&[changed, fresh(2, (21, 22), 1)]);
    }
    kept(&[change(1, (10, 20), 2, Outcome::Unknown), fresh(1, (21, 22), 1)]);
}

fn stale(during: (u64, u64), version: u64, source: Option<Source>) -> Operation {
    let read = Read { source, ..value(version, Source::L1) };
    Operation { what: What::Read(Answer::Stale(read)), ..fresh(1, during, version) }
}

#[test]
fn k1_what_is_stale_was_not_invalidated_on_its_node_and_does_not_stay_long_on_its_way() {
    let changed = change(1, (10, 20), 2, Outcome::Applied);
    let after = stale((21, 22), 1, None);
    assert_eq!(broken(&[changed, after], &promises()), [Rule::Node]);
    kept(&[changed, Operation { node: 2, ..after }]);
    kept(&[changed, stale((21, 22), 2, None)]);
    let homeward = Promises { homeward: Some(Duration::from_nanos(30)), ..promises() };
    for source in [Source::L1, Source::L2] {
        let during = |ended| [changed, stale((15, ended), 1, Some(source))];
        assert_eq!(broken(&during(50), &homeward), []);
        assert_eq!(broken(&during(51), &homeward), [Rule::Node]);
        kept(&during(51));
    }
    for loaded in [stale((15, 90), 1, None), stale((15, 90), 1, Some(Source::Origin)), fresh(1, (15, 90), 1)]
    {
        assert_eq!(broken(&[changed, loaded], &homeward), []);
    }
}

#[test]
fn k7_a_read_has_a_time_of_its_own() {
    let reads = Promises { reads_max: Some(Duration::from_nanos(100)), ..promises() };
    assert_eq!(broken(&[fresh(1, (10, 110), 1)], &reads), []);
    assert_eq!(broken(&[fresh(1, (10, 111), 1)], &reads), [Rule::Bounded]);
    assert_eq!(broken(&[change(1, (10, 111), 2, Outcome::Applied)], &reads), []);
    kept(&[fresh(1, (10, 111), 1)]);
}

#[test]
fn k2_the_fleet_knows_after_the_lease_what_was_applied() {
    let applied = change(1, (10, 20), 2, Outcome::Applied);
    assert_eq!(broken(&[applied, fresh(2, (21 + DELTA, 5000), 1)], &promises()), [Rule::Fleet]);
    kept(&[applied, fresh(2, (20 + DELTA, 5000), 1)]);
    kept(&[applied, fresh(2, (21 + DELTA, 5000), 2)]);
    kept(&[change(1, (10, 20), 2, Outcome::Queued), fresh(2, (21 + DELTA, 5000), 1)]);
    let slack = Promises { slack: Duration::from_nanos(1), ..promises() };
    assert_eq!(broken(&[applied, fresh(2, (21 + DELTA, 5000), 1)], &slack), []);
    let deaf = Promises { staleness_max: None, ..promises() };
    assert_eq!(broken(&[applied, fresh(2, (9000, 9001), 1)], &deaf), []);
}

#[test]
fn k2_what_is_missed_longest_is_told() {
    let changes = [
        change(1, (10, 40), 2, Outcome::Applied),
        change(1, (50, 60), 3, Outcome::Applied),
        change(3, (15, 30), 4, Outcome::Applied),
    ];
    let history = [changes[0], changes[1], changes[2], fresh(2, (2000, 2001), 1)];
    let report = check(&history, &promises());
    assert_eq!(report.figures.oldest_fresh, Duration::from_nanos(1970));
    assert_eq!(report.violations[0].because, Some(changes[2]));
    let told = report.violations[0].to_string();
    assert_eq!(
        told,
        "K2: the read of key 7 on node 2, begun at 0.000002000 s, ended at 0.000002001 s, brought version 1 of key 7 \
         from L1 as fresh; the change of key 7 to version 4 on node 3, begun at 0.000000015 s, ended at 0.000000030 s, \
         was applied, 1.97µs before it, and 1µs are allowed"
    );
}

#[test]
fn k3_a_node_does_not_go_back() {
    assert_eq!(broken(&[fresh(1, (10, 20), 2), fresh(1, (21, 30), 1)], &promises()), [Rule::Monotonic]);
    kept(&[fresh(1, (10, 20), 1), fresh(1, (21, 30), 2)]);
    kept(&[fresh(1, (10, 20), 2), fresh(1, (20, 30), 1)]);
    kept(&[fresh(1, (10, 20), 2), fresh(2, (21, 30), 1)]);
    kept(&[read(1, (10, 20), value(2, Source::Origin)), fresh(1, (21, 30), 1)]);
    let unordered = Promises { unordered: vec![1], ..promises() };
    assert_eq!(broken(&[fresh(1, (10, 20), 2), fresh(1, (21, 30), 1)], &unordered), []);
    let unanchored = Read { is_anchored: false, ..value(2, Source::Origin) };
    kept(&[read(1, (10, 20), unanchored), fresh(1, (21, 30), 1)]);
}

#[test]
fn k4_in_the_calm_all_know_the_newest() {
    let calm = Promises { calm_from: Some(500), ..promises() };
    let queued = change(1, (10, 20), 2, Outcome::Queued);
    assert_eq!(broken(&[queued, fresh(2, (500, 510), 1)], &calm), [Rule::Quiet]);
    assert_eq!(broken(&[queued, fresh(2, (499, 510), 1)], &calm), []);
    assert_eq!(broken(&[queued, fresh(2, (500, 510), 2)], &calm), []);
    assert_eq!(check(&[queued, fresh(2, (500, 510), 2)], &calm).figures.calm, 1);
}

#[test]
fn k4_nothing_outlives_its_ttl() {
    let ttl = Promises { ttl_max: Some(Duration::from_nanos(100)), ..promises() };
    let untold = change(1, (10, 20), 2, Outcome::Untold);
    assert_eq!(broken(&[untold, fresh(1, (121, 122), 1)], &ttl), [Rule::Lifetime]);
    assert_eq!(broken(&[untold, fresh(1, (120, 122), 1)], &ttl), []);
    assert_eq!(broken(&[untold, fresh(1, (121, 122), 2)], &ttl), []);
    kept(&[untold, fresh(1, (121, 122), 1)]);
}

#[test]
fn k5_what_was_asked_is_in_one_order_with_the_changes() {
    let applied = change(1, (10, 20), 2, Outcome::Applied);
    assert_eq!(broken(&[applied, asked(2, (21, 30), 1)], &promises()), [Rule::Linearizable]);
    kept(&[applied, fresh(2, (21, 30), 1)]);
    kept(&[applied, asked(2, (20, 30), 1)]);
    let changing = change(1, (10, 90), 2, Outcome::Applied);
    let history = [changing, asked(2, (20, 30), 2), asked(3, (40, 50), 1)];
    assert_eq!(broken(&history, &promises()), [Rule::Linearizable]);
    kept(&[changing, asked(2, (20, 30), 1), asked(3, (40, 50), 2)]);
}

#[test]
fn k7_every_call_ends() {
    let late = Operation { what: What::Read(Answer::Nothing), ..fresh(1, (10, 5011), 0) };
    assert_eq!(broken(&[late], &promises()), [Rule::Bounded]);
    kept(&[Operation { ended: 5010, ..late }]);
    let hung = Operation { ended: Operation::NEVER, ..late };
    assert_eq!(broken(&[hung], &promises()), [Rule::Bounded]);
    kept(&[Operation { what: What::Load { version: 1 }, ..late }]);
}

#[test]
fn k8_a_value_is_the_keys_own_and_no_prophecy() {
    let others = Read { key: KEY + 1, ..value(1, Source::L2) };
    assert_eq!(broken(&[read(1, (10, 20), others)], &promises()), [Rule::Genuine]);
    let stale = Operation { what: What::Read(Answer::Stale(others)), ..read(1, (10, 20), others) };
    assert_eq!(broken(&[stale], &promises()), [Rule::Genuine]);
    let changed = change(2, (21, 22), 2, Outcome::Unknown);
    assert_eq!(broken(&[changed, fresh(1, (10, 20), 2)], &promises()), [Rule::Genuine]);
    kept(&[changed, fresh(1, (10, 21), 2)]);
}

#[test]
fn what_was_forgotten_excuses_only_while_it_is() {
    let forgetful =
        |until| Promises { forgettings: vec![Forgetting { from: 15, at: 50, until }], ..promises() };
    let applied = change(1, (10, 20), 2, Outcome::Applied);
    let history = [applied, asked(1, (30, 40), 2), asked(1, (60, 70), 1)];
    assert_eq!(
        broken(&history, &promises()),
        [Rule::Node, Rule::Monotonic, Rule::Linearizable, Rule::Linearizable]
    );
    assert_eq!(broken(&history, &forgetful(60)), []);
    assert_eq!(broken(&history, &forgetful(59)), [Rule::Node, Rule::Linearizable]);
    let before = [change(1, (10, 14), 2, Outcome::Applied), asked(1, (60, 70), 1)];
    assert_eq!(broken(&before, &forgetful(60)), [Rule::Node, Rule::Linearizable]);
    let across = |begun| [change(1, (begun, 55), 2, Outcome::Applied), asked(1, (58, 59), 1)];
    assert_eq!(broken(&across(50), &forgetful(60)), []);
    assert_eq!(broken(&across(51), &forgetful(60)), [Rule::Node, Rule::Linearizable]);
    let after = [applied, asked(1, (60, 70), 1), asked(1, (80, 81), 3), asked(1, (82, 83), 2)];
    assert_eq!(broken(&after, &forgetful(60)), [Rule::Monotonic, Rule::Linearizable]);
}

#[test]
fn figures_are_counted() {
    let nothing = Operation { what: What::Read(Answer::Nothing), ..fresh(1, (1, 2), 0) };
    let history = [
        change(1, (10, 20), 2, Outcome::Applied),
        change(1, (30, 40), 3, Outcome::Queued),
        fresh(2, (50, 60), 1),
        asked(2, (50, 60), 3),
        nothing,
        Operation { what: What::Read(Answer::Failed), ..nothing },
        Operation { what: What::Load { version: 1 }, ..nothing },
    ];
    let Report { figures, violations } = check(&history, &promises());
    assert!(violations.is_empty());
    assert_eq!((figures.operations, figures.loads, figures.fresh, figures.fresh_but_old), (6, 1, 2, 1));
    assert_eq!((figures.nothing, figures.failed, figures.linearized), (1, 1, 1));
    assert_eq!((figures.applied, figures.queued, figures.longest_call), (1, 1, Duration::from_nanos(10)));
    assert_eq!(figures.oldest_fresh, Duration::from_nanos(30));
}

/// A register whose version only grows.
#[derive(Clone, PartialEq, Debug)]
struct Register(u64);

#[derive(Clone, PartialEq, Debug)]
enum Step {
    Change(u64),
    Read,
}

impl SequentialSpec for Register {
    type Op = Step;
    type Ret = u64;

    fn invoke(&mut self, step: &Step) -> u64 {
        if let Step::Change(version) = step {
            self.0 = self.0.max(*version);
        }
        self.0
    }

    fn is_valid_step(&mut self, step: &Step, brought: &u64) -> bool {
        let now = self.invoke(step);
        *step != Step::Read || now == *brought
    }
}

/// Whether some order explains the history, by trying all.
fn is_linearizable(operations: &[Operation]) -> bool {
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (at, operation) in operations.iter().enumerate() {
        events.push((operation.begun, false, at));
        events.push((operation.ended, true, at));
    }
    events.sort_unstable();
    let mut tester = LinearizabilityTester::new(Register(0));
    for (_, is_end, at) in events {
        let (step, brought) = match operations[at].what {
            What::Read(Answer::Fresh(read)) => (Step::Read, read.version),
            What::Change { version, .. } => (Step::Change(version), 0),
            _ => unreachable!("only these are generated"),
        };
        let noted = if is_end { tester.on_return(at, brought) } else { tester.on_invoke(at, step) };
        noted.expect("a well-formed history");
    }
    tester.is_consistent()
}

prop_compose! {
    /// Changes that got their numbers as they began, and reads of any of them.
    fn histories()(
        changes in prop::collection::vec((0..50u64, 1..20u64), 0..5),
        reads in prop::collection::vec((0..60u64, 0..12u64, 0..5u64), 1..5),
    ) -> Vec<Operation> {
        let mut changes = changes;
        changes.sort_unstable();
        let changes = changes.into_iter().zip(1..).map(|((begun, took), version)| {
            change(0, (10 + begun, 10 + begun + took), version, Outcome::Applied)
        });
        let mut all: Vec<Operation> = changes.collect();
        let newest = all.len() as u64;
        all.extend(reads.into_iter().map(|(begun, took, version)| {
            asked(0, (5 + begun, 5 + begun + took), version.min(newest))
        }));
        all
    }
}

proptest! {
    #[test]
    fn k5_finds_exactly_what_no_order_explains(history in histories()) {
        let rules = broken(&history, &promises());
        let is_explained = !rules.iter().any(|rule| matches!(rule, Rule::Linearizable | Rule::Genuine));
        prop_assert_eq!(is_explained, is_linearizable(&history));
    }
}
