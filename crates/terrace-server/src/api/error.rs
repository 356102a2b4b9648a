//! What a client is told when something goes wrong: the one place that chooses a status.
//!
//! 1. Every error is `application/problem+json` (RFC 9457): `type`, `title`, `status`, `detail`, `instance`, and `code`,
//!    the word for programs; `trace_id` where the request is traced. `type` is a path of this service that explains the code in a sentence.
//! 2. Handlers return a [`Problem`]; [`finish`] turns it into bytes when the path is at hand. Headers that were set on
//!    the way (`Allow`) stay.
//! 3. A detail quotes what the client sent, never what a database, another tier or a panic said.

use crate::origin::{OriginError, Told};
use crate::traces;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use terrace::behind::WriteError;
use terrace::{Error, ErrorKind, InvalidateError, KeyError};

/// What went wrong, for programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    MalformedRequest,
    Unauthorized,
    Forbidden,
    RateLimited,
    KeyEmpty,
    KeyTooLong,
    KeyCharacter,
    KeyEncoding,
    KeyRefused,
    KeyMismatch,
    KeyNotFound,
    NotCached,
    HeaderInvalid,
    VersionMismatch,
    ConditionUnsupported,
    MediaUnsupported,
    BodyMalformed,
    BodyInvalid,
    BodyTooLarge,
    BodyTimeout,
    ValueTooLarge,
    ValueInvalid,
    RouteNotFound,
    MethodNotAllowed,
    UriTooLong,
    HeadTooLarge,
    Overloaded,
    Timeout,
    ShuttingDown,
    OriginUnavailable,
    OriginTimeout,
    OriginNotUnique,
    OriginFailed,
    OriginOverloaded,
    OriginLeftAlone,
    OriginRefused,
    WriteUnknown,
    DeleteUnsupported,
    JournalFull,
    JournalFailed,
    NotWrittenBehind,
    WriteNotFound,
    DeadLetterNotFound,
    DeadLetterOvertaken,
    L2Refused,
    L2Unavailable,
    CursorLost,
    ListingUnavailable,
    Internal,
}

impl Code {
    pub(crate) const ALL: [Self; 49] = [
        Self::MalformedRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::RateLimited,
        Self::KeyEmpty,
        Self::KeyTooLong,
        Self::KeyCharacter,
        Self::KeyEncoding,
        Self::KeyRefused,
        Self::KeyMismatch,
        Self::KeyNotFound,
        Self::NotCached,
        Self::HeaderInvalid,
        Self::VersionMismatch,
        Self::ConditionUnsupported,
        Self::MediaUnsupported,
        Self::BodyMalformed,
        Self::BodyInvalid,
        Self::BodyTooLarge,
        Self::BodyTimeout,
        Self::ValueTooLarge,
        Self::ValueInvalid,
        Self::RouteNotFound,
        Self::MethodNotAllowed,
        Self::UriTooLong,
        Self::HeadTooLarge,
        Self::Overloaded,
        Self::Timeout,
        Self::ShuttingDown,
        Self::OriginUnavailable,
        Self::OriginTimeout,
        Self::OriginNotUnique,
        Self::OriginFailed,
        Self::OriginOverloaded,
        Self::OriginLeftAlone,
        Self::OriginRefused,
        Self::WriteUnknown,
        Self::DeleteUnsupported,
        Self::JournalFull,
        Self::JournalFailed,
        Self::NotWrittenBehind,
        Self::WriteNotFound,
        Self::DeadLetterNotFound,
        Self::DeadLetterOvertaken,
        Self::L2Refused,
        Self::L2Unavailable,
        Self::CursorLost,
        Self::ListingUnavailable,
        Self::Internal,
    ];

