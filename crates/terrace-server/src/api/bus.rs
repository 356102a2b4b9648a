//! How this instance hears of other instances' changes, and who it is.

use super::render::rfc_3339;
use super::{App, json};
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

#[derive(Serialize)]
struct Bus {
    /// `alone`, `waiting` for a first use, `joined` or `lost`.
    state: &'static str,
    /// So late it hears of changes.
    lag_seconds: Option<f64>,
    /// How often messages were found missing since the start.
    gaps: u64,
    instance: Instance,
    /// Others, as far as they are known. Instances hear of each other's changes and not of each other: none is.
    instances: [Instance; 0],
}

#[derive(Serialize)]
struct Instance {
    /// As in `by` of a change; without Redis one that it has drawn.
    id: String,
    version: &'static str,
    started_at: Option<String>,
}

/// `GET /api/cache/bus`.
pub(super) async fn bus(State(app): State<Arc<App>>) -> Response {
    let health = app.cache.bus_health();
    let bus = Bus {
        state: health.state.as_str(),
        lag_seconds: health.lag.as_ref().map(Duration::as_secs_f64),
        gaps: health.gaps,
        instance: Instance {
            id: format!("{:016x}", health.node.map_or(app.life.id, |node| node.0)),
            version: env!("CARGO_PKG_VERSION"),
            started_at: rfc_3339(app.life.began),
        },
        instances: [],
    };
    json(serde_json::to_vec(&bus).expect("text and numbers have a JSON form"))
}
