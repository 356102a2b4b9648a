//! Who leaves when room is needed? The two policies behind one set of verbs.
//!
//! Deliberately absent: a trait for policies. There are two, chosen once.

use super::lru::Lru;
use super::s3fifo::S3Fifo;
use super::weights::Weights;
use crate::bounds::{Bound, Bounds};
use crate::builder::Policy;
use crate::deadline::Watch;
use crate::dials::Dials;
use crate::raw::{Id, Node, Slots};

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
    pub(super) fn admit<K, V>(&mut self, slots: Slots<'_, K, V>, node: Node<'_, K, V>, weight: u64) {
        either!(self, order => order.admit(slots, node, weight));
    }

    /// Notes that an entry was used, if that changes the order at once.
    pub(super) fn touch<K, V>(&mut self, slots: Slots<'_, K, V>, node: Node<'_, K, V>, weight: u64) {
        if let Self::Lru(order) = self {
            order.touch(slots, node, weight);
        }
    }

    /// Lets go of an entry that leaves for a reason of its own.
    pub(super) fn release<K, V>(&mut self, slots: Slots<'_, K, V>, node: Node<'_, K, V>, weight: u64) {
        either!(self, order => order.release(slots, node, weight));
    }

    /// Puts a new value's slot in the place of the old one's: with the weight of each.
    pub(super) fn substitute<K, V>(
        &mut self,
        slots: Slots<'_, K, V>,
        old: (Node<'_, K, V>, u64),
        new: (Node<'_, K, V>, u64),
    ) {
        either!(self, order => order.substitute(slots, old, new));
    }

    /// Who is likely to leave next.
    #[inline]
    pub(super) fn next_victim(&self) -> Option<Id> {
        either!(self, order => order.next_victim())
    }

    /// Chooses who leaves, and lets go of it. Returns it with its weight.
    #[inline]
    pub(super) fn evict<'a, K, V>(
        &mut self,
        slots: Slots<'a, K, V>,
        weights: &Weights,
        bounds: Bounds,
        pressed: Bound,
        watch: &Watch<'_>,
    ) -> Option<(Node<'a, K, V>, u64)> {
        match self {
            Self::Default(order) => order.evict(slots, weights, bounds, pressed, watch),
            Self::Lru(order) => order.evict(slots, weights),
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
