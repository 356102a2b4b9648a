//! How often did what happen?
//!
//! 1. One call of [`SpaceCounters::count`] is a load and a store on a cache line that only the calling thread writes,
//!    or one relaxed add for threads beyond the first [`SOLE`] that live at a time. No lock, no allocation, no clock.
//! 2. Counters only ever grow. Starting again from zero is arithmetic in [`super::stats`].
//!
//! Deliberately absent: evictions and expirations (the memory engine counts them), gauges, names of metrics, types of
//! a metrics library.

use super::by_strategy::{Answers, Shares};
use super::calls::{CallSnapshot, CallTimes};
use super::event::{Event, Op};
use super::histogram::{Histogram, HistogramSnapshot, SHARDS as HISTOGRAM_SHARDS};
use crate::Strategy;
use crate::entry::{StaleReason, Tier};
use parking_lot::Mutex;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use terrace_core::{Clock, Moment, RemoteError};

/// All tiers, nearest first.
pub(super) const TIERS: [Tier; 3] = [Tier::L1, Tier::L2, Tier::Origin];

/// The start of something that may be timed.
#[derive(Clone, Copy, Debug)]
#[must_use = "a timer measures nothing until it is given to `observe`"]
pub(crate) struct Timer(Option<Start>);

#[derive(Clone, Copy, Debug)]
struct Start {
    at: Moment,
    weight: u32,
}

/// One in so many operations that stay in L1 is timed, and stands for all of them: reading the clock twice costs more
/// than an L1 hit. A prime, so that a program that asks its keyspaces in turn has them all timed.
pub(crate) const SAMPLE_EVERY: u32 = 61;

/// Stale answers are minutes past their TTL, not milliseconds: their ages are kept in a thousandth, from 100 µs to 3.7 h.
pub(super) const STALENESS_SCALE: u32 = 1_000;

/// Blocks of counters that belong to one thread each, per keyspace. Only that thread writes them.
const SOLE: usize = 32;
/// Blocks, after those, that all other threads share.
const SHARED: usize = 8;

/// Two cache lines, because processors fetch them in pairs.
#[repr(align(128))]
#[derive(Debug)]
struct Block([AtomicU64; Event::COUNT]);

impl Block {
    #[expect(clippy::declare_interior_mutable_const, reason = "it is the value that new blocks are made of")]
    const ZERO: Self = Self([const { AtomicU64::new(0) }; Event::COUNT]);

    /// Counts for the one thread that writes here.
    #[inline]
    fn add(&self, event: Event, n: u64) {
        let count = &self.0[event as usize];
        count.store(count.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
}

/// What one thread needs to count and to sample. Without a destructor, so that access needs no check.
struct Local {
    /// Its block of counters, or [`NO_SLOT`].
    slot: Cell<usize>,
    until_sample: Cell<u32>,
}

/// A thread's hold on a block of its own, until the thread ends.
struct Tenancy(Cell<Option<usize>>);

const NO_SLOT: usize = usize::MAX;

thread_local! {
    static LOCAL: Local = const { Local { slot: Cell::new(NO_SLOT), until_sample: Cell::new(0) } };
    static TENANCY: Tenancy = const { Tenancy(Cell::new(None)) };
}

/// Which blocks have an owner.
static TAKEN: [AtomicBool; SOLE] = [const { AtomicBool::new(false) }; SOLE];

impl Drop for Tenancy {
    /// Destructors that count after this one do so in a shared block. The next owner sees all that this one counted.
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            LOCAL.with(|local| local.slot.set(SOLE + slot % SHARED));
            TAKEN[slot].store(false, Ordering::Release);
        }
    }
}

/// The number of the calling thread's block, which may not have been taken yet.
#[inline]
fn slot() -> usize {
    LOCAL.with(|local| local.slot.get())
}

/// The number of the calling thread's block: taken now, if it was not before.
fn settled_slot() -> usize {
    LOCAL.with(|local| match local.slot.get() {
        NO_SLOT => take_slot(local),
        slot => slot,
    })
}

/// A block that nobody has, or a shared one, in turn.
#[cold]
fn take_slot(local: &Local) -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let take = |taken: &AtomicBool| {
        taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    };
    let shared = || SOLE + NEXT.fetch_add(1, Ordering::Relaxed) % SHARED;
    let slot = TENANCY.try_with(|tenancy| {
        let slot = TAKEN.iter().position(take)?;
        tenancy.0.set(Some(slot));
        Some(slot)
    });
    let slot = slot.ok().flatten().unwrap_or_else(shared);
    local.slot.set(slot);
    slot
}

/// Whether this operation of the calling thread is the one in [`SAMPLE_EVERY`]. The first one is.
#[inline]
pub(crate) fn is_sampled() -> bool {
    LOCAL.with(|local| {
        let left = local.until_sample.get().checked_sub(1);
        local.until_sample.set(left.unwrap_or(SAMPLE_EVERY - 1));
        left.is_none()
    })
}

