//! What of a trace is taken from a request, and told to an origin: the headers of W3C Trace Context.
//!
//! 1. What is no `traceparent`, or comes twice, counts as none: the request begins a trace of its own.
//! 2. `tracestate` is passed on as it came, if it can be read. It is never looked into.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// Longest `tracestate` that is taken over, in bytes: what everybody should pass on (W3C Trace Context §3.3.1.5). A longer one could make an
/// origin refuse what others wait for, too.
const STATE_BYTES_MAX: usize = 512;

struct Received<'a>(&'a HeaderMap);

impl Extractor for Received<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Told(HeaderMap);

impl Injector for Told {
    fn set(&mut self, name: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

/// The span that a request comes from, if it says so.
pub(super) fn of(headers: &HeaderMap) -> Option<SpanContext> {
    if headers.get_all(TRACEPARENT).iter().count() != 1 {
        return None;
    }
    let state: usize = headers.get_all(TRACESTATE).iter().map(HeaderValue::len).sum();
    let mut received = HeaderMap::new();
    let kept = [TRACEPARENT, TRACESTATE].into_iter().take(if state > STATE_BYTES_MAX { 1 } else { 2 });
    for name in kept {
        for value in headers.get_all(name) {
            received.append(name, value.clone());
        }
    }
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Received(&received));
    let parent = context.span().span_context().clone();
    parent.is_valid().then_some(parent)
}

/// Makes a span the child of one elsewhere.
pub(super) fn adopt(span: &Span, parent: SpanContext) {
    if let Err(error) = span.set_parent(Context::new().with_remote_span_context(parent)) {
        tracing::debug!(%error, "a trace cannot be continued");
    }
}

/// The id of the trace that a span is of.
pub(super) fn trace_of(span: &Span) -> Option<String> {
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then(|| context.trace_id().to_string())
}

/// What tells others that they are asked on behalf of a span.
pub(super) fn told(span: &Span) -> HeaderMap {
    let mut told = Told(HeaderMap::new());
    TraceContextPropagator::new().inject_context(&span.context(), &mut told);
    told.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_not_traced_is_of_no_trace() {
        assert_eq!(trace_of(&Span::none()), None);
    }

    fn parent(values: &[&str]) -> Option<(String, bool)> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).expect("a header"));
        }
        of(&headers).map(|parent| (parent.trace_id().to_string(), parent.is_sampled()))
    }

    #[test]
    fn what_is_no_traceparent_counts_as_none() {
        let id = "0af7651916cd43dd8448eb211c80319c".to_owned();
        assert_eq!(parent(&[VALID]), Some((id.clone(), true)));
        assert_eq!(parent(&[&VALID.replace("-01", "-00")]), Some((id, false)));
        for values in [
            &[][..],
            &[VALID, VALID],
            &[""],
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"],
            &["00-00000000000000000000000000000000-b7ad6b7169203331-01"],
            &["00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"],
            &["ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            &["00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01"],
        ] {
            assert_eq!(parent(values), None, "{values:?}");
        }
    }

    #[test]
    fn a_tracestate_comes_along() {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(VALID));
        headers.insert("tracestate", HeaderValue::from_static("vendor=1,other=a:b"));
        let long = HeaderValue::try_from(format!("vendor={}", "x".repeat(250))).expect("a header");
        let mut too_long = headers.clone();
        (0..3).for_each(|_| _ = too_long.append("tracestate", long.clone()));
        assert_eq!(of(&too_long).map(|parent| parent.trace_state().header()), Some(String::new()));
        let state = of(&headers).map(|parent| parent.trace_state().header());
        assert_eq!(state.as_deref(), Some("vendor=1,other=a:b"));
    }
}
