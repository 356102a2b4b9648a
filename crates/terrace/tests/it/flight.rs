//! Who runs the loader: concurrent callers, callers that go away, callers that come late.

use crate::fixture::{Counted, HOUR, Node, ended, hold, let_others_run, loader, spawn, within};
use std::convert::Infallible;
use std::time::Duration;
use terrace::{Cache, CacheBuilder, Clock, ErrorKind, Keyspace, LoadError, Origin};
use terrace_testkit::fake::{FakeRemote, Operation, Point};

const CALLERS: u64 = 1_000;

async fn all_get_one_value(cache: Cache) {
    let texts = cache.keyspace::<String, String>("texts").build().expect("a new keyspace");
    let counted = Counted::default();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (texts, loader) = (texts.clone(), counted.loader("v"));
        callers
            .spawn(async move { (*texts.get_or_load("k", loader).await.expect("it does not fail")).clone() });
    }
    let values = within("the callers", callers.join_all()).await;
    assert!(values.iter().all(|value| value == "v"));
    assert_eq!(counted.runs(), 1);
    let stats = cache.stats().total;
    assert_eq!((stats.requests, stats.loads), (CALLERS, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_share_one_load() {
    all_get_one_value(Cache::memory().unwrap()).await;
    let builder = |set: fn(CacheBuilder) -> CacheBuilder| {
        let remote = FakeRemote::new(Clock::system());
        (set(Cache::builder().l2(remote.clone())).build().unwrap(), remote)
    };
    let (cache, remote) = builder(|builder| builder);
    all_get_one_value(cache).await;
    let calls = [Operation::Open, Operation::Get, Operation::Lease, Operation::Fill];
    assert_eq!(calls.map(|operation| remote.calls(operation)), [1, 1, 1, 1]);
    let (cache, remote) = builder(CacheBuilder::no_l1);
    all_get_one_value(cache).await;
    assert_eq!((remote.calls(Operation::Open), remote.calls(Operation::Fill)), (1, 1));
}

#[tokio::test]
async fn a_caller_that_goes_away_at_any_point_takes_nothing_with_it() {
    for operation in [Operation::Get, Operation::Lease, Operation::Fill] {
        for point in [Point::BeforeEffect, Point::AfterEffect] {
            let node = Node::first().await;
            let gate = node.remote.hold(operation, point);
            let counted = Counted::default();
            let (texts, load) = (node.texts.clone(), counted.loader("v"));
            let leader = spawn(async move { texts.get_or_load("k", load).await });
            gate.wait_until_held(1).await;
            leader.abort();
            assert!(leader.await.unwrap_err().is_cancelled());
            let (texts, load) = (node.texts.clone(), counted.loader("v"));
            let follower = spawn(async move { texts.get_or_load("k", load).await });
            let_others_run().await;
            gate.open();
            assert_eq!(*ended(follower).await.unwrap(), "v", "{operation:?} {point:?}");
            assert_eq!(counted.runs(), 1, "{operation:?} {point:?}");
            assert_eq!(node.get("k").await.as_deref(), Some("v"));
        }
    }
}

#[tokio::test]
async fn a_load_goes_on_without_its_caller() {
    let node = Node::first().await;
    let (mut held, leader) = node.loading("k");
    held.started().await;
    let follower = node.loading_at_once("k", "never loaded");
    let_others_run().await;
    leader.abort();
    let_others_run().await;
    assert!(held.is_alive());
    held.bring("v");
    assert_eq!(ended(follower).await, "v");
    assert_eq!(node.get("k").await.as_deref(), Some("v"));
}

#[tokio::test]
async fn a_caller_that_is_never_polled_again_blocks_nobody() {
    let node = Node::first().await;
    let mut leader = Box::pin(node.texts.get_or_load("k", loader("v")));
    assert!(futures_util::poll!(&mut leader).is_pending());
    assert_eq!(node.load("k", "never loaded").await, "v");
    assert_eq!(*leader.await.unwrap(), "v");
}

#[tokio::test(start_paused = true)]
async fn callers_have_deadlines_of_their_own() {
    let node = Node::first().await;
    let (mut held, leader) = node.loading("k");
    held.started().await;
    for _ in 0..10 {
        let call = node.texts.get_or_load("k", loader("never loaded"));
        assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
    }
    held.bring("v");
    assert_eq!(*ended(leader).await.unwrap(), "v");
    assert_eq!(node.get("k").await.as_deref(), Some("v"));
    assert_eq!(node.cache.stats().total.loads, 1);
}

#[tokio::test]
async fn a_load_that_waits_for_itself_times_out() {
    let cache = Cache::memory().unwrap();
    let limit = Duration::from_millis(50);
    let texts: Keyspace<String, String> = cache.keyspace("texts").load_timeout(limit).build().unwrap();
    let inner = texts.clone();
    let again = move || async move {
        let inner: Result<_, LoadError<Infallible>> = inner.get_or_load("k", loader("inner")).await;
        inner.map(|value| (*value).clone())
    };
    let outer = within("the load", texts.get_or_load("k", again)).await;
    assert!(matches!(outer.unwrap_err().cache(), Some(ErrorKind::LoadTimedOut { after }) if *after == limit));
    assert_eq!(*texts.get_or_load("k", loader("v")).await.unwrap(), "v");
}

#[tokio::test]
async fn a_load_may_load_other_keys() {
    let cache = Cache::memory().unwrap();
    let texts: Keyspace<String, String> = cache.keyspace("texts").build().unwrap();
    let inner = texts.clone();
    let other =
        move || async move { inner.get_or_load("other", loader("v")).await.map(|value| (*value).clone()) };
    assert_eq!(*within("the load", texts.get_or_load("k", other)).await.unwrap(), "v");
}

/// An origin that has nothing, once a test lets it say so.
struct Empty(tokio::sync::Semaphore);

impl Origin<String, String> for Empty {
    type Error = Infallible;

    async fn load(&self, _: &String) -> Result<Option<String>, Infallible> {
        self.0.acquire().await.expect("it is never closed").forget();
        Ok(None)
    }
}

#[tokio::test]
async fn a_caller_with_a_loader_does_not_take_no_for_an_answer() {
    let cache = Cache::memory().unwrap();
    let texts: Keyspace<String, String> = cache.keyspace("texts").build().unwrap();
    let origin = std::sync::Arc::new(Empty(tokio::sync::Semaphore::new(0)));
    let through = texts.clone().with_origin(std::sync::Arc::clone(&origin));
    let reader = spawn(async move { through.get("k").await });
    let_others_run().await;
    let mut loaders = Vec::new();
    for _ in 0..20 {
        let texts = texts.clone();
        loaders.push(spawn(async move { texts.get_or_load("k", loader("v")).await }));
    }
    let_others_run().await;
    origin.0.add_permits(1);
    assert_eq!(ended(reader).await.unwrap(), None);
    for loader in loaders {
        assert_eq!(*ended(loader).await.unwrap(), "v");
    }
    assert_eq!(cache.stats().total.loads, 2, "one found nothing, and one brought the value for all");
}

#[tokio::test]
async fn absence_is_an_answer_for_everybody_who_reads_through() {
    let cache = Cache::memory().unwrap();
    let texts: Keyspace<String, String> = cache.keyspace("texts").build().unwrap();
    let origin = std::sync::Arc::new(Empty(tokio::sync::Semaphore::new(0)));
    let through = texts.with_origin(std::sync::Arc::clone(&origin));
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let through = through.clone();
            spawn(async move { through.get("k").await })
        })
        .collect();
    let_others_run().await;
    origin.0.add_permits(1);
    for reader in readers {
        assert_eq!(ended(reader).await.unwrap(), None);
    }
    assert_eq!(cache.stats().total.loads_absent, 1);
}

