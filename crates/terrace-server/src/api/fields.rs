//! What the headers of a request say: directives of `Cache-Control`, tags of `Cache-Groups`, entity tags, a request's own name.
//!
//! 1. A header that is not understood is an error where ignoring it would change what the request does (tags, entity tags, times of a
//!    `PUT`), and is ignored where HTTP says so (directives that nobody knows).
//! 2. A header that comes in several lines is one list (RFC 9110).

use super::error::{Code, Problem};
use crate::structured::{SECONDS_MAX, directives, entity_tags, split, string};
use axum::http::{HeaderMap, HeaderName, header};
use std::time::Duration;
use terrace::behind::IdempotencyKey;
use terrace::{EntryOptions, Tag};

/// Tags of an entry (RFC 9875).
pub(super) const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");

/// What a client calls a request, and its repetitions (draft-ietf-httpapi-idempotency-key-header).
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The lines of a header, as one list; `None` if there is none.
fn list(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Problem> {
    let mut lines = headers.get_all(name).iter().peekable();
    if lines.peek().is_none() {
        return Ok(None);
    }
    let text = |line: &axum::http::HeaderValue| line.to_str().map(str::to_owned);
    let lines: Result<Vec<String>, _> = lines.map(text).collect();
    lines
        .map(|lines| Some(lines.join(", ")))
        .map_err(|_| invalid(name, "it has characters that are not visible"))
}

fn invalid(name: &HeaderName, why: &str) -> Problem {
    Problem::new(Code::HeaderInvalid, format!("`{name}`: {why}"))
}

/// The directives of `Cache-Control` that mean something here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct CacheControl {
    pub(super) no_cache: bool,
    pub(super) no_store: bool,
    pub(super) only_if_cached: bool,
    pub(super) max_stale: Option<Duration>,
    max_age: Option<Duration>,
    stale_while_revalidate: Option<Duration>,
    stale_if_error: Option<Duration>,
}

/// How old an entry may be for those who do not say how old.
const ANY_AGE: Duration = SECONDS_MAX;

impl CacheControl {
    /// Reads the header, if it is there.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut read = Self::default();
        let Some(text) = list(headers, &header::CACHE_CONTROL)? else { return Ok(read) };
        for directive in directives(&text) {
            let name = directive.name();
            let seconds = || {
                let why = format!("`{name}` wants a number of seconds");
                directive.seconds().ok_or_else(|| invalid(&header::CACHE_CONTROL, &why))
            };
            match name.as_str() {
                "no-cache" => read.no_cache = true,
                "no-store" => read.no_store = true,
                "only-if-cached" => read.only_if_cached = true,
                "max-stale" if directive.value.is_none() => read.max_stale = Some(ANY_AGE),
                "max-stale" => read.max_stale = Some(seconds()?),
                "max-age" => read.max_age = Some(seconds()?),
                "stale-while-revalidate" => read.stale_while_revalidate = Some(seconds()?),
                "stale-if-error" => read.stale_if_error = Some(seconds()?),
                _ => {}
            }
        }
        Ok(read)
    }

    /// What a `PUT` says of the entry's times.
    pub(super) fn times(self, mut options: EntryOptions) -> EntryOptions {
        if let Some(ttl) = self.max_age {
            options = options.ttl(ttl);
        }
        if let Some(time) = self.stale_while_revalidate {
            options = options.stale_while_revalidate(time);
        }
        let grace = self.stale_while_revalidate.into_iter().chain(self.stale_if_error).max();
        match grace {
            Some(grace) => options.grace(grace),
            None => options,
        }
    }
}

/// The tags in `Cache-Groups`: a structured list of strings (RFC 9875), whose parameters are ignored.
pub(super) fn tags(headers: &HeaderMap) -> Result<Vec<Tag>, Problem> {
    let Some(text) = list(headers, &CACHE_GROUPS)? else { return Ok(Vec::new()) };
    let member = |member| {
        let name = string(member)
            .ok_or_else(|| invalid(&CACHE_GROUPS, "it is a list of strings, as in `\"org:7\", \"a\"`"))?;
        Tag::new(&name).map_err(|error| invalid(&CACHE_GROUPS, &error.to_string()))
    };
    split(&text).map(member).collect()
}

/// The name of a request, if it has one: a structured string, whose parameters are ignored, or, as many send it, the same without quotation
/// marks.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let refused = |why: &str| {
        let what = "it is one string, such as the UUID \"8e03978e-40d5-43dd-bc93-6894a57f9324\"; a repetition has the very same";
        invalid(&IDEMPOTENCY_KEY, &format!("{why}; {what}"))
    };
    let mut lines = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(refused("it comes twice"));
    }
    let text = line.to_str().map_err(|_| refused("it has characters that are not visible"))?.trim();
    let is_bare = !text.contains(['"', '\\', ',', ';']);
    let name = if is_bare { Some(text.to_owned()) } else { string(text) };
    let name = name.ok_or_else(|| refused("it does not end where its quotation marks do"))?;
    IdempotencyKey::new(&name).map(Some).map_err(|error| refused(&error.to_string()))
}

/// Tags as `Cache-Groups` has them; those that such a string cannot have are left out. `None` if none is left.
pub(super) fn groups(tags: &[Tag]) -> Option<String> {
    let is_plain = |tag: &&Tag| tag.as_str().bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let quoted = |tag: &Tag| format!("\"{}\"", tag.as_str().replace('\\', "\\\\").replace('"', "\\\""));
    let all: Vec<String> = tags.iter().filter(is_plain).map(quoted).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// What `If-Match` or `If-None-Match` names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum EntityTags {
    /// Whatever is there.
    Any,
    /// These, each with whether it is weak.
    Named(Vec<(bool, String)>),
}

