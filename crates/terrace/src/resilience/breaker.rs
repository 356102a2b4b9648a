//! Is L2 asked at all?
//!
//! ```text
//! closed ─too many calls failed─▶ open ─its time is over─▶ half-open ─the probe failed─▶ open
//!    ▲                                                         └────the probe succeeded────▶ closed
//! ```
//!
//! A pure machine: whoever calls says what time it is, and brings the chance.
//!
//! 1. It opens by the *share* of calls that failed within a window, and not before there were enough of them.
//! 2. It lets one probe through at a time, and only after its time; a probe ends once, whatever becomes of it.
//! 3. From every state it closes with the first probe that succeeds; what was counted before counts no more.
//! 4. Time that goes back, or jumps, neither opens nor closes it, nor keeps it from either for longer than `open`.
//! 5. After it closed, reads come back step by step ([`Machine::share`]): not all nodes that lost L2 fall upon it at once.

use crate::error::ConfigError;
use std::time::Duration;
use terrace_core::{Chance, Moment, RemoteError};

/// When L2 is not asked any more, and when it is again.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use terrace::{Breaker, Cache};
/// let breaker = Breaker::default().failures(0.25).slow(Duration::from_millis(100));
/// let cache = Cache::builder().breaker(breaker).build()?;
/// # Ok::<(), terrace::ConfigError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[must_use = "settings do nothing until a cache is built with them"]
pub struct Breaker {
    failures: f64,
    pub(super) window: Duration,
    min_calls: u32,
    pub(super) open: Duration,
    slow: Option<Duration>,
    ramp: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: Self::FAILURES_DEFAULT,
            window: Self::WINDOW_DEFAULT,
            min_calls: Self::MIN_CALLS_DEFAULT,
            open: Self::OPEN_DEFAULT,
            slow: None,
            ramp: Self::RAMP_DEFAULT,
        }
    }
}

impl Breaker {
    /// The share of calls that have to fail, unless told otherwise: half.
    pub const FAILURES_DEFAULT: f64 = 0.5;
    /// The time over which calls are counted, unless told otherwise: 10 s.
    pub const WINDOW_DEFAULT: Duration = Duration::from_secs(10);
    /// Calls that have to be counted, unless told otherwise: 20.
    pub const MIN_CALLS_DEFAULT: u32 = 20;
    /// How long L2 is left alone at most, unless told otherwise: 5 s.
    pub const OPEN_DEFAULT: Duration = Duration::from_secs(5);
    /// How long it takes until all reads ask L2 again, unless told otherwise: 5 s.
    pub const RAMP_DEFAULT: Duration = Duration::from_secs(5);
    /// Longest of each of these times.
    const LONGEST: Duration = Duration::from_hours(1);

    /// It opens when this share of the calls in the window failed: more than 0, at most 1. Default: 0.5. Failed is what could not
    /// be sent, broke, or was not answered in time; what L2 refused was answered.
    pub fn failures(mut self, share: f64) -> Self {
        self.failures = share;
        self
    }

    /// How long a call counts. Default: 10 s. From 100 ms to an hour.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// It does not open before so many calls were counted in the window. Default: 20. At least 1.
    pub fn min_calls(mut self, calls: u32) -> Self {
        self.min_calls = calls;
        self
    }

    /// How long L2 is left alone before it is probed, at most; at least half of that, by chance, so that nodes which lost L2
    /// together do not come back together. Default: 5 s. From 10 ms to an hour.
    pub fn open(mut self, open: Duration) -> Self {
        self.open = open;
        self
    }

    /// A call that took longer counts as failed, though it succeeded. Default: none does.
    pub fn slow(mut self, longest: Duration) -> Self {
        self.slow = Some(longest);
        self
    }

    /// After it closed, the share of reads that ask L2 grows from 1 in 20 to all in this time; the others are answered without
    /// L2. Default: 5 s. Zero lets all ask at once. At most an hour.
    pub fn ramp(mut self, ramp: Duration) -> Self {
        self.ramp = ramp;
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let Self { failures, window, min_calls, open, slow, ramp } = *self;
        let within =
            |time: Duration, least: u64| (Duration::from_millis(least)..=Self::LONGEST).contains(&time);
        if !(failures > 0.0 && failures <= 1.0) {
            return Err(ConfigError::new(
                "breaker.failures",
                failures,
                "a share above 0 and up to 1, e.g. 0.5",
            ));
        }
        if !within(window, 100) {
            return Err(ConfigError::new("breaker.window", window, "100 ms to an hour, e.g. 10 s"));
        }
        if min_calls == 0 {
            return Err(ConfigError::new("breaker.min_calls", min_calls, "at least 1, e.g. 20"));
        }
        if !within(open, 10) {
            return Err(ConfigError::new("breaker.open", open, "10 ms to an hour, e.g. 5 s"));
        }
        if let Some(slow) = slow.filter(Duration::is_zero) {
            return Err(ConfigError::new("breaker.slow", slow, "more than nothing; leave it out for none"));
        }
        if !within(ramp, 0) {
            return Err(ConfigError::new("breaker.ramp", ramp, "at most an hour, e.g. 5 s; 0 for none"));
        }
        Ok(())
    }

