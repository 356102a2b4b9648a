//! What both views of an entry do: find it on the terms of the request, and say how fresh it is and where it came from.
//!
//! | header | says |
//! |---|---|
//! | `ETag` | version and fingerprint: a strong validator, the same from every instance; another one for each form of an envelope |
//! | `Vary` | that an envelope has the form that `Accept` asks for |
//! | `Age` | how long ago the value was written |
//! | `Cache-Control` | how old the entry may get: what is left is that, less `Age`; and `private`, unless its keyspace is not |
//! | `Last-Modified` | when it was written |
//! | `Cache-Status` | which tier had it, and why the others did not (RFC 9211), nearest to the origin first |
//! | `Location` | where it is told what becomes of a change that the origin gets later |
//!
//! 1. No header holds a key, or anything else that a client sent, but for the media type and the tags of an entry, which were checked when they were
//!    stored.
//! 2. A request without `Cache-Control` and without conditions costs what it did: it is one call of the library.

use super::behind;
use super::error::{Code, Problem};
use super::fields::{CacheControl, EntityTags, idempotency_key};
use super::form::Form;
use super::status::{self, CACHE_STATUS, Status, nothing};
use crate::document::Document;
use crate::keyspaces::{Conduct, DocumentKeyspace, Keyspaces};
use crate::traces;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use httpdate::HttpDate;
use std::fmt::{self, Write};
use std::time::{Duration, SystemTime};
use terrace::behind::{Acknowledged, IdempotencyKey};
use terrace::{Entry, EntryOptions, Key, Lookup, ReadOptions, Removed, Strategy, Ttl, Version, Written};
use tracing::Instrument;

/// What a reader is told who keeps what never ages: a year.
const NEVER_SECS: u64 = 31_536_000;

/// What a request wants of the entry that is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    matching: Option<EntityTags>,
    none_matching: Option<EntityTags>,
}

impl Conditions {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            matching: EntityTags::of(headers, &header::IF_MATCH)?,
            none_matching: EntityTags::of(headers, &header::IF_NONE_MATCH)?,
        })
    }

    /// Of a request that changes something. What it asks for that is not heeded is refused: it would change what it was not to.
    pub(super) fn of_change(headers: &HeaderMap) -> Result<Self, Problem> {
        let conditions = Self::of(headers)?;
        let refused = |name: HeaderName, instead: &str| {
            Err(Problem::new(Code::HeaderInvalid, format!("`{name}`: {instead}; nothing was changed")))
        };
        if headers.contains_key(header::CONTENT_RANGE) {
            return refused(header::CONTENT_RANGE, "a value is stored whole, and no part of it by itself");
        }
        // Beside entity tags a time does not count (RFC 9110, 13.1.4).
        if conditions.matching.is_none() && headers.contains_key(header::IF_UNMODIFIED_SINCE) {
            let instead =
                "many changes may be made in one second; send `if-match` with the `etag` that was read";
            return refused(header::IF_UNMODIFIED_SINCE, instead);
        }
        Ok(conditions)
    }

    /// The same, and that nothing is there.
    pub(super) fn if_absent(self) -> Self {
        Self { none_matching: Some(EntityTags::Any), ..self }
    }

    pub(super) fn are_none(&self) -> bool {
        self.matching.is_none() && self.none_matching.is_none()
    }

    /// Whether a change is to be made of what is there. It may have been read in any form.
    fn hold(&self, there: Option<&Entry<Document>>) -> bool {
        let all = there.map(|there| [false, true].map(|packed| EntityTag::of(there, packed).to_string()));
        let names = |tags: &EntityTags, is_weak_enough| {
            all.iter().flatten().any(|tag| tags.name(tag, is_weak_enough))
        };
        self.matching.as_ref().is_none_or(|tags| names(tags, false))
            && self.none_matching.as_ref().is_none_or(|tags| !names(tags, true))
    }

    fn failed(&self) -> Problem {
        let detail = match (&self.matching, &self.none_matching) {
            (None, Some(EntityTags::Any)) => "there is an entry already; nothing was changed",
            (None, _) => "the entry that is there has one of these entity tags; nothing was changed",
            _ => {
                "the entry that is there has none of these entity tags, or there is none; nothing was changed"
            }
        };
        Problem::new(Code::VersionMismatch, detail)
    }
}