impl EntityTags {
    /// Reads such a header, if it is there.
    pub(super) fn of(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, Problem> {
        let Some(text) = list(headers, name)? else { return Ok(None) };
        if text.trim() == "*" {
            return Ok(Some(Self::Any));
        }
        let no = || {
            invalid(name, "it is `*`, or a list of entity tags in quotation marks, as in the header `ETag`")
        };
        let named = entity_tags(&text).ok_or_else(no)?;
        if named.is_empty() { Err(no()) } else { Ok(Some(Self::Named(named))) }
    }

    /// Whether one of them is this. A weak one is not, where only the very same will do.
    pub(super) fn name(&self, tag: &str, is_weak_enough: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Named(named) => {
                named.iter().any(|(is_weak, own)| own == tag && (is_weak_enough || !is_weak))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_str(line).expect("a header"));
        }
        headers
    }

    #[test]
    fn directives_are_read_and_strange_ones_ignored() {
        let read = |lines: &[&str]| CacheControl::of(&headers(&header::CACHE_CONTROL, lines));
        assert_eq!(read(&[]).expect("none"), CacheControl::default());
        let some =
            read(&["MAX-AGE=300 , x=\"a, no-cache\", stale-while-revalidate=\"30\"", "only-if-cached"]);
        let expected = CacheControl {
            max_age: Some(Duration::from_mins(5)),
            stale_while_revalidate: Some(Duration::from_secs(30)),
            only_if_cached: true,
            ..CacheControl::default()
        };
        assert_eq!(some.expect("directives"), expected);
        assert_eq!(read(&["max-stale"]).expect("one").max_stale, Some(ANY_AGE));
        assert_eq!(read(&["max-age=99999999999999999999"]).expect("one").max_age, Some(ANY_AGE));
        for line in ["max-age", "max-age=", "max-age=-1", "stale-if-error=1.5", "max-stale=x"] {
            assert_eq!(read(&[line]).map_err(|problem| problem.code), Err(Code::HeaderInvalid), "{line}");
        }
    }

    #[test]
    fn groups_are_strings_and_are_written_as_they_are_read() {
        let read = |lines: &[&str]| {
            let tags = tags(&headers(&CACHE_GROUPS, lines)).map_err(|problem| problem.code)?;
            Ok(tags.iter().map(|tag| tag.as_str().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(
            read(&["\"org:7\", \"a,b\";p=1", "\"q\\\"\""]),
            Ok(vec!["org:7".into(), "a,b".into(), "q\"".into()])
        );
        for line in ["org:7", "\"a", "\"a\\b\"", "\"a\"b", "\"\"", "1"] {
            assert_eq!(read(&[line]), Err(Code::HeaderInvalid), "{line}");
        }
        let tags: Vec<Tag> = ["a,b", "q\"\\", "\u{e9}"].map(|text| Tag::new(text).expect("a tag")).into();
        let written = groups(&tags).expect("some");
        assert_eq!(written, r#""a,b", "q\"\\""#);
        assert_eq!(read(&[&written]), Ok(vec!["a,b".into(), "q\"\\".into()]));
    }

    #[test]
    fn a_request_has_one_name_with_or_without_quotation_marks() {
        let read = |lines: &[&str]| {
            let read = idempotency_key(&headers(&IDEMPOTENCY_KEY, lines)).map_err(|problem| problem.code)?;
            Ok(read.map(|name| name.as_str().to_owned()))
        };
        assert_eq!(read(&[]), Ok(None));
        for (line, name) in [
            ("\"8e03978e-40d5\"", "8e03978e-40d5"),
            ("8e03978e-40d5", "8e03978e-40d5"),
            (" \"a\" ;p=1;q=\"b\"", "a"),
            ("\"a\\\"\\\\b,c;d\"", "a\"\\b,c;d"),
            ("YWJj/+=:1", "YWJj/+=:1"),
        ] {
            assert_eq!(read(&[line]), Ok(Some(name.to_owned())), "{line}");
        }
        let long = "k".repeat(256);
        let quoted = format!("\"{long}\"");
        for line in [
            "",
            "\"\"",
            "a b",
            "\"a b\"",
            "\"a",
            "a\"",
            "\"a\"b",
            "\"a\\b\"",
            "a,b",
            "a;b",
            "\"a\", \"b\"",
            &long,
            &quoted,
        ] {
            assert_eq!(read(&[line]), Err(Code::HeaderInvalid), "{line}");
        }
        assert_eq!(read(&["a", "a"]), Err(Code::HeaderInvalid), "two lines");
    }

    #[test]
    fn entity_tags_are_compared_as_they_are_meant() {
        let read = |lines: &[&str]| {
            EntityTags::of(&headers(&header::IF_MATCH, lines), &header::IF_MATCH)
                .map_err(|problem| problem.code)
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["*"]), Ok(Some(EntityTags::Any)));
        let some = read(&["\"a,b\" , W/\"c\"", "\"d\""]).expect("tags").expect("some");
        assert!(some.name("\"a,b\"", false) && some.name("\"d\"", false));
        assert!(some.name("\"c\"", true) && !some.name("\"c\"", false), "a weak one");
        assert!(!some.name("\"e\"", true));
        for line in ["", "a", "\"a", "\"a\" \"b\"", "w/\"a\"", "*, \"a\""] {
            assert_eq!(read(&[line]), Err(Code::HeaderInvalid), "{line}");
        }
    }
}
