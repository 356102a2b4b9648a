//! What spans of the service say. Those of the tiers are the library's.

use axum::http::{HeaderMap, Method, StatusCode};
use std::sync::atomic::{AtomicBool, Ordering};
use terrace::{Entry, TRACE_TARGET};
use tracing::field::Empty;
use tracing::{Span, info_span};

/// Whether any service of this process sends traces.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// Notes that spans are listened to from now on.
#[cfg(feature = "otlp")]
pub(super) fn turn_on() {
    IS_ON.store(true, Ordering::Relaxed);
}

/// Whether what is under way is traced.
fn is_traced() -> bool {
    IS_ON.load(Ordering::Relaxed) && !Span::current().is_none()
}

/// The id of the trace that what is under way is of, if it is traced.
pub(crate) fn current() -> Option<String> {
    is_traced().then(|| super::context::trace_of(&Span::current())).flatten()
}

/// The methods that a span may name; there is no bound on those that a client makes up.
fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

/// A request. `route` is the pattern of its path, not the path: that has a key.
#[cfg(feature = "otlp")]
pub(super) fn request(method: &Method, route: Option<&str>, version: axum::http::Version) -> Span {
    let method = name_of(method);
    let name = route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
    let version = if version == axum::http::Version::HTTP_2 { "2" } else { "1.1" };
    info_span!(
        target: TRACE_TARGET, parent: None, "request", otel.name = name, otel.kind = "server", http.request.method = method,
        http.route = route, network.protocol.version = version, http.response.status_code = Empty, error.type = Empty,
        "http.request.header.x-request-id" = Empty, otel.status_code = Empty
    )
}

/// Says which id the client gave a request.
pub(crate) fn name_request(span: &Span, id: &str) {
    if !span.is_none() {
        span.record("http.request.header.x-request-id", id);
    }
}

/// Says what a request was answered with. What the client did wrong is no failure of ours.
pub(crate) fn end_request(span: &Span, status: StatusCode, problem: Option<&'static str>) {
    if span.is_none() {
        return;
    }
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if let Some(problem) = problem {
        span.record("error.type", problem);
    }
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// A lookup in a keyspace, on its way through the tiers.
pub(crate) fn lookup<'a>(keyspace: impl FnOnce() -> &'a str) -> Span {
    if !is_traced() {
        return Span::none();
    }
    info_span!(
        target: TRACE_TARGET, "lookup", terrace.keyspace = keyspace(), terrace.tier = Empty, terrace.stale = Empty,
        otel.status_code = Empty
    )
}

/// Says which tier answered a lookup.
pub(crate) fn end_lookup<V>(span: &Span, found: Option<&Entry<V>>) {
    if !span.is_none() {
        span.record("terrace.tier", found.map_or("none", |entry| entry.tier.as_str()));
        if let Some(reason) = found.and_then(|entry| entry.stale) {
            span.record("terrace.stale", reason.as_str());
        }
    }
}

/// A request to an HTTP origin.
pub(crate) struct Outgoing(Span);

impl Outgoing {
    /// A request with this method to this host. `template` is what its path is made of, without the key.
    pub(crate) fn new(method: &Method, host: Option<&str>, port: Option<u16>, template: &str) -> Self {
        if !is_traced() {
            return Self(Span::none());
        }
        let method = name_of(method);
        let template = template.split_once(' ').map_or(template, |(_, path)| path);
        // A query may have a secret of the configuration.
        let template = template.split_once('?').map_or(template, |(path, _)| path);
        Self(info_span!(
            target: TRACE_TARGET, "origin", otel.name = method, otel.kind = "client", http.request.method = method,
            server.address = host, server.port = port.map(i64::from), url.template = template,
            http.response.status_code = Empty, error.type = Empty, otel.status_code = Empty
        ))
    }

    pub(crate) fn span(&self) -> Span {
        self.0.clone()
    }

    /// What tells the origin of the trace.
    pub(crate) fn headers(&self) -> HeaderMap {
        if self.0.is_none() { HeaderMap::new() } else { super::context::told(&self.0) }
    }

    /// Says what was answered, if anything was. That there is nothing is no failure.
    pub(crate) fn answered(&self, status: Option<StatusCode>) {
        if self.0.is_none() {
            return;
        }
        if let Some(status) = status {
            self.0.record("http.response.status_code", i64::from(status.as_u16()));
        }
        let is_failure = |status: &StatusCode| {
            !matches!(*status, StatusCode::NOT_FOUND | StatusCode::GONE) && status.as_u16() >= 400
        };
        let error = match &status {
            Some(status) => is_failure(status).then(|| status.as_str()),
            None => Some("unanswered"),
        };
        if let Some(error) = error {
            self.0.record("error.type", error);
            self.0.record("otel.status_code", "ERROR");
        }
    }
}