/// The counters and durations of one keyspace, shared by all threads.
#[derive(Debug)]
pub(crate) struct SpaceCounters {
    sole: Box<[Block]>,
    shared: Box<[Block]>,
    durations: Box<[Histogram]>,
    /// In thousandths ([`STALENESS_SCALE`]): of each of [`Event::STALE`].
    staleness: Box<[Histogram]>,
    shares: Mutex<Shares>,
    pub(super) calls: CallTimes,
    pub(super) clock: Clock,
}

impl SpaceCounters {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            sole: (0..SOLE).map(|_| Block::ZERO).collect(),
            shared: (0..SHARED).map(|_| Block::ZERO).collect(),
            durations: (0..Op::ALL.len() * TIERS.len()).map(|_| Histogram::new()).collect(),
            staleness: Event::STALE.iter().map(|_| Histogram::new()).collect(),
            shares: Mutex::default(),
            calls: CallTimes::default(),
            clock,
        }
    }

    /// The keyspace has this strategy from now on.
    pub(crate) fn change_strategy(&self, strategy: Strategy) {
        let mut shares = self.shares.lock();
        shares.change(strategy, answers(|event| self.total(event as usize)));
    }

    /// Counts one event.
    #[inline]
    pub(crate) fn count(&self, event: Event) {
        self.add(event, 1);
    }

    /// Counts an event `n` times, or `n` bytes.
    #[inline]
    pub(crate) fn add(&self, event: Event, n: u64) {
        if let Some(own) = self.sole.get(slot()) {
            own.add(event, n);
        } else {
            self.add_otherwise(event, n);
        }
    }

    /// [`SpaceCounters::add`] for a thread that has no block yet, or none of its own.
    #[cold]
    fn add_otherwise(&self, event: Event, n: u64) {
        let slot = settled_slot();
        match self.sole.get(slot) {
            Some(own) => own.add(event, n),
            None => {
                self.shared[slot % SHARED].0[event as usize].fetch_add(n, Ordering::Relaxed);
            }
        }
    }

    /// Counts a lookup answered by a tier. By the origin means: a miss.
    #[inline]
    pub(crate) fn hit(&self, tier: Tier) {
        self.count(match tier {
            Tier::L1 => Event::HitL1,
            Tier::L2 => Event::HitL2,
            Tier::Origin => Event::Miss,
        });
    }

    /// Counts a lookup that neither L1 nor L2 could answer, and that was answered.
    #[inline]
    pub(crate) fn miss(&self) {
        self.count(Event::Miss);
    }

    /// Counts a lookup that was answered with a value that was so long past its TTL.
    pub(crate) fn stale(&self, reason: StaleReason, past: Duration) {
        let event = Event::of_stale(reason);
        self.count(event);
        let shard = settled_slot() % HISTOGRAM_SHARDS;
        self.staleness[staleness_of(event)].record(shard, past / STALENESS_SCALE, 1);
    }

    /// What is counted now of what health is made of.
    pub(crate) fn counts(&self) -> Counts {
        let total = |events: &[Event]| events.iter().map(|&event| self.total(event as usize)).sum();
        let stale: u64 = total(&Event::STALE);
        Counts {
            lookups: stale + total(&[Event::HitL1, Event::HitL2, Event::HitAbsent]) + total(&Event::MISSES),
            stale,
            background_loads: total(&[Event::BackgroundLoaded, Event::BackgroundFailed]),
            background_failed: total(&[Event::BackgroundFailed]),
        }
    }

    /// Lookups, and of these the ones that L1 answered with a fresh value.
    pub(crate) fn lookups_and_hits(&self) -> (u64, u64) {
        (self.counts().lookups, self.total(Event::HitL1 as usize))
    }

    /// How often messages of other nodes were found missing.
    pub(crate) fn gaps(&self) -> u64 {
        [Event::BusRepaired, Event::BusSuspected].into_iter().map(|event| self.total(event as usize)).sum()
    }

    /// An event's number, over all threads.
    fn total(&self, event: usize) -> u64 {
        let blocks = self.sole.iter().chain(&self.shared);
        blocks.map(|block| block.0[event].load(Ordering::Relaxed)).sum()
    }

    /// Counts a failed request to L2.
    pub(crate) fn l2_error(&self, error: &RemoteError) {
        self.count(Event::of_error(error));
    }

    /// Starts timing one in [`SAMPLE_EVERY`] operations: for what may end in L1.
    ///
    /// # Cost
    /// About 1 ns, and one reading of the clock in [`SAMPLE_EVERY`] calls.
    #[inline]
    pub(crate) fn timer_sampled(&self) -> Timer {
        if is_sampled() { self.timer_of_sample() } else { Timer(None) }
    }

    /// Starts timing an operation that [`is_sampled`] has chosen.
    pub(crate) fn timer_of_sample(&self) -> Timer {
        self.start(SAMPLE_EVERY)
    }

    /// Starts timing, for certain: for what asks L2 or the origin.
    pub(crate) fn timer(&self) -> Timer {
        self.start(1)
    }

    #[cold]
    fn start(&self, weight: u32) -> Timer {
        Timer(Some(Start { at: self.clock.precise(), weight }))
    }

    /// Records how long an operation took. `farthest` is the farthest tier that it had to ask, whatever the answer.
    #[inline]
    pub(crate) fn observe(&self, op: Op, farthest: Tier, timer: Timer) {
        if let Timer(Some(start)) = timer {
            self.record(op, farthest, start);
        }
    }

    #[cold]
    fn record(&self, op: Op, farthest: Tier, start: Start) {
        let took = self.clock.precise().since(start.at);
        let shard = settled_slot() % HISTOGRAM_SHARDS;
        self.durations[series(op, farthest)].record(shard, took, u64::from(start.weight));
    }

    /// The sums over all threads now.
    pub(super) fn snapshot(&self) -> CounterSnapshot {
        let shares = self.shares.lock();
        let counts: [u64; Event::COUNT] = std::array::from_fn(|event| self.total(event));
        let by_strategy = shares.of(answers(|event| counts[event as usize]));
        drop(shares);
        CounterSnapshot {
            counts,
            by_strategy,
            durations: self.durations.iter().map(Histogram::snapshot).collect(),
            staleness: self.staleness.iter().map(Histogram::snapshot).collect(),
            calls: self.calls.snapshot(),
        }
    }
}

