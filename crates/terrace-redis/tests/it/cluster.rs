//! The adapter on a Cluster: calls go to the slot's owner, and what is published is heard from all of them.

use crate::support::{Ear, key, messages, namespace, patient, read, set};
use futures_util::TryStreamExt;
use std::collections::HashSet;
use terrace_core::bus::{Bus, BusEvent, Change};
use terrace_core::remote::{Remote, RemoteError, SweepRule};
use terrace_core::{Key, Partition, Version};
use terrace_redis::{Redis, RedisBuilder};
use terrace_testkit::conformance::{remote, swept};
use terrace_testkit::server::{RedisCluster, RedisServer};
use terrace_testkit::wait;

pub(crate) fn adapter(cluster: &RedisCluster) -> RedisBuilder {
    patient(Redis::cluster(cluster.addresses()))
}

#[tokio::test]
async fn the_adapter_keeps_the_contract_on_a_cluster() {
    let Some(cluster) = RedisCluster::start().await else { return };
    remote::check(&adapter(&cluster).build().expect("valid settings"), "contract").await;
    let narrow = adapter(&cluster).partitions(1).connections(1).key_prefix("narrow:");
    remote::check(&narrow.build().expect("valid settings"), "narrow").await;
}

#[tokio::test]
async fn one_member_leads_to_all_and_every_primary_has_a_part() {
    let Some(cluster) = RedisCluster::start().await else { return };
    for address in cluster.addresses() {
        let redis = patient(Redis::cluster([&address])).build().expect("valid settings");
        let users = namespace("users");
        redis.open(&users).await.expect("it opens");
        let keys: Vec<Key> = (0..60).map(|index| key(&format!("key:{index}"))).collect();
        for key in &keys {
            set(&redis, &users, key, key.as_str()).await;
        }
        let found = redis.get_many(&users, &keys).await.expect("they are read");
        assert!(found.iter().all(Option::is_some));
        assert_eq!(read(&redis, &users, &keys[7]).await.as_deref(), Some("key:7"));
        let health = redis.health().await.expect("it is well");
        assert!(health.server.starts_with("redis") && health.warnings.is_empty(), "{health:?}");
    }
    let owners: HashSet<usize> = {
        let mut owners = HashSet::new();
        for index in 0..60 {
            let partition = Partition::of(&namespace("users"), &format!("key:{index}"), 256);
            owners.insert(cluster.owner_of(&format!("{{users.{}}}", partition.0)).await);
        }
        owners
    };
    assert_eq!(owners.len(), 3, "the keys are spread over all primaries");
}

#[tokio::test]
async fn a_sweep_visits_every_primary() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let redis = adapter(&cluster).build().expect("valid settings");
    let (users, others) = (namespace("users"), namespace("others"));
    for namespace in [&users, &others] {
        redis.open(namespace).await.expect("it opens");
        for index in 0..300 {
            set(&redis, namespace, &key(&format!("key:{index}")), "value").await;
        }
    }
    assert_eq!(swept(&redis, &users, &SweepRule::All).await, 300);
    assert_eq!(swept(&redis, &users, &SweepRule::All).await, 0);
    let again = redis.sweep(&users, &SweepRule::All).await.expect("it succeeds");
    assert_eq!(again.version, None, "each primary tells of its part, and none is known to be the last");
    assert_eq!(read(&redis, &others, &key("key:7")).await.as_deref(), Some("value"));
}

#[tokio::test]
async fn changes_are_heard_from_all_primaries_and_beats_come_after_all_of_them() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let [writer, listener] =
        [(); 2].map(|()| adapter(&cluster).partitions(16).build().expect("valid settings"));
    let busy = namespace("busy");
    writer.open(&busy).await.expect("it opens");
    listener.join(&busy);
    let mut ear = Ear::of(&listener);
    let counters = ear.joined(&busy).await;
    assert!(counters.iter().all(|counter| *counter != Version::ZERO), "opening has made a change of each");
    let keys: Vec<_> = (0..200).map(|index| key(&format!("key:{index}"))).collect();
    for round in 1..=5 {
        writer.invalidate(&busy, &keys).await.expect("they succeed");
        listener.beat(round).await.expect("it succeeds");
        let mut heard = HashSet::new();
        for _ in &keys {
            let (partition, message) = ear.message(&busy).await;
            let Change::Invalidate(key) = message.change else { panic!("nothing else was done: {message}") };
            assert_eq!(partition, Partition::of(&busy, key.as_str(), 16));
            heard.insert(key);
        }
        assert_eq!(heard.len(), keys.len());
        assert_eq!(ear.next().await, BusEvent::Beat(round));
    }
    let whole: Vec<_> =
        counters.iter().zip(0..).map(|(counter, index)| (Partition(index), *counter)).collect();
    let logs = writer.changes_since(&busy, &whole).await.expect("they are read");
    assert_eq!(logs.iter().map(|log| messages(log).len()).sum::<usize>(), 5 * keys.len());
    assert_eq!(
        writer.counters(&busy, 3..9).await.expect("they are read"),
        writer.counters(&busy, 0..16).await.expect("they are read")[3..9]
    );
}

#[tokio::test]
async fn nodes_have_to_agree_on_a_cluster_too() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let namespace = namespace("agreed");
    adapter(&cluster).build().expect("valid").open(&namespace).await.expect("the first one decides");
    let error = adapter(&cluster).partitions(64).build().expect("valid").open(&namespace).await;
    let error = error.expect_err("another number");
    assert!(matches!(error, RemoteError::Mismatch { .. }), "{error}");
}

#[tokio::test]
async fn a_cluster_and_a_server_are_not_taken_for_each_other() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let Some(server) = RedisServer::start().await else { return };
    let member = Redis::address(&cluster.addresses()[0]).build().expect("valid settings");
    let error = member.health().await.expect_err("it is a member");
    assert!(error.to_string().contains("is a member of a Cluster"), "{error}");
    let alone = Redis::cluster([server.address()]).build().expect("valid settings");
    let error = alone.health().await.expect_err("it is none");
    assert!(error.to_string().contains("cluster support disabled"), "{error}");
}

#[tokio::test]
async fn looking_at_all_names_fails_if_slots_have_moved_meanwhile() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let redis = adapter(&cluster).partitions(16).build().expect("valid settings");
    let users = namespace("users");
    redis.open(&users).await.expect("it opens");
    for index in 0..50 {
        set(&redis, &users, &key(&format!("key:{index}")), "value").await;
    }
    let all = redis.names(&users, &SweepRule::All).try_concat().await.expect("nothing moves");
    assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), 50, "from every primary");
    let primaries = cluster.primaries().await;
    let (from, to) = (primaries[0], primaries[1]);
    let mut names = redis.names(&users, &SweepRule::All);
    names.try_next().await.expect("it begins");
    cluster.move_slots(from, to, 0..1).await;
    let error = names.try_concat().await.expect_err("a slot has another owner");
    assert!(matches!(error, RemoteError::Broken { .. }), "{error}");
    cluster.begin_to_move(from, to, 1).await;
    let whole = async || redis.names(&users, &SweepRule::All).try_concat().await;
    let error = whole().await.expect_err("a slot is being moved");
    assert!(matches!(error, RemoteError::Broken { .. }), "{error}");
    cluster.move_slots(from, to, 1..2).await;
    wait::until_some("all names to be told", async || whole().await.ok()).await;
}
