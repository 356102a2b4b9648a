//! By what an API tells whether a value that it gave still holds: an entity tag, or when it was modified (RFC 9110, section 8.8).
//!
//! 1. A validator belongs to one value of one key, and is kept beside the digest of both. So an API is asked on a condition only for the very
//!    value that came with it: whatever took that one's place meanwhile, by whomever it was stored or loaded, is loaded whole.
//! 2. They are this process's own: entries have no place for them. After a restart, after a reload, and of what another instance loaded, the
//!    first load is a whole one. Nothing is wrong by that.
//! 3. There are [`PLACES`] of them at most, a key having one place, and each has at most [`BYTES_MAX`] bytes; one that is longer is not kept. Whoever comes
//!    later has the place. Each is a copy of its own: a header that was received holds on to all that came with it.
//! 4. A weak entity tag will do, for a `GET`. When a value was modified tells versions apart only by the second: it counts if the answer was
//!    made at least one later (section 8.8.2.2), and has no entity tag.
//! 5. What an API gets back is one entity tag, or one date, made anew from what was read.

use crate::structured;
use reqwest::header::{
    DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use terrace::Key;
use terrace::codec::JsonText;

/// How many are kept.
const PLACES: u32 = 65_536;
/// Longest entity tag.
const BYTES_MAX: usize = 128;
/// How much later than the last change an answer was made of which no other change can have the same time.
const APART: Duration = Duration::from_secs(1);

type Digest = [u8; 32];

/// What tells whether a value still holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Validator {
    Tag { is_weak: bool, tag: String },
    Modified(SystemTime),
}

impl Validator {
    /// That of an answer.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        if headers.contains_key(ETAG) {
            let (is_weak, tag) = tag_of(headers)?;
            return Some(Self::Tag { is_weak, tag });
        }
        let (modified, made) = (date_of(headers, &LAST_MODIFIED)?, date_of(headers, &DATE)?);
        (made.duration_since(modified).ok()? >= APART).then_some(Self::Modified(modified))
    }

    /// The condition under which the value is wanted.
    pub(super) fn condition(&self) -> Option<(HeaderName, HeaderValue)> {
        let (name, text) = match self {
            Self::Tag { is_weak: true, tag } => (IF_NONE_MATCH, format!("W/{tag}")),
            Self::Tag { is_weak: false, tag } => (IF_NONE_MATCH, tag.clone()),
            Self::Modified(modified) => (IF_MODIFIED_SINCE, httpdate::fmt_http_date(*modified)),
        };
        Some((name, HeaderValue::from_str(&text).ok()?))
    }

    /// Whether an answer that the value still holds is about another value than this one's.
    pub(super) fn is_denied_by(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Tag { tag, .. } => {
                headers.contains_key(ETAG) && tag_of(headers).is_none_or(|(_, other)| other != *tag)
            }
            Self::Modified(_) => false,
        }
    }
}

/// The one entity tag of an answer.
fn tag_of(headers: &HeaderMap) -> Option<(bool, String)> {
    let mut lines = headers.get_all(ETAG).iter();
    let line = lines.next().filter(|line| line.len() <= BYTES_MAX && lines.next().is_none())?;
    let [one] = <[_; 1]>::try_from(structured::entity_tags(line.to_str().ok()?)?).ok()?;
    Some(one)
}

fn date_of(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?.trim()).ok()
}

/// What is known of a value.
#[derive(Clone, Debug)]
pub(super) struct Known {
    digest: Digest,
    pub(super) validator: Validator,
    /// How long it holds from when it was made, as its answer said.
    pub(super) lifetime: Option<Duration>,
}

/// The validators of one keyspace.
#[derive(Debug, Default)]
pub(super) struct Validators(Mutex<HashMap<u32, Known>>);

impl Validators {
    fn places(&self) -> MutexGuard<'_, HashMap<u32, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the value of a key.
    ///
    /// # Cost
    /// A digest of the value.
    pub(super) fn of(&self, key: &Key, value: &JsonText) -> Option<Known> {
        let known = self.places().get(&place_of(key)).cloned()?;
        (known.digest == digest_of(key, value)).then_some(known)
    }

    /// Keeps the validator of a value, in place of whatever was there.
    pub(super) fn keep(&self, key: &Key, value: &JsonText, validator: Validator, lifetime: Option<Duration>) {
        let known = Known { digest: digest_of(key, value), validator, lifetime };
        self.places().insert(place_of(key), known);
    }

    /// Forgets what is known of a key.
    pub(super) fn forget(&self, key: &Key) {
        self.places().remove(&place_of(key));
    }
}

/// The place of a key; others have it, too.
fn place_of(key: &Key) -> u32 {
    let digest = Sha256::digest(key.as_str());
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]) % PLACES
}

