//! `warm`: many keys are loaded, or stored, before anybody asks for them.
//!
//! 1. A line that begins with `{` is an entry to store, any other a key to read. Empty lines are passed over.
//! 2. A line that fails is counted, and the first few are told; the others go on. Only a service that cannot be reached, or refuses
//!    this caller, ends it.

use crate::args::WarmArgs;
use crate::client::{Client, path_of_key};
use crate::failure::{Exit, Failure, reasons};
use crate::output::{self, Talk};
use crate::words;
use futures_util::stream::{self, StreamExt as _};
use indicatif::ProgressBar;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::io::Read as _;
use std::path::Path;

/// Failures that are told in words.
const TOLD_MAX: u64 = 5;

/// An entry to store.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given<'a> {
    key: String,
    #[serde(borrow)]
    value: &'a RawValue,
    #[serde(borrow)]
    ttl: Option<&'a RawValue>,
    #[serde(borrow)]
    tags: Option<&'a RawValue>,
}

/// What came of a line.
enum Done {
    Stored,
    Read,
    /// Neither a tier nor an origin has it.
    Missing,
}

/// Counts of what was done.
#[derive(Default)]
struct Counts {
    stored: u64,
    read: u64,
    missing: u64,
    failed: u64,
}

/// Loads or stores many keys.
pub(crate) async fn warm(args: WarmArgs, talk: Talk) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service.url)?;
    let text = text(&args.file)?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let is_shown = output::is_talk_watched() && talk > Talk::Quiet;
    let bar = if is_shown { ProgressBar::new(lines.len() as u64) } else { ProgressBar::hidden() };
    let working = lines.into_iter().map(|line| {
        let client = &client;
        async move { (line, one(client, line).await) }
    });
    let mut working = stream::iter(working).buffer_unordered(usize::from(args.concurrency));
    let mut counts = Counts::default();
    while let Some((line, done)) = working.next().await {
        bar.inc(1);
        match done {
            Ok(Done::Stored) => counts.stored += 1,
            Ok(Done::Read) => counts.read += 1,
            Ok(Done::Missing) => counts.missing += 1,
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => {
                counts.failed += 1;
                if counts.failed <= TOLD_MAX {
                    eprintln!("not done: {}: {}", words::printable(line), reasons(error.as_ref()));
                }
            }
        }
    }
    bar.finish_and_clear();
    let Counts { stored, read, missing, failed } = counts;
    if args.service.json {
        let counts = json!({ "stored": stored, "read": read, "missing": missing, "failed": failed });
        output::line(&counts.to_string())?;
    } else {
        let [stored, read, missing, failed] = [stored, read, missing, failed].map(words::count);
        talk.say(format!("{stored} stored, {read} read, {missing} that nobody has, {failed} failed"));
    }
    Ok(if failed == 0 { Exit::Success } else { Exit::Failure })
}

/// Whether all other lines would fail in the same way.
fn is_final(error: &anyhow::Error) -> bool {
    let exit = error.downcast_ref::<Failure>().map(Failure::exit);
    matches!(exit, Some(Exit::Unavailable | Exit::Denied))
}

fn text(file: &Path) -> anyhow::Result<String> {
    let read = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let cannot = |error| Failure::unreadable(file, &error);
    Ok(read.map_err(cannot)?)
}

async fn one(client: &Client, line: &str) -> anyhow::Result<Done> {
    if !line.starts_with('{') {
        let found = client.ask(Method::GET, &path_of_key(line)).await?;
        return Ok(found.map_or(Done::Missing, |_| Done::Read));
    }
    let (key, body) = entry(line)?;
    client.send(Method::PUT, &path_of_key(&key), body).await?;
    Ok(Done::Stored)
}

/// The key of an entry, and the request that stores it. Values go in as they were written.
fn entry(line: &str) -> anyhow::Result<(String, String)> {
    let given: Given<'_> = serde_json::from_str(line)?;
    let mut body = format!("{{\"value\":{}", given.value);
    for (name, value) in [("ttl", given.ttl), ("tags", given.tags)] {
        if let Some(value) = value {
            body.extend([",\"", name, "\":", value.get()]);
        }
    }
    body.push('}');
    Ok((given.key, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_goes_in_as_it_was_written() {
        let (key, body) =
            entry(r#"{"key":"a","value":{"n": 1.10},"ttl":"5m","tags":["t"]}"#).expect("an entry");
        assert_eq!((key.as_str(), body.as_str()), ("a", r#"{"value":{"n": 1.10},"ttl":"5m","tags":["t"]}"#));
        for wrong in [r#"{"key":"a"}"#, r#"{"key":"a","value":1,"tll":5}"#, "{"] {
            assert!(entry(wrong).is_err(), "{wrong}");
        }
    }
}
