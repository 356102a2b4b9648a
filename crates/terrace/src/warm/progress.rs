//! How far has a warm-up come?

use crate::error::Error;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Not known how many.
const UNKNOWN: u64 = u64::MAX;

/// What became of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Loaded,
    Promoted,
    There,
    Absent,
    Overtaken,
    NoRoom,
    Failed,
}

const FATES: usize = Fate::Failed as usize + 1;

/// How far a warm-up has come: to be looked at while it runs. Clones look at the same one.
///
/// # Examples
/// See [`Warm`](super::Warm).
#[derive(Clone, Debug, Default)]
pub struct WarmProgress(Arc<Tally>);

#[derive(Debug)]
struct Tally {
    total: AtomicU64,
    fates: [AtomicU64; FATES],
    first_failure: Mutex<Option<Error>>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { total: AtomicU64::new(UNKNOWN), fates: Default::default(), first_failure: Mutex::default() }
    }
}

/// What a warm-up has done, or had done when somebody looked. Each key is counted once.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Warmed {
    /// How many keys it is to see to; `None` as long as that is not known.
    pub total: Option<u64>,
    /// Keys whose value was loaded, by whomever, or came from a query.
    pub loaded: u64,
    /// Keys whose value was in L2 and is in L1 now.
    pub promoted: u64,
    /// Keys whose value was in the nearest tier already, or in L2 while L1 had no room for it.
    pub there: u64,
    /// Keys that the origin does not have, or that left L2 meanwhile.
    pub absent: u64,
    /// Keys that may have been changed after their value was read from the origin: it was not kept. The next read loads.
    pub overtaken: u64,
    /// Keys that were not loaded, or not copied, because somebody else would have had to leave L1 for them.
    pub no_room: u64,
    /// Keys whose value could not be loaded or kept.
    pub failed: u64,
    /// Why the first of those failed, if that was told.
    pub first_failure: Option<Error>,
}

impl Warmed {
    /// Keys that are nearer than they were.
    pub fn done(&self) -> u64 {
        self.loaded + self.promoted
    }

    /// Keys for which nothing was to be done, or nothing could be done without harm.
    pub fn skipped(&self) -> u64 {
        self.there + self.absent + self.overtaken + self.no_room
    }

    /// Keys that were seen to.
    pub fn seen(&self) -> u64 {
        self.done() + self.skipped() + self.failed
    }
}

impl fmt::Display for Warmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.total {
            Some(total) => write!(f, "{} of {total} keys", self.seen())?,
            None => write!(f, "{} keys", self.seen())?,
        }
        write!(f, ": {} done, {} skipped, {} failed", self.done(), self.skipped(), self.failed)
    }
}

impl WarmProgress {
    /// How far it has come.
    pub fn now(&self) -> Warmed {
        let of = |fate: Fate| self.0.fates[fate as usize].load(Ordering::Relaxed);
        let total = self.0.total.load(Ordering::Relaxed);
        Warmed {
            total: (total != UNKNOWN).then_some(total),
            loaded: of(Fate::Loaded),
            promoted: of(Fate::Promoted),
            there: of(Fate::There),
            absent: of(Fate::Absent),
            overtaken: of(Fate::Overtaken),
            no_room: of(Fate::NoRoom),
            failed: of(Fate::Failed),
            first_failure: self.0.first_failure.lock().clone(),
        }
    }

    pub(super) fn expect(&self, total: u64) {
        self.0.total.store(total, Ordering::Relaxed);
    }

    pub(super) fn count(&self, fate: Fate, keys: usize) {
        self.0.fates[fate as usize].fetch_add(keys as u64, Ordering::Relaxed);
    }

    pub(super) fn fail(&self, error: Error) {
        self.0.first_failure.lock().get_or_insert(error);
        self.count(Fate::Failed, 1);
    }
}
