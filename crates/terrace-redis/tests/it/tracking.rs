//! What a node that tracks is told of writers that are not terrace.

use crate::support::{Ear, adapter, key, namespace, physical, raw, set};
use futures_util::StreamExt;
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use std::collections::BTreeSet;
use std::time::Duration;
use terrace_core::bus::{Bus, BusEvent};
use terrace_core::remote::{FillOutcome, LeaseOutcome, LeaseToken, Remote};
use terrace_core::{Key, Namespace, Partition, Tag};
use terrace_redis::{Redis, RedisBuilder};
use terrace_testkit::conformance::samples;
use terrace_testkit::server::{Proxy, Pushes, RedisCluster, RedisServer};
use terrace_testkit::wait;

const SECRET: &str = "s3cret-w0rd";

fn tracking(builder: RedisBuilder) -> Redis {
    crate::support::patient(builder).partitions(4).tracking(true).build().expect("valid settings")
}

/// The name of a key's value.
fn name(namespace: &Namespace, key: &Key) -> String {
    physical("terrace:", namespace, Partition::of(namespace, key.as_str(), 4), &format!("d:{key}"))
}

async fn run(connection: &mut MultiplexedConnection, words: &[&str]) {
    let mut command = redis::cmd(words[0]);
    command
        .arg(&words[1..])
        .exec_async(connection)
        .await
        .unwrap_or_else(|error| panic!("{words:?}: {error}"));
}

/// What a node hears that tracks.
struct Tracker {
    node: Redis,
    ear: Ear,
    beats: u64,
}

impl Tracker {
    async fn of(node: Redis, namespaces: &[&Namespace]) -> Self {
        let mut tracker = Self { ear: Ear::of(&node), node, beats: 0 };
        for namespace in namespaces {
            tracker.join(namespace).await;
        }
        tracker
    }

    async fn join(&mut self, namespace: &Namespace) {
        self.node.open(namespace).await.expect("it opens");
        self.node.join(namespace);
        while !matches!(self.ear.next().await, BusEvent::Joined { namespace: joined, .. } if joined == *namespace)
        {
        }
        let all = BusEvent::Touched { namespace: namespace.clone(), key: None };
        assert_eq!(self.ear.next_of_all().await, all, "right after it was joined");
    }

    /// What is told as touched before a beat that is sent now is back.
    async fn touched(&mut self) -> BTreeSet<(String, Option<String>)> {
        self.beats += 1;
        self.node.beat(self.beats).await.expect("a beat is sent");
        let mut touched = BTreeSet::new();
        loop {
            match self.ear.next().await {
                BusEvent::Touched { namespace, key } => {
                    touched.insert((namespace.to_string(), key.map(|key| key.to_string())));
                }
                BusEvent::Beat(number) if number == self.beats => return touched,
                BusEvent::Heard { .. } => {}
                other => panic!("nothing else happens: {other:?}"),
            }
        }
    }
}

fn of(namespace: &Namespace, keys: &[&str]) -> BTreeSet<(String, Option<String>)> {
    keys.iter().map(|key| (namespace.to_string(), Some((*key).to_owned()))).collect()
}

