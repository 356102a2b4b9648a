//! The switches of the fake do what they say, and the fake keeps the contract.

use super::*;
use crate::conformance::samples;
use terrace_core::{Remote, Ttl};

fn names() -> (Namespace, Key) {
    (Namespace::new("fake").expect("valid"), Key::new("key").expect("valid"))
}

const TTL: Ttl = Ttl::After(Duration::from_mins(1));

#[tokio::test]
async fn faults_hit_the_calls_they_are_set_on() {
    let remote = FakeRemote::new(Clock::manual());
    let (namespace, key) = names();
    let value = samples::sealed(&namespace, &key, "v", TTL);
    remote.fail_next(Operation::Set, Fault::TimeoutAfterEffect);
    remote.set_fault_on(Operation::Health, Some(Fault::Refused));
    let lost = remote.set(&namespace, &key, value, TTL).await;
    assert!(matches!(lost, Err(RemoteError::Timeout { .. })));
    assert!(remote.get(&namespace, &key).await.expect("no fault").is_some(), "the effect was done");
    assert!(matches!(remote.health().await, Err(RemoteError::Refused { .. })));
    let other = remote.another_node();
    assert!(other.health().await.is_ok(), "faults belong to one node");
    assert_eq!((remote.calls(Operation::Set), remote.calls_total()), (1, 3));
}

#[tokio::test]
async fn a_held_call_takes_effect_when_the_gate_lets_it_even_if_its_caller_has_gone() {
    let remote = FakeRemote::new(Clock::manual());
    let (namespace, key) = names();
    let value = samples::sealed(&namespace, &key, "v", TTL);
    let gate = remote.hold(Operation::Set, Point::BeforeEffect);
    let sending = remote.clone();
    let (in_namespace, in_key) = (namespace.clone(), key.clone());
    let mut call = Box::pin(async move { sending.set(&in_namespace, &in_key, value, TTL).await });
    tokio::select! {
        biased;
        _ = &mut call => panic!("the gate is shut"),
        () = gate.wait_until_held(1) => {}
    }
    drop(call);
    assert_eq!(remote.get(&namespace, &key).await.expect("no fault"), None);
    assert!(gate.release_one());
    assert!(remote.get(&namespace, &key).await.expect("no fault").is_some());
}

#[tokio::test]
async fn what_is_stored_too_late_is_not_stored_and_a_part_of_many_says_so() {
    let clock = Clock::manual();
    let remote = FakeRemote::new(clock.clone());
    let (namespace, key) = names();
    let value = || samples::sealed(&namespace, &key, "v", TTL);
    let late = remote.set_before(&namespace, &key, (value(), TTL), remote.server_time()).await;
    assert!(late.is_err_and(|error| error.is_unsent() && error.is_retryable()));
    assert_eq!(remote.get(&namespace, &key).await.expect("no fault"), None);
    remote.advance_server_time(Duration::from_secs(5));
    let soon = ServerTime(remote.server_time().0 + 2 * Shared::CALL_MICROS);
    let many = vec![(key.clone(), value(), TTL); 4];
    let partly = remote.set_many_before(&namespace, many.clone(), soon).await;
    assert!(matches!(partly, Err(RemoteError::Broken { .. })), "{partly:?}");
    assert!(remote.get(&namespace, &key).await.expect("no fault").is_some());
    let none = remote.set_many_before(&namespace, many, soon).await;
    assert!(matches!(none, Err(RemoteError::Late { .. })), "{none:?}");
}

#[tokio::test]
async fn values_expire_by_the_clock() {
    let clock = Clock::manual();
    let remote = FakeRemote::new(clock.clone());
    let (namespace, key) = names();
    let value = samples::sealed(&namespace, &key, "v", TTL);
    remote.set(&namespace, &key, value, TTL).await.expect("no fault");
    clock.advance(Duration::from_secs(59));
    let stored = remote.get(&namespace, &key).await.expect("no fault").expect("one second is left");
    assert_eq!(stored.remaining, Some(Ttl::After(Duration::from_secs(1))));
    clock.advance(Duration::from_secs(1));
    assert_eq!(remote.get(&namespace, &key).await.expect("no fault"), None);
    assert!(remote.keys(&namespace).is_empty());
}

#[tokio::test]
async fn closed_means_unavailable() {
    let remote = FakeRemote::new(Clock::manual());
    remote.close().await;
    assert!(matches!(remote.health().await, Err(RemoteError::Unavailable { .. })));
}

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    crate::conformance::remote::check(&FakeRemote::new(Clock::system()), "fake").await;
}

#[tokio::test]
async fn nodes_have_to_agree_on_partitions() {
    let remote = FakeRemote::new(Clock::manual());
    let (namespace, _) = names();
    remote.open(&namespace).await.expect("the first one decides");
    let other = remote.another_node_with_partitions(16);
    assert!(matches!(other.open(&namespace).await, Err(RemoteError::Mismatch { .. })));
}
