//! How many writes an origin is spared, for a million writes of 100,000 keys that follow Zipf's law with exponent 1.
//!
//! Time is counted in writes: at 1,000 a second an interval of 10 s is 10,000 writes long. Where a row says so, the sink is
//! also called as soon as so many keys wait.

use anyhow::{Result, ensure};
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use terrace::Chance;
use terrace::behind::{
    Ack, Journal, JournalOptions, Lane, LaneOptions, Operation, Outcome, Outcomes, Sink, Write,
};
use terrace_bench_harness::table;

const KEYS: usize = 100_000;
const WRITES: usize = 1_000_000;
const INTERVAL_SECONDS: usize = 10;
const PATIENCE: Duration = Duration::from_hours(1);

/// An origin that counts.
#[derive(Default)]
struct Counted {
    writes: AtomicU64,
    calls: AtomicU64,
}

impl Sink for Counted {
    fn store_many<'a>(&'a self, writes: &'a [Write]) -> Outcomes<'a> {
        self.writes.fetch_add(writes.len() as u64, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { vec![Outcome::Stored; writes.len()] })
    }
}

/// Prints what the origin gets.
pub(crate) fn run() -> Result<()> {
    println!("## Writes that the origin is spared\n");
    println!("{WRITES} writes, {KEYS} keys by Zipf's law (exponent 1), batches of 500.\n");
    let heads = ["writes per second", "sink called", "writes at the origin", "calls", "spared"];
    println!("{}\n{}", table::line(heads.map(str::to_owned)), table::rule(heads.len()));
    let trace = trace();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for (rate, keys_max) in
        [(100, None), (1_000, None), (10_000, None), (1_000, Some(500)), (10_000, Some(500))]
    {
        let (writes, calls) = runtime.block_on(replay(&trace, rate * INTERVAL_SECONDS, keys_max))?;
        let spared = 100.0 * (1.0 - writes as f64 / WRITES as f64);
        let when = match keys_max {
            None => format!("every {INTERVAL_SECONDS} s"),
            Some(keys) => format!("every {INTERVAL_SECONDS} s, or at {keys} keys"),
        };
        let cells = [rate.to_string(), when, writes.to_string(), calls.to_string(), format!("{spared:.1} %")];
        println!("{}", table::line(cells));
    }
    println!();
    Ok(())
}

/// The keys of the writes, in order.
fn trace() -> Vec<usize> {
    let mut sums = Vec::with_capacity(KEYS);
    let mut sum = 0.0;
    for rank in 1..=KEYS {
        sum += 1.0 / rank as f64;
        sums.push(sum);
    }
    let chance = Chance::seeded(1);
    let draw = |_| {
        let share = (chance.number() >> 11) as f64 / (1_u64 << 53) as f64;
        sums.partition_point(|below| *below < share * sum).min(KEYS - 1)
    };
    (0..WRITES).map(draw).collect()
}

async fn replay(trace: &[usize], writes_per_interval: usize, keys_max: Option<usize>) -> Result<(u64, u64)> {
    let folder = tempfile::tempdir_in(".")?;
    let journal =
        Journal::open(folder.path().join("journal"), JournalOptions::default().pending_max(KEYS * 2))?;
    let origin = Arc::new(Counted::default());
    let options = LaneOptions::default().ack(Ack::Memory).interval(PATIENCE).flush_at(usize::MAX);
    let lane = journal.lane("space", options, Arc::<Counted>::clone(&origin))?;
    let (mut waiting, mut since) = (HashSet::new(), 0);
    for &key in trace {
        let value = Operation::Store(Bytes::from_static(&[7; 256]));
        lane.write(Bytes::from(format!("key:{key}")), value, None, PATIENCE).await?;
        waiting.insert(key);
        since += 1;
        if since == writes_per_interval || keys_max.is_some_and(|keys| waiting.len() >= keys) {
            flush(&lane, waiting.len()).await?;
            waiting.clear();
            since = 0;
        }
    }
    flush(&lane, waiting.len()).await?;
    journal.shutdown(PATIENCE).await;
    Ok((origin.writes.load(Ordering::Relaxed), origin.calls.load(Ordering::Relaxed)))
}

async fn flush(lane: &Lane, keys: usize) -> Result<()> {
    // Here writes come faster than the time that is counted: at their rate all would be committed by now.
    while lane.figures().pending > keys as u64 {
        tokio::task::yield_now().await;
    }
    let flushed = lane.flush().await;
    ensure!(flushed.left() == 0, "the sink takes everything: {flushed:?}");
    Ok(())
}
