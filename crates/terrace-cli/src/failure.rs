//! What went wrong, why, what to do next, and the exit code.
//!
//! 1. Every error that reaches a person says those three things, on stderr, in plain words.
//! 2. The exit code is part of the interface: see [`Exit`]. Scripts branch on it. One rule chooses it, by whose affair it is: what was typed
//!    makes no sense, what it names is not there, it is not allowed, what has to answer does not, or it was answered with a no.
//!
//! Deliberately absent: recovery. A verb that can go on after an error does so itself.

use clap::builder::Styles;
use clap::builder::styling::Style;
use reqwest::StatusCode;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// How the command ends, for scripts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Done.
    Success = 0,
    /// It was tried and did not work: the answer is no, or something is wrong with what was looked at.
    Failure = 1,
    /// The command line makes no sense, whoever is asked: so says this program, or the service (400).
    Usage = 2,
    /// What the command line names is not there: a key, a keyspace, a write, a file.
    NotFound = 3,
    /// It is there, and not for whoever asks: so says the service, or the system of a file.
    Denied = 4,
    /// What has to answer does not now: the service, or something it needs. The same command may do later.
    Unavailable = 5,
}

impl Exit {
    /// By what a service answered that is no success; `code` is what it calls that, empty if it is no terrace.
    pub(crate) fn of_answer(status: StatusCode, code: &str) -> Self {
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Denied,
            // What the origin has under one key is wrong: others may be well, and that it is asked again helps nobody.
            StatusCode::BAD_GATEWAY if code == "origin_not_unique" => Self::Failure,
            StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS => Self::Unavailable,
            StatusCode::BAD_REQUEST if !code.is_empty() => Self::Usage,
            // All that a query has comes from the command line, and so does what a body names: keys, patterns, tags, times.
            StatusCode::UNPROCESSABLE_ENTITY if matches!(code, "query_invalid" | "body_invalid") => {
                Self::Usage
            }
            StatusCode::NOT_FOUND if !matches!(code, "" | "route_not_found") => Self::NotFound,
            _ => Self::Failure,
        }
    }

    /// By what the system said of a file.
    pub(crate) fn of_file(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Failure,
        }
    }
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

    /// A file that the command line names cannot be read.
    pub(crate) fn unreadable(file: &Path, error: &io::Error) -> Self {
        Self::new(Exit::of_file(error), format!("{} cannot be read", file.display())).why(error)
    }

    /// It did not work, and somebody else has put all of it into words already.
    pub(crate) fn framed(message: impl Into<String>) -> Self {
        Self { is_framed: true, ..Self::new(Exit::Failure, message) }
    }

    /// The same, because something is not there that the command line names.
    pub(crate) fn because_absent(mut self) -> Self {
        self.exit = Exit::NotFound;
        self
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
pub(crate) fn report(error: &anyhow::Error, has_colour: bool) -> Exit {
    if is_closed_pipe(error) {
        return Exit::Success;
    }
    let style = if has_colour { *Styles::styled().get_error() } else { Style::new() };
    let head = format!("{style}error:{style:#}");
    if let Some(failure) = error.downcast_ref::<Failure>() {
        let text = failure.to_string();
        // What is in a frame begins with the same word.
        match text.strip_prefix("error:").filter(|_| failure.is_framed) {
            Some(rest) => eprintln!("{head}{rest}"),
            None if failure.is_framed => eprintln!("{text}"),
            None => eprintln!("{head} {text}"),
        }
        failure.exit
    } else {
        eprintln!("{head} {}", reasons(error.as_ref()));
        Exit::Failure
    }
}

/// Whether the reader of our output went away (`terrace stats --watch | head -1`): that is no error of ours.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_next() {
        let failure = Failure::usage("no key given").why("the list is empty").next("terrace get KEY");
        let text = failure.to_string();
        assert_eq!(text, "no key given\n  because: the list is empty\n  next:    terrace get KEY");
        assert_eq!(report(&failure.into(), false), Exit::Usage);
    }

    #[test]
    fn one_rule_makes_exit_codes_of_answers_and_files() {
        let of =
            |status: u16, code: &str| Exit::of_answer(StatusCode::from_u16(status).expect("a status"), code);
        assert_eq!(of(400, "key_empty"), Exit::Usage);
        assert_eq!(of(400, ""), Exit::Failure, "whoever answered is no terrace");
        assert_eq!((of(422, "query_invalid"), of(422, "body_invalid")), (Exit::Usage, Exit::Usage));
        assert_eq!((of(422, "load_unsupported"), of(422, "")), (Exit::Failure, Exit::Failure));
        assert_eq!(of(404, "dead_letter_not_found"), Exit::NotFound);
        assert_eq!((of(404, ""), of(404, "route_not_found")), (Exit::Failure, Exit::Failure));
        assert_eq!((of(401, ""), of(403, "forbidden")), (Exit::Denied, Exit::Denied));
        assert!([429, 502, 503, 504].iter().all(|status| of(*status, "x") == Exit::Unavailable));
        assert_eq!((of(409, "x"), of(500, "internal")), (Exit::Failure, Exit::Failure));
        let file = |kind: io::ErrorKind| Exit::of_file(&kind.into());
        assert_eq!(file(io::ErrorKind::NotFound), Exit::NotFound);
        assert_eq!(file(io::ErrorKind::PermissionDenied), Exit::Denied);
        assert_eq!(file(io::ErrorKind::InvalidData), Exit::Failure);
    }

    #[test]
    fn any_other_error_is_a_failure_with_its_reasons() {
        let inner = io::Error::other("disk on fire");
        let error = anyhow::Error::new(inner).context("cannot write");
        assert_eq!(reasons(error.as_ref()), "cannot write: disk on fire");
        assert_eq!(report(&error, false), Exit::Failure);
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let error = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(report(&error.into(), false), Exit::Success);
    }
}
