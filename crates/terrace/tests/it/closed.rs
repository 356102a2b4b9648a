//! Keyspaces that fail closed: while L2 cannot be asked nobody is asked instead, and no key is said to be absent.

use crate::fixture::{Counted, HOUR, LEASE, Node, Texts, ended, let_others_run, loader, spawn};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use terrace::{
    BreakerState, CacheBuilder, Effect, EntryOptions, Error, ErrorKind, LoadError, OriginFn, ReadOptions,
    StaleReason, SuspectPolicy, Tier,
};
use terrace_testkit::fake::{Fault, Operation, Point};
use terrace_testkit::wait::{until, until_some};
use tokio::time::Instant;

const FAULTS: [Fault; 5] = [
    Fault::Unavailable,
    Fault::TimeoutBeforeEffect,
    Fault::BrokenAfterEffect,
    Fault::Refused,
    Fault::Protocol,
];

const TTL: Duration = Duration::from_mins(1);

#[expect(clippy::disallowed_methods, reason = "the runtime's clock, which the test holds")]
fn now() -> Instant {
    Instant::now()
}

/// The node's keyspace that fails closed.
fn closed(node: &Node) -> Texts {
    let keyspace = node.cache.keyspace("closed").ttl(HOUR).fail_closed();
    keyspace.build().expect("valid settings")
}

fn refused<T: fmt::Debug>(result: Result<T, Error>) {
    let error = result.expect_err("L2 cannot be asked");
    assert!(matches!(error.kind(), ErrorKind::L2Unavailable), "{error}");
    assert!(error.is_unavailable() && error.is_retryable(), "{error}");
}

fn text(value: Option<Arc<String>>) -> Option<String> {
    value.map(|value| (*value).clone())
}

