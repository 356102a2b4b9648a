//! Four processes on a real server, ill-treated: the short form of `cargo xtask chaos`.
//!
//! 1. What is asserted are promises. How fast the machine is shows in what is printed.
//! 2. A failure prints the seed, the faults in order, and the two calls that contradict each other.

use std::sync::Arc;
use std::time::Duration;
use terrace_chaos::nemesis::Fault;
use terrace_chaos::story::{self, Plot};
use terrace_chaos::world::World;
use terrace_chaos::{Fleet, Intensity, Settings, lag, report, single};

const LEASE: Duration = Duration::from_millis(500);
/// Reads that a chapter has at least, on the slowest machine: with none it would say nothing.
const READS_MIN: u64 = 50;

fn settings() -> Settings {
    Settings { lease: LEASE, rows: 2_000, ..Settings::new(env!("CARGO_BIN_EXE_terrace")) }
}

/// Lives through some faults, each for a few leases.
async fn endure(seed: u64, faults: &[Fault]) {
    let intensity = Intensity { workers: 3, pace: Duration::from_millis(5), changes_percent: 12 };
    let faults = faults.iter().map(|fault| (*fault, LEASE * 3)).collect();
    let plot = Plot { settings: settings(), seed, intensity, faults };
    println!("seed {seed}\n{}", report::titles());
    let lived =
        story::live(&plot, |chapter| println!("{}\n{}", report::row(chapter), report::details(chapter)));
    let Some(story) = lived.await.expect("the fleet can be had") else { return };
    assert!(story.is_good(), "promises were broken, see above; seed {seed}\n{}", story.logs);
    for chapter in &story.chapters {
        assert!(chapter.reads() > READS_MIN, "{:?} saw too little", chapter.fault);
        assert!(chapter.changes[0] > 0, "{:?} saw no change applied", chapter.fault);
        let is_hard = [Fault::KillRedis, Fault::HaltRedis, Fault::HalfOpen].contains(&chapter.fault);
        assert!(chapter.stale > 0 || !is_hard, "{:?}: a fleet that is cut off has to say so", chapter.fault);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_die_or_halt_return_nothing_old() {
    endure(11, &[Fault::KillNode, Fault::KillRedis, Fault::HaltNode, Fault::HaltRedis]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgets_or_hangs_up_returns_nothing_old() {
    let forgets = [Fault::Flush, Fault::ForgetScripts, Fault::MemoryEvicting, Fault::MemoryRefusing];
    let hangs_up = [Fault::KillClients, Fault::KillListeners, Fault::SmallBuffers, Fault::PauseClients];
    endure(12, &[forgets, hangs_up].concat()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roads_that_are_bad_return_nothing_old() {
    let one_way = [Fault::BlockRequests, Fault::BlockReplies];
    let both_ways = [Fault::HalfOpen, Fault::Latency, Fault::Trickle, Fault::CutRoads];
    endure(13, &[&one_way[..], &both_ways].concat()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_lost_leave_nothing_old() {
    endure(14, &[Fault::LosePushes, Fault::ThinPushes]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidation_is_seen_by_all_and_at_last_also_if_its_message_is_lost() {
    let Some(fleet) = Fleet::start(settings()).await.expect("the fleet can be had") else { return };
    let world = Arc::new(World::new(fleet));
    let lags = lag::measure(&world, &[1, 2, 3], 20, false).await.expect("an invalidation");
    println!("{}", report::lags("invalidation lag, 4 nodes", &lags));
    assert!(lags.old_for() <= LEASE, "{:?}", lags.old_for());
    let own = lag::measure(&world, &[0], 20, false).await.expect("an invalidation");
    assert_eq!(own.old_for(), Duration::ZERO, "the node that acknowledged it knows");
    let lost = lag::measure(&world, &[1, 2, 3], 2, true).await.expect("an invalidation");
    println!("{}", report::lags("the last message lost", &lost));
    // 20 beats, then the lease. Beats come late on a loaded machine, so as much again.
    assert!(lost.old_for() <= LEASE * 12, "{:?}", lost.old_for());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_cold_reads_of_one_key_are_one_load() {
    let Some(fleet) = Fleet::start(settings().patient()).await.expect("the fleet can be had") else { return };
    let world = Arc::new(World::new(fleet));
    let single = single::read_at_once(&world, 1, 250, 10).await.expect("every read is answered");
    println!("{}", report::single(&single));
    assert_eq!((single.reads, single.loads, single.counted), (10_000, 1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_in_its_load_is_replaced_once() {
    let Some(fleet) = Fleet::start(settings().patient()).await.expect("the fleet can be had") else { return };
    let world = Arc::new(World::new(fleet));
    let death = single::kill_holder(&world, 1, 10).await.expect("every read is answered");
    println!("{}", report::death(&death));
    assert_eq!(death.loads, 1);
}
