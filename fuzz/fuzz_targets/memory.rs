//! A cache is a map that forgets only with a reason, which it tells once, and keeps its bounds.
//!
//! The first two bytes of the input choose bounds and policy, then four bytes at a time are an operation. The map beside
//! the cache strikes out what the listener names, so at every step it is exactly what must be held: a value that left
//! untold, was told of twice, lives under another key or past its end, or drifted in weight, is a difference.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use terrace_core::{Clock, Moment};
use terrace_memory::RemovalCause::{self, Capacity, Expired, Explicit, Replaced};
use terrace_memory::{Insertion, Memory, Policy};

/// Entries and bytes; 0 is "not bounded".
const BOUNDS: [(usize, u64); 10] =
    [(1, 0), (2, 0), (3, 0), (20, 0), (0, 1), (0, 12), (0, 100), (1, 4), (4, 16), (20, 60)];
const KEYS: u8 = 24;
const OPERATIONS_MAX: usize = 300;
/// Deadlines are kept in steps of so many nanoseconds, rounded down. All times here are whole steps, so that the map
/// knows who is alive.
const STEP_NANOS: u64 = 4_096;
/// What expired this long ago is found by background expiry, whatever else has nearly the same deadline.
const GRANULE: Duration = Duration::from_millis(68);

#[derive(Clone, Copy, Debug)]
struct Held {
    value: u32,
    weight: u64,
    deadline: Moment,
}

type Told = Arc<Mutex<Vec<(String, u32, RemovalCause)>>>;

struct Run {
    memory: Memory<String, u32>,
    policy: Policy,
    bounds: (usize, u64),
    clock: Clock,
    told: Told,
    held: BTreeMap<String, Held>,
    stored: u32,
}

fuzz_target!(|input: &[u8]| {
    let Some((&[bounds, policy], operations)) = input.split_first_chunk() else { return };
    let policy = if policy % 2 == 0 { Policy::Default } else { Policy::Lru };
    let mut run = Run::new(BOUNDS[usize::from(bounds) % BOUNDS.len()], policy);
    for &operation in operations.as_chunks().0.iter().take(OPERATIONS_MAX) {
        run.operate(operation);
        run.check();
    }
    run.end();
});

/// Some are too long to be kept in place of a pointer.
fn name(key: u8) -> String {
    let key = key % KEYS;
    format!("{key:0width$}", width = if key % 3 == 0 { 40 } else { 1 })
}

fn weight(choice: u8) -> u64 {
    match choice {
        0..200 => u64::from(choice % 8),
        200..240 => u64::from(choice),
        240..250 => 1 << (choice - 200),
        _ => u64::MAX,
    }
}

fn lifetime(choice: u8) -> Option<Duration> {
    match choice {
        0..80 => None,
        80..90 => Some(Duration::ZERO),
        90..110 => Some(Duration::from_nanos((u64::from(choice) - 89) * STEP_NANOS)),
        110..240 => Some(whole_steps(Duration::from_millis((u64::from(choice) - 109) * 3))),
        240..248 => Some(whole_steps(Duration::from_millis(1 << (31 + 3 * (choice - 240))))),
        _ => Some(Duration::MAX),
    }
}

