//! The requests of one keyspace that were taken already, by their idempotency keys.
//!
//! 1. A request is remembered from when its write is accepted, for as long as the journal has the write, waiting or as a dead letter, and for a
//!    time from then on: also if another write has taken its place. A write that was refused was never taken, and its request is forgotten.
//! 2. Of those whose writes are over so many are remembered at most, and what was over first is forgotten first. The others are no more than
//!    there may be writes and dead letters.
//! 3. What is remembered is in the file by the commit of its write; that the write is over, by the commit that forgets it. Each change of the
//!    file names the number of the write, so that of a name that another request has by then nothing is changed.
//! 4. Within a process time is measured by a clock that is never set. Over a restart it is the wall clock; what that says to be of the
//!    future is over now.

use super::idempotency::Request;
use super::options::{IDEMPOTENCY_KEYS_FOR, IDEMPOTENCY_KEYS_MAX};
use super::record::Record;
use super::store::Note;
use foldhash::fast::RandomState;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use terrace_core::Moment;

/// How many a new request forgets of those whose time is up, so that no caller does it for all.
const FORGOTTEN_AT_ONCE: usize = 64;

/// Since when something is over: for so long before a moment of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    at: Moment,
    before: Duration,
}

impl Since {
    pub(super) fn new(at: Moment, before: Duration) -> Self {
        Self { at, before }
    }

    fn age(self, now: Moment) -> Duration {
        now.since(self.at).saturating_add(self.before)
    }
}

/// A request that was taken.
#[derive(Debug)]
struct Taken {
    content: u128,
    /// The number of its write.
    number: u64,
    /// Since when that is over, if it is.
    over: Option<Since>,
}

/// Whose write is over.
#[derive(Debug)]
struct Over {
    name: u128,
    number: u64,
    since: Since,
}

/// A request that was taken before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Before {
    /// The number of its write.
    pub(super) number: u64,
    /// Whether it asked for the same.
    pub(super) is_same: bool,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Requests {
    by_name: HashMap<u128, Taken, RandomState>,
    /// What was over first is first. What another request has the name of by now is skipped.
    over: VecDeque<Over>,
    count_max: usize,
    kept_for: Duration,
}

impl Default for Requests {
    fn default() -> Self {
        let (count_max, kept_for) = (IDEMPOTENCY_KEYS_MAX, IDEMPOTENCY_KEYS_FOR);
        Self { by_name: HashMap::default(), over: VecDeque::new(), count_max, kept_for }
    }
}

impl Requests {
    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// How many of those whose writes are over are remembered from now on, and for how long.
    pub(super) fn keep(
        &mut self,
        count_max: usize,
        kept_for: Duration,
        lane: &Arc<str>,
        notes: &mut Vec<Note>,
    ) {
        (self.count_max, self.kept_for) = (count_max, kept_for);
        self.forget_excess(lane, notes);
    }

    /// What is remembered of a request.
    pub(super) fn find(&self, request: Request, now: Moment) -> Option<Before> {
        let taken = self.by_name.get(&request.name)?;
        let is_forgotten = taken.over.is_some_and(|since| since.age(now) >= self.kept_for);
        (!is_forgotten).then_some(Before { number: taken.number, is_same: taken.content == request.content })
    }

    /// A write is accepted.
    pub(super) fn add(&mut self, record: &Record) {
        if let Some(Request { name, content }) = record.request {
            self.by_name.insert(name, Taken { content, number: record.number, over: None });
        }
    }

    /// A write was refused.
    pub(super) fn forget(&mut self, record: &Record) {
        if let Some(Request { name, .. }) = record.request
            && self.is_of(name, record.number)
        {
            self.by_name.remove(&name);
        }
    }

    /// A write has left the journal.
    pub(super) fn over(&mut self, record: &Record, now: Moment, notes: &mut Vec<Note>) {
        let Some(Request { name, .. }) = record.request else { return };
        let since = Since::new(now, Duration::ZERO);
        let Some(taken) = self.by_name.get_mut(&name).filter(|taken| taken.number == record.number) else {
            return;
        };
        taken.over = Some(since);
        notes.push(Note::Over(Arc::clone(&record.keyspace), name, record.number));
        self.over.push_back(Over { name, number: record.number, since });
        self.forget_excess(&record.keyspace, notes);
    }

    /// Takes in a request that the file has from before, and whose write is over. They come in the order in which they were.
    pub(super) fn replay(&mut self, request: Request, number: u64, since: Since) {
        let Request { name, content } = request;
        self.by_name.insert(name, Taken { content, number, over: Some(since) });
        self.over.push_back(Over { name, number, since });
    }

    /// Forgets some of those whose time is up.
    pub(super) fn forget_old(&mut self, now: Moment, lane: &Arc<str>, notes: &mut Vec<Note>) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            if self.over.front().is_none_or(|over| over.since.age(now) < self.kept_for) {
                return;
            }
            self.forget_first(lane, notes);
        }
    }

    fn forget_excess(&mut self, lane: &Arc<str>, notes: &mut Vec<Note>) {
        while self.over.len() > self.count_max {
            self.forget_first(lane, notes);
        }
    }

    fn forget_first(&mut self, lane: &Arc<str>, notes: &mut Vec<Note>) {
        let Some(Over { name, number, .. }) = self.over.pop_front() else { return };
        if self.is_of(name, number) {
            self.by_name.remove(&name);
            notes.push(Note::Forget(Arc::clone(lane), name, number));
        }
    }

    fn is_of(&self, name: u128, number: u64) -> bool {
        self.by_name.get(&name).is_some_and(|taken| taken.number == number)
    }
}
