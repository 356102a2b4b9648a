//! Which keys are looked up most?
//!
//! 1. One lookup in [`SAMPLE_EVERY`] is looked at, and stands for those around it. The others do not come here.
//! 2. At most so many keys are counted as the cache is told. One that is not among them takes the place of the one that was seen least, and goes on from
//!    its count: so a count is too high by at most what it began with, which is kept beside it, and no key that is seen more often
//!    than the least count is missing.
//! 3. After [`HALVED_AFTER`] samples all counts are halved: what was hot and is not any more makes room.
//! 4. Where no key is to be counted, nothing is, and no memory is taken.
//! 5. A lookup that finds the counts in use does not wait: its sample is dropped. All memory is taken when the keyspace is opened, but for
//!    keys of more than [`KEY_BYTES`], whose place grows once: so a hit that is looked at allocates nothing either.
//! 6. A count that is halved says nothing of time. So samples are counted once more minute by minute: what is told
//!    a second is of the minute that runs and the one before. A key that takes another's place begins there at nothing, so it is never told too many.
//! 7. What L1 has of a key is looked at in place, when somebody asks: that counts as no lookup, and keeps nothing from being evicted.
//!
//! Source: A. Metwally, D. Agrawal, A. El Abbadi, *Efficient Computation of Frequent and Top-k Elements in Data Streams*, ICDT 2005
//! (Space-Saving).

use crate::space::View;
use crate::telemetry::{SAMPLE_EVERY, is_sampled};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use parking_lot::Mutex;
use serde::Serialize;
use std::hash::BuildHasher;
use std::time::Duration;
use terrace_core::{CacheKey, Clock, Moment};

/// Bytes of a key for which there is room from the start.
const KEY_BYTES: usize = 64;
/// Samples after which all counts are halved: a million lookups.
const HALVED_AFTER: u64 = 16_384;
/// Of two of these it is told how often a key is looked up a second.
const MINUTE: Duration = Duration::from_mins(1);
/// What lookups are divided by at least: right after the beginning a few would look like many.
const OVER_MIN: Duration = Duration::from_secs(1);

/// A key that is looked up often, on this node.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct HotKey {
    /// Its keyspace.
    pub keyspace: String,
    /// The key's text.
    pub key: String,
    /// How often it was looked up, of the last one to two million lookups of its keyspace; an estimate from a sample.
    pub lookups: u64,
    /// By how much that may be too high, because the key was not counted from the start.
    pub error: u64,
    /// How often it was looked up a second, over the last one to two minutes, or since the keyspace was opened; an estimate from the same
    /// sample. Of a key that is counted for less long it is too low, and of one that is looked up a few times a second it is rough.
    pub per_second: f64,
    /// What this node's copy counts as against the bound of L1, in bytes, also if it says that there is no value; `None` if L1 has none.
    pub l1_bytes: Option<u64>,
}

/// What is counted of one keyspace.
pub(crate) struct HotKeys {
    clock: Clock,
    sketch: Mutex<Sketch>,
}

impl HotKey {
    /// Keys of each keyspace that are counted, unless the cache is told otherwise: 256, or 45 KiB.
    pub const COUNTED_DEFAULT: usize = 256;
    /// Most keys of each keyspace that can be counted: 4,096. Of more, a count could hardly be told from chance, since all are halved after 16,384
    /// lookups that were looked at.
    pub const COUNTED_MAX: usize = 4_096;
}

struct Sketch {
    slots: Box<[Slot]>,
    /// Slots that have a key: the first so many.
    used: usize,
    /// The slots that have a key, by it.
    by_key: HashTable<usize>,
    hasher: FixedState,
    /// The slots that have a key, those with the most samples first.
    ranks: Vec<usize>,
    /// Since the last halving.
    samples: u64,
    /// When the first minute began.
    opened: Moment,
    /// When the minute began that runs.
    minute: Moment,
}

struct Slot {
    key: String,
    samples: u64,
    /// Of the samples, those that it may never have had.
    error: u64,
    /// How many samples it had when it was loaded last, or came here.
    loaded_at: u64,
    /// Its own samples in the minute that runs, and in the one before.
    lately: [u64; 2],
    rank: usize,
}

impl Slot {
    fn empty() -> Self {
        let key = String::with_capacity(KEY_BYTES);
        Self { key, samples: 0, error: 0, loaded_at: 0, lately: [0; 2], rank: 0 }
    }
}

