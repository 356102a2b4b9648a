//! The rules of write-behind: the journal, and how the writes of a keyspace are brought to its origin.
//!
//! What each setting means is for the library to say (`terrace::behind`); here it is put beside the place in the file.

use super::check::Checker;
use super::report::Refusal;
use super::units::{ByteSize, Count, Period};
use super::{Strategy, file};
use serde::Serialize;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;
use terrace::behind::{Ack, JournalOptions, LaneOptions, WhenFull};
use toml::Spanned;

/// Most of what is counted: writes, attempts, dead letters.
const COUNT_MAX: u64 = 1_000_000_000;
/// Most bytes that may wait.
const BYTES_MAX: u64 = 1 << 40;
/// Longest that a commit waits for more writes.
const COMMIT_WINDOW_MAX: Duration = Duration::from_secs(1);
/// Longest that a request is remembered by its idempotency key.
const IDEMPOTENCY_KEYS_FOR_MAX: Duration = Duration::from_hours(7 * 24);

/// The journal, and what holds for every keyspace that is written behind and says nothing else.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct WriteBehindConfig {
    /// Whether keyspaces may use it. Default true.
    pub enabled: bool,
    /// The journal's file, of this process alone. Default none: then no keyspace can be written behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// How many writes may wait, of all keyspaces. Default 100,000.
    pub pending_max: u64,
    /// How many bytes they may count, dead letters included. Default 256 MiB.
    pub pending_bytes_max: ByteSize,
    /// How many dead letters are kept. Default 10,000.
    pub dead_max: u64,
    /// How long a commit waits for more writes to come, at most. Default 500 µs.
    pub commit_window: Period,
    /// What holds for keyspaces that say nothing else.
    #[serde(flatten)]
    pub lane: LaneConfig,
}

impl WriteBehindConfig {
    /// As options of the library.
    pub(crate) fn options(&self) -> JournalOptions {
        JournalOptions::default()
            .pending_max(size(self.pending_max))
            .pending_bytes_max(size(self.pending_bytes_max.0))
            .dead_max(size(self.dead_max))
            .commit_window(self.commit_window.0)
    }
}

/// When a write is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AckSetting {
    /// When the disk has it.
    Fsync,
    /// When the operating system has it.
    Os,
    /// At once.
    Memory,
}

/// What happens to a write when as many wait as may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFull {
    /// It waits, nearly as long as a request may take.
    Wait,
    /// It is refused at once.
    Refuse,
}

/// How the writes of a keyspace are acknowledged, and brought to its origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct LaneConfig {
    /// When a write is acknowledged. Default `fsync`.
    pub ack: AckSetting,
    /// How long a write waits for others to come, at most. Default 10 s.
    pub interval: Period,
    /// How many writes are brought to the origin at once, at most. Default 500.
    pub batch_max: u64,
    /// How many keys must wait for that to happen before the interval is over. Default 500.
    pub flush_at: u64,
    /// What happens when as many writes wait as may. Default `wait`.
    pub on_full: OnFull,
    /// How often a write is tried before its key's writes are given up. Default 8.
    pub attempts_max: u64,
    /// How long one attempt may take, of a whole batch. Default 30 s.
    pub attempt_timeout: Period,
    /// How long a failing key waits, the first time. Default 1 s.
    pub backoff_min: Period,
    /// How long it waits at most. Default 5 min.
    pub backoff_max: Period,
    /// How many requests are remembered by their idempotency keys after their writes are over. Default 65,536.
    pub idempotency_keys_max: u64,
    /// For how long. Default 24 h.
    pub idempotency_keys_for: Period,
}

impl Default for LaneConfig {
    fn default() -> Self {
        Self {
            ack: AckSetting::Fsync,
            interval: Period::seconds(10),
            batch_max: 500,
            flush_at: 500,
            on_full: OnFull::Wait,
            attempts_max: 8,
            attempt_timeout: Period::seconds(30),
            backoff_min: Period::seconds(1),
            backoff_max: Period::seconds(300),
            idempotency_keys_max: 65_536,
            idempotency_keys_for: Period::seconds(24 * 60 * 60),
        }
    }
}

