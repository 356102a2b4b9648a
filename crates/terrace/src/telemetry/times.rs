//! How long did lookups take, class by class?
//!
//! For whoever draws a distribution: what [`super::stats`] says of it in four numbers is here in full. Nothing is subtracted
//! at a reset, so two readers that come at different times can each take the difference to what they saw before.

use super::counters::{SAMPLE_EVERY, TIERS};
use super::event::Op;
use super::histogram::{self, HistogramSnapshot};
use super::{SpaceCounters, Telemetry};
use crate::entry::Tier;
use std::time::Duration;

/// How long lookups took since the cache was built; see [`Cache::lookup_times`](crate::Cache::lookup_times) and
/// [`Keyspace::lookup_times`](crate::Keyspace::lookup_times).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LookupTimes {
    /// The longest duration of each class, which belongs to it: doublings of 100 ns. One more class has everything longer.
    pub bounds: Vec<Duration>,
    /// By the farthest tier that a lookup asked, nearest first. A batch is one lookup.
    pub tiers: Vec<TierTimes>,
}

/// How long those lookups took that asked no farther than this tier.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TierTimes {
    /// The farthest tier that was asked.
    pub tier: Tier,
    /// How many lookups are in each class: one more number than there are bounds.
    pub counts: Vec<u64>,
    /// All of them.
    pub count: u64,
    /// How long they took together.
    pub sum: Duration,
    /// One in so many was timed and stands for all of them; `None` if each was.
    pub sampled: Option<u32>,
}

impl Telemetry {
    /// The times of all lookups since the cache was built.
    pub(crate) fn lookup_times(&self) -> LookupTimes {
        let spaces = self.spaces.read().clone();
        LookupTimes::of(spaces.values().map(|counters| &**counters))
    }
}

impl LookupTimes {
    /// Those of these keyspaces.
    pub(crate) fn of<'a>(spaces: impl IntoIterator<Item = &'a SpaceCounters>) -> Self {
        let mut all = TIERS.map(|tier| (tier, HistogramSnapshot::zero()));
        for counters in spaces {
            let snapshot = counters.snapshot();
            for (tier, sum) in &mut all {
                sum.merge(snapshot.durations(Op::Get, *tier));
            }
        }
        let tiers = all.map(|(tier, all)| {
            let counts = all.octaves(1).into_iter().map(|(_, count)| count).collect();
            let sampled = (tier == Tier::L1).then_some(SAMPLE_EVERY);
            TierTimes { tier, counts, count: all.count(), sum: all.sum(), sampled }
        });
        Self { bounds: histogram::octave_bounds().collect(), tiers: tiers.into() }
    }

    /// Adds those of other keyspaces.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.tiers.iter_mut().zip(&other.tiers) {
            for (mine, theirs) in mine.counts.iter_mut().zip(&theirs.counts) {
                *mine += theirs;
            }
            mine.count += theirs.count;
            mine.sum += theirs.sum;
        }
    }
}
