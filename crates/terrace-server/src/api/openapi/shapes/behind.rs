//! The forms of what is told of writes that are written behind.

use super::{count, done, flag, has, list, may, number, object, text, words};
use serde_json::{Value, json};

pub(super) fn all() -> Vec<(&'static str, Value)> {
    let letter = object([
        may("key", text()),
        has("operation", words(&["store", "delete"])),
        has("write_id", text()),
        has("attempts", count()),
        has("reason", text()),
        has("overtaken", flag()),
    ]);
    let standing = object([
        has("keyspace", text()),
        has("pending", count()),
        has("pending_bytes", count()),
        has("oldest_seconds", number()),
        has("parked", count()),
        has("dead", count()),
        has("acknowledged", count()),
        has("refused", count()),
        has("coalesced", count()),
        has("stored", count()),
        has("retried", count()),
        has("replayed", count()),
        has("repeated", count()),
        has("idempotency_keys", count()),
        has("dead_letters", list(&letter)),
    ]);
    let mut journal = object([
        has("condition", words(&["sound", "disk_full", "failed"])),
        has("pending", count()),
        has("pending_bytes", count()),
        has("unattended", count()),
    ]);
    journal["type"] = json!(["object", "null"]);
    vec![
        ("Told", told()),
        ("Behind", object([has("journal", journal), has("keyspaces", list(&standing))])),
        (
            "Flushed",
            object([
                has("stored", count()),
                has("parked", count()),
                has("dead", count()),
                has("success", done()),
            ]),
        ),
        ("Retried", object([has("retried", count()), has("success", done())])),
        ("Dropped", object([has("dropped", count()), has("success", done())])),
    ]
}

/// What has become of a write.
fn told() -> Value {
    object([
        has("write_id", text()),
        has("keyspace", text()),
        has("state", words(&["waiting", "dead", "coalesced", "gone"])),
        may("key", text()),
        may("operation", words(&["store", "delete"])),
        may("attempts", count()),
        may("waiting_seconds", number()),
        may("reason", text()),
        may("overtaken", flag()),
        may("by", text()),
    ])
}
