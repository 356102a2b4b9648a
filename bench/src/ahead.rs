//! Four caches share an L2 and read one key all the time, over many lifetimes of its entry: how often is it loaded, and how many
//! reads wait?
//!
//! A read that has its answer at its first poll waits for nothing. The others wait for L2 or for a load; those that take at least
//! half as long as a load are counted as waiting for one. A load that begins within half a lifetime of the one before is a second load
//! of the same end. Without rounds: a row is a few seconds of reading. An L2 in this process stands for the shared one, so that no
//! server's time is measured.

use anyhow::Result;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;
use terrace::{Cache, Clock, EntryOptions, Keyspace, L1, RefreshAhead};
use terrace_bench_harness::timing::Deadline;
use terrace_core::Moment;
use terrace_testkit::fake::FakeRemote;
use terrace_testkit::wait::pause;
use tokio::runtime::Builder;
use tokio::task::JoinSet;

const NODES: usize = 4;
const READERS_PER_NODE: usize = 2;
const TTL: Duration = Duration::from_millis(500);
const LOAD: Duration = Duration::from_millis(20);
/// Time between two reads of one reader.
const PAUSE: Duration = Duration::from_millis(1);
/// Lifetimes that are read through in each round.
const LIFETIMES: u32 = 2;

#[derive(Debug, Default)]
struct Counts {
    reads: AtomicU64,
    waited: AtomicU64,
    waited_for_a_load: AtomicU64,
    loads: AtomicU64,
    again: AtomicU64,
    /// When the last load began, in nanoseconds of the clock.
    begun: AtomicU64,
}

/// Measures the ways to load ahead, and none.
pub(crate) fn run(rounds: usize) -> Result<()> {
    println!("## A hot key that expires, read on {NODES} nodes\n");
    println!("TTL {TTL:?}, a load takes {LOAD:?}, {} readers.\n", NODES * READERS_PER_NODE);
    println!(
        "| | lifetimes | loads | of them a second of one end | reads | that waited | for a load |\n|---|---:|---:|---:|---:|---:|---:|"
    );
    let ahead = |when| EntryOptions::new().refresh_ahead(when);
    let ways = [
        ("nothing ahead", EntryOptions::new()),
        ("`Likely(1.0)`", ahead(RefreshAhead::Likely(1.0))),
        ("`Likely(4.0)`", ahead(RefreshAhead::Likely(4.0))),
        ("`After(0.8)`", ahead(RefreshAhead::After(0.8))),
        ("stale-while-revalidate", EntryOptions::new().grace(TTL).stale_while_revalidate(TTL)),
        (
            "`Likely(1.0)` and stale-while-revalidate",
            ahead(RefreshAhead::Likely(1.0)).grace(TTL).stale_while_revalidate(TTL),
        ),
    ];
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let lifetimes = LIFETIMES * u32::try_from(rounds)?;
    for (name, options) in ways {
        let counts = runtime.block_on(read(options, lifetimes))?;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        println!(
            "| {name} | {lifetimes} | {} | {} | {} | {} | {} |",
            of(&counts.loads),
            of(&counts.again),
            of(&counts.reads),
            of(&counts.waited),
            of(&counts.waited_for_a_load)
        );
    }
    println!();
    Ok(())
}

async fn read(options: EntryOptions, lifetimes: u32) -> Result<Arc<Counts>> {
    let (clock, counts) = (Clock::system(), Arc::<Counts>::default());
    let first = FakeRemote::new(clock.clone());
    let mut readers = JoinSet::new();
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        let builder = Cache::builder().l1(L1::default().ttl(TTL * 10)).l2(first.another_node().hearing());
        let keyspace =
            builder.build()?.keyspace::<u64, u64>("bench").options(options.clone().ttl(TTL)).build()?;
        let loader = async || {
            pause(LOAD).await;
            Ok::<_, Infallible>(0)
        };
        keyspace.get_or_load(&0, loader).await?;
        nodes.push(keyspace);
    }
    let ends = Deadline::after(TTL * lifetimes);
    for node in nodes.iter().flat_map(|node| std::iter::repeat_n(node, READERS_PER_NODE)) {
        let (node, counts, clock) = (node.clone(), Arc::clone(&counts), clock.clone());
        readers.spawn(async move {
            while !ends.has_passed() {
                one_read(&node, &counts, &clock).await;
                pause(PAUSE).await;
            }
        });
    }
    readers.join_all().await;
    Ok(counts)
}

impl Counts {
    fn begin(&self, now: Moment) {
        let before = Moment::from_nanos(self.begun.swap(now.as_nanos(), Ordering::Relaxed));
        if self.loads.fetch_add(1, Ordering::Relaxed) > 0 && now.since(before) < TTL / 2 {
            self.again.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn one_read(node: &Keyspace<u64, u64>, counts: &Arc<Counts>, clock: &Clock) {
    let loading = Arc::clone(counts);
    let now = clock.precise();
    let loader = async move || {
        loading.begin(now);
        pause(LOAD).await;
        Ok::<_, Infallible>(0)
    };
    let begun = clock.precise();
    let mut reading = std::pin::pin!(node.get_or_load(&0, loader));
    let mut polls = 0;
    let answer = std::future::poll_fn(|context| {
        polls += 1;
        match reading.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(answer),
            Poll::Pending => Poll::Pending,
        }
    });
    answer.await.expect("the loader does not fail");
    counts.reads.fetch_add(1, Ordering::Relaxed);
    if polls > 1 {
        counts.waited.fetch_add(1, Ordering::Relaxed);
    }
    if clock.precise().since(begun) >= LOAD / 2 && polls > 1 {
        counts.waited_for_a_load.fetch_add(1, Ordering::Relaxed);
    }
}
