//! Group commit: one thread brings to the file what has come, in one commit at a time.
//!
//! 1. A commit takes what waits, up to a bound, after a short window in which more may come. While it is made, the next one
//!    gathers.
//! 2. Whoever waits for the disk is told after the commit, whoever waits for the operating system when that has it, just
//!    before the commit's last sync ([`super::tap`]).
//! 3. When a commit fails, what was acknowledged before it stays: it is committed again after a full disk, and sent without
//!    having been committed after a failed one. What was not acknowledged is refused, and never sent.

use super::counters::Condition;
use super::error::WriteError;
use super::options::Ack;
use super::queue::Queue;
use super::record::Record;
use super::shared::{Incoming, Shared, State};
use super::store::{Commit, CommitError, Note, Store};
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What one commit is made of.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) incoming: Vec<Incoming>,
    pub(super) notes: Vec<Note>,
    pub(super) next: u64,
    pub(super) stamp: u64,
    /// The wall clock, in seconds.
    pub(super) now: u64,
}

/// Writers that are told when the operating system has their writes.
type Waiting = Arc<Mutex<Vec<Incoming>>>;

/// Commits until the journal ends.
pub(super) fn run(shared: &Arc<Shared>, mut store: Store) {
    while let Some(work) = shared.collect() {
        shared.commit(&mut store, work);
    }
    drop(store);
    shared.ended.cancel();
}

impl Shared {
    /// Waits for work, and takes it; `None` when the journal has ended and there is none.
    fn collect(&self) -> Option<Work> {
        let mut state = self.state.lock();
        loop {
            let is_waiting = !state.incoming.is_empty() || !state.notes.is_empty();
            match state.condition {
                Condition::DiskFull if !state.is_ending => {
                    self.work.wait_for(&mut state, self.options.full_retry);
                    return Some(self.take(&mut state));
                }
                Condition::Poisoned(_) => {
                    state.notes.clear();
                    if state.is_ending {
                        return None;
                    }
                    self.work.wait(&mut state);
                }
                _ if is_waiting => {
                    self.gather(&mut state);
                    return Some(self.take(&mut state));
                }
                _ if state.is_ending => return None,
                _ => self.work.wait(&mut state),
            }
        }
    }

    /// Lets more come, for a while.
    fn gather(&self, state: &mut MutexGuard<'_, State>) {
        let window = self.options.commit_window;
        if !window.is_zero() && !state.is_ending && state.incoming.len() < self.options.commit_max {
            self.work.wait_for(state, window);
        }
    }

    /// Takes what waits, as much as a commit may have.
    pub(super) fn take(&self, state: &mut State) -> Work {
        let count = state.incoming.len().min(self.options.commit_max);
        Work {
            incoming: state.incoming.drain(..count).collect(),
            notes: std::mem::take(&mut state.notes),
            next: state.next,
            stamp: state.stamps.last(),
            now: self.seconds(),
        }
    }

    /// Makes one commit, and tells those who wait for it.
    pub(super) fn commit(self: &Arc<Self>, store: &mut Store, mut work: Work) {
        let records = newest(&work.incoming);
        let requested = requested(&work.incoming);
        let acknowledges = work.incoming.iter().any(|incoming| incoming.ack == Ack::Fsync);
        let waiting = Waiting::default();
        *waiting.lock() = os_waiters(&mut work.incoming);
        let (shared, told) = (Arc::clone(self), Arc::clone(&waiting));
        store.tap().on_handed_over(Box::new(move || shared.handed_over(&told)));
        let Work { notes, next, stamp, now, .. } = &work;
        let (next, stamp, now) = (*next, *stamp, *now);
        let commit =
            Commit { records: &records, notes, requested: &requested, next, stamp, now, acknowledges };
        let made = store.commit(&commit);
        give_replies_back(&mut work.incoming, std::mem::take(&mut *waiting.lock()));
        match made {
            Ok(()) => self.committed(work, &records),
            Err(CommitError::DiskFull) => self.disk_full(work),
            Err(CommitError::Poisoned(reason)) => self.poisoned(work, reason),
        }
    }

    /// The operating system has a commit.
    fn handed_over(&self, waiting: &Waiting) {
        let mut told = std::mem::take(&mut *waiting.lock());
        let mut state = self.state.lock();
        for incoming in &mut told {
            state.queues[incoming.lane].acknowledge(&incoming.record);
            if let Some(reply) = incoming.reply.take() {
                self.counters_of(incoming.lane).add(super::counters::Tally::Acknowledged, 1);
                let _caller_may_be_gone = reply.send(Ok(()));
            }
        }
    }

