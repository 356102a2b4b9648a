//! The default policy: `quick_cache`'s CLOCK-Pro variant, close to S3-FIFO.
//!
//! Entries enter a hot ring while it has room (97 % of the capacity), else a small cold ring. An entry of the cold
//! ring that is read before its turn moves to the hot one; else it is evicted, and its hash is remembered for a
//! while: if it comes back it enters hot. So one pass over many keys cannot flush what is read again and again.
//!
//! What `quick_cache`'s interface makes of this module:
//!
//! - It hands out keys by reference nowhere except to [`Equivalent`]. So [`ClockPro::reveal`] looks an entry up with
//!   a probe that shows the key to a closure at the moment it is found.
//! - Its weight is one number, which may not change while the entry is held: [`Pricing`]. Changing the bounds so that
//!   costs change means filling a new cache. A weight of 0 would make an entry unevictable: no cost is 0.
//! - `set_capacity` drops what it evicts where it stands, in our case under a lock. [`Spill`] catches it.
//! - Its counters of hits and misses cost an access more than ours, and count expired entries as hits: unused.
//! - Its lifecycle hook hands out replaced, evicted and rejected entries alike. The seat and edition in [`Stored`]
//!   tell them apart.
//! - `remove` also forgets that the key was evicted before; `remove_if` does not, and is used throughout.

use super::{Departure, Departures, Probe, Slot, Stored};
use crate::bounds::{Bounds, Pricing};
use equivalent::Equivalent;
use parking_lot::Mutex;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter, unsync};
use std::cell::Cell;
use std::hash::{BuildHasher, Hash, Hasher};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The part of the capacity that the hot ring may take; an entry that costs more is not admitted.
const HOT_PART: f64 = 0.97;

type Cache<K, V> = unsync::Cache<Stored<K>, Slot<V>, Pricing, StoredHash, Collect<K, V>>;

/// Entries under the default policy.
pub(crate) struct ClockPro<K, V> {
    cache: Cache<K, V>,
    pricing: Pricing,
    spill: Arc<Spill<K, V>>,
}

impl<K, V> ClockPro<K, V> {
    pub(super) fn new(bounds: Bounds) -> Self {
        let pricing = Pricing::new(bounds);
        let spill = Arc::new(Spill { open: AtomicBool::new(false), items: Mutex::new(Departures::new()) });
        Self { cache: empty(pricing, &spill), pricing, spill }
    }

    #[inline]
    pub(super) fn get<P: Probe<K>>(&self, probe: &P) -> Option<&Slot<V>> {
        self.cache.get(probe)
    }

    pub(super) fn peek<P: Probe<K>>(&self, probe: &P) -> Option<&Slot<V>> {
        self.cache.peek(probe)
    }

    pub(super) fn visit<P: Probe<K>, R>(
        &self,
        probe: &P,
        show: impl FnOnce(&Stored<K>, &Slot<V>) -> R,
    ) -> Option<R> {
        let slot = self.cache.peek(probe)?;
        self.reveal(probe, |stored| show(stored, slot))
    }

    /// Shows the stored key of an entry.
    fn reveal<P: Probe<K>, R>(&self, probe: &P, show: impl FnOnce(&Stored<K>) -> R) -> Option<R> {
        let reveal = Reveal { probe, show: Cell::new(Some(show)), shown: Cell::new(None) };
        self.cache.contains_key(&reveal);
        reveal.shown.into_inner()
    }

    pub(super) fn insert(&mut self, stored: Stored<K>, slot: Slot<V>, out: &mut Departures<K, V>) {
        self.cache.insert_with_lifecycle(stored, slot, out);
    }

    pub(super) fn remove<P: Probe<K>>(&mut self, probe: &P) -> Option<Departure<K, V>> {
        self.cache.remove_if(probe, |_| true).map(Departure::from)
    }

