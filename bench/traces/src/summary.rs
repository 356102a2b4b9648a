//! What the hit ratios of all cells come to.
//!
//! A cell is a trace at a size. Hit ratios and shares of the optimum's hits are averaged within each trace first, then over
//! the traces, so that a trace with more sizes does not count more.

use crate::engines::{FIFO, OPTIMUM, OURS};
use crate::replay::{Candidate, Cell};
use std::collections::BTreeMap;
use terrace_bench_harness::table;

/// Least mean hit ratio of ours, on the six traces that the targets were set for.
const MEAN_HIT_RATIO_MIN: f64 = 0.440;
/// Most by which ours may miss more often than FIFO, in any cell.
const MORE_MISSES_MAX: f64 = 0.01;

/// Prints the head of the table of cells.
pub(crate) fn begin_cells(engines: &[Candidate]) {
    let heads = ["trace", "size, %", "entries"].into_iter().chain(engines.iter().map(|engine| engine.name));
    println!("Hits in a hundred requests.\n\n{}", table::line(heads.map(str::to_owned)));
    println!("{}", table::rule(3 + engines.len()));
}

/// Prints the line of a cell.
pub(crate) fn print_cell(cell: &Cell) {
    let size = cell.permille as f64 / 10.0;
    let heads = [cell.trace.clone(), format!("{size}"), cell.entries.to_string()];
    let ratios = cell.hit_ratios.iter().map(|ratio| format!("{:.2}", ratio * 100.0));
    println!("{}", table::line(heads.into_iter().chain(ratios)));
}

/// What one engine reached over all cells.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Summary {
    /// Hits as a part of all requests.
    pub(crate) mean_hit_ratio: f64,
    /// Hits as a part of the optimum's.
    pub(crate) share_of_optimum: f64,
    /// Misses beyond FIFO's, as a part of FIFO's, where that is worst.
    pub(crate) more_misses: f64,
    pub(crate) worst_cell: String,
}

/// The summary of the engine at this index. There is at least one cell.
pub(crate) fn of(engine: usize, engines: &[Candidate], cells: &[Cell]) -> Summary {
    let index = |name: &str| engines.iter().position(|engine| engine.name == name).unwrap_or(0);
    let (optimum, fifo) = (index(OPTIMUM), index(FIFO));
    let mut by_trace: BTreeMap<&str, Vec<[f64; 2]>> = BTreeMap::new();
    let mut summary = Summary {
        mean_hit_ratio: 0.0,
        share_of_optimum: 0.0,
        more_misses: f64::NEG_INFINITY,
        worst_cell: String::new(),
    };
    for cell in cells {
        let [own, best, fifo] = [engine, optimum, fifo].map(|index| cell.hit_ratios[index]);
        let share = if best > 0.0 { own / best } else { 1.0 };
        by_trace.entry(&cell.trace).or_default().push([own, share]);
        let more_misses = (fifo - own) / (1.0 - fifo).max(f64::MIN_POSITIVE);
        if more_misses > summary.more_misses {
            summary.more_misses = more_misses;
            summary.worst_cell = format!("{}, {} %", cell.trace, cell.permille as f64 / 10.0);
        }
    }
    let over_traces =
        |index: usize| mean(by_trace.values().map(|cells| mean(cells.iter().map(|of_cell| of_cell[index]))));
    summary.mean_hit_ratio = over_traces(0);
    summary.share_of_optimum = over_traces(1);
    summary
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0, 0.0), |(count, sum), value| (count + 1, sum + value));
    sum / f64::from(count)
}

/// The summary of everybody, as a Markdown table.
pub(crate) fn table(engines: &[Candidate], cells: &[Cell]) -> String {
    if cells.is_empty() {
        return "No cell has room for enough entries.".to_owned();
    }
    let heads =
        ["", "mean hit ratio, %", "of the optimum's hits, %", "more misses than FIFO at worst, %", "where"];
    let mut lines = vec![table::line(heads.map(str::to_owned)), table::rule(heads.len())];
    for (index, engine) in engines.iter().enumerate() {
        let summary = of(index, engines, cells);
        lines.push(table::line([
            engine.name.to_owned(),
            format!("{:.2}", summary.mean_hit_ratio * 100.0),
            format!("{:.2}", summary.share_of_optimum * 100.0),
            format!("{:.1}", summary.more_misses * 100.0),
            summary.worst_cell,
        ]));
    }
    format!("{} cells.\n\n{}\n", cells.len(), lines.join("\n"))
}

/// Whether ours reached what it has to.
pub(crate) fn targets(engines: &[Candidate], cells: &[Cell]) -> String {
    let Some(index) = engines.iter().position(|engine| engine.name == OURS).filter(|_| !cells.is_empty())
    else {
        return String::new();
    };
    let summary = of(index, engines, cells);
    let verdict = |is_met| if is_met { "met" } else { "**not met**" };
    format!(
        "Targets of `{OURS}`:\n\n\
         - mean hit ratio at least {:.1} %, set for {TRACES} traces and {CELLS} cells: {:.2} % over {} cells, {}\n\
         - in no cell more than {:.0} % more misses than FIFO: {:.1} %, {}\n",
        MEAN_HIT_RATIO_MIN * 100.0,
        summary.mean_hit_ratio * 100.0,
        cells.len(),
        verdict(summary.mean_hit_ratio >= MEAN_HIT_RATIO_MIN),
        MORE_MISSES_MAX * 100.0,
        summary.more_misses * 100.0,
        verdict(summary.more_misses <= MORE_MISSES_MAX),
        TRACES = 6,
        CELLS = 28,
    )
}