    fn committed(&self, work: Work, records: &[Arc<Record>]) {
        let in_file: HashSet<u64> = records.iter().map(|record| record.number).collect();
        let mut state = self.state.lock();
        state.condition = Condition::Sound;
        let before: Vec<usize> = state.queues.iter().map(Queue::ready).collect();
        let mut notes = Vec::new();
        for incoming in work.incoming {
            let is_in_file = in_file.contains(&incoming.record.number);
            self.finish(&mut state, incoming, is_in_file, &mut notes);
        }
        self.note(&mut state, notes);
        let calls: Vec<usize> =
            (0..before.len()).filter(|&lane| state.queues[lane].calls_after(before[lane])).collect();
        drop(state);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.committed.fetch_add(records.len() as u64, Ordering::Relaxed);
        self.call(&calls);
    }

    pub(super) fn call(&self, lanes: &[usize]) {
        for &lane in lanes {
            if let Some(keyspace) = self.keyspace(lane) {
                keyspace.wake.notify_one();
            }
        }
        // What was coalesced has made room, and a flush may wait for what was not committed yet.
        self.room.notify_waiters();
        self.settled.notify_waiters();
    }

    fn disk_full(&self, work: Work) {
        let mut state = self.state.lock();
        if state.condition != Condition::DiskFull {
            tracing::error!("the journal's disk is full: writes are refused until there is room");
        }
        state.condition = Condition::DiskFull;
        let later = std::mem::replace(&mut state.notes, work.notes);
        state.notes.extend(later);
        let all: Vec<Incoming> =
            work.incoming.into_iter().chain(std::mem::take(&mut state.incoming)).collect();
        for incoming in all {
            if state.queues[incoming.lane].is_acknowledged(&incoming.record) {
                state.incoming.push_back(incoming);
            } else {
                self.refuse(&mut state, incoming, &WriteError::DiskFull);
            }
        }
        if state.is_ending {
            // There is no later: what was acknowledged from memory ends with this process, as it was said.
            state.incoming.clear();
            state.notes.clear();
        }
        drop(state);
        self.call(&[]);
    }

    fn poisoned(&self, work: Work, reason: String) {
        tracing::error!(reason, "the journal's disk failed: writes are refused until a restart");
        let mut state = self.state.lock();
        state.condition = Condition::Poisoned(reason.clone());
        let error = WriteError::Poisoned { reason };
        let all: Vec<Incoming> =
            work.incoming.into_iter().chain(std::mem::take(&mut state.incoming)).collect();
        for incoming in all {
            if state.queues[incoming.lane].is_acknowledged(&incoming.record) {
                self.finish(&mut state, incoming, false, &mut Vec::new());
            } else {
                self.refuse(&mut state, incoming, &error);
            }
        }
        let every: Vec<usize> = (0..state.queues.len()).collect();
        drop(state);
        self.call(&every);
    }
}

/// The newest write of each key: the others need not be in the file.
fn newest(incoming: &[Incoming]) -> Vec<Arc<Record>> {
    let mut seen = HashSet::with_capacity(incoming.len());
    let mut records: Vec<Arc<Record>> = incoming
        .iter()
        .rev()
        .filter(|incoming| seen.insert((incoming.lane, &incoming.record.key)))
        .map(|incoming| Arc::clone(&incoming.record))
        .collect();
    records.reverse();
    records
}

/// The writes whose requests are to be remembered: also those that need not be in the file.
fn requested(incoming: &[Incoming]) -> Vec<Arc<Record>> {
    let records = incoming.iter().map(|incoming| &incoming.record);
    records.filter(|record| record.request.is_some()).cloned().collect()
}

/// Those who wait for the operating system, with their replies.
fn os_waiters(incoming: &mut [Incoming]) -> Vec<Incoming> {
    let waiting = incoming.iter_mut().filter(|incoming| incoming.ack == Ack::Os);
    waiting
        .map(|incoming| Incoming {
            lane: incoming.lane,
            record: Arc::clone(&incoming.record),
            ack: incoming.ack,
            reply: incoming.reply.take(),
        })
        .collect()
}

/// Puts the replies back that were not given.
fn give_replies_back(incoming: &mut [Incoming], waiting: Vec<Incoming>) {
    let waiters = incoming.iter_mut().filter(|incoming| incoming.ack == Ack::Os);
    for (incoming, waiter) in waiters.zip(waiting) {
        incoming.reply = waiter.reply;
    }
}
