//! The writes of one keyspace that the origin does not have yet: which may be sent, when, and what an outcome means.
//!
//! All of it is arithmetic in memory: no file, no clock, no chance of its own. What has to be done to the file is given back
//! as notes.
//!
//! 1. Per key: see [`super::chain`]. One write of a key is under way at a time, so keys never wait for each other.
//! 2. A write is sent only once it is committed, and not held: see [`super::stamps`]. What was refused is never sent by this process.
//! 3. A key whose write fails is parked, with all that is behind it, for as long as [`parking`] says; the others go on. When the
//!    write has failed often enough, all of the key's writes become dead letters, in their order.
//! 4. `unsettled` has the numbers of all writes that were accepted and neither sent, nor coalesced into one that was, nor
//!    parked or behind a parked one: so a flush is over when its first is above the flush's mark.

mod asked;
mod parking;

use super::chain::{Chain, Entry, Stage, State};
use super::counters::{Counters, Tally};
use super::error::RetryError;
use super::graves::{Grave, Graves};
use super::options::LaneOptions;
use super::record::{DeadLetter, Outcome, Record, Write};
use super::requests::Requests;
use super::roll::Roll;
use super::store::Note;
use bytes::Bytes;
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use terrace_core::{Chance, Moment};

/// How much smaller the next batch with a write is, after one that failed as a whole.
const GROUP_DIVISOR: usize = 8;

/// What a settling needs besides the outcome.
pub(super) struct Settling<'a> {
    pub(super) now: Moment,
    pub(super) chance: &'a Chance,
    /// How many more dead letters there may be.
    pub(super) room_for_dead: usize,
    pub(super) counters: &'a Counters,
    pub(super) notes: &'a mut Vec<Note>,
    /// How many writes were in the batch, if it failed as a whole.
    pub(super) failed_with: Option<usize>,
    pub(super) journal: u128,
    /// What was given up.
    pub(super) letters: Vec<DeadLetter>,
}

/// A write whose commit was made, or will never be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Committed<'a> {
    pub(super) record: &'a Arc<Record>,
    pub(super) is_in_file: bool,
}

/// One keyspace.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) name: Arc<str>,
    /// None until a sink was attached: what was replayed waits.
    pub(super) options: Option<LaneOptions>,
    chains: HashMap<Bytes, Chain, RandomState>,
    ready: VecDeque<(Bytes, Moment)>,
    /// How many of the first in the row are to be sent without waiting for more.
    due: usize,
    parked: BTreeMap<(Moment, u64), Bytes>,
    /// Until when the origin is left alone, so that nothing that is parked is tried.
    rest: Option<Moment>,
    roll: Roll,
    unsettled: BTreeSet<u64>,
    bytes: usize,
    graves: Graves,
    /// What was taken before, by its idempotency key.
    pub(super) requests: Requests,
}

impl Queue {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self { name, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.roll.len()
    }

