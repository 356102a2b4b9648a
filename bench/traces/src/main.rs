//! Hit ratios on recorded requests:
//! `cargo run --release -p terrace-bench-traces -- [--bytes] TRACE.k64.zst …`.
//!
//! 1. One thread reads all requests of a trace through each engine; a miss is followed by an insert. Nothing is left out
//!    for warming up.
//! 2. Sizes are shares of the distinct keys (with `--bytes`, of the sum of their sizes). A size for fewer than 16 entries
//!    is skipped: there, chance decides.
//! 3. The bounds and the simple policies are simulations of ours: the optimum, FIFO and LRU.
//!
//! Deliberately absent: the traces. They are other people's; README.md tells the format.

#![forbid(unsafe_code)]

mod engines;
mod replay;
mod simulations;
mod summary;
mod trace;

#[cfg(test)]
mod tests;

use anyhow::Result;
use std::path::PathBuf;
use std::process::ExitCode;
use trace::Trace;

fn main() -> Result<ExitCode> {
    let Some((by_bytes, files)) = parse(std::env::args().skip(1)) else {
        eprintln!("usage: terrace-bench-traces [--bytes] TRACE.k64.zst …");
        return Ok(ExitCode::from(2));
    };
    println!("# Hit ratios on recorded requests\n");
    let engines = engines::all();
    summary::begin_cells(&engines);
    let mut cells = Vec::new();
    for file in files {
        let trace = Trace::read(&file, by_bytes)?;
        eprintln!("{}: {} requests, {} keys", trace.name, trace.requests.len(), trace.keys);
        for cell in replay::cells(&trace, &engines)? {
            summary::print_cell(&cell);
            cells.push(cell);
        }
    }
    println!("\n{}", summary::table(&engines, &cells));
    println!("{}", summary::targets(&engines, &cells));
    Ok(ExitCode::SUCCESS)
}

/// Whether sizes of objects count, and the traces.
fn parse(arguments: impl Iterator<Item = String>) -> Option<(bool, Vec<PathBuf>)> {
    let (flags, files): (Vec<String>, Vec<String>) =
        arguments.partition(|argument| argument.starts_with("--"));
    let is_known = flags.iter().all(|flag| flag == "--bytes");
    (is_known && !files.is_empty())
        .then(|| (!flags.is_empty(), files.into_iter().map(PathBuf::from).collect()))
}
