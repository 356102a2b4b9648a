//! An L2 that has forgotten what it acknowledged, and what its nodes do about it.

use crate::fixture::{LEASE, Node, key, namespace};
use std::collections::HashSet;
use std::time::Duration;
use terrace::{EntryOptions, Tier};
use terrace_core::Partition;
use terrace_core::remote::{FillOutcome, LeaseOutcome, LeaseToken, Remote};
use terrace_testkit::conformance::samples;
use terrace_testkit::fake::{Fault, Gate, Operation, Point};
use terrace_testkit::wait::until;

/// Two nodes on a server with a replica. `k`, `other` and `tagged` are in L2, and in the second node's L1.
async fn two() -> (Node, Node) {
    let issuer = Node::first_hearing().await;
    drop(issuer.remote.clone().replicated());
    let other = issuer.another_hearing().await;
    let tagged = EntryOptions::default().tag("t").expect("a tag");
    issuer.put("k", "old").await;
    issuer.put("other", "old").await;
    issuer.texts.put_with("tagged", "old".to_owned(), tagged).await.expect("stored");
    for key in ["k", "other", "tagged"] {
        until_trusted(&other, key).await;
    }
    (issuer, other)
}

fn has_copy(node: &Node, key: &str) -> bool {
    node.texts.peek(key).is_some()
}

/// Reads until a copy counts as fresh.
async fn until_trusted(node: &Node, key: &str) {
    let deadline = terrace_testkit::wait::DEADLINE;
    let trusted = async {
        while !has_copy(node, key) {
            node.get(key).await;
            tokio::task::yield_now().await;
        }
    };
    terrace_testkit::wait::within("a copy that counts as fresh", deadline, trusted).await;
}

/// Beats come back for a while; then copies would count as fresh if they could.
async fn beats_come_back(node: &Node) {
    let before = node.calls(Operation::Beat);
    until("beats come back", || node.calls(Operation::Beat) > before + 2).await;
    crate::fixture::let_others_run().await;
}

/// What Prometheus is told.
fn metric(node: &Node, series: &str) -> u64 {
    let metrics = node.cache.metrics();
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.expect("the series is there").parse().expect("a number")
}

fn asserted(node: &Node) -> u64 {
    metric(node, "terrace_bus_reassertions_total{keyspace=\"texts\",outcome=\"asserted\"}")
}

fn incarnations(node: &Node) -> u64 {
    metric(node, "terrace_bus_incarnations_total{keyspace=\"texts\"}")
}

async fn is_paid(node: &Node) {
    until("what was owed is asserted", || asserted(node) > 0).await;
}

#[tokio::test]
async fn an_invalidation_that_was_forgotten_is_made_again_by_its_issuer() {
    let (issuer, other) = two().await;
    issuer.texts.remove("k").await.unwrap();
    until("it is heard", || !has_copy(&other, "k")).await;
    issuer.remote.fail_over(1);
    other.remote.mend_bus();
    assert_eq!(other.get("k").await.as_deref(), Some("old"), "L2 has it again, and nobody knows better yet");
    issuer.remote.mend_bus();
    is_paid(&issuer).await;
    assert_eq!(issuer.get("k").await, None);
    until("the other node hears of it", || !has_copy(&other, "k")).await;
    assert_eq!(other.get("k").await, None);
    assert_eq!(other.get("other").await.as_deref(), Some("old"), "what was not forgotten stays");
    assert_eq!((incarnations(&issuer), incarnations(&other)), (1, 1));
}

#[tokio::test]
async fn a_write_that_was_forgotten_is_asserted_as_an_invalidation_and_one_that_was_not_stays() {
    let (issuer, other) = two().await;
    issuer.put("k", "kept").await;
    issuer.put("other", "lost").await;
    issuer.remote.fail_over(1);
    issuer.remote.mend_bus();
    is_paid(&issuer).await;
    other.remote.mend_bus();
    assert_eq!(other.get("k").await.as_deref(), Some("kept"));
    assert_eq!(other.get("other").await, None, "the older value is gone");
}

#[tokio::test]
async fn a_tag_and_a_pattern_that_were_forgotten_are_made_again() {
    let (issuer, other) = two().await;
    issuer.texts.invalidate().tag("t").unwrap().send().await.unwrap();
    issuer.texts.invalidate().pattern("oth*").unwrap().send().await.unwrap();
    issuer.remote.fail_over(2);
    issuer.remote.mend_bus();
    other.remote.mend_bus();
    is_paid(&issuer).await;
    assert_eq!((other.get("tagged").await, other.get("other").await), (None, None));
    assert_eq!((issuer.get("tagged").await, issuer.get("other").await), (None, None));
}

/// A node that asserts its removal of `k`, which L2 has forgotten, another one, and the call that is held there.
async fn asserting(at: Point) -> (Node, Node, Gate) {
    let (issuer, other) = two().await;
    issuer.texts.remove("k").await.expect("it is removed");
    let gate = issuer.remote.hold(Operation::Reassert, at);
    issuer.remote.fail_over(1);
    issuer.remote.mend_bus();
    gate.wait_until_held(1).await;
    (issuer, other, gate)
}

