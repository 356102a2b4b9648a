//! A fleet that hears of writers that are not terrace, on a real server, and what that costs.

use crate::fixture::{HOUR, spawn};
use crate::redis_fleet::{KEYS, LEASE, Numbers, Watch};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use terrace::{Cache, Clock, Namespace, Redis, RedisBuilder};
use terrace_core::Partition;
use terrace_testkit::server::{Plain, RedisCluster, RedisServer};
use terrace_testkit::wait::{pause, until, until_some};
use tokio::task::JoinHandle;

fn node(redis: RedisBuilder, tracking: bool) -> (Cache, Numbers) {
    let cache = Cache::builder().default_ttl(HOUR).staleness_max(LEASE);
    let cache = cache.l2(redis.tracking(tracking).build().expect("valid settings"));
    let cache = cache.build().expect("valid settings");
    let numbers = cache.keyspace("numbers").build().expect("a new keyspace");
    (cache, numbers)
}

/// The name on the server of a key's value, or of its lease.
fn physical(kind: &str, key: u64) -> String {
    let namespace = Namespace::new("numbers").expect("valid");
    let partition = Partition::of(&namespace, &key.to_string(), Partition::COUNT_DEFAULT);
    format!("terrace:1:{{{namespace}.{}}}:{kind}:{key}", partition.0)
}

/// The origin, which a stranger changes.
type Origin = Arc<Vec<AtomicU64>>;

fn origin_of(origin: &Origin, key: u64) -> &AtomicU64 {
    &origin[usize::try_from(key).expect("few keys")]
}

/// Changes the origin, then removes values and leases past terrace.
fn stranger(watch: &Arc<Watch>, origin: &Origin, mut connection: Plain) -> JoinHandle<()> {
    let (watch, origin) = (Arc::clone(watch), Arc::clone(origin));
    spawn(async move {
        for number in 1.. {
            if watch.is_over() {
                return;
            }
            let key = number % KEYS;
            origin_of(&origin, key).store(number, Ordering::SeqCst);
            connection.run(&["DEL", &physical("d", key), &physical("l", key)]).await;
            watch.apply(key, number);
            pause(Duration::from_millis(1)).await;
        }
    })
}

/// Reads, and loads what is not there; checks what is found.
fn reader(watch: &Arc<Watch>, origin: &Origin, numbers: &Numbers, first: u64) -> JoinHandle<()> {
    let (watch, origin, numbers) = (Arc::clone(watch), Arc::clone(origin), numbers.clone());
    spawn(async move {
        for turn in first.. {
            if watch.is_over() {
                return;
            }
            let key = turn % KEYS;
            let oldest = watch.oldest(key, watch.clock.precise());
            match numbers.get_entry(&key).await.expect("a valid key") {
                Some(entry) if entry.is_stale => {
                    watch.stale.fetch_add(1, Ordering::Relaxed);
                }
                Some(entry) => {
                    watch.fresh.fetch_add(1, Ordering::Relaxed);
                    let (found, tier) = (*entry.value, entry.tier);
                    assert!(
                        found >= oldest,
                        "key {key}: {found} from {tier:?}, and {oldest} was changed before"
                    );
                }
                None => {
                    let origin = Arc::clone(&origin);
                    let load =
                        async move || Ok::<_, Infallible>(origin_of(&origin, key).load(Ordering::SeqCst));
                    numbers.get_or_load(&key, load).await.expect("the loader does not fail");
                }
            }
            if turn % 64 == 0 {
                pause(Duration::from_millis(1)).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
    })
}

/// G2 for strangers: a lease after a stranger's command was acknowledged, nobody returns as fresh what was before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_older_than_a_lease_is_fresh_where_only_strangers_write() {
    let Some(server) = RedisServer::start().await else { return };
    let nodes = [(); 2].map(|()| node(Redis::address(&server.address()), true));
    let (watch, origin) = (Watch::new(), Origin::new((0..KEYS).map(|_| AtomicU64::new(0)).collect()));
    let mut tasks = vec![stranger(&watch, &origin, server.plain().await)];
    for ((_, numbers), first) in nodes.iter().zip(0..) {
        tasks.push(reader(&watch, &origin, numbers, first));
    }
    until("fresh reads", || watch.fresh.load(Ordering::Relaxed) > 1000).await;
    for _ in 0..3 {
        for command in [&["CLIENT", "KILL", "TYPE", "pubsub"][..], &["SCRIPT", "FLUSH"], &["FLUSHALL"]] {
            server.cli(command).await;
            pause(LEASE).await;
        }
    }
    let calm = watch.fresh.load(Ordering::Relaxed);
    until("fresh reads after it", || watch.fresh.load(Ordering::Relaxed) > calm + 1000).await;
    watch.is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
    let (fresh, stale) = (watch.fresh.load(Ordering::Relaxed), watch.stale.load(Ordering::Relaxed));
    println!("{fresh} fresh reads, {stale} stale ones");
}

/// Sees to it that L1 has a copy.
async fn keeps(numbers: &Numbers, key: u64) {
    until_some("a copy is kept", async || {
        numbers.get_or_load(&key, async move || Ok::<_, Infallible>(key)).await.expect("it loads");
        numbers.peek(&key)
    })
    .await;
}

#[tokio::test]
async fn redis_cli_reaches_every_node() {
    let Some(server) = RedisServer::start().await else { return };
    let nodes = [(); 3].map(|()| node(Redis::address(&server.address()), true));
    let value = physical("d", 1);
    for command in [
        &["DEL", &value][..],
        &["SET", &value, "foreign bytes"],
        &["PEXPIRE", &value, "10000"],
        &["PEXPIRE", &value, "1"],
        &["FLUSHALL"],
    ] {
        for (_, numbers) in &nodes {
            keeps(numbers, 1).await;
        }
        server.cli(command).await;
        for (_, numbers) in &nodes {
            until("the copy is dropped", || numbers.peek(&1).is_none()).await;
        }
    }
}

#[tokio::test]
async fn redis_cli_reaches_every_node_of_a_cluster() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let nodes = [(); 2].map(|()| node(Redis::cluster(cluster.addresses()), true));
    for key in 0..KEYS {
        for (_, numbers) in &nodes {
            keeps(numbers, key).await;
        }
        let owner = cluster.owner_of(&physical("d", key)).await;
        assert_eq!(cluster.members()[owner].cli(&["DEL", &physical("d", key)]).await, "1");
        for (_, numbers) in &nodes {
            until("the copy is dropped", || numbers.peek(&key).is_none()).await;
        }
    }
}

