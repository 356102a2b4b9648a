//! Why an origin did not answer.
//!
//! 1. The words of a database are for the log. They may name tables, or worse, so the words that reach a client of the
//!    service are made from the kind of the failure alone: see [`OriginError::public`].
//! 2. What says that the origin is in trouble counts for its breaker: [`OriginError::is_trouble`].
//! 3. That nobody was reached says the same of all that it could have been asked for; what it answers, or breaks off, may be for what it was
//!    asked for: [`OriginError::is_unreached`].
//! 4. A key that the origin cannot have is the caller's mistake, and says nothing about the origin.
//! 5. What was not asked here is no load that failed, whichever bound it was that refused it: [`OriginError::fault`].

use std::sync::Arc;
use std::time::Duration;
use terrace::{Fault, WriteFailure};

/// Why an origin did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OriginError {
    /// No connection could be had, or what answered or ended one says that nothing can be had now.
    #[error("origin `{origin}` is unreachable: {reason}")]
    Unavailable {
        /// The origin's name.
        origin: Arc<str>,
        /// What was tried, and what came of it.
        reason: String,
        /// Whether something had the request, or could have had it: then it may be for what was asked for.
        is_reached: bool,
    },
    /// It was reached, and does not let in whoever asks: nothing can be had until a password, a user or a right is another.
    #[error("origin `{origin}` does not let us in: {reason}")]
    Denied {
        /// The origin's name.
        origin: Arc<str>,
        /// What it said.
        reason: String,
    },
    /// It was reached, and answered that it cannot do this now.
    #[error("origin `{origin}` has too much to do: {reason}")]
    Busy {
        /// The origin's name.
        origin: Arc<str>,
        /// What it answered.
        reason: String,
        /// How long it wants to be left alone, if it said so.
        again: Option<Duration>,
    },
    /// It is not in trouble, and does not take this now: all places for it are taken here, or it takes no writes.
    #[error("origin `{origin}` does not take this now: {reason}")]
    NotNow {
        /// The origin's name.
        origin: Arc<str>,
        /// Why.
        reason: String,
    },
    /// It is left alone: too much of what it was asked failed.
    #[error("origin `{origin}` is left alone, because it failed too often; ask again in {:.1} s", .again.as_secs_f64())]
    LeftAlone {
        /// The origin's name.
        origin: Arc<str>,
        /// How long until it is asked again.
        again: Duration,
    },
    /// It said itself that it failed.
    #[error("origin `{origin}` failed: {reason}")]
    Broken {
        /// The origin's name.
        origin: Arc<str>,
        /// What it said.
        reason: String,
    },
    /// It took too long.
    #[error("origin `{origin}` did not answer within {after:?}")]
    Timeout {
        /// The origin's name.
        origin: Arc<str>,
        /// The time it was given.
        after: Duration,
    },
    /// A part of the key is no value of the type that it is compared with.
    #[error("origin `{origin}` cannot have this key: {reason}")]
    Key {
        /// The origin's name.
        origin: Arc<str>,
        /// What it said.
        reason: String,
    },
    /// The statement found more than one row.
    #[error("origin `{origin}` has more than one row for this key")]
    NotUnique {
        /// The origin's name.
        origin: Arc<str>,
    },
    /// It will not have the write: a constraint, or a value that a column cannot hold.
    #[error("origin `{origin}` does not take this write: {reason}")]
    Refused {
        /// The origin's name.
        origin: Arc<str>,
        /// What it said.
        reason: String,
    },
    /// The write was sent, and nobody knows what became of it.
    #[error("origin `{origin}` may have the write or not: {reason}")]
    Unknown {
        /// The origin's name.
        origin: Arc<str>,
        /// What happened.
        reason: String,
        /// Whether it answered, with something that does not say.
        is_answered: bool,
    },
    /// It refused the statement, or its answer makes no value.
    #[error("origin `{origin}` failed: {reason}")]
    Failed {
        /// The origin's name.
        origin: Arc<str>,
        /// What it said.
        reason: String,
    },
}

/// The class of SQL states that say that a server does not let us in: a password, a user, or where we come from.
const DENIED: &str = "28";