    /// The status, the word and the title of each code.
    const fn facts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::MalformedRequest => (400, "malformed_request", "The request is not HTTP"),
            Self::Unauthorized => (401, "unauthorized", "There is no token, or nobody has it"),
            Self::Forbidden => (403, "forbidden", "The token is not for this"),
            Self::RateLimited => (429, "rate_limited", "More is asked for than may be"),
            Self::KeyEmpty => (400, "key_empty", "The key is empty"),
            Self::KeyTooLong => (400, "key_too_long", "The key is too long"),
            Self::KeyCharacter => (400, "key_character", "The key has a character that is not allowed"),
            Self::KeyEncoding => (400, "key_encoding", "The key is not UTF-8"),
            Self::KeyRefused => (400, "key_refused", "The origin cannot have such a key"),
            Self::KeyMismatch => (422, "key_mismatch", "The key in the body is not the key of the path"),
            Self::KeyNotFound => (404, "key_not_found", "There is no value for this key"),
            Self::NotCached => (504, "not_cached", "No tier has a value, and the origin was not to be asked"),
            Self::HeaderInvalid => (400, "header_invalid", "A header does not have the expected form"),
            Self::VersionMismatch => {
                (412, "version_mismatch", "What is there is not what the request wants to be there")
            }
            Self::ConditionUnsupported => {
                (501, "condition_unsupported", "This keyspace cannot be changed on a condition")
            }
            Self::MediaUnsupported => (415, "media_unsupported", "This keyspace takes nothing but JSON"),
            Self::BodyMalformed => (400, "body_malformed", "The body is not JSON"),
            Self::BodyInvalid => (422, "body_invalid", "The body does not have the expected form"),
            Self::BodyTooLarge => (413, "body_too_large", "The body is too large"),
            Self::BodyTimeout => (408, "body_timeout", "The body took too long to arrive"),
            Self::ValueTooLarge => (413, "value_too_large", "The value is too large"),
            Self::ValueInvalid => (422, "value_invalid", "The value cannot be kept"),
            Self::RouteNotFound => (404, "route_not_found", "There is nothing at this path"),
            Self::MethodNotAllowed => (405, "method_not_allowed", "This path does not know this method"),
            Self::UriTooLong => (414, "uri_too_long", "The path is too long"),
            Self::HeadTooLarge => (431, "head_too_large", "The headers are too large"),
            Self::Overloaded => (503, "overloaded", "The service has too much to do"),
            Self::Timeout => (504, "timeout", "The request took too long"),
            Self::ShuttingDown => (503, "shutting_down", "The service is shutting down"),
            Self::WriteUnknown => (504, "write_unknown", "Nobody knows whether the write was made"),
            Self::DeleteUnsupported => {
                (405, "delete_unsupported", "The keyspace has no statement that removes from its origin")
            }
            Self::JournalFull => (503, "journal_full", "There is no room for another write"),
            Self::JournalFailed => (503, "journal_failed", "The journal takes no writes any more"),
            Self::NotWrittenBehind => {
                (404, "not_written_behind", "There is no such keyspace that is written behind")
            }
            Self::WriteNotFound => {
                (404, "write_not_found", "This instance has given out no such id of a write")
            }
            Self::DeadLetterNotFound => (404, "dead_letter_not_found", "There is no such dead letter"),
            Self::DeadLetterOvertaken => {
                (409, "dead_letter_overtaken", "A newer write of the key was acknowledged since")
            }
            Self::L2Unavailable => {
                (503, "l2_unavailable", "The shared cache does not answer, and there is no answer without it")
            }
            Self::L2Refused => (502, "l2_refused", "The shared cache refused the change"),
            Self::CursorLost => (410, "cursor_lost", "The listing cannot go on from there"),
            Self::ListingUnavailable => {
                (503, "listing_unavailable", "The shared cache cannot say which keys it holds")
            }
            Self::Internal => (500, "internal", "Something is wrong with the service"),
            _ => self.facts_of_origins(),
        }
    }

    const fn facts_of_origins(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::OriginUnavailable => (502, "origin_unavailable", "The origin cannot be reached"),
            Self::OriginTimeout => (504, "origin_timeout", "The origin took too long"),
            Self::OriginNotUnique => {
                (502, "origin_not_unique", "The origin has more than one value for this key")
            }
            Self::OriginLeftAlone => {
                (503, "origin_left_alone", "The origin failed too often, and is not asked")
            }
            Self::OriginOverloaded => {
                (503, "origin_overloaded", "As many loads from the origin are at work as may be")
            }
            Self::OriginRefused => (422, "origin_refused", "The origin does not take this write"),
            _ => (502, "origin_failed", "The origin failed"),
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        StatusCode::from_u16(self.facts().0).expect("each is a status")
    }

    pub(crate) const fn word(self) -> &'static str {
        self.facts().1
    }

    pub(crate) const fn title(self) -> &'static str {
        self.facts().2
    }

    /// Seconds after which to try again, where that makes sense.
    const fn retry_after(self) -> Option<u32> {
        match self {
            Self::RateLimited
            | Self::Overloaded
            | Self::ShuttingDown
            | Self::OriginOverloaded
            | Self::JournalFull
            | Self::L2Unavailable
            | Self::ListingUnavailable => Some(1),
            _ => None,
        }
    }
}

