//! Who leaves? The least recently used.
//!
//! Each hit moves its entry to the back, under the shard's lock.

use super::list::List;
use crate::raw::{Id, Slots};

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
    pub(super) fn admit<K, V>(&mut self, slots: Slots<'_, K, V>, id: Id, weight: u64) {
        self.order.push_back(slots, id, weight);
    }

    /// Notes that an entry was used.
    pub(super) fn touch<K, V>(&mut self, slots: Slots<'_, K, V>, id: Id, weight: u64) {
        self.order.unlink(slots, id, weight);
        self.order.push_back(slots, id, weight);
    }

    /// Lets go of an entry.
    pub(super) fn release<K, V>(&mut self, slots: Slots<'_, K, V>, id: Id, weight: u64) {
        self.order.unlink(slots, id, weight);
    }

    /// Puts a new value's slot in the place of the old one's. To overwrite is to use.
    pub(super) fn substitute<K, V>(&mut self, slots: Slots<'_, K, V>, old: (Id, u64), new: (Id, u64)) {
        self.order.unlink(slots, old.0, old.1);
        self.order.push_back(slots, new.0, new.1);
    }

    /// Chooses who leaves, and lets go of it.
    pub(super) fn evict<K, V>(
        &mut self,
        slots: Slots<'_, K, V>,
        weight_of: impl Fn(Id) -> u64,
    ) -> Option<Id> {
        let id = self.order.front()?;
        self.order.unlink(slots, id, weight_of(id));
        Some(id)
    }
}

#[cfg(any(test, feature = "validate"))]
impl Lru {
    pub(super) fn validate<K, V>(&self, slots: Slots<'_, K, V>, see: impl FnMut(Id) -> u64) {
        self.order.validate(slots, see);
    }
}
