//! The forms of what is told of the service as a whole, and of its last minutes.

use super::{count, has, list, maybe_count, maybe_number, number, object, share, text, words};
use serde_json::{Value, json};

pub(super) fn capacity() -> Value {
    let size = object([
        has("factor", number()),
        has("entries", count()),
        has("bytes", count()),
        has("miss_ratio", share()),
    ]);
    let mut unknown =
        object([has("code", words(&["no_l1", "lru", "not_full", "few_lookups"])), has("detail", text())]);
    unknown["type"] = json!(["object", "null"]);
    object([
        has("l1_entries", count()),
        has("l1_bytes", count()),
        has("sizes", list(&size)),
        has("unknown", unknown),
    ])
}

pub(super) fn history() -> Value {
    const COLUMNS: [&str; 8] = [
        "hits_l1",
        "hits_l2",
        "hits_stale",
        "misses",
        "loads",
        "load_failures",
        "evictions",
        "invalidations",
    ];
    let mut keyspace = object([has("name", text())]);
    for name in COLUMNS {
        keyspace["properties"][name] = list(&maybe_count());
        if let Some(required) = keyspace["required"].as_array_mut() {
            required.push(name.into());
        }
    }
    let tier = object([has("tier", words(&["l1", "l2", "origin"])), has("counts", list(&list(&count())))]);
    let states = json!({ "type": ["string", "null"], "enum": ["closed", "open", "half_open", null] });
    let breaker = object([has("target", text()), has("states", list(&states))]);
    let mut service = object([
        has("latencies", list(&tier)),
        has("breakers", list(&breaker)),
        has("lag_seconds", list(&maybe_number())),
        has("left_out", count()),
    ]);
    service["type"] = json!(["object", "null"]);
    object([
        has("interval_seconds", number()),
        has("ago_seconds", list(&number())),
        has("keyspaces", list(&keyspace)),
        has("service", service),
    ])
}
