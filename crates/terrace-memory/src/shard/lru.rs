//! Who leaves? The least recently used.
//!
//! Each hit moves its entry to the back, under the shard's lock.

use super::list::List;
use super::weights::Weights;
use crate::raw::{Id, Node, Slots};

/// The order of one shard's entries, least recently used first.
#[derive(Debug)]
pub(super) struct Lru {
    order: List,
}

impl Lru {
    pub(super) const fn new() -> Self {
        Self { order: List::new() }
    }

    /// Takes in a new entry.
    pub(super) fn admit<K, V>(&mut self, slots: Slots<'_, K, V>, node: Node<'_, K, V>, weight: u64) {
        self.order.push_back(slots, node, weight);
    }

    /// Notes that an entry was used.
    pub(super) fn touch<K, V>(&mut self, slots: Slots<'_, K, V>, node: Node<'_, K, V>, weight: u64) {
        self.order.unlink(slots, node, weight);
        self.order.push_back(slots, node, weight);
    }

    /// Lets go of an entry.
    pub(super) fn release<K, V>(&mut self, slots: Slots<'_, K, V>, node: Node<'_, K, V>, weight: u64) {
        self.order.unlink(slots, node, weight);
    }

    /// Puts a new value's slot in the place of the old one's. To overwrite is to use.
    pub(super) fn substitute<K, V>(
        &mut self,
        slots: Slots<'_, K, V>,
        old: (Node<'_, K, V>, u64),
        new: (Node<'_, K, V>, u64),
    ) {
        self.order.unlink(slots, old.0, old.1);
        self.order.push_back(slots, new.0, new.1);
    }

    /// Who is likely to leave next.
    pub(super) fn next_victim(&self) -> Option<Id> {
        self.order.front()
    }

    /// Chooses who leaves, and lets go of it.
    pub(super) fn evict<'a, K, V>(
        &mut self,
        slots: Slots<'a, K, V>,
        weights: &Weights,
    ) -> Option<(Node<'a, K, V>, u64)> {
        let node = slots.node(self.order.front()?);
        let weight = weights.of(node);
        self.order.unlink(slots, node, weight);
        Some((node, weight))
    }
}

#[cfg(any(test, feature = "validate"))]
impl Lru {
    pub(super) fn validate<K, V>(&self, slots: Slots<'_, K, V>, see: impl FnMut(Id) -> u64) {
        self.order.validate(slots, see);
    }
}
