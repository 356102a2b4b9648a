//! Who leaves when room is needed? The two policies behind one set of verbs.
//!
//! Deliberately absent: a trait for policies. There are two, chosen once.

use super::lru::Lru;
use super::s3fifo::S3Fifo;
use crate::bounds::{Bound, Bounds};
use crate::builder::Policy;
use crate::dials::Dials;
use crate::raw::{Id, Slots};
use terrace_core::Moment;

/// The order of one shard's entries.
#[derive(Debug)]
pub(super) enum Order {
    Default(S3Fifo),
    Lru(Lru),
}

macro_rules! either {
    ($self:expr, $order:ident => $do:expr) => {
        match $self {
            Self::Default($order) => $do,
            Self::Lru($order) => $do,
        }
    };
}

impl Order {
    pub(super) const fn new(policy: Policy, dials: Dials) -> Self {
        match policy {
            Policy::Default => Self::Default(S3Fifo::new(dials)),
            Policy::Lru => Self::Lru(Lru::new()),
        }
    }

    pub(super) fn set_dials(&mut self, dials: Dials) {
        if let Self::Default(order) = self {
            order.set_dials(dials);
        }
    }

    /// Takes in a new entry.
    pub(super) fn admit<K, V>(&mut self, slots: Slots<'_, K, V>, id: Id, weight: u64) {
        either!(self, order => order.admit(slots, id, weight));
    }

    /// Notes that an entry was used, if that changes the order at once.
    pub(super) fn touch<K, V>(&mut self, slots: Slots<'_, K, V>, id: Id, weight: u64) {
        if let Self::Lru(order) = self {
            order.touch(slots, id, weight);
        }
    }

    /// Lets go of an entry that leaves for a reason of its own.
    pub(super) fn release<K, V>(&mut self, slots: Slots<'_, K, V>, id: Id, weight: u64) {
        either!(self, order => order.release(slots, id, weight));
    }

    /// Puts a new value's slot in the place of the old one's: number and weight of each.
    pub(super) fn substitute<K, V>(&mut self, slots: Slots<'_, K, V>, old: (Id, u64), new: (Id, u64)) {
        either!(self, order => order.substitute(slots, old, new));
    }

    /// Chooses who leaves, and lets go of it.
    pub(super) fn evict<K, V>(
        &mut self,
        slots: Slots<'_, K, V>,
        bounds: Bounds,
        pressed: Bound,
        latest: Moment,
        weight_of: impl Fn(Id) -> u64,
    ) -> Option<Id> {
        match self {
            Self::Default(order) => order.evict(slots, bounds, pressed, latest, weight_of),
            Self::Lru(order) => order.evict(slots, weight_of),
        }
    }
}

#[cfg(any(test, feature = "validate"))]
impl Order {
    /// Walks all lists, showing each entry; `see` gives its weight.
    pub(super) fn validate<K, V>(&self, slots: Slots<'_, K, V>, see: impl FnMut(Id) -> u64) {
        either!(self, order => order.validate(slots, see));
    }
}
