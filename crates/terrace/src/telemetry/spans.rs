//! Which parts of a call have a span of their own?
//!
//! | span | is about | says |
//! |---|---|---|
//! | `flight` | one key on its way from L2 to the origin | what L2 had; whether somebody waits for it |
//! | `wait` | a caller who joined a flight | which flight, by a link, if that has a span too |
//! | `l2` | one call of L2, with its attempts | which call, and how it failed |
//! | `load` | one load by the origin | what came of it |
//! | `store` | changes that the origin is asked to make at once | how many it did not take |
//! | `change` | a change on its way through the tiers | |
//! | `send` | writes that are sent behind: a trace of its own | how many, and what came of it |
//!
//! 1. But for `send`, a span is made only within one of the caller: where a request is not traced, nothing is made. A hit in L1 makes
//!    and asks nothing.
//! 2. No span has a key, a value, a tag, or words of an origin. They have the namespace, counts, and words of this file.
//! 3. A task that outlives its caller has a span of its own, below the caller's: the caller's span ends when the caller does.

use crate::error::{Error, ErrorKind};
use crate::read::Look;
use terrace_core::{Namespace, RemoteError};
use tracing::field::Empty;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Span, info_span};

/// The target of the spans of the cache, and of those of the service: what traces requests listens to it, and a log need not.
///
/// A call has spans where its caller is in one. They tell namespaces, counts and outcomes, never a key or a value.
pub const TARGET: &str = "terrace::trace";

/// Whether the caller is within a span.
fn is_asked_for() -> bool {
    LevelFilter::current() >= Level::INFO && !Span::current().is_none()
}

/// One key on its way.
pub(crate) fn flight(namespace: &Namespace, is_behind: bool) -> Span {
    if !is_asked_for() {
        return Span::none();
    }
    info_span!(
        target: TARGET, "flight", terrace.namespace = %namespace, terrace.background = is_behind, terrace.l2.outcome = Empty
    )
}

/// What L2 had for the flight that is under way.
pub(crate) fn note_look(look: &Look) {
    if is_asked_for() {
        Span::current().record("terrace.l2.outcome", word_of(look));
    }
}

fn word_of(look: &Look) -> &'static str {
    match look {
        Look::Hit(_) => "hit",
        Look::Kept(_) => "confirmed",
        Look::Miss { .. } => "miss",
        Look::Unknown => "unknown",
        Look::Unproven => "unproven",
    }
}

/// A caller who waits for somebody else's flight.
pub(crate) fn wait(namespace: &Namespace, flight: Option<&Span>) -> Span {
    if !is_asked_for() {
        return Span::none();
    }
    let span =
        info_span!(target: TARGET, "wait", terrace.namespace = %namespace, terrace.flight = "coalesced");
    span.follows_from(flight.and_then(Span::id));
    span
}

/// A call of L2.
pub(crate) fn l2(namespace: &Namespace, call: &'static str) -> Span {
    if !is_asked_for() {
        return Span::none();
    }
    info_span!(
        target: TARGET, "l2", otel.name = call, otel.kind = "client", terrace.namespace = %namespace, terrace.l2.call = call,
        error.type = Empty, otel.status_code = Empty
    )
}

/// Passes on what a call of L2 came to, having noted it.
pub(crate) fn end_l2<T>(span: &Span, result: Result<T, RemoteError>) -> Result<T, RemoteError> {
    result.inspect_err(|error| fail(span, word_of_remote(error)))
}

/// A load by the origin.
pub(crate) fn load(namespace: &Namespace) -> Span {
    if !is_asked_for() {
        return Span::none();
    }
    info_span!(
        target: TARGET, "load", terrace.namespace = %namespace, terrace.load.outcome = Empty, error.type = Empty,
        otel.status_code = Empty
    )
}

/// Says what a load came to.
pub(crate) fn end_load<T>(span: &Span, result: &Result<Option<T>, Error>) {
    if span.is_none() {
        return;
    }
    let outcome = match result.as_ref().map_err(Error::kind) {
        Ok(Some(_)) => "found",
        Ok(None) => "absent",
        Err(error) => {
            fail(span, word_of_error(error));
            "failed"
        }
    };
    span.record("terrace.load.outcome", outcome);
}

/// One call that loads many keys.
pub(crate) fn load_many(namespace: &Namespace, count: usize) -> Span {
    if !is_asked_for() {
        return Span::none();
    }
    info_span!(target: TARGET, "load many", terrace.namespace = %namespace, terrace.keys = count)
}

/// Changes that the origin is asked to make.
pub(crate) fn store(namespace: &Namespace, count: usize) -> Span {
    if !is_asked_for() {
        return Span::none();
    }
    info_span!(
        target: TARGET, "store", terrace.namespace = %namespace, terrace.keys = count, terrace.failed = Empty,
        error.type = Empty, otel.status_code = Empty
    )
}

/// A change that goes on when its caller goes away.
pub(crate) fn change() -> Span {
    if is_asked_for() { info_span!(target: TARGET, "change") } else { Span::none() }
}

/// Writes that are sent behind. Who wrote them has gone: it is nobody's child.
#[cfg(feature = "journal")]
pub(crate) fn send(namespace: &str, count: usize) -> Span {
    info_span!(
        target: TARGET, parent: None, "send", otel.name = "write behind", terrace.namespace = namespace, terrace.keys = count,
        terrace.failed = Empty, error.type = Empty, otel.status_code = Empty
    )
}

/// Says what a span's work failed with.
fn fail(span: &Span, error: &'static str) {
    span.record("error.type", error);
    span.record("otel.status_code", "ERROR");
}

/// Says how many changes of a span were not made.
pub(crate) fn fail_some(span: &Span, failed: usize, error: &'static str) {
    span.record("terrace.failed", failed);
    if failed > 0 {
        fail(span, error);
    }
}

/// Why a load failed, in a word.
fn word_of_error(error: &ErrorKind) -> &'static str {
    match error {
        ErrorKind::Load(_) => "failed",
        ErrorKind::LoadTimedOut { .. } => "timeout",
        ErrorKind::LoadPanicked { .. } => "panic",
        _ => "other",
    }
}

/// Why a call of L2 failed, in a word.
fn word_of_remote(error: &RemoteError) -> &'static str {
    match error {
        RemoteError::Unavailable { .. } => "unavailable",
        RemoteError::Timeout { .. } | RemoteError::Late { .. } => "timeout",
        RemoteError::Broken { .. } => "broken",
        RemoteError::Protocol { .. } => "protocol",
        _ => "refused",
    }
}
