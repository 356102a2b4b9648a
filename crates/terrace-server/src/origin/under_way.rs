//! What is noted of a call of an origin: for its breaker, and how long it took.
//!
//! 1. It begins when the breaker lets it. What is answered here before, because the origin is left alone or cannot be asked for that key,
//!    is no call.
//! 2. One that waited for a place or a connection in vain was not made, for breaker and durations alike. Where it got one, the wait is
//!    part of the call: who asked has waited for it.
//! 3. One that is given up has failed, for the durations; what that says to the breaker, [`OriginCall`] decides.

use super::error::OriginError;
use terrace::{OriginCall, OriginTimer, OriginTiming};

/// What kind of call begins.
pub(super) type Kind = fn(&OriginTimer) -> OriginTiming;

/// A call that is under way.
#[must_use = "a call that is dropped was given up"]
pub(super) struct UnderWay {
    guarded: Option<OriginCall>,
    timing: Option<OriginTiming>,
}

impl UnderWay {
    /// A call begins that the breaker has let pass, if there is one.
    pub(super) fn begin(guarded: Option<OriginCall>, timer: Option<&OriginTimer>, kind: Kind) -> Self {
        Self { guarded, timing: timer.map(kind) }
    }

    /// The call has ended, with this error or none.
    pub(super) fn end(self, error: Option<&OriginError>) {
        let is_made = !matches!(error, Some(OriginError::NotNow { .. }));
        match self.guarded {
            Some(call) if !is_made => call.not_made(),
            Some(call) if error.is_some_and(OriginError::is_unreached) => call.unreachable(),
            Some(call) => call.end(error.is_some_and(OriginError::is_trouble)),
            None => {}
        }
        match self.timing {
            Some(timing) if is_made => timing.end(error.is_none()),
            Some(timing) => timing.not_made(),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, OnceLock};
    use std::time::Duration;
    use terrace::{Breaker, Cache, Clock, Origin, OriginBreaker};

    #[derive(Default)]
    struct Timed(OnceLock<OriginTimer>);

    impl Origin<u64, u64> for Timed {
        type Error = OriginError;

        async fn load(&self, _: &u64) -> Result<Option<u64>, OriginError> {
            Ok(None)
        }

        fn time_by(&self, timer: &OriginTimer) -> bool {
            self.0.set(timer.clone()).is_ok()
        }
    }

    #[test]
    fn what_was_not_made_counts_nowhere_and_what_was_made_counts_for_both() {
        let cache = Cache::memory().expect("a cache");
        let origin = Arc::new(Timed::default());
        let _bound = cache.keyspace::<u64, u64>("k").read_through(Arc::clone(&origin)).build();
        let breaker =
            OriginBreaker::new("o", Breaker::default(), Clock::manual()).expect("settings that can be");
        let begin = || {
            UnderWay::begin(Some(breaker.begin().expect("it is closed")), origin.0.get(), OriginTimer::load)
        };
        let (name, reason) = (|| Arc::from("o"), || "a reason".to_owned());
        begin().end(Some(&OriginError::NotNow { origin: name(), reason: reason() }));
        begin().end(Some(&OriginError::Timeout { origin: name(), after: Duration::ZERO }));
        begin().end(Some(&OriginError::Failed { origin: name(), reason: reason() }));
        begin().end(None);
        let metrics = cache.metrics();
        for (outcome, count) in [("ok", 1), ("failed", 2)] {
            let labels = format!("keyspace=\"k\",op=\"load\",outcome=\"{outcome}\"");
            let line = format!("\nterrace_origin_duration_seconds_count{{{labels}}} {count}\n");
            assert!(metrics.contains(&line), "no {line} in {metrics}");
        }
        let health = breaker.health();
        assert_eq!((health.calls, health.failures), (3, 1), "what was refused has been answered");
    }
}
