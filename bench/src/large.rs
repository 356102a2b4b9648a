//! What do large values cost small ones? 1 KiB is read from Redis while 16 MiB are stored, again and again: by nobody, by another node,
//! and by the same node, whose small reads share the connection with the large writes.

use anyhow::Result;
use bytes::Bytes;
use std::time::Duration;
use terrace::codec::Raw;
use terrace::{Cache, Clock, Keyspace, Redis};
use terrace_bench_harness::timing::Deadline;
use terrace_testkit::server::RedisServer;
use tokio::runtime::{Builder, Runtime};

const SMALL: usize = 1 << 10;
const LARGE: usize = 16 << 20;
/// Each round of each row.
const MEASURED_FOR: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);

type Blobs = Keyspace<u64, Bytes>;

/// Measures latencies of small reads.
pub(crate) fn run(rounds: usize) -> Result<()> {
    println!("## Small values beside large ones\n");
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let Some(server) = runtime.block_on(RedisServer::start()) else { return Ok(()) };
    let (reader, other) = (node(&server)?, node(&server)?);
    println!(
        "| 1 KiB gets | reads | p50 | p99 | longest | 16 MiB sets meanwhile |\n|---|---:|---:|---:|---:|---:|"
    );
    for (name, writer) in [
        ("alone", None),
        ("beside sets of another node", Some(&other)),
        ("beside sets of the same node", Some(&reader)),
    ] {
        measure(name, rounds, &runtime, &reader, writer)?;
    }
    println!();
    Ok(())
}

fn node(server: &RedisServer) -> Result<Blobs> {
    let redis = Redis::url(&server.url())?.read_timeout(PATIENCE).write_timeout(PATIENCE).build()?;
    let cache = Cache::builder().no_l1().l2_wait_max(PATIENCE).l2(redis).build()?;
    Ok(cache.keyspace("bench").codec(Raw).value_bytes_max(LARGE as u64).build()?)
}

/// Bytes that look random, so that nothing is gained by compression.
fn blob(length: usize) -> Bytes {
    let mut random = terrace_bench_harness::keys::Random::new(42);
    (0..length).map(|_| u8::try_from(random.index(256)).unwrap_or(0)).collect()
}

fn measure(
    name: &str,
    rounds: usize,
    runtime: &Runtime,
    reader: &Blobs,
    writer: Option<&Blobs>,
) -> Result<()> {
    let clock = Clock::system();
    let large = blob(LARGE);
    runtime.block_on(reader.put(&0, blob(SMALL)))?;
    let ends = Deadline::after(MEASURED_FOR * u32::try_from(rounds)?);
    let writing = writer.cloned().map(|writer| {
        runtime.spawn(async move {
            let mut sets = 0_u64;
            while !ends.has_passed() {
                writer.put(&1, large.clone()).await.expect("the server takes it");
                sets += 1;
            }
            sets
        })
    });
    let mut taken = Vec::new();
    runtime.block_on(async {
        while !ends.has_passed() {
            let begun = clock.precise();
            let value = reader.get(&0).await.expect("the server answers");
            assert!(value.is_some_and(|value| value.len() == SMALL), "every read of this benchmark is a hit");
            taken.push(clock.precise().since(begun));
        }
    });
    let sets = writing.map_or(Ok(0), |writing| runtime.block_on(writing))?;
    taken.sort_unstable();
    let at = |percent: usize| taken[(taken.len() * percent / 100).min(taken.len() - 1)];
    println!("| {name} | {} | {:.1?} | {:.1?} | {:.1?} | {sets} |", taken.len(), at(50), at(99), at(100));
    Ok(())
}
