//! What a node hears of connections that are lost, and how it goes on after them.

use crate::support::{Ear, adapter, key, messages, namespace, physical, raw, set, until_served};
use futures_util::{FutureExt, StreamExt};
use redis::aio::MultiplexedConnection;
use terrace_core::bus::{Bus, BusEvent, Change};
use terrace_core::remote::{Remote, RemoteError};
use terrace_core::{Partition, Version};
use terrace_redis::Redis;
use terrace_testkit::server::{Proxy, RedisServer};
use terrace_testkit::wait;

/// How many connections listen, as the server sees it.
async fn listeners(server: &RedisServer) -> usize {
    let list = server.cli(&["client", "list", "type", "pubsub"]).await;
    list.lines().filter(|line| line.contains("id=")).count()
}

/// How many connections were ever opened, as the server sees it.
async fn connections(raw: &mut MultiplexedConnection) -> u32 {
    let stats: String = redis::cmd("INFO").arg("stats").query_async(raw).await.expect("it tells");
    let count = stats.lines().find_map(|line| line.trim().strip_prefix("total_connections_received:"));
    count.and_then(|count| count.parse().ok()).expect("the server counts them")
}

#[tokio::test]
async fn a_connection_that_was_killed_is_told_once_and_what_was_missed_is_in_the_log() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = adapter(&server).partitions(1).build().expect("valid settings");
    let (users, orders) = (namespace("users"), namespace("orders"));
    for namespace in [&users, &orders] {
        redis.open(namespace).await.expect("it opens");
        redis.join(namespace);
    }
    let mut ear = Ear::of(&redis);
    for namespace in [&users, &orders] {
        ear.joined(namespace).await;
    }
    let mut raw = raw(&server.url()).await;
    for round in 0..3 {
        set(&redis, &users, &key("heard"), "value").await;
        let heard = ear.message(&users).await.1.number;
        let mut kill = redis::cmd("CLIENT");
        let killed: u32 =
            kill.arg("KILL").arg("TYPE").arg("pubsub").query_async(&mut raw).await.expect("killed");
        assert_eq!(killed, 1, "round {round}: it has one connection, and it listens");
        assert_eq!(ear.next().await, BusEvent::Lost);
        let missed: Vec<_> = (0..10).map(|index| key(&format!("missed:{index}"))).collect();
        redis.invalidate(&users, &missed).await.expect("they succeed");
        let counters = ear.joined(&users).await;
        ear.joined(&orders).await;
        let log = redis.changes_since(&users, &[(Partition(0), heard)]).await.expect("it is read");
        let log = messages(&log[0]);
        let expected: Vec<_> = missed.into_iter().map(Change::Invalidate).collect();
        assert_eq!(log.iter().map(|message| message.change.clone()).collect::<Vec<_>>(), expected);
        assert_eq!(log[0].previous, heard);
        assert_eq!([log[9].number], *counters);
        redis.beat(round).await.expect("it succeeds");
        assert_eq!(ear.next().await, BusEvent::Beat(round), "and nothing was told twice");
    }
}

#[tokio::test]
async fn a_crash_of_the_server_is_survived() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = adapter(&server).partitions(2).build().expect("valid settings");
    let users = namespace("users");
    redis.open(&users).await.expect("it opens");
    redis.join(&users);
    let mut ear = Ear::of(&redis);
    assert_ne!(ear.joined(&users).await[0], Version::ZERO);
    for round in 0..3 {
        server.kill();
        assert_eq!(ear.next().await, BusEvent::Lost);
        assert!(ear.events.next().now_or_never().is_none(), "it is told once");
        server.restart().await;
        assert_eq!(ear.joined(&users).await, [Version::ZERO; 2], "the server lost it all");
        until_served(&redis).await;
        redis.open(&users).await.expect("it opens");
        for _ in 0..2 {
            let floor = ear.message(&users).await.1;
            assert_eq!((floor.change, floor.previous), (Change::Floor, Version::ZERO), "round {round}");
            ear.message(&users).await;
        }
    }
}

#[tokio::test]
async fn a_stream_begins_without_a_server_and_finds_it_later() {
    let Some(server) = RedisServer::start().await else { return };
    server.kill();
    let redis = adapter(&server).build().expect("valid settings");
    let users = namespace("users");
    redis.join(&users);
    let mut ear = Ear::of(&redis);
    let refused = async || redis.health().await.err();
    wait::until_some("the server to be missed", refused).await;
    assert!(ear.events.next().now_or_never().is_none());
    let (counters, ()) = tokio::join!(ear.joined(&users), server.restart());
    assert_eq!(counters, [Version::ZERO; 256], "and no loss was told, for there was nothing to lose");
}

#[tokio::test]
async fn a_namespace_whose_counters_cannot_be_read_is_not_told_as_joined() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = adapter(&server).partitions(1).build().expect("valid settings");
    let users = namespace("users");
    let counter = physical("terrace:", &users, Partition(0), "s");
    server.cli(&["set", &counter, "no counter"]).await;
    redis.join(&users);
    let mut ear = Ear::of(&redis);
    let mut raw = raw(&server.url()).await;
    let before = connections(&mut raw).await;
    let attempts = async || (connections(&mut raw).await >= before + 3).then_some(());
    tokio::select! {
        biased;
        event = ear.next() => panic!("nothing is to be told, not {event:?}"),
        () = wait::until_some("attempts", attempts) => {}
    }
    server.cli(&["del", &counter]).await;
    assert_eq!(ear.joined(&users).await, [Version::ZERO], "and no loss before it, for nothing was told");
}

