//! Writing: inserts and removals of single keys.
//!
//! 1. Whoever reads after an insert or a removal has returned sees its effect: the newer value, or none.
//! 2. A value that is not admitted leaves no older value of its key behind.

use crate::cache::Memory;
use crate::counters::Counter;
use crate::deadline::Deadline;
use crate::hash;
use crate::listener::RemovalCause;
use crate::raw::{Contents, enter};
use crate::shard::{Locked, Newcomer};
use equivalent::Equivalent;
use std::hash::Hash;
use terrace_core::Moment;

/// What became of a value that was to be inserted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Insertion {
    /// It is held.
    Stored,
    /// It was too big for its shard's share of the bytes bound. The key has no value now.
    Rejected,
    /// Its deadline had passed already. The key has no value now.
    Expired,
    /// The condition of [`Memory::insert_if`] did not hold. Nothing changed.
    Declined,
}

impl<K, V> Memory<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Stores a value in place of the key's old one. It is returned to readers until `deadline`, replaced, removed or
    /// evicted.
    ///
    /// `weight_bytes` is what the entry counts for the bytes bound; 0 is allowed. A deadline that has passed makes this
    /// a removal. A value heavier than its shard's share of the bytes bound is not stored, and nothing but the key's
    /// old value leaves for it. A share is the whole bound up to 32 MiB, and never less than 16 MiB above that.
    ///
    /// # Cost
    /// One lock of the key's shard, one lookup and, if the entry has a deadline, an update of the timers: logarithmic in
    /// the number of distinct deadlines, in steps of 67 ms. When the shard is full, first expired entries leave and then
    /// live ones, until there is room. An expired entry may be overlooked within 67 ms of its deadline, not longer.
    /// Every few hundred evictions or overwrites a barrier on all processors is added, about a microsecond.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use terrace_core::{Clock, Moment};
    /// use terrace_memory::{Insertion, Memory};
    /// let clock = Clock::manual();
    /// let memory = Memory::<u64, &str>::builder().bytes_max(1_000).clock(clock.clone()).build()?;
    /// let deadline = clock.now().plus(Duration::from_secs(60));
    /// assert_eq!(memory.insert(1, "short-lived", 11, deadline), Insertion::Stored);
    /// assert_eq!(memory.insert(2, "huge", 5_000, Moment::NEVER), Insertion::Rejected);
    /// clock.advance(Duration::from_secs(60));
    /// assert_eq!(memory.get(&1), None);
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    pub fn insert(&self, key: K, value: V, weight_bytes: u64, deadline: Moment) -> Insertion {
        self.insert_if(key, value, weight_bytes, deadline, |_| true)
    }

    /// [`Memory::insert`], if `condition` holds for the key's live value (or `None`) at that moment.
    ///
    /// The condition and the insert are one step: no other change of the key comes between. `condition` runs under the
    /// shard's lock: it should be quick, and must not use this cache, which may deadlock. If it panics, nothing
    /// has changed.
    ///
    /// # Cost
    /// As [`Memory::insert`].
    ///
    /// # Examples
    /// ```
    /// use terrace_core::Moment;
    /// use terrace_memory::{Insertion, Memory};
    /// let memory = Memory::<&str, u32>::builder().build()?;
    /// let insert_newer = |version: u32| {
    ///     let is_newer = |old: Option<&u32>| old.is_none_or(|old| *old < version);
    ///     memory.insert_if("key", version, 4, Moment::NEVER, is_newer)
    /// };
    /// assert_eq!((insert_newer(2), insert_newer(1)), (Insertion::Stored, Insertion::Declined));
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    pub fn insert_if(
        &self,
        key: K,
        value: V,
        weight_bytes: u64,
        deadline: Moment,
        condition: impl FnOnce(Option<&V>) -> bool,
    ) -> Insertion {
        let hash = self.hash(&key);
        let mut new = Some(Newcomer {
            hash: hash::lower(hash),
            weight: weight_bytes,
            deadline: Deadline::of(deadline),
            contents: Contents { key, value },
        });
        let guard = enter();
        self.shard(hash).prefetch(hash::lower(hash), &guard);
        let insert = |shard: &mut Locked<'_, K, V>| self.settle(shard, &mut new, condition);
        let ((insertion, returned), aftermath) = self.change_within(self.shard(hash), &guard, insert);
        match insertion {
            Insertion::Stored => self.counters.add(guard.thread(), Counter::Inserts, 1),
            Insertion::Rejected => self.counters.add(guard.thread(), Counter::Rejections, 1),
            Insertion::Expired | Insertion::Declined => {}
        }
        drop(guard);
        drop(aftermath);
        drop((returned, new));
        insertion
    }

    /// Inserts into a locked shard. What is not stored comes back or stays where it is, also if the caller's code panics, to be
    /// dropped after the lock is released.
    fn settle(
        &self,
        shard: &mut Locked<'_, K, V>,
        newcomer: &mut Option<Newcomer<K, V>>,
        condition: impl FnOnce(Option<&V>) -> bool,
    ) -> (Insertion, Option<Contents<K, V>>) {
        let Some(new) = newcomer else { return (Insertion::Declined, None) };
        shard.prefetch_eviction();
        let present = shard.find(new.hash, |found| *found == new.contents.key);
        let live = present.filter(|id| !shard.has_expired(*id));
        if !condition(live.map(|id| shard.entry(id).value())) {
            return (Insertion::Declined, None);
        }
        if new.deadline != Deadline::NEVER && new.deadline.has_passed(self.timekeeper.latest()) {
            if let Some(id) = present {
                shard.take(id, RemovalCause::Explicit);
            }
            return (Insertion::Expired, None);
        }
        let Some(new) = newcomer.take() else { return (Insertion::Declined, None) };
        match shard.insert(new, present, self.sampler.dials()) {
            Ok(()) => (Insertion::Stored, None),
            Err(contents) => (Insertion::Rejected, Some(contents)),
        }
    }

    /// Removes a key. Returns its value, if it was live.
    ///
    /// # Cost
    /// One lookup under the lock of the key's shard, and one `clone` of the value.
    ///
    /// # Examples
    /// ```
    /// use terrace_core::Moment;
    /// use terrace_memory::Memory;
    /// let memory = Memory::<String, u32>::builder().build()?;
    /// memory.insert("a".to_owned(), 1, 4, Moment::NEVER);
    /// assert_eq!((memory.remove("a"), memory.remove("a")), (Some(1), None));
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.remove_if(key, |_| true)
    }

    /// Removes a key if `condition` holds for its live value. Returns the value if it was removed.
    ///
    /// The condition and the removal are one step: no other change of the key comes between. `condition` runs under the
    /// shard's lock: it should be quick, and must not use this cache, which may deadlock. If it panics, nothing
    /// has changed.
    ///
    /// # Cost
    /// One lookup under the lock of the key's shard, and one `clone` of the value.
    ///
    /// # Examples
    /// ```
    /// use terrace_core::Moment;
    /// use terrace_memory::Memory;
    /// let memory = Memory::<&str, u32>::builder().build()?;
    /// memory.insert("a", 1, 4, Moment::NEVER);
    /// assert_eq!(memory.remove_if("a", |value| *value > 1), None);
    /// assert_eq!(memory.remove_if("a", |value| *value == 1), Some(1));
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    pub fn remove_if<Q>(&self, key: &Q, condition: impl FnOnce(&V) -> bool) -> Option<V>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = self.hash(key);
        let guard = enter();
        let (removed, aftermath) = self.change_within(self.shard(hash), &guard, |shard| {
            let id = shard.find(hash::lower(hash), |found| key.equivalent(found))?;
            let (entry, is_live) = (shard.entry(id), !shard.has_expired(id));
            if is_live && !condition(entry.value()) {
                return None;
            }
            shard.take(id, RemovalCause::Explicit);
            is_live.then_some(entry)
        });
        let value = removed.map(|entry| entry.value().clone());
        drop(guard);
        drop(aftermath);
        value
    }
}
