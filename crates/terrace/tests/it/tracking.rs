//! Nodes that hear of writers that are not terrace.

use crate::fixture::{Counted, HOUR, Node, ended, key, let_others_run, namespace};
use bytes::Bytes;
use std::time::Duration;
use terrace::Tier;
use terrace_testkit::fake::{Operation, Point};
use terrace_testkit::wait::{until, until_some};

/// A copy in L1 that counts as fresh.
fn has_copy(node: &Node, key: &str) -> bool {
    node.texts.peek(key).is_some()
}

/// Reads until L1 has a copy.
async fn keeps(node: &Node, key: &str) {
    until_some("a copy is kept", async || {
        node.get(key).await;
        has_copy(node, key).then_some(())
    })
    .await;
}

/// Two nodes that have copies of `k` and `other` in L1.
async fn two() -> [Node; 2] {
    let writer = Node::first_tracking().await;
    let nodes = [writer.another_tracking().await, writer.another_tracking().await];
    for key in ["k", "other"] {
        writer.put(key, "old").await;
        for node in &nodes {
            keeps(node, key).await;
        }
    }
    nodes
}

#[tokio::test]
async fn what_a_stranger_removes_or_replaces_is_dropped_everywhere_and_nothing_else() {
    let nodes = two().await;
    let remote = nodes[0].remote.clone();
    for act in [0, 1, 2] {
        match act {
            0 => assert!(remote.evict(&namespace(), &key("k"))),
            1 => remote.tamper(&namespace(), &key("k"), Bytes::from_static(b"foreign bytes")),
            _ => assert!(remote.expire(&namespace(), &key("k"), Duration::from_secs(1))),
        }
        for node in &nodes {
            until("the copy is dropped", || !has_copy(node, "k")).await;
            assert!(has_copy(node, "other"));
        }
        let expected = if act == 2 { Some("new") } else { None };
        assert_eq!(nodes[1].get("k").await.as_deref(), expected, "{act}");
        nodes[0].put("k", "new").await;
        for node in &nodes {
            keeps(node, "k").await;
        }
    }
}

#[tokio::test]
async fn a_copy_ends_when_a_stranger_says_so() {
    let [node, _other] = two().await;
    node.remote.expire(&namespace(), &key("k"), Duration::from_secs(5));
    until("the copy is dropped", || !has_copy(&node, "k")).await;
    keeps(&node, "k").await;
    node.clock.advance(Duration::from_secs(5));
    assert!(!has_copy(&node, "k"), "it was read with the time that was left");
    assert_eq!(node.get("k").await, None);
}

#[tokio::test]
async fn a_flush_drops_everything() {
    let nodes = two().await;
    nodes[0].remote.flush();
    for node in &nodes {
        until("the copies are dropped", || !has_copy(node, "k") && !has_copy(node, "other")).await;
        assert_eq!(node.get("k").await, None);
    }
}

#[tokio::test]
async fn what_was_touched_while_nobody_heard_is_not_known_and_everything_is_dropped() {
    let [node, _other] = two().await;
    node.remote.cut_bus();
    node.remote.evict(&namespace(), &key("k"));
    assert!(has_copy(&node, "k"), "within the lease");
    node.remote.mend_bus();
    until("the copies are dropped", || !has_copy(&node, "k") && !has_copy(&node, "other")).await;
    assert_eq!(node.get("k").await, None);
    assert_eq!(node.source("other").await, Some((Tier::L2, "old".to_owned())));
}

#[tokio::test]
async fn what_was_read_before_a_touch_is_not_kept_after_it() {
    let [node, _other] = two().await;
    node.remote.expire(&namespace(), &key("k"), HOUR);
    until("the copy is dropped", || !has_copy(&node, "k")).await;
    let gate = node.remote.hold(Operation::Get, Point::AfterEffect);
    let reading = node.getting("k");
    gate.wait_until_held(1).await;
    node.remote.evict(&namespace(), &key("k"));
    let_others_run().await;
    gate.open();
    assert_eq!(ended(reading).await.as_deref(), Some("old"), "it began before");
    assert!(!has_copy(&node, "k"));
    assert_eq!(node.get("k").await, None);
}

#[tokio::test]
async fn an_own_change_and_a_fill_cost_one_read_of_l2_and_no_load() {
    let node = Node::first_tracking().await;
    let reader = node.another_tracking().await;
    node.put("k", "v").await;
    until("its own touch is heard", || !has_copy(&node, "k")).await;
    let loads = Counted::default();
    let loaded = node.texts.get_or_load("loaded", loads.loader("v")).await.expect("it loads");
    assert_eq!(*loaded, "v");
    until("its own touch is heard", || !has_copy(&node, "loaded")).await;
    for node in [&node, &reader] {
        node.remote.reset_calls();
        for key in ["k", "loaded"] {
            for _ in 0..3 {
                let found = node.texts.get_or_load(key, loads.loader("never")).await.expect("it is there");
                assert_eq!(*found, "v");
            }
        }
        assert_eq!((node.calls(Operation::Get), node.calls(Operation::Lease)), (2, 0));
        assert!(has_copy(node, "k") && has_copy(node, "loaded"));
    }
    assert_eq!(loads.runs(), 1);
}
