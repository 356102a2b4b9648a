//! Every small capacity with every odd weight and lifetime, under each policy, by one thread and by two.
//!
//! 1. The cache is recounted after every operation of one thread, and at the end of every case.
//! 2. What a case must do follows from its coordinates alone, so no expectation is written twice.
//! 3. A capacity of 0 without another bound cannot be built; with a bytes bound it means "not bounded by entries".
//!
//! Deliberately absent: idle times, negative entries and asynchronous callers. The engine knows none of them; the tiers
//! above it do.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use terrace_core::Clock;
use terrace_memory::{Insertion, Memory, Policy, RemovalCause};

const ENTRIES: [usize; 4] = [0, 1, 2, 100];
const BYTES: [u64; 2] = [0, 64];
const WEIGHTS: [u64; 3] = [0, 1, u64::MAX];
const LIFETIMES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(1), Duration::MAX];
const POLICIES: [Policy; 2] = [Policy::Default, Policy::Lru];
const THREADS: [u64; 2] = [1, 2];
/// How many cases the six axes span.
const CASES: usize = 288;
/// More keys than the largest capacity has room for.
const KEYS: u64 = 150;

#[derive(Clone, Copy, Debug)]
struct Case {
    entries: usize,
    bytes: u64,
    weight: u64,
    lifetime: Duration,
    policy: Policy,
    threads: u64,
}

fn cases() -> impl Iterator<Item = Case> {
    (0..CASES).map(|number| {
        let mut rest = number;
        let mut pick = |choices: usize| {
            let choice = rest % choices;
            rest /= choices;
            choice
        };
        let case = Case {
            entries: ENTRIES[pick(ENTRIES.len())],
            bytes: BYTES[pick(BYTES.len())],
            weight: WEIGHTS[pick(WEIGHTS.len())],
            lifetime: LIFETIMES[pick(LIFETIMES.len())],
            policy: POLICIES[pick(POLICIES.len())],
            threads: THREADS[pick(THREADS.len())],
        };
        assert_eq!(rest, 0, "the axes span fewer cases");
        case
    })
}

impl Case {
    fn is_refused(&self) -> bool {
        self.entries == 0 && self.bytes == 0
    }

    /// With both, a cache may be full at half of either.
    fn has_both_bounds(&self) -> bool {
        self.entries != 0 && self.bytes != 0
    }

    /// What every insert of this case comes to.
    fn insertion(&self) -> Insertion {
        if self.lifetime.is_zero() {
            Insertion::Expired
        } else if self.bytes != 0 && self.weight > self.bytes {
            Insertion::Rejected
        } else {
            Insertion::Stored
        }
    }

    /// How many of the keys there is room for, at most.
    fn room(&self) -> usize {
        let by_entries = if self.entries == 0 { usize::MAX } else { self.entries };
        // An entry without weight counts as one byte where bytes are the only bound.
        let by_bytes = if self.bytes == 0 || (self.weight == 0 && self.entries != 0) {
            usize::MAX
        } else {
            usize::try_from(self.bytes / self.weight.max(1)).expect("small")
        };
        by_entries.min(by_bytes)
    }
}

/// The cache of a case, and what it told.
struct Run {
    case: Case,
    clock: Clock,
    memory: Memory<u64, u64>,
    told: Arc<Mutex<Vec<(u64, RemovalCause)>>>,
    next: AtomicU64,
}

/// A value that names its key.
fn value(key: u64, number: u64) -> u64 {
    key << 32 | number
}

impl Run {
    fn new(case: Case) -> Option<Self> {
        let (clock, told) = (Clock::manual(), Arc::<Mutex<Vec<_>>>::default());
        let log = Arc::clone(&told);
        let built = Memory::builder()
            .entries_max(case.entries)
            .bytes_max(case.bytes)
            .policy(case.policy)
            .clock(clock.clone())
            .on_removal(move |key: &u64, value: &u64, cause| {
                assert_eq!(value >> 32, *key);
                log.lock().expect("no panic before").push((*value, cause));
            })
            .build();
        if case.is_refused() {
            assert_eq!(built.expect_err("there is no bound").setting, "entries_max");
            return None;
        }
        let memory = built.expect("a bound is set");
        Some(Self { case, clock, memory, told, next: AtomicU64::new(0) })
    }

    fn check(&self) {
        self.memory.validate();
        let Case { entries, bytes, .. } = self.case;
        assert!(entries == 0 || self.memory.len() <= entries, "{:?}", self.case);
        assert!(bytes == 0 || self.memory.weight_bytes() <= bytes, "{:?}", self.case);
    }

    /// Where only a few entries fit, the default policy may prefer those that were read by several threads.
    fn insert(&self, key: u64) -> u64 {
        let value = value(key, self.next.fetch_add(1, Ordering::Relaxed));
        let deadline = self.clock.now().plus(self.case.lifetime);
        let insertion = self.memory.insert(key, value, self.case.weight, deadline);
        let may_prefer = self.case.threads > 1 && self.case.policy == Policy::Default;
        let preferred = may_prefer && insertion == Insertion::Rejected;
        assert!(preferred || insertion == self.case.insertion(), "{insertion:?}: {:?}", self.case);
        value
    }

