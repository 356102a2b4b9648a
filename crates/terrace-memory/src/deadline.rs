//! A deadline as an entry keeps it, 48 bits, and the time that it is compared with.
//!
//! Counted in steps of 4,096 ns from the clock's start, rounded down: an entry is refused up to 4 µs early, never late. The
//! farthest deadline is 36 years after the clock's start; farther ones are brought forward to it.

use std::cell::Cell;
use terrace_core::{Clock, Moment};

const STEP_BITS: u32 = 12;
const NEVER: u64 = (1 << 48) - 1;
/// A granule of background expiry: 67 ms.
const GRANULE_BITS: u32 = 26 - STEP_BITS;

/// When an entry expires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Deadline(u64);

impl Deadline {
    pub(crate) const NEVER: Self = Self(NEVER);

    #[inline]
    pub(crate) fn of(moment: Moment) -> Self {
        if moment == Moment::NEVER {
            Self::NEVER
        } else {
            Self((moment.as_nanos() >> STEP_BITS).min(NEVER - 1))
        }
    }

    #[inline]
    pub(crate) const fn from_parts(low: u32, high: u16) -> Self {
        Self((high as u64) << 32 | low as u64)
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "it has 48 bits")]
    pub(crate) const fn to_parts(self) -> (u32, u16) {
        (self.0 as u32, (self.0 >> 32) as u16)
    }

    /// Whether it has passed at `latest`, the latest that the time may be.
    #[inline]
    pub(crate) const fn has_passed(self, latest: Moment) -> bool {
        self.0 <= latest.as_nanos() >> STEP_BITS && self.0 != NEVER
    }

    /// The span of background expiry that it lies in; `None` if it never comes.
    #[inline]
    pub(crate) fn granule(self) -> Option<u64> {
        (self != Self::NEVER).then_some(self.0 >> GRANULE_BITS)
    }

    /// The span that a moment lies in.
    pub(crate) const fn granule_of(moment: Moment) -> u64 {
        moment.as_nanos() >> (STEP_BITS + GRANULE_BITS)
    }
}

/// A clock, and how far it may lag.
#[derive(Clone, Debug)]
pub(crate) struct Timekeeper {
    clock: Clock,
    lag_nanos: u64,
}

impl Timekeeper {
    pub(crate) fn new(clock: Clock) -> Self {
        let lag_nanos = u64::try_from(clock.resolution().as_nanos()).unwrap_or(u64::MAX);
        Self { clock, lag_nanos }
    }

    pub(crate) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The latest that the time may be now: what has a deadline up to here has expired.
    #[inline]
    pub(crate) fn latest(&self) -> Moment {
        self.latest_at(self.clock.now())
    }

    /// The latest that the time may be when the clock shows `now`.
    #[inline]
    pub(crate) const fn latest_at(&self, now: Moment) -> Moment {
        Moment::from_nanos(now.as_nanos().saturating_add(self.lag_nanos))
    }
}

/// The time of one operation: read once, and only if something has a deadline.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    timekeeper: Option<&'a Timekeeper>,
    /// Never the moment that never comes.
    read: Cell<Moment>,
}

impl<'a> Watch<'a> {
    #[inline]
    pub(crate) const fn new(timekeeper: &'a Timekeeper) -> Self {
        Self { timekeeper: Some(timekeeper), read: Cell::new(Moment::NEVER) }
    }

    /// A watch that shows one moment.
    #[cfg(test)]
    pub(crate) const fn stopped(at: Moment) -> Self {
        Self { timekeeper: None, read: Cell::new(at) }
    }

    /// The latest that the time may be.
    pub(crate) fn latest(&self) -> Moment {
        if let (Moment::NEVER, Some(timekeeper)) = (self.read.get(), self.timekeeper) {
            self.read.set(timekeeper.latest());
        }
        self.read.get()
    }

    /// Whether a deadline has passed.
    #[inline]
    pub(crate) fn has_passed(&self, deadline: Deadline) -> bool {
        deadline != Deadline::NEVER && deadline.has_passed(self.latest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_moment_of_the_clock_is_reached() {
        let last = Moment::from_nanos(u64::MAX - 1);
        assert!(Deadline::of(last).has_passed(last));
        assert!(!Deadline::NEVER.has_passed(last));
    }

    proptest! {
        #[test]
        fn a_deadline_passes_up_to_a_step_early_and_never_late(nanos in 0_u64..1 << 60, span in 0_u64..10_000) {
            let deadline = Deadline::of(Moment::from_nanos(nanos));
            let (low, high) = deadline.to_parts();
            prop_assert_eq!(Deadline::from_parts(low, high), deadline);
            prop_assert!(deadline.has_passed(Moment::from_nanos(nanos + span)));
            let early = nanos.checked_sub((1 << STEP_BITS) + span);
            prop_assert!(early.is_none_or(|early| !deadline.has_passed(Moment::from_nanos(early))));
        }
    }
}
