//! What calls cost: round trips, counted on the road to the server.

use crate::support::{LONG, adapter, key, namespace, patient, set};
use std::time::Duration;
use terrace_core::bus::Bus;
use terrace_core::remote::{LeaseOutcome, LeaseToken, Remote, Validity};
use terrace_core::{Key, Partition, Tag, Version};
use terrace_redis::Redis;
use terrace_testkit::conformance::samples;
use terrace_testkit::server::{Proxy, RedisServer};

const CALLS: u64 = 40;

/// Runs a call some times and asserts how many round trips each took. A few heartbeats pass on the same road; one adds
/// a round trip, or takes one away that it shares with a call.
async fn assert_round_trips(proxy: &Proxy, what: &str, expected: u64, mut call: impl AsyncFnMut(u64)) {
    let before = proxy.round_trips();
    for index in 0..CALLS {
        call(index).await;
    }
    let counted = proxy.round_trips() - before;
    let whole = expected * CALLS;
    assert!(
        (whole - CALLS / 4..whole + CALLS / 2).contains(&counted),
        "{what}: {counted} round trips in {CALLS} calls"
    );
}

#[tokio::test]
async fn a_call_is_one_round_trip() {
    let Some(server) = RedisServer::start().await else { return };
    let proxy = Proxy::start(server.port()).await;
    let redis = Redis::address(&proxy.address()).connections(1).build().expect("valid settings");
    let namespace = namespace("cost");
    redis.open(&namespace).await.expect("it opens");
    let hit = key("hit");
    set(&redis, &namespace, &hit, "value").await;

    assert_round_trips(&proxy, "a hit", 1, async |_| {
        assert!(redis.get(&namespace, &hit).await.expect("a read").is_some());
    })
    .await;
    assert_round_trips(&proxy, "a miss", 1, async |_| {
        assert!(redis.get(&namespace, &key("miss")).await.expect("a read").is_none());
    })
    .await;
    assert_round_trips(&proxy, "a set", 1, async |_| {
        set(&redis, &namespace, &hit, "value").await;
    })
    .await;
    let many: Vec<Key> = (0..20).map(|index| key(&format!("many:{index}"))).collect();
    assert_round_trips(&proxy, "20 invalidations", 1, async |_| {
        redis.invalidate(&namespace, &many).await.expect("they succeed");
    })
    .await;
    assert_round_trips(&proxy, "20 sets", 1, async |_| {
        let entry = |key: &Key| (key.clone(), samples::sealed(&namespace, key, "value", LONG), LONG);
        redis.set_many(&namespace, many.iter().map(entry).collect()).await.expect("they succeed");
    })
    .await;
    assert_round_trips(&proxy, "20 reads", 1, async |_| {
        assert!(redis.get_many(&namespace, &many).await.expect("they succeed").iter().all(Option::is_some));
    })
    .await;
    let asked: Vec<(Key, Version)> = many.iter().map(|key| (key.clone(), 1.into())).collect();
    assert_round_trips(&proxy, "20 validations", 1, async |_| {
        redis.validate(&namespace, &asked).await.expect("they succeed");
    })
    .await;
    let tags: Vec<Tag> = (0..32).map(|index| Tag::new(&format!("tag:{index}")).expect("valid")).collect();
    assert_round_trips(&proxy, "32 generations", 1, async |_| {
        redis.generations(&namespace, &tags).await.expect("they succeed");
    })
    .await;
    assert_round_trips(&proxy, "a beat", 1, async |index| {
        redis.beat(index).await.expect("it succeeds");
    })
    .await;
    assert_round_trips(&proxy, "all counters", 1, async |_| {
        redis.counters(&namespace, 0..256).await.expect("they are read");
    })
    .await;
    let after: Vec<_> = (0..256).map(|partition| (Partition(partition), Version::ZERO)).collect();
    assert_round_trips(&proxy, "all logs", 1, async |_| {
        redis.changes_since(&namespace, &after).await.expect("they are read");
    })
    .await;
}

/// How many bytes the server has sent so far.
async fn bytes_sent(server: &RedisServer) -> u64 {
    let told = server.cli(&["info", "stats"]).await;
    let line =
        told.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:")).expect("it is told");
    line.trim().parse().expect("a number")
}

#[tokio::test]
async fn asking_for_versions_moves_no_values() {
    const VALUES: usize = 1000;
    let Some(server) = RedisServer::start().await else { return };
    let redis = patient(adapter(&server)).connections(1).build().expect("valid settings");
    let namespace = namespace("bytes");
    redis.open(&namespace).await.expect("it opens");
    let text = "0123456789abcdef".repeat(640);
    let keys: Vec<Key> = (0..VALUES).map(|index| key(&format!("key:{index}"))).collect();
    let entry = |key: &Key| (key.clone(), samples::sealed(&namespace, key, &text, LONG), LONG);
    let versions =
        redis.set_many(&namespace, keys.iter().map(entry).collect()).await.expect("they are stored");
    let asked: Vec<(Key, Version)> = keys.iter().cloned().zip(versions).collect();
    let begin = bytes_sent(&server).await;
    assert!(redis.get_many(&namespace, &keys).await.expect("they are read").iter().all(Option::is_some));
    let read = bytes_sent(&server).await - begin;
    let told = redis.validate(&namespace, &asked).await.expect("they are asked about");
    assert!(told.iter().all(|told| matches!(told, Validity::Same { .. })));
    let validated = bytes_sent(&server).await - begin - read;
    println!(
        "{VALUES} values of {} bytes: {read} bytes to read them, {validated} to ask for their versions",
        text.len()
    );
    assert!(read > (VALUES * text.len()) as u64 && validated < (VALUES * 64) as u64, "{read} {validated}");
}

#[tokio::test]
async fn a_load_is_a_lease_and_a_fill() {
    let Some(server) = RedisServer::start().await else { return };
    let proxy = Proxy::start(server.port()).await;
    let redis = Redis::address(&proxy.address()).connections(1).build().expect("valid settings");
    let namespace = namespace("cost");
    redis.open(&namespace).await.expect("it opens");
    assert_round_trips(&proxy, "a load", 2, async |index| {
        let key = key(&format!("key:{index}"));
        let token = LeaseToken(u128::from(index));
        let asked = redis.lease(&namespace, &key, token, Duration::from_secs(10), None).await;
        let LeaseOutcome::Granted(lease) = asked.expect("asking succeeds") else {
            panic!("nobody else loads")
        };
        let value = samples::sealed(&namespace, &key, "value", LONG);
        redis.fill(&namespace, &key, &lease, value, LONG).await.expect("a fill succeeds");
    })
    .await;
}

#[tokio::test]
async fn connections_are_as_many_as_were_asked_for() {
    let Some(server) = RedisServer::start().await else { return };
    let proxy = Proxy::start(server.port()).await;
    let redis = Redis::address(&proxy.address()).pool_size(100).build().expect("valid settings");
    let tasks = (0..64).map(|_| {
        let redis = redis.clone();
        tokio::task::spawn_local(async move { redis.health().await.expect("it is well") })
    });
    let local = tokio::task::LocalSet::new();
    let all = local.run_until(async { futures_util::future::join_all(tasks).await });
    assert!(all.await.into_iter().all(|ended| ended.is_ok()));
    assert_eq!((redis.connections(), proxy.connections()), (2, 2));
}
