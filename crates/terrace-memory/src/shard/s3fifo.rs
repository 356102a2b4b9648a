//! Who leaves? S3-FIFO: two queues, a ghost, and no work on a hit but counting it.
//!
//! A newcomer enters the small queue. When it comes to the front there, it moves to the main queue if it was hit often
//! enough, else it is evicted and its ghost remembered: should it come back soon, it enters the main queue at once. At
//! the front of the main queue an entry with hits goes to the back, one hit poorer, and one without is evicted.
//!
//! 1. A scan fills the small queue only, so it cannot flush what is in use.
//! 2. What has expired is evicted when it comes to a front, whatever its hits, and leaves no ghost.
//! 3. An eviction gives at most [`PATIENCE`] second chances; then the next entry leaves, hits or not. So the time
//!    that one eviction takes is bounded.
//! 4. Where weights bound the cache, a heavy entry needs more hits to stay: one more for each doubling over the mean, at
//!    most two.
//!
//! How large the small queue is, how long ghosts are remembered and how many hits it takes are the [`Dials`].
//!
//! Source: Yang et al., "FIFO queues are all you need for cache eviction" (SOSP 2023).

use super::ghost::Ghost;
use super::list::List;
use super::weights::Weights;
use crate::bounds::{Bound, Bounds};
use crate::deadline::Watch;
use crate::dials::Dials;
use crate::raw::{HITS_MAX, Id, Node, Slots};

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
    pub(super) fn admit<K, V>(&mut self, slots: Slots<'_, K, V>, node: Node<'_, K, V>, weight: u64) {
        let queue = if self.ghost.recall(node.slot.hash()) { MAIN } else { SMALL };
        node.slot.set_mark(queue);
        self.queue(queue).push_back(slots, node, weight);
    }

    /// Lets go of an entry that leaves for a reason of its own.
    pub(super) fn release<K, V>(&mut self, slots: Slots<'_, K, V>, node: Node<'_, K, V>, weight: u64) {
        self.queue(node.slot.mark()).unlink(slots, node, weight);
    }

    /// Puts a new value's slot in the place of the old one's. It inherits the hits.
    pub(super) fn substitute<K, V>(
        &mut self,
        slots: Slots<'_, K, V>,
        old: (Node<'_, K, V>, u64),
        new: (Node<'_, K, V>, u64),
    ) {
        let queue = old.0.slot.mark();
        new.0.slot.set_mark(queue);
        new.0.slot.set_hits(old.0.slot.hits());
        self.queue(queue).substitute(slots, old, new);
    }

    /// Who is likely to leave next.
    pub(super) fn next_victim(&self) -> Option<Id> {
        self.small.front().or_else(|| self.main.front())
    }

    /// Chooses who leaves, and lets go of it.
    pub(super) fn evict<'a, K, V>(
        &mut self,
        slots: Slots<'a, K, V>,
        weights: &Weights,
        bounds: Bounds,
        pressed: Bound,
        watch: &Watch<'_>,
    ) -> Option<(Node<'a, K, V>, u64)> {
        for chance in 0.. {
            let from_small = self.small_is_full(bounds, pressed);
            let queue = if from_small { &mut self.small } else { &mut self.main };
            let node = slots.node(queue.front()?);
            let weight = weights.of(node);
            queue.unlink(slots, node, weight);
            let has_expired = watch.has_passed(node.slot.deadline());
            let (hits, price) = (node.slot.hits(), self.price(from_small, bounds, weight));
            if hits >= price && chance < PATIENCE && !has_expired {
                node.slot.set_hits(if from_small { 0 } else { hits - price });
                node.slot.set_mark(MAIN);
                self.main.push_back(slots, node, weight);
                continue;
            }
            if from_small && !has_expired {
                self.ghost.remember(node.slot.hash(), self.small.len() + self.main.len());
            }
            return Some((node, weight));
        }
        None
    }

    /// How many hits it takes to stay, at the front of a queue.
    #[inline]
    fn price(&self, from_small: bool, bounds: Bounds, weight: u64) -> u8 {
        let base = if from_small { self.dials.promote_hits } else { 1 };
        if bounds.bytes == 0 { base } else { (base + self.extra_hits(weight)).min(HITS_MAX) }
    }

    /// Whether the next to leave comes from the small queue.
    fn small_is_full(&self, bounds: Bounds, pressed: Bound) -> bool {
        if self.small.len() == 0 || self.main.len() == 0 {
            return self.main.len() == 0;
        }
        let percent = u128::from(self.dials.small_percent);
        match pressed {
            Bound::Entries => {
                let most =
                    if bounds.entries == 0 { u128::from(bounds.bytes) } else { bounds.entries as u128 };
                self.small.len() as u128 * 100 >= percent * most
            }
            Bound::Bytes => self.small.weight() * 100 >= percent * u128::from(bounds.bytes),
        }
    }

    /// How many hits an entry of this weight needs more than others. It was just unlinked.
    fn extra_hits(&self, weight: u64) -> u8 {
        let others = (self.small.weight() + self.main.weight(), self.small.len() + self.main.len());
        let (total, count) = (others.0 + u128::from(weight), others.1 as u128 + 1);
        let times = u128::from(weight) * count / total.max(1);
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
