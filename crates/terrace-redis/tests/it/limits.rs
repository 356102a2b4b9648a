//! Servers that forget scripts, lack memory or hold other people's data.

use crate::support::{Ear, LONG, Shared, adapter, key, messages, namespace, physical, raw, read, set};
use std::time::Duration;
use terrace_core::bus::{Bus, BusEvent};
use terrace_core::codec::{Codec, Text};
use terrace_core::envelope::{Compression, Envelope};
use terrace_core::remote::{FillOutcome, LeaseOutcome, LeaseToken, Remote, RemoteError, SweepRule};
use terrace_core::{Key, Partition, Tag, Ttl, Version};
use terrace_testkit::conformance::samples;
use terrace_testkit::conformance::swept;
use terrace_testkit::server::RedisServer;

#[tokio::test]
async fn forgotten_scripts_are_loaded_again_within_the_call() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = adapter(&server).build().expect("valid settings");
    let namespace = namespace("scripts");
    redis.open(&namespace).await.expect("it opens");
    let mut raw = raw(&server.url()).await;
    let mut forget = async || {
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut raw).await.expect("it forgets");
    };
    forget().await;
    set(&redis, &namespace, &key("a"), "1").await;
    forget().await;
    let entry = |value: &str| (key("b"), samples::sealed(&namespace, &key("b"), value, LONG), LONG);
    let versions = redis.set_many(&namespace, vec![entry("1"), entry("2")]).await.expect("they succeed");
    assert!(versions[1].supersedes(versions[0]));
    assert_eq!(read(&redis, &namespace, &key("b")).await.as_deref(), Some("2"));
    forget().await;
    let done = redis.invalidate(&namespace, &[key("a"), key("b")]).await.expect("they succeed");
    assert!(done.iter().all(|done| done.existed));
    forget().await;
    assert_eq!(swept(&redis, &namespace, &SweepRule::All).await, 0);
    forget().await;
    redis.beat(1).await.expect("it succeeds");
}

#[tokio::test]
async fn the_order_of_writes_holds_when_some_of_their_scripts_were_forgotten() {
    const INVALIDATE: &str = concat!(
        include_str!("../../src/scripts/counter.lua"),
        include_str!("../../src/scripts/invalidate.lua")
    );
    let Some(server) = RedisServer::start().await else { return };
    let redis = adapter(&server).build().expect("valid settings");
    let (namespace, key) = (namespace("order"), key("key"));
    redis.open(&namespace).await.expect("it opens");
    let mut commands = redis::pipe();
    commands.cmd("SCRIPT").arg("FLUSH").ignore().cmd("SCRIPT").arg("LOAD").arg(INVALIDATE).ignore();
    commands.exec_async(&mut raw(&server.url()).await).await.expect("it knows one of two");
    let entry = |ttl| (key.clone(), samples::sealed(&namespace, &key, "value", ttl), ttl);
    let entries = vec![entry(LONG), entry(Ttl::After(Duration::ZERO))];
    redis.set_many(&namespace, entries).await.expect("they succeed");
    assert_eq!(read(&redis, &namespace, &key).await, None, "what is removed last is gone");
}

#[tokio::test]
async fn the_last_partition_is_swept_last_whichever_scripts_are_forgotten_meanwhile() {
    const SWEEP: &str = concat!(
        include_str!("../../src/scripts/counter.lua"),
        include_str!("../../src/scripts/rules.lua"),
        include_str!("../../src/scripts/sweep.lua")
    );
    let Some(server) = RedisServer::start().await else { return };
    let redis = adapter(&server).partitions(512).build().expect("valid settings");
    let (namespace, mut raw) = (namespace("last"), raw(&server.url()).await);
    redis.open(&namespace).await.expect("it opens");
    redis.join(&namespace);
    let mut ear = Ear::of(&redis);
    ear.joined(&namespace).await;
    for number in 0..100 {
        redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut raw).await.expect("it forgets");
        let mut learning = redis::cmd("SCRIPT");
        learning.arg("LOAD").arg(SWEEP);
        // The server learns it while it is at work on the sweep, so that it knows it for the last partitions and not for the first.
        let sweeping = redis.sweep(&namespace, &SweepRule::All);
        let (swept, learned) = tokio::join!(sweeping, learning.exec_async(&mut raw));
        learned.expect("it learns");
        redis.beat(number).await.expect("it succeeds");
        let mut last = None;
        while let BusEvent::Heard { bytes, .. } = ear.next().await {
            last = Some(messages(&[bytes])[0].number);
        }
        assert_eq!(swept.expect("it succeeds").version, last);
    }
}

/// Fills the server up, past what it may use.
async fn exhaust(server: &RedisServer) {
    server.cli(&["config", "set", "maxmemory-policy", "noeviction"]).await;
    server.cli(&["set", "ballast", &"x".repeat(100_000)]).await;
    server.cli(&["config", "set", "maxmemory", "1mb"]).await;
    assert!(server.cli(&["set", "more", "x"]).await.contains("OOM"));
}

