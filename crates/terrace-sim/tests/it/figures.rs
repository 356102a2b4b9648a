//! Figures of simulated fleets, each with the bound that is documented.

use std::time::Duration;
use terrace_sim::figures::{hundred_nodes, lag, last_of_a_burst, losses, percentile, restart};

/// Δ of the fleets of these tests.
const LEASE: Duration = Duration::from_secs(1);

#[test]
fn a_change_is_heard_by_a_hundred_nodes() {
    let lags = lag(1, 100, Duration::from_millis(1));
    let (half, most, all) = (percentile(&lags, 50), percentile(&lags, 99), percentile(&lags, 100));
    println!(
        "lag with 100 nodes, 1 to 5 ms a hop: median {half:?}, p99 {most:?}, max {all:?}, of {}",
        lags.len()
    );
    assert!(lags.len() > 1000 && all < LEASE / 4, "{all:?}");
}

#[test]
fn no_loss_in_silence_stays_undetected() {
    let losses = losses(2, 10, Duration::from_secs(20));
    let (half, most, all) = (
        percentile(&losses.repaired_after, 50),
        percentile(&losses.repaired_after, 99),
        percentile(&losses.repaired_after, 100),
    );
    println!(
        "1 % of messages lost in silence: {} of copies that were there, {} undetected; repaired after {half:?} in the median, \
         p99 {most:?}, max {all:?}; {} gaps closed from the log, {} partitions suspected",
        losses.lost, losses.undetected, losses.by_log, losses.by_suspicion
    );
    assert!(losses.lost > 50, "{} losses show little", losses.lost);
    assert_eq!(losses.undetected, 0);
    assert!(all < LEASE * 6);
    assert!(losses.by_log > 0);
}

#[test]
fn the_last_message_of_a_burst_is_missed_within_20_beats() {
    let stayed = last_of_a_burst(3, 40);
    let (half, all) = (percentile(&stayed, 50), percentile(&stayed, 100));
    println!(
        "the last message of a burst lost, {} times: found out after {half:?} in the median, {all:?} at most",
        stayed.len()
    );
    assert!(all <= LEASE * 5 + LEASE / 2, "{all:?}");
}

#[test]
fn a_hundred_nodes_come_back_after_a_restart_of_the_server() {
    let restart = restart(4, 100, Duration::from_secs(2));
    println!("a restart under 100 nodes: {restart:?}");
    assert!(restart.connects_per_tenth < 60, "{restart:?}");
    assert!(restart.all < LEASE * 3, "{restart:?}");
}

#[test]
fn a_hundred_nodes_keep_what_is_promised() {
    let report = hundred_nodes(5, Duration::from_secs(1));
    println!("100 nodes: {report}");
    report.expect_kept();
    assert!(report.figures.fresh > 3_000);
}
