//! What is left alone because too much of what it was asked failed.

use super::render::rfc_3339;
use super::{App, json};
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use terrace::{BreakerHealth, OriginHealth};

#[derive(Serialize)]
struct Breakers {
    breakers: Vec<Breaker>,
}

/// A breaker, with what it counted since the start.
#[derive(Serialize)]
struct Breaker {
    /// What it keeps from being asked: `l2`; `origin.` and a name, for its loads; the same and `.writes`.
    target: String,
    /// `closed`, `open` or `half_open`.
    state: &'static str,
    /// When it came into this state; the start of the service if it never was in another.
    since: Option<String>,
    /// Calls that have ended or were given up.
    calls: u64,
    /// Of these, those that count as failed.
    failures: u64,
}

/// `GET /api/cache/breakers`.
pub(super) async fn breakers(State(app): State<Arc<App>>) -> Response {
    let l2 = app.cache.breaker().map(|health| l2(&app, &health));
    let of_origins = app.breakers.iter().flat_map(|(name, guards)| guards.named(name));
    let of_origins = of_origins.map(|(target, breaker)| origin(&app, target, &breaker.health()));
    let breakers = Breakers { breakers: l2.into_iter().chain(of_origins).collect() };
    json(serde_json::to_vec(&breakers).expect("text and numbers have a JSON form"))
}

impl App {
    /// The state of each breaker, by what it keeps from being asked.
    pub(crate) fn breaker_states(&self) -> Vec<(String, &'static str)> {
        let l2 = self.cache.breaker().map(|health| ("l2".to_owned(), health.state.as_str()));
        let of_origins = self.breakers.iter().flat_map(|(name, guards)| guards.named(name));
        let of_origins = of_origins.map(|(target, breaker)| (target, breaker.health().state.as_str()));
        l2.into_iter().chain(of_origins).collect()
    }
}

fn l2(app: &App, health: &BreakerHealth) -> Breaker {
    Breaker {
        target: "l2".to_owned(),
        state: health.state.as_str(),
        since: app.clock.wall().checked_sub(health.lasting).and_then(rfc_3339),
        calls: health.calls,
        failures: health.failures,
    }
}

fn origin(app: &App, target: String, health: &OriginHealth) -> Breaker {
    Breaker {
        target,
        state: health.state.as_str(),
        since: app.clock.wall().checked_sub(health.lasting).and_then(rfc_3339),
        calls: health.calls,
        failures: health.failures,
    }
}
