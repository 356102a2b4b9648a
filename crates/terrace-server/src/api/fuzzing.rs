//! For fuzzing alone: what reads bytes of clients, asked without a server.
//!
//! What is not asked here, because no header has such bytes or no document is of this kind, is `None`, as what is refused.

use super::fields::{CACHE_GROUPS, EntityTags, IDEMPOTENCY_KEY, groups, idempotency_key, tags};
use super::msgpack::Members;
use crate::document::Document;
use crate::tagging::{TagRule, tags_of};
use crate::template::Template;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use terrace::{Key, Tag};

/// The members of an envelope in `MessagePack` that say what a document is.
pub fn pack(media: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let document = Document::of(media, bytes.to_vec().into()).ok()?;
    let mut out = Vec::new();
    Members::begin(&mut out).value(&document);
    Some(out)
}

/// The tags that an entry has by rules.
pub fn tags_by_rules(
    rules: &[TagRule],
    pattern: &Template,
    key: &Key,
    media: &str,
    bytes: &[u8],
) -> Option<Vec<Tag>> {
    let document = Document::of(media, bytes.to_vec().into()).ok()?;
    Some(tags_of(rules, pattern, key, &document))
}

fn headers(name: &HeaderName, lines: &[&str]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(name, HeaderValue::from_bytes(line.as_bytes()).ok()?);
    }
    Some(headers)
}

/// The tags in lines of `Cache-Groups`.
pub fn read_groups(lines: &[&str]) -> Option<Vec<Tag>> {
    tags(&headers(&CACHE_GROUPS, lines)?).ok()
}

/// A line of `Cache-Groups` with these tags.
pub fn write_groups(tags: &[Tag]) -> Option<String> {
    groups(tags)
}

/// What lines of `Idempotency-Key` call a request.
pub fn read_idempotency_key(lines: &[&str]) -> Option<String> {
    let key = idempotency_key(&headers(&IDEMPOTENCY_KEY, lines)?).ok()??;
    Some(key.as_str().to_owned())
}

/// The entity tags in lines of `If-None-Match`, each with whether it is weak; none for `*`.
pub fn read_entity_tags(lines: &[&str]) -> Option<Vec<(bool, String)>> {
    match EntityTags::of(&headers(&header::IF_NONE_MATCH, lines)?, &header::IF_NONE_MATCH).ok()?? {
        EntityTags::Any => Some(Vec::new()),
        EntityTags::Named(named) => Some(named),
    }
}