/// What went wrong, for people too.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) detail: String,
    /// Seconds after which to try again, where more is known of that than the code says.
    retry_after: Option<u32>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after: code.retry_after() }
    }

    /// The problem in bytes.
    fn body(&self, instance: &str, trace_id: Option<&str>) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            detail: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            instance: &'a str,
            code: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            retry_after: Option<u32>,
            #[serde(skip_serializing_if = "Option::is_none")]
            trace_id: Option<&'a str>,
        }
        let body = Body {
            r#type: format!("/problems/{}", self.code.word()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: &self.detail,
            instance: cut(instance),
            code: self.code.word(),
            retry_after: self.retry_after,
            trace_id,
        };
        serde_json::to_vec(&body).expect("text and numbers have a JSON form")
    }

    /// A whole HTTP/1.1 response, for requests that were refused before there was a path to answer to. The connection
    /// ends with it.
    pub(crate) fn wire(&self) -> Vec<u8> {
        let body = self.body("", None);
        let status = self.code.status();
        let head = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default(),
            body.len()
        );
        [head.into_bytes(), body].concat()
    }
}

/// Content type of every error.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Longest path that is repeated in an error, in bytes.
const INSTANCE_BYTES_MAX: usize = 512;

/// A path, up to a sensible length. Paths are ASCII by the time they get here.
fn cut(path: &str) -> &str {
    path.get(..INSTANCE_BYTES_MAX).unwrap_or(path)
}

impl IntoResponse for Problem {
    /// The status, with the problem beside it for [`finish`] to write out.
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes out the problem of a response, if it has one. What answers a `HEAD` loses its body on the wire.
pub(crate) fn finish(mut response: Response, uri: &Uri) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    let body = problem.body(uri.path(), traces::current().as_deref());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    // The router has noted the length of the body that it saw.
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    if let Some(seconds) = problem.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if problem.code == Code::Unauthorized {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"terrace\""));
    }
    if problem.code == Code::DeleteUnsupported {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, PUT"));
    }
    *response.body_mut() = Body::from(body);
    response
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        let code = match error {
            KeyError::Empty { .. } => Code::KeyEmpty,
            KeyError::TooLong { .. } => Code::KeyTooLong,
            _ => Code::KeyCharacter,
        };
        Self::new(code, error.to_string())
    }
}

impl From<InvalidateError> for Problem {
    fn from(error: InvalidateError) -> Self {
        Self::new(Code::BodyInvalid, error.to_string())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Key(error) => error.clone().into(),
            ErrorKind::ValueTooLarge { .. } => Self::new(Code::ValueTooLarge, error.to_string()),
            ErrorKind::TooManyTags { .. } => Self::new(Code::BodyInvalid, error.to_string()),
            ErrorKind::Remote(error) => {
                tracing::warn!(%error, "a change was refused by L2");
                let detail = "the shared cache refused the change; this node has dropped its copy";
                Self::new(Code::L2Refused, detail)
            }
            ErrorKind::Load(failure) => match failure.downcast::<Told>() {
                Some(told) => Self::from(&told.0),
                None => Self::internal("a load failed for an unknown reason", &failure),
            },
            ErrorKind::Store(failure) => match failure.downcast::<Told>() {
                Some(told) => Self::from(&told.0),
                None => Self::internal("a write failed for an unknown reason", &failure),
            },
            ErrorKind::StoreTimedOut { .. } => Self::new(Code::WriteUnknown, error.to_string()),
            ErrorKind::StoreUnsupported => Self::new(Code::DeleteUnsupported, NO_DELETE),
            ErrorKind::Journal(error) => Self::from(error),
            ErrorKind::ConditionUnsupported => Self::new(Code::ConditionUnsupported, error.to_string()),
            ErrorKind::ConditionUnknown(unknown) if unknown.is_unsent() => {
                tracing::warn!(error = %unknown, "a change on a condition could not be made");
                Self::new(
                    Code::L2Unavailable,
                    "the shared cache cannot be asked what is there; nothing was changed",
                )
            }
            ErrorKind::ConditionUnknown(unknown) => {
                tracing::warn!(error = %unknown, "a change on a condition may have been made");
                Self::new(
                    Code::WriteUnknown,
                    "the shared cache did not say whether it made the change; look at what is there",
                )
            }
            ErrorKind::Contended => Self::new(Code::Overloaded, error.to_string()),
            ErrorKind::Unproven => Self::new(Code::L2Unavailable, error.to_string()),
            ErrorKind::LoadTimedOut { .. } => Self::new(Code::OriginTimeout, error.to_string()),
            ErrorKind::Overloaded { .. } => Self::new(Code::OriginOverloaded, error.to_string()),
            ErrorKind::Closed => {
                Self::new(Code::ShuttingDown, "the service is shutting down; ask another instance")
            }
            _ => Self::internal("the cache failed", &error),
        }
    }
}

