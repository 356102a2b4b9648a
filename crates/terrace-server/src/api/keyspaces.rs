//! The keyspaces of who asks: what the configuration says of each, and what it did.

use super::error::Problem;
use super::{App, json};
use crate::auth::Who;
use crate::history::Counted;
use crate::keyspaces::{About, DocumentKeyspace};
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use terrace::behind::Lane;
use terrace::{Figures, Stats};

#[derive(Serialize)]
struct Answer<'a> {
    keyspaces: Vec<Keyspace<'a>>,
}

/// A keyspace. Counters are since the start; entries, bytes and what waits are of now.
#[derive(Serialize)]
struct Keyspace<'a> {
    name: &'a str,
    /// That of the configuration; `*` of `default`, which has all keys that no other has.
    pattern: &'a str,
    strategy: &'static str,
    /// In seconds; none if entries do not age.
    ttl: Option<f64>,
    origin: Option<&'a str>,
    l1_entries: u64,
    l1_bytes: u64,
    hits_l1: u64,
    hits_l2: u64,
    hits_stale: u64,
    misses: u64,
    loads: u64,
    load_failures: u64,
    sets: u64,
    deletes: u64,
    evictions: u64,
    /// Writes that the origin does not have yet; none if it is not written behind.
    behind_pending: Option<u64>,
}

impl<'a> Keyspace<'a> {
    fn of(keyspace: &'a DocumentKeyspace, about: &'a About, stats: &Stats) -> Self {
        let none = Figures::default();
        let figures = stats.keyspaces.get(keyspace.name()).unwrap_or(&none);
        let Counted { hits_l1, hits_l2, hits_stale, misses, loads, load_failures, evictions, .. } =
            figures.into();
        Self {
            name: keyspace.name(),
            pattern: &about.pattern,
            strategy: about.strategy.as_str(),
            ttl: about.ttl.duration().map(|ttl| ttl.as_secs_f64()),
            origin: about.origin.as_deref(),
            l1_entries: figures.entries,
            l1_bytes: figures.bytes,
            hits_l1,
            hits_l2,
            hits_stale,
            misses,
            loads,
            load_failures,
            sets: figures.sets,
            deletes: figures.deletes,
            evictions,
            behind_pending: keyspace.behind().map(Lane::figures).map(|behind| behind.pending),
        }
    }
}

/// `GET /api/cache/keyspaces`: in the order of their names, `default` last.
pub(super) async fn keyspaces(State(app): State<Arc<App>>, who: Who) -> Result<Response, Problem> {
    let stats = app.cache.stats();
    let own = app.keyspaces(&who)?;
    let mut all: Vec<_> = own.iter().zip(own.about()).collect();
    let default = all.pop();
    all.sort_by_key(|(keyspace, _)| keyspace.name());
    let keyspaces =
        all.into_iter().chain(default).map(|(keyspace, about)| Keyspace::of(keyspace, about, &stats));
    let answer = Answer { keyspaces: keyspaces.collect() };
    Ok(json(serde_json::to_vec(&answer).expect("text and numbers have a JSON form")))
}
