//! The cache against a plain map, over a sweep of configurations.
//!
//! The model knows what is held from what the listener says has left, so it is exact for small caches too: every value
//! is held until the listener has named it, once, with the right cause.

use super::{GRANULE, POLICIES, builder};
use crate::bounds::Bounds;
use crate::{Insertion, Memory, Policy, RemovalCause};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use terrace_core::{Clock, Moment};

#[derive(Clone, Debug)]
enum Step {
    Insert { key: u8, weight: u64, ttl: Option<Duration> },
    InsertIfAbsent { key: u8, weight: u64, ttl: Option<Duration> },
    Get(u8),
    Peek(u8),
    Remove(u8),
    RemoveIfEven(u8),
    RetainMultiples(u32),
    Show,
    Clear,
    Advance(Duration),
    Expire(usize),
    Resize(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..24_u8;
    let weight = || prop_oneof![8 => 0..12_u64, 1 => 30..200_u64, 1 => Just(u64::MAX)];
    let ttl = || {
        prop_oneof![
            3 => Just(None),
            1 => Just(Some(Duration::ZERO)),
            5 => (1..400_u64).prop_map(|ms| Some(Duration::from_millis(ms))),
            1 => Just(Some(Duration::from_millis(1 << 53))),
        ]
    };
    prop_oneof![
        12 => (key(), weight(), ttl()).prop_map(|(key, weight, ttl)| Step::Insert { key, weight, ttl }),
        2 => (key(), weight(), ttl()).prop_map(|(key, weight, ttl)| Step::InsertIfAbsent { key, weight, ttl }),
        8 => key().prop_map(Step::Get),
        2 => key().prop_map(Step::Peek),
        3 => key().prop_map(Step::Remove),
        2 => key().prop_map(Step::RemoveIfEven),
        1 => (1..4_u32).prop_map(Step::RetainMultiples),
        1 => Just(Step::Show),
        1 => Just(Step::Clear),
        4 => (0..150_u64).prop_map(|ms| Step::Advance(Duration::from_millis(ms))),
        2 => (0..6_usize).prop_map(Step::Expire),
        1 => any::<usize>().prop_map(Step::Resize),
    ]
}

const fn bounds(entries: usize, bytes: u64) -> Bounds {
    Bounds { entries, bytes }
}

/// Groups of bounds; a resize goes to another of the same group. The first group holds everything.
const SWEEP: [&[Bounds]; 7] = [
    &[bounds(100_000, 0), bounds(0, 1 << 62), bounds(1_000, 1 << 62)],
    &[bounds(1, 0), bounds(2, 0), bounds(5, 0)],
    &[bounds(0, 1), bounds(0, 10), bounds(0, 60)],
    &[bounds(3, 20), bounds(10, 40), bounds(1, 1)],
    &[bounds(10, 0), bounds(0, 40), bounds(8, 50)],
    &[bounds(5, 0)],
    &[bounds(6, 30)],
];

#[derive(Clone, Copy, Debug)]
struct Held {
    value: u32,
    weight: u64,
    deadline: Moment,
}

type Events = Arc<Mutex<Vec<(String, u32, RemovalCause)>>>;

struct Run {
    memory: Memory<String, u32>,
    clock: Clock,
    events: Events,
    held: BTreeMap<String, Held>,
    choices: &'static [Bounds],
    bounds: Bounds,
    next_value: u32,
    hits: u64,
    lookups: u64,
}

fn name(key: u8) -> String {
    format!("key {key}")
}

impl Run {
    fn new(policy: Policy, choices: &'static [Bounds]) -> Self {
        let clock = Clock::manual();
        let events = Events::default();
        let log = Arc::clone(&events);
        let memory = builder(policy, &clock)
            .entries_max(choices[0].entries)
            .bytes_max(choices[0].bytes)
            .on_removal(move |key: &String, value: &u32, cause| {
                log.lock().unwrap().push((key.clone(), *value, cause));
            })
            .build()
            .unwrap();
        let (held, bounds) = (BTreeMap::new(), choices[0]);
        Self { memory, clock, events, held, choices, bounds, next_value: 0, hits: 0, lookups: 0 }
    }

