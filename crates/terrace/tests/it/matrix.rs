//! Every combination of extreme settings through all tiers: capacity × weigher × TTL × absence remembered × grace × L2. A case is
//! a hundred random operations against a model of what may be returned, and a count of what is left.

use crate::jitter::Dice;
use std::collections::HashMap;
use std::time::Duration;
use terrace::{Cache, Clock, EntryOptions, Fetched, Keyspace, L1, Tag, Ttl};
use terrace_core::Moment;
use terrace_testkit::fake::FakeRemote;

const KEYS: u64 = 5;
const OPERATIONS: u64 = 100;
const BYTES_MAX: u64 = 2_000;
/// An exbibyte: as many as there are keys add up to a number.
const HUGE: u64 = 1 << 60;
const WHILE: Duration = Duration::from_secs(10);
const MILLI: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug)]
struct Settings {
    /// Zero is no bound by entries, but one by bytes.
    entries_max: usize,
    weight: u64,
    ttl: Duration,
    is_absence_kept: bool,
    has_grace: bool,
    has_l2: bool,
}

fn all() -> Vec<Settings> {
    let mut all = Vec::new();
    for entries_max in [0, 1, 2, 1_000] {
        for weight in [0, 1, HUGE] {
            for ttl in [Duration::ZERO, MILLI, Duration::MAX] {
                for is_absence_kept in [false, true] {
                    for has_grace in [false, true] {
                        for has_l2 in [false, true] {
                            all.push(Settings {
                                entries_max,
                                weight,
                                ttl,
                                is_absence_kept,
                                has_grace,
                                has_l2,
                            });
                        }
                    }
                }
            }
        }
    }
    all
}

/// A case under way.
struct Case {
    settings: Settings,
    clock: Clock,
    cache: Cache,
    numbers: Keyspace<u64, u64>,
    /// What was stored last, and when; nothing of a key that was removed.
    model: HashMap<u64, (u64, Moment)>,
    next: u64,
}

impl Case {
    fn new(settings: Settings) -> Self {
        let clock = Clock::manual();
        let bytes_max = if settings.entries_max == 0 { BYTES_MAX } else { 0 };
        let l1 = L1::entries(settings.entries_max).bytes(bytes_max).cleanup(MILLI);
        let builder = Cache::builder().clock(clock.clone()).l1(l1);
        let remote = || FakeRemote::with_partitions(clock.clone(), 2);
        let builder = if settings.has_l2 { builder.l2(remote()) } else { builder };
        let cache = builder.build().expect("valid settings");
        let while_ = |is: bool| if is { WHILE } else { Duration::ZERO };
        let options = EntryOptions::new().ttl(Ttl::After(settings.ttl)).grace(while_(settings.has_grace));
        let options = options.negative_ttl(while_(settings.is_absence_kept)).failure_pause(Duration::ZERO);
        let weight = settings.weight;
        let keyspace =
            cache.keyspace("numbers").options(options).weigher(move |_| weight).value_bytes_max(u64::MAX);
        let numbers = keyspace.tags(|key: &u64, _| vec![tag(key % 2)]).build().expect("a new keyspace");
        Self { settings, clock, cache, numbers, model: HashMap::new(), next: 1 }
    }

    fn note(&mut self, key: u64, value: u64) {
        self.model.insert(key, (value, self.clock.now()));
    }

    /// Whether this value may be returned now, and as fresh.
    fn may_be(&self, key: u64, value: u64) -> (bool, bool) {
        let Some((last, stored)) = self.model.get(&key).copied() else { return (false, false) };
        let age = self.clock.now().since(stored);
        let is_fresh = age < self.settings.ttl;
        let is_old = self.settings.has_grace && age < self.settings.ttl.saturating_add(WHILE);
        (value == last && (is_fresh || is_old), value == last && is_fresh)
    }

    async fn operate(&mut self, dice: &Dice) {
        let key = dice.below(KEYS);
        self.next += 1;
        match dice.below(12) {
            0..3 => self.put(key).await,
            3..5 => self.get(key).await,
            5..7 => self.load(key).await,
            7 => self.fail(key).await,
            8 => self.find_nothing(key).await,
            9 => {
                self.numbers.remove(&key).await.expect("removed");
                self.model.remove(&key);
            }
            10 => self.sweep(key, dice.below(4) == 0).await,
            _ => self.clock.advance(dice.one_of(&[MILLI / 2, MILLI * 2, WHILE])),
        }
    }

