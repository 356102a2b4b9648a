//! The report: everything side by side, then each table with spreads and ratios.

use crate::contenders::{ALL, Ability};
use crate::counts::Counts;
use crate::speed::Measured;
use crate::tail::PERCENTILES;
use terrace_bench_harness::table::{self, Spread};

/// One row per workload, one column per contender, medians in nanoseconds.
pub fn side_by_side(speed: &[Measured], tail: &[Measured], counts: &[(&'static str, Counts)]) {
    println!("## Side by side\n\nNanoseconds per operation, medians.\n");
    let names = ALL.iter().map(|contender| contender.name.to_owned());
    println!("{}", table::line([String::new()].into_iter().chain(names)));
    println!("{}", table::rule(ALL.len() + 1));
    for measured in speed {
        row(&measured.title(), |name| {
            let row = measured.row(name)?;
            Some(format!("{:.1}{}", median(row), remark(measured.workload, name)))
        });
    }
    for tables in tail.chunks(PERCENTILES.len()) {
        let names = PERCENTILES.map(|(name, _)| name).join(" / ");
        let threads = tables.first().map_or(0, |table| table.threads);
        row(&format!("get {names} among 75/25, {threads}T"), |name| {
            let medians: Option<Vec<String>> =
                tables.iter().map(|table| Some(format!("{:.0}", median(table.row(name)?)))).collect();
            Some(medians?.join(" / "))
        });
    }
    let of = |name: &str| counts.iter().find(|(who, _)| *who == name).map(|(_, counts)| *counts);
    row("bytes per entry besides u64 → u64", |name| of(name).map(|c| format!("{:.0}", c.overhead)));
    row("the same by growth of the process", |name| of(name).map(|c| format!("{:.0}", c.resident)));
    row("allocations: hit / insert / overwrite", |name| {
        of(name).map(|c| format!("{:.2} / {:.2} / {:.2}", c.hit, c.insert, c.overwrite))
    });
    println!("\n¹ Has no TTL: the same work without.\n² Has no such call: a get, then an insert.\n");
}

fn median(row: &terrace_bench_harness::rounds::Row) -> f64 {
    Spread::of(row.values.iter().copied()).median
}

fn row(head: &str, cell: impl Fn(&str) -> Option<String>) {
    let cells = ALL.iter().map(|contender| cell(contender.name).unwrap_or_else(|| "–".to_owned()));
    println!("{}", table::line([head.to_owned()].into_iter().chain(cells)));
}

/// What must be known of a figure.
fn remark(workload: &str, name: &str) -> &'static str {
    let contender = ALL.iter().find(|contender| contender.name == name);
    if workload.contains("TTL") && contender.is_some_and(|contender| !contender.can(Ability::Expire)) {
        "¹"
    } else if workload.contains("load") && contender.is_some_and(|contender| !contender.can(Ability::Load)) {
        "²"
    } else {
        ""
    }
}

/// A table per workload.
pub fn details(speed: &[Measured], tail: &[Measured]) {
    println!("## Workload by workload\n");
    for measured in speed {
        table::print(&measured.title(), "ns", 1, &measured.rows);
    }
    println!("## Single reads while others write\n");
    for measured in tail {
        table::print(&format!("{}, {}T", measured.workload, measured.threads), "ns", 0, &measured.rows);
    }
}