/// The entity tag of a document under a version, with its quotation marks.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntityTag {
    version: Version,
    fingerprint: u64,
    /// Whether it is that of an envelope in `MessagePack`: two forms are not the same bytes.
    is_packed: bool,
}

impl EntityTag {
    fn of(entry: &Entry<Document>, is_packed: bool) -> Self {
        Self { version: entry.version, fingerprint: entry.value.fingerprint(), is_packed }
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = if self.is_packed { "-m" } else { "" };
        write!(f, "\"{:x}-{:016x}{form}\"", self.version.get(), self.fingerprint)
    }
}

/// What a request found.
pub(super) struct Answer {
    pub(super) entry: Entry<Document>,
    conduct: Conduct,
    asked: CacheControl,
}

/// Finds the entry of a key on the terms of a `GET`.
pub(super) async fn find(keyspaces: &Keyspaces, key: &Key, headers: &HeaderMap) -> Result<Answer, Response> {
    let span = traces::lookup(|| keyspaces.of(key).name());
    let found = find_in_tiers(keyspaces, key, headers).instrument(span.clone()).await;
    traces::end_lookup(&span, found.as_ref().ok().map(|answer| &answer.entry));
    found
}

async fn find_in_tiers(keyspaces: &Keyspaces, key: &Key, headers: &HeaderMap) -> Result<Answer, Response> {
    let refused = |problem: Problem| problem.into_response();
    let (keyspace, conduct) = keyspaces.with_conduct(key);
    if !headers.contains_key(header::CACHE_CONTROL) {
        let found = keyspace.lookup(key, ReadOptions::new()).await;
        return match found.map_err(|error| refused(Problem::of_read(error)))? {
            Lookup::Entry(entry) => Ok(Answer { entry, conduct, asked: CacheControl::default() }),
            none => Err(nothing(key, conduct.has_l1, &none)),
        };
    }
    let asked = CacheControl::of(headers).map_err(refused)?;
    let found = if asked.only_if_cached {
        keyspace.look_with(key, looking(asked)).await
    } else {
        let mut options = ReadOptions::new();
        if asked.no_cache {
            options = options.anew();
        }
        if asked.no_store {
            options = options.unkept();
        }
        if let Some(time) = asked.max_stale {
            options = options.max_stale(time);
        }
        keyspace.lookup(key, options).await
    };
    match found.map_err(|error| refused(Problem::of_read(error)))? {
        Lookup::Entry(entry) => Ok(Answer { entry, conduct, asked }),
        _ if asked.only_if_cached => Err(status::not_cached(key)),
        none => Err(nothing(key, conduct.has_l1, &none)),
    }
}

/// How the tiers alone are asked.
fn looking(asked: CacheControl) -> ReadOptions {
    if asked.only_if_cached && asked.no_store { ReadOptions::new().unkept() } else { ReadOptions::new() }
}

impl Answer {
    /// What L1 has fresh of a key, where a `GET` asks for nothing else and nothing is to be done about it.
    pub(super) fn at_once(keyspaces: &Keyspaces, key: &Key, headers: &HeaderMap) -> Option<Self> {
        if headers.contains_key(header::CACHE_CONTROL) {
            return None;
        }
        let (keyspace, conduct) = keyspaces.with_conduct(key);
        let entry = keyspace.hit_entry(key)?;
        let conduct = Conduct { has_l1: true, ..conduct };
        Some(Self { entry, conduct, asked: CacheControl::default() })
    }

    /// What the tiers alone have of a key: the answer to a `HEAD`. What it says of nothing is what a `GET` says.
    pub(super) async fn look(
        keyspaces: &Keyspaces,
        key: &Key,
        headers: &HeaderMap,
    ) -> Result<Self, Response> {
        let (keyspace, conduct) = keyspaces.with_conduct(key);
        let mut asked = CacheControl::of(headers).map_err(IntoResponse::into_response)?;
        asked.no_cache = false;
        let found = keyspace.look_with(key, looking(asked)).await;
        match found.map_err(|error| Problem::of_read(error).into_response())? {
            Lookup::Entry(entry) => Ok(Self { entry, conduct, asked }),
            _ if asked.only_if_cached => Err(status::not_cached(key)),
            none => Err(nothing(key, conduct.has_l1, &none)),
        }
    }

