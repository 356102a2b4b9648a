//! Settings of write-behind, and which of them make sense.

use super::error::OpenError;
use std::time::Duration;
use terrace_core::{Chance, Clock};

/// When a write is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Ack {
    /// When the disk has it: it survives a loss of power.
    #[default]
    Fsync,
    /// When the operating system has it: it survives the end of this process, however that comes, and not a loss of power.
    Os,
    /// At once. It is in the file with the next commit, and survives what happens after that.
    Memory,
}

impl Ack {
    /// The name in settings and replies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Os => "os",
            Self::Memory => "memory",
        }
    }
}

/// Requests of a keyspace that are remembered by their idempotency keys after their writes are over, unless set.
pub(super) const IDEMPOTENCY_KEYS_MAX: usize = 65_536;
/// For how long, unless set.
pub(super) const IDEMPOTENCY_KEYS_FOR: Duration = Duration::from_hours(24);
/// For how long at most. Whatever is older is forgotten at a start, also of keyspaces that are not written behind any more.
pub(super) const IDEMPOTENCY_KEYS_FOR_MAX: Duration = Duration::from_hours(7 * 24);

/// What happens to a write when as many wait as are allowed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum WhenFull {
    /// It waits for its turn, until its caller's deadline.
    #[default]
    Wait,
    /// It is refused at once.
    Refuse,
}

/// Settings of a journal.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    pub(super) pending_max: usize,
    pub(super) pending_bytes_max: usize,
    pub(super) dead_max: usize,
    pub(super) commit_window: Duration,
    pub(super) commit_max: usize,
    pub(super) full_retry: Duration,
    pub(super) clock: Clock,
    pub(super) chance: Chance,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            pending_max: 100_000,
            pending_bytes_max: 256 << 20,
            dead_max: 10_000,
            commit_window: Duration::from_micros(500),
            commit_max: 4_096,
            full_retry: Duration::from_secs(1),
            clock: Clock::system(),
            chance: Chance::system(),
        }
    }
}

impl JournalOptions {
    /// How many writes may wait, of all keyspaces: 100,000 unless set.
    #[must_use]
    pub fn pending_max(mut self, count: usize) -> Self {
        self.pending_max = count;
        self
    }

    /// How many bytes they may count, dead letters included: 256 MiB unless set. A write counts its key, its value and 256.
    #[must_use]
    pub fn pending_bytes_max(mut self, bytes: usize) -> Self {
        self.pending_bytes_max = bytes;
        self
    }

    /// How many dead letters are kept: 10,000 unless set. When there are as many, failing keys are tried again and again instead
    /// of being given up.
    #[must_use]
    pub fn dead_max(mut self, count: usize) -> Self {
        self.dead_max = count;
        self
    }

    /// How long a commit waits for more writes to come, at most: 500 µs unless set, up to a second.
    #[must_use]
    pub fn commit_window(mut self, window: Duration) -> Self {
        self.commit_window = window;
        self
    }

    /// How many writes one commit takes, at most: 4,096 unless set.
    #[must_use]
    pub fn commit_max(mut self, count: usize) -> Self {
        self.commit_max = count;
        self
    }

    /// How often a journal whose disk is full looks whether there is room again: once a second unless set.
    #[must_use]
    pub fn full_retry(mut self, every: Duration) -> Self {
        self.full_retry = every;
        self
    }

    /// The source of time.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The source of chance: the journal's name, and how long failing keys wait.
    #[must_use]
    pub fn chance(mut self, chance: Chance) -> Self {
        self.chance = chance;
        self
    }

    pub(super) fn check(&self) -> Result<(), OpenError> {
        at_least_one("pending_max", self.pending_max)?;
        at_least_one("pending_bytes_max", self.pending_bytes_max)?;
        at_least_one("commit_max", self.commit_max)?;
        positive("full_retry", self.full_retry)?;
        if self.commit_window > Duration::from_secs(1) {
            return Err(OpenError::Setting {
                setting: "commit_window",
                value: format!("{:?}", self.commit_window),
                allowed: "a second at most",
            });
        }
        Ok(())
    }
}

/// Settings of a keyspace that is written behind.
#[derive(Clone, Copy, Debug)]
pub struct LaneOptions {
    pub(super) ack: Ack,
    pub(super) when_full: WhenFull,
    pub(super) batch_max: usize,
    pub(super) flush_at: usize,
    pub(super) interval: Duration,
    pub(super) attempts_max: u32,
    pub(super) attempt_timeout: Duration,
    pub(super) backoff_min: Duration,
    pub(super) backoff_max: Duration,
    pub(super) idempotency_keys_max: usize,
    pub(super) idempotency_keys_for: Duration,
}

impl Default for LaneOptions {
    fn default() -> Self {
        Self {
            ack: Ack::Fsync,
            when_full: WhenFull::Wait,
            batch_max: 500,
            flush_at: 500,
            interval: Duration::from_secs(10),
            attempts_max: 8,
            attempt_timeout: Duration::from_secs(30),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_mins(5),
            idempotency_keys_max: IDEMPOTENCY_KEYS_MAX,
            idempotency_keys_for: IDEMPOTENCY_KEYS_FOR,
        }
    }
}

impl LaneOptions {
    /// When a write is acknowledged: [`Ack::Fsync`] unless set.
    #[must_use]
    pub fn ack(mut self, ack: Ack) -> Self {
        self.ack = ack;
        self
    }

