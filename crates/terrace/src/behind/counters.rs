//! How often did what happen to writes?
//!
//! Counters only grow. What is a state, such as how many writes wait, is asked for when somebody wants to know.

use crate::telemetry::{HistogramSnapshot, Latency, Times};
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What can happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(super) enum Tally {
    /// A write was acknowledged.
    Acknowledged,
    /// A write was not taken, for whatever reason.
    Refused,
    /// A write's place was taken by a newer one before it was sent.
    Coalesced,
    /// The origin has taken a write.
    Stored,
    /// A write was sent once more.
    Retried,
    /// A key began to fail.
    Parked,
    /// A write was given up.
    Dead,
    /// A write was found in the file at the start.
    Replayed,
    /// A request was taken before, and nothing was done.
    Repeated,
}

const TALLIES: usize = Tally::Repeated as usize + 1;

/// The counters of a keyspace.
#[derive(Debug)]
pub(super) struct Counters {
    tallies: [AtomicU64; TALLIES],
    flushes: Times,
}

impl Default for Counters {
    fn default() -> Self {
        Self { tallies: [const { AtomicU64::new(0) }; TALLIES], flushes: Times::new() }
    }
}

impl Counters {
    pub(super) fn add(&self, tally: Tally, count: u64) {
        self.tallies[tally as usize].fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn flushed(&self, took: Duration) {
        self.flushes.record(took);
    }

    /// How long calls of the sink took.
    pub(super) fn flushes(&self) -> HistogramSnapshot {
        self.flushes.snapshot()
    }

    /// The figures that are counted; those that are states are left at zero.
    pub(super) fn figures(&self) -> LaneFigures {
        let of = |tally: Tally| self.tallies[tally as usize].load(Ordering::Relaxed);
        LaneFigures {
            acknowledged: of(Tally::Acknowledged),
            refused: of(Tally::Refused),
            coalesced: of(Tally::Coalesced),
            stored: of(Tally::Stored),
            retried: of(Tally::Retried),
            parked: of(Tally::Parked),
            dead: of(Tally::Dead),
            replayed: of(Tally::Replayed),
            repeated: of(Tally::Repeated),
            flushes: self.flushes.latency(),
            ..LaneFigures::default()
        }
    }
}

/// What a keyspace that is written behind did since the start, and how it stands.
#[derive(Clone, PartialEq, Default, Debug, Serialize)]
#[non_exhaustive]
pub struct LaneFigures {
    /// Writes that wait for the origin, now.
    pub pending: u64,
    /// What they and the dead letters count in bytes, now.
    pub pending_bytes: u64,
    /// How long the oldest of them has waited, in seconds. For those of before the start it counts from there.
    pub oldest_seconds: f64,
    /// Keys that failed and wait to be tried again, now.
    pub parked_keys: u64,
    /// Dead letters, now.
    pub dead_letters: u64,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Writes that were refused: no room, a full or failed disk, shut down.
    pub refused: u64,
    /// Writes that the origin was spared, because a newer one of the key came before they were sent.
    pub coalesced: u64,
    /// Writes that the origin has taken.
    pub stored: u64,
    /// Writes that were sent once more.
    pub retried: u64,
    /// How often a key began to fail.
    pub parked: u64,
    /// Writes that were given up.
    pub dead: u64,
    /// Writes that were found in the journal at the start.
    pub replayed: u64,
    /// Requests that had been taken before, by their idempotency keys: they were acknowledged again, and nothing else was done.
    pub repeated: u64,
    /// Requests that are remembered by their idempotency keys, now.
    pub idempotency_keys: u64,
    /// Calls of the sink, and how long they took.
    pub flushes: Latency,
}

/// How the journal's file is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Condition {
    /// It takes writes.
    #[default]
    Sound,
    /// It takes none until its disk has room again.
    DiskFull,
    /// It takes none any more, for this reason. What it acknowledged is still brought to the origin.
    Poisoned(String),
}

/// What a journal did since it was opened, and how it stands.
#[derive(Clone, PartialEq, Default, Debug, Serialize)]
#[non_exhaustive]
pub struct JournalFigures {
    /// How its file is.
    pub condition: Condition,
    /// Writes that wait for the origin, of all keyspaces, now.
    pub pending: u64,
    /// Writes that may wait, of all keyspaces: the setting.
    pub pending_max: u64,
    /// What they and the dead letters count in bytes, now.
    pub pending_bytes: u64,
    /// Those of them whose keyspace has no sink yet: they were found in the journal, and wait for it.
    pub unattended: u64,
    /// Commits that were made.
    pub commits: u64,
    /// Writes that they brought to the file. Those that were coalesced before are not among them.
    pub committed: u64,
    /// Each keyspace by its name.
    pub lanes: std::collections::BTreeMap<String, LaneFigures>,
}
