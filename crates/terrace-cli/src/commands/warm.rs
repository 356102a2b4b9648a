//! `warm`: many keys are loaded, or stored, before anybody asks for them.
//!
//! 1. A line that begins with `{` is an entry to store, any other a key to read. Empty lines are passed over.
//! 2. A line that fails is counted, and the first few are told; the others go on. Only a service that cannot be reached, or refuses
//!    this caller, ends it.
//! 3. A query has found all of its keys before the first is read: while the service works, nothing is open at the origin. They wait in a
//!    file without a name. A row that makes no key counts as a line that fails.

use crate::args::{FileArgs, WarmArgs};
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
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::path::Path;
use terrace_server::config::Config;
use terrace_server::origin::{KeysError, each_key};

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

/// What is to be done, one after the other, and how much that is.
struct Asked {
    lines: Box<dyn Iterator<Item = io::Result<Line>>>,
    count: u64,
}

/// One thing to do.
enum Line {
    /// As somebody wrote it.
    Written(String),
    /// A key that a query found.
    Key(String),
}

/// Loads or stores many keys.
pub(crate) async fn warm(args: WarmArgs, talk: Talk) -> anyhow::Result<Exit> {
    let client = Client::new(&args.service)?;
    let mut counts = Counts::default();
    let asked = match (args.sql, args.keyspace, args.file) {
        (Some(sql), Some(keyspace), _) => found(args.config, &keyspace, &sql, &mut counts).await?,
        (_, _, file) => written(file.as_deref().unwrap_or(Path::new("-")))?,
    };
    let is_shown = output::is_talk_watched() && talk > Talk::Quiet;
    let bar = if is_shown { ProgressBar::new(asked.count) } else { ProgressBar::hidden() };
    let working = asked.lines.map(|line| {
        let client = &client;
        async move {
            let line = line?;
            let done = one(client, &line).await;
            Ok::<_, io::Error>((line, done))
        }
    });
    let mut working = stream::iter(working).buffer_unordered(usize::from(args.concurrency));
    while let Some(worked) = working.next().await {
        bar.inc(1);
        let (line, done) = worked?;
        match done {
            Ok(Done::Stored) => counts.stored += 1,
            Ok(Done::Read) => counts.read += 1,
            Ok(Done::Missing) => counts.missing += 1,
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => counts.fail(line.text(), &reasons(error.as_ref())),
        }
    }
    bar.finish_and_clear();
    counts.report(args.service.json, talk)
}

impl Line {
    fn text(&self) -> &str {
        let (Self::Written(text) | Self::Key(text)) = self;
        text
    }
}

impl Counts {
    fn fail(&mut self, what: &str, reason: &str) {
        self.failed += 1;
        if self.failed <= TOLD_MAX {
            eprintln!("not done: {}: {}", words::printable(what), words::printable(reason));
        }
    }

    fn report(&self, is_json: bool, talk: Talk) -> anyhow::Result<Exit> {
        let Self { stored, read, missing, failed } = *self;
        if is_json {
            let counts = json!({ "stored": stored, "read": read, "missing": missing, "failed": failed });
            output::line(&counts.to_string())?;
        } else {
            let [stored, read, missing, failed] = [stored, read, missing, failed].map(words::count);
            talk.say(format!("{stored} stored, {read} read, {missing} that nobody has, {failed} failed"));
        }
        Ok(if failed == 0 { Exit::Success } else { Exit::Failure })
    }
}

/// Whether all other lines would fail in the same way.
fn is_final(error: &anyhow::Error) -> bool {
    let exit = error.downcast_ref::<Failure>().map(Failure::exit);
    matches!(exit, Some(Exit::Unavailable | Exit::Denied))
}

/// The lines of a file.
fn written(file: &Path) -> anyhow::Result<Asked> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().read_to_string(&mut text)
    } else {
        File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| Failure::unreadable(file, &error))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<String> = lines.map(str::to_owned).collect();
    let count = lines.len() as u64;
    Ok(Asked { lines: Box::new(lines.into_iter().map(|line| Ok(Line::Written(line)))), count })
}

/// The keys that a query finds. They wait in a file, each as JSON, so that none is taken for two lines.
async fn found(config: FileArgs, keyspace: &str, sql: &str, counts: &mut Counts) -> anyhow::Result<Asked> {
    let config = super::serve::load(&super::check::sources(config.config)?)?;
    let mut keys = BufWriter::new(tempfile::tempfile()?);
    let mut count = 0;
    let asked = each_key(&config, keyspace, sql, |key| {
        match key {
            Ok(key) => {
                serde_json::to_writer(&mut keys, &key)?;
                keys.write_all(b"\n")?;
                count += 1;
            }
            Err(error) => counts.fail(&format!("row {}", error.row), &error.reason),
        }
        Ok(())
    });
    asked.await.map_err(|error| refused(&error, keyspace, &config))?;
    let mut keys = keys.into_inner().map_err(io::IntoInnerError::into_error)?;
    keys.rewind()?;
    let key = |line: io::Result<String>| Ok(Line::Key(serde_json::from_str(&line?)?));
    Ok(Asked { lines: Box::new(BufReader::new(keys).lines().map(key)), count })
}

/// What a query that brought no keys is called.
fn refused(error: &KeysError, keyspace: &str, config: &Config) -> Failure {
    let names: Vec<&str> = config.keyspaces.keys().map(String::as_str).collect();
    let (exit, next) = match error {
        KeysError::NoKeyspace(_) if names.is_empty() => {
            (Exit::NotFound, "give the configuration of the service: -c FILE".to_owned())
        }
        KeysError::NoKeyspace(_) => (Exit::NotFound, format!("it has {}", names.join(", "))),
        KeysError::NoDatabase(_) => (Exit::Usage, "give the keys: terrace warm FILE".to_owned()),
        KeysError::Sql(_) | KeysError::Query(_) => {
            (Exit::Usage, format!("terrace config show: the pattern of `keyspace.{keyspace}` says how"))
        }
        error if error.is_denied() => (Exit::Denied, "terrace doctor says what is wrong".to_owned()),
        error if error.is_unanswered() => (Exit::Unavailable, "terrace doctor says what is wrong".to_owned()),
        _ => (Exit::Failure, "see what the origin says, and whether it has what the query names".to_owned()),
    };
    Failure::new(exit, format!("no keys of `{keyspace}` were found by the query")).why(error).next(next)
}

async fn one(client: &Client, line: &Line) -> anyhow::Result<Done> {
    let text = line.text();
    if matches!(line, Line::Written(_)) && text.starts_with('{') {
        let (key, body) = entry(text)?;
        client.send(Method::PUT, &path_of_key(&key), body).await?;
        return Ok(Done::Stored);
    }
    let found = client.ask(Method::GET, &path_of_key(text)).await?;
    Ok(found.map_or(Done::Missing, |_| Done::Read))
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
