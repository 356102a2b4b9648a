//! Invalidation across keyspaces.
//!
//! 1. A key goes to its own keyspace. A pattern goes to every keyspace that it could match a key of. Tags go to all.
//! 2. Everything is checked before anything is invalidated. Keyspaces are told together: one that is slow or refuses does not keep
//!    the others from being told.
//! 3. Who asks needs the verb `invalidate` on every key that is named, on every key that the pattern could match, and, because any key can
//!    have a tag, on all keys for a tag.
//! 4. A dry run names the keys that who asks may read, and counts all.
//! 5. An answer has the numbers under which every instance tells of what was named, if Redis has one for each: so who has it can wait until
//!    another instance has heard. A part of them would promise more than is so, so then there are none.
//! 6. The count is what the library counts: copies that were there, as far as it is known.

use super::entry::parse;
use super::error::{Code, Problem};
use super::guard::Whole;
use super::{App, access, acknowledged, json, key, render};
use crate::audit::Detail;
use crate::auth::{Verb, Who};
use crate::config::Period;
use crate::keyspaces::Keyspaces;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use terrace::{Effect, Glob, Invalidation, InvalidationPolicy, Key, Numbered, Tag, Version};

/// Keys in one request, at most.
const KEYS_MAX: usize = 10_000;
/// Keys that a dry run shows, at most.
const SAMPLE_MAX: usize = 10;
/// Tags in one request, at most.
const TAGS_MAX: usize = 1_000;

/// Numbers in an answer, at most: each keyspace has one for each tag. An answer that would have more has none.
const NUMBERS_MAX: usize = 10_000;

/// Names that are looked at for the audit log, which says how many there are in any case.
const NOTED_MAX: usize = 4;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `keys`, `pattern` or `tags`")]
struct Body {
    keys: Option<Vec<String>>,
    pattern: Option<String>,
    tags: Option<Vec<String>>,
    #[serde(default)]
    dry_run: bool,
    policy: Option<Policy>,
    delay: Option<Period>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Policy {
    Immediate,
    Delayed,
    Lazy,
}

/// What is to be invalidated, checked.
struct Request {
    keys: Vec<Key>,
    pattern: Option<Glob>,
    tags: Vec<Tag>,
    policy: InvalidationPolicy,
}

impl Request {
    /// Refuses what the scopes of who asks do not allow.
    fn allow(&self, who: &Who) -> Result<(), Problem> {
        self.keys.iter().try_for_each(|key| access::allow(who, Verb::Invalidate, key))?;
        if let Some(pattern) = &self.pattern {
            access::allow_pattern(who, pattern)?;
        }
        if self.tags.is_empty() { Ok(()) } else { access::allow_tags(who) }
    }

    /// How many things it names.
    fn count(&self) -> usize {
        self.keys.len() + self.tags.len() + usize::from(self.pattern.is_some())
    }

