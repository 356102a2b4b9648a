//! Is an origin asked at all?
//!
//! The machine of [`super::breaker`], for something that is asked by whoever has a reason to, and tells by that whether it is well.
//!
//! 1. While it is closed every call passes, and is counted. While it is open none does. After its time the next call is the probe;
//!    until that has ended no other passes.
//! 2. Whether a call failed, who made it says: what an origin refused, it answered.
//! 3. A call that is given up says nothing, unless it had been under way for [`GIVEN_UP_MIN`]: then, or if it was the probe, it has failed.
//! 4. Once it is closed, all calls pass: there is nothing else to answer them with, so it has no ramp.

use super::breaker::{Breaker, BreakerState, Machine, Probe};
use crate::error::ConfigError;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::{Chance, Clock, Moment};

/// A breaker for whom a program asks itself, an origin for example. Clones are the same breaker.
///
/// # Examples
/// ```
/// use terrace::{Breaker, BreakerState, Clock, OriginBreaker};
/// let breaker = OriginBreaker::new("database", Breaker::default().min_calls(2), Clock::system())?;
/// for _ in 0..2 {
///     breaker.begin().unwrap().end(true);
/// }
/// assert_eq!(breaker.health().state, BreakerState::Open);
/// assert!(breaker.begin().is_err());
/// # Ok::<(), terrace::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct OriginBreaker(Arc<Inner>);

struct Inner {
    name: String,
    settings: Breaker,
    clock: Clock,
    chance: Chance,
    state: Mutex<State>,
}

struct State {
    machine: Machine,
    since: Moment,
    transitions: [u64; 3],
    calls: u64,
    failures: u64,
    rejected: u64,
}

/// How the breaker of an origin is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct OriginHealth {
    /// Whether the origin is asked.
    pub state: BreakerState,
    /// For how long it has been so.
    pub lasting: Duration,
    /// How often it came into each state: closed, open, half-open.
    pub transitions: [(BreakerState, u64); 3],
    /// Calls that have ended, in whatever state.
    pub calls: u64,
    /// Of these, those that failed, or took longer than [`Breaker::slow`].
    pub failures: u64,
    /// Calls that were not made.
    pub rejected: u64,
}

/// A call that is under way. One that is dropped was given up.
#[must_use = "a call that is dropped was given up"]
pub struct OriginCall {
    breaker: OriginBreaker,
    began: Moment,
    probe: Option<Probe>,
    is_over: bool,
}

impl OriginBreaker {
    /// A breaker with these settings, but for their ramp. `name` is what the log calls it.
    ///
    /// # Errors
    /// [`ConfigError`] for settings that cannot be.
    pub fn new(name: impl Into<String>, settings: Breaker, clock: Clock) -> Result<Self, ConfigError> {
        settings.check()?;
        let (machine, since) = (Machine::new(settings.ramp(Duration::ZERO)), clock.precise());
        let state = State { machine, since, transitions: [0; 3], calls: 0, failures: 0, rejected: 0 };
        let (name, chance, state) = (name.into(), Chance::system(), Mutex::new(state));
        Ok(Self(Arc::new(Inner { name, settings, clock, chance, state })))
    }

    /// What the log calls it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Leave to make a call now.
    ///
    /// # Errors
    /// How long until somebody may ask again, if the origin is left alone.
    ///
    /// # Cost
    /// A lock, for an instant.
    pub fn begin(&self) -> Result<OriginCall, Duration> {
        let now = self.0.clock.precise();
        let mut state = self.0.state.lock();
        if state.machine.state() == BreakerState::Closed {
            return Ok(OriginCall { breaker: self.clone(), began: now, probe: None, is_over: false });
        }
        let Some(probe) = state.machine.probe(now) else {
            state.rejected += 1;
            return Err(state.machine.until_probe(now).unwrap_or(PROBING));
        };
        self.entered(&mut state, now);
        Ok(OriginCall { breaker: self.clone(), began: now, probe: Some(probe), is_over: false })
    }

    /// How it is.
    pub fn health(&self) -> OriginHealth {
        let state = self.0.state.lock();
        let [closed, open, half_open] = state.transitions;
        OriginHealth {
            state: state.machine.state(),
            lasting: self.0.clock.precise().since(state.since),
            transitions: [
                (BreakerState::Closed, closed),
                (BreakerState::Open, open),
                (BreakerState::HalfOpen, half_open),
            ],
            calls: state.calls,
            failures: state.failures,
            rejected: state.rejected,
        }
    }

    fn entered(&self, state: &mut State, now: Moment) {
        state.since = now;
        let entered = state.machine.state();
        state.transitions[entered as usize] += 1;
        let origin = self.0.name.as_str();
        let means = match entered {
            BreakerState::Open => {
                tracing::warn!(origin, "the breaker is open: the origin is left alone");
                return;
            }
            BreakerState::HalfOpen => "the breaker is half-open: the origin is probed",
            BreakerState::Closed => "the breaker is closed: the origin is asked again",
        };
        tracing::info!(origin, "{means}");
    }
}