impl HotKeys {
    /// At most `keys_max` keys.
    pub(crate) fn new(keys_max: usize, clock: Clock) -> Self {
        let now = clock.now();
        let sketch = Mutex::new(Sketch {
            slots: (0..keys_max).map(|_| Slot::empty()).collect(),
            used: 0,
            // Twice as many as there are keys, so that names which are taken out never make it grow.
            by_key: HashTable::with_capacity(2 * keys_max),
            hasher: FixedState::default(),
            ranks: Vec::with_capacity(keys_max),
            samples: 0,
            opened: now,
            minute: now,
        });
        Self { clock, sketch }
    }

    /// A lookup that was sampled.
    #[cold]
    pub(crate) fn note(&self, key: &str) {
        if let Some(mut sketch) = self.sketch.try_lock() {
            sketch.turn(self.clock.now());
            sketch.note(key);
        }
    }

    /// A lookup, which may be the one to be looked at.
    #[inline]
    pub(crate) fn sample<Q: CacheKey + ?Sized>(&self, key: &Q) {
        if is_sampled() {
            key.with_text(|text| self.note(text));
        }
    }

    /// How often a key was looked up since this was last asked of it. Zero if it is not one of those that are counted. One sample counts for
    /// nothing: it may be the very lookup that asks, and a key that is looked up once in a while has one by chance.
    pub(crate) fn looked_up_since_load(&self, key: &str) -> u64 {
        let mut sketch = self.sketch.lock();
        let Some(slot) = sketch.find(key) else { return 0 };
        let slot = &mut sketch.slots[slot];
        let samples = (slot.samples - slot.loaded_at).saturating_sub(1);
        slot.loaded_at = slot.samples;
        lookups(samples)
    }

    /// The keys that were looked up most, at most so many, the hottest first. Nothing is said of L1.
    fn top(&self, keyspace: &str, limit: usize) -> Vec<HotKey> {
        let now = self.clock.now();
        let mut sketch = self.sketch.lock();
        sketch.turn(now);
        let over = sketch.over(now);
        let slots = sketch.ranks.iter().take(limit).map(|&slot| &sketch.slots[slot]);
        let hot = slots.filter(|slot| slot.samples > 0).map(|slot| HotKey {
            keyspace: keyspace.to_owned(),
            key: slot.key.clone(),
            lookups: lookups(slot.samples),
            error: lookups(slot.error),
            per_second: lookups(slot.lately.iter().sum()) as f64 / over.as_secs_f64(),
            l1_bytes: None,
        });
        hot.collect()
    }
}

impl View {
    /// The keys that were looked up most, at most so many, the hottest first.
    pub(crate) fn hot_keys(&self, limit: usize) -> Vec<HotKey> {
        let mut top = self.space.hot.top(self.space.namespace.as_str(), limit);
        for hot in &mut top {
            let bytes_in = |l1: &crate::l1::L1| {
                l1.peek_with(self.name_of(&hot.key), &self.space.bans, |copy| copy.weight_bytes)
            };
            hot.l1_bytes = self.l1().and_then(bytes_in);
        }
        top
    }
}

/// What so many samples stand for.
fn lookups(samples: u64) -> u64 {
    samples * u64::from(SAMPLE_EVERY)
}

impl Sketch {
    /// Lets another minute begin, if that which runs is over.
    fn turn(&mut self, now: Moment) {
        let passed = now.since(self.minute).as_secs() / MINUTE.as_secs();
        if passed == 0 {
            return;
        }
        for slot in &mut self.slots[..self.used] {
            let before = if passed == 1 { slot.lately[0] } else { 0 };
            slot.lately = [0, before];
        }
        self.minute = self.minute.plus(Duration::from_secs(passed * MINUTE.as_secs()));
    }

    /// How long the last two minutes have lasted until now.
    fn over(&self, now: Moment) -> Duration {
        now.since(self.minute.minus(MINUTE).max(self.opened)).max(OVER_MIN)
    }

    fn note(&mut self, key: &str) {
        if self.slots.is_empty() {
            return;
        }
        let slot = self.find(key).unwrap_or_else(|| self.make_room(key));
        self.raise(slot);
        self.samples += 1;
        if self.samples >= HALVED_AFTER {
            self.halve();
        }
    }

    fn find(&self, key: &str) -> Option<usize> {
        self.by_key.find(self.hasher.hash_one(key), |&slot| self.slots[slot].key == key).copied()
    }

