//! Where every entry of a shard has a seat, and which of them are due to expire.
//!
//! 1. An entry keeps its seat, a small number, from its insertion until it leaves, also when its value is
//!    overwritten. So a walk over the seats in steps meets every entry that stays exactly once.
//! 2. Every seat with a deadline is in the list of its granule (about 67 ms of deadlines); a seat without one is in
//!    none. Changing or dropping a deadline takes the seat out of its list at once: nothing stale is left behind,
//!    so the index is exactly as large as the number of entries with a deadline.
//! 3. Finding an expired entry never looks at more than `patience` live ones, and those expire within a granule.
//!
//! Deliberately absent: keys and values; the engine holds them. The hash is kept to find the entry there.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::ops::Range;
use terrace_core::Moment;

/// A granule is two to this many nanoseconds.
const GRANULE_BITS: u32 = 26;

/// No seat: the end of a list.
const NONE: u32 = u32::MAX;
/// In `prev` of a seat that nobody has. Its `next` is then the next such seat.
const VACANT: u32 = u32::MAX - 1;
/// Most seats of a shard.
const SEATS_MAX: u32 = 1 << 31;

#[derive(Debug)]
struct Seat {
    hash: u64,
    deadline: Moment,
    prev: u32,
    next: u32,
}

/// The first and last seat of a granule's list.
#[derive(Clone, Copy, Debug)]
struct Ends {
    head: u32,
    tail: u32,
}

/// The seats of one shard.
#[derive(Debug)]
pub(crate) struct Roster {
    seats: Vec<Seat>,
    first_vacant: u32,
    taken: usize,
    granules: BTreeMap<u64, Ends>,
}

const fn granule_of(deadline: Moment) -> u64 {
    deadline.as_nanos() >> GRANULE_BITS
}

impl Roster {
    pub(crate) const fn new() -> Self {
        Self { seats: Vec::new(), first_vacant: NONE, taken: 0, granules: BTreeMap::new() }
    }

    /// How many seats there are, taken or not: the end of a walk.
    pub(crate) fn seats(&self) -> u32 {
        u32::try_from(self.seats.len()).expect("there are at most SEATS_MAX seats")
    }

    /// The hash of the entry in this seat; `None` if nobody has it.
    pub(crate) fn hash(&self, seat: u32) -> Option<u64> {
        let seat = self.seats.get(seat as usize)?;
        (seat.prev != VACANT).then_some(seat.hash)
    }

