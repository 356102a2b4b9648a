//! One entry: read, ask for, store, remove.

use super::answer::{self, Answer, Conditions};
use super::encoded::{self, Encoding};
use super::error::{Code, NO_DELETE, Problem};
use super::form::Form;
use super::guard::Whole;
use super::{App, acknowledged, key, msgpack, render};
use crate::document::Document;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, Uri};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use terrace::{EntryOptions, Key};

use crate::auth::{Verb, Who};
use crate::config::TtlSetting;

/// `GET`, where L1 has the entry, there is nothing to wait for, and little to be made: what is asked for as `MessagePack` is not.
pub(super) fn at_once<B>(app: &App, who: &Who, request: &Request<B>) -> Option<Result<Response, Problem>> {
    if Form::of(request.headers()) != Form::Json {
        return None;
    }
    let key = key::key_of(request.uri(), app.limits.key_bytes_max).ok()?;
    let keyspaces = app.keyspaces_for(who, Verb::Read, &key).ok()?;
    let found = Answer::at_once(keyspaces, &key, request.headers())?;
    Some(respond(app, &key, found, request))
}

fn respond<B>(app: &App, key: &Key, found: Answer, request: &Request<B>) -> Result<Response, Problem> {
    let verbose = key::flag(request.uri(), "verbose").then_some(key.as_str());
    let form = Form::of(request.headers());
    found.respond(request.headers(), Some(form), |entry| {
        let now = app.clock.wall();
        form.response(match form {
            Form::Json => render::entry(entry, now, verbose),
            Form::Msgpack(_) => msgpack::entry(entry, now, verbose),
        })
    })
}

/// `GET`: the entry, through all tiers and, where the keyspace reads through, the origin.
pub(super) async fn get(
    State(app): State<Arc<App>>,
    who: Who,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let key = key::key_of(request.uri(), app.limits.key_bytes_max)?;
    let keyspaces = app.keyspaces_for(&who, Verb::Read, &key)?;
    match answer::find(keyspaces, &key, request.headers()).await {
        Ok(found) => respond(&app, &key, found, &request),
        Err(response) => Ok(response),
    }
}

/// `HEAD`: whether a tier has a value. The origin is not asked, so a key that `GET` could load is 404 here until it
/// has been loaded.
pub(super) async fn head(
    State(app): State<Arc<App>>,
    who: Who,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let key = key::key_of(request.uri(), app.limits.key_bytes_max)?;
    let keyspaces = app.keyspaces_for(&who, Verb::Read, &key)?;
    match Answer::look(keyspaces, &key, request.headers()).await {
        Ok(found) => {
            let form = Form::of(request.headers());
            found.respond(request.headers(), Some(form), |_| {
                // The body is not made, so nobody knows how long it is: one of no bytes would say that.
                let unknown = Body::from_stream(stream::empty::<Result<Bytes, Infallible>>());
                form.response(Vec::new()).map(|_| unknown)
            })
        }
        Err(response) => Ok(response),
    }
}

/// The body of a `PUT`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the member `value`")]
pub(super) struct Put<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
    ttl: Option<TtlSetting>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    tags: Option<Vec<String>>,
    /// Whether it is to be stored only if nothing is there.
    #[serde(default)]
    if_absent: bool,
    /// What the value is the text of, where it is not JSON: see [`encoded::document`].
    encoding: Option<Encoding>,
    #[serde(borrow)]
    content_type: Option<Cow<'a, str>>,
}

/// `PUT`: stores a value, where the keyspace's strategy says.
pub(super) async fn put(
    State(app): State<Arc<App>>,
    who: Who,
    uri: Uri,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Result<Response, Problem> {
    let key = key::key_of(&uri, app.limits.key_bytes_max)?;
    let keyspaces = app.keyspaces_for(&who, Verb::Write, &key)?;
    let conditions = Conditions::of_change(&headers)?;
    let put: Put<'_> = parse(&body)?;
    if let Some(named) = put.key.as_deref().filter(|named| *named != key.as_str()) {
        let detail = format!("the path names {key}, and the body {}", shortened(named));
        return Err(Problem::new(Code::KeyMismatch, detail));
    }
    let conditions = if put.if_absent { conditions.if_absent() } else { conditions };
    let (document, options) = put.document(&app)?;
    let name = answer::name_of(keyspaces, &key, &headers)?;
    let stored = answer::store(keyspaces, &key, document, options, conditions, name.as_ref()).await?;
    let written = stored.written;
    let (form, reply) =
        (Form::of(&headers), render::written(app.clock.wall(), written.ttl, written.journaled));
    Ok(stored.complete(form, acknowledged(form.reply(reply), written.effect)))
}

impl Put<'_> {
    /// What is to be stored, and how.
    pub(super) fn document(&self, app: &App) -> Result<(Document, EntryOptions), Problem> {
        let mut options = EntryOptions::default();
        if let Some(ttl) = self.ttl {
            options = options.ttl(ttl.0);
        }
        for tag in self.tags.iter().flatten() {
            options = options.tag(tag).map_err(|error| Problem::new(Code::BodyInvalid, error.to_string()))?;
        }
        let document = encoded::document(self.value, self.encoding, self.content_type.as_deref())?;
        app.check_size(document.bytes().len())?;
        Ok((document, options))
    }

    pub(super) fn is_if_absent(&self) -> bool {
        self.if_absent
    }

    /// The key that the body names.
    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

/// `DELETE`: removes the entry, where the keyspace's strategy says.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    who: Who,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = key::key_of(&uri, app.limits.key_bytes_max)?;
    let keyspaces = app.keyspaces_for(&who, Verb::Write, &key)?;
    if !keyspaces.can_delete(&key) {
        return Err(Problem::new(Code::DeleteUnsupported, NO_DELETE));
    }
    let name = answer::name_of(keyspaces, &key, &headers)?;
    let dropped = answer::remove(keyspaces, &key, &Conditions::of_change(&headers)?, name.as_ref()).await?;
    let removed = dropped.removed;
    let reply = render::deleted(removed.existed, removed.journaled);
    Ok(dropped.complete(acknowledged(Form::of(&headers).reply(reply), removed.effect)))
}

impl App {
    pub(super) fn check_size(&self, bytes: usize) -> Result<(), Problem> {
        let bytes_max = self.limits.value_bytes_max;
        if bytes > bytes_max {
            let detail = format!("the value has {bytes} bytes, and at most {bytes_max} are allowed");
            return Err(Problem::new(Code::ValueTooLarge, detail));
        }
        Ok(())
    }
}

/// Reads a body of a known form.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let code = match error.classify() {
            Category::Data => Code::BodyInvalid,
            _ => Code::BodyMalformed,
        };
        let detail = if body.is_empty() { "there is no body".to_owned() } else { error.to_string() };
        Problem::new(code, detail)
    })
}

/// Most bytes of a client's text that an error repeats.
const QUOTED_BYTES_MAX: usize = 200;

/// A text, or its beginning if it is long.
pub(super) fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= QUOTED_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    let end = (0..=QUOTED_BYTES_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    Cow::Owned(format!("{}...", &text[..end]))
}
