//! Real servers that forget what they acknowledged: killed and restored from an old dump, replaced by a replica that lagged,
//! restarted empty under load.

use crate::fixture::{HOUR, spawn};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use terrace::{Cache, Clock, Effect, EntryOptions, Keyspace, Redis};
use terrace_core::Moment;
use terrace_testkit::server::{Proxy, RedisServer};
use terrace_testkit::wait::{pause, until, until_some};

const LEASE: Duration = Duration::from_millis(500);

type Texts = Keyspace<String, String>;

fn node(address: &str) -> (Cache, Texts) {
    let redis = Redis::address(address)
        .read_timeout(Duration::from_millis(300))
        .write_timeout(Duration::from_millis(300))
        .build()
        .expect("valid settings");
    let cache = Cache::builder().default_ttl(HOUR).staleness_max(LEASE).l2(redis);
    let cache = cache.build().expect("valid settings");
    let texts = cache.keyspace("texts").build().expect("a new keyspace");
    (cache, texts)
}

async fn put(texts: &Texts, key: &str, value: &str) {
    until_some("a write to be applied", async || {
        let written = texts.put(key, value.to_owned()).await.expect("stored");
        (written.effect == Effect::Applied).then_some(())
    })
    .await;
}

async fn get(texts: &Texts, key: &str) -> Option<String> {
    texts.get(key).await.expect("a valid key").map(|value| (*value).clone())
}

fn asserted(cache: &Cache) -> bool {
    let series = "terrace_bus_reassertions_total{keyspace=\"texts\",outcome=\"asserted\"} ";
    let metrics = cache.metrics();
    metrics.lines().find_map(|line| line.strip_prefix(series)).expect("the series is there") != "0"
}

/// Values of all kinds, then changes of all kinds; the last of them is told to be lost by `forget`, after it was told when the
/// values were there.
async fn change_all(issuer: &Texts, other: &Texts) {
    issuer.remove("removed").await.expect("removed");
    issuer.put("put", "new".to_owned()).await.expect("stored");
    issuer.invalidate().tag("t").expect("a tag").send().await.expect("invalidated");
    issuer.invalidate().pattern("swept:*").expect("a pattern").send().await.expect("invalidated");
    for key in ["removed", "tagged", "swept:1"] {
        assert_eq!(get(issuer, key).await, None, "{key}");
    }
    assert_eq!(get(other, "kept").await.as_deref(), Some("old"));
}

async fn store_all(issuer: &Texts) {
    for key in ["removed", "put", "swept:1", "kept"] {
        put(issuer, key, "old").await;
    }
    let tagged = EntryOptions::default().tag("t").expect("a tag");
    issuer.put_with("tagged", "old".to_owned(), tagged).await.expect("stored");
}

