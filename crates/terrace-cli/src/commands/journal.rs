//! `journal inspect`: what a journal's file holds, while no service has it open.
//!
//! 1. The file keeps its bytes, also if its service was killed: what has to be mended for reading is mended in memory.
//! 2. Keys are bytes that anybody may have chosen, and reasons are words of an origin: none reaches a terminal as an order. Values are
//!    not shown.

use crate::args::{InspectArgs, JournalArgs, JournalVerb};
use crate::failure::{Exit, Failure};
use crate::output::{self, Talk};
use crate::runtime;
use crate::words;
use comfy_table::CellAlignment;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::time::{Duration, SystemTime};
use terrace::behind::{Inspected, Journal, OpenError, Write};

/// Looks into a journal.
pub(crate) fn journal(args: JournalArgs, talk: Talk) -> anyhow::Result<Exit> {
    let JournalVerb::Inspect(args) = args.what;
    let found = read(&args)?;
    if args.writes { list(&args, &found, talk) } else { count(&args, &found) }
}

fn read(args: &InspectArgs) -> anyhow::Result<Inspected> {
    let file = args.file.display();
    File::open(&args.file).map_err(|error| {
        Failure::unreadable(&args.file, &error)
            .next("`write_behind.path` of the configuration says where it is")
    })?;
    let found = Journal::inspect(&args.file).map_err(|error| {
        let (exit, next) = match &error {
            OpenError::InUse { .. } => {
                (Exit::Unavailable, "if a service has it open, ask that: `terrace queue ls`")
            }
            OpenError::Io { error, .. } => (Exit::of_file(error), "see that it can be read"),
            _ => (Exit::Failure, "`write_behind.path` of the configuration says where the journal is"),
        };
        Failure::new(exit, format!("the journal at {file} cannot be read")).why(error).next(next)
    })?;
    Ok(found)
}

/// What a journal has of one keyspace.
#[derive(Default)]
struct Count {
    pending: u64,
    pending_bytes: u64,
    dead: u64,
}

/// Prints a line for each keyspace.
fn count(args: &InspectArgs, found: &Inspected) -> anyhow::Result<Exit> {
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    for write in &found.pending {
        let count = counts.entry(&write.keyspace).or_default();
        count.pending += 1;
        count.pending_bytes += write.weight() as u64;
    }
    for letter in &found.dead {
        counts.entry(&letter.write.keyspace).or_default().dead += 1;
    }
    if args.json {
        for (keyspace, count) in &counts {
            let line = json!({ "keyspace": keyspace, "pending": count.pending, "pending_bytes": count.pending_bytes, "dead": count.dead });
            output::line(&words::json(&line))?;
        }
        return Ok(Exit::Success);
    }
    if counts.is_empty() {
        output::line("nothing waits, and nothing was given up")?;
        return Ok(Exit::Success);
    }
    let rows = counts.into_iter().map(|(keyspace, count)| {
        let bytes = words::bytes(count.pending_bytes);
        vec![
            words::on_a_line(keyspace.as_bytes()),
            words::count(count.pending),
            bytes,
            words::count(count.dead),
        ]
    });
    output::line(&words::table(&["keyspace", "waiting", "bytes", "dead letters"], 1, rows).to_string())?;
    Ok(Exit::Success)
}

/// A write, and why it was given up if it was.
type Listed<'a> = (&'a Write, Option<(&'a str, bool)>);

/// Prints a line for each write.
fn list(args: &InspectArgs, found: &Inspected, talk: Talk) -> anyhow::Result<Exit> {
    let pending = found.pending.iter().map(|write| (write, None));
    let dead = found.dead.iter().map(|letter| (&letter.write, Some((&*letter.reason, letter.is_overtaken))));
    let is_asked = |write: &Write| args.keyspace.as_deref().is_none_or(|name| name == &*write.keyspace);
    let mut listed: Vec<Listed<'_>> = pending.chain(dead).filter(|(write, _)| is_asked(write)).collect();
    if let Some(keyspace) = args.keyspace.as_deref().filter(|_| listed.is_empty()) {
        return Err(Failure::new(Exit::NotFound, format!("the journal has no write of {keyspace:?}"))
            .next("without --writes: the keyspaces that it has any of")
            .into());
    }
    listed.retain(|(_, letter)| letter.is_some() || !args.dead);
    let all = listed.len();
    listed.truncate(usize::from(args.limit));
    let now = SystemTime::UNIX_EPOCH + runtime::since_epoch();
    if args.json {
        for listed in &listed {
            output::line(&words::json(&object(listed, now)))?;
        }
    } else if listed.is_empty() {
        output::line(if args.dead {
            "nothing was given up"
        } else {
            "nothing waits, and nothing was given up"
        })?;
    } else {
        output::line(&table(&listed, now))?;
    }
    if all > listed.len() {
        let (shown, all) = (words::count(listed.len() as u64), words::count(all as u64));
        talk.say(format!("the first {shown} of {all}; --limit says how many"));
    }
    Ok(Exit::Success)
}

/// How long ago it was taken, by the clock of this machine.
fn age(write: &Write, now: SystemTime) -> Option<Duration> {
    write.taken_at().map(|taken| now.duration_since(taken).unwrap_or_default())
}

fn operation(write: &Write) -> (&'static str, Option<u64>) {
    match write.operation.value() {
        Some(value) => ("store", Some(value.len() as u64)),
        None => ("delete", None),
    }
}

fn object((write, letter): &Listed<'_>, now: SystemTime) -> Value {
    let (operation, bytes) = operation(write);
    let mut object = json!({
        "keyspace": &*write.keyspace,
        "key": String::from_utf8_lossy(&write.key),
        "write_id": write.id.to_string(),
        "operation": operation,
        "bytes": bytes,
        "age_seconds": age(write, now).map(|age| age.as_secs_f64()),
        "attempts": write.attempt,
        "state": if letter.is_some() { "dead" } else { "waiting" },
    });
    if let Some((reason, is_overtaken)) = letter {
        object["reason"] = (*reason).into();
        object["overtaken"] = (*is_overtaken).into();
    }
    object
}

fn table(listed: &[Listed<'_>], now: SystemTime) -> String {
    let rows = listed.iter().map(|(write, letter)| {
        let (operation, bytes) = operation(write);
        vec![
            words::on_a_line(write.keyspace.as_bytes()),
            words::on_a_line(&write.key),
            operation.to_owned(),
            bytes.map_or_else(|| "-".to_owned(), words::bytes),
            age(write, now).map_or_else(|| "-".to_owned(), words::age),
            words::count(write.attempt.into()),
            letter.map_or_else(String::new, |(reason, _)| words::on_a_line(reason.as_bytes())),
        ]
    });
    let header = ["keyspace", "key", "operation", "bytes", "age", "attempts", "given up because"];
    let mut table = words::table(&header, 3, rows);
    if let Some(column) = table.column_mut(6) {
        column.set_cell_alignment(CellAlignment::Left);
    }
    table.to_string()
}
