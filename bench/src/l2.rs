//! What does a hit in L2 cost?
//!
//! 64 tasks read entries that are all in Redis, over loopback. The bare client reads the very bytes that terrace
//! stored, over one multiplexed connection; it neither checks nor decodes them. terrace has no L1 here, so every
//! `get` is a round trip, with the check of the envelope, the decoding and the counting that belong to it.

use crate::tasks;
use anyhow::{Result, ensure};
use redis::aio::MultiplexedConnection;
use std::sync::Arc;
use std::time::Duration;
use terrace::{Cache, Keyspace, Redis, codec::Raw};
use terrace_bench_harness::rounds::{self, Contender};
use terrace_bench_harness::table;
use terrace_bench_harness::timing::Deadline;
use terrace_testkit::server::RedisServer;
use tokio::runtime::Builder;

const TASKS: usize = 64;
const ENTRIES: usize = 10_000;
const VALUE_BYTES: usize = 256;
const MEASURED_FOR: Duration = Duration::from_millis(500);

/// Compares reads per second.
pub(crate) fn run(rounds: usize) -> Result<()> {
    println!("## A hit in L2\n");
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let Some(server) = runtime.block_on(RedisServer::start()) else { return Ok(()) };
    let ours = runtime.block_on(fill(&server.url()))?;
    let (connection, names) = runtime.block_on(connect(&server.url()))?;
    let title = format!("{TASKS} tasks, {VALUE_BYTES}-byte values");
    let contenders = vec![
        Contender::new("`redis`: GET", || {
            Ok(runtime.block_on(tasks::throughput(TASKS, MEASURED_FOR, |task, deadline| {
                bare(connection.clone(), Arc::clone(&names), task, deadline, get)
            })))
        }),
        Contender::new("`redis`: PTTL and GET in one pipeline", || {
            Ok(runtime.block_on(tasks::throughput(TASKS, MEASURED_FOR, |task, deadline| {
                bare(connection.clone(), Arc::clone(&names), task, deadline, pttl_and_get)
            })))
        }),
        Contender::new("terrace, `get` without L1", || {
            Ok(runtime.block_on(tasks::throughput(TASKS, MEASURED_FOR, |task, deadline| {
                cached(ours.clone(), task, deadline)
            })))
        }),
    ];
    table::print(&title, "reads per second", 0, &rounds::measure(&title, rounds, contenders)?);
    Ok(())
}

/// A cache without L1, with all entries in L2.
async fn fill(url: &str) -> Result<Keyspace<u64, Vec<u8>>> {
    let cache = Cache::builder()
        .no_l1()
        .l2(Redis::url(url)?.build()?)
        .default_ttl(Duration::from_hours(24))
        .build()?;
    let keyspace = cache.keyspace::<u64, Vec<u8>>("bench").codec(Raw).build()?;
    for key in 0..ENTRIES as u64 {
        keyspace.put(&key, vec![7; VALUE_BYTES]).await?;
    }
    Ok(keyspace)
}

/// A bare connection, and the names under which the entries are stored.
async fn connect(url: &str) -> Result<(MultiplexedConnection, Arc<[Vec<u8>]>)> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let all: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*:d:*").query_async(&mut connection).await?;
    ensure!(all.len() == ENTRIES, "{} of {ENTRIES} entries are stored", all.len());
    Ok((connection, all.into()))
}

async fn get(connection: &mut MultiplexedConnection, name: &[u8]) -> redis::RedisResult<usize> {
    let value: Vec<u8> = redis::cmd("GET").arg(name).query_async(connection).await?;
    Ok(value.len())
}

async fn pttl_and_get(connection: &mut MultiplexedConnection, name: &[u8]) -> redis::RedisResult<usize> {
    let mut both = redis::pipe();
    both.cmd("PTTL").arg(name).cmd("GET").arg(name);
    let (_, value): (i64, Vec<u8>) = both.query_async(connection).await?;
    Ok(value.len())
}

/// Reads until the deadline, and tells how often.
async fn bare(
    mut connection: MultiplexedConnection,
    names: Arc<[Vec<u8>]>,
    task: usize,
    deadline: Deadline,
    read: impl AsyncFn(&mut MultiplexedConnection, &[u8]) -> redis::RedisResult<usize>,
) -> u64 {
    let mut done = 0;
    for name in names.iter().cycle().skip(first_index(task)) {
        if deadline.has_passed() {
            break;
        }
        let bytes = read(&mut connection, name).await.expect("the server answers");
        assert!(bytes > VALUE_BYTES);
        done += 1;
    }
    done
}

/// Reads until the deadline, and tells how often.
async fn cached(keyspace: Keyspace<u64, Vec<u8>>, task: usize, deadline: Deadline) -> u64 {
    let mut done = 0;
    for key in (0..ENTRIES as u64).cycle().skip(first_index(task)) {
        if deadline.has_passed() {
            break;
        }
        let value = keyspace.get(&key).await.expect("the server answers");
        assert!(
            value.is_some_and(|value| value.len() == VALUE_BYTES),
            "every read of this benchmark is a hit"
        );
        done += 1;
    }
    done
}

/// Each task begins somewhere else.
fn first_index(task: usize) -> usize {
    task * ENTRIES / TASKS
}
