//! Which keys are looked up most, on this instance, of those who ask, and what memory has of them. Redis is not asked.

use super::error::{Code, Problem};
use super::{App, json, key};
use crate::auth::Who;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use terrace::{HotKey, Tier};

/// Keys in an answer, unless the request says otherwise.
const LIMIT_DEFAULT: usize = 20;
/// Keys in an answer at most.
const LIMIT_MAX: usize = 1_000;

#[derive(Serialize)]
struct Hot {
    keys: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    keyspace: String,
    key: String,
    /// Of the last one to two million of its keyspace.
    lookups: u64,
    /// By how much that may be too high.
    error: u64,
    /// Of the last one to two minutes.
    per_second: f64,
    /// `l1` if this instance has a copy.
    tier: Option<&'static str>,
    /// What the copy counts in memory.
    bytes: Option<u64>,
}

impl Line {
    fn of(hot: HotKey) -> Self {
        Self {
            keyspace: hot.keyspace,
            key: hot.key,
            lookups: hot.lookups,
            error: hot.error,
            per_second: hot.per_second,
            tier: hot.l1_bytes.map(|_| Tier::L1.as_str()),
            bytes: hot.l1_bytes,
        }
    }
}

/// `GET /api/cache/hot?keyspace=...&limit=...`.
pub(super) async fn hot(State(app): State<Arc<App>>, who: Who, uri: Uri) -> Result<Response, Problem> {
    key::only(&uri, &["keyspace", "limit"])?;
    let limit = match key::parameter(&uri, "limit")? {
        None => LIMIT_DEFAULT,
        Some(text) => text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or_else(|| {
            Problem::new(Code::QueryInvalid, format!("`limit` is a number from 1 to {LIMIT_MAX}"))
        })?,
    };
    let keyspaces = app.keyspaces(&who)?;
    let keys = match key::parameter(&uri, "keyspace")? {
        None => {
            let mut all: Vec<HotKey> =
                keyspaces.iter().flat_map(|keyspace| keyspace.hot_keys(limit)).collect();
            all.sort_by(|one, other| other.lookups.cmp(&one.lookups).then_with(|| one.key.cmp(&other.key)));
            all.truncate(limit);
            all
        }
        Some(name) => App::keyspace_named(keyspaces, &name)?.hot_keys(limit),
    };
    let hot = Hot { keys: keys.into_iter().map(Line::of).collect() };
    Ok(json(serde_json::to_vec(&hot).expect("text and numbers have a JSON form")))
}
