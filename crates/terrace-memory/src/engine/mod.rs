//! Who is evicted? The two policies behind one set of verbs.
//!
//! 1. An engine holds the entries of one shard, finds them, and keeps both bounds. It knows no lock, no clock, no
//!    statistics and no listener.
//! 2. While an engine changes, no code of the caller runs: the hash is stored, two [`Stored`] keys are the same if
//!    their seats are, and whatever leaves is handed out to be dropped elsewhere. The caller's `Eq` runs only in
//!    [`Probe`]s, before anything has changed. So a panic of the caller's code finds the engine whole.
//! 3. An engine never looks at deadlines. The shard takes expired entries out before it asks for room.
//!
//! Deliberately absent: a trait for policies. There are two, chosen once, and an enum costs a hit nothing.

mod default;
mod lru;

use crate::bounds::Bounds;
use crate::builder::Policy;
use crate::listener::RemovalCause;
use default::ClockPro;
use equivalent::Equivalent;
use lru::Lru;
use smallvec::SmallVec;
use std::hash::{Hash, Hasher};
use terrace_core::Moment;

/// Which entry this is: its seat in the roster, and how often the seat's value was overwritten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) seat: u32,
    pub(crate) edition: u32,
}

impl Identity {
    pub(crate) const fn first(seat: u32) -> Self {
        Self { seat, edition: 0 }
    }

    /// The next value in the same seat.
    pub(crate) const fn next(self) -> Self {
        Self { seat: self.seat, edition: self.edition.wrapping_add(1) }
    }
}

/// A key as the engine keeps it.
#[derive(Debug)]
pub(crate) struct Stored<K> {
    pub(crate) hash: u64,
    pub(crate) identity: Identity,
    pub(crate) key: K,
}

impl<K> Hash for Stored<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<K> PartialEq for Stored<K> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.identity.seat == other.identity.seat
    }
}

impl<K> Eq for Stored<K> {}

/// A value as the engine keeps it.
#[derive(Debug)]
pub(crate) struct Slot<V> {
    pub(crate) deadline: Moment,
    pub(crate) bytes: u64,
    pub(crate) value: V,
}

impl<V> Slot<V> {
    /// Whether this value has expired at `latest`, the latest that the time may be.
    #[inline]
    pub(crate) fn expired(&self, latest: Moment) -> bool {
        self.deadline <= latest && self.deadline != Moment::NEVER
    }
}

/// An entry on its way out. It is dropped outside all locks.
#[derive(Debug)]
pub(crate) struct Departure<K, V> {
    pub(crate) stored: Stored<K>,
    pub(crate) slot: Slot<V>,
    /// `None` for a value that was never held.
    pub(crate) cause: Option<RemovalCause>,
}

impl<K, V> Departure<K, V> {
    /// A value that finds no seat.
    pub(crate) fn never_held(hash: u64, key: K, slot: Slot<V>) -> Self {
        let identity = Identity { seat: u32::MAX, edition: 0 };
        Self { stored: Stored { hash, identity, key }, slot, cause: None }
    }

    /// Gives the cause, which is another if the entry has expired at `latest`.
    pub(crate) fn because(&mut self, cause: RemovalCause, latest: Moment) {
        self.cause = Some(if self.slot.expired(latest) { RemovalCause::Expired } else { cause });
    }
}

impl<K, V> From<(Stored<K>, Slot<V>)> for Departure<K, V> {
    fn from((stored, slot): (Stored<K>, Slot<V>)) -> Self {
        Self { stored, slot, cause: None }
    }
}

/// What one operation takes out: mostly nothing, or one or two. An engine adds to it without giving causes.
pub(crate) type Departures<K, V> = SmallVec<[Departure<K, V>; 2]>;

/// A way to find an entry.
pub(crate) trait Probe<K>: Hash + Equivalent<Stored<K>> {
    /// The hash of the entry looked for.
    fn code(&self) -> u64;
}

/// Finds an entry by the caller's key. The index has compared a part of the hash, so keys differ seldom: comparing
/// the whole hash too would cost a hit more than it saves.
pub(crate) struct ByKey<'a, Q: ?Sized> {
    pub(crate) hash: u64,
    pub(crate) key: &'a Q,
}

impl<Q: ?Sized> Hash for ByKey<'_, Q> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<K, Q: Equivalent<K> + ?Sized> Equivalent<Stored<K>> for ByKey<'_, Q> {
    #[inline]
    fn equivalent(&self, stored: &Stored<K>) -> bool {
        self.key.equivalent(&stored.key)
    }
}

