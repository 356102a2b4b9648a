//! What a client is told when something goes wrong: the one place that chooses a status.
//!
//! 1. Every error is `application/problem+json` (RFC 9457): `type`, `title`, `status`, `detail`, `instance`, and `code`,
//!    the word for programs; `key` where it is about one, `trace_id` where the request is traced, `request_id` where it has an id. `type` is a
//!    path of this service that explains the code in a sentence.
//! 2. Handlers return a [`Problem`]; [`finish`] turns it into bytes when the path is at hand. Headers that were set on
//!    the way (`Allow`) stay.
//! 3. A detail quotes what the client sent, never what a database, another tier or a panic said. A `key` is the one that the client named, whole:
//!    one that is no text, or longer than a key may be, is left out.

mod code;

pub(crate) use code::Code;

use super::key;
use super::request_id::RequestId;
use crate::origin::{OriginError, Told};
use crate::traces;
use axum::body::Body;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use terrace::behind::WriteError;
use terrace::{Error, ErrorKind, InvalidateError, KeyError};

/// What went wrong, for people too.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) detail: String,
    /// Seconds after which to try again, where more is known of that than the code says.
    retry_after: Option<u32>,
    /// The key that it is about, where that is not the one that the path names.
    key: Option<String>,
}

/// What a problem repeats of the request that it answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(super) uri: &'a Uri,
    /// What a path that names a key has before it.
    pub(super) keys_below: Option<&'static str>,
    pub(super) key_bytes_max: usize,
    pub(super) id: Option<&'a RequestId>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after: code.retry_after(), key: None }
    }

    /// The same, about a key that the body of the request names.
    pub(crate) fn about(self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self }
    }

    /// The problem in bytes.
    fn body(&self, asked: Option<Asked<'_>>, trace_id: Option<&str>) -> Vec<u8> {
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
            key: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            retry_after: Option<u32>,
            #[serde(skip_serializing_if = "Option::is_none")]
            trace_id: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            request_id: Option<&'a str>,
        }
        let named = asked.and_then(|asked| key::named(asked.keys_below?, asked.uri));
        let is_a_key =
            |key: &&str| !key.is_empty() && asked.is_some_and(|asked| key.len() <= asked.key_bytes_max);
        let body = Body {
            r#type: format!("/problems/{}", self.code.word()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: &self.detail,
            instance: asked.map_or("", |asked| cut(asked.uri.path())),
            code: self.code.word(),
            key: self.key.as_deref().or(named.as_deref()).filter(is_a_key),
            retry_after: self.retry_after,
            trace_id,
            request_id: asked.and_then(|asked| asked.id).map(RequestId::as_str),
        };
        serde_json::to_vec(&body).expect("text and numbers have a JSON form")
    }

    /// A whole HTTP/1.1 response, for requests that were refused before there was a path to answer to. The connection
    /// ends with it.
    pub(crate) fn wire(&self) -> Vec<u8> {
        let body = self.body(None, None);
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
pub(crate) fn finish(mut response: Response, asked: Asked<'_>) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    let body = problem.body(Some(asked), traces::current().as_deref());
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
            ErrorKind::Remote(error) if error.is_retryable() => {
                tracing::warn!(%error, "L2 could not be asked or told");
                let detail = "the shared cache cannot be asked or told now; try again in a second";
                Self::new(Code::L2Unavailable, detail)
            }
            ErrorKind::Remote(error) => {
                tracing::warn!(%error, "a change was refused by L2");
                let detail = "the shared cache refused it; of a write, this node has dropped its copy";
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
            ErrorKind::Contended | ErrorKind::StoreBusy { .. } => {
                Self::new(Code::Overloaded, error.to_string())
            }
            ErrorKind::Unproven => Self::new(Code::L2Unavailable, error.to_string()),
            ErrorKind::L2Unavailable => Self::new(
                Code::L2Unavailable,
                "the shared cache cannot be asked, and nobody else is asked without it (`l2.on_error`)",
            ),
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
            OriginError::Unavailable { .. } | OriginError::Denied { .. } | OriginError::NotNow { .. } => {
                Code::OriginUnavailable
            }
            OriginError::LeftAlone { again, .. } => {
                let seconds = u32::try_from(again.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
                return Self {
                    retry_after: Some(seconds),
                    ..Self::new(Code::OriginLeftAlone, error.public())
                };
            }
            OriginError::Busy { again, .. } => {
                let seconds = again.map(|again| u32::try_from(again.as_secs()).unwrap_or(u32::MAX).max(1));
                return Self { retry_after: seconds, ..Self::new(Code::OriginBusy, error.public()) };
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

impl Problem {
    /// Why nothing was read. That what was loaded would have too many tags is not for who asks to put right.
    pub(super) fn of_read(error: Error) -> Self {
        match error.kind() {
            ErrorKind::TooManyTags { .. } => {
                tracing::warn!(%error, "what was loaded cannot be kept");
                Self::new(Code::OriginFailed, format!("what the origin has cannot be kept: {error}"))
            }
            _ => error.into(),
        }
    }
}

impl From<&WriteError> for Problem {
    fn from(error: &WriteError) -> Self {
        let code = match error {
            WriteError::Full { .. } | WriteError::DiskFull => Code::JournalFull,
            WriteError::TooLarge { .. } => Code::ValueTooLarge,
            WriteError::Unacknowledged { .. } => Code::WriteUnknown,
            WriteError::KeyReused { .. } => Code::IdempotencyKeyReused,
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

    /// A problem as it goes out, asked for by this path.
    fn body(problem: &Problem, path: &str, id: Option<&RequestId>) -> String {
        let uri: Uri = path.parse().expect("a URI");
        let asked = Asked { uri: &uri, keys_below: Some("/api/cache/"), key_bytes_max: 16, id };
        String::from_utf8(problem.body(Some(asked), None)).expect("UTF-8")
    }

    #[test]
    fn a_problem_has_the_members_of_rfc_9457() {
        assert_eq!(
            body(&Problem::new(Code::KeyEmpty, "say \"which\""), "/api/cache/", None),
            r#"{"type":"/problems/key_empty","title":"The key is empty","status":400,"detail":"say \"which\"","instance":"/api/cache/","code":"key_empty"}"#
        );
    }

    #[test]
    fn a_problem_says_which_key_it_is_about_if_that_can_be_one() {
        let key = |problem: &Problem, path: &str| {
            let body: serde_json::Value = serde_json::from_str(&body(problem, path, None)).expect("JSON");
            body.get("key").map(|key| key.as_str().expect("text").to_owned())
        };
        let problem = Problem::new(Code::KeyNotFound, "");
        for (path, expected) in [
            ("/api/cache/user:1", Some("user:1")),
            ("/api/cache/a%2Fb%22", Some("a/b\"")),
            ("/api/cache/a%00%0d%0a", Some("a\0\r\n")),
            ("/api/cache?key=metrics", Some("metrics")),
            ("/api/cache/1234567890123456", Some("1234567890123456")),
            ("/api/cache/12345678901234567", None),
            ("/api/cache/%ff", None),
            ("/api/cache?key=", None),
            ("/api/cache", None),
        ] {
            assert_eq!(key(&problem, path).as_deref(), expected, "{path}");
        }
        assert_eq!(key(&problem.about("b"), "/api/cache/a").as_deref(), Some("b"), "that of the body");
    }

    #[test]
    fn a_problem_repeats_the_id_of_its_request() {
        let mut headers = axum::http::HeaderMap::new();
        headers.insert("x-request-id", HeaderValue::from_static("abc"));
        let id = RequestId::of(&headers);
        let body = body(&Problem::new(Code::KeyEmpty, ""), "/api/cache/", id.as_ref());
        assert!(body.ends_with(r#","request_id":"abc"}"#), "{body}");
    }

    #[test]
    fn long_paths_are_not_repeated_in_full() {
        let path = format!("/api/cache/{}", "k".repeat(60_000));
        assert!(body(&Problem::new(Code::KeyTooLong, ""), &path, None).len() < 1024);
    }
}
