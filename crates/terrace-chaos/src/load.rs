//! The load: workers that read and change through one node each, over HTTP.
//!
//! 1. Most reads go to few keys. Some go to many, so that there are misses and loads at any time.
//! 2. A worker waits for its answer for [`PATIENCE`], which is far longer than a service may take. A node that is halted
//!    holds its own workers only.

use crate::dice::Dice;
use crate::http::{Connection, Reply};
use crate::world::{
    Answer, Change, Effect, Failure, GROUPED, GROUPS, How, KeyId, NodeId, Read, Source, World,
};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::Moment;
use terrace_testkit::wait::pause;
use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinSet;

/// Longest wait for an answer. A service answers within 5 s, and is halted for at most 10 s.
const PATIENCE: Duration = Duration::from_secs(30);
/// Keys that most operations go to.
const HOT: u64 = 48;

/// How much load there is.
#[derive(Clone, Copy, Debug)]
pub struct Intensity {
    /// Workers for each node.
    pub workers: usize,
    /// What each waits between two operations.
    pub pace: Duration,
    /// Of a hundred operations on one key, how many change it.
    pub changes_percent: u64,
}

/// Starts the load. It ends when the world is over.
pub(crate) fn start(world: &Arc<World>, seed: u64, intensity: Intensity) -> JoinSet<anyhow::Result<()>> {
    let mut workers = JoinSet::new();
    for node in 0..world.fleet.nodes.len() {
        for number in 0..intensity.workers {
            let dice = Dice::new(seed ^ ((node as u64) << 32) ^ ((number as u64) << 48));
            let mut worker = Worker::new(Arc::clone(world), node, dice);
            workers.spawn(async move {
                while !worker.world.is_over() {
                    worker.step(intensity).await?;
                    pause(intensity.pace).await;
                }
                Ok(())
            });
        }
    }
    workers
}

/// One client of one node.
pub(crate) struct Worker {
    world: Arc<World>,
    node: usize,
    connection: Connection,
    dice: Dice,
}

/// An entry as the service shows it.
#[derive(Deserialize)]
struct Shown {
    value: Row,
    source: Source,
    version: u64,
}

#[derive(Deserialize)]
struct Row {
    id: u32,
    number: u64,
    #[serde(default)]
    mark: i64,
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        match text {
            "l1" => Ok(Self::L1),
            "l2" => Ok(Self::L2),
            "origin" => Ok(Self::Origin),
            "stale" => Ok(Self::Stale),
            other => Err(serde::de::Error::custom(format!("{other} is no source"))),
        }
    }
}

impl Worker {
    pub(crate) fn new(world: Arc<World>, node: usize, dice: Dice) -> Self {
        Self { world, node, connection: Connection::default(), dice }
    }

    async fn step(&mut self, intensity: Intensity) -> anyhow::Result<()> {
        let key = self.choose();
        if !self.dice.percent(intensity.changes_percent) {
            self.read(key).await;
            return Ok(());
        }
        match self.world.group(key) {
            None => match self.dice.below(3) {
                0 => self.change(key, How::Put).await,
                1 => self.change(key, How::Delete).await,
                _ => self.change(key, How::Key).await,
            },
            Some(group) => match self.dice.below(16) {
                0 => self.change_group(group, How::Tag).await,
                1 => self.change_group(group, How::Pattern).await,
                2 => self.change(key, How::Delete).await,
                _ => self.change(key, How::Put).await,
            },
        }
    }

    fn choose(&mut self) -> KeyId {
        let rows = self.world.rows();
        let number = match self.dice.below(100) {
            0..10 => u64::from(rows) + self.dice.below(GROUPED.into()),
            10..80 => self.dice.below(HOT.min(rows.into())),
            _ => self.dice.below(rows.into()),
        };
        KeyId(u32::try_from(number).unwrap_or(0))
    }

