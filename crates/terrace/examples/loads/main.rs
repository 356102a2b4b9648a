//! A million loads that fail, panic, hang and are given up: `loads --calls 1000000 --seed 1`. Ends with an error if any of them
//! leaves something behind. In real time, on two threads.

#[path = "../../tests/it/jitter.rs"]
mod jitter;
mod resident;
mod run;
#[path = "../../tests/it/wrapped.rs"]
mod wrapped;

use run::{Settings, Tiers, run};
use std::process::ExitCode;
use std::time::Duration;
use terrace::Clock;

/// Calls at a time.
const CALLERS: u64 = 256;
/// How much later than it has to a call may end on a busy machine.
const LATE_MAX: Duration = Duration::from_secs(1);

/// How many calls, and from which seed.
fn arguments() -> Option<(u64, u64)> {
    let (mut calls, mut seed) = (1_000_000, 1);
    let words: Vec<String> = std::env::args().skip(1).collect();
    for pair in words.chunks(2) {
        match pair {
            [name, number] if name == "--calls" => calls = number.parse().ok().filter(|calls| *calls > 0)?,
            [name, number] if name == "--seed" => seed = number.parse().ok()?,
            _ => return None,
        }
    }
    Some((calls, seed))
}

fn main() -> ExitCode {
    let Some((calls, seed)) = arguments() else {
        eprintln!("usage: loads [--calls N] [--seed N]");
        return ExitCode::FAILURE;
    };
    for tiers in [Tiers::Memory, Tiers::Both, Tiers::Fleet] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let settings =
            Settings { calls, callers: CALLERS, seed, tiers, clock: Clock::system(), late_max: LATE_MAX };
        let figures = runtime.expect("a runtime can be made").block_on(run(settings));
        println!("{figures}");
        if let Err(what) = figures.judge() {
            eprintln!("loads: {what}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
