//! The history of [`crate::history`] once more, on threads: the order of events is the machine's.

use crate::fixture::{ended, spawn};
use crate::history::Fleet;
use crate::jitter::Dice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use terrace::Clock;

/// How long the nodes are under load at least.
const LOAD: Duration = Duration::from_secs(3);
/// How much load that is at least: on a busy machine it takes longer.
const ACTS_MIN: u64 = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_threads_nothing_that_was_invalidated_comes_back_either() {
    let (fleet, time) = (Fleet::new(7), Clock::system());
    let (end, acts) = (time.now().plus(LOAD), Arc::new(AtomicU64::new(0)));
    let is_over = {
        let (time, acts) = (time.clone(), Arc::clone(&acts));
        move || time.now() >= end && acts.load(Ordering::Relaxed) > ACTS_MIN
    };
    let clients: Vec<_> = (0..12_u64)
        .map(|n| {
            let node = Arc::clone(&fleet.nodes[usize::try_from(n % 3).expect("small")]);
            let (is_over, acts, dice) = (is_over.clone(), Arc::clone(&acts), Dice::new(n));
            spawn(async move {
                while !is_over() {
                    node.act(&dice).await;
                    acts.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let dice = Dice::new(99);
    while !is_over() {
        terrace_testkit::wait::pause(Duration::from_millis(5)).await;
        fleet.nodes[dice.one_of(&[0, 1, 2])].disturb(&dice);
        fleet.clock.advance(Duration::from_millis(dice.below(2_000)));
    }
    fleet.nodes.iter().for_each(|node| node.remote.set_fault(None));
    for client in clients {
        ended(client).await;
    }
    println!("{} acts", acts.load(Ordering::Relaxed));
    fleet.settle().await;
}