fn not_loaded<T: fmt::Debug>(result: Result<T, LoadError<Infallible>>) {
    let error = result.expect_err("L2 cannot be asked");
    assert!(matches!(error.cache(), Some(ErrorKind::L2Unavailable)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_l1_has_not_fails_and_no_origin_is_asked() {
    for fault in FAULTS {
        let node = Node::first().await;
        let (texts, counted) = (closed(&node), Counted::default());
        closed(&node.another().await).put("k", "in l2".to_owned()).await.unwrap();
        texts.get("open").await.unwrap();
        node.remote.set_fault(Some(fault));
        let keys = ["k".to_owned(), "l".to_owned()];
        refused(texts.get("k").await);
        refused(texts.get_entry("k").await);
        refused(texts.contains("k").await);
        refused(texts.get_many(&keys).await);
        for result in texts.get_each_entry(&keys).await {
            refused(result);
        }
        not_loaded(texts.get_or_load("k", counted.loader("own")).await);
        let loads = counted.clone();
        let many = move |keys: Vec<String>| {
            let loading = loads.loader("own")();
            async move {
                let value = loading.await;
                keys.iter().map(|_| value.clone().map(Some)).collect()
            }
        };
        for result in texts.get_or_load_many(&keys, many).await {
            not_loaded(result);
        }
        assert_eq!(counted.runs(), 0, "{fault:?}");
        let stats = node.cache.stats().total;
        assert_eq!((stats.loads, stats.lookups_failed), (0, 9), "{fault:?}");
        node.remote.set_fault(None);
        node.is_asked_again().await;
        assert_eq!(text(texts.get("k").await.unwrap()).as_deref(), Some("in l2"), "{fault:?}");
        assert_eq!(texts.get("l").await.unwrap(), None, "{fault:?}");
        assert_eq!(*texts.get_or_load("l", counted.loader("own")).await.unwrap(), "own", "{fault:?}");
    }
}

/// The same keyspace over an origin, which has `own` for every key.
fn closed_over_origin(node: &Node, loads: &Counted, options: EntryOptions) -> Texts {
    let loads = loads.clone();
    let origin = OriginFn::load(move |_: String| {
        let loading = loads.loader("own")();
        async move { loading.await.map(Some) }
    });
    let keyspace = node.cache.keyspace("closed").ttl(HOUR).options(options).fail_closed();
    keyspace.read_through(origin).build().expect("valid settings")
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_is_bound_is_not_asked_either_not_even_to_warm() {
    let (node, loads) = (Node::first().await, Counted::default());
    let texts = closed_over_origin(&node, &loads, EntryOptions::new());
    assert_eq!(text(texts.get("k").await.unwrap()).as_deref(), Some("own"));
    node.remote.set_fault(Some(Fault::Unavailable));
    refused(texts.get("l").await);
    refused(texts.get_many(&["l".to_owned(), "m".to_owned()]).await);
    refused(texts.get_entry_with("l", ReadOptions::new().anew()).await);
    refused(texts.get_entry_with("l", ReadOptions::new().unkept()).await);
    let warmed = texts.warm().keys(["l".to_owned()]).await.unwrap();
    assert_eq!((warmed.failed, warmed.done()), (1, 0), "{warmed:?}");
    let past_l1 = texts.get_entry_with("k", ReadOptions::new().anew()).await.unwrap().expect("it is in L1");
    assert_eq!(
        (past_l1.stale, loads.runs()),
        (Some(StaleReason::LoadFailed), 1),
        "what there is, marked as stale"
    );
}

#[tokio::test(start_paused = true)]
async fn where_l2_answers_a_look_and_gives_no_lease_nobody_loads() {
    let (node, loads) = (Node::first().await, Counted::default());
    let texts = closed_over_origin(&node, &loads, EntryOptions::new());
    for fault in FAULTS {
        node.remote.set_fault_on(Operation::Lease, Some(fault));
        refused(texts.get(format!("{fault:?}").as_str()).await);
    }
    assert_eq!(loads.runs(), 0);
    node.remote.set_fault_on(Operation::Lease, None);
    assert_eq!(text(texts.get("k").await.unwrap()).as_deref(), Some("own"));
}

#[tokio::test(start_paused = true)]
async fn what_is_loaded_and_cannot_be_filled_is_returned_all_the_same() {
    let (node, loads) = (Node::first().await, Counted::default());
    let texts = closed_over_origin(&node, &loads, EntryOptions::new());
    node.remote.set_fault_on(Operation::Fill, Some(Fault::Unavailable));
    assert_eq!(text(texts.get("k").await.unwrap()).as_deref(), Some("own"));
    assert_eq!(loads.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_entry_within_its_grace_is_returned_as_stale_and_nothing_is_loaded_behind_it() {
    for eager in [false, true] {
        let (node, loads) = (Node::first().await, Counted::default());
        let options = EntryOptions::new().ttl(TTL).grace(HOUR);
        let options = if eager { options.stale_while_revalidate(HOUR) } else { options };
        let texts = closed_over_origin(&node, &loads, options);
        texts.get("k").await.unwrap();
        node.remote.set_fault(Some(Fault::Unavailable));
        node.clock.advance(TTL + Duration::from_secs(1));
        let entry = texts.get_entry("k").await.unwrap().expect("it is within its grace");
        let reason = if eager { StaleReason::Revalidating } else { StaleReason::LoadFailed };
        assert_eq!((entry.tier, entry.stale), (Tier::L1, Some(reason)));
        let_others_run().await;
        assert_eq!(loads.runs(), 1, "{eager}");
        node.clock.advance(HOUR);
        refused(texts.get("k").await);
        assert_eq!(loads.runs(), 1, "{eager}");
    }
}

#[tokio::test]
async fn copies_in_l1_are_what_they_are_in_other_keyspaces() {
    let node = Node::first_hearing().await;
    let texts = closed(&node);
    texts.put("k", "v".to_owned()).await.unwrap();
    until("the keyspace to hear of changes", || texts.peek("k").is_some()).await;
    node.remote.set_fault(Some(Fault::Unavailable));
    assert_eq!(text(texts.get("k").await.unwrap()).as_deref(), Some("v"));
    node.clock.advance(LEASE);
    let entry = texts.get_entry("k").await.unwrap().expect("there is a copy");
    assert_eq!((entry.tier, entry.stale), (Tier::L1, Some(StaleReason::Unproven)));
}

#[tokio::test(start_paused = true)]
async fn changes_are_made_as_ever_and_l2_is_not_believed_until_it_was_told() {
    let node = Node::first_without_l1().await;
    let texts = closed(&node);
    texts.put("k", "old".to_owned()).await.unwrap();
    for operation in [Operation::Set, Operation::Invalidate] {
        node.remote.set_fault_on(operation, Some(Fault::Unavailable));
    }
    assert_eq!(texts.put("k", "new".to_owned()).await.unwrap().effect, Effect::Queued);
    refused(texts.get("k").await);
    assert_eq!(texts.get("another").await.unwrap(), None, "L2 is asked about the others");
    node.remote.set_fault_on(Operation::Invalidate, None);
    until("L2 to be told", || node.cache.stats().pending_invalidations == 0).await;
    assert_eq!(texts.get("k").await.unwrap(), None);
}

#[tokio::test]
async fn without_an_l2_there_is_nothing_to_wait_for() {
    let node = Node::first().await;
    let texts: Texts = {
        let keyspace = node.cache.keyspace("memory").fail_closed().memory_only();
        keyspace.build().expect("valid settings")
    };
    node.remote.set_fault(Some(Fault::Unavailable));
    assert_eq!(texts.get("k").await.unwrap(), None);
    assert_eq!(texts.get_many(&["k".to_owned()]).await.unwrap(), [None]);
    assert_eq!(*texts.get_or_load("k", loader("own")).await.unwrap(), "own");
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_readers_shares_that_l2_does_not_answer() {
    let (node, loads) = (Node::first().await, Counted::default());
    let texts = closed(&node);
    texts.get("open").await.unwrap();
    node.remote.reset_calls();
    let hung = node.remote.hold(Operation::Get, Point::BeforeEffect);
    let read = |_| {
        let (texts, loader) = (texts.clone(), loads.loader("own"));
        spawn(async move { texts.get_or_load("k", loader).await })
    };
    let since = now();
    let first = read(0);
    hung.wait_until_held(1).await;
    // These wait for its call: a flight whose call is under way is not joined.
    let readers: Vec<_> = (0..200).map(read).collect();
    for reader in std::iter::once(first).chain(readers) {
        not_loaded(ended(reader).await);
    }
    let took = since.elapsed();
    assert!(
        took < CacheBuilder::L2_WAIT_MAX_DEFAULT * 3 / 2,
        "nobody waits for longer than one read: {took:?}"
    );
    assert_eq!((node.calls(Operation::Get), loads.runs()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_old_value_is_the_answer_of_a_batch_too_where_there_is_no_origin() {
    let node = Node::first().await;
    let options = EntryOptions::new().ttl(TTL).grace(HOUR);
    let texts: Texts = node.cache.keyspace("closed").options(options).fail_closed().build().unwrap();
    texts.put("k", "old".to_owned()).await.unwrap();
    node.clock.advance(TTL + Duration::from_secs(1));
    node.remote.set_fault(Some(Fault::Unavailable));
    let keys = ["k".to_owned(), "l".to_owned()];
    let mut found = texts.get_each_entry(&keys).await.into_iter();
    let alone = texts.get_entry("k").await;
    for entry in [found.next().unwrap(), alone] {
        let entry = entry.unwrap().expect("it is within its grace");
        assert_eq!((entry.value.as_str(), entry.stale), ("old", Some(StaleReason::Unproven)));
    }
    refused(found.next().unwrap());
    let found = texts.get_many(&keys[..1]).await.unwrap();
    assert_eq!(text(found[0].clone()).as_deref(), Some("old"));
}

#[tokio::test]
async fn that_there_is_no_value_is_no_answer_unless_it_is_proven() {
    for suspect in [SuspectPolicy::Validate, SuspectPolicy::Stale] {
        let node = Node::first_hearing().await;
        let origin = OriginFn::load(|_: String| async { Ok::<_, Infallible>(None) });
        let options = EntryOptions::new().negative_ttl(HOUR);
        let keyspace = node.cache.keyspace("closed").options(options).suspect(suspect).fail_closed();
        let texts: Texts = keyspace.read_through(origin).build().unwrap();
        let negative_hits = || node.cache.stats().total.negative_hits;
        until_some("it to be known here that there is no value", async || {
            assert_eq!(texts.get("k").await.unwrap(), None);
            (negative_hits() > 0).then_some(())
        })
        .await;
        node.remote.set_fault(Some(Fault::Unavailable));
        node.clock.advance(LEASE);
        refused(texts.get("k").await);
        refused(texts.contains("k").await);
        refused(texts.get_many(&["k".to_owned()]).await);
    }
}

#[tokio::test(start_paused = true)]
async fn all_readers_ask_as_soon_as_the_breaker_lets_them() {
    let node = Node::first().await;
    let texts = closed(&node);
    texts.put("k", "v".to_owned()).await.unwrap();
    node.remote.set_fault(Some(Fault::Unavailable));
    let state = || node.cache.breaker().expect("there is one").state;
    for n in 0..40 {
        refused(texts.get(n.to_string().as_str()).await);
    }
    assert_eq!(state(), BreakerState::Open);
    node.remote.set_fault(None);
    until_some("the breaker to close", async || {
        node.cache.health().await.breaker.filter(|breaker| breaker.state == BreakerState::Closed)
    })
    .await;
    for n in 0..40 {
        assert_eq!(texts.get(n.to_string().as_str()).await.unwrap(), None, "{n}");
    }
}
