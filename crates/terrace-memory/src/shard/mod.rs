//! One shard: entries, order, deadlines and weights that change together, under one lock.
//!
//! 1. Whenever the lock is free, each entry is in the index, in one list of the policy, in the timers if it has a deadline,
//!    and in the sum of weights, once each.
//! 2. Both bounds hold after every operation, and during it: room is made before an entry is added.
//! 3. A live entry is not evicted while the shard knows of an expired one. Of entries that expired within the last
//!    granule of [`timers`] it may overlook some.
//! 4. Nothing of the caller's is dropped here, and none of the caller's code runs while a shard is half changed: what
//!    leaves is handed out as [`Departures`].
//!
//! Deliberately absent: the clock, counters, the listener.

mod ghost;
mod list;
mod lru;
mod order;
mod s3fifo;
mod timers;
mod weights;

use crate::bounds::{Bound, Bounds};
use crate::builder::Policy;
use crate::deadline::{Deadline, Timekeeper, Watch};
use crate::dials::Dials;
use crate::listener::RemovalCause;
use crate::raw::{Aftermath, Contents, Entry, Guard, Id, Record, Replacement, Shelf, Writer};
use order::Order;
use smallvec::SmallVec;
use timers::Timers;
use weights::Weights;

/// How many live entries an insert looks at while it searches for an expired one.
const PATIENCE_INSERTING: usize = 8;
/// How many live entries background expiry looks at while it searches for an expired one.
const PATIENCE_EXPIRING: usize = 64;

/// One shard: lock-free to read, locked to write.
pub(crate) type Shard<K, V> = Shelf<K, V, State>;

/// What a shard knows besides its entries.
#[derive(Debug)]
pub(crate) struct State {
    bounds: Bounds,
    order: Order,
    timers: Timers,
    weights: Weights,
}

/// An empty shard.
pub(crate) fn empty<K, V>(policy: Policy, bounds: Bounds, dials: Dials) -> Shard<K, V> {
    let order = Order::new(policy, dials);
    Shelf::new(
        bounds.entries_expected(),
        bounds.entries != 0,
        State { bounds, order, timers: Timers::new(), weights: Weights::new() },
    )
}

/// What is to be inserted.
pub(crate) struct Newcomer<K, V> {
    pub(crate) hash: u32,
    pub(crate) weight: u64,
    pub(crate) deadline: Deadline,
    pub(crate) contents: Contents<K, V>,
}

/// An entry on its way out.
pub(crate) struct Departure<'g, K, V> {
    pub(crate) entry: Entry<'g, K, V>,
    pub(crate) cause: RemovalCause,
}

/// What one operation takes out: mostly nothing, or one or two.
pub(crate) type Departures<'g, K, V> = SmallVec<[Departure<'g, K, V>; 2]>;

/// A locked shard, and what leaves it.
pub(crate) struct Locked<'g, K, V> {
    writer: Writer<'g, K, V, State>,
    guard: &'g Guard,
    watch: Watch<'g>,
    out: Departures<'g, K, V>,
}

impl<'g, K, V> Locked<'g, K, V> {
    /// Locks a shard.
    pub(crate) fn new(shard: &'g Shard<K, V>, guard: &'g Guard, timekeeper: &'g Timekeeper) -> Self {
        let watch = Watch::new(timekeeper);
        Self { writer: shard.lock(), guard, watch, out: Departures::new() }
    }

    /// Unlocks, and hands out what left and what remains to be done.
    pub(crate) fn unlock(self) -> (Departures<'g, K, V>, Aftermath<K, V>) {
        let Self { writer, out, .. } = self;
        (out, writer.unlock())
    }

    pub(crate) fn len(&self) -> usize {
        self.writer.len()
    }

    pub(crate) fn weight(&self) -> u128 {
        self.writer.policy().weights.total()
    }

    pub(crate) fn held_back(&self) -> usize {
        self.writer.held_back()
    }

    /// Finds an entry, expired or not.
    pub(crate) fn find(&self, hash: u32, is_it: impl FnMut(&K) -> bool) -> Option<Id> {
        self.writer.find(hash, is_it)
    }

