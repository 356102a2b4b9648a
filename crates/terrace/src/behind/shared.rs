//! What a journal is in memory, and how writes get into it and out of it.
//!
//! 1. There is one lock. It is held for arithmetic only, never while the file, the sink or a caller is waited for.
//! 2. The order in which writes get their numbers is the order in which they stand in their keys' chains and in the row for
//!    the file, so all three agree.
//! 3. What waits for the file is a part of what waits for the origin, so one bound holds both.

use super::counters::{Condition, Counters, JournalFigures, LaneFigures, Tally};
use super::error::{OpenError, WriteError};
use super::graves::Grave;
use super::idempotency::Request;
use super::options::{Ack, IDEMPOTENCY_KEYS_FOR_MAX, JournalOptions, LaneOptions};
use super::queue::{Committed, Queue};
use super::record::{Operation, Record, weight};
use super::requests::Since;
use super::sink::Sink;
use super::stamps::Stamps;
use super::store::{Loaded, Note, RequestRow};
use crate::origin::WriteId;
use crate::runtime::{Runtime, Turns};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

/// What a writer waits for.
pub(super) type Reply = oneshot::Receiver<Result<(), WriteError>>;

/// A write on its way to the file.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) lane: usize,
    pub(super) record: Arc<Record>,
    pub(super) ack: Ack,
    pub(super) reply: Option<oneshot::Sender<Result<(), WriteError>>>,
}

/// What the lock holds.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) queues: Vec<Queue>,
    by_name: HashMap<Arc<str>, usize>,
    pub(super) next: u64,
    pub(super) stamps: Stamps,
    pub(super) incoming: VecDeque<Incoming>,
    pub(super) notes: Vec<Note>,
    pub(super) condition: Condition,
    /// No new writes.
    pub(super) is_closing: bool,
    /// Nothing more to the file than what is on its way.
    pub(super) is_ending: bool,
}

/// What a keyspace has besides its queue.
pub(super) struct Keyspace {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) options: LaneOptions,
    pub(super) counters: Arc<Counters>,
    pub(super) wake: Notify,
    pub(super) turns: Turns,
}

/// A journal.
pub(super) struct Shared {
    pub(super) journal: u128,
    pub(super) options: JournalOptions,
    pub(super) state: Mutex<State>,
    pub(super) lanes: Mutex<HashMap<usize, Arc<Keyspace>>>,
    counters: Mutex<HashMap<usize, Arc<Counters>>>,
    /// The writer's thread waits here for work.
    pub(super) work: Condvar,
    /// Writers wait here for room.
    pub(super) room: Notify,
    /// Flushes wait here for batches to end.
    pub(super) settled: Notify,
    pub(super) runtime: Runtime,
    pub(super) ended: CancellationToken,
    pub(super) commits: AtomicU64,
    pub(super) committed: AtomicU64,
}

/// A write that was taken in.
pub(super) struct Taken {
    pub(super) number: u64,
    /// None if it is acknowledged already.
    pub(super) reply: Option<Reply>,
    pub(super) record: Arc<Record>,
}

/// What became of a write that was submitted.
pub(super) enum Submitted {
    /// It was taken in.
    Taken(Taken),
    /// Its request was taken before, as the write of this number.
    Before { number: u64, is_at_work: bool },
}

/// What is to be said of a write.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// Its version, if the caller knows better than the journal.
    pub(super) version: Option<u64>,
    /// Whether it is not to be sent before [`Shared::release`].
    pub(super) is_held: bool,
    pub(super) ack: Ack,
    /// The request that asks for it, if its sender gave that a name.
    pub(super) request: Option<Request>,
}

