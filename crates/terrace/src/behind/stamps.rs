//! The versions of writes, by which an origin refuses what is old, whichever node it comes from.
//!
//! 1. A version is a time in microseconds. Where an L2 orders the changes of a key, the version is the one that it gave the change:
//!    so the origin keeps what L2 keeps, whichever node is first at the origin. A write is *held* until that is known.
//! 2. Before that, and where L2 did not answer, it is this node's clock, set by what L2 gave last. It never falls, also over restarts.
//! 3. A version that L2 did not give can lie above those that it gives next. Those of this journal are then raised above it, so that a later
//!    write of one node is never refused for an earlier one of the same. What is in the file by then is known after a restart, too: a
//!    clock of L2 that is ahead by more than a restart takes can be forgotten by one.
//!
//! Deliberately absent: any trust that clocks of nodes agree, as long as L2 answers. While it does not, two nodes that write one key are
//! in the order of their clocks.

/// What the versions of a journal are made from.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Stamps {
    /// The last one that was given out.
    last: u64,
    /// What L2's time is ahead of this node's, in microseconds.
    ahead: i64,
    /// The highest one that L2 did not give.
    kept: u64,
}

impl Stamps {
    /// Goes on after what an earlier life gave out.
    pub(super) fn after(last: u64) -> Self {
        Self { last, ahead: 0, kept: last }
    }

    /// The last one that was given out.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// A version for a new write, at this time of this node in microseconds.
    pub(super) fn next(&mut self, now: u64) -> u64 {
        self.last = now.saturating_add_signed(self.ahead).max(self.last.saturating_add(1));
        self.last
    }

    /// What becomes of a version, now that L2 has given the change one, or has not.
    pub(super) fn settle(&mut self, first: u64, given: Option<u64>, now: u64) -> u64 {
        let Some(given) = given else {
            self.kept = self.kept.max(first);
            return first;
        };
        self.ahead = i64::try_from(i128::from(given) - i128::from(now)).unwrap_or_default();
        let settled = if given > self.kept { given } else { self.kept.saturating_add(1) };
        if given <= self.kept {
            self.kept = settled;
        }
        self.last = self.last.max(settled);
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_800_000_000_000_000;

    #[test]
    fn versions_rise_when_the_clock_does_not() {
        let mut stamps = Stamps::after(0);
        let first = stamps.next(NOON);
        assert_eq!((first, stamps.next(NOON), stamps.next(NOON - 5_000)), (NOON, NOON + 1, NOON + 2));
        let mut again = Stamps::after(NOON + 7);
        let next = again.next(NOON);
        assert_eq!(
            (next, again.settle(next, Some(NOON + 3), NOON)),
            (NOON + 8, NOON + 8),
            "nor over a restart"
        );
    }

    #[test]
    fn what_l2_gave_is_the_version_and_sets_the_clock() {
        let mut stamps = Stamps::after(0);
        let first = stamps.next(NOON);
        assert_eq!(stamps.settle(first, Some(NOON + 900), NOON + 10), NOON + 900);
        assert_eq!(stamps.next(NOON + 20), NOON + 910);
        let ahead_of_l2 = stamps.next(NOON + 30);
        assert_eq!(stamps.settle(ahead_of_l2, Some(NOON + 905), NOON + 40), NOON + 905, "also a lower one");
    }

    #[test]
    fn a_write_of_an_outage_is_below_those_that_follow() {
        let mut stamps = Stamps::after(0);
        let first = stamps.next(NOON);
        assert_eq!(stamps.settle(first, None, NOON), NOON);
        let next = stamps.next(NOON + 1);
        assert_eq!(
            stamps.settle(next, Some(NOON - 1_000_000), NOON + 2),
            NOON + 1,
            "this clock is a second ahead"
        );
        let third = stamps.next(NOON + 3);
        assert_eq!(stamps.settle(third, Some(NOON - 999_000), NOON + 4), NOON + 2);
        let last = stamps.next(NOON + 5);
        assert_eq!(stamps.settle(last, Some(NOON + 10), NOON + 6), NOON + 10);
    }
}
