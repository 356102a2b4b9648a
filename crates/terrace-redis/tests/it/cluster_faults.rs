//! A Cluster whose primaries die, are replaced and hand over their slots, under load.
//!
//! Figures are printed: `cargo nextest run -p terrace-redis --all-features --no-capture cluster_faults`.

use crate::cluster::adapter;
use crate::support::{Ear, LONG, key, messages, namespace, read, set};
use futures_util::StreamExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use terrace_core::bus::{Bus, BusEvent, Change};
use terrace_core::remote::{Remote, RemoteError};
use terrace_core::{Clock, Key, Moment, Namespace, Partition};
use terrace_redis::Redis;
use terrace_testkit::conformance::samples;
use terrace_testkit::server::{RedisCluster, RedisServer};
use terrace_testkit::wait;

/// A key whose partition is on each primary, in their order.
async fn one_key_each(cluster: &RedisCluster, namespace: &Namespace, partitions: u16) -> Vec<Key> {
    let mut found = Vec::new();
    for primary in cluster.primaries().await {
        for index in 0.. {
            let candidate = key(&format!("key:{index}"));
            let partition = Partition::of(namespace, candidate.as_str(), partitions);
            if cluster.owner_of(&format!("{{{namespace}.{}}}", partition.0)).await == primary {
                found.push(candidate);
                break;
            }
        }
    }
    found
}

/// What came of changing one key and reading it back, again and again.
#[derive(Default)]
struct Load {
    done: AtomicU64,
    failed: AtomicU64,
    /// The longest time without a success, in milliseconds.
    outage: AtomicU64,
    slowest: AtomicU64,
}

fn millis(from: Moment, clock: &Clock) -> u64 {
    u64::try_from(clock.precise().since(from).as_millis()).expect("a short time")
}

/// Changes a key and reads it back until it is over. What was read is never older than what was acknowledged, unless the
/// Cluster may have `lost` it.
async fn load(
    redis: &Redis,
    namespace: &Namespace,
    key: &Key,
    load: &Load,
    may_lose: bool,
    is_over: &AtomicBool,
) {
    let clock = Clock::system();
    let mut success = clock.precise();
    let mut acknowledged = 0;
    for number in 1_u64.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let began = clock.precise();
        let value = samples::sealed(namespace, key, &number.to_string(), LONG);
        let stored = redis.set(namespace, key, value, LONG).await;
        if stored.is_ok() {
            acknowledged = number;
        }
        let found = redis.get(namespace, key).await;
        load.slowest.fetch_max(millis(began, &clock), Ordering::Relaxed);
        if let Ok(Some(found)) = &found {
            let found: u64 = samples::opened(namespace, key, &found.bytes).1.parse().expect("a number");
            assert!(may_lose || found >= acknowledged, "{key}: {found} after {acknowledged}");
        }
        if stored.is_ok() && found.is_ok() {
            load.outage.fetch_max(millis(success, &clock), Ordering::Relaxed);
            success = clock.precise();
            load.done.fetch_add(1, Ordering::Relaxed);
        } else {
            load.failed.fetch_add(1, Ordering::Relaxed);
        }
        wait::pause(Duration::from_millis(1)).await;
    }
}

fn report(what: &str, loads: &[Load]) {
    for (shard, load) in loads.iter().enumerate() {
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        println!(
            "{what}: shard {shard}: {} done, {} failed, {} ms without success at most, slowest {} ms",
            number(&load.done),
            number(&load.failed),
            number(&load.outage),
            number(&load.slowest),
        );
    }
}

/// Whether a message about this key is heard; not if the connections are lost before.
async fn is_heard(ear: &mut Ear, key: &Key) -> bool {
    let changed = Change::Invalidate(key.clone());
    loop {
        match ear.next().await {
            BusEvent::Lost => return false,
            BusEvent::Heard { bytes, .. } if messages(std::slice::from_ref(&bytes))[0].change == changed => {
                return true;
            }
            _ => {}
        }
    }
}

async fn until_joined(ear: &mut Ear) {
    while !matches!(ear.next().await, BusEvent::Joined { .. }) {}
}

/// Waits until invalidations on every shard, and then a beat, are heard without a loss in between.
async fn until_all_is_heard(redis: &Redis, ear: &mut Ear, namespace: &Namespace, keys: &[Key]) {
    'anew: loop {
        for key in keys {
            redis.invalidate(namespace, std::slice::from_ref(key)).await.expect("it succeeds");
            if !is_heard(ear, key).await {
                until_joined(ear).await;
                continue 'anew;
            }
        }
        redis.beat(77).await.expect("it succeeds");
        loop {
            match ear.next().await {
                BusEvent::Beat(77) => return,
                BusEvent::Lost => break,
                _ => {}
            }
        }
        until_joined(ear).await;
    }
}

