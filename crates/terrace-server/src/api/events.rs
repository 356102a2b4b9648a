//! Events as they happen, as Server-Sent Events.
//!
//! 1. Each event has an `id`. A reader that comes back with the last one it has, in the header `Last-Event-ID` or the parameter
//!    `last_event_id`, gets what it missed, or is told by the event `gap` that it cannot.
//! 2. A reader that is slower than events come is told by `gap` how many it missed. None is waited for.
//! 3. A line goes out every [`HEARTBEAT`], so that whoever is in between keeps the connection open.
//! 4. Whoever may not read events any more, since their token is gone or is no operator's, is told nothing from then on: the stream ends.

use super::error::{Code, Problem};
use super::{App, key};
use crate::auth::{Auth, Verb, Who};
use crate::feed::{BREAKER, CONFIG, Feed, Missed, Place, QUEUE, Told, Waited};
use crate::runtime;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use terrace::{Event, EventKind, Glob, Key};
use tokio::sync::OwnedSemaphorePermit;

/// How often a line goes out, if nothing else does.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Events that are written in one go.
const AT_ONCE_MAX: usize = 128;
/// The types of events.
const TYPES: [&str; 7] = ["set", "invalidate", "refresh", "bus", BREAKER, QUEUE, CONFIG];

/// Which events a reader wants.
struct Filter {
    types: Option<Vec<String>>,
    pattern: Option<Glob>,
}

impl Filter {
    fn of(uri: &Uri) -> Result<Self, Problem> {
        let refuse = |detail: String| Problem::new(Code::QueryInvalid, detail);
        key::only(uri, &["types", "pattern", "last_event_id"])?;
        let types = key::parameter(uri, "types")?;
        let types: Option<Vec<String>> =
            types.map(|types| types.split(',').map(|name| name.trim().to_owned()).collect());
        if let Some(unknown) = types.iter().flatten().find(|name| !TYPES.contains(&name.as_str())) {
            let known = TYPES.join(", ");
            return Err(refuse(format!("there is no type `{}`; there are {known}", shortened(unknown))));
        }
        let pattern = key::parameter(uri, "pattern")?.map(|text| Glob::new(&text)).transpose();
        Ok(Self { types, pattern: pattern.map_err(|error| refuse(error.to_string()))? })
    }

    /// Whether an event is wanted. What concerns more than one key could concern one that the pattern names.
    fn wants(&self, told: &Told) -> bool {
        let is_type_wanted =
            |name: &str| self.types.as_ref().is_none_or(|types| types.iter().any(|one| one == name));
        let event = match told {
            Told::Event { event, .. } => event,
            Told::Service { name, .. } => return is_type_wanted(name),
        };
        let named = self.pattern.as_ref().zip(event.kind.key());
        let is_key_wanted = named.is_none_or(|(pattern, key)| pattern.matches(key.as_str()));
        is_key_wanted && (name_of(&event.kind) == GAP || is_type_wanted(name_of(&event.kind)))
    }
}

fn shortened(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(end, _)| &text[..end])
}

/// The type of an event that stands for others that are gone.
const GAP: &str = "gap";

fn name_of(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Set(_) => "set",
        EventKind::Invalidated(_)
        | EventKind::TagInvalidated(_)
        | EventKind::Swept(_)
        | EventKind::Cleared => "invalidate",
        EventKind::Refresh(_) => "refresh",
        EventKind::GivenUp { .. } | EventKind::LettersRetried { .. } | EventKind::LettersDropped { .. } => {
            QUEUE
        }
        EventKind::Missed(_) => GAP,
        _ => "bus",
    }
}

/// What an event says.
#[derive(Default, Serialize)]
struct Data<'a> {
    keyspace: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    write_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    letters: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    own: bool,
    at: String,
}

/// What an event says to who reads. The key of a dead letter is for those who may read it, as where dead letters are listed.
fn data(who: &Who, keyspace: &str, event: &Event) -> String {
    let mut data = Data {
        keyspace,
        version: Some(event.number.get()).filter(|number| *number != 0),
        own: event.is_own,
        at: humantime::format_rfc3339_millis(event.at).to_string(),
        ..Data::default()
    };
    match &event.kind {
        EventKind::Set(key) | EventKind::Invalidated(key) | EventKind::Refresh(key) => {
            data.key = Some(key.as_str());
        }
        EventKind::GivenUp { key, write } => {
            data.key = readable(who, key);
            (data.state, data.write_id) = (Some("given_up"), Some(write.to_string()));
        }
        EventKind::LettersRetried { key, count } => {
            data.key = readable(who, key);
            (data.state, data.letters) = (Some("retried"), Some(*count));
        }
        EventKind::LettersDropped { key, count } => {
            data.key = readable(who, key);
            (data.state, data.letters) = (Some("dropped"), Some(*count));
        }
        EventKind::TagInvalidated(tag) => data.tag = Some(tag.as_str()),
        EventKind::Swept(glob) => data.pattern = Some(glob.as_str()),
        EventKind::Cleared => data.all = Some(true),
        EventKind::Joined { is_anew: false } => data.state = Some("joined"),
        EventKind::Joined { is_anew: true } => data.state = Some("joined_anew"),
        EventKind::Lost => data.state = Some("lost"),
        EventKind::Suspected(_) => data.state = Some("suspected"),
        EventKind::Missed(count) => data.missed = Some(*count),
        _ => {}
    }
    serde_json::to_string(&data).expect("text and numbers have a JSON form")
}

