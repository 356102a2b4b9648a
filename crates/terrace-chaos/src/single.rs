//! One load per key, however many ask, through however many nodes.
//!
//! 1. Loads are counted by the marks that they bring: every load's is its own.
//! 2. All connections are open, and all requests are sent at once. Each connection sends so many, one after the other.

use crate::http::Connection;
use crate::world::World;
use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::Moment;
use terrace_testkit::wait::until_some;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// What many cold reads of one key came to.
#[derive(Clone, Debug)]
pub struct Single {
    /// How many were answered.
    pub reads: usize,
    /// How many loads brought what they were answered with.
    pub loads: usize,
    /// Loads that the nodes themselves counted.
    pub counted: u64,
    /// How long the answers took, sorted.
    pub waits: Vec<Duration>,
}

impl Single {
    /// The wait that so many of a hundred do not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        let at = (self.waits.len() * percent).div_ceil(100).saturating_sub(1);
        self.waits.get(at).copied().unwrap_or_default()
    }
}

/// What the death of a node in the middle of its load came to.
#[derive(Clone, Debug)]
pub struct Death {
    /// How many loads brought what the others were answered with.
    pub loads: usize,
    /// From the death until the last of the others was answered.
    pub answered_after: Duration,
}

#[derive(Deserialize)]
struct Shown {
    value: Row,
}

#[derive(Deserialize)]
struct Row {
    mark: i64,
}

/// Reads one cold key through all nodes at once: over `connections` to each, `requests` times each.
///
/// # Errors
/// If a read fails.
///
/// # Cancel safety
/// Dropping the future ends the connections.
pub async fn read_at_once(
    world: &Arc<World>,
    row: u32,
    connections: usize,
    requests: usize,
) -> Result<Single> {
    let nodes = world.fleet.nodes.len();
    let before = loads(world).await?;
    let barrier = Arc::new(Barrier::new(nodes * connections));
    let mut readers = JoinSet::new();
    for node in 0..nodes {
        for _ in 0..connections {
            let (world, barrier) = (Arc::clone(world), Arc::clone(&barrier));
            readers.spawn(async move {
                let mut connection = Connection::default();
                let opened = connection.open(world.fleet.nodes[node].life().address).await;
                barrier.wait().await;
                opened?;
                let mut answers = Vec::with_capacity(requests);
                for _ in 0..requests {
                    answers.push(read(&world, &mut connection, node, row).await?);
                }
                anyhow::Ok(answers)
            });
        }
    }
    let (mut marks, mut waits) = (HashSet::new(), Vec::new());
    while let Some(answers) = readers.join_next().await {
        for (mark, began, ended) in answers?? {
            marks.insert(mark);
            waits.push(ended.since(began));
        }
    }
    waits.sort();
    let counted = loads(world).await? - before;
    Ok(Single { reads: waits.len(), loads: marks.len(), counted, waits })
}

/// Kills the node that loads a key, while all others wait for it.
///
/// # Errors
/// If a read of another node fails.
///
/// # Panics
/// If the node takes no lease.
///
/// # Cancel safety
/// Dropping the future may leave the node killed.
pub async fn kill_holder(world: &Arc<World>, row: u32, connections: usize) -> Result<Death> {
    let servers = world.fleet.backing.servers();
    let holder = {
        let world = Arc::clone(world);
        let mut holding = JoinSet::new();
        holding.spawn(async move { read(&world, &mut Connection::default(), 0, row).await });
        holding
    };
    let pattern = format!("*:slow:{row}");
    until_some("a lease", async || {
        for server in servers {
            if !server.cli(&["--scan", "--pattern", &pattern]).await.is_empty() {
                return Some(());
            }
        }
        None
    })
    .await;
    let mut readers = JoinSet::new();
    for node in 1..world.fleet.nodes.len() {
        for _ in 0..connections {
            let world = Arc::clone(world);
            readers.spawn(async move { read(&world, &mut Connection::default(), node, row).await });
        }
    }
    let died = world.clock.precise();
    world.fleet.nodes[0].kill();
    drop(holder);
    let (mut marks, mut last) = (HashSet::new(), died);
    while let Some(answer) = readers.join_next().await {
        let (mark, _, ended) = answer??;
        marks.insert(mark);
        last = last.max(ended);
    }
    Ok(Death { loads: marks.len(), answered_after: last.since(died) })
}

async fn read(
    world: &World,
    connection: &mut Connection,
    node: usize,
    row: u32,
) -> Result<(i64, Moment, Moment)> {
    let began = world.clock.precise();
    let address = world.fleet.nodes[node].life().address;
    let reply = connection.ask(address, "GET", &format!("/api/cache/slow:{row}"), "").await?;
    let ended = world.clock.precise();
    let text = || String::from_utf8_lossy(&reply.body).into_owned();
    ensure!(reply.status == 200, "node {node} answered {}: {}", reply.status, text());
    let shown: Shown = serde_json::from_slice(&reply.body).with_context(text)?;
    Ok((shown.value.mark, began, ended))
}

/// Loads that the nodes have counted.
async fn loads(world: &World) -> Result<u64> {
    #[derive(Deserialize)]
    struct Metrics {
        loads: u64,
    }
    let mut sum = 0;
    for node in &world.fleet.nodes {
        let reply = Connection::default().ask(node.life().address, "GET", "/api/cache/metrics", "").await?;
        sum += serde_json::from_slice::<Metrics>(&reply.body)?.loads;
    }
    Ok(sum)
}
