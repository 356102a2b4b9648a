//! `journal inspect`: what a journal's file holds, while no service has it open.
//!
//! Reading a journal repairs what a crash left half written, as the next start of its service would.

use crate::args::{InspectArgs, JournalArgs, JournalVerb};
use crate::failure::{Exit, Failure};
use crate::output;
use crate::words;
use serde_json::json;
use std::fs::File;
use terrace::behind::{Journal, JournalOptions, OpenError};

/// Looks into a journal.
pub(crate) fn journal(args: JournalArgs) -> anyhow::Result<Exit> {
    let JournalVerb::Inspect(args) = args.what;
    inspect(&args)
}

fn inspect(args: &InspectArgs) -> anyhow::Result<Exit> {
    let file = args.file.display();
    File::open(&args.file).map_err(|error| {
        Failure::unreadable(&args.file, &error)
            .next("`write_behind.path` of the configuration says where it is")
    })?;
    let journal = Journal::open(&args.file, JournalOptions::default()).map_err(|error| {
        let (exit, next) = match &error {
            OpenError::InUse { .. } => {
                (Exit::Unavailable, "if a service has it open, ask that: `terrace queue ls`")
            }
            OpenError::Io { error, .. } => (Exit::of_file(error), "see that it can be read and written"),
            _ => (Exit::Failure, "`write_behind.path` of the configuration says where the journal is"),
        };
        Failure::new(exit, format!("the journal at {file} cannot be read")).why(error).next(next)
    })?;
    let figures = journal.figures();
    let mut rows = Vec::new();
    for (keyspace, lane) in &figures.lanes {
        if args.json {
            let lane = json!({ "keyspace": keyspace, "pending": lane.pending, "pending_bytes": lane.pending_bytes, "dead": lane.dead_letters });
            output::line(&lane.to_string())?;
        }
        let (count, bytes) = (words::count(lane.pending), words::bytes(lane.pending_bytes));
        rows.push(vec![words::printable(keyspace), count, bytes, words::count(lane.dead_letters)]);
    }
    if !args.json {
        if rows.is_empty() {
            output::line("nothing waits, and nothing was given up")?;
        } else {
            output::line(
                &words::table(&["keyspace", "waiting", "bytes", "dead letters"], 1, rows).to_string(),
            )?;
        }
    }
    Ok(Exit::Success)
}
