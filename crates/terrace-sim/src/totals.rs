//! What many runs came to.

use crate::run::Run;
use std::fmt;
use std::time::Duration;

/// The figures of many runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Seeds that were run.
    pub runs: u64,
    /// Calls that were made.
    pub operations: u64,
    /// Reads that brought a fresh value.
    pub fresh: u64,
    /// Reads that brought one flagged as stale.
    pub stale: u64,
    /// Fresh reads that K5 was checked for.
    pub linearized: u64,
    /// The oldest fresh read, as a share of what was promised in its run, in millionths.
    pub oldest_of_million: u64,
    /// The oldest fresh read of a run in which no message was lost in silence, and what was promised there.
    pub oldest: (Duration, Duration),
    /// Messages lost in silence.
    pub lost: u64,
    /// How often a replica took a server's place.
    pub failovers: usize,
    /// Promises that were broken.
    pub violations: usize,
}

impl Totals {
    /// Adds what a run came to.
    pub fn add(&mut self, run: &Run) {
        let figures = run.report.figures;
        self.runs += 1;
        self.operations += figures.operations;
        self.fresh += figures.fresh;
        self.stale += figures.stale;
        self.linearized += figures.linearized;
        self.lost += run.lost;
        self.failovers += run.failovers;
        self.violations += run.report.violations.len();
        if run.setting.hears && run.setting.trouble.silent_losses == 0 {
            let promised = run.setting.staleness_max;
            let share = figures.oldest_fresh.as_nanos() * 1_000_000 / promised.as_nanos().max(1);
            let share = u64::try_from(share).unwrap_or(u64::MAX);
            if share >= self.oldest_of_million {
                self.oldest_of_million = share;
                self.oldest = (figures.oldest_fresh, promised);
            }
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (oldest, promised) = self.oldest;
        write!(
            f,
            "{} seeds, {} operations, {} fresh reads ({} stale), {} linearized; \
             the oldest fresh read {oldest:.0?} of {promised:.0?} promised; \
             {} messages lost in silence, {} failovers; {} violations",
            self.runs,
            self.operations,
            self.fresh,
            self.stale,
            self.linearized,
            self.lost,
            self.failovers,
            self.violations
        )
    }
}
