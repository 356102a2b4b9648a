//! The plain mode, on servers that have or allow neither scripts nor streams.

use crate::support::{Ear, LONG, key, messages, namespace, patient, read, set, until_served};
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::time::Duration;
use terrace_core::bus::{Bus, BusEvent, Change, Incarnation, LoadEnded, NodeId, Reassertion};
use terrace_core::remote::{
    Delayed, FillOutcome, Lease, LeaseOutcome, LeaseToken, Named, Remote, RemoteError, SweepRule,
};
use terrace_core::{Glob, Key, Namespace, Partition, Tag, Version};
use terrace_redis::{PlainRedis, Redis, RedisBuilder};
use terrace_testkit::conformance::{names, remote, samples, swept};
use terrace_testkit::server::{RedisSentinel, RedisServer, RedisServerBuilder};
use terrace_testkit::wait;

const SECRET: &str = "s3cret-w0rd";
const LEASE: Duration = Duration::from_mins(1);
/// What the documentation says that is needed, and nothing else.
const RIGHTS: &str = "~terrace:* &terrace:* -@all +get +getrange +set +del +pttl +pexpire +hget +hgetall +hmget +hset \
                      +hsetnx +hdel +hlen +hexists +zadd +zcard +zrem +zrange +zscore +zincrby +zunionstore +scan +time \
                      +ping +publish +subscribe +multi +exec +watch +unwatch";

/// A server whose user may do what the documentation says; another one may ask for the incarnation as well.
fn server() -> RedisServerBuilder {
    let user = |name: &str, more: &str| format!("{name} on >{SECRET} {RIGHTS}{more}");
    RedisServer::builder().acl(&user("app", " +info")).acl(&user("narrow", ""))
}

fn as_user(builder: RedisBuilder, user: &str) -> PlainRedis {
    let builder = patient(builder).username(user).password(SECRET).partitions(4);
    builder.build_plain().expect("valid settings")
}

fn node_as(server: &RedisServer, user: &str) -> PlainRedis {
    as_user(Redis::address(&server.address()), user)
}

async fn node(server: &RedisServer, namespace: &Namespace) -> PlainRedis {
    let redis = node_as(server, "app");
    redis.open(namespace).await.expect("it opens");
    redis
}

async fn lease(redis: &PlainRedis, namespace: &Namespace, key: &Key, token: u128) -> Lease {
    match redis.lease(namespace, key, LeaseToken(token), LEASE, None).await.expect("it succeeds") {
        LeaseOutcome::Granted(lease) => lease,
        other => panic!("expected a lease for {key:?}, got {other:?}"),
    }
}

async fn fill(redis: &PlainRedis, namespace: &Namespace, key: &Key, lease: &Lease) -> FillOutcome {
    let value = samples::sealed(namespace, key, "loaded", LONG);
    redis.fill(namespace, key, lease, value, LONG).await.expect("it succeeds")
}

async fn invalidate(redis: &PlainRedis, namespace: &Namespace, key: &Key) -> Version {
    let keys = std::slice::from_ref(key);
    redis.invalidate(namespace, keys).await.expect("it succeeds")[0].version
}

#[tokio::test]
async fn the_plain_mode_keeps_the_contract_without_scripts_and_streams() {
    let Some(server) = server().start().await else { return };
    remote::check(&node_as(&server, "app"), "plain").await;
    let one = patient(Redis::address(&server.address())).username("narrow").password(SECRET);
    let one = one.partitions(1).connections(1).build_plain().expect("valid settings");
    remote::check(&one, "narrow").await;
}

/// The incarnations that a namespace is joined on, as soon as it is.
async fn joined_on(ear: &mut Ear) -> Vec<Incarnation> {
    loop {
        if let BusEvent::Joined { incarnations, .. } = ear.next().await {
            return incarnations;
        }
    }
}

