//! The writes of one keyspace by their numbers: those that wait, and which of those that do not were coalesced.
//!
//! 1. A write is on the roll from when it is accepted until the origin has it, a newer one has taken its place, it is given up or refused;
//!    wherever it stands meanwhile, with the sink, parked, or behind another one.
//! 2. Of what was coalesced the keys of the newest [`COALESCED_MAX`] are known, in this life of the process. Older ones are forgotten: the
//!    origin could be away for any time, and a key be written any number of times meanwhile.

use super::record::Record;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use terrace_core::Moment;

/// Coalesced writes of a keyspace that are told from those that are not known. A key has at most some hundred bytes.
pub(super) const COALESCED_MAX: usize = 1024;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Roll {
    waiting: BTreeMap<u64, (Moment, Arc<Record>)>,
    coalesced: BTreeMap<u64, Bytes>,
}

impl Roll {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Since when the first of them waits.
    pub(super) fn oldest(&self) -> Option<Moment> {
        self.waiting.first_key_value().map(|(_, (since, _))| *since)
    }

    /// How many there are with numbers up to `mark`.
    pub(super) fn count_until(&self, mark: u64) -> usize {
        self.waiting.range(..=mark).count()
    }

    pub(super) fn add(&mut self, record: &Arc<Record>, now: Moment) {
        self.waiting.insert(record.number, (now, Arc::clone(record)));
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.waiting.remove(&number);
    }

    /// A newer write has taken its place.
    pub(super) fn coalesce(&mut self, record: &Record) {
        self.waiting.remove(&record.number);
        self.coalesced.insert(record.number, record.key.clone());
        if self.coalesced.len() > COALESCED_MAX {
            self.coalesced.pop_first();
        }
    }

    /// A write that waits, and since when.
    pub(super) fn waiting(&self, number: u64) -> Option<&(Moment, Arc<Record>)> {
        self.waiting.get(&number)
    }

    /// The key of a write that was coalesced.
    pub(super) fn coalesced(&self, number: u64) -> Option<&Bytes> {
        self.coalesced.get(&number)
    }
}
