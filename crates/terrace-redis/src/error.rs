//! What does a failure mean?
//!
//! 1. An answer of the server is no broken connection: the connection is kept, unless the answer says that this is
//!    the wrong server to talk to (a replica) or that it does not know us (authentication).
//! 2. What may have taken effect is never called unsent.
//! 3. Of a call of which some was too late, and the rest may have been done, nothing is certain.

use crate::config::{Address, Mode};
use redis::{ErrorKind, RedisError, ServerError, Value};
use terrace_core::RemoteError;

/// What becomes of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Keep,
    Drop,
}

/// A failure, understood.
pub(crate) struct Failure {
    pub(crate) error: RemoteError,
    pub(crate) verdict: Verdict,
}

/// What an error reply means.
pub(crate) fn of_reply(error: &ServerError) -> Failure {
    let details = error.details().unwrap_or_default();
    of_words(error.code(), details)
}

/// Whether the server does not know the script.
pub(crate) fn is_unknown_script(error: &ServerError) -> bool {
    error.code() == "NOSCRIPT"
}

/// Whether the server has done nothing because the call came too late.
pub(crate) fn is_late(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "LATE")
}

/// Some of a call was too late, and the rest may have been done.
pub(crate) fn partly_late() -> RemoteError {
    RemoteError::Broken { reason: "a part of the call was too late, and another part was not".to_owned() }
}

fn of_words(code: &str, details: &str) -> Failure {
    if let Some((code, details)) = words_within_script(code, details) {
        return of_words(code, details);
    }
    let reason = format!("{code} {details}").trim_end().to_owned();
    let (error, verdict) = match code {
        "READONLY" => (RemoteError::CutOff { reason }, Verdict::Drop),
        "NOREPLICAS" => (RemoteError::CutOff { reason }, Verdict::Keep),
        "NOAUTH" | "WRONGPASS" => (RemoteError::Refused { reason }, Verdict::Drop),
        "OOM" | "NOPERM" | "MISCONF" | "DENIED" => (RemoteError::Refused { reason }, Verdict::Keep),
        "LATE" => (RemoteError::Late { reason }, Verdict::Keep),
        "LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" => {
            (RemoteError::Unavailable { reason }, Verdict::Keep)
        }
        _ => (RemoteError::Protocol { reason }, Verdict::Keep),
    };
    Failure { error, verdict }
}

/// Servers before 7.0 wrap the words of a command that failed within a script into their own.
fn words_within_script<'a>(code: &str, details: &'a str) -> Option<(&'a str, &'a str)> {
    if code != "ERR" || !details.starts_with("Error running script") {
        return None;
    }
    let (_, words) = details.rsplit_once(": -")?;
    let (code, rest) = words.split_once(' ')?;
    (!code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase())).then_some((code, rest))
}

/// What a failed exchange means, where it is not the server that answered with an error.
pub(crate) fn of_exchange(error: &RedisError) -> Failure {
    let reason = error.to_string();
    if let Some(code) = error.code() {
        return of_words(code, error.detail().unwrap_or_default());
    }
    if error.is_io_error() {
        return Failure { error: RemoteError::Broken { reason }, verdict: Verdict::Drop };
    }
    let verdict = if error.is_unrecoverable_error() { Verdict::Drop } else { Verdict::Keep };
    Failure { error: RemoteError::Protocol { reason }, verdict }
}

/// What it means that no connection could be opened. Nothing was sent, so nothing has taken effect.
pub(crate) fn of_opening(address: &Address, error: &RedisError, mode: Mode) -> RemoteError {
    if error.kind() == ErrorKind::RESP3NotSupported {
        return too_old(address, "a server without RESP3", false, mode);
    }
    let reason = format!("{address}: {error}");
    let is_refusal = error.kind() == ErrorKind::AuthenticationFailed
        || error.code().is_some_and(|code| matches!(of_words(code, "").error, RemoteError::Refused { .. }));
    if is_refusal { RemoteError::Refused { reason } } else { RemoteError::Unavailable { reason } }
}

/// The refusal of a server that lacks what the scripts need.
pub(crate) fn too_old(address: &Address, server: &str, is_cluster: bool, mode: Mode) -> RemoteError {
    let needed = if is_cluster { "a Cluster of Redis 7.0 or Valkey 7.2" } else { "Redis 6.2 or any Valkey" };
    let needed = if mode == Mode::Plain { "Redis 6.0 or any Valkey" } else { needed };
    let reason = format!("{address} is {server}, and {needed} is needed");
    RemoteError::Refused { reason }
}