#[tokio::test]
async fn the_plain_mode_keeps_the_contract_behind_sentinels() {
    let Some(watched) = RedisSentinel::start_with(server(), RedisServer::builder()).await else { return };
    let redis = as_user(Redis::sentinel(RedisSentinel::PRIMARY, watched.addresses()), "app");
    remote::check(&redis, "plain").await;
    let users = namespace("users");
    redis.open(&users).await.expect("it opens");
    redis.join(&users);
    let mut ear = Ear::of(&redis);
    let before = joined_on(&mut ear).await;
    let late = lease(&redis, &users, &key("late"), 1).await;
    set(&redis, &users, &key("before"), "value").await;
    ear.message(&users).await;
    watched.failover().await;
    while joined_on(&mut ear).await == before {}
    wait::until_some("a write to be taken", async || redis.invalidate(&users, &[key("other")]).await.ok())
        .await;
    while ear.message(&users).await.1.change != Change::Invalidate(key("other")) {}
    redis.beat(7).await.expect("it succeeds");
    assert_eq!(ear.next().await, BusEvent::Beat(7));
    assert_eq!(read(&redis, &users, &key("before")).await.as_deref(), Some("value"), "it was replicated");
    assert_eq!(
        fill(&redis, &users, &key("late"), &late).await,
        FillOutcome::Rejected,
        "it is another server's"
    );
}

#[tokio::test]
async fn nodes_hear_of_each_others_changes_in_their_order() {
    let Some(server) = server().start().await else { return };
    let users = namespace("users");
    let (writer, listener) = (node(&server, &users).await, node(&server, &users).await);
    listener.join(&users);
    let mut ear = Ear::of(&listener);
    ear.joined(&users).await;
    assert!(!listener.is_chained());
    let (a, tag) = (key("a"), Tag::new("t").expect("valid"));
    let version = set(&writer, &users, &a, "value").await;
    let removed = invalidate(&writer, &users, &a).await;
    let bumped = writer.bump_tags(&users, std::slice::from_ref(&tag)).await.expect("it succeeds");
    let rule = SweepRule::Matching(Glob::new("b*").expect("valid"));
    let swept = writer.sweep(&users, &rule).await.expect("it succeeds");
    let refreshed = writer.refresh(&users, &a).await.expect("it succeeds");
    listener.beat(3).await.expect("it succeeds");
    for (change, number) in [
        (Change::Set(a.clone()), version),
        (Change::Invalidate(a.clone()), removed),
        (Change::Tag(tag.clone()), bumped[0]),
        (Change::Sweep(rule.clone()), swept.version.expect("one message tells of it")),
        (Change::Refresh(a.clone()), refreshed),
    ] {
        let (partition, message) = ear.message(&users).await;
        assert_eq!((message.change.clone(), message.origin), (change.clone(), NodeId(writer.node_id())));
        assert_eq!(number, message.number);
        match &change {
            Change::Tag(tag) => {
                assert_eq!(partition, Partition::of(&users, tag.as_str(), 4));
                let told = writer.generations(&users, std::slice::from_ref(tag)).await.expect("it succeeds");
                assert_eq!(told[0].version, message.number, "nodes note the generation that they hear");
            }
            Change::Sweep(_) => {}
            _ => assert_eq!(partition, Partition::of(&users, "a", 4)),
        }
    }
    assert_eq!(ear.next().await, BusEvent::Beat(3));
    let held = lease(&writer, &users, &a, 1).await;
    assert_eq!(fill(&writer, &users, &a, &held).await, FillOutcome::Stored);
    match ear.next().await {
        BusEvent::Heard { bytes, .. } => assert_eq!(LoadEnded::parse(&bytes), Some(LoadEnded(a))),
        other => panic!("the end of the load is told, not {other:?}"),
    }
    assert!(
        messages(&[]).is_empty() && listener.changes_since(&users, &[]).await.expect("no log").is_empty()
    );
}

#[tokio::test]
async fn a_killed_connection_is_told_as_lost_and_joined_anew() {
    let Some(server) = server().start().await else { return };
    let users = namespace("users");
    let redis = node(&server, &users).await;
    redis.join(&users);
    let mut ear = Ear::of(&redis);
    ear.joined(&users).await;
    let held = lease(&redis, &users, &key("a"), 1).await;
    server.cli(&["client", "kill", "type", "pubsub"]).await;
    assert_eq!(ear.next().await, BusEvent::Lost);
    ear.joined(&users).await;
    redis.beat(1).await.expect("it succeeds");
    assert_eq!(ear.next().await, BusEvent::Beat(1));
    assert_eq!(fill(&redis, &users, &key("a"), &held).await, FillOutcome::Stored, "it is the same server");
    server.cli(&["client", "kill", "type", "normal"]).await;
    until_served(&redis_of(&server)).await;
    wait::until_some("a read", async || redis.get(&users, &key("a")).await.ok().flatten()).await;
}

