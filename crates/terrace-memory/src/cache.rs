//! The cache as callers see it: shards behind locks, and reading.
//!
//! 1. A key belongs to one shard, chosen by bits of its hash that the index inside does not use.
//! 2. A hit costs one hash, one lock, one copy of the value, one reading of the coarse clock if the entry has a
//!    deadline, and one counter. Nothing is allocated.
//! 3. An expired entry is never returned, however late background expiry is: the deadline is compared with the latest
//!    that the time may be, the clock's reading and its resolution.
//! 4. What leaves is counted, told and dropped after the lock is released, in this order.

use crate::bounds::Bounds;
use crate::builder::{Builder, Policy};
use crate::counters::{Counter, Counters};
use crate::engine::{ByKey, Departures, Probe, Slot};
use crate::listener::{Listener, RemovalCause};
use crate::shard::Shard;
use crate::stats::MemoryStats;
use equivalent::Equivalent;
use foldhash::quality::RandomState;
use parking_lot::{Mutex, RwLock};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::AtomicUsize;
use terrace_core::{Clock, Moment};

/// A shard behind its lock, on cache lines of its own.
#[repr(align(128))]
pub(crate) struct Locked<K, V>(pub(crate) RwLock<Shard<K, V>>);

/// A bounded, concurrent, in-process cache with a deadline per entry. See the [crate](crate) for an example.
///
/// Share it by reference or in an [`Arc`](std::sync::Arc). No operation waits for anything but a shard's lock, which
/// is never held while the removal listener or a destructor runs.
pub struct Memory<K, V> {
    pub(crate) shards: Box<[Locked<K, V>]>,
    hasher: RandomState,
    pub(crate) policy: Policy,
    clock: Clock,
    /// How far the clock may lag, in nanoseconds, read once.
    lag: u64,
    pub(crate) counters: Counters,
    pub(crate) listener: Listener<K, V>,
    /// The bounds of the whole. Held while they change.
    pub(crate) bounds: Mutex<Bounds>,
    /// The shard where the next background expiry starts.
    pub(crate) next_expiry: AtomicUsize,
}

/// What a lookup found.
enum Found<R> {
    Live(R),
    Expired,
    Absent,
}

impl<R> Found<R> {
    #[inline]
    fn read<V>(slot: Option<&Slot<V>>, latest: impl FnOnce() -> Moment, read: impl FnOnce(&V) -> R) -> Self {
        match slot {
            None => Self::Absent,
            Some(slot) if slot.deadline != Moment::NEVER && slot.expired(latest()) => Self::Expired,
            Some(slot) => Self::Live(read(&slot.value)),
        }
    }
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
        let shard = |index| Locked(RwLock::new(Shard::new(policy, bounds.share(index, shards))));
        Self {
            shards: (0..shards).map(shard).collect(),
            hasher: RandomState::default(),
            policy,
            lag: u64::try_from(clock.resolution().as_nanos()).unwrap_or(u64::MAX),
            clock,
            counters: Counters::new(),
            listener,
            bounds: Mutex::new(bounds),
            next_expiry: AtomicUsize::new(0),
        }
    }

    /// The live value of a key, copied out.
    ///
    /// # Cost
    /// One lookup under a shared lock of the key's shard (under [`Policy::Lru`]: a lock for itself alone) and one
    /// `clone` of the value. Allocates nothing by itself. An entry found expired is removed at once, which takes the
    /// lock again.
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
    /// `read` runs under the shard's lock: it should be quick, and must not use this cache, which may deadlock. If it
    /// panics, the lookup is not counted.
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
        let probe = self.probe(key);
        let shard = self.shard(probe.hash);
        let found = match self.policy {
            Policy::Default => Found::read(shard.read().get(&probe), || self.latest(), read),
            Policy::Lru => Found::read(shard.write().touch(&probe), || self.latest(), read),
        };
        match found {
            Found::Live(result) => {
                self.counters.add(Counter::Hits, 1);
                return Some(result);
            }
            Found::Expired => self.remove_expired(&probe),
            Found::Absent => {}
        }
        self.counters.add(Counter::Misses, 1);
        None
    }

    /// The live value of a key, copied out, as if nobody had looked: not counted, and no reason to keep the entry.
    ///
    /// # Cost
    /// As [`Memory::get`], always under a shared lock.
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
        let probe = self.probe(key);
        match Found::read(self.shard(probe.hash).read().peek(&probe), || self.latest(), read) {
            Found::Live(result) => Some(result),
            Found::Expired | Found::Absent => None,
        }
    }

    /// How many entries are held. Expired ones count until they leave.
    ///
    /// # Cost
    /// Each shard's shared lock in turn, so under concurrent changes the sum is of no single moment.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.read().len()).sum()
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
        let bytes: u128 = self.shards.iter().map(|shard| shard.0.read().bytes()).sum();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// What was counted since the beginning or the last reset, and what is held now.
    ///
    /// # Cost
    /// As [`Memory::len`]. Not for every request.
    pub fn stats(&self) -> MemoryStats {
        MemoryStats::new(&self.counters, self.len() as u64, self.weight_bytes())
    }

    /// Sets all counters to zero. What is held is not a counter.
    ///
    /// Counts of operations under way may fall on either side.
    pub fn reset_stats(&self) {
        self.counters.reset();
    }

    #[cold]
    fn remove_expired<P: Probe<K>>(&self, probe: &P) {
        let latest = self.latest();
        let mut out = Departures::new();
        {
            let mut shard = self.shard(probe.code()).write();
            if shard.peek(probe).is_some_and(|slot| slot.expired(latest)) {
                out.extend(shard.take(probe, RemovalCause::Expired, latest));
            }
        }
        self.see_off(&out);
    }

    /// Counts what left and tells the listener; the caller then drops it. Never called under a lock.
    pub(crate) fn see_off(&self, out: &Departures<K, V>) {
        if !out.is_empty() {
            self.listener.tell(out, &self.counters);
        }
    }

    /// The latest that the time may be now: what has a deadline up to here has expired.
    #[inline]
    pub(crate) fn latest(&self) -> Moment {
        Moment::from_nanos(self.clock.now().as_nanos().saturating_add(self.lag))
    }

    #[inline]
    pub(crate) fn probe<'a, Q>(&self, key: &'a Q) -> ByKey<'a, Q>
    where
        Q: Hash + ?Sized,
    {
        ByKey { hash: self.hasher.hash_one(key), key }
    }

    #[inline]
    pub(crate) fn shard(&self, hash: u64) -> &RwLock<Shard<K, V>> {
        let bits = (hash >> 32) as usize;
        &self.shards[bits & (self.shards.len() - 1)].0
    }
}

impl<K, V> fmt::Debug for Memory<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("policy", &self.policy)
            .field("shards", &self.shards.len())
            .field("clock", &self.clock)
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}