#[tokio::test]
async fn until_it_is_made_again_its_issuer_does_not_believe_l2() {
    let (issuer, _other, gate) = asserting(Point::BeforeEffect).await;
    // Past the lease, and past the time for which the first call waits until this node hears of a namespace.
    issuer.clock.advance(Duration::from_secs(1));
    assert_eq!(issuer.get("k").await, None, "L2 has the old value");
    assert_eq!(issuer.load("k", "loaded").await, "loaded");
    assert_eq!(issuer.get("other").await.as_deref(), Some("old"));
    beats_come_back(&issuer).await;
    assert!(!has_copy(&issuer, "other"), "and no copy counts as fresh");
    gate.open();
    until_trusted(&issuer, "other").await;
    assert_eq!(issuer.get("k").await.as_deref(), Some("loaded"), "it is newer than what is asserted");
}

#[tokio::test]
async fn a_change_whose_acknowledgement_is_on_its_way_is_made_again_too() {
    let (issuer, other) = two().await;
    let acknowledgement = issuer.remote.hold(Operation::Set, Point::AfterEffect);
    let putting = issuer.putting("k", "new");
    acknowledgement.wait_until_held(1).await;
    issuer.remote.fail_over(1);
    issuer.remote.mend_bus();
    is_paid(&issuer).await;
    acknowledgement.open();
    putting.await.unwrap().unwrap();
    other.remote.mend_bus();
    assert_ne!(other.get("k").await.as_deref(), Some("old"));
}

#[tokio::test]
async fn what_could_not_be_asserted_is_tried_again_and_nothing_is_trusted_before() {
    let (issuer, other) = two().await;
    issuer.texts.remove("k").await.unwrap();
    issuer.remote.set_fault_on(Operation::Reassert, Some(Fault::Unavailable));
    issuer.remote.fail_over(1);
    issuer.remote.mend_bus();
    other.remote.mend_bus();
    until("it was tried", || issuer.calls(Operation::Reassert) > 2).await;
    issuer.clock.advance(LEASE);
    beats_come_back(&issuer).await;
    issuer.get("other").await;
    assert!(!has_copy(&issuer, "other"));
    issuer.remote.set_fault_on(Operation::Reassert, None);
    until_trusted(&issuer, "other").await;
    assert_eq!(other.get("k").await, None);
}

#[tokio::test]
async fn changes_are_kept_while_l2_is_away_for_long() {
    let (issuer, other) = two().await;
    issuer.texts.remove("k").await.unwrap();
    issuer.remote.fail_over(1);
    crate::fixture::let_others_run().await;
    issuer.clock.advance(Duration::from_mins(10));
    issuer.remote.mend_bus();
    is_paid(&issuer).await;
    other.remote.mend_bus();
    assert_eq!(other.get("k").await, None);
}

#[tokio::test]
async fn a_lease_from_before_fills_nothing_whoever_is_left_to_know() {
    let (issuer, other) = two().await;
    let remote = issuer.remote.another_node();
    let token = LeaseToken(7);
    let leased = remote.lease(&namespace(), &key("late"), token, Duration::from_mins(1), None).await.unwrap();
    let LeaseOutcome::Granted(lease) = leased else { panic!("it is free: {leased:?}") };
    issuer.texts.remove("late").await.unwrap();
    issuer.cache.shutdown(Duration::from_secs(5)).await.unwrap();
    other.remote.fail_over(1);
    other.remote.mend_bus();
    until_trusted(&other, "other").await;
    let ttl = terrace_core::Ttl::After(crate::fixture::HOUR);
    let value = samples::sealed(&namespace(), &key("late"), "old", ttl);
    let filled = remote.fill(&namespace(), &key("late"), &lease, value, ttl).await.unwrap();
    assert_eq!(filled, FillOutcome::Rejected);
}

#[tokio::test]
async fn a_loader_from_before_does_not_bring_back_what_was_forgotten_to_be_invalid() {
    let (issuer, other) = two().await;
    let (mut held, loading) = other.loading("late");
    held.started().await;
    issuer.texts.remove("late").await.unwrap();
    issuer.remote.fail_over(1);
    issuer.remote.mend_bus();
    is_paid(&issuer).await;
    held.bring("old");
    drop(loading.await.unwrap());
    other.remote.mend_bus();
    assert_eq!((issuer.get("late").await, other.get("late").await), (None, None));
}

