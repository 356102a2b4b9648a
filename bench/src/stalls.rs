//! How long does terrace keep a thread of the runtime from its other tasks?
//!
//! On a runtime of one thread a probe gives way to the other tasks and looks how long it was until its next turn. In between, each
//! task that is ready has been polled once: so no poll took longer than that, and it is an upper bound. It is given twice: by the
//! clock on the wall, which also counts what the machine did elsewhere, and by the time for which the thread had a processor.
//! One row is one size of values. The caller does all that a keyspace offers: texts, encoded as JSON and compressed, through L1 and Redis.

use anyhow::Result;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use terrace::{Cache, Clock, Keyspace, L1, Redis, Tag};
use terrace_bench_harness::keys::Random;
use terrace_bench_harness::timing::{Deadline, processor_time};
use terrace_testkit::server::RedisServer;
use tokio::runtime::Builder;
use tokio::task::JoinSet;

const SIZES: [(&str, usize); 5] =
    [("64 B", 64), ("1 KiB", 1 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20), ("12 MiB", 12 << 20)];
/// One, so that a turn is hardly more than one poll.
const CALLERS: u64 = 1;
const KEYS: usize = 500;
/// Each round of each row.
const MEASURED_FOR: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);
/// What is not to be exceeded, for values of 1 MiB at most.
const AT_MOST: Duration = Duration::from_millis(10);

type Texts = Keyspace<u64, String>;

/// Measures how long the probe waits for its turn.
pub(crate) fn run(rounds: usize) -> Result<()> {
    println!("## How long other tasks wait\n");
    let servers = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let Some(server) = servers.block_on(RedisServer::start()) else { return Ok(()) };
    println!(
        "| values | operations | turns | p50 | p99.9 | longest, by the processor | longest, by the wall | \
         turns over {AT_MOST:?} by the processor |\n|---|---:|---:|---:|---:|---:|---:|---:|"
    );
    let lasts = MEASURED_FOR * u32::try_from(rounds)?;
    for (name, bytes) in SIZES {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (operations, waits) = runtime.block_on(probe(&server, bytes, lasts))?;
        report(name, operations, waits);
    }
    println!();
    Ok(())
}

fn report(name: &str, operations: u64, mut waits: Vec<(Duration, Duration)>) {
    let longest_by_wall = waits.iter().map(|wait| wait.1).max().unwrap_or_default();
    waits.sort_unstable();
    let at = |thousandth: usize| waits.get(waits.len() * thousandth / 1000).copied().unwrap_or_default().0;
    let longest = waits.last().copied().unwrap_or_default().0;
    let over = waits.iter().filter(|wait| wait.0 > AT_MOST).count();
    println!(
        "| {name} | {operations} | {} | {:.1?} | {:.1?} | {longest:.1?} | {longest_by_wall:.1?} | {over} |",
        waits.len(),
        at(500),
        at(999)
    );
}

/// How many operations there were, and how long the probe waited for each of its turns: by the processor and by the wall.
async fn probe(
    server: &RedisServer,
    bytes: usize,
    lasts: Duration,
) -> Result<(u64, Vec<(Duration, Duration)>)> {
    let redis = Redis::url(&server.url())?.read_timeout(PATIENCE).write_timeout(PATIENCE).build()?;
    let cache = Cache::builder().l1(L1::entries(KEYS / 2)).l2_wait_max(PATIENCE).l2(redis).build()?;
    let tagger = |key: &u64, _: &String| vec![tag(key % 10)];
    let texts = cache.keyspace(&format!("of-{bytes}")).tags(tagger).build()?;
    let (operations, is_over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let value: Arc<str> = text(bytes).into();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (texts, operations, is_over) = (texts.clone(), Arc::clone(&operations), Arc::clone(&is_over));
        let value = Arc::clone(&value);
        callers.spawn(async move {
            let mut random = Random::new(caller);
            while !is_over.load(Ordering::Relaxed) {
                operate(&texts, &value, &mut random).await;
                operations.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let (clock, ends) = (Clock::system(), Deadline::after(lasts));
    let mut waits = Vec::new();
    while !ends.has_passed() {
        let (wall, processor) = (clock.precise(), processor_time());
        tokio::task::yield_now().await;
        waits.push((processor_time().saturating_sub(processor), clock.precise().since(wall)));
    }
    is_over.store(true, Ordering::Relaxed);
    callers.join_all().await;
    cache.shutdown(PATIENCE).await?;
    Ok((operations.load(Ordering::Relaxed), waits))
}

fn tag(number: u64) -> Tag {
    Tag::new(&format!("group:{number}")).expect("valid")
}

async fn operate(texts: &Texts, value: &Arc<str>, random: &mut Random) {
    // Large values in fewer keys, so that the server has room.
    let keys = KEYS.min((256 << 20) / value.len());
    let key = random.index(keys) as u64;
    match random.index(100) {
        0..20 => drop(texts.put(&key, value.to_string()).await.expect("stored")),
        20..60 => drop(texts.get(&key).await.expect("the server answers")),
        60..90 => {
            let value = Arc::clone(value);
            let loader = async move || Ok::<_, Infallible>(value.to_string());
            texts.get_or_load(&key, loader).await.expect("the loader does not fail");
        }
        90..97 => drop(texts.remove(&key).await.expect("removed")),
        97..99 => drop(texts.invalidate().tag("group:3").expect("valid").send().await.expect("invalidated")),
        _ => drop(texts.clear().await.expect("cleared")),
    }
}

/// A text of words, which compresses as texts do. Made once: copying it is the only work of a poll that is not terrace's.
fn text(bytes: usize) -> String {
    let mut random = Random::new(42);
    let mut text = String::with_capacity(bytes + 64);
    while text.len() < bytes {
        write!(text, "{:08x} \"quoted\" and so on, ", random.index(1 << 30)).expect("a text takes it");
    }
    text.truncate(bytes);
    text
}
