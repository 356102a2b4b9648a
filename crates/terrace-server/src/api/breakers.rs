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
    /// What it keeps from being asked: `l2`, or `origin.` and a name.
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
    let of_origins = app
        .breakers
        .iter()
        .filter_map(|(name, breaker)| breaker.as_ref().map(|breaker| origin(&app, name, &breaker.health())));
    let breakers = Breakers { breakers: l2.into_iter().chain(of_origins).collect() };
    json(serde_json::to_vec(&breakers).expect("text and numbers have a JSON form"))
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

fn origin(app: &App, name: &str, health: &OriginHealth) -> Breaker {
    Breaker {
        target: format!("origin.{name}"),
        state: health.state.as_str(),
        since: app.clock.wall().checked_sub(health.lasting).and_then(rfc_3339),
        calls: health.calls,
        failures: health.failures,
    }
}

/// What Prometheus is told of the breakers of origins. All series are there from the start.
pub(super) fn metrics(app: &App) -> String {
    let mut text = String::new();
    let healths: Vec<(&String, OriginHealth)> =
        app.breakers.iter().filter_map(|(name, of)| Some((name, of.as_ref()?.health()))).collect();
    let mut family =
        |name: &str, kind: &str, help: &str, lines: &dyn Fn(&OriginHealth) -> Vec<(&'static str, u64)>| {
            if healths.is_empty() {
                return;
            }
            let (base, label) =
                (name.trim_end_matches("_total"), if name.contains("calls") { "result" } else { "state" });
            text.push_str(&format!("# HELP {base} {help}\n# TYPE {base} {kind}\n"));
            for (origin, health) in &healths {
                for (value, number) in lines(health) {
                    text.push_str(&format!("{name}{{origin=\"{origin}\",{label}=\"{value}\"}} {number}\n"));
                }
            }
        };
    family(
        "terrace_origin_breaker_state",
        "gauge",
        "1 for the state that the breaker of an origin is in, 0 for the others: closed, half_open, open.",
        &|health| {
            health
                .transitions
                .iter()
                .map(|(state, _)| (state.as_str(), u64::from(*state == health.state)))
                .collect()
        },
    );
    family(
        "terrace_origin_breaker_transitions_total",
        "counter",
        "Times that the breaker of an origin came into a state.",
        &|health| health.transitions.iter().map(|(state, times)| (state.as_str(), *times)).collect(),
    );
    family(
        "terrace_origin_calls_total",
        "counter",
        "Calls of an origin, reads and writes, by whether they failed by its fault, or were not made because its breaker was open.",
        &|health| {
            vec![
                ("ok", health.calls - health.failures),
                ("failed", health.failures),
                ("rejected", health.rejected),
            ]
        },
    );
    text
}
