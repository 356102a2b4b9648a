//! The writes of one key that the origin does not have yet.
//!
//! 1. They stand in the order in which they were accepted, and leave in it: only the first is ever sent, and nothing moves up
//!    before it is settled.
//! 2. A write that was given to the sink stays until it is settled or given up, whatever comes behind it. Among those that
//!    were not, a newer one takes the place of the older ones, once it may be sent itself.

use super::record::Record;
use std::collections::VecDeque;
use std::sync::Arc;
use terrace_core::Moment;

/// How far a write has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// It waits for its commit.
    Accepted,
    /// The file has it, and has to be told when it is done.
    InFile,
    /// It may be sent, and the file does not have it: a newer one of the same commit has its place there, or the file has failed.
    InMemory,
}

/// One write.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: Arc<Record>,
    /// Its caller was told, or is about to be.
    pub(super) is_acknowledged: bool,
    pub(super) stage: Stage,
    /// Its version is not known yet.
    pub(super) is_held: bool,
    /// The sink has been given it, and may have applied it.
    pub(super) is_sent: bool,
    pub(super) attempts: u32,
    /// The number of the oldest write whose place it took; its own if there is none.
    pub(super) covers: u64,
}

impl Entry {
    pub(super) fn new(record: Arc<Record>, is_acknowledged: bool, is_held: bool) -> Self {
        let covers = record.number;
        Self { record, is_acknowledged, stage: Stage::Accepted, is_held, is_sent: false, attempts: 0, covers }
    }

    /// One that the file has already.
    pub(super) fn replayed(record: Arc<Record>, attempts: u32) -> Self {
        let entry = Self::new(record, true, false);
        Self { stage: Stage::InFile, is_sent: attempts > 0, attempts, ..entry }
    }

    pub(super) fn is_committed(&self) -> bool {
        self.stage != Stage::Accepted
    }

    /// Whether it may be sent.
    pub(super) fn is_sendable(&self) -> bool {
        self.is_committed() && !self.is_held
    }

    pub(super) fn is_in_file(&self) -> bool {
        self.stage == Stage::InFile
    }
}

/// Where a key stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Its first write is not committed yet, or held.
    Waiting,
    /// It is in the row of those that can be sent.
    Ready,
    /// Its first write is with the sink.
    Sending,
    /// Its first write failed, and is tried again then.
    Parked(Moment),
}

/// All of a key.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) entries: VecDeque<Entry>,
    /// The newest that was acknowledged, while it is here.
    pub(super) shown: Option<Arc<Record>>,
    pub(super) state: State,
    /// Whether its first write was to be sent, and the origin does not have it: no flush waits for any of its writes.
    pub(super) is_failing: bool,
    /// How often in a row that was a failure: not when the origin was left alone.
    pub(super) failures: u32,
    /// How many writes there may be in a batch with it: fewer after each batch that failed as a whole, so that one that makes
    /// batches fail is soon alone.
    pub(super) group: usize,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            shown: None,
            state: State::Waiting,
            is_failing: false,
            failures: 0,
            group: usize::MAX,
        }
    }
}

impl Chain {
    pub(super) fn position(&self, number: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&number, |entry| entry.record.number).ok()
    }

    /// The number of the write that has taken the place of this one, while it waits.
    pub(super) fn heir_of(&self, number: u64) -> Option<u64> {
        let covering =
            self.entries.iter().find(|entry| entry.covers <= number && number < entry.record.number);
        covering.map(|entry| entry.record.number)
    }

    /// Shows a write to local reads, unless a newer one is shown.
    pub(super) fn show(&mut self, record: &Arc<Record>) {
        if self.shown.as_ref().is_none_or(|shown| shown.number < record.number) {
            self.shown = Some(Arc::clone(record));
        }
    }

    /// Shows nothing any more, if what is shown is no newer than this.
    pub(super) fn hide_until(&mut self, number: u64) {
        self.shown.take_if(|shown| shown.number <= number);
    }

    /// Its first write is over, and what was noted of it with it.
    pub(super) fn begin_anew(&mut self) {
        (self.is_failing, self.failures, self.group) = (false, 0, usize::MAX);
        self.state = State::Waiting;
    }

    /// Takes out the writes whose place the newest one that may be sent has taken. It covers from now on what they did; its number is
    /// given, too.
    pub(super) fn fold(&mut self) -> Option<(u64, Vec<Entry>)> {
        let sendable = self.entries.iter().take_while(|entry| entry.is_sendable()).count();
        let newest = sendable.checked_sub(1)?;
        let mut folded = Vec::new();
        for at in (0..newest).rev() {
            if !self.entries[at].is_sent {
                folded.extend(self.entries.remove(at));
            }
        }
        let newest = newest - folded.len();
        let oldest = folded.iter().map(|entry| entry.covers).min()?;
        let entry = self.entries.get_mut(newest)?;
        entry.covers = entry.covers.min(oldest);
        Some((entry.record.number, folded))
    }
}
