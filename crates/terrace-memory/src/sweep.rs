//! Operations on the whole cache: walks, clearing, background expiry, new bounds.
//!
//! 1. A walk goes through the seats of one shard after the other, and holds a shard's lock for at most [`STEP`] of
//!    them at a time. Others read and write in between.
//! 2. A walk meets every entry that is held from its beginning to its end exactly once; of one that is overwritten
//!    meanwhile, either value. Entries that come or leave meanwhile it may meet or not.
//! 3. Background expiry costs what it removes, and one shared lock per shard: it never scans live entries.

use crate::bounds::Bounds;
use crate::builder::ConfigError;
use crate::cache::{Locked, Memory};
use crate::engine::Departures;
use crate::listener::RemovalCause;
use parking_lot::RwLockUpgradableReadGuard;
use smallvec::SmallVec;
use std::hash::Hash;
use std::mem;
use std::sync::atomic::Ordering;
use terrace_core::Moment;

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
    /// Removes up to `budget` expired entries, oldest deadlines first within a shard.
    ///
    /// Readers never see an expired entry, removed or not: this is about memory. If `more` is false, no entry is held
    /// whose deadline lay 67 ms or more before the call. Of those that expired within these 67 ms some may be left,
    /// if live ones with nearly the same deadline hide them.
    ///
    /// # Cost
    /// Proportional to what is removed, and one shared lock per shard. Each lock is held for at most 128 removals.
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
        let latest = self.latest();
        let count = self.shards.len();
        let start = self.next_expiry.load(Ordering::Relaxed);
        let mut removed = 0;
        for index in (0..count).map(|offset| (start + offset) % count) {
            removed += self.expire_shard(&self.shards[index], budget - removed, latest);
            if removed == budget {
                self.next_expiry.store(index, Ordering::Relaxed);
                break;
            }
        }
        let more = removed == budget && self.shards.iter().any(|shard| shard.0.read().is_due(latest));
        Expired { removed, more }
    }

    fn expire_shard(&self, shard: &Locked<K, V>, budget: usize, latest: Moment) -> usize {
        let mut removed = 0;
        while removed < budget && shard.0.read().is_due(latest) {
            let mut out = Departures::new();
            shard.0.write().expire((budget - removed).min(STEP as usize), latest, &mut out);
            removed += out.len();
            self.see_off(&out);
        }
        removed
    }

    /// Shows every live entry, in no order.
    ///
    /// Entries that are held throughout are shown exactly once. Entries inserted, overwritten or removed meanwhile may
    /// be shown or not. `see` runs under a shard's lock: it should be quick, and must not use this cache, which may
    /// deadlock.
    ///
    /// # Cost
    /// Linear in the number of entries. Each shard's shared lock is held for at most 128 of them.
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
        for shard in &self.shards {
            let seats = shard.0.read().seats();
            for range in steps(seats) {
                let latest = self.latest();
                shard.0.read().walk(range, |_, key, slot| {
                    if !slot.expired(latest) {
                        see(key, &slot.value);
                    }
                });
            }
        }
    }

    /// Removes the live entries for which `keep` says false. Returns how many.
    ///
    /// Entries that are held throughout are judged exactly once, and an entry is only removed with the value that was
    /// judged. Entries inserted or overwritten meanwhile may be judged or not. `keep` runs under a shard's lock, beside
    /// which others may read: it should be quick, and must not use this cache, which may deadlock. If it
    /// panics, entries judged in earlier steps are gone, and all others held.
    ///
    /// # Cost
    /// Linear in the number of entries. Each shard's lock is held for at most 128 of them.
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
        for shard in &self.shards {
            let seats = shard.0.read().seats();
            for range in steps(seats) {
                let latest = self.latest();
                let mut out = Departures::new();
                {
                    let judged = shard.0.upgradable_read();
                    let mut doomed = SmallVec::<[u32; STEP as usize]>::new();
                    judged.walk(range, |seat, key, slot| {
                        if slot.expired(latest) || !keep(key, &slot.value) {
                            doomed.push(seat);
                        }
                    });
                    if !doomed.is_empty() {
                        let mut judged = RwLockUpgradableReadGuard::upgrade(judged);
                        let take = |seat| judged.take_seat(seat, RemovalCause::Explicit, latest);
                        out.extend(doomed.into_iter().filter_map(take));
                    }
                }
                removed += live(&out);
                self.see_off(&out);
            }
        }
        removed
    }

    /// Removes every entry that was held when the call began. Returns how many were live.
    ///
    /// Entries inserted meanwhile may stay. Each shard is emptied at once.
    ///
    /// # Cost
    /// Each shard's lock in turn, for a swap that does not depend on the number of entries; then linear in it, outside
    /// the locks.
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
        let latest = self.latest();
        let old: Vec<_> = {
            let bounds = self.bounds.lock();
            let share = |index| bounds.share(index, self.shards.len());
            let empty = |(index, shard): (usize, &Locked<K, V>)| {
                shard.0.write().swap_for_empty(self.policy, share(index))
            };
            self.shards.iter().enumerate().map(empty).collect()
        };
        let mut out = Departures::new();
        for shard in old {
            shard.empty_into(RemovalCause::Explicit, latest, &mut out);
        }
        let removed = live(&out);
        self.see_off(&out);
        removed
    }

    /// Changes the bounds; 0 means "not bounded by this". What no longer fits is evicted before the call returns.
    ///
    /// The number of shards stays as it was built: a cache that grows from a few entries to many has one lock, and one
    /// that shrinks needs at least one entry and one byte per shard. If one of two bounds is all that changes, or
    /// a bound is added or dropped, [`Policy::Default`](crate::Policy::Default) learns anew what is hot.
    ///
    /// # Errors
    /// [`ConfigError`] as [`Builder::build`](crate::Builder::build), and if a bound is below the number of shards.
    /// Nothing has changed then.
    ///
    /// # Cost
    /// Each shard's lock in turn for as long as it takes to evict what is too much, or to admit all its entries anew:
    /// some hundred nanoseconds per entry. Not for a request's path.
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
        let latest = self.latest();
        let mut out = Departures::new();
        {
            let mut bounds = self.bounds.lock();
            if mem::replace(&mut *bounds, new) != new {
                for (index, shard) in self.shards.iter().enumerate() {
                    shard.0.write().resize(new.share(index, count), latest, &mut out);
                }
            }
        }
        self.see_off(&out);
        Ok(())
    }
}

/// The seats up to `end`, in steps.
fn steps(end: u32) -> impl Iterator<Item = std::ops::Range<u32>> {
    (0..end).step_by(STEP as usize).map(move |from| from..end.min(from + STEP))
}

/// How many of these had not expired.
fn live<K, V>(out: &Departures<K, V>) -> usize {
    out.iter().filter(|departure| departure.cause == Some(RemovalCause::Explicit)).count()
}
