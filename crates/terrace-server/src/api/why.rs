//! Why a key is answered as it is, for people who look for a fault.

use super::error::Problem;
use super::{App, json, key};
use crate::auth::Who;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde_json::{Value, json as object};
use std::sync::Arc;
use terrace::{Change, SweepRule};
use terrace::{Changed, DeadBy, Held, Tag, Tier, Trusted, Why};

/// Where the answers live.
pub(super) const PREFIX: &str = "/api/cache/why/";

/// `GET /api/cache/why/{key}`.
pub(super) async fn why(State(app): State<Arc<App>>, who: Who, uri: Uri) -> Result<Response, Problem> {
    let key = key::key_below(PREFIX, &uri, app.limits.key_bytes_max)?;
    let why = app.keyspaces(&who)?.of(&key).why(&key).await?;
    Ok(json(render(&why).to_string().into_bytes()))
}

fn render(why: &Why) -> Value {
    let trusted_for = match why.trust {
        Trusted::Always => Value::Null,
        Trusted::For(left) => object!(left.as_secs_f64()),
        Trusted::Lapsed => object!(0),
    };
    object!({
        "key": why.key,
        "keyspace": why.keyspace,
        "answer": why.answer.map_or("miss", Tier::as_str),
        "l1": why.l1.as_ref().map(held),
        "l2": why.l2.as_ref().map(held),
        "l2_error": why.l2_error.as_ref().map(ToString::to_string),
        "trusted_for": trusted_for,
        "pending": why.is_pending,
        "loading": why.is_loading,
        "partition": why.partition,
        "changes": why.changes.iter().map(changed).collect::<Vec<_>>(),
    })
}

fn held(held: &Held) -> Value {
    let dead_by = held.dead_by.as_ref().map(|dead_by| match dead_by {
        DeadBy::Trust => "this instance may not have heard of a change".to_owned(),
        DeadBy::Ban => "a tag, a pattern or a clearing".to_owned(),
        DeadBy::Pending => "an invalidation that Redis has not been told yet".to_owned(),
        DeadBy::Tag(tag) => format!("the tag {tag}"),
        DeadBy::Age => "it is past its TTL, and kept for its grace".to_owned(),
        DeadBy::Envelope => "it is no entry of this key".to_owned(),
        _ => "the generations of its tags are not known".to_owned(),
    });
    object!({
        "version": held.version.get(),
        "cached_at": humantime::format_rfc3339_millis(held.created).to_string(),
        "ttl": held.ttl.duration().map(|left| left.as_secs_f64()),
        "tags": held.tags.iter().map(Tag::as_str).collect::<Vec<_>>(),
        "dead_by": dead_by,
    })
}

fn changed(changed: &Changed) -> Value {
    let (what, argument) = match &changed.change {
        Change::Set(key) => ("set", key.as_str()),
        Change::Invalidate(key) => ("invalidate", key.as_str()),
        Change::Tag(tag) => ("tag", tag.as_str()),
        Change::Sweep(SweepRule::All) => ("clear", ""),
        Change::Sweep(rule) => ("pattern", rule.pattern()),
        _ => ("other", ""),
    };
    object!({ "number": changed.number.get(), "by": format!("{:016x}", changed.by.0), "what": what, "of": argument })
}
