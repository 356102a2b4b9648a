//! The HTTP API.
//!
//! | path | methods | |
//! |---|---|---|
//! | `/api/cache/{key}`, `/api/cache?key={key}` | GET, HEAD, PUT, DELETE | one entry |
//! | `/v1/keys/{key}`, `/v1/keys?key={key}` | GET, HEAD, PUT, DELETE | the same entry, as bytes |
//! | `/api/cache/batch` | POST | many entries, read, stored and removed |
//! | `/api/cache/invalidate` | POST | by keys, pattern, tags |
//! | `/api/cache/refresh` | POST | keys to be loaded anew, by all instances |
//! | `/api/cache/why/{key}` | GET | why a key is answered as it is |
//! | `/api/cache/events` | GET | what happens, as it happens |
//! | `/api/cache/hot` | GET | the keys that are looked up most |
//! | `/api/cache/behind` | GET | what is written behind, and what was given up |
//! | `/api/cache/behind/{keyspace}/writes/{id}` | GET | what has become of one write |
//! | `/api/cache/behind/{keyspace}/flush`, `retry`, `drop` | POST | what is done about it |
//! | `/api/cache/keys` | GET | which keys the tiers hold |
//! | `/api/cache/keyspaces` | GET | what each keyspace is, and what it did |
//! | `/api/cache/breakers` | GET | what is left alone because it fails |
//! | `/api/cache/latencies` | GET | how long lookups took, as a distribution |
//! | `/api/cache/bus` | GET | how this instance hears of others' changes |
//! | `/api/cache/capacity` | GET | what memory holds, and what other sizes would miss |
//! | `/api/cache/history` | GET | counters of the last quarter of an hour |
//! | `/api/cache/metrics` | GET | counters as JSON |
//! | `/metrics` | GET | counters for Prometheus |
//! | `/livez`, `/readyz`, `/healthz` | GET | health |
//! | `/problems/{code}` | GET | what an error means |
//! | `/openapi.json`, `/api/cache/openapi.json` | GET | all of this, for programs |
//! | `/`, `/assets/…` | GET | the dashboard |
//!
//! 1. Every request passes [`guard`]: who asks, body limit, time limit, concurrency limit, panics. There are no other layers.
//! 2. Every error is made in [`error`].
//! 3. Handlers decide nothing about tiers: each is one call of the library.
//! 4. A change that L2 could not be told yet is acknowledged like any other, with the header `terrace-effect: queued`; one
//!    that is to come with `terrace-effect: later`.
//! 5. A change that the origin gets later is 202, and `Location` leads to what becomes of it.

pub(crate) mod access;
mod answer;
mod backlog;
mod batch;
mod behind;
mod breakers;
mod bus;
mod capacity;
mod dashboard;
mod encoded;
mod entry;
pub(crate) mod error;
mod events;
mod fields;
mod form;
#[cfg(fuzzing)]
pub mod fuzzing;
pub(crate) mod gate;
pub(crate) mod guard;
mod health;
mod history;
mod hot;
mod invalidate;
mod key;
mod keys;
mod keyspaces;
mod latencies;
pub(crate) mod metrics;
mod msgpack;
mod openapi;
mod raw;
mod refresh;
mod render;
mod request_id;
mod status;
mod why;

use crate::audit::Refusals;
use crate::auth::Auth;
use crate::feed::Feed;
use crate::history::History;
use crate::keyspaces::{Keyspaces, OfTenants};
use crate::origin::Breakers;
use crate::reload::Reloads;
use crate::runtime::Tasks;
use crate::traces::Traces;
use access::{Need, Needs, Routes, Side};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use error::{Code, Problem};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};
use terrace::{Cache, Clock, Effect};

/// What handlers work with.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) cache: Cache,
    /// The keyspaces of those who have no tenant; see [`App::keyspaces`].
    pub(crate) spaces: Keyspaces,
    /// Those of each tenant.
    pub(crate) spaces_of_tenants: OfTenants,
    /// The breakers of the origins.
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) auth: Arc<Auth>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) is_metrics_enabled: bool,
    /// Whether the service is not ready while L2 cannot be asked.
    pub(crate) requires_l2: bool,
    /// What the names of metrics begin with.
    pub(crate) metrics_prefix: String,
    /// Set when the service is about to stop.
    pub(crate) is_draining: Arc<AtomicBool>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) history: Arc<History>,
    pub(crate) reloads: Arc<Reloads>,
    /// What traces requests, if anything does.
    pub(crate) traces: Option<Traces>,
    pub(crate) tasks: Tasks,
    pub(crate) life: Life,
}

/// Which life of the service this is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// A number that no other life has.
    pub(crate) id: u64,
    pub(crate) began: SystemTime,
}

/// What a request may ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) key_bytes_max: usize,
    pub(crate) body_bytes_max: usize,
    pub(crate) value_bytes_max: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) requests_max: usize,
}