/// Nodes that see in L2 what others did: one without L1, one with an L1 that keeps nothing.
async fn nodes_that_keep_nothing() -> [Node; 2] {
    let (plain, mut brief) = (Node::first_without_l1().await, Node::first().await);
    let nothing = brief.cache.keyspace("brief").l1_ttl(Duration::ZERO);
    brief.texts = nothing.build().expect("a new keyspace");
    [plain, brief]
}

/// The same keyspace on another node.
async fn elsewhere(node: &Node) -> Keyspace<String, String> {
    let other = node.another_without_l1().await;
    if node.texts.name() == other.texts.name() {
        return other.texts;
    }
    other.cache.keyspace(node.texts.name()).build().expect("a new keyspace")
}

#[tokio::test]
async fn an_answer_of_l2_on_its_way_is_not_for_those_who_come_now() {
    for node in nodes_that_keep_nothing().await {
        let elsewhere = elsewhere(&node).await;
        elsewhere.put("k", "old".to_owned()).await.unwrap();
        let gate = node.remote.hold(Operation::Get, Point::AfterEffect);
        let early = node.loading_at_once("k", "never loaded");
        gate.wait_until_held(1).await;
        elsewhere.put("k", "new".to_owned()).await.unwrap();
        let late = node.loading_at_once("k", "never loaded");
        let_others_run().await;
        gate.open();
        assert_eq!(ended(early).await, "old");
        assert_eq!(ended(late).await, "new", "{}", node.texts.name());
    }
}

