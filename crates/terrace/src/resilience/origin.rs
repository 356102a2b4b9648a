//! Is an origin asked at all?
//!
//! The machine of [`super::breaker`], for something that is asked by whoever has a reason to, and tells by that whether it is well.
//!
//! 1. While it is closed every call passes, and is counted. While it is open none does. After its time the next call is the probe;
//!    until that has ended no other passes.
//! 2. Whether a call failed, who made it says: what an origin refused, it answered.
//! 3. A call that is given up says nothing, unless it had been under way for [`GIVEN_UP_MIN`]: then, or if it was the probe, it has failed.
//! 4. Once it is closed, all calls pass: there is nothing else to answer them with, so it has no ramp.
//! 5. What ends after an opening that it began before says nothing of the time since, whatever the state is by then.
//! 6. Of the failures of one thing, one counts in a window: what an origin always fails at is not taken for one that fails at everything.
//!    That it was not reached counts always, whatever it was asked for. Nor does such a thing probe again and again: where a probe has
//!    failed that was for one thing, others have the next for a while.

use super::breaker::{Breaker, BreakerState, Machine, Probe};
use crate::error::ConfigError;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
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
    calls: &'static str,
    settings: Breaker,
    clock: Clock,
    chance: Chance,
    hasher: RandomState,
    state: Mutex<State>,
}

struct State {
    machine: Machine,
    /// How often it was opened.
    openings: u64,
    failed: Failed,
    /// What the last probe was for, if that was one thing, and failed.
    failed_probe: Option<u64>,
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
    openings: u64,
    /// What it is for, if that is one thing.
    thing: Option<u64>,
    probe: Option<Probe>,
    is_over: bool,
}

/// What failed lately, each thing once: the oldest first.
#[derive(Default)]
struct Failed(VecDeque<(u64, Moment)>);

impl Failed {
    /// Whether this is the first failure of the thing in the window, or it is forgotten that it was not.
    fn is_first(&mut self, thing: u64, now: Moment, window: Duration) -> bool {
        self.0.retain(|(_, at)| now.since(*at) < window);
        let is_first = self.0.iter().all(|(other, _)| *other != thing);
        if is_first {
            if self.0.len() == FAILED_MAX {
                self.0.pop_front();
            }
            self.0.push_back((thing, now));
        }
        is_first
    }
}

impl OriginBreaker {
    /// A breaker with these settings, but for their ramp. `name` is what the log calls it.
    ///
    /// # Errors
    /// [`ConfigError`] for settings that cannot be.
    pub fn new(name: impl Into<String>, settings: Breaker, clock: Clock) -> Result<Self, ConfigError> {
        Self::for_calls(name, "all", settings, clock)
    }

    /// As [`new`](Self::new), for some calls of the origin alone. `calls` is what the log and metrics call them, `writes` for example.
    ///
    /// # Errors
    /// [`ConfigError`] for settings that cannot be.
    pub fn for_calls(
        name: impl Into<String>,
        calls: &'static str,
        settings: Breaker,
        clock: Clock,
    ) -> Result<Self, ConfigError> {
        settings.check()?;
        let (machine, since) = (Machine::new(settings.ramp(Duration::ZERO)), clock.precise());
        let state = State {
            machine,
            openings: 0,
            failed: Failed::default(),
            failed_probe: None,
            since,
            transitions: [0; 3],
            calls: 0,
            failures: 0,
            rejected: 0,
        };
        let (name, chance, state) = (name.into(), Chance::system(), Mutex::new(state));
        Ok(Self(Arc::new(Inner { name, calls, settings, clock, chance, hasher: RandomState::new(), state })))
    }

