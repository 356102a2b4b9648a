//! The history of [`crate::history`] once more, on threads: the order of events is the machine's.

use crate::fixture::{ended, spawn};
use crate::history::Fleet;
use crate::jitter::Dice;
use std::sync::Arc;
use std::time::Duration;
use terrace::Clock;

/// How long the nodes are under load.
const LOAD: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_threads_nothing_that_was_invalidated_comes_back_either() {
    let (fleet, time) = (Fleet::new(7), Clock::system());
    let end = time.now().plus(LOAD);
    let clients: Vec<_> = (0..12_u64)
        .map(|n| {
            let node = Arc::clone(&fleet.nodes[usize::try_from(n % 3).expect("small")]);
            let (time, dice) = (time.clone(), Dice::new(n));
            spawn(async move {
                let mut acts = 0_u64;
                while time.now() < end {
                    node.act(&dice).await;
                    acts += 1;
                }
                acts
            })
        })
        .collect();
    let dice = Dice::new(99);
    while time.now() < end {
        terrace_testkit::wait::pause(Duration::from_millis(5)).await;
        fleet.nodes[dice.one_of(&[0, 1, 2])].disturb(&dice);
        fleet.clock.advance(Duration::from_millis(dice.below(2_000)));
    }
    fleet.nodes.iter().for_each(|node| node.remote.set_fault(None));
    let mut acts = 0;
    for client in clients {
        acts += ended(client).await;
    }
    assert!(acts > 300, "{acts} acts are no stress");
    println!("{acts} acts");
    fleet.settle().await;
}
