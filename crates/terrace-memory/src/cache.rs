//! The cache as callers see it: shards, and reading.
//!
//! 1. A key belongs to one shard, chosen by bits of its hash that the index inside does not use.
//! 2. A hit costs one hash, two cache lines (bucket and entry), one reading of the coarse clock if the entry has a deadline, a
//!    count in the thread's own counter, and at most one store to the entry. No lock, no atomic read-modify-write, and
//!    nothing is allocated. Only under [`Policy::Lru`] a hit takes its shard's lock.
//! 3. An expired entry is never returned, however late background expiry is: the deadline is compared with the latest
//!    that the time may be, the clock's reading and its resolution.
//! 4. What leaves is counted, told and dropped after the lock is released, in this order.

use crate::bounds::{Bounds, Overall};
use crate::builder::{Builder, Policy};
use crate::counters::{Counter, Counters};
use crate::deadline::{Deadline, Timekeeper};
use crate::dials::{CurvePoint, Sampler};
use crate::hash;
use crate::listener::{Listener, RemovalCause};
use crate::raw::{Aftermath, Entry, Guard, enter};
use crate::shard::{self, Locked, Shard};
use crate::stats::{MemoryStats, Tally};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, RandomState};
use equivalent::Equivalent;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use terrace_core::{Clock, Moment};

/// A bounded, concurrent, in-process cache with a deadline per entry. See the [crate](crate) for an example.
///
/// Share it by reference or in an [`Arc`](std::sync::Arc). Reads wait for nothing. Writes wait for nothing but a shard's
/// lock, under which none of the caller's code runs but the comparison of keys, and what their docs say.
///
/// What is removed, replaced or evicted is dropped a little later: when every read that was under way at that time has ended,
/// by one of the next writes or by [`Memory::expire`].
pub struct Memory<K, V> {
    pub(crate) shards: Box<[Shard<K, V>]>,
    hasher: RandomState,
    policy: Policy,
    pub(crate) timekeeper: Timekeeper,
    pub(crate) counters: Counters,
    pub(crate) sampler: Sampler,
    pub(crate) listener: Listener<K, V>,
    pub(crate) bounds: Mutex<Overall>,
    /// How often something was evicted before the sampler was awake.
    evictions_asleep: AtomicUsize,
    /// The shard where the next background expiry starts.
    pub(crate) next_expiry: AtomicUsize,
}

