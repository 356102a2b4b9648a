//! Invalidation across keyspaces.
//!
//! 1. A key goes to its own keyspace. A pattern goes to every keyspace that it could match a key of. Tags go to all.
//! 2. Everything is checked before anything is invalidated.
//! 3. The count is what the library counts: copies that were there, as far as it is known.

use super::entry::parse;
use super::error::{Code, Problem};
use super::guard::Whole;
use super::{App, acknowledged, key, render};
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use terrace::{Effect, Glob, Key, Tag};

/// Keys in one request, at most.
const KEYS_MAX: usize = 10_000;
/// Tags in one request, at most.
const TAGS_MAX: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `keys`, `pattern` or `tags`")]
struct Body {
    keys: Option<Vec<String>>,
    pattern: Option<String>,
    tags: Option<Vec<String>>,
}

/// What is to be invalidated, checked.
struct Request {
    keys: Vec<Key>,
    pattern: Option<Glob>,
    tags: Vec<Tag>,
}

/// `POST /api/cache/invalidate`.
pub(super) async fn invalidate(State(app): State<Arc<App>>, Whole(body): Whole) -> Result<Response, Problem> {
    let request = check(parse(&body)?, app.limits.key_bytes_max)?;
    let mut by_keyspace: BTreeMap<usize, Vec<Key>> = BTreeMap::new();
    for key in request.keys {
        by_keyspace.entry(app.keyspaces.index_of(&key)).or_default().push(key);
    }
    let (mut count, mut is_exact, mut effect) = (0, true, Effect::Applied);
    for (index, keyspace) in app.keyspaces.iter().enumerate() {
        let keys = by_keyspace.remove(&index).unwrap_or_default();
        let pattern = request.pattern.as_ref().filter(|pattern| app.keyspaces.could_match(index, pattern));
        if keys.is_empty() && pattern.is_none() && request.tags.is_empty() {
            continue;
        }
        let mut invalidation = keyspace.invalidate().keys(keys);
        if let Some(pattern) = pattern {
            invalidation = invalidation.pattern(pattern.as_str())?;
        }
        for tag in &request.tags {
            invalidation = invalidation.tag(tag.as_str())?;
        }
        let done = invalidation.send().await?;
        count += done.count;
        is_exact &= done.is_exact;
        effect = effect.and(done.effect);
    }
    Ok(acknowledged(render::invalidated(count, is_exact), effect))
}

fn check(body: Body, key_bytes_max: usize) -> Result<Request, Problem> {
    let keys = body.keys.unwrap_or_default();
    let tags = body.tags.unwrap_or_default();
    if keys.is_empty() && tags.is_empty() && body.pattern.is_none() {
        return Err(invalid("name `keys`, a `pattern` or `tags`".to_owned()));
    }
    for (what, count, count_max) in [("keys", keys.len(), KEYS_MAX), ("tags", tags.len(), TAGS_MAX)] {
        if count > count_max {
            return Err(invalid(format!("there are {count} {what}, and at most {count_max} are allowed")));
        }
    }
    let numbered =
        |number: usize, what: &str, words: String| invalid(format!("{what} number {number}: {words}"));
    Ok(Request {
        keys: (1..)
            .zip(&keys)
            .map(|(number, text)| {
                key::checked(text, key_bytes_max).map_err(|problem| numbered(number, "key", problem.detail))
            })
            .collect::<Result<_, _>>()?,
        pattern: match body.pattern {
            Some(text) => Some(Glob::new(&text).map_err(|error| invalid(error.to_string()))?),
            None => None,
        },
        tags: (1..)
            .zip(&tags)
            .map(|(number, text)| Tag::new(text).map_err(|error| numbered(number, "tag", error.to_string())))
            .collect::<Result<_, _>>()?,
    })
}

fn invalid(detail: String) -> Problem {
    Problem::new(Code::BodyInvalid, detail)
}
