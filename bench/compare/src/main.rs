//! The program that measures and reports; see the library.

#![forbid(unsafe_code)]

use anyhow::Result;
use std::process::ExitCode;
use terrace_bench_compare::contenders::{ALL, OURS};
use terrace_bench_compare::{counts, report, speed, tail, targets};
use terrace_bench_harness::machine;
use terrace_bench_harness::workload::Scale;

/// Short ones, so many of them.
const ROUNDS: usize = 25;

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let rounds = match arguments.next() {
        None => Some(ROUNDS),
        Some(text) => text.parse().ok().filter(|rounds| *rounds > 0),
    };
    let (Some(rounds), None) = (rounds, arguments.next()) else {
        eprintln!("usage: terrace-bench-compare [rounds]");
        return Ok(ExitCode::from(2));
    };
    println!("# The engine of L1 against other caches\n");
    println!("On {}. {rounds} rounds. What is measured, and how: bench/README.md.\n", machine::describe());
    counts::build()?;
    let counted: Result<Vec<_>> =
        ALL.iter().map(|contender| Ok((contender.name, counts::of(contender.name)?))).collect();
    let counted = counted?;
    let speed = speed::measure(Scale::FULL, rounds)?;
    let tail = tail::measure(Scale::FULL, rounds)?;
    report::side_by_side(&speed, &tail, &counted);
    report::details(&speed, &tail);
    let ours = counted.iter().find(|(name, _)| *name == OURS).map(|(_, counts)| *counts);
    println!("## Targets\n\n{}", targets::table(&[speed, tail].concat(), ours));
    println!("Hit ratios: `cargo run --release -p terrace-bench-traces -- TRACE.k64.zst …`.");
    Ok(ExitCode::SUCCESS)
}
