//! Is the process alive, and should it get requests?
//!
//! 1. Alive means that it answers.
//! 2. Ready means that it can serve: an L2 that is down makes it slower, not unready, so it is ready and `degraded`.
//!    So it is while L2 is left alone by its breaker, whose state is shown.
//! 3. What L2's own settings leave open, and what the mode of the bus does not promise, is shown as `warnings`, and changes
//!    nothing else.
//! 4. While it is about to stop it is not ready, so that load balancers turn away.
//! 5. The answer comes within [`PATIENCE`], whatever L2 does.

use super::{App, json};
use crate::runtime;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use terrace::{BreakerHealth, BreakerState, RemoteError};

/// How long L2 may take to say that it is well; probes commonly give up after a second.
const PATIENCE: Duration = Duration::from_millis(500);

/// `GET /livez`.
pub(super) async fn live() -> Response {
    json(br#"{"status":"ok"}"#.to_vec())
}

/// `GET /readyz`, `GET /healthz`.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    if app.is_draining.load(Ordering::Relaxed) {
        let body = json(br#"{"status":"stopping"}"#.to_vec());
        return (StatusCode::SERVICE_UNAVAILABLE, body).into_response();
    }
    let (is_l2_down, warnings) = match runtime::within(PATIENCE, app.cache.health()).await {
        Some(health) => match health.l2 {
            Some(Ok(l2)) => (false, l2.warnings),
            Some(Err(_)) => (true, Vec::new()),
            None => (false, Vec::new()),
        },
        None => (true, Vec::new()),
    };
    let breaker = app.cache.breaker().filter(|breaker| breaker.state != BreakerState::Closed);
    let degraded: &[&str] = if is_l2_down || breaker.is_some() { &["l2"] } else { &[] };
    let breaker = breaker.as_ref().map(LeftAlone::of);
    json(serde_json::to_vec(&Ready { status: "ok", degraded, warnings, breaker }).unwrap_or_default())
}

/// That L2 is left alone. The words of its last failure are not shown: this is for anybody.
#[derive(Serialize)]
struct LeftAlone {
    state: &'static str,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<&'static str>,
}

impl LeftAlone {
    fn of(health: &BreakerHealth) -> Self {
        Self {
            state: health.state.as_str(),
            seconds: health.lasting.as_secs_f64(),
            last_error: health.last_error.as_ref().map(RemoteError::kind),
        }
    }
}

/// That the service can serve, and what is not as it should be.
#[derive(Serialize)]
struct Ready<'a> {
    status: &'a str,
    degraded: &'a [&'a str],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<LeftAlone>,
}