#[tokio::test]
async fn whatever_a_stranger_does_is_told_and_siblings_are_left_alone() {
    let Some(server) = RedisServer::start().await else { return };
    let (users, users2, user) = (namespace("users"), namespace("users2"), namespace("user"));
    let mut tracker = Tracker::of(tracking(adapter(&server)), &[&users, &users2]).await;
    tracker.node.open(&user).await.expect("it opens");
    let mut stranger = raw(&server.url()).await;
    let [a, b, other] = ["a", "b", "a\u{1f980} {users.1}:d:x"].map(|text| name(&users, &key(text)));
    for (words, expected) in [
        (&["SET", &a, "foreign bytes"][..], &["a"][..]),
        (&["APPEND", &a, "more"], &["a"]),
        (&["SETRANGE", &a, "3", "x"], &["a"]),
        (&["PEXPIRE", &a, "3600000"], &["a"]),
        (&["PERSIST", &a], &["a"]),
        (&["COPY", &a, &b], &["b"]),
        (&["RENAME", &a, &other], &["a", "a\u{1f980} {users.1}:d:x"]),
        (&["MSET", &a, "1", &b, "2", &other, "3"], &["a", "b", "a\u{1f980} {users.1}:d:x"]),
        (&["DEL", &a, &b, &other, "unknown"], &["a", "b", "a\u{1f980} {users.1}:d:x"]),
        (&["DEL", &a], &[]),
        (&["EVAL", "redis.call('SET', KEYS[1], 1) redis.call('UNLINK', KEYS[1])", "1", &a], &["a"]),
        (&["SET", "terrace:1:{users.0}:d:", "no key"], &[]),
        (&["SET", "terrace:1:{users.9}:d:a", "no partition"], &[]),
        (&["SET", "terrace:1:{users.0}:l:a", "no value"], &[]),
    ] {
        run(&mut stranger, words).await;
        assert_eq!(tracker.touched().await, of(&users, expected), "{words:?}");
    }
    run(&mut stranger, &["SET", &name(&users2, &key("a")), "1"]).await;
    assert_eq!(tracker.touched().await, of(&users2, &["a"]));
    run(&mut stranger, &["SET", &name(&user, &key("a")), "1"]).await;
    assert_eq!(tracker.touched().await, BTreeSet::new(), "it was not joined");
    tracker.join(&user).await;
    run(&mut stranger, &["DEL", &name(&user, &key("a")), &a]).await;
    assert_eq!(tracker.touched().await, of(&user, &["a"]));
}

