//! Many entries in one request: read, stored and removed.
//!
//! ```text
//! POST /api/cache/batch                        a JSON object in, one JSON object out
//! POST /api/cache/batch   application/x-ndjson a line for each item in, a line for each out, as it is done
//! ```
//!
//! 1. Every item has an answer of its own, with a status and in the order in which it was asked for. An item that fails fails no other.
//! 2. Of an object, all reads come first, together, then all writes, then all removals. Writes of one key keep their order. Of lines, those
//!    that follow each other and are of one kind are made together, at most [`TOGETHER_MAX`] of them.
//! 3. A batch is no transaction: others may see some of it done and some not.
//! 4. An object has at most [`ITEMS_MAX`] items, and values of at most [`ANSWER_BYTES_MAX`] in its answer; a stream has at most [`LINES_MAX`]
//!    lines, and what is done of it at a time has the time of a request. It stops where its reader does.
//! 5. A value that was read is brought into form when its turn comes, and where there is room for it: an answer never takes more memory
//!    than it may have bytes, or of lines than a piece. Others have their turn between two values. The answer to an object has its room once
//!    all is read and before anything is made or changed: one that is turned away has changed nothing.
//! 6. Each item counts for a rate as a request does. An object that is more than the rate allows is refused whole; of lines, those are.
//! 7. A batch has no idempotency key: one name says nothing of many requests.
//! 8. Lines that come up after their token was taken away are answered 401, and nothing of them is done.

mod made;

use super::answer::{self, Conditions};
use super::backlog::Backlog;
use super::encoded::push_string;
use super::entry::{Put, parse, shortened};
use super::error::{Code, NO_DELETE, Problem};
use super::fields::IDEMPOTENCY_KEY;
use super::form::Form;
use super::guard::{Whole, overloaded};
use super::render::{expiry, push_journaled, push_time};
use super::{App, access, key};
use crate::audit::Detail;
use crate::auth::{Verb, Who};
use crate::document::Document;
use crate::keyspaces::Keyspaces;
use crate::runtime;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use made::{Done, Lists, Made};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use terrace::behind::Acknowledged;
use terrace::{Entry, Error, Key, Strategy};

/// Items of an object.
const ITEMS_MAX: usize = 1_000;
/// Lines of a stream.
const LINES_MAX: usize = 100_000;
/// Lines that are made together.
const TOGETHER_MAX: usize = 256;
/// Writes or removals of a batch that are under way at a time.
const CHANGES_AT_ONCE: usize = 64;
/// Most bytes of an answer to an object that have values in them: what would be more is to be asked for by itself.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Bytes that the answer to a change has besides its key, about.
const CHANGE_BYTES: usize = 128;
/// Bytes of lines that go out together, or one line that has more.
const PIECE_BYTES: usize = 64 << 10;
/// The media type of lines of JSON.
const NDJSON: &str = "application/x-ndjson";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `get`, `set` or `delete`")]
struct Object<'a> {
    #[serde(default, borrow)]
    get: Vec<Cow<'a, str>>,
    #[serde(default, borrow)]
    set: Vec<Put<'a>>,
    #[serde(default, borrow)]
    delete: Vec<Cow<'a, str>>,
}

