//! The id that a client gives its request, `X-Request-Id`: it comes back with the answer, whatever that is.
//!
//! 1. An id has 1 to [`BYTES_MAX`] visible ASCII characters without quotation marks, so that it can be no second header, and nothing but
//!    itself in a line of a log. What is none, or comes several times, is passed over, as if there were none: none is made up.
//! 2. A request without one pays a look for it. One with it shares the bytes that it came in.
//! 3. It means something to who sent it, and to nobody else: it goes to no origin, and to no other instance. What goes on from here is
//!    traced by `traceparent`.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id, in bytes.
const BYTES_MAX: usize = 128;

/// The id of a request.
#[derive(Clone, Debug)]
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    /// The id of a request with these headers, if it has one.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(REQUEST_ID)?;
        let is_only = headers.get_all(REQUEST_ID).iter().nth(1).is_none();
        (is_only && is_id(value.as_bytes())).then(|| Self(value.clone()))
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// Gives it back with an answer.
    pub(super) fn echo(id: Option<Self>, response: &mut Response) {
        if let Some(Self(value)) = id {
            response.headers_mut().insert(REQUEST_ID, value);
        }
    }
}

fn is_id(bytes: &[u8]) -> bool {
    let is_plain = |&byte: &u8| byte.is_ascii_graphic() && byte != b'"';
    (1..=BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&[u8]]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(REQUEST_ID, HeaderValue::from_bytes(value).expect("a header"));
        }
        RequestId::of(&headers).map(|id| id.as_str().to_owned())
    }

    #[test]
    fn an_id_is_short_visible_and_the_only_one() {
        let longest = "x".repeat(BYTES_MAX);
        for id in ["1", "0af7651916cd43dd8448eb211c80319c", "a/b:c=d{e}~!", &longest] {
            assert_eq!(of(&[id.as_bytes()]).as_deref(), Some(id));
        }
        let too_long = "x".repeat(BYTES_MAX + 1);
        for none in [&b""[..], b"a b", b"a\tb", b"a\"b", b"caf\xc3\xa9", b"\xff", too_long.as_bytes()] {
            assert_eq!(of(&[none]), None, "{none:?}");
        }
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[b"a", b"a"]), None, "nobody knows which of them it is");
    }
}
