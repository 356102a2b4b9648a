//! The last quarter of an hour, of those who ask: what a page draws that has only just been opened.

use super::error::Problem;
use super::{App, json};
use crate::auth::Who;
use crate::history::{Counted, Kept, STEP};
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// A number for each sample, the oldest first; none where the keyspace was not there yet.
type Column = Vec<Option<u64>>;

#[derive(Serialize)]
struct History<'a> {
    interval_seconds: f64,
    /// How long ago each sample was, the oldest first.
    ago_seconds: Vec<f64>,
    keyspaces: Vec<OfKeyspace<'a>>,
    /// What is of all of the service; none for those who see a part of it.
    service: Option<OfService<'a>>,
}

/// The counters of a keyspace, as `/api/cache/keyspaces` had them.
#[derive(Serialize)]
struct OfKeyspace<'a> {
    name: &'a str,
    hits_l1: Column,
    hits_l2: Column,
    hits_stale: Column,
    misses: Column,
    loads: Column,
    load_failures: Column,
    evictions: Column,
    invalidations: Column,
}

#[derive(Serialize)]
struct OfService<'a> {
    /// As `/api/cache/latencies` had them: for each sample the lookups in each class, by tier.
    latencies: Vec<OfTier<'a>>,
    breakers: Vec<OfBreaker<'a>>,
    lag_seconds: Vec<Option<f64>>,
    /// Keyspaces for whose history there is no room.
    left_out: usize,
}

#[derive(Serialize)]
struct OfTier<'a> {
    tier: &'static str,
    counts: Vec<&'a [u64]>,
}

#[derive(Serialize)]
struct OfBreaker<'a> {
    target: &'a str,
    states: Vec<Option<&'static str>>,
}

impl<'a> OfKeyspace<'a> {
    fn of(kept: &'a Kept, place: usize) -> Self {
        let column = |of: fn(&Counted) -> u64| -> Column {
            kept.samples.iter().map(|sample| sample.keyspaces.get(place).map(of)).collect()
        };
        Self {
            name: &kept.keyspaces[place],
            hits_l1: column(|of| of.hits_l1),
            hits_l2: column(|of| of.hits_l2),
            hits_stale: column(|of| of.hits_stale),
            misses: column(|of| of.misses),
            loads: column(|of| of.loads),
            load_failures: column(|of| of.load_failures),
            evictions: column(|of| of.evictions),
            invalidations: column(|of| of.invalidations),
        }
    }
}

impl<'a> OfService<'a> {
    fn of(app: &App, kept: &'a Kept) -> Self {
        let tiers = app.cache.lookup_times().tiers.into_iter().enumerate().map(|(place, of)| OfTier {
            tier: of.tier.as_str(),
            counts: kept.samples.iter().filter_map(|sample| Some(&**sample.latencies.get(place)?)).collect(),
        });
        let breakers = kept.breakers.iter().enumerate().map(|(place, target)| OfBreaker {
            target,
            states: kept.samples.iter().map(|sample| *sample.breakers.get(place)?).collect(),
        });
        Self {
            latencies: tiers.collect(),
            breakers: breakers.collect(),
            lag_seconds: kept.samples.iter().map(|of| of.lag.as_ref().map(Duration::as_secs_f64)).collect(),
            left_out: kept.left_out,
        }
    }
}

/// `GET /api/cache/history`.
pub(super) async fn history(State(app): State<Arc<App>>, who: Who) -> Result<Response, Problem> {
    let (kept, now) = (app.history.read(), app.clock.now());
    let own = app.keyspaces(&who)?.iter();
    let place = |name: &str| kept.keyspaces.iter().position(|there| **there == *name);
    let history = History {
        interval_seconds: STEP.as_secs_f64(),
        ago_seconds: kept.samples.iter().map(|sample| now.since(sample.at).as_secs_f64()).collect(),
        keyspaces: own.filter_map(|of| Some(OfKeyspace::of(&kept, place(of.name())?))).collect(),
        service: who.is_operator().then(|| OfService::of(&app, &kept)),
    };
    Ok(json(serde_json::to_vec(&history).expect("text and numbers have a JSON form")))
}
