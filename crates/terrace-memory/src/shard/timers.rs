//! Which entries are due to expire?
//!
//! 1. Every entry with a deadline is in the list of its granule (about 67 ms of deadlines); one without is in none. An entry
//!    that leaves is taken out of its list at once: nothing stale is left behind, so the index is exactly as large as
//!    the number of entries with a deadline.
//! 2. Finding an expired entry never looks at more than `patience` live ones, and those expire within a granule.
//!
//! The links are kept apart from the slots, in a table by slot number that grows with the first deadline: a cache without
//! deadlines pays nothing, and entries of about the same age are neighbours in it.

use crate::deadline::{Deadline, Watch};
use crate::raw::{Id, NONE};
use std::collections::{BTreeMap, btree_map};

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: Id,
    next: Id,
}

/// The first and last entry of a granule.
#[derive(Clone, Copy, Debug)]
struct Ends {
    front: Id,
    back: Id,
}

/// The deadlines of one shard's entries.
#[derive(Debug)]
pub(super) struct Timers {
    links: Vec<Link>,
    granules: BTreeMap<u64, Ends>,
}

impl Timers {
    pub(super) const fn new() -> Self {
        Self { links: Vec::new(), granules: BTreeMap::new() }
    }

    /// Notes the deadline of an entry that has none noted.
    #[inline]
    pub(super) fn set(&mut self, id: Id, deadline: Deadline) {
        let Some(granule) = deadline.granule() else { return };
        let at = id as usize;
        if at >= self.links.len() {
            self.links.resize(at + 1, Link { previous: NONE, next: NONE });
        }
        self.links[at] = Link { previous: NONE, next: NONE };
        match self.granules.entry(granule) {
            btree_map::Entry::Vacant(list) => {
                list.insert(Ends { front: id, back: id });
            }
            btree_map::Entry::Occupied(mut list) => {
                let before = std::mem::replace(&mut list.get_mut().back, id);
                self.links[before as usize].next = id;
                self.links[at].previous = before;
            }
        }
    }

    /// Forgets an entry whose deadline is noted.
    #[inline]
    pub(super) fn unset(&mut self, id: Id, deadline: Deadline) {
        let Some(granule) = deadline.granule() else { return };
        let Link { previous, next } = self.links[id as usize];
        if previous == NONE && next == NONE {
            self.granules.remove(&granule);
            return;
        }
        if previous == NONE {
            self.ends(granule).front = next;
        } else {
            self.links[previous as usize].next = next;
        }
        if next == NONE {
            self.ends(granule).back = previous;
        } else {
            self.links[next as usize].previous = previous;
        }
    }

    /// An entry that has expired, of the oldest granule there is. Looks at no more than `patience` entries that
    /// have not. `deadline_of` gives an entry's deadline.
    pub(super) fn due(
        &self,
        watch: &Watch<'_>,
        patience: usize,
        deadline_of: impl Fn(Id) -> Deadline,
    ) -> Option<Id> {
        let (&granule, ends) = self.granules.first_key_value()?;
        let now = Deadline::granule_of(watch.latest());
        if granule != now {
            return (granule < now).then_some(ends.front);
        }
        let mut id = ends.front;
        for _ in 0..patience {
            if id == NONE || watch.has_passed(deadline_of(id)) {
                break;
            }
            id = self.links[id as usize].next;
        }
        (id != NONE && watch.has_passed(deadline_of(id))).then_some(id)
    }

    fn ends(&mut self, granule: u64) -> &mut Ends {
        self.granules.get_mut(&granule).expect("a listed entry's granule has a list")
    }
}

