//! How long after an invalidation was acknowledged do nodes still return the value from before?
//!
//! 1. Every node that is watched has a copy in its memory before.
//! 2. It is asked again and again, by one client that waits for nothing but answers. The lag ends when the first question
//!    is asked that is answered with the new value; it is zero if that was before the acknowledgement. So it is too long by
//!    as much as one question takes: how long the old value was certainly still returned is told apart.

use crate::dice::Dice;
use crate::load::Worker;
use crate::world::{Answer, How, KeyId, Source, World};
use anyhow::{Context as _, Result, ensure};
use std::sync::Arc;
use std::time::Duration;
use terrace_core::Moment;
use terrace_testkit::server::Pushes;
use terrace_testkit::wait::{until_some, within};
use tokio::task::JoinSet;

/// A node that takes longer never comes to it.
const LONGEST: Duration = Duration::from_mins(1);

/// Lags of many invalidations.
#[derive(Clone, Debug, Default)]
pub struct Lags {
    sorted: Vec<Duration>,
    old_for: Duration,
}

impl Lags {
    /// The lag that so many of a hundred do not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        let at = (self.sorted.len() * percent).div_ceil(100).saturating_sub(1);
        self.sorted.get(at).copied().unwrap_or_default()
    }

    /// The longest that the old value was returned, by when the last read began that brought it.
    pub fn old_for(&self) -> Duration {
        self.old_for
    }

    /// The longest.
    pub fn longest(&self) -> Duration {
        self.sorted.last().copied().unwrap_or_default()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }
}

/// Invalidates one key after the other through the first node, and watches the others, or the first itself if it is the
/// only one. If `is_lost`, the message about it reaches none of them, and nothing comes after it (T4).
///
/// # Errors
/// If the origin cannot be written.
///
/// # Panics
/// If a node does not come to the new value at all.
///
/// # Cancel safety
/// Dropping the future may leave messages being lost.
pub async fn measure(world: &Arc<World>, watched: &[usize], rounds: u32, is_lost: bool) -> Result<Lags> {
    let mut issuer = Worker::new(Arc::clone(world), 0, Dice::new(0));
    let roads = world.fleet.backing.roads();
    let mut lags = Lags::default();
    for round in 0..rounds {
        let key = KeyId(round % world.rows());
        let number = *world.number(key).lock().await;
        let mut watching = JoinSet::new();
        for &node in watched {
            let mut watcher = Worker::new(Arc::clone(world), node, Dice::new(0));
            until_some("a copy in memory", async || {
                let answer = watcher.read(key).await.answer;
                matches!(answer, Answer::Value { source: Source::L1, number: n, .. } if n == number)
                    .then_some(())
            })
            .await;
            watching.spawn(async move {
                within("the new value", LONGEST, first_after(&mut watcher, key, number)).await
            });
        }
        if is_lost {
            for &node in watched {
                roads[node].pushes(Pushes::BeatsOnly);
            }
        }
        let lost = |node: usize| roads[node].lost();
        // Where sentinels or a Cluster name the servers, nodes reach them without a road of ours.
        let before: Vec<u64> = watched.iter().filter(|_| is_lost).map(|&node| lost(node)).collect();
        issuer.change(key, How::Key).await?;
        let change = world.take_changes().pop().context("the change is noted")?;
        let acknowledged = change.ended;
        if is_lost {
            for (&node, before) in watched.iter().zip(before) {
                until_some("the message to be lost", async || (lost(node) > before).then_some(())).await;
                roads[node].pushes(Pushes::Pass);
            }
        }
        while let Some(seen) = watching.join_next().await {
            let (old, new) = seen?;
            lags.sorted.push(new.since(acknowledged));
            lags.old_for = lags.old_for.max(old.since(acknowledged));
        }
        world.take_reads();
    }
    ensure!(lags.count() > 0, "nobody was watched");
    lags.sorted.sort();
    Ok(lags)
}

/// When the last read began that brought `number`, and the first that brought more.
async fn first_after(watcher: &mut Worker, key: KeyId, number: u64) -> (Moment, Moment) {
    let mut old = Moment::from_nanos(0);
    loop {
        let read = watcher.read(key).await;
        match read.answer {
            Answer::Value { number: n, .. } if n > number => return (old, read.began),
            Answer::Value { source, .. } if source != Source::Stale => old = read.began,
            _ => {}
        }
    }
}
