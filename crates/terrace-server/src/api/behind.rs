//! What is written behind: how it stands, what has become of one write, and what people do about it.
//!
//! 1. The words about a dead letter are those that are for anybody; the log has the origin's own.
//! 2. A flush that takes longer than a request may is cut short, and what it began goes on.
//! 3. A write is told of as long as the journal has it, wherever it stands. Of what is over nothing is kept, so that is `gone`, and never said to
//!    be at the origin.

use super::entry::parse;
use super::error::{Code, Problem};
use super::guard::Whole;
use super::{App, json, key};
use crate::audit::Detail;
use crate::auth::{Verb, Who};
use axum::extract::{FromRequestParts, Path, State};
use axum::http::Uri;
use axum::http::request::Parts;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use terrace::behind::{Condition, DeadLetter, JournalFigures, Lane, RetryError, Write, WriteId, WriteState};

/// Dead letters of each keyspace in an answer, unless the request says otherwise.
const LIMIT_DEFAULT: usize = 20;
/// Dead letters of each keyspace in an answer at most.
const LIMIT_MAX: usize = 1_000;

#[derive(Serialize)]
struct Behind {
    /// The journal, if there is one.
    journal: Option<Journal>,
    keyspaces: Vec<Standing>,
}

#[derive(Serialize)]
struct Journal {
    condition: &'static str,
    pending: u64,
    pending_bytes: u64,
    /// Writes of keyspaces that are not written behind any more.
    unattended: u64,
}

impl From<JournalFigures> for Journal {
    fn from(figures: JournalFigures) -> Self {
        let JournalFigures { condition, pending, pending_bytes, unattended, .. } = figures;
        Self { condition: word(&condition), pending, pending_bytes, unattended }
    }
}

/// One word for how the journal's file is. The reason is for the log.
pub(super) fn word(condition: &Condition) -> &'static str {
    match condition {
        Condition::Sound => "sound",
        Condition::DiskFull => "disk_full",
        _ => "failed",
    }
}

/// How a keyspace stands.
#[derive(Serialize)]
struct Standing {
    keyspace: String,
    /// Writes that wait.
    pending: u64,
    pending_bytes: u64,
    oldest_seconds: f64,
    /// Keys that failed, and wait to be tried again.
    parked: u64,
    /// Dead letters.
    dead: u64,
    acknowledged: u64,
    refused: u64,
    coalesced: u64,
    stored: u64,
    retried: u64,
    /// Writes that were found in the journal at the start.
    replayed: u64,
    /// Requests that had been taken before, by their idempotency keys.
    repeated: u64,
    /// How many are remembered.
    idempotency_keys: u64,
    dead_letters: Vec<Letter>,
}

impl Standing {
    fn of(who: &Who, keyspace: &str, lane: &Lane, limit: usize) -> Self {
        let figures = lane.figures();
        Self {
            keyspace: keyspace.to_owned(),
            pending: figures.pending,
            pending_bytes: figures.pending_bytes,
            oldest_seconds: figures.oldest_seconds,
            parked: figures.parked_keys,
            dead: figures.dead_letters,
            acknowledged: figures.acknowledged,
            refused: figures.refused,
            coalesced: figures.coalesced,
            stored: figures.stored,
            retried: figures.retried,
            replayed: figures.replayed,
            repeated: figures.repeated,
            idempotency_keys: figures.idempotency_keys,
            dead_letters: lane.dead_letters(limit).iter().map(|letter| Letter::of(who, letter)).collect(),
        }
    }
}

/// A write that was given up.
#[derive(Serialize)]
struct Letter {
    /// The key, for those who may read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    operation: &'static str,
    write_id: String,
    attempts: u32,
    reason: String,
    /// Whether a newer write of the key was acknowledged since: it can be dropped, and not be retried.
    overtaken: bool,
}

impl Letter {
    fn of(who: &Who, letter: &DeadLetter) -> Self {
        Self {
            key: key_of(who, &letter.write),
            operation: operation_of(&letter.write),
            write_id: letter.write.id.to_string(),
            attempts: letter.write.attempt,
            reason: letter.reason.clone(),
            overtaken: letter.is_overtaken,
        }
    }
}

