//! terrace's engine of L1 by itself, to see what a change of it did:
//! `cargo run --release -p terrace-bench-engine [-- [rounds] [--only TEXT] [--save FILE]
//! [--against FILE]]`.
//!
//! 1. Every kind of operation, both policies, one thread and two; both policies in turn, many times.
//! 2. What is saved are medians. A comparison over time is one of two runs: it shares no slow moment of the machine, so
//!    small differences mean nothing before both versions ran more than once.
//!
//! Deliberately absent: other caches. `terrace-bench-compare` has them.

#![forbid(unsafe_code)]

mod arguments;
mod expire;
mod saved;

use anyhow::{Context, Result};
use arguments::Arguments;
use saved::Saved;
use std::process::ExitCode;
use std::time::Duration;
use terrace_bench_harness::machine;
use terrace_bench_harness::ours::Ours;
use terrace_bench_harness::rounds::{self, Contender};
use terrace_bench_harness::table::{self, Spread};
use terrace_bench_harness::workload::{Prepared, Scale, Workload};
use terrace_memory::Policy;

const POLICIES: [(&str, Policy); 2] = [("default", Policy::Default), ("LRU", Policy::Lru)];
/// The one work that needs a clock of its own.
const EXPIRE: &str = "expire";
const THREADS: [usize; 2] = [1, 2];

const WORKLOADS: [fn(Scale) -> Workload; 9] = [
    Workload::hit,
    Workload::read,
    Workload::ttl,
    Workload::large,
    Workload::miss,
    Workload::insert,
    Workload::overwrite,
    Workload::mixed,
    Workload::remove,
];

fn main() -> Result<ExitCode> {
    let Some(arguments) = Arguments::parse(std::env::args().skip(1)) else {
        eprintln!("{}", arguments::USAGE);
        return Ok(ExitCode::from(2));
    };
    let earlier = arguments.against.as_deref().map(Saved::read).transpose()?;
    println!("# The engine of L1\n\nOn {}. {} rounds.\n", machine::describe(), arguments.rounds);
    let now = run(Scale::FULL, &arguments, earlier.as_ref())?;
    if let Some(file) = &arguments.save {
        now.write(file)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures everything, printing each line as soon as it is known.
fn run(scale: Scale, arguments: &Arguments, earlier: Option<&Saved>) -> Result<Saved> {
    let mut report = Report::begin(earlier);
    let is_wanted = |name: &str| name.contains(&arguments.only);
    for workload in WORKLOADS.iter().map(|make| make(scale)).filter(|workload| is_wanted(workload.name)) {
        let prepared = prepare(&workload)?;
        for threads in THREADS {
            let contenders = prepared.iter().map(|ready| workload.contender(ready, threads)).collect();
            report.add(workload.name, threads, arguments.rounds, contenders)?;
        }
    }
    for threads in THREADS.into_iter().filter(|_| is_wanted(EXPIRE)) {
        let contender = |(name, policy)| {
            Contender::new(name, move || expire::nanos_per_entry(policy, scale.cached, threads))
        };
        report.add(EXPIRE, threads, arguments.rounds, POLICIES.map(contender).into())?;
    }
    Ok(report.now)
}

fn prepare(workload: &Workload) -> Result<Vec<Prepared<'static>>> {
    let ttl = workload.has_ttl.then_some(Duration::from_hours(1));
    let ready = POLICIES.map(|(name, policy)| {
        let ours = Ours::new(workload.capacity, policy, ttl).context(name)?;
        Ok(workload.prepare(name, Box::new(ours)))
    });
    ready.into_iter().collect()
}

/// The table, line by line, and what will be saved.
struct Report<'a> {
    earlier: Option<&'a Saved>,
    now: Saved,
}

impl<'a> Report<'a> {
    fn begin(earlier: Option<&'a Saved>) -> Self {
        let mut heads = vec!["", "policy", "ns", "lowest – highest"];
        heads.extend(earlier.map(|_| ["earlier", "ratio"]).into_iter().flatten());
        println!(
            "{}\n{}",
            table::line(heads.iter().map(|head| (*head).to_owned())),
            table::rule(heads.len())
        );
        Self { earlier, now: Saved::default() }
    }

    fn add(
        &mut self,
        what: &str,
        threads: usize,
        rounds: usize,
        contenders: Vec<Contender<'_>>,
    ) -> Result<()> {
        let title = format!("{what}, {threads}T");
        for row in rounds::measure(&title, rounds, contenders)? {
            let Spread { lowest, median, highest } = Spread::of(row.values.iter().copied());
            let mut cells = vec![
                title.clone(),
                row.name.to_owned(),
                format!("{median:.1}"),
                format!("{lowest:.1} – {highest:.1}"),
            ];
            let name = format!("{title}, {}", row.name);
            if let Some(earlier) = self.earlier {
                let found = earlier.get(&name);
                cells.push(found.map_or_else(|| "–".to_owned(), |nanos| format!("{nanos:.1}")));
                cells.push(found.map_or_else(|| "–".to_owned(), |nanos| format!("{:.2}", median / nanos)));
            }
            println!("{}", table::line(cells));
            self.now.set(name, median);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(only: &str) -> Arguments {
        Arguments { rounds: 1, only: only.to_owned(), save: None, against: None }
    }

    #[test]
    fn everything_runs_and_can_be_compared_with_an_earlier_run() {
        let first = run(Scale::SMOKE, &arguments(""), None).unwrap();
        assert_eq!(first.len(), (WORKLOADS.len() + 1) * THREADS.len() * POLICIES.len());
        let second = run(Scale::SMOKE, &arguments(""), Some(&first)).unwrap();
        assert_eq!(second.len(), first.len());
    }

    #[test]
    fn only_what_is_wanted_runs() {
        for (only, count) in [("overwrite", 4), ("expire", 4), ("get", 20), ("nothing", 0)] {
            assert_eq!(run(Scale::SMOKE, &arguments(only), None).unwrap().len(), count, "{only}");
        }
    }
}
