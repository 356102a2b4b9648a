//! One shard: entries, seats and weights that change together, under one lock.
//!
//! 1. Engine, roster and sum of weights agree whenever the lock is free: each entry of the engine has one seat,
//!    with the same hash and deadline, and each taken seat one entry.
//! 2. A shard does not evict a live entry while it knows of an expired one: before an insert that would evict, expired
//!    entries leave, until there is room. Of entries that expired within the last granule of [`crate::roster`] it
//!    may overlook some.
//! 3. Nothing of the caller's is dropped here, and none of the caller's code runs while a shard is half changed:
//!    what leaves is handed out as [`Departures`].
//!
//! Deliberately absent: locks, the clock, counters.

use crate::bounds::Bounds;
use crate::builder::Policy;
use crate::engine::{ByKey, BySeat, Departure, Departures, Engine, Identity, Probe, Slot, Stored};
use crate::listener::RemovalCause;
use crate::roster::Roster;
use std::mem;
use std::ops::Range;
use terrace_core::Moment;

/// How many live entries an insert looks at while it searches for an expired one.
const PATIENCE_INSERTING: usize = 8;
/// How many live entries background expiry looks at while it searches for an expired one.
const PATIENCE_EXPIRING: usize = 64;

/// What is to be inserted.
pub(crate) struct Newcomer<K, V> {
    pub(crate) hash: u64,
    pub(crate) key: K,
    pub(crate) slot: Slot<V>,
}

impl<K, V> Newcomer<K, V> {
    /// Finds the entry that has the key already.
    pub(crate) const fn probe(&self) -> ByKey<'_, K> {
        ByKey { hash: self.hash, key: &self.key }
    }
}

/// The entry that has a newcomer's key already.
pub(crate) struct Present {
    identity: Identity,
    bytes: u64,
    expired: bool,
}

/// One shard.
pub(crate) struct Shard<K, V> {
    engine: Engine<K, V>,
    roster: Roster,
    bytes: u128,
}

impl<K: Eq, V> Shard<K, V> {
    pub(crate) fn new(policy: Policy, bounds: Bounds) -> Self {
        Self { engine: Engine::new(policy, bounds), roster: Roster::new(), bytes: 0 }
    }

    /// Finds an entry, expired or not, and counts the access if the policy can do so under a shared lock.
    #[inline]
    pub(crate) fn get<P: Probe<K>>(&self, probe: &P) -> Option<&Slot<V>> {
        self.engine.get(probe)
    }

    /// Finds an entry, expired or not, and counts the access.
    pub(crate) fn touch<P: Probe<K>>(&mut self, probe: &P) -> Option<&Slot<V>> {
        self.engine.touch(probe)
    }

    /// Finds an entry, expired or not, without counting the access.
    pub(crate) fn peek<P: Probe<K>>(&self, probe: &P) -> Option<&Slot<V>> {
        self.engine.peek(probe)
    }

    pub(crate) fn len(&self) -> usize {
        self.engine.len()
    }

    pub(crate) const fn bytes(&self) -> u128 {
        self.bytes
    }

    /// Looks for the entry that has a newcomer's key already.
    pub(crate) fn present(&self, new: &Newcomer<K, V>, latest: Moment) -> Option<Present> {
        self.engine.visit(&new.probe(), |stored, slot| Present {
            identity: stored.identity,
            bytes: slot.bytes,
            expired: slot.expired(latest),
        })
    }

    /// Stores a value in place of what is [`Shard::present`]. Returns whether it was admitted; if not, the key has no
    /// value now. Runs no code of the caller.
    pub(crate) fn insert(
        &mut self,
        new: Newcomer<K, V>,
        mut present: Option<Present>,
        latest: Moment,
        out: &mut Departures<K, V>,
    ) -> bool {
        let Newcomer { hash, key, slot } = new;
        if let Some(old) = present.take_if(|old| old.expired) {
            out.extend(self.take_seat(old.identity.seat, RemovalCause::Expired, latest));
        }
        self.make_room(slot.bytes, present.as_ref().map(|old| old.bytes), latest, out);
        let identity = match present {
            Some(old) => Some(old.identity.next()),
            None => self.roster.take(hash, slot.deadline).map(Identity::first),
        };
        let Some(identity) = identity else {
            out.push(Departure::never_held(hash, key, slot));
            return false;
        };
        self.roster.reschedule(identity.seat, slot.deadline);
        self.bytes += u128::from(slot.bytes);
        let before = out.len();
        self.engine.insert(Stored { hash, identity, key }, slot, out);
        self.account(&mut out[before..], identity, latest)
    }

