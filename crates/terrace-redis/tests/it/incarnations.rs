//! A server that is another one than before: what it is greeted with, and what is asserted on it.

use crate::support::{
    Ear, Shared, adapter, key, messages, namespace, physical, raw, read, read_log, set, until_served,
};
use terrace_core::bus::{Bus, BusEvent, Change, Incarnation, Reassertion};
use terrace_core::remote::{FillOutcome, LeaseOutcome, LeaseToken, Remote, RemoteError};
use terrace_core::{Namespace, Partition, Version};
use terrace_redis::Redis;
use terrace_testkit::conformance::samples;
use terrace_testkit::server::RedisServer;

/// How far a greeting raises at least.
const FORGOTTEN_MAX: u64 = 1 << 14;

async fn joined(ear: &mut Ear, expected: &Namespace) -> (Vec<Version>, Vec<Incarnation>) {
    match ear.next().await {
        BusEvent::Joined { namespace, counters, incarnations } if namespace == *expected => {
            (counters, incarnations)
        }
        other => panic!("`{expected}` is to be joined, not {other:?}"),
    }
}

async fn log_of(redis: &Redis, namespace: &Namespace) -> Vec<terrace_core::bus::Message> {
    let log = redis.changes_since(namespace, &[(Partition(0), Version::ZERO)]).await.expect("it is read");
    messages(&log[0])
}

async fn opened(server: &RedisServer, users: &Namespace) -> (Redis, Ear) {
    let redis = adapter(server).partitions(1).build().expect("valid settings");
    redis.open(users).await.expect("it opens");
    redis.join(users);
    let ear = Ear::of(&redis);
    (redis, ear)
}