    /// The first of what is named, for the audit log.
    fn texts(&self) -> Vec<String> {
        let keys = self.keys.iter().map(|key| format!("key {key}"));
        let pattern = self.pattern.iter().map(|pattern| format!("pattern {pattern}"));
        let tags = self.tags.iter().map(|tag| format!("tag {tag}"));
        pattern.chain(tags).chain(keys).take(NOTED_MAX).collect()
    }
}

/// `POST /api/cache/invalidate`.
pub(super) async fn invalidate(
    State(app): State<Arc<App>>,
    who: Who,
    Whole(body): Whole,
) -> Result<Response, Problem> {
    let body: Body = parse(&body)?;
    let is_dry_run = body.dry_run;
    let request = check(body, app.limits.key_bytes_max)?;
    request.allow(&who)?;
    access::afford(&who, request.count(), 1)?;
    let (named_texts, keys, tags) = (request.texts(), request.keys.clone(), request.tags.len());
    let Sent { invalidations, patterns } = named(app.keyspaces(&who)?, request)?;
    if is_dry_run {
        return preview(&who, invalidations).await;
    }
    let (mut count, mut is_exact, mut effect) = (0, true, Effect::Applied);
    let sent = join_all(invalidations.into_iter().map(Invalidation::send_numbered)).await;
    let told: Vec<Numbered> = sent.into_iter().collect::<Result<_, _>>()?;
    for done in told.iter().map(|numbered| numbered.invalidated) {
        count += done.count;
        is_exact &= done.is_exact;
        effect = effect.and(done.effect);
    }
    let id = id_of(&keys, tags, patterns, &told);
    let mut response = acknowledged(json(render::invalidated(count, is_exact, id.as_deref())), effect);
    response.extensions_mut().insert(Detail::of(named_texts.iter().map(String::as_str), count));
    Ok(response)
}

/// The numbers of the keys, in their order; then of each of so many tags, in their order, that of every keyspace; then of the pattern that of every keyspace
/// it was sent to, which are so many. None unless each has one, and they are not too many.
fn id_of(keys: &[Key], tags: usize, patterns: usize, told: &[Numbered]) -> Option<Vec<u64>> {
    if keys.len() + tags * told.len() + patterns > NUMBERS_MAX {
        return None;
    }
    let versions: HashMap<&Key, Version> =
        told.iter().flat_map(|told| told.keys.iter().map(|(key, version)| (key, *version))).collect();
    let of_keys = keys.iter().map(|key| versions.get(key).copied());
    let of_tag = |told: &Numbered, tag: usize| (told.tags.len() == tags).then(|| told.tags[tag].1);
    let of_tags = (0..tags).flat_map(|tag| told.iter().map(move |told| of_tag(told, tag)));
    let of_pattern: Vec<Version> =
        told.iter().flat_map(|told| told.patterns.iter().map(|(_, version)| *version)).collect();
    if of_pattern.len() < patterns {
        return None;
    }
    of_keys
        .chain(of_tags)
        .chain(of_pattern.into_iter().map(Some))
        .map(|version| Some(version?.get()))
        .collect()
}

/// What is sent to keyspaces, in their order.
struct Sent {
    invalidations: Vec<Invalidation<Key>>,
    /// To how many of them the pattern is sent.
    patterns: usize,
}

/// What is named, keyspace by keyspace.
fn named(keyspaces: &Keyspaces, request: Request) -> Result<Sent, Problem> {
    let mut by_keyspace: BTreeMap<usize, Vec<Key>> = BTreeMap::new();
    for key in request.keys {
        by_keyspace.entry(keyspaces.index_of(&key)).or_default().push(key);
    }
    let (mut invalidations, mut patterns) = (Vec::new(), 0);
    for (index, keyspace) in keyspaces.iter().enumerate() {
        let keys = by_keyspace.remove(&index).unwrap_or_default();
        let pattern = request.pattern.as_ref().filter(|pattern| keyspaces.could_match(index, pattern));
        if keys.is_empty() && pattern.is_none() && request.tags.is_empty() {
            continue;
        }
        let mut invalidation = keyspace.invalidate().policy(request.policy).keys(keys);
        if let Some(pattern) = pattern {
            invalidation = invalidation.pattern(pattern.as_str())?;
            patterns += 1;
        }
        for tag in &request.tags {
            invalidation = invalidation.tag(tag.as_str())?;
        }
        invalidations.push(invalidation);
    }
    Ok(Sent { invalidations, patterns })
}

/// What would be invalidated, in all keyspaces.
async fn preview(who: &Who, invalidations: Vec<Invalidation<Key>>) -> Result<Response, Problem> {
    let (mut matched, mut is_exact, mut sample) = (0, true, Vec::new());
    for found in join_all(invalidations.into_iter().map(Invalidation::preview)).await {
        let found = found?;
        matched += found.matched;
        is_exact &= found.is_exact;
        sample.extend(found.sample.into_iter().filter(|key| who.may(Verb::Read, key.as_str())));
    }
    sample.truncate(SAMPLE_MAX);
    Ok(json(render::matched(matched, is_exact, &sample)).into_response())
}

fn policy(policy: Option<Policy>, delay: Option<Period>) -> Result<InvalidationPolicy, Problem> {
    match (policy, delay) {
        (None | Some(Policy::Immediate), None) => Ok(InvalidationPolicy::Immediate),
        (None | Some(Policy::Delayed), Some(delay)) => Ok(InvalidationPolicy::Delayed(delay.0)),
        (Some(Policy::Lazy), None) => Ok(InvalidationPolicy::Lazy),
        (Some(Policy::Delayed), None) => {
            Err(invalid("the policy `delayed` needs a `delay`, e.g. \"5s\"".to_owned()))
        }
        (Some(_), Some(_)) => Err(invalid("only the policy `delayed` has a `delay`".to_owned())),
    }
}

fn check(body: Body, key_bytes_max: usize) -> Result<Request, Problem> {
    let policy = policy(body.policy, body.delay)?;
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
        policy,
        keys: (1..)
            .zip(&keys)
            .map(|(number, text)| {
                key::checked(text, key_bytes_max)
                    .map_err(|problem| numbered(number, "key", problem.detail).about(text))
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