/// Names the way out where a server refuses scripts or streams, or does not know them.
pub(crate) fn naming_plain(error: RemoteError) -> RemoteError {
    let (RemoteError::Refused { reason } | RemoteError::Protocol { reason }) = &error else { return error };
    let lower = reason.to_lowercase();
    let is_about_them =
        ["script", "eval", "xadd", "xrange", "xrevrange"].iter().any(|word| lower.contains(word));
    let is_refusal =
        ["noperm", "unknown", "can't run this command"].iter().any(|words| lower.contains(words));
    if !is_about_them || !is_refusal {
        return error;
    }
    let reason = format!("{reason}; the coherent mode needs scripts and streams, {PLAIN}");
    RemoteError::Refused { reason }
}

/// What the plain mode is, in the words of whoever has to choose it.
const PLAIN: &str =
    "the plain mode (`build_plain`, or `mode = \"plain\"` under `[bus]`) does without and promises less";

/// A reply that makes no sense.
pub(crate) fn unexpected(expected: &str, found: &impl std::fmt::Debug) -> RemoteError {
    let mut found = format!("{found:?}");
    if let Some((end, _)) = found.char_indices().nth(100) {
        found.truncate(end);
    }
    RemoteError::Protocol { reason: format!("expected {expected}, found {found}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: &str, details: &str) -> (String, Verdict) {
        let Failure { error, verdict } = of_words(code, details);
        (format!("{} {error}", error.kind()), verdict)
    }

    #[test]
    fn words_of_the_server_are_kept_and_understood() {
        let (text, verdict) = failure("OOM", "command not allowed when used memory > 'maxmemory'.");
        assert_eq!(text, "refused L2 refused: OOM command not allowed when used memory > 'maxmemory'.");
        assert_eq!(verdict, Verdict::Keep);
        assert_eq!(failure("READONLY", "You can't write against a read only replica.").1, Verdict::Drop);
        let (text, verdict) = failure("NOREPLICAS", "Not enough good replicas to write.");
        assert!(text.contains("may not be the primary any more"), "{text}");
        assert_eq!(verdict, Verdict::Keep);
        assert_eq!(failure("NOAUTH", "Authentication required.").1, Verdict::Drop);
        assert!(failure("LOADING", "Redis is loading the dataset in memory").0.starts_with("unavailable"));
        assert!(failure("WRONGTYPE", "Operation against a key").0.starts_with("protocol"));
    }

    #[test]
    fn the_plain_mode_is_named_where_it_helps_and_only_there() {
        for (code, details, is_named) in [
            ("NOPERM", "this user has no permissions to run the 'script|load' command", true),
            (
                "NOPERM",
                "this user has no permissions to run the 'xadd' command script: 7a, on @user_script:1.",
                true,
            ),
            ("ERR", "unknown command 'SCRIPT', with args beginning with: 'LOAD'", true),
            ("ERR", "Unknown Redis command called from script script: 7a, on @user_script:26.", true),
            ("ERR", "The user executing the script can't run this command or subcommand script: 7a", true),
            ("NOPERM", "this user has no permissions to run the 'get' command", false),
            ("OOM", "command not allowed when used memory > 'maxmemory'. script: 7a", false),
        ] {
            let error = naming_plain(of_words(code, details).error);
            let text = error.to_string();
            assert_eq!(text.contains("plain mode"), is_named, "{text}");
            assert!(!is_named || (text.contains(details) && error.is_unsent()), "{text}");
        }
        let broken = naming_plain(RemoteError::Broken { reason: "NOPERM script".to_owned() });
        assert!(matches!(broken, RemoteError::Broken { .. }));
    }

    #[test]
    fn words_within_a_script_of_an_old_server_are_understood() {
        let details = "Error running script (call to f_6e0b): @user_script:12: @user_script: 12: -OOM command not \
                       allowed when used memory > 'maxmemory'. ";
        assert!(failure("ERR", details).0.starts_with("refused L2 refused: OOM command not allowed"));
        let own = "Error running script (call to f_6e0b): @user_script:3: attempt to index a nil value";
        assert!(failure("ERR", own).0.starts_with("protocol"));
    }
}
