//! What do entries weigh?
//!
//! A slot has 32 bits for a weight. The few entries of 4 GiB and more have theirs in a table beside.

use crate::raw::{Id, Slots};
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
    pub(super) fn recorded(weight: u64) -> u32 {
        u32::try_from(weight).unwrap_or(HEAVY)
    }

    pub(super) fn add(&mut self, id: Id, weight: u64) {
        self.total += u128::from(weight);
        if Self::recorded(weight) == HEAVY {
            self.heavy.insert(id, weight);
        }
    }

    pub(super) fn of<K, V>(&self, slots: Slots<'_, K, V>, id: Id) -> u64 {
        match slots.at(id).weight() {
            HEAVY => self.heavy[&id],
            weight => u64::from(weight),
        }
    }

    /// Forgets an entry. Returns its weight.
    pub(super) fn remove<K, V>(&mut self, slots: Slots<'_, K, V>, id: Id) -> u64 {
        let weight = self.of(slots, id);
        self.total -= u128::from(weight);
        if Self::recorded(weight) == HEAVY {
            self.heavy.remove(&id);
        }
        weight
    }
}
