//! How long lookups took, as a distribution that programs draw: those of one keyspace, or of all of who asks.
//!
//! All of an operator are all that the process has, those of tenants too.

use super::error::Problem;
use super::{App, json, key};
use crate::auth::Who;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use terrace::{LookupTimes, TierTimes};

/// Everything since the start: who reads it twice takes the difference.
#[derive(Serialize)]
struct Latencies {
    /// The longest duration of each class, in seconds. One more class has everything longer.
    bounds: Vec<f64>,
    tiers: Vec<OfTier>,
}

/// Lookups that asked no farther than this tier.
#[derive(Serialize)]
struct OfTier {
    /// `l1`, `l2` or `origin`.
    tier: &'static str,
    /// Lookups in each class.
    counts: Vec<u64>,
    sum_seconds: f64,
    count: u64,
    /// One in so many was timed, and stands for all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    sampled: Option<u32>,
}

impl OfTier {
    fn of(times: TierTimes) -> Self {
        Self {
            tier: times.tier.as_str(),
            counts: times.counts,
            sum_seconds: times.sum.as_secs_f64(),
            count: times.count,
            sampled: times.sampled,
        }
    }
}

/// `GET /api/cache/latencies?keyspace=...`.
pub(super) async fn latencies(State(app): State<Arc<App>>, who: Who, uri: Uri) -> Result<Response, Problem> {
    key::only(&uri, &["keyspace"])?;
    let times = match key::parameter(&uri, "keyspace")? {
        Some(name) => App::keyspace_named(app.keyspaces(&who)?, &name)?.lookup_times(),
        None => all(&app, &who)?,
    };
    let latencies = Latencies {
        bounds: times.bounds.iter().map(Duration::as_secs_f64).collect(),
        tiers: times.tiers.into_iter().map(OfTier::of).collect(),
    };
    Ok(json(serde_json::to_vec(&latencies).expect("text and numbers have a JSON form")))
}

/// Those of all keyspaces that who asks may see.
fn all(app: &App, who: &Who) -> Result<LookupTimes, Problem> {
    if who.is_operator() {
        return Ok(app.cache.lookup_times());
    }
    let own = app.keyspaces(who)?.iter().map(terrace::Keyspace::lookup_times);
    let sum = own.reduce(|mut sum, times| {
        sum.merge(&times);
        sum
    });
    Ok(sum.expect("there is one of the keys that no pattern matches"))
}