/// The router of a listener, and what its paths need.
pub(crate) fn router(app: Arc<App>, side: Side) -> (Router, Needs) {
    routes(side, app.is_metrics_enabled).done(app)
}

/// The routes of a listener, with what each needs. One that states nothing is for operators alone.
fn routes(side: Side, has_metrics: bool) -> Routes {
    let entry = get(entry::get).head(entry::head).put(entry::put).delete(entry::delete);
    let raw = get(raw::get).head(raw::head).put(raw::put).delete(raw::delete);
    let mut routes = Routes::of(side)
        .stated("/api/cache", Need::Entry, entry.clone())
        .stated("/api/cache/", Need::Entry, entry.clone())
        .stated("/api/cache/{*key}", Need::Entry, entry)
        .stated("/v1/keys", Need::Entry, raw.clone())
        .stated("/v1/keys/", Need::Entry, raw.clone())
        .stated("/v1/keys/{*key}", Need::Entry, raw)
        .stated("/api/cache/batch", Need::Keys, post(batch::batch))
        .stated("/api/cache/invalidate", Need::Keys, post(invalidate::invalidate))
        .stated("/api/cache/refresh", Need::Keys, post(refresh::refresh))
        .route("/api/cache/events", get(events::events))
        .stated("/api/cache/why", Need::Admin, get(why::why))
        .stated("/api/cache/why/{*key}", Need::Admin, get(why::why))
        .stated("/api/cache/hot", Need::Admin, get(hot::hot))
        .stated("/api/cache/latencies", Need::Admin, get(latencies::latencies))
        .stated("/api/cache/behind", Need::Admin, get(behind::behind))
        .stated("/api/cache/behind/{keyspace}/writes/{id}", Need::Admin, get(behind::write))
        .stated("/api/cache/behind/{keyspace}/flush", Need::Admin, post(behind::flush))
        .stated("/api/cache/behind/{keyspace}/retry", Need::Admin, post(behind::retry))
        .stated("/api/cache/behind/{keyspace}/drop", Need::Admin, post(behind::forget))
        .stated("/api/cache/keys", Need::Admin, get(keys::keys))
        .stated("/api/cache/keyspaces", Need::Admin, get(keyspaces::keyspaces))
        .stated("/api/cache/history", Need::Admin, get(history::history))
        .route("/api/cache/breakers", get(breakers::breakers))
        .route("/api/cache/bus", get(bus::bus))
        .route("/api/cache/capacity", get(capacity::capacity))
        .route("/api/cache/metrics", get(metrics::summary))
        .stated("/api/cache/openapi.json", Need::Nothing, get(openapi::openapi))
        .stated("/openapi.json", Need::Nothing, get(openapi::openapi))
        .stated("/livez", Need::Nothing, get(health::live))
        .stated("/readyz", Need::Nothing, get(health::ready))
        .stated("/healthz", Need::Nothing, get(health::ready))
        .stated("/problems/{code}", Need::Nothing, get(explain));
    if side == Side::Whole {
        routes =
            dashboard::pages().fold(routes, |routes, (path, page)| routes.stated(path, Need::Nothing, page));
    }
    if has_metrics {
        routes = routes.route("/metrics", get(metrics::prometheus));
    }
    routes
}

async fn no_route(uri: Uri) -> Problem {
    let detail = if uri.path() == "/metrics" {
        "metrics are switched off (`metrics.enabled = false`)"
    } else {
        "an entry is at /api/cache/{key}"
    };
    Problem::new(Code::RouteNotFound, detail)
}

/// What has to do with the service, where that has a listener of its own.
async fn elsewhere() -> Problem {
    Problem::new(
        Code::RouteNotFound,
        "this is at the admin listener (`server.admin_listen`), and nowhere else",
    )
}

async fn no_method() -> Problem {
    Problem::new(Code::MethodNotAllowed, "the header `Allow` names the methods of this path")
}

/// Where errors are explained.
const PROBLEMS: &str = "/problems/";

/// What the `type` of an error leads to.
async fn explain(uri: Uri) -> Result<String, Problem> {
    let word = uri.path().strip_prefix(PROBLEMS).unwrap_or_default();
    let code = Code::ALL.into_iter().find(|code| code.word() == word);
    let code = code.ok_or_else(|| Problem::new(Code::RouteNotFound, "there is no such problem"))?;
    Ok(format!("{} ({}): {}\n", code.word(), code.status().as_u16(), code.title()))
}

/// A JSON response.
fn json(body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The header that says that a change holds on this node alone yet, and L2 will be told when it is back; or that it is to come.
const EFFECT: HeaderName = HeaderName::from_static("terrace-effect");

/// The acknowledgement of a change.
fn acknowledged(mut response: Response, effect: Effect) -> Response {
    let effect = match effect {
        Effect::Applied => None,
        Effect::Queued => Some(HeaderValue::from_static("queued")),
        Effect::Later => Some(HeaderValue::from_static("later")),
    };
    response.headers_mut().extend(effect.map(|effect| (EFFECT, effect)));
    response.into_response()
}
