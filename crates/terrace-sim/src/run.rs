//! One run: a fleet works, trouble ends, all is read, and the history is checked.

use crate::network::nanos;
use crate::node::{FLEETING_TTL, NO_L1};
use crate::origin::ORIGIN_MAX;
use crate::remote::DEADLINE;
use crate::setting::Setting;
use crate::world::World;
use std::time::Duration;
use terrace_testkit::history::{self, Forgetting, Operation, Promises, Report};

/// What a run came to.
#[derive(Debug)]
pub struct Run {
    /// What was made of the seed.
    pub setting: Setting,
    /// All calls.
    pub operations: Vec<Operation>,
    /// What the checker says of them.
    pub report: Report,
    /// Messages that were lost in silence.
    pub lost: u64,
    /// How often a replica took the server's place.
    pub failovers: usize,
}

/// Runs what `setting` says, and checks what came.
pub fn run(setting: Setting) -> Run {
    let mut world = World::new(setting);
    world.start();
    world.work_until(nanos(world.setting.lasts));
    world.settle();
    let calm_from = world.record().stamp();
    world.read_all();
    let promises = promises(&world, calm_from);
    let operations = world.record().take();
    let report = history::check(&operations, &promises);
    let lost = world.network.lock().links.iter().map(|link| link.lost.len() as u64).sum();
    let failovers = world.failed_over.len();
    Run { setting: world.setting, operations, report, lost, failovers }
}

fn promises(world: &World, calm_from: u64) -> Promises {
    let setting = &world.setting;
    let has_losses = setting.trouble.silent_losses > 0;
    let bound = if has_losses { setting.found_within() } else { setting.staleness_max };
    Promises {
        staleness_max: setting.hears.then_some(bound),
        slack: Duration::ZERO,
        call_max: world.call_max(),
        reads_max: setting.reads_max(),
        homeward: setting.homeward(),
        calm_from: Some(calm_from),
        // A load begins before what it brings is stored, and its TTL begins after.
        ttl_max: Some(FLEETING_TTL + ORIGIN_MAX + DEADLINE * 2),
        unordered: vec![u32::try_from(NO_L1).unwrap_or(u32::MAX)],
        forgettings: world
            .failed_over
            .iter()
            .map(|&at| Forgetting { from: 0, at, until: calm_from })
            .collect(),
    }
}
