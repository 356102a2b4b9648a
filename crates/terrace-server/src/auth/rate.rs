//! How often may somebody ask?
//!
//! 1. So often in a second, with room for a burst. What is more is refused at once, and costs nothing but the refusal.

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::fmt;
use std::num::NonZeroU32;
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
    /// Requests in a second, in the long run.
    pub per_second: NonZeroU32,
    /// Requests at once, after a while without any. Default as many as in a second.
    pub burst: NonZeroU32,
}

impl Rate {
    pub(crate) fn new(limit: RateLimit, clock: Clock) -> Self {
        let quota = Quota::per_second(limit.per_second).allow_burst(limit.burst);
        Self { limit, limiter: RateLimiter::direct_with_clock(quota, Ticks(clock)) }
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
}
