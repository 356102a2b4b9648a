//! Traces: which requests are traced, what their spans say, and how the spans are sent.
//!
//! ```text
//! traceparent ─▶ guard: sampled? ─▶ spans of service and library ─▶ queue ─▶ collector (OTLP over HTTP)
//!                                        └▶ traceparent of a request to an HTTP origin
//! ```
//!
//! | module | decides |
//! |---|---|
//! | `spans` | what spans of the service say |
//! | `context` | what of a trace is taken from a request, and told to an origin |
//! | `sampling` | which requests are traced |
//! | `outbox` | when spans are sent, and which are not |
//! | `collector` | how they are sent |
//!
//! 1. Where traces are off, a request asks one flag. Where it is not sampled, no span is made for it, and nothing below it makes one.
//! 2. No span has a key, a path, a value, a tag, a token, or words of an origin or a database. The id that a client gave its request is the one
//!    thing in them that a client chose, and it was checked to be one.
//! 3. Nothing that concerns spans makes a request wait. What cannot be queued or sent is counted, and lost.
//! 4. Without the feature `otlp` all of this is nothing.

#[cfg(feature = "otlp")]
mod collector;
#[cfg(feature = "otlp")]
mod context;
#[cfg(feature = "otlp")]
mod outbox;
#[cfg(feature = "otlp")]
mod sampling;
mod spans;

pub(crate) use spans::{Outgoing, current, end_lookup, end_request, lookup, name_request};

#[cfg(feature = "otlp")]
mod sent;
#[cfg(feature = "otlp")]
pub use sent::{Traces, TracesError};

/// Nothing is told where nothing is traced.
#[cfg(not(feature = "otlp"))]
mod context {
    pub(super) fn told(_: &tracing::Span) -> axum::http::HeaderMap {
        axum::http::HeaderMap::new()
    }

    pub(super) fn trace_of(_: &tracing::Span) -> Option<String> {
        None
    }
}

/// Traces of a service that was built without them.
#[cfg(not(feature = "otlp"))]
#[derive(Clone, Debug)]
pub(crate) enum Traces {}

#[cfg(not(feature = "otlp"))]
impl Traces {
    pub(crate) fn request<B>(
        &self,
        _: &axum::http::Request<B>,
        _: impl FnOnce() -> Option<String>,
    ) -> tracing::Span {
        match *self {}
    }

    pub(crate) fn metrics(&self) -> String {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "with the feature it waits")]
    pub(crate) async fn end(&self) {
        match *self {}
    }
}
