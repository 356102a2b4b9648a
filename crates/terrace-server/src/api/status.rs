//! What `Cache-Status` (RFC 9211) says of an answer: which tier had it, and why the others did not, nearest to the origin first.
//!
//! 1. That there is nothing is an answer, too: one by a negative entry is a hit, since nobody was asked.
//! 2. A time is in whole seconds, the lesser one: what is past its TTL for half a second has -1.

use super::error::{Code, Problem};
use super::fields::CacheControl;
use crate::document::Document;
use crate::keyspaces::Conduct;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use std::fmt;
use std::time::Duration;
use terrace::{Entry, Key, Lookup, StaleReason, Tier, Ttl};

pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The tier that a request comes to first.
const fn nearest(has_l1: bool) -> &'static str {
    if has_l1 { "terrace-l1" } else { "terrace-l2" }
}

/// What a key without a value is answered with.
pub(super) fn nothing<V>(key: &Key, has_l1: bool, found: &Lookup<V>) -> Response {
    let problem = Problem::new(Code::KeyNotFound, format!("nothing is stored under {key}"));
    let nearest = nearest(has_l1);
    let left = |ttl: &Ttl| Left { ttl: *ttl, past: Duration::ZERO };
    let status = match found {
        Lookup::Absent { tier: Tier::L1, ttl } => format!("terrace-l1; hit{}; detail=negative", left(ttl)),
        Lookup::Absent { tier: Tier::L2, ttl } if has_l1 => {
            format!("terrace-l2; hit{}; detail=negative, terrace-l1; fwd=uri-miss; stored", left(ttl))
        }
        Lookup::Absent { tier: Tier::L2, ttl } => format!("terrace-l2; hit{}; detail=negative", left(ttl)),
        _ => format!("{nearest}; fwd=uri-miss"),
    };
    with_status(problem, &status)
}

/// What a key is answered with for which the origin was not to be asked.
pub(super) fn not_cached(key: &Key) -> Response {
    let problem = Problem::new(Code::NotCached, format!("no tier has a value of {key}"));
    with_status(problem, "terrace-l1; detail=only-if-cached")
}

fn with_status(problem: Problem, status: &str) -> Response {
    let mut response = problem.into_response();
    if let Ok(status) = HeaderValue::from_str(status) {
        response.headers_mut().insert(CACHE_STATUS, status);
    }
    response
}

/// What `Cache-Status` says of an answer.
pub(super) struct Status<'a> {
    pub(super) entry: &'a Entry<Document>,
    pub(super) conduct: Conduct,
    pub(super) asked: &'a CacheControl,
}

impl fmt::Display for Status<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entry, conduct: Conduct { has_l1, .. }, asked } = *self;
        let (nearest, ttl) = (nearest(has_l1), Left { ttl: entry.ttl, past: entry.past });
        if let Some(reason) = entry.stale {
            let detail = match reason {
                StaleReason::LoadFailed => "stale-if-error",
                StaleReason::Revalidating => "stale-while-revalidate",
                other => other.as_str(),
            };
            return match entry.tier {
                Tier::L2 if has_l1 => {
                    write!(f, "terrace-l2; hit{ttl}; detail={detail}, terrace-l1; fwd=uri-miss")
                }
                Tier::L2 => write!(f, "terrace-l2; hit{ttl}; detail={detail}"),
                _ => write!(f, "{nearest}; hit{ttl}; detail={detail}"),
            };
        }
        let why = if asked.no_cache { "request" } else { "uri-miss" };
        match entry.tier {
            Tier::L1 => write!(f, "terrace-l1; hit{ttl}"),
            Tier::L2 if has_l1 => {
                let stored = if asked.no_store && asked.only_if_cached { "" } else { "; stored" };
                write!(f, "terrace-l2; hit{ttl}, terrace-l1; fwd={why}{stored}")
            }
            Tier::L2 => write!(f, "terrace-l2; hit{ttl}"),
            Tier::Origin => {
                let collapsed = if entry.is_shared { "; collapsed" } else { "" };
                let stored = if asked.no_store { "" } else { "; stored" };
                write!(f, "{nearest}; fwd={why}; fwd-status=200{collapsed}{stored}")
            }
        }
    }
}

/// The time that is left: negative for what is past its TTL, nothing for what does not age.
struct Left {
    ttl: Ttl,
    past: Duration,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ttl {
            Ttl::Never => Ok(()),
            Ttl::After(left) if self.past.is_zero() => write!(f, "; ttl={}", left.as_secs()),
            Ttl::After(_) => {
                let begun = u64::from(self.past.subsec_nanos() > 0);
                write!(f, "; ttl=-{}", self.past.as_secs().saturating_add(begun))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_whole_number_of_seconds_and_never_minus_nothing() {
        let text = |ttl: Ttl, past: u64| Left { ttl, past: Duration::from_millis(past) }.to_string();
        let left = |millis| Ttl::After(Duration::from_millis(millis));
        for (ttl, past, expected) in [
            (Ttl::Never, 0, ""),
            (left(41_900), 0, "; ttl=41"),
            (left(400), 0, "; ttl=0"),
            (left(0), 1, "; ttl=-1"),
            (left(0), 400, "; ttl=-1"),
            (left(0), 1_000, "; ttl=-1"),
            (left(0), 12_001, "; ttl=-13"),
        ] {
            assert_eq!(text(ttl, past), expected);
        }
    }
}
