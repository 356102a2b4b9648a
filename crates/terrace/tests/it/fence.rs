//! Loaders that hang: whoever comes later does not wait for them, and what they bring in the end is kept nowhere.

use crate::fixture::{Counted, HOUR, HeldLoad, Loads, ended, hold, let_others_run, loader, spawn, within};
use std::convert::Infallible;
use std::time::Duration;
use terrace::{Cache, CacheBuilder, Clock, EntryOptions, ErrorKind, KeyspaceError, StaleReason, Tier};
use terrace_testkit::fake::{FakeRemote, Fault, Operation};
use tokio::task::JoinHandle;

const AGE: Duration = Duration::from_secs(1);

type Texts = terrace::Keyspace<String, String>;

struct Node {
    cache: Cache,
    texts: Texts,
    remote: Option<FakeRemote>,
    clock: Clock,
}

impl Node {
    fn new(remote: Option<FakeRemote>, clock: &Clock, set: fn(CacheBuilder) -> CacheBuilder) -> Self {
        let builder = set(Cache::builder().clock(clock.clone()));
        let builder = match &remote {
            Some(remote) => builder.l2(remote.clone()),
            None => builder,
        };
        let cache = builder.build().expect("valid settings");
        let options = EntryOptions::new().ttl(HOUR).grace(HOUR);
        let texts = cache.keyspace("texts").options(options).flight_age_max(AGE).load_timeout(AGE * 10);
        Self { texts: texts.build().expect("valid settings"), cache, remote, clock: clock.clone() }
    }

    fn loading(&self, key: &'static str) -> (HeldLoad<Infallible>, JoinHandle<Loads<Infallible>>) {
        let ((held, load), texts) = (hold(), self.texts.clone());
        (held, spawn(async move { texts.get_or_load(key, load).await }))
    }

    async fn here(&self) -> Option<(Tier, String)> {
        let entry = self.texts.get_entry("k").await.expect("a valid key")?;
        Some((entry.tier, (*entry.value).clone()))
    }
}

/// A node in memory, one with both tiers, one without L1.
fn all() -> [Node; 3] {
    let clock = Clock::manual();
    let remote = || Some(FakeRemote::new(clock.clone()));
    [
        Node::new(None, &clock, |builder| builder),
        Node::new(remote(), &clock, |builder| builder),
        Node::new(remote(), &clock, CacheBuilder::no_l1),
    ]
}

#[tokio::test]
async fn whoever_comes_later_loads_anew_and_the_first_result_is_for_its_caller_alone() {
    for node in all() {
        let (mut first, leader) = node.loading("k");
        first.started().await;
        let (_, follower) = node.loading("k");
        let_others_run().await;
        node.clock.advance(AGE / 1000 * 999);
        let (unused, second_follower) = node.loading("k");
        let_others_run().await;
        assert!(!follower.is_finished());
        assert_eq!(node.cache.stats().total.flights_fenced, 0, "it is not old enough");
        node.clock.advance(AGE / 1000);
        let (mut second, late) = node.loading("k");
        within("the second load, which waits for no lease", second.started()).await;
        assert_eq!(node.cache.stats().total.flights_fenced, 1);
        second.bring("second");
        assert_eq!(*ended(late).await.unwrap(), "second");
        for follower in [follower, second_follower] {
            assert_eq!(*ended(follower).await.unwrap(), "second", "it has joined the first in vain");
        }
        assert!(!unused.is_alive());
        first.bring("first");
        assert_eq!(*ended(leader).await.unwrap(), "first", "it is its own");
        let kept = if node.texts.peek("k").is_some() { Tier::L1 } else { Tier::L2 };
        assert_eq!(node.here().await, Some((kept, "second".into())));
        if let Some(remote) = &node.remote {
            assert_eq!((remote.calls(Operation::Fill), remote.calls(Operation::Release)), (1, 1));
            let elsewhere = Node::new(Some(remote.another_node()), &node.clock, CacheBuilder::no_l1);
            assert_eq!(elsewhere.here().await, Some((Tier::L2, "second".into())));
        }
        let stats = node.cache.stats().total;
        assert_eq!((stats.loads_found, stats.fills, stats.fills_rejected), (2, 1, 0));
    }
}

