//! A fleet on a real server that is ill-treated: nothing is returned as fresh that is older than the lease (K2).
//!
//! Each key holds a number that one writer raises. A number counts as applied from when its write was acknowledged. A read
//! that begins a lease after that, on any node, must bring it or a later one, or say that it cannot.

use crate::fixture::{HOUR, spawn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use terrace::{Cache, Clock, Effect, Keyspace, Redis, RedisBuilder};
use terrace_core::Moment;
use terrace_testkit::server::{Proxy, RedisServer};
use terrace_testkit::wait::{pause, until, until_some};
use tokio::task::JoinHandle;

pub(crate) const KEYS: u64 = 6;
pub(crate) const LEASE: Duration = Duration::from_millis(500);

pub(crate) type Numbers = Keyspace<u64, u64>;

pub(crate) fn node(redis: RedisBuilder) -> (Cache, Numbers) {
    let redis = redis
        .read_timeout(Duration::from_millis(300))
        .write_timeout(Duration::from_millis(300))
        .build()
        .expect("valid settings");
    let cache = Cache::builder().default_ttl(HOUR).staleness_max(LEASE).l2(redis);
    let cache = cache.build().expect("valid settings");
    let numbers = cache.keyspace("numbers").build().expect("a new keyspace");
    (cache, numbers)
}

/// What was applied, and what was read.
pub(crate) struct Watch {
    pub(crate) clock: Clock,
    applied: Vec<parking_lot::Mutex<Vec<(Moment, u64)>>>,
    pub(crate) is_over: AtomicBool,
    pub(crate) fresh: AtomicU64,
    pub(crate) stale: AtomicU64,
}

impl Watch {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            clock: Clock::system(),
            applied: (0..KEYS).map(|_| parking_lot::Mutex::default()).collect(),
            is_over: AtomicBool::new(false),
            fresh: AtomicU64::new(0),
            stale: AtomicU64::new(0),
        })
    }

    fn of(&self, key: u64) -> &parking_lot::Mutex<Vec<(Moment, u64)>> {
        &self.applied[usize::try_from(key).expect("few keys")]
    }

    pub(crate) fn apply(&self, key: u64, number: u64) {
        self.of(key).lock().push((self.clock.precise(), number));
    }

    /// The newest number that was applied a lease before `now`.
    pub(crate) fn oldest(&self, key: u64, now: Moment) -> u64 {
        let applied = self.of(key).lock();
        let old = applied.iter().filter(|(when, _)| when.plus(LEASE) <= now);
        old.map(|(_, number)| *number).max().unwrap_or(0)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

/// Raises the numbers, in turn, by all ways to change a key.
pub(crate) fn writer(watch: &Arc<Watch>, numbers: &Numbers) -> JoinHandle<()> {
    let (watch, numbers) = (Arc::clone(watch), numbers.clone());
    spawn(async move {
        for number in 1.. {
            if watch.is_over() {
                return;
            }
            let key = number % KEYS;
            if numbers.put(&key, number).await.is_ok_and(|written| written.effect == Effect::Applied) {
                watch.apply(key, number);
            }
            pause(Duration::from_millis(1)).await;
        }
    })
}

/// Reads as fast as it can, and checks what it reads.
pub(crate) fn reader(watch: &Arc<Watch>, numbers: &Numbers, first: u64) -> JoinHandle<()> {
    let (watch, numbers) = (Arc::clone(watch), numbers.clone());
    spawn(async move {
        for turn in first.. {
            if watch.is_over() {
                return;
            }
            let key = turn % KEYS;
            let oldest = watch.oldest(key, watch.clock.precise());
            if let Some(entry) = numbers.get_entry(&key).await.expect("a valid key") {
                if entry.is_stale {
                    watch.stale.fetch_add(1, Ordering::Relaxed);
                } else {
                    watch.fresh.fetch_add(1, Ordering::Relaxed);
                    let (found, tier) = (*entry.value, entry.tier);
                    assert!(
                        found >= oldest,
                        "key {key}: {found} from {tier:?}, and {oldest} was applied before"
                    );
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

/// Does to the server, and to the connections of one node, what happens in operation.
pub(crate) async fn ill_treat(server: &RedisServer, proxy: &Proxy) {
    const SETTLE: Duration = Duration::from_millis(150);
    for _ in 0..2 {
        for command in [
            &["CLIENT", "KILL", "TYPE", "pubsub"][..],
            &["CLIENT", "KILL", "TYPE", "normal"],
            &["SCRIPT", "FLUSH"],
            &["FLUSHALL"],
        ] {
            drop(server.cli(command).await);
            pause(SETTLE).await;
        }
        proxy.block();
        pause(LEASE * 2).await;
        proxy.unblock();
        pause(SETTLE).await;
        server.stop();
        pause(LEASE * 3 / 2).await;
        server.cont();
        pause(SETTLE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_older_than_a_lease_is_fresh_whatever_is_done_to_the_server() {
    let Some(server) = RedisServer::start().await else { return };
    let proxy = Proxy::start(server.port()).await;
    let nodes =
        [&server.address(), &server.address(), &proxy.address()].map(|address| node(Redis::address(address)));
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

/// Invalidations of a flood, in one script each, numbered and told as the scripts of the product do it, but faster than any client
/// of it could ask for them.
const FLOOD: &str = "local now = redis.call('TIME') now = now[1] * 1000000 + now[2] \
                     local fields = redis.call('HMGET', KEYS[1], 'seq', 'top') \
                     local last, top = fields[1], tonumber(fields[2]) \
                     for key = 1, ARGV[1] do \
                       top = math.max(top + 1, now) \
                       local number = string.format('%.0f', top) \
                       local message = '1 ' .. last .. ' ' .. number .. ' 00000000000000ff invalidate ' .. (1000 + key) \
                       redis.call('XADD', KEYS[2], 'MAXLEN', '~', '4096', number .. '-0', 'm', message) \
                       redis.call('PUBLISH', KEYS[3], message) \
                       last = number \
                     end \
                     return redis.call('HSET', KEYS[1], 'seq', last, 'top', last)";
const FLOOD_AT_ONCE: u64 = 5000;
const FLOOD_LASTS: Duration = Duration::from_secs(3);

/// What this process holds, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What is heard too late to be fresh is not returned as fresh, and what waits to be heard is bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_invalidations_makes_nothing_old_fresh_and_takes_no_more_and_more_room() {
    let Some(server) = RedisServer::start().await else { return };
    let nodes = [(); 3].map(|()| node(Redis::address(&server.address())));
    let watch = Watch::new();
    let mut tasks = vec![writer(&watch, &nodes[0].1)];
    for ((_, numbers), first) in nodes.iter().zip(0..) {
        tasks.push(reader(&watch, numbers, first));
    }
    until("fresh reads before it", || watch.fresh.load(Ordering::Relaxed) > 1000).await;
    let (before, end) = (resident_kib(), watch.clock.precise().plus(FLOOD_LASTS));
    let (mut told, mut largest) = (0, before);
    let names = ["s", "log", "c"].map(|name| format!("terrace:1:{{numbers.7}}:{name}"));
    while watch.clock.precise() < end {
        let at_once = FLOOD_AT_ONCE.to_string();
        let command = ["EVAL", FLOOD, "3", &names[0], &names[1], &names[2], &at_once];
        assert_eq!(server.cli(&command).await, "0");
        told += FLOOD_AT_ONCE;
        largest = largest.max(resident_kib());
    }
    let flooded = watch.fresh.load(Ordering::Relaxed);
    until("fresh reads after it", || watch.fresh.load(Ordering::Relaxed) > flooded + 1000).await;
    largest = largest.max(resident_kib());
    watch.is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
    let stale = watch.stale.load(Ordering::Relaxed);
    println!(
        "{told} invalidations: {flooded} fresh reads and {stale} stale ones by then, {} MiB more",
        (largest - before) >> 10
    );
    assert!(told > 10_000, "that is no flood: {told}");
    // At most 16 MiB wait to be heard on each node, and as much again may be on its way from one buffer to the next.
    assert!(largest - before < 256 << 10, "{} MiB more", (largest - before) >> 10);
}

#[tokio::test]
async fn another_node_hears_of_a_change_of_any_kind() {
    let Some(server) = RedisServer::start().await else { return };
    let ((_writing, writer), (_reading, reader)) =
        (node(Redis::address(&server.address())), node(Redis::address(&server.address())));
    let number = async |number: u64| {
        writer.put(&1, number).await.expect("stored");
        until("the reader drops what it had", || reader.peek(&1).is_none()).await;
        until_some("the reader keeps what it reads", async || {
            assert_eq!(reader.get(&1).await.expect("a valid key").as_deref(), Some(&number));
            reader.peek(&1).map(drop)
        })
        .await;
    };
    number(1).await;
    number(2).await;
    writer.remove(&1).await.expect("removed");
    until("a removal is heard", || reader.peek(&1).is_none()).await;
    number(3).await;
    writer.invalidate().pattern("1*").expect("a pattern").send().await.expect("invalidated");
    until("a pattern is heard", || reader.peek(&1).is_none()).await;
    assert_eq!(reader.get(&1).await.expect("a valid key"), None);
    number(4).await;
    writer.clear().await.expect("cleared");
    until("a clearing is heard", || reader.peek(&1).is_none()).await;
    assert_eq!(reader.get(&1).await.expect("a valid key"), None);
}
