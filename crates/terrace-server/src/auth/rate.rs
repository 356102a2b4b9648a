//! How often may somebody ask?
//!
//! 1. So often in a second, with room for a burst. What is more is refused at once, and costs nothing but the refusal.
//! 2. A request that names many keys is as many as it names. One that is more than a burst could never be, and is told so.

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use terrace::Clock;

#[derive(Clone)]
struct Ticks(Clock);

impl GovernorClock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.now().as_nanos())
    }
}

/// How often somebody may ask, and how often they did lately.
pub(crate) struct Rate {
    pub(super) limit: RateLimit,
    limiter: RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<<Ticks as GovernorClock>::Instant>>,
}

/// How often somebody may ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct RateLimit {
    /// Requests in a second, in the long run. One that names many keys counts as many.
    pub per_second: NonZeroU32,
    /// Requests at once, after a while without any. Default as many as in a second.
    pub burst: NonZeroU32,
}

/// Why so many may not be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TooMuch {
    /// Not now.
    Now,
    /// Never at once: so many may.
    AtOnce(NonZeroU32),
}

impl Rate {
    pub(crate) fn new(limit: RateLimit, clock: Clock) -> Self {
        let quota = Quota::per_second(limit.per_second).allow_burst(limit.burst);
        Self { limit, limiter: RateLimiter::direct_with_clock(quota, Ticks(clock)) }
    }

    /// The rate with this limit that goes on from the one before, if that had the same.
    pub(super) fn again(
        limit: Option<RateLimit>,
        before: Option<&Arc<Self>>,
        clock: &Clock,
    ) -> Option<Arc<Self>> {
        let limit = limit?;
        let same = before.filter(|rate| rate.limit == limit);
        Some(same.cloned().unwrap_or_else(|| Arc::new(Self::new(limit, clock.clone()))))
    }

    /// Whether `count` requests could ever be at once; nothing is noted.
    ///
    /// # Errors
    /// [`TooMuch::AtOnce`] if they are more than a burst.
    pub(super) fn could_allow(&self, count: usize) -> Result<(), TooMuch> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if count > self.limit.burst.get() { Err(TooMuch::AtOnce(self.limit.burst)) } else { Ok(()) }
    }

    /// Takes note of `count` requests at once, of which `noted` were noted before.
    ///
    /// # Errors
    /// [`TooMuch`]: none of them was noted now.
    pub(super) fn allows_all(&self, count: usize, noted: u32) -> Result<(), TooMuch> {
        self.could_allow(count)?;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let Some(others) = NonZeroU32::new(count.saturating_sub(noted)) else { return Ok(()) };
        match self.limiter.check_n(others) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(TooMuch::Now),
            Err(_) => Err(TooMuch::AtOnce(self.limit.burst)),
        }
    }

    /// Takes note of one more, and says whether it may be.
    ///
    /// # Cost
    /// One atomic exchange and a reading of the coarse clock.
    pub(crate) fn allows(&self) -> bool {
        self.limiter.check().is_ok()
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.limit.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let clock = Clock::manual();
        let number = |number| NonZeroU32::new(number).expect("not zero");
        let rate = Rate::new(RateLimit { per_second: number(10), burst: number(3) }, clock.clone());
        let allowed = |tries: u32| (0..tries).filter(|_| rate.allows()).count();
        assert_eq!(allowed(10), 3);
        clock.advance(Duration::from_millis(100));
        assert_eq!(allowed(10), 1);
        clock.advance(Duration::from_mins(1));
        assert_eq!(allowed(10), 3);
    }

    #[test]
    fn a_request_is_as_many_as_it_names() {
        let clock = Clock::manual();
        let number = |number| NonZeroU32::new(number).expect("not zero");
        let rate = Rate::new(RateLimit { per_second: number(10), burst: number(5) }, clock.clone());
        assert!(rate.allows());
        assert_eq!(rate.allows_all(4, 1), Ok(()));
        assert_eq!((rate.allows_all(1, 1), rate.allows_all(0, 1)), (Ok(()), Ok(())), "noted when it came");
        assert_eq!(rate.allows_all(1, 0), Ok(()), "the fifth");
        assert_eq!((rate.allows_all(2, 1), rate.allows()), (Err(TooMuch::Now), false));
        for more in [6, usize::MAX] {
            assert_eq!(rate.allows_all(more, 1), Err(TooMuch::AtOnce(number(5))));
        }
        clock.advance(Duration::from_millis(500));
        assert!(rate.allows());
        assert_eq!((rate.allows_all(5, 1), rate.allows()), (Ok(()), false), "a whole burst");
    }
}