/// After those who know were heard, nothing that was invalidated is served, and what was not stays.
async fn check_all(issuer: &(Cache, Texts), other: &(Cache, Texts)) {
    until("what was forgotten is asserted", || asserted(&issuer.0)).await;
    for key in ["removed", "put", "tagged", "swept:1"] {
        for (_, texts) in [issuer, other] {
            let found = until_some("L2 is asked", async || {
                let entry = texts.get_entry(key).await.expect("a valid key");
                entry.as_ref().is_none_or(|entry| !entry.is_stale).then_some(entry)
            })
            .await;
            let found = found.map(|entry| (*entry.value).clone());
            assert_ne!(found.as_deref(), Some("old"), "{key}");
        }
    }
    until_some("what was kept is served", async || get(&other.1, "kept").await).await;
    put(&issuer.1, "removed", "newer").await;
    until_some("the fleet goes on", async || {
        (get(&other.1, "removed").await.as_deref() == Some("newer")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_restored_from_an_old_dump_is_told_again() {
    let Some(server) = RedisServer::start().await else { return };
    let (issuer, other) = (node(&server.address()), node(&server.address()));
    store_all(&issuer.1).await;
    server.cli(&["save"]).await;
    change_all(&issuer.1, &other.1).await;
    server.restart_with_dump().await;
    check_all(&issuer, &other).await;
}

#[tokio::test]
async fn a_replica_that_lagged_is_told_again_when_it_takes_over() {
    let (Some(primary), Some(replica)) = (RedisServer::start().await, RedisServer::start().await) else {
        return;
    };
    let clients = Proxy::start(primary.port()).await;
    let replication = Proxy::start(primary.port()).await;
    let (host, port) =
        replication.address().split_once(':').map(|(h, p)| (h.to_owned(), p.to_owned())).expect("host:port");
    replica.cli(&["replicaof", &host, &port]).await;
    let follows = async || {
        let info = replica.cli(&["info", "replication"]).await;
        info.contains("master_link_status:up").then_some(())
    };
    until_some("the replica to follow", follows).await;
    let (issuer, other) = (node(&clients.address()), node(&clients.address()));
    store_all(&issuer.1).await;
    primary.cli(&["wait", "1", "1000"]).await;
    let acknowledged = async || {
        let offset = |info: String, field: &str| {
            info.lines().find_map(|line| line.trim().strip_prefix(field).map(str::to_owned))
        };
        let of_primary = offset(primary.cli(&["info", "replication"]).await, "master_repl_offset:");
        let of_replica = offset(replica.cli(&["info", "replication"]).await, "slave_repl_offset:");
        (of_primary == of_replica).then_some(())
    };
    until_some("the replica has all", acknowledged).await;
    replication.block();
    change_all(&issuer.1, &other.1).await;
    replica.cli(&["replicaof", "no", "one"]).await;
    clients.lead_to(replica.port());
    check_all(&issuer, &other).await;
}

#[tokio::test]
async fn a_flush_in_between_costs_loads_and_nothing_else() {
    let Some(server) = RedisServer::start().await else { return };
    let (issuer, other) = (node(&server.address()), node(&server.address()));
    store_all(&issuer.1).await;
    server.cli(&["save"]).await;
    change_all(&issuer.1, &other.1).await;
    server.cli(&["flushall"]).await;
    server.restart().await;
    until("what was forgotten is asserted", || asserted(&issuer.0)).await;
    put(&issuer.1, "kept", "new").await;
    until_some("it is read", async || (get(&other.1, "kept").await.as_deref() == Some("new")).then_some(()))
        .await;
}

/// What readers and a writer of a fleet see while its server is killed and comes back with nothing.
#[derive(Default)]
struct Figures {
    fresh: AtomicU64,
    stale: AtomicU64,
    errors: AtomicU64,
    old: AtomicU64,
    is_over: AtomicBool,
    loads: parking_lot::Mutex<HashMap<u64, u64>>,
    /// What the origin has.
    origin: parking_lot::Mutex<HashMap<u64, u64>>,
    /// What was invalidated when, and what the origin had then.
    applied: parking_lot::Mutex<HashMap<u64, Vec<(Moment, u64)>>>,
    /// When reads ended, and whether with something that counts as fresh.
    reads: parking_lot::Mutex<Vec<(Moment, bool)>>,
}

impl Figures {
    async fn load(
        self: &Arc<Self>,
        numbers: &Keyspace<u64, u64>,
        key: u64,
    ) -> Result<u64, terrace::LoadError<Infallible>> {
        let figures = Arc::clone(self);
        let loader = move || async move {
            *figures.loads.lock().entry(key).or_default() += 1;
            Ok::<_, Infallible>(figures.origin.lock().get(&key).copied().unwrap_or(0))
        };
        let loaded = numbers.get_or_load(&key, loader).await;
        self.errors.fetch_add(u64::from(loaded.is_err()), Ordering::Relaxed);
        loaded.map(|value| *value)
    }
}

const KEYS: u64 = 100;

async fn read_all_the_time(figures: Arc<Figures>, numbers: Keyspace<u64, u64>, clock: Clock) {
    for turn in 0.. {
        if figures.is_over.load(Ordering::Relaxed) {
            return;
        }
        let key = turn * 7 % KEYS;
        let start = clock.precise();
        let oldest = {
            let applied = figures.applied.lock();
            let of_key = applied.get(&key).into_iter().flatten();
            of_key.filter(|(when, _)| when.plus(LEASE) <= start).map(|(_, number)| *number).max().unwrap_or(0)
        };
        let value = match numbers.get_entry(&key).await.expect("a valid key") {
            Some(entry) if entry.is_stale => None,
            Some(entry) => Some(*entry.value),
            None => figures.load(&numbers, key).await.ok(),
        };
        let counter = if value.is_some() { &figures.fresh } else { &figures.stale };
        counter.fetch_add(1, Ordering::Relaxed);
        figures.old.fetch_add(u64::from(value.is_some_and(|value| value < oldest)), Ordering::Relaxed);
        figures.reads.lock().push((clock.precise(), value.is_some()));
        pause(Duration::from_millis(1)).await;
    }
}

/// T1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_and_restarted_empty_costs_no_error() {
    let Some(server) = RedisServer::start().await else { return };
    let figures = Arc::new(Figures::default());
    let clock = Clock::system();
    let nodes: Vec<_> = (0..3).map(|_| node(&server.address()).0).collect();
    let spaces: Vec<Keyspace<u64, u64>> =
        nodes.iter().map(|cache| cache.keyspace("numbers").build().expect("a new keyspace")).collect();
    let mut tasks = Vec::new();
    for numbers in &spaces {
        for _ in 0..2 {
            tasks.push(spawn(read_all_the_time(Arc::clone(&figures), numbers.clone(), clock.clone())));
        }
    }
    let (writing, numbers, writers_clock) = (Arc::clone(&figures), spaces[0].clone(), clock.clone());
    tasks.push(spawn(async move {
        for number in 1.. {
            if writing.is_over.load(Ordering::Relaxed) {
                return;
            }
            let key = number % KEYS;
            writing.origin.lock().insert(key, number);
            if numbers.remove(&key).await.is_ok_and(|removed| removed.effect == Effect::Applied) {
                writing.applied.lock().entry(key).or_default().push((writers_clock.precise(), number));
            }
            pause(Duration::from_millis(5)).await;
        }
    }));
    pause(Duration::from_millis(1500)).await;
    let before: u64 = figures.loads.lock().values().sum();
    server.kill();
    pause(Duration::from_secs(2)).await;
    server.restart().await;
    let back = clock.precise();
    let loads: u64 = figures.loads.lock().values().sum();
    pause(Duration::from_secs(3)).await;
    figures.is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let after: u64 = figures.loads.lock().values().sum();
    let fresh_again = fresh_again(&figures.reads.lock(), back);
    println!(
        "{} fresh reads, {} stale ones; {} errors; {} fresh ones older than {LEASE:?}; loads of {KEYS} keys: {before} \
         before, {} while it was away, {} in 3 s after; 99 % fresh again {fresh_again:?} after it was back",
        of(&figures.fresh),
        of(&figures.stale),
        of(&figures.errors),
        of(&figures.old),
        loads - before,
        after - loads,
    );
    assert_eq!((of(&figures.errors), of(&figures.old)), (0, 0));
    assert!(fresh_again.is_some_and(|after| after < Duration::from_secs(3)));
}

/// How long after `back` 99 of 100 reads in a row were fresh.
fn fresh_again(reads: &[(Moment, bool)], back: Moment) -> Option<Duration> {
    let after: Vec<_> = reads.iter().filter(|(when, _)| *when >= back).collect();
    let mostly = |window: &&[&(Moment, bool)]| window.iter().filter(|(_, fresh)| *fresh).count() >= 99;
    after.windows(100).find(mostly).map(|window| window[0].0.since(back))
}
