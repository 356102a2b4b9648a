//! What an operation costs, workload by workload, at one thread and at two.
//!
//! One workload after the other, all contenders of it in turn. Their entries are made before and dropped after, so at
//! most one workload's are in memory.

use crate::contenders::{ALL, Contender};
use anyhow::Result;
use terrace_bench_harness::rounds::{self, Row};
use terrace_bench_harness::workload::{Prepared, Scale, Workload};

/// One table: a workload at some number of threads.
#[derive(Clone, PartialEq, Debug)]
pub struct Measured {
    /// The workload.
    pub workload: &'static str,
    /// How many threads did it at once.
    pub threads: usize,
    /// Nanoseconds per operation, or whatever else was measured.
    pub rows: Vec<Row>,
}

impl Measured {
    /// The values of one contender, if it took part.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// Workload and threads, as a head of a table.
    pub fn title(&self) -> String {
        format!("{}, {}T", self.workload, self.threads)
    }
}

/// Makes the workloads, in the order of the report.
pub const WORKLOADS: [fn(Scale) -> Workload; 9] = [
    Workload::hit,
    Workload::read,
    Workload::ttl,
    Workload::large,
    Workload::miss,
    Workload::insert,
    Workload::overwrite,
    Workload::mixed,
    Workload::load,
];

/// Measures everything.
///
/// # Errors
/// If a contender cannot be built, or did not find what it holds.
pub fn measure(scale: Scale, rounds: usize) -> Result<Vec<Measured>> {
    let mut all = Vec::new();
    for make in WORKLOADS {
        let workload = make(scale);
        let prepared = prepare(&workload)?;
        for threads in [1, 2] {
            let contenders =
                prepared.iter().filter(|(contender, _)| contender.takes_part(&workload, threads));
            let contenders = contenders.map(|(_, ready)| workload.contender(ready, threads)).collect();
            let mut measured = Measured { workload: workload.name, threads, rows: Vec::new() };
            measured.rows = rounds::measure(&measured.title(), rounds, contenders)?;
            all.push(measured);
        }
    }
    Ok(all)
}

/// Everybody who can do this work, with the entries it needs.
///
/// # Errors
/// If one cannot be built.
pub fn prepare(workload: &Workload) -> Result<Vec<(Contender, Prepared<'static>)>> {
    let able = ALL.iter().filter(|contender| contender.takes_part(workload, 1));
    able.map(|contender| {
        let subject = (contender.build)(workload)?;
        Ok((*contender, workload.prepare(contender.name, subject)))
    })
    .collect()
}
