//! Values from one byte to 64 MiB through a real server, both ways at once: neither side waits for the other for ever. What
//! large values cost small ones is printed; the benchmark `terrace-bench large` says it of a release build.

use crate::fixture::{HOUR, spawn, within};
use bytes::Bytes;
use std::time::Duration;
use terrace::codec::Raw;
use terrace::{Cache, CacheBuilder, Clock, Effect, Keyspace, Redis};
use terrace_core::Chance;
use terrace_testkit::server::RedisServer;

const LARGEST: usize = 64 << 20;
const LARGE: usize = 16 << 20;
const SMALL: usize = 1 << 10;
const PATIENCE: Duration = Duration::from_secs(100);

type Blobs = Keyspace<String, Bytes>;

/// A node whose calls may take as long as large values do.
fn node(url: &str, set: impl FnOnce(CacheBuilder) -> CacheBuilder) -> Blobs {
    let redis = Redis::url(url).expect("a URL").read_timeout(PATIENCE).write_timeout(PATIENCE);
    let redis = redis.build().expect("valid settings");
    let cache = Cache::builder().default_ttl(HOUR).l2_wait_max(PATIENCE).l2(redis);
    let cache = set(cache).build().expect("valid settings");
    let blobs = cache.keyspace("blobs").codec(Raw).value_bytes_max(LARGEST as u64).load_timeout(PATIENCE);
    blobs.build().expect("a new keyspace")
}

/// Bytes that cannot be compressed, and are others for each seed.
fn blob(seed: u64, length: usize) -> Bytes {
    let chance = Chance::seeded(seed);
    let mut bytes: Vec<u8> = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(chance.number().to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

async fn store(blobs: &Blobs, key: &str, value: Bytes) {
    let written = within_patience(blobs.put(key, value)).await.expect("stored");
    assert_eq!(written.effect, Effect::Applied);
}

async fn expect(blobs: &Blobs, key: &str, value: &Bytes) {
    let found = within_patience(blobs.get(key)).await.expect("a valid key").expect("it is there");
    assert!(*found == *value, "{key} has another value of {} bytes", found.len());
}

async fn within_patience<F: Future>(call: F) -> F::Output {
    terrace_testkit::wait::within("a call with a large value", PATIENCE, call).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_all_sizes_go_both_ways_at_once() {
    let Some(server) = RedisServer::start().await else { return };
    let writer = node(&server.url(), |builder| builder);
    let reader = node(&server.url(), CacheBuilder::no_l1);
    for length in [0, 1, SMALL, SMALL + 1, 64 << 10, 1 << 20, LARGE, LARGEST] {
        let (key, value) = (format!("of {length}"), blob(length as u64, length));
        store(&writer, &key, value.clone()).await;
        expect(&reader, &key, &value).await;
        expect(&writer, &key, &value).await;
    }
    let too_large = writer.put("k", blob(1, LARGEST + 1)).await;
    assert!(too_large.is_err(), "a value has a size that it may not exceed");
    // Each side sends much, to a side that sends much: on one connection and from one node to the other.
    let one = blob(1, LARGE);
    store(&reader, "there", one.clone()).await;
    let mut tasks = Vec::new();
    for task in 0..4 {
        let (writer, reader, one) = (writer.clone(), reader.clone(), one.clone());
        tasks.push(spawn(async move {
            for round in 0..3 {
                let key = format!("{task}:{round}");
                let blobs = if task % 2 == 0 { &writer } else { &reader };
                tokio::join!(store(blobs, &key, one.clone()), expect(&reader, "there", &one));
                expect(&reader, &key, &one).await;
                blobs.remove(&key).await.expect("removed");
            }
        }));
    }
    for task in tasks {
        terrace_testkit::wait::within("values both ways", PATIENCE, task).await.expect("no task panics");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_values_and_large_ones_in_one_pipeline() {
    let Some(server) = RedisServer::start().await else { return };
    let node = node(&server.url(), CacheBuilder::no_l1);
    let (small, large) = (blob(2, SMALL), blob(3, 1 << 20));
    let entries = |from: usize, value: &Bytes| {
        let value = value.clone();
        (from..from + 64).map(move |key| (key.to_string(), value.clone())).collect::<Vec<_>>()
    };
    within_patience(node.put_many(entries(0, &small))).await.expect("stored");
    within_patience(node.put_many(entries(64, &large))).await.expect("stored");
    let keys: Vec<String> = (0..128).map(|key| key.to_string()).collect();
    let (many, again) = (node.get_many(&keys), node.put_many(entries(64, &large)));
    let (found, stored) = Box::pin(within("a batch each way", async { tokio::join!(many, again) })).await;
    assert_eq!(stored.expect("stored").len(), 64);
    let lengths = found.expect("valid keys").into_iter().map(|value| value.map(|value| value.len()));
    assert!(lengths.enumerate().all(|(at, length)| length == Some(if at < 64 { SMALL } else { 1 << 20 })));
    let clock = Clock::system();
    for beside in [false, true] {
        let storing = node.clone();
        let large = blob(4, LARGE);
        let background = beside.then(|| {
            spawn(async move {
                loop {
                    store(&storing, "large", large.clone()).await;
                }
            })
        });
        let mut times = Vec::new();
        for _ in 0..200 {
            let begun = clock.precise();
            expect(&node, "1", &small).await;
            times.push(clock.precise().since(begun));
        }
        times.sort_unstable();
        println!("1 KiB, beside 16 MiB sets: {beside}; p50 {:?}, p99 {:?}", times[100], times[198]);
        if let Some(background) = background {
            background.abort();
        }
    }
}