impl OriginError {
    /// Why there is no connection to a database, by the state that it told, if it told one.
    pub(super) fn unconnected(origin: &Arc<str>, reason: String, state: Option<&str>) -> Self {
        let origin = Arc::clone(origin);
        match state {
            Some(state) if state.starts_with(DENIED) => Self::Denied { origin, reason },
            _ => Self::Unavailable { origin, reason, is_reached: false },
        }
    }

    /// Whether there was no answer: what was asked may be right, and another time may bring one.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::NotNow { .. } | Self::LeftAlone { .. } | Self::Timeout { .. }
        )
    }

    /// Whether it was answered that this is not for whoever asks.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }

    /// Whether it says that the origin is in trouble. What it refused, a key, a write or a statement, it answered; what waited here in
    /// vain, it was not asked.
    pub(crate) fn is_trouble(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::Denied { .. }
                | Self::Busy { .. }
                | Self::Timeout { .. }
                | Self::Unknown { is_answered: false, .. }
                | Self::Broken { .. }
        )
    }

    /// Whether nobody was reached who could have looked at what was asked for.
    pub(crate) fn is_unreached(&self) -> bool {
        matches!(self, Self::Unavailable { is_reached: false, .. } | Self::Denied { .. })
    }

    /// Whether any other call would have failed now, too: it says nothing of what was asked for.
    pub(crate) fn is_of_any_call(&self) -> bool {
        self.is_trouble() || matches!(self, Self::LeftAlone { .. } | Self::NotNow { .. })
    }

    /// Whose fault it is that a load failed with it.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::LeftAlone { .. } | Self::NotNow { .. } => Fault::Here,
            Self::Key { .. } => Fault::Caller,
            _ => Fault::Origin,
        }
    }

    /// What a write comes to that was not made because of it.
    pub(super) fn not_made(self) -> WriteFailure<Self> {
        match self {
            Self::LeftAlone { again, .. } => WriteFailure::LeftAlone { error: self, again },
            _ => WriteFailure::Unavailable(self),
        }
    }

    /// What a client may know.
    pub fn public(&self) -> String {
        match self {
            Self::Unavailable { origin, .. } | Self::Denied { origin, .. } => {
                format!("the origin `{origin}` is unreachable")
            }
            Self::Busy { origin, reason, .. } => {
                format!("the origin `{origin}` was reached, and cannot do this now: {reason}")
            }
            Self::NotNow { origin, .. } => {
                format!("the origin `{origin}` does not take this now; the log of the service says why")
            }
            Self::Failed { origin, .. } | Self::Broken { origin, .. } => {
                format!("the origin `{origin}` failed; the log of the service says why")
            }
            Self::Refused { origin, .. } => {
                format!("the origin `{origin}` does not take this write; the log of the service says why")
            }
            Self::Unknown { origin, .. } => {
                format!("the origin `{origin}` may have the write or not; the log of the service says why")
            }
            Self::LeftAlone { .. } | Self::Timeout { .. } | Self::Key { .. } | Self::NotUnique { .. } => {
                self.to_string()
            }
        }
    }
}

/// An error whose words are for anybody: [`OriginError::public`].
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.public())]
pub(crate) struct Told(pub(crate) OriginError);

/// The error of a write that failed.
pub(super) fn why(failure: &WriteFailure<OriginError>) -> Option<&OriginError> {
    match failure {
        WriteFailure::Failed(error)
        | WriteFailure::Refused(error)
        | WriteFailure::Unavailable(error)
        | WriteFailure::LeftAlone { error, .. }
        | WriteFailure::Unknown(error) => Some(error),
        _ => None,
    }
}

/// A failure with words for anybody, after its own words were logged.
pub(super) fn told(failure: WriteFailure<OriginError>, log: impl FnOnce(&OriginError)) -> WriteFailure<Told> {
    let tell = |error: OriginError| {
        log(&error);
        Told(error)
    };
    match failure {
        WriteFailure::Refused(error) => WriteFailure::Refused(tell(error)),
        WriteFailure::Unavailable(error) => WriteFailure::Unavailable(tell(error)),
        WriteFailure::LeftAlone { error, again } => WriteFailure::LeftAlone { error: tell(error), again },
        WriteFailure::Unknown(error) => WriteFailure::Unknown(tell(error)),
        WriteFailure::Failed(error) => WriteFailure::Failed(tell(error)),
        _ => WriteFailure::Unsupported,
    }
}
