//! Invalidations that are to come, what they would remove, and invalidators.

use crate::fixture::{Node, key, namespace};
use std::time::Duration;
use terrace::Remote;
use terrace::{Cache, Effect, EntryOptions, InvalidationPolicy, L1};
use terrace_core::remote::{Delayed, Named, SweepRule};
use terrace_testkit::fake::{Fault, Operation};
use terrace_testkit::wait::{pause, until_some};

const DELAY: Duration = Duration::from_secs(5);

/// Lets both the runtime's time and the nodes' go on.
async fn pass(node: &Node, time: Duration) {
    node.clock.advance(time);
    pause(time).await;
}

async fn is_gone(node: &Node, key: &str) {
    until_some("it is invalidated", async || node.get(key).await.is_none().then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_delayed_holds_when_it_is_due_and_not_before() {
    let node = Node::first().await;
    let other = node.another_without_l1().await;
    node.put("k", "old").await;
    node.put("user:1", "old").await;
    let tagged = EntryOptions::default().tag("t").unwrap();
    node.texts.put_with("tagged", "old".to_owned(), tagged).await.unwrap();
    let named = node.texts.invalidate().keys(["k"]).pattern("user:*").unwrap().tag("t").unwrap();
    let later = named.after(DELAY).send().await.unwrap();
    assert_eq!((later.count, later.is_exact, later.effect), (0, false, Effect::Later));
    pass(&node, DELAY * 9 / 10).await;
    for key in ["k", "user:1", "tagged"] {
        assert!(node.get(key).await.is_some() && other.get(key).await.is_some(), "{key}");
    }
    pass(&node, DELAY / 5).await;
    for key in ["k", "user:1", "tagged"] {
        is_gone(&node, key).await;
        is_gone(&other, key).await;
    }
    until_some("it is forgotten", async || {
        let due = node.remote.due(&namespace()).await.unwrap();
        (due.now.is_empty() && due.next.is_none()).then_some(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_delayed_outlives_who_asked_for_it() {
    let node = Node::first().await;
    let other = node.another().await;
    other.put("k", "old").await;
    node.texts.invalidate().keys(["k"]).after(DELAY).send().await.unwrap();
    node.cache.shutdown(Duration::from_secs(1)).await.unwrap();
    pass(&other, DELAY).await;
    for _ in 0..4 {
        pass(&other, Duration::from_secs(5)).await;
    }
    is_gone(&other, "k").await;
}

#[tokio::test(start_paused = true)]
async fn who_dies_while_making_it_is_stood_in_for() {
    let node = Node::first().await;
    let other = node.another().await;
    other.put("k", "old").await;
    let noted = Delayed { id: 1, named: Named::Key(key("k")) };
    node.remote.delay(&namespace(), &[noted], Duration::ZERO).await.unwrap();
    assert_eq!(node.remote.due(&namespace()).await.unwrap().now.len(), 1, "taken, and never made");
    pass(&other, Duration::from_secs(16)).await;
    assert!(other.get("k").await.is_some(), "it was taken lately");
    for _ in 0..4 {
        pass(&other, Duration::from_secs(16)).await;
    }
    is_gone(&other, "k").await;
}

#[tokio::test]
async fn what_cannot_be_noted_is_an_error() {
    let node = Node::first().await;
    node.put("k", "old").await;
    node.remote.set_fault_on(Operation::Delay, Some(Fault::Unavailable));
    node.texts.invalidate().keys(["k"]).after(DELAY).send().await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn without_l2_what_is_delayed_waits_in_the_process() {
    let cache = Cache::memory().unwrap();
    let texts = cache.keyspace::<String, String>("texts").build().unwrap();
    texts.put("k", "old".to_owned()).await.unwrap();
    texts.invalidate().keys(["k"]).after(DELAY).send().await.unwrap();
    pause(DELAY / 2).await;
    assert!(texts.peek("k").is_some());
    pause(DELAY).await;
    assert!(texts.peek("k").is_none());
}

#[tokio::test]
async fn a_preview_counts_what_there_is_and_changes_nothing() {
    let node = Node::first().await;
    let reader = node.another_without_l1().await;
    for n in 0..20 {
        node.put(&format!("user:{n}"), "v").await;
    }
    let tagged = EntryOptions::default().tag("t").unwrap();
    node.texts.put_with("tagged", "v".to_owned(), tagged).await.unwrap();
    let named = reader.texts.invalidate().keys(["tagged", "none", "user:1"]).pattern("user:1*").unwrap();
    let preview = named.preview().await.unwrap();
    assert_eq!((preview.matched, preview.is_exact), (12, true), "one is named twice");
    assert_eq!((preview.sample.len(), preview.sample[0].as_str()), (10, "tagged"));
    let by_tag = node.texts.invalidate().tag("t").unwrap().preview().await.unwrap();
    assert_eq!((by_tag.matched, by_tag.is_exact), (1, false), "L2 does not say who has a tag");
    for n in 0..20 {
        assert!(node.texts.peek(&format!("user:{n}")).is_some());
    }
    node.texts.clear().await.unwrap();
    assert_eq!(node.texts.invalidate().pattern("*").unwrap().preview().await.unwrap().matched, 0);
}

#[tokio::test]
async fn a_preview_of_what_is_dead_in_memory_is_empty() {
    let cache = Cache::builder().l1(L1::entries(100_000)).build().unwrap();
    let texts = cache.keyspace::<String, String>("texts").build().unwrap();
    let entries = (0..20_000).map(|n| (format!("k{n}"), "v".to_owned()));
    texts.put_many(entries).await.unwrap();
    let all = || texts.invalidate().pattern("k*").unwrap();
    assert_eq!(all().preview().await.unwrap().matched, 20_000);
    all().send().await.unwrap();
    assert_eq!(all().preview().await.unwrap().matched, 0);
}

#[tokio::test(start_paused = true)]
async fn an_invalidator_does_what_its_policy_says() {
    let node = Node::first().await;
    for (policy, effect) in [
        (InvalidationPolicy::Immediate, Effect::Applied),
        (InvalidationPolicy::Delayed(DELAY), Effect::Later),
        (InvalidationPolicy::Lazy, Effect::Later),
    ] {
        for key in ["user:1", "team:1", "org:1"] {
            node.put(key, "old").await;
        }
        let invalidator = node.texts.invalidator(policy);
        for pattern in ["user:*", "team:*", "user:*", "org:*"] {
            invalidator.register(pattern).unwrap();
        }
        assert!(invalidator.unregister("org:*") && !invalidator.unregister("org:*"));
        assert_eq!(invalidator.registered(), ["user:*", "team:*"]);
        assert_eq!(invalidator.policy(), policy);
        let done = invalidator.invalidate_registered().await.unwrap();
        assert_eq!(done.effect, effect);
        let is_there = node.get("user:1").await.is_some();
        assert_eq!(is_there, effect == Effect::Later);
        pass(&node, DELAY + Duration::from_secs(1)).await;
        if policy == InvalidationPolicy::Lazy {
            assert!(node.get("user:1").await.is_some());
        } else {
            is_gone(&node, "user:1").await;
            is_gone(&node, "team:1").await;
        }
        assert!(node.get("org:1").await.is_some());
        let one = invalidator.invalidate().keys(["none"]).send().await.unwrap();
        assert_eq!(one.effect, effect);
    }
    node.texts.invalidator(InvalidationPolicy::Lazy).register("").unwrap_err();
}

#[tokio::test]
async fn rules_are_named_in_delayed_invalidations_too() {
    let node = Node::first_without_l1().await;
    node.put("k", "old").await;
    let noted = Delayed { id: 7, named: Named::Rule(SweepRule::All) };
    node.remote.delay(&namespace(), std::slice::from_ref(&noted), Duration::ZERO).await.unwrap();
    let due = node.remote.due(&namespace()).await.unwrap();
    assert_eq!(due.now, [noted]);
    assert_eq!(node.remote.due(&namespace()).await.unwrap().now, [], "it was taken");
    node.remote.done(&namespace(), &due.now).await.unwrap();
    assert_eq!(node.remote.due(&namespace()).await.unwrap().next, None);
}
