//! What went wrong, why, what to do next, and the exit code.
//!
//! 1. Every error that reaches a person says those three things, on stderr, in plain words.
//! 2. The exit code is part of the interface: see [`Exit`]. Scripts branch on it.
//!
//! Deliberately absent: recovery. A verb that can go on after an error does so itself.

use std::fmt;
use std::process::ExitCode;

/// How the command ends, for scripts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Done.
    Success = 0,
    /// It was tried and did not work.
    Failure = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// There is no such key.
    NotFound = 3,
    /// The service refuses this caller.
    Denied = 4,
    /// The service, or something it needs, cannot be reached.
    Unavailable = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error as a person reads it: what, why, and the next step.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    what: String,
    why: Option<String>,
    next: Option<String>,
    /// Whether `what` is a whole message already, with frames and carets.
    is_framed: bool,
}

impl Failure {
    /// It did not work.
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), why: None, next: None, is_framed: false }
    }

    /// The command line makes no sense.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// It did not work, and somebody else has put all of it into words already.
    pub(crate) fn framed(message: impl Into<String>) -> Self {
        Self { is_framed: true, ..Self::new(Exit::Failure, message) }
    }

    /// How the command ends because of it.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// The reason, as far as it is known.
    pub(crate) fn why(mut self, why: impl fmt::Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    /// What the person can do now.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(why) = &self.why {
            write!(f, "\n  because: {why}")?;
        }
        if let Some(next) = &self.next {
            write!(f, "\n  next:    {next}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// The innermost reason of an error, and all reasons above it, in one line.
pub(crate) fn reasons(error: &(dyn std::error::Error + 'static)) -> String {
    let mut parts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(inner) = source {
        let text = inner.to_string();
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
        source = inner.source();
    }
    parts.join(": ")
}

/// Says what went wrong on stderr and chooses the exit code.
pub(crate) fn report(error: &anyhow::Error) -> Exit {
    if is_closed_pipe(error) {
        return Exit::Success;
    }
    if let Some(failure) = error.downcast_ref::<Failure>() {
        eprintln!("{}{failure}", if failure.is_framed { "" } else { "error: " });
        failure.exit
    } else {
        eprintln!("error: {}", reasons(error.as_ref()));
        Exit::Failure
    }
}

/// Whether the reader of our output went away (`terrace stats --watch | head -1`): that is no error of ours.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_next() {
        let failure = Failure::usage("no key given").why("the list is empty").next("terrace get KEY");
        let text = failure.to_string();
        assert_eq!(text, "no key given\n  because: the list is empty\n  next:    terrace get KEY");
        assert_eq!(report(&failure.into()), Exit::Usage);
    }

    #[test]
    fn any_other_error_is_a_failure_with_its_reasons() {
        let inner = std::io::Error::other("disk on fire");
        let error = anyhow::Error::new(inner).context("cannot write");
        assert_eq!(reasons(error.as_ref()), "cannot write: disk on fire");
        assert_eq!(report(&error), Exit::Failure);
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let error = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(report(&error.into()), Exit::Success);
    }
}
