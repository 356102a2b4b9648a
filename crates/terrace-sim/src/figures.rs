//! Figures of fleets in virtual time: how soon changes are heard, losses found and connections made again.
//!
//! A node handles what has come at the next whole millisecond, so no figure is finer than that.

use crate::network::{MILLI, Time, nanos};
use crate::node::Node;
use crate::setting::{Setting, Trouble};
use crate::world::World;
use std::sync::Arc;
use std::time::Duration;
use terrace::SuspectPolicy;
use terrace_core::Key;
use terrace_testkit::history::{Promises, check};

/// How long anything is waited for.
const PATIENCE: Time = 60_000 * MILLI;

/// A fleet without trouble, whose nodes hear.
fn fleet(seed: u64, nodes: usize, partitions: u16, hop: Duration) -> Setting {
    Setting {
        seed,
        nodes,
        clients: 0,
        keys: 16,
        partitions,
        hears: true,
        lasts: Duration::ZERO,
        think_max: Duration::from_millis(10),
        pool: 2,
        l1_ttl: Duration::from_mins(10),
        hop,
        hearing: Duration::ZERO,
        reads: 0,
        trouble: Trouble::NONE,
        trouble_every: Duration::from_secs(1),
        policies: vec![SuspectPolicy::Validate],
        staleness_max: Duration::from_secs(1),
        grace: None,
        writes_through: false,
    }
}

/// The greatest of the lesser so many of a hundred.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(at).copied().unwrap_or_default()
}

impl World {
    /// Makes a change of a key on a node, and waits for its end.
    fn put(&mut self, node: usize, key: u64) {
        let spaces = Arc::clone(&self.nodes[node].spaces);
        self.nodes[node].spawn(async move { spaces.put(key).await });
        self.run_while(PATIENCE, Node::is_calling);
    }

    /// Lets every node have a copy of every key.
    fn warm(&mut self) {
        for key in 0..self.setting.keys {
            self.put(0, key);
        }
        self.read_all();
    }

    /// Whether a node has a copy that counts as fresh, and which version.
    fn copy(&self, node: usize, key: u64) -> Option<u64> {
        self.nodes[node].spaces.plain.peek(&key).map(|value| value.1)
    }

    /// Runs by the millisecond until `is_done`, and returns whether it came to that.
    fn run_until_done(&mut self, mut is_done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + PATIENCE;
        while self.now < end {
            if is_done(self) {
                return true;
            }
            self.run_until(self.now + MILLI);
        }
        false
    }
}

/// How long after a change was begun on one node each other node dropped its copy, sorted. Nodes with L1 only.
pub fn lag(seed: u64, nodes: usize, hop: Duration) -> Vec<Duration> {
    let mut world = World::new(fleet(seed, nodes, 8, hop));
    world.warm();
    let mut lags = Vec::new();
    for key in 0..world.setting.keys {
        world.read_all();
        let mut left: Vec<usize> = (1..nodes).filter(|&node| world.copy(node, key).is_some()).collect();
        let spaces = Arc::clone(&world.nodes[0].spaces);
        world.nodes[0].spawn(async move { spaces.put(key).await });
        let (began, newest) = (world.now, world.truth.number(key) + 1);
        world.run_until_done(|world| {
            let old = |node: &usize| world.copy(*node, key).is_some_and(|copy| copy < newest);
            let before = left.len();
            left.retain(old);
            let after = Duration::from_nanos(world.now - began);
            lags.extend(std::iter::repeat_n(after, before - left.len()));
            left.is_empty() && !world.nodes[0].is_calling()
        });
    }
    lags.sort_unstable();
    lags
}

/// What became of messages that were lost in silence.
#[derive(Clone, Debug)]
pub struct Losses {
    /// Messages that were lost, of copies that the node had.
    pub lost: usize,
    /// Of which it was never found out.
    pub undetected: usize,
    /// How long the old copies stayed, sorted.
    pub repaired_after: Vec<Duration>,
    /// Partitions that were repaired from the log, on all nodes.
    pub by_log: u64,
    /// Partitions whose copies were all dropped.
    pub by_suspicion: u64,
}

/// Loses so many messages of a thousand on all nodes but one, which changes a key every few milliseconds. Beats pass.
pub fn losses(seed: u64, per_thousand: u64, lasts: Duration) -> Losses {
    let mut world = World::new(fleet(seed, 8, 8, Duration::from_micros(250)));
    world.warm();
    let end = world.now + nanos(lasts);
    for link in world.network.lock().links.iter_mut().skip(1) {
        link.losing = (per_thousand, end);
    }
    let mut open: Vec<(usize, u64, u64, Time)> = Vec::new();
    let mut losses =
        Losses { lost: 0, undetected: 0, repaired_after: Vec::new(), by_log: 0, by_suspicion: 0 };
    let mut is_over = false;
    while !is_over || !open.is_empty() {
        if world.now < end {
            let (writer, key) = (Arc::clone(&world.nodes[0].spaces), world.chance.below(world.setting.keys));
            world.nodes[0].spawn(async move { writer.put(key).await });
            for node in 1..world.nodes.len() {
                let (reader, key) =
                    (Arc::clone(&world.nodes[node].spaces), world.chance.below(world.setting.keys));
                world.nodes[node].spawn(async move { reader.read_plain(key).await });
            }
        }
        is_over = world.now >= end;
        world.run_until(world.now + 5 * MILLI);
        for node in 1..world.nodes.len() {
            let lost = std::mem::take(&mut world.network.lock().links[node].lost);
            for loss in lost {
                let key = loss.key.as_ref().map(Key::as_str).and_then(|key| key.parse().ok());
                let Some(key) = key else { continue };
                let newest = world.truth.number(key);
                if world.copy(node, key).is_some_and(|copy| copy < newest) {
                    losses.lost += 1;
                    open.push((node, key, newest, loss.at));
                }
            }
        }
        let now = world.now;
        open.retain(|&(node, key, newest, at)| {
            let is_old = world.copy(node, key).is_some_and(|copy| copy < newest);
            if !is_old {
                losses.repaired_after.push(Duration::from_nanos(now - at));
            }
            is_old
        });
        if now > end + PATIENCE {
            losses.undetected = open.len();
            break;
        }
    }
    for node in &world.nodes {
        losses.by_log += gaps(node, "repaired");
        losses.by_suspicion += gaps(node, "suspected");
    }
    losses.repaired_after.sort_unstable();
    losses
}

