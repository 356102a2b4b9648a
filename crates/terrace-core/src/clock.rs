//! What time is it?
//!
//! Time is a parameter everywhere in terrace: nothing else may ask the operating system for it. That is what lets
//! a test hold time still, and what keeps an L1 hit from paying 23 ns for a clock.
//!
//! 1. [`Moment`]s are monotonic and local to the process. They are never sent anywhere, never compared across nodes.
//! 2. [`Clock::now`] is coarse: it lags the true time by up to [`Clock::resolution`] and never leads it. Whoever
//!    must not be late adds the resolution before comparing, as [`crate::entry::Lifetime`] does.
//! 3. [`Clock::wall`] is for people (timestamps in replies and logs). No decision of terrace depends on it.
//!
//! The coarse clock is the kernel's `CLOCK_MONOTONIC_COARSE` (about 4 ns a read, 1 to 10 ms resolution). It does not
//! count time during which a virtual machine is suspended.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// A point on this process' monotonic clock, in nanoseconds since an arbitrary start.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use terrace_core::Clock;
/// let clock = Clock::manual();
/// let start = clock.now();
/// clock.advance(Duration::from_secs(2));
/// assert_eq!(clock.now().since(start), Duration::from_secs(2));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Moment(u64);

impl Moment {
    /// The moment that never comes: the deadline of an entry without a TTL.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `nanos` nanoseconds after the clock's start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This moment and a while later; [`Moment::NEVER`] if that is past the end of the clock.
    #[must_use]
    pub fn plus(self, while_: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(while_.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// This moment, a while earlier; [`Moment::NEVER`] stays what it is.
    #[must_use]
    pub fn minus(self, while_: Duration) -> Self {
        if self == Self::NEVER {
            return self;
        }
        Self(self.0.saturating_sub(u64::try_from(while_.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this moment is; zero if it is before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A source of time: the system's, or one that a test moves by hand.
///
/// Cloning is cheap; clones of a manual clock share its hands.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// Where a manual clock starts: well above zero, so that tests can subtract.
    const MANUAL_START_NANOS: u64 = 1_000_000_000;
    /// The wall time that a manual clock shows at its start: 2020-01-01T00:00:00Z.
    const MANUAL_WALL_START_SECS: u64 = 1_577_836_800;

    /// The system's clock.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn manual() -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(Self::MANUAL_START_NANOS))))
    }

    /// Moves a manual clock forward. The system's clock moves by itself, so there it does nothing.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(nanos) = &self.0 {
            nanos.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
        }
    }

    /// The coarse time: at most [`Clock::resolution`] behind, never ahead.
    ///
    /// # Cost
    /// About 4 ns on Linux; no system call, no lock.
    #[inline]
    pub fn now(&self) -> Moment {
        match &self.0 {
            Source::System => system::coarse(),
            Source::Manual(nanos) => Moment(nanos.load(Ordering::SeqCst)),
        }
    }

    /// The exact time, on the same scale as [`Clock::now`].
    ///
    /// # Cost
    /// About 23 ns: use it to measure, not on every hit.
    pub fn precise(&self) -> Moment {
        match &self.0 {
            Source::System => system::precise(),
            Source::Manual(nanos) => Moment(nanos.load(Ordering::SeqCst)),
        }
    }

    /// How far [`Clock::now`] may lag behind the true time; zero for a manual clock.
    pub fn resolution(&self) -> Duration {
        match &self.0 {
            Source::System => system::resolution(),
            Source::Manual(_) => Duration::ZERO,
        }
    }

    /// The time of day, for people.
    #[expect(clippy::disallowed_methods, reason = "this module is the owner of time")]
    pub fn wall(&self) -> SystemTime {
        match &self.0 {
            Source::System => SystemTime::now(),
            Source::Manual(nanos) => {
                SystemTime::UNIX_EPOCH
                    + Duration::from_secs(Self::MANUAL_WALL_START_SECS)
                    + Duration::from_nanos(nanos.load(Ordering::SeqCst) - Self::MANUAL_START_NANOS)
            }
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::System => f.write_str("Clock::system"),
            Source::Manual(nanos) => write!(f, "Clock::manual({} ns)", nanos.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use super::Moment;
    use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};
    use std::sync::OnceLock;
    use std::time::Duration;

    fn nanos(time: Timespec) -> u64 {
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
    }

    #[inline]
    pub(super) fn coarse() -> Moment {
        Moment(nanos(clock_gettime(ClockId::MonotonicCoarse)))
    }

    pub(super) fn precise() -> Moment {
        Moment(nanos(clock_gettime(ClockId::Monotonic)))
    }

    /// Asked for once: that is a system call, and it never changes.
    pub(super) fn resolution() -> Duration {
        static RESOLUTION: OnceLock<Duration> = OnceLock::new();
        *RESOLUTION.get_or_init(|| Duration::from_nanos(nanos(clock_getres(ClockId::MonotonicCoarse))))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::Moment;
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    static START: OnceLock<Instant> = OnceLock::new();

    #[expect(clippy::disallowed_methods, reason = "this module is the owner of time")]
    pub(super) fn precise() -> Moment {
        let now = Instant::now();
        Moment::from_nanos(0).plus(now.duration_since(*START.get_or_init(|| now)) + Duration::from_secs(1))
    }

    #[inline]
    pub(super) fn coarse() -> Moment {
        precise()
    }

    pub(super) const fn resolution() -> Duration {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_time_never_leads_and_lags_by_little() {
        let clock = Clock::system();
        for _ in 0..1_000 {
            let coarse = clock.now();
            let precise = clock.precise();
            assert!(coarse <= precise);
        }
    }

    #[test]
    fn a_while_past_the_end_of_time_is_never() {
        assert_eq!(Clock::system().now().plus(Duration::MAX), Moment::NEVER);
    }

    #[test]
    fn wall_time_of_a_manual_clock_moves_with_it() {
        let clock = Clock::manual();
        let before = clock.wall();
        clock.advance(Duration::from_millis(1500));
        assert_eq!(clock.wall().duration_since(before).ok(), Some(Duration::from_millis(1500)));
    }
}