    fn holds_everything(&self) -> bool {
        self.choices == SWEEP[0]
    }

    fn is_live(&self, held: &Held) -> bool {
        held.deadline > self.clock.now()
    }

    fn live(&self, key: &str) -> Option<u32> {
        self.held.get(key).filter(|held| self.is_live(held)).map(|held| held.value)
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Insert { key, weight, ttl } => self.insert(key, weight, ttl, false),
            Step::InsertIfAbsent { key, weight, ttl } => self.insert(key, weight, ttl, true),
            Step::Get(key) => {
                let expected = self.live(&name(key));
                assert_eq!(self.memory.get(name(key).as_str()), expected);
                self.lookups += 1;
                self.hits += u64::from(expected.is_some());
                self.note(&[RemovalCause::Expired]);
            }
            Step::Peek(key) => assert_eq!(self.memory.peek(name(key).as_str()), self.live(&name(key))),
            Step::Remove(key) => {
                let expected = self.live(&name(key));
                assert_eq!(self.memory.remove(name(key).as_str()), expected);
                self.note(&[RemovalCause::Expired, RemovalCause::Explicit]);
                assert!(!self.held.contains_key(&name(key)));
            }
            Step::RemoveIfEven(key) => {
                let expected = self.live(&name(key)).filter(|value| value % 2 == 0);
                assert_eq!(self.memory.remove_if(name(key).as_str(), |value| value % 2 == 0), expected);
                self.note(&[RemovalCause::Expired, RemovalCause::Explicit]);
            }
            Step::RetainMultiples(of) => self.retain(of),
            Step::Show => self.show(),
            Step::Clear => {
                let live = self.held.values().filter(|held| self.is_live(held)).count();
                assert_eq!(self.memory.clear(), live);
                self.note(&[RemovalCause::Expired, RemovalCause::Explicit]);
                assert!(self.held.is_empty());
            }
            Step::Advance(by) => self.clock.advance(by),
            Step::Expire(budget) => {
                let expired = self.memory.expire(budget);
                assert_eq!(self.note(&[RemovalCause::Expired]), expired.removed);
                assert!(expired.removed <= budget && (!expired.more || expired.removed == budget));
                let left = self.held.values().any(|held| !self.is_live(held));
                assert_eq!(left, expired.more, "few entries hide nothing");
            }
            Step::Resize(choice) => {
                self.bounds = self.choices[choice % self.choices.len()];
                self.memory.resize(self.bounds.entries, self.bounds.bytes).unwrap();
                self.note(&[RemovalCause::Expired, RemovalCause::Capacity]);
            }
        }
    }

    fn insert(&mut self, key: u8, weight: u64, ttl: Option<Duration>, only_if_absent: bool) {
        let (key, value) = (name(key), self.next_value);
        self.next_value += 1;
        let deadline = ttl.map_or(Moment::NEVER, |ttl| self.clock.now().plus(ttl));
        let old = self.live(&key);
        let insertion = if only_if_absent {
            self.memory.insert_if(key.clone(), value, weight, deadline, |seen| {
                assert_eq!(seen.copied(), old);
                seen.is_none()
            })
        } else {
            self.memory.insert(key.clone(), value, weight, deadline)
        };
        if only_if_absent && old.is_some() {
            assert_eq!(insertion, Insertion::Declined);
            return;
        }
        let before = self.held.clone();
        match insertion {
            Insertion::Expired => {
                assert_eq!(ttl, Some(Duration::ZERO));
                self.note(&[RemovalCause::Expired, RemovalCause::Explicit]);
            }
            Insertion::Rejected => {
                assert!(self.bounds.bytes != 0 && weight > self.bounds.bytes, "{weight} fits");
                self.note(&[RemovalCause::Expired, RemovalCause::Replaced]);
            }
            Insertion::Stored => {
                self.note(&[RemovalCause::Expired, RemovalCause::Replaced, RemovalCause::Capacity]);
                self.check_evictions(&before, &key, weight);
            }
            Insertion::Declined => panic!("nothing was there to decline for"),
        }
        assert!(!self.held.contains_key(&key), "the old value is gone");
        if insertion == Insertion::Stored {
            self.held.insert(key, Held { value, weight, deadline });
        }
    }