    pub(crate) fn entry(&self, id: Id) -> Entry<'g, K, V> {
        self.writer.entry(id, self.guard)
    }

    pub(crate) fn has_expired(&self, id: Id) -> bool {
        self.watch.has_passed(self.entry(id).deadline())
    }

    /// Notes that an entry was used, if the policy keeps an order of use.
    pub(crate) fn touch(&mut self, id: Id) {
        let (state, slots) = self.writer.parts();
        let node = slots.node(id);
        state.order.touch(slots, node, state.weights.of(node));
    }

    /// Begins to fetch what the next eviction will need.
    #[inline]
    pub(crate) fn prefetch_eviction(&self) {
        let State { bounds, order, weights, .. } = self.writer.policy();
        if bounds.pressed(self.writer.len() + 1, weights.total()).is_some()
            && let Some(id) = order.next_victim()
        {
            self.writer.prefetch_removal(id);
        }
    }

    /// Stores a value in place of `present`. If it is not admitted, it comes back, and the key has no value now.
    pub(crate) fn insert(
        &mut self,
        new: Newcomer<K, V>,
        mut present: Option<Id>,
        dials: Dials,
    ) -> Result<(), Contents<K, V>> {
        if !self.writer.policy().bounds.admit(new.weight) {
            if let Some(old) = present {
                self.take(old, RemovalCause::Replaced);
            }
            return Err(new.contents);
        }
        if let Some(old) = present.take_if(|old| self.has_expired(*old)) {
            self.take(old, RemovalCause::Expired);
        }
        if let Some(old) = present
            && self.make_room_in_place_of(old, new.weight, dials)
        {
            return self.overwrite(old, new);
        }
        self.make_room(new.weight, dials);
        self.add(new)
    }

    fn add(&mut self, new: Newcomer<K, V>) -> Result<(), Contents<K, V>> {
        let Newcomer { hash, weight, deadline, contents } = new;
        let record = Record { hash, weight: Weights::recorded(weight), deadline };
        let id = self.writer.insert(record, contents)?;
        let (state, slots) = self.writer.parts();
        state.weights.add(id, weight);
        state.timers.set(id, deadline);
        state.order.admit(slots, slots.node(id), weight);
        Ok(())
    }

    fn overwrite(&mut self, old: Id, new: Newcomer<K, V>) -> Result<(), Contents<K, V>> {
        let Newcomer { hash, weight, deadline, contents } = new;
        let record = Record { hash, weight: Weights::recorded(weight), deadline };
        let Replacement { id, entry, replaced } = match self.writer.replace(old, record, contents, self.guard)
        {
            Ok(replaced) => replaced,
            Err(contents) => {
                self.take(old, RemovalCause::Replaced);
                return Err(contents);
            }
        };
        let (state, slots) = self.writer.parts();
        let (old, new) = (slots.node(replaced.id()), slots.node(id));
        let old_weight = state.weights.of(old);
        state.weights.remove(old, old_weight);
        state.weights.add(id, weight);
        state.timers.unset(old.id, entry.deadline());
        state.timers.set(id, deadline);
        state.order.substitute(slots, (old, old_weight), (new, weight));
        self.writer.retire(replaced);
        self.out.push(Departure { entry, cause: RemovalCause::Replaced });
        Ok(())
    }

    /// Lets others leave until a value of this weight fits in place of `old`. Returns whether `old` is still there: it may be
    /// the one whose turn it is.
    fn make_room_in_place_of(&mut self, old: Id, weight: u64, dials: Dials) -> bool {
        loop {
            let state = self.writer.policy();
            let freed = u128::from(state.weights.of(self.writer.slots().node(old)));
            let Some(pressed) = state.bounds.pressed(0, state.weights.total() - freed + u128::from(weight))
            else {
                return true;
            };
            match self.let_one_leave(pressed, dials, RemovalCause::Replaced, Some(old)) {
                Some(id) if id != old => {}
                _ => return false,
            }
        }
    }

    /// Lets expired entries leave, then live ones, until there is room for one more of this weight.
    fn make_room(&mut self, weight: u64, dials: Dials) {
        loop {
            let state = self.writer.policy();
            let total = state.weights.total() + u128::from(weight);
            let Some(pressed) = state.bounds.pressed(self.writer.len() + 1, total) else { return };
            if self.let_one_leave(pressed, dials, RemovalCause::Capacity, None).is_none() {
                return;
            }
        }
    }

    /// Lets one entry leave: one that has expired, or whose turn it is. If that is `special`, it leaves for `its_cause`.
    fn let_one_leave(
        &mut self,
        pressed: Bound,
        dials: Dials,
        its_cause: RemovalCause,
        special: Option<Id>,
    ) -> Option<Id> {
        let (State { bounds, order, weights, timers }, slots) = self.writer.parts();
        let deadline_of = |id| slots.at(id).deadline();
        if let Some(id) = timers.due(&self.watch, PATIENCE_INSERTING, deadline_of) {
            self.take(id, RemovalCause::Expired);
            return Some(id);
        }
        order.set_dials(dials);
        let (node, weight) = order.evict(slots, weights, *bounds, pressed, &self.watch)?;
        let id = node.id;
        timers.unset(id, node.slot.deadline());
        weights.remove(node, weight);
        self.part(id, if special == Some(id) { its_cause } else { RemovalCause::Capacity });
        Some(id)
    }

    /// Takes an entry out. The cause is another if it has expired.
    pub(crate) fn take(&mut self, id: Id, cause: RemovalCause) {
        let (State { order, weights, timers, .. }, slots) = self.writer.parts();
        let node = slots.node(id);
        let weight = weights.of(node);
        order.release(slots, node, weight);
        timers.unset(id, node.slot.deadline());
        weights.remove(node, weight);
        self.part(id, cause);
    }

    /// Takes out an entry that everything else has let go of.
    fn part(&mut self, id: Id, cause: RemovalCause) {
        let entry = self.writer.remove(id, self.guard);
        let cause = if self.watch.has_passed(entry.deadline()) { RemovalCause::Expired } else { cause };
        self.out.push(Departure { entry, cause });
    }

    /// Whether background expiry has something to do here.
    pub(crate) fn due(&self) -> Option<Id> {
        let slots = self.writer.slots();
        self.writer.policy().timers.due(&self.watch, PATIENCE_EXPIRING, |id| slots.at(id).deadline())
    }

    /// Takes out up to `limit` expired entries. Returns how many.
    pub(crate) fn expire(&mut self, limit: usize) -> usize {
        let mut removed = 0;
        while removed < limit
            && let Some(id) = self.due()
        {
            self.take(id, RemovalCause::Expired);
            removed += 1;
        }
        removed
    }

    /// Lets what was taken out wait for its readers from now on, however little it is.
    pub(crate) fn seal(&mut self) {
        self.writer.seal();
    }

    /// Drops up to `limit` entries that were taken out and have no readers any more. Returns whether there may be more.
    pub(crate) fn reclaim(&mut self, limit: usize) -> bool {
        self.writer.reclaim_some(limit) == limit
    }

    /// One past the highest number of an entry: the end of a walk.
    pub(crate) fn end(&self) -> Id {
        self.writer.slots().end()
    }

    /// Whether a number is an entry's now.
    pub(crate) fn has(&self, id: Id) -> bool {
        self.writer.slots().is_live(id)
    }

    /// Evicts up to `limit` entries that are too many for other bounds, and takes these over as far as they hold then. Returns
    /// whether there may be more to evict.
    pub(crate) fn approach(&mut self, bounds: Bounds, limit: usize, dials: Dials) -> bool {
        let mut more = true;
        for _ in 0..limit {
            let Some(pressed) = bounds.pressed(self.writer.len(), self.weight()) else {
                more = false;
                break;
            };
            self.let_one_leave(pressed, dials, RemovalCause::Capacity, None);
        }
        let held = bounds.or_held(self.writer.len(), self.weight());
        self.writer.parts().0.bounds = held;
        more
    }
}