impl<K, V> Memory<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Starts the settings of a new cache: 10,000 entries, not bounded by bytes, the default policy.
    ///
    /// # Examples
    /// ```
    /// use terrace_memory::Memory;
    /// let memory = Memory::<u64, String>::builder().build()?;
    /// assert!(memory.is_empty());
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    pub fn builder() -> Builder<K, V> {
        Builder::new()
    }

    pub(crate) fn new(
        bounds: Bounds,
        shards: usize,
        policy: Policy,
        clock: Clock,
        listener: Listener<K, V>,
    ) -> Self {
        let sampler = Sampler::new(bounds.entries_expected());
        let shard = |index| shard::empty(policy, bounds.share(index, shards), sampler.dials());
        Self {
            shards: (0..shards).map(shard).collect(),
            hasher: RandomState::default(),
            policy,
            timekeeper: Timekeeper::new(clock),
            counters: Counters::new(),
            sampler,
            listener,
            bounds: Mutex::new(Overall { of_all: bounds, shrinking: 0 }),
            evictions_asleep: AtomicUsize::new(0),
            next_expiry: AtomicUsize::new(0),
        }
    }

    /// The live value of a key, copied out.
    ///
    /// # Cost
    /// One lookup without a lock (under [`Policy::Lru`] with the lock of the key's shard) and one `clone` of the value.
    /// Allocates nothing by itself. An entry found expired is removed at once, which takes the lock.
    ///
    /// # Examples
    /// ```
    /// use terrace_core::Moment;
    /// use terrace_memory::Memory;
    /// let memory = Memory::<String, u32>::builder().build()?;
    /// memory.insert("one".to_owned(), 1, 4, Moment::NEVER);
    /// assert_eq!((memory.get("one"), memory.get("two")), (Some(1), None));
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.get_with(key, V::clone)
    }

    /// The live value of a key, seen by `read` in place.
    ///
    /// `read` holds no lock, and may use this cache. It should be quick: what leaves any cache of the process while it runs is
    /// not freed before it ends.
    ///
    /// # Cost
    /// As [`Memory::get`], without the copy.
    ///
    /// # Examples
    /// ```
    /// use terrace_core::Moment;
    /// use terrace_memory::Memory;
    /// let memory = Memory::<u64, String>::builder().build()?;
    /// memory.insert(1, "long text".to_owned(), 9, Moment::NEVER);
    /// assert_eq!(memory.get_with(&1, String::len), Some(9));
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    #[inline]
    pub fn get_with<Q, R>(&self, key: &Q, read: impl FnOnce(&V) -> R) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.look_up(key, || self.timekeeper.latest(), read)
    }

    /// [`Memory::get_with`] for a caller who has read this cache's clock already, just before: `now` is what
    /// [`Clock::now`] said.
    ///
    /// # Cost
    /// As [`Memory::get_with`], without a reading of the clock.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use terrace_core::Clock;
    /// use terrace_memory::Memory;
    /// let clock = Clock::manual();
    /// let memory = Memory::<u64, u32>::builder().clock(clock.clone()).build()?;
    /// memory.insert(1, 10, 4, clock.now().plus(Duration::from_secs(1)));
    /// let now = clock.now();
    /// assert_eq!(memory.get_with_at(&1, now, |value| *value), Some(10));
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    #[inline]
    pub fn get_with_at<Q, R>(&self, key: &Q, now: Moment, read: impl FnOnce(&V) -> R) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.look_up(key, || self.timekeeper.latest_at(now), read)
    }

    #[expect(clippy::inline_always, reason = "half of a hit's instructions would be spills around the call")]
    #[inline(always)]
    fn look_up<Q, R>(&self, key: &Q, latest: impl FnOnce() -> Moment, read: impl FnOnce(&V) -> R) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = self.hash(key);
        let guard = enter();
        if self.sampler.samples(hash) {
            self.sampler.note(hash);
        }
        let Some(entry) = self.find_live(hash, key, latest, &guard) else {
            self.counters.add(guard.thread(), Counter::Misses, 1);
            return None;
        };
        self.counters.add(guard.thread(), Counter::Hits, 1);
        Some(read(entry.value()))
    }

    /// Finds a live entry and counts the access for the policy.
    #[expect(clippy::inline_always, reason = "half of a hit's instructions would be spills around the call")]
    #[inline(always)]
    fn find_live<'g, Q>(
        &'g self,
        hash: u64,
        key: &Q,
        latest: impl FnOnce() -> Moment,
        guard: &'g Guard,
    ) -> Option<Entry<'g, K, V>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let entry = self.shard(hash).find(hash::lower(hash), guard, |found| key.equivalent(found))?;
        let deadline = entry.deadline();
        if deadline != Deadline::NEVER && deadline.has_passed(latest()) {
            self.remove_expired(hash, key);
            return None;
        }
        match self.policy {
            Policy::Default => entry.hit(),
            Policy::Lru => self.touch(hash, key, guard),
        }
        Some(entry)
    }

    #[inline]
    fn has_expired(&self, entry: Entry<'_, K, V>) -> bool {
        let deadline = entry.deadline();
        deadline != Deadline::NEVER && deadline.has_passed(self.timekeeper.latest())
    }

    /// Notes in the order of use that an entry was used, unless it has left meanwhile.
    #[inline(never)]
    fn touch<Q>(&self, hash: u64, key: &Q, guard: &Guard)
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let mut shard = self.lock(self.shard(hash), guard);
        if let Some(id) = shard.find(hash::lower(hash), |found| key.equivalent(found)) {
            shard.touch(id);
        }
    }

    /// The live value of a key, copied out, as if nobody had looked: not counted, and no reason to keep the entry.
    ///
    /// # Cost
    /// As [`Memory::get`], without a lock under any policy.
    ///
    /// # Examples
    /// ```
    /// use terrace_core::Moment;
    /// use terrace_memory::Memory;
    /// let memory = Memory::<u64, u32>::builder().build()?;
    /// memory.insert(1, 10, 4, Moment::NEVER);
    /// assert_eq!(memory.peek(&1), Some(10));
    /// assert_eq!(memory.stats().hits, 0);
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    pub fn peek<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.peek_with(key, V::clone)
    }

    /// The live value of a key, seen by `read` in place, as if nobody had looked. See [`Memory::peek`], and
    /// [`Memory::get_with`] for what `read` may do.
    ///
    /// # Cost
    /// As [`Memory::peek`], without the copy.
    ///
    /// # Examples
    /// ```
    /// use terrace_memory::Memory;
    /// let memory = Memory::<u64, u32>::builder().build()?;
    /// let is_there = memory.peek_with(&1, |_| ()).is_some();
    /// assert!(!is_there);
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    pub fn peek_with<Q, R>(&self, key: &Q, read: impl FnOnce(&V) -> R) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = self.hash(key);
        let guard = enter();
        let entry = self.shard(hash).find(hash::lower(hash), &guard, |found| key.equivalent(found))?;
        (!self.has_expired(entry)).then(|| read(entry.value()))
    }

    /// [`Memory::peek`], after every write of the key that has begun to change something.
    ///
    /// Other reads take no lock, so while an [`Memory::insert_if`] is at work they may still find what was there before,
    /// although its condition has run. Whoever acts on what a condition does needs this one: it waits for the write.
    ///
    /// # Cost
    /// As [`Memory::peek`], and the lock of the key's shard.
    ///
    /// # Examples
    /// ```
    /// use terrace_core::Moment;
    /// use terrace_memory::Memory;
    /// let memory = Memory::<u64, u32>::builder().build()?;
    /// memory.insert(1, 10, 4, Moment::NEVER);
    /// assert_eq!(memory.peek_in_order(&1), Some(10));
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    pub fn peek_in_order<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = self.hash(key);
        let guard = enter();
        let shard = self.lock(self.shard(hash), &guard);
        let found = shard.find(hash::lower(hash), |found| key.equivalent(found));
        let entry = found.filter(|id| !shard.has_expired(*id)).map(|id| shard.entry(id))?;
        drop(shard);
        Some(entry.value().clone())
    }

    /// How many entries are held. Expired ones count until they leave.
    ///
    /// # Cost
    /// Each shard's lock in turn, so under concurrent changes the sum is of no single moment.
    pub fn len(&self) -> usize {
        self.tally().entries
    }

    /// Whether no entry is held.
    ///
    /// # Cost
    /// As [`Memory::len`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sum of the weights of the entries held, as they were given to `insert`; `u64::MAX` if it is more.
    ///
    /// # Cost
    /// As [`Memory::len`].
    pub fn weight_bytes(&self) -> u64 {
        self.tally().bytes()
    }

    /// What was counted since the beginning or the last reset, and what is held now.
    ///
    /// # Cost
    /// As [`Memory::len`]. Not for every request.
    pub fn stats(&self) -> MemoryStats {
        MemoryStats::new(&self.counters, &self.tally())
    }

    /// What a quarter, a half, twice and four times the entries would miss, beside what was missed since the last reset.
    ///
    /// Estimated by small simulations on a sample of the keys that lookups ask for, usually within a few points. Empty until
    /// the cache has been full for a while, and under [`Policy::Lru`] always.
    ///
    /// # Cost
    /// One lock, and a few allocations.
    ///
    /// # Examples
    /// ```
    /// use terrace_core::Moment;
    /// use terrace_memory::Memory;
    /// let memory = Memory::<u64, ()>::builder().entries_max(100).build()?;
    /// for key in (0..200).cycle().take(20_000) {
    ///     if memory.get(&key).is_none() {
    ///         memory.insert(key, (), 0, Moment::NEVER);
    ///     }
    /// }
    /// let larger = memory.miss_ratio_curve().into_iter().find(|point| point.entries == 400);
    /// assert!(larger.is_some_and(|point| point.miss_ratio < memory.stats().miss_ratio().unwrap()));
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    pub fn miss_ratio_curve(&self) -> Vec<CurvePoint> {
        self.stats().miss_ratio().map_or_else(Vec::new, |measured| self.miss_ratio_curve_at(measured))
    }

    /// [`Memory::miss_ratio_curve`] beside a miss ratio that the caller has measured: lately, say, or of its own kind of lookups.
    ///
    /// # Cost
    /// As [`Memory::miss_ratio_curve`], without the sum of the counters.
    ///
    /// # Examples
    /// ```
    /// use terrace_memory::Memory;
    /// let memory = Memory::<u64, ()>::builder().entries_max(100).build()?;
    /// assert!(memory.miss_ratio_curve_at(0.2).is_empty(), "it was never full");
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    pub fn miss_ratio_curve_at(&self, miss_ratio_measured: f64) -> Vec<CurvePoint> {
        self.sampler.curve(miss_ratio_measured)
    }

    /// Sets all counters to zero. What is held is not a counter.
    ///
    /// Counts of operations under way may fall on either side.
    pub fn reset_stats(&self) {
        self.counters.reset();
    }

    fn tally(&self) -> Tally {
        let guard = enter();
        let mut tally = Tally::default();
        for shard in &self.shards {
            let shard = self.lock(shard, &guard);
            tally.entries += shard.len();
            tally.weight += shard.weight();
            tally.held_back += shard.held_back();
        }
        tally
    }

    #[cold]
    fn remove_expired<Q>(&self, hash: u64, key: &Q)
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.change(self.shard(hash), |shard| {
            let found = shard.find(hash::lower(hash), |found| key.equivalent(found));
            if let Some(id) = found.filter(|id| shard.has_expired(*id)) {
                shard.take(id, RemovalCause::Expired);
            }
        });
    }

    /// Changes a shard under its lock. Then counts what has left, tells the listener, and drops what can be dropped.
    pub(crate) fn change<R>(
        &self,
        shard: &Shard<K, V>,
        change: impl FnOnce(&mut Locked<'_, K, V>) -> R,
    ) -> R {
        let guard = enter();
        let (result, aftermath) = self.change_within(shard, &guard, change);
        drop(guard);
        drop(aftermath);
        result
    }

    /// [`Memory::change`] within a section of the caller's: what left can be read until it ends. Then the aftermath is to be
    /// dropped.
    pub(crate) fn change_within<'g, R>(
        &'g self,
        shard: &'g Shard<K, V>,
        guard: &'g Guard,
        change: impl FnOnce(&mut Locked<'g, K, V>) -> R,
    ) -> (R, Aftermath<K, V>) {
        let mut locked = self.lock(shard, guard);
        let result = change(&mut locked);
        let (departures, aftermath) = locked.unlock();
        if !departures.is_empty() {
            self.listener.tell(&departures, &self.counters, guard.thread());
            let evicts = departures.iter().any(|departure| departure.cause == RemovalCause::Capacity);
            if evicts && self.policy == Policy::Default && self.sampler.is_asleep() {
                self.wake();
            }
        }
        (result, aftermath)
    }

    /// A shard is full: begins to sample, if the cache is. It is asked at the first, second, fourth, … eviction.
    #[cold]
    fn wake(&self) {
        if (self.evictions_asleep.fetch_add(1, Ordering::Relaxed) + 1).is_power_of_two() {
            let tally = self.tally();
            let bounds = self.bounds.lock().of_all;
            if bounds.are_half_used(tally.entries, tally.weight) {
                self.sampler.resize(tally.entries);
                self.sampler.wake();
            }
        }
    }

    #[inline]
    pub(crate) fn lock<'g>(&'g self, shard: &'g Shard<K, V>, guard: &'g Guard) -> Locked<'g, K, V> {
        Locked::new(shard, guard, &self.timekeeper)
    }

    #[inline]
    pub(crate) fn hash<Q>(&self, key: &Q) -> u64
    where
        Q: Hash + ?Sized,
    {
        self.hasher.hash_one(key)
    }

    #[inline]
    pub(crate) fn shard(&self, hash: u64) -> &Shard<K, V> {
        &self.shards[hash::upper(hash) & (self.shards.len() - 1)]
    }
}

impl<K, V> fmt::Debug for Memory<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("policy", &self.policy)
            .field("shards", &self.shards.len())
            .field("clock", self.timekeeper.clock())
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}