#[tokio::test]
async fn a_server_without_memory_refuses_values_and_never_invalidations() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = adapter(&server).build().expect("valid settings");
    let namespace = namespace("full");
    redis.open(&namespace).await.expect("it opens");
    let (kept, other, tag) = (key("kept"), key("other"), Tag::new("org:7").expect("valid"));
    let before = set(&redis, &namespace, &kept, "old").await;
    let asked = redis.lease(&namespace, &other, LeaseToken(1), Duration::from_mins(1), None).await;
    let LeaseOutcome::Granted(lease) = asked.expect("asking succeeds") else { panic!("nobody else loads") };
    exhaust(&server).await;

    let value = samples::sealed(&namespace, &kept, "new", LONG);
    let refused = redis.set(&namespace, &kept, value, LONG).await.expect_err("there is no memory");
    assert!(matches!(&refused, RemoteError::Refused { reason } if reason.starts_with("OOM")), "{refused}");
    let stored = redis.get(&namespace, &kept).await.expect("reading needs none").expect("it is as it was");
    assert_eq!(samples::opened(&namespace, &kept, &stored.bytes), (before, "old".to_owned()));
    let value = samples::sealed(&namespace, &other, "loaded", LONG);
    redis.fill(&namespace, &other, &lease, value, LONG).await.expect_err("there is no memory");
    let asked = redis.lease(&namespace, &key("third"), LeaseToken(1), Duration::from_mins(1), None).await;
    asked.expect_err("there is no memory");

    let generation =
        redis.generations(&namespace, std::slice::from_ref(&tag)).await.expect("reading needs none");
    redis.bump_tags(&namespace, std::slice::from_ref(&tag)).await.expect("a bump is never refused");
    assert_ne!(redis.generations(&namespace, &[tag]).await.expect("reading needs none"), generation);
    let done = redis.invalidate(&namespace, &[kept]).await.expect("an invalidation is never refused");
    assert!(done[0].existed);
    redis.sweep(&namespace, &SweepRule::All).await.expect("a sweep is never refused");
    redis.beat(1).await.expect("a beat is never refused");
    server.cli(&["config", "set", "maxmemory", "0"]).await;
    let value = samples::sealed(&namespace, &other, "loaded", LONG);
    let filled = redis.fill(&namespace, &other, &lease, value, LONG).await.expect("there is memory again");
    assert_eq!(filled, FillOutcome::Rejected, "the sweep voided the lease");
}

#[tokio::test]
async fn losing_everything_makes_misses() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = adapter(&server).build().expect("valid settings");
    let namespace = namespace("flushed");
    redis.open(&namespace).await.expect("it opens");
    let (key, tags) = (key("key"), [Tag::new("org:7").expect("valid")]);
    let generations = redis.generations(&namespace, &tags).await.expect("asking succeeds");
    let asked = redis.lease(&namespace, &key, LeaseToken(1), Duration::from_mins(1), None).await;
    let LeaseOutcome::Granted(lease) = asked.expect("asking succeeds") else { panic!("nobody else loads") };
    server.cli(&["flushall"]).await;
    let value = samples::sealed(&namespace, &key, "late", LONG);
    let filled = redis.fill(&namespace, &key, &lease, value, LONG).await.expect("a fill succeeds");
    assert_eq!(filled, FillOutcome::Rejected);
    let renewed = redis.generations(&namespace, &tags).await.expect("asking succeeds");
    assert!(renewed[0].version.supersedes(generations[0].version));
}

#[tokio::test]
async fn a_lost_counter_voids_the_leases_that_are_left() {
    let Some(shared) = Shared::find().await else { return };
    let redis = shared.builder().partitions(1).build().expect("valid settings");
    let namespace = namespace("counter");
    redis.open(&namespace).await.expect("it opens");
    let asked = redis.lease(&namespace, &key("key"), LeaseToken(1), Duration::from_mins(1), None).await;
    let LeaseOutcome::Granted(lease) = asked.expect("asking succeeds") else { panic!("nobody else loads") };
    swept(&redis, &namespace, &SweepRule::All).await;
    let counter = physical(&shared.prefix, &namespace, Partition(0), "s");
    redis::cmd("UNLINK").arg(counter).exec_async(&mut shared.raw().await).await.expect("it is lost");
    set(&redis, &namespace, &key("another"), "makes a counter").await;
    let value = samples::sealed(&namespace, &key("key"), "late", LONG);
    let filled = redis.fill(&namespace, &key("key"), &lease, value, LONG).await.expect("a fill succeeds");
    assert_eq!(
        filled,
        FillOutcome::Rejected,
        "the barrier went with the counter, and the lease with the barrier"
    );
}

