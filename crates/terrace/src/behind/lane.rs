//! One keyspace's part of a journal: how writes get in, what is asked of those that wait, and what is done about those that were given up.

use super::counters::{self, LaneFigures};
use super::error::{RetryError, WriteError};
use super::idempotency::{IdempotencyKey, Request};
use super::options::{Ack, WhenFull};
use super::record::{DeadLetter, Operation, Pending, Record, Write, WriteState};
use super::shared::{Keyspace, Submitted, Taken, Terms};
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
    /// Whether the request was taken before, by its [`IdempotencyKey`]: the write is that of the first, and this call has done nothing.
    pub is_repetition: bool,
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
        let terms = Terms { version, is_held: false, ack: self.keyspace.options.ack, request: None };
        Ok(self.write_on(key, operation, terms, wait_max).await?.0)
    }

    /// [`Lane::write`] of a request that has a name: if one of this name was taken before, it is acknowledged again, under the id that it has, and
    /// nothing is written; whatever has become of its write, and also if others of the key came since. While the first waits to be
    /// acknowledged, its repetitions wait with it; if it is refused, one of them takes its place.
    ///
    /// A request is remembered as [`LaneOptions::idempotency_keys_for`](super::LaneOptions::idempotency_keys_for) says, over restarts as far as its
    /// write is: that is in the same commit.
    ///
    /// # Errors
    /// As [`Lane::write`]; [`WriteError::KeyReused`] if the name was given to a request that asks for something else: another key, another
    /// operation, another value. What was taken before is acknowledged also where nothing is taken any more.
    ///
    /// # Cost
    /// As [`Lane::write`], two SHA-256, of which one is of the value, and one more row in the file. A repetition: one short lock.
    ///
    /// # Races
    /// Of equal requests at the same time one is taken.
    ///
    /// # Cancel safety
    /// As [`Lane::write`].
    ///
    /// # Examples
    /// See [`Keyspace::put_once`](crate::Keyspace::put_once).
    pub async fn write_once(
        &self,
        key: Bytes,
        operation: Operation,
        version: Option<u64>,
        idempotency_key: &IdempotencyKey,
        wait_max: Duration,
    ) -> Result<Acknowledged, WriteError> {
        let request = Some(Request::new(idempotency_key, &key, &operation, &[]));
        let terms = Terms { version, is_held: false, ack: self.keyspace.options.ack, request };
        Ok(self.write_on(key, operation, terms, wait_max).await?.0)
    }

    /// [`Lane::write`], of a request that may have a name ([`Lane::write_once`]). What L2 is about to give a version is held: it is not sent before
    /// that is said, or the [`Held`] is dropped.
    pub(crate) async fn write_request(
        &self,
        key: Bytes,
        operation: Operation,
        is_held: bool,
        request: Option<Request>,
        wait_max: Duration,
    ) -> Result<(Acknowledged, Option<Held>), WriteError> {
        let terms = Terms { version: None, is_held, ack: self.keyspace.options.ack, request };
        self.write_on(key, operation, terms, wait_max).await
    }

    /// Gives a write its place, and waits for its acknowledgement.
    async fn write_on(
        &self,
        key: Bytes,
        operation: Operation,
        terms: Terms,
        wait_max: Duration,
    ) -> Result<(Acknowledged, Option<Held>), WriteError> {
        let by = self.owner.0.options.clock.precise().plus(wait_max);
        match self.take_in(key, operation, terms, by, wait_max).await? {
            Submitted::Taken(taken) => {
                let record = || Some(Arc::clone(&taken.record));
                let held = terms.is_held.then(|| Held { lane: self.clone(), record: record() });
                Ok((self.acknowledged(taken, by, wait_max).await?, held))
            }
            Submitted::Before { number, .. } => {
                self.keyspace.counters.add(counters::Tally::Repeated, 1);
                let (id, ack) = (self.id_of(number), terms.ack);
                Ok((Acknowledged { id, ack, is_repetition: true }, None))
            }
        }
    }

    fn id_of(&self, number: u64) -> WriteId {
        WriteId { journal: self.owner.0.journal, number }
    }

    /// Gives a write its place, when there is room, or finds that its request was taken before and is acknowledged.
    async fn take_in(
        &self,
        key: Bytes,
        operation: Operation,
        terms: Terms,
        by: Moment,
        wait_max: Duration,
    ) -> Result<Submitted, WriteError> {
        let shared = &self.owner.0;
        shared.see_to_draining(self.index, &self.keyspace);
        loop {
            // Told after each commit as well.
            let mut room = pin!(shared.room.notified());
            room.as_mut().enable();
            let submitted = shared.submit(self.index, key.clone(), operation.clone(), terms);
            let rest = by.since(shared.options.clock.precise());
            let error = match submitted {
                Ok(Submitted::Before { number, is_at_work: true }) => {
                    if runtime::within(rest, room).await.is_none() {
                        return Err(WriteError::Unacknowledged { id: self.id_of(number), after: wait_max });
                    }
                    continue;
                }
                Ok(submitted) => return Ok(submitted),
                Err(error) => error,
            };
            let waits = self.keyspace.options.when_full == WhenFull::Wait;
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
        let id = self.id_of(taken.number);
        if let Some(reply) = taken.reply {
            let rest = by.since(shared.options.clock.precise());
            match runtime::within(rest, reply).await {
                Some(Ok(result)) => result?,
                Some(Err(_)) => return Err(WriteError::Closed),
                None => return Err(WriteError::Unacknowledged { id, after: wait_max }),
            }
        }
        Ok(Acknowledged { id, ack: self.keyspace.options.ack, is_repetition: false })
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
        self.keyspace.sink.brought_back(&key, count);
        self.keyspace.wake.notify_one();
        Ok(count)
    }

    /// Forgets a key's dead letters for good. Gives how many.
    pub fn drop_dead(&self, key: &[u8]) -> usize {
        let shared = &self.owner.0;
        let (now, mut notes) = (shared.options.clock.precise(), Vec::new());
        let mut state = shared.state.lock();
        let count = state.queues[self.index].drop_dead(&Bytes::copy_from_slice(key), now, &mut notes);
        shared.note(&mut state, notes);
        drop(state);
        shared.room.notify_waiters();
        if count > 0 {
            self.keyspace.sink.dropped(key, count);
        }
        count
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("figures", &self.figures()).finish_non_exhaustive()
    }
}
