//! The raw view of entries: the body is the value, and headers say the rest.
//!
//! 1. A value goes out as the bytes and with the media type that it came with. What was stored as JSON, by whichever view, is
//!    `application/json`.
//! 2. What clients stored is not ours to run: each answer forbids browsers to guess its type, or to run it as a page of this service.

use super::answer::{self, Answer, Conditions};
use super::error::{Code, NO_DELETE, Problem};
use super::fields::{CACHE_GROUPS, CacheControl, groups, tags};
use super::form::Form;
use super::guard::Whole;
use super::{App, acknowledged, json, key, render};
use crate::auth::{Verb, Who};
use crate::document::Document;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use terrace::{Entry, EntryOptions, Key};

/// Where the raw view lives: below it, and at its name alone with a parameter.
pub(super) const PREFIX: &str = "/v1/keys";
pub(super) const ENTRIES: &str = "/v1/keys/";

/// The media type of a body that has none.
const BYTES: &str = "application/octet-stream";

/// No browser makes anything of a stored value but what its type says, and runs none of it.
const HARMLESS: [(HeaderName, HeaderValue); 2] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'")),
];

fn key_of(app: &App, uri: &Uri) -> Result<Key, Problem> {
    key::key_below(ENTRIES, uri, app.limits.key_bytes_max)
}

/// `GET`, where L1 has the value and there is nothing to wait for.
pub(super) fn at_once<B>(app: &App, who: &Who, request: &Request<B>) -> Option<Result<Response, Problem>> {
    let key = key_of(app, request.uri()).ok()?;
    let keyspaces = app.keyspaces_for(who, Verb::Read, &key).ok()?;
    let found = Answer::at_once(keyspaces, &key, request.headers())?;
    Some(found.respond(request.headers(), None, body))
}

/// `GET`: the value, through all tiers and, where the keyspace reads through, the origin.
pub(super) async fn get(
    State(app): State<Arc<App>>,
    who: Who,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let key = key_of(&app, request.uri())?;
    let keyspaces = app.keyspaces_for(&who, Verb::Read, &key)?;
    match answer::find(keyspaces, &key, request.headers()).await {
        Ok(found) => found.respond(request.headers(), None, body),
        Err(response) => Ok(response),
    }
}

/// `HEAD`: what `GET` would answer, if a tier has the value. The origin is not asked.
pub(super) async fn head(
    State(app): State<Arc<App>>,
    who: Who,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let key = key_of(&app, request.uri())?;
    let keyspaces = app.keyspaces_for(&who, Verb::Read, &key)?;
    match Answer::look(keyspaces, &key, request.headers()).await {
        Ok(found) => found.respond(request.headers(), None, body),
        Err(response) => Ok(response),
    }
}

fn body(entry: &Entry<Document>) -> Response {
    let document = &entry.value;
    let mut response = Body::from(document.bytes().clone()).into_response();
    let headers = response.headers_mut();
    let media = HeaderValue::from_str(document.media());
    headers.insert(header::CONTENT_TYPE, media.unwrap_or(HeaderValue::from_static(BYTES)));
    headers.extend(HARMLESS);
    if let Some(Ok(groups)) = groups(&entry.tags).map(HeaderValue::try_from) {
        headers.insert(CACHE_GROUPS, groups);
    }
    response
}

/// `PUT`: stores the body, where the keyspace's strategy says.
pub(super) async fn put(
    State(app): State<Arc<App>>,
    who: Who,
    uri: Uri,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Result<Response, Problem> {
    let key = key_of(&app, &uri)?;
    let keyspaces = app.keyspaces_for(&who, Verb::Write, &key)?;
    let conditions = Conditions::of_change(&headers)?;
    let mut options = CacheControl::of(&headers)?.times(EntryOptions::default());
    for tag in tags(&headers)? {
        options = options
            .tag(tag.as_str())
            .map_err(|error| Problem::new(Code::HeaderInvalid, error.to_string()))?;
    }
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let detail = format!("send the value itself, not {encoding:?}: it is compressed where it is kept");
        return Err(Problem::new(Code::HeaderInvalid, detail));
    }
    app.check_size(body.len())?;
    let media = headers.get(header::CONTENT_TYPE).map(|media| media.to_str());
    let media = media.unwrap_or(Ok(BYTES)).map_err(|_| {
        Problem::new(Code::HeaderInvalid, "`content-type`: it has characters that are not visible")
    })?;
    let document =
        Document::of(media, body).map_err(|error| Problem::new(Code::ValueInvalid, error.to_string()))?;
    let name = answer::name_of(keyspaces, &key, &headers)?;
    let stored = answer::store(keyspaces, &key, document, options, conditions, name.as_ref()).await?;
    let written = stored.written;
    let reply = render::written(app.clock.wall(), written.ttl, written.journaled);
    Ok(stored.complete(Form::Json, acknowledged(json(reply), written.effect)))
}

/// `DELETE`: removes the entry, where the keyspace's strategy says.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    who: Who,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = key_of(&app, &uri)?;
    let keyspaces = app.keyspaces_for(&who, Verb::Write, &key)?;
    if !keyspaces.can_delete(&key) {
        return Err(Problem::new(Code::DeleteUnsupported, NO_DELETE));
    }
    let name = answer::name_of(keyspaces, &key, &headers)?;
    let dropped = answer::remove(keyspaces, &key, &Conditions::of_change(&headers)?, name.as_ref()).await?;
    let removed = dropped.removed;
    let reply = render::deleted(removed.existed, removed.journaled);
    Ok(dropped.complete(acknowledged(json(reply), removed.effect)))
}