/// One line of a stream.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase", expecting = "an object with one of `get`, `set` and `delete`")]
enum Line<'a> {
    #[serde(borrow)]
    Get(Cow<'a, str>),
    Set(Put<'a>),
    #[serde(borrow)]
    Delete(Cow<'a, str>),
}

/// What is asked for by one item; of one that cannot be, what is wrong with it.
enum Item {
    Get(Key),
    Set(Key, Box<(Document, terrace::EntryOptions, Conditions)>),
    Delete(Key),
    Bad(&'static str, Option<String>, Problem),
}

impl Item {
    fn get(app: &App, who: &Who, text: &str) -> Self {
        Self::checked(app, who, "get", text).map_or_else(|bad| bad, Self::Get)
    }

    fn delete(app: &App, who: &Who, text: &str) -> Self {
        Self::checked(app, who, "delete", text).map_or_else(|bad| bad, Self::Delete)
    }

    fn set(app: &App, who: &Who, put: &Put<'_>) -> Self {
        let Some(text) = put.key() else {
            let problem = Problem::new(Code::BodyInvalid, "a write names its `key`");
            return Self::Bad("set", None, problem);
        };
        let conditions = Conditions::default();
        let conditions = if put.is_if_absent() { conditions.if_absent() } else { conditions };
        match (Self::checked(app, who, "set", text), put.document(app)) {
            (Ok(key), Ok((document, options))) => Self::Set(key, Box::new((document, options, conditions))),
            (Err(bad), _) => bad,
            (_, Err(problem)) => Self::Bad("set", Some(shortened(text).into_owned()), problem),
        }
    }

    /// A key with which who asks may do this.
    fn checked(app: &App, who: &Who, kind: &'static str, text: &str) -> Result<Key, Self> {
        let verb = if kind == "get" { Verb::Read } else { Verb::Write };
        let checked = key::checked(text, app.limits.key_bytes_max)
            .and_then(|key| access::allow(who, verb, &key).map(|()| key));
        checked.map_err(|problem| Self::Bad(kind, Some(shortened(text).into_owned()), problem))
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Get(_) => "get",
            Self::Set(..) => "set",
            Self::Delete(_) => "delete",
            Self::Bad(kind, ..) => kind,
        }
    }

    /// How long the answer to a change is, about.
    fn about(&self) -> usize {
        self.key().map_or(0, str::len) + CHANGE_BYTES
    }

    fn key(&self) -> Option<&str> {
        match self {
            Self::Get(key) | Self::Set(key, _) | Self::Delete(key) => Some(key.as_str()),
            Self::Bad(_, key, _) => key.as_deref(),
        }
    }
}

/// `POST /api/cache/batch`.
pub(super) async fn batch(
    State(app): State<Arc<App>>,
    Extension(backlog): Extension<Backlog>,
    who: Who,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Result<Response, Problem> {
    check_unnamed(&app, &who, &headers)?;
    let media = headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
    if media.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case(NDJSON)) {
        return stream_of(app, who, body);
    }
    let object: Object<'_> = parse(&body)?;
    let count = object.get.len() + object.set.len() + object.delete.len();
    if count > ITEMS_MAX {
        let detail = format!(
            "a batch has at most {ITEMS_MAX} items, and this one has {count}; send more of them, or {NDJSON}"
        );
        return Err(Problem::new(Code::BodyInvalid, detail));
    }
    access::afford(&who, count, 1)?;
    let named = object.set.iter().filter_map(Put::key).chain(object.delete.iter().map(AsRef::as_ref));
    let detail = Detail::of(named, (object.set.len() + object.delete.len()) as u64);
    let keyspaces = app.keyspaces(&who)?;
    let gets = object.get.iter().map(|text| Item::get(&app, &who, text)).collect();
    let changes: [(&str, Vec<Item>); 2] = [
        ("set", object.set.iter().map(|put| Item::set(&app, &who, put)).collect()),
        ("delete", object.delete.iter().map(|text| Item::delete(&app, &who, text)).collect()),
    ];
    let read = make(&app, keyspaces, gets).await;
    let is_change = changes.iter().any(|(_, items)| !items.is_empty());
    let changed = changes.iter().flat_map(|(_, items)| items);
    let bytes = read.iter().map(Done::about).sum::<usize>() + changed.map(Item::about).sum::<usize>();
    let room = backlog.reserve(bytes.min(ANSWER_BYTES_MAX) as u64).ok_or_else(overloaded)?;
    let mut lists = Lists::new(Form::of(&headers));
    lists.add("get", read).await;
    for (name, items) in changes {
        lists.add(name, make(&app, keyspaces, items).await).await;
    }
    // What has changed nothing counts as what it has become, like any answer.
    let mut response = if is_change { room.keep(lists.done()) } else { lists.done() };
    response.extensions_mut().insert(detail);
    Ok(response)
}

/// A batch is many requests, and one name says nothing of them: it is refused where a name would be remembered, and not looked at elsewhere.
fn check_unnamed(app: &App, who: &Who, headers: &HeaderMap) -> Result<(), Problem> {
    let is_named = headers.contains_key(IDEMPOTENCY_KEY);
    if is_named && app.keyspaces(who)?.iter().any(|keyspace| keyspace.strategy() == Strategy::WriteBehind) {
        let detail = "`idempotency-key`: a batch has none; leave it out, or send the writes one by one, each with its own";
        return Err(Problem::new(Code::HeaderInvalid, detail));
    }
    Ok(())
}

/// The answer to lines, line by line.
fn stream_of(app: Arc<App>, who: Who, body: Bytes) -> Result<Response, Problem> {
    let count = body.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
    if count > LINES_MAX {
        let detail = format!("a stream has at most {LINES_MAX} lines, and this one has {count}");
        return Err(Problem::new(Code::BodyInvalid, detail));
    }
    app.keyspaces(&who)?;
    // The first line was counted when the request came.
    let lines = Lines { app, who, rest: body, noted: 1, done: Vec::new().into_iter() };
    let lines = stream::unfold(lines, Lines::next);
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    response.extensions_mut().insert(Detail::of([], count as u64));
    Ok(response)
}

/// Lines that are made as their reader takes the answers.
struct Lines {
    app: Arc<App>,
    who: Who,
    rest: Bytes,
    /// How many of those that come next were counted before.
    noted: u32,
    /// What has not gone out yet of those that were made together.
    done: std::vec::IntoIter<Done>,
}

impl Lines {
    /// The next piece of the answer.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if self.done.len() == 0 {
            self.done = self.make().await?.into_iter();
        }
        let mut piece = Vec::new();
        while piece.len() < PIECE_BYTES
            && let Some(done) = self.done.next()
        {
            let made = done.made(Form::Json, usize::MAX);
            piece.extend_from_slice(format!("{{\"op\":\"{}\",", made.kind).as_bytes());
            piece.extend_from_slice(&made.bytes[1..]);
            piece.push(b'\n');
        }
        Some((Ok(Bytes::from(piece)), self))
    }

    /// Makes the lines that come next. `None` if there are no more.
    async fn make(&mut self) -> Option<Vec<Done>> {
        let still = self.app.auth.again(&self.who);
        if let Some(who) = &still {
            self.who.clone_from(who);
        }
        let items = next_together(&self.app, &self.who, &mut self.rest)?;
        let noted = std::mem::take(&mut self.noted);
        let named = items.iter().map(|item| (item.kind(), item.key().map(str::to_owned))).collect::<Vec<_>>();
        let failed = |problem: &Problem| {
            let failed = |(kind, key): &(&'static str, Option<String>)| {
                Done::Made(Made::failed(kind, key.as_deref(), problem))
            };
            Some(named.iter().map(failed).collect())
        };
        if still.is_none() {
            return failed(&access::nobody());
        }
        if let Err(problem) = access::afford(&self.who, items.len(), noted) {
            return failed(&problem);
        }
        let (limit, keyspaces) = (self.app.limits.request_timeout, self.app.keyspaces(&self.who).ok()?);
        let made = runtime::within(limit, make(&self.app, keyspaces, items)).await;
        made.or_else(|| failed(&too_late()))
    }
}