/// A write's key, for those who may read it.
fn key_of(who: &Who, write: &Write) -> Option<String> {
    Some(String::from_utf8_lossy(&write.key).into_owned()).filter(|key| who.may(Verb::Read, key))
}

fn operation_of(write: &Write) -> &'static str {
    if write.operation.value().is_some() { "store" } else { "delete" }
}

/// What has become of a write.
#[derive(Serialize, Default)]
struct Told<'a> {
    write_id: String,
    keyspace: &'a str,
    state: &'static str,
    /// The key, for those who may read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overtaken: Option<bool>,
    /// Where it is told what becomes of the write that took its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

impl<'a> Told<'a> {
    fn of(who: &Who, keyspace: &'a str, id: WriteId, state: &WriteState) -> Self {
        let told = Self { write_id: id.to_string(), keyspace, ..Self::default() };
        let of_write = |told: Self, write: &Write| Self {
            key: key_of(who, write),
            operation: Some(operation_of(write)),
            attempts: Some(write.attempt),
            ..told
        };
        match state {
            WriteState::Waiting { write, waited } => Self {
                state: "waiting",
                waiting_seconds: Some(waited.as_secs_f64()),
                ..of_write(told, write)
            },
            WriteState::Dead(letter) => Self {
                state: "dead",
                reason: Some(letter.reason.clone()),
                overtaken: Some(letter.is_overtaken),
                ..of_write(told, &letter.write)
            },
            WriteState::Coalesced { by } => {
                Self { state: "coalesced", by: by.map(|by| path_of(keyspace, by)), ..told }
            }
            _ => Self { state: "gone", ..told },
        }
    }
}

/// Where it is told what has become of a write. A keyspace's name has nothing that a path would not take.
pub(super) fn path_of(keyspace: &str, id: WriteId) -> String {
    format!("/api/cache/behind/{keyspace}/writes/{id}")
}

/// `GET /api/cache/behind/{keyspace}/writes/{id}`.
pub(super) async fn write(
    State(app): State<Arc<App>>,
    who: Who,
    NamedWrite(keyspace, id): NamedWrite,
) -> Result<Response, Problem> {
    let lane = app.lane(&who, &keyspace)?;
    let known = id.and_then(|id| Some((id, lane.state_of(id)?)));
    let (id, state) = known.ok_or_else(|| {
        let detail = "the journal of this instance never gave out this id; ask the instance that acknowledged the write";
        Problem::new(Code::WriteNotFound, detail)
    })?;
    let told = Told::of(&who, &keyspace, id, &state);
    Ok(json(serde_json::to_vec(&told).expect("text and numbers have a JSON form")))
}

/// The keyspace and the write that a path names. What is no id of a write names none.
pub(super) struct NamedWrite(String, Option<WriteId>);

impl<S: Send + Sync> FromRequestParts<S> for NamedWrite {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let names = Path::<(String, String)>::from_request_parts(parts, state).await;
        names
            .map(|Path((keyspace, id))| Self(keyspace, id.parse().ok()))
            .map_err(|_| Problem::new(Code::NotWrittenBehind, NOT_UTF_8))
    }
}

const NOT_UTF_8: &str = "the path names no keyspace: it is not UTF-8";

/// `GET /api/cache/behind?keyspace=...&limit=...`.
pub(super) async fn behind(State(app): State<Arc<App>>, who: Who, uri: Uri) -> Result<Response, Problem> {
    key::only(&uri, &["keyspace", "limit"])?;
    let limit = match key::parameter(&uri, "limit")? {
        None => LIMIT_DEFAULT,
        Some(text) => text.parse().ok().filter(|limit| *limit <= LIMIT_MAX).ok_or_else(|| {
            Problem::new(Code::QueryInvalid, format!("`limit` is a number from 0 to {LIMIT_MAX}"))
        })?,
    };
    let keyspaces = match key::parameter(&uri, "keyspace")? {
        Some(name) => vec![Standing::of(&who, &name, app.lane(&who, &name)?, limit)],
        None => app.lanes(&who)?.map(|(name, lane)| Standing::of(&who, name, lane, limit)).collect(),
    };
    // The figures of the journal are of everybody's writes.
    let journal = app.cache.journal().filter(|_| who.is_operator()).map(|journal| journal.figures().into());
    Ok(json(serde_json::to_vec(&Behind { journal, keyspaces }).expect("text and numbers have a JSON form")))
}

