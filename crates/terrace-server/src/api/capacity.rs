//! What memory holds, and what it would miss if it were larger or smaller.

use super::{App, json};
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use std::sync::Arc;
use terrace::L1Size;

/// L1 as a whole, whoever uses it: so this is for operators alone.
#[derive(Serialize)]
struct Capacity {
    l1_entries: u64,
    l1_bytes: u64,
    /// Smaller sizes first; that with the factor 1 is the one that L1 has. Empty where nothing is known.
    sizes: Vec<L1Size>,
    /// Why nothing is known of other sizes: a word for programs, and some for people.
    unknown: Option<Unknown>,
}

#[derive(Serialize)]
struct Unknown {
    code: &'static str,
    detail: String,
}

/// `GET /api/cache/capacity`.
pub(super) async fn capacity(State(app): State<Arc<App>>) -> Response {
    let total = app.cache.stats().total;
    let (sizes, unknown) = match app.cache.l1_sizes() {
        Ok(sizes) => (sizes, None),
        Err(why) => (Vec::new(), Some(Unknown { code: why.as_str(), detail: why.to_string() })),
    };
    let capacity = Capacity { l1_entries: total.entries, l1_bytes: total.bytes, sizes, unknown };
    json(serde_json::to_vec(&capacity).expect("text and numbers have a JSON form"))
}
