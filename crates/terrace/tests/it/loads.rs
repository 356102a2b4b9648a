//! Loads that fail, panic, hang and are given up leave nothing behind: in short, in virtual time; and on two threads.

use crate::fixture::{Node, ended, let_others_run, spawn};
use crate::resident::judge_memory;
use std::convert::Infallible;
use std::time::Duration;
use terrace::{Clock, EntryOptions, Fetched};
use terrace_testkit::wait::pause;
use tokio::sync::oneshot;

#[path = "../../examples/loads/run.rs"]
mod run;

use run::{Settings, Tiers, run};

const TICK: Duration = Duration::from_millis(1);

fn seed() -> u64 {
    std::env::var("TERRACE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// In the runtime's time, which goes on whenever all tasks wait; so no call may be later than timers are exact.
async fn in_virtual_time(tiers: Tiers, calls: u64) {
    let clock = Clock::manual();
    let moved = clock.clone();
    let moving = spawn(async move {
        loop {
            pause(TICK).await;
            moved.advance(TICK);
        }
    });
    tokio::task::yield_now().await;
    let settings = Settings { calls, callers: 64, seed: seed(), tiers, clock, late_max: TICK * 3 };
    let figures = run(settings).await;
    moving.abort();
    println!("{figures}");
    figures.judge().unwrap_or_else(|what| panic!("TERRACE_TEST_SEED={}: {what}", seed()));
}

#[tokio::test(start_paused = true)]
async fn loads_of_any_end_leave_nothing_behind_in_memory() {
    in_virtual_time(Tiers::Memory, 20_000).await;
}

#[tokio::test(start_paused = true)]
async fn loads_of_any_end_leave_nothing_behind_with_an_l2() {
    in_virtual_time(Tiers::Both, 15_000).await;
}

#[tokio::test(start_paused = true)]
async fn loads_of_any_end_leave_nothing_behind_in_a_fleet() {
    in_virtual_time(Tiers::Fleet, 15_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_of_any_end_leave_nothing_behind_on_two_threads() {
    let late_max = Duration::from_secs(20);
    let clock = Clock::system();
    let settings = Settings { calls: 4_000, callers: 64, seed: seed(), tiers: Tiers::Fleet, clock, late_max };
    let figures = run(settings).await;
    println!("{figures}");
    figures.judge().unwrap();
}

#[tokio::test]
async fn who_wants_a_value_loads_one_after_another_node_has_found_none() {
    let node = Node::first_hearing().await;
    let other = node.another_hearing().await;
    let (end, ended_by) = oneshot::channel::<()>();
    let options = EntryOptions::new().negative_ttl(Duration::from_secs(10));
    let texts = node.texts.clone();
    let finding = spawn(async move {
        let nothing = |_| async move {
            ended_by.await.expect("the test ends it");
            Ok::<_, Infallible>(Fetched::absent())
        };
        texts.fetch("k", options, nothing).await.expect("it does not fail")
    });
    let_others_run().await;
    let wanting = other.loading_at_once("k", "v");
    let_others_run().await;
    end.send(()).expect("the load is alive");
    assert!(ended(finding).await.is_none());
    assert_eq!(ended(wanting).await, "v");
}

#[test]
fn growing_memory_is_found() {
    assert!(judge_memory(&[90_000, 90_000, 100_000, 101_000]).is_ok());
    assert!(judge_memory(&[90_000, 90_000, 100_000, 110_000]).is_err());
}
