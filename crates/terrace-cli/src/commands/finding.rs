//! What `check` and `doctor` find: one form, one level for one thing, one exit code.
//!
//! 1. What is wrong is `not ok`; what works, and is not as one may think or as it could be, a `note`, whoever looks.
//! 2. The exit code is [`Exit::Unavailable`] if something did not answer, else [`Exit::Denied`] if something is not for whoever asks, else
//!    [`Exit::Failure`] if something is wrong.

use crate::failure::Exit;
use crate::words;
use serde_json::json;

/// How something is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Well,
    /// It works, and is not as it could be.
    Note,
    /// It answers, and what it answers is wrong.
    Ill,
    /// It answers that it is not for whoever asks.
    Denied,
    /// It does not answer.
    Silent,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Note => "note",
            Self::Ill | Self::Denied | Self::Silent => "not ok",
        }
    }

    /// Whether something has to be done.
    pub(crate) fn is_ill(self) -> bool {
        matches!(self, Self::Ill | Self::Denied | Self::Silent)
    }
}

/// What was looked at, and how it is.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) what: String,
    pub(crate) state: State,
    pub(crate) says: String,
    pub(crate) next: Option<&'static str>,
}

impl Finding {
    pub(crate) fn new(
        what: impl Into<String>,
        state: State,
        says: impl Into<String>,
        next: &'static str,
    ) -> Self {
        Self { what: what.into(), state, says: says.into(), next: (!next.is_empty()).then_some(next) }
    }

    /// As an object of JSON, in one line.
    pub(crate) fn json(&self) -> String {
        let Self { what, state, says, next } = self;
        json!({ "what": what, "state": state.as_str(), "says": says, "next": next }).to_string()
    }

    /// In words, in one line.
    pub(crate) fn words(&self) -> String {
        words::printable(&format!("{:<7} {}: {}", self.state.as_str(), self.what, self.says))
    }
}

/// How a command ends that found this.
pub(crate) fn exit(findings: &[Finding]) -> Exit {
    let has = |state: State| findings.iter().any(|finding| finding.state == state);
    let exits =
        [(State::Silent, Exit::Unavailable), (State::Denied, Exit::Denied), (State::Ill, Exit::Failure)];
    exits.into_iter().find(|(state, _)| has(*state)).map_or(Exit::Success, |(_, exit)| exit)
}

/// What is found of everything that a configuration names, as `terrace_server::check` says it.
pub(crate) fn of_configuration(found: Vec<terrace_server::Finding>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for finding in found {
        let what = &finding.what;
        findings.push(match finding.result {
            Ok(()) => Finding::new(what, State::Well, "it answers", ""),
            Err(reason) if finding.is_unanswered => Finding::new(what, State::Silent, reason, next_of(what)),
            Err(reason) if finding.is_denied => {
                Finding::new(what, State::Denied, reason, next_of_denied(what))
            }
            Err(reason) => Finding::new(what, State::Ill, reason, next_of(what)),
        });
        let warnings = finding.warnings.into_iter();
        findings.extend(warnings.map(|warning| Finding::new(what, State::Note, warning, "")));
    }
    findings
}

fn next_of(what: &str) -> &'static str {
    if what == "l2" {
        "see that the server runs, and that `l2.url` and the password are right; terrace serves from memory meanwhile"
    } else if what.starts_with("write_behind") {
        "make the folder, on a disk that outlives the process"
    } else {
        "see that the origin runs and has what the statement names; terrace serves what it has meanwhile"
    }
}

fn next_of_denied(what: &str) -> &'static str {
    if what == "l2" {
        next_of(what)
    } else {
        "see that the user, the password or the token of the origin is right, and may do this; terrace serves what it has meanwhile"
    }
}

/// That everything is in memory.
pub(crate) fn no_l2() -> Finding {
    let next = "set `l2.url` to share what is kept";
    Finding::new("l2", State::Note, "there is none: everything is in memory", next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_answer_comes_before_what_was_denied_and_that_before_what_is_wrong() {
        let exit_of = |states: &[State]| {
            let findings: Vec<_> = states.iter().map(|state| Finding::new("x", *state, "", "")).collect();
            exit(&findings)
        };
        assert_eq!(exit_of(&[State::Well, State::Note]), Exit::Success);
        assert_eq!(exit_of(&[State::Ill, State::Note]), Exit::Failure);
        assert_eq!(exit_of(&[State::Ill, State::Denied]), Exit::Denied);
        assert_eq!(exit_of(&[State::Denied, State::Silent, State::Ill]), Exit::Unavailable);
    }
}
