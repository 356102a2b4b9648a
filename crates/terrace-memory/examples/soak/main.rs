//! Hours of everything at once on one cache: `soak --minutes 60`. Ends with an error if it keeps more than it may.

mod run;

use run::{Sample, Settings, soak};
use std::process::ExitCode;
use std::time::Duration;

/// More than most machines of a developer have cores, so that threads are interrupted anywhere.
const THREADS: usize = 4;
/// Rows of the table, whatever the length.
const SAMPLES: u32 = 60;

fn minutes() -> Option<u64> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Some(60),
        ["--minutes", number] => number.parse().ok().filter(|minutes| *minutes > 0),
        _ => None,
    }
}

fn main() -> ExitCode {
    let Some(minutes) = minutes() else {
        eprintln!("usage: soak [--minutes N]");
        return ExitCode::FAILURE;
    };
    let lasts = Duration::from_mins(minutes);
    println!("{}", Sample::HEADER);
    let settings = Settings { lasts, interval: lasts / SAMPLES, threads: THREADS };
    match soak(settings, |sample| println!("{sample}")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("soak: {what}");
            ExitCode::FAILURE
        }
    }
}
