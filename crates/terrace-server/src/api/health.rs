//! Is the process alive, and should it get requests?
//!
//! 1. Alive means that it answers.
//! 2. Ready means that it can serve: an L2 that is down makes it slower, not unready, so it is ready and `degraded`.
//!    So it is while L2 is left alone by its breaker, whose state is shown. Where `ready.require_l2` says so it is unready then.
//!    It is `degraded`, and no more, for a minute after L2 refused a call: a full L2 answers reads still.
//! 3. So it is, too, while a keyspace returns more stale values than its budget allows, or older ones: they are what an outage of an
//!    origin looks like from outside. Another instance would have no better ones, so the answer stays 200 here as well.
//! 4. What L2's own settings leave open, and what the mode of the bus does not promise, is shown as `warnings`, and changes
//!    nothing else.
//! 5. A journal that takes no writes makes it `degraded`: reads go on.
//!    So does an origin that is left alone: what is kept is served. It does until a call has found it well, also while nobody makes one.
//! 6. While it is about to stop it is not ready, so that load balancers turn away.
//! 7. Names of keyspaces and what the servers' settings are go to operators alone; anybody learns what is degraded.
//! 8. The answer comes within [`PATIENCE`], whatever L2 does.
//! 9. With `?verbose` each of these is listed with its state, those that are well, too.

use super::{App, behind, json, key};
use crate::auth::Who;
use crate::runtime;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use terrace::behind::Condition;
use terrace::{BreakerHealth, BreakerState, BusState, RemoteError, Staleness};

/// How long L2 may take to say that it is well; probes commonly give up after a second.
const PATIENCE: Duration = Duration::from_millis(500);

/// `GET /livez`.
pub(super) async fn live() -> Response {
    json(br#"{"status":"ok"}"#.to_vec())
}

/// `GET /readyz`, `GET /healthz`; with `?verbose` with all checks.
pub(super) async fn ready(State(app): State<Arc<App>>, who: Option<Who>, uri: Uri) -> Response {
    let is_verbose = key::flag(&uri, "verbose");
    if app.is_draining.load(Ordering::Relaxed) {
        let body = if is_verbose {
            &br#"{"status":"stopping","checks":[{"check":"serving","state":"stopping","ok":false}]}"#[..]
        } else {
            br#"{"status":"stopping"}"#
        };
        return (StatusCode::SERVICE_UNAVAILABLE, json(body.to_vec())).into_response();
    }
    let (is_l2_well, warnings) = match runtime::within(PATIENCE, app.cache.health()).await {
        Some(health) => match health.l2 {
            Some(Ok(l2)) => (Some(true), l2.warnings),
            Some(Err(_)) => (Some(false), Vec::new()),
            None => (None, Vec::new()),
        },
        None => (Some(false), Vec::new()),
    };
    let breaker = app.cache.breaker();
    let stale: Vec<Stale> = app.cache.staleness().iter().filter(|of| of.is_over()).map(Stale::of).collect();
    let journal = app.cache.journal().map(|journal| journal.figures().condition);
    let is_operator = who.as_ref().is_some_and(Who::is_operator);
    let checks = checks(&app, is_l2_well, breaker.as_ref(), !stale.is_empty(), journal, is_operator);
    let mut degraded: Vec<&str> = checks.iter().filter_map(Check::degrades).collect();
    degraded.dedup();
    let breaker = breaker.filter(|breaker| breaker.state != BreakerState::Closed);
    let is_ready = !(app.requires_l2 && degraded.contains(&"l2"));
    let ready = Ready {
        status: if is_ready { "ok" } else { "unready" },
        degraded,
        warnings: if is_operator { warnings } else { Vec::new() },
        breaker: breaker.as_ref().map(LeftAlone::of),
        stale: if is_operator { stale } else { Vec::new() },
        checks: is_verbose.then_some(&checks[..]),
    };
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, json(serde_json::to_vec(&ready).unwrap_or_default())).into_response()
}

/// What an origin's check is called.
const ORIGIN: &str = "origin";

/// Something that is looked at.
#[derive(Serialize)]
struct Check {
    #[serde(rename = "check")]
    name: Cow<'static, str>,
    state: &'static str,
    ok: bool,
}

impl Check {
    const fn new(name: &'static str, state: &'static str, ok: bool) -> Self {
        Self { name: Cow::Borrowed(name), state, ok }
    }

    /// Whether an origin is asked. Its name is for operators.
    fn of_origin(name: Option<String>, state: BreakerState) -> Self {
        let name = name.map_or(Cow::Borrowed(ORIGIN), Cow::Owned);
        Self { name, state: state.as_str(), ok: state == BreakerState::Closed }
    }

    /// What the service is degraded in where this is not well. That changes are not heard shows in what reads cost, and is none; nor is a
    /// configuration that was refused: the one before is in force, whole.
    fn degrades(&self) -> Option<&str> {
        match &*self.name {
            _ if self.ok => None,
            "breaker" => Some("l2"),
            "bus" | "config" => None,
            name if name.starts_with(ORIGIN) => Some(ORIGIN),
            name => Some(name),
        }
    }
}

/// All that there is to look at here, in one order.
fn checks(
    app: &App,
    is_l2_well: Option<bool>,
    breaker: Option<&BreakerHealth>,
    is_stale: bool,
    journal: Option<Condition>,
    is_operator: bool,
) -> Vec<Check> {
    let is_taken = app.reloads.is_last_good();
    let mut checks = vec![
        Check::new("serving", "ok", true),
        Check::new("config", if is_taken { "ok" } else { "refused" }, is_taken),
    ];
    if let Some(is_well) = is_l2_well {
        checks.push(Check::new("l2", if is_well { "ok" } else { "failed" }, is_well));
    }
    if let Some(BreakerHealth { state, .. }) = breaker {
        checks.push(Check::new("breaker", state.as_str(), *state == BreakerState::Closed));
    }
    if is_l2_well.is_some() {
        let is_refused = app.cache.refused().is_some();
        checks.push(Check::new("l2_calls", if is_refused { "refused" } else { "ok" }, !is_refused));
    }
    let bus = app.cache.bus_health().state;
    if bus != BusState::Alone {
        checks.push(Check::new("bus", bus.as_str(), bus != BusState::Lost));
    }
    checks.push(Check::new("stale", if is_stale { "over_budget" } else { "ok" }, !is_stale));
    if let Some(condition) = journal {
        checks.push(Check::new("journal", behind::word(&condition), condition == Condition::Sound));
    }
    let states = || {
        let named = app.breakers.iter().flat_map(|(name, guards)| guards.named(name));
        named.map(|(name, breaker)| (name, breaker.health().state))
    };
    if is_operator {
        checks.extend(states().map(|(name, state)| Check::of_origin(Some(name), state)));
    } else {
        let worst = states().map(|(_, state)| state).max_by_key(|state| match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
        checks.extend(worst.map(|state| Check::of_origin(None, state)));
    }
    checks
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

/// Whether the service can serve, and what is not as it should be.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<&'a [Check]>,
}