/// Takes lines that are made together off the rest. `None` if there are no more.
fn next_together(app: &App, who: &Who, rest: &mut Bytes) -> Option<Vec<Item>> {
    let mut items: Vec<Item> = Vec::new();
    let together_max = who.burst().map_or(TOGETHER_MAX, |burst| burst.min(TOGETHER_MAX));
    while !rest.is_empty() && items.len() < together_max {
        let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1);
        let line = rest[..end].trim_ascii();
        if !line.is_empty() {
            let item = match parse::<Line<'_>>(line) {
                Ok(Line::Get(text)) => Item::get(app, who, &text),
                Ok(Line::Set(put)) => Item::set(app, who, &put),
                Ok(Line::Delete(text)) => Item::delete(app, who, &text),
                Err(problem) => Item::Bad("line", None, problem),
            };
            if items.first().is_some_and(|first| first.kind() != item.kind()) {
                break;
            }
            items.push(item);
        }
        let _taken = rest.split_to(end);
    }
    (!items.is_empty()).then_some(items)
}

fn too_late() -> Problem {
    Problem::new(Code::Timeout, "there was no answer in time; a change may still take effect")
}

/// Makes what items of one kind ask for, and gives what came of each, in their order.
async fn make(app: &App, keyspaces: &Keyspaces, items: Vec<Item>) -> Vec<Done> {
    let mut gets: BTreeMap<usize, Vec<Key>> = BTreeMap::new();
    for item in &items {
        if let Item::Get(key) = item {
            gets.entry(keyspaces.index_of(key)).or_default().push(key.clone());
        }
    }
    let read = join_all(gets.into_iter().map(|(index, keys)| read(keyspaces, index, keys))).await;
    let mut read: BTreeMap<usize, _> =
        read.into_iter().map(|(index, found)| (index, found.into_iter())).collect();
    let mut next_read = |key: &Key| read.get_mut(&keyspaces.index_of(key)).and_then(Iterator::next);
    let changed: Vec<&Key> = items
        .iter()
        .filter_map(|item| match item {
            Item::Set(key, _) | Item::Delete(key) => Some(key),
            _ => None,
        })
        .collect();
    let distinct: HashSet<&Key> = changed.iter().copied().collect();
    let at_once = if distinct.len() == changed.len() { CHANGES_AT_ONCE } else { 1 };
    let prepared: Vec<_> = items
        .into_iter()
        .map(|item| {
            let found = if let Item::Get(key) = &item { next_read(key) } else { None };
            (item, found)
        })
        .collect();
    stream::iter(prepared)
        .map(|(item, found)| finish(app, keyspaces, item, found))
        .buffered(at_once)
        .collect()
        .await
}

