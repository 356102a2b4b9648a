//! From a path to a key.
//!
//! 1. A key is the rest of the path after `/api/cache/`, percent-decoded once. A `/` and a `%2F` are the same character
//!    of the key.
//! 2. Some paths below `/api/cache/` mean something else, and clients rewrite others (`..`). So every key can also be
//!    named by `/api/cache?key=...`, where nothing is reserved; there, as in forms, a `+` is a space.
//! 3. A key is UTF-8, has no control characters, and at most as many bytes as configured.

use super::entry::shortened;
use super::error::{Code, Problem};
use crate::config::nearest;
use axum::http::Uri;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use terrace::Key;

/// Where entries live.
pub(crate) const ENTRIES: &str = "/api/cache/";

/// The key of the entry that a request names.
pub(crate) fn key_of(uri: &Uri, bytes_max: usize) -> Result<Key, Problem> {
    key_below(ENTRIES, uri, bytes_max)
}

/// The key that a request names by a path below `prefix`, or by a parameter.
pub(crate) fn key_below(prefix: &str, uri: &Uri, bytes_max: usize) -> Result<Key, Problem> {
    let text = match uri.path().strip_prefix(prefix) {
        Some(rest) => decode(rest)?,
        None => parameter(uri, "key")?.ok_or_else(|| {
            Problem::new(Code::KeyEmpty, "name a key: /api/cache/user:42, or /api/cache?key=user:42")
        })?,
    };
    checked(&text, bytes_max)
}

/// The text by which a request names a key, by a path below `prefix` or by a parameter, whether it can be one or not; `None` if it is no text.
pub(super) fn named<'a>(prefix: &str, uri: &'a Uri) -> Option<Cow<'a, str>> {
    match uri.path().strip_prefix(prefix) {
        Some(rest) => decode(rest).ok(),
        None => parameter(uri, "key").ok()?,
    }
}

/// A text as a key, if it is one and is not too long.
pub(crate) fn checked(text: &str, bytes_max: usize) -> Result<Key, Problem> {
    if text.len() > bytes_max {
        let detail = format!("the key has {} bytes, and at most {bytes_max} are allowed", text.len());
        return Err(Problem::new(Code::KeyTooLong, detail));
    }
    Ok(Key::new(text)?)
}

/// Whether a parameter of the query is `true` or has no value.
pub(crate) fn flag(uri: &Uri, name: &str) -> bool {
    matches!(parameter(uri, name), Ok(Some(value)) if value.is_empty() || value == "true" || value == "1")
}

/// Refuses a query with a parameter of another name than these: what is mistyped would ask for something else, such as for all keys instead of
/// some. What begins with `_` is passed over: pages and proxies add such to get past caches.
pub(super) fn only(uri: &Uri, names: &[&str]) -> Result<(), Problem> {
    let given = uri.query().unwrap_or_default().split('&');
    let given = given.map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name));
    let mut unknown =
        given.filter(|name| !name.is_empty() && !name.starts_with('_') && !names.contains(name));
    let Some(unknown) = unknown.next() else { return Ok(()) };
    let help = match nearest(unknown, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", names.join(", ")),
    };
    let detail = format!("there is no parameter `{}`; {help}", shortened(unknown));
    Err(Problem::new(Code::QueryInvalid, detail))
}

/// The first value of a parameter of the query.
pub(crate) fn parameter<'a>(uri: &'a Uri, name: &str) -> Result<Option<Cow<'a, str>>, Problem> {
    for pair in uri.query().unwrap_or_default().split('&') {
        let (own, value) = pair.split_once('=').unwrap_or((pair, ""));
        if own == name {
            if value.contains('+') {
                return decode(&value.replace('+', " ")).map(|text| Some(Cow::Owned(text.into_owned())));
            }
            return decode(value).map(Some);
        }
    }
    Ok(None)
}

fn decode(text: &str) -> Result<Cow<'_, str>, Problem> {
    percent_decode_str(text).decode_utf8().map_err(|error| {
        Problem::new(Code::KeyEncoding, format!("the key is not UTF-8 from byte {} on", error.valid_up_to()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(uri: &str) -> Result<String, Code> {
        let uri: Uri = uri.parse().expect("a URI");
        key_of(&uri, 16).map(|key| key.as_str().to_owned()).map_err(|problem| problem.code)
    }

    #[test]
    fn the_rest_of_the_path_is_the_key() {
        for (uri, text) in [
            ("/api/cache/user:42", "user:42"),
            ("/api/cache/a/b", "a/b"),
            ("/api/cache/a%2Fb", "a/b"),
            ("/api/cache/a%252Fb", "a%2Fb"),
            ("/api/cache/a//b/", "a//b/"),
            ("/api/cache/..%2Fx", "../x"),
            ("/api/cache/caf%C3%A9", "café"),
            ("/api/cache/a+b", "a+b"),
            ("/api/cache/%2A%3F%5B%7B", "*?[{"),
            ("/api/cache/a?verbose=true", "a"),
            ("/api/cache/100%25", "100%"),
            ("/api/cache/100%", "100%"),
        ] {
            assert_eq!(key(uri).as_deref(), Ok(text), "{uri}");
        }
    }

    #[test]
    fn the_query_can_name_any_key() {
        for (uri, text) in [
            ("/api/cache?key=metrics", "metrics"),
            ("/api/cache?verbose&key=a%2Fb", "a/b"),
            ("/api/cache?key=a+b%2B", "a b+"),
            ("/api/cache?key=..", ".."),
            ("/api/cache?key=a=b", "a=b"),
        ] {
            assert_eq!(key(uri).as_deref(), Ok(text), "{uri}");
        }
    }

    #[test]
    fn a_parameter_that_there_is_not_is_refused() {
        let only = |uri: &str| {
            let uri: Uri = uri.parse().expect("a URI");
            only(&uri, &["pattern", "limit"]).map_err(|problem| (problem.code, problem.detail))
        };
        for uri in ["/k", "/k?", "/k?&", "/k?pattern=a&limit", "/k?_=1795204410", "/k?limit=1&_cb"] {
            assert_eq!(only(uri), Ok(()), "{uri}");
        }
        for (uri, words) in [
            ("/k?pattrn=user:*", "no parameter `pattrn`; did you mean `pattern`?"),
            ("/k?limit=1&zzz=2", "no parameter `zzz`; there are pattern, limit"),
            ("/k?Pattern=a", "no parameter `Pattern`"),
        ] {
            let (code, detail) = only(uri).expect_err(uri);
            assert!(code == Code::QueryInvalid && detail.contains(words), "{uri}: {detail}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for (uri, code) in [
            ("/api/cache/", Code::KeyEmpty),
            ("/api/cache", Code::KeyEmpty),
            ("/api/cache?key=", Code::KeyEmpty),
            ("/api/cache/%ff", Code::KeyEncoding),
            ("/api/cache/%C3", Code::KeyEncoding),
            ("/api/cache/a%0d%0ab", Code::KeyCharacter),
            ("/api/cache/%00", Code::KeyCharacter),
            ("/api/cache/%7f", Code::KeyCharacter),
            ("/api/cache/12345678901234567", Code::KeyTooLong),
            ("/api/cache/%31%32%33%345678901234567", Code::KeyTooLong),
        ] {
            assert_eq!(key(uri), Err(code), "{uri}");
        }
        assert!(key("/api/cache/%31%32%33%34567890123456").is_ok(), "the limit counts decoded bytes");
    }
}