    /// The taken seats of a range, with the hashes of their entries.
    pub(crate) fn taken_in(&self, range: Range<u32>) -> impl Iterator<Item = (u32, u64)> + '_ {
        range.filter_map(|seat| Some((seat, self.hash(seat)?)))
    }

    /// Gives a seat to an entry; `None` if there are too many entries.
    pub(crate) fn take(&mut self, hash: u64, deadline: Moment) -> Option<u32> {
        let fresh = Seat { hash, deadline, prev: NONE, next: NONE };
        let seat = if self.first_vacant == NONE {
            let seat = self.seats();
            if seat == SEATS_MAX {
                return None;
            }
            self.seats.push(fresh);
            seat
        } else {
            let seat = self.first_vacant;
            self.first_vacant = self.at(seat).next;
            *self.at(seat) = fresh;
            seat
        };
        self.taken += 1;
        self.link(seat);
        Some(seat)
    }

    /// Takes the seat back from an entry that left.
    pub(crate) fn release(&mut self, seat: u32) {
        self.unlink(seat);
        let next = self.first_vacant;
        let vacated = self.at(seat);
        debug_assert_ne!(vacated.prev, VACANT, "a seat is released once");
        (vacated.prev, vacated.next) = (VACANT, next);
        self.first_vacant = seat;
        self.taken -= 1;
    }

    /// Notes the new deadline of the entry in this seat.
    pub(crate) fn reschedule(&mut self, seat: u32, deadline: Moment) {
        if self.at(seat).deadline != deadline {
            self.unlink(seat);
            self.at(seat).deadline = deadline;
            self.link(seat);
        }
    }

    /// A seat whose entry has expired at `latest`, of the oldest granule there is. Looks at no more than `patience`
    /// entries that have not.
    pub(crate) fn due(&self, latest: Moment, patience: usize) -> Option<u32> {
        let (&granule, ends) = self.granules.first_key_value()?;
        if granule < granule_of(latest) {
            return Some(ends.head);
        }
        if granule > granule_of(latest) {
            return None;
        }
        let mut seat = ends.head;
        for _ in 0..patience {
            let Seat { deadline, next, .. } = *self.seats.get(seat as usize)?;
            if deadline <= latest {
                return Some(seat);
            }
            seat = next;
        }
        None
    }

    fn at(&mut self, seat: u32) -> &mut Seat {
        &mut self.seats[seat as usize]
    }

    fn link(&mut self, seat: u32) {
        let deadline = self.at(seat).deadline;
        if deadline == Moment::NEVER {
            return;
        }
        match self.granules.entry(granule_of(deadline)) {
            btree_map::Entry::Vacant(list) => {
                list.insert(Ends { head: seat, tail: seat });
            }
            btree_map::Entry::Occupied(mut list) => {
                let before = std::mem::replace(&mut list.get_mut().tail, seat);
                self.seats[before as usize].next = seat;
                self.seats[seat as usize].prev = before;
            }
        }
    }

    fn unlink(&mut self, seat: u32) {
        let Seat { deadline, prev, next, .. } = *self.at(seat);
        if deadline == Moment::NEVER {
            return;
        }
        let granule = granule_of(deadline);
        match (prev, next) {
            (NONE, NONE) => {
                self.granules.remove(&granule);
            }
            (NONE, next) => {
                self.at(next).prev = NONE;
                self.ends(granule).head = next;
            }
            (prev, NONE) => {
                self.at(prev).next = NONE;
                self.ends(granule).tail = prev;
            }
            (prev, next) => {
                self.at(prev).next = next;
                self.at(next).prev = prev;
            }
        }
        let alone = self.at(seat);
        (alone.prev, alone.next) = (NONE, NONE);
    }

    fn ends(&mut self, granule: u64) -> &mut Ends {
        self.granules.get_mut(&granule).expect("a linked seat's granule has a list")
    }
}

#[cfg(any(test, feature = "validate"))]
impl Roster {
    /// The deadline of the entry in this seat.
    pub(crate) fn deadline(&self, seat: u32) -> Moment {
        self.seats[seat as usize].deadline
    }

    /// How many seats are taken.
    pub(crate) const fn taken(&self) -> usize {
        self.taken
    }

    /// Recounts seats and lists.
    pub(crate) fn validate(&self) {
        let mut vacant = 0;
        let mut seat = self.first_vacant;
        while seat != NONE {
            assert_eq!(self.seats[seat as usize].prev, VACANT, "seat {seat} is vacant");
            vacant += 1;
            assert!(vacant <= self.seats.len(), "the vacant seats end");
            seat = self.seats[seat as usize].next;
        }
        assert_eq!(vacant + self.taken, self.seats.len(), "every seat is taken or vacant");
        let taken = || self.seats.iter().filter(|seat| seat.prev != VACANT);
        assert_eq!(taken().count(), self.taken);
        let with_deadline = taken().filter(|seat| seat.deadline != Moment::NEVER).count();
        let listed: usize =
            self.granules.iter().map(|(granule, ends)| self.validate_list(*granule, *ends)).sum();
        assert_eq!(listed, with_deadline, "every deadline is listed once");
    }