#[tokio::test]
async fn what_was_just_filled_is_not_for_those_who_come_now() {
    for node in nodes_that_keep_nothing().await {
        let elsewhere = elsewhere(&node).await;
        let gate = node.remote.hold(Operation::Fill, Point::AfterEffect);
        let early = node.loading_at_once("k", "old");
        gate.wait_until_held(1).await;
        elsewhere.put("k", "new".to_owned()).await.unwrap();
        let late = node.loading_at_once("k", "never loaded");
        let_others_run().await;
        gate.open();
        assert_eq!(ended(early).await, "old");
        assert_eq!(ended(late).await, "new", "{}", node.texts.name());
    }
}

#[tokio::test]
async fn without_l2_an_overtaken_value_is_for_the_leader_alone_too() {
    let cache = Cache::memory().unwrap();
    let texts: Keyspace<String, String> = cache.keyspace("texts").build().unwrap();
    let (mut held, load) = hold::<Infallible>();
    let leading = texts.clone();
    let leader = spawn(async move { leading.get_or_load("k", load).await });
    held.started().await;
    let following = texts.clone();
    let follower = spawn(async move { following.get_or_load("k", loader("own")).await });
    let_others_run().await;
    texts.remove("k").await.unwrap();
    held.bring("overtaken");
    assert_eq!(*ended(leader).await.unwrap(), "overtaken");
    assert_eq!(*ended(follower).await.unwrap(), "own");
}

#[tokio::test]
async fn a_rejected_value_is_for_the_leader_alone() {
    let node = Node::first().await;
    let elsewhere = node.another_without_l1().await;
    let (mut held, leader) = node.loading("k");
    held.started().await;
    let followers: Vec<_> = (0..10).map(|_| node.loading_at_once("k", "never loaded")).collect();
    let_others_run().await;
    elsewhere.put("k", "new").await;
    held.bring("old");
    assert_eq!(*ended(leader).await.unwrap(), "old", "its call began before the write");
    for follower in followers {
        assert_eq!(ended(follower).await, "new", "nobody else may see it");
    }
    assert_eq!(elsewhere.get("k").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn those_who_come_while_a_fill_is_on_its_way_look_again() {
    let node = Node::first().await;
    let elsewhere = node.another_without_l1().await;
    let gate = node.remote.hold(Operation::Fill, Point::BeforeEffect);
    let leader = node.loading_at_once("k", "old");
    gate.wait_until_held(1).await;
    elsewhere.put("k", "new").await;
    let late = node.loading_at_once("k", "never loaded");
    let_others_run().await;
    assert!(!late.is_finished());
    gate.open();
    assert_eq!(ended(leader).await, "old");
    assert_eq!(ended(late).await, "new");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_overtaken_again_and_again_loads_for_himself_in_the_end() {
    let node = Node::first().await;
    let mut current = node.loading("k");
    current.0.started().await;
    let patient = node.loading_at_once("k", "own");
    let_others_run().await;
    for _ in 0..2 {
        node.texts.remove("k").await.unwrap();
        let mut next = node.loading("k");
        next.0.started().await;
        current.0.bring("overtaken");
        assert_eq!(*ended(current.1).await.unwrap(), "overtaken");
        let_others_run().await;
        current = next;
    }
    assert_eq!(ended(patient).await, "own", "it has joined two flights in vain");
    current.0.bring("late");
    assert_eq!(*ended(current.1).await.unwrap(), "late");
}

#[tokio::test]
async fn a_hit_in_l2_is_found_by_all_who_wait_for_it() {
    let node = Node::first().await;
    let elsewhere = node.another().await;
    elsewhere.put("k", "v").await;
    let gate = node.remote.hold(Operation::Get, Point::AfterEffect);
    let callers: Vec<_> = (0..100).map(|_| node.loading_at_once("k", "never loaded")).collect();
    gate.wait_until_held(1).await;
    let_others_run().await;
    gate.open();
    for caller in callers {
        assert_eq!(ended(caller).await, "v");
    }
    assert_eq!(node.calls(Operation::Get), 1);
}

#[tokio::test]
async fn a_loader_that_is_not_needed_is_not_called() {
    let node = Node::first().await;
    node.put("k", "v").await;
    let unneeded =
        || -> std::future::Ready<Result<String, Infallible>> { unreachable!("the value is there") };
    assert_eq!(*node.texts.get_or_load("k", unneeded).await.unwrap(), "v");
    node.clock.advance(HOUR);
    let (held, never) = hold::<Infallible>();
    let call = node.texts.get_or_load("k", never);
    drop(call);
    let_others_run().await;
    assert!(!held.is_alive(), "a call that was never polled loads nothing");
}