    /// A slot for a key that has none: a new one, or that of the key that was seen least.
    fn make_room(&mut self, key: &str) -> usize {
        let Self { slots, used, by_key, hasher, ranks, .. } = self;
        let at = if *used < slots.len() {
            ranks.push(*used);
            slots[*used].rank = *used;
            *used += 1;
            *used - 1
        } else {
            let last = ranks[slots.len() - 1];
            let hash = hasher.hash_one(slots[last].key.as_str());
            if let Ok(of_old) = by_key.find_entry(hash, |&slot| slot == last) {
                of_old.remove();
            }
            last
        };
        let slot = &mut slots[at];
        (slot.error, slot.loaded_at, slot.lately) = (slot.samples, slot.samples, [0; 2]);
        slot.key.clear();
        slot.key.push_str(key);
        by_key.insert_unique(hasher.hash_one(key), at, |&slot| hasher.hash_one(slots[slot].key.as_str()));
        at
    }

    /// Counts one more, and keeps the ranks in order: the slot changes places with the first of those that had as many.
    fn raise(&mut self, slot: usize) {
        let Slot { samples, rank, .. } = self.slots[slot];
        let first = self.ranks.partition_point(|&other| self.slots[other].samples > samples);
        let other = self.ranks[first];
        self.ranks.swap(first, rank);
        self.slots[other].rank = rank;
        let raised = &mut self.slots[slot];
        (raised.rank, raised.samples) = (first, samples + 1);
        raised.lately[0] += 1;
    }