#[tokio::test]
async fn nodes_of_one_server_agree_on_its_incarnation_and_greet_once() {
    let Some(shared) = Shared::find().await else { return };
    let users = namespace("users");
    let nodes = [(); 3].map(|()| shared.builder().partitions(4).build().expect("valid settings"));
    let mut told = Vec::new();
    for node in &nodes {
        node.open(&users).await.expect("it opens");
        node.join(&users);
        told.push(joined(&mut Ear::of(node), &users).await);
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(told[1], told[2]);
    assert_eq!(told[0].1.len(), 4);
    let mut raw = shared.raw().await;
    for partition in (0..4).map(Partition) {
        let log = read_log(&mut raw, &physical(&shared.prefix, &users, partition, "log")).await;
        let greetings = log.iter().filter(|(_, change)| change.what == "hello ").count();
        assert_eq!(greetings, 1);
        assert!(log.windows(2).all(|pair| pair[1].1.previous == pair[0].1.sequence), "it has no gap");
        assert_eq!(log.last().expect("it was greeted").1.sequence, told[0].0[usize::from(partition.0)].get());
    }
}

#[tokio::test]
async fn many_nodes_that_join_at_once_greet_once() {
    let Some(shared) = Shared::find().await else { return };
    let users = namespace("users");
    let nodes = [(); 8].map(|()| shared.builder().partitions(16).build().expect("valid settings"));
    nodes[0].open(&users).await.expect("it opens");
    let joinings = nodes.iter().map(async |node| {
        node.join(&users);
        joined(&mut Ear::of(node), &users).await
    });
    let told = futures_util::future::join_all(joinings).await;
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn a_greeting_raises_the_counter_and_voids_leases() {
    let Some(server) = RedisServer::start().await else { return };
    let users = namespace("users");
    let (redis, mut ear) = opened(&server, &users).await;
    let (before, first) = joined(&mut ear, &users).await;
    let value = samples::sealed(&users, &key("late"), "old", crate::support::LONG);
    let token = LeaseToken(1);
    let hour = std::time::Duration::from_hours(1);
    let leased = redis.lease(&users, &key("late"), token, hour, None).await.expect("it is asked for");
    let LeaseOutcome::Granted(lease) = leased else { panic!("it is free") };
    set(&redis, &users, &key("kept"), "value").await;
    server.cli(&["save"]).await;
    let lost = set(&redis, &users, &key("kept"), "lost").await;
    server.restart_with_dump().await;
    while ear.next().await != BusEvent::Lost {}
    let (after, second) = joined(&mut ear, &users).await;
    assert_ne!(first, second);
    assert!(after[0].get() > lost.get() && after[0].get() >= before[0].get() + FORGOTTEN_MAX);
    until_served(&redis).await;
    assert_eq!(read(&redis, &users, &key("kept")).await.as_deref(), Some("value"), "it is from the dump");
    let filled = redis.fill(&users, &key("late"), &lease, value, crate::support::LONG).await;
    assert_eq!(filled.expect("it is answered"), FillOutcome::Rejected);
    let last = log_of(&redis, &users).await.pop().expect("it was greeted");
    assert_eq!((last.change, last.number), (Change::Hello, after[0]));
}

#[tokio::test]
async fn what_is_asserted_removes_what_is_older_and_only_that() {
    let Some(server) = RedisServer::start().await else { return };
    let users = namespace("users");
    let (redis, mut ear) = opened(&server, &users).await;
    let (_, on) = joined(&mut ear, &users).await;
    let older = set(&redis, &users, &key("older"), "value").await;
    let newer = set(&redis, &users, &key("newer"), "value").await;
    set(&redis, &users, &key("open"), "value").await;
    let changes = [
        Reassertion::Key { key: key("older"), number: Some(Version::from(older.get() + 1)) },
        Reassertion::Key { key: key("newer"), number: Some(newer) },
        Reassertion::Key { key: key("open"), number: None },
        Reassertion::Key { key: key("absent"), number: Some(newer) },
    ];
    redis.reassert(&users, &changes, &on).await.expect("it is the server");
    for (text, expected) in [("older", None), ("newer", Some("value")), ("open", None), ("absent", None)] {
        assert_eq!(read(&redis, &users, &key(text)).await.as_deref(), expected, "{text}");
    }
    let log = log_of(&redis, &users).await;
    let told: Vec<_> = log.iter().rev().take(4).map(|message| message.change.clone()).collect();
    let expected = ["absent", "open", "newer", "older"].map(|text| Change::Invalidate(key(text)));
    assert_eq!(told, expected, "all nodes are told of all");
    let wrong = [Incarnation(on[0].0 ^ 1)];
    let refused = redis.reassert(&users, &changes, &wrong).await.expect_err("it is another");
    assert!(matches!(refused, RemoteError::Unavailable { .. }), "{refused}");
    assert_eq!(log_of(&redis, &users).await.len(), log.len(), "and nothing was done");
}

#[tokio::test]
async fn a_promoted_replica_is_another_incarnation() {
    let Some(primary) = RedisServer::start().await else { return };
    let Some(replica) = RedisServer::start().await else { return };
    let users = namespace("users");
    let (_redis, mut ear) = opened(&primary, &users).await;
    let (_, of_primary) = joined(&mut ear, &users).await;
    replica.cli(&["replicaof", "127.0.0.1", &primary.port().to_string()]).await;
    terrace_testkit::wait::until_some("the replica to follow", async || {
        replica.cli(&["info", "replication"]).await.contains("master_link_status:up").then_some(())
    })
    .await;
    replica.cli(&["replicaof", "no", "one"]).await;
    let other = adapter(&replica).partitions(1).build().expect("valid settings");
    other.join(&users);
    let (_, of_replica) = joined(&mut Ear::of(&other), &users).await;
    assert_ne!(of_primary, of_replica);
}

#[tokio::test]
async fn a_lost_connection_to_the_same_server_is_to_the_same_incarnation() {
    let Some(server) = RedisServer::start().await else { return };
    let users = namespace("users");
    let (_redis, mut ear) = opened(&server, &users).await;
    let before = joined(&mut ear, &users).await;
    server.cli(&["client", "kill", "type", "pubsub"]).await;
    assert_eq!(ear.next().await, BusEvent::Lost);
    assert_eq!(joined(&mut ear, &users).await, before);
}

#[tokio::test]
async fn a_server_that_does_not_say_is_another_at_each_connection() {
    let acl = "app on >secret ~terrace:* &terrace:* +@all -info";
    let Some(server) = RedisServer::builder().acl(acl).start().await else { return };
    let users = namespace("users");
    let url = server.url().replace("://", "://app:secret@");
    let redis = Redis::url(&url).expect("a URL").partitions(1).build().expect("valid settings");
    redis.open(&users).await.expect("it opens");
    redis.join(&users);
    let mut ear = Ear::of(&redis);
    let (first, one) = joined(&mut ear, &users).await;
    server.cli(&["client", "kill", "type", "pubsub"]).await;
    assert_eq!(ear.next().await, BusEvent::Lost);
    let (second, other) = joined(&mut ear, &users).await;
    assert_ne!(one, other);
    assert!(second[0].supersedes(first[0]));
    let again = [Reassertion::Key { key: key("k"), number: None }];
    redis.reassert(&users, &again, &other).await.expect("nobody can tell that it is another");
}

#[tokio::test]
async fn a_counter_that_is_lost_begins_above_all_its_numbers() {
    let Some(server) = RedisServer::start().await else { return };
    let users = namespace("users");
    let (redis, mut ear) = opened(&server, &users).await;
    joined(&mut ear, &users).await;
    let mut raw = raw(&server.url()).await;
    let [counter, log] = ["s", "log"].map(|rest| physical("terrace:", &users, Partition(0), rest));
    let mut last = Version::ZERO;
    for lost in [&[&counter][..], &[&counter], &[&counter, &log]] {
        let number = set(&redis, &users, &key("k"), "value").await;
        assert!(number.supersedes(last), "{number} after {last}");
        last = number;
        let began = server_time(&mut raw).await;
        let past = async || (server_time(&mut raw.clone()).await > began + 2 * FORGOTTEN_MAX).then_some(());
        terrace_testkit::wait::until_some("what put it ahead to be past", past).await;
        redis::cmd("DEL").arg(lost).exec_async(&mut raw.clone()).await.expect("it is deleted");
    }
    let number = set(&redis, &users, &key("k"), "value").await;
    assert!(number.supersedes(last), "{number} after {last}");
}

/// The server's time in microseconds.
async fn server_time(raw: &mut redis::aio::MultiplexedConnection) -> u64 {
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(raw).await.expect("it has a clock");
    seconds * 1_000_000 + micros
}
