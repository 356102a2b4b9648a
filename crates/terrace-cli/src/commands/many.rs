//! `keys`, `mget`, `ttl` and `touch`: several keys of a running service, or what is known of one besides its value.
//!
//! 1. `ttl` loads nothing: it asks what the tiers hold.
//! 2. `touch` stores the value that it has read, on the condition that nobody has changed it since; so it never undoes a change.

use crate::args::{GetArgs, KeysArgs, MgetArgs, TouchArgs};
use crate::client::{Client, IS_IT_TERRACE, path_of_key, path_of_keys, path_of_why};
use crate::failure::{Exit, Failure};
use crate::output::{self, Talk};
use futures_util::stream::{self, StreamExt as _};
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::fmt::Write as _;
use terrace_server::config::TtlSetting;

/// Keys that are asked for in one go.
const PAGE: u64 = 1000;
/// Requests of `mget` at the same time.
const AT_ONCE: usize = 16;
/// How often `touch` reads again because somebody has changed the value in between.
const ATTEMPTS: u32 = 5;

/// Prints the keys that match.
pub(crate) async fn keys(args: KeysArgs) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let (mut seen, mut cursor) = (HashSet::new(), None::<String>);
    loop {
        let path = path_of_keys(&args.pattern, args.keyspace.as_deref(), cursor.as_deref(), PAGE);
        let reply = client.read_of(args.keyspace.as_deref(), &path).await?;
        let page = client.json(&reply)?;
        for entry in page["keys"].as_array().into_iter().flatten() {
            if args.limit.is_some_and(|limit| seen.len() as u64 >= limit) {
                return Ok(Exit::Success);
            }
            let Some(key) = entry["key"].as_str() else { continue };
            if seen.insert(key.to_owned()) {
                output::line(&if args.service.json { entry.to_string() } else { key.to_owned() })?;
            }
        }
        match page["cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return Ok(if seen.is_empty() { Exit::NotFound } else { Exit::Success }),
        }
    }
}

/// Prints what the service says of each key, in their order, as one JSON object per line.
pub(crate) async fn mget(args: MgetArgs) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let asking = args.keys.iter().map(|key| {
        let client = &client;
        async move { (key, client.ask(Method::GET, &path_of_key(key)).await) }
    });
    let mut answers = stream::iter(asking).buffered(AT_ONCE);
    let mut exit = Exit::Success;
    while let Some((key, answer)) = answers.next().await {
        let mut entry = if let Some(reply) = answer? {
            client.json(&reply)?
        } else {
            exit = Exit::NotFound;
            Value::Object(serde_json::Map::new())
        };
        let fields = entry.as_object_mut().ok_or_else(|| no_entry(&client))?;
        let is_there = fields.contains_key("value");
        fields.insert("key".to_owned(), key.clone().into());
        fields.insert("found".to_owned(), is_there.into());
        output::line(&entry.to_string())?;
    }
    Ok(exit)
}

/// Prints for how many seconds a key is fresh: `never` where it does not age.
pub(crate) async fn ttl(args: GetArgs, talk: Talk) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let why = client.json(&client.read(&path_of_why(&args.key)).await?)?;
    let tier = why["answer"].as_str().unwrap_or("miss");
    // A copy in memory may be replaced before its entry is over.
    let held = [&why["l2"], &why["l1"]].into_iter().find(|held| !held.is_null() && held["dead_by"].is_null());
    let (true, Some(held)) = (tier != "miss", held) else {
        talk.detail(format!("{} has no {:?}", client.base(), args.key));
        return Ok(Exit::NotFound);
    };
    if args.service.json {
        let known = serde_json::json!({ "key": args.key, "ttl": held["ttl"], "tier": tier });
        output::line(&known.to_string())?;
    } else {
        output::line(&held["ttl"].as_f64().map_or("never".to_owned(), |ttl| format!("{ttl:.3}")))?;
    }
    Ok(Exit::Success)
}

/// What is stored again of an entry.
#[derive(Deserialize)]
struct Kept<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
    #[serde(default)]
    tags: Vec<String>,
    encoding: Option<String>,
    content_type: Option<String>,
}

/// Gives what is kept of a key another TTL.
pub(crate) async fn touch(args: TouchArgs, talk: Talk) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let path = path_of_key(&args.key);
    for _ in 0..ATTEMPTS {
        let Some((tag, reply)) = client.read_tagged(&verbose(&path)).await? else {
            talk.detail(format!("{} has no {:?}", client.base(), args.key));
            return Ok(Exit::NotFound);
        };
        let body = kept_again(&reply, args.ttl).map_err(|_| no_entry(&client))?;
        if let Some(reply) = client.put_if_same(&path, &tag, body).await? {
            if args.service.json {
                output::line(&reply)?;
            }
            talk.say(format!("{:?} is fresh for {}", args.key, args.ttl));
            return Ok(Exit::Success);
        }
    }
    let what = format!("{:?} changed again and again while it was to get another TTL", args.key);
    Err(Failure::new(Exit::Failure, what).next("try again, or `set` it").into())
}

fn verbose(path: &str) -> String {
    format!("{path}{}verbose=true", if path.contains('?') { '&' } else { '?' })
}

/// The request that stores an entry again, with another TTL. The value goes back as it came, so that no number loses a digit.
fn kept_again(reply: &str, ttl: TtlSetting) -> anyhow::Result<String> {
    let kept: Kept<'_> = serde_json::from_str(reply)?;
    let mut body = format!("{{\"value\":{},\"ttl\":\"{ttl}\"", kept.value);
    for (name, text) in [("encoding", kept.encoding), ("content_type", kept.content_type)] {
        if let Some(text) = text {
            write!(body, ",\"{name}\":{}", Value::from(text))?;
        }
    }
    if !kept.tags.is_empty() {
        write!(body, ",\"tags\":{}", Value::from(kept.tags))?;
    }
    body.push('}');
    Ok(body)
}

fn no_entry(client: &Client) -> anyhow::Error {
    let what = format!("{} did not answer with an entry", client.base());
    Failure::new(Exit::Failure, what).next(IS_IT_TERRACE).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_goes_back_as_it_came() {
        let ttl: TtlSetting = "never".parse().expect("a TTL");
        let reply = r#"{"value":{"n": 1.10},"hit":true,"source":"l1","tags":["a\"b"],"ttl":5.0,"version":7}"#;
        assert_eq!(
            kept_again(reply, ttl).expect("an entry"),
            r#"{"value":{"n": 1.10},"ttl":"never","tags":["a\"b"]}"#
        );
        assert!(kept_again("{}", ttl).is_err());
        assert_eq!(verbose("/api/cache?key=metrics"), "/api/cache?key=metrics&verbose=true");
    }
}
