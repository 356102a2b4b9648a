//! What people and programs did to the service, one line each, in the log.
//!
//! 1. A line says who, what, of which keys, how many, and what came of it. Never a value, never a token.
//!    The id that the client gave the request is in it, if it gave one.
//! 2. What a client chose (a key, a pattern, a path) is escaped and cut, so that it can be no line of its own, and no long one.
//! 3. Everything that changes more than one entry, or something of the service, is noted, by the route; a handler adds what it knows.
//! 4. Refusals are noted too, so many in a second; how many were left out is said by the next that is not.

use crate::auth::{Rate, RateLimit, Who};
use axum::http::Method;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use terrace::Clock;

/// Most bytes of a client's text in a line.
const TEXT_BYTES_MAX: usize = 128;
/// Keys of a request that are named in a line.
const KEYS_NAMED_MAX: usize = 3;
/// Refusals that are noted in a second.
const REFUSALS_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).expect("it is not zero");

/// What a handler knows of what was done; it goes with the response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Detail {
    /// What it was done to: keys, a pattern, tags.
    pub(crate) what: String,
    /// To how many.
    pub(crate) count: u64,
}

impl Detail {
    /// Of some texts, of which the first are named.
    pub(crate) fn of<'a>(texts: impl IntoIterator<Item = &'a str>, count: u64) -> Self {
        let mut texts = texts.into_iter();
        let mut named: Vec<&str> = texts.by_ref().take(KEYS_NAMED_MAX).map(cut).collect();
        if texts.next().is_some() {
            named.push("…");
        }
        Self { what: named.join(" "), count }
    }
}

/// The beginning of a text.
fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(TEXT_BYTES_MAX)).rev().find(|&at| text.is_char_boundary(at));
    &text[..end.unwrap_or(0)]
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Action<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) request_id: Option<&'a str>,
}

/// Notes what somebody did, and what came of it.
pub(crate) fn done(who: &Who, action: Action<'_>, detail: Option<&Detail>, outcome: &str) {
    let Action { method, path, request_id } = action;
    let (what, count) = detail.map_or(("", None), |detail| (detail.what.as_str(), Some(detail.count)));
    tracing::info!(
        target: "terrace::audit",
        who = who.name(),
        tenant = who.tenant(),
        action = %method,
        path = ?cut(path),
        what = ?what,
        count,
        outcome,
        request_id,
        "audit"
    );
}

/// Notes what was done to the service from inside: a signal, a reload.
pub(crate) fn by_the_operator(action: &str, outcome: &str) {
    tracing::info!(target: "terrace::audit", who = "operator", action, outcome, "audit");
}

/// Notes refusals.
#[derive(Debug)]
pub(crate) struct Refusals {
    rate: Rate,
    left_out: AtomicU64,
}

impl Refusals {
    pub(crate) fn new(clock: Clock) -> Self {
        let limit = RateLimit { per_second: REFUSALS_PER_SECOND, burst: REFUSALS_PER_SECOND };
        Self { rate: Rate::new(limit, clock), left_out: AtomicU64::new(0) }
    }

    /// Notes that somebody, if it is known who, was refused.
    pub(crate) fn note(&self, who: Option<&Who>, action: Action<'_>, outcome: &str) {
        if !self.rate.allows() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        let who = who.map_or("-", Who::name);
        let Action { method, path, request_id } = action;
        tracing::warn!(
            target: "terrace::audit", who, action = %method, path = ?cut(path), outcome, left_out, request_id, "refused"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_the_first_are_named() {
        let long = "é".repeat(200);
        let detail = Detail::of(["a", &long, "c", "d"], 4);
        assert_eq!(detail.count, 4);
        assert_eq!(detail.what, format!("a {} c …", "é".repeat(TEXT_BYTES_MAX / 2)));
        assert_eq!(Detail::of([], 0).what, "");
        assert_eq!(cut(""), "");
    }
}
