//! L2 that hangs, is slow, flaps, or comes back: what a read waits for, what is tried again, and when L2 is asked.

use crate::fixture::{Counted, HOUR, Node, ended, let_others_run, loader, namespace, spawn};
use std::time::Duration;
use terrace::{Breaker, BreakerState, Cache, CacheBuilder, Chance, Clock, Effect, Keyspace, Retry};
use terrace_core::remote::Remote;
use terrace_testkit::fake::{FakeRemote, Fault, Operation, Point};
use terrace_testkit::wait::{pause, until, until_some};
use tokio::time::Instant;

/// As long as a read waits, and by how much it may be late.
const WAIT: Duration = CacheBuilder::L2_WAIT_MAX_DEFAULT;
const TOLERANCE: Duration = Duration::from_millis(25);

#[expect(clippy::disallowed_methods, reason = "the runtime's clock, which the test holds")]
fn now() -> Instant {
    Instant::now()
}

fn state(cache: &Cache) -> BreakerState {
    cache.breaker().expect("there is one").state
}

async fn until_open(node: &Node) {
    until("the breaker to be open", || state(&node.cache) == BreakerState::Open).await;
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_for_a_hung_l2_as_long_as_it_may_and_then_not_at_all() {
    for operation in [Operation::Get, Operation::Lease, Operation::Fill] {
        let node = Node::first().await;
        node.put("hit", "v").await;
        let _hung = node.remote.hold(operation, Point::BeforeEffect);
        for n in 0..40 {
            let since = now();
            let value = node.texts.get_or_load(&n.to_string(), loader("loaded")).await.unwrap();
            assert_eq!(*value, "loaded");
            assert!(since.elapsed() <= WAIT + TOLERANCE, "{operation:?}: {:?}", since.elapsed());
            let since = now();
            assert_eq!(node.get("hit").await.as_deref(), Some("v"));
            assert_eq!(since.elapsed(), Duration::ZERO, "a hit in L1 does not wait");
        }
        if operation == Operation::Get {
            assert_ne!(state(&node.cache), BreakerState::Closed);
            assert!(node.calls(operation) <= u64::from(Breaker::MIN_CALLS_DEFAULT), "then it was left alone");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn plain_reads_and_batches_are_bounded_too_and_also_at_the_start() {
    let remote = FakeRemote::new(Clock::manual());
    let cache = Cache::builder().clock(Clock::manual()).no_l1().l2(remote.clone()).build().unwrap();
    let texts: Keyspace<String, String> = cache.keyspace("texts").build().unwrap();
    let opening = remote.hold(Operation::Open, Point::BeforeEffect);
    for _ in 0..10 {
        let since = now();
        assert_eq!(texts.get("k").await.unwrap(), None);
        assert_eq!(texts.get_many(&["k".to_owned()]).await.unwrap(), [None]);
        assert!(since.elapsed() <= 2 * (WAIT + TOLERANCE), "{:?}", since.elapsed());
    }
    assert_eq!(remote.calls(Operation::Open), 1, "one attempt goes on for all");
    assert_ne!(state(&cache), BreakerState::Closed, "those who waited for it count");
    opening.open();
    let _hung = remote.hold(Operation::GetMany, Point::BeforeEffect);
    let since = now();
    assert_eq!(texts.get_many(&["k".to_owned()]).await.unwrap(), [None]);
    assert!(since.elapsed() <= WAIT + TOLERANCE, "{:?}", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_comes_too_late_is_given_back_and_a_late_fill_is_stored() {
    let node = Node::first().await;
    let other = node.another().await;
    let leasing = node.remote.hold(Operation::Lease, Point::AfterEffect);
    assert_eq!(node.load("k", "own").await, "own");
    leasing.open();
    until("the lease to be given back", || node.calls(Operation::Release) == 1).await;
    assert_eq!(other.load("k", "other's").await, "other's", "nobody holds it");
    let filling = node.remote.hold(Operation::Fill, Point::BeforeEffect);
    assert_eq!(node.load("l", "own").await, "own");
    filling.open();
    until("it to be stored", || node.remote.keys(&namespace()).len() == 2).await;
    assert_eq!(other.get("l").await.as_deref(), Some("own"));
}

#[tokio::test(start_paused = true)]
async fn a_late_fill_is_not_stored_over_an_invalidation() {
    let node = Node::first().await;
    let other = node.another().await;
    let filling = node.remote.hold(Operation::Fill, Point::BeforeEffect);
    assert_eq!(node.load("k", "old").await, "old");
    other.texts.remove("k").await.unwrap();
    filling.open();
    let_others_run().await;
    assert_eq!(other.get("k").await, None);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_costs_neither_reads_nor_changes_anything_and_closes_by_itself() {
    let node = Node::first().await;
    node.put("k", "in l2").await;
    node.remote.set_fault(Some(Fault::TimeoutBeforeEffect));
    for n in 0..20 {
        node.get(&n.to_string()).await;
    }
    assert_eq!(state(&node.cache), BreakerState::Open);
    assert!(node.cache.breaker().unwrap().last_error.is_some());
    node.remote.reset_calls();
    let since = now();
    assert_eq!(node.get("elsewhere").await, None);
    assert_eq!(node.load("elsewhere", "own").await, "own");
    assert_eq!(node.texts.put("p", "v".into()).await.unwrap().effect, Effect::Queued);
    assert_eq!(since.elapsed(), Duration::ZERO);
    for operation in [Operation::Get, Operation::Lease, Operation::Set] {
        assert_eq!(node.calls(operation), 0, "{operation:?}");
    }
    let metrics = node.cache.metrics();
    assert!(metrics.contains("terrace_breaker_state{target=\"l2\",state=\"open\"} 1"), "{metrics}");
    assert!(!node.cache.health().await.is_whole());
    node.remote.set_fault(None);
    node.is_asked_again().await;
    let waited = since.elapsed();
    assert!(waited >= Breaker::OPEN_DEFAULT / 2 && waited <= Breaker::OPEN_DEFAULT * 2, "{waited:?}");
    assert_eq!(node.another().await.get("k").await.as_deref(), Some("in l2"));
    assert_eq!(node.texts.put("p", "v".into()).await.unwrap().effect, Effect::Applied);
    assert!(node.cache.health().await.is_whole());
}

#[tokio::test(start_paused = true)]
async fn a_probe_asks_for_health_one_at_a_time_and_must_be_answered_as_soon_as_a_read() {
    let node = Node::first().await;
    node.remote.set_fault(Some(Fault::TimeoutBeforeEffect));
    for n in 0..20 {
        node.get(&n.to_string()).await;
    }
    node.remote.set_fault(None);
    let slow = node.remote.hold(Operation::Health, Point::BeforeEffect);
    node.remote.reset_calls();
    for _ in 0..60 {
        node.get("k").await;
        pause(Duration::from_millis(500)).await;
    }
    let probes = node.calls(Operation::Health);
    assert!((5..=13).contains(&probes), "{probes} in half a minute");
    assert_ne!(state(&node.cache), BreakerState::Closed);
    assert_eq!(node.calls(Operation::Get), 0);
    slow.open();
    node.is_asked_again().await;
}

#[tokio::test(start_paused = true)]
async fn what_l2_refuses_was_answered() {
    let node = Node::first().await;
    node.remote.set_fault(Some(Fault::Refused));
    for n in 0..100 {
        node.get(&n.to_string()).await;
    }
    assert_eq!(state(&node.cache), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_invalidations_are_delivered_before_l2_is_believed_again() {
    let node = Node::first().await;
    let numbers: Keyspace<u64, u64> = node.cache.keyspace("numbers").no_l1().build().unwrap();
    let keys: Vec<u64> = (0..10_000).collect();
    numbers.put_many(keys.iter().map(|&key| (key, 0))).await.unwrap();
    // What L2 cannot be told of is only the invalidations: it could answer each read with an old value.
    node.remote.set_fault_on(Operation::Get, Some(Fault::TimeoutBeforeEffect));
    node.remote.set_fault_on(Operation::Invalidate, Some(Fault::Unavailable));
    for n in 0..20 {
        numbers.get(&n).await.unwrap();
    }
    until_open(&node).await;
    for batch in keys.chunks(100) {
        assert_eq!(numbers.remove_many(batch).await.unwrap()[0].effect, Effect::Queued);
    }
    assert_eq!(node.cache.stats().pending_invalidations, 10_000);
    node.remote.set_fault_on(Operation::Get, None);
    for _ in 0..40 {
        pause(Duration::from_millis(500)).await;
        assert_ne!(state(&node.cache), BreakerState::Closed, "not before they are delivered");
    }
    node.remote.set_fault_on(Operation::Invalidate, None);
    let mut resurrected = 0;
    let mut asked = 0;
    while asked < 3 {
        pause(Duration::from_millis(100)).await;
        if state(&node.cache) == BreakerState::Closed {
            assert_eq!(node.cache.stats().pending_invalidations, 0);
            node.clock.advance(Breaker::RAMP_DEFAULT);
            asked += 1;
        }
        for batch in keys.chunks(1_000) {
            resurrected += numbers.get_many(batch).await.unwrap().iter().flatten().count();
        }
    }
    assert_eq!(resurrected, 0);
}

/// A node that tries again.
fn retrying(retry: Retry) -> (Keyspace<String, String>, FakeRemote) {
    let clock = Clock::manual();
    let remote = FakeRemote::new(clock.clone());
    let cache = Cache::builder().clock(clock).chance(Chance::seeded(7)).default_ttl(HOUR).l2(remote.clone());
    let cache = cache.retry(retry).build().expect("valid settings");
    (cache.keyspace("texts").build().expect("a new keyspace"), remote)
}

#[tokio::test(start_paused = true)]
async fn only_what_is_safe_is_tried_again() {
    let cases = [
        (Operation::Set, Fault::Unavailable, Effect::Applied, 2),
        (Operation::Set, Fault::TimeoutBeforeEffect, Effect::Queued, 1),
        (Operation::Set, Fault::TimeoutAfterEffect, Effect::Queued, 1),
        (Operation::Set, Fault::BrokenAfterEffect, Effect::Queued, 1),
    ];
    for (operation, fault, effect, calls) in cases {
        let (texts, remote) = retrying(Retry::default());
        texts.contains("the first call").await.unwrap();
        remote.fail_next(operation, fault);
        assert_eq!(texts.put("k", "v".into()).await.unwrap().effect, effect, "{fault:?}");
        assert_eq!(remote.calls(operation), calls, "{fault:?}");
    }
    for fault in [Fault::Unavailable, Fault::TimeoutBeforeEffect, Fault::BrokenAfterEffect] {
        let (texts, remote) = retrying(Retry::default());
        let other: Keyspace<String, String> =
            Cache::builder().l2(remote.another_node()).build().unwrap().keyspace("texts").build().unwrap();
        other.put("k", "v".into()).await.unwrap();
        texts.contains("the first call").await.unwrap();
        remote.reset_calls();
        remote.fail_next(Operation::Get, fault);
        assert!(texts.get("k").await.unwrap().is_some(), "{fault:?}: a question is asked again");
        assert_eq!(remote.calls(Operation::Get), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_tries_again_only_while_it_may_wait() {
    let slow = Retry::default().max(100).base(Duration::from_millis(400)).cap(Duration::from_millis(400));
    for retry in [Retry::default(), slow, Retry::never()] {
        let (texts, remote) = retrying(retry);
        texts.contains("the first call").await.unwrap();
        remote.set_fault(Some(Fault::Unavailable));
        let since = now();
        assert_eq!(texts.get("k").await.unwrap(), None);
        assert!(since.elapsed() <= WAIT + TOLERANCE, "{retry:?}: {:?}", since.elapsed());
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let refused = |builder: CacheBuilder| builder.build().expect_err("refused").setting;
    let builder = Cache::builder;
    assert_eq!(refused(builder().l2_wait_max(Duration::ZERO)), "l2_wait_max");
    assert_eq!(refused(builder().breaker(Breaker::default().failures(1.5))), "breaker.failures");
    assert_eq!(refused(builder().retry(Retry::default().cap(Duration::from_millis(1)))), "retry.cap");
    assert!(builder().no_breaker().retry(Retry::never()).build().is_ok());
}

/// Four nodes that lost L2 together, under load; it comes back empty. What L2 and the origin are asked in the
/// busiest tenth of a second after that, and how long it takes until L2 answers again.
async fn herd(ramp: Duration) -> (u64, u64) {
    const NODES: u64 = 4;
    let clock = Clock::manual();
    let remote = FakeRemote::new(clock.clone());
    let counted = Counted::default();
    let nodes: Vec<_> = (0..NODES)
        .map(|seed| {
            let own = if seed == 0 { remote.clone() } else { remote.another_node() };
            let builder = Cache::builder().clock(clock.clone()).chance(Chance::seeded(seed)).no_l1();
            let cache = builder
                .breaker(Breaker::default().ramp(ramp))
                .l2(own.clone())
                .build()
                .expect("valid settings");
            let texts: Keyspace<u64, String> = cache.keyspace("texts").build().expect("a new keyspace");
            (cache, texts, own)
        })
        .collect();
    let tick = Duration::from_millis(100);
    let (mut peak_calls, mut peak_loads) = (0, 0);
    for second_tenth in 0..220_u64 {
        for (_, _, own) in &nodes {
            match second_tenth {
                20 => own.set_fault(Some(Fault::Unavailable)),
                60 => own.set_fault(None),
                _ => {}
            }
            own.reset_calls();
        }
        if second_tenth == 60 {
            remote.flush();
        }
        let loads = counted.runs();
        for (_, texts, _) in &nodes {
            for n in 0..25 {
                let key = (second_tenth * 31 + n * 7) % 500;
                texts.get_or_load(&key, counted.loader("v")).await.expect("it does not fail");
            }
        }
        clock.advance(tick);
        pause(tick).await;
        if second_tenth >= 60 {
            let calls = nodes.iter().map(|(_, _, own)| own.calls_total()).sum::<u64>();
            peak_calls = peak_calls.max(calls);
            peak_loads = peak_loads.max(counted.runs() - loads);
        }
    }
    assert!(nodes.iter().all(|(cache, ..)| state(cache) == BreakerState::Closed), "all are back");
    let all = nodes.iter().map(|(cache, ..)| cache.stats().total.hits_l2).sum::<u64>();
    assert!(all > 0, "L2 answers again");
    (peak_calls, peak_loads)
}

#[tokio::test(start_paused = true)]
async fn nodes_that_lost_l2_together_do_not_fall_upon_it_together() {
    let (calls, loads) = herd(Breaker::RAMP_DEFAULT).await;
    let (calls_at_once, loads_at_once) = herd(Duration::ZERO).await;
    println!(
        "busiest tenth of a second after an outage, 4 nodes, 100 reads: {calls} calls of L2 and {loads} loads with \
         the ramp, {calls_at_once} and {loads_at_once} without"
    );
    assert!(calls < calls_at_once, "{calls} of {calls_at_once}");
}

#[tokio::test(start_paused = true)]
async fn a_flapping_l2_is_asked_little() {
    let node = Node::first().await;
    let mut tasks = Vec::new();
    node.remote.reset_calls();
    for half_second in 0..60_u64 {
        let fault = (half_second % 2 == 0).then_some(Fault::TimeoutBeforeEffect);
        node.remote.set_fault(fault);
        for n in 0..30 {
            let texts = node.texts.clone();
            let key = format!("{half_second}:{n}");
            tasks.push(spawn(async move { texts.get(&key).await.unwrap() }));
        }
        node.clock.advance(Duration::from_millis(500));
        pause(Duration::from_millis(500)).await;
    }
    for task in tasks {
        ended(task).await;
    }
    let asked = node.calls(Operation::Get);
    println!("1,800 reads in 30 s of an L2 that fails every other half second: it was asked {asked} times");
    assert!(asked < 1_200, "{asked}");
    let alive = node.remote.health().await;
    assert!(alive.is_ok());
    until_some("it to be asked again", async || (state(&node.cache) == BreakerState::Closed).then_some(()))
        .await;
}
