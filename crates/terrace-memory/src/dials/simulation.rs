//! One small S3-FIFO cache of keys: nothing is stored but who would be there.
//!
//! 1. Never more than `capacity` keys are resident; `small` and `main` hold exactly those, oldest first.
//! 2. A key has one [`Place`]: resident, or one of the last keys that left small without having earned main, or
//!    nowhere. Ghosts beyond `ghost_len` are known but do not count, so that the dials can be turned.
//! 3. Places are found by the numbers that [`Keys`] gives, and `Keys` is told of every key that comes or goes.
//! 4. An access takes about two steps on average, for every step either makes room or uses up a hit; at most four
//!    per resident. A step is a few loads and stores: nothing is searched.
//!
//! The rules are those of the cache's own queues. A newcomer enters small, or main if it is a ghost. Small gives when
//! it is at its share or main is empty, and main otherwise. What small gives goes to main with `promote_hits` hits
//! or more, its hits forgotten, and else becomes a ghost. What main gives returns to its end for one of its hits, and
//! leaves with none. Hits are counted up to three.
//!
//! Deliberately absent: hashes, values, weights, removal, expiry.

use super::Dials;
use super::keys::Keys;
use std::collections::VecDeque;

/// Hits are counted up to here, as the entries of the cache do.
const HITS_MAX: u16 = 3;

/// Where a key is, in 16 bits: the queue in the low two, then its hits or, of a ghost, its position in the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place(u16);

impl Place {
    const NOWHERE: Self = Self(0);
    const SMALL: Self = Self(1);
    const MAIN: Self = Self(2);
    const GHOST: u16 = 3;
    const QUEUE: u16 = 3;
    const ONE: u16 = 4;

    #[expect(
        clippy::cast_possible_truncation,
        reason = "ghosts are fewer than `Keys::MAX`, which is below 2^14"
    )]
    const fn ghost(position: usize) -> Self {
        Self(Self::GHOST | (position as u16 * Self::ONE))
    }

    const fn number(self) -> u16 {
        self.0 / Self::ONE
    }

    const fn is_resident(self) -> bool {
        matches!(self.0 & Self::QUEUE, 1 | 2)
    }

    const fn is_ghost(self) -> bool {
        self.0 & Self::QUEUE == Self::GHOST
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Simulation {
    capacity: usize,
    small_max: usize,
    ghost_len: usize,
    promote_hits: u16,
    places: Box<[Place]>,
    small: VecDeque<u16>,
    main: VecDeque<u16>,
    /// The keys that left small unearned; the oldest is overwritten. Some have returned since.
    ghosts: Box<[u16]>,
    ghost_next: usize,
}

impl Simulation {
    /// The most keys that a simulation knows.
    pub(super) const fn known_max(capacity: usize, ghost_ways_max: u8) -> usize {
        capacity + ghost_len(capacity, ghost_ways_max)
    }

    /// A cache of so many of the keys. Dials with more ghosts than the maximum have the maximum.
    pub(super) fn new(capacity: usize, dials: Dials, ghost_ways_max: u8, keys: &Keys) -> Self {
        let mut simulation = Self {
            capacity,
            small_max: 0,
            ghost_len: 0,
            promote_hits: 0,
            places: vec![Place::NOWHERE; keys.max()].into_boxed_slice(),
            small: VecDeque::with_capacity(capacity),
            main: VecDeque::with_capacity(capacity),
            ghosts: vec![0; ghost_len(capacity, ghost_ways_max)].into_boxed_slice(),
            ghost_next: 0,
        };
        simulation.turn(dials);
        simulation
    }

    /// Takes other dials and keeps its keys.
    pub(super) fn turn(&mut self, dials: Dials) {
        self.small_max = (self.capacity * usize::from(dials.small_percent) / 100).max(1);
        self.ghost_len = ghost_len(self.capacity, dials.ghost_ways).min(self.ghosts.len());
        self.promote_hits = u16::from(dials.promote_hits);
    }

    /// Accesses in order, 64 at most. A bit for each, the lowest first, set if it hit.
    pub(super) fn run(&mut self, batch: &[u16], keys: &mut Keys) -> u64 {
        let bits = batch.iter().zip(0..u64::BITS);
        bits.fold(0, |hits, (&key, bit)| hits | u64::from(self.access(key, keys)) << bit)
    }

    /// A read and, on a miss, an insertion. True if it hit.
    #[inline]
    pub(super) fn access(&mut self, key: u16, keys: &mut Keys) -> bool {
        let place = self.places[usize::from(key)];
        if place.is_resident() {
            let bump = if place.number() < HITS_MAX { Place::ONE } else { 0 };
            self.places[usize::from(key)] = Place(place.0 + bump);
            return true;
        }
        if !place.is_ghost() {
            keys.hold(key);
        }
        let recalled = place.is_ghost() && self.age(usize::from(place.number())) <= self.ghost_len;
        self.places[usize::from(key)] = if recalled { Place::MAIN } else { Place::SMALL };
        while self.small.len() + self.main.len() >= self.capacity {
            self.make_room(keys);
        }
        if recalled {
            self.main.push_back(key);
        } else {
            self.small.push_back(key);
        }
        false
    }

    /// One for the youngest ghost, and so on.
    const fn age(&self, position: usize) -> usize {
        let len = self.ghosts.len();
        if position < self.ghost_next { self.ghost_next - position } else { self.ghost_next + len - position }
    }

    fn make_room(&mut self, keys: &mut Keys) {
        if self.small.len() >= self.small_max || self.main.is_empty() {
            if let Some(key) = self.small.pop_front() {
                self.leave_small(key, keys);
            }
        } else if let Some(key) = self.main.pop_front() {
            self.leave_main(key, keys);
        }
    }

    fn leave_small(&mut self, key: u16, keys: &mut Keys) {
        if self.places[usize::from(key)].number() >= self.promote_hits {
            self.places[usize::from(key)] = Place::MAIN;
            self.main.push_back(key);
            return;
        }
        let ghost = Place::ghost(self.ghost_next);
        self.places[usize::from(key)] = ghost;
        let oldest = std::mem::replace(&mut self.ghosts[self.ghost_next], key);
        self.ghost_next = if self.ghost_next + 1 == self.ghosts.len() { 0 } else { self.ghost_next + 1 };
        if oldest != key && self.places[usize::from(oldest)] == ghost {
            self.places[usize::from(oldest)] = Place::NOWHERE;
            keys.release(oldest);
        }
    }

    fn leave_main(&mut self, key: u16, keys: &mut Keys) {
        let place = self.places[usize::from(key)];
        if place.number() > 0 {
            self.places[usize::from(key)] = Place(place.0 - Place::ONE);
            self.main.push_back(key);
        } else {
            self.places[usize::from(key)] = Place::NOWHERE;
            keys.release(key);
        }
    }
}

/// The cache's ghost has a bucket of `ways` for every two entries.
const fn ghost_len(capacity: usize, ways: u8) -> usize {
    let len = capacity * ways as usize / 2;
    if len == 0 { 1 } else { len }
}