#[tokio::test]
async fn a_primary_that_dies_takes_no_other_shard_with_it_and_all_are_heard_again() {
    let member = RedisServer::builder().setting("cluster-require-full-coverage", "no");
    let Some(cluster) = RedisCluster::start_with(member).await else { return };
    let timeout = Duration::from_secs(1);
    let builder = adapter(&cluster).read_timeout(timeout).write_timeout(timeout).partitions(32);
    let redis = builder.build().expect("valid settings");
    let users = namespace("users");
    redis.open(&users).await.expect("it opens");
    redis.join(&users);
    let mut ear = Ear::of(&redis);
    ear.joined(&users).await;
    let keys = one_key_each(&cluster, &users, 32).await;
    let primaries = cluster.primaries().await;
    let (loads, is_over) = ([(); 3].map(|()| Load::default()), AtomicBool::new(false));
    let working = futures_util::future::join_all(
        keys.iter().zip(&loads).map(|(key, each)| load(&redis, &users, key, each, true, &is_over)),
    );
    let killing = async {
        let all = || loads.iter().all(|load| load.done.load(Ordering::Relaxed) > 200);
        wait::until("all shards to be at work", all).await;
        cluster.members()[primaries[0]].kill();
        wait::until("the loss to be felt", || loads[0].failed.load(Ordering::Relaxed) > 0).await;
        let before = loads[0].done.load(Ordering::Relaxed);
        wait::until("the shard to be back", || loads[0].done.load(Ordering::Relaxed) > before + 200).await;
        is_over.store(true, Ordering::Relaxed);
    };
    let hearing = async {
        loop {
            if let BusEvent::Lost = ear.next().await {
                return;
            }
        }
    };
    tokio::join!(working, killing, hearing);
    report("kill -9", &loads);
    for load in &loads[1..] {
        assert_eq!(load.failed.load(Ordering::Relaxed), 0, "no call on another shard fails or is late");
    }
    cluster.settled().await;
    let clock = Clock::system();
    let since = clock.precise();
    until_joined(&mut ear).await;
    println!("kill -9: joined anew {} ms after the Cluster was whole", millis(since, &clock));
    until_all_is_heard(&redis, &mut ear, &users, &keys).await;
}

#[tokio::test]
async fn an_orderly_failover_loses_nothing() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let redis = adapter(&cluster).partitions(8).build().expect("valid settings");
    let users = namespace("users");
    redis.open(&users).await.expect("it opens");
    redis.join(&users);
    let mut ear = Ear::of(&redis);
    ear.joined(&users).await;
    let keys = one_key_each(&cluster, &users, 8).await;
    let (loads, is_over) = ([(); 3].map(|()| Load::default()), AtomicBool::new(false));
    let working = futures_util::future::join_all(
        keys.iter().zip(&loads).map(|(key, each)| load(&redis, &users, key, each, false, &is_over)),
    );
    let failing_over = async {
        for primary in cluster.primaries().await {
            let replica = cluster.replica_of(primary).await;
            cluster.failover(replica).await;
            cluster.settled().await;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(working, failing_over);
    report("CLUSTER FAILOVER", &loads);
    assert_eq!(cluster.primaries().await.len(), 3);
    until_all_is_heard(&redis, &mut ear, &users, &keys).await;
}

#[tokio::test]
async fn slots_move_under_load_and_nothing_is_stale_or_hangs() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let redis = adapter(&cluster).partitions(64).build().expect("valid settings");
    let users = namespace("users");
    redis.open(&users).await.expect("it opens");
    redis.join(&users);
    let mut ear = Ear::of(&redis);
    ear.joined(&users).await;
    for index in 0..500 {
        set(&redis, &users, &key(&format!("bulk:{index}")), "value").await;
    }
    let keys = one_key_each(&cluster, &users, 64).await;
    let primaries = cluster.primaries().await;
    let (loads, is_over) = ([(); 3].map(|()| Load::default()), AtomicBool::new(false));
    let working = futures_util::future::join_all(
        keys.iter().zip(&loads).map(|(key, each)| load(&redis, &users, key, each, false, &is_over)),
    );
    let moving = async {
        let clock = Clock::system();
        let since = clock.precise();
        cluster.move_slots(primaries[0], primaries[1], 0..5462).await;
        println!("moving 5462 slots took {} ms", millis(since, &clock));
        is_over.store(true, Ordering::Relaxed);
    };
    let (lost, joined) = (AtomicU64::new(0), AtomicU64::new(1));
    let hearing = async {
        while !is_over.load(Ordering::Relaxed)
            || lost.load(Ordering::Relaxed) == joined.load(Ordering::Relaxed)
        {
            let next = tokio::time::timeout(Duration::from_millis(50), ear.events.next()).await;
            match next {
                Ok(Some(BusEvent::Lost)) => lost.fetch_add(1, Ordering::Relaxed),
                Ok(Some(BusEvent::Joined { .. })) => joined.fetch_add(1, Ordering::Relaxed),
                _ => 0,
            };
        }
    };
    tokio::join!(working, moving, hearing);
    report("moving slots", &loads);
    println!("moving slots: the bus was joined anew {} times", lost.load(Ordering::Relaxed));
    assert!(lost.load(Ordering::Relaxed) > 0, "channels have moved");
    assert!(loads.iter().all(|load| load.failed.load(Ordering::Relaxed) == 0), "nothing fails");
    cluster.settled().await;
    assert_eq!(cluster.primaries().await.len(), 2);
    for index in 0..500 {
        let found = read(&redis, &users, &key(&format!("bulk:{index}"))).await;
        assert_eq!(found.as_deref(), Some("value"), "bulk:{index}");
    }
    until_all_is_heard(&redis, &mut ear, &users, &keys).await;
}

