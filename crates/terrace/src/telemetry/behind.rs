//! How are the figures of what is written behind written for Prometheus?
//!
//! 1. Every series of a keyspace that is written behind is there at every scrape, at zero if nothing happened yet.

use super::histogram::HistogramSnapshot;
use super::names::{self, Metric};
use super::prometheus::describe;
use crate::behind::{Condition, JournalFigures, LaneFigures};
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use std::fmt;

/// What a journal says of itself: its figures, and how long each keyspace's calls of its origin took.
#[derive(Debug)]
pub(crate) struct JournalGauges {
    pub(crate) figures: JournalFigures,
    pub(crate) flushes: Vec<(String, HistogramSnapshot)>,
}

/// A number of a keyspace that is written behind.
type Of<T> = fn(&LaneFigures) -> T;

/// A gauge with one number for each keyspace.
const GAUGES: [(Metric, Of<f64>); 5] = [
    (names::BEHIND_PENDING, |lane| lane.pending as f64),
    (names::BEHIND_BYTES, |lane| lane.pending_bytes as f64),
    (names::BEHIND_OLDEST, |lane| lane.oldest_seconds),
    (names::BEHIND_PARKED, |lane| lane.parked_keys as f64),
    (names::BEHIND_DEAD, |lane| lane.dead_letters as f64),
];

/// What became of writes. Those that were given up have a metric of their own.
const WRITES: [(&str, Of<u64>); 7] = [
    ("acknowledged", |lane| lane.acknowledged),
    ("refused", |lane| lane.refused),
    ("coalesced", |lane| lane.coalesced),
    ("stored", |lane| lane.stored),
    ("retried", |lane| lane.retried),
    ("replayed", |lane| lane.replayed),
    ("repeated", |lane| lane.repeated),
];

impl JournalGauges {
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (metric, gauge) in GAUGES {
            let mut metric = describe(encoder, metric)?;
            for (keyspace, lane) in &self.figures.lanes {
                let labels = [(names::KEYSPACE, keyspace.as_str())];
                metric.encode_family(&labels)?.encode_gauge(&gauge(lane))?;
            }
        }
        describe(encoder, names::BEHIND_PENDING_MAX)?.encode_gauge(&self.figures.pending_max)?;
        let mut writes = describe(encoder, names::BEHIND_WRITES)?;
        for (keyspace, lane) in &self.figures.lanes {
            for (outcome, count) in WRITES {
                let labels = [(names::KEYSPACE, keyspace.as_str()), (names::OUTCOME, outcome)];
                writes.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count(lane), None)?;
            }
        }
        let mut dead = describe(encoder, names::BEHIND_DEAD_TOTAL)?;
        for (keyspace, lane) in &self.figures.lanes {
            let labels = [(names::KEYSPACE, keyspace.as_str())];
            dead.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&lane.dead, None)?;
        }
        let mut flushes = describe(encoder, names::BEHIND_FLUSHES)?;
        for (keyspace, histogram) in &self.flushes {
            let labels = [(names::KEYSPACE, keyspace.as_str())];
            flushes.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                histogram.sum().as_secs_f64(),
                histogram.count(),
                &histogram.octaves(1),
                None,
            )?;
        }
        self.encode_file(encoder)
    }

    /// What concerns the file, and not one keyspace.
    fn encode_file(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let is = |state: &str| match self.figures.condition {
            Condition::Sound => state == "sound",
            Condition::DiskFull => state == "disk_full",
            Condition::Poisoned(_) => state == "poisoned",
        };
        let mut states = describe(encoder, names::JOURNAL_STATE)?;
        for state in ["sound", "disk_full", "poisoned"] {
            states.encode_family(&[(names::STATE, state)])?.encode_gauge(&u64::from(is(state)))?;
        }
        let mut commits = describe(encoder, names::JOURNAL_COMMITS)?;
        commits.encode_counter::<NoLabelSet, _, u64>(&self.figures.commits, None)
    }
}
