//! Values whose callers have given up before they reached the server.

use crate::support::{LONG, adapter, key, namespace, read, set, until_served};
use std::time::Duration;
use terrace_core::remote::{Expected, Remote, RemoteError};
use terrace_core::{Clock, Key, Namespace};
use terrace_redis::Redis;
use terrace_testkit::conformance::samples;
use terrace_testkit::server::{Proxy, RedisServer, Road};
use terrace_testkit::wait;

/// How many scripts the server was asked to run, those that did nothing among them.
async fn scripts(server: &RedisServer) -> u64 {
    let stats = server.cli(&["info", "commandstats"]).await;
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}

/// A node whose bytes can be held back, and one whose cannot.
struct Pair {
    server: RedisServer,
    proxy: Proxy,
    held: Redis,
    other: Redis,
    namespace: Namespace,
}

impl Pair {
    async fn new(write_timeout: Duration) -> Option<Self> {
        let server = RedisServer::start().await?;
        let proxy = Proxy::start(server.port()).await;
        let held = Redis::address(&proxy.address()).connections(1).write_timeout(write_timeout).build();
        let (held, other) =
            (held.expect("valid settings"), adapter(&server).build().expect("valid settings"));
        let namespace = namespace("late");
        wait::until_some("the namespace to open", async || held.open(&namespace).await.ok()).await;
        Some(Self { server, proxy, held, other, namespace })
    }

    /// Sets a key while nothing gets to the server, and returns the failure and how long it took.
    async fn fail_to_set(&self, key: &Key) -> (RemoteError, Duration) {
        self.proxy.roads(Road::Blocked, Road::Open);
        let (clock, value) = (Clock::system(), samples::sealed(&self.namespace, key, "older", LONG));
        let begun = clock.precise();
        let ended = self.held.set(&self.namespace, key, value, LONG).await;
        (ended.expect_err("it does not reach the server"), clock.precise().since(begun))
    }

    /// Lets through what was held back, and waits until the server has run a script more than before.
    async fn let_through(&self) {
        let before = scripts(&self.server).await;
        self.proxy.unblock();
        let arrived = async || (scripts(&self.server).await > before).then_some(());
        wait::until_some("the bytes to arrive", arrived).await;
    }
}

#[tokio::test]
async fn a_value_that_was_given_up_is_not_stored_behind_a_newer_one() {
    let Some(pair) = Pair::new(Duration::from_millis(300)).await else { return };
    let key = key("key");
    let (error, _) = pair.fail_to_set(&key).await;
    assert!(matches!(error, RemoteError::Timeout { .. }), "{error}");
    set(&pair.other, &pair.namespace, &key, "newer").await;
    pair.let_through().await;
    assert_eq!(read(&pair.other, &pair.namespace, &key).await.as_deref(), Some("newer"));
}

#[tokio::test]
async fn what_was_to_be_created_and_was_given_up_is_not_created_behind_a_removal() {
    let Some(pair) = Pair::new(Duration::from_millis(300)).await else { return };
    let key = key("key");
    pair.proxy.roads(Road::Blocked, Road::Open);
    let value = samples::sealed(&pair.namespace, &key, "older", LONG);
    let ended = pair.held.set_if(&pair.namespace, &key, Expected::Absent, Some((value, LONG))).await;
    let error = ended.expect_err("it does not reach the server");
    assert!(matches!(error, RemoteError::Timeout { .. }), "{error}");
    set(&pair.other, &pair.namespace, &key, "newer").await;
    pair.other.invalidate(&pair.namespace, std::slice::from_ref(&key)).await.expect("it is removed");
    pair.let_through().await;
    assert_eq!(read(&pair.other, &pair.namespace, &key).await, None);
}

#[tokio::test]
async fn a_value_whose_connection_is_lost_fails_when_it_cannot_be_stored_any_more() {
    let deadline = Duration::from_millis(2500);
    let Some(pair) = Pair::new(deadline).await else { return };
    let key = key("key");
    let (error, took) = pair.fail_to_set(&key).await;
    assert!(matches!(error, RemoteError::Broken { .. }), "its heartbeats went unanswered before: {error}");
    assert!(took >= deadline, "{took:?}: it may still arrive");
    set(&pair.other, &pair.namespace, &key, "newer").await;
    pair.let_through().await;
    assert_eq!(read(&pair.other, &pair.namespace, &key).await.as_deref(), Some("newer"));
}

#[tokio::test]
async fn what_is_refused_or_not_sent_fails_at_once() {
    let deadline = wait::DEADLINE * 2;
    let Some(pair) = Pair::new(deadline).await else { return };
    let (clock, key) = (Clock::system(), key("key"));
    let begun = clock.precise();
    pair.server.cli(&["config", "set", "maxmemory", "1"]).await;
    let value = || samples::sealed(&pair.namespace, &key, "value", LONG);
    let refused = pair.held.set(&pair.namespace, &key, value(), LONG).await;
    assert!(matches!(refused, Err(RemoteError::Refused { .. })), "{refused:?}");
    pair.server.kill();
    let lost = async || match pair.held.health().await {
        Err(RemoteError::Unavailable { .. }) => Some(()),
        _ => None,
    };
    wait::until_some("the loss to be seen", lost).await;
    let unsent = pair.held.set(&pair.namespace, &key, value(), LONG).await;
    assert!(matches!(unsent, Err(RemoteError::Unavailable { .. })), "{unsent:?}");
    assert!(clock.precise().since(begun) < deadline);
}

#[tokio::test]
async fn of_many_values_those_that_come_too_late_are_not_stored() {
    let Some(pair) = Pair::new(Duration::from_millis(500)).await else { return };
    let (keys, older): (Vec<Key>, _) =
        ((0..400).map(|number| key(&format!("key:{number}"))).collect(), "older".repeat(800));
    let entry = |key: &Key| (key.clone(), samples::sealed(&pair.namespace, key, &older, LONG), LONG);
    pair.proxy.roads(Road::Slow(Duration::from_millis(40)), Road::Open);
    let ended = pair.held.set_many(&pair.namespace, keys.iter().map(entry).collect()).await;
    let error = ended.expect_err("not all of them reach the server in time");
    assert!(matches!(error, RemoteError::Timeout { .. } | RemoteError::Broken { .. }), "{error}");
    let last = &keys[keys.len() - 1];
    set(&pair.other, &pair.namespace, last, "newer").await;
    pair.proxy.unblock();
    until_served(&pair.held).await;
    let found = pair.other.get_many(&pair.namespace, &keys).await.expect("a read succeeds");
    let stored = found.iter().take_while(|found| found.is_some()).count();
    assert!(stored < keys.len() - 1);
    assert!(found[stored..keys.len() - 1].iter().all(Option::is_none), "they are stored in their order");
    assert_eq!(read(&pair.other, &pair.namespace, last).await.as_deref(), Some("newer"));
}
