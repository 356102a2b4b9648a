//! Small traces whose hit ratios can be told by hand, and a replay of everything.

use crate::engines::{FIFO, OPTIMUM, OURS, all};
use crate::replay::{Cell, Engine, Room, cells};
use crate::simulations::{Fifo, Lru, Optimum};
use crate::summary;
use crate::trace::Trace;
use std::fs;
use terrace_bench_harness::keys::{Random, mix};

fn trace(keys: &[u64]) -> Trace {
    Trace::new("test", keys.iter().map(|key| (*key, 1)), false).unwrap()
}

fn hits(trace: &Trace, mut engine: impl Engine) -> Vec<bool> {
    let replay = trace.requests.iter().map(|request| {
        let is_hit = engine.get(*request);
        if !is_hit {
            engine.insert(*request);
        }
        is_hit
    });
    replay.collect()
}

const TWO: Room = Room { weight: 2, entries: 2 };

#[test]
fn the_optimum_keeps_who_is_needed_first_and_refuses_who_is_not() {
    let trace = trace(&[1, 2, 3, 1, 2, 3, 1]);
    assert_eq!(hits(&trace, Optimum::new(&trace, TWO)), [false, false, false, true, true, false, true]);
}

#[test]
fn fifo_does_not_look_at_hits_and_lru_does() {
    let trace = trace(&[1, 2, 1, 3, 1, 2]);
    assert_eq!(hits(&trace, Fifo::new(&trace, TWO)), [false, false, true, false, false, false]);
    assert_eq!(hits(&trace, Lru::new(&trace, TWO)), [false, false, true, false, true, false]);
}

#[test]
fn sizes_count_where_they_are_asked_for() {
    let trace = Trace::new("test", [(1, 6), (2, 4), (1, 6), (3, 11), (2, 4)].into_iter(), true).unwrap();
    let ten = Room { weight: 10, entries: 2 };
    for hits in [
        hits(&trace, Optimum::new(&trace, ten)),
        hits(&trace, Fifo::new(&trace, ten)),
        hits(&trace, Lru::new(&trace, ten)),
    ] {
        assert_eq!(hits, [false, false, true, false, true]);
    }
    assert_eq!((trace.keys, trace.weight), (3, 21));
}

/// Few keys often, many seldom.
fn skewed() -> Vec<(u64, u32)> {
    let mut random = Random::new(5);
    let mut key = || mix(random.below(1_000) * random.below(1_000) / 1_000);
    (0..20_000).map(|_| key()).map(|key| (key, 1 + u32::try_from(key % 100).unwrap())).collect()
}

#[test]
fn everybody_replays_by_entries_and_by_bytes_and_none_beats_the_optimum() {
    for by_bytes in [false, true] {
        let trace = Trace::new("skewed", skewed().into_iter(), by_bytes).unwrap();
        let engines = all();
        let cells = cells(&trace, &engines).unwrap();
        assert_eq!(cells.len(), 3, "sizes for fewer than 16 entries are skipped");
        for cell in &cells {
            let reached = |ratio: &f64| *ratio > 0.0 && (by_bytes || *ratio <= cell.hit_ratios[0]);
            assert!(cell.hit_ratios.iter().all(reached), "{cell:?}");
        }
        assert!(summary::table(&engines, &cells).contains("3 cells"));
        assert!(summary::targets(&engines, &cells).contains("over 3 cells"));
    }
}

#[test]
fn a_trace_with_more_sizes_does_not_count_more_and_the_worst_cell_is_named() {
    let engines: Vec<_> = all().into_iter().filter(|e| [OPTIMUM, FIFO, OURS].contains(&e.name)).collect();
    let cell = |trace: &str, permille, hit_ratios: [f64; 3]| Cell {
        trace: trace.to_owned(),
        permille,
        entries: 100,
        hit_ratios: hit_ratios.to_vec(),
    };
    let cells =
        [cell("a", 1, [0.5, 0.2, 0.25]), cell("a", 10, [0.8, 0.4, 0.4]), cell("b", 1, [0.4, 0.2, 0.16])];
    let summary = summary::of(2, &engines, &cells);
    assert!((summary.mean_hit_ratio - 0.2425).abs() < 1e-9, "{summary:?}");
    assert!((summary.share_of_optimum - 0.45).abs() < 1e-9, "{summary:?}");
    assert!((summary.more_misses - 0.05).abs() < 1e-9, "{summary:?}");
    assert_eq!(summary.worst_cell, "b, 0.1 %");
}

#[test]
fn files_are_read_and_wrong_ones_refused() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>| {
        let file = directory.path().join(name);
        fs::write(&file, zstd::encode_all(&bytes[..], 1).unwrap()).unwrap();
        file
    };
    let keys = [7_u64, 9, 7].iter().flat_map(|key| key.to_le_bytes()).collect();
    let file = write("some.k64.zst", keys);
    let trace = Trace::read(&file, false).unwrap();
    let numbers: Vec<u32> = trace.requests.iter().map(|request| request.number).collect();
    assert_eq!((trace.name.as_str(), trace.keys, numbers), ("some", 2, vec![0, 1, 0]));
    assert!(Trace::read(&file, true).is_err(), "there are no sizes");
    write("some.s32.zst", [1_u32, 2].iter().flat_map(|size| size.to_le_bytes()).collect());
    assert!(Trace::read(&file, true).unwrap_err().to_string().contains("3 keys, 2 sizes"));
    assert!(Trace::read(&directory.path().join("other.csv"), false).is_err());
}
