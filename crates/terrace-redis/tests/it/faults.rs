//! Servers that are not there, go away, hang and come back.

use crate::support::{LONG, adapter, key, namespace, read, set, until_served};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;
use terrace_core::Clock;
use terrace_core::remote::{Remote, RemoteError};
use terrace_redis::Redis;
use terrace_testkit::conformance::samples;
use terrace_testkit::server::{Proxy, RedisServer};
use terrace_testkit::wait;

/// Far less than any timeout that is not set here, and far more than a loaded machine needs.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A call that fails, and how long it took to.
async fn failure(redis: &Redis) -> (RemoteError, Duration) {
    let clock = Clock::system();
    let since = clock.precise();
    let error = redis.get(&namespace("users"), &key("key")).await.expect_err("it fails");
    (error, clock.precise().since(since))
}

/// Waits until calls fail for want of a connection.
async fn until_unavailable(redis: &Redis) {
    let ask = async || match redis.health().await {
        Err(RemoteError::Unavailable { .. }) => Some(()),
        _ => None,
    };
    wait::until_some("the loss to be seen", ask).await;
}

#[test]
fn building_needs_neither_a_server_nor_a_runtime() {
    let redis = Redis::address("127.0.0.1:1").build().expect("valid settings");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (error, took) = runtime.block_on(failure(&redis));
    assert!(
        matches!(&error, RemoteError::Unavailable { reason } if reason.contains("127.0.0.1:1")),
        "{error}"
    );
    assert!(took < AT_ONCE, "{took:?}");
}

#[tokio::test]
async fn the_first_call_waits_for_the_first_connection() {
    let Some(server) = RedisServer::start().await else { return };
    for _ in 0..20 {
        let redis = adapter(&server).build().expect("valid settings");
        let calls = (0..8).map(|_| async { redis.get(&namespace("users"), &key("key")).await });
        for found in futures_util::future::join_all(calls).await {
            assert_eq!(found.expect("no spurious failure at the start"), None);
        }
    }
}

#[tokio::test]
async fn it_recovers_from_a_crash_by_itself() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = adapter(&server).build().expect("valid settings");
    let namespace = namespace("users");
    redis.open(&namespace).await.expect("it opens");
    for round in 0..3 {
        set(&redis, &namespace, &key("key"), "value").await;
        server.kill();
        until_unavailable(&redis).await;
        let (error, took) = failure(&redis).await;
        assert!(matches!(error, RemoteError::Unavailable { .. }), "round {round}: {error}");
        assert!(
            took < Duration::from_millis(100),
            "without a connection it fails at once, not after {took:?}"
        );
        server.restart().await;
        until_served(&redis).await;
        assert_eq!(read(&redis, &namespace, &key("key")).await, None, "the server lost it, and so did we");
    }
}

#[tokio::test]
async fn it_starts_without_a_server_and_finds_it_later() {
    let Some(server) = RedisServer::start().await else { return };
    server.kill();
    let redis = adapter(&server).build().expect("valid settings");
    assert!(matches!(failure(&redis).await.0, RemoteError::Unavailable { .. }));
    server.restart().await;
    until_served(&redis).await;
}

#[tokio::test]
async fn a_hanging_server_is_noticed_and_calls_end() {
    let Some(server) = RedisServer::start().await else { return };
    let deadline = Duration::from_secs(10);
    let redis = adapter(&server).connections(1).read_timeout(deadline).build().expect("valid settings");
    redis.health().await.expect("it is well");
    server.stop();
    let (error, took) = failure(&redis).await;
    assert!(
        matches!(error, RemoteError::Broken { .. }),
        "the heartbeat is faster than the deadline: {error}"
    );
    assert!(took < Duration::from_secs(8), "{took:?}");
    let (error, took) = failure(&redis).await;
    assert!(matches!(error, RemoteError::Unavailable { .. }), "{error}");
    assert!(took < AT_ONCE, "{took:?}");
    server.cont();
    until_served(&redis).await;
}

#[tokio::test]
async fn a_deadline_holds_against_a_half_open_server() {
    let Some(server) = RedisServer::start().await else { return };
    let proxy = Proxy::start(server.port()).await;
    let deadline = Duration::from_millis(200);
    let redis = Redis::address(&proxy.address()).read_timeout(deadline).write_timeout(deadline * 2).build();
    let redis = redis.expect("valid settings");
    let namespace = namespace("users");
    until_served(&redis).await;
    proxy.block();
    let (error, took) = failure(&redis).await;
    assert!(matches!(error, RemoteError::Timeout { after } if after == deadline), "{error}");
    assert!(took >= deadline && took < deadline + AT_ONCE, "{took:?}");
    let value = samples::sealed(&namespace, &key("key"), "value", LONG);
    let error = redis.set(&namespace, &key("key"), value, LONG).await.expect_err("nobody answers");
    assert!(matches!(error, RemoteError::Timeout { after } if after == deadline * 2), "{error}");
    proxy.unblock();
    until_served(&redis).await;
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_no_server() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let redis =
        Redis::address(&address).connect_timeout(Duration::from_millis(50)).build().expect("valid settings");
    let (error, took) = failure(&redis).await;
    assert!(matches!(error, RemoteError::Unavailable { .. }), "{error}");
    assert!(took < AT_ONCE, "{took:?}");
    let redis =
        Redis::address(&address).read_timeout(Duration::from_millis(50)).build().expect("valid settings");
    let (error, took) = failure(&redis).await;
    assert!(matches!(error, RemoteError::Unavailable { .. }), "nothing was sent: {error}");
    assert!(took < AT_ONCE, "{took:?}");
}

