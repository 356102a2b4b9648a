//! What a cache says of itself to those who draw it: distributions, breakers, whether it hears of others.

use crate::fixture::{LEASE, Node};
use std::time::Duration;
use terrace::{BusState, Cache, LookupTimes, Tier};
use terrace_testkit::fake::{Fault, Loss};
use terrace_testkit::wait::until;

#[tokio::test]
async fn lookups_are_in_the_class_of_their_time_and_in_the_tier_they_came_to() {
    let node = Node::first().await;
    let clock = node.clock.clone();
    let held = async move || {
        clock.advance(Duration::from_micros(3));
        Ok::<_, std::convert::Infallible>("v".to_owned())
    };
    node.texts.get_or_load("k", held).await.unwrap();
    node.cache.reset_stats();
    node.get("none").await;
    let times = node.cache.lookup_times();
    let [l1, l2, origin] = &times.tiers[..] else { panic!("{times:?}") };
    assert_eq!((l1.tier, l2.tier, origin.tier), (Tier::L1, Tier::L2, Tier::Origin));
    assert_eq!((l1.sampled, l2.sampled, origin.sampled), (Some(61), None, None));
    assert_eq!((origin.count, origin.sum), (1, Duration::from_micros(3)), "a reset takes nothing away");
    assert_eq!((l2.count, l2.sum), (1, Duration::ZERO));
    // 100 ns, 200, 400, 800, 1.6 us, 3.2 us.
    assert_eq!(origin.counts.iter().position(|count| *count == 1), Some(5));
    assert_eq!(times.bounds[5], Duration::from_nanos(3200));
    assert_eq!((times.bounds.len() + 1, l2.counts[0]), (origin.counts.len(), 1));
}

#[tokio::test]
async fn the_times_of_keyspaces_add_up_to_those_of_all() {
    let node = Node::first().await;
    let numbers = node.cache.keyspace::<u64, u64>("numbers").build().unwrap();
    for _ in 0..3 {
        node.get("none").await;
    }
    numbers.get(&404).await.unwrap();
    let of_l2 = |times: &LookupTimes| times.tiers[1].count;
    let (mut both, of_numbers) = (node.texts.lookup_times(), numbers.lookup_times());
    assert_eq!((of_l2(&both), of_l2(&of_numbers)), (3, 1));
    both.merge(&of_numbers);
    assert_eq!(both, node.cache.lookup_times());
    assert_eq!((of_l2(&both), both.tiers[1].counts.iter().sum::<u64>()), (4, 4));
}

#[tokio::test]
async fn a_breaker_counts_calls_and_those_that_failed() {
    let node = Node::first().await;
    node.put("k", "v").await;
    let well = node.cache.breaker().unwrap();
    assert!(well.calls > 0);
    assert_eq!(well.failures, 0);
    node.remote.set_fault(Some(Fault::Refused));
    node.texts.put("k", "v".to_owned()).await.unwrap_err();
    let refused = node.cache.breaker().unwrap();
    assert_eq!((refused.calls > well.calls, refused.failures), (true, 0), "who refuses has answered");
    node.remote.set_fault(Some(Fault::Unavailable));
    node.put("k", "v").await;
    let failed = node.cache.breaker().unwrap();
    assert!(failed.failures > 0 && failed.failures <= failed.calls - refused.calls, "{failed:?}");
    assert!(Cache::memory().unwrap().breaker().is_none());
}

#[tokio::test]
async fn whether_changes_are_heard_is_told() {
    assert_eq!(Node::first().await.cache.bus_health().state, BusState::Alone, "an L2 that tells nothing");
    let writer = Node::first_hearing().await;
    let reader = writer.another_hearing().await;
    let state = || reader.cache.bus_health().state;
    writer.put("k", "v").await;
    assert_eq!(state(), BusState::Joined);
    let health = reader.cache.bus_health();
    assert_eq!(health.gaps, 0);
    assert!(health.node.is_some() && health.node != writer.cache.bus_health().node);
    reader.clock.advance(LEASE);
    until("its beats are back", || state() == BusState::Joined).await;

    reader.remote.set_loss(Loss::Messages);
    writer.put("k", "w").await;
    reader.remote.set_loss(Loss::Nothing);
    writer.put("third", "v").await;
    until("a gap is found", || reader.cache.bus_health().gaps == 1).await;
    reader.remote.cut_bus();
    reader.clock.advance(LEASE);
    until("it hears no more", || state() == BusState::Lost).await;
    reader.remote.mend_bus();
    until("it hears again", || state() == BusState::Joined).await;
}
