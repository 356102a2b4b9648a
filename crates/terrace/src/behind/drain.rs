//! Bringing writes to the sink: one task per keyspace, one call at a time.
//!
//! 1. Nothing that a sink does ends the task: a panic, a wrong answer and a call that takes too long are failures of the
//!    writes that it was given.
//! 2. When the task itself is ended, or its runtime is, what is under way goes back to its place. It may have been applied;
//!    the next attempt has the same id.
//! 3. A task that went down with its runtime is started again by the next caller.

use super::queue::Settling;
use super::record::{DeadLetter, Outcome, Write};
use super::shared::{Keyspace, Shared};
use crate::runtime::{self, Attempt, Turn};
use crate::telemetry::spans;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use tracing::Instrument;

impl Shared {
    /// Starts bringing the writes of a keyspace to its sink, unless that is going on.
    pub(super) fn see_to_draining(self: &Arc<Self>, lane: usize, keyspace: &Arc<Keyspace>) {
        if keyspace.turns.are_taken() || !self.runtime.is_available() {
            return;
        }
        if let Some(turn) = keyspace.turns.take() {
            let (shared, keyspace) = (Arc::clone(self), Arc::clone(keyspace));
            self.runtime.spawn_until_closed(drain(shared, lane, keyspace, turn));
        }
    }

    /// Lets all that a keyspace has ready be sent now.
    pub(super) fn force(&self, lane: usize, keyspace: &Keyspace) {
        self.state.lock().queues[lane].force();
        keyspace.wake.notify_one();
    }

    /// Waits until all writes of a keyspace up to `mark` were sent, parked or given up.
    pub(super) async fn settle_until(self: &Arc<Self>, lane: usize, mark: u64) {
        let Some(keyspace) = self.keyspace(lane) else { return };
        loop {
            let mut settled = pin!(self.settled.notified());
            settled.as_mut().enable();
            self.see_to_draining(lane, &keyspace);
            if self.state.lock().queues[lane].is_settled(mark) || !keyspace.turns.are_taken() {
                return;
            }
            self.force(lane, &keyspace);
            settled.await;
        }
    }

    async fn send(self: &Arc<Self>, lane: usize, keyspace: &Keyspace, batch: Vec<Write>) {
        let batch: Arc<[Write]> = batch.into();
        let mut under_way = UnderWay { shared: self, lane, batch: Arc::clone(&batch), is_settled: false };
        let started = self.options.clock.precise();
        let (sink, writes) = (Arc::clone(&keyspace.sink), Arc::clone(&batch));
        let span = spans::send(&batch[0].keyspace, batch.len());
        let call = async move { sink.store_many(&writes).await }.instrument(span.clone());
        let limit = keyspace.options.attempt_timeout;
        let attempt = self.runtime.attempt(limit, call).await;
        keyspace.counters.flushed(self.options.clock.precise().since(started));
        let failure = match attempt {
            Attempt::Ended(outcomes) if outcomes.len() == batch.len() => {
                under_way.is_settled = true;
                let is_stored = |outcome: &&Outcome| matches!(outcome, Outcome::Stored | Outcome::Held(_));
                let stored = outcomes.iter().filter(is_stored).count();
                spans::fail_some(&span, batch.len() - stored, "not_stored");
                self.settle(lane, keyspace, &batch, &outcomes, None);
                return;
            }
            Attempt::Ended(outcomes) => {
                format!("the sink gave {} outcomes for {} writes", outcomes.len(), batch.len())
            }
            Attempt::Panicked(message) => format!("the sink panicked: {message}"),
            Attempt::TimedOut => format!("the sink did not answer within {limit:?}"),
            Attempt::Closed => return,
        };
        spans::fail_some(&span, batch.len(), "failed");
        tracing::warn!(keyspace = %batch[0].keyspace, writes = batch.len(), failure, "writing behind failed");
        under_way.is_settled = true;
        let outcomes = vec![Outcome::Failed(failure); batch.len()];
        self.settle(lane, keyspace, &batch, &outcomes, Some(batch.len()));
    }

    /// Does what the outcomes of a batch ask for. `failed_with` is how many writes there were, if they failed as a whole.
    pub(super) fn settle(
        &self,
        lane: usize,
        keyspace: &Keyspace,
        batch: &[Write],
        outcomes: &[Outcome],
        failed_with: Option<usize>,
    ) {
        let mut notes = Vec::new();
        let mut state = self.state.lock();
        let mut settling = Settling {
            now: self.options.clock.precise(),
            chance: &self.options.chance,
            room_for_dead: self.options.dead_max.saturating_sub(state.dead()),
            counters: &keyspace.counters,
            notes: &mut notes,
            failed_with,
            journal: self.journal,
            letters: Vec::new(),
        };
        state.queues[lane].settle(batch, outcomes, &mut settling);
        let letters = settling.letters;
        self.note(&mut state, notes);
        drop(state);
        self.room.notify_waiters();
        tell_given_up(keyspace, &letters);
        self.settled.notify_waiters();
    }
}

fn tell_given_up(keyspace: &Keyspace, letters: &[DeadLetter]) {
    if letters.is_empty() {
        return;
    }
    let first = &letters[0];
    tracing::error!(
        keyspace = %first.write.keyspace, writes = letters.len(), id = %first.write.id, reason = first.reason,
        "writes were given up: they are dead letters now"
    );
    let told = catch_unwind(AssertUnwindSafe(|| keyspace.sink.given_up(letters)));
    if let Err(panic) = told {
        tracing::error!(panic = runtime::panic_message(&*panic), "the sink panicked about dead letters");
    }
}

/// A batch that is with the sink.
struct UnderWay<'a> {
    shared: &'a Shared,
    lane: usize,
    batch: Arc<[Write]>,
    is_settled: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let now = self.shared.options.clock.precise();
        let mut state = self.shared.state.lock();
        for write in self.batch.iter().rev() {
            state.queues[self.lane].give_back(write, now);
        }
        drop(state);
        self.shared.settled.notify_waiters();
    }
}

async fn drain(shared: Arc<Shared>, lane: usize, keyspace: Arc<Keyspace>, _turn: Turn) {
    loop {
        let now = shared.options.clock.precise();
        let (batch, wake_at) = {
            let mut state = shared.state.lock();
            let queue = &mut state.queues[lane];
            let batch = queue.take(now, shared.journal, &keyspace.counters);
            (batch, queue.wake_at())
        };
        if !batch.is_empty() {
            shared.send(lane, &keyspace, batch).await;
            continue;
        }
        let called = keyspace.wake.notified();
        match wake_at {
            Some(at) => drop(wait(at.since(now), called).await),
            None => called.await,
        }
    }
}

async fn wait(while_: std::time::Duration, called: impl Future<Output = ()>) -> Option<()> {
    runtime::within(while_.max(std::time::Duration::from_millis(1)), called).await
}
