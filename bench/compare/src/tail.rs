//! How long single reads take while others write.
//!
//! Each read is timed on its own, which adds two readings of the clock to it: the same for everybody, and shown as a
//! contender of its own. Percentiles are those of one contender in one round, over all its threads.

use crate::speed::{Measured, prepare};
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use std::hint::black_box;
use std::time::Duration;
use terrace_bench_harness::rounds::{Row, progress};
use terrace_bench_harness::subject::{Subject, Value};
use terrace_bench_harness::workload::{Prepared, Scale, Workload};

/// What is reported: name and share of the reads that are at most as slow.
pub const PERCENTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// The name under which the clock itself takes part.
pub const CLOCK: &str = "the clock alone";

/// Does nothing.
struct Nothing;

impl Subject for Nothing {
    #[inline]
    fn get(&self, key: &str) -> Option<Value> {
        black_box(key);
        None
    }

    fn insert(&self, _: &str, _: Value) {}

    fn remove(&self, _: &str) {}

    fn load(&self, _: &str, make: impl FnOnce() -> Value) -> Value {
        make()
    }
}

/// Measures everybody, at one thread and at two. The tables are in the order of [`PERCENTILES`], by threads.
///
/// # Errors
/// If a contender cannot be built.
pub fn measure(scale: Scale, rounds: usize) -> Result<Vec<Measured>> {
    let workload = Workload::tail(scale);
    let mut prepared: Vec<_> = prepare(&workload)?.into_iter().map(|(_, ready)| ready).collect();
    prepared.push(workload.prepare(CLOCK, Box::new(Nothing)));
    let mut all = Vec::new();
    for threads in [1, 2] {
        let empty = |ready: &Prepared<'_>| Row { name: ready.name, values: Vec::new() };
        let mut tables = PERCENTILES.map(|(name, _)| Measured {
            workload: name,
            threads,
            rows: prepared.iter().map(empty).collect(),
        });
        for round in 0..rounds {
            progress(&format!("{}, {threads}T", workload.name), round, rounds)?;
            for turn in 0..prepared.len() {
                let index = (round + turn) % prepared.len();
                let reads = one_round(&workload, &prepared[index], threads)?;
                for (table, (_, share)) in tables.iter_mut().zip(PERCENTILES) {
                    table.rows[index].values.push(reads.value_at_quantile(share) as f64);
                }
            }
        }
        eprintln!();
        all.extend(tables);
    }
    Ok(all)
}

/// All reads of one contender in one round, in nanoseconds.
fn one_round(workload: &Workload, prepared: &Prepared<'_>, threads: usize) -> Result<Histogram<u64>> {
    let longest = u64::try_from(Duration::from_mins(1).as_nanos())?;
    let empty = Histogram::new_with_bounds(1, longest, 3).context("bounds of a histogram")?;
    let mut own = vec![empty.clone(); threads];
    let mut took: Vec<_> = own
        .iter_mut()
        .map(|histogram| {
            |duration: Duration| {
                histogram.saturating_record(u64::try_from(duration.as_nanos()).unwrap_or(longest));
            }
        })
        .collect();
    workload.time_reads(prepared, &mut took);
    drop(took);
    let mut all = empty;
    for histogram in own {
        all.add(histogram)?;
    }
    Ok(all)
}
