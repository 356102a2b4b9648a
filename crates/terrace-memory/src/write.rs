//! Writing: inserts and removals of single keys.
//!
//! 1. Whoever reads after an insert or a removal has returned sees its effect: the newer value, or none.
//! 2. A value that is not admitted leaves no older value of its key behind.

use crate::cache::Memory;
use crate::counters::Counter;
use crate::engine::{Departure, Departures, Slot};
use crate::listener::RemovalCause;
use crate::shard::{Newcomer, Shard};
use equivalent::Equivalent;
use parking_lot::RwLockWriteGuard;
use std::hash::Hash;
use terrace_core::Moment;

/// What became of a value that was to be inserted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Insertion {
    /// It is held.
    Stored,
    /// It was too big for the cache, or for what the policy lets one entry have. The key has no value now.
    ///
    /// Where only a few entries fit, [`Policy::Default`](crate::Policy::Default) may also prefer all of those it has.
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
    /// old value leaves for it; under [`Policy::Default`](crate::Policy::Default) the limit is 97 % of the share. A
    /// share is the whole bound up to 32 MiB, and never less than 16 MiB above that.
    ///
    /// # Cost
    /// One lock of the key's shard for itself alone, three lookups and, if the entry has a deadline, an update of the
    /// expiry index: logarithmic in the number of distinct deadlines, in steps of 67 ms. When the shard is full,
    /// first expired entries leave and then live ones, until there is room. An expired entry may be overlooked
    /// within 67 ms of its deadline, not longer.
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
        let hash = self.probe(&key).hash;
        let new = Newcomer { hash, key, slot: Slot { deadline, bytes: weight_bytes, value } };
        let shard = self.shard(hash).write();
        self.insert_locked(new, shard)
    }

    /// [`Memory::insert`], if `condition` holds for the key's live value (or `None`) at that moment.
    ///
    /// The condition and the insert are one step: no other change of the key comes between. `condition` runs under the
    /// shard's lock: it should be quick, and must not use this cache, which may deadlock. If it panics, nothing
    /// has changed.
    ///
    /// # Cost
    /// As [`Memory::insert`] and one more lookup.
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
        let hash = self.probe(&key).hash;
        let new = Newcomer { hash, key, slot: Slot { deadline, bytes: weight_bytes, value } };
        let shard = self.shard(hash).write();
        let latest = self.latest();
        let old = shard.peek(&new.probe()).filter(|slot| !slot.expired(latest));
        if condition(old.map(|slot| &slot.value)) {
            self.insert_locked(new, shard)
        } else {
            drop(shard);
            Insertion::Declined
        }
    }

    /// Inserts under the lock that is handed over. (It is the last parameter, so a panic of the caller's `Eq` releases
    /// it before the newcomer is dropped.)
    fn insert_locked(&self, new: Newcomer<K, V>, mut shard: RwLockWriteGuard<'_, Shard<K, V>>) -> Insertion {
        let latest = self.latest();
        let mut out = Departures::new();
        let insertion = if new.slot.expired(latest) {
            out.extend(shard.take(&new.probe(), RemovalCause::Explicit, latest));
            out.push(Departure::never_held(new.hash, new.key, new.slot));
            Insertion::Expired
        } else {
            let present = shard.present(&new, latest);
            let admitted = shard.insert(new, present, latest, &mut out);
            if admitted { Insertion::Stored } else { Insertion::Rejected }
        };
        drop(shard);
        match insertion {
            Insertion::Stored => self.counters.add(Counter::Inserts, 1),
            Insertion::Rejected => self.counters.add(Counter::Rejections, 1),
            Insertion::Expired | Insertion::Declined => {}
        }
        self.see_off(&out);
        insertion
    }

    /// Removes a key. Returns its value, if it was live.
    ///
    /// # Cost
    /// One lookup under a lock of the key's shard for itself alone.
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
    /// Two lookups under a lock of the key's shard for itself alone.
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
        let probe = self.probe(key);
        let departure = {
            let mut shard = self.shard(probe.hash).write();
            let latest = self.latest();
            let slot = shard.peek(&probe)?;
            if !slot.expired(latest) && !condition(&slot.value) {
                return None;
            }
            shard.take(&probe, RemovalCause::Explicit, latest)?
        };
        self.listener.tell(std::slice::from_ref(&departure), &self.counters);
        let Departure { stored, slot, cause } = departure;
        drop(stored);
        (cause != Some(RemovalCause::Expired)).then_some(slot.value)
    }
}