#[tokio::test]
async fn numbers_of_forgotten_changes_are_not_given_out_again() {
    let (issuer, other) = two().await;
    let mut seen = HashSet::new();
    let mut last = 0;
    for round in 0..4 {
        for _ in 0..5 {
            let number = issuer.put("k", "v").await.version.get();
            assert!(seen.insert(number) && number > last, "round {round}");
            last = number;
        }
        issuer.remote.fail_over(4);
        for node in [&issuer, &other] {
            node.remote.mend_bus();
            until_trusted(node, "other").await;
        }
    }
    let log = issuer.remote.log(&namespace(), Partition(0));
    let chained = log.windows(2).all(|pair| pair[1].previous == pair[0].sequence);
    assert!(chained, "the chain has no gap");
    assert_eq!(log.iter().filter(|message| message.operation == "hello").count(), 5);
}

#[tokio::test]
async fn a_failover_that_forgot_nothing_costs_no_value() {
    let (issuer, other) = two().await;
    issuer.put("k", "new").await;
    issuer.remote.fail_over(0);
    for node in [&issuer, &other] {
        node.remote.mend_bus();
        until_trusted(node, "k").await;
        assert_eq!(node.get("k").await.as_deref(), Some("new"));
        assert_eq!(node.source("other").await.map(|(_, value)| value).as_deref(), Some("old"));
    }
}

#[tokio::test]
async fn after_a_restart_without_memory_the_fleet_goes_on() {
    let (issuer, other) = two().await;
    issuer.remote.restart_empty();
    for node in [&issuer, &other] {
        node.remote.mend_bus();
        until("copies are dropped", || !has_copy(node, "k")).await;
    }
    assert_eq!(other.load("k", "loaded").await, "loaded");
    until_trusted(&issuer, "k").await;
    assert_eq!(issuer.source("k").await, Some((Tier::L1, "loaded".to_owned())));
    issuer.put("k", "new").await;
    until("it is heard", || !has_copy(&other, "k")).await;
    assert_eq!(other.get("k").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn a_connection_that_was_lost_to_the_same_server_costs_nothing() {
    let (issuer, other) = two().await;
    issuer.texts.remove("k").await.unwrap();
    issuer.remote.cut_bus();
    issuer.remote.mend_bus();
    until_trusted(&issuer, "other").await;
    assert_eq!((issuer.calls(Operation::Reassert), incarnations(&issuer)), (0, 0));
    assert!(has_copy(&other, "other"));
}

#[tokio::test]
async fn what_a_dead_node_changed_is_as_old_as_it_is_until_its_ttl() {
    let (issuer, other) = two().await;
    issuer.texts.remove("k").await.unwrap();
    issuer.cache.shutdown(Duration::from_secs(5)).await.unwrap();
    other.remote.fail_over(1);
    other.remote.mend_bus();
    assert_eq!(other.get("k").await.as_deref(), Some("old"), "nobody is left who knows");
    other.clock.advance(crate::fixture::HOUR + LEASE);
    assert_eq!(other.get("k").await, None);
}

#[tokio::test]
async fn what_l2_said_before_it_was_told_again_is_no_answer_after_that() {
    for (operation, is_batch) in [(Operation::Get, false), (Operation::GetMany, true)] {
        let (issuer, _other, gate) = asserting(Point::BeforeEffect).await;
        let answer = issuer.remote.hold(operation, Point::AfterEffect);
        let texts = issuer.texts.clone();
        let reading = crate::fixture::spawn(async move {
            let keys = ["k".to_owned()];
            let one = async || texts.get("k").await.unwrap();
            if is_batch { texts.get_many(&keys).await.unwrap().remove(0) } else { one().await }
        });
        answer.wait_until_held(1).await;
        gate.open();
        is_paid(&issuer).await;
        answer.open();
        assert_eq!(crate::fixture::ended(reading).await, None, "{operation:?}: it was removed before");
    }
}

#[tokio::test]
async fn a_node_knows_what_it_has_removed_before_it_hears_again() {
    let (issuer, _other) = two().await;
    issuer.texts.remove("k").await.unwrap();
    issuer.remote.fail_over(1);
    crate::fixture::let_others_run().await;
    assert_eq!(issuer.get("k").await, None, "L2 has the old value");
}

/// A payment that ends after L2 was lost once more.
async fn paid_while_lost() -> (Node, Node) {
    let (issuer, other, gate) = asserting(Point::AfterEffect).await;
    issuer.remote.fail_over(1);
    crate::fixture::let_others_run().await;
    gate.open();
    crate::fixture::let_others_run().await;
    (issuer, other)
}

#[tokio::test]
async fn what_was_asserted_to_a_life_of_l2_that_is_over_is_still_known() {
    let (issuer, other) = paid_while_lost().await;
    assert_eq!(other.get("k").await.as_deref(), Some("old"), "it is forgotten once more");
    assert_eq!(issuer.get("k").await, None);
}

#[tokio::test]
async fn what_was_asserted_to_a_life_of_l2_that_is_over_is_asserted_again_however_long_that_takes() {
    let (issuer, other) = paid_while_lost().await;
    issuer.clock.advance(Duration::from_mins(10));
    issuer.remote.mend_bus();
    until_trusted(&issuer, "other").await;
    other.remote.mend_bus();
    assert_eq!((issuer.get("k").await, other.get("k").await), (None, None));
}