    /// Everything one thread can do, each effect seen at once.
    fn alone(&self) {
        let stored = self.case.insertion() == Insertion::Stored;
        for key in 0..KEYS {
            let first = self.insert(key);
            self.check();
            assert_eq!(self.memory.get(&key), stored.then_some(first), "{:?}", self.case);
            let second = self.insert(key);
            self.check();
            assert_eq!(self.memory.get_with(&key, |value| *value), stored.then_some(second));
            let room =
                if stored { self.case.room().min(usize::try_from(key + 1).expect("small")) } else { 0 };
            let least = if self.case.has_both_bounds() { room.div_ceil(2) } else { room };
            assert!(
                (least..=room).contains(&self.memory.len()),
                "{} of {room}: {:?}",
                self.memory.len(),
                self.case
            );
        }
        assert_eq!(self.memory.remove(&(KEYS - 1)).is_some(), stored);
        assert_eq!(self.memory.peek(&(KEYS - 1)), None);
        self.check();
        self.memory.retain(|key, value| value >> 32 == *key && key % 2 == 0);
        self.check();
        self.memory.for_each(|key, _| assert_eq!(key % 2, 0));
        self.pass_time();
        self.insert(1);
        self.memory.clear();
        assert!(self.memory.is_empty());
        self.check();
        self.insert(2);
        self.check();
    }

    /// What lives a millisecond is gone after it, what lives for ever is not.
    fn pass_time(&self) {
        let held = self.memory.len();
        self.clock.advance(Duration::from_millis(100));
        if self.case.lifetime == Duration::MAX {
            assert_eq!((self.memory.expire(1_000).removed, self.memory.len()), (0, held));
        } else {
            assert!((0..KEYS).all(|key| self.memory.peek(&key).is_none()));
            assert_eq!((self.memory.expire(1_000).removed, self.memory.len()), (held, 0));
        }
        self.check();
    }

    /// The same by several threads: what is read belongs to its key, and was not removed before.
    fn together(&self) {
        let start = Barrier::new(usize::try_from(self.case.threads).expect("small"));
        thread::scope(|scope| {
            for thread in 0..self.case.threads {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    self.share(thread);
                });
            }
        });
        self.check();
        self.clock.advance(Duration::from_millis(100));
        let kept = if self.case.lifetime == Duration::MAX { self.memory.len() } else { 0 };
        self.memory.expire(1_000);
        assert_eq!(self.memory.len(), kept, "{:?}", self.case);
    }

    fn share(&self, thread: u64) {
        let threads = self.case.threads;
        for round in 0..KEYS {
            let own = round * threads + thread;
            let mine = self.insert(own);
            let found = self.memory.get(&own);
            assert!(found.is_none_or(|found| found == mine), "{found:?} for {mine}: {:?}", self.case);
            let shared = KEYS * threads + round % 3;
            self.insert(shared);
            assert!(self.memory.get(&shared).is_none_or(|value| value >> 32 == shared));
            if round % 4 == 0 {
                self.memory.remove(&own);
                assert_eq!(self.memory.get(&own), None, "{:?}", self.case);
            }
            match round % 50 {
                7 => drop(self.memory.retain(|key, value| value >> 32 == *key && value % 3 != 0)),
                17 => drop(self.memory.expire(10)),
                27 => self.memory.for_each(|key, value| assert_eq!(value >> 32, *key)),
                37 => drop(self.memory.clear()),
                _ => {}
            }
        }
    }

    /// Every stored value is held or was told of once.
    fn account(&self) {
        self.check();
        let stats = self.memory.stats();
        let told = self.told.lock().expect("no panic");
        let mut values: Vec<u64> = told.iter().map(|(value, _)| *value).collect();
        self.memory.for_each(|_, value| values.push(*value));
        values.sort_unstable();
        let count = values.len();
        values.dedup();
        assert_eq!(values.len(), count, "told twice, or told and held: {:?}", self.case);
        assert_eq!(stats.inserts, count as u64, "{:?}", self.case);
        let cause_count = |wanted| told.iter().filter(|(_, cause)| *cause == wanted).count() as u64;
        assert_eq!(stats.replacements, cause_count(RemovalCause::Replaced));
        assert_eq!(stats.evictions, cause_count(RemovalCause::Capacity));
        assert_eq!(stats.expirations, cause_count(RemovalCause::Expired));
        assert_eq!(stats.removals, cause_count(RemovalCause::Explicit));
        assert_eq!((stats.listener_panics, stats.listener_skips), (0, 0));
    }
}

#[test]
fn every_capacity_with_every_weight_and_lifetime() {
    let (mut run, mut refused) = (0, 0);
    for case in cases() {
        let Some(cache) = Run::new(case) else {
            refused += 1;
            continue;
        };
        if case.threads == 1 {
            cache.alone();
        } else {
            cache.together();
        }
        cache.account();
        run += 1;
    }
    assert_eq!((run, refused, run + refused), (CASES - CASES / 8, CASES / 8, CASES));
    let axes = [ENTRIES.len(), BYTES.len(), WEIGHTS.len(), LIFETIMES.len(), POLICIES.len(), THREADS.len()];
    assert_eq!(axes.iter().product::<usize>(), CASES);
}