    /// What it counts, dead letters included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.graves.bytes()
    }

    pub(super) fn parked(&self) -> usize {
        self.parked.len()
    }

    pub(super) fn dead(&self) -> usize {
        self.graves.len()
    }

    pub(super) fn oldest(&self) -> Option<Moment> {
        self.roll.oldest()
    }

    /// Whether all writes up to `mark` were sent, parked or given up.
    pub(super) fn is_settled(&self, mark: u64) -> bool {
        self.unsettled.first().is_none_or(|&first| first > mark)
    }

    /// How many writes there are with numbers up to `mark`.
    pub(super) fn count_until(&self, mark: u64) -> usize {
        self.roll.count_until(mark)
    }

    /// Lets all that is ready be sent now.
    pub(super) fn force(&mut self) {
        self.due = self.ready.len();
    }

    /// Takes in a new write.
    pub(super) fn accept(&mut self, record: Arc<Record>, now: Moment, is_acknowledged: bool, is_held: bool) {
        self.bytes += record.weight();
        self.requests.add(&record);
        self.roll.add(&record, now);
        let chain = self.chains.entry(record.key.clone()).or_default();
        if !chain.is_failing {
            self.unsettled.insert(record.number);
        }
        if is_acknowledged {
            chain.show(&record);
        }
        chain.entries.push_back(Entry::new(record, is_acknowledged, is_held));
    }

    /// Takes in a write that the file has from before; its dead letters were taken in already.
    pub(super) fn replay(&mut self, record: Arc<Record>, attempts: u32, now: Moment, notes: &mut Vec<Note>) {
        let key = record.key.clone();
        self.graves.overtake(&key, record.number, notes);
        self.accept(Arc::clone(&record), now, true, false);
        let Some(chain) = self.chains.get_mut(&key) else { return };
        chain.entries.pop_back();
        chain.entries.push_back(Entry::replayed(record, attempts));
        self.make_ready(&key, now);
    }

    /// Takes in a dead letter that the file has from before.
    pub(super) fn replay_dead(&mut self, grave: Grave) {
        self.requests.add(&grave.record);
        self.graves.add(grave);
    }

    /// A caller was told that its write is taken.
    pub(super) fn acknowledge(&mut self, record: &Arc<Record>) {
        let Some(chain) = self.chains.get_mut(&record.key) else { return };
        if let Some(at) = chain.position(record.number) {
            chain.entries[at].is_acknowledged = true;
            chain.show(record);
        }
    }

    /// A write is in the file, or never will be and was acknowledged: it may be sent.
    pub(super) fn commit(
        &mut self,
        committed: Committed<'_>,
        now: Moment,
        counters: &Counters,
        notes: &mut Vec<Note>,
    ) {
        let Committed { record, is_in_file } = committed;
        self.acknowledge(record);
        self.graves.overtake(&record.key, record.number, notes);
        let Some(chain) = self.chains.get_mut(&record.key) else { return };
        let Some(at) = chain.position(record.number) else { return };
        chain.entries[at].stage = if is_in_file { Stage::InFile } else { Stage::InMemory };
        self.advance(&record.key, now, counters, notes);
    }

    /// The version of a write is known: it may be sent, once it is committed.
    pub(super) fn release(
        &mut self,
        record: &Arc<Record>,
        version: u64,
        now: Moment,
        counters: &Counters,
        notes: &mut Vec<Note>,
    ) {
        // It may have been given up meanwhile, and be brought back.
        self.graves.release(record.number);
        if record.version() != version {
            record.set_version(version);
            notes.push(Note::Version(record.number, version));
        }
        let Some(chain) = self.chains.get_mut(&record.key) else { return };
        let Some(at) = chain.position(record.number) else { return };
        chain.entries[at].is_held = false;
        self.advance(&record.key, now, counters, notes);
    }

    /// Takes out what the newest write of a key that may be sent takes the place of, and puts the key in the row.
    fn advance(&mut self, key: &Bytes, now: Moment, counters: &Counters, notes: &mut Vec<Note>) {
        let Some(chain) = self.chains.get_mut(key) else { return };
        if let Some((newest, folded)) = chain.fold() {
            for entry in &folded {
                let number = entry.record.number;
                if entry.is_in_file() {
                    notes.push(Note::Done(number));
                }
                self.roll.coalesce(&entry.record);
                self.requests.over(&entry.record, now, notes);
                self.unsettled.remove(&entry.covers);
                self.bytes -= entry.record.weight();
            }
            counters.add(Tally::Coalesced, folded.len() as u64);
            self.unsettled.remove(&newest);
            if let (false, Some(at)) = (chain.is_failing, chain.position(newest)) {
                self.unsettled.insert(chain.entries[at].covers);
            }
        }
        self.make_ready(key, now);
    }

    /// A write could not be committed, and its caller is told so.
    pub(super) fn refuse(&mut self, record: &Arc<Record>) {
        let Some(chain) = self.chains.get_mut(&record.key) else { return };
        if let Some(at) = chain.position(record.number) {
            chain.entries.remove(at);
            self.unsettled.remove(&record.number);
            self.roll.remove(record.number);
            self.requests.forget(record);
            self.bytes -= record.weight();
        }
        if chain.entries.is_empty() {
            self.chains.remove(&record.key);
        }
    }

    /// Whether a write was acknowledged before its commit.
    pub(super) fn is_acknowledged(&self, record: &Record) -> bool {
        let chain = self.chains.get(&record.key);
        let entry = chain.and_then(|chain| chain.entries.get(chain.position(record.number)?));
        entry.is_some_and(|entry| entry.is_acknowledged)
    }

    fn make_ready(&mut self, key: &Bytes, now: Moment) {
        let Some(chain) = self.chains.get_mut(key) else { return };
        let is_sendable = chain.entries.front().is_some_and(Entry::is_sendable);
        if chain.state == State::Waiting && is_sendable {
            chain.state = State::Ready;
            self.ready.push_back((key.clone(), now));
        }
    }

    /// Whether its sender should look at it: there is enough for a batch, or something where there was nothing.
    pub(super) fn calls_after(&self, ready_before: usize) -> bool {
        let enough = self.options.is_some_and(|options| self.ready.len() >= options.flush_at);
        enough || (ready_before == 0 && !self.ready.is_empty())
    }

    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// When something is to be done, if nothing more happens.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        let options = self.options.as_ref()?;
        let interval = self.ready.front().map(|(_, since)| since.plus(options.interval));
        let parked = self.unparks_at();
        interval.into_iter().chain(parked).min()
    }

    /// The writes to be sent now, one of each key. Their keys are under way until each is settled or given back.
    pub(super) fn take(&mut self, now: Moment, journal: u128, counters: &Counters) -> Vec<Write> {
        let Some(options) = self.options else { return Vec::new() };
        self.unpark(now, options.batch_max);
        let is_over = self.ready.front().is_some_and(|(_, since)| since.plus(options.interval) <= now);
        if is_over || self.ready.len() >= options.flush_at {
            self.due = self.ready.len();
        }
        let (mut batch, mut limit) = (Vec::new(), options.batch_max.min(self.due));
        while batch.len() < limit {
            let Some((key, _)) = self.ready.front() else { break };
            let Some(chain) = self.chains.get_mut(key) else { break };
            if chain.group <= batch.len() {
                break;
            }
            limit = limit.min(chain.group);
            if let Some(first) = chain.entries.front_mut() {
                first.attempts += 1;
                counters.add(Tally::Retried, u64::from(first.is_sent));
                first.is_sent = true;
                batch.push(first.record.write(journal, first.attempts));
            }
            chain.state = State::Sending;
            self.ready.pop_front();
        }
        self.due -= batch.len();
        batch
    }

    /// Takes back a write whose attempt was broken off by this process: it may have been applied, and was not a failure.
    pub(super) fn give_back(&mut self, write: &Write, now: Moment) {
        let Some(chain) = self.chains.get_mut(&write.key) else { return };
        if let Some(first) = chain.entries.front_mut() {
            first.attempts = first.attempts.saturating_sub(1);
        }
        chain.state = State::Ready;
        self.ready.push_front((write.key.clone(), now));
    }

    /// What came of the attempts of a batch, one outcome for each write.
    pub(super) fn settle(&mut self, batch: &[Write], outcomes: &[Outcome], settling: &mut Settling<'_>) {
        for (write, outcome) in batch.iter().zip(outcomes) {
            self.settle_one(write, outcome, settling);
        }
        self.look_at_rest(outcomes);
    }

    fn settle_one(&mut self, write: &Write, outcome: &Outcome, settling: &mut Settling<'_>) {
        match outcome {
            Outcome::Stored => self.stored(&write.key, settling),
            Outcome::Failed(reason) => self.failed(&write.key, reason, false, settling),
            Outcome::Refused(reason) => self.failed(&write.key, reason, true, settling),
            Outcome::Unavailable(_) => self.unavailable(&write.key, settling),
            Outcome::LeftAlone { again, .. } => self.left_alone(&write.key, *again, settling),
            Outcome::Held(_) => self.held(&write.key, settling),
        }
    }

    fn stored(&mut self, key: &Bytes, settling: &mut Settling<'_>) {
        let Some(chain) = self.chains.get_mut(key) else { return };
        let Some(done) = chain.entries.pop_front() else { return };
        let number = done.record.number;
        if done.is_in_file() {
            settling.notes.push(Note::Done(number));
        }
        self.requests.over(&done.record, settling.now, settling.notes);
        settling.counters.add(Tally::Stored, 1);
        self.unsettled.remove(&done.covers);
        self.roll.remove(number);
        self.bytes -= done.record.weight();
        chain.hide_until(number);
        if chain.is_failing {
            self.unsettled.extend(chain.entries.iter().map(|entry| entry.covers));
        }
        chain.begin_anew();
        if chain.entries.is_empty() {
            self.chains.remove(key);
        } else {
            self.make_ready(key, settling.now);
        }
    }

    fn failed(&mut self, key: &Bytes, reason: &str, is_final: bool, settling: &mut Settling<'_>) {
        let Some(options) = self.options else { return };
        let Some(chain) = self.chains.get_mut(key) else { return };
        let Some(first) = chain.entries.front() else { return };
        // A batch that fails as a whole says nothing about one of its writes, until that is alone.
        let is_named = settling.failed_with.is_none_or(|count| count == 1);
        let is_over = is_final || (is_named && first.attempts >= options.attempts_max);
        let suffix = chain.entries.iter().take_while(|entry| entry.is_committed()).count();
        if is_over && suffix <= settling.room_for_dead {
            self.bury(key, suffix, reason, settling);
            return;
        }
        settling.notes.push(Note::Attempts(first.record.number, first.attempts));
        if let Some(count) = settling.failed_with {
            chain.group = (count / GROUP_DIVISOR).max(1);
        }
        self.park(key, options, settling);
    }

    /// Gives up the first `suffix` writes of a key: all that are committed.
    fn bury(&mut self, key: &Bytes, suffix: usize, reason: &str, settling: &mut Settling<'_>) {
        let Some(chain) = self.chains.get_mut(key) else { return };
        let behind: Arc<str> = format!("it stood behind a write of its key that failed: {reason}").into();
        let mut reason: Arc<str> = reason.into();
        settling.room_for_dead -= suffix;
        settling.counters.add(Tally::Dead, suffix as u64);
        let given_up: Vec<Entry> = chain.entries.drain(..suffix).collect();
        for entry in given_up {
            let Entry { record, attempts, covers, is_held, .. } = entry;
            settling.notes.push(Note::Bury(record.number, attempts, Arc::clone(&reason)));
            self.unsettled.remove(&covers);
            self.roll.remove(record.number);
            self.bytes -= record.weight();
            chain.hide_until(record.number);
            settling.letters.push(DeadLetter {
                write: record.write(settling.journal, attempts),
                reason: reason.to_string(),
                is_overtaken: false,
            });
            self.graves.add(Grave { record, covers, attempts, reason, is_overtaken: false, is_held });
            reason = Arc::clone(&behind);
        }
        chain.begin_anew();
        self.unsettled.extend(chain.entries.iter().map(|entry| entry.covers));
        if chain.entries.is_empty() {
            self.chains.remove(key);
        }
    }

    /// Brings a key's dead letters back, before all that is newer.
    pub(super) fn revive(
        &mut self,
        key: &Bytes,
        now: Moment,
        notes: &mut Vec<Note>,
    ) -> Result<usize, RetryError> {
        let graves = self.graves.take_retryable(key).ok_or(RetryError::Unknown)?;
        if graves.is_empty() {
            return Err(RetryError::Overtaken);
        }
        let count = graves.len();
        let chain = self.chains.entry(key.clone()).or_default();
        for grave in graves.into_iter().rev() {
            let Grave { record, attempts, covers, is_held, .. } = grave;
            notes.push(Note::Revive(record.number));
            self.bytes += record.weight();
            self.roll.add(&record, now);
            self.unsettled.insert(covers);
            chain.show(&record);
            let entry = Entry { is_sent: attempts > 0, covers, is_held, ..Entry::replayed(record, 0) };
            chain.entries.push_front(entry);
        }
        self.make_ready(key, now);
        Ok(count)
    }

    /// Forgets a key's dead letters.
    pub(super) fn drop_dead(&mut self, key: &Bytes, now: Moment, notes: &mut Vec<Note>) -> usize {
        let graves = self.graves.take_all(key);
        for grave in &graves {
            notes.push(Note::Drop(grave.record.number));
            self.requests.over(&grave.record, now, notes);
        }
        graves.len()
    }
}
