//! The whole cache under many schedules: few keys, few entries, all operations at once.
//!
//! Shuttle runs a test again and again, and switches threads at each lock and atomic by chance: at any of them alike, or seldom
//! and with priorities (PCT), which finds what needs few switches at the right places. It takes all atomics to be sequentially
//! consistent; weaker orders are loom's part. `TERRACE_SHUTTLE_ITERATIONS` says how often (1,000 each unless set). The
//! schedules are the same each time unless `SHUTTLE_RANDOM_SEED` is set. One that fails is printed: `shuttle::replay` runs
//! it again.
//!
//! What is checked stands in a [`Ledger`], which knows the fate of every value that ever was:
//!
//! 1. A read shows a value of its key that is not dropped and has not expired, and stays so while the read lasts.
//! 2. A read never shows a value whose insert had returned before a write of the key began that had returned before
//!    the read began.
//! 3. Each stored value leaves exactly once and is told exactly once, before it is dropped, for a reason that fits.
//! 4. When all is quiet, the values that live are those in the cache and those held back. After the cache none lives.

use crate::{Insertion, Memory, Policy, RemovalCause};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner, thread};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;
use terrace_core::{Clock, Moment};

const KEYS: usize = 4;
const ENTRIES_MAX: usize = 4;
const BYTES_MAX: u64 = 12;
const SEED: u64 = 0x7E44_ACE5;
/// How many ordering constraints PCT tries to meet at once.
const PCT_DEPTH: usize = 3;
/// A deadline is kept in steps of this, rounded down.
const DEADLINE_STEP: Duration = Duration::from_nanos(4_096);

/// Runs a test with many schedules.
fn explore(test: fn()) {
    let asked = std::env::var("TERRACE_SHUTTLE_ITERATIONS").ok();
    let iterations =
        asked.map_or(1_000, |text| text.parse().expect("TERRACE_SHUTTLE_ITERATIONS is a number"));
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.silence_warnings = true;
    Runner::new(RandomScheduler::new_from_seed(SEED, iterations), config.clone()).run(test);
    Runner::new(PctScheduler::new_from_seed(SEED, PCT_DEPTH, iterations), config).run(test);
}

/// A key: two of them have the same hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Key(usize);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.0 / 2);
    }
}

/// A value that tells the ledger of its end, unless it is a copy.
struct Value {
    number: usize,
    ledger: Option<Arc<Ledger>>,
}

impl Clone for Value {
    fn clone(&self) -> Self {
        Self { number: self.number, ledger: None }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        if let Some(ledger) = self.ledger.take() {
            ledger.note_drop(self.number);
        }
    }
}

/// What became of a value.
#[derive(Debug)]
struct Fate {
    key: usize,
    deadline: Moment,
    /// Whether the listener made it.
    is_second_hand: bool,
    returned: Option<(u64, Insertion)>,
    told: Vec<RemovalCause>,
    is_dropped: bool,
}

#[derive(Default)]
struct Accounts {
    now: u64,
    fates: Vec<Fate>,
    /// When the latest write of each key began that has returned.
    floors: [u64; KEYS],
    /// What listeners and destructors found wrong: they must not panic.
    faults: Vec<String>,
}

impl Accounts {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn end_write(&mut self, keys: impl IntoIterator<Item = usize>, began: u64) {
        for key in keys {
            let floor = &mut self.floors[key];
            *floor = began.max(*floor);
        }
    }
}

/// The fate of every value, and the time of the cache. Its lock is the machine's: no thread is switched while it is held.
struct Ledger {
    clock: Clock,
    accounts: Mutex<Accounts>,
}