impl Shared {
    /// A journal with what its file held.
    pub(super) fn new(options: JournalOptions, loaded: Loaded) -> Self {
        let shared = Self {
            journal: loaded.journal,
            options,
            state: Mutex::new(State {
                next: loaded.next,
                stamps: Stamps::after(loaded.stamp),
                ..State::default()
            }),
            lanes: Mutex::default(),
            counters: Mutex::default(),
            work: Condvar::new(),
            room: Notify::new(),
            settled: Notify::new(),
            runtime: Runtime::default(),
            ended: CancellationToken::new(),
            commits: AtomicU64::new(0),
            committed: AtomicU64::new(0),
        };
        let now = shared.options.clock.precise();
        let mut state = shared.state.lock();
        for (record, attempts, reason, is_overtaken) in loaded.dead {
            let lane = state.lane(&record.keyspace);
            let covers = record.number;
            let grave = Grave { record, covers, attempts, reason, is_overtaken, is_held: false };
            state.queues[lane].replay_dead(grave);
        }
        let mut notes = Vec::new();
        for (record, attempts) in loaded.pending {
            let lane = state.lane(&record.keyspace);
            shared.counters_of(lane).add(Tally::Replayed, 1);
            state.queues[lane].replay(record, attempts, now, &mut notes);
        }
        shared.replay_requests(&mut state, loaded.requests, &mut notes);
        state.notes = notes;
        drop(state);
        shared
    }

    pub(super) fn counters_of(&self, lane: usize) -> Arc<Counters> {
        Arc::clone(self.counters.lock().entry(lane).or_default())
    }

    pub(super) fn keyspace(&self, lane: usize) -> Option<Arc<Keyspace>> {
        self.lanes.lock().get(&lane).cloned()
    }

    /// Gives a keyspace its sink.
    pub(super) fn attach(
        &self,
        name: &str,
        options: LaneOptions,
        sink: Arc<dyn Sink>,
    ) -> Result<usize, OpenError> {
        options.check()?;
        let mut state = self.state.lock();
        let lane = state.lane(name);
        let queue = &mut state.queues[lane];
        if queue.options.is_some() {
            return Err(OpenError::Attached { keyspace: name.to_owned() });
        }
        queue.options = Some(options);
        let (mut notes, lane_name) = (Vec::new(), Arc::clone(&queue.name));
        let LaneOptions { idempotency_keys_max, idempotency_keys_for, .. } = options;
        queue.requests.keep(idempotency_keys_max, idempotency_keys_for, &lane_name, &mut notes);
        self.note(&mut state, notes);
        let counters = self.counters_of(lane);
        let keyspace = Keyspace { sink, options, counters, wake: Notify::new(), turns: Turns::default() };
        self.lanes.lock().insert(lane, Arc::new(keyspace));
        Ok(lane)
    }

    /// Takes in the requests that the file has from before. What it says to be at work and has no write of is over now.
    fn replay_requests(&self, state: &mut State, mut rows: Vec<RequestRow>, notes: &mut Vec<Note>) {
        let (at, now) = (self.options.clock.precise(), self.seconds());
        rows.sort_unstable_by_key(|row| (if row.over_at == 0 { u64::MAX } else { row.over_at }, row.number));
        for RequestRow { keyspace, request, number, over_at } in rows {
            let lane = state.lane(&keyspace);
            let queue = &mut state.queues[lane];
            if queue.has(number) {
                continue;
            }
            let before = Duration::from_secs(if over_at == 0 { 0 } else { now.saturating_sub(over_at) });
            if before >= IDEMPOTENCY_KEYS_FOR_MAX {
                notes.push(Note::Forget(Arc::clone(&queue.name), request.name, number));
                continue;
            }
            queue.requests.replay(request, number, Since::new(at, before));
            if over_at == 0 {
                notes.push(Note::Over(Arc::clone(&queue.name), request.name, number));
            }
        }
    }