#[tokio::test]
async fn what_the_server_removes_itself_is_told() {
    let Some(server) = RedisServer::start().await else { return };
    let users = namespace("users");
    let mut tracker = Tracker::of(tracking(adapter(&server)), &[&users]).await;
    let mut stranger = raw(&server.url()).await;
    let a = name(&users, &key("a"));
    run(&mut stranger, &["SET", &a, "1"]).await;
    run(&mut stranger, &["PEXPIRE", &a, "30"]).await;
    assert_eq!(tracker.touched().await, of(&users, &["a"]));
    let gone = BusEvent::Touched { namespace: users.clone(), key: Some(key("a")) };
    assert_eq!(tracker.ear.next().await, gone, "it has expired");
    assert_eq!(tracker.touched().await, BTreeSet::new());

    run(&mut stranger, &["SET", &a, "1"]).await;
    assert_eq!(tracker.touched().await, of(&users, &["a"]));
    run(&mut stranger, &["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]).await;
    run(&mut stranger, &["CONFIG", "SET", "maxmemory", "1"]).await;
    assert_eq!(tracker.ear.next().await, gone, "it was evicted");
}

#[tokio::test]
async fn a_flush_touches_every_namespace() {
    let Some(server) = RedisServer::start().await else { return };
    let (users, orgs) = (namespace("users"), namespace("orgs"));
    let mut tracker = Tracker::of(tracking(adapter(&server)), &[&users, &orgs]).await;
    let mut stranger = raw(&server.url()).await;
    let all: BTreeSet<_> = [("orgs".to_owned(), None), ("users".to_owned(), None)].into();
    for words in [&["FLUSHALL"][..], &["FLUSHALL", "ASYNC"], &["FLUSHDB"]] {
        run(&mut stranger, words).await;
        assert_eq!(tracker.touched().await, all, "{words:?}");
    }
}

#[tokio::test]
async fn own_changes_and_fills_are_told_and_what_is_no_value_is_not() {
    let Some(server) = RedisServer::start().await else { return };
    let users = namespace("users");
    let mut tracker = Tracker::of(tracking(adapter(&server)), &[&users]).await;
    let node = tracker.node.clone();
    let (key, tag) = (key("a"), Tag::new("t").expect("valid"));
    set(&node, &users, &key, "value").await;
    assert_eq!(tracker.touched().await, of(&users, &["a"]));
    node.invalidate(&users, std::slice::from_ref(&key)).await.expect("it succeeds");
    assert_eq!(tracker.touched().await, of(&users, &["a"]));
    node.invalidate(&users, std::slice::from_ref(&key)).await.expect("it succeeds");
    node.bump_tags(&users, &[tag]).await.expect("it succeeds");
    let leased = node.lease(&users, &key, LeaseToken(1), Duration::from_mins(1), None).await;
    let LeaseOutcome::Granted(lease) = leased.expect("it succeeds") else { panic!("nobody else has it") };
    assert_eq!(tracker.touched().await, BTreeSet::new());
    let value = samples::sealed(&users, &key, "loaded", crate::support::LONG);
    let filled = node.fill(&users, &key, &lease, value, crate::support::LONG).await;
    assert_eq!(filled.expect("it succeeds"), FillOutcome::Stored);
    assert_eq!(tracker.touched().await, of(&users, &["a"]));
}

/// G2 for strangers: what was acknowledged before a beat is sent is told before the beat is back.
async fn assert_order(server: &RedisServer, node: Redis, rounds: usize) {
    let users = namespace("users");
    let mut tracker = Tracker::of(node, &[&users]).await;
    let keys: Vec<String> = (0..64).map(|index| format!("k{index}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut strangers = Vec::new();
    for text in &keys {
        strangers.push((raw(&server.url()).await, name(&users, &key(text))));
    }
    for round in 0..rounds {
        let words = if round % 2 == 0 { ["SET", "1"] } else { ["DEL", "also this"] };
        let acting = strangers.iter_mut().map(async |(stranger, name)| match words {
            ["SET", value] => run(stranger, &["SET", name, value]).await,
            [_, other] => run(stranger, &["DEL", name, other]).await,
        });
        join_all(acting).await;
        assert_eq!(tracker.touched().await, of(&users, &keys), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beat_comes_back_after_all_that_strangers_had_acknowledged_before_it() {
    let Some(server) = RedisServer::start().await else { return };
    assert_order(&server, tracking(adapter(&server)), 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_so_it_does_where_the_server_has_threads() {
    let threads = RedisServer::builder().setting("io-threads", "4").setting("io-threads-do-reads", "yes");
    let Some(server) = threads.start().await else { return };
    assert_order(&server, tracking(adapter(&server)), 100).await;
    assert!(server.cli(&["INFO", "stats"]).await.lines().any(|line| {
        let count = line.trim().strip_prefix("io_threaded_writes_processed:");
        count.is_some_and(|count| count != "0")
    }));
}

#[tokio::test]
async fn and_so_it_does_where_names_are_sent_behind_the_beat_of_their_turn() {
    let Some(server) = RedisServer::start().await else { return };
    let proxy = Proxy::start(server.port()).await;
    proxy.pushes(Pushes::NamesLate);
    assert_order(&server, tracking(Redis::address(&proxy.address())), 20).await;
}

/// What a server may send at any time.
const AMID: &[u8] = b">2\r\n$10\r\ninvalidate\r\n*3\r\n$23\r\nterrace:1:{users.0}:d:a\r\n$21\r\nterrace:1:{users.0}:s\r\n$23\r\nterrace:1:{users.1}:d:b\r\n";
const FLUSHED: &[u8] = b">2\r\n$10\r\ninvalidate\r\n_\r\n";

#[tokio::test]
async fn names_may_come_before_the_confirmation_and_between_replies() {
    let Some(server) = RedisServer::start().await else { return };
    let proxy = Proxy::start(server.port()).await;
    let (users, orgs) = (namespace("users"), namespace("orgs"));
    let mut tracker = Tracker::of(tracking(Redis::address(&proxy.address())), &[&users]).await;
    tracker.node.open(&orgs).await.expect("it opens");
    proxy.pushes(Pushes::Amid(AMID));
    tracker.node.join(&orgs);
    let mut joined = Vec::new();
    loop {
        match tracker.ear.next().await {
            BusEvent::Touched { namespace, key: None } if namespace == orgs => break,
            BusEvent::Joined { namespace, counters, .. } => joined.push((namespace, counters.len())),
            BusEvent::Touched { namespace, key } => assert!(namespace == users && key.is_some(), "{key:?}"),
            other => panic!("nothing else happens: {other:?}"),
        }
    }
    assert_eq!(joined, [(orgs, 4)], "its replies were understood");
    assert_eq!(tracker.touched().await, of(&users, &["a", "b"]));
    proxy.pushes(Pushes::Amid(FLUSHED));
    let all: BTreeSet<_> = [("orgs".to_owned(), None), ("users".to_owned(), None)].into();
    wait::until_some("both to be told as a whole", async || {
        let touched = tracker.touched().await;
        touched.is_superset(&all).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_lost_connection_touches_everything_and_tracking_goes_on() {
    let Some(server) = RedisServer::start().await else { return };
    let (users, orgs) = (namespace("users"), namespace("orgs"));
    let mut tracker = Tracker::of(tracking(adapter(&server)), &[&users, &orgs]).await;
    let mut stranger = raw(&server.url()).await;
    run(&mut stranger, &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    while tracker.ear.next().await != BusEvent::Lost {}
    for namespace in [&users, &orgs] {
        tracker.join(namespace).await;
    }
    run(&mut stranger, &["SET", &name(&users, &key("a")), "1"]).await;
    run(&mut stranger, &["SET", &name(&orgs, &key("b")), "1"]).await;
    let both: BTreeSet<_> = of(&users, &["a"]).into_iter().chain(of(&orgs, &["b"])).collect();
    assert_eq!(tracker.touched().await, both);
}

#[tokio::test]
async fn without_the_right_it_is_said_and_nothing_counts_as_joined() {
    let documented = "app on >s3cret-w0rd ~terrace:* &terrace:* -@all +get +getrange +pttl +pexpire +set +unlink +hget +hmget +hset \
                      +hsetnx +hdel +hexists +hlen +xadd +xrange +xrevrange +zadd +zcard +zrem +zrange +zrangebyscore +scan \
                      +evalsha +script|load +publish +subscribe +time +ping";
    let Some(server) = RedisServer::builder().acl(documented).start().await else { return };
    let node = tracking(adapter(&server).username("app").password(SECRET));
    let users = namespace("users");
    node.open(&users).await.expect("it opens");
    assert!(node.health().await.expect("it is well").warnings.is_empty());
    node.join(&users);
    let mut ear = Ear::of(&node);
    let mut hearing = Box::pin(async move {
        let first = ear.events.next().await.expect("the stream never ends");
        (first, ear)
    });
    let warned = wait::until_some("the warning", async || {
        let mut warnings = node.health().await.expect("it is well").warnings;
        warnings.pop()
    });
    let warning = tokio::select! {
        biased;
        (first, _) = &mut hearing => panic!("nothing is to be told: {first:?}"),
        warning = warned => warning,
    };
    assert!(warning.contains("`+client|tracking`") && warning.contains("NOPERM"), "{warning}");
    assert!(warning.contains("no copy here counts as fresh"), "{warning}");
    run(&mut raw(&server.url()).await, &["ACL", "SETUSER", "app", "+client|tracking"]).await;
    let (first, ear) = wait::within("the joining", wait::DEADLINE, hearing).await;
    assert!(matches!(first, BusEvent::Joined { .. }), "{first:?}");
    assert!(node.health().await.expect("it is well").warnings.is_empty());
    let mut tracker = Tracker { node, ear, beats: 0 };
    assert_eq!(tracker.ear.next().await, BusEvent::Touched { namespace: users.clone(), key: None });
    run(&mut raw(&server.url()).await, &["SET", &name(&users, &key("a")), "1"]).await;
    assert_eq!(tracker.touched().await, of(&users, &["a"]), "the documented rights are enough");
}

#[tokio::test]
async fn strangers_are_heard_of_on_every_primary_of_a_cluster() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let users = namespace("users");
    let node = tracking(crate::cluster::adapter(&cluster));
    let mut tracker = Tracker::of(node, &[&users]).await;
    for (text, partition) in [("k0", 0), ("k1", 1), ("k2", 2), ("k3", 3), ("k4", 0), ("k5", 1)] {
        let name = physical("terrace:", &users, Partition(partition), &format!("d:{text}"));
        let owner = cluster.owner_of(&name).await;
        let mut stranger = cluster.members()[owner].connect().await;
        run(&mut stranger, &["SET", &name, "1"]).await;
        assert_eq!(tracker.touched().await, of(&users, &[text]));
        run(&mut stranger, &["DEL", &name]).await;
        assert_eq!(tracker.touched().await, of(&users, &[text]));
    }
    for primary in cluster.primaries().await {
        run(&mut cluster.members()[primary].connect().await, &["FLUSHALL"]).await;
        assert_eq!(tracker.touched().await, [("users".to_owned(), None)].into());
    }
}