#[cfg(any(test, feature = "validate"))]
impl Timers {
    /// Walks all lists, and checks that each entry is in its granule's. Returns how many there are.
    pub(super) fn validate(&self, deadline_of: impl Fn(Id) -> Deadline) -> usize {
        let mut count = 0;
        for (granule, ends) in &self.granules {
            let (mut before, mut id) = (NONE, ends.front);
            assert_ne!(id, NONE, "no list is empty");
            while id != NONE {
                let link = self.links[id as usize];
                assert_eq!(link.previous, before, "entry {id} points back");
                assert_eq!(deadline_of(id).granule(), Some(*granule), "entry {id} is in its granule's list");
                count += 1;
                assert!(count <= self.links.len(), "the lists end");
                (before, id) = (id, link.next);
            }
            assert_eq!(before, ends.back);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use terrace_core::Moment;

    const GRANULE: u64 = 1 << 26;

    fn at(nanos: u64) -> Deadline {
        Deadline::of(Moment::from_nanos(nanos))
    }

    #[test]
    fn one_deadline_changed_a_million_times_leaves_one_item() {
        let mut timers = Timers::new();
        let deadline = |step: u64| at(step * GRANULE / 3);
        timers.set(7, deadline(0));
        for step in 0..1_000_000 {
            timers.unset(7, deadline(step));
            timers.set(7, deadline(step + 1));
        }
        assert_eq!((timers.links.len(), timers.granules.len()), (8, 1));
        assert_eq!(timers.validate(|_| deadline(1_000_000)), 1);
    }

    #[test]
    fn of_an_unfinished_granule_only_a_few_live_entries_are_looked_at() {
        let mut timers = Timers::new();
        let deadlines = |id: Id| if id < 10 { at(GRANULE * 3 / 2) } else { at(GRANULE) };
        (0..=10).for_each(|id| timers.set(id, deadlines(id)));
        let now = Watch::stopped(Moment::from_nanos(GRANULE));
        assert_eq!(timers.due(&now, 9, deadlines), None);
        assert_eq!(timers.due(&now, 10, deadlines), Some(10));
        assert!(
            timers.due(&Watch::stopped(Moment::from_nanos(2 * GRANULE)), 0, deadlines).is_some(),
            "a finished granule needs no look"
        );
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u64),
        Unset(usize),
        Drain(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let deadline = prop_oneof![4 => 0..6 * GRANULE, 1 => Just(u64::MAX), 1 => any::<u64>()];
        prop_oneof![
            4 => deadline.prop_map(Step::Set),
            2 => any::<usize>().prop_map(Step::Unset),
            1 => (0..7 * GRANULE).prop_map(Step::Drain),
        ]
    }

    proptest! {
        #[test]
        fn draining_finds_exactly_what_is_due(steps in prop::collection::vec(step(), 1..120)) {
            let mut timers = Timers::new();
            let mut deadlines: Vec<Deadline> = Vec::new();
            let mut live: Vec<Id> = Vec::new();
            for step in steps {
                match step {
                    Step::Set(nanos) => {
                        let id = Id::try_from(deadlines.len()).unwrap();
                        live.push(id);
                        deadlines.push(at(nanos));
                        timers.set(id, at(nanos));
                    }
                    Step::Unset(pick) if !live.is_empty() => {
                        let id = live.swap_remove(pick % live.len());
                        timers.unset(id, deadlines[id as usize]);
                    }
                    Step::Unset(_) => {}
                    Step::Drain(nanos) => {
                        let latest = Moment::from_nanos(nanos);
                        let of = |id: Id| deadlines[id as usize];
                        let mut drained = Vec::new();
                        while let Some(id) = timers.due(&Watch::stopped(latest), usize::MAX >> 1, of) {
                            timers.unset(id, of(id));
                            drained.push(id);
                        }
                        drained.sort_unstable();
                        let (mut due, rest): (Vec<Id>, Vec<Id>) = live.iter().partition(|id| of(**id).has_passed(latest));
                        due.sort_unstable();
                        prop_assert_eq!(drained, due);
                        live = rest;
                    }
                }
                let timed = live.iter().filter(|id| deadlines[**id as usize] != Deadline::NEVER).count();
                prop_assert_eq!(timers.validate(|id| deadlines[id as usize]), timed);
            }
        }
    }
}
