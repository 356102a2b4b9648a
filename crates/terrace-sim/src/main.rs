//! `cargo xtask sim`: seeds, or mutants, as many as one likes; or mutants with the seeds that are known to find them.

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
    /// Put each known fault into the code, and see that it is found, first by the seeds of mutants.txt
    #[arg(long)]
    known: bool,
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
    if args.mutants || args.mutant.is_some() || args.known { catch(args) } else { check(args) }
}

fn check(args: &Args) -> Result<()> {
    let mut totals = Totals::default();
    for seed in args.from..args.from + args.seeds {
        let run = run(Setting::of(seed));
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

/// The seeds that are known to find each mutant.
#[cfg(terrace_mutants)]
const KNOWN: &str = include_str!("../mutants.txt");

/// How many seeds before the one that is known, and after it, are run next until one finds the mutant. After those, which a change
/// of the code may have made other histories, the first ones are.
#[cfg(terrace_mutants)]
const AROUND: u64 = 8;

#[cfg(terrace_mutants)]
fn catch(args: &Args) -> Result<()> {
    use terrace_core::mutants::{Mutant, choose};
    let is_asked = |mutant: &Mutant| args.mutant.as_ref().is_none_or(|name| *name == format!("{mutant:?}"));
    let asked: Vec<Mutant> = Mutant::ALL.into_iter().filter(is_asked).collect();
    let mut caught = 0;
    for &mutant in &asked {
        let name = format!("{mutant:?}");
        let first = args.from..args.from + args.seeds;
        let seeds = if args.known { around(&name, first)? } else { first.collect() };
        choose(Some(mutant));
        let found = seeds.into_iter().find_map(|seed| {
            let violation = run(Setting::of(seed)).report.violations.into_iter().next()?;
            Some((seed, violation))
        });
        match found {
            Some((seed, violation)) => {
                caught += 1;
                println!("{name:<20} seed {seed}: {violation}");
            }
            None => println!("{name:<20} NOT CAUGHT"),
        }
    }
    choose(None);
    println!("mutants caught {caught}/{}", asked.len());
    if caught < asked.len() || asked.is_empty() {
        bail!("a mutant lives");
    }
    if args.known {
        println!(
            "what took long to find is sooner found with the seed that is shown in crates/terrace-sim/mutants.txt"
        );
    }
    Ok(())
}

/// The seed that is known to find a mutant, then those around it, the next ones first; then others.
#[cfg(terrace_mutants)]
fn around(mutant: &str, first: std::ops::Range<u64>) -> Result<Vec<u64>> {
    let lines = KNOWN.lines().filter_map(|line| line.split_once(' '));
    let known = lines.filter(|(name, _)| *name == mutant).map(|(_, seed)| seed.parse::<u64>());
    let known = known.collect::<Result<Vec<_>, _>>()?;
    let [seed] = known[..] else { bail!("mutants.txt has {} seeds of {mutant}, and not one", known.len()) };
    let beside = (1..=AROUND).flat_map(|step| [seed.checked_sub(step), Some(seed + step)]);
    Ok(std::iter::once(seed).chain(beside.flatten()).chain(first).collect())
}