    async fn put(&mut self, key: u64) {
        let value = self.next;
        match self.numbers.put(&key, value).await {
            Ok(_) => self.note(key, value),
            Err(error) => panic!("{error}: {:?}", self.settings),
        }
        let is_kept = self.settings.has_l2 || self.settings.weight < BYTES_MAX;
        if is_kept && !self.settings.ttl.is_zero() {
            let found = self.numbers.get(&key).await.expect("a valid key");
            assert_eq!(found.as_deref(), Some(&value), "{:?}", self.settings);
        }
    }

    async fn get(&mut self, key: u64) {
        let Some(entry) = self.numbers.get_entry(&key).await.expect("a valid key") else { return };
        let (_, may_be_fresh) = self.may_be(key, *entry.value);
        assert!(may_be_fresh && !entry.is_stale, "{key} has {entry:?}: {:?}", self.settings);
        assert_eq!(self.numbers.peek(&key).is_some(), self.numbers.peek_ttl(&key).is_some());
    }

    async fn load(&mut self, key: u64) {
        let value = self.next;
        let loaded = self.numbers.get_or_load(&key, move || async move { Ok::<_, &str>(value) }).await;
        let loaded = *loaded.expect("it does not fail");
        if loaded == value {
            self.note(key, value);
        } else {
            assert!(self.may_be(key, loaded).1, "{key} has {loaded}: {:?}", self.settings);
        }
    }

    async fn fail(&mut self, key: u64) {
        let failing = async || Err::<u64, _>("refused");
        if let Ok(old) = self.numbers.get_or_load(&key, failing).await {
            assert!(self.may_be(key, *old).0, "{key} has {old}: {:?}", self.settings);
        }
    }

    async fn find_nothing(&mut self, key: u64) {
        let nothing = |_| async { Ok::<_, &str>(Fetched::absent()) };
        let found = self.numbers.fetch(&key, EntryOptions::new(), nothing).await.expect("it does not fail");
        match found {
            Some(entry) => {
                assert!(self.may_be(key, *entry.value).1, "{key} has {entry:?}: {:?}", self.settings);
            }
            None => drop(self.model.remove(&key)),
        }
    }

    async fn sweep(&mut self, key: u64, is_all: bool) {
        if is_all {
            self.numbers.clear().await.expect("cleared");
            self.model.clear();
        } else {
            let invalidation = self.numbers.invalidate().tag(tag(key % 2).as_str()).expect("a valid tag");
            invalidation.send().await.expect("invalidated");
            self.model.retain(|other, _| other % 2 != key % 2);
        }
    }

    fn check(&self) {
        let total = self.cache.stats().total;
        let answered = total.hits_l1 + total.hits_l2 + total.stale_hits + total.negative_hits + total.misses;
        assert_eq!(total.requests, answered, "{:?}", self.settings);
        let ended = total.loads_found + total.loads_absent + total.loads_failed + total.loads_panicked;
        assert_eq!(total.loads, ended, "{:?}", self.settings);
        match self.settings.entries_max {
            0 => assert!(total.bytes <= BYTES_MAX, "{} bytes: {:?}", total.bytes, self.settings),
            most => assert!(total.entries <= most as u64, "{} entries: {:?}", total.entries, self.settings),
        }
        assert_eq!(total.bytes == 0, total.entries == 0, "{:?}", self.settings);
        assert_eq!(total.l2_errors, 0, "{:?}", self.settings);
    }

    /// Removes everything: what is counted must be nothing then.
    async fn empty(&self) {
        for key in 0..KEYS {
            self.numbers.remove(&key).await.expect("removed");
            assert_eq!(self.numbers.get(&key).await.expect("a valid key"), None, "{:?}", self.settings);
        }
        let total = self.cache.stats().total;
        assert_eq!((total.entries, total.bytes), (0, 0), "{:?}", self.settings);
        self.cache.shutdown(WHILE).await.expect("nothing is under way");
    }
}

fn tag(number: u64) -> Tag {
    Tag::new(&format!("group:{number}")).expect("valid")
}

#[tokio::test]
async fn extreme_settings_in_every_combination_keep_what_is_promised() {
    let cases = all();
    for (number, settings) in cases.iter().enumerate() {
        let (mut case, dice) = (Case::new(*settings), Dice::new(number as u64));
        for _ in 0..OPERATIONS {
            case.operate(&dice).await;
            case.check();
        }
        case.empty().await;
    }
    println!("{} cases of {OPERATIONS} operations, 0 failures", cases.len());
}