fn redis_of(server: &RedisServer) -> Redis {
    Redis::address(&server.address()).build().expect("valid settings")
}

#[tokio::test]
async fn a_fill_and_an_invalidation_at_once_leave_nothing_behind() {
    let Some(server) = server().start().await else { return };
    let users = namespace("users");
    let (loader, other) = (node(&server, &users).await, node(&server, &users).await);
    let (mut stored, mut rejected) = (0, 0);
    for round in 0..300_u128 {
        let a = key(&format!("key:{}", round % 7));
        let held = lease(&loader, &users, &a, round + 1).await;
        let late = async {
            for _ in 0..round % 5 {
                tokio::task::yield_now().await;
            }
            match round % 3 {
                0 => drop(invalidate(&other, &users, &a).await),
                1 => drop(swept(&other, &users, &SweepRule::All).await),
                _ => other.reassert_one(&users, &a).await,
            }
        };
        let (filled, ()) = tokio::join!(fill(&loader, &users, &a, &held), late);
        match filled {
            FillOutcome::Stored => stored += 1,
            FillOutcome::Rejected => rejected += 1,
        }
        assert_eq!(read(&loader, &users, &a).await, None, "round {round}, {filled:?}");
    }
    println!("{stored} fills were stored and removed, {rejected} were rejected");
    assert!(stored > 0 && rejected > 0, "both orders were met");
}

trait Reasserts {
    async fn reassert_one(&self, namespace: &Namespace, key: &Key);
}

impl Reasserts for PlainRedis {
    async fn reassert_one(&self, namespace: &Namespace, key: &Key) {
        let change = Reassertion::Key { key: key.clone(), number: None };
        self.reassert(namespace, &[change], &[]).await.expect("it succeeds");
    }
}

#[tokio::test]
async fn what_is_newer_than_a_reasserted_change_stays() {
    let Some(server) = server().start().await else { return };
    let users = namespace("users");
    let redis = node(&server, &users).await;
    let [old, new] = ["old", "new"].map(key);
    set(&redis, &users, &old, "value").await;
    let number = Some(invalidate(&redis, &users, &key("any")).await);
    set(&redis, &users, &new, "value").await;
    let changes = [&old, &new].map(|key| Reassertion::Key { key: key.clone(), number });
    redis.reassert(&users, &changes, &[]).await.expect("it succeeds");
    assert_eq!(read(&redis, &users, &old).await, None);
    assert_eq!(read(&redis, &users, &new).await.as_deref(), Some("value"));
    let other = [Incarnation(1)];
    let refused = redis.reassert(&users, &changes, &other).await.expect_err("it is another server");
    assert!(matches!(refused, RemoteError::Unavailable { .. }), "{refused}");
}

#[tokio::test]
async fn no_number_is_given_out_twice_and_each_node_sees_them_rise() {
    let Some(server) = server().start().await else { return };
    let users = namespace("users");
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push(node(&server, &users).await);
    }
    let set_some = async |redis: &PlainRedis, of: usize| {
        let mut numbers = Vec::new();
        for n in 0..50 {
            let entry = |n| {
                let a = key(&format!("{of}:{n}"));
                let sealed = samples::sealed(&users, &a, "value", LONG);
                (a, sealed, LONG)
            };
            let entries = (0..3).map(|more| entry(n + more)).collect();
            numbers.extend(redis.set_many(&users, entries).await.expect("it succeeds"));
        }
        numbers
    };
    let given = join_all(nodes.iter().enumerate().map(|(of, redis)| set_some(redis, of))).await;
    for numbers in &given {
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    }
    let all: BTreeSet<Version> = given.iter().flatten().copied().collect();
    assert_eq!(all.len(), 4 * 50 * 3);
}