impl Ledger {
    fn new() -> Arc<Self> {
        Arc::new(Self { clock: Clock::manual(), accounts: Mutex::default() })
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_drop(&self, number: usize) {
        let mut accounts = self.accounts();
        let fate = &mut accounts.fates[number];
        if std::mem::replace(&mut fate.is_dropped, true) {
            accounts.faults.push(format!("value {number} was dropped twice"));
        }
    }

    fn note_told(&self, key: usize, number: usize, cause: RemovalCause) {
        let mut accounts = self.accounts();
        let fate = &mut accounts.fates[number];
        fate.told.push(cause);
        let expires = fate.deadline.as_nanos() <= self.clock.now().plus(DEADLINE_STEP).as_nanos();
        let fits = cause != RemovalCause::Expired || (fate.deadline != Moment::NEVER && expires);
        if fate.key != key || fate.is_dropped || fate.told.len() > 1 || !fits {
            let fault = format!("value {number} of key {key} was told wrongly: {cause:?}, {fate:?}");
            accounts.faults.push(fault);
        }
    }

    fn is_second_hand(&self, number: usize) -> bool {
        self.accounts().fates[number].is_second_hand
    }

    fn assert_is_alive(&self, number: usize) {
        assert!(!self.accounts().fates[number].is_dropped, "value {number} is read after it was dropped");
    }

    fn assert_no_fault(&self) {
        let accounts = self.accounts();
        assert!(accounts.faults.is_empty(), "{:?}", accounts.faults);
    }
}

/// A cache with its ledger.
#[derive(Clone)]
struct Cache {
    memory: Arc<Memory<Key, Value>>,
    ledger: Arc<Ledger>,
}

impl Cache {
    /// A small cache. What leaves it is entered into the ledger, then shown to `listener`.
    fn new(
        entries: usize,
        listener: impl Fn(&Self, usize, usize, RemovalCause) + Send + Sync + 'static,
    ) -> Self {
        let ledger = Ledger::new();
        let own: Arc<OnceLock<Weak<Memory<Key, Value>>>> = Arc::default();
        let (inside, books) = (Arc::clone(&own), Arc::clone(&ledger));
        let memory = Memory::builder()
            .policy(if thread_rng().gen_bool(0.7) { Policy::Default } else { Policy::Lru })
            .entries_max(entries)
            .bytes_max(BYTES_MAX)
            .clock(ledger.clock.clone())
            .on_removal(move |key: &Key, value: &Value, cause| {
                books.note_told(key.0, value.number, cause);
                if let Some(memory) = inside.get().and_then(Weak::upgrade) {
                    listener(&Self { memory, ledger: Arc::clone(&books) }, key.0, value.number, cause);
                }
            })
            .build()
            .unwrap();
        let memory = Arc::new(memory);
        own.set(Arc::downgrade(&memory)).expect("set once");
        Self { memory, ledger }
    }

    /// Reads a key, and does `meanwhile` while it has the value.
    fn read(&self, key: usize, meanwhile: impl FnOnce()) {
        let (floor, now) = (self.ledger.accounts().floors[key], self.ledger.clock.now());
        self.memory.get_with(&Key(key), |value| {
            let number = value.number;
            self.check_read(number, key, floor, now);
            meanwhile();
            thread::yield_now();
            assert_eq!(value.number, number, "values never change");
            self.ledger.assert_is_alive(number);
        });
    }

    fn check_read(&self, number: usize, key: usize, floor: u64, now: Moment) {
        let accounts = self.ledger.accounts();
        let fate = &accounts.fates[number];
        assert_eq!(fate.key, key, "a value of its key: {fate:?}");
        assert!(!fate.is_dropped, "not dropped: {fate:?}");
        assert!(fate.deadline > now, "not expired at {now:?}: {fate:?}");
        assert!(fate.returned.is_none_or(|(end, _)| end > floor), "not older than {floor}: {fate:?}");
    }

    fn insert_if(
        &self,
        key: usize,
        ttl: Option<Duration>,
        weight: u64,
        condition: impl FnOnce(Option<&Value>) -> bool,
    ) {
        self.insert_as(false, key, ttl, weight, condition);
    }