/// The keyspace that a path names. What is no text names none.
pub(super) struct Named(String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name = Path::<String>::from_request_parts(parts, state).await;
        name.map(|Path(name)| Self(name)).map_err(|_| Problem::new(Code::NotWrittenBehind, NOT_UTF_8))
    }
}

/// `POST /api/cache/behind/{keyspace}/flush`: sends what waits, and says what came of it.
pub(super) async fn flush(
    State(app): State<Arc<App>>,
    who: Who,
    Named(keyspace): Named,
) -> Result<Response, Problem> {
    let flushed = app.lane(&who, &keyspace)?.flush().await;
    let (stored, parked, dead) = (flushed.stored, flushed.parked, flushed.dead);
    let body = format!("{{\"stored\":{stored},\"parked\":{parked},\"dead\":{dead},\"success\":true}}");
    Ok(noted(json(body.into_bytes()), "", stored))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `key`")]
struct Body {
    key: String,
}

/// `POST /api/cache/behind/{keyspace}/retry`: brings a key's dead letters back.
pub(super) async fn retry(
    State(app): State<Arc<App>>,
    who: Who,
    Named(keyspace): Named,
    Whole(body): Whole,
) -> Result<Response, Problem> {
    let lane = app.lane(&who, &keyspace)?;
    let Body { key } = parse(&body)?;
    match lane.retry_dead(key.as_bytes()) {
        Ok(count) => {
            let body = format!("{{\"retried\":{count},\"success\":true}}");
            Ok(noted(json(body.into_bytes()), &key, count))
        }
        Err(RetryError::Unknown) => Err(no_letter()),
        Err(error) => Err(Problem::new(Code::DeadLetterOvertaken, error.to_string())),
    }
}

/// `POST /api/cache/behind/{keyspace}/drop`: forgets a key's dead letters for good.
pub(super) async fn forget(
    State(app): State<Arc<App>>,
    who: Who,
    Named(keyspace): Named,
    Whole(body): Whole,
) -> Result<Response, Problem> {
    let lane = app.lane(&who, &keyspace)?;
    let Body { key } = parse(&body)?;
    match lane.drop_dead(key.as_bytes()) {
        0 => Err(no_letter()),
        count => {
            let body = format!("{{\"dropped\":{count},\"success\":true}}");
            Ok(noted(json(body.into_bytes()), &key, count))
        }
    }
}

/// An answer with what the audit log is to say of it.
fn noted(mut response: Response, what: &str, count: impl TryInto<u64>) -> Response {
    response.extensions_mut().insert(Detail::of([what], count.try_into().unwrap_or(u64::MAX)));
    response
}

fn no_letter() -> Problem {
    Problem::new(Code::DeadLetterNotFound, "there is no dead letter of this key")
}

impl App {
    /// The keyspaces of who asks that are written behind.
    fn lanes(&self, who: &Who) -> Result<impl Iterator<Item = (&str, &Lane)>, Problem> {
        let keyspaces = self.keyspaces(who)?.iter();
        Ok(keyspaces.filter_map(|keyspace| Some((keyspace.name(), keyspace.behind()?))))
    }

    fn lane(&self, who: &Who, name: &str) -> Result<&Lane, Problem> {
        let lanes: Vec<(&str, &Lane)> = self.lanes(who)?.collect();
        lanes.iter().find(|(own, _)| *own == name).map(|(_, lane)| *lane).ok_or_else(|| {
            let names: Vec<&str> = lanes.iter().map(|(name, _)| *name).collect();
            let detail = if names.is_empty() {
                "no keyspace is written behind".to_owned()
            } else {
                format!("it is not written behind; there are {}", names.join(", "))
            };
            Problem::new(Code::NotWrittenBehind, detail)
        })
    }
}