    /// Takes in a write, if there is room: then it has its place, whatever becomes of the caller. One whose request was taken before is not
    /// taken again, room or none.
    pub(super) fn submit(
        &self,
        lane: usize,
        key: Bytes,
        operation: Operation,
        terms: Terms,
    ) -> Result<Submitted, WriteError> {
        let Terms { version, is_held, ack, request } = terms;
        let bytes = weight(key.len(), &operation);
        let now = self.options.clock.precise();
        let mut state = self.state.lock();
        if let Some(request) = request
            && let Some((before, is_at_work)) = state.queues[lane].before(request, now)
        {
            let number = before.number;
            if before.is_same {
                return Ok(Submitted::Before { number, is_at_work });
            }
            return Err(WriteError::KeyReused { id: WriteId { journal: self.journal, number } });
        }
        self.check(&state, bytes)?;
        let number = state.next;
        state.next += 1;
        let keyspace = Arc::clone(&state.queues[lane].name);
        let version = version.unwrap_or_else(|| {
            let (now, stamps) = (self.micros(), &mut state.stamps);
            let first = stamps.next(now);
            if is_held { first } else { stamps.settle(first, None, now) }
        });
        if request.is_some() {
            let mut notes = Vec::new();
            state.queues[lane].requests.forget_old(now, &keyspace, &mut notes);
            self.note(&mut state, notes);
        }
        let record = Record::new(number, keyspace, key, operation, version).asked_for_by(request);
        let record = Arc::new(record);
        let is_acknowledged = ack == Ack::Memory;
        state.queues[lane].accept(Arc::clone(&record), now, is_acknowledged, is_held);
        let (sender, receiver) = if is_acknowledged {
            self.counters_of(lane).add(Tally::Acknowledged, 1);
            (None, None)
        } else {
            let (sender, receiver) = oneshot::channel();
            (Some(sender), Some(receiver))
        };
        state.incoming.push_back(Incoming { lane, record: Arc::clone(&record), ack, reply: sender });
        let waiting = state.incoming.len();
        drop(state);
        if waiting == 1 || waiting == self.options.commit_max {
            self.work.notify_one();
        }
        Ok(Submitted::Taken(Taken { number, reply: receiver, record }))
    }

    /// What L2 says of the version of a write that was held, which may be sent from now on.
    pub(super) fn release(&self, lane: usize, record: &Arc<Record>, given: Option<u64>) {
        let (now, micros, counters) = (self.options.clock.precise(), self.micros(), self.counters_of(lane));
        let (mut state, mut notes) = (self.state.lock(), Vec::new());
        let version = state.stamps.settle(record.version(), given, micros);
        let before = state.queues[lane].ready();
        state.queues[lane].release(record, version, now, &counters, &mut notes);
        self.note(&mut state, notes);
        let calls: &[usize] = if state.queues[lane].calls_after(before) { &[lane] } else { &[] };
        drop(state);
        self.call(calls);
    }

