//! `invalidate`: what a running service holds is no longer true.
//!
//! 1. A pattern is asked about first; where nobody can answer, `--yes` must be given. A pattern that matches every
//!    key also needs `--all`.
//! 2. Keys and tags are named one by one, so they are not asked about.

use crate::args::InvalidateArgs;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{self, Talk};
use crate::words;
use reqwest::Method;
use serde_json::{Map, Value};

const PATH: &str = "/api/cache/invalidate";

/// Invalidates by key, pattern and tag.
pub(crate) async fn invalidate(args: InvalidateArgs, talk: Talk) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    if let Some(pattern) = args.pattern.as_ref().filter(|_| !args.dry_run)
        && !is_agreed(&args, pattern, &client).await?
    {
        talk.say("nothing was invalidated");
        return Ok(Exit::Failure);
    }
    let reply = client.send(Method::POST, PATH, body(&args)).await?;
    if args.service.json {
        output::line(&reply)?;
    } else if args.dry_run {
        talk.say(preview(&client.json(&reply)?));
    } else if args.after.is_some() {
        talk.say("noted");
    } else {
        let count = client.json(&reply)?.get("invalidated").and_then(Value::as_u64).unwrap_or(0);
        talk.say(format!("invalidated {}", words::count(count)));
    }
    Ok(Exit::Success)
}

/// What a dry run says, in words.
fn preview(reply: &Value) -> String {
    let matched = reply.get("matched").and_then(Value::as_u64).unwrap_or(0);
    let at_least = if reply.get("exact").and_then(Value::as_bool) == Some(true) { "" } else { "at least " };
    let sample =
        reply.get("sample").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let sample: Vec<String> = sample.map(|key| format!("{key:?}")).collect();
    let among = if sample.is_empty() { String::new() } else { format!(", among them {}", sample.join(", ")) };
    format!("{at_least}{} would be invalidated{among}", words::count(matched))
}

/// Whether a pattern may go ahead.
async fn is_agreed(args: &InvalidateArgs, pattern: &str, client: &Client) -> anyhow::Result<bool> {
    let service = client.base();
    if matches_everything(pattern) && !args.all {
        return Err(Failure::usage(format!("{pattern:?} matches every key of {service}"))
            .next("add --all if that is what you mean")
            .into());
    }
    if args.yes {
        return Ok(true);
    }
    if !output::can_ask() {
        return Err(Failure::usage(format!(
            "a pattern needs a yes, and nobody is here to give it: {pattern:?}"
        ))
        .next("add --yes")
        .into());
    }
    let looked =
        InvalidateArgs { dry_run: true, after: None, keys: Vec::new(), tags: Vec::new(), ..args.clone() };
    let preview = preview(&client.json(&client.send(Method::POST, PATH, body(&looked)).await?)?);
    output::ask(&format!("Invalidate every key of {service} that matches {pattern:?}? {preview}."))
}

fn matches_everything(pattern: &str) -> bool {
    pattern.contains('*') && pattern.bytes().all(|byte| matches!(byte, b'*' | b'?'))
}

/// The request's body: everything that was named.
fn body(args: &InvalidateArgs) -> String {
    let mut named = Map::new();
    if !args.keys.is_empty() {
        named.insert("keys".to_owned(), args.keys.clone().into());
    }
    if let Some(pattern) = &args.pattern {
        named.insert("pattern".to_owned(), pattern.clone().into());
    }
    if !args.tags.is_empty() {
        named.insert("tags".to_owned(), args.tags.clone().into());
    }
    if args.dry_run {
        named.insert("dry_run".to_owned(), true.into());
    }
    if let Some(delay) = &args.after {
        named.insert("delay".to_owned(), delay.clone().into());
    }
    Value::Object(named).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, TlsArgs, Verb};
    use clap::Parser as _;

    fn args(line: &[&str]) -> InvalidateArgs {
        let Verb::Invalidate(args) = Cli::parse_from(["terrace", "invalidate"].iter().chain(line)).verb
        else {
            panic!("not an invalidation")
        };
        args
    }

    #[test]
    fn everything_that_was_named_is_sent() {
        let all = args(&["--key", "a", "--key", "b", "--pattern", "user:*", "--tag", "org:7"]);
        assert_eq!(body(&all), r#"{"keys":["a","b"],"pattern":"user:*","tags":["org:7"]}"#);
        assert_eq!(body(&args(&["--key", "a"])), r#"{"keys":["a"]}"#);
        assert_eq!(body(&args(&["--key", "a", "--dry-run"])), r#"{"dry_run":true,"keys":["a"]}"#);
        assert_eq!(body(&args(&["--key", "a", "--after", "5s"])), r#"{"delay":"5s","keys":["a"]}"#);
    }

    #[test]
    fn a_dry_run_is_told_in_words() {
        let reply = serde_json::json!({ "matched": 2, "exact": false, "sample": ["a", "b"] });
        assert_eq!(preview(&reply), "at least 2 would be invalidated, among them \"a\", \"b\"");
        assert_eq!(preview(&serde_json::json!({ "matched": 0, "exact": true })), "0 would be invalidated");
    }

    #[tokio::test]
    async fn everything_needs_to_be_said_twice() {
        // Another test of this process may have been first.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = Client::at("http://127.0.0.1:1", &TlsArgs::default()).expect("a URL");
        for pattern in ["*", "**", "?*"] {
            assert!(is_agreed(&args(&["--pattern", pattern, "--yes"]), pattern, &client).await.is_err());
            assert!(
                is_agreed(&args(&["--pattern", pattern, "--yes", "--all"]), pattern, &client).await.unwrap()
            );
        }
        assert!(is_agreed(&args(&["--pattern", "u*", "--yes"]), "u*", &client).await.unwrap());
    }
}
