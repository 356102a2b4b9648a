//! Traces through engines.

use crate::trace::{Request, Trace};
use anyhow::Result;

/// Sizes of the caches, in thousandths of the distinct keys.
const SIZES_PERMILLE: [u64; 5] = [1, 10, 50, 100, 250];
/// Where fewer entries fit, nothing is measured.
const ENTRIES_MIN: usize = 16;

/// A cache as a replay sees it.
pub(crate) trait Engine {
    /// Whether there is a value for the key.
    fn get(&mut self, request: Request) -> bool;
    /// Stores a value after a miss.
    fn insert(&mut self, request: Request);
}

/// How much a cache may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// In entries, or in bytes where sizes count.
    pub(crate) weight: u64,
    /// About how many entries that is.
    pub(crate) entries: usize,
}

/// An engine by its name, and how it is built.
#[derive(Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) name: &'static str,
    pub(crate) build: fn(&Trace, Room) -> Result<Box<dyn Engine>>,
}

/// What all engines reached on one trace at one size.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Cell {
    pub(crate) trace: String,
    pub(crate) permille: u64,
    pub(crate) entries: usize,
    /// Hits as a part of the requests, in the order of the engines.
    pub(crate) hit_ratios: Vec<f64>,
}

/// Replays a trace through every engine at every size.
pub(crate) fn cells(trace: &Trace, engines: &[Candidate]) -> Result<Vec<Cell>> {
    let rooms = SIZES_PERMILLE.map(|permille| (permille, room(trace, permille)));
    let big_enough = rooms.into_iter().filter(|(_, room)| room.entries >= ENTRIES_MIN);
    big_enough
        .map(|(permille, room)| {
            let hit_ratios: Result<_> = engines
                .iter()
                .map(|candidate| Ok(hit_ratio(trace, (candidate.build)(trace, room)?)))
                .collect();
            Ok(Cell { trace: trace.name.clone(), permille, entries: room.entries, hit_ratios: hit_ratios? })
        })
        .collect()
}

/// Rounded to whole entries; bytes are rounded down.
fn room(trace: &Trace, permille: u64) -> Room {
    let entries = (trace.keys * usize::try_from(permille).unwrap_or(0) + 500) / 1_000;
    let weight = if trace.by_bytes { trace.weight * permille / 1_000 } else { entries as u64 };
    Room { weight, entries }
}

fn hit_ratio(trace: &Trace, mut engine: Box<dyn Engine>) -> f64 {
    let mut hits = 0_u64;
    for request in &trace.requests {
        if engine.get(*request) {
            hits += 1;
        } else {
            engine.insert(*request);
        }
    }
    hits as f64 / trace.requests.len() as f64
}
