//! What do entries weigh?
//!
//! A slot has 32 bits for a weight. The few entries of 4 GiB and more have theirs in a table beside.

use crate::raw::{Id, Node};
use std::collections::HashMap;

/// The weights of one shard's entries.
#[derive(Debug)]
pub(super) struct Weights {
    total: u128,
    heavy: HashMap<Id, u64>,
}

/// In a slot: the weight is in the table.
const HEAVY: u32 = u32::MAX;

impl Weights {
    pub(super) fn new() -> Self {
        Self { total: 0, heavy: HashMap::new() }
    }

    pub(super) const fn total(&self) -> u128 {
        self.total
    }

    /// What the slot of an entry of this weight records.
    #[inline]
    pub(super) fn recorded(weight: u64) -> u32 {
        u32::try_from(weight).unwrap_or(HEAVY)
    }

    #[inline]
    pub(super) fn add(&mut self, id: Id, weight: u64) {
        self.total += u128::from(weight);
        if Self::recorded(weight) == HEAVY {
            self.heavy.insert(id, weight);
        }
    }

    #[inline]
    pub(super) fn of<K, V>(&self, node: Node<'_, K, V>) -> u64 {
        match node.slot.weight() {
            HEAVY => self.heavy[&node.id],
            weight => u64::from(weight),
        }
    }

    /// Forgets an entry.
    #[inline]
    pub(super) fn remove<K, V>(&mut self, node: Node<'_, K, V>, weight: u64) {
        self.total -= u128::from(weight);
        if node.slot.weight() == HEAVY {
            self.heavy.remove(&node.id);
        }
    }
}