#[tokio::test]
async fn a_counter_made_anew_by_a_clock_that_went_back_voids_leases_too() {
    let Some(shared) = Shared::find().await else { return };
    let redis = shared.builder().partitions(1).build().expect("valid settings");
    let namespace = namespace("back");
    redis.open(&namespace).await.expect("it opens");
    let asked = redis.lease(&namespace, &key("key"), LeaseToken(1), Duration::from_mins(1), None).await;
    let LeaseOutcome::Granted(lease) = asked.expect("asking succeeds") else { panic!("nobody else loads") };
    let counter = physical(&shared.prefix, &namespace, Partition(0), "s");
    let mut anew = redis::cmd("HSET");
    anew.arg(counter).arg(&["seq", "1000", "top", "1000", "born", "1000"]);
    anew.exec_async(&mut shared.raw().await).await.expect("it is set");
    let value = samples::sealed(&namespace, &key("key"), "late", LONG);
    let filled = redis.fill(&namespace, &key("key"), &lease, value, LONG).await.expect("a fill succeeds");
    assert_eq!(filled, FillOutcome::Rejected);
}

#[tokio::test]
async fn tags_of_a_partition_are_bounded() {
    let Some(shared) = Shared::find().await else { return };
    let redis = shared.builder().partitions(1).build().expect("valid settings");
    let namespace = namespace("tags");
    redis.open(&namespace).await.expect("it opens");
    let tags: Vec<Tag> = (0..5000).map(|index| Tag::new(&format!("tag:{index}")).expect("valid")).collect();
    redis.bump_tags(&namespace, &tags[..4096]).await.expect("they succeed");
    let full = redis.generations(&namespace, &tags).await.expect("asking succeeds");
    redis.bump_tags(&namespace, &tags[4096..]).await.expect("they succeed");
    let after = redis.generations(&namespace, &tags).await.expect("asking succeeds");
    assert!(
        after.iter().zip(&full).all(|(after, full)| after.version.supersedes(full.version)),
        "all count as bumped"
    );
    let table = physical(&shared.prefix, &namespace, Partition(0), "g");
    let length: u64 =
        redis::cmd("HLEN").arg(table).query_async(&mut shared.raw().await).await.expect("a hash");
    assert!(length < 1000, "{length} fields");
}

#[tokio::test]
async fn what_a_stranger_put_there_is_an_error_and_no_panic() {
    let Some(shared) = Shared::find().await else { return };
    let redis = shared.builder().partitions(1).build().expect("valid settings");
    let (namespace, key) = (namespace("odd"), key("key"));
    let name = physical(&shared.prefix, &namespace, Partition(0), "d:key");
    let mut raw = shared.raw().await;
    redis::cmd("SET").arg(&name).arg("short").exec_async(&mut raw).await.expect("it is put there");
    let stored = redis.get(&namespace, &key).await.expect("bytes are bytes").expect("something is there");
    assert_eq!((stored.bytes.as_ref(), stored.claimed_version()), (&b"short"[..], Version::ZERO));
    let dead = Some(stored.claimed_version());
    let asked = redis.lease(&namespace, &key, LeaseToken(1), Duration::from_mins(1), dead).await;
    assert!(matches!(asked, Ok(LeaseOutcome::Granted(_))), "garbage can be replaced");

    redis::cmd("UNLINK").arg(&name).exec_async(&mut raw).await.expect("it is removed");
    redis::cmd("LPUSH").arg(&name).arg("x").exec_async(&mut raw).await.expect("it is put there");
    let error = redis.get(&namespace, &key).await.expect_err("a list is no value");
    assert!(matches!(&error, RemoteError::Protocol { reason } if reason.starts_with("WRONGTYPE")), "{error}");
    assert!(redis.health().await.is_ok(), "the connection is none the worse");
}

#[tokio::test]
async fn plain_values_are_readable_in_redis_cli() {
    let Some(server) = RedisServer::start().await else { return };
    let redis = adapter(&server).build().expect("valid settings");
    let (namespace, key): (_, Key) = (namespace("people"), key("42"));
    let envelope = Envelope {
        version: Version::ZERO,
        created_ms: 0,
        ttl: LONG,
        grace: Duration::ZERO,
        load_time: Duration::ZERO,
        is_absent: false,
        codec: Codec::<String>::id(&Text),
        tags: Vec::new(),
        payload: Text.encode(&"Ada Lovelace".to_owned()).expect("text is text"),
    };
    let sealed = envelope.seal(&namespace, &key, Compression::default()).expect("it fits");
    redis.set(&namespace, &key, sealed, LONG).await.expect("it succeeds");
    let partition = Partition::of(&namespace, "42", Partition::COUNT_DEFAULT);
    let name = format!("terrace:1:{{people.{}}}:d:42", partition.0);
    assert!(server.cli(&["--raw", "get", &name]).await.ends_with("Ada Lovelace"));
    assert_eq!(server.cli(&["exists", &name]).await, "1");
}