    /// Halves all counts. What may be too high is rounded up, so that it stays a bound.
    fn halve(&mut self) {
        for slot in &mut self.slots[..self.used] {
            slot.samples /= 2;
            slot.error = slot.error.div_ceil(2).min(slot.samples);
            slot.loaded_at = slot.loaded_at.div_ceil(2).min(slot.samples);
        }
        self.samples = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use terrace_core::Chance;

    const KEYS_MAX: usize = HotKey::COUNTED_DEFAULT;

    fn check(sketch: &Sketch) {
        assert_eq!((sketch.by_key.len(), sketch.ranks.len()), (sketch.used, sketch.used));
        assert!(sketch.ranks.is_sorted_by(|&a, &b| sketch.slots[a].samples >= sketch.slots[b].samples));
        for (at, slot) in sketch.slots[..sketch.used].iter().enumerate() {
            assert_eq!((sketch.find(&slot.key), sketch.ranks[slot.rank]), (Some(at), at));
            assert!(slot.error <= slot.samples && slot.loaded_at <= slot.samples);
        }
    }

    #[test]
    fn counts_are_bounded_as_the_paper_says_and_no_frequent_key_is_missing() {
        let (chance, hot) = (Chance::seeded(1), HotKeys::new(KEYS_MAX, Clock::manual()));
        let mut exact: HashMap<String, u64> = HashMap::new();
        let samples = HALVED_AFTER - 1;
        for _ in 0..samples {
            // A key is twice as likely as one of twice its number, about, among 16,384.
            let key = (chance.number() % (1 << (chance.number() % 15))).to_string();
            hot.note(&key);
            *exact.entry(key).or_default() += 1;
        }
        let sketch = hot.sketch.lock();
        check(&sketch);
        assert_eq!(sketch.slots.iter().map(|slot| slot.samples).sum::<u64>(), samples);
        let least = sketch.slots[sketch.ranks[KEYS_MAX - 1]].samples;
        assert!(least <= samples / KEYS_MAX as u64);
        for slot in &sketch.slots {
            let exact = exact[&slot.key];
            assert!(exact <= slot.samples && slot.samples - slot.error <= exact, "{}", slot.key);
        }
        for (key, count) in exact {
            assert!(count <= least || sketch.find(&key).is_some(), "{key} was seen {count} times");
        }
    }

    #[test]
    fn what_was_hot_makes_room_for_what_is() {
        let hot = HotKeys::new(KEYS_MAX, Clock::manual());
        for _ in 0..HALVED_AFTER * 2 {
            hot.note("old");
        }
        for sample in 0..HALVED_AFTER * 4 {
            hot.note(if sample % 2 == 0 { "new" } else { "other" });
        }
        let top = hot.top("texts", 2);
        assert_eq!(top.iter().map(|hot| hot.key.as_str()).collect::<Vec<_>>(), ["new", "other"]);
        assert!((lookups(HALVED_AFTER / 3)..=lookups(HALVED_AFTER * 2)).contains(&top[0].lookups));
        check(&hot.sketch.lock());
    }

    #[test]
    fn lookups_since_the_last_load_are_never_too_many() {
        let hot = HotKeys::new(KEYS_MAX, Clock::manual());
        assert_eq!(hot.looked_up_since_load("k"), 0);
        (0..KEYS_MAX * 3).for_each(|other| hot.note(&other.to_string()));
        (0..10).for_each(|_| hot.note("k"));
        assert_eq!(hot.looked_up_since_load("k"), lookups(9), "what it took over from others does not count");
        assert_eq!(hot.looked_up_since_load("k"), 0);
        (0..7).for_each(|_| hot.note("k"));
        hot.sketch.lock().halve();
        assert!(hot.looked_up_since_load("k") <= lookups(6));
        hot.note("k");
        assert_eq!(hot.looked_up_since_load("k"), 0, "it may be by chance");
        check(&hot.sketch.lock());
    }

    #[test]
    fn a_sample_that_would_have_to_wait_is_dropped() {
        let hot = HotKeys::new(KEYS_MAX, Clock::manual());
        let busy = hot.sketch.lock();
        hot.note("k");
        drop(busy);
        assert_eq!(hot.top("texts", 10), []);
    }

    #[test]
    fn as_many_keys_are_counted_as_there_may_be() {
        for keys_max in [1, 3, HotKey::COUNTED_MAX] {
            let hot = HotKeys::new(keys_max, Clock::manual());
            (0..keys_max * 2).for_each(|key| hot.note(&key.to_string()));
            assert_eq!(hot.top("texts", usize::MAX).len(), keys_max);
            check(&hot.sketch.lock());
        }
    }

    #[test]
    fn where_none_may_be_counted_none_is() {
        let hot = HotKeys::new(0, Clock::manual());
        (0..HALVED_AFTER * 2).for_each(|_| hot.note("k"));
        assert_eq!((hot.top("texts", usize::MAX), hot.looked_up_since_load("k")), (vec![], 0));
    }

    fn per_second(hot: &HotKeys, key: &str) -> Option<f64> {
        hot.top("texts", KEYS_MAX).into_iter().find(|hot| hot.key == key).map(|hot| hot.per_second)
    }

    #[test]
    fn what_is_told_a_second_is_of_the_last_one_to_two_minutes() {
        let clock = Clock::manual();
        let hot = HotKeys::new(KEYS_MAX, clock.clone());
        let each_second = |seconds: u64, times: u64| {
            for _ in 0..seconds {
                clock.advance(Duration::from_secs(1));
                (0..times).for_each(|_| hot.note("k"));
            }
        };
        (0..3).for_each(|_| hot.note("k"));
        assert_eq!(per_second(&hot, "k"), Some(lookups(3) as f64), "of a second at least");
        each_second(30, 2);
        assert_eq!(per_second(&hot, "k"), Some(lookups(63) as f64 / 30.0));
        each_second(270, 2);
        assert_eq!(
            per_second(&hot, "k"),
            Some(lookups(2) as f64 * 61.0 / 60.0),
            "a minute ends before what comes at its end"
        );
        each_second(30, 10);
        assert_eq!(per_second(&hot, "k"), Some(lookups(2 * 60 + 2 + 10 * 30) as f64 / 90.0));
        hot.sketch.lock().halve();
        assert!(per_second(&hot, "k") > Some(lookups(4) as f64), "halving takes nothing away");
        clock.advance(MINUTE * 2);
        assert_eq!(per_second(&hot, "k"), Some(0.0), "nothing of late");
        each_second(1, 9);
        assert!(per_second(&hot, "k") < Some(lookups(9) as f64 / 60.0));
    }

    #[test]
    fn a_key_is_not_told_as_often_as_the_one_whose_place_it_takes() {
        let hot = HotKeys::new(KEYS_MAX, Clock::manual());
        (0..KEYS_MAX * 5).for_each(|other| hot.note(&(other % KEYS_MAX).to_string()));
        hot.note("k");
        let top = hot.top("texts", KEYS_MAX);
        let own = top.iter().find(|hot| hot.key == "k").expect("it is counted");
        assert_eq!((own.lookups, own.error, own.per_second), (lookups(6), lookups(5), lookups(1) as f64));
    }
}
