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
