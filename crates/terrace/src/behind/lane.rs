//! One keyspace's part of a journal: how writes get in, what is asked of those that wait, and what is done about those that were given up.

use super::counters::{self, LaneFigures};
use super::error::{RetryError, WriteError};
use super::options::{Ack, WhenFull};
use super::record::{DeadLetter, Operation, Pending, Record, Write, WriteState};
use super::shared::{Keyspace, Taken, Terms};
use super::{Owner, WriteId};
use crate::runtime;
use bytes::Bytes;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::{Moment, Version};

/// A keyspace that is written behind. Clones are handles of the same one.
#[derive(Clone)]
pub struct Lane {
    pub(super) owner: Arc<Owner>,
    pub(super) keyspace: Arc<Keyspace>,
    pub(super) index: usize,
}

/// What a caller gets for its write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Acknowledged {
    /// The write's name.
    pub id: WriteId,
    /// What the acknowledgement stands for.
    pub ack: Ack,
}

/// What a flush came to, about the writes that were accepted before it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Flushed {
    /// Writes that the origin has now, or that newer ones have taken the place of.
    pub stored: u64,
    /// Writes that failed and are tried again, and those behind them.
    pub parked: u64,
    /// Writes that were given up meanwhile.
    pub dead: u64,
}

impl Flushed {
    /// Writes that the origin does not have.
    pub fn left(&self) -> u64 {
        self.parked + self.dead
    }
}

/// Of the writes that may wait, the share that one caller may hold, as a divisor, and how many at most.
const HELD_SHARE: usize = 8;
const HELD_MAX: usize = 256;

/// A write that is acknowledged, and not sent before its version is known.
pub(crate) struct Held {
    lane: Lane,
    record: Option<Arc<Record>>,
}

impl Held {
    /// L2 has given the change this version.
    pub(crate) fn given(mut self, version: Version) {
        self.release((version != Version::ZERO).then(|| version.get()));
    }

    fn release(&mut self, given: Option<u64>) {
        if let Some(record) = self.record.take() {
            self.lane.owner.0.release(self.lane.index, &record, given);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release(None);
    }
}

impl Lane {
    /// Takes a write, and returns when it is acknowledged as the keyspace's [`Ack`] says. `version` is for the fence of the
    /// sink; unless given, it is made from the time of this node, and above all before it.
    ///
    /// # Errors
    /// [`WriteError::Full`] if there is no room, at once or until `wait_max` is over, as [`WhenFull`] says;
    /// [`WriteError::DiskFull`], [`WriteError::Poisoned`], [`WriteError::TooLarge`], [`WriteError::Closed`]: nothing was taken,
    /// and nothing is sent. [`WriteError::Unacknowledged`] if it was taken and `wait_max` was over first.
    ///
    /// # Cost
    /// One short lock, and a wait for the journal's next commit: its window, and two syncs of the disk (none for
    /// [`Ack::Os`], no wait for [`Ack::Memory`]). The value is kept in memory until the origin has it.
    ///
    /// # Races
    /// Writes of one key that are under way at the same time are ordered by the lock. Each reply names its number.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, nothing was taken. Dropped later, the write goes its way.
    pub async fn write(
        &self,
        key: Bytes,
        operation: Operation,
        version: Option<u64>,
        wait_max: Duration,
    ) -> Result<Acknowledged, WriteError> {
        let (taken, by) = self.take_in(key, operation, version, false, wait_max).await?;
        self.acknowledged(taken, by, wait_max).await
    }

    /// [`Lane::write`] of what L2 is about to give a version: it is not sent before that is said, or the [`Held`] is dropped.
    pub(crate) async fn write_held(
        &self,
        key: Bytes,
        operation: Operation,
        wait_max: Duration,
    ) -> Result<(Acknowledged, Held), WriteError> {
        let (taken, by) = self.take_in(key, operation, None, true, wait_max).await?;
        let held = Held { lane: self.clone(), record: Some(Arc::clone(&taken.record)) };
        Ok((self.acknowledged(taken, by, wait_max).await?, held))
    }

    /// Gives a write its place, when there is room.
    async fn take_in(
        &self,
        key: Bytes,
        operation: Operation,
        version: Option<u64>,
        is_held: bool,
        wait_max: Duration,
    ) -> Result<(Taken, Moment), WriteError> {
        let shared = &self.owner.0;
        let by = shared.options.clock.precise().plus(wait_max);
        shared.see_to_draining(self.index, &self.keyspace);
        let terms = Terms { version, is_held, ack: self.keyspace.options.ack };
        loop {
            let mut room = pin!(shared.room.notified());
            room.as_mut().enable();
            let error = match shared.submit(self.index, key.clone(), operation.clone(), terms) {
                Ok(taken) => return Ok((taken, by)),
                Err(error) => error,
            };
            let waits = self.keyspace.options.when_full == WhenFull::Wait;
            let rest = by.since(shared.options.clock.precise());
            if !waits || !matches!(error, WriteError::Full { .. }) || rest.is_zero() {
                return Err(self.refused(error));
            }
            self.make_room();
            if runtime::within(rest, room).await.is_none() {
                return Err(self.refused(error));
            }
        }
    }

    async fn acknowledged(
        &self,
        taken: Taken,
        by: Moment,
        wait_max: Duration,
    ) -> Result<Acknowledged, WriteError> {
        let shared = &self.owner.0;
        let id = WriteId { journal: shared.journal, number: taken.number };
        if let Some(reply) = taken.reply {
            let rest = by.since(shared.options.clock.precise());
            match runtime::within(rest, reply).await {
                Some(Ok(result)) => result?,
                Some(Err(_)) => return Err(WriteError::Closed),
                None => return Err(WriteError::Unacknowledged { id, after: wait_max }),
            }
        }
        Ok(Acknowledged { id, ack: self.keyspace.options.ack })
    }

