//! terrace against its peers: `cargo run --release -p terrace-bench -- l1 | l2 | http | all`.
//!
//! 1. What is compared runs in one process, in turn, many times: a slow moment of the machine hits all of it.
//! 2. Each table gives medians with their spread, and the ratio to the first row, taken round by round.
//! 3. Standard output is the report, in Markdown; progress goes to standard error.
//!
//! Deliberately absent: what is fast enough. This measures, and says what it measured.

mod http;
mod l1;
mod l2;
mod machine;
mod rounds;
mod table;
mod timing;

use anyhow::{Result, bail};

const USAGE: &str = "usage: terrace-bench l1 | l2 | http | all [rounds]";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(what) = arguments.next() else { bail!(USAGE) };
    let rounds = match arguments.next() {
        Some(text) => text.parse()?,
        None => rounds::DEFAULT,
    };
    println!(
        "# Results\n\nOn {}. {rounds} rounds. What is measured, and how: README.md.\n",
        machine::describe()
    );
    match what.as_str() {
        "l1" => l1::run(rounds)?,
        "l2" => l2::run(rounds)?,
        "http" => http::run(rounds)?,
        "all" => {
            l1::run(rounds)?;
            l2::run(rounds)?;
            http::run(rounds)?;
        }
        _ => bail!(USAGE),
    }
    Ok(())
}
