//! Tickets: a value may enter L1 only if nothing was invalidated since its read began.
//!
//! A striped counter per group of keys. A read takes a [`Ticket`] (the count of its stripe) *before* it asks L2 or the
//! origin. Every invalidation raises the count, and *then* drops the L1 copy. The insert happens only if the count is
//! still the ticket's, which is checked under the lock of the engine's shard ([`crate::l1`] does that).
//!
//! 1. There is no moment between check and insert: an insert that saw the old count is over before the invalidation's
//!    own removal gets the shard's lock, which then removes it; a later one sees the new count.
//! 2. Two keys that share a stripe cost each other a miss, never a stale hit.
//! 3. A hit in L1 takes no ticket.

use crate::l1::KeyRef;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many stripes a cache has.
const STRIPES: usize = 4096;

/// The count of a stripe when a read began.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Ticket {
    stripe: usize,
    count: u64,
}

/// The stripes of one cache.
pub(crate) struct Tickets {
    stripes: Box<[AtomicU64]>,
    hasher: foldhash::fast::RandomState,
}

impl Tickets {
    pub(crate) fn new() -> Self {
        let stripes = (0..STRIPES).map(|_| AtomicU64::new(0)).collect();
        Self { stripes, hasher: foldhash::fast::RandomState::default() }
    }

    fn stripe_of(&self, key: KeyRef<'_>) -> usize {
        let hash = self.hasher.hash_one(key);
        usize::try_from(hash % STRIPES as u64).expect("less than STRIPES")
    }

    /// Notes that a read of `key` begins.
    pub(crate) fn take(&self, key: KeyRef<'_>) -> Ticket {
        let stripe = self.stripe_of(key);
        Ticket { stripe, count: self.stripes[stripe].load(Ordering::SeqCst) }
    }

    /// Whether nothing was invalidated since the ticket was taken.
    pub(crate) fn is_valid(&self, ticket: Ticket) -> bool {
        self.stripes[ticket.stripe].load(Ordering::SeqCst) == ticket.count
    }

    /// Voids the tickets of `key`. The caller drops the L1 copy after it, not before.
    pub(crate) fn void(&self, key: KeyRef<'_>) {
        self.stripes[self.stripe_of(key)].fetch_add(1, Ordering::SeqCst);
    }

    /// Voids tickets on behalf of changes that began together under `tickets`, and gives each a new one; `None` if
    /// somebody else has voided it meanwhile.
    pub(crate) fn renew(&self, tickets: impl IntoIterator<Item = Ticket>) -> Vec<Option<Ticket>> {
        let mut renewed = HashMap::new();
        let renew = |ticket| *renewed.entry(ticket).or_insert_with(|| self.renew_one(ticket));
        tickets.into_iter().map(renew).collect()
    }

    fn renew_one(&self, Ticket { stripe, count }: Ticket) -> Option<Ticket> {
        let renewed =
            self.stripes[stripe].compare_exchange(count, count + 1, Ordering::SeqCst, Ordering::SeqCst);
        renewed.is_ok().then_some(Ticket { stripe, count: count + 1 })
    }

    /// Voids every ticket.
    pub(crate) fn void_all(&self) {
        for stripe in &self.stripes {
            stripe.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> KeyRef<'_> {
        KeyRef::of(1, text)
    }

    #[test]
    fn a_ticket_taken_before_an_invalidation_is_void_after_it() {
        let tickets = Tickets::new();
        let before = tickets.take(key("a"));
        tickets.void(key("a"));
        assert!(!tickets.is_valid(before));
        assert!(tickets.is_valid(tickets.take(key("a"))));
    }

    #[test]
    fn a_change_knows_whether_it_was_alone() {
        let tickets = Tickets::new();
        let mine = tickets.take(key("a"));
        let renewed = tickets.renew([mine, mine]);
        assert!(!tickets.is_valid(mine));
        assert!(renewed.iter().all(|renewed| renewed.is_some_and(|renewed| tickets.is_valid(renewed))));
        assert_eq!(tickets.renew([mine]), [None], "the first one counts as a change");
    }

    #[test]
    fn voiding_all_voids_every_stripe() {
        let tickets = Tickets::new();
        let texts: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        let taken: Vec<Ticket> = texts.iter().map(|text| tickets.take(key(text))).collect();
        tickets.void_all();
        assert!(taken.iter().all(|&ticket| !tickets.is_valid(ticket)));
    }
}