    /// What the log calls it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Which calls it is for; `all` unless it was made for some.
    pub fn calls(&self) -> &'static str {
        self.0.calls
    }

    /// Leave to make a call now.
    ///
    /// # Errors
    /// How long until somebody may ask again, if the origin is left alone.
    ///
    /// # Cost
    /// A lock, for an instant.
    pub fn begin(&self) -> Result<OriginCall, Duration> {
        self.begin_call(None)
    }

    /// Leave to make a call now that is for one thing, a key for example. If it fails again and again it counts once in a
    /// [window](Breaker::window), as long as no more than 64 others failed since: so an origin that fails at one thing, and is asked for little
    /// else, goes on to be asked for the rest.
    ///
    /// # Errors
    /// How long until somebody may ask again, if the origin is left alone.
    ///
    /// # Cost
    /// A lock, for an instant.
    ///
    /// # Examples
    /// ```
    /// use terrace::{Breaker, BreakerState, Clock, OriginBreaker};
    /// let breaker = OriginBreaker::new("database", Breaker::default().min_calls(2), Clock::system())?;
    /// for _ in 0..9 {
    ///     breaker.begin_for("user:1").unwrap().end(true);
    /// }
    /// assert_eq!(breaker.health().state, BreakerState::Closed);
    /// breaker.begin_for("user:2").unwrap().end(true);
    /// assert_eq!(breaker.health().state, BreakerState::Open);
    /// # Ok::<(), terrace::ConfigError>(())
    /// ```
    pub fn begin_for(&self, thing: &(impl Hash + ?Sized)) -> Result<OriginCall, Duration> {
        self.begin_call(Some(self.0.hasher.hash_one(thing)))
    }

    fn begin_call(&self, thing: Option<u64>) -> Result<OriginCall, Duration> {
        let began = self.0.clock.precise();
        let mut state = self.0.state.lock();
        let mut probe = None;
        if state.machine.state() != BreakerState::Closed {
            let is_others = thing.is_some()
                && thing == state.failed_probe
                && began.since(state.since) < self.0.settings.open * 2;
            probe = if is_others { None } else { state.machine.probe(began) };
            if probe.is_none() {
                state.rejected += 1;
                let wait = state.machine.until_probe(began).filter(|wait| !wait.is_zero());
                return Err(wait.unwrap_or(PROBING));
            }
            self.entered(&mut state, began);
        }
        let openings = state.openings;
        Ok(OriginCall { breaker: self.clone(), began, openings, thing, probe, is_over: false })
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
        if entered == BreakerState::Open {
            state.openings += 1;
            state.failed = Failed::default();
        }
        let (origin, calls) = (self.0.name.as_str(), self.0.calls);
        let means = match entered {
            BreakerState::Open => {
                tracing::warn!(origin, calls, "the breaker is open: the origin is left alone");
                return;
            }
            BreakerState::HalfOpen => "the breaker is half-open: the origin is probed",
            BreakerState::Closed => "the breaker is closed: the origin is asked again",
        };
        tracing::info!(origin, calls, "{means}");
    }
}

/// A call that is given up has failed if it had been under way for so long.
const GIVEN_UP_MIN: Duration = Duration::from_secs(1);
/// How soon to come again while somebody probes.
const PROBING: Duration = Duration::from_secs(1);
/// Things of which it is remembered that they failed.
const FAILED_MAX: usize = 64;

impl OriginCall {
    /// The call has ended: whether it failed by the origin's fault.
    pub fn end(mut self, is_failure: bool) {
        let thing = self.thing;
        self.count(is_failure, thing);
    }

    /// The call has failed, and any other would have: the origin was not reached. It counts, whatever it was for.
    pub fn unreachable(mut self) {
        self.count(true, None);
    }

    /// The call was not made after all: it waited for something else. That says nothing; if it was the probe, another has to be made, after
    /// the same time.
    pub fn not_made(mut self) {
        self.is_over = self.probe.is_none();
    }

