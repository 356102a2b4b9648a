//! The adapter where sentinels elect the primary.

use crate::support::{Ear, LONG, key, namespace, patient, read, set, until_served};
use std::time::Duration;
use terrace_core::Clock;
use terrace_core::bus::{Bus, BusEvent};
use terrace_core::remote::{Remote, RemoteError};
use terrace_redis::{Redis, RedisBuilder};
use terrace_testkit::conformance::{remote, samples};
use terrace_testkit::server::{RedisSentinel, RedisServer};
use terrace_testkit::wait;

fn adapter(watched: &RedisSentinel) -> RedisBuilder {
    patient(Redis::sentinel(RedisSentinel::PRIMARY, watched.addresses()))
}

#[tokio::test]
async fn the_adapter_keeps_the_contract_behind_sentinels() {
    let Some(watched) = RedisSentinel::start().await else { return };
    remote::check(&adapter(&watched).build().expect("valid settings"), "contract").await;
    let unknown = Redis::sentinel("other", watched.addresses()).build().expect("valid settings");
    let error = unknown.health().await.expect_err("nobody knows it");
    assert!(matches!(error, RemoteError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("No such master"), "{error}");
}

#[tokio::test]
async fn a_failover_is_followed_by_calls_and_by_the_bus() {
    let Some(watched) = RedisSentinel::start().await else { return };
    let redis = adapter(&watched).partitions(4).build().expect("valid settings");
    let users = namespace("users");
    redis.open(&users).await.expect("it opens");
    redis.join(&users);
    let mut ear = Ear::of(&redis);
    ear.joined(&users).await;
    set(&redis, &users, &key("before"), "value").await;
    ear.message(&users).await;
    let before = watched.primary().await;
    let (clock, value) = (Clock::system(), samples::sealed(&users, &key("late"), "value", LONG));
    let since = clock.precise();
    watched.servers()[before].kill();
    assert_eq!(ear.next().await, BusEvent::Lost);
    let store = async || redis.set(&users, &key("late"), value.clone(), LONG).await.ok();
    wait::until_some("a write to be taken", store).await;
    println!("kill -9 behind sentinels: a write is taken {:?} later", clock.precise().since(since));
    watched.replaced(before).await;
    ear.joined(&users).await;
    until_served(&redis).await;
    assert_eq!(read(&redis, &users, &key("before")).await.as_deref(), Some("value"), "it was replicated");
    let after = set(&redis, &users, &key("after"), "value").await;
    while ear.message(&users).await.1.number != after {}
    redis.beat(7).await.expect("it succeeds");
    assert_eq!(ear.next().await, BusEvent::Beat(7));
}

#[tokio::test]
async fn a_primary_that_was_replaced_is_left_though_it_still_answers() {
    let Some(watched) = RedisSentinel::start().await else { return };
    let redis = adapter(&watched).partitions(4).build().expect("valid settings");
    let users = namespace("users");
    redis.open(&users).await.expect("it opens");
    redis.join(&users);
    let mut ear = Ear::of(&redis);
    ear.joined(&users).await;
    watched.failover().await;
    assert_eq!(ear.next().await, BusEvent::Lost);
    ear.joined(&users).await;
    let write = async || {
        let value = samples::sealed(&users, &key("key"), "value", LONG);
        redis.set(&users, &key("key"), value, LONG).await.ok()
    };
    wait::until_some("a write to be taken", write).await;
    ear.message(&users).await;
}

/// The sentinel that leads a failover names the old primary beside the number of the new election, until the last replica has followed.
/// Here one never does, and connections are lost all the time, so that the sentinels are asked again and again.
#[tokio::test]
async fn a_primary_is_not_gone_back_to_while_a_sentinel_has_yet_to_leave_it() {
    const PASSWORD: &str = "secret";
    let server = RedisServer::builder()
        .password(PASSWORD)
        .acl(&format!("peer on >{PASSWORD} ~* &* +@all"))
        .setting("masteruser", "peer");
    let Some(watched) = RedisSentinel::start_with(server, RedisServer::builder()).await else { return };
    for sentinel in watched.sentinels() {
        sentinel.cli(&["sentinel", "set", RedisSentinel::PRIMARY, "auth-user", "peer"]).await;
        sentinel.cli(&["sentinel", "set", RedisSentinel::PRIMARY, "auth-pass", PASSWORD]).await;
    }
    let [old, new, other] = watched.servers() else { panic!("there are three") };
    other.cli(&["config", "set", "replica-priority", "0"]).await;
    other.cli(&["acl", "setuser", "peer", "-slaveof", "-replicaof"]).await;
    let redis = adapter(&watched).password(PASSWORD).partitions(4).build().expect("valid settings");
    let users = namespace("users");
    redis.open(&users).await.expect("it opens");
    old.cli(&["acl", "setuser", "peer", "off"]).await;
    old.cli(&["client", "kill", "user", "peer"]).await;
    let mut number = 0_u32;
    wait::until_some("all sentinels to have left it", async || {
        for _ in 0..5 {
            number += 1;
            let name = key(&format!("n{number}"));
            redis.set(&users, &name, samples::sealed(&users, &name, "value", LONG), LONG).await.ok();
        }
        for server in [old, new] {
            server.cli(&["client", "kill", "user", "default"]).await;
        }
        for sentinel in watched.sentinels() {
            let known = sentinel.cli(&["sentinel", "master", RedisSentinel::PRIMARY]).await;
            if known.contains("failover_in_progress") || !known.contains(&format!("{}", new.port())) {
                return None;
            }
        }
        Some(())
    })
    .await;
    let kept = async |server: &RedisServer| {
        let names = server.cli(&["keys", "*:d:n*"]).await;
        let numbers = names.lines().filter_map(|name| name.rsplit_once(":d:n")?.1.parse::<u32>().ok());
        numbers.collect::<std::collections::BTreeSet<u32>>()
    };
    let (of_old, of_new) = (kept(old).await, kept(new).await);
    let followed = of_new.difference(&of_old).min().expect("the new one was written to");
    println!("{number} writes, of which {followed} was the first to go to the new primary");
    assert_eq!(of_old.range(followed..).collect::<Vec<_>>(), Vec::<&u32>::new());
}

#[tokio::test]
async fn a_sentinel_is_not_taken_for_a_server() {
    let Some(watched) = RedisSentinel::start().await else { return };
    let Some(server) = RedisServer::start().await else { return };
    let error = Redis::address(&watched.addresses()[0]).build().expect("valid").health().await;
    let error = error.expect_err("it has no values");
    assert!(error.to_string().contains("is a sentinel"), "{error}");
    let error = Redis::sentinel("main", [server.address()]).build().expect("valid").health().await;
    let error = error.expect_err("it knows nobody");
    assert!(error.to_string().to_lowercase().contains("unknown command"), "{error}");
}

#[tokio::test]
async fn a_split_brain_without_a_bound_is_warned_of() {
    for (replicas, expected) in [("0", 1), ("1", 0)] {
        let server = RedisServer::builder().setting("min-replicas-to-write", replicas);
        let Some(watched) = RedisSentinel::start_with(server, RedisServer::builder()).await else { return };
        let redis = adapter(&watched).build().expect("valid settings");
        redis.open(&namespace("users")).await.expect("it opens");
        let examined = async || {
            let warnings = redis.health().await.expect("it is well").warnings;
            (warnings.len() == expected).then_some(warnings)
        };
        let warnings = wait::until_some("what health says", examined).await;
        assert!(warnings.iter().all(|warning| warning.contains("min-replicas-to-write")), "{warnings:?}");
        if expected == 0 {
            until_served(&redis).await;
            assert!(redis.health().await.expect("it is well").warnings.is_empty());
        }
    }
}

#[tokio::test]
async fn sentinels_that_are_silent_or_gone_are_not_waited_for() {
    let Some(watched) = RedisSentinel::start().await else { return };
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let silent = silent.local_addr().map(|address| (address.to_string(), silent)).expect("it is bound");
    let gone = &watched.sentinels()[0];
    gone.kill();
    let addresses = [silent.0, gone.address(), watched.sentinels()[1].address()];
    let redis = patient(Redis::sentinel(RedisSentinel::PRIMARY, addresses)).build().expect("valid settings");
    let clock = Clock::system();
    let since = clock.precise();
    redis.health().await.expect("one is enough");
    let took = clock.precise().since(since);
    assert!(
        took < Duration::from_secs(4),
        "far less than the five seconds that connecting may take: {took:?}"
    );
}
