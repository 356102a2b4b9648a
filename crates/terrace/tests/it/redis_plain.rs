//! Nodes on a server that runs no scripts and has no streams.

use crate::fixture::HOUR;
use crate::redis_fleet::{LEASE, Numbers, Watch, ill_treat, reader, writer};
use std::sync::atomic::Ordering;
use std::time::Duration;
use terrace::{Cache, Redis, RemoteError, Tag};
use terrace_core::{Namespace, Partition};
use terrace_testkit::server::{Proxy, RedisServer};
use terrace_testkit::wait::{until, until_some};

/// A server whose users may neither call scripts nor touch streams.
async fn server() -> Option<RedisServer> {
    let server = RedisServer::builder();
    server.acl("app on nopass ~* &* +@all -@scripting -@stream").start().await
}

fn node(address: &str) -> (Cache, Numbers) {
    let redis = Redis::address(address)
        .username("app")
        .password("any")
        .read_timeout(Duration::from_millis(300))
        .write_timeout(Duration::from_millis(300));
    let redis = redis.build_plain().expect("valid settings");
    let cache = Cache::builder().default_ttl(HOUR).staleness_max(LEASE).l2(redis);
    let cache = cache.build().expect("valid settings");
    let tags = |key: &u64, _: &u64| vec![Tag::new(&format!("t{key}")).expect("valid")];
    let numbers = cache.keyspace("numbers").tags(tags).build().expect("a new keyspace");
    (cache, numbers)
}

async fn kept(numbers: &Numbers, key: u64, expected: u64) {
    until_some("a copy is kept of what is read", async || {
        assert_eq!(numbers.get(&key).await.expect("a valid key").as_deref(), Some(&expected));
        numbers.peek(&key).map(drop)
    })
    .await;
}

#[tokio::test]
async fn another_node_hears_of_a_change_of_any_kind() {
    let Some(server) = server().await else { return };
    let ((_writing, writer), (_reading, reader)) = (node(&server.address()), node(&server.address()));
    let put = async |number: u64| {
        writer.put(&1, number).await.expect("stored");
        until("the reader drops what it had", || reader.peek(&1).is_none()).await;
        kept(&reader, 1, number).await;
        kept(&writer, 1, number).await;
    };
    put(1).await;
    put(2).await;
    writer.remove(&1).await.expect("removed");
    until("a removal is heard", || reader.peek(&1).is_none()).await;
    put(3).await;
    writer.invalidate().tag("t1").expect("a tag").send().await.expect("invalidated");
    until("a tag is heard", || reader.peek(&1).is_none()).await;
    assert_eq!(reader.get(&1).await.expect("a valid key"), None);
    put(4).await;
    writer.invalidate().pattern("1*").expect("a pattern").send().await.expect("invalidated");
    until("a pattern is heard", || reader.peek(&1).is_none()).await;
    assert_eq!(reader.get(&1).await.expect("a valid key"), None);
    put(5).await;
    writer.clear().await.expect("cleared");
    until("a clearing is heard", || reader.peek(&1).is_none()).await;
    assert_eq!(reader.get(&1).await.expect("a valid key"), None);
}

#[tokio::test]
async fn what_is_loaded_with_tags_is_kept_until_its_tag_is_bumped_elsewhere() {
    let Some(server) = server().await else { return };
    let ((_one, one), (_other, other)) = (node(&server.address()), node(&server.address()));
    for round in 0..3 {
        let load = |value: u64| move || async move { Ok::<_, RemoteError>(value) };
        let loaded = until_some("a load that is kept", async || {
            let loaded = one.get_or_load(&1, load(round)).await.expect("loaded");
            one.peek(&1).map(|_| *loaded)
        })
        .await;
        assert_eq!(loaded, round);
        assert_eq!(*other.get_or_load(&1, load(99)).await.expect("loaded"), round, "the fleet loads once");
        other.invalidate().tag("t1").expect("a tag").send().await.expect("invalidated");
        until("the bump is heard", || one.peek(&1).is_none()).await;
    }
}

#[tokio::test]
async fn a_message_of_a_smaller_number_drops_the_copy_all_the_same() {
    let Some(server) = server().await else { return };
    let (_cache, numbers) = node(&server.address());
    numbers.put(&1, 1).await.expect("stored");
    kept(&numbers, 1, 1).await;
    let partition = Partition::of(&Namespace::new("numbers").expect("valid"), "1", 256);
    let channel = format!("terrace:1p:{{numbers.{}}}:c", partition.0);
    server.cli(&["publish", &channel, "1 0 7 00000000000000ff set 1"]).await;
    until("the copy is dropped: that change may have been made later", || numbers.peek(&1).is_none()).await;
}

#[tokio::test]
async fn a_connection_that_was_lost_costs_all_copies() {
    let Some(server) = server().await else { return };
    let ((_writing, writer), (_reading, reader)) = (node(&server.address()), node(&server.address()));
    for key in [1, 2] {
        writer.put(&key, key).await.expect("stored");
        kept(&reader, key, key).await;
    }
    server.cli(&["client", "kill", "type", "pubsub"]).await;
    until("what may have been missed is dropped", || (1..3).all(|key| reader.peek(&key).is_none())).await;
    for key in [1, 2] {
        kept(&reader, key, key).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_older_than_a_lease_is_fresh_whatever_is_done_to_the_server() {
    let Some(server) = server().await else { return };
    let proxy = Proxy::start(server.port()).await;
    let nodes = [&server.address(), &server.address(), &proxy.address()].map(|address| node(address));
    let watch = Watch::new();
    let mut tasks = vec![writer(&watch, &nodes[0].1)];
    for ((_, numbers), first) in nodes.iter().zip(0..) {
        tasks.push(reader(&watch, numbers, first));
    }
    ill_treat(&server, &proxy).await;
    let calm = watch.fresh.load(Ordering::Relaxed);
    until("fresh reads after it", || watch.fresh.load(Ordering::Relaxed) > calm + 1000).await;
    watch.is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
    let (fresh, stale) = (watch.fresh.load(Ordering::Relaxed), watch.stale.load(Ordering::Relaxed));
    println!("{fresh} fresh reads, {stale} stale ones");
    assert!(stale > 0, "a node that is cut off has to say so");
}