    /// How many writes one caller may hold at a time: what is held cannot be sent, so it must leave room.
    pub(crate) fn held_max(&self) -> usize {
        (self.owner.0.options.pending_max / HELD_SHARE).clamp(1, HELD_MAX)
    }

    fn refused(&self, error: WriteError) -> WriteError {
        self.keyspace.counters.add(counters::Tally::Refused, 1);
        error
    }

    /// Who waits for room does not wait for an interval: all keyspaces send what they have.
    fn make_room(&self) {
        let shared = &self.owner.0;
        let lanes: Vec<usize> = shared.lanes.lock().keys().copied().collect();
        for lane in lanes {
            if let Some(keyspace) = shared.keyspace(lane) {
                shared.see_to_draining(lane, &keyspace);
                shared.force(lane, &keyspace);
            }
        }
    }

    /// What a local read must see of a key.
    ///
    /// # Cost
    /// One short lock and one lookup, whatever waits. No allocation.
    pub fn pending(&self, key: &[u8]) -> Pending {
        self.owner.0.state.lock().queues[self.index].pending(key)
    }

    /// Sends what waits, and returns when every write that was acknowledged before the call was sent, or has failed and waits
    /// for another attempt, or was given up. It says how many of each.
    ///
    /// Keys that failed before the call are not tried out of turn.
    ///
    /// # Cancel safety
    /// Dropped, it stops waiting; what was to be sent is.
    pub async fn flush(&self) -> Flushed {
        let shared = &self.owner.0;
        let (mark, before) = {
            let state = shared.state.lock();
            (state.next.saturating_sub(1), state.queues[self.index].count_until(state.next) as u64)
        };
        let dead_before = self.figures().dead;
        shared.settle_until(self.index, mark).await;
        let parked = shared.state.lock().queues[self.index].count_until(mark) as u64;
        let dead = (self.figures().dead - dead_before).min(before.saturating_sub(parked));
        Flushed { stored: before.saturating_sub(parked + dead), parked, dead }
    }

    /// How it stands, and what it did.
    pub fn figures(&self) -> LaneFigures {
        self.owner.0.lane_figures(self.index)
    }

    /// The first writes that wait, in their order, with the attempts that were made.
    ///
    /// # Cost
    /// Holds the journal's lock while it looks at all writes of the keyspace: for people, not for programs.
    pub fn waiting(&self, count_max: usize) -> Vec<Write> {
        let shared = &self.owner.0;
        shared.state.lock().queues[self.index].waiting(shared.journal, count_max)
    }

    /// What has become of a write of this keyspace; `None` if the journal never gave out such an id. Numbers are reserved ahead in the file,
    /// and those that were not given out before a restart never are: after it such an id is told of as [`Gone`](WriteState::Gone).
    ///
    /// A write that was acknowledged is [`Waiting`](WriteState::Waiting), [`Dead`](WriteState::Dead) or
    /// [`Coalesced`](WriteState::Coalesced) until the origin has it or somebody drops it, whatever is being done with it at the moment.
    /// That it is [`Gone`](WriteState::Gone) does not say that the origin has it.
    ///
    /// # Cost
    /// One short lock and a few lookups in it, whatever waits. A value is not copied.
    ///
    /// # Races
    /// The answer is of one moment: the write may have moved on when it arrives.
    pub fn state_of(&self, id: WriteId) -> Option<WriteState> {
        let shared = &self.owner.0;
        let now = shared.options.clock.precise();
        let state = shared.state.lock();
        let is_given_out = id.journal == shared.journal && id.number < state.next;
        is_given_out.then(|| state.queues[self.index].state_of(id.number, shared.journal, now))
    }

    /// The first dead letters, in their order.
    pub fn dead_letters(&self, count_max: usize) -> Vec<DeadLetter> {
        let shared = &self.owner.0;
        shared.state.lock().queues[self.index].dead_letters(shared.journal, count_max)
    }

    /// Brings a key's dead letters back, with all of their attempts before them, and in their order. Gives how many.
    ///
    /// # Errors
    /// [`RetryError::Unknown`] if there is none; [`RetryError::Overtaken`] if a newer write of the key was acknowledged since.
    pub fn retry_dead(&self, key: &[u8]) -> Result<usize, RetryError> {
        let shared = &self.owner.0;
        let (key, now, mut notes) = (Bytes::copy_from_slice(key), shared.options.clock.precise(), Vec::new());
        let mut state = shared.state.lock();
        let count = state.queues[self.index].revive(&key, now, &mut notes)?;
        shared.note(&mut state, notes);
        drop(state);
        self.keyspace.sink.brought_back(&key);
        self.keyspace.wake.notify_one();
        Ok(count)
    }

    /// Forgets a key's dead letters for good. Gives how many.
    pub fn drop_dead(&self, key: &[u8]) -> usize {
        let shared = &self.owner.0;
        let mut notes = Vec::new();
        let mut state = shared.state.lock();
        let count = state.queues[self.index].drop_dead(&Bytes::copy_from_slice(key), &mut notes);
        shared.note(&mut state, notes);
        drop(state);
        shared.room.notify_waiters();
        count
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("figures", &self.figures()).finish_non_exhaustive()
    }
}
