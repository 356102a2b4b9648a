//! What is tried again, how often, and after which pauses?
//!
//! 1. A call that was certainly not sent is tried again, whatever it was: it had no effect.
//! 2. A question, which changes nothing, is tried again also when its connection broke or its answer did not come in time.
//! 3. What may have had an effect is never tried again: not a `set`, which would bring an old value back, not a lease, which
//!    would wait for itself. [`crate::coherence::pending`] remembers what has to be told.
//! 4. Pauses are drawn evenly from nothing up to a bound that doubles: "full jitter", so that those who failed together do
//!    not come back together.
//! 5. A read tries again only while its [`super::budget`] lasts.

use crate::error::ConfigError;
use std::time::Duration;
use terrace_core::{Chance, RemoteError};

/// How calls to L2 are tried again that failed for want of a connection.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use terrace::{Cache, Retry};
/// let retry = Retry::default().max(2).base(Duration::from_millis(10)).cap(Duration::from_millis(100));
/// let cache = Cache::builder().retry(retry).build()?;
/// # Ok::<(), terrace::ConfigError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "settings do nothing until a cache is built with them"]
pub struct Retry {
    max: u32,
    base: Duration,
    cap: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { max: Self::MAX_DEFAULT, base: Self::BASE_DEFAULT, cap: Self::CAP_DEFAULT }
    }
}

impl Retry {
    /// Attempts after the first, unless told otherwise: 3.
    pub const MAX_DEFAULT: u32 = 3;
    /// The bound of the first pause, unless told otherwise: 20 ms.
    pub const BASE_DEFAULT: Duration = Duration::from_millis(20);
    /// The bound of every pause, unless told otherwise: 500 ms.
    pub const CAP_DEFAULT: Duration = Duration::from_millis(500);
    /// Most attempts after the first.
    const MAX_MAX: u32 = 100;

    /// Nothing is tried again.
    pub fn never() -> Self {
        Self::default().max(0)
    }

    /// Attempts after the first. Default: 3. At most 100; none if 0.
    pub fn max(mut self, max: u32) -> Self {
        self.max = max;
        self
    }

    /// The first pause is drawn from between nothing and this; for each further one the bound doubles. Default: 20 ms.
    pub fn base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// No pause is longer. Default: 500 ms.
    pub fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.max > Self::MAX_MAX {
            return Err(ConfigError::new("retry.max", self.max, "at most 100, e.g. 3; 0 for none"));
        }
        if self.max > 0 && self.base.is_zero() {
            return Err(ConfigError::new("retry.base", self.base, "more than nothing, e.g. 20 ms"));
        }
        if self.max > 0 && self.cap < self.base {
            return Err(ConfigError::new("retry.cap", self.cap, "at least `retry.base`, e.g. 500 ms"));
        }
        Ok(())
    }

    /// The pause before attempt number `retried + 1` after the first; `None` if there is none any more.
    pub(super) fn pause(&self, retried: u32, chance: &Chance) -> Option<Duration> {
        if retried >= self.max {
            return None;
        }
        let bound = self.base.saturating_mul(2_u32.saturating_pow(retried)).min(self.cap);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX - 1);
        Some(Duration::from_nanos(chance.below(nanos.saturating_add(1))))
    }
}

/// Whether a call can be made twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Safety {
    /// It changes nothing.
    Question,
    /// It may change something.
    Change,
}

impl Safety {
    /// Whether a call that failed like this can be made again without harm, and with hope.
    pub(super) fn allows(self, error: &RemoteError) -> bool {
        match error {
            RemoteError::Unavailable { .. } => true,
            RemoteError::Timeout { .. } | RemoteError::Broken { .. } => self == Self::Question,
            // The server has answered, and will answer the same in a moment.
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_had_no_effect_is_tried_again() {
        let reason = String::new;
        let (timeout, broken) =
            (RemoteError::Timeout { after: Duration::ZERO }, RemoteError::Broken { reason: reason() });
        let unavailable = RemoteError::Unavailable { reason: reason() };
        assert!(Safety::Change.allows(&unavailable) && Safety::Question.allows(&unavailable));
        for uncertain in [&timeout, &broken] {
            assert!(Safety::Question.allows(uncertain) && !Safety::Change.allows(uncertain));
        }
        for hopeless in [
            RemoteError::Refused { reason: reason() },
            RemoteError::CutOff { reason: reason() },
            RemoteError::Mismatch { reason: reason() },
            RemoteError::Protocol { reason: reason() },
        ] {
            assert!(!Safety::Question.allows(&hopeless) && !Safety::Change.allows(&hopeless));
        }
    }

    #[test]
    fn pauses_are_spread_below_a_bound_that_doubles_up_to_the_cap() {
        let retry = Retry::default().max(100);
        let chance = Chance::seeded(1);
        for (retried, bound) in [(0, 20), (1, 40), (2, 80), (5, 500), (99, 500)] {
            let pauses: Vec<_> =
                (0..1000).map(|_| retry.pause(retried, &chance).expect("one more")).collect();
            let longest = pauses.iter().max().expect("some");
            let bound = Duration::from_millis(bound);
            assert!(*longest <= bound && *longest > bound * 9 / 10, "{longest:?} of {bound:?}");
            assert!(pauses.iter().any(|pause| *pause < bound / 10));
        }
        assert_eq!(retry.pause(100, &chance), None);
        assert_eq!(Retry::never().pause(0, &chance), None);
        let smallest = Retry::default().base(Duration::from_nanos(1)).cap(Duration::from_nanos(1));
        assert!(smallest.pause(0, &chance).is_some(), "no bound is too small to draw from");
        assert!(Retry::default().max(1).base(Duration::MAX).cap(Duration::MAX).pause(0, &chance).is_some());
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let refused = |retry: Retry| retry.check().expect_err("refused").setting;
        assert_eq!(refused(Retry::default().max(101)), "retry.max");
        assert_eq!(refused(Retry::default().base(Duration::ZERO)), "retry.base");
        assert_eq!(refused(Retry::default().cap(Duration::from_millis(19))), "retry.cap");
        assert_eq!(Retry::never().base(Duration::ZERO).check(), Ok(()));
    }
}