    /// Accounts for what an insert pushed out. Returns whether the inserted value is not among it.
    fn account(&mut self, pushed_out: &mut [Departure<K, V>], inserted: Identity, latest: Moment) -> bool {
        let mut admitted = true;
        for departure in pushed_out {
            let identity = departure.stored.identity;
            if identity.seat != inserted.seat {
                self.part(departure, RemovalCause::Capacity, latest);
                continue;
            }
            self.bytes -= u128::from(departure.slot.bytes);
            if identity == inserted {
                admitted = false;
            } else {
                departure.because(RemovalCause::Replaced, latest);
            }
        }
        if !admitted {
            self.roster.release(inserted.seat);
        }
        admitted
    }

    /// Lets expired entries leave until `bytes` fit in place of `old` without an eviction, or none is left.
    fn make_room(&mut self, bytes: u64, old: Option<u64>, latest: Moment, out: &mut Departures<K, V>) {
        while self.engine.must_evict(bytes, old)
            && let Some(seat) = self.roster.due(latest, PATIENCE_INSERTING)
        {
            out.extend(self.take_seat(seat, RemovalCause::Expired, latest));
        }
    }

    /// Takes an entry out.
    pub(crate) fn take<P: Probe<K>>(
        &mut self,
        probe: &P,
        cause: RemovalCause,
        latest: Moment,
    ) -> Option<Departure<K, V>> {
        let mut departure = self.engine.remove(probe)?;
        self.part(&mut departure, cause, latest);
        Some(departure)
    }

    /// Takes the entry of a seat out.
    pub(crate) fn take_seat(
        &mut self,
        seat: u32,
        cause: RemovalCause,
        latest: Moment,
    ) -> Option<Departure<K, V>> {
        let hash = self.roster.hash(seat)?;
        let departure = self.take(&BySeat { hash, seat }, cause, latest);
        debug_assert!(departure.is_some(), "a taken seat has an entry");
        departure
    }

    /// Accounts for an entry that left the engine.
    fn part(&mut self, departure: &mut Departure<K, V>, cause: RemovalCause, latest: Moment) {
        departure.because(cause, latest);
        self.bytes -= u128::from(departure.slot.bytes);
        self.roster.release(departure.stored.identity.seat);
    }

    /// Whether background expiry has something to do here.
    pub(crate) fn is_due(&self, latest: Moment) -> bool {
        self.roster.due(latest, PATIENCE_EXPIRING).is_some()
    }

    /// Takes out up to `limit` expired entries.
    pub(crate) fn expire(&mut self, limit: usize, latest: Moment, out: &mut Departures<K, V>) {
        while out.len() < limit
            && let Some(seat) = self.roster.due(latest, PATIENCE_EXPIRING)
        {
            out.extend(self.take_seat(seat, RemovalCause::Expired, latest));
        }
    }

    /// How many seats there are: the end of a walk.
    pub(crate) fn seats(&self) -> u32 {
        self.roster.seats()
    }

    /// Shows the entries in a range of seats.
    pub(crate) fn walk(&self, range: Range<u32>, mut see: impl FnMut(u32, &K, &Slot<V>)) {
        for (seat, hash) in self.roster.taken_in(range) {
            self.engine.visit(&BySeat { hash, seat }, |stored, slot| see(seat, &stored.key, slot));
        }
    }

    /// Replaces everything by nothing, and hands the old shard out.
    pub(crate) fn swap_for_empty(&mut self, policy: Policy, bounds: Bounds) -> Self {
        mem::replace(self, Self::new(policy, bounds))
    }

    /// Hands out all entries.
    pub(crate) fn empty_into(self, cause: RemovalCause, latest: Moment, out: &mut Departures<K, V>) {
        out.reserve(self.len());
        self.engine.into_each(|mut departure| {
            departure.because(cause, latest);
            out.push(departure);
        });
    }

    /// Changes the bounds; what no longer fits leaves.
    pub(crate) fn resize(&mut self, bounds: Bounds, latest: Moment, out: &mut Departures<K, V>) {
        let before = out.len();
        self.engine.resize(bounds, out);
        for departure in &mut out[before..] {
            self.part(departure, RemovalCause::Capacity, latest);
        }
    }
}

#[cfg(any(test, feature = "validate"))]
impl<K: Eq, V> Shard<K, V> {
    /// Recounts everything in this shard.
    pub(crate) fn validate(&self, bounds: Bounds) {
        let mut bytes = 0;
        self.engine.validate(bounds, |stored, slot| {
            let seat = stored.identity.seat;
            assert_eq!(self.roster.hash(seat), Some(stored.hash), "seat {seat} knows its entry");
            assert_eq!(self.roster.deadline(seat), slot.deadline, "seat {seat} knows its deadline");
            bytes += u128::from(slot.bytes);
        });
        assert_eq!(bytes, self.bytes, "the weights add up");
        assert_eq!(self.roster.taken(), self.len(), "every entry has one seat");
        assert!(bounds.entries == 0 || self.len() <= bounds.entries, "the entries bound holds");
        assert!(bounds.bytes == 0 || bytes <= u128::from(bounds.bytes), "the bytes bound holds");
        self.roster.validate();
    }
}