#[tokio::test]
async fn what_comes_while_the_second_still_loads_is_kept_no_more_than_what_comes_after() {
    for node in all() {
        let (mut first, leader) = node.loading("k");
        first.started().await;
        node.clock.advance(AGE);
        let (mut second, late) = node.loading("k");
        second.started().await;
        let (_, joined) = node.loading("k");
        let_others_run().await;
        first.bring("first");
        assert_eq!(*ended(leader).await.unwrap(), "first");
        assert_eq!(node.here().await, None);
        assert!(!joined.is_finished());
        second.bring("second");
        assert_eq!(*ended(late).await.unwrap(), "second");
        assert_eq!(*ended(joined).await.unwrap(), "second", "the first one's end is nothing to it");
        assert_eq!(node.here().await.map(|(_, value)| value).as_deref(), Some("second"));
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_already_begin_a_second_load_themselves() {
    let node = Node::new(None, &Clock::manual(), |builder| builder);
    let (mut first, leader) = node.loading("k");
    first.started().await;
    let counted = Counted::default();
    let followers: Vec<_> = (0..20)
        .map(|_| {
            let (texts, load) = (node.texts.clone(), counted.loader("second"));
            spawn(async move { texts.get_or_load("k", load).await })
        })
        .collect();
    let_others_run().await;
    node.clock.advance(AGE);
    for follower in followers {
        assert_eq!(*ended(follower).await.unwrap(), "second");
    }
    assert_eq!(counted.runs(), 1, "they share it");
    first.bring("first");
    assert_eq!(*ended(leader).await.unwrap(), "first");
    assert_eq!(node.texts.peek("k").as_deref().map(String::as_str), Some("second"));
}

#[tokio::test]
async fn while_an_origin_hangs_nobody_waits_longer_than_a_load_may_take_and_few_loads_run() {
    for node in all() {
        let mut loads = vec![node.loading("k")];
        loads[0].0.started().await;
        let (_, follower) = node.loading("k");
        let_others_run().await;
        for _ in 0..10 {
            node.clock.advance(AGE);
            let (mut held, task) = node.loading("k");
            held.started().await;
            loads.push((held, task));
            let_others_run().await;
        }
        let error = ended(follower).await.unwrap_err();
        assert!(matches!(error.cache(), Some(ErrorKind::LoadTimedOut { after }) if *after == AGE * 10));
        assert_eq!(node.cache.stats().total.flights_fenced, 10);
        for (held, task) in loads {
            held.bring("v");
            ended(task).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_fenced_load_that_fails_gives_its_caller_the_old_value_and_stops_nobody() {
    for node in all().into_iter().take(2) {
        node.texts.get_or_load("k", loader("old")).await.unwrap();
        node.clock.advance(HOUR + AGE);
        let ((mut first, load), texts) = (hold::<&'static str>(), node.texts.clone());
        let leader = spawn(async move {
            let fetched = texts.fetch("k", EntryOptions::new(), move |_| async move {
                load().await.map(terrace::Fetched::value)
            });
            fetched.await
        });
        first.started().await;
        node.clock.advance(AGE);
        let (mut second, late) = node.loading("k");
        second.started().await;
        first.end(Err("refused"));
        let entry = ended(leader).await.unwrap().unwrap();
        assert_eq!((entry.value.as_str(), entry.stale), ("old", Some(StaleReason::LoadFailed)));
        second.bring("second");
        assert_eq!(*ended(late).await.unwrap(), "second");
    }
}

#[tokio::test]
async fn a_lease_that_cannot_be_given_back_is_let_go() {
    let clock = Clock::manual();
    let remote = FakeRemote::new(clock.clone());
    let node = Node::new(Some(remote.clone()), &clock, CacheBuilder::no_breaker);
    let (mut first, leader) = node.loading("k");
    first.started().await;
    clock.advance(AGE);
    remote.set_fault(Some(Fault::Unavailable));
    let (mut second, late) = node.loading("k");
    second.started().await;
    second.bring("second");
    assert_eq!(*ended(late).await.unwrap(), "second", "without L2");
    remote.set_fault(None);
    first.bring("first");
    assert_eq!(*ended(leader).await.unwrap(), "first");
    let elsewhere = Node::new(Some(remote.another_node()), &clock, |builder| builder);
    clock.advance(Duration::from_secs(4));
    let load = elsewhere.texts.get_or_load("k", loader("third"));
    assert_eq!(*within("the lease to lapse", load).await.unwrap(), "third", "the first one is not stored");
}

#[tokio::test]
async fn an_age_that_cannot_be_is_refused() {
    let cache = Cache::memory().unwrap();
    for age in [Duration::ZERO, AGE * 30, HOUR] {
        let built = cache.keyspace::<u8, u8>("a").flight_age_max(age).build();
        let Err(KeyspaceError::Setting(error)) = built else { panic!("{age:?} is accepted") };
        assert_eq!(error.setting, "flight_age_max");
    }
}

#[tokio::test]
async fn a_call_can_say_how_long_it_waits_for_the_loader_of_another() {
    let clock = Clock::manual();
    let cache = Cache::builder().clock(clock.clone()).build().unwrap();
    let texts: Texts = cache.keyspace("texts").build().unwrap();
    let ((mut first, load), own) = (hold::<Infallible>(), texts.clone());
    let leader = spawn(async move { own.get_or_load("k", load).await });
    first.started().await;
    clock.advance(AGE * 2);
    let options = EntryOptions::new().flight_age_max(AGE);
    assert_eq!(*texts.get_or_load_with("k", options, loader("second")).await.unwrap(), "second");
    first.bring("first");
    assert_eq!(*ended(leader).await.unwrap(), "first");
    assert_eq!(texts.get("k").await.unwrap().as_deref().map(String::as_str), Some("second"));
}