    /// The response: with the body that `body` makes of the entry, unless a condition of the request says otherwise. `form` is that of an
    /// envelope.
    pub(super) fn respond(
        self,
        headers: &HeaderMap,
        form: Option<Form>,
        body: impl FnOnce(&Entry<Document>) -> Response,
    ) -> Result<Response, Problem> {
        let tag = EntityTag::of(&self.entry, matches!(form, Some(Form::Msgpack(_))));
        let mut response =
            if headers.contains_key(header::IF_MATCH) || headers.contains_key(header::IF_NONE_MATCH) {
                let (conditions, tag) = (Conditions::of(headers)?, tag.to_string());
                if conditions.matching.as_ref().is_some_and(|tags| !tags.name(&tag, false)) {
                    return Err(conditions.failed());
                }
                let is_known = conditions.none_matching.as_ref().is_some_and(|tags| tags.name(&tag, true));
                if is_known { StatusCode::NOT_MODIFIED.into_response() } else { body(&self.entry) }
            } else {
                body(&self.entry)
            };
        self.describe(tag, self.audience(headers), response.headers_mut());
        if form.is_some() {
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
        }
        Ok(response)
    }

    /// Which caches may keep it, as `Cache-Control` begins. Without a word shared ones may, but for the answer to a request with a token: that
    /// takes `public` (RFC 9111, 3.5).
    fn audience(&self, asked: &HeaderMap) -> &'static str {
        match (self.conduct.is_private, asked.contains_key(header::AUTHORIZATION)) {
            (true, _) => "private, ",
            (false, true) => "public, ",
            (false, false) => "",
        }
    }

    fn describe(&self, tag: EntityTag, audience: &str, headers: &mut HeaderMap) {
        let entry = &self.entry;
        let mut texts = Texts::for_headers(headers);
        texts.insert(header::ETAG, format_args!("{tag}"));
        texts.insert(header::AGE, format_args!("{}", entry.age.as_secs()));
        texts.insert(header::CACHE_CONTROL, format_args!("{audience}max-age={}", age_max(entry)));
        if let Some(date) = http_date(entry.created) {
            texts.insert(header::LAST_MODIFIED, format_args!("{date}"));
        }
        texts.insert(
            CACHE_STATUS,
            format_args!("{}", Status { entry, conduct: self.conduct, asked: &self.asked }),
        );
    }
}

/// Headers in the making, their texts one after the other in one piece of memory: a hit in L1 is so cheap that an allocation each would show.
struct Texts<'a> {
    headers: &'a mut HeaderMap,
    text: BytesMut,
}

impl<'a> Texts<'a> {
    /// How many there are at most, with those that are there before and come after, and how many bytes they have.
    const HEADERS: usize = 7;
    const BYTES: usize = 192;

    fn for_headers(headers: &'a mut HeaderMap) -> Self {
        headers.reserve(Self::HEADERS);
        Self { headers, text: BytesMut::with_capacity(Self::BYTES) }
    }

    fn insert(&mut self, name: HeaderName, text: fmt::Arguments<'_>) {
        let is_written = self.text.write_fmt(text).is_ok();
        let value = HeaderValue::from_maybe_shared(self.text.split().freeze());
        if let (true, Ok(value)) = (is_written, value) {
            self.headers.insert(name, value);
        }
    }
}

/// How old the entry may get before it is stale: what is left of it, and what is over. A reader that has the entry takes `Age` off that.
fn age_max(entry: &Entry<Document>) -> u64 {
    match entry.ttl {
        Ttl::Never => entry.age.as_secs().saturating_add(NEVER_SECS),
        Ttl::After(left) if entry.past.is_zero() => entry.age.as_secs().saturating_add(left.as_secs()),
        Ttl::After(_) => entry.age.saturating_sub(entry.past).as_secs(),
    }
}

/// The first second of the year 10000, which the form of a date has no room for.
const YEAR_10000_SECS: u64 = 253_402_300_800;

/// A time as `Last-Modified` has it; `None` if that has no form for it.
fn http_date(time: SystemTime) -> Option<HttpDate> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    (since < Duration::from_secs(YEAR_10000_SECS)).then(|| HttpDate::from(time))
}

/// What came of a `PUT`, its entity tag, if the tiers have the document by now, and where its way to the origin is told of, if that is
/// still before it.
pub(super) struct Stored {
    pub(super) written: Written,
    pub(super) tag: Option<EntityTag>,
    pub(super) location: Option<String>,
}

/// What came of a `DELETE`, and the same.
pub(super) struct Dropped {
    pub(super) removed: Removed,
    pub(super) location: Option<String>,
}

