//! Least recently used: the entry that was not touched for the longest time leaves first.
//!
//! 1. Nodes live at the index of their seat, and point to each other by seat: no pointer, no allocation per entry.
//! 2. The list holds every entry once, the most recently touched at the head. Reading touches, and so does
//!    overwriting. Peeking does not.
//! 3. Bounds are kept exactly: entries leave from the tail until the new one fits.
//!
//! A touch changes the list, so every hit needs the shard's lock for itself alone.

use super::{Departure, Departures, Probe, Slot, Stored};
use crate::bounds::Bounds;
use hashbrown::HashTable;

/// No seat: the end of the list.
const NONE: u32 = u32::MAX;

struct Node<K, V> {
    stored: Stored<K>,
    slot: Slot<V>,
    newer: u32,
    older: u32,
}

/// Entries under the LRU policy.
pub(crate) struct Lru<K, V> {
    nodes: Vec<Option<Node<K, V>>>,
    seats: HashTable<u32>,
    newest: u32,
    oldest: u32,
    bytes: u128,
    bounds: Bounds,
}

impl<K, V> Lru<K, V> {
    pub(super) const fn new(bounds: Bounds) -> Self {
        Self { nodes: Vec::new(), seats: HashTable::new(), newest: NONE, oldest: NONE, bytes: 0, bounds }
    }

    pub(super) fn peek<P: Probe<K>>(&self, probe: &P) -> Option<&Slot<V>> {
        self.find(probe).map(|node| &node.slot)
    }

    pub(super) fn visit<P: Probe<K>, R>(
        &self,
        probe: &P,
        show: impl FnOnce(&Stored<K>, &Slot<V>) -> R,
    ) -> Option<R> {
        self.find(probe).map(|node| show(&node.stored, &node.slot))
    }

    pub(super) fn touch<P: Probe<K>>(&mut self, probe: &P) -> Option<&Slot<V>> {
        let seat = self.find(probe)?.stored.identity.seat;
        if seat != self.newest {
            self.unlink(seat);
            self.link_newest(seat);
        }
        Some(&self.node(seat).slot)
    }

    pub(super) fn insert(&mut self, stored: Stored<K>, slot: Slot<V>, out: &mut Departures<K, V>) {
        let seat = stored.identity.seat;
        if let Some(old) = self.take(seat) {
            out.push(old);
        }
        if self.bounds.bytes != 0 && slot.bytes > self.bounds.bytes {
            out.push(Departure::from((stored, slot)));
            return;
        }
        self.bytes += u128::from(slot.bytes);
        let (index, hash) = (seat as usize, stored.hash);
        if index >= self.nodes.len() {
            self.nodes.resize_with(index + 1, || None);
        }
        self.nodes[index] = Some(Node { stored, slot, newer: NONE, older: NONE });
        let nodes = &self.nodes;
        self.seats.insert_unique(hash, seat, |seat| node_at(nodes, *seat).stored.hash);
        self.link_newest(seat);
        self.evict_surplus(out);
    }

    pub(super) fn remove<P: Probe<K>>(&mut self, probe: &P) -> Option<Departure<K, V>> {
        let seat = self.find(probe)?.stored.identity.seat;
        self.take(seat)
    }

    pub(super) fn must_evict(&self, bytes: u64, old: Option<u64>) -> bool {
        let Bounds { entries: entries_max, bytes: bytes_max } = self.bounds;
        if bytes_max != 0 && bytes > bytes_max {
            return false;
        }
        let entries = self.seats.len() + usize::from(old.is_none());
        let bytes = self.bytes - u128::from(old.unwrap_or(0)) + u128::from(bytes);
        (entries_max != 0 && entries > entries_max) || (bytes_max != 0 && bytes > u128::from(bytes_max))
    }

    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    pub(super) fn resize(&mut self, bounds: Bounds, out: &mut Departures<K, V>) {
        self.bounds = bounds;
        self.evict_surplus(out);
    }

