//! Where are the calls of a batch made, and how many at the same time?
//!
//! 1. A batch has one place where loads are bounded. More calls at a time are made in places of the origin's bulkhead that are free, and
//!    are taken without a wait: nobody waits for somebody who waits for him.
//! 2. A place for a call that loads one key is taken when that begins, and given back when it ends: what a batch has still to do keeps
//!    nothing from others.
//! 3. Calls of a batch that load one key each are never more than [`ONE_BY_ONE`] at a time, whichever statements they stand for.
//! 4. Who has a turn waits for nothing but its call; who waits for one has no place but the one that it was given before.

use terrace::{Bulkhead, BulkheadPlace};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Keys that are loaded at the same time where that is done one by one.
pub(super) const ONE_BY_ONE: usize = 8;

/// What bounds the loads of a keyspace.
#[derive(Clone, Debug)]
pub(super) enum Room {
    /// Nothing.
    Wide,
    /// The bulkhead of its origin.
    Shared(Bulkhead),
    /// One of its own: what a batch has is all that it gets.
    Own,
}

/// Places for the statements of a batch: the one that it has, and others that were free.
#[must_use]
pub(super) struct Places {
    count: usize,
    _more: Vec<BulkheadPlace>,
}

impl Places {
    /// How many statements may be under way at the same time; at least one.
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

impl Room {
    /// Places for so many statements of a batch at the most, without a wait.
    pub(super) fn places(&self, most: usize) -> Places {
        let more = match self {
            Self::Wide => return Places { count: most.max(1), _more: Vec::new() },
            Self::Own => Vec::new(),
            Self::Shared(bulkhead) => (1..most).map_while(|_| bulkhead.try_place()).collect(),
        };
        Places { count: 1 + more.len(), _more: more }
    }

    /// Where a call can be made besides, now.
    fn another(&self) -> Option<Place<'_>> {
        match self {
            Self::Wide => Some(Place::None),
            Self::Own => None,
            Self::Shared(bulkhead) => bulkhead.try_place().map(Place::Taken),
        }
    }
}

/// Where a call is made, until it ends.
enum Place<'a> {
    /// Anywhere.
    None,
    Taken(#[expect(dead_code, reason = "dropping it gives the place back")] BulkheadPlace),
    Given(#[expect(dead_code, reason = "dropping it gives the place back")] Option<SemaphorePermit<'a>>),
}

/// The turns of one batch.
pub(super) struct Turns<'a> {
    room: &'a Room,
    turns: Semaphore,
}

/// The place that a statement had, for one at a time of the calls that stand for it.
pub(super) struct Given(Semaphore);

/// Leave to load one key. Dropping it gives it to the next.
#[must_use]
pub(super) struct Turn<'a> {
    _leave: Option<SemaphorePermit<'a>>,
    _place: Place<'a>,
}

impl Given {
    pub(super) fn new() -> Self {
        Self(Semaphore::new(1))
    }
}

impl<'a> Turns<'a> {
    pub(super) fn new(room: &'a Room) -> Self {
        Self { room, turns: Semaphore::new(ONE_BY_ONE) }
    }

    /// Leave to load one key in the place that was given, or in another that is free.
    pub(super) async fn turn(&'a self, given: &'a Given) -> Turn<'a> {
        let mut mine = given.0.try_acquire().ok();
        if mine.is_none() {
            let leave = self.turns.acquire().await.ok();
            if let Some(place) = self.room.another() {
                return Turn { _leave: leave, _place: place };
            }
            drop(leave);
            mine = given.0.acquire().await.ok();
        }
        Turn { _leave: self.turns.acquire().await.ok(), _place: Place::Given(mine) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::time::Duration;

    #[test]
    fn calls_that_stand_for_several_statements_are_eight_at_a_time_together() {
        let turns = Turns::new(&Room::Wide);
        let given = [Given::new(), Given::new(), Given::new(), Given::new()];
        let at = |number: usize| turns.turn(&given[number % 4]).now_or_never();
        let mut under_way: Vec<Option<Turn<'_>>> = (0..4 * ONE_BY_ONE).map(at).collect();
        assert_eq!(under_way.iter().flatten().count(), ONE_BY_ONE);
        under_way[0] = None;
        assert!(at(0).is_some(), "the next");
    }

    #[test]
    fn a_call_has_a_place_of_its_own_until_it_ends() {
        let bulkhead = Bulkhead::new("main", 3, Duration::ZERO).expect("valid");
        let of_batch = bulkhead.try_place().expect("it is free");
        let (room, given) = (Room::Shared(bulkhead.clone()), Given::new());
        let turns = Turns::new(&room);
        assert_eq!(bulkhead.load().running, 1, "none is taken before there is a call");
        let first = turns.turn(&given).now_or_never().expect("the place that the batch has");
        assert_eq!(bulkhead.load().running, 1);
        let more: Vec<Turn<'_>> = (0..2).filter_map(|_| turns.turn(&given).now_or_never()).collect();
        assert_eq!((more.len(), bulkhead.load().running), (2, 3));
        let mut waiting = Box::pin(turns.turn(&given));
        assert!(waiting.as_mut().now_or_never().is_none(), "there is none");
        drop(more);
        assert_eq!(bulkhead.load().running, 1, "they are for others by now");
        drop(first);
        assert!(waiting.now_or_never().is_some(), "the place that the batch has");
        drop(of_batch);
    }

    #[test]
    fn who_waits_for_a_place_keeps_no_turn_from_those_who_have_one() {
        let turns = Turns::new(&Room::Own);
        let (given, other) = (Given::new(), Given::new());
        let first = turns.turn(&given).now_or_never().expect("it is free");
        let mut waiting: Vec<_> = (0..2 * ONE_BY_ONE).map(|_| Box::pin(turns.turn(&given))).collect();
        assert!(waiting.iter_mut().all(|turn| turn.as_mut().now_or_never().is_none()));
        assert!(turns.turn(&other).now_or_never().is_some());
        drop(first);
        assert!(waiting[0].as_mut().now_or_never().is_some());
    }
}
