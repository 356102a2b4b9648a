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
    let client = Client::new(&args.service.url)?;
    if let Some(pattern) = &args.pattern
        && !is_agreed(&args, pattern, client.base())?
    {
        talk.say("nothing was invalidated");
        return Ok(Exit::Failure);
    }
    let mut total = 0;
    for body in bodies(&args) {
        let reply = client.send(Method::POST, PATH, body).await?;
        if args.service.json {
            output::line(&reply)?;
        }
        total += client.json(&reply)?.get("invalidated").and_then(Value::as_u64).unwrap_or(0);
    }
    if !args.service.json {
        talk.say(format!("invalidated {}", words::count(total)));
    }
    Ok(Exit::Success)
}

/// Whether a pattern may go ahead.
fn is_agreed(args: &InvalidateArgs, pattern: &str, service: &str) -> anyhow::Result<bool> {
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
    output::ask(&format!("Invalidate every key of {service} that matches {pattern:?}?"))
}

fn matches_everything(pattern: &str) -> bool {
    pattern.contains('*') && pattern.bytes().all(|byte| matches!(byte, b'*' | b'?'))
}

/// One request per way of naming entries: the service takes one at a time.
fn bodies(args: &InvalidateArgs) -> Vec<String> {
    let mut bodies = Vec::new();
    let mut add = |name: &str, what: Value| {
        bodies.push(Value::Object(Map::from_iter([(name.to_owned(), what)])).to_string());
    };
    if !args.keys.is_empty() {
        add("keys", args.keys.clone().into());
    }
    if let Some(pattern) = &args.pattern {
        add("pattern", pattern.clone().into());
    }
    if !args.tags.is_empty() {
        add("tags", args.tags.clone().into());
    }
    bodies
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Verb};
    use clap::Parser as _;

    fn args(line: &[&str]) -> InvalidateArgs {
        let Verb::Invalidate(args) = Cli::parse_from(["terrace", "invalidate"].iter().chain(line)).verb
        else {
            panic!("not an invalidation")
        };
        args
    }

    #[test]
    fn each_way_of_naming_is_one_request() {
        let args = args(&["--key", "a", "--key", "b", "--pattern", "user:*", "--tag", "org:7"]);
        let expected = [r#"{"keys":["a","b"]}"#, r#"{"pattern":"user:*"}"#, r#"{"tags":["org:7"]}"#];
        assert_eq!(bodies(&args), expected);
    }

    #[test]
    fn everything_needs_to_be_said_twice() {
        for pattern in ["*", "**", "?*"] {
            assert!(is_agreed(&args(&["--pattern", pattern, "--yes"]), pattern, "x").is_err());
            assert!(is_agreed(&args(&["--pattern", pattern, "--yes", "--all"]), pattern, "x").unwrap());
        }
        assert!(is_agreed(&args(&["--pattern", "u*", "--yes"]), "u*", "x").unwrap());
    }
}
