//! The dead letters of one keyspace: writes that were given up, in the order of their keys' writes.
//!
//! 1. A key's writes are given up together, so its dead letters are a row without holes.
//! 2. A newer write that is committed overtakes all of the key's dead letters that are older. Those are not brought back.

use super::record::{DeadLetter, Record};
use super::store::Note;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One of them.
#[derive(Debug)]
pub(super) struct Grave {
    pub(super) record: Arc<Record>,
    /// The number of the oldest write whose place it took; its own if there is none.
    pub(super) covers: u64,
    pub(super) attempts: u32,
    pub(super) reason: Arc<str>,
    pub(super) is_overtaken: bool,
    /// Its version is not known yet.
    pub(super) is_held: bool,
}

impl Grave {
    fn letter(&self, journal: u128) -> DeadLetter {
        DeadLetter {
            write: self.record.write(journal, self.attempts),
            reason: self.reason.to_string(),
            is_overtaken: self.is_overtaken,
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Graves {
    by_number: BTreeMap<u64, Grave>,
    by_key: HashMap<Bytes, Vec<u64>>,
    bytes: usize,
}

impl Graves {
    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn add(&mut self, grave: Grave) {
        let number = grave.record.number;
        self.bytes += grave.record.weight();
        self.by_key.entry(grave.record.key.clone()).or_default().push(number);
        self.by_number.insert(number, grave);
    }

    /// Marks those of a key that are older than a write that was acknowledged.
    pub(super) fn overtake(&mut self, key: &Bytes, newer: u64, notes: &mut Vec<Note>) {
        if self.by_number.is_empty() {
            return;
        }
        for number in self.by_key.get(key).into_iter().flatten().filter(|&&number| number < newer) {
            if let Some(grave) = self.by_number.get_mut(number)
                && !grave.is_overtaken
            {
                grave.is_overtaken = true;
                notes.push(Note::Overtaken(*number));
            }
        }
    }

    /// Takes out those of a key that may be tried again: `None` if there is none of the key at all.
    pub(super) fn take_retryable(&mut self, key: &Bytes) -> Option<Vec<Grave>> {
        let numbers = self.by_key.get(key)?.clone();
        let is_retryable = |number: &u64| self.by_number.get(number).is_some_and(|grave| !grave.is_overtaken);
        let chosen: Vec<u64> = numbers.into_iter().filter(is_retryable).collect();
        Some(self.take(key, &chosen))
    }

    /// Takes out all of a key.
    pub(super) fn take_all(&mut self, key: &Bytes) -> Vec<Grave> {
        let numbers = self.by_key.get(key).cloned().unwrap_or_default();
        self.take(key, &numbers)
    }

    fn take(&mut self, key: &Bytes, numbers: &[u64]) -> Vec<Grave> {
        let taken: Vec<Grave> = numbers.iter().filter_map(|number| self.by_number.remove(number)).collect();
        self.bytes -= taken.iter().map(|grave| grave.record.weight()).sum::<usize>();
        if let Some(left) = self.by_key.get_mut(key) {
            left.retain(|number| !numbers.contains(number));
            if left.is_empty() {
                self.by_key.remove(key);
            }
        }
        taken
    }

    /// The first of them.
    pub(super) fn letters(&self, journal: u128, count_max: usize) -> Vec<DeadLetter> {
        self.by_number.values().take(count_max).map(|grave| grave.letter(journal)).collect()
    }

    /// The version of a write is known.
    pub(super) fn release(&mut self, number: u64) {
        if let Some(grave) = self.by_number.get_mut(&number) {
            grave.is_held = false;
        }
    }

    /// Whether there is one with this number.
    pub(super) fn has(&self, number: u64) -> bool {
        self.by_number.contains_key(&number)
    }

    /// The one with this number.
    pub(super) fn letter(&self, number: u64, journal: u128) -> Option<DeadLetter> {
        self.by_number.get(&number).map(|grave| grave.letter(journal))
    }

    /// The number of the one that has taken the place of this write.
    pub(super) fn heir_of(&self, key: &Bytes, number: u64) -> Option<u64> {
        let is_heir = |heir: &&u64| {
            let covers = self.by_number.get(*heir).map(|grave| grave.covers);
            number < **heir && covers.is_some_and(|covers| covers <= number)
        };
        self.by_key.get(key)?.iter().find(is_heir).copied()
    }
}