fn readable<'a>(who: &Who, key: &'a Key) -> Option<&'a str> {
    Some(key.as_str()).filter(|key| who.may(Verb::Read, key))
}

/// One reader.
struct Reader {
    auth: Arc<Auth>,
    who: Who,
    feed: Arc<Feed>,
    place: Place,
    filter: Filter,
    /// What goes out first.
    greeting: Option<String>,
    _seat: OwnedSemaphorePermit,
}

impl Reader {
    /// What goes out next; nothing more once the service is about to stop, or who reads may not any more.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        let mut text = self.greeting.take().unwrap_or_default();
        let waited = runtime::within(HEARTBEAT, self.fill(&mut text)).await;
        self.who = self.auth.again(&self.who).filter(Who::is_operator)?;
        match waited {
            // Where the reader is, although it wants nothing of what came: so that it goes on from there.
            None => write!(text, ":\nid: {}\n\n", self.place).expect("writing to a String does not fail"),
            Some(Waited::Stopped) => return None,
            Some(Waited::Grown) => {}
        }
        Some((Ok(text.into()), self))
    }

    /// Waits until there is something to go out.
    async fn fill(&mut self, text: &mut String) -> Waited {
        while text.is_empty() {
            match self.feed.wait(self.place).await {
                Waited::Stopped => return Waited::Stopped,
                Waited::Grown => {
                    // What they may by now, and not when they came.
                    if let Some(who) = self.auth.again(&self.who) {
                        self.who = who;
                    }
                    self.take(text);
                }
            }
        }
        Waited::Grown
    }

    /// Takes the events that are there.
    fn take(&mut self, text: &mut String) {
        let next = self.feed.after(self.place, AT_ONCE_MAX);
        self.place = next.place;
        match next.missed {
            Missed::Nothing => {}
            Missed::Some(count) => push(text, None, GAP, &format!("{{\"missed\":{count}}}")),
            Missed::Unknown => push(text, Some(next.place), GAP, "{\"missed\":null}"),
        }
        for (place, told) in next.events.iter().filter(|(_, told)| self.filter.wants(told)) {
            match &**told {
                Told::Event { keyspace, event } => {
                    push(text, Some(*place), name_of(&event.kind), &data(&self.who, keyspace, event));
                }
                Told::Service { name, data } => push(text, Some(*place), name, data),
            }
        }
    }
}

fn push(text: &mut String, place: Option<Place>, name: &str, data: &str) {
    if let Some(place) = place {
        writeln!(text, "id: {place}").expect("writing to a String does not fail");
    }
    write!(text, "event: {name}\ndata: {data}\n\n").expect("writing to a String does not fail");
}

/// `GET /api/cache/events`.
pub(super) async fn events(
    State(app): State<Arc<App>>,
    who: Who,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let filter = Filter::of(&uri)?;
    let too_many = || Problem::new(Code::Overloaded, "too many read events; try again in a second");
    let seat = app.feed.enter().ok_or_else(too_many)?;
    // Only who has no tenant gets here, and hears of no tenant.
    app.feed.begin(&app.spaces, &app.clock);
    let from_header = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let from_uri = key::parameter(&uri, "last_event_id")?;
    let resumed = from_header.or(from_uri.as_deref()).filter(|text| !text.is_empty());
    let mut greeting = "retry: 1000\n".to_owned();
    let end = app.feed.end();
    let place = match resumed.map(Feed::place) {
        Some(Some(place)) => place,
        Some(None) => {
            push(&mut greeting, Some(end), GAP, "{\"missed\":null}");
            end
        }
        None => {
            write!(greeting, "id: {end}\n\n").expect("writing to a String does not fail");
            end
        }
    };
    let (auth, feed) = (Arc::clone(&app.auth), Arc::clone(&app.feed));
    let mut reader = Reader { auth, who, feed, place, filter, greeting: None, _seat: seat };
    if resumed.is_some() {
        greeting.push('\n');
        reader.take(&mut greeting);
    }
    reader.greeting = Some(greeting);
    let mut response = Response::new(Body::from_stream(stream::unfold(reader, Reader::next)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
