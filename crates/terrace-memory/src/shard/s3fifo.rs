//! Who leaves? S3-FIFO: two queues, a ghost, and no work on a hit but counting it.
//!
//! A newcomer enters the small queue. When it comes to the front there, it moves to the main queue if it was hit often
//! enough, else it is evicted and its ghost remembered: should it come back soon, it enters the main queue at once. At
//! the front of the main queue an entry with hits goes to the back, one hit poorer, and one without is evicted.
//!
//! 1. A scan fills the small queue only, so it cannot flush what is in use.
//! 2. What has expired is evicted when it comes to a front, whatever its hits, and leaves no ghost.
//! 3. An eviction gives at most [`PATIENCE`] second chances; then the next entry leaves, hits or not. So the time under the
//!    lock is bounded.
//! 4. Where weights bound the cache, a heavy entry needs more hits to stay: one more for each doubling over the mean, at
//!    most two.
//!
//! How large the small queue is, how long ghosts are remembered and how many hits it takes are the [`Dials`].
//!
//! Source: Yang et al., "FIFO queues are all you need for cache eviction" (SOSP 2023).

use super::ghost::Ghost;
use super::list::List;
use crate::bounds::{Bound, Bounds};
use crate::dials::Dials;
use crate::raw::{Id, Slots};
use terrace_core::Moment;

/// Most second chances in one eviction.
const PATIENCE: usize = 256;
/// Most hits that a heavy entry needs more than others.
const HEAVY_HITS_MAX: u32 = 2;

/// In which queue an entry is: the mark of its slot.
const SMALL: u8 = 0;
const MAIN: u8 = 1;

/// The queues of one shard.
#[derive(Debug)]
pub(super) struct S3Fifo {
    small: List,
    main: List,
    ghost: Ghost,
    dials: Dials,
}

impl S3Fifo {
    pub(super) const fn new(dials: Dials) -> Self {
        Self { small: List::new(), main: List::new(), ghost: Ghost::new(dials.ghost_ways), dials }
    }

    /// Takes over other dials.
    pub(super) fn set_dials(&mut self, dials: Dials) {
        if dials != self.dials {
            self.ghost.set_ways(dials.ghost_ways);
            self.dials = dials;
        }
    }

    /// Takes in a new entry.
    pub(super) fn admit<K, V>(&mut self, slots: Slots<'_, K, V>, id: Id, weight: u64) {
        let queue = if self.ghost.recall(slots.at(id).hash()) { MAIN } else { SMALL };
        slots.at(id).set_mark(queue);
        self.queue(queue).push_back(slots, id, weight);
    }

    /// Lets go of an entry that leaves for a reason of its own.
    pub(super) fn release<K, V>(&mut self, slots: Slots<'_, K, V>, id: Id, weight: u64) {
        self.queue(slots.at(id).mark()).unlink(slots, id, weight);
    }

    /// Puts a new value's slot in the place of the old one's. It inherits the hits.
    pub(super) fn substitute<K, V>(&mut self, slots: Slots<'_, K, V>, old: (Id, u64), new: (Id, u64)) {
        let queue = slots.at(old.0).mark();
        slots.at(new.0).set_mark(queue);
        slots.at(new.0).set_hits(slots.at(old.0).hits());
        self.queue(queue).substitute(slots, old, new);
    }

    /// Chooses who leaves, and lets go of it. `weight_of` gives an entry's weight.
    pub(super) fn evict<K, V>(
        &mut self,
        slots: Slots<'_, K, V>,
        bounds: Bounds,
        pressed: Bound,
        latest: Moment,
        weight_of: impl Fn(Id) -> u64,
    ) -> Option<Id> {
        for chance in 0.. {
            let from_small = self.small_is_full(bounds, pressed);
            let id = if from_small { self.small.front() } else { self.main.front() }?;
            let (slot, weight) = (slots.at(id), weight_of(id));
            let extra = self.extra_hits(bounds, weight);
            let price = if from_small { self.dials.promote_hits } else { 1 } + extra;
            let stays = slot.hits() >= price && chance < PATIENCE && !slot.deadline().has_passed(latest);
            self.queue(slot.mark()).unlink(slots, id, weight);
            if stays {
                slot.set_hits(if from_small { 0 } else { slot.hits().saturating_sub(price) });
                slot.set_mark(MAIN);
                self.main.push_back(slots, id, weight);
                continue;
            }
            if from_small && !slot.deadline().has_passed(latest) {
                self.ghost.remember(slot.hash(), self.small.len() + self.main.len());
            }
            return Some(id);
        }
        None
    }

    /// Whether the next to leave comes from the small queue.
    fn small_is_full(&self, bounds: Bounds, pressed: Bound) -> bool {
        if self.small.len() == 0 || self.main.len() == 0 {
            return self.main.len() == 0;
        }
        let percent = u128::from(self.dials.small_percent);
        match pressed {
            Bound::Entries => self.small.len() as u128 * 100 >= percent * bounds.entries as u128,
            Bound::Bytes => self.small.weight() * 100 >= percent * u128::from(bounds.bytes),
        }
    }

    fn extra_hits(&self, bounds: Bounds, weight: u64) -> u8 {
        if bounds.bytes == 0 {
            return 0;
        }
        let len = (self.small.len() + self.main.len()).max(1) as u128;
        let mean = ((self.small.weight() + self.main.weight()) / len).max(1);
        let times = u128::from(weight) / mean;
        times.checked_ilog2().map_or(0, |doublings| doublings.min(HEAVY_HITS_MAX) as u8)
    }

    const fn queue(&mut self, queue: u8) -> &mut List {
        if queue == MAIN { &mut self.main } else { &mut self.small }
    }
}

#[cfg(any(test, feature = "validate"))]
impl S3Fifo {
    pub(super) fn validate<K, V>(&self, slots: Slots<'_, K, V>, mut see: impl FnMut(Id) -> u64) {
        for (queue, list) in [(SMALL, &self.small), (MAIN, &self.main)] {
            list.validate(slots, |id| {
                assert_eq!(slots.at(id).mark(), queue, "slot {id} knows its queue");
                see(id)
            });
        }
    }
}
