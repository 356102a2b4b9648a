//! What the engine has to reach, and whether this run shows it.
//!
//! A target is a ratio to the peer, taken within each round; the median of those decides. Hit ratios have targets too;
//! `terrace-bench-traces` judges them.

use crate::contenders::{OURS, PEER};
use crate::counts::Counts;
use crate::speed::Measured;
use std::fmt::Write;
use terrace_bench_harness::table::{self, Spread};

/// Most bytes that an entry may cost besides its key and value.
const OVERHEAD_BYTES_MAX: f64 = 40.0;

/// Workload, threads, most that ours may take of what the peer takes.
const RATIOS_MAX: [(&str, usize, f64); 14] = [
    ("get hit, small", 1, 0.9),
    ("get hit, small", 2, 0.55),
    ("get hit, large", 1, 0.6),
    ("get hit, large", 2, 0.6),
    ("get miss", 1, 0.6),
    ("get miss", 2, 0.6),
    ("insert with eviction", 1, 1.0),
    ("insert with eviction", 2, 1.0),
    ("overwrite", 1, 1.0),
    ("overwrite", 2, 1.0),
    ("mixed 95/5, zipf", 1, 1.0),
    ("mixed 95/5, zipf", 2, 1.0),
    ("p99.9", 1, 1.0),
    ("p99.9", 2, 1.0),
];

/// The table of targets, as Markdown.
pub fn table(measured: &[Measured], ours: Option<Counts>) -> String {
    let mut text = String::new();
    let heads = ["", "at most", "median", "lowest – highest", ""].map(str::to_owned);
    writeln!(text, "{}\n{}", table::line(heads), table::rule(5)).expect("a string takes what is written");
    for (workload, threads, most) in RATIOS_MAX {
        let found = measured.iter().find(|found| found.workload == workload && found.threads == threads);
        let ratios = found.and_then(|found| Some(Spread::of_ratios(found.row(OURS)?, found.row(PEER)?)));
        let head = format!("{workload}, {threads}T, ratio to {PEER}");
        writeln!(text, "{}", judged(head, most, 2, ratios)).expect("a string takes what is written");
    }
    let bytes = ours.map(|counts| Spread::of([counts.overhead].into_iter()));
    let head = "bytes per entry besides u64 → u64".to_owned();
    writeln!(text, "{}", judged(head, OVERHEAD_BYTES_MAX, 0, bytes)).expect("a string takes what is written");
    text
}

fn judged(head: String, most: f64, digits: usize, reached: Option<Spread>) -> String {
    let [median, spread, verdict] = match reached {
        None => ["–".to_owned(), "–".to_owned(), "not measured".to_owned()],
        Some(Spread { lowest, median, highest }) => [
            format!("{median:.digits$}"),
            format!("{lowest:.digits$} – {highest:.digits$}"),
            if median <= most { "met" } else { "**not met**" }.to_owned(),
        ],
    };
    table::line([head, format!("{most:.digits$}"), median, spread, verdict])
}

#[cfg(test)]
mod tests {
    use super::*;
    use terrace_bench_harness::rounds::Row;

    #[test]
    fn the_median_of_the_ratios_decides() {
        let row = |name, values: [f64; 3]| Row { name, values: values.to_vec() };
        let rows = vec![row(PEER, [10.0, 10.0, 10.0]), row(OURS, [5.0, 8.0, 30.0])];
        let measured = [Measured { workload: "get hit, small", threads: 1, rows }];
        let counts = Counts { overhead: 41.0, ..Counts::default() };
        let text = table(&measured, Some(counts));
        assert!(
            text.contains("| get hit, small, 1T, ratio to quick_cache | 0.90 | 0.80 | 0.50 – 3.00 | met |")
        );
        assert!(text.contains("| 40 | 41 | 41 – 41 | **not met** |"), "{text}");
        assert_eq!(text.matches("not measured").count(), RATIOS_MAX.len() - 1);
    }
}