fn digest_of(key: &Key, value: &JsonText) -> Digest {
    let key = key.as_str();
    let mut digest = Sha256::new();
    digest.update((key.len() as u64).to_le_bytes());
    digest.update(key);
    digest.update(value.as_bytes());
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            headers.append(name, HeaderValue::from_bytes(line.as_bytes()).expect("a header"));
        }
        headers
    }

    fn condition(lines: &[(HeaderName, &str)]) -> Option<(String, String)> {
        let (name, value) = Validator::of(&headers(lines))?.condition()?;
        Some((name.to_string(), value.to_str().expect("text").to_owned()))
    }

    #[test]
    fn an_api_gets_back_one_validator_that_can_be_relied_on() {
        let (before, when, after) = (
            "Sun, 06 Nov 1994 08:49:36 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:38 GMT",
        );
        let long = format!("\"{}\"", "x".repeat(BYTES_MAX - 2));
        let none_match = |tag: &str| Some(("if-none-match".to_owned(), tag.to_owned()));
        for (lines, expected) in [
            (&[(ETAG, "\"a\"")][..], none_match("\"a\"")),
            (&[(ETAG, "W/\"a\""), (LAST_MODIFIED, before), (DATE, when)], none_match("W/\"a\"")),
            (&[(ETAG, "\"\"")], none_match("\"\"")),
            (&[(ETAG, &long)], none_match(&long)),
            (&[(ETAG, &format!("W/{long}"))], None),
            (&[(ETAG, "*")], None),
            (&[(ETAG, "a")], None),
            (&[(ETAG, "")], None),
            (&[(ETAG, "\"a\", \"b\"")], None),
            (&[(ETAG, "\"a\""), (ETAG, "\"b\"")], None),
            (&[(ETAG, "\"\u{e9}\"")], None),
            (&[(ETAG, "a"), (LAST_MODIFIED, before), (DATE, when)], None),
            (
                &[(LAST_MODIFIED, when), (DATE, after)],
                Some(("if-modified-since".to_owned(), when.to_owned())),
            ),
            (&[(LAST_MODIFIED, when), (DATE, when)], None),
            (&[(LAST_MODIFIED, when), (DATE, before)], None),
            (&[(LAST_MODIFIED, before)], None),
            (&[(LAST_MODIFIED, "soon"), (DATE, when)], None),
            (&[], None),
        ] {
            assert_eq!(condition(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn an_answer_for_another_entity_tag_is_none() {
        let validator = Validator::of(&headers(&[(ETAG, "W/\"a\"")])).expect("one");
        for (lines, is_denied) in [
            (&[][..], false),
            (&[(ETAG, "\"a\"")], false),
            (&[(ETAG, "W/\"a\"")], false),
            (&[(ETAG, "\"b\"")], true),
            (&[(ETAG, "a")], true),
        ] {
            assert_eq!(validator.is_denied_by(&headers(lines)), is_denied, "{lines:?}");
        }
    }

    #[test]
    fn only_the_very_value_of_the_very_key_is_asked_about() {
        let validators = Validators::default();
        let (key, other) = (Key::new("a").expect("a key"), Key::new("b").expect("a key"));
        let value = |text: &'static str| JsonText::new(text.into()).expect("JSON");
        let validator = Validator::Tag { is_weak: false, tag: "\"1\"".to_owned() };
        validators.keep(&key, &value("1"), validator.clone(), Some(APART));
        let known = validators.of(&key, &value("1")).expect("it is known");
        assert_eq!((known.validator, known.lifetime), (validator, Some(APART)));
        assert!(validators.of(&key, &value("1 ")).is_none() && validators.of(&other, &value("1")).is_none());
        validators.forget(&key);
        assert!(validators.of(&key, &value("1")).is_none());
    }

    #[test]
    fn there_are_so_many_at_most_and_the_last_is_among_them() {
        let validators = Validators::default();
        let value = JsonText::new("1".into()).expect("JSON");
        for number in 0..2_000 {
            let key = Key::new(&number.to_string()).expect("a key");
            let validator = Validator::Tag { is_weak: false, tag: format!("\"{number}\"") };
            validators.keep(&key, &value, validator.clone(), None);
            assert_eq!(validators.of(&key, &value).expect("it is known").validator, validator);
        }
        let keys: Vec<Key> =
            (0..2_000).map(|number: u32| Key::new(&number.to_string()).expect("a key")).collect();
        let known = keys.iter().filter(|key| validators.of(key, &value).is_some()).count();
        let places = validators.places();
        assert!(places.len() < keys.len(), "some have one place");
        assert_eq!(known, places.len(), "and that is the last one's alone");
        assert!(places.keys().all(|place| *place < PLACES));
    }
}
