//! One entry: read, ask for, store, remove.

use super::error::{Code, NO_DELETE, Problem};
use super::guard::Whole;
use super::{App, acknowledged, json, key, render};
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;
use terrace::codec::JsonText;
use terrace::{EntryOptions, Key};

use crate::auth::{Verb, Who};
use crate::config::TtlSetting;

/// `GET`: the entry, through all tiers and, where the keyspace reads through, the origin.
pub(super) async fn get(State(app): State<Arc<App>>, who: Who, uri: Uri) -> Result<Response, Problem> {
    let key = key::key_of(&uri, app.limits.key_bytes_max)?;
    let entry = app.keyspace(&who, Verb::Read, &key)?.get_entry(&key).await?.ok_or_else(|| no_value(&key))?;
    let verbose = key::flag(&uri, "verbose").then_some(key.as_str());
    Ok(json(render::entry(&entry, app.clock.wall(), verbose)))
}

/// `HEAD`: whether a tier has a value. The origin is not asked, so a key that `GET` could load is 404 here until it
/// has been loaded.
pub(super) async fn head(State(app): State<Arc<App>>, who: Who, uri: Uri) -> Result<Response, Problem> {
    let key = key::key_of(&uri, app.limits.key_bytes_max)?;
    if app.keyspace(&who, Verb::Read, &key)?.contains(&key).await? {
        Ok(StatusCode::OK.into_response())
    } else {
        Err(no_value(&key))
    }
}

fn no_value(key: &Key) -> Problem {
    Problem::new(Code::KeyNotFound, format!("nothing is stored under {key}"))
}

/// The body of a `PUT`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the member `value`")]
struct Put<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
    ttl: Option<TtlSetting>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    tags: Option<Vec<String>>,
}

/// `PUT`: stores a value, where the keyspace's strategy says.
pub(super) async fn put(
    State(app): State<Arc<App>>,
    who: Who,
    uri: Uri,
    Whole(body): Whole,
) -> Result<Response, Problem> {
    let key = key::key_of(&uri, app.limits.key_bytes_max)?;
    let keyspace = app.keyspace(&who, Verb::Write, &key)?;
    let put: Put<'_> = parse(&body)?;
    if let Some(named) = put.key.as_deref().filter(|named| *named != key.as_str()) {
        let detail = format!("the path names {key}, and the body {}", shortened(named));
        return Err(Problem::new(Code::KeyMismatch, detail));
    }
    let mut options = EntryOptions::default();
    if let Some(ttl) = put.ttl {
        options = options.ttl(ttl.0);
    }
    for tag in put.tags.iter().flatten() {
        options = options.tag(tag).map_err(|error| Problem::new(Code::BodyInvalid, error.to_string()))?;
    }
    let value = JsonText::new(Bytes::copy_from_slice(put.value.get().as_bytes()))
        .map_err(|error| Problem::new(Code::ValueInvalid, error.to_string()))?;
    app.check_size(value.as_bytes().len())?;
    let written = keyspace.put_with(&key, value, options).await?;
    Ok(acknowledged(render::written(app.clock.wall(), written.ttl, written.journaled), written.effect))
}

/// `DELETE`: removes the entry, where the keyspace's strategy says.
pub(super) async fn delete(State(app): State<Arc<App>>, who: Who, uri: Uri) -> Result<Response, Problem> {
    let key = key::key_of(&uri, app.limits.key_bytes_max)?;
    let keyspace = app.keyspace(&who, Verb::Write, &key)?;
    if !app.keyspaces(&who).can_delete(&key) {
        return Err(Problem::new(Code::DeleteUnsupported, NO_DELETE));
    }
    let removed = keyspace.remove(&key).await?;
    Ok(acknowledged(render::deleted(removed.existed, removed.journaled), removed.effect))
}

impl App {
    fn check_size(&self, bytes: usize) -> Result<(), Problem> {
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