    pub(super) fn must_evict(&self, bytes: u64, old: Option<u64>) -> bool {
        let old = old.map_or(0, |old| self.pricing.cost(old));
        let (cost, capacity) = (self.pricing.cost(bytes), self.pricing.capacity());
        cost <= capacity && self.cache.weight() - old + cost > capacity
    }

    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }

    /// If the cache merely shrinks, the policy chooses what leaves. If it grows, or if costs change with the kind of
    /// the bounds, a new cache is filled: nothing leaves that fits, and what is hot is to be learned anew.
    pub(super) fn resize(&mut self, bounds: Bounds, out: &mut Departures<K, V>) {
        let pricing = Pricing::new(bounds);
        if pricing.costs_as(&self.pricing) && pricing.capacity() <= self.pricing.capacity() {
            self.spill.open.store(true, Ordering::Relaxed);
            self.cache.set_capacity(pricing.capacity());
            self.spill.open.store(false, Ordering::Relaxed);
            out.append(&mut *self.spill.items.lock());
        } else {
            let mut full = mem::replace(&mut self.cache, empty(pricing, &self.spill));
            for (stored, slot) in full.drain() {
                self.cache.insert_with_lifecycle(stored, slot, out);
            }
        }
        self.pricing = pricing;
    }

    pub(super) fn into_each(mut self, each: impl FnMut(Departure<K, V>)) {
        self.cache.drain().map(Departure::from).for_each(each);
    }
}

#[cfg(any(test, feature = "validate"))]
impl<K, V> ClockPro<K, V> {
    pub(super) fn validate(&self, bounds: Bounds, mut see: impl FnMut(&Stored<K>, &Slot<V>)) {
        assert_eq!(self.pricing, Pricing::new(bounds), "prices are those of the bounds");
        let (mut count, mut cost) = (0, 0);
        for (stored, slot) in self.cache.iter() {
            count += 1;
            cost += self.pricing.cost(slot.bytes);
            see(stored, slot);
        }
        assert_eq!(count, self.cache.len());
        assert_eq!(cost, self.cache.weight(), "the costs add up");
        assert!(cost <= self.pricing.capacity(), "the costs fit");
        assert!(self.spill.items.lock().is_empty(), "nothing is left in the spill");
    }
}

fn empty<K, V>(pricing: Pricing, spill: &Arc<Spill<K, V>>) -> Cache<K, V> {
    let one_is_too_hot = pricing.unit() as f64 > pricing.capacity() as f64 * HOT_PART;
    let options = OptionsBuilder::new()
        .estimated_items_capacity(pricing.entries_expected())
        .weight_capacity(pricing.capacity())
        .hot_allocation(if one_is_too_hot { 1.0 } else { HOT_PART })
        .build()
        .expect("both required options are given");
    Cache::with_options(options, pricing, StoredHash, Collect(Arc::clone(spill)))
}

impl<K, V> Weighter<Stored<K>, Slot<V>> for Pricing {
    #[inline]
    fn weight(&self, _: &Stored<K>, slot: &Slot<V>) -> u64 {
        self.cost(slot.bytes)
    }
}

/// Takes the hash that a [`Stored`] key or a [`Probe`] carries.
#[derive(Clone, Copy, Debug)]
struct StoredHash;

/// The hasher of [`StoredHash`].
struct Carried(u64);

impl BuildHasher for StoredHash {
    type Hasher = Carried;

    #[inline]
    fn build_hasher(&self) -> Carried {
        Carried(0)
    }
}

impl Hasher for Carried {
    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(false, "stored keys and probes write one u64, not {} bytes", bytes.len());
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// Finds what `probe` finds, and shows the key.
struct Reveal<'a, P, F, R> {
    probe: &'a P,
    show: Cell<Option<F>>,
    shown: Cell<Option<R>>,
}

impl<P: Hash, F, R> Hash for Reveal<'_, P, F, R> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.probe.hash(state);
    }
}

impl<K, P, F, R> Equivalent<Stored<K>> for Reveal<'_, P, F, R>
where
    P: Equivalent<Stored<K>>,
    F: FnOnce(&Stored<K>) -> R,
{
    fn equivalent(&self, stored: &Stored<K>) -> bool {
        let found = self.probe.equivalent(stored);
        if found && let Some(show) = self.show.take() {
            self.shown.set(Some(show(stored)));
        }
        found
    }
}

/// Hands out what leaves: to the operation that asked, or into the spill.
struct Collect<K, V>(Arc<Spill<K, V>>);

/// What `set_capacity` evicts, while it is open.
struct Spill<K, V> {
    open: AtomicBool,
    items: Mutex<Departures<K, V>>,
}

impl<K, V> Lifecycle<Stored<K>, Slot<V>> for Collect<K, V> {
    type RequestState = Departures<K, V>;

    fn on_evict(&self, out: &mut Departures<K, V>, stored: Stored<K>, slot: Slot<V>) {
        let departure = Departure::from((stored, slot));
        if self.0.open.load(Ordering::Relaxed) {
            self.0.items.lock().push(departure);
        } else {
            out.push(departure);
        }
    }
}
