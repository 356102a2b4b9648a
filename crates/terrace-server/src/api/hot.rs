//! Which keys are looked up most, on this instance, of those who ask.

use super::error::{Code, Problem};
use super::{App, json, key};
use crate::auth::Who;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use terrace::HotKey;

/// Keys in an answer, unless the request says otherwise.
const LIMIT_DEFAULT: usize = 20;
/// Keys in an answer at most; the library counts 256 of each keyspace.
const LIMIT_MAX: usize = 1_000;

#[derive(Serialize)]
struct Hot {
    keys: Vec<HotKey>,
}

/// `GET /api/cache/hot?keyspace=...&limit=...`.
pub(super) async fn hot(State(app): State<Arc<App>>, who: Who, uri: Uri) -> Result<Response, Problem> {
    let limit = match key::parameter(&uri, "limit")? {
        None => LIMIT_DEFAULT,
        Some(text) => text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or_else(|| {
            Problem::new(Code::BodyInvalid, format!("`limit` is a number from 1 to {LIMIT_MAX}"))
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
        Some(name) => {
            let keyspace = keyspaces.iter().find(|keyspace| keyspace.name() == name);
            let keyspace = keyspace.ok_or_else(|| {
                let names: Vec<&str> = keyspaces.iter().map(terrace::Keyspace::name).collect();
                let detail = format!("there is no such keyspace; there are {}", names.join(", "));
                Problem::new(Code::BodyInvalid, detail)
            })?;
            keyspace.hot_keys(limit)
        }
    };
    Ok(json(serde_json::to_vec(&Hot { keys }).expect("text and numbers have a JSON form")))
}
