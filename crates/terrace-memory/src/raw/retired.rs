//! What was taken out and may still be read: a queue of slots, in batches that wait for a grace period each.
//!
//! 1. Slots leave in the order in which they came, each when its batch's grace period is over.
//! 2. A batch is sealed when it is large enough, in slots or in weight: its ticket comes after all its slots were taken out.
//!    So a ticket, and the barrier behind it, is paid for once per batch.
//!
//! The queue runs through the slots' own links.

use super::domain::{Domain, Ticket};
use super::slab::{Id, NONE, Slab};
use std::collections::VecDeque;

/// A batch is sealed at this weight: what is held back of big values is a few of them.
const BATCH_WEIGHT: u64 = 256 << 10;
/// While a sealed batch waits, the domain is asked to go on each time this many more slots have come.
const ASK_EVERY: usize = 8;

/// This many batches are too much to be held back.
const FAR_BEHIND_BATCHES: usize = 4;
/// How many turns each of them is worth.
const TURNS_PER_BATCH: usize = 2;

#[derive(Debug)]
struct Batch {
    ticket: Ticket,
    slots: usize,
}

#[derive(Debug)]
pub(super) struct Retired {
    head: Id,
    tail: Id,
    slots: usize,
    weight: u64,
    sealed: VecDeque<Batch>,
    /// Slots, and their weight, after the last sealed batch.
    open: usize,
    open_weight: u64,
    batch_slots: usize,
}

impl Retired {
    pub(super) const fn new(batch_slots: usize) -> Self {
        Self {
            head: NONE,
            tail: NONE,
            slots: 0,
            weight: 0,
            sealed: VecDeque::new(),
            open: 0,
            open_weight: 0,
            batch_slots,
        }
    }

    /// How many slots are held back.
    pub(super) const fn len(&self) -> usize {
        self.slots
    }

    /// Whether more is held back than one batch.
    pub(super) const fn is_behind(&self) -> bool {
        self.slots > self.batch_slots || self.weight > BATCH_WEIGHT
    }

    /// How many turns readers should be given to leave: none, unless they hold too much back.
    pub(super) fn turns_due(&self, domain: &Domain) -> usize {
        let by_weight = usize::try_from(self.weight / BATCH_WEIGHT).unwrap_or(usize::MAX);
        let batches = (self.slots / self.batch_slots).max(by_weight);
        let waits = || self.sealed.front().is_some_and(|batch| !domain.is_over(batch.ticket));
        if batches < FAR_BEHIND_BATCHES || !waits() { 0 } else { batches.saturating_mul(TURNS_PER_BATCH) }
    }

    /// Adds a slot that was taken out of the index. Returns whether the domain should go on.
    #[inline]
    pub(super) fn push<K, V>(&mut self, slab: &Slab<K, V>, id: Id, domain: &Domain) -> bool {
        let slot = slab.slot(id);
        slot.chain(NONE);
        if self.tail == NONE {
            self.head = id;
        } else {
            slab.slot(self.tail).chain(id);
        }
        self.tail = id;
        self.slots += 1;
        self.open += 1;
        self.open_weight += u64::from(slot.weight());
        self.weight += u64::from(slot.weight());
        if self.open >= self.batch_slots || self.open_weight >= BATCH_WEIGHT {
            self.seal(domain);
            return true;
        }
        let waits = self.sealed.front().is_some_and(|batch| !domain.is_over(batch.ticket));
        waits && self.open.is_multiple_of(ASK_EVERY)
    }

    /// The slot that is the next to leave, if nobody can see it any more.
    pub(super) fn first_unseen(&self, domain: &Domain) -> Option<Id> {
        self.sealed.front().filter(|batch| domain.is_over(batch.ticket)).map(|_| self.head)
    }

    /// Seals the open batch, if it is not empty.
    pub(super) fn seal(&mut self, domain: &Domain) {
        if self.open > 0 {
            self.sealed.push_back(Batch { ticket: domain.ticket(), slots: self.open });
            (self.open, self.open_weight) = (0, 0);
        }
    }

    /// The oldest slot, if its grace period is over.
    #[inline]
    pub(super) fn pop<K, V>(&mut self, slab: &Slab<K, V>, domain: &Domain) -> Option<Id> {
        let batch = self.sealed.front_mut().filter(|batch| domain.is_over(batch.ticket))?;
        batch.slots -= 1;
        if batch.slots == 0 {
            self.sealed.pop_front();
        }
        let id = self.head;
        let slot = slab.slot(id);
        self.weight -= u64::from(slot.weight());
        self.head = slot.next();
        if self.head == NONE {
            self.tail = NONE;
        }
        self.slots -= 1;
        Some(id)
    }
}