impl LaneConfig {
    /// As options of the library.
    pub(crate) fn options(&self) -> LaneOptions {
        let ack = match self.ack {
            AckSetting::Fsync => Ack::Fsync,
            AckSetting::Os => Ack::Os,
            AckSetting::Memory => Ack::Memory,
        };
        let when_full = match self.on_full {
            OnFull::Wait => WhenFull::Wait,
            OnFull::Refuse => WhenFull::Refuse,
        };
        LaneOptions::default()
            .ack(ack)
            .when_full(when_full)
            .batch_max(size(self.batch_max))
            .flush_at(size(self.flush_at))
            .interval(self.interval.0)
            .attempts_max(u32::try_from(self.attempts_max).unwrap_or(u32::MAX))
            .attempt_timeout(self.attempt_timeout.0)
            .backoff(self.backoff_min.0, self.backoff_max.0)
            .idempotency_keys_max(size(self.idempotency_keys_max))
            .idempotency_keys_for(self.idempotency_keys_for.0)
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Checker<'_> {
    pub(super) fn write_behind(&mut self, given: file::WriteBehind) -> WriteBehindConfig {
        let window_max = "it is a second at most";
        let lane = file::Lane {
            ack: given.ack,
            interval: given.interval,
            batch_max: given.batch_max,
            flush_at: given.flush_at,
            on_full: given.on_full,
            attempts_max: given.attempts_max,
            attempt_timeout: given.attempt_timeout,
            backoff_min: given.backoff_min,
            backoff_max: given.backoff_max,
            idempotency_keys_max: given.idempotency_keys_max,
            idempotency_keys_for: given.idempotency_keys_for,
        };
        WriteBehindConfig {
            enabled: given.enabled.is_none_or(|flag| flag.0),
            path: given.path.filter(|path| !path.is_empty()).map(PathBuf::from),
            pending_max: self.count(given.pending_max, 100_000, COUNT_MAX),
            pending_bytes_max: self.size(given.pending_bytes_max, ByteSize(256 << 20), ByteSize(BYTES_MAX)),
            dead_max: self
                .ranged(given.dead_max, Count(10_000), |count| count.0 <= COUNT_MAX, "it is too much")
                .0,
            commit_window: self.ranged(
                given.commit_window,
                Period(Duration::from_micros(500)),
                |window| window.0 <= COMMIT_WINDOW_MAX,
                window_max,
            ),
            lane: self.lane(lane, &LaneConfig::default()),
        }
    }

    fn lane(&mut self, given: file::Lane, defaults: &LaneConfig) -> LaneConfig {
        const ACKS: [(&str, AckSetting); 3] =
            [("fsync", AckSetting::Fsync), ("os", AckSetting::Os), ("memory", AckSetting::Memory)];
        const ON_FULL: [(&str, OnFull); 2] = [("wait", OnFull::Wait), ("refuse", OnFull::Refuse)];
        let span = |period: &Option<Spanned<Period>>| period.as_ref().map(Spanned::span);
        let backoff_at = span(&given.backoff_max).or(span(&given.backoff_min));
        let lane = LaneConfig {
            ack: self.word(given.ack, "acknowledgement", &ACKS, defaults.ack),
            interval: self.positive(given.interval, defaults.interval),
            batch_max: self.count(given.batch_max, defaults.batch_max, COUNT_MAX),
            flush_at: self.count(given.flush_at, defaults.flush_at, COUNT_MAX),
            on_full: self.word(given.on_full, "way to be full", &ON_FULL, defaults.on_full),
            attempts_max: self.count(given.attempts_max, defaults.attempts_max, COUNT_MAX),
            attempt_timeout: self.positive(given.attempt_timeout, defaults.attempt_timeout),
            backoff_min: self.positive(given.backoff_min, defaults.backoff_min),
            backoff_max: self.positive(given.backoff_max, defaults.backoff_max),
            idempotency_keys_max: self.count(
                given.idempotency_keys_max,
                defaults.idempotency_keys_max,
                COUNT_MAX,
            ),
            idempotency_keys_for: self.ranged(
                given.idempotency_keys_for,
                defaults.idempotency_keys_for,
                |time| !time.0.is_zero() && time.0 <= IDEMPOTENCY_KEYS_FOR_MAX,
                "it is longer than nothing, and 7 days at most",
            ),
        };
        if let Some(at) = backoff_at.filter(|_| lane.backoff_max < lane.backoff_min) {
            let title = "a failing key cannot wait for at most less than the first time";
            self.refuse(&Refusal::new(at, title).help("set `backoff_max` to `backoff_min` or more"));
        }
        lane
    }

    /// How a keyspace is written behind, if it is; `at` is where its strategy stands.
    pub(super) fn keyspace_lane(
        &mut self,
        strategy: Strategy,
        at: Range<usize>,
        given: Option<Spanned<file::Lane>>,
        all: &WriteBehindConfig,
    ) -> Option<LaneConfig> {
        if strategy != Strategy::WriteBehind {
            self.needs(given.as_ref().map(Spanned::span), "strategy = \"write-behind\"");
            return None;
        }
        if !all.enabled {
            let title = "write-behind is switched off: `write_behind.enabled` is false";
            let help = "switch it on, or use `write-through`";
            self.refuse(&Refusal::new(at, title).help(help));
        } else if all.path.is_none() {
            let title = "`write-behind` needs a file for what the origin does not have yet";
            let help = "set `write_behind.path = \"writes.journal\"`, on a disk that outlives the process";
            self.refuse(&Refusal::new(at, title).help(help));
        }
        Some(self.lane(given.map(Spanned::into_inner).unwrap_or_default(), &all.lane))
    }
}