    /// Reads a key, and notes what came.
    pub(crate) async fn read(&mut self, key: KeyId) -> Read {
        let path = format!("/api/cache/{}?verbose=true", self.world.name(key));
        let (node, began, reply) = self.ask("GET", &path, "").await;
        let answer = match reply {
            Ok(Reply { status: 200, body, .. }) => match serde_json::from_slice::<Shown>(&body) {
                Ok(Shown { value: Row { id, number, mark }, source, version }) if id == key.0 => {
                    Answer::Value { number, version, mark, source }
                }
                _ => Answer::Failed(Failure::Wrong),
            },
            Ok(Reply { status: 404, .. }) => Answer::Nothing,
            Ok(Reply { status, .. }) => Answer::Failed(Failure::Status(status)),
            Err(failure) => Answer::Failed(failure),
        };
        let read = Read { key, node, began, ended: self.world.clock.precise(), answer };
        self.world.note_read(read);
        read
    }

    /// Changes a key, unless somebody else is changing it.
    pub(crate) async fn change(&mut self, key: KeyId, how: How) -> anyhow::Result<()> {
        let Ok(mut last) = self.world.number(key).try_lock_owned() else { return Ok(()) };
        *last += 1;
        let number = *last;
        self.raise(key, number)?;
        let name = self.world.name(key);
        let (method, path, body) = match how {
            How::Put => {
                let tags =
                    self.world.group(key).map_or_else(String::new, |g| format!(",\"tags\":[\"g{g}\"]"));
                let body = format!("{{\"value\":{{\"id\":{},\"number\":{number}}}{tags}}}", key.0);
                ("PUT", format!("/api/cache/{name}"), body)
            }
            How::Delete => ("DELETE", format!("/api/cache/{name}"), String::new()),
            _ => ("POST", "/api/cache/invalidate".to_owned(), format!("{{\"keys\":[\"{name}\"]}}")),
        };
        let (node, began, reply) = self.ask(method, &path, &body).await;
        let (ended, effect) = (self.world.clock.precise(), effect(&reply));
        self.world.note_change(Change { key, number, node, how, began, ended, effect });
        Ok(())
    }

    /// Changes all keys of a group, unless somebody else is changing one of them.
    async fn change_group(&mut self, group: u32, how: How) -> anyhow::Result<()> {
        let keys = self.world.of_group(group);
        let locks = keys.iter().map(|key| self.world.number(*key).try_lock_owned());
        let Ok(mut locks) = locks.collect::<Result<Vec<OwnedMutexGuard<u64>>, _>>() else { return Ok(()) };
        for last in &mut locks {
            **last += 1;
        }
        let body = match how {
            How::Tag => format!("{{\"tags\":[\"g{group}\"]}}"),
            _ => format!("{{\"pattern\":\"group:{group}:*\"}}"),
        };
        let (node, began, reply) = self.ask("POST", "/api/cache/invalidate", &body).await;
        let (ended, effect) = (self.world.clock.precise(), effect(&reply));
        for (key, last) in keys.into_iter().zip(&locks) {
            self.world.note_change(Change { key, number: **last, node, how, began, ended, effect });
        }
        Ok(())
    }

    /// Raises the number at the origin; keys of groups have none.
    fn raise(&self, key: KeyId, number: u64) -> anyhow::Result<()> {
        if self.world.group(key).is_some() { Ok(()) } else { self.world.fleet.origin.set(key.0, number) }
    }

    async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
    ) -> (NodeId, Moment, Result<Reply, Failure>) {
        let life = self.world.fleet.nodes[self.node].life();
        let number = |number| u16::try_from(number).unwrap_or(u16::MAX);
        let node = NodeId { index: u16::try_from(self.node).unwrap_or(u16::MAX), life: number(life.number) };
        let began = self.world.clock.precise();
        let asking = self.connection.ask(life.address, method, path, body);
        let reply = match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => {
                // A node that is being started anew refuses for a while.
                pause(Duration::from_millis(20)).await;
                Err(Failure::Gone)
            }
            Err(_) => Err(Failure::Silent),
        };
        (node, began, reply)
    }
}

fn effect(reply: &Result<Reply, Failure>) -> Effect {
    match reply {
        Ok(Reply { status: 200, is_queued: false, .. }) => Effect::Applied,
        Ok(Reply { status: 200, is_queued: true, .. }) => Effect::Queued,
        _ => Effect::Unknown,
    }
}

const _: () = assert!(GROUPED.is_multiple_of(GROUPS), "groups are of one size");
