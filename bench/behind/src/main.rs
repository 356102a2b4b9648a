//! Write-behind: `cargo run --release -p terrace-bench-behind -- [rounds]`.
//!
//! 1. How many writes a second are acknowledged, against redb itself with as many records in each commit, on the same disk,
//!    in the same run.
//! 2. How many writes the origin is spared: a trace of writes whose keys follow Zipf's law goes through a journal, with time
//!    counted in writes, so that the figures do not depend on the machine.
//!
//! Deliberately absent: what is fast enough.

#![forbid(unsafe_code)]

mod coalescing;
mod commits;

use anyhow::Result;
use std::process::ExitCode;
use terrace_bench_harness::{machine, rounds};

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let rounds = match (arguments.next(), arguments.next()) {
        (None, _) => Some(rounds::DEFAULT),
        (Some(text), None) => text.parse().ok().filter(|&rounds: &usize| rounds > 0),
        _ => None,
    };
    let Some(rounds) = rounds else {
        eprintln!("usage: terrace-bench-behind [rounds]");
        return Ok(ExitCode::from(2));
    };
    println!("# Write-behind\n\nOn {}. {rounds} rounds.\n", machine::describe());
    commits::run(rounds)?;
    coalescing::run()?;
    Ok(ExitCode::SUCCESS)
}