impl From<&OriginError> for Problem {
    fn from(error: &OriginError) -> Self {
        let code = match error {
            OriginError::Key { .. } => Code::KeyRefused,
            OriginError::Unavailable { .. } | OriginError::NotNow { .. } => Code::OriginUnavailable,
            OriginError::LeftAlone { again, .. } => {
                let seconds = u32::try_from(again.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
                return Self {
                    retry_after: Some(seconds),
                    ..Self::new(Code::OriginLeftAlone, error.public())
                };
            }
            OriginError::Timeout { .. } => Code::OriginTimeout,
            OriginError::NotUnique { .. } => Code::OriginNotUnique,
            OriginError::Refused { .. } => Code::OriginRefused,
            OriginError::Unknown { .. } => Code::WriteUnknown,
            OriginError::Failed { .. } | OriginError::Broken { .. } => Code::OriginFailed,
        };
        Self::new(code, error.public())
    }
}

/// What to do where nothing can be removed.
pub(crate) const NO_DELETE: &str = "give the keyspace's source a `delete`, or invalidate the key";

impl From<&WriteError> for Problem {
    fn from(error: &WriteError) -> Self {
        let code = match error {
            WriteError::Full { .. } | WriteError::DiskFull => Code::JournalFull,
            WriteError::TooLarge { .. } => Code::ValueTooLarge,
            WriteError::Unacknowledged { .. } => Code::WriteUnknown,
            WriteError::Closed => Code::ShuttingDown,
            _ => {
                tracing::error!(%error, "the journal is out of use");
                let detail = "the journal is out of use; the log of the service says why. This write may still be made";
                return Self::new(Code::JournalFailed, detail);
            }
        };
        Self::new(code, error.to_string())
    }
}

impl Problem {
    /// A failure that is nobody's fault but ours: the log gets the words, the client does not.
    pub(crate) fn internal(what: &str, error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "{what}");
        Self::new(Code::Internal, "the log of the service says more")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_code_has_a_word_of_its_own() {
        let words: HashSet<&str> = Code::ALL.into_iter().map(Code::word).collect();
        assert_eq!(words.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.status().is_client_error() || code.status().is_server_error(), "{code:?}");
            assert!(code.word().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        }
    }

    #[test]
    fn a_problem_has_the_members_of_rfc_9457() {
        let problem = Problem::new(Code::KeyEmpty, "say \"which\"");
        assert_eq!(
            String::from_utf8(problem.body("/api/cache/", None)).expect("UTF-8"),
            r#"{"type":"/problems/key_empty","title":"The key is empty","status":400,"detail":"say \"which\"","instance":"/api/cache/","code":"key_empty"}"#
        );
    }

    #[test]
    fn long_paths_are_not_repeated_in_full() {
        let path = format!("/api/cache/{}", "k".repeat(60_000));
        assert!(Problem::new(Code::KeyTooLong, "").body(&path, None).len() < 1024);
    }
}