#[tokio::test]
async fn a_pipeline_of_scripts_is_cut_and_follows_its_slots() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let [redis, other] = [(); 2].map(|()| adapter(&cluster).partitions(64).build().expect("valid settings"));
    let users = namespace("users");
    redis.open(&users).await.expect("it opens");
    other.health().await.expect("it has a map");
    let primaries = cluster.primaries().await;
    let entries = |round: u32| {
        let entry = |index| {
            let key = key(&format!("key:{index}"));
            let value = samples::sealed(&users, &key, &format!("{round}"), LONG);
            (key, value, LONG)
        };
        (0..100).chain(0..100).map(entry).collect::<Vec<_>>()
    };
    let keys: Vec<Key> = (0..100).map(|index| key(&format!("key:{index}"))).collect();
    let is_over = AtomicBool::new(false);
    let writing = async {
        let mut rounds = 0;
        while !is_over.load(Ordering::Relaxed) {
            rounds += 1;
            let versions = redis.set_many(&users, entries(rounds)).await.expect("it follows");
            for (first, second) in versions.iter().zip(&versions[100..]) {
                assert!(second.supersedes(*first), "the order of a key's writes holds");
            }
            let found = redis.get_many(&users, &keys).await.expect("it follows");
            for (key, found) in keys.iter().zip(found) {
                let found = found.expect("it was stored");
                assert_eq!(samples::opened(&users, key, &found.bytes).1, format!("{rounds}"));
            }
        }
        rounds
    };
    let moving = async {
        cluster.move_slots(primaries[2], primaries[0], 10924..11100).await;
        cluster.move_slots(primaries[0], primaries[2], 10924..11100).await;
        is_over.store(true, Ordering::Relaxed);
    };
    let (rounds, ()) = tokio::join!(writing, moving);
    println!("{rounds} rounds of 200 writes and 100 reads while 176 slots moved there and back");
    assert!(rounds > 3);
    cluster.move_slots(primaries[0], primaries[1], 0..300).await;
    let moved = other.invalidate(&users, &keys).await.expect("an old map is good enough");
    assert!(moved.iter().all(|done| done.existed));
}

#[tokio::test]
async fn a_primary_that_hangs_is_left_for_its_replica() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let timeout = Duration::from_millis(300);
    let builder = adapter(&cluster).read_timeout(timeout).write_timeout(timeout).partitions(8);
    let redis = builder.build().expect("valid settings");
    let users = namespace("users");
    redis.open(&users).await.expect("it opens");
    redis.join(&users);
    let mut ear = Ear::of(&redis);
    ear.joined(&users).await;
    let keys = one_key_each(&cluster, &users, 8).await;
    let primary = cluster.primaries().await[0];
    cluster.members()[primary].stop();
    let error = redis.get(&users, &keys[0]).await.expect_err("it hangs");
    assert!(matches!(error, RemoteError::Timeout { .. }), "{error}");
    assert_eq!(ear.next().await, BusEvent::Lost);
    let served = async || redis.get(&users, &keys[0]).await.ok();
    wait::until_some("the replica to take over", served).await;
    cluster.members()[primary].cont();
    cluster.settled().await;
    let set = async || {
        let value = samples::sealed(&users, &keys[0], "value", LONG);
        redis.set(&users, &keys[0], value, LONG).await.ok()
    };
    wait::until_some("a write to be taken", set).await;
    assert_eq!(read(&redis, &users, &keys[0]).await.as_deref(), Some("value"));
}
