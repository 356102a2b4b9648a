//! How often did what happen?
//!
//! 1. One call of [`SpaceCounters::count`] is a load and a store on a cache line that only the calling thread writes,
//!    or one relaxed add for threads beyond the first [`SOLE`] that live at a time. No lock, no allocation, no clock.
//! 2. Each event has exactly one rule, written at its variant. A number that is the sum of others is never counted:
//!    lookups are hits plus stale hits plus misses, so they agree in every snapshot.
//! 3. Counters only ever grow. Starting again from zero is arithmetic in [`super::stats`].
//!
//! Deliberately absent: evictions and expirations (the memory engine counts them), gauges, names of metrics, types of
//! a metrics library.

use super::histogram::{Histogram, HistogramSnapshot, SHARDS as HISTOGRAM_SHARDS};
use crate::entry::Tier;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use terrace_core::{Clock, Moment, RemoteError};

/// What can happen to the entries of a keyspace. A batch counts once per key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(crate) enum Event {
    /// A lookup answered by L1 with a fresh value.
    HitL1,
    /// A lookup answered by L2 with a fresh value, by its own question or by that of a flight it joined.
    HitL2,
    /// A lookup answered with a copy in L1 that could not be proven fresh.
    HitStale,
    /// A lookup answered with a value past its TTL, which is loaded in the background.
    HitRevalidating,
    /// A lookup answered with a value past its TTL, because its load takes longer than the soft timeout.
    HitLoadSlow,
    /// A lookup answered with a value past its TTL, because its load has failed, now or a little while ago.
    HitLoadFailed,
    /// A lookup answered with the knowledge that the origin has no such value.
    HitAbsent,
    /// A lookup that neither L1 nor L2 could answer, whatever the origin then did: value, absence or error.
    Miss,
    /// A lookup that joined a flight instead of starting one. It is also a hit or a miss, by what the flight found.
    Coalesced,
    /// A value stored at the caller's wish, in every tier there is. Fills are not puts.
    PutApplied,
    /// A value stored in L1 only, because L2 could not be reached.
    PutQueued,
    /// A put that returned an error.
    PutFailed,
    /// A key removed from every tier, whether or not it was there.
    RemoveApplied,
    /// A key removed from L1, while its removal from L2 waits.
    RemoveQueued,
    /// A removal that returned an error.
    RemoveFailed,
    /// One call to invalidate or to clear that every tier carried out.
    InvalidateApplied,
    /// One call to invalidate or to clear that L1 carried out and that waits for L2.
    InvalidateQueued,
    /// One call to invalidate or to clear that returned an error.
    InvalidateFailed,
    /// A key named in an invalidation. Removals are not invalidations.
    InvalidatedKey,
    /// A pattern named in an invalidation, however many keys it matched.
    InvalidatedPattern,
    /// A tag named in an invalidation, however many entries had it.
    InvalidatedTag,
    /// A keyspace cleared.
    InvalidatedAll,
    /// A load that ended with a value. Loads count when they end, once for all lookups that waited.
    LoadFound,
    /// A load that ended with the knowledge that the origin has no such value.
    LoadAbsent,
    /// A load that ended with the loader's error.
    LoadFailed,
    /// A load that ended with the loader's panic.
    LoadPanicked,
    /// A load that began in the background because an old value was returned.
    LoadBehind,
    /// A load that began in the background because a value was near the end of its TTL.
    LoadAhead,
    /// A loaded value that was kept.
    FillStored,
    /// A loaded value that was given to its caller and kept nowhere, because the key changed during the load.
    FillRejected,
    /// A request to L2, whatever came of it. A pipeline is one.
    L2RoundTrip,
    /// A request to L2 that was not made, because L2 is left alone or comes back step by step.
    L2Rejected,
    /// A request to L2 that was made again.
    L2Retried,
    /// Bytes of envelopes received from L2.
    L2BytesRead,
    /// Bytes of envelopes sent to L2.
    L2BytesWritten,
    /// A request to L2 that was not sent: there was no connection.
    L2Unavailable,
    /// A request to L2 that was not answered in time.
    L2Timeout,
    /// A request to L2 whose connection broke.
    L2Broken,
    /// A request that reached L2 when its caller had given it up.
    L2Late,
    /// A request that L2 refused.
    L2Refused,
    /// An answer of L2 that made no sense.
    L2Protocol,
    /// A request refused because this node and L2 disagree about settings.
    L2Mismatch,
    /// Any other failure of a request to L2.
    L2Other,
    /// A change by another node that was heard and applied.
    BusHeard,
    /// A hole in what was heard of a partition, filled from its log.
    BusRepaired,
    /// A partition of which a change may have been missed for good: its copies are asked about.
    BusSuspected,
    /// A value that somebody has touched, or all of them at once, as a server tells that tracks.
    BusTouched,
    /// The namespace was joined on a server of which it is not known that it remembers what was acknowledged before.
    BusIncarnation,
    /// A change of this node's that was asserted again, because L2 may have forgotten it.
    Reasserted,
    /// A change that cannot be asserted again, because there was no room to keep it.
    RecentDropped,
    /// A time that copies stopped to count as fresh, because this node could not know whether it hears of changes.
    BusLapsed,
    /// A copy of a key that was changed for long enough that did not count as fresh, was not older, or was not there.
    AuditPassed,
    /// A copy that counted as fresh, and was older than a change of long enough ago.
    AuditFailed,
    /// A key that was loaded anew because somebody asked for it.
    Refreshed,
    /// A lookup whose copy in L1 could not be proven fresh, and that L2 has as well.
    ValidatedSame,
    /// A lookup whose copy in L1 could not be proven fresh, and that L2 has another value of, or whose value had to be read.
    ValidatedChanged,
    /// A lookup whose copy in L1 could not be proven fresh, and that L2 does not have, or that a tag has killed.
    ValidatedMissing,
    /// A lookup whose copy in L1 could not be proven fresh: L2 did not answer, not in time, or there was no room to ask.
    ValidationUnanswered,
    /// Bytes from L2 that are no envelope of this key. Such a lookup goes on as if L2 had nothing.
    L2Envelope,
    /// An envelope from L2 whose payload the codec could not read. Such a lookup goes on as if L2 had nothing.
    L2Payload,
}

