//! `cargo xtask sim`: seeds, or mutants, as many as one likes.

#![forbid(unsafe_code)]

use anyhow::{Result, bail};
use clap::Parser;
use std::process::ExitCode;
use terrace_sim::{Setting, Totals, run};

/// Fleets in virtual time, checked against what is promised.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask sim")]
struct Args {
    /// How many seeds to run; of each mutant, how many at most
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Put each known fault into the code, and see that a promise is found broken
    #[arg(long)]
    mutants: bool,
    /// Only the mutant of this name
    #[arg(long)]
    mutant: Option<String>,
    /// Let values be stored whose callers have given up: this breaks what is promised
    #[arg(long)]
    late_sets: bool,
    /// Print every call
    #[arg(long)]
    calls: bool,
}

fn main() -> ExitCode {
    match start(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Result<()> {
    if args.mutants || args.mutant.is_some() { catch(args) } else { check(args) }
}

fn check(args: &Args) -> Result<()> {
    let mut totals = Totals::default();
    for seed in args.from..args.from + args.seeds {
        let mut setting = Setting::of(seed);
        setting.trouble.late_sets = args.late_sets;
        let run = run(setting);
        totals.add(&run);
        if args.calls {
            run.operations.iter().for_each(|operation| println!("{operation}"));
        }
        if !run.report.violations.is_empty() {
            println!("seed {seed}: {}\n{:?}", run.report, run.setting);
        }
    }
    println!("{totals}");
    if totals.violations > 0 {
        bail!("{} violations", totals.violations);
    }
    Ok(())
}

#[cfg(not(terrace_mutants))]
fn catch(_args: &Args) -> Result<()> {
    bail!("built without mutants: `cargo xtask sim --mutants` builds with them")
}

#[cfg(terrace_mutants)]
fn catch(args: &Args) -> Result<()> {
    use terrace_core::mutants::{Mutant, choose};
    let is_asked = |mutant: &Mutant| args.mutant.as_ref().is_none_or(|name| *name == format!("{mutant:?}"));
    let asked: Vec<Mutant> = Mutant::ALL.into_iter().filter(is_asked).collect();
    let mut caught = 0;
    for &mutant in &asked {
        choose(Some(mutant));
        let found = (args.from..args.from + args.seeds).find_map(|seed| {
            let violation = run(Setting::of(seed)).report.violations.into_iter().next()?;
            Some((seed, violation))
        });
        match found {
            Some((seed, violation)) => {
                caught += 1;
                println!("{:<20} seed {seed}: {violation}", format!("{mutant:?}"));
            }
            None => println!("{:<20} NOT CAUGHT", format!("{mutant:?}")),
        }
    }
    choose(None);
    println!("mutants caught {caught}/{}", asked.len());
    if caught < asked.len() || asked.is_empty() {
        bail!("a mutant lives");
    }
    Ok(())
}
