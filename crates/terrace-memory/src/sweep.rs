//! Operations on the whole cache: walks, clearing, background expiry, new bounds.
//!
//! 1. A walk goes through the slots of one shard after the other, [`STEP`] of them at a time. It collects their entries under
//!    the lock, and shows them after releasing it: entries never change, and stay readable while the walk's section is
//!    open. What is to be removed is removed under the lock again, if it has not left meanwhile. A slot that is
//!    still live has still the same entry, since the section keeps it from being used again.
//! 2. A walk meets every entry that is held from its beginning to its end exactly once. Entries that come or leave meanwhile
//!    it may meet or not; of one that is overwritten, the old value, the new one, both or neither.
//! 3. Background expiry costs what it removes, and one lock per shard: it never scans live entries.
//! 4. No operation holds a lock for more than [`STEP`] entries, but for [`Memory::for_each_of`], which shows what one part held at one
//!    moment.

use crate::bounds::{Bounds, Overall};
use crate::builder::ConfigError;
use crate::cache::Memory;
use crate::listener::RemovalCause;
use crate::raw::{Entry, Guard, Id, enter};
use crate::shard::Shard;
use crate::sync::Mutex;
use crate::sync::atomic::Ordering;
use smallvec::SmallVec;
use std::hash::Hash;
use std::ops::Range;

/// Most entries that a walk or an expiry handles under one lock.
pub(crate) const STEP: u32 = 128;

/// What a background expiry did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Expired {
    /// How many expired entries were removed.
    pub removed: usize,
    /// Whether the budget ran out while there were more.
    pub more: bool,
}