#[tokio::test]
async fn a_half_open_connection_is_noticed() {
    let Some(server) = RedisServer::start().await else { return };
    let proxy = Proxy::start(server.port()).await;
    let redis = Redis::address(&proxy.address()).build().expect("valid settings");
    let users = namespace("users");
    redis.join(&users);
    let mut ear = Ear::of(&redis);
    ear.joined(&users).await;
    proxy.block();
    assert_eq!(ear.next().await, BusEvent::Lost);
    proxy.unblock();
    ear.joined(&users).await;
}

#[tokio::test]
async fn a_replica_is_not_listened_to_and_refuses_beats() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = adapter(&server).build().expect("valid settings");
    let users = namespace("users");
    redis.open(&users).await.expect("it opens");
    redis.join(&users);
    let mut ear = Ear::of(&redis);
    ear.joined(&users).await;
    redis.beat(1).await.expect("it is a primary");
    assert_eq!(ear.next().await, BusEvent::Beat(1));
    server.cli(&["replicaof", "127.0.0.1", "1"]).await;
    let error = redis.beat(2).await.expect_err("it is none");
    assert!(matches!(error, RemoteError::CutOff { .. }), "{error}");
    assert_eq!(ear.next().await, BusEvent::Lost);
    wait::until_some("the replica to be left", async || (listeners(&server).await == 0).then_some(())).await;
    assert!(ear.events.next().now_or_never().is_none(), "it is told once");
    server.cli(&["replicaof", "no", "one"]).await;
    ear.joined(&users).await;
    until_served(&redis).await;
    redis.beat(3).await.expect("it is a primary again");
    assert_eq!(ear.next().await, BusEvent::Beat(3));
}

#[tokio::test]
async fn a_request_to_load_anew_is_passed_on_by_a_primary_alone() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = adapter(&server).partitions(1).build().expect("valid settings");
    let users = namespace("users");
    redis.open(&users).await.expect("it opens");
    let before = set(&redis, &users, &key("k"), "value").await;
    redis.join(&users);
    let mut ear = Ear::of(&redis);
    ear.joined(&users).await;
    let number = redis.refresh(&users, &key("k")).await.expect("it is a primary");
    assert!(number.supersedes(before));
    let told = ear.message(&users).await.1;
    assert_eq!((told.number, told.change), (number, Change::Refresh(key("k"))));
    assert!(crate::support::read(&redis, &users, &key("k")).await.is_some(), "the value stays");
    server.cli(&["replicaof", "127.0.0.1", "1"]).await;
    let error = redis.refresh(&users, &key("k")).await.expect_err("it is none");
    assert!(matches!(error, RemoteError::CutOff { .. }), "{error}");
}

#[tokio::test]
async fn a_stream_that_is_not_polled_keeps_a_bounded_amount_and_loses_the_rest() {
    const KEPT_MAX: usize = 16 << 20;
    let Some(server) = RedisServer::start().await else { return };
    let redis = crate::support::patient(adapter(&server)).partitions(1).build().expect("valid settings");
    let users = namespace("users");
    redis.open(&users).await.expect("it opens");
    redis.join(&users);
    let mut ear = Ear::of(&redis);
    ear.joined(&users).await;
    let keys: Vec<_> = (0..512).map(|index| key(&format!("{index:01024}"))).collect();
    for _ in 0..56 {
        redis.invalidate(&users, &keys).await.expect("they succeed");
    }
    let read = async || {
        let list = server.cli(&["client", "list", "type", "pubsub"]).await;
        (list.contains("id=") && list.contains(" omem=0 ")).then_some(())
    };
    wait::until_some("all to be read", read).await;

    let (mut kept, mut previous) = (0, None);
    loop {
        match ear.next().await {
            BusEvent::Heard { bytes, .. } => {
                let message = terrace_core::bus::Message::parse(&bytes).expect("a message");
                assert!(
                    previous.is_none_or(|previous| previous == message.previous),
                    "what is kept has no gap"
                );
                previous = Some(message.number);
                kept += bytes.len();
            }
            BusEvent::Lost => break,
            other => panic!("nothing else happened: {other:?}"),
        }
    }
    assert!((KEPT_MAX / 2..KEPT_MAX).contains(&kept), "{kept} bytes");
    assert!(ear.joined(&users).await[0].supersedes(previous.expect("something was kept")));
}

#[tokio::test]
async fn closing_ends_what_is_heard() {
    let Some(server) = RedisServer::start().await else { return };
    let users = namespace("users");
    let closed = adapter(&server).build().expect("valid settings");
    let dropped = adapter(&server).build().expect("valid settings");
    let mut ears = [Ear::of(&closed), Ear::of(&dropped)];
    for (node, ear) in [&closed, &dropped].into_iter().zip(&mut ears) {
        node.join(&users);
        ear.joined(&users).await;
    }
    assert_eq!(listeners(&server).await, 2);
    closed.close().await;
    drop(dropped);
    for ear in &mut ears {
        assert_eq!(ear.next().await, BusEvent::Lost);
        assert!(ear.events.next().now_or_never().is_none());
    }
    wait::until_some("the connections to end", async || (listeners(&server).await == 0).then_some(())).await;
    let mut raw = raw(&server.url()).await;
    let before = connections(&mut raw).await;
    let own = adapter(&server).build().expect("valid settings");
    own.join(&users);
    let (mut late, mut ear) = (Ear::of(&closed), Ear::of(&own));
    tokio::select! {
        biased;
        event = late.next() => panic!("a closed node hears nothing, not {event:?}"),
        _ = ear.joined(&users) => {}
    }
    assert_eq!(connections(&mut raw).await, before + 1, "a closed node does not begin to listen");
    drop(ear);
    wait::until_some("the connection to end", async || (listeners(&server).await == 0).then_some(())).await;
    own.health().await.expect("its calls go on");
}