#[tokio::test]
async fn without_tracking_a_stranger_is_not_heard_of() {
    let Some(server) = RedisServer::start().await else { return };
    let (_cache, numbers) = node(Redis::address(&server.address()), false);
    keeps(&numbers, 1).await;
    server.cli(&["DEL", &physical("d", 1)]).await;
    pause(LEASE * 2).await;
    assert_eq!(numbers.get(&1).await.expect("a valid key").as_deref(), Some(&1), "until its TTL");
}

/// A number that `INFO` tells.
async fn info(server: &RedisServer, section: &str, name: &str) -> f64 {
    let text = server.cli(&["INFO", section]).await;
    let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
    line.and_then(|rest| rest.split(['=', ',', ':']).find_map(|part| part.parse().ok())).unwrap_or(0.0)
}

/// CPU seconds that the server has used.
async fn cpu(server: &RedisServer) -> f64 {
    info(server, "cpu", "used_cpu_user:").await + info(server, "cpu", "used_cpu_sys:").await
}

/// What `count` writes cost, read on two nodes after each: reads of L2 per write, and microseconds of the server's time per write.
async fn cost(tracking: bool, count: u32) -> (f64, f64, f64) {
    let Some(server) = RedisServer::start().await else { return (0.0, 0.0, 0.0) };
    let nodes = [(); 3].map(|()| node(Redis::address(&server.address()), tracking));
    for (_, numbers) in &nodes {
        keeps(numbers, 0).await;
    }
    let gets = info(&server, "commandstats", "cmdstat_get:calls").await;
    for number in (0..count).map(u64::from) {
        nodes[0].1.put(&number, number).await.expect("stored");
        for (_, numbers) in &nodes[..2] {
            for _ in 0..2 {
                pause(Duration::from_micros(300)).await;
                assert_eq!(numbers.get(&number).await.expect("a valid key").as_deref(), Some(&number));
            }
        }
    }
    let reads = (info(&server, "commandstats", "cmdstat_get:calls").await - gets) / f64::from(count);
    server.cli(&["CONFIG", "RESETSTAT"]).await;
    let (before, batches) = (cpu(&server).await, 40_u32);
    for batch in 0..batches {
        let entries = (0..500).map(|index| (u64::from(batch) * 500 + index, index));
        nodes[0].1.put_many(entries).await.expect("stored");
    }
    let writes = f64::from(batches * 500);
    let whole = (cpu(&server).await - before) * 1e6 / writes;
    let scripts = info(&server, "commandstats", "cmdstat_evalsha:calls").await;
    let text = server.cli(&["INFO", "commandstats"]).await;
    let usec = text
        .lines()
        .find(|line| line.starts_with("cmdstat_evalsha:"))
        .and_then(|line| line.split(',').find_map(|part| part.strip_prefix("usec=")?.parse::<f64>().ok()));
    (reads, usec.unwrap_or(0.0) / scripts.max(1.0), whole)
}

/// `cargo nextest run -p terrace --all-features --no-capture figures_of_tracking`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_of_tracking() {
    let Some(server) = RedisServer::start().await else { return };
    let nodes = [(); 3].map(|()| node(Redis::address(&server.address()), true));
    let (mut connection, clock) = (server.plain().await, Clock::system());
    let mut times = Vec::new();
    for _ in 0..500 {
        for (_, numbers) in &nodes {
            keeps(numbers, 1).await;
        }
        connection.run(&["DEL", &physical("d", 1)]).await;
        let acknowledged = clock.precise();
        while nodes.iter().any(|(_, numbers)| numbers.peek(&1).is_some()) {
            tokio::task::yield_now().await;
        }
        times.push(clock.precise().since(acknowledged));
    }
    times.sort();
    println!(
        "from a DEL's reply until no node of 3 has the copy: p50 {:?}, p99 {:?}, most {:?}",
        times[250], times[494], times[499]
    );
    assert!(times[250] < LEASE, "a push and not a lapse");
    for tracking in [false, true] {
        let (reads, script, whole) = cost(tracking, 200).await;
        println!(
            "tracking {tracking}: {reads:.2} reads of L2 per write that is read twice on two nodes; {script:.1} us of evalsha, {whole:.1} us of the server's CPU per write with 3 nodes"
        );
    }
}
