//! Is this entry fresh, stale or gone?
//!
//! Age decides, and only here. An entry is *fresh* until its TTL, then *stale* for its grace, then *expired*:
//!
//! ```text
//! written          + ttl                + ttl + grace
//!    |---- fresh ----|------ stale ---------|---- expired ----
//! ```
//!
//! 1. A TTL is an upper bound: an entry may be called stale up to one clock resolution early, never late.
//! 2. A TTL of zero means "do not keep". [`Ttl::Never`] means "until removed". A duration that no clock could
//!    reach counts as never.

use crate::clock::{Clock, Moment};
use std::time::Duration;

/// How long an entry is fresh.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use terrace_core::Ttl;
/// assert_eq!(Ttl::from(Duration::from_secs(60)).duration(), Some(Duration::from_secs(60)));
/// assert_eq!(Ttl::from(Duration::MAX), Ttl::Never);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ttl {
    /// Fresh for this long after it was written.
    After(Duration),
    /// Fresh until it is removed or evicted.
    Never,
}

impl Ttl {
    /// Longest TTL that is kept as a time: a hundred years. Anything above is [`Ttl::Never`].
    pub const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

    /// The duration, or `None` for an entry that does not age.
    pub const fn duration(self) -> Option<Duration> {
        match self {
            Self::After(duration) => Some(duration),
            Self::Never => None,
        }
    }

    /// Whether this TTL says "do not keep".
    pub const fn is_zero(self) -> bool {
        matches!(self, Self::After(Duration::ZERO))
    }

    /// This TTL, so much shorter; zero if it is not as long as that.
    #[must_use]
    pub fn without(self, time: Duration) -> Self {
        match self {
            Self::After(ttl) => Self::After(ttl.saturating_sub(time)),
            Self::Never => Self::Never,
        }
    }

    /// The shorter of two TTLs.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        match (self, other) {
            (Self::After(a), Self::After(b)) => Self::After(a.min(b)),
            (Self::Never, ttl) | (ttl, Self::Never) => ttl,
        }
    }
}

impl From<Duration> for Ttl {
    fn from(duration: Duration) -> Self {
        if duration > Self::LONGEST { Self::Never } else { Self::After(duration) }
    }
}

/// What the age of an entry makes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freshness {
    /// Within its TTL: an answer.
    Fresh,
    /// Past its TTL, within its grace: an answer only where stale answers are allowed, and flagged.
    Stale,
    /// Past its grace: as if it were not there.
    Expired,
}

/// From when to when an entry is fresh, and then stale, on this process' clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetime {
    /// When the entry turns stale.
    pub fresh_until: Moment,
    /// When the entry is gone.
    pub stale_until: Moment,
}

impl Lifetime {
    /// The lifetime of an entry written at `written` with this TTL and grace.
    pub fn new(written: Moment, ttl: Ttl, grace: Duration) -> Self {
        let fresh_until = ttl.duration().map_or(Moment::NEVER, |ttl| written.plus(ttl));
        let stale_until = fresh_until.plus(grace);
        Self { fresh_until, stale_until }
    }

    /// What an entry with this lifetime is at `now`, a reading of [`Clock::now`] that may lag by `resolution`.
    #[inline]
    pub fn freshness(&self, now: Moment, resolution: Duration) -> Freshness {
        let latest = now.plus(resolution);
        if latest < self.fresh_until {
            Freshness::Fresh
        } else if latest < self.stale_until {
            Freshness::Stale
        } else {
            Freshness::Expired
        }
    }

    /// How much longer the entry is fresh; [`Ttl::Never`] if it does not age.
    pub fn remaining(&self, clock: &Clock) -> Ttl {
        if self.fresh_until == Moment::NEVER {
            Ttl::Never
        } else {
            Ttl::After(self.fresh_until.since(clock.now().plus(clock.resolution())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_entry_is_fresh_then_stale_then_expired() {
        let clock = Clock::manual();
        let lifetime = Lifetime::new(clock.now(), Ttl::After(SECOND), SECOND);
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(lifetime.freshness(clock.now(), clock.resolution()));
            clock.advance(SECOND);
        }
        assert_eq!(seen, [Freshness::Fresh, Freshness::Stale, Freshness::Expired]);
    }

    #[test]
    fn a_lagging_clock_ends_freshness_early_never_late() {
        let written = Moment::from_nanos(0);
        let lifetime = Lifetime::new(written, Ttl::After(SECOND), Duration::ZERO);
        let lag = Duration::from_millis(4);
        let almost = Moment::from_nanos(997_000_000);
        assert_eq!(lifetime.freshness(almost, Duration::ZERO), Freshness::Fresh);
        assert_eq!(lifetime.freshness(almost, lag), Freshness::Expired);
    }

    #[test]
    fn the_table_of_odd_ttls() {
        let clock = Clock::manual();
        let is_fresh = |ttl: Duration| {
            Lifetime::new(clock.now(), ttl.into(), Duration::ZERO).freshness(clock.now(), Duration::ZERO)
        };
        for (ttl, expected) in [
            (Duration::ZERO, Freshness::Expired),
            (Duration::from_nanos(1), Freshness::Fresh),
            (Duration::from_millis(1 << 31), Freshness::Fresh),
            (Duration::from_millis(1 << 53), Freshness::Fresh),
            (Duration::MAX, Freshness::Fresh),
        ] {
            assert_eq!(is_fresh(ttl), expected, "{ttl:?}");
        }
    }
}
