//! What an API says of groups of entries (RFC 9875): of which ones a value that was loaded is (`Cache-Groups`), and, in its answer to a
//! change, which ones are not true any more (`Cache-Group-Invalidation`).
//!
//! 1. Only an answer of 2xx or 3xx to a change says that groups are not true any more. To a load it says no such thing: that is safe.
//! 2. A group is a tag. One that no entry can have as a tag (it is empty, too long or has control characters) names nothing, in either
//!    field.
//! 3. A field that cannot be read is ignored as a whole, and so is a `Cache-Group-Invalidation` that names more than [`GROUPS_MAX`]
//!    groups. The log says so once in a second at most, and how often it was left out.
//! 4. A value of more groups than an entry can have tags is not kept without some of them, and so is not loaded: what is invalidated
//!    by one that was left out would stay. That its `Cache-Groups` names more than [`GROUPS_MAX`] is the same error, however many of
//!    them are one.

use crate::auth::{Rate, RateLimit};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use terrace::{Clock, Tag};

use crate::structured;

const GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");
/// Groups that one field may name: as many as an invalidation by itself may have tags.
const GROUPS_MAX: usize = 1_000;
/// How often in a second it is said that a field cannot be read.
const SAID_PER_SECOND: NonZeroU32 = NonZeroU32::MIN;

/// Reads such fields, and says of those that cannot be read.
#[derive(Debug)]
pub(super) struct Groups {
    said: Rate,
    left_out: AtomicU64,
}

impl Groups {
    pub(super) fn new() -> Self {
        let limit = RateLimit { per_second: SAID_PER_SECOND, burst: SAID_PER_SECOND };
        Self { said: Rate::new(limit, Clock::system()), left_out: AtomicU64::new(0) }
    }

    /// The groups that an answer to a change says are not true any more.
    pub(super) fn made_untrue(&self, origin: &str, status: StatusCode, headers: &HeaderMap) -> Vec<Tag> {
        if !(status.is_success() || status.is_redirection()) {
            return Vec::new();
        }
        read(headers, &INVALIDATION)
            .unwrap_or_else(|unread| self.ignored(origin, "Cache-Group-Invalidation", unread))
    }

    /// Whether an answer to a load says of which groups the value is.
    pub(super) fn are_named(headers: &HeaderMap) -> bool {
        headers.contains_key(GROUPS)
    }

    /// The groups of a value that was loaded; why it cannot be kept, if it cannot.
    pub(super) fn of_entry(&self, origin: &str, headers: &HeaderMap) -> Result<Vec<Tag>, String> {
        match read(headers, &GROUPS) {
            Ok(mut tags) => {
                tags.sort_unstable();
                tags.dedup();
                if tags.len() <= Tag::PER_ENTRY_MAX { Ok(tags) } else { Err(too_many()) }
            }
            Err(Unread::TooMany) => Err(too_many()),
            Err(unread) => Ok(self.ignored(origin, "Cache-Groups", unread)),
        }
    }

    fn ignored(&self, origin: &str, field: &str, reason: Unread) -> Vec<Tag> {
        if self.said.allows() {
            let left_out = self.left_out.swap(0, Ordering::Relaxed);
            tracing::warn!(origin, %reason, left_out, "`{field}` is ignored");
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        Vec::new()
    }
}

fn too_many() -> String {
    format!(
        "its answer names more groups in `Cache-Groups` than the {} tags that an entry can have",
        Tag::PER_ENTRY_MAX
    )
}

/// Why a field says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
enum Unread {
    #[error("it names too many groups")]
    TooMany,
    #[error("it has characters that are not visible")]
    NoText,
    #[error("it is no list of strings")]
    NoList,
}

/// The tags that a field names; several lines are one list.
fn read(headers: &HeaderMap, field: &HeaderName) -> Result<Vec<Tag>, Unread> {
    let (mut tags, mut count) = (Vec::new(), 0);
    for line in headers.get_all(field) {
        let line = line.to_str().map_err(|_| Unread::NoText)?;
        for member in structured::split(line) {
            count += 1;
            if count > GROUPS_MAX {
                return Err(Unread::TooMany);
            }
            let name = structured::string(member).ok_or(Unread::NoList)?;
            tags.extend(Tag::new(&name).ok());
        }
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn headers(field: &HeaderName, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(field, HeaderValue::from_str(line).expect("a header"));
        }
        headers
    }

    fn names(tags: &[Tag]) -> Vec<&str> {
        tags.iter().map(Tag::as_str).collect()
    }

    fn made_untrue(status: u16, lines: &[&str]) -> Vec<Tag> {
        let status = StatusCode::from_u16(status).expect("a status");
        Groups::new().made_untrue("api", status, &headers(&INVALIDATION, lines))
    }

    fn of_entry(lines: &[&str]) -> Result<Vec<Tag>, String> {
        Groups::new().of_entry("api", &headers(&GROUPS, lines))
    }

    #[test]
    fn groups_are_the_strings_of_all_lines() {
        let lines = ["\"org:7\";x=1, \"a,b\"", "\"q\\\"\", \"\""];
        let read = made_untrue(200, &lines);
        assert_eq!(names(&read), ["org:7", "a,b", "q\""], "what no entry can have names nothing");
        assert_eq!(names(&of_entry(&lines).expect("few")), ["a,b", "org:7", "q\""]);
        assert!(made_untrue(204, &[]).is_empty() && of_entry(&[]).expect("none").is_empty());
        let many: Vec<String> = (0..GROUPS_MAX).map(|number| format!("\"{number:032}\"")).collect();
        assert_eq!(made_untrue(303, &[&many.join(", ")]).len(), GROUPS_MAX);
    }

    #[test]
    fn what_cannot_be_read_is_ignored_as_a_whole() {
        for lines in [&["\"a\", b"][..], &["\"a"], &["\"a\"", "1"], &["\"a\"", "\u{e9}"]] {
            assert!(made_untrue(200, lines).is_empty(), "{lines:?}");
            assert_eq!(of_entry(lines), Ok(Vec::new()), "{lines:?}");
        }
        let many = vec!["\"a\""; GROUPS_MAX + 1].join(",");
        assert!(made_untrue(200, &[&many]).is_empty());
    }

    #[test]
    fn an_entry_has_all_of_its_groups_or_is_none() {
        let groups = |count: usize| {
            let names: Vec<String> = (0..count).map(|number| format!("\"{number:032}\"")).collect();
            of_entry(&[&names.join(", "), &names.join(",")]).map(|tags| tags.len())
        };
        assert_eq!(groups(32), Ok(32), "twice the same is one");
        for count in [33, GROUPS_MAX] {
            assert!(groups(count).expect_err("too many").contains("32 tags"), "{count}");
        }
        let same = vec!["\"a\""; GROUPS_MAX + 1].join(",");
        assert!(of_entry(&[&same]).expect_err("too many").contains("32 tags"), "it is not ignored");
    }

    #[test]
    fn an_error_says_nothing_of_groups() {
        for status in [400, 404, 409, 500, 503, 100] {
            assert!(made_untrue(status, &["\"a\""]).is_empty(), "{status}");
        }
    }
}