fn whole_steps(while_: Duration) -> Duration {
    let nanos = u64::try_from(while_.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(nanos / STEP_NANOS * STEP_NANOS)
}

impl Run {
    fn new(bounds: (usize, u64), policy: Policy) -> Self {
        let (clock, told) = (Clock::manual(), Told::default());
        let log = Arc::clone(&told);
        clock.advance(Duration::from_nanos(clock.now().as_nanos().wrapping_neg() % STEP_NANOS));
        let listener = move |key: &String, value: &u32, cause| {
            log.lock().expect("no panic").push((key.clone(), *value, cause));
        };
        let builder = Memory::builder().entries_max(bounds.0).bytes_max(bounds.1).policy(policy);
        let memory = builder.clock(clock.clone()).on_removal(listener).build().expect("allowed bounds");
        Self { memory, policy, bounds, clock, told, held: BTreeMap::new(), stored: 0 }
    }

    fn operate(&mut self, [operation, key, a, b]: [u8; 4]) {
        let key = name(key);
        match operation % 32 {
            0..10 => self.insert(key, weight(a), lifetime(b), false),
            10..12 => self.insert(key, weight(a), lifetime(b), true),
            12..19 => {
                assert_eq!(self.memory.get(key.as_str()), self.live(&key));
                self.strike(&[Expired]);
            }
            19..22 => {
                assert_eq!(self.memory.remove(key.as_str()), self.live(&key));
                self.strike(&[Expired, Explicit]);
                assert!(!self.held.contains_key(&key));
            }
            22 => {
                let expected = self.live(&key).filter(|value| value % 2 == 0);
                assert_eq!(self.memory.remove_if(key.as_str(), |value| value % 2 == 0), expected);
                self.strike(&[Expired, Explicit]);
            }
            23 => self.retain(u32::from(a % 4) + 1),
            24 if a % 4 == 0 => {
                let live = self.all_live().len();
                assert_eq!(self.memory.clear(), live);
                self.strike(&[Expired, Explicit]);
                assert!(self.held.is_empty());
            }
            25 => {
                self.bounds = BOUNDS[usize::from(a) % BOUNDS.len()];
                self.memory.resize(self.bounds.0, self.bounds.1).expect("allowed bounds");
                self.strike(&[Expired, Capacity]);
            }
            26..28 => self.expire(usize::from(a % 8)),
            28 => {
                // To the step at which somebody's life ends, or just before it.
                let next = self.held.values().map(|held| held.deadline).filter(|end| *end > self.clock.now());
                let wait = next.min().map_or(Duration::ZERO, |end| end.since(self.clock.now()));
                let short = whole_steps(wait.min(Duration::from_hours(24)));
                self.clock.advance(short.saturating_sub(Duration::from_nanos(u64::from(a % 2) * STEP_NANOS)));
            }
            _ => self.clock.advance(whole_steps(Duration::from_millis(u64::from(a) * u64::from(b % 4)))),
        }
    }

    fn holds_long_expired(&self) -> bool {
        self.held.values().any(|held| held.deadline.plus(GRANULE) <= self.clock.now())
    }

    fn live(&self, key: &str) -> Option<u32> {
        self.held.get(key).filter(|held| held.deadline > self.clock.now()).map(|held| held.value)
    }

    fn all_live(&self) -> BTreeMap<String, u32> {
        let live = self.held.iter().filter(|(_, held)| held.deadline > self.clock.now());
        live.map(|(key, held)| (key.clone(), held.value)).collect()
    }

    fn insert(&mut self, key: String, weight: u64, lifetime: Option<Duration>, only_if_absent: bool) {
        let value = self.stored;
        let deadline = lifetime.map_or(Moment::NEVER, |lifetime| self.clock.now().plus(lifetime));
        let (old, live_before) = (self.live(&key), self.all_live());
        let insertion = self.memory.insert_if(key.clone(), value, weight, deadline, |seen| {
            assert_eq!(seen.copied(), old);
            !only_if_absent || seen.is_none()
        });
        if only_if_absent && old.is_some() {
            assert_eq!(insertion, Insertion::Declined);
            return;
        }
        let fits = self.bounds.1 == 0 || weight <= self.bounds.1;
        match insertion {
            Insertion::Stored => {
                assert!(fits && deadline > self.clock.now());
                self.strike(&[Expired, Replaced, Capacity]);
                let evicted = live_before.keys().any(|name| *name != key && !self.held.contains_key(name));
                assert!(!evicted || !self.holds_long_expired(), "an expired entry outlives a live one");
            }
            Insertion::Rejected => {
                assert!(
                    !fits || self.policy == Policy::Default,
                    "it fits, and least recently used is another"
                );
                self.strike(if fits { &[Expired, Replaced, Capacity] } else { &[Expired, Replaced] });
            }
            Insertion::Expired => {
                assert!(deadline <= self.clock.now());
                self.strike(&[Expired, Explicit]);
            }
            other => panic!("{other:?} was not asked for"),
        }
        assert!(!self.held.contains_key(&key), "the old value left");
        if insertion == Insertion::Stored {
            self.held.insert(key, Held { value, weight, deadline });
            self.stored += 1;
        }
    }

    fn retain(&mut self, of: u32) {
        let (expected, mut judged) = (self.all_live(), BTreeMap::new());
        let removed = self.memory.retain(|key, value| {
            assert_eq!(judged.insert(key.clone(), *value), None, "judged once");
            value % of == 0
        });
        assert_eq!(judged, expected);
        assert_eq!(removed, expected.values().filter(|value| *value % of != 0).count());
        self.strike(&[Expired, Explicit]);
    }

    fn expire(&mut self, budget: usize) {
        let (before, expired) = (self.held.len(), self.memory.expire(budget));
        self.strike(&[Expired]);
        assert_eq!(before - self.held.len(), expired.removed);
        assert!(expired.removed <= budget && (!expired.more || expired.removed == budget));
        assert!(expired.more || !self.holds_long_expired(), "something is left to expire");
    }

    /// Takes out of the map what has left the cache, each with a cause that makes sense.
    fn strike(&mut self, allowed: &[RemovalCause]) {
        for (key, value, cause) in std::mem::take(&mut *self.told.lock().expect("no panic")) {
            let held = self.held.remove(&key).expect("only what is held leaves, once");
            assert_eq!(held.value, value);
            assert_eq!(cause == Expired, held.deadline <= self.clock.now(), "{cause:?}: {held:?}");
            assert!(allowed.contains(&cause), "{cause:?} is none of {allowed:?}");
        }
    }

    fn check(&self) {
        self.memory.validate();
        assert!(self.told.lock().expect("no panic").is_empty(), "nothing leaves on its own");
        let bytes = self.held.values().fold(0, |sum: u64, held| sum.saturating_add(held.weight));
        assert_eq!((self.memory.len(), self.memory.weight_bytes()), (self.held.len(), bytes));
        assert!(self.bounds.0 == 0 || self.held.len() <= self.bounds.0, "{:?}", self.bounds);
        assert!(self.bounds.1 == 0 || bytes <= self.bounds.1, "{:?}", self.bounds);
        for key in 0..KEYS {
            assert_eq!(self.memory.peek(name(key).as_str()), self.live(&name(key)));
        }
    }

    fn end(&self) {
        let mut shown = BTreeMap::new();
        self.memory.for_each(|key, value| assert_eq!(shown.insert(key.clone(), *value), None, "shown once"));
        assert_eq!(shown, self.all_live());
        let stats = self.memory.stats();
        assert_eq!(
            (stats.inserts, stats.listener_panics, stats.listener_skips),
            (u64::from(self.stored), 0, 0)
        );
    }
}
