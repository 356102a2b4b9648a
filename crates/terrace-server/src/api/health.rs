//! Is the process alive, and should it get requests?
//!
//! 1. Alive means that it answers.
//! 2. Ready means that it can serve: an L2 that is down makes it slower, not unready, so it is ready and `degraded`.
//!    So it is while L2 is left alone by its breaker, whose state is shown.
//! 3. So it is, too, while a keyspace returns more stale values than its budget allows, or older ones: they are what an outage of an
//!    origin looks like from outside. Another instance would have no better ones, so the answer stays 200 here as well.
//! 4. What L2's own settings leave open, and what the mode of the bus does not promise, is shown as `warnings`, and changes
//!    nothing else.
//! 5. A journal that takes no writes makes it `degraded`: reads go on.
//! 6. While it is about to stop it is not ready, so that load balancers turn away.
//! 7. The answer comes within [`PATIENCE`], whatever L2 does.

use super::{App, json};
use crate::runtime;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use terrace::behind::Condition;
use terrace::{BreakerHealth, BreakerState, RemoteError, Staleness};

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
    let stale: Vec<Stale> = app.cache.staleness().iter().filter(|of| of.is_over()).map(Stale::of).collect();
    let mut degraded = Vec::new();
    if is_l2_down || breaker.is_some() {
        degraded.push("l2");
    }
    if !stale.is_empty() {
        degraded.push("stale");
    }
    let journal = app.cache.journal().map(|journal| journal.figures().condition);
    if journal.is_some_and(|condition| condition != Condition::Sound) {
        degraded.push("journal");
    }
    let breaker = breaker.as_ref().map(LeftAlone::of);
    json(serde_json::to_vec(&Ready { status: "ok", degraded, warnings, breaker, stale }).unwrap_or_default())
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

/// That a keyspace returns too many stale values, or too old ones.
#[derive(Serialize)]
struct Stale {
    keyspace: String,
    share: f64,
    oldest_seconds: f64,
    background_success: f64,
}

impl Stale {
    fn of(staleness: &Staleness) -> Self {
        Self {
            keyspace: staleness.keyspace.clone(),
            share: staleness.share(),
            oldest_seconds: staleness.oldest.as_secs_f64(),
            background_success: staleness.background_success(),
        }
    }
}

/// That the service can serve, and what is not as it should be.
#[derive(Serialize)]
struct Ready<'a> {
    status: &'a str,
    degraded: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<LeftAlone>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stale: Vec<Stale>,
}