impl Event {
    /// How many events there are.
    pub(super) const COUNT: usize = Self::L2Payload as usize + 1;

    /// The event of a failed request to L2.
    fn of_error(error: &RemoteError) -> Self {
        match error.kind() {
            "unavailable" => Self::L2Unavailable,
            "timeout" => Self::L2Timeout,
            "broken" => Self::L2Broken,
            "late" => Self::L2Late,
            "refused" => Self::L2Refused,
            "protocol" => Self::L2Protocol,
            "mismatch" => Self::L2Mismatch,
            _ => Self::L2Other,
        }
    }
}

/// What a call of the library is, where its duration is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(crate) enum Op {
    /// One call that looks up, of one key or of many.
    Get,
    /// One call that stores.
    Put,
    /// One call that removes.
    Remove,
    /// One call that invalidates or clears.
    Invalidate,
}

impl Op {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 4] = [Self::Get, Self::Put, Self::Remove, Self::Invalidate];

    /// One word for metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Remove => "remove",
            Self::Invalidate => "invalidate",
        }
    }
}

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

#[derive(Debug)]
struct Blocks {
    sole: [Block; SOLE],
    shared: [Block; SHARED],
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
    blocks: Box<Blocks>,
    durations: Box<[Histogram]>,
    clock: Clock,
}

impl SpaceCounters {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            blocks: Box::new(Blocks { sole: [Block::ZERO; SOLE], shared: [Block::ZERO; SHARED] }),
            durations: (0..Op::ALL.len() * TIERS.len()).map(|_| Histogram::new()).collect(),
            clock,
        }
    }

    /// Counts one event.
    #[inline]
    pub(crate) fn count(&self, event: Event) {
        self.add(event, 1);
    }

    /// Counts an event `n` times, or `n` bytes.
    #[inline]
    pub(crate) fn add(&self, event: Event, n: u64) {
        if let Some(own) = self.blocks.sole.get(slot()) {
            own.add(event, n);
        } else {
            self.add_otherwise(event, n);
        }
    }

    /// [`SpaceCounters::add`] for a thread that has no block yet, or none of its own.
    #[cold]
    fn add_otherwise(&self, event: Event, n: u64) {
        let slot = settled_slot();
        match self.blocks.sole.get(slot) {
            Some(own) => own.add(event, n),
            None => {
                self.blocks.shared[slot % SHARED].0[event as usize].fetch_add(n, Ordering::Relaxed);
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

    /// Counts a lookup that nothing could answer.
    #[inline]
    pub(crate) fn miss(&self) {
        self.count(Event::Miss);
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
        CounterSnapshot {
            counts: std::array::from_fn(|event| {
                let blocks = self.blocks.sole.iter().chain(&self.blocks.shared);
                blocks.map(|block| block.0[event].load(Ordering::Relaxed)).sum()
            }),
            durations: self.durations.iter().map(Histogram::snapshot).collect(),
        }
    }
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

/// All counters of a keyspace at one time. Counters move while they are read, so two of them may be an instant apart.
#[derive(Clone, Debug)]
pub(super) struct CounterSnapshot {
    counts: [u64; Event::COUNT],
    durations: Vec<HistogramSnapshot>,
}

impl CounterSnapshot {
    /// Nothing has happened.
    pub(super) fn zero() -> Self {
        Self {
            counts: [0; Event::COUNT],
            durations: vec![HistogramSnapshot::zero(); Op::ALL.len() * TIERS.len()],
        }
    }

    pub(super) fn count(&self, event: Event) -> u64 {
        self.counts[event as usize]
    }

    /// The sum of several events.
    pub(super) fn sum(&self, events: &[Event]) -> u64 {
        events.iter().map(|&event| self.count(event)).sum()
    }

    pub(super) fn durations(&self, op: Op, tier: Tier) -> &HistogramSnapshot {
        &self.durations[series(op, tier)]
    }

    /// What happened since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            counts: std::array::from_fn(|event| self.counts[event].saturating_sub(earlier.counts[event])),
            durations: self
                .durations
                .iter()
                .zip(&earlier.durations)
                .map(|(now, then)| now.since(then))
                .collect(),
        }
    }

    /// Adds what happened in another keyspace.
    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        for (mine, theirs) in self.durations.iter_mut().zip(&other.durations) {
            mine.merge(theirs);
        }
    }
}
