//! What was called, and what came of it: the history of a run, and the origin that knows the truth.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use terrace::{Effect, Entry, Tier};
use terrace_core::{Chance, Version};
use terrace_testkit::history::{Answer, Operation, Outcome, Read, Source, What};
use tokio::sync::OwnedMutexGuard;

/// What the caches hold: the key by its number in the history, and the number that the origin had.
pub(crate) type Value = (u64, u64);

/// The operations, with times that never repeat.
#[derive(Default)]
pub(crate) struct Record {
    operations: Mutex<Vec<Operation>>,
    last: AtomicU64,
}

impl Record {
    /// Lets time go on to `now`.
    pub(crate) fn advance(&self, now: u64) {
        self.last.fetch_max(now, Ordering::Relaxed);
    }

    /// What time it is, or a little later.
    pub(crate) fn now(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// A time that nothing else has.
    pub(crate) fn stamp(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes that a call begins which may never return.
    pub(crate) fn begin(&self, node: u32, key: u64, what: What) -> Pending {
        let mut operations = self.operations.lock();
        operations.push(Operation { node, key, begun: self.stamp(), ended: Operation::NEVER, what });
        Pending(operations.len() - 1)
    }

    /// Notes what came of it.
    pub(crate) fn end(&self, pending: &Pending, what: What) {
        let ended = self.stamp();
        let operation = &mut self.operations.lock()[pending.0];
        *operation = Operation { ended, what, ..*operation };
    }

    pub(crate) fn len(&self) -> usize {
        self.operations.lock().len()
    }

    /// How many changes were applied, of the calls from this one on.
    pub(crate) fn applied_since(&self, call: usize) -> usize {
        let applied =
            |operation: &&Operation| matches!(operation.what, What::Change { outcome: Outcome::Applied, .. });
        self.operations.lock()[call..].iter().filter(applied).count()
    }

    pub(crate) fn take(&self) -> Vec<Operation> {
        std::mem::take(&mut self.operations.lock())
    }
}

/// A call that was begun.
pub(crate) struct Pending(usize);

/// The system of record.
pub(crate) struct Truth {
    numbers: Vec<AtomicU64>,
    changing: Vec<Arc<tokio::sync::Mutex<()>>>,
    pub(crate) chance: Chance,
    /// When loads from it fail; never if there is none.
    pub(crate) fails: Option<u64>,
    pub(crate) record: Arc<Record>,
}

impl Truth {
    pub(crate) fn new(keys: u64, chance: Chance, fails: Option<u64>, record: Arc<Record>) -> Self {
        Self {
            numbers: (0..keys).map(|_| AtomicU64::new(1)).collect(),
            changing: (0..keys).map(|_| Arc::default()).collect(),
            chance,
            fails,
            record,
        }
    }

    pub(crate) fn number(&self, key: u64) -> u64 {
        self.numbers[crate::setting::index(key)].load(Ordering::SeqCst)
    }

    /// Begins a change of these keys, which are in order, and waits for those under way. What is noted begins before the
    /// origin has the new number.
    pub(crate) async fn change(&self, node: u32, keys: &[u64]) -> Change {
        let mut guards = Vec::new();
        for &key in keys {
            guards.push(Arc::clone(&self.changing[crate::setting::index(key)]).lock_owned().await);
        }
        let unknown = |version| What::Change { version, outcome: Outcome::Unknown };
        let changes = keys
            .iter()
            .map(|&key| {
                let pending = self.record.begin(node, key, unknown(self.number(key) + 1));
                let version = self.numbers[crate::setting::index(key)].fetch_add(1, Ordering::SeqCst) + 1;
                (key, version, pending)
            })
            .collect();
        Change { changes, _guards: guards }
    }
}

/// A change under way.
pub(crate) struct Change {
    changes: Vec<(u64, u64, Pending)>,
    _guards: Vec<OwnedMutexGuard<()>>,
}

impl Change {
    /// What the keys' values are to be.
    pub(crate) fn values(&self) -> impl Iterator<Item = (u64, Value)> {
        self.changes.iter().map(|(key, version, _)| (*key, (*key, *version)))
    }

    pub(crate) fn end(self, record: &Record, outcome: Outcome) {
        for (_, version, pending) in &self.changes {
            record.end(pending, What::Change { version: *version, outcome });
        }
    }
}

pub(crate) fn outcome(effect: Effect) -> Outcome {
    match effect {
        Effect::Applied => Outcome::Applied,
        Effect::Queued => Outcome::Queued,
        Effect::Later => Outcome::Unknown,
    }
}

/// What an entry says, as it is noted. `may_join` tells whether somebody else may have asked for it.
pub(crate) fn answer(entry: Option<&Entry<Value>>, may_join: bool) -> What {
    let Some(entry) = entry else { return What::Read(Answer::Nothing) };
    let (key, version) = *entry.value;
    let source = match entry.tier {
        Tier::L1 => Source::L1,
        Tier::L2 => Source::L2,
        Tier::Origin => Source::Origin,
    };
    let read = Read {
        key,
        version,
        source: Some(source),
        is_anchored: entry.version != Version::ZERO,
        has_asked: source == Source::L2 && !may_join && entry.tags.is_empty(),
    };
    What::Read(if entry.is_stale { Answer::Stale(read) } else { Answer::Fresh(read) })
}