    /// What happens when as many writes wait as are allowed: [`WhenFull::Wait`] unless set.
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// How many writes the sink gets at once, at most: 500 unless set.
    #[must_use]
    pub fn batch_max(mut self, count: usize) -> Self {
        self.batch_max = count;
        self
    }

    /// How many keys must wait for the sink to be called before the interval is over: 500 unless set. A larger number saves more
    /// writes to the origin.
    #[must_use]
    pub fn flush_at(mut self, count: usize) -> Self {
        self.flush_at = count;
        self
    }

    /// How long a write waits for others to come, at most: 10 s unless set.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How often a write is tried before its key's writes are given up: 8 times unless set.
    #[must_use]
    pub fn attempts_max(mut self, count: u32) -> Self {
        self.attempts_max = count;
        self
    }

    /// How long one call of the sink may take: 30 s unless set.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// How long a failing key waits, for the first time and at most: 1 s and 5 min unless set. The time doubles with each
    /// failure; chance takes up to half of it away.
    #[must_use]
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        (self.backoff_min, self.backoff_max) = (min, max);
        self
    }

    /// How many requests are remembered by their [idempotency keys](super::IdempotencyKey) after their writes are over, at most: 65,536 unless
    /// set. What was over first is forgotten first. Each takes about 200 bytes, and as many in the file. Those whose writes wait, or are dead
    /// letters, are remembered besides.
    #[must_use]
    pub fn idempotency_keys_max(mut self, count: usize) -> Self {
        self.idempotency_keys_max = count;
        self
    }

    /// For how long a request is remembered after its write is over: 24 hours unless set, 7 days at most.
    #[must_use]
    pub fn idempotency_keys_for(mut self, time: Duration) -> Self {
        self.idempotency_keys_for = time;
        self
    }

    /// By when a sink is to answer that also tells others of what the origin has: a little before its attempt is over.
    pub(crate) fn settled_within(&self) -> Duration {
        self.attempt_timeout.mul_f64(0.9)
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        at_least_one("batch_max", self.batch_max)?;
        at_least_one("flush_at", self.flush_at)?;
        at_least_one("attempts_max", self.attempts_max as usize)?;
        positive("attempt_timeout", self.attempt_timeout)?;
        positive("backoff.min", self.backoff_min)?;
        at_least_one("idempotency_keys_max", self.idempotency_keys_max)?;
        positive("idempotency_keys_for", self.idempotency_keys_for)?;
        if self.idempotency_keys_for > IDEMPOTENCY_KEYS_FOR_MAX {
            return Err(OpenError::Setting {
                setting: "idempotency_keys_for",
                value: format!("{:?}", self.idempotency_keys_for),
                allowed: "7 days at most",
            });
        }
        if self.backoff_max < self.backoff_min {
            return Err(OpenError::Setting {
                setting: "backoff.max",
                value: format!("{:?}", self.backoff_max),
                allowed: "no less than `backoff.min`",
            });
        }
        Ok(())
    }

    /// How long a key waits after so many failures in a row: from half to all of a time that doubles with each.
    pub(super) fn backoff_after(&self, failures: u32, chance: &Chance) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        let longest = self.backoff_min.saturating_mul(doubled).min(self.backoff_max);
        let spread = u64::try_from((longest / 2).as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
        longest.saturating_sub(Duration::from_nanos(chance.below(spread)))
    }
}

fn at_least_one(setting: &'static str, value: usize) -> Result<(), OpenError> {
    if value > 0 {
        return Ok(());
    }
    Err(OpenError::Setting { setting, value: value.to_string(), allowed: "1 at least" })
}

fn positive(setting: &'static str, value: Duration) -> Result<(), OpenError> {
    if !value.is_zero() {
        return Ok(());
    }
    Err(OpenError::Setting { setting, value: format!("{value:?}"), allowed: "longer than nothing" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound_and_keep_at_least_half() {
        let options = LaneOptions::default().backoff(Duration::from_secs(1), Duration::from_mins(1));
        let chance = Chance::seeded(5);
        for failures in 1..80 {
            let longest = Duration::from_secs(1 << (failures - 1).min(6)).min(Duration::from_mins(1));
            for _ in 0..50 {
                let wait = options.backoff_after(failures, &chance);
                assert!(wait >= longest / 2 && wait <= longest, "{failures}: {wait:?}");
            }
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        assert!(JournalOptions::default().check().is_ok());
        assert!(JournalOptions::default().pending_max(0).check().is_err());
        assert!(JournalOptions::default().commit_window(Duration::from_secs(2)).check().is_err());
        assert!(LaneOptions::default().check().is_ok());
        assert!(LaneOptions::default().batch_max(0).check().is_err());
        assert!(LaneOptions::default().attempts_max(0).check().is_err());
        assert!(LaneOptions::default().idempotency_keys_max(0).check().is_err());
        for time in [Duration::ZERO, IDEMPOTENCY_KEYS_FOR_MAX + Duration::from_secs(1)] {
            assert!(LaneOptions::default().idempotency_keys_for(time).check().is_err(), "{time:?}");
        }
        let error = LaneOptions::default().backoff(Duration::from_secs(2), Duration::from_secs(1)).check();
        assert!(error.unwrap_err().to_string().contains("backoff.max"));
    }
}