impl<K, Q: Equivalent<K> + ?Sized> Probe<K> for ByKey<'_, Q> {
    #[inline]
    fn code(&self) -> u64 {
        self.hash
    }
}

/// Finds an entry by its seat. Runs no code of the caller.
pub(crate) struct BySeat {
    pub(crate) hash: u64,
    pub(crate) seat: u32,
}

impl Hash for BySeat {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<K> Equivalent<Stored<K>> for BySeat {
    fn equivalent(&self, stored: &Stored<K>) -> bool {
        self.hash == stored.hash && self.seat == stored.identity.seat
    }
}

impl<K> Probe<K> for BySeat {
    fn code(&self) -> u64 {
        self.hash
    }
}

/// The entries of one shard, under one of the policies.
pub(crate) enum Engine<K, V> {
    Default(ClockPro<K, V>),
    Lru(Lru<K, V>),
}

macro_rules! either {
    ($self:expr, $engine:ident => $do:expr) => {
        match $self {
            Self::Default($engine) => $do,
            Self::Lru($engine) => $do,
        }
    };
}

impl<K, V> Engine<K, V> {
    pub(crate) fn new(policy: Policy, bounds: Bounds) -> Self {
        match policy {
            Policy::Default => Self::Default(ClockPro::new(bounds)),
            Policy::Lru => Self::Lru(Lru::new(bounds)),
        }
    }

    /// Finds an entry and counts the access, if the policy can do so under a shared lock; LRU cannot.
    #[inline]
    pub(crate) fn get<P: Probe<K>>(&self, probe: &P) -> Option<&Slot<V>> {
        match self {
            Self::Default(engine) => engine.get(probe),
            Self::Lru(engine) => engine.peek(probe),
        }
    }

    /// Finds an entry and counts the access.
    pub(crate) fn touch<P: Probe<K>>(&mut self, probe: &P) -> Option<&Slot<V>> {
        match self {
            Self::Default(engine) => engine.get(probe),
            Self::Lru(engine) => engine.touch(probe),
        }
    }

    /// Finds an entry without counting the access.
    pub(crate) fn peek<P: Probe<K>>(&self, probe: &P) -> Option<&Slot<V>> {
        either!(self, engine => engine.peek(probe))
    }

    /// Shows an entry, key and value.
    pub(crate) fn visit<P: Probe<K>, R>(
        &self,
        probe: &P,
        show: impl FnOnce(&Stored<K>, &Slot<V>) -> R,
    ) -> Option<R> {
        either!(self, engine => engine.visit(probe, show))
    }

    /// Puts an entry in. Whatever leaves for it is added to `out`: the old value of the same seat, what was
    /// evicted, and the new value itself if it does not fit.
    pub(crate) fn insert(&mut self, stored: Stored<K>, slot: Slot<V>, out: &mut Departures<K, V>) {
        either!(self, engine => engine.insert(stored, slot, out));
    }

    /// Takes an entry out.
    pub(crate) fn remove<P: Probe<K>>(&mut self, probe: &P) -> Option<Departure<K, V>> {
        either!(self, engine => engine.remove(probe))
    }

    /// Whether an insert of a value of `bytes`, in place of one of `old` bytes if there is one, evicts another entry.
    pub(crate) fn must_evict(&self, bytes: u64, old: Option<u64>) -> bool {
        either!(self, engine => engine.must_evict(bytes, old))
    }

    pub(crate) fn len(&self) -> usize {
        either!(self, engine => engine.len())
    }

    /// Changes the bounds. What no longer fits is added to `out`.
    pub(crate) fn resize(&mut self, bounds: Bounds, out: &mut Departures<K, V>) {
        either!(self, engine => engine.resize(bounds, out));
    }

    /// Hands out all entries, in no order.
    pub(crate) fn into_each(self, each: impl FnMut(Departure<K, V>)) {
        either!(self, engine => engine.into_each(each));
    }
}

#[cfg(any(test, feature = "validate"))]
impl<K, V> Engine<K, V> {
    /// Recounts the engine's own structures, showing each entry.
    pub(crate) fn validate(&self, bounds: Bounds, see: impl FnMut(&Stored<K>, &Slot<V>)) {
        either!(self, engine => engine.validate(bounds, see));
    }
}
