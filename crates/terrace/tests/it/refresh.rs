//! Keys that are loaded anew because somebody asked for it.

use crate::fixture::{HOUR, LEASE, Node, ended, key, let_others_run, namespace, spawn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use terrace::{Cache, Clock, ErrorKind, Fetched, Keyspace, Origin, ReadOptions};
use terrace_core::remote::{LeaseOutcome, LeaseToken, Remote};
use terrace_testkit::fake::{FakeRemote, Fault, Operation, Point};
use terrace_testkit::wait::until;

/// An origin that all nodes share: it says how often it was asked.
#[derive(Default)]
struct Shared {
    loads: AtomicU64,
    is_broken: AtomicBool,
    is_empty: AtomicBool,
    /// What it gives is not to be kept.
    is_fleeting: AtomicBool,
}

impl Origin<String, u64> for Shared {
    type Error = &'static str;

    async fn load(&self, _: &String) -> Result<Option<u64>, Self::Error> {
        let load = self.loads.fetch_add(1, Ordering::SeqCst) + 1;
        if self.is_broken.load(Ordering::SeqCst) {
            return Err("it is broken");
        }
        Ok((!self.is_empty.load(Ordering::SeqCst)).then_some(load))
    }

    async fn fetch(&self, key: &String) -> Result<Fetched<u64>, Self::Error> {
        let fetched = Fetched::from(self.load(key).await?);
        Ok(if self.is_fleeting.load(Ordering::SeqCst) { fetched.ttl(Duration::ZERO) } else { fetched })
    }
}

type Loads = Keyspace<String, u64>;

struct Fleet {
    origin: Arc<Shared>,
    remote: FakeRemote,
    clock: Clock,
    nodes: Vec<(Cache, FakeRemote, Loads)>,
}

impl Fleet {
    /// Nodes that load by one origin; those that are `mute` have copies and cannot load.
    async fn of(loading: usize, mute: usize) -> Self {
        let clock = Clock::manual();
        let remote = FakeRemote::with_partitions(clock.clone(), 1).hearing();
        let mut fleet = Self { origin: Arc::default(), remote, clock, nodes: Vec::new() };
        for index in 0..loading + mute {
            let remote = fleet.remote.another_node().hearing();
            let builder = Cache::builder().clock(fleet.clock.clone()).default_ttl(HOUR).staleness_max(LEASE);
            let cache = builder.l2(remote.clone()).build().expect("valid settings");
            let mut loads: Loads = cache.keyspace("texts").build().expect("a new keyspace");
            if index < loading {
                loads = loads.with_origin(Arc::clone(&fleet.origin));
                loads = loads.with_refresh(|text| Some(text.to_owned()));
            }
            loads.contains("opens it").await.expect("a valid key");
            fleet.nodes.push((cache, remote, loads));
        }
        fleet
    }

    fn node(&self, index: usize) -> &Loads {
        &self.nodes[index].2
    }

    /// All nodes have a copy of `k`, of the first load.
    async fn with_copies(self) -> Self {
        for (index, (_, _, loads)) in self.nodes.iter().enumerate() {
            assert_eq!(loads.get("k").await.expect("loaded").as_deref(), Some(&1), "node {index}");
            assert!(loads.peek("k").is_some());
        }
        self
    }

    fn loads(&self) -> u64 {
        self.origin.loads.load(Ordering::SeqCst)
    }

    async fn all_have(&self, value: u64) {
        for (_, _, loads) in &self.nodes {
            until("every copy is new", || loads.peek("k").as_deref() == Some(&value)).await;
        }
    }
}

#[tokio::test]
async fn every_copy_in_the_fleet_is_loaded_anew_by_one_load() {
    let fleet = Fleet::of(3, 1).await.with_copies().await;
    for (round, asking) in (2..6).zip([0, 1, 2, 3]) {
        fleet.node(asking).refresh("k").await.unwrap();
        fleet.all_have(round).await;
        let_others_run().await;
        assert_eq!(fleet.loads(), round, "one load serves all");
    }
}

#[tokio::test]
async fn who_cannot_load_may_ask_and_gets_the_new_value_too() {
    let fleet = Fleet::of(1, 2).await.with_copies().await;
    fleet.node(2).refresh("k").await.unwrap();
    fleet.all_have(2).await;
}

#[tokio::test]
async fn the_old_value_is_served_until_the_new_one_is_there() {
    let fleet = Fleet::of(2, 0).await.with_copies().await;
    let gates: Vec<_> =
        fleet.nodes.iter().map(|(_, remote, _)| remote.hold(Operation::Fill, Point::BeforeEffect)).collect();
    fleet.node(0).refresh("k").await.unwrap();
    until("a load has ended", || gates.iter().any(|gate| gate.held() > 0)).await;
    for index in 0..2 {
        assert_eq!(fleet.node(index).get("k").await.unwrap().as_deref(), Some(&1));
    }
    drop(gates);
    fleet.all_have(2).await;
}

#[tokio::test]
async fn the_old_value_stays_if_no_new_one_can_be_loaded() {
    let fleet = Fleet::of(2, 0).await.with_copies().await;
    fleet.origin.is_broken.store(true, Ordering::SeqCst);
    fleet.node(0).refresh("k").await.unwrap();
    until("every node has tried", || fleet.loads() >= 3).await;
    let_others_run().await;
    for index in 0..2 {
        assert_eq!(fleet.node(index).get("k").await.unwrap().as_deref(), Some(&1));
    }
    fleet.origin.is_broken.store(false, Ordering::SeqCst);
    fleet.node(1).refresh("k").await.unwrap();
    until("it is loaded", || fleet.node(0).peek("k").is_some_and(|value| *value > 3)).await;
}

#[tokio::test]
async fn what_the_origin_does_not_have_any_more_is_removed_everywhere() {
    let fleet = Fleet::of(2, 1).await.with_copies().await;
    fleet.origin.is_empty.store(true, Ordering::SeqCst);
    fleet.node(1).refresh("k").await.unwrap();
    for (_, _, loads) in &fleet.nodes {
        until("the copy is gone", || loads.peek("k").is_none()).await;
    }
    assert_eq!(fleet.node(2).get("k").await.unwrap(), None);
}

#[tokio::test]
async fn what_is_not_to_be_kept_takes_the_old_value_with_it() {
    let fleet = Fleet::of(2, 1).await.with_copies().await;
    fleet.origin.is_fleeting.store(true, Ordering::SeqCst);
    fleet.node(1).refresh("k").await.unwrap();
    for (_, _, loads) in &fleet.nodes {
        until("the copy is gone", || loads.peek("k").is_none()).await;
    }
    assert!(fleet.remote.keys(&namespace()).iter().all(|stored| *stored != key("k")));
    let loaded = fleet.loads();
    assert_eq!(fleet.node(0).get("k").await.unwrap().as_deref(), Some(&(loaded + 1)));
}

#[tokio::test]
async fn no_read_goes_back_behind_one_that_was_loaded_anew_and_not_kept() {
    let fleet = Fleet::of(2, 0).await.with_copies().await;
    fleet.origin.is_fleeting.store(true, Ordering::SeqCst);
    let anew = fleet.node(0).get_entry_with("k", ReadOptions::new().anew()).await.unwrap();
    assert_eq!(anew.map(|entry| *entry.value), Some(2));
    for (index, loaded) in [(0, 3), (1, 4)] {
        assert_eq!(fleet.node(index).get("k").await.unwrap().as_deref(), Some(&loaded), "node {index}");
    }
}

#[tokio::test]
async fn an_invalidation_during_the_load_wins() {
    let fleet = Fleet::of(2, 0).await.with_copies().await;
    let gate = fleet.nodes[0].1.hold(Operation::Fill, Point::BeforeEffect);
    // The other node shall not load.
    fleet.nodes[1].1.set_fault_on(Operation::Lease, Some(Fault::Unavailable));
    fleet.node(0).refresh("k").await.unwrap();
    gate.wait_until_held(1).await;
    fleet.node(1).remove("k").await.unwrap();
    gate.open();
    let_others_run().await;
    assert!(fleet.remote.keys(&namespace()).iter().all(|stored| *stored != key("k")));
    assert!(fleet.node(0).peek("k").is_none() && fleet.node(1).peek("k").is_none());
}

#[tokio::test]
async fn nobody_loads_what_nobody_has_but_the_one_who_asks() {
    let fleet = Fleet::of(3, 0).await;
    fleet.node(1).refresh("k").await.unwrap();
    until("it is loaded", || fleet.node(1).peek("k").is_some()).await;
    let_others_run().await;
    assert_eq!(fleet.loads(), 1);
    assert!(fleet.node(0).peek("k").is_none());
}

#[tokio::test]
async fn a_request_that_l2_was_not_told_is_an_error_and_changes_nothing() {
    let fleet = Fleet::of(2, 0).await.with_copies().await;
    fleet.nodes[0].1.set_fault_on(Operation::Refresh, Some(Fault::Refused));
    let refused = fleet.node(0).refresh("k").await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Remote(_)), "{refused}");
    let_others_run().await;
    assert_eq!(fleet.loads(), 1);
}