/// A call that is given up has failed if it had been under way for so long.
const GIVEN_UP_MIN: Duration = Duration::from_secs(1);
/// How soon to come again while somebody probes.
const PROBING: Duration = Duration::from_secs(1);

impl OriginCall {
    /// The call has ended: whether it failed by the origin's fault.
    pub fn end(mut self, is_failure: bool) {
        self.is_over = true;
        let Inner { settings, clock, chance, state, .. } = &*self.breaker.0;
        let now = clock.precise();
        let is_failure = is_failure || settings.is_failure(now.since(self.began), None);
        let mut state = state.lock();
        state.calls += 1;
        state.failures += u64::from(is_failure);
        let changes = match self.probe.take() {
            Some(probe) => {
                state.machine.probed(probe, !is_failure, now, chance);
                true
            }
            None => state.machine.called(is_failure, now, chance),
        };
        if changes {
            self.breaker.entered(&mut state, now);
        }
    }
}

impl OriginCall {
    /// The call was not made after all: it waited for something else. That says nothing; if it was the probe, another has to be made, after
    /// the same time.
    pub fn not_made(mut self) {
        self.is_over = self.probe.is_none();
    }
}

impl Drop for OriginCall {
    fn drop(&mut self) {
        let Inner { clock, chance, state, .. } = &*self.breaker.0;
        let now = clock.precise();
        let changes = match self.probe.take() {
            _ if self.is_over => return,
            Some(probe) => {
                state.lock().machine.probed(probe, false, now, chance);
                true
            }
            None if now.since(self.began) < GIVEN_UP_MIN => return,
            None => {
                let mut state = state.lock();
                state.calls += 1;
                state.failures += 1;
                state.machine.called(true, now, chance)
            }
        };
        if changes {
            self.breaker.entered(&mut state.lock(), now);
        }
    }
}

impl fmt::Debug for OriginBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { name, settings, .. } = &*self.0;
        f.debug_struct("OriginBreaker")
            .field("name", name)
            .field("settings", settings)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for OriginCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginCall").field("is_probe", &self.probe.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> (OriginBreaker, Clock) {
        let clock = Clock::manual();
        let settings = Breaker::default().min_calls(4).open(Duration::from_secs(2));
        (OriginBreaker::new("main", settings, clock.clone()).expect("valid"), clock)
    }

    fn opened() -> (OriginBreaker, Clock) {
        let (breaker, clock) = breaker();
        for _ in 0..4 {
            breaker.begin().expect("it is closed").end(true);
        }
        assert_eq!(breaker.health().state, BreakerState::Open);
        (breaker, clock)
    }

    #[test]
    fn what_succeeds_or_is_given_up_does_not_open_it() {
        let (breaker, _) = breaker();
        for round in 0..40 {
            let call = breaker.begin().expect("it is closed");
            match round % 4 {
                3 => call.end(true),
                0 => drop(call),
                _ => call.end(false),
            }
        }
        let health = breaker.health();
        assert_eq!((health.state, health.calls, health.failures), (BreakerState::Closed, 30, 10));
    }

    #[test]
    fn what_is_given_up_late_has_failed_and_what_was_not_made_says_nothing() {
        for is_made in [true, false] {
            let (breaker, clock) = breaker();
            let calls: Vec<OriginCall> = (0..4).map(|_| breaker.begin().expect("it is closed")).collect();
            clock.advance(GIVEN_UP_MIN);
            for call in calls {
                if is_made { drop(call) } else { call.not_made() }
            }
            let expected = if is_made { BreakerState::Open } else { BreakerState::Closed };
            assert_eq!(breaker.health().state, expected);
        }
    }

    #[test]
    fn one_call_probes_after_its_time_and_the_others_wait_for_what_it_came_to() {
        let (breaker, clock) = opened();
        let wait = breaker.begin().expect_err("it is open");
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(2), "{wait:?}");
        clock.advance(Duration::from_secs(2));
        let probe = breaker.begin().expect("it is time");
        assert!(breaker.begin().is_err(), "one at a time");
        probe.end(false);
        breaker.begin().expect("it is closed").end(false);
        assert_eq!(breaker.health().transitions.map(|(_, times)| times), [1, 1, 1]);
        assert_eq!(breaker.health().rejected, 2);
    }

    #[test]
    fn a_probe_that_fails_or_is_given_up_opens_it_again() {
        for is_given_up in [false, true] {
            let (breaker, clock) = opened();
            clock.advance(Duration::from_secs(2));
            let probe = breaker.begin().expect("it is time");
            if is_given_up {
                drop(probe);
            } else {
                probe.end(true);
            }
            assert_eq!(breaker.health().state, BreakerState::Open);
            assert!(breaker.begin().is_err());
            clock.advance(Duration::from_secs(2));
            assert!(breaker.begin().is_ok());
        }
    }
}
