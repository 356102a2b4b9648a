//! Random histories under a seed: what two nodes do one after the other, and all that a server can lose, against the
//! simplest model; then what they do at the same time, in an order that the seed decides.

use crate::fixture::spawn;
use crate::history::{Fleet, KEYS, Watched};
use crate::jitter::Dice;
use std::sync::Arc;
use std::time::Duration;
use terrace::Clock;
use terrace_testkit::fake::FakeRemote;

/// The seeds of a run: one from the environment, or the first so many.
fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let one: Option<u64> = std::env::var("TERRACE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let range = one.map_or(0..count, |seed| seed..seed + 1);
    range.inspect(|seed| println!("TERRACE_TEST_SEED={seed}"))
}

fn run(history: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime can be made").block_on(history);
}

/// Loses something that the server had.
fn lose(remote: &FakeRemote, dice: &Dice) {
    let losses: [fn(&FakeRemote); 4] =
        [FakeRemote::lose_leases, FakeRemote::lose_counters, FakeRemote::lose_generations, FakeRemote::flush];
    dice.one_of(&losses)(remote);
}

async fn one_after_the_other(seed: u64) {
    let (fleet, dice) = (Fleet::new(seed), Dice::new(seed));
    for _ in 0..300 {
        let node = dice.one_of(&[0, 1, 2]);
        let node = &fleet.nodes[node];
        match dice.below(20) {
            0 => node.disturb(&dice),
            1 => lose(&node.remote, &dice),
            2 => fleet.clock.advance(Duration::from_secs(dice.below(40))),
            3 => terrace_testkit::wait::pause(Duration::from_millis(dice.below(200))).await,
            _ => node.act(&dice).await,
        }
    }
    fleet.settle().await;
}

#[test]
fn what_nodes_do_one_after_the_other_never_brings_back_what_they_invalidated() {
    seeds(60).for_each(|seed| run(one_after_the_other(seed)));
}

async fn client(node: Arc<Watched>, dice: Dice) {
    for _ in 0..40 {
        node.act(&dice).await;
        dice.wait(3).await;
    }
}

async fn at_the_same_time(seed: u64) {
    let (fleet, dice) = (Fleet::new(seed), Dice::new(seed));
    let clients: Vec<_> = (0..9)
        .map(|n| spawn(client(Arc::clone(&fleet.nodes[n % 3]), Dice::new(seed * 100 + n as u64))))
        .collect();
    let trouble = dice.below(3);
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        dice.wait(40).await;
        let node = &fleet.nodes[dice.one_of(&[0, 1, 2])];
        match dice.below(6) {
            0 if trouble > 0 => node.disturb(&dice),
            1 if trouble > 1 => lose(&node.remote, &dice),
            2 => fleet.clock.advance(Duration::from_secs(dice.below(20))),
            3 => terrace_testkit::wait::pause(Duration::from_millis(dice.below(100))).await,
            _ => tokio::task::yield_now().await,
        }
    }
    for client in clients {
        client.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
    fleet.settle().await;
}

#[test]
fn what_nodes_do_at_the_same_time_never_brings_back_what_they_invalidated() {
    seeds(80).for_each(|seed| run(at_the_same_time(seed)));
}

#[test]
fn the_checker_finds_an_old_value() {
    let old = std::panic::catch_unwind(|| {
        run(async {
            let fleet = Fleet::new(0);
            let node = &fleet.nodes[0];
            let _changing = fleet.truth.change(&[KEYS - 1]).await;
            node.plain.put(&(KEYS - 1), (KEYS - 1, 1)).await.expect("stored");
            fleet.settle().await;
        });
    });
    let message = old.expect_err("the value from before the change is there");
    let message = message.downcast_ref::<String>().expect("a message");
    assert!(message.contains("is left"), "{message}");
}

/// Lets the fleet's clock go with the runtime's.
async fn tick(clock: Clock) {
    const STEP: Duration = Duration::from_millis(20);
    loop {
        terrace_testkit::wait::pause(STEP).await;
        clock.advance(STEP);
    }
}

async fn unhurried_client(node: Arc<Watched>, dice: Dice) {
    for _ in 0..60 {
        node.act(&dice).await;
        dice.wait(3).await;
        if dice.below(2) == 0 {
            terrace_testkit::wait::pause(Duration::from_millis(dice.below(300))).await;
        }
    }
}

async fn hearing(seed: u64) {
    let (fleet, dice) = (Fleet::hearing(seed), Dice::new(seed));
    let ticking = spawn(tick(fleet.clock.clone()));
    let clients: Vec<_> = (0..9)
        .map(|n| spawn(unhurried_client(Arc::clone(&fleet.nodes[n % 3]), Dice::new(seed * 100 + n as u64))))
        .collect();
    let trouble = dice.below(4);
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        terrace_testkit::wait::pause(Duration::from_millis(dice.below(200))).await;
        let node = &fleet.nodes[dice.one_of(&[0, 1, 2])];
        match dice.below(8) {
            0 if trouble > 1 => node.disturb(&dice),
            1 if trouble > 2 => lose(&node.remote, &dice),
            2 | 3 if trouble > 0 => node.deafen(&dice),
            4 => fleet.clock.advance(Duration::from_millis(dice.below(3000))),
            _ => {}
        }
    }
    for client in clients {
        client.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
    fleet.settle().await;
    ticking.abort();
}

#[test]
fn a_fleet_that_hears_of_changes_returns_nothing_older_than_a_lease() {
    seeds(60).for_each(|seed| run(hearing(seed)));
}
