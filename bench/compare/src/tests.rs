//! Everything runs, small, and the report has all of it.

use crate::contenders::{ALL, OURS, PEER};
use crate::counts::Counts;
use crate::tail::CLOCK;
use crate::{speed, tail, targets};
use terrace_bench_harness::workload::Scale;

#[test]
fn every_workload_runs_with_everybody_who_can() {
    let measured = speed::measure(Scale::SMOKE, 1).unwrap();
    assert_eq!(measured.len(), 2 * speed::WORKLOADS.len());
    for table in &measured {
        assert_eq!(table.row(PEER).is_some(), table.workload != "get hit, small, by reference", "{table:?}");
        assert!(table.row(OURS).is_some_and(|row| row.values.len() == 1), "{table:?}");
    }
    let evicting = measured.iter().find(|table| table.workload == "insert with eviction").unwrap();
    assert!(evicting.row("papaya").is_none() && evicting.row("hashbrown").is_none());
    let tail = tail::measure(Scale::SMOKE, 1).unwrap();
    assert!(tail.iter().all(|table| table.row(CLOCK).is_some()));
    let text = targets::table(&[measured, tail].concat(), Some(Counts::default()));
    assert!(!text.contains("not measured"), "{text}");
}

#[test]
fn the_first_contender_is_the_peer_of_the_targets() {
    assert_eq!(ALL[0].name, PEER);
}

#[test]
fn counts_come_back_as_they_were_written() {
    let counts = Counts { overhead: 37.5, resident: 50.0, hit: 0.0, insert: 3.0, overwrite: 2.5 };
    assert_eq!(counts.to_string().parse::<Counts>().unwrap(), counts);
    assert!("1 2".parse::<Counts>().is_err());
}
