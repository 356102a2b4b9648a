//! Loads that fail, panic, hang and are given up, by the hundred thousand, and the watch over what they leave behind.
//!
//! 1. Every call has a time by which it has to end: its hard timeout, or what a load and the wait for others' may take at most
//!    ([`CALL_MAX`]); and a while on top of that, which is a setting. One that does not is a hung waiter.
//! 2. Loaders count themselves for as long as they live. When all calls are over, and what they have begun is too, none lives, every
//!    key can be loaded, and the runtime has the tasks that it had before.
//! 3. Resident memory must not grow, as [`judge_memory`] has it.
//! 4. A value is one of the key that was asked for.
//!
//! Panics of loaders unwind without the panic hook, so that a run prints figures and not backtraces. Deliberately absent: an L2 in
//! trouble, which `tests/it/trouble.rs` and the simulated fleets are about.

use crate::jitter::{Dice, Jittery};
use crate::resident::{judge_memory, resident_kib};
use std::fmt;
use std::future::poll_fn;
use std::io::ErrorKind as Io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;
use terrace::{
    Cache, Clock, EntryOptions, Error, ErrorKind, Fetched, Keyspace, L1, LoadError, RefreshAhead, Tag,
};
use terrace_testkit::fake::FakeRemote;
use terrace_testkit::wait::{pause, until_some, within};
use tokio::task::JoinSet;

/// The longest that a load may take.
const LOAD_TIMEOUT: Duration = Duration::from_millis(40);
/// The longest that a call without a hard timeout may take: it joins two flights in vain, waits for others' leases, and loads.
const CALL_MAX: Duration = Duration::from_millis(10_000 + 3 * 40);
/// A call that takes so long is given up for hung.
const HUNG_AFTER: Duration = Duration::from_secs(30);
const KEYS: u64 = 6_000;
/// Keys that half of all calls are about.
const HOT: u64 = 40;
const ENTRIES_MAX: usize = 5_000;
const TAGS: u64 = 50;
/// Few, so that their logs are soon as long as they may be.
const PARTITIONS: u16 = 4;
/// Samples of resident memory.
const SAMPLES: u64 = 40;
/// Tasks of a cache that has nothing to do: expiry, and what a namespace in L2 needs.
const IDLE_TASKS_MAX: usize = 8;

/// Which tiers the callers' caches have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tiers {
    /// Memory only.
    Memory,
    /// One node with an L2.
    Both,
    /// Two nodes that share an L2, and hear of each other's changes.
    Fleet,
}

/// How many calls, by how many callers at a time, and how late they may be.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) calls: u64,
    pub(crate) callers: u64,
    pub(crate) seed: u64,
    pub(crate) tiers: Tiers,
    pub(crate) clock: Clock,
    pub(crate) late_max: Duration,
}

/// What became of the calls, and of the loads.
#[derive(Debug, Default)]
struct Counts {
    calls: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    timed_out: AtomicU64,
    cancelled: AtomicU64,
    changes: AtomicU64,
    loads: AtomicU64,
    living: AtomicU64,
    longest_nanos: AtomicU64,
    latest_nanos: AtomicU64,
}

impl Counts {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// A loader, for as long as it lives.
struct Living(Arc<Counts>);

impl Living {
    fn new(counts: &Arc<Counts>) -> Self {
        Counts::count(&counts.loads);
        Counts::count(&counts.living);
        Self(Arc::clone(counts))
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        self.0.living.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How a load ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Value,
    Same,
    Absent,
    Failure,
    Panic,
    Never,
}

/// A load as a seed has it.
struct Load {
    key: u64,
    end: End,
    turns: u64,
    millis: u64,
    _living: Living,
}

impl Load {
    async fn run(self, old: Option<Arc<String>>) -> Result<Fetched<String>, Io> {
        for _ in 0..self.turns {
            tokio::task::yield_now().await;
        }
        if self.millis > 0 {
            pause(Duration::from_millis(self.millis)).await;
        }
        match self.end {
            End::Same if old.is_some() => Ok(Fetched::same()),
            End::Value | End::Same => Ok(Fetched::value(format!("{}:{}", self.key, self.turns))),
            End::Absent => Ok(Fetched::absent()),
            End::Failure => Err(Io::ConnectionRefused),
            End::Panic => std::panic::resume_unwind(Box::new("the origin has panicked")),
            End::Never => std::future::pending().await,
        }
    }
}

/// What a run came to.
pub(crate) struct Figures {
    settings: Settings,
    counts: Arc<Counts>,
    lasted: Duration,
    resident_kib: Vec<u64>,
    tasks: (usize, usize, usize),
    loads_of_caches: u64,
    coalesced: u64,
    stale: u64,
}

impl Figures {
    /// Says what was left behind, if anything was.
    ///
    /// # Errors
    /// A sentence that says which bound was broken.
    pub(crate) fn judge(&self) -> Result<(), String> {
        let latest = Duration::from_nanos(Counts::get(&self.counts.latest_nanos));
        if latest > self.settings.late_max {
            return Err(format!("a call ended {latest:?} after it had to"));
        }
        let living = Counts::get(&self.counts.living);
        if living > 0 {
            return Err(format!("{living} loaders live"));
        }
        let (before, idle, after) = self.tasks;
        if after != before || idle > before + IDLE_TASKS_MAX * 2 {
            return Err(format!(
                "{before} tasks before, {idle} when all was over, {after} after the shutdown"
            ));
        }
        judge_memory(&self.resident_kib)
    }

