//! When is a key tried again whose write did not get to the origin?
//!
//! 1. One that failed waits for longer after each failure in a row, and so does one that found nobody there.
//! 2. While the origin is left alone nothing that is parked is tried: it would be refused. It is tried when the origin may be asked
//!    again, by however many failures it was parked before; that it was refused meanwhile counts for nothing.
//! 3. Then no more than a batch is tried at first: what becomes of that says whether the rest would be tried in vain. One write that gets
//!    there lets the rest go when its time is over, whatever became of the others of its batch: those that were refused may have been
//!    while it was under way.

use super::super::chain::{Chain, Entry, State};
use super::super::counters::Tally;
use super::super::options::LaneOptions;
use super::super::record::Outcome;
use super::{Queue, Settling};
use bytes::Bytes;
use std::time::Duration;
use terrace_core::Moment;

/// How long an origin is left alone at least that says it may be asked at once.
const REST_MIN: Duration = Duration::from_millis(10);

impl Queue {
    /// Puts keys whose time is over in front of the row, as many at the most.
    pub(super) fn unpark(&mut self, now: Moment, most: usize) {
        if self.rest.is_some_and(|rest| now < rest) {
            return;
        }
        for _ in 0..most {
            let Some(first) = self.parked.first_entry().filter(|first| first.key().0 <= now) else { break };
            let key = first.remove();
            if let Some(chain) = self.chains.get_mut(&key) {
                chain.state = State::Ready;
                self.ready.push_front((key, now));
                self.due += 1;
            }
        }
    }

    /// When the next of them is to be put there.
    pub(super) fn unparks_at(&self) -> Option<Moment> {
        let ((until, _), _) = self.parked.first_key_value()?;
        Some(self.rest.map_or(*until, |rest| rest.max(*until)))
    }

    pub(super) fn unavailable(&mut self, key: &Bytes, settling: &mut Settling<'_>) {
        let Some(options) = self.options else { return };
        self.discount(key);
        self.park(key, options, settling);
    }

    pub(super) fn left_alone(&mut self, key: &Bytes, again: Duration, settling: &mut Settling<'_>) {
        let Some(options) = self.options else { return };
        self.discount(key);
        let until = settling.now.plus(again.max(REST_MIN).min(options.backoff_max));
        self.rest = Some(until);
        self.park_until(key, until, settling);
    }

    /// What came of a batch says whether the origin is still left alone.
    pub(super) fn look_at_rest(&mut self, outcomes: &[Outcome]) {
        if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Stored | Outcome::Held(_))) {
            self.rest = None;
        }
    }

    /// The attempt at the first write of a key was none.
    fn discount(&mut self, key: &Bytes) {
        if let Some(first) = self.chains.get_mut(key).and_then(|chain| chain.entries.front_mut()) {
            first.attempts = first.attempts.saturating_sub(1);
        }
    }

    /// The origin has a write that is to stay for now: for the shortest time that keys wait, each time.
    pub(super) fn held(&mut self, key: &Bytes, settling: &mut Settling<'_>) {
        let is_followed = |chain: &Chain| chain.entries.get(1).is_some_and(Entry::is_committed);
        if self.chains.get(key).is_some_and(is_followed) {
            return self.stored(key, settling);
        }
        if let Some(chain) = self.chains.get_mut(key) {
            chain.failures = 0;
        }
        self.unavailable(key, settling);
    }

    pub(super) fn park(&mut self, key: &Bytes, options: LaneOptions, settling: &mut Settling<'_>) {
        let Some(chain) = self.chains.get_mut(key) else { return };
        chain.failures = chain.failures.saturating_add(1);
        let until = settling.now.plus(options.backoff_after(chain.failures, settling.chance));
        self.park_until(key, until, settling);
    }

    fn park_until(&mut self, key: &Bytes, until: Moment, settling: &mut Settling<'_>) {
        let Some(chain) = self.chains.get_mut(key) else { return };
        let Some(first) = chain.entries.front() else { return };
        if !chain.is_failing {
            settling.counters.add(Tally::Parked, 1);
            for entry in &chain.entries {
                self.unsettled.remove(&entry.covers);
            }
        }
        chain.is_failing = true;
        chain.state = State::Parked(until);
        self.parked.insert((until, first.record.number), key.clone());
    }
}
