//! What is asked of a queue: nothing here changes it.

use super::Queue;
use crate::behind::idempotency::Request;
use crate::behind::record::{DeadLetter, Pending, Write, WriteState};
use crate::behind::requests::Before;
use crate::origin::WriteId;
use terrace_core::Moment;

impl Queue {
    pub(in crate::behind) fn dead_letters(&self, journal: u128, count_max: usize) -> Vec<DeadLetter> {
        self.graves.letters(journal, count_max)
    }

    /// What a local read must see.
    pub(in crate::behind) fn pending(&self, key: &[u8]) -> Pending {
        let shown = self.chains.get(key).and_then(|chain| chain.shown.as_ref());
        match shown.map(|record| record.operation.value()) {
            None => Pending::Nothing,
            Some(None) => Pending::Deleted,
            Some(Some(value)) => Pending::Stored(value.clone()),
        }
    }

    /// Whether this write waits, or is a dead letter.
    pub(in crate::behind) fn has(&self, number: u64) -> bool {
        self.roll.waiting(number).is_some() || self.graves.has(number)
    }

    /// What has become of a write.
    pub(in crate::behind) fn state_of(&self, number: u64, journal: u128, now: Moment) -> WriteState {
        if let Some((since, record)) = self.roll.waiting(number) {
            let chain = self.chains.get(&record.key);
            let entry = chain.and_then(|chain| chain.entries.get(chain.position(number)?));
            let write = record.write(journal, entry.map_or(0, |entry| entry.attempts));
            return WriteState::Waiting { write, waited: now.since(*since) };
        }
        if let Some(letter) = self.graves.letter(number, journal) {
            return WriteState::Dead(letter);
        }
        let Some(key) = self.roll.coalesced(number) else { return WriteState::Gone };
        let heir = self.chains.get(key).and_then(|chain| chain.heir_of(number));
        let heir = heir.or_else(|| self.graves.heir_of(key, number));
        WriteState::Coalesced { by: heir.map(|number| WriteId { journal, number }) }
    }

    /// Whether a request was taken before, and whether the write of that is still waiting to be acknowledged.
    pub(in crate::behind) fn before(&self, request: Request, now: Moment) -> Option<(Before, bool)> {
        let before = self.requests.find(request, now)?;
        let waiting = self.roll.waiting(before.number);
        let is_at_work = waiting.is_some_and(|(_, record)| !self.is_acknowledged(record));
        Some((before, is_at_work))
    }

    /// The first writes that wait, by number.
    pub(in crate::behind) fn waiting(&self, journal: u128, count_max: usize) -> Vec<Write> {
        let mut all: Vec<Write> = self
            .chains
            .values()
            .flat_map(|chain| &chain.entries)
            .map(|entry| entry.record.write(journal, entry.attempts))
            .collect();
        all.sort_by_key(|write| write.id);
        all.truncate(count_max);
        all
    }
}
