//! The breaker of one L2, as all threads see it: a word to look at, and the machine behind a lock.
//!
//! 1. While L2 is well, asking for leave is one atomic load. The lock is taken for an instant after each call, and never across
//!    a wait. A hit in L1 comes near neither.
//! 2. The word follows the machine under the lock, so it is never older than the last change that the caller knows of.

use super::breaker::{Breaker, BreakerState, Machine, Probe};
use super::transitions::{Teller, Transitions};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use terrace_core::{Chance, Clock, Moment, RemoteError};

/// All calls may pass.
const WELL: u8 = 0;
/// Changes may pass, and a share of the reads.
const RAMP: u8 = 1;
/// None may pass.
const SHUT: u8 = 2;

/// How the breaker of L2 is; see [`Health`](crate::Health).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BreakerHealth {
    /// Whether L2 is asked.
    pub state: BreakerState,
    /// For how long it has been so.
    pub lasting: Duration,
    /// What the last failed call of L2 said, whenever that was; `None` if none failed yet.
    pub last_error: Option<RemoteError>,
    /// Calls of L2 that have ended, or were given up, since the cache was built, in whatever state.
    pub calls: u64,
    /// Of these, those that count as failed: see [`Breaker::failures`] and [`Breaker::slow`].
    pub failures: u64,
}

/// What metrics tell of a breaker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BreakerGauges {
    pub(crate) state: BreakerState,
    /// How often it came into each state, in the order of [`BreakerState::ALL`].
    pub(crate) transitions: [u64; 3],
}

/// A kind of call, where leave is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Caller {
    /// A read that begins.
    Read,
    /// Any other call, and those of a read that has begun.
    Call,
}

/// The breaker of one L2.
pub(super) struct Gate {
    word: AtomicU8,
    settings: Breaker,
    clock: Clock,
    chance: Chance,
    inner: Mutex<Inner>,
}

struct Inner {
    machine: Machine,
    since: Moment,
    last_error: Option<RemoteError>,
    transitions: [u64; 3],
    teller: Teller,
    calls: u64,
    failures: u64,
}

impl Gate {
    pub(super) fn new(settings: Breaker, clock: Clock, chance: Chance) -> Self {
        let machine = Machine::new(settings);
        let since = clock.precise();
        let (last_error, transitions, teller) = (None, [0; 3], Teller::new());
        let inner = Inner { machine, since, last_error, transitions, teller, calls: 0, failures: 0 };
        Self { word: AtomicU8::new(WELL), settings, clock, chance, inner: Mutex::new(inner) }
    }

    /// Leave to call L2.
    #[inline]
    pub(super) fn admits(&self, caller: Caller) -> bool {
        match (self.word.load(Ordering::Acquire), caller) {
            (WELL, _) | (RAMP, Caller::Call) => true,
            (RAMP, Caller::Read) => self.is_chosen(),
            _ => false,
        }
    }

    /// Whether this read is one of the share that may ask.
    #[cold]
    fn is_chosen(&self) -> bool {
        const PARTS: u32 = 10_000;
        let mut inner = self.inner.lock();
        let share = inner.machine.share(self.clock.precise());
        self.follow(&mut inner);
        share.is_none_or(|share| {
            let drawn = u32::try_from(self.chance.below(u64::from(PARTS))).unwrap_or(PARTS);
            f64::from(drawn) < share * f64::from(PARTS)
        })
    }

    /// Sets the word to what the machine is.
    fn follow(&self, inner: &mut Inner) {
        let word = match inner.machine.share(self.clock.precise()) {
            None => WELL,
            Some(_) if inner.machine.state() == BreakerState::Closed => RAMP,
            Some(_) => SHUT,
        };
        self.word.store(word, Ordering::Release);
    }

    /// A call has ended, after so long. Whether L2 is left alone from now on.
    pub(super) fn called(&self, took: Duration, error: Option<&RemoteError>) -> bool {
        self.counted(self.settings.is_failure(took, error), error)
    }

    /// A call has failed, or is as good as failed.
    pub(super) fn counted(&self, is_failure: bool, error: Option<&RemoteError>) -> bool {
        let mut inner = self.inner.lock();
        if let Some(error) = error {
            inner.last_error = Some(error.clone());
        }
        inner.calls += 1;
        inner.failures += u64::from(is_failure);
        let now = self.clock.precise();
        let opens = inner.machine.called(is_failure, now, &self.chance);
        if opens {
            self.entered(&mut inner, now);
        }
        opens
    }

    /// How long until a probe may begin; `None` if none has to.
    pub(super) fn until_probe(&self) -> Option<Duration> {
        self.inner.lock().machine.until_probe(self.clock.precise())
    }

    /// Leave to probe L2, if it is time for that now, or at `by`.
    pub(super) fn probe(&self, by: Moment) -> Option<Probe> {
        let mut inner = self.inner.lock();
        let probe = inner.machine.probe(self.clock.precise().max(by))?;
        self.entered(&mut inner, self.clock.precise());
        Some(probe)
    }

    /// A probe has ended.
    pub(super) fn probed(&self, probe: Probe, is_well: bool) {
        let mut inner = self.inner.lock();
        let now = self.clock.precise();
        inner.machine.probed(probe, is_well, now, &self.chance);
        self.entered(&mut inner, now);
    }

    /// Another state was entered.
    fn entered(&self, inner: &mut Inner, now: Moment) {
        inner.since = now;
        let state = inner.machine.state();
        inner.transitions[state as usize] += 1;
        inner.teller.entered(state, &self.clock);
        self.follow(inner);
        let last_error = inner.last_error.as_ref().map(tracing::field::display);
        match state {
            BreakerState::Open => tracing::warn!(last_error, "the breaker of L2 is open: L2 is left alone"),
            BreakerState::HalfOpen => tracing::info!("the breaker of L2 is half-open: L2 is probed"),
            BreakerState::Closed => tracing::info!("the breaker of L2 is closed: L2 is asked again"),
        }
    }

    pub(super) fn health(&self) -> BreakerHealth {
        let inner = self.inner.lock();
        BreakerHealth {
            state: inner.machine.state(),
            lasting: self.clock.precise().since(inner.since),
            last_error: inner.last_error.clone(),
            calls: inner.calls,
            failures: inner.failures,
        }
    }

    pub(super) fn transitions(&self) -> Transitions {
        self.inner.lock().teller.subscribe()
    }

    pub(super) fn gauges(&self) -> BreakerGauges {
        let inner = self.inner.lock();
        BreakerGauges { state: inner.machine.state(), transitions: inner.transitions }
    }

    /// Why a call was not made.
    pub(super) fn refusal(&self) -> RemoteError {
        let inner = self.inner.lock();
        let state = inner.machine.state().as_str();
        let reason = match &inner.last_error {
            Some(error) => format!("it is left alone, its breaker is {state}; the last failure: {error}"),
            None => format!("it is left alone, its breaker is {state}"),
        };
        RemoteError::Unavailable { reason }
    }
}
