//! terrace against its peers: `cargo run --release -p terrace-bench -- PART | all`.
//!
//! 1. What is compared runs in one process, in turn, many times: a slow moment of the machine hits all of it.
//! 2. Each table gives medians with their spread, and the ratio to the first row, taken round by round.
//! 3. Standard output is the report, in Markdown; progress goes to standard error.
//!
//! Deliberately absent: what is fast enough. This measures, and says what it measured.

#![forbid(unsafe_code)]

mod ahead;
mod http;
mod l1;
mod l2;
mod large;
mod load;
mod many;
mod slow;
mod stalls;
mod tasks;

use anyhow::Result;
use std::process::ExitCode;
use terrace_bench_harness::{machine, rounds};

/// What the service allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One part of the report: measures so many rounds and prints its tables.
type Part = fn(usize) -> Result<()>;

fn main() -> Result<ExitCode> {
    let Some((parts, rounds)) = parse(std::env::args().skip(1)) else {
        eprintln!(
            "usage: terrace-bench l1 | l2 | http | many | load | ahead | large | slow | stalls | all [rounds]"
        );
        return Ok(ExitCode::from(2));
    };
    println!(
        "# Results\n\nOn {}. {rounds} rounds. What is measured, and how: README.md.\n",
        machine::describe()
    );
    for part in parts {
        part(rounds)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<(Vec<Part>, usize)> {
    let parts: Vec<Part> = match arguments.next()?.as_str() {
        "l1" => vec![l1::run],
        "l2" => vec![l2::run],
        "http" => vec![http::run],
        "many" => vec![many::run],
        "load" => vec![load::run],
        "ahead" => vec![ahead::run],
        "large" => vec![large::run],
        "slow" => vec![slow::run],
        "stalls" => vec![stalls::run],
        "all" => vec![l1::run, l2::run, http::run],
        _ => return None,
    };
    let rounds = match arguments.next() {
        None => rounds::DEFAULT,
        Some(text) => text.parse().ok().filter(|&rounds| rounds > 0)?,
    };
    arguments.next().is_none().then_some((parts, rounds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Option<(usize, usize)> {
        let parsed = parse(arguments.iter().map(|&argument| argument.to_owned()));
        parsed.map(|(parts, rounds)| (parts.len(), rounds))
    }

    #[test]
    fn one_part_or_all_of_them_in_so_many_rounds() {
        assert_eq!(parsed(&["l1"]), Some((1, rounds::DEFAULT)));
        assert_eq!(parsed(&["all", "3"]), Some((3, 3)));
        for wrong in [&[][..], &["l3"], &["l1", "0"], &["l1", "many"], &["l1", "3", "4"]] {
            assert_eq!(parsed(wrong), None, "{wrong:?}");
        }
    }
}
