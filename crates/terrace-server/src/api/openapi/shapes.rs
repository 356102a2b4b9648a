//! The forms of what goes in and out, by their names.

mod behind;
mod overview;
mod problem;

use self::problem::problem;
use serde_json::{Map, Value, json};

/// A member of an object, and whether it is always there.
struct Member(&'static str, Value, bool);

/// A member that is always there.
fn has(name: &'static str, schema: Value) -> Member {
    Member(name, schema, true)
}

/// A member that may be left out.
fn may(name: &'static str, schema: Value) -> Member {
    Member(name, schema, false)
}

fn object<const N: usize>(members: [Member; N]) -> Value {
    let required: Vec<&str> = members.iter().filter(|member| member.2).map(|member| member.0).collect();
    let properties: Map<String, Value> =
        members.into_iter().map(|Member(name, schema, _)| (name.to_owned(), schema)).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

pub(super) fn reference(form: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{form}") })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn maybe_text() -> Value {
    json!({ "type": ["string", "null"] })
}

fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

fn maybe_time() -> Value {
    json!({ "type": ["string", "null"], "format": "date-time" })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn maybe_count() -> Value {
    json!({ "type": ["integer", "null"], "minimum": 0 })
}

fn number() -> Value {
    json!({ "type": "number", "minimum": 0 })
}

fn maybe_number() -> Value {
    json!({ "type": ["number", "null"], "minimum": 0 })
}

/// A part of a whole.
fn share() -> Value {
    json!({ "type": "number", "minimum": 0, "maximum": 1 })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

/// What is always true.
fn done() -> Value {
    json!({ "const": true })
}

fn words(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}

fn list(items: &Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn anything(description: &str) -> Value {
    json!({ "description": description })
}

/// How a value is written that is not itself.
fn encoding() -> Value {
    let description = "`binary` and `json` in MessagePack alone, `base64` in JSON alone.";
    json!({ "type": "string", "enum": ["text", "base64", "binary", "json"], "description": description })
}

fn ttl() -> Value {
    json!({
        "description": "Seconds, or a text such as `5m`, or `never`.",
        "oneOf": [{ "type": "integer", "minimum": 0 }, { "type": "string" }],
    })
}

/// All of them.
pub(super) fn all() -> Value {
    let mut all = Map::new();
    for (name, form) in
        entries().into_iter().chain(bodies()).chain(behind::all()).chain(lists()).chain(service())
    {
        all.insert(name.to_owned(), form);
    }
    all.insert("Metrics".to_owned(), metrics());
    all.insert("Problem".to_owned(), problem());
    Value::Object(all)
}

fn entries() -> Vec<(&'static str, Value)> {
    vec![
        (
            "Entry",
            object([
                has("value", anything("The value, as it was stored; what is not JSON as a string.")),
                may("encoding", encoding()),
                may("content_type", text()),
                has("hit", flag()),
                has("source", words(&["l1", "l2", "origin", "stale"])),
                has("cached_at", maybe_time()),
                has("expires_at", maybe_time()),
                may("key", text()),
                may("ttl", maybe_number()),
                may("age", number()),
                may("version", count()),
                may("tags", list(&text())),
            ]),
        ),
        (
            "Written",
            object([
                has("success", done()),
                has("expires_at", maybe_time()),
                may("ack", words(&["fsync", "os", "memory"])),
                may("write_id", text()),
                may("repeated", flag()),
            ]),
        ),
        (
            "Deleted",
            object([
                has("success", done()),
                has("deleted", flag()),
                may("ack", words(&["fsync", "os", "memory"])),
                may("write_id", text()),
                may("repeated", flag()),
            ]),
        ),
        (
            "Invalidated",
            object([
                may("invalidated", count()),
                may("exact", flag()),
                may("matched", count()),
                may("sample", list(&text())),
                has("success", done()),
                may("id", list(&count())),
            ]),
        ),
        ("Batched", batched()),
        ("Refreshing", object([has("refreshing", count()), has("success", done())])),
    ]
}

/// What came of each item of a batch.
fn batched() -> Value {
    let item = object([
        may("key", text()),
        has("status", json!({ "type": "integer", "minimum": 200, "maximum": 599 })),
        may("value", anything("As of one entry.")),
        may("encoding", encoding()),
        may("content_type", text()),
        may("hit", flag()),
        may("source", words(&["l1", "l2", "origin", "stale"])),
        may("cached_at", maybe_time()),
        may("expires_at", maybe_time()),
        may("deleted", flag()),
        may("ack", words(&["fsync", "os", "memory"])),
        may("write_id", text()),
        may("location", text()),
        may("effect", words(&["queued"])),
        may("code", text()),
        may("detail", text()),
    ]);
    object([has("get", list(&item)), has("set", list(&item)), has("delete", list(&item))])
}

/// What goes in.
fn bodies() -> Vec<(&'static str, Value)> {
    let closed = |mut form: Value| {
        form["additionalProperties"] = json!(false);
        form
    };
    let keys = || json!({ "type": "array", "items": { "type": "string" }, "maxItems": 1_000 });
    vec![
        (
            "Put",
            closed(object([
                has("value", anything("Any JSON; with an `encoding`, a string.")),
                may("ttl", ttl()),
                may(
                    "key",
                    json!({ "type": "string", "description": "That of the path; in a batch, which." }),
                ),
                may("tags", list(&text())),
                may("if_absent", flag()),
                may("encoding", words(&["text", "base64"])),
                may("content_type", json!({ "type": "string", "description": "Only with an `encoding`." })),
            ])),
        ),
        (
            "Batch",
            closed(object([
                may("get", keys()),
                may("set", json!({ "type": "array", "items": reference("Put"), "maxItems": 1_000 })),
                may("delete", keys()),
            ])),
        ),
        (
            "Invalidate",
            closed(object([
                may("keys", json!({ "type": "array", "items": { "type": "string" }, "maxItems": 10_000 })),
                may("pattern", text()),
                may("tags", json!({ "type": "array", "items": { "type": "string" }, "maxItems": 1_000 })),
                may("dry_run", flag()),
                may("policy", words(&["immediate", "delayed", "lazy"])),
                may("delay", ttl()),
            ])),
        ),
        (
            "Refresh",
            closed(object([has(
                "keys",
                json!({ "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": 1_000 }),
            )])),
        ),
        ("OneKey", closed(object([has("key", text())]))),
    ]
}

fn lists() -> Vec<(&'static str, Value)> {
    let key = object([
        has("key", text()),
        has("keyspace", text()),
        has("tier", words(&["l1", "l2"])),
        has("ttl", maybe_number()),
        has("bytes", maybe_count()),
    ]);
    let hot = object([
        has("keyspace", text()),
        has("key", text()),
        has("lookups", count()),
        has("error", count()),
        has("per_second", number()),
        has("tier", json!({ "type": ["string", "null"], "enum": ["l1", null] })),
        has("bytes", maybe_count()),
    ]);
    vec![
        ("Keys", object([has("keys", list(&key)), has("cursor", maybe_text())])),
        ("Hot", object([has("keys", list(&hot))])),
        ("Keyspaces", object([has("keyspaces", list(&keyspace()))])),
        ("Breakers", object([has("breakers", list(&breaker()))])),
        ("Latencies", latencies()),
        ("Bus", bus()),
        ("Capacity", overview::capacity()),
        ("History", overview::history()),
        ("Why", why()),
    ]
}

fn keyspace() -> Value {
    object([
        has("name", text()),
        has("pattern", text()),
        has(
            "strategy",
            words(&["cache-aside", "read-through", "write-through", "write-around", "write-behind"]),
        ),
        has("ttl", maybe_number()),
        has("origin", maybe_text()),
        has("l1_entries", count()),
        has("l1_bytes", count()),
        has("hits_l1", count()),
        has("hits_l2", count()),
        has("hits_stale", count()),
        has("misses", count()),
        has("loads", count()),
        has("load_failures", count()),
        has("sets", count()),
        has("deletes", count()),
        has("evictions", count()),
        has("behind_pending", maybe_count()),
    ])
}

fn breaker() -> Value {
    object([
        has("target", text()),
        has("state", words(&["closed", "open", "half_open"])),
        has("since", maybe_time()),
        has("calls", count()),
        has("failures", count()),
    ])
}

fn latencies() -> Value {
    let tier = object([
        has("tier", words(&["l1", "l2", "origin"])),
        has("counts", list(&count())),
        has("sum_seconds", number()),
        has("count", count()),
        may("sampled", count()),
    ]);
    object([has("bounds", list(&number())), has("tiers", list(&tier))])
}

fn bus() -> Value {
    let instance = object([has("id", text()), has("version", text()), has("started_at", maybe_time())]);
    object([
        has("state", words(&["alone", "waiting", "joined", "lost"])),
        has("lag_seconds", maybe_number()),
        has("gaps", count()),
        has("instances", list(&instance)),
        has("instance", instance),
    ])
}

fn why() -> Value {
    let mut held = object([
        has("version", count()),
        has("cached_at", time()),
        has("ttl", maybe_number()),
        has("tags", list(&text())),
        has("dead_by", maybe_text()),
    ]);
    held["type"] = json!(["object", "null"]);
    let change = object([has("number", count()), has("by", text()), has("what", text()), has("of", text())]);
    object([
        has("key", text()),
        has("keyspace", text()),
        has("answer", text()),
        has("l1", held.clone()),
        has("l2", held),
        has("l2_error", maybe_text()),
        has("trusted_for", maybe_number()),
        has("pending", flag()),
        has("loading", flag()),
        has("partition", maybe_count()),
        has("changes", list(&change)),
    ])
}

fn metrics() -> Value {
    const COUNTS: [&str; 18] = [
        "hits",
        "misses",
        "sets",
        "deletes",
        "evictions",
        "l1_size",
        "l2_hits",
        "l2_misses",
        "l2_errors",
        "requests",
        "l1_hits",
        "l1_bytes",
        "expirations",
        "coalesced",
        "loads",
        "load_failures",
        "invalidations",
        "pending_invalidations",
    ];
    let mut form = object([
        has("hit_rate", share()),
        has("l1_hit_rate", share()),
        has("average_latency_ns", count()),
        has("seconds", number()),
        may("stats", json!({ "type": "object", "description": "Everything, by keyspace." })),
    ]);
    for name in COUNTS {
        form["properties"][name] = count();
        if let Some(required) = form["required"].as_array_mut() {
            required.push(name.into());
        }
    }
    form
}

fn service() -> Vec<(&'static str, Value)> {
    let check = object([has("check", text()), has("state", text()), has("ok", flag())]);
    let breaker = object([
        has("state", words(&["closed", "open", "half_open"])),
        has("seconds", number()),
        may("last_error", text()),
    ]);
    let stale = object([
        has("keyspace", text()),
        has("share", number()),
        has("oldest_seconds", number()),
        has("background_success", number()),
    ]);
    vec![
        ("Anything", json!({ "type": "object" })),
        ("Live", object([has("status", json!({ "const": "ok" }))])),
        (
            "Ready",
            object([
                has("status", words(&["ok", "unready", "stopping"])),
                may("degraded", list(&words(&["l2", "l2_calls", "stale", "journal", "origin"]))),
                may("warnings", list(&text())),
                may("breaker", breaker),
                may("stale", list(&stale)),
                may("checks", list(&check)),
            ]),
        ),
    ]
}
