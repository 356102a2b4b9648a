//! Patterns and clearing: effective at once, and removed from L2 by and by.

use crate::fixture::{HOUR, Node, ended, key, loader, namespace, spawn};
use std::time::Duration;
use terrace::{Effect, Remote, Tier};
use terrace_core::remote::SweepRule;
use terrace_testkit::fake::{Fault, Operation, Point};
use terrace_testkit::wait::until;

fn matching(pattern: &str) -> SweepRule {
    SweepRule::Matching(terrace::Glob::new(pattern).expect("valid"))
}

fn users() -> SweepRule {
    matching("user:*")
}

async fn with_users() -> (Node, Node) {
    let node = Node::first_without_l1().await;
    let other = node.another_without_l1().await;
    for key in ["user:1", "user:2", "org:1"] {
        node.put(key, "old").await;
    }
    (node, other)
}

#[tokio::test]
async fn a_pattern_holds_before_what_it_names_is_removed() {
    let (node, other) = with_users().await;
    let gate = node.remote.hold(Operation::Names, Point::BeforeEffect);
    let texts = node.texts.clone();
    let sweeping = spawn(async move { texts.invalidate().pattern("user:*").unwrap().send().await.unwrap() });
    until("the names to be asked for", || gate.held() == 1).await;
    assert_eq!(other.remote.keys(&namespace()).len(), 3, "nothing is removed yet");
    for node in [&node, &other] {
        assert_eq!((node.get("user:1").await, node.get("user:2").await), (None, None));
        assert_eq!(node.get("org:1").await.as_deref(), Some("old"));
        assert_eq!(node.texts.get_many(&["user:1".to_owned()]).await.unwrap(), [None]);
    }
    assert_eq!(other.load("user:1", "new").await, "new");
    assert_eq!(node.source("user:1").await, Some((Tier::L2, "new".to_owned())), "what came later lives");
    gate.open();
    let swept = ended(sweeping).await;
    assert_eq!((swept.count, swept.is_exact, swept.effect), (1, true, Effect::Applied));
    assert_eq!(other.remote.keys(&namespace()), [key("org:1"), key("user:1")]);
    assert_eq!(other.remote.sweeps(&namespace()).await.unwrap(), [], "it is over");
    assert_eq!(other.get("user:1").await.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn who_invalidates_waits_no_longer_than_a_second_for_the_count() {
    let (node, other) = with_users().await;
    let gate = node.remote.hold(Operation::Reap, Point::BeforeEffect);
    let swept = node.texts.clear().await.unwrap();
    assert_eq!((swept.count, swept.is_exact, swept.effect), (0, false, Effect::Applied));
    assert_eq!(other.get("org:1").await, None, "it holds");
    gate.open();
    until("it goes on in the background", || other.remote.keys(&namespace()).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_fails_begins_anew_and_ends_the_sweep_only_then() {
    let (node, other) = with_users().await;
    for operation in [Operation::Names, Operation::Reap, Operation::Retire] {
        node.remote.fail_next(operation, Fault::Unavailable);
        let swept = node.texts.invalidate().pattern("user:*").unwrap().send().await.unwrap();
        assert_eq!(swept.effect, Effect::Applied, "{operation:?}");
        assert_eq!(other.get("user:1").await, None);
        let is_over = || node.remote.calls(Operation::Retire) > 0;
        until("the sweep to be over", is_over).await;
        node.put("user:1", "again").await;
        node.remote.reset_calls();
    }
    assert_eq!(other.remote.sweeps(&namespace()).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_whose_node_died_is_ended_by_another() {
    let (node, other) = with_users().await;
    node.remote.sweep(&namespace(), &users()).await.unwrap();
    drop(node);
    other.put("user:3", "new").await;
    assert_eq!(other.remote.keys(&namespace()).len(), 4);
    for _ in 0..25 {
        terrace_testkit::wait::pause(Duration::from_secs(30)).await;
        other.clock.advance(Duration::from_secs(30));
    }
    until("the dead are removed", || other.remote.keys(&namespace()).len() == 2).await;
    until("the sweep is over", || other.remote.calls(Operation::Retire) == 1).await;
    assert_eq!(other.get("user:3").await.as_deref(), Some("new"));
    assert_eq!(other.remote.sweeps(&namespace()).await.unwrap(), []);
}

#[tokio::test]
async fn losing_the_rules_loses_the_values_and_revives_none() {
    let (node, other) = with_users().await;
    node.remote.sweep(&namespace(), &users()).await.unwrap();
    node.remote.lose_counters();
    node.clock.advance(HOUR / 2);
    for key in ["user:1", "org:1"] {
        assert_eq!(other.get(key).await, None, "nobody knows what was swept");
        assert_eq!(other.texts.get_or_load(key, loader("new")).await.unwrap().as_str(), "new");
        assert_eq!(node.get(key).await.as_deref(), Some("new"));
    }
}

#[tokio::test]
async fn too_many_patterns_are_refused_and_hold_here() {
    let node = Node::first().await;
    let gate = node.remote.hold(Operation::Names, Point::BeforeEffect);
    let other = node.another_without_l1().await;
    for n in 0..64 {
        other.remote.sweep(&namespace(), &matching(&format!("{n}*"))).await.unwrap();
    }
    node.put("k", "old").await;
    let refused = node.texts.invalidate().pattern("k*").unwrap().send().await.unwrap_err();
    assert!(matches!(refused.kind(), terrace::ErrorKind::Remote(_)), "{refused}");
    assert_eq!(node.get("k").await, None, "this node believes L2 no more about what it could not tell");
    gate.open();
}
