//! L2 in trouble: reads go on, changes hold on this node, and nothing old comes back.

use crate::fixture::{Counted, HOUR, Node, ended, key, loader, namespace, runtime, spawn};
use std::time::Duration;
use terrace::{Breaker, Cache, Clock, Effect, EntryOptions, Error, ErrorKind, Keyspace, Tier, Version};
use terrace_testkit::fake::{FakeRemote, Fault, Operation, Point};
use terrace_testkit::wait::{pause, until};

const FAULTS: [Fault; 6] = [
    Fault::Unavailable,
    Fault::TimeoutBeforeEffect,
    Fault::TimeoutAfterEffect,
    Fault::BrokenAfterEffect,
    Fault::Refused,
    Fault::Protocol,
];

const fn is_queued(fault: Fault) -> bool {
    !matches!(fault, Fault::Refused | Fault::Protocol)
}

async fn drained(node: &Node) {
    until("the invalidations to be delivered", || node.cache.stats().pending_invalidations == 0).await;
}

#[tokio::test(start_paused = true)]
async fn reads_degrade_to_misses_and_are_counted() {
    for fault in FAULTS {
        let node = Node::first().await;
        node.another().await.put("k", "in l2").await;
        node.remote.set_fault(Some(fault));
        assert_eq!(node.get("k").await, None, "{fault:?}");
        assert!(!node.texts.contains("k").await.unwrap(), "{fault:?}");
        assert_eq!(node.texts.get_many(&["k".to_owned()]).await.unwrap(), [None], "{fault:?}");
        let counted = Counted::default();
        for _ in 0..3 {
            assert_eq!(
                *node.texts.get_or_load("k", counted.loader("own")).await.unwrap(),
                "own",
                "{fault:?}"
            );
        }
        assert_eq!(counted.runs(), 1, "{fault:?}: what was loaded is kept for a while");
        let stats = node.cache.stats().total;
        assert!(stats.l2_errors >= 4, "{fault:?}: {}", stats.l2_errors);
        assert_eq!(node.entry("k").await.unwrap().version, Version::ZERO, "{fault:?}: L2 gives versions");
        let health = node.cache.health().await;
        assert!(!health.is_whole() && health.l2.unwrap().is_err(), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_loaded_or_put_without_l2_stays_half_a_minute() {
    let node = Node::first().await;
    let other = node.another().await;
    node.remote.set_fault(Some(Fault::Unavailable));
    node.load("loaded", "v").await;
    node.put("put", "v").await;
    node.remote.set_fault_on(Operation::Fill, Some(Fault::TimeoutBeforeEffect));
    node.remote.set_fault(None);
    drained(&node).await;
    node.load("not filled", "v").await;
    let names = ["loaded", "put", "not filled"];
    for name in names {
        assert_eq!(node.texts.peek(name).as_deref().map(String::as_str), Some("v"), "{name}");
        other.put(name, "newer").await;
    }
    node.clock.advance(Duration::from_secs(30));
    for name in names {
        assert_eq!(node.source(name).await, Some((Tier::L2, "newer".to_owned())), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn writes_hold_on_this_node_and_reach_l2_when_it_is_back() {
    for fault in FAULTS {
        for has_l1 in [true, false] {
            let node = if has_l1 { Node::first().await } else { Node::first_without_l1().await };
            let other = node.another_without_l1().await;
            node.put("k", "old").await;
            node.remote.set_fault_on(Operation::Set, Some(fault));
            node.remote.set_fault_on(Operation::Invalidate, Some(Fault::Unavailable));
            let result = node.texts.put("k", "new".to_owned()).await;
            if is_queued(fault) {
                let written = result.unwrap();
                assert_eq!((written.effect, written.version), (Effect::Queued, Version::ZERO), "{fault:?}");
            } else {
                assert!(matches!(result.unwrap_err().kind(), ErrorKind::Remote(_)), "{fault:?}");
            }
            let expected = (is_queued(fault) && has_l1).then_some("new");
            assert_eq!(node.get("k").await.as_deref(), expected, "{fault:?} {has_l1}: L2 is not believed");
            assert_eq!(node.cache.health().await.pending_invalidations, 1, "{fault:?}");
            node.remote.set_fault_on(Operation::Invalidate, None);
            drained(&node).await;
            assert_eq!(other.get("k").await, None, "{fault:?}: the old value is gone from L2");
            assert_ne!(node.get("k").await.as_deref(), Some("old"), "{fault:?}");
            node.remote.set_fault_on(Operation::Set, None);
            assert_eq!(node.put("k", "newer").await.effect, Effect::Applied);
            assert_eq!(other.get("k").await.as_deref(), Some("newer"), "{fault:?}");
        }
    }
}

/// Makes every way to remove fail like this.
fn set_on(node: &Node, fault: Option<Fault>) {
    for operation in [Operation::Invalidate, Operation::BumpTags, Operation::Sweep] {
        node.remote.set_fault_on(operation, fault);
    }
}

/// A removal, by one of the ways that name `k`.
async fn remove(node: &Node, how: &str) -> Result<Effect, Error> {
    let named = node.texts.invalidate();
    match how {
        "remove" => node.texts.remove("k").await.map(|removed| removed.effect),
        "remove_many" => {
            node.texts.remove_many(&["k".to_owned(), "l".to_owned()]).await.map(|removed| removed[0].effect)
        }
        "key" => named.keys(["k"]).send().await.map(|done| done.effect),
        "tag" => named.tag("t").expect("a tag").send().await.map(|done| done.effect),
        "pattern" => named.pattern("k*").expect("a pattern").send().await.map(|done| done.effect),
        "clear" => node.texts.clear().await.map(|done| done.effect),
        other => panic!("{other} is no removal"),
    }
}

#[tokio::test(start_paused = true)]
async fn removals_hold_on_this_node_and_reach_l2_when_it_is_back() {
    for fault in FAULTS {
        for how in ["remove", "remove_many", "key", "tag", "pattern", "clear"] {
            for has_l1 in [true, false] {
                let node = if has_l1 { Node::first().await } else { Node::first_without_l1().await };
                let other = node.another_without_l1().await;
                let tagged = EntryOptions::default().tag("t").unwrap();
                node.texts.put_with("k", "old".to_owned(), tagged).await.unwrap();
                set_on(&node, Some(fault));
                let result = remove(&node, how).await;
                let context = format!("{how} {fault:?} {has_l1}");
                assert_eq!(result.is_ok(), is_queued(fault), "{context}");
                assert!(result.is_err() || result.unwrap() == Effect::Queued, "{context}");
                assert_eq!(node.get("k").await, None, "{context}");
                assert_eq!(node.texts.get_many(&["k".to_owned()]).await.unwrap(), [None], "{context}");
                assert_eq!(node.load("k", "loaded").await, "loaded", "{context}");
                set_on(&node, None);
                drained(&node).await;
                assert_ne!(node.get("k").await.as_deref(), Some("old"), "{context}");
                assert_ne!(other.get("k").await.as_deref(), Some("old"), "{context}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_invalidations_while_l2_is_away_bring_nothing_back() {
    let node = Node::first().await;
    let numbers: Keyspace<u64, u64> = node.cache.keyspace("numbers").build().unwrap();
    let keys: Vec<u64> = (0..10_000).collect();
    numbers.put_many(keys.iter().map(|&key| (key, 0))).await.unwrap();
    node.remote.set_fault(Some(Fault::Unavailable));
    for key in &keys {
        let effect = if key % 2 == 0 {
            numbers.put(key, 1).await.unwrap().effect
        } else {
            numbers.remove(key).await.unwrap().effect
        };
        assert_eq!(effect, Effect::Queued);
    }
    node.clock.advance(HOUR / 2);
    node.remote.set_fault(None);
    let mut resurrected = 0;
    let mut is_over = false;
    while !is_over {
        is_over = node.cache.health().await.is_whole();
        if is_over {
            // All reads ask L2 again.
            node.clock.advance(Breaker::RAMP_DEFAULT);
        }
        for batch in keys.chunks(1_000) {
            let found = numbers.get_many(batch).await.unwrap();
            resurrected += found.iter().flatten().filter(|value| ***value == 0).count();
            pause(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(resurrected, 0);
    assert!(node.calls(Operation::GetMany) >= 10, "L2 was asked again");
}

#[tokio::test(start_paused = true)]
async fn too_many_to_remember_become_everything() {
    let node = Node::first_without_l1().await;
    let other = node.another_without_l1().await;
    node.put("never touched", "old").await;
    node.remote.set_fault(Some(Fault::Unavailable));
    let keys: Vec<String> = (0..70_000).map(|n| n.to_string()).collect();
    for keys in keys.chunks(10_000) {
        assert_eq!(node.texts.remove_many(keys).await.unwrap()[0].effect, Effect::Queued);
    }
    let pending = node.cache.health().await.pending_invalidations;
    assert!(pending < 65_536, "{pending} wait");
    node.remote.set_fault_on(Operation::Sweep, Some(Fault::Unavailable));
    node.remote.set_fault(None);
    assert_eq!(node.get("never touched").await, None, "everything is distrusted");
    node.remote.set_fault_on(Operation::Sweep, None);
    drained(&node).await;
    assert_eq!(other.get("never touched").await, None, "and gone");
    node.is_asked_again().await;
    node.put("k", "v").await;
    assert_eq!(other.get("k").await.as_deref(), Some("v"));
}

#[tokio::test(start_paused = true)]
async fn an_l2_that_answers_now_and_then_is_told_everything() {
    let node = Node::first().await;
    node.remote.set_fault(Some(Fault::Unavailable));
    let keys: Vec<String> = (0..3_000).map(|n| n.to_string()).collect();
    node.texts.remove_many(&keys).await.unwrap();
    node.remote.set_fault(None);
    let gate = node.remote.hold(Operation::Invalidate, Point::BeforeEffect);
    gate.wait_until_held(1).await;
    node.remote.reset_calls();
    let calls = 2 * keys.len().div_ceil(512) - 1;
    for call in 0..calls {
        gate.wait_until_held(1).await;
        if call % 2 == 0 {
            node.remote.fail_next(Operation::Invalidate, Fault::TimeoutBeforeEffect);
        }
        gate.release_one();
    }
    gate.open();
    drained(&node).await;
    assert_eq!(node.calls(Operation::Invalidate), calls as u64 - 1, "every second one brought something");
}

#[tokio::test(start_paused = true)]
async fn what_l2_refuses_does_not_hold_up_the_rest() {
    let node = Node::first().await;
    node.put("k", "old").await;
    node.remote.set_fault(Some(Fault::Unavailable));
    node.texts.remove("other").await.unwrap();
    node.texts.invalidate().pattern("k*").unwrap().tag("t").unwrap().send().await.unwrap();
    for operation in [Operation::Invalidate, Operation::BumpTags] {
        node.remote.set_fault_on(operation, Some(Fault::Refused));
    }
    node.remote.set_fault(None);
    until("the pattern to be delivered", || node.remote.keys(&namespace()).is_empty()).await;
    until("it to be forgotten", || node.cache.stats().pending_invalidations == 2).await;
    for operation in [Operation::Invalidate, Operation::BumpTags] {
        node.remote.set_fault_on(operation, None);
    }
    drained(&node).await;
}

#[tokio::test]
async fn an_invalidation_is_carried_out_as_far_as_it_can_be() {
    let node = Node::first().await;
    let other = node.another_without_l1().await;
    for name in ["k", "pattern"] {
        node.put(name, "old").await;
    }
    let tagged = EntryOptions::default().tag("t").unwrap();
    node.texts.put_with("tagged", "old".to_owned(), tagged).await.unwrap();
    node.remote.fail_next(Operation::Invalidate, Fault::Refused);
    let named = node.texts.invalidate().keys(["k"]).tag("t").unwrap().pattern("p*").unwrap();
    assert!(matches!(named.send().await.unwrap_err().kind(), ErrorKind::Remote(_)));
    for name in ["k", "tagged", "pattern"] {
        assert_eq!(node.get(name).await, None, "{name}");
    }
    assert_eq!((other.get("tagged").await, other.get("pattern").await), (None, None));
}

#[tokio::test]
async fn changes_go_on_when_their_caller_goes_away() {
    let node = Node::first().await;
    let other = node.another_without_l1().await;
    for name in ["k", "pattern"] {
        node.put(name, "old").await;
    }
    let gate = node.remote.hold(Operation::Invalidate, Point::BeforeEffect);
    let named = node.texts.invalidate().keys(["k"]).pattern("p*").unwrap();
    let sending = spawn(named.send());
    gate.wait_until_held(1).await;
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
    gate.open();
    until("both to be gone", || node.remote.keys(&namespace()).is_empty()).await;
    let gate = node.remote.hold(Operation::Set, Point::BeforeEffect);
    let putting = node.putting("k", "new");
    gate.wait_until_held(1).await;
    putting.abort();
    gate.open();
    until("the value to be there", || node.remote.keys(&namespace()) == [key("k")]).await;
    assert_eq!((node.get("k").await, other.get("k").await), (Some("new".into()), Some("new".into())));
}

#[tokio::test]
async fn of_two_writes_at_the_same_time_an_uncertain_one_does_not_hide_a_certain_one() {
    for fault in [Fault::TimeoutBeforeEffect, Fault::TimeoutAfterEffect] {
        let node = Node::first().await;
        node.remote.fail_next(Operation::Set, fault);
        let gate = node.remote.hold(Operation::Set, Point::AfterEffect);
        let uncertain = node.putting("k", "uncertain");
        gate.wait_until_held(1).await;
        node.remote.hold(Operation::Set, Point::AfterEffect).open();
        assert_eq!(node.put("k", "certain").await.effect, Effect::Applied);
        gate.open();
        assert_eq!(ended(uncertain).await.unwrap().effect, Effect::Queued);
        assert_ne!(node.get("k").await.as_deref(), Some("uncertain"), "{fault:?}: it may be the older one");
    }
}

#[tokio::test]
async fn a_write_that_cannot_reach_l2_replaces_what_was_read_from_it_meanwhile() {
    let node = Node::first().await;
    node.another().await.put("k", "old").await;
    node.remote.fail_next(Operation::Set, Fault::TimeoutBeforeEffect);
    node.remote.set_fault_on(Operation::Invalidate, Some(Fault::Unavailable));
    let gate = node.remote.hold(Operation::Set, Point::BeforeEffect);
    let putting = node.putting("k", "new");
    gate.wait_until_held(1).await;
    assert_eq!(node.source("k").await, Some((Tier::L2, "old".to_owned())));
    gate.open();
    assert_eq!(ended(putting).await.unwrap().effect, Effect::Queued);
    assert_eq!(node.source("k").await, Some((Tier::L1, "new".to_owned())));
}

#[test]
fn a_delivery_that_went_down_with_its_runtime_is_taken_up_by_the_next_reader() {
    let clock = Clock::manual();
    let remote = FakeRemote::new(clock.clone());
    let cache = Cache::builder().clock(clock).no_l1().l2(remote.clone()).build().unwrap();
    let texts: Keyspace<String, String> = cache.keyspace("texts").build().unwrap();
    runtime().block_on(async {
        texts.put("k", "old".to_owned()).await.unwrap();
        remote.set_fault(Some(Fault::Unavailable));
        assert_eq!(texts.remove("k").await.unwrap().effect, Effect::Queued);
    });
    remote.set_fault(None);
    runtime().block_on(async {
        assert_eq!(texts.get("k").await.unwrap(), None);
        until("the removal to be delivered", || cache.stats().pending_invalidations == 0).await;
        assert!(remote.keys(&namespace()).is_empty());
        assert_eq!(*texts.get_or_load("k", loader("new")).await.unwrap(), "new");
    });
}
