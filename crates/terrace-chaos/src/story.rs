//! Chapters one after the other, under one load, on one fleet.

use crate::chapter::{self, Chapter, Past};
use crate::dice::Dice;
use crate::fleet::{Fleet, Settings};
use crate::load::{self, Intensity};
use crate::nemesis::Fault;
use crate::world::World;
use anyhow::Result;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// What is done, to what, and for how long each.
#[derive(Clone, Debug)]
pub struct Plot {
    /// The fleet.
    pub settings: Settings,
    /// Where all chance comes from.
    pub seed: u64,
    /// The load.
    pub intensity: Intensity,
    /// The faults, in order, and how long each lasts.
    pub faults: Vec<(Fault, Duration)>,
}

/// What came of it.
#[derive(Debug)]
pub struct Story {
    /// The seed.
    pub seed: u64,
    /// The faults, in order.
    pub chapters: Vec<Chapter>,
    /// The most memory that any node took, in KiB.
    pub resident_kib: u64,
    /// What the nodes said last, if something is wrong.
    pub logs: String,
}

impl Story {
    /// Whether every promise was kept.
    pub fn is_good(&self) -> bool {
        self.chapters.iter().all(Chapter::is_good)
    }
}

/// Lives through a plot. `None`, with a line on the terminal, if no server is installed. `tell` is called with each
/// chapter as it ends.
///
/// # Errors
/// If a process cannot be started, or the origin cannot be written.
///
/// # Cancel safety
/// Dropping the future ends all processes.
pub async fn live(plot: &Plot, mut tell: impl FnMut(&Chapter)) -> Result<Option<Story>> {
    let Some(fleet) = Fleet::start(plot.settings.clone()).await? else { return Ok(None) };
    let world = Arc::new(World::new(fleet));
    let mut dice = Dice::new(plot.seed);
    let workers = load::start(&world, dice.number(), plot.intensity);
    let (mut past, mut chapters) = (Past::default(), Vec::new());
    for &(fault, hold) in &plot.faults {
        let chapter = chapter::write(&world, &mut past, fault, hold, &mut dice).await?;
        tell(&chapter);
        chapters.push(chapter);
    }
    world.end();
    end(workers).await?;
    let resident_kib = world.fleet.nodes.iter().map(|node| node.resident_kib().1).max().unwrap_or(0);
    let is_good = chapters.iter().all(Chapter::is_good);
    let logs = if is_good { String::new() } else { world.fleet.logs() };
    Ok(Some(Story { seed: plot.seed, chapters, resident_kib, logs }))
}

async fn end(mut workers: JoinSet<Result<()>>) -> Result<()> {
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok(())
}
