//! A list of entries through the links of their slots, with the sum of their weights.
//!
//! An entry is in one list at most; its slot's mark says in which.

use crate::raw::{Id, NONE, Node, Slots};

/// A doubly linked list. The front is the oldest.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    front: Id,
    back: Id,
    len: usize,
    weight: u128,
}

impl List {
    pub(super) const fn new() -> Self {
        Self { front: NONE, back: NONE, len: 0, weight: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn weight(&self) -> u128 {
        self.weight
    }

    /// The oldest entry.
    pub(super) fn front(&self) -> Option<Id> {
        (self.front != NONE).then_some(self.front)
    }

    #[inline]
    pub(super) fn push_back<K, V>(&mut self, slots: Slots<'_, K, V>, node: Node<'_, K, V>, weight: u64) {
        node.slot.set_previous(self.back);
        node.slot.set_next(NONE);
        if self.back == NONE {
            self.front = node.id;
        } else {
            slots.at(self.back).set_next(node.id);
        }
        self.back = node.id;
        self.len += 1;
        self.weight += u128::from(weight);
    }

    #[inline]
    pub(super) fn unlink<K, V>(&mut self, slots: Slots<'_, K, V>, node: Node<'_, K, V>, weight: u64) {
        let (previous, next) = (node.slot.previous(), node.slot.next());
        self.set_next_of(slots, previous, next);
        self.set_previous_of(slots, next, previous);
        self.len -= 1;
        self.weight -= u128::from(weight);
    }

    /// Puts `new` where `old` is.
    #[inline]
    pub(super) fn substitute<K, V>(
        &mut self,
        slots: Slots<'_, K, V>,
        (old, old_weight): (Node<'_, K, V>, u64),
        (new, new_weight): (Node<'_, K, V>, u64),
    ) {
        let (previous, next) = (old.slot.previous(), old.slot.next());
        new.slot.set_previous(previous);
        new.slot.set_next(next);
        self.set_next_of(slots, previous, new.id);
        self.set_previous_of(slots, next, new.id);
        self.weight = self.weight - u128::from(old_weight) + u128::from(new_weight);
    }

    /// Sets what follows an entry, or what is first.
    #[inline]
    fn set_next_of<K, V>(&mut self, slots: Slots<'_, K, V>, id: Id, next: Id) {
        if id == NONE {
            self.front = next;
        } else {
            slots.at(id).set_next(next);
        }
    }

    /// Sets what precedes an entry, or what is last.
    #[inline]
    fn set_previous_of<K, V>(&mut self, slots: Slots<'_, K, V>, id: Id, previous: Id) {
        if id == NONE {
            self.back = previous;
        } else {
            slots.at(id).set_previous(previous);
        }
    }
}

#[cfg(any(test, feature = "validate"))]
impl List {
    /// Walks the list both ways by its links, and checks that they, the count and the weight agree.
    pub(super) fn validate<K, V>(&self, slots: Slots<'_, K, V>, mut see: impl FnMut(Id) -> u64) {
        let (mut previous, mut at, mut count, mut weight) = (NONE, self.front, 0, 0_u128);
        while at != NONE {
            assert!(slots.is_live(at), "slot {at} is listed and has an entry");
            assert_eq!(slots.at(at).previous(), previous, "slot {at} points back");
            weight += u128::from(see(at));
            count += 1;
            assert!(count <= self.len, "the list ends");
            (previous, at) = (at, slots.at(at).next());
        }
        assert_eq!((previous, count, weight), (self.back, self.len, self.weight), "back, length and weight");
    }
}