    /// Kibibytes that each hundred thousand calls add, by least squares, without the first fifth.
    fn slope(&self) -> f64 {
        let settled = &self.resident_kib[self.resident_kib.len() / 5..];
        let (count, middle) = (settled.len() as f64, settled.len().saturating_sub(1) as f64 / 2.0);
        let mean = settled.iter().sum::<u64>() as f64 / count.max(1.0);
        let (mut above, mut below) = (0.0, 0.0);
        for (at, resident) in settled.iter().enumerate() {
            let from_middle = at as f64 - middle;
            above += from_middle * (*resident as f64 - mean);
            below += from_middle * from_middle;
        }
        let per_sample = if below > 0.0 { above / below } else { 0.0 };
        per_sample * 100_000.0 * SAMPLES as f64 / self.settings.calls as f64
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, counts, lasted, resident_kib, tasks: (before, idle, after), .. } = self;
        let of = Counts::get;
        let millis = |nanos: &AtomicU64| of(nanos) as f64 / 1e6;
        writeln!(
            f,
            "{:?}, seed {}: {} calls in {:.1} s, {} of them with a loader",
            settings.tiers,
            settings.seed,
            of(&counts.calls),
            lasted.as_secs_f64(),
            of(&counts.loads)
        )?;
        writeln!(
            f,
            "  answered {}, failed {}, panicked {}, timed out {}, given up {}; changes {}; stale {}, coalesced {}, loads that ended {}",
            of(&counts.answered),
            of(&counts.failed),
            of(&counts.panicked),
            of(&counts.timed_out),
            of(&counts.cancelled),
            of(&counts.changes),
            self.stale,
            self.coalesced,
            self.loads_of_caches
        )?;
        writeln!(
            f,
            "  the longest call took {:.1} ms; the latest ended {:.1} ms after it had to; 0 hung",
            millis(&counts.longest_nanos),
            millis(&counts.latest_nanos)
        )?;
        let (first, last) = resident_kib.split_at(resident_kib.len() / 2);
        write!(
            f,
            "  loaders that live {}; tasks {before} before, {idle} when idle, {after} after the shutdown; \
             resident at most {} KiB in the first half, {} KiB in the last, {:.0} KiB per 100,000 calls",
            of(&counts.living),
            first.iter().max().unwrap_or(&0),
            last.iter().max().unwrap_or(&0),
            self.slope()
        )
    }
}

/// A run under way.
struct Run {
    settings: Settings,
    nodes: Vec<(Cache, Keyspace<u64, String>)>,
    counts: Arc<Counts>,
    resident_kib: Mutex<Vec<u64>>,
}

/// Makes the calls and waits until all that they have begun is over.
///
/// # Panics
/// If a call hangs, a value is one of another key, or a key cannot be loaded in the end.
pub(crate) async fn run(settings: Settings) -> Figures {
    let begun = settings.clock.precise();
    let before = tasks();
    let nodes = nodes(&settings);
    let run = Run { settings, nodes, counts: Arc::default(), resident_kib: Mutex::default() };
    let run = Arc::new(run);
    let mut callers = JoinSet::new();
    for caller in 0..run.settings.callers {
        let run = Arc::clone(&run);
        callers.spawn(async move { Box::pin(run.call_until_over(caller)).await });
    }
    while let Some(ended) = callers.join_next().await {
        ended.expect("no caller panics");
    }
    let idle = run.settle(before).await;
    let lasted = run.settings.clock.precise().since(begun);
    let totals: Vec<_> = run.nodes.iter().map(|(cache, _)| cache.stats().total).collect();
    for (cache, _) in &run.nodes {
        cache.shutdown(HUNG_AFTER).await.expect("everything ends");
    }
    let after = until_some("all tasks to end", async || (tasks() <= before).then(tasks)).await;
    let run = Arc::into_inner(run).expect("no caller is left");
    Figures {
        settings: run.settings,
        counts: run.counts,
        lasted,
        resident_kib: run.resident_kib.into_inner().expect("no caller has panicked"),
        tasks: (before, idle, after),
        loads_of_caches: totals.iter().map(|total| total.loads).sum(),
        coalesced: totals.iter().map(|total| total.coalesced).sum(),
        stale: totals.iter().map(|total| total.stale_hits).sum(),
    }
}

fn nodes(settings: &Settings) -> Vec<(Cache, Keyspace<u64, String>)> {
    let clock = &settings.clock;
    let first = FakeRemote::with_partitions(clock.clone(), PARTITIONS);
    let remotes: Vec<Option<FakeRemote>> = match settings.tiers {
        Tiers::Memory => vec![None],
        Tiers::Both => vec![Some(first)],
        Tiers::Fleet => vec![Some(first.another_node().hearing()), Some(first.hearing())],
    };
    let node = |(number, remote): (u64, Option<FakeRemote>)| {
        let builder = Cache::builder().clock(clock.clone()).l1(L1::entries(ENTRIES_MAX));
        let builder = match remote {
            None => builder,
            Some(remote) => builder.l2(Jittery { remote, around: Dice::new(settings.seed ^ number) }),
        };
        let cache = builder.build().expect("valid settings");
        let keyspace = cache.keyspace("texts").load_timeout(LOAD_TIMEOUT).tags(|key, _| tags(*key)).build();
        (cache, keyspace.expect("a new keyspace"))
    };
    (1..).zip(remotes).map(node).collect()
}

fn tags(key: u64) -> Vec<Tag> {
    if key.is_multiple_of(2) { Vec::new() } else { vec![tag(key % TAGS)] }
}

fn tag(number: u64) -> Tag {
    Tag::new(&format!("group:{number}")).expect("valid")
}

/// Tasks of this runtime that live.
fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Polls a future so many times, at least once, and then drops it.
async fn polled<F: Future>(times: u64, future: F) -> Option<F::Output> {
    let (mut future, mut left) = (pin!(future), times);
    poll_fn(|context| {
        let polled = future.as_mut().poll(context).map(Some);
        left = left.saturating_sub(1);
        if left == 0 && polled.is_pending() { Poll::Ready(None) } else { polled }
    })
    .await
}

impl Run {
    async fn call_until_over(&self, caller: u64) {
        let Settings { calls, seed, .. } = self.settings;
        let dice = Dice::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(caller << 32));
        loop {
            let number = self.counts.calls.fetch_add(1, Ordering::Relaxed);
            if number >= calls {
                self.counts.calls.fetch_sub(1, Ordering::Relaxed);
                return;
            }
            if number.is_multiple_of((calls / SAMPLES).max(1)) {
                let resident_kib = resident_kib();
                self.resident_kib.lock().expect("no caller has panicked").push(resident_kib);
            }
            within("a call", HUNG_AFTER, Box::pin(self.call(&dice))).await;
            // Those with nothing to wait for let the others run, too.
            tokio::task::yield_now().await;
        }
    }

