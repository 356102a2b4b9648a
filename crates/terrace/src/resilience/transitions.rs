//! Who is told that a breaker came into another state?
//!
//! 1. Nobody is waited for: who does not take them loses the oldest of more than [`KEPT_MAX`]. Each says what the state was before, so it
//!    shows that some are missing.
//! 2. They are told in the order in which they happened, since that is done under the lock of the breaker.

use super::breaker::BreakerState;
use std::fmt;
use std::time::SystemTime;
use terrace_core::Clock;
use tokio::sync::broadcast::{self, error::RecvError};

/// Transitions that are kept for one who does not take them.
const KEPT_MAX: usize = 64;

/// A breaker came into another state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Transition {
    /// The state that it was in.
    pub from: BreakerState,
    /// The state that it is in now.
    pub to: BreakerState,
    /// When, by the wall clock, for people.
    pub at: SystemTime,
}

/// The transitions of a breaker, from when they were asked for. Dropping it ends the subscription, and it does not keep the breaker alive.
pub struct Transitions(broadcast::Receiver<Transition>);

impl Transitions {
    /// The next transition, in order; `None` once the breaker is gone and all were taken. Of more than 64 that were not taken the oldest are
    /// lost: then [`from`](Transition::from) is not what the one before came [`to`](Transition::to).
    ///
    /// # Cancel safety
    /// Safe: no transition is lost.
    pub async fn next(&mut self) -> Option<Transition> {
        loop {
            match self.0.recv().await {
                Ok(transition) => return Some(transition),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

impl fmt::Debug for Transitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transitions({} waiting)", self.0.len())
    }
}

/// Tells of a breaker that begins closed.
pub(super) struct Teller {
    state: BreakerState,
    sender: broadcast::Sender<Transition>,
}

impl Teller {
    pub(super) fn new() -> Self {
        Self { state: BreakerState::Closed, sender: broadcast::Sender::new(KEPT_MAX) }
    }

    pub(super) fn subscribe(&self) -> Transitions {
        Transitions(self.sender.subscribe())
    }

    /// It is in this state now.
    pub(super) fn entered(&mut self, to: BreakerState, clock: &Clock) {
        let from = std::mem::replace(&mut self.state, to);
        if self.sender.receiver_count() > 0 {
            let _nobody_may_be_left = self.sender.send(Transition { from, to, at: clock.wall() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BreakerState::{Closed, HalfOpen, Open};

    #[tokio::test]
    async fn who_is_slow_keeps_the_last_and_sees_that_some_are_missing_and_the_end_is_told() {
        let (mut teller, clock) = (Teller::new(), Clock::manual());
        teller.entered(Open, &clock);
        let mut told = teller.subscribe();
        teller.entered(HalfOpen, &clock);
        let next = told.next().await.expect("it lives");
        assert_eq!((next.from, next.to), (Open, HalfOpen), "what was before is not told, and known");
        for _ in 0..KEPT_MAX {
            teller.entered(Open, &clock);
            teller.entered(HalfOpen, &clock);
        }
        teller.entered(Closed, &clock);
        drop(teller);
        let mut count = 1;
        let first = told.next().await.expect("one that was kept");
        assert_ne!(first.from, HalfOpen, "it does not follow on what was told before");
        let mut last = first;
        while let Some(next) = told.next().await {
            assert_eq!(next.from, last.to);
            (last, count) = (next, count + 1);
        }
        assert_eq!((last.to, count), (Closed, KEPT_MAX));
    }
}