/// What there is a share of for each strategy.
fn answers(count: impl Fn(Event) -> u64) -> Answers {
    let misses = Event::MISSES.into_iter().map(&count).sum();
    Answers { hits_l1: count(Event::HitL1), hits_l2: count(Event::HitL2), misses }
}

/// Where the durations of an operation that went as far as `tier` are kept.
const fn series(op: Op, tier: Tier) -> usize {
    let tier = match tier {
        Tier::L1 => 0,
        Tier::L2 => 1,
        Tier::Origin => 2,
    };
    op as usize * TIERS.len() + tier
}

/// Where the ages of stale answers of a kind are kept.
fn staleness_of(event: Event) -> usize {
    event as usize - Event::STALE[0] as usize
}

fn since(now: &[HistogramSnapshot], then: &[HistogramSnapshot]) -> Vec<HistogramSnapshot> {
    now.iter().zip(then).map(|(now, then)| now.since(then)).collect()
}

/// What the health of a keyspace is made of.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) lookups: u64,
    pub(crate) stale: u64,
    pub(crate) background_loads: u64,
    pub(crate) background_failed: u64,
}

impl Counts {
    /// What they have grown by since `earlier`.
    pub(crate) fn since(self, earlier: &Self) -> Self {
        Self {
            lookups: self.lookups.saturating_sub(earlier.lookups),
            stale: self.stale.saturating_sub(earlier.stale),
            background_loads: self.background_loads.saturating_sub(earlier.background_loads),
            background_failed: self.background_failed.saturating_sub(earlier.background_failed),
        }
    }
}

/// All counters of a keyspace at one time. Counters move while they are read, so two of them may be an instant apart.
#[derive(Clone, Debug)]
pub(super) struct CounterSnapshot {
    counts: [u64; Event::COUNT],
    /// Since the keyspace was opened, whatever the rest is counted from; nothing for several keyspaces.
    by_strategy: Vec<(Strategy, Answers)>,
    durations: Vec<HistogramSnapshot>,
    staleness: Vec<HistogramSnapshot>,
    /// How long calls to the origin took.
    pub(super) calls: CallSnapshot,
}

impl CounterSnapshot {
    /// Nothing has happened.
    pub(super) fn zero() -> Self {
        Self {
            counts: [0; Event::COUNT],
            by_strategy: Vec::new(),
            durations: vec![HistogramSnapshot::zero(); Op::ALL.len() * TIERS.len()],
            staleness: vec![HistogramSnapshot::zero(); Event::STALE.len()],
            calls: CallSnapshot::default(),
        }
    }

    pub(super) fn count(&self, event: Event) -> u64 {
        self.counts[event as usize]
    }

    /// The sum of several events.
    pub(super) fn sum(&self, events: &[Event]) -> u64 {
        events.iter().map(|&event| self.count(event)).sum()
    }

    /// What each strategy that the keyspace has had had a share in.
    pub(super) fn by_strategy(&self) -> &[(Strategy, Answers)] {
        &self.by_strategy
    }

    pub(super) fn durations(&self, op: Op, tier: Tier) -> &HistogramSnapshot {
        &self.durations[series(op, tier)]
    }

    /// How long past their TTL answers of this kind were, in thousandths ([`STALENESS_SCALE`]).
    pub(super) fn staleness(&self, event: Event) -> &HistogramSnapshot {
        &self.staleness[staleness_of(event)]
    }

    /// What happened since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            counts: std::array::from_fn(|event| self.counts[event].saturating_sub(earlier.counts[event])),
            by_strategy: self.by_strategy.clone(),
            durations: since(&self.durations, &earlier.durations),
            staleness: since(&self.staleness, &earlier.staleness),
            calls: self.calls.since(&earlier.calls),
        }
    }

    /// Adds what happened in another keyspace.
    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        let durations = self.durations.iter_mut().zip(&other.durations);
        let staleness = self.staleness.iter_mut().zip(&other.staleness);
        for (mine, theirs) in durations.chain(staleness) {
            mine.merge(theirs);
        }
        self.calls.merge(&other.calls);
    }
}