#[tokio::test]
async fn a_cache_without_l2_loads_anew_too() {
    let origin = Arc::<Shared>::default();
    let cache = Cache::memory().unwrap();
    let loads: Loads = cache.keyspace("texts").build().unwrap();
    let loads = loads.with_origin(Arc::clone(&origin)).with_refresh(|text| Some(text.to_owned()));
    assert_eq!(loads.get("k").await.unwrap().as_deref(), Some(&1));
    assert_eq!(loads.refresh("k").await.unwrap().get(), 0);
    until("it is loaded", || loads.peek("k").as_deref() == Some(&2)).await;
}

#[tokio::test]
async fn who_does_not_know_how_to_load_asks_in_vain() {
    let node = Node::first_hearing().await;
    node.put("k", "old").await;
    node.texts.refresh("k").await.unwrap();
    let_others_run().await;
    assert_eq!(node.get("k").await.as_deref(), Some("old"));
}

#[tokio::test]
async fn what_is_put_while_the_origin_says_that_there_is_nothing_stays() {
    for is_in_l2 in [true, false] {
        let fleet = Fleet::of(1, 0).await.with_copies().await;
        let (remote, loads) = (&fleet.nodes[0].1, fleet.node(0));
        if !is_in_l2 {
            remote.evict(&namespace(), &key("k"));
        }
        fleet.origin.is_empty.store(true, Ordering::SeqCst);
        let gate = remote.hold(Operation::SetIf, Point::BeforeEffect);
        loads.refresh("k").await.unwrap();
        gate.wait_until_held(1).await;
        loads.put("k", 17).await.unwrap();
        gate.open();
        let_others_run().await;
        assert_eq!(loads.get("k").await.unwrap().as_deref(), Some(&17), "in L2: {is_in_l2}");
    }
}

