//! What each path knows: its methods, what they take, and what they answer.

mod figures;

use super::codes::{OF_CHANGES, OF_KEYS, OF_LOADS};
use crate::api::error::Code;
use serde_json::{Value, json};

/// Where a parameter is.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Path,
    Query,
    /// In the query, and it cannot be left out.
    NeededQuery,
    Header,
}

pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) place: Place,
    pub(super) description: &'static str,
    pub(super) schema: Value,
}

/// What goes in.
#[derive(Clone, Copy)]
pub(super) enum Body {
    None,
    /// JSON of this form.
    Json(&'static str),
    /// The same, or a line for each of its items.
    Lines(&'static str),
    /// The value itself.
    Bytes,
}

/// What an answer that is no error has.
pub(super) enum Content {
    /// JSON of this form.
    Json(&'static str),
    /// The same, or as `Accept` asks for it.
    Envelope(&'static str),
    /// Text of this type.
    Text(&'static str),
    /// The same, or a line for each of its items.
    Lines(&'static str),
    /// The value itself.
    Bytes,
    Nothing,
}

pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) group: &'static str,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Body,
    pub(super) answers: Vec<(u16, &'static str, Content)>,
    /// Codes of its own.
    pub(super) problems: Vec<Code>,
    /// Whether its answers have an entity tag.
    pub(super) has_tag: bool,
    /// Whether what is 202 says where to ask for it.
    pub(super) has_location: bool,
    /// Whether it asks for no token.
    pub(super) is_open: bool,
}

impl Operation {
    fn new(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        let group = if path.starts_with("/api/") { "observe" } else { "health" };
        Self {
            method,
            path,
            id,
            summary,
            group,
            parameters: Vec::new(),
            body: Body::None,
            answers: Vec::new(),
            problems: Vec::new(),
            has_tag: false,
            has_location: false,
            is_open: false,
        }
    }

    fn get(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("get", path, id, summary)
    }

    fn post(path: &'static str, id: &'static str, summary: &'static str, body: &'static str) -> Self {
        Self::new("post", path, id, summary).takes(Body::Json(body))
    }

    fn group(self, group: &'static str) -> Self {
        Self { group, ..self }
    }

    fn takes(self, body: Body) -> Self {
        Self { body, ..self }
    }

    fn tagged(self) -> Self {
        Self { has_tag: true, ..self }
    }

    fn header(self, name: &'static str, description: &'static str) -> Self {
        self.with(name, Place::Header, description, text())
    }

    /// Takes conditions on what is there.
    fn on_condition(self) -> Self {
        self.header("If-Match", "Entity tags; only if what is there has one of them.")
            .header(
                "If-None-Match",
                "Entity tags, or `*`; only if what is there has none of them, or there is nothing.",
            )
            .or(&[Code::HeaderInvalid, Code::VersionMismatch])
    }

    /// Takes a name, by which it is done once.
    fn once(self) -> Self {
        let description = "The request's own name, such as a UUID, also without quotation marks: where the key is written behind, a repetition is answered as the first, and does nothing.";
        self.header("Idempotency-Key", description).or(&[Code::IdempotencyKeyReused])
    }

    fn open(self) -> Self {
        Self { is_open: true, ..self }
    }

    fn with(mut self, name: &'static str, place: Place, description: &'static str, schema: Value) -> Self {
        self.parameters.push(Parameter { name, place, description, schema });
        self
    }

    fn query(self, name: &'static str, description: &'static str, schema: Value) -> Self {
        self.with(name, Place::Query, description, schema)
    }

    fn json(self, form: &'static str) -> Self {
        self.answers(200, "As asked for.", Content::Json(form))
    }

    /// What is answered where the keyspace is written behind.
    fn later(self, content: Content) -> Self {
        let description = "The journal has it, and the origin gets it later.";
        Self { has_location: true, ..self.answers(202, description, content) }
    }

    fn answers(mut self, status: u16, description: &'static str, content: Content) -> Self {
        self.answers.push((status, description, content));
        self
    }

    fn or(mut self, problems: &[Code]) -> Self {
        self.problems.extend_from_slice(problems);
        self
    }
}

fn text() -> Value {
    json!({ "type": "string" })
}

/// What can be a key: some text without control characters.
fn key() -> Value {
    json!({ "type": "string", "minLength": 1, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$" })
}

fn number(least: u32, most: u32, otherwise: u32) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most, "default": otherwise })
}

fn flag() -> Value {
    json!({ "type": "boolean", "default": false })
}

/// All of them.
pub(super) fn all() -> Vec<Operation> {
    let mut all = Vec::new();
    for view in [View::Envelope, View::Raw] {
        all.extend(view.entries(Place::Path));
        all.extend(view.entries(Place::NeededQuery));
    }
    all.extend(changes());
    all.extend(behind());
    all.extend(lists());
    all.extend(figures::all());
    all.extend(service());
    all
}

/// A view of an entry.
#[derive(Clone, Copy)]
enum View {
    /// The value within JSON.
    Envelope,
    /// The value itself, and headers.
    Raw,
}

impl View {
    fn path(self, place: Place) -> &'static str {
        match (self, place) {
            (Self::Envelope, Place::Path) => "/api/cache/{key}",
            (Self::Envelope, _) => "/api/cache",
            (Self::Raw, Place::Path) => "/v1/keys/{key}",
            (Self::Raw, _) => "/v1/keys",
        }
    }

    /// The names of what is done: reading, looking, storing, removing.
    fn ids(self, place: Place) -> [&'static str; 4] {
        match (self, place) {
            (Self::Envelope, Place::Path) => ["getEntry", "hasEntry", "putEntry", "deleteEntry"],
            (Self::Envelope, _) => {
                ["getEntryByQuery", "hasEntryByQuery", "putEntryByQuery", "deleteEntryByQuery"]
            }
            (Self::Raw, Place::Path) => ["getValue", "hasValue", "putValue", "deleteValue"],
            (Self::Raw, _) => ["getValueByQuery", "hasValueByQuery", "putValueByQuery", "deleteValueByQuery"],
        }
    }

    /// What a change is acknowledged with.
    fn reply(self, form: &'static str) -> Content {
        match self {
            Self::Envelope => Content::Envelope(form),
            Self::Raw => Content::Json(form),
        }
    }

    /// What is done with one entry.
    fn entries(self, place: Place) -> [Operation; 4] {
        let [get, head, put, delete] = self.ids(place);
        let entry = |method, id, summary| {
            Operation::new(method, self.path(place), id, summary)
                .group("entries")
                .with("key", place, "Percent-encoded; at most 512 bytes unless configured.", key())
                .or(&OF_KEYS)
                .on_condition()
        };
        let get = entry("get", get, "Reads an entry, through all tiers and the keyspace's origin.")
            .header(
                "Cache-Control",
                "`no-cache`, `no-store`, `max-stale` and `only-if-cached`, for this request.",
            )
            .tagged()
            .answers(304, "It is the one that `If-None-Match` names.", Content::Nothing)
            .or(&[Code::KeyNotFound, Code::NotCached])
            .or(&OF_LOADS);
        let head = entry("head", head, "Says whether a tier has a value. No origin is asked.")
            .header("Cache-Control", "`only-if-cached`, and `no-store` with it: L1 gets no copy.")
            .tagged()
            .answers(200, "There is one.", Content::Nothing)
            .answers(304, "It is the one that `If-None-Match` names.", Content::Nothing)
            .or(&[Code::KeyNotFound, Code::NotCached, Code::L2Unavailable]);
        let put = entry("put", put, "Stores a value, where the keyspace's strategy says.")
            .tagged()
            .answers(200, "As asked for.", self.reply("Written"))
            .answers(201, "Stored, and nothing was there.", self.reply("Written"))
            .later(self.reply("Written"))
            .or(&[
                Code::ValueTooLarge,
                Code::ValueInvalid,
                Code::MediaUnsupported,
                Code::ConditionUnsupported,
            ])
            .or(&[Code::L2Unavailable])
            .or(&OF_CHANGES)
            .once();
        let delete = entry("delete", delete, "Removes an entry, where the keyspace's strategy says.")
            .answers(200, "As asked for.", self.reply("Deleted"))
            .later(self.reply("Deleted"))
            .or(&[Code::DeleteUnsupported, Code::ConditionUnsupported, Code::L2Unavailable])
            .or(&OF_CHANGES)
            .once();
        match self {
            Self::Envelope => [
                get.query("verbose", "Adds `key`, `ttl`, `age`, `version` and `tags`.", flag()).answers(
                    200,
                    "As asked for.",
                    Content::Envelope("Entry"),
                ),
                head,
                put.takes(Body::Json("Put")).or(&[Code::KeyMismatch]),
                delete,
            ],
            Self::Raw => [
                get.answers(200, "The value, with its media type.", Content::Bytes),
                head,
                put.takes(Body::Bytes)
                    .header(
                        "Cache-Control",
                        "`max-age`, `stale-while-revalidate` and `stale-if-error` of the entry.",
                    )
                    .header("Cache-Groups", "Tags, as a list of strings in quotation marks."),
                delete,
            ],
        }
    }
}

/// What is done with many.
fn changes() -> [Operation; 3] {
    let invalidate = "Invalidates keys, what a pattern names, and what has tags.";
    [
        Operation::new("post", "/api/cache/batch", "batch", "Reads, stores and removes many entries.")
            .group("entries")
            .takes(Body::Lines("Batch"))
            .answers(200, "What came of each, in order.", Content::Lines("Batched")),
        Operation::post("/api/cache/invalidate", "invalidate", invalidate, "Invalidate")
            .group("entries")
            .json("Invalidated")
            .or(&[Code::L2Refused, Code::L2Unavailable]),
        Operation::post("/api/cache/refresh", "refresh", "Lets all instances load keys anew.", "Refresh")
            .group("entries")
            .json("Refreshing")
            .or(&[Code::L2Refused, Code::L2Unavailable, Code::LoadUnsupported]),
    ]
}

/// What is written behind.
fn behind() -> [Operation; 5] {
    let of = |operation: Operation| {
        let description = "The name of a keyspace that is written behind.";
        operation
            .group("behind")
            .with("keyspace", Place::Path, description, text())
            .or(&[Code::NotWrittenBehind])
    };
    let (write, flush, retry, forget) = (
        "/api/cache/behind/{keyspace}/writes/{id}",
        "/api/cache/behind/{keyspace}/flush",
        "/api/cache/behind/{keyspace}/retry",
        "/api/cache/behind/{keyspace}/drop",
    );
    [
        Operation::get(
            "/api/cache/behind",
            "listBehind",
            "What is not at the origins yet, and what was given up.",
        )
        .group("behind")
        .query("keyspace", "Of this one alone.", text())
        .query("limit", "Dead letters of each keyspace at most.", number(0, 1_000, 20))
        .json("Behind")
        .or(&[Code::QueryInvalid, Code::NotWrittenBehind, Code::KeyEncoding]),
        of(Operation::get(write, "whereIsWrite", "What has become of one write."))
            .with("id", Place::Path, "The `write_id` of what was acknowledged.", text())
            .json("Told")
            .or(&[Code::WriteNotFound]),
        of(Operation::new("post", flush, "flushBehind", "Sends what waits, and says what came of it."))
            .json("Flushed")
            .or(&[Code::BodyTooLarge, Code::BodyTimeout, Code::BodyMalformed]),
        of(Operation::post(retry, "retryDead", "Brings a key's dead letters back.", "OneKey"))
            .json("Retried")
            .or(&[Code::DeadLetterNotFound, Code::DeadLetterOvertaken]),
        of(Operation::post(forget, "dropDead", "Forgets a key's dead letters for good.", "OneKey"))
            .json("Dropped")
            .or(&[Code::DeadLetterNotFound]),
    ]
}

/// Which keys there are, and what becomes of them.
fn lists() -> [Operation; 5] {
    let why = "Why a key is answered as it is.";
    let why = |path, place, id| {
        Operation::get(path, id, why)
            .with("key", place, "Percent-encoded.", key())
            .json("Why")
            .or(&OF_KEYS)
            .or(&[Code::L2Unavailable])
    };
    [
        Operation::get("/api/cache/keys", "listKeys", "Which keys the tiers hold, page by page; no values.")
            .query(
                "pattern",
                "As of Redis' `SCAN MATCH`, over whole keys.",
                json!({ "type": "string", "default": "*" }),
            )
            .query("keyspace", "Of this one alone.", text())
            .query("tier", "Of this one alone.", json!({ "type": "string", "enum": ["l1", "l2"] }))
            .query("cursor", "Where the page before has ended.", text())
            .query("limit", "About so many keys.", number(1, 1_000, 100))
            .json("Keys")
            .or(&[Code::QueryInvalid, Code::KeyEncoding, Code::CursorLost, Code::ListingUnavailable]),
        Operation::get("/api/cache/hot", "listHot", "The keys that this instance looks up most.")
            .query("keyspace", "Of this one alone.", text())
            .query("limit", "So many keys at most.", number(1, 1_000, 20))
            .json("Hot")
            .or(&[Code::QueryInvalid, Code::KeyEncoding]),
        why("/api/cache/why/{key}", Place::Path, "why"),
        why("/api/cache/why", Place::NeededQuery, "whyByQuery"),
        Operation::get("/api/cache/events", "events", "What happens, as Server-Sent Events.")
            .query("pattern", "Of keys that it names alone.", text())
            .query(
                "types",
                "Of these types alone, with commas between: `set`, `invalidate`, `refresh`, `bus`, `breaker`, `queue`, `config`.",
                text(),
            )
            .query("last_event_id", "As the header `Last-Event-ID`.", text())
            .with(
                "Last-Event-ID",
                Place::Header,
                "The `id` of the last event that was read: it goes on behind it.",
                text(),
            )
            .answers(200, "Events, until the connection ends.", Content::Text("text/event-stream"))
            .or(&[Code::QueryInvalid, Code::KeyEncoding]),
    ]
}

/// What is about the service.
fn service() -> [Operation; 7] {
    let description = |path, id| {
        Operation::get(path, id, "This document.").group("health").answers(
            200,
            "OpenAPI 3.1.",
            Content::Json("Anything"),
        )
    };
    let ready = |path, id| {
        Operation::get(path, id, "Whether it should get requests, and what is not as it should be.")
            .open()
            .query("verbose", "Lists all checks.", flag())
            .answers(200, "It should.", Content::Json("Ready"))
            .answers(503, "It is about to stop.", Content::Json("Ready"))
    };
    let text = |operation: Operation, kind| operation.answers(200, "Text.", Content::Text(kind));
    [
        description("/api/cache/openapi.json", "openapi").open(),
        description("/openapi.json", "openapiAtRoot").open(),
        Operation::get("/livez", "live", "Whether it answers.").open().json("Live"),
        ready("/readyz", "ready"),
        ready("/healthz", "healthy"),
        text(
            Operation::get("/metrics", "prometheus", "Metrics for Prometheus.").or(&[Code::RouteNotFound]),
            terrace::METRICS_CONTENT_TYPE,
        ),
        text(
            Operation::get("/problems/{code}", "explainProblem", "What an error means.")
                .open()
                .with("code", Place::Path, "The `code` of an error.", self::text())
                .or(&[Code::RouteNotFound]),
            "text/plain; charset=utf-8",
        ),
    ]
}
