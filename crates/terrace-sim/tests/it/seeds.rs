//! Ordinary seeds, those that have found a fault once, and what has to hold of seeds at all.

use std::io::Write;
use std::ops::Range;
use std::path::Path;
use terrace_sim::{Setting, Totals, run};

const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/seeds.txt");

/// The seeds of the file, without what is said of them.
fn kept() -> Vec<u64> {
    let text = std::fs::read_to_string(Path::new(KEPT)).expect("the file is there");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split(' ').next().and_then(|seed| seed.parse().ok()).expect("a seed")).collect()
}

fn keep(seed: u64, what: &str) {
    let file = std::fs::OpenOptions::new().append(true).open(KEPT);
    file.and_then(|mut file| writeln!(file, "{seed} {what}")).expect("the seed can be kept");
}

/// Runs the seeds, or the one in the environment, and fails with the first that breaks a promise.
fn check(seeds: impl IntoIterator<Item = u64>) {
    let one: Option<u64> = std::env::var("TERRACE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds: Vec<u64> = one.map_or_else(|| seeds.into_iter().collect(), |seed| vec![seed]);
    let mut totals = Totals::default();
    for seed in seeds {
        let run = run(Setting::of(seed));
        totals.add(&run);
        if let Some(violation) = run.report.violations.first() {
            if one.is_none() && !kept().contains(&seed) {
                keep(seed, &violation.rule.to_string());
            }
            panic!("TERRACE_TEST_SEED={seed}\n{}\n{:?}", run.report, run.setting);
        }
    }
    println!("{totals}");
}

/// How many seeds are run by each of these tests, which run beside each other.
const EACH: u64 = 75;

fn share(of: u64) -> Range<u64> {
    of * EACH..(of + 1) * EACH
}

#[test]
fn what_is_promised_holds_with_the_seeds_that_found_faults() {
    check(kept());
}

#[test]
fn what_is_promised_holds_with_the_first_seeds() {
    check(share(0));
}

#[test]
fn what_is_promised_holds_with_the_second_seeds() {
    check(share(1));
}

#[test]
fn what_is_promised_holds_with_the_third_seeds() {
    check(share(2));
}

#[test]
fn what_is_promised_holds_with_the_fourth_seeds() {
    check(share(3));
}

#[test]
fn what_is_promised_holds_where_callers_write_through() {
    let seeds: Vec<u64> = (0..).filter(|seed| Setting::of(*seed).writes_through).take(40).collect();
    println!("seeds {seeds:?}");
    check(seeds);
}

#[test]
fn a_seed_is_a_history() {
    // The last ones break connections under many calls at once, which are then told in the order in which they were made.
    for seed in [3, 6, 12, 21, 59, 565, 1552] {
        let one = run(Setting::of(seed)).operations;
        assert!(one.len() > 40);
        for _ in 0..4 {
            assert!(one == run(Setting::of(seed)).operations, "seed {seed} is more than one history");
        }
    }
    assert_ne!(run(Setting::of(3)).operations, run(Setting::of(4)).operations);
}
