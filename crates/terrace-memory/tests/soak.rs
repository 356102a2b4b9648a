//! The soak in short: ten seconds of everything at once keep every bound, and its judge is no rubber stamp.

#[path = "../examples/soak/run.rs"]
mod run;

use run::{Sample, Settings, judge, soak};
use std::time::Duration;

#[test]
fn ten_seconds_of_everything_keep_every_bound() {
    let settings =
        Settings { lasts: Duration::from_secs(10), interval: Duration::from_millis(500), threads: 3 };
    println!("{}", Sample::HEADER);
    soak(settings, |sample| println!("{sample}")).unwrap();
}

#[test]
fn the_judge_sees_what_is_held_too_long() {
    let good = |at: u64| Sample {
        at: Duration::from_secs(at),
        operations_per_second: 1e6,
        entries: 20_000,
        live: 20_000,
        peak: 40_000,
        resident_kib: 30_000 + at,
    };
    let found = |change: fn(&mut Sample)| {
        let mut samples: Vec<Sample> = (0..10).map(good).collect();
        change(&mut samples[7]);
        judge(&samples, 3).is_err()
    };
    assert!(!found(|_| ()));
    assert!(found(|sample| sample.live = 20_001));
    assert!(found(|sample| sample.entries = 20_001));
    assert!(found(|sample| sample.peak = 70_000));
    assert!(found(|sample| sample.resident_kib = 50_000));
}
