//! What an API says of groups of entries in its answer to a change: `Cache-Group-Invalidation` (RFC 9875 §3).
//!
//! 1. Only an answer of 2xx or 3xx to a change says such things. To a load it says nothing: that is safe.
//! 2. A group is a tag. One that no entry can have as a tag (it is empty, too long or has control characters) names nothing.
//! 3. A field that cannot be read, or has more than [`GROUPS_MAX`] members, is ignored as a whole. The log says so once in a second at
//!    most, and how often it was left out.

use crate::auth::{Rate, RateLimit};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use terrace::{Clock, Tag};

use crate::structured;

const FIELD: HeaderName = HeaderName::from_static("cache-group-invalidation");
/// Groups that one answer may name: as many as an invalidation by itself may have tags.
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
    pub(super) fn of(&self, origin: &str, status: StatusCode, headers: &HeaderMap) -> Vec<Tag> {
        if !headers.contains_key(FIELD) || !(status.is_success() || status.is_redirection()) {
            return Vec::new();
        }
        read(headers).unwrap_or_else(|reason| {
            if self.said.allows() {
                let left_out = self.left_out.swap(0, Ordering::Relaxed);
                tracing::warn!(origin, reason, left_out, "`Cache-Group-Invalidation` is ignored");
            } else {
                self.left_out.fetch_add(1, Ordering::Relaxed);
            }
            Vec::new()
        })
    }
}

/// The tags that a field names; several lines are one list.
fn read(headers: &HeaderMap) -> Result<Vec<Tag>, &'static str> {
    let (mut tags, mut count) = (Vec::new(), 0);
    for line in headers.get_all(FIELD) {
        let line = line.to_str().map_err(|_| "it has characters that are not visible")?;
        for member in structured::split(line) {
            count += 1;
            if count > GROUPS_MAX {
                return Err("it names too many groups");
            }
            let name = structured::string(member).ok_or("it is no list of strings")?;
            tags.extend(Tag::new(&name).ok());
        }
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn groups(status: u16, lines: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FIELD, HeaderValue::from_str(line).expect("a header"));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        let tags = Groups::new().of("api", status, &headers);
        tags.iter().map(|tag| tag.as_str().to_owned()).collect()
    }

    #[test]
    fn groups_are_the_strings_of_all_lines() {
        assert_eq!(groups(204, &[]), [""; 0]);
        assert_eq!(
            groups(200, &["\"org:7\";x=1, \"a,b\"", "\"q\\\"\", \"\""]),
            ["org:7", "a,b", "q\""],
            "what no entry can have names nothing"
        );
        let many: Vec<String> = (0..GROUPS_MAX).map(|number| format!("\"{number:032}\"")).collect();
        assert_eq!(groups(303, &[&many.join(", ")]).len(), GROUPS_MAX);
    }

    #[test]
    fn what_cannot_be_read_is_ignored_as_a_whole() {
        for lines in [&["\"a\", b"][..], &["\"a"], &["\"a\"", "1"], &["\"a\"", "\u{e9}"]] {
            assert_eq!(groups(200, lines), [""; 0], "{lines:?}");
        }
        let many = vec!["\"a\""; GROUPS_MAX + 1].join(",");
        assert_eq!(groups(200, &[&many]), [""; 0]);
    }

    #[test]
    fn an_error_says_nothing_of_groups() {
        for status in [400, 404, 409, 500, 503, 100] {
            assert_eq!(groups(status, &["\"a\""]), [""; 0], "{status}");
        }
    }
}
