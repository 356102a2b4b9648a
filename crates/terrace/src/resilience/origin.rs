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
//! 6. Of the failures of one thing, one counts in a window, while it succeeds at another: what an origin always fails at is not taken for one
//!    that fails at everything. Where nothing else succeeds each counts, so one that is dead is found out by however few things it is asked
//!    for. That it was not reached counts always.
//! 7. A thing whose probe failed leaves the next to others, for as long as it may stay open once more: what an origin always fails at does
//!    not keep it open for the rest, and what is asked for alone is asked for in the end.
//! 8. It is said to be half-open from when the next call may be the probe, whether anybody makes one or not: nothing is left alone for
//!    which nobody asks.

mod lately;

use self::lately::Lately;
use super::breaker::{Breaker, BreakerState, Machine, Probe};
use super::transitions::{Teller, Transitions};
use crate::error::ConfigError;
use parking_lot::Mutex;
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
    lately: Lately,
    since: Moment,
    transitions: [u64; 3],
    teller: Teller,
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
    /// How often it came into each state: closed, open, half-open; into the last with a call that probes.
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
            lately: Lately::default(),
            since,
            transitions: [0; 3],
            teller: Teller::new(),
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
    /// [window](Breaker::window), as long as something else succeeded in that time, and no more than 64 others failed since: so an origin that
    /// fails at one thing goes on to be asked for the rest. A thing whose probe failed leaves the next probe to others, for one more
    /// [`open`](Breaker::open).
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
    /// let breaker = OriginBreaker::new("database", Breaker::default().min_calls(3), Clock::system())?;
    /// breaker.begin_for("user:1").unwrap().end(false);
    /// for _ in 0..9 {
    ///     breaker.begin_for("user:2").unwrap().end(true);
    /// }
    /// assert_eq!(breaker.health().state, BreakerState::Closed);
    /// breaker.begin_for("user:3").unwrap().end(true);
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
            if let Some(wait) = self.wait_for_others(&state, thing, began) {
                state.rejected += 1;
                return Err(wait);
            }
            probe = state.machine.probe(began);
            if probe.is_none() {
                state.rejected += 1;
                return Err(state.machine.until_probe(began).unwrap_or(PROBING));
            }
            self.entered(&mut state, began);
        }
        let openings = state.openings;
        Ok(OriginCall { breaker: self.clone(), began, openings, thing, probe, is_over: false })
    }

    /// How long a thing whose probe failed leaves the next to others, which is due; `None` if it does not.
    fn wait_for_others(&self, state: &State, thing: Option<u64>, now: Moment) -> Option<Duration> {
        let due = state.machine.due_for(now)?;
        thing.filter(|thing| state.lately.is_blamed(*thing))?;
        self.0.settings.open.checked_sub(due).filter(|wait| !wait.is_zero())
    }

    /// How long until a call may be made, as far as the breaker can say; `None` while all of them pass.
    ///
    /// # Cost
    /// A lock, for an instant.
    pub fn until_asked(&self) -> Option<Duration> {
        let state = self.0.state.lock();
        let is_asked = state.machine.state() == BreakerState::Closed;
        (!is_asked).then(|| state.machine.until_probe(self.0.clock.precise()).unwrap_or(PROBING))
    }

    /// How it is. Once the next call may be the probe that is [`BreakerState::HalfOpen`], for as long as nobody makes it.
    pub fn health(&self) -> OriginHealth {
        let state = self.0.state.lock();
        let now = self.0.clock.precise();
        let [closed, open, half_open] = state.transitions;
        let (is, lasting) = match state.machine.due_for(now) {
            Some(due) => (BreakerState::HalfOpen, due),
            None => (state.machine.state(), now.since(state.since)),
        };
        OriginHealth {
            state: is,
            lasting,
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

    /// Its transitions from now on, one by one. One to [`BreakerState::HalfOpen`] is that a call probes the origin, which is later than
    /// [`health`](Self::health) says so where nobody asks.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use terrace::{Breaker, BreakerState, Clock, OriginBreaker};
    /// let breaker = OriginBreaker::new("database", Breaker::default().min_calls(1), Clock::system())?;
    /// let mut transitions = breaker.transitions();
    /// breaker.begin().unwrap().end(true);
    /// let transition = transitions.next().await.unwrap();
    /// assert_eq!((transition.from, transition.to), (BreakerState::Closed, BreakerState::Open));
    /// # Ok::<(), terrace::ConfigError>(())
    /// # }).unwrap();
    /// ```
    pub fn transitions(&self) -> Transitions {
        self.0.state.lock().teller.subscribe()
    }

    /// Whether both are the same breaker.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn entered(&self, state: &mut State, now: Moment) {
        state.since = now;
        let entered = state.machine.state();
        state.transitions[entered as usize] += 1;
        state.teller.entered(entered, &self.0.clock);
        match entered {
            BreakerState::Open => {
                state.openings += 1;
                state.lately.opened();
            }
            BreakerState::Closed => state.lately.closed(),
            BreakerState::HalfOpen => {}
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
        self.thing = None;
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
                state.lately.probed(thing, is_failure, now);
                state.machine.probed(probe, !is_failure, now, chance);
                true
            }
            None if self.openings != state.openings => false,
            None => {
                let counts = state.lately.called(thing, is_failure, now, settings.window);
                counts && state.machine.called(is_failure, now, chance)
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
mod tests;
