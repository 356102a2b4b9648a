//! What L2 has refused lately.
//!
//! 1. A server that refuses is there, and answers: it counts as no failure for the breaker, and its health is good. Yet nothing
//!    is kept by one whose memory is full, or that may not be the primary any more, so it is told apart.
//! 2. That it takes one call says nothing of another: one without memory takes every invalidation and no value. So what was refused stays told for
//!    [`LATELY`], whatever else succeeds.

use parking_lot::Mutex;
use std::time::Duration;
use terrace_core::{Moment, RemoteError};

/// For how long a refusal is told.
const LATELY: Duration = Duration::from_mins(1);

/// The last call that was refused, and when.
#[derive(Default)]
pub(super) struct Refusals(Mutex<Option<(Moment, RemoteError)>>);

impl Refusals {
    /// Remembers a call that failed at `now`, if it was refused. The first in a while is logged.
    pub(super) fn note(&self, now: Moment, error: &RemoteError) {
        if !matches!(error, RemoteError::Refused { .. } | RemoteError::CutOff { .. }) {
            return;
        }
        let before = self.0.lock().replace((now, error.clone()));
        if !before.is_some_and(|(at, _)| is_lately(at, now)) {
            tracing::warn!(%error, "L2 refuses what it is asked");
        }
    }

    /// What was refused last, if that was lately.
    pub(super) fn lately(&self, now: Moment) -> Option<RemoteError> {
        self.0.lock().as_ref().filter(|(at, _)| is_lately(*at, now)).map(|(_, error)| error.clone())
    }
}

fn is_lately(at: Moment, now: Moment) -> bool {
    now.since(at) < LATELY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_for_a_minute_and_another_failure_is_none() {
        let (refusals, refused) = (Refusals::default(), RemoteError::Refused { reason: "OOM".to_owned() });
        let at = |seconds: u64| Moment::from_nanos(seconds * 1_000_000_000);
        let is_told = |seconds: u64| refusals.lately(at(seconds)).is_some();
        refusals.note(at(1), &RemoteError::Timeout { after: LATELY });
        assert!(!is_told(1));
        refusals.note(at(2), &refused);
        refusals.note(at(3), &RemoteError::Broken { reason: "closed".to_owned() });
        assert!(matches!(refusals.lately(at(61)), Some(RemoteError::Refused { reason }) if reason == "OOM"));
        assert!(!is_told(62));
        refusals.note(at(100), &refused);
        assert!(is_told(159) && !is_told(160));
        refusals.note(at(200), &RemoteError::CutOff { reason: "READONLY".to_owned() });
        assert!(is_told(259) && !is_told(260));
    }
}