#[cfg(any(test, feature = "validate"))]
impl<K, V> Locked<'_, K, V> {
    /// Recounts everything in this shard. `find` looks an entry up as a reader does.
    pub(crate) fn validate(&self, bounds: Bounds, must_fit: bool, find: impl Fn(&K) -> bool) {
        let state = self.writer.policy();
        let slots = self.writer.slots();
        assert!(!must_fit || state.bounds == bounds, "the shard has its share of the bounds");
        let (mut count, mut weight, mut timed) = (0, 0, 0);
        state.order.validate(slots, |id| {
            assert!(find(self.entry(id).key()), "entry {id} is in the index");
            count += 1;
            timed += usize::from(slots.at(id).deadline() != Deadline::NEVER);
            let own = state.weights.of(slots.node(id));
            weight += u128::from(own);
            own
        });
        assert_eq!(count, self.len(), "every entry is in one list");
        assert_eq!(
            (0..self.end()).filter(|id| self.has(*id)).count(),
            count,
            "every live slot is an entry's"
        );
        assert_eq!(weight, state.weights.total(), "the weights add up");
        let timers = state.timers.validate(|id| {
            assert!(slots.is_live(id), "entry {id} is timed and live");
            slots.at(id).deadline()
        });
        assert_eq!(timers, timed, "every deadline is listed once");
        assert!(!must_fit || bounds.pressed(count, weight).is_none(), "the bounds hold");
    }
}