    async fn call(&self, dice: &Dice) {
        let key = dice.below(dice.one_of(&[HOT, KEYS]));
        let (_, keyspace) = &self.nodes[usize::try_from(dice.below(self.nodes.len() as u64)).expect("few")];
        match dice.below(2_000) {
            0 => drop(keyspace.clear().await.expect("L2 is well")),
            1..20 => {
                let invalidation = keyspace.invalidate().tag(tag(dice.below(TAGS)).as_str());
                invalidation.expect("a valid tag").send().await.expect("L2 is well");
            }
            20..60 => drop(keyspace.remove(&key).await.expect("L2 is well")),
            60..100 => drop(keyspace.put(&key, format!("{key}:put")).await.expect("L2 is well")),
            _ => return Box::pin(self.load(keyspace, key, dice)).await,
        }
        Counts::count(&self.counts.changes);
    }

    async fn load(&self, keyspace: &Keyspace<u64, String>, key: u64, dice: &Dice) {
        let (options, hard) = options(dice);
        let load = self.a_load(key, dice);
        let may_be_absent = dice.below(2) == 0;
        let times = if dice.below(8) == 0 { 1 + dice.below(4) } else { u64::MAX };
        let begun = self.settings.clock.precise();
        let called = async {
            if may_be_absent {
                let found = keyspace.fetch(&key, options, |old| load.run(old)).await;
                found.map(|entry| entry.map(|entry| entry.value))
            } else {
                let loading = async move || match load.end {
                    End::Absent | End::Same => Ok(format!("{key}:there")),
                    _ => load.run(None).await.map(|_| format!("{key}:loaded")),
                };
                keyspace.get_or_load_with(&key, options, loading).await.map(Some)
            }
        };
        let answer = polled(times, called).await;
        let took = self.settings.clock.precise().since(begun);
        let late = took.saturating_sub(hard.unwrap_or(CALL_MAX));
        for (most, now) in [(&self.counts.longest_nanos, took), (&self.counts.latest_nanos, late)] {
            most.fetch_max(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        self.note(key, answer);
    }

    fn a_load(&self, key: u64, dice: &Dice) -> Load {
        let end = match dice.below(20) {
            0..9 => End::Value,
            9 | 10 => End::Same,
            11 | 12 => End::Absent,
            13..16 => End::Failure,
            16..18 => End::Panic,
            _ => End::Never,
        };
        let (turns, millis) = (dice.below(4), if dice.below(2) == 0 { dice.below(12) } else { 0 });
        Load { key, end, turns, millis, _living: Living::new(&self.counts) }
    }

    fn note(&self, key: u64, answer: Option<Result<Option<Arc<String>>, LoadError<Io>>>) {
        let counts = &self.counts;
        let Some(answer) = answer else { return Counts::count(&counts.cancelled) };
        let counter = match answer {
            Ok(found) => {
                let is_own = |value: &Arc<String>| value.split(':').next() == Some(key.to_string().as_str());
                assert!(found.as_ref().is_none_or(is_own), "key {key} has {found:?}");
                &counts.answered
            }
            Err(LoadError::Loader(_)) => &counts.failed,
            Err(error) => match error.cache() {
                Some(ErrorKind::LoadPanicked { .. }) => &counts.panicked,
                Some(ErrorKind::LoadTimedOut { .. }) => &counts.timed_out,
                _ => panic!("{error}"),
            },
        };
        Counts::count(counter);
    }

    /// Waits until nothing is under way, sees that every key can be loaded, and returns how many tasks are left.
    async fn settle(&self, before: usize) -> usize {
        let idle_max = before + IDLE_TASKS_MAX * self.nodes.len();
        until_some("what was begun to end", async || {
            let is_over = Counts::get(&self.counts.living) == 0 && tasks() <= idle_max;
            is_over.then_some(())
        })
        .await;
        for (_, keyspace) in &self.nodes {
            for key in 0..KEYS {
                let value = async move || Ok::<_, Error>(format!("{key}:last"));
                let loaded = within("the last load of a key", HUNG_AFTER, keyspace.get_or_load(&key, value));
                loaded.await.expect("it does not fail");
            }
            for key in (0..KEYS).step_by(97) {
                let why = keyspace.why(&key).await.expect("a valid key");
                assert!(!why.is_loading, "a flight of key {key} is left");
            }
        }
        until_some("the last loads to end", async || (tasks() <= idle_max).then(tasks)).await
    }
}

/// The terms of one call, and when it has to be over.
fn options(dice: &Dice) -> (EntryOptions, Option<Duration>) {
    let millis = |below| Duration::from_millis(1 + dice.below(below));
    let mut options = EntryOptions::new().ttl(millis(60)).failure_pause(millis(20)).negative_ttl(millis(20));
    if dice.below(2) == 0 {
        let grace = millis(200);
        options = options.grace(grace);
        if dice.below(2) == 0 {
            options = options.stale_while_revalidate(grace / 2);
        }
        if dice.below(2) == 0 {
            options = options.soft_timeout(Duration::from_millis(1) + millis(3));
        }
    }
    if dice.below(4) == 0 {
        let ahead = dice.one_of(&[RefreshAhead::After(0.5), RefreshAhead::Likely(1.0)]);
        options = options.refresh_ahead(ahead);
    }
    let hard = (dice.below(2) == 0).then(|| Duration::from_millis(5) + millis(30));
    match hard {
        Some(hard) => (options.hard_timeout(hard), Some(hard)),
        None => (options, None),
    }
}
