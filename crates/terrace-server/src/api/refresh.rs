//! Keys to be loaded anew, by all instances.
//!
//! 1. A key goes to its own keyspace. All are checked before the first is asked for.
//! 2. A key whose keyspace writes to an origin and loads nothing refuses the whole: nobody could load it.
//! 3. The answer says that all instances were told. The load itself is in the background.

use super::entry::parse;
use super::error::{Code, Problem};
use super::guard::Whole;
use super::{App, access, json, key};
use crate::audit::Detail;
use crate::auth::{Verb, Who};
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use std::sync::Arc;
use terrace::{Key, Strategy};

/// Keys in one request, at most.
const KEYS_MAX: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `keys`")]
struct Body {
    keys: Vec<String>,
}

/// `POST /api/cache/refresh`.
pub(super) async fn refresh(
    State(app): State<Arc<App>>,
    who: Who,
    Whole(body): Whole,
) -> Result<Response, Problem> {
    let Body { keys } = parse(&body)?;
    if keys.is_empty() || keys.len() > KEYS_MAX {
        let detail = format!("name 1 to {KEYS_MAX} `keys`");
        return Err(Problem::new(Code::BodyInvalid, detail));
    }
    let numbered = |number: usize, problem: Problem| {
        Problem::new(Code::BodyInvalid, format!("key number {number}: {}", problem.detail))
    };
    let checked = (1..).zip(&keys).map(|(number, text)| {
        key::checked(text, app.limits.key_bytes_max).map_err(|problem| numbered(number, problem).about(text))
    });
    let keys: Vec<Key> = checked.collect::<Result<_, _>>()?;
    keys.iter().try_for_each(|key| access::allow(&who, Verb::Invalidate, key))?;
    let keyspaces = app.keyspaces(&who)?;
    let never_loaded = keys.iter().find(|key| {
        let keyspace = keyspaces.of(key);
        keyspace.strategy() == Strategy::WriteAround && !keyspace.can_load()
    });
    if let Some(key) = never_loaded {
        let detail = "nothing can be loaded: the keyspace is only written to its origin";
        return Err(Problem::new(Code::LoadUnsupported, detail).about(key.as_str()));
    }
    access::afford(&who, keys.len(), 1)?;
    for key in &keys {
        let refreshed = keyspaces.of(key).refresh(key).await;
        refreshed.map_err(|error| Problem::from(error).about(key.as_str()))?;
    }
    let mut response = json(format!("{{\"refreshing\":{},\"success\":true}}", keys.len()).into_bytes());
    let count = u64::try_from(keys.len()).unwrap_or(u64::MAX);
    response.extensions_mut().insert(Detail::of(keys.iter().map(Key::as_str), count));
    Ok(response)
}
