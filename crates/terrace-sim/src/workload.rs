//! What callers do: every way to read and to change, each noted with what came of it.

use crate::node::{GROUPS, Spaces, TAGGED, tag};
use crate::origin::{PANIC, Refusal, Slow};
use crate::record::{Value, answer, outcome};
use crate::setting::Setting;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use terrace::{EntryOptions, Error, ErrorKind, Fetched, LoadError, StoreError, SuspectPolicy, Written};
use terrace_core::Chance;
use terrace_testkit::history::{Answer, Outcome, Read, What};
use terrace_testkit::wait::pause;

/// What the origin takes to store a value, at most.
const STORE_MAX_MILLIS: u64 = 30;

const FAILED: What = What::Read(Answer::Failed);

/// Calls until it is told to stop.
pub(crate) async fn call(spaces: Arc<Spaces>, setting: Setting, chance: Chance, is_over: Arc<AtomicBool>) {
    let think_max = u64::try_from(setting.think_max.as_millis()).unwrap_or(1);
    while !is_over.load(Ordering::Relaxed) {
        spaces.act(&chance, setting.reads).await;
        let think = if chance.below(3) == 0 { 0 } else { chance.below(think_max) };
        pause(Duration::from_millis(think)).await;
    }
}

impl Spaces {
    async fn act(&self, chance: &Chance, reads: u64) {
        let key = chance.below(self.keys);
        if chance.below(100) < reads {
            return self.read(key, chance).await;
        }
        match chance.below(100) {
            0..30 => self.put(key).await,
            30..40 => self.put_pair(key).await,
            40..58 => self.remove(key).await,
            58..64 => self.remove_pair(key).await,
            64..78 => self.invalidate_tag(chance.below(TAGGED)).await,
            78..86 => self.invalidate_pattern(chance.below(GROUPS)).await,
            86..90 => self.clear().await,
            _ => self.change_without_a_word(self.keys + chance.below(Self::FLEETING)).await,
        }
    }

    async fn read(&self, key: u64, chance: &Chance) {
        match chance.below(10) {
            0..3 => self.read_plain(key).await,
            3..6 => self.read_through(key).await,
            6 => self.read_many(key, chance.below(2) == 0).await,
            7 => self.read_fleeting(self.keys + chance.below(Self::FLEETING)).await,
            _ if self.truth.fails.is_some() && chance.below(2) == 0 => self.fetch(key).await,
            _ => self.load(key, chance.below(3) == 0).await,
        }
    }

    pub(crate) async fn read_plain(&self, key: u64) {
        let reading = self.truth.record.begin(self.node, key, FAILED);
        let read = self.plain.get_entry(&key).await;
        let what = proven(read).map_or(FAILED, |entry| answer(entry.as_ref(), false));
        self.truth.record.end(&reading, what);
    }

    pub(crate) async fn read_through(&self, key: u64) {
        let reading = self.truth.record.begin(self.node, key, FAILED);
        let read = self.through.get_entry(&key).await;
        let what = proven(read).map_or(FAILED, |entry| answer(entry.as_ref(), true));
        self.truth.record.end(&reading, what);
    }

    async fn read_fleeting(&self, key: u64) {
        let reading = self.truth.record.begin(self.node, key, FAILED);
        let read = self.fleeting.get_entry(&key).await;
        let what = proven(read).map_or(FAILED, |entry| answer(entry.as_ref(), true));
        self.truth.record.end(&reading, what);
    }

    async fn read_many(&self, key: u64, loads: bool) {
        let keys = self.pair(key);
        let reading = keys.map(|key| self.truth.record.begin(self.node, key, FAILED));
        let keyspace = if loads { &self.through } else { &self.plain };
        let read = proven(keyspace.get_entries(&keys).await);
        for (at, reading) in reading.iter().enumerate() {
            let what = read.as_ref().map_or(FAILED, |entries| of_batch(answer(entries[at].as_ref(), loads)));
            self.truth.record.end(reading, what);
        }
    }

    /// Loads with a loader of its own, whose value may be one that is not to be kept.
    async fn load(&self, key: u64, is_kept: bool) {
        let reading = self.truth.record.begin(self.node, key, FAILED);
        let slow = Slow(self.node, Arc::clone(&self.truth));
        let loader = async move || slow.value(key).await?.ok_or(Refusal);
        let read = if is_kept {
            self.plain.get_or_load(&key, loader).await
        } else {
            self.plain.get_or_load_with(&key, EntryOptions::default().ttl(Duration::ZERO), loader).await
        };
        let what = match read {
            Ok(value) => {
                let (key, version) = *value;
                let read = Read { key, version, source: None, is_anchored: false, has_asked: false };
                // What cannot be proven fresh is flagged in entries only; a node that refuses it returns none.
                let is_fresh = self.policy == SuspectPolicy::Error && self.truth.fails.is_none();
                What::Read(if is_fresh { Answer::Fresh(read) } else { Answer::Stale(read) })
            }
            Err(error) => failed(&error),
        };
        self.truth.record.end(&reading, what);
    }

    /// Loads with a loader that says so if the old value still holds.
    async fn fetch(&self, key: u64) {
        let reading = self.truth.record.begin(self.node, key, FAILED);
        let slow = Slow(self.node, Arc::clone(&self.truth));
        let loader = move |old: Option<Arc<Value>>| async move {
            Ok::<_, Refusal>(match slow.value(key).await? {
                None => Fetched::absent(),
                Some(value) if old.as_deref() == Some(&value) => Fetched::same(),
                Some(value) => Fetched::value(value),
            })
        };
        let read = self.plain.fetch(&key, EntryOptions::default(), loader).await;
        let what = read.map_or_else(|error| failed(&error), |entry| answer(entry.as_ref(), true));
        self.truth.record.end(&reading, what);
    }