    pub(super) fn into_each(self, mut each: impl FnMut(Departure<K, V>)) {
        self.nodes.into_iter().flatten().for_each(|node| each(Departure::from((node.stored, node.slot))));
    }

    fn find<P: Probe<K>>(&self, probe: &P) -> Option<&Node<K, V>> {
        let found = |seat: &u32| probe.equivalent(&self.node(*seat).stored);
        let seat = self.seats.find(probe.code(), found)?;
        Some(self.node(*seat))
    }

    fn is_over(&self) -> bool {
        let Bounds { entries, bytes } = self.bounds;
        (entries != 0 && self.seats.len() > entries) || (bytes != 0 && self.bytes > u128::from(bytes))
    }

    fn evict_surplus(&mut self, out: &mut Departures<K, V>) {
        while self.is_over()
            && let Some(oldest) = self.take(self.oldest)
        {
            out.push(oldest);
        }
    }

    /// Takes the entry out of a seat, if it has one.
    fn take(&mut self, seat: u32) -> Option<Departure<K, V>> {
        let hash = self.nodes.get(seat as usize)?.as_ref()?.stored.hash;
        self.unlink(seat);
        if let Ok(entry) = self.seats.find_entry(hash, |other| *other == seat) {
            entry.remove();
        }
        let Node { stored, slot, .. } = self.nodes[seat as usize].take()?;
        self.bytes -= u128::from(slot.bytes);
        Some(Departure::from((stored, slot)))
    }

    fn node(&self, seat: u32) -> &Node<K, V> {
        node_at(&self.nodes, seat)
    }

    fn node_mut(&mut self, seat: u32) -> &mut Node<K, V> {
        self.nodes[seat as usize].as_mut().expect("a listed seat has a node")
    }

    fn link_newest(&mut self, seat: u32) {
        let second = self.newest;
        self.newest = seat;
        let node = self.node_mut(seat);
        (node.newer, node.older) = (NONE, second);
        if second == NONE {
            self.oldest = seat;
        } else {
            self.node_mut(second).newer = seat;
        }
    }

    fn unlink(&mut self, seat: u32) {
        let Node { newer, older, .. } = *self.node(seat);
        if newer == NONE {
            self.newest = older;
        } else {
            self.node_mut(newer).older = older;
        }
        if older == NONE {
            self.oldest = newer;
        } else {
            self.node_mut(older).newer = newer;
        }
    }
}

fn node_at<K, V>(nodes: &[Option<Node<K, V>>], seat: u32) -> &Node<K, V> {
    nodes[seat as usize].as_ref().expect("a listed seat has a node")
}

#[cfg(any(test, feature = "validate"))]
impl<K, V> Lru<K, V> {
    pub(super) fn validate(&self, bounds: Bounds, mut see: impl FnMut(&Stored<K>, &Slot<V>)) {
        assert_eq!(self.bounds, bounds);
        let (mut newer, mut seat, mut count, mut bytes) = (NONE, self.newest, 0, 0);
        while seat != NONE {
            let node = self.node(seat);
            assert_eq!(node.newer, newer, "seat {seat} points back");
            assert_eq!(node.stored.identity.seat, seat, "a node is at its seat");
            assert!(
                self.seats.find(node.stored.hash, |other| *other == seat).is_some(),
                "seat {seat} is indexed"
            );
            see(&node.stored, &node.slot);
            bytes += u128::from(node.slot.bytes);
            count += 1;
            assert!(count <= self.nodes.len(), "the list ends");
            (newer, seat) = (seat, node.older);
        }
        assert_eq!(newer, self.oldest);
        assert_eq!(count, self.seats.len(), "every entry is listed");
        assert_eq!(count, self.nodes.iter().flatten().count());
        assert_eq!(bytes, self.bytes, "the weights add up");
        assert!(!self.is_over(), "the bounds hold");
    }
}
