//! A fleet, its server and what lies between, in virtual time.
//!
//! The world knows what happens next: a message arrives, a node's tasks get their turn, trouble comes or ends. It lets that
//! happen at its time, one after the other, on one thread. All that chance decides follows from the seed, so a seed is
//! a history.
//!
//! What brings randomness of its own breaks that. `tokio::sync::watch` is such: it wakes those who wait in an order that it draws
//! anew in each process. [`tokio::sync::Notify`] wakes them in the order in which they came.

use crate::network::{MILLI, Network, Time};
use crate::node::{Node, Spaces};
use crate::record::{Record, Truth};
use crate::setting::{PAUSE_MAX, Setting, index};
use crate::workload;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use terrace_core::{Chance, Clock};
use terrace_testkit::fake::FakeRemote;

/// The longest that a call may take on a node that runs: a load with a lease that is waited for, on connections that stand still.
pub(crate) const CALL_MAX: Duration = Duration::from_secs(8);
/// How long the fleet has until all is told and every call is over, once all trouble is.
const SETTLE_MAX: Time = 30_000 * MILLI;

/// A fleet under way.
pub(crate) struct World {
    pub(crate) setting: Setting,
    pub(crate) chance: Chance,
    pub(crate) nodes: Vec<Node>,
    pub(crate) server: FakeRemote,
    pub(crate) remotes: Vec<FakeRemote>,
    pub(crate) network: Arc<Mutex<Network>>,
    pub(crate) truth: Arc<Truth>,
    clock: Clock,
    pub(crate) now: Time,
    is_over: Arc<AtomicBool>,
    /// When the server's replica took its place, and how many calls there were by then.
    pub(crate) failed_over: Vec<u64>,
    pub(crate) calls_at_failover: usize,
}

impl World {
    pub(crate) fn new(setting: Setting) -> Self {
        let chance = Chance::seeded(setting.seed);
        let clock = Clock::manual();
        let server = FakeRemote::with_partitions(clock.clone(), setting.partitions);
        let server = if setting.trouble.failovers { server.replicated() } else { server };
        if setting.grace.is_some() {
            // So that there is room below, for when it is set back.
            server.advance_server_time(Duration::from_hours(24));
        }
        let hear = |remote: FakeRemote| if setting.hears { remote.hearing() } else { remote };
        let remotes: Vec<_> = (0..setting.nodes).map(|_| hear(server.another_node())).collect();
        let network = Arc::new(Network::new(
            remotes.clone(),
            (setting.hop, setting.hearing),
            setting.pool,
            Chance::seeded(chance.number()),
        ));
        let (keys, fails) = (setting.keys + Spaces::FLEETING, setting.grace.map(|_| setting.seed));
        let truth = Truth::new(keys, Chance::seeded(chance.number()), fails, Arc::default());
        let truth = Arc::new(truth);
        let nodes = (0..setting.nodes)
            .map(|number| Node::new(number, &setting, remotes[number].clone(), &network, &truth))
            .collect();
        let is_over = Arc::default();
        Self {
            setting,
            chance,
            nodes,
            server,
            remotes,
            network,
            truth,
            clock,
            now: 0,
            is_over,
            failed_over: Vec::new(),
            calls_at_failover: 0,
        }
    }

    pub(crate) fn record(&self) -> &Record {
        &self.truth.record
    }

    /// Starts the callers.
    pub(crate) fn start(&self) {
        for node in &self.nodes {
            for _ in 0..self.setting.clients {
                let chance = Chance::seeded(self.chance.number());
                let (spaces, is_over) = (Arc::clone(&node.spaces), Arc::clone(&self.is_over));
                node.spawn(workload::call(spaces, self.setting.clone(), chance, is_over));
            }
        }
    }

    /// Tells the callers to stop.
    pub(crate) fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Lets the world go on until `end`.
    pub(crate) fn run_until(&mut self, end: Time) {
        while self.now < end {
            let node = self.nodes.iter().map(|node| node.due.max(node.paused_until)).min();
            let next = node.into_iter().chain(self.network.lock().next()).min().unwrap_or(end);
            self.go_to(next.min(end));
        }
    }

    fn go_to(&mut self, now: Time) {
        let now = now.max(self.now);
        self.clock.advance(Duration::from_nanos(now - self.now));
        self.now = now;
        self.record().advance(now);
        let mut network = self.network.lock();
        network.advance(now);
        for (node, link) in self.nodes.iter_mut().zip(&mut network.links) {
            if std::mem::take(&mut link.is_woken) {
                node.wake(now);
            }
        }
        drop(network);
        if !now.is_multiple_of(MILLI) {
            return;
        }
        let first = index(self.chance.below(self.nodes.len() as u64));
        for step in 0..self.nodes.len() {
            let at = (first + step) % self.nodes.len();
            let node = &mut self.nodes[at];
            if node.due <= now && node.paused_until <= now {
                node.run(now);
            }
        }
    }

    /// Ends all trouble, and waits until L2 knows everything and every node hears.
    pub(crate) fn settle(&mut self) {
        for remote in &self.remotes {
            remote.set_fault(None);
        }
        for node in &mut self.nodes {
            node.paused_until = 0;
        }
        let mut network = self.network.lock();
        network.links.iter_mut().for_each(super::network::Link::mend);
        network.server_stalls_until = 0;
        drop(network);
        self.stop();
        self.run_while(SETTLE_MAX, |node| node.is_calling() || !node.spaces.is_told());
        let rest = if self.setting.hears { self.setting.found_within() } else { self.setting.l1_ttl };
        self.run_until(self.now + crate::network::nanos(rest) + 500 * MILLI);
    }

    /// Reads all keys on all nodes, some times over.
    pub(crate) fn read_all(&mut self) {
        for _ in 0..2 {
            for node in &self.nodes {
                let spaces = Arc::clone(&node.spaces);
                node.spawn(async move {
                    for key in 0..spaces.keys {
                        spaces.read_plain(key).await;
                        spaces.read_through(key).await;
                    }
                });
            }
            self.run_while(SETTLE_MAX, Node::is_calling);
        }
    }

    /// Lets the world go on while this holds for a node, for a while at most.
    pub(crate) fn run_while(&mut self, at_most: Time, holds: impl Fn(&Node) -> bool) {
        let end = self.now + at_most;
        while self.now < end && self.nodes.iter().any(&holds) {
            self.run_until(self.now + 20 * MILLI);
        }
    }

    /// The longest that a call may take, pauses of its node included.
    pub(crate) fn call_max(&self) -> Duration {
        let pauses = if self.setting.trouble.pauses { PAUSE_MAX * 2 } else { 0 };
        CALL_MAX + Duration::from_nanos(pauses)
    }
}