    fn validate_list(&self, granule: u64, ends: Ends) -> usize {
        let (mut before, mut seat, mut count) = (NONE, ends.head, 0);
        while seat != NONE {
            let here = &self.seats[seat as usize];
            assert_eq!(here.prev, before, "seat {seat} points back");
            assert_eq!(granule_of(here.deadline), granule, "seat {seat} is in its granule's list");
            count += 1;
            assert!(count <= self.seats.len(), "the list ends");
            (before, seat) = (seat, here.next);
        }
        assert_eq!(before, ends.tail);
        assert_ne!(count, 0, "no list is empty");
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRANULE: u64 = 1 << GRANULE_BITS;

    fn moment(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    #[test]
    fn one_seat_rescheduled_a_million_times_leaves_one_item() {
        let mut roster = Roster::new();
        let seat = roster.take(7, moment(1)).expect("room");
        for nanos in 0..1_000_000 {
            roster.reschedule(seat, moment(nanos * GRANULE / 3));
        }
        assert_eq!((roster.seats(), roster.granules.len()), (1, 1));
        roster.validate();
    }

    #[test]
    fn of_an_unfinished_granule_only_a_few_live_seats_are_looked_at() {
        let mut roster = Roster::new();
        for _ in 0..10 {
            roster.take(0, moment(GRANULE + 9)).expect("room");
        }
        let expired = roster.take(0, moment(GRANULE + 1)).expect("room");
        assert_eq!(roster.due(moment(GRANULE + 1), 10), None);
        assert_eq!(roster.due(moment(GRANULE + 1), 11), Some(expired));
        assert!(roster.due(moment(2 * GRANULE), 0).is_some(), "a finished granule needs no look");
    }

    #[test]
    fn the_last_granule_of_time_is_usable() {
        let mut roster = Roster::new();
        let seat = roster.take(0, moment(u64::MAX - 1)).expect("room");
        assert_eq!(roster.due(moment(u64::MAX - 2), 9), None);
        assert_eq!(roster.due(moment(u64::MAX - 1), 9), Some(seat));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take(u64),
        Release(usize),
        Reschedule(usize, u64),
        Drain(u64),
    }

    fn deadline() -> impl Strategy<Value = u64> {
        prop_oneof![4 => 0..6 * GRANULE, 1 => Just(u64::MAX), 1 => any::<u64>()]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => deadline().prop_map(Step::Take),
            2 => any::<usize>().prop_map(Step::Release),
            2 => (any::<usize>(), deadline()).prop_map(|(pick, deadline)| Step::Reschedule(pick, deadline)),
            1 => (0..7 * GRANULE).prop_map(Step::Drain),
        ]
    }

    proptest! {
        #[test]
        fn draining_finds_exactly_what_is_due(steps in prop::collection::vec(step(), 1..120)) {
            let mut roster = Roster::new();
            let mut model: Vec<(u32, u64)> = Vec::new();
            for step in steps {
                match step {
                    Step::Take(deadline) => {
                        let seat = roster.take(deadline ^ 1, moment(deadline)).expect("room");
                        prop_assert!(model.iter().all(|(other, _)| *other != seat));
                        model.push((seat, deadline));
                    }
                    Step::Release(pick) if !model.is_empty() => {
                        let (seat, _) = model.swap_remove(pick % model.len());
                        roster.release(seat);
                        prop_assert_eq!(roster.hash(seat), None);
                    }
                    Step::Reschedule(pick, deadline) if !model.is_empty() => {
                        let pick = pick % model.len();
                        roster.reschedule(model[pick].0, moment(deadline));
                        model[pick].1 = deadline;
                    }
                    Step::Drain(latest) => {
                        let mut drained = Vec::new();
                        while let Some(seat) = roster.due(moment(latest), usize::MAX >> 1) {
                            roster.release(seat);
                            drained.push(seat);
                        }
                        let is_due = |deadline: u64| deadline <= latest;
                        let mut expected: Vec<u32> =
                            model.iter().filter(|(_, deadline)| is_due(*deadline)).map(|(seat, _)| *seat).collect();
                        expected.sort_unstable();
                        drained.sort_unstable();
                        prop_assert_eq!(drained, expected);
                        model.retain(|(_, deadline)| !is_due(*deadline));
                    }
                    Step::Release(_) | Step::Reschedule(..) => {}
                }
                roster.validate();
                prop_assert_eq!(roster.taken(), model.len());
            }
        }
    }
}