    /// Counts it, as one of many for a thing or by itself.
    fn count(&mut self, is_failure: bool, thing: Option<u64>) {
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
                state.failed_probe = thing.filter(|_| is_failure);
                true
            }
            None if self.openings != state.openings => false,
            None => {
                let is_known = is_failure
                    && thing.is_some_and(|thing| !state.failed.is_first(thing, now, settings.window));
                !is_known && state.machine.called(is_failure, now, chance)
            }
        };
        if changes {
            self.breaker.entered(&mut state, now);
        }
    }
}

impl Drop for OriginCall {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let lasted = self.breaker.0.clock.precise().since(self.began);
        if self.probe.is_none() && lasted < GIVEN_UP_MIN {
            return;
        }
        let thing = self.thing;
        self.count(true, thing);
    }
}

impl fmt::Debug for OriginBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { name, calls, settings, .. } = &*self.0;
        f.debug_struct("OriginBreaker")
            .field("name", name)
            .field("calls", calls)
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
    fn what_began_before_an_opening_says_nothing_after_a_closing() {
        for ends in [true, false] {
            let (breaker, clock) = breaker();
            let old: Vec<OriginCall> = (0..8).map(|_| breaker.begin().expect("it is closed")).collect();
            for _ in 0..4 {
                breaker.begin().expect("it is closed").end(true);
            }
            clock.advance(Duration::from_secs(2));
            breaker.begin().expect("it is time").end(false);
            for call in old {
                if ends { call.end(true) } else { drop(call) }
            }
            let health = breaker.health();
            assert_eq!((health.state, health.calls, health.failures), (BreakerState::Closed, 13, 12));
            for _ in 0..4 {
                breaker.begin().expect("it is closed").end(true);
            }
            assert_eq!(breaker.health().state, BreakerState::Open, "what began since counts");
        }
    }

    #[test]
    fn one_thing_that_fails_again_and_again_counts_once_in_a_window() {
        let (breaker, clock) = breaker();
        let fail = |thing: &str| breaker.begin_for(thing).expect("it is closed").end(true);
        for _ in 0..100 {
            fail("a");
        }
        ["b", "c"].into_iter().for_each(&fail);
        fail("a");
        assert_eq!(breaker.health().state, BreakerState::Closed, "three things");
        assert_eq!(breaker.health().failures, 103);
        clock.advance(Breaker::WINDOW_DEFAULT);
        ["a", "a", "b", "c"].into_iter().for_each(&fail);
        assert_eq!(breaker.health().state, BreakerState::Closed, "three things of another window");
        fail("d");
        assert_eq!(breaker.health().state, BreakerState::Open);
    }

    #[test]
    fn a_thing_whose_probe_failed_leaves_the_next_to_others_for_a_while() {
        let (breaker, clock) = opened();
        clock.advance(Duration::from_secs(2));
        breaker.begin_for("a").expect("it is time").end(true);
        clock.advance(Duration::from_secs(2));
        let wait = breaker.begin_for("a").expect_err("it has just failed");
        assert!(wait > Duration::ZERO, "{wait:?}");
        let other = breaker.begin_for("b").expect("it is time");
        other.unreachable();
        clock.advance(Duration::from_secs(2));
        breaker.begin_for("b").expect("it was not for the thing that it failed").end(true);
        clock.advance(Duration::from_secs(4));
        breaker.begin_for("b").expect("nobody else came").end(false);
        assert_eq!(breaker.health().state, BreakerState::Closed);
    }

    #[test]
    fn that_it_was_not_reached_or_given_up_late_counts_by_what_it_says() {
        let (breaker, clock) = breaker();
        for _ in 0..4 {
            let call = breaker.begin_for("a").expect("it is closed");
            clock.advance(GIVEN_UP_MIN);
            drop(call);
        }
        assert_eq!(breaker.health().state, BreakerState::Closed, "one thing");
        for _ in 0..3 {
            breaker.begin_for("a").expect("it is closed").unreachable();
        }
        assert_eq!(breaker.health().state, BreakerState::Open);
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