#[tokio::test]
async fn what_is_due_is_told_to_one_node() {
    let Some(server) = server().start().await else { return };
    let users = namespace("users");
    let (one, other) = (node(&server, &users).await, node(&server, &users).await);
    let all: Vec<Delayed> =
        (0..400).map(|id| Delayed { id, named: Named::Key(key(&format!("{id}"))) }).collect();
    one.delay(&users, &all, Duration::ZERO).await.expect("it succeeds");
    let mut told = Vec::new();
    wait::until_some("all to be told", async || {
        let (here, there) = tokio::join!(one.due(&users), other.due(&users));
        let both = [here.expect("it succeeds").now, there.expect("it succeeds").now];
        Some(both.concat()).filter(|both| !both.is_empty())
    })
    .await
    .into_iter()
    .for_each(|delayed| told.push(delayed.id));
    loop {
        let (here, there) = tokio::join!(one.due(&users), other.due(&users));
        let more = [here.expect("it succeeds").now, there.expect("it succeeds").now].concat();
        if more.is_empty() {
            break;
        }
        told.extend(more.iter().map(|delayed| delayed.id));
    }
    told.sort_unstable();
    assert_eq!(told, (0..400).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_server_without_memory_refuses_values_and_lets_invalidations_and_beats_pass() {
    let Some(server) = server().start().await else { return };
    let users = namespace("users");
    let redis = node(&server, &users).await;
    let (a, held) = (key("a"), lease(&redis, &users, &key("b"), 1).await);
    set(&redis, &users, &a, "value").await;
    redis.join(&users);
    let mut ear = Ear::of(&redis);
    ear.joined(&users).await;
    server.cli(&["config", "set", "maxmemory", "1"]).await;
    let value = samples::sealed(&users, &a, "more", LONG);
    for refused in [
        redis.set(&users, &a, value, LONG).await.map(drop),
        redis.bump_tags(&users, &[Tag::new("t").expect("valid")]).await.map(drop),
        redis.sweep(&users, &SweepRule::All).await.map(drop),
        redis.delay(&users, &[Delayed { id: 1, named: Named::Key(a.clone()) }], LEASE).await,
    ] {
        let error = refused.expect_err("there is no memory");
        assert!(error.is_unsent() && error.to_string().contains("OOM"), "{error}");
    }
    let done = redis.invalidate(&users, &[a.clone(), key("b")]).await.expect("it needs none");
    assert_eq!(done.iter().map(|done| done.existed).collect::<Vec<_>>(), [true, false]);
    redis.beat(1).await.expect("it needs none");
    for changed in [&a, &key("b")] {
        assert_eq!(ear.message(&users).await.1.change, Change::Invalidate(changed.clone()));
    }
    assert_eq!(ear.next().await, BusEvent::Beat(1));
    server.cli(&["config", "set", "maxmemory", "0"]).await;
    assert_eq!(read(&redis, &users, &a).await, None);
    assert_eq!(fill(&redis, &users, &key("b"), &held).await, FillOutcome::Rejected);
}

#[tokio::test]
async fn a_replica_takes_no_beat() {
    let Some(server) = server().start().await else { return };
    let redis = node(&server, &namespace("users")).await;
    redis.beat(1).await.expect("it is a primary");
    server.cli(&["replicaof", "127.0.0.1", "1"]).await;
    let error = redis.beat(2).await.expect_err("it is one no more");
    assert!(error.to_string().contains("READONLY") || error.is_unsent(), "{error}");
}

#[tokio::test]
async fn another_life_of_the_server_voids_leases() {
    let Some(server) = server().start().await else { return };
    let users = namespace("users");
    let redis = node(&server, &users).await;
    let (a, kept) = (key("a"), key("kept"));
    let held = lease(&redis, &users, &a, 1).await;
    set(&redis, &users, &kept, "value").await;
    server.cli(&["save"]).await;
    invalidate(&redis, &users, &a).await;
    server.restart_with_dump().await;
    wait::until_some("the adapter to be served", async || redis.health().await.ok()).await;
    assert_eq!(
        fill(&redis, &users, &a, &held).await,
        FillOutcome::Rejected,
        "the server forgot what voided it"
    );
    assert_eq!(read(&redis, &users, &kept).await.as_deref(), Some("value"));
}

#[tokio::test]
async fn losing_anything_costs_misses() {
    let Some(server) = server().start().await else { return };
    let users = namespace("users");
    let redis = node(&server, &users).await;
    let a = key("user:1");
    let rule = SweepRule::Matching(Glob::new("user:*").expect("valid"));
    for (lost, is_kept) in [("s", false), ("e", true), ("n", true), ("t", true)] {
        set(&redis, &users, &a, "old").await;
        redis.sweep(&users, &rule).await.expect("it succeeds");
        let held = lease(&redis, &users, &key("held"), 1).await;
        let other = set(&redis, &users, &key("other"), "value").await;
        server.cli(&["del", &format!("terrace:1p:{{users}}:{lost}")]).await;
        assert_eq!(read(&redis, &users, &a).await, None, "it was swept, without `{lost}` too");
        let is_there = read(&redis, &users, &key("other")).await.is_some();
        assert_eq!(is_there, is_kept, "without `{lost}`");
        let next = set(&redis, &users, &key("next"), "value").await;
        assert!(next > other, "numbers rise without `{lost}`");
        assert_eq!(read(&redis, &users, &key("next")).await.as_deref(), Some("value"));
        assert_eq!(read(&redis, &users, &a).await, None);
        let filled = fill(&redis, &users, &key("held"), &held).await;
        if lost == "e" {
            assert_eq!(filled, FillOutcome::Rejected, "no lease is known to hold");
        }
        swept(&redis, &users, &SweepRule::All).await;
    }
}

#[tokio::test]
async fn nodes_of_the_two_modes_refuse_each_other() {
    let Some(server) = RedisServer::start().await else { return };
    let builder = || patient(Redis::address(&server.address())).partitions(4);
    let (coherent, plain) = (builder().build().expect("valid"), builder().build_plain().expect("valid"));
    let [first, second] = ["coherent", "plain"].map(namespace);
    coherent.open(&first).await.expect("the first one decides");
    plain.open(&second).await.expect("the first one decides");
    coherent.open(&first).await.expect("it agrees with itself");
    plain.open(&second).await.expect("it agrees with itself");
    for (refused, words) in [
        (plain.open(&first).await, "`coherent` has mode `coherent`, and this node is set to `plain`"),
        (coherent.open(&second).await, "`plain` has mode `plain`, and this node is set to `coherent`"),
    ] {
        let error = refused.expect_err("the other mode");
        assert!(
            matches!(error, RemoteError::Mismatch { .. }) && error.to_string().contains(words),
            "{error}"
        );
    }
    server.cli(&["hdel", "terrace:1:meta:coherent", "mode"]).await;
    let error = plain.open(&first).await.expect_err("it was opened by a node that knew no modes");
    assert!(matches!(error, RemoteError::Mismatch { .. }), "{error}");
    coherent.open(&first).await.expect("that was a coherent one");
    let other = builder().partitions(8).build_plain().expect("valid");
    assert!(matches!(other.open(&second).await, Err(RemoteError::Mismatch { .. })));
    plain.forget_settings(&second).await.expect("they are forgotten");
    coherent.open(&second).await.expect("nobody has decided yet");
}

#[tokio::test]
async fn a_server_that_refuses_scripts_or_streams_leads_to_this_mode() {
    let without = |name: &str, rights: &str| format!("{name} on >{SECRET} ~* &* +@all {rights}");
    let server = RedisServer::builder()
        .acl(&without("scripts", "-@scripting"))
        .acl(&without("streams", "-xadd -xrange -xrevrange"));
    let Some(server) = server.start().await else { return };
    let at = |server: &RedisServer| patient(Redis::address(&server.address())).partitions(4);
    let users = namespace("users");
    for builder in
        [at(&server).username("scripts").password(SECRET), at(&server).username("streams").password(SECRET)]
    {
        let error = builder.build().expect("valid").open(&users).await.expect_err("it is refused");
        let text = error.to_string();
        assert!(text.contains("plain mode") && text.contains("build_plain"), "{text}");
        assert!(!text.contains(SECRET), "{text}");
    }
    let Some(fresh) = self::server().start().await else { return };
    for user in ["app", "narrow"] {
        let redis = node_as(&fresh, user);
        redis.open(&users).await.expect("it does without");
        let warnings = redis.health().await.expect("it is well").warnings;
        assert!(PlainRedis::NOT_PROMISED.iter().all(|not| warnings.iter().any(|warning| warning == not)));
        assert_eq!(
            warnings.iter().any(|warning| warning.contains("`INFO`")),
            user == "narrow",
            "{warnings:?}"
        );
    }
    assert_eq!(names(&node_as(&fresh, "app"), &users, &SweepRule::All).await.expect("told"), []);
}