    fn insert_as(
        &self,
        is_second_hand: bool,
        key: usize,
        ttl: Option<Duration>,
        weight: u64,
        condition: impl FnOnce(Option<&Value>) -> bool,
    ) {
        let deadline = ttl.map_or(Moment::NEVER, |ttl| self.ledger.clock.now().plus(ttl));
        let (number, began) = {
            let mut accounts = self.ledger.accounts();
            let began = accounts.tick();
            let (returned, told, is_dropped) = (None, Vec::new(), false);
            accounts.fates.push(Fate { key, deadline, is_second_hand, returned, told, is_dropped });
            (accounts.fates.len() - 1, began)
        };
        let value = Value { number, ledger: Some(Arc::clone(&self.ledger)) };
        let insertion = self.memory.insert_if(Key(key), value, weight, deadline, condition);
        let mut accounts = self.ledger.accounts();
        let end = accounts.tick();
        accounts.fates[number].returned = Some((end, insertion));
        if insertion != Insertion::Declined {
            accounts.end_write([key], began);
        }
    }

    /// Does something after which what was inserted before is gone.
    fn forget<R>(&self, keys: impl IntoIterator<Item = usize>, how: impl FnOnce(&Memory<Key, Value>) -> R) {
        let began = self.ledger.accounts().tick();
        how(&self.memory);
        self.ledger.accounts().end_write(keys, began);
    }

    /// Any operation.
    fn operate(&self) {
        let mut random = thread_rng();
        let key = random.gen_range(0..KEYS);
        match random.gen_range(0..20) {
            0..4 => self.read(key, || ()),
            4 => self.read(key, || self.insert_if(random.gen_range(0..KEYS), None, 1, |_| true)),
            5 => self.read(key, || self.forget([key], |memory| memory.remove(&Key(key)))),
            6..11 => self.insert_if(key, None, random.gen_range(1..4), |_| true),
            11 => self.insert_if(key, Some(Duration::from_millis(random.gen_range(0..100))), 1, |_| true),
            12 => self.insert_if(key, None, BYTES_MAX + 1, |_| true),
            13 => self.insert_if(key, None, 1, |old| old.is_none_or(|old| old.number % 2 == 0)),
            14 => self.forget([key], |memory| memory.remove(&Key(key))),
            15 => drop(self.memory.remove_if(&Key(key), |value| value.number % 2 == 0)),
            16 => self.forget([key], |memory| memory.retain(|found, _| found.0 != key)),
            17 => self.forget(0..KEYS, Memory::clear),
            18 => self.memory.resize(random.gen_range(1..=ENTRIES_MAX), BYTES_MAX).unwrap(),
            _ => {
                self.ledger.clock.advance(Duration::from_millis(random.gen_range(1..100)));
                self.memory.expire(random.gen_range(0..3));
            }
        }
        assert!(self.memory.len() <= ENTRIES_MAX, "the bound holds");
        self.ledger.assert_no_fault();
    }

