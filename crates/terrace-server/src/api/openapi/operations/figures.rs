//! The paths of figures: what the service is, and what it did.

use super::{Operation, flag, text};
use crate::api::error::Code;

/// All of them.
pub(super) fn all() -> [Operation; 7] {
    [
        Operation::get("/api/cache/keyspaces", "listKeyspaces", "What each keyspace is, and what it did.")
            .json("Keyspaces"),
        Operation::get("/api/cache/breakers", "listBreakers", "What is left alone because it fails.")
            .json("Breakers"),
        Operation::get("/api/cache/latencies", "latencies", "How long lookups took, as a distribution.")
            .query("keyspace", "Of this one alone.", text())
            .json("Latencies")
            .or(&[Code::QueryInvalid, Code::KeyEncoding]),
        Operation::get("/api/cache/bus", "bus", "How this instance hears of others' changes.").json("Bus"),
        Operation::get(
            "/api/cache/capacity",
            "capacity",
            "What memory holds, and what it would miss at other sizes.",
        )
        .json("Capacity"),
        Operation::get("/api/cache/history", "history", "Counters of the last quarter of an hour.")
            .json("History"),
        Operation::get("/api/cache/metrics", "metrics", "Counters.")
            .query("verbose", "Adds `stats`: everything, by keyspace.", flag())
            .json("Metrics"),
    ]
}