    /// The time of this node, in microseconds.
    fn micros(&self) -> u64 {
        let since = self.options.clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// The same in seconds.
    pub(super) fn seconds(&self) -> u64 {
        self.micros() / 1_000_000
    }

    fn check(&self, state: &State, bytes: usize) -> Result<(), WriteError> {
        match &state.condition {
            Condition::Poisoned(reason) => return Err(WriteError::Poisoned { reason: reason.clone() }),
            Condition::DiskFull => return Err(WriteError::DiskFull),
            Condition::Sound => {}
        }
        if state.is_closing {
            return Err(WriteError::Closed);
        }
        let bytes_max = self.options.pending_bytes_max;
        if bytes > bytes_max {
            return Err(WriteError::TooLarge { bytes, bytes_max });
        }
        let (pending, held) = state.totals();
        if pending >= self.options.pending_max || held + bytes > bytes_max {
            return Err(WriteError::Full { pending, bytes: held });
        }
        Ok(())
    }

    /// Hands notes to the writer's thread.
    pub(super) fn note(&self, state: &mut State, notes: Vec<Note>) {
        if notes.is_empty() || matches!(state.condition, Condition::Poisoned(_)) {
            return;
        }
        // While the disk is full attempts are not worth keeping: they would pile up.
        let is_full = state.condition == Condition::DiskFull;
        let kept = notes.into_iter().filter(|note| !is_full || !matches!(note, Note::Attempts(..)));
        let was_idle = state.incoming.is_empty() && state.notes.is_empty();
        state.notes.extend(kept);
        if was_idle {
            self.work.notify_one();
        }
    }

    /// Makes a write fit to be sent, and its caller be told.
    pub(super) fn finish(
        &self,
        state: &mut State,
        incoming: Incoming,
        is_in_file: bool,
        notes: &mut Vec<Note>,
    ) {
        let now = self.options.clock.precise();
        let counters = self.counters_of(incoming.lane);
        let committed = Committed { record: &incoming.record, is_in_file };
        state.queues[incoming.lane].commit(committed, now, &counters, notes);
        if let Some(reply) = incoming.reply {
            counters.add(Tally::Acknowledged, 1);
            let _caller_may_be_gone = reply.send(Ok(()));
        }
    }

    /// Tells a caller that its write was not taken.
    pub(super) fn refuse(&self, state: &mut State, incoming: Incoming, error: &WriteError) {
        state.queues[incoming.lane].refuse(&incoming.record);
        self.counters_of(incoming.lane).add(Tally::Refused, 1);
        if let Some(reply) = incoming.reply {
            let _caller_may_be_gone = reply.send(Err(error.clone()));
        }
    }

    /// No more writes.
    pub(super) fn close(&self) {
        self.state.lock().is_closing = true;
        self.room.notify_waiters();
    }

    /// Lets the writer's thread bring what it has to the file, and end.
    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        (state.is_closing, state.is_ending) = (true, true);
        drop(state);
        self.work.notify_all();
    }

    pub(super) fn lane_figures(&self, lane: usize) -> LaneFigures {
        let now = self.options.clock.precise();
        let counted = self.counters_of(lane).figures();
        let state = self.state.lock();
        let Some(queue) = state.queues.get(lane) else { return counted };
        LaneFigures {
            pending: queue.len() as u64,
            pending_bytes: queue.bytes() as u64,
            oldest_seconds: queue.oldest().map_or(0.0, |since| now.since(since).as_secs_f64()),
            parked_keys: queue.parked() as u64,
            dead_letters: queue.dead() as u64,
            idempotency_keys: queue.requests.len() as u64,
            ..counted
        }
    }

    pub(super) fn figures(&self) -> JournalFigures {
        let state = self.state.lock();
        let (pending, pending_bytes) = state.totals();
        let unattended =
            state.queues.iter().filter(|queue| queue.options.is_none()).map(Queue::len).sum::<usize>();
        let condition = state.condition.clone();
        let names: Vec<String> = state.queues.iter().map(|queue| queue.name.to_string()).collect();
        drop(state);
        let lanes = names.into_iter().enumerate().map(|(lane, name)| (name, self.lane_figures(lane)));
        JournalFigures {
            condition,
            pending: pending as u64,
            pending_max: self.options.pending_max as u64,
            pending_bytes: pending_bytes as u64,
            unattended: unattended as u64,
            commits: self.commits.load(Ordering::Relaxed),
            committed: self.committed.load(Ordering::Relaxed),
            lanes: lanes.collect(),
        }
    }
}

impl State {
    /// The place of a keyspace, which is made if there is none.
    pub(super) fn lane(&mut self, name: &str) -> usize {
        if let Some(&lane) = self.by_name.get(name) {
            return lane;
        }
        let (lane, name): (_, Arc<str>) = (self.queues.len(), name.into());
        self.queues.push(Queue::new(Arc::clone(&name)));
        self.by_name.insert(name, lane);
        lane
    }

    /// Writes that wait for the origin, and what they and the dead letters count in bytes.
    pub(super) fn totals(&self) -> (usize, usize) {
        self.queues.iter().fold((0, 0), |(count, bytes), queue| (count + queue.len(), bytes + queue.bytes()))
    }

    pub(super) fn dead(&self) -> usize {
        self.queues.iter().map(Queue::dead).sum()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("figures", &self.figures()).finish_non_exhaustive()
    }
}