    /// Checks everything when all is quiet, drops the cache, and checks that nothing is left.
    fn settle(self) {
        let Self { memory, ledger } = self;
        let memory = Arc::into_inner(memory).expect("all threads have ended");
        memory.validate();
        let stats = memory.stats();
        assert!(stats.bytes <= BYTES_MAX, "the bound holds");
        let alive = ledger.accounts().fates.iter().filter(|fate| !fate.is_dropped).count() as u64;
        assert_eq!(alive, stats.entries + stats.held_back, "{stats:?}");
        let left = stats.replacements + stats.evictions + stats.expirations + stats.removals;
        assert_eq!(stats.inserts - left, stats.entries, "{stats:?}");
        assert_eq!((stats.listener_panics, stats.listener_skips), (0, 0));
        memory.expire(0);
        assert_eq!(memory.stats().held_back, 0, "nobody reads");
        let mut held = Vec::new();
        memory.for_each(|_, value| held.push(value.number));
        for (number, fate) in ledger.accounts().fates.iter().enumerate() {
            let was_stored = matches!(fate.returned, Some((_, Insertion::Stored)));
            let has_left = was_stored && fate.is_dropped;
            assert_eq!(fate.told.len(), usize::from(has_left), "{fate:?}");
            assert!(fate.is_dropped || was_stored, "what was not stored is dropped: {fate:?}");
            let expires = fate.deadline != Moment::NEVER;
            assert!(fate.is_dropped || expires || held.contains(&number), "{fate:?}");
        }
        drop(memory);
        assert!(ledger.accounts().fates.iter().all(|fate| fate.is_dropped), "no value outlives the cache");
        ledger.assert_no_fault();
    }
}

/// Runs these at the same time, to their ends.
fn together(threads: usize, run: impl Fn() + Clone + Send + 'static) {
    let threads = (0..threads).map(|_| thread::spawn(run.clone())).collect::<Vec<_>>();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn shuttle_every_operation_beside_every_other() {
    explore(|| {
        let cache = Cache::new(thread_rng().gen_range(2..=ENTRIES_MAX), |_, _, _, _| ());
        let shared = cache.clone();
        together(3, move || (0..5).for_each(|_| shared.operate()));
        cache.settle();
    });
}

#[test]
fn shuttle_a_listener_that_uses_the_cache() {
    explore(|| {
        let cache = Cache::new(2, |cache, key, number, cause| {
            cache.read(key, || ());
            if !cache.ledger.is_second_hand(number) {
                match cause {
                    RemovalCause::Capacity => cache.insert_as(true, key, None, 1, |old| old.is_none()),
                    RemovalCause::Replaced => cache.forget([key], |memory| memory.remove(&Key(key))),
                    _ => cache.forget([], |memory| memory.expire(1)),
                }
            }
        });
        let shared = cache.clone();
        together(3, move || (0..4).for_each(|_| shared.operate()));
        cache.settle();
    });
}

#[test]
fn shuttle_readers_keep_what_writers_overwrite_and_remove() {
    explore(|| {
        let cache = Cache::new(2, |_, _, _, _| ());
        let reading = cache.clone();
        let readers = (0..2).map(|_| {
            let cache = reading.clone();
            thread::spawn(move || (0..6).for_each(|step| cache.read(step % 2, thread::yield_now)))
        });
        let readers = readers.collect::<Vec<_>>();
        drop(reading);
        for round in 0..4 {
            cache.insert_if(round % 2, None, 1, |_| true);
            cache.insert_if(round % 2, None, 1, |_| true);
            cache.forget([0], |memory| memory.remove(&Key(0)));
            cache.memory.expire(0);
        }
        for reader in readers {
            reader.join().unwrap();
        }
        cache.settle();
    });
}

#[test]
fn shuttle_whoever_meets_an_expired_value_leaves_its_successor() {
    explore(|| {
        let cache = Cache::new(2, |_, _, _, _| ());
        cache.insert_if(0, Some(Duration::from_millis(10)), 1, |_| true);
        cache.ledger.clock.advance(Duration::from_millis(100));
        let others = cache.clone();
        let reader = thread::spawn(move || {
            others.read(0, || ());
            others.memory.expire(1);
        });
        cache.insert_if(0, None, 1, |old| old.is_none());
        reader.join().unwrap();
        assert!(cache.memory.peek(&Key(0)).is_some(), "nobody has removed it");
        cache.settle();
    });
}

#[test]
fn shuttle_insert_if_compares_and_sets() {
    explore(|| {
        let memory: Arc<Memory<Key, u64>> =
            Arc::new(Memory::builder().entries_max(ENTRIES_MAX).build().unwrap());
        let shared = Arc::clone(&memory);
        together(3, move || {
            for _ in 0..3 {
                loop {
                    let old = shared.get(&Key(0));
                    let is_same = |now: Option<&u64>| now.copied() == old;
                    let new = old.unwrap_or(0) + 1;
                    match shared.insert_if(Key(0), new, 1, Moment::NEVER, is_same) {
                        Insertion::Stored => break,
                        insertion => assert_eq!(insertion, Insertion::Declined),
                    }
                }
            }
        });
        assert_eq!(memory.get(&Key(0)), Some(9));
        memory.validate();
    });
}