/// The name of a request that changes a key, where one is remembered: where the key is written behind. Elsewhere it is not looked at.
pub(super) fn name_of(
    keyspaces: &Keyspaces,
    key: &Key,
    headers: &HeaderMap,
) -> Result<Option<IdempotencyKey>, Problem> {
    let is_remembered = keyspaces.of(key).strategy() == Strategy::WriteBehind;
    if is_remembered { idempotency_key(headers) } else { Ok(None) }
}

/// Stores a document on the conditions of a request, and once if that has a name.
pub(super) async fn store(
    keyspaces: &Keyspaces,
    key: &Key,
    document: Document,
    options: EntryOptions,
    conditions: Conditions,
    name: Option<&IdempotencyKey>,
) -> Result<Stored, Problem> {
    let keyspace = keyspaces.of(key);
    let strategy = keyspace.strategy();
    let is_written = !matches!(strategy, Strategy::CacheAside | Strategy::ReadThrough);
    if is_written && document.as_json().is_none() {
        let detail = format!("the keyspace is `{strategy}`, and its origin takes JSON");
        return Err(Problem::new(Code::MediaUnsupported, detail));
    }
    let fingerprint = document.fingerprint();
    let written = if conditions.are_none() {
        match name {
            Some(name) => keyspace.put_once(key, document, options, name).await?,
            None => keyspace.put_with(key, document, options).await?,
        }
    } else {
        let wanted = conditions.clone();
        let written = keyspace.put_if(key, document, options, move |there| wanted.hold(there)).await?;
        written.ok_or_else(|| conditions.failed())?
    };
    let version = written.version;
    let tag = (version != Version::ZERO).then_some(EntityTag { version, fingerprint, is_packed: false });
    Ok(Stored { written, tag, location: location(keyspace, written.journaled) })
}

/// Removes an entry on the conditions of a request, and once if that has a name.
pub(super) async fn remove(
    keyspaces: &Keyspaces,
    key: &Key,
    conditions: &Conditions,
    name: Option<&IdempotencyKey>,
) -> Result<Dropped, Problem> {
    let keyspace = keyspaces.of(key);
    let removed = if conditions.are_none() {
        match name {
            Some(name) => keyspace.remove_once(key, name).await?,
            None => keyspace.remove(key).await?,
        }
    } else {
        let wanted = conditions.clone();
        let removed = keyspace.remove_if(key, move |there| wanted.hold(there)).await?;
        removed.ok_or_else(|| conditions.failed())?
    };
    Ok(Dropped { removed, location: location(keyspace, removed.journaled) })
}

/// Where it is told what becomes of a change that the journal has.
fn location(keyspace: &DocumentKeyspace, journaled: Option<Acknowledged>) -> Option<String> {
    journaled.map(|journaled| behind::path_of(keyspace.name(), journaled.id))
}

impl Stored {
    /// 202 where the origin gets it later, 201 where it is known that there was nothing before.
    pub(super) fn status(&self) -> StatusCode {
        match (&self.location, self.written.replaced) {
            (Some(_), _) => StatusCode::ACCEPTED,
            (None, Some(false)) => StatusCode::CREATED,
            (None, _) => StatusCode::OK,
        }
    }

    /// Completes an acknowledgement. The entity tag is that of what a client of this form reads.
    pub(super) fn complete(self, form: Form, mut response: Response) -> Response {
        *response.status_mut() = self.status();
        locate(&mut response, self.location.as_deref());
        if let Some(tag) = self.tag {
            let tag = EntityTag { is_packed: form != Form::Json, ..tag };
            Texts::for_headers(response.headers_mut()).insert(header::ETAG, format_args!("{tag}"));
        }
        response
    }
}

impl Dropped {
    /// 202 where the origin gets it later.
    pub(super) fn status(&self) -> StatusCode {
        if self.location.is_some() { StatusCode::ACCEPTED } else { StatusCode::OK }
    }

    /// Completes an acknowledgement.
    pub(super) fn complete(self, mut response: Response) -> Response {
        *response.status_mut() = self.status();
        locate(&mut response, self.location.as_deref());
        response
    }
}

/// Says where it is told what becomes of a change.
fn locate(response: &mut Response, location: Option<&str>) {
    if let Some(Ok(location)) = location.map(HeaderValue::from_str) {
        response.headers_mut().insert(header::LOCATION, location);
    }
}