#[tokio::test]
async fn a_replica_is_refused_and_a_primary_that_becomes_one_is_left() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = adapter(&server).build().expect("valid settings");
    let namespace = namespace("users");
    redis.open(&namespace).await.expect("it opens");
    server.cli(&["replicaof", "127.0.0.1", "1"]).await;
    let value = samples::sealed(&namespace, &key("key"), "value", LONG);
    let refused = async || {
        let answer = redis.set(&namespace, &key("key"), value.clone(), LONG).await;
        answer.err().filter(|error| matches!(error, RemoteError::Refused { .. }))
    };
    let error = wait::until_some("the write to be refused", refused).await;
    let is_clear = |reason: &str| reason.contains("READONLY") || reason.contains("is a replica");
    assert!(matches!(&error, RemoteError::Refused { reason } if is_clear(reason)), "{error}");
    let left = async || redis.health().await.err().filter(|error| error.to_string().contains("is a replica"));
    wait::until_some("the replica to be left", left).await;
    server.cli(&["replicaof", "no", "one"]).await;
    until_served(&redis).await;
    set(&redis, &namespace, &key("key"), "value").await;
}

#[tokio::test]
async fn connections_are_replaced_at_the_end_of_their_lifetime_and_no_call_fails() {
    let Some(server) = RedisServer::start().await else { return };
    let proxy = Proxy::start(server.port()).await;
    let builder = Redis::address(&proxy.address()).connections(1).max_lifetime(Duration::from_secs(1));
    let redis = builder.build().expect("valid settings");
    let calling = async {
        while proxy.connections() < 3 {
            redis.health().await.expect("no call fails");
        }
    };
    wait::within("two replacements", wait::DEADLINE, calling).await;
}

#[tokio::test]
async fn closing_and_dropping_end_the_connections() {
    let Some(server) = RedisServer::start().await else { return };
    let clients = async || {
        server
            .cli(&["client", "list"])
            .await
            .lines()
            .filter(|line| line.contains("cmd=ping") || line.contains("cmd=script"))
            .count()
    };
    let redis = adapter(&server).build().expect("valid settings");
    let other = redis.clone();
    redis.health().await.expect("it is well");
    other.close().await;
    assert!(matches!(failure(&redis).await.0, RemoteError::Unavailable { .. }));
    wait::until_some("the connections to end", async || (clients().await == 0).then_some(())).await;

    let dropped = adapter(&server).build().expect("valid settings");
    dropped.health().await.expect("it is well");
    drop(dropped);
    wait::until_some("the connections to end", async || (clients().await == 0).then_some(())).await;
}

#[test]
fn it_outlives_the_runtime_it_was_first_used_on() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let first = runtime();
    let Some(server) = first.block_on(RedisServer::start()) else { return };
    let redis = adapter(&server).build().expect("valid settings");
    first.block_on(async { redis.health().await.expect("it is well") });
    drop(first);
    runtime().block_on(until_served(&redis));
}

/// Polls a call some times and drops it.
async fn drop_after(polls: u32, call: impl Future<Output = ()>) {
    let mut call = std::pin::pin!(call);
    for _ in 0..polls {
        let ended = poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_ready())).await;
        if ended {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn dropped_calls_never_mix_up_answers() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let Some(server) = runtime.block_on(RedisServer::start()) else { return };
    let redis = adapter(&server).connections(1).build().expect("valid settings");
    let namespace = namespace("users");
    runtime.block_on(async { redis.open(&namespace).await.expect("it opens") });
    let keys: Vec<_> = (0..8).map(|index| key(&format!("key:{index}"))).collect();
    runtime.block_on(async {
        for key in &keys {
            set(&redis, &namespace, key, key.as_str()).await;
        }
    });
    let config = ProptestConfig { cases: 300, ..ProptestConfig::default() };
    let drops = prop::collection::vec((0..8_usize, 0..4_usize, 0..6_u32), 1..20);
    let outcome = TestRunner::new(config).run(&drops, |drops| {
        runtime.block_on(async {
            for (index, kind, polls) in drops {
                let key = &keys[index];
                let value = samples::sealed(&namespace, key, key.as_str(), LONG);
                let call = async {
                    match kind {
                        0 => drop(redis.get(&namespace, key).await),
                        1 => drop(redis.get_many(&namespace, &keys).await),
                        2 => drop(redis.set(&namespace, key, value, LONG).await),
                        _ => drop(redis.health().await),
                    }
                };
                drop_after(polls, call).await;
                let found = read(&redis, &namespace, key).await;
                prop_assert_eq!(found.as_deref(), Some(key.as_str()));
            }
            Ok(())
        })
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