#[tokio::test]
async fn a_lease_that_was_lost_is_no_sign_that_somebody_has_stored_something() {
    let fleet = Fleet::of(1, 0).await.with_copies().await;
    let (remote, loads) = (&fleet.nodes[0].1, fleet.node(0));
    remote.evict(&namespace(), &key("k"));
    fleet.origin.is_empty.store(true, Ordering::SeqCst);
    let gate = remote.hold(Operation::SetIf, Point::BeforeEffect);
    loads.refresh("k").await.unwrap();
    gate.wait_until_held(1).await;
    assert!(remote.lose_lease(&namespace(), &key("k")));
    gate.open();
    let_others_run().await;
    assert_eq!(loads.peek("k"), None);
}

#[tokio::test]
async fn what_is_gone_from_l2_by_itself_leaves_no_lease_behind() {
    let fleet = Fleet::of(1, 0).await.with_copies().await;
    let (remote, loads) = (&fleet.nodes[0].1, fleet.node(0));
    fleet.origin.is_empty.store(true, Ordering::SeqCst);
    let gate = remote.hold(Operation::SetIf, Point::BeforeEffect);
    loads.refresh("k").await.unwrap();
    gate.wait_until_held(1).await;
    remote.evict(&namespace(), &key("k"));
    gate.open();
    let_others_run().await;
    let (other, namespace, key) = (remote.another_node(), namespace(), key("k"));
    let asked = other.lease(&namespace, &key, LeaseToken(7), LEASE, None).await.unwrap();
    assert!(matches!(asked, LeaseOutcome::Granted(_)), "{asked:?}");
}

/// An origin whose answers come when a test says so.
#[derive(Default)]
struct Held {
    is_empty: AtomicBool,
    asked: AtomicU64,
    answers: [tokio::sync::Notify; 2],
}

impl Origin<String, u64> for Held {
    type Error = &'static str;

    async fn load(&self, _: &String) -> Result<Option<u64>, Self::Error> {
        let is_there = !self.is_empty.load(Ordering::SeqCst);
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        self.answers[usize::try_from(number).expect("small")].notified().await;
        Ok(is_there.then_some(number))
    }
}

#[tokio::test]
async fn without_l2_a_load_that_began_before_brings_nothing_back_that_is_gone() {
    let origin = Arc::<Held>::default();
    let cache = Cache::memory().unwrap();
    let loads: Loads = cache.keyspace("texts").build().unwrap();
    let loads = loads.with_origin(Arc::clone(&origin)).with_refresh(|text| Some(text.to_owned()));
    let reader = loads.clone();
    let first = spawn(async move { reader.get("k").await.unwrap() });
    until("the first load", || origin.asked.load(Ordering::SeqCst) == 1).await;
    origin.is_empty.store(true, Ordering::SeqCst);
    loads.refresh("k").await.unwrap();
    until("the second load", || origin.asked.load(Ordering::SeqCst) == 2).await;
    origin.answers[0].notify_one();
    drop(ended(first).await);
    origin.answers[1].notify_one();
    let_others_run().await;
    assert_eq!(loads.peek("k"), None);
}