impl<K, V> Memory<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Removes up to `budget` expired entries, oldest deadlines first within a shard. Then drops what has left the cache
    /// earlier, for whatever reason, and has no readers any more.
    ///
    /// Readers never see an expired entry, removed or not: this is about memory. If `more` is false, no entry is held
    /// whose deadline lay 67 ms or more before the call. Of those that expired within these 67 ms some may be left,
    /// if live ones with nearly the same deadline hide them.
    ///
    /// # Cost
    /// Proportional to what is removed, and each shard's lock a few times, for at most 128 entries at a time.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use terrace_core::Clock;
    /// use terrace_memory::Memory;
    /// let clock = Clock::manual();
    /// let memory = Memory::<u64, ()>::builder().clock(clock.clone()).build()?;
    /// for key in 0..10 {
    ///     memory.insert(key, (), 0, clock.now().plus(Duration::from_secs(key)));
    /// }
    /// clock.advance(Duration::from_secs(5));
    /// assert_eq!((memory.expire(3).more, memory.len()), (true, 6));
    /// assert_eq!((memory.expire(3).more, memory.len()), (false, 4));
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    pub fn expire(&self, budget: usize) -> Expired {
        let count = self.shards.len();
        let start = self.next_expiry.load(Ordering::Relaxed);
        let mut removed = 0;
        for index in (0..count).map(|offset| (start + offset) % count) {
            removed += self.expire_shard(&self.shards[index], budget - removed);
            if removed == budget {
                self.next_expiry.store(index, Ordering::Relaxed);
                break;
            }
        }
        let more = removed == budget && self.shards.iter().any(|shard| self.is_due(shard));
        self.reclaim();
        if !self.sampler.is_asleep() && self.bounds.lock().of_all.bytes != 0 {
            self.sampler.resize(self.len());
        }
        Expired { removed, more }
    }

    /// Drops what has left and has no readers any more. What still has, later writes will drop, or the next call.
    fn reclaim(&self) {
        for shard in &self.shards {
            self.change(shard, |shard| {
                shard.seal();
            });
        }
        for shard in &self.shards {
            while self.change(shard, |shard| shard.reclaim(STEP as usize)) {}
        }
    }

    /// Removes up to `budget` expired entries of a shard.
    fn expire_shard(&self, shard: &Shard<K, V>, budget: usize) -> usize {
        let mut removed = 0;
        loop {
            let limit = (budget - removed).min(STEP as usize);
            let step = self.change(shard, |shard| shard.expire(limit));
            removed += step;
            if step < limit || removed == budget {
                return removed;
            }
        }
    }

    fn is_due(&self, shard: &Shard<K, V>) -> bool {
        let guard = enter();
        self.lock(shard, &guard).due().is_some()
    }

    /// Shows every live entry, in no order.
    ///
    /// Entries that are held throughout are shown exactly once. Entries inserted, overwritten or removed meanwhile may
    /// be shown or not. `see` holds no lock, and may use this cache.
    ///
    /// # Cost
    /// Linear in the number of slots, which is the largest number of entries there ever was. Each shard's lock is held for at
    /// most 128 of them.
    ///
    /// # Examples
    /// ```
    /// use terrace_core::Moment;
    /// use terrace_memory::Memory;
    /// let memory = Memory::<u64, u64>::builder().build()?;
    /// memory.insert(1, 10, 8, Moment::NEVER);
    /// memory.insert(2, 20, 8, Moment::NEVER);
    /// let mut sum = 0;
    /// memory.for_each(|_, value| sum += value);
    /// assert_eq!(sum, 30);
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    pub fn for_each(&self, mut see: impl FnMut(&K, &V)) {
        self.walk(|_, entries| {
            for Met { entry, .. } in entries.into_iter().filter(|met| met.is_live) {
                see(entry.key(), entry.value());
            }
        });
    }

    /// In how many parts [`Memory::for_each_of`] shows the entries. It never changes.
    pub fn parts(&self) -> usize {
        self.shards.len()
    }

    /// Shows every live entry that a part held at one moment, in no order. A key belongs to one part for ever. There is nothing in
    /// a part that does not exist.
    ///
    /// Unlike [`Memory::for_each`] it misses no entry that is overwritten meanwhile. `see` holds no lock, and may use this cache.
    ///
    /// # Cost
    /// Linear in the number of the part's slots. Its lock is held while they are collected, some 10 ns for each: hits go on, and
    /// changes of its keys wait.
    ///
    /// # Examples
    /// ```
    /// use terrace_core::Moment;
    /// use terrace_memory::Memory;
    /// let memory = Memory::<u64, u64>::builder().build()?;
    /// memory.insert(1, 10, 8, Moment::NEVER);
    /// memory.insert(2, 20, 8, Moment::NEVER);
    /// let mut sum = 0;
    /// for part in 0..memory.parts() {
    ///     memory.for_each_of(part, |_, value| sum += value);
    /// }
    /// assert_eq!(sum, 30);
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    pub fn for_each_of(&self, part: usize, mut see: impl FnMut(&K, &V)) {
        let Some(shard) = self.shards.get(part) else { return };
        let guard = enter();
        let held = {
            let locked = self.lock(shard, &guard);
            let live = (0..locked.end()).filter(|id| locked.has(*id) && !locked.has_expired(*id));
            live.map(|id| locked.entry(id)).collect::<Vec<Entry<'_, K, V>>>()
        };
        for entry in held {
            see(entry.key(), entry.value());
        }
    }

    /// Shows the entries of each shard, step by step.
    fn walk(&self, mut show: impl FnMut(&Shard<K, V>, Step<'_, K, V>)) {
        for shard in &self.shards {
            let end = self.lock(shard, &enter()).end();
            for from in (0..end).step_by(STEP as usize) {
                let guard = enter();
                show(shard, self.step(shard, &guard, from..end.min(from.saturating_add(STEP))));
            }
        }
    }

    /// The entries in a range of slots.
    fn step<'g>(&'g self, shard: &'g Shard<K, V>, guard: &'g Guard, range: Range<Id>) -> Step<'g, K, V> {
        let locked = self.lock(shard, guard);
        let held = range.filter(|id| locked.has(*id));
        held.map(|id| Met { id, entry: locked.entry(id), is_live: !locked.has_expired(id) }).collect()
    }

    /// Removes the live entries for which `keep` says false. Returns how many.
    ///
    /// Entries that are held throughout are judged exactly once, and an entry is only removed with the value that was
    /// judged. Entries inserted or overwritten meanwhile may be judged or not. `keep` holds no lock, and may use this cache. If
    /// it panics, entries judged in earlier steps are gone, and all others held.
    ///
    /// # Cost
    /// As [`Memory::for_each`].
    ///
    /// # Examples
    /// ```
    /// use terrace_core::Moment;
    /// use terrace_memory::Memory;
    /// let memory = Memory::<u64, ()>::builder().build()?;
    /// (0..10).for_each(|key| { memory.insert(key, (), 0, Moment::NEVER); });
    /// assert_eq!(memory.retain(|key, _| key % 2 == 0), 5);
    /// assert_eq!(memory.len(), 5);
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    pub fn retain(&self, mut keep: impl FnMut(&K, &V) -> bool) -> usize {
        let mut removed = 0;
        self.walk(|shard, entries| {
            let is_doomed = |met: &Met<'_, K, V>| !met.is_live || !keep(met.entry.key(), met.entry.value());
            let doomed: SmallVec<[Id; STEP as usize]> =
                entries.into_iter().filter(is_doomed).map(|met| met.id).collect();
            if !doomed.is_empty() {
                removed += self.remove_all(shard, &doomed);
            }
        });
        removed
    }

    /// Removes those of these entries that have not left. The caller's section was open when they were met.
    fn remove_all(&self, shard: &Shard<K, V>, doomed: &[Id]) -> usize {
        self.change(shard, |shard| {
            let mut removed = 0;
            for &id in doomed {
                if shard.has(id) {
                    removed += usize::from(!shard.has_expired(id));
                    shard.take(id, RemovalCause::Explicit);
                }
            }
            removed
        })
    }

    /// Removes every entry that was held when the call began. Returns how many were live.
    ///
    /// Entries inserted or overwritten meanwhile may stay.
    ///
    /// # Cost
    /// As [`Memory::for_each`].
    ///
    /// # Examples
    /// ```
    /// use terrace_core::Moment;
    /// use terrace_memory::Memory;
    /// let memory = Memory::<u64, ()>::builder().build()?;
    /// memory.insert(1, (), 0, Moment::NEVER);
    /// assert_eq!((memory.clear(), memory.len()), (1, 0));
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    pub fn clear(&self) -> usize {
        let removed = self.retain(|_, _| false);
        self.reclaim();
        removed
    }

    /// Changes the bounds; 0 means "not bounded by this". What no longer fits is evicted before the call returns.
    ///
    /// The number of shards stays as it was built: a cache that grows from a few entries to many has one lock, and one
    /// that shrinks needs at least one entry and one byte per shard. Memory for entries is kept for those to come.
    ///
    /// # Errors
    /// [`ConfigError`] as [`Builder::build`](crate::Builder::build), and if a bound is below the number of shards.
    /// Nothing has changed then.
    ///
    /// # Cost
    /// What it takes to evict what is too much: some hundred nanoseconds per entry. Each shard's lock is held for at most 128.
    ///
    /// # Examples
    /// ```
    /// use terrace_core::Moment;
    /// use terrace_memory::Memory;
    /// let memory = Memory::<u64, ()>::builder().entries_max(100).build()?;
    /// (0..100).for_each(|key| { memory.insert(key, (), 0, Moment::NEVER); });
    /// memory.resize(10, 0)?;
    /// assert_eq!(memory.len(), 10);
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    pub fn resize(&self, entries_max: usize, bytes_max: u64) -> Result<(), ConfigError> {
        let count = self.shards.len();
        let new = Bounds { entries: entries_max, bytes: bytes_max }.checked(count)?;
        self.bounds.lock().of_all = new;
        let _shrinking = Shrinking::new(&self.bounds);
        let mut goal = new;
        loop {
            for (index, shard) in self.shards.iter().enumerate() {
                let share = goal.share(index, count);
                while self.change(shard, |shard| shard.approach(share, STEP as usize, self.sampler.dials())) {
                }
            }
            // Of calls at the same time, the bounds of the last to begin are everybody's goal in the end.
            let newest = self.bounds.lock().of_all;
            if newest == goal {
                break;
            }
            goal = newest;
        }
        self.sampler.resize(if goal.bytes == 0 { goal.entries } else { self.len() });
        self.reclaim();
        Ok(())
    }
}

/// A call that is at evicting what no longer fits.
struct Shrinking<'a>(&'a Mutex<Overall>);

impl<'a> Shrinking<'a> {
    fn new(bounds: &'a Mutex<Overall>) -> Self {
        bounds.lock().shrinking += 1;
        Self(bounds)
    }
}

impl Drop for Shrinking<'_> {
    fn drop(&mut self) {
        self.0.lock().shrinking -= 1;
    }
}

/// An entry that a walk meets.
struct Met<'g, K, V> {
    id: Id,
    entry: Entry<'g, K, V>,
    is_live: bool,
}

/// The entries that a walk meets in one step.
type Step<'g, K, V> = SmallVec<[Met<'g, K, V>; STEP as usize]>;