    pub(crate) async fn put(&self, key: u64) {
        let change = self.truth.change(self.node, &[key]).await;
        let (key, value) = change.values().next().expect("one key is changed");
        let written = if self.writes_through {
            self.put_through(key, value).await
        } else {
            self.plain.put(&key, value).await
        };
        let outcome = made(written.map(|written| outcome(written.effect)));
        change.end(&self.truth.record, outcome);
    }

    /// Stores a value that the origin has already, and takes its time to say so.
    async fn put_through(&self, key: u64, value: Value) -> Result<Written, Error> {
        let takes = Duration::from_millis(self.truth.chance.below(STORE_MAX_MILLIS));
        let store = |_| async move {
            pause(takes).await;
            Ok::<_, Infallible>(())
        };
        let written = self.plain.put_through(&key, value, EntryOptions::default(), store).await;
        written.map_err(|error| match error {
            StoreError::Cache(error) => error,
            other => panic!("{other}"),
        })
    }

    async fn put_pair(&self, key: u64) {
        let change = self.truth.change(self.node, &self.pair(key)).await;
        let written = self.plain.put_many(change.values()).await;
        let effect = written.map(|all| all.iter().map(|written| written.effect).reduce(terrace::Effect::and));
        let outcome = made(effect.map(|effect| outcome(effect.expect("two keys are changed"))));
        change.end(&self.truth.record, outcome);
    }

    async fn remove(&self, key: u64) {
        let change = self.truth.change(self.node, &[key]).await;
        let outcome = made(self.plain.remove(&key).await.map(|removed| outcome(removed.effect)));
        change.end(&self.truth.record, outcome);
    }

    async fn remove_pair(&self, key: u64) {
        let keys = self.pair(key);
        let change = self.truth.change(self.node, &keys).await;
        let invalidated = self.plain.invalidate().keys(keys).send().await;
        change.end(&self.truth.record, made(invalidated.map(|done| outcome(done.effect))));
    }

    async fn invalidate_tag(&self, group: u64) {
        let change = self.truth.change(self.node, &self.group(group)).await;
        let invalidation = self.plain.invalidate().tag(tag(group).as_str()).expect("a valid tag");
        change.end(&self.truth.record, made(invalidation.send().await.map(|done| outcome(done.effect))));
    }

    async fn invalidate_pattern(&self, group: u64) {
        let keys = self.group(group);
        let change = self.truth.change(self.node, &keys).await;
        let mut outcome_of_all = Outcome::Applied;
        for pattern in patterns(&keys) {
            let invalidation = self.plain.invalidate().pattern(&pattern).expect("a valid pattern");
            let one = made(invalidation.send().await.map(|done| outcome(done.effect)));
            if one != Outcome::Applied {
                outcome_of_all = one;
            }
        }
        change.end(&self.truth.record, outcome_of_all);
    }

    async fn clear(&self) {
        let change = self.truth.change(self.node, &(0..self.keys).collect::<Vec<_>>()).await;
        change.end(&self.truth.record, made(self.plain.clear().await.map(|done| outcome(done.effect))));
    }

    async fn change_without_a_word(&self, key: u64) {
        let change = self.truth.change(self.node, &[key]).await;
        change.end(&self.truth.record, Outcome::Untold);
    }
}

/// Patterns that match exactly these keys.
fn patterns(keys: &[u64]) -> Vec<String> {
    let (short, long): (Vec<u64>, Vec<u64>) = keys.iter().partition(|key| **key < 10);
    let digits: String = short.iter().map(u64::to_string).collect();
    std::iter::once(format!("[{digits}]")).chain(long.iter().map(u64::to_string)).collect()
}

/// What a change came to. One that L2 refused holds on its node all the same; anything else that fails is a bug.
fn made(result: Result<Outcome, Error>) -> Outcome {
    match result {
        Ok(outcome) => outcome,
        Err(error) if matches!(error.kind(), ErrorKind::Remote(_)) => Outcome::Refused,
        Err(error) => panic!("{error}"),
    }
}

/// What was read, unless it could not be proven fresh, or the origin did not bring it.
fn proven<T>(read: Result<T, Error>) -> Option<T> {
    read.inspect_err(|error| assert!(may_fail(error.kind()), "{error}")).ok()
}

/// What is noted of a load that failed; one that must not is a bug.
fn failed(error: &LoadError<Refusal>) -> What {
    let may_fail = match error {
        LoadError::Loader(_) | LoadError::Foreign(_) => true,
        _ => error.cache().is_some_and(may_fail),
    };
    assert!(may_fail, "{error}");
    FAILED
}

/// Whether a read may fail in this way.
fn may_fail(kind: &ErrorKind) -> bool {
    match kind {
        ErrorKind::Unproven | ErrorKind::LoadTimedOut { .. } | ErrorKind::Load(_) => true,
        ErrorKind::LoadPanicked { message } => **message == *PANIC,
        _ => false,
    }
}

/// An answer of a batch, which ends when all of it has: it may have been found long before.
fn of_batch(what: What) -> What {
    match what {
        What::Read(Answer::Stale(read)) => What::Read(Answer::Stale(Read { source: None, ..read })),
        other => other,
    }
}