fn gaps(node: &Node, outcome: &str) -> u64 {
    let series = format!("bus_gaps_total{{keyspace=\"watched\",outcome=\"{outcome}\"}} ");
    let metrics = node.spaces.cache.metrics();
    let line = metrics.lines().find_map(|line| line.split_once(&series));
    line.and_then(|(_, count)| count.parse().ok()).expect("the series is there")
}

/// Loses the last message of a burst, with nothing after it, so many times over. How long the old copy stayed each time,
/// sorted.
///
/// # Panics
/// If it stays for a minute.
pub fn last_of_a_burst(seed: u64, times: usize) -> Vec<Duration> {
    let mut world = World::new(fleet(seed, 3, 256, Duration::from_micros(250)));
    world.warm();
    let mut stayed = Vec::new();
    for _ in 0..times {
        let lost = world.chance.below(world.setting.keys);
        let pause = world.chance.below(2000) * MILLI;
        world.run_until(world.now + pause);
        world.read_all();
        for step in 1..8 {
            let other = (lost + step) % world.setting.keys;
            world.put(0, other);
        }
        let key = Key::new(&lost.to_string()).expect("valid");
        world.network.lock().links[1].lose_next = Some(key);
        world.put(0, lost);
        let (began, newest) = (world.now, world.truth.number(lost));
        let is_found = |world: &World| world.copy(1, lost).is_none_or(|copy| copy >= newest);
        assert!(!is_found(&world), "the message is lost");
        assert!(world.run_until_done(is_found), "it is never found out");
        stayed.push(Duration::from_nanos(world.now - began));
    }
    stayed.sort_unstable();
    stayed
}

/// What a restart of the server costs.
#[derive(Clone, Debug)]
pub struct Restart {
    /// Most connections for hearing that were made in a second, and in the busiest tenth of a second.
    pub connects_per_second: usize,
    /// And in the busiest tenth of a second.
    pub connects_per_tenth: usize,
    /// How long after the server was back the first node trusted its copies, half of them did, and all.
    pub first: Duration,
    /// Half of the nodes.
    pub half: Duration,
    /// All nodes.
    pub all: Duration,
}

/// Restarts the server of a large fleet, which keeps its data and is away for `down`.
pub fn restart(seed: u64, nodes: usize, down: Duration) -> Restart {
    let mut world = World::new(fleet(seed, nodes, 8, Duration::from_micros(250)));
    world.warm();
    let back = world.now + nanos(down);
    {
        let mut network = world.network.lock();
        for node in 0..nodes {
            network.break_calls(node);
            network.break_hearing(node);
            network.links[node].refused_until = back;
        }
        network.connects.clear();
    }
    world.run_until(back);
    let with_l1: Vec<usize> = (0..nodes).filter(|&node| node != crate::node::NO_L1).collect();
    let mut left = with_l1.clone();
    let mut coherent = Vec::new();
    world.run_until_done(|world| {
        let before = left.len();
        left.retain(|&node| world.copy(node, 0).is_none());
        let after = Duration::from_nanos(world.now - back);
        coherent.extend(std::iter::repeat_n(after, before - left.len()));
        left.is_empty()
    });
    let network = world.network.lock();
    let busiest = |window: Time| {
        let within =
            |from: &Time| network.connects.iter().filter(|at| (*from..*from + window).contains(at)).count();
        network.connects.iter().map(within).max().unwrap_or(0)
    };
    Restart {
        connects_per_second: busiest(1000 * MILLI),
        connects_per_tenth: busiest(100 * MILLI),
        first: percentile(&coherent, 0),
        half: percentile(&coherent, 50),
        all: if left.is_empty() { percentile(&coherent, 100) } else { Duration::MAX },
    }
}

/// The oldest fresh read of a fleet of a hundred that works without trouble.
pub fn hundred_nodes(seed: u64, lasts: Duration) -> terrace_testkit::history::Report {
    let setting = Setting {
        clients: 1,
        lasts,
        reads: 90,
        think_max: Duration::from_millis(200),
        ..fleet(seed, 100, 8, Duration::from_micros(250))
    };
    let mut world = World::new(setting);
    world.start();
    world.run_until(nanos(lasts));
    world.settle();
    let calm_from = world.record().stamp();
    world.read_all();
    let promises = Promises {
        calm_from: Some(calm_from),
        unordered: vec![u32::try_from(crate::node::NO_L1).unwrap_or(u32::MAX)],
        ..Promises::within(world.setting.staleness_max, world.call_max())
    };
    check(&world.record().take(), &promises)
}