    /// Whether a call counts as failed that took so long and came to this.
    pub(super) fn is_failure(&self, took: Duration, error: Option<&RemoteError>) -> bool {
        let is_unanswered = |error: &RemoteError| {
            matches!(
                error,
                RemoteError::Unavailable { .. } | RemoteError::Timeout { .. } | RemoteError::Broken { .. }
            )
        };
        error.is_some_and(is_unanswered) || self.slow.is_some_and(|longest| took > longest)
    }
}

/// Whether L2 is asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BreakerState {
    /// It is.
    Closed,
    /// It is left alone.
    Open,
    /// It is being probed, and left alone but for that.
    HalfOpen,
}

impl BreakerState {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// One word for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// The share of reads that ask L2 as soon as it closed: none at all would learn nothing of it.
const SHARE_MIN: f64 = 0.05;
/// The window slides in so many steps.
const STEPS: usize = 10;

/// Leave to probe L2. Ends once, by [`Machine::probed`].
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a probe that is not ended keeps the breaker half-open"]
pub(super) struct Probe(());

/// The machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    settings: Breaker,
    state: State,
    window: Window,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// `since` is when it closed; `None` if it never was open.
    Closed { since: Option<Moment> },
    /// Opened at `since`; a probe may begin at `until`.
    Open { since: Moment, until: Moment },
    /// One probe is under way.
    HalfOpen,
}

impl Machine {
    pub(super) fn new(settings: Breaker) -> Self {
        Self { settings, state: State::Closed { since: None }, window: Window::default() }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen => BreakerState::HalfOpen,
        }
    }

    /// A call has ended that was made while it was closed. What ends later says nothing of now. Whether it opens by that.
    pub(super) fn called(&mut self, is_failure: bool, now: Moment, chance: &Chance) -> bool {
        if !matches!(self.state, State::Closed { .. }) {
            return false;
        }
        let (calls, failures) = self.window.count(is_failure, now, self.settings.window);
        let is_too_much = f64::from(failures) >= self.settings.failures * f64::from(calls);
        if !is_failure || calls < self.settings.min_calls || !is_too_much {
            return false;
        }
        self.open(now, chance);
        true
    }

    fn open(&mut self, now: Moment, chance: &Chance) {
        let half = self.settings.open / 2;
        let more = chance.below(u64::try_from(half.as_nanos()).unwrap_or(u64::MAX));
        self.state = State::Open { since: now, until: now.plus(half + Duration::from_nanos(more)) };
        self.window = Window::default();
    }

    /// How long until a probe may begin; `None` while it is closed or being probed.
    pub(super) fn until_probe(&self, now: Moment) -> Option<Duration> {
        match self.state {
            // A clock that went back to before it opened would keep it open for longer than it may be.
            State::Open { since, until } => Some(until.since(now.max(since))),
            State::Closed { .. } | State::HalfOpen => None,
        }
    }

    /// For how long a probe could have begun, if it can and none has.
    pub(super) fn due_for(&self, now: Moment) -> Option<Duration> {
        match self.state {
            State::Open { since, until } => (now.max(since) >= until).then(|| now.since(until)),
            State::Closed { .. } | State::HalfOpen => None,
        }
    }

    /// Leave to probe L2, if it is time for that and nobody does.
    pub(super) fn probe(&mut self, now: Moment) -> Option<Probe> {
        if self.until_probe(now)? > Duration::ZERO {
            return None;
        }
        self.state = State::HalfOpen;
        Some(Probe(()))
    }

    /// A probe has ended.
    pub(super) fn probed(&mut self, _probe: Probe, is_well: bool, now: Moment, chance: &Chance) {
        if is_well {
            self.state = State::Closed { since: Some(now) };
        } else {
            self.open(now, chance);
        }
    }

    /// The share of reads that may ask L2; `None` if all may, for good.
    pub(super) fn share(&self, now: Moment) -> Option<f64> {
        match self.state {
            State::Closed { since: Some(since) } if now.since(since) < self.settings.ramp => {
                let passed = now.since(since).as_secs_f64() / self.settings.ramp.as_secs_f64();
                Some(passed.max(SHARE_MIN))
            }
            State::Closed { .. } => None,
            State::Open { .. } | State::HalfOpen => Some(0.0),
        }
    }
}

/// The calls of the last while, in steps.
#[derive(Clone, Default, Debug)]
struct Window {
    steps: [Step; STEPS],
    /// The number of the newest step.
    newest: u64,
}

#[derive(Clone, Copy, Default, Debug)]
struct Step {
    number: u64,
    calls: u32,
    failures: u32,
}

impl Window {
    /// Counts a call, and tells how many were counted in the window, and how many of them failed. A time before the newest
    /// step is taken for that step's.
    fn count(&mut self, is_failure: bool, now: Moment, length: Duration) -> (u32, u32) {
        let step = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX) / STEPS as u64;
        self.newest = self.newest.max(now.as_nanos() / step.max(1));
        let newest = self.newest;
        let at = usize::try_from(newest % STEPS as u64).unwrap_or(0);
        if self.steps[at].number != newest {
            self.steps[at] = Step { number: newest, ..Step::default() };
        }
        self.steps[at].calls = self.steps[at].calls.saturating_add(1);
        self.steps[at].failures = self.steps[at].failures.saturating_add(u32::from(is_failure));
        let counted = self.steps.iter().filter(|step| step.number + STEPS as u64 > newest);
        counted.fold((0, 0), |(calls, failures), step| {
            (calls.saturating_add(step.calls), failures.saturating_add(step.failures))
        })
    }
}

#[cfg(test)]
mod tests;