/// What a read came to.
type Read = Result<Option<Entry<Document>>, Error>;

/// Reads keys of one keyspace, together; each has its own answer.
async fn read(keyspaces: &Keyspaces, index: usize, keys: Vec<Key>) -> (usize, Vec<Read>) {
    let Some(keyspace) = keyspaces.iter().nth(index) else { return (index, Vec::new()) };
    (index, keyspace.get_each_entry(&keys).await)
}

async fn finish(app: &App, keyspaces: &Keyspaces, item: Item, found: Option<Read>) -> Done {
    Done::Made(match item {
        Item::Get(key) => return Done::Read(key, found, app.clock.wall()),
        Item::Bad(kind, key, problem) => Made::failed(kind, key.as_deref(), &problem),
        Item::Set(key, set) => {
            let (document, options, conditions) = *set;
            match answer::store(keyspaces, &key, document, options, conditions, None).await {
                Ok(stored) => Made::new("set", Some(key.as_str()), stored.status().as_u16(), |bytes| {
                    bytes.extend_from_slice(b",\"expires_at\":");
                    push_time(bytes, expiry(app.clock.wall(), stored.written.ttl));
                    push_later(bytes, stored.written.journaled, stored.location.as_deref());
                    push_effect(bytes, stored.written.effect);
                }),
                Err(problem) => Made::failed("set", Some(key.as_str()), &problem),
            }
        }
        Item::Delete(key) if !keyspaces.can_delete(&key) => {
            Made::failed("delete", Some(key.as_str()), &Problem::new(Code::DeleteUnsupported, NO_DELETE))
        }
        Item::Delete(key) => match answer::remove(keyspaces, &key, &Conditions::default(), None).await {
            Ok(dropped) => Made::new("delete", Some(key.as_str()), dropped.status().as_u16(), |bytes| {
                let removed = dropped.removed;
                bytes.extend_from_slice(format!(",\"deleted\":{}", removed.existed).as_bytes());
                push_later(bytes, removed.journaled, dropped.location.as_deref());
                push_effect(bytes, removed.effect);
            }),
            Err(problem) => Made::failed("delete", Some(key.as_str()), &problem),
        },
    })
}

/// Says what the journal says of a change, and what the header `Location` says of one by itself.
fn push_later(bytes: &mut Vec<u8>, journaled: Option<Acknowledged>, location: Option<&str>) {
    push_journaled(bytes, journaled);
    if let Some(location) = location {
        bytes.extend_from_slice(b",\"location\":");
        push_string(bytes, location);
    }
}

/// Says what the header `terrace-effect` says of a change by itself.
fn push_effect(bytes: &mut Vec<u8>, effect: terrace::Effect) {
    if effect != terrace::Effect::Applied {
        bytes.extend_from_slice(b",\"effect\":\"queued\"");
    }
}