    /// Live entries leave only if they must, and none while an entry is held that expired a granule ago.
    fn check_evictions(&self, before: &BTreeMap<String, Held>, key: &str, weight: u64) {
        let left = before.iter().filter(|(name, _)| *name != key && !self.held.contains_key(*name));
        if !left.clone().any(|(_, held)| self.is_live(held)) {
            return;
        }
        assert!(!self.holds_everything(), "there was room");
        let others = before.iter().filter(|(name, _)| *name != key);
        let entries = others.clone().count() + 1;
        let bytes = others.fold(u128::from(weight), |sum, (_, held)| sum + u128::from(held.weight));
        let full = self.bounds.pressed(entries, bytes).is_some();
        assert!(full, "{entries} entries, {bytes} bytes fit {:?}", self.bounds);
        let long_expired = |held: &Held| held.deadline.plus(GRANULE) <= self.clock.now();
        assert!(!self.held.values().any(long_expired), "an expired entry outlives a live one");
    }

    fn retain(&mut self, of: u32) {
        let mut judged = BTreeMap::new();
        let live = |run: &Self| {
            let live = run.held.iter().filter(|(_, held)| run.is_live(held));
            live.map(|(key, held)| (key.clone(), held.value)).collect::<BTreeMap<_, _>>()
        };
        let expected = live(self);
        let removed = self.memory.retain(|key, value| {
            assert_eq!(judged.insert(key.clone(), *value), None, "judged once");
            value % of == 0
        });
        assert_eq!(judged, expected);
        self.note(&[RemovalCause::Expired, RemovalCause::Explicit]);
        assert_eq!(removed, expected.values().filter(|value| *value % of != 0).count());
        assert_eq!(self.held.len(), expected.len() - removed);
    }

    fn show(&self) {
        let mut shown = BTreeMap::new();
        self.memory.for_each(|key, value| assert_eq!(shown.insert(key.clone(), *value), None, "shown once"));
        let live = self.held.iter().filter(|(_, held)| self.is_live(held));
        assert!(live.map(|(key, held)| (key, &held.value)).eq(shown.iter()));
    }

    /// Strikes out what the listener says has left, and checks the causes. Returns how many.
    fn note(&mut self, allowed: &[RemovalCause]) -> usize {
        let events = std::mem::take(&mut *self.events.lock().unwrap());
        for (key, value, cause) in &events {
            let held = self.held.remove(key).expect("only what is held can leave");
            assert_eq!(held.value, *value);
            assert_eq!(!self.is_live(&held), *cause == RemovalCause::Expired);
            assert!(allowed.contains(cause), "{cause:?} is none of {allowed:?}");
        }
        events.len()
    }

    fn check(&self) {
        self.memory.validate();
        assert!(self.events.lock().unwrap().is_empty(), "every removal has its reason");
        assert_eq!(self.memory.len(), self.held.len());
        let bytes: u128 = self.held.values().map(|held| u128::from(held.weight)).sum();
        assert_eq!(self.memory.weight_bytes(), u64::try_from(bytes).unwrap_or(u64::MAX));
        for key in 0..24 {
            assert_eq!(self.memory.peek(name(key).as_str()), self.live(&name(key)));
        }
        let stats = self.memory.stats();
        let left = stats.replacements + stats.evictions + stats.expirations + stats.removals;
        assert_eq!(stats.inserts - left, stats.entries);
        assert_eq!((stats.hits, stats.hits + stats.misses), (self.hits, self.lookups));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases * 3 / 8))]

    #[test]
    fn the_cache_is_a_map_that_forgets_with_a_reason(steps in prop::collection::vec(step(), 1..80)) {
        for policy in POLICIES {
            for choices in SWEEP {
                let mut run = Run::new(policy, choices);
                for step in &steps {
                    run.step(step);
                    run.check();
                }
            }
        }
    }
}
