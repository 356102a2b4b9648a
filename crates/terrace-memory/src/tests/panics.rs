//! A panic of the caller's code, wherever it runs, leaves the cache whole and unlocked.

use super::{GRANULE, POLICIES, after, builder};
use crate::{Memory, Policy};
use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;
use terrace_core::{Clock, Moment};

/// Where the caller's code panics next, and at which call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Hash,
    Eq,
    Clone,
    DropKey,
    DropValue,
}

thread_local! {
    static TRAP: Cell<Option<(Place, u32)>> = const { Cell::new(None) };
}

/// Panics, once, if the trap is set for this place and this call. Quietly: the panic hook is not called.
fn pass(place: Place) {
    let Some((trapped, calls_left)) = TRAP.get() else { return };
    if trapped != place || std::thread::panicking() {
        return;
    }
    if calls_left == 0 {
        TRAP.set(None);
        resume_unwind(Box::new(place));
    }
    TRAP.set(Some((trapped, calls_left - 1)));
}

/// A key with few hashes, so that there is much to compare.
#[derive(Clone, Debug)]
struct Key(u64);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        pass(Place::Hash);
        (self.0 % 3).hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        pass(Place::Eq);
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Drop for Key {
    fn drop(&mut self) {
        pass(Place::DropKey);
    }
}

#[derive(Debug)]
struct Value(u64);

impl Clone for Value {
    fn clone(&self) -> Self {
        pass(Place::Clone);
        Self(self.0)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        pass(Place::DropValue);
    }
}

type Trapped = Memory<Key, Value>;

fn filled(policy: Policy, clock: &Clock) -> Trapped {
    let memory =
        builder(policy, clock).entries_max(8).bytes_max(800).on_removal(|_, _, _| {}).build().unwrap();
    for key in 0..4 {
        memory.insert(Key(key), Value(key), 10, Moment::NEVER);
    }
    for key in 4..8 {
        memory.insert(Key(key), Value(key), 10, after(clock, GRANULE));
    }
    memory
}

type Operation = fn(&Trapped);

fn operations() -> Vec<(&'static str, Operation)> {
    vec![
        ("get", |memory| {
            memory.get(&Key(1));
        }),
        ("get an expired entry", |memory| {
            memory.get(&Key(5));
        }),
        ("peek", |memory| {
            memory.peek(&Key(1));
        }),
        ("insert", |memory| {
            memory.insert(Key(100), Value(1), 10, Moment::NEVER);
        }),
        ("insert many", |memory| {
            (100..110).for_each(|key| {
                memory.insert(Key(key), Value(1), 10, Moment::NEVER);
            });
        }),
        ("overwrite", |memory| {
            memory.insert(Key(1), Value(1), 20, Moment::NEVER);
        }),
        ("overwrite an expired entry", |memory| {
            memory.insert(Key(5), Value(1), 20, Moment::NEVER);
        }),
        ("insert a heavy value", |memory| {
            memory.insert(Key(100), Value(1), 700, Moment::NEVER);
        }),
        ("insert an oversized value", |memory| {
            memory.insert(Key(1), Value(1), 900, Moment::NEVER);
        }),
        ("insert a past deadline", |memory| {
            memory.insert(Key(1), Value(1), 1, Moment::from_nanos(0));
        }),
        ("insert if", |memory| {
            memory.insert_if(Key(1), Value(1), 1, Moment::NEVER, |old| old.is_some());
        }),
        ("decline", |memory| {
            memory.insert_if(Key(1), Value(1), 1, Moment::NEVER, |old| old.is_none());
        }),
        ("remove", |memory| {
            memory.remove(&Key(1));
        }),
        ("remove an expired entry", |memory| {
            memory.remove(&Key(5));
        }),
        ("remove if", |memory| {
            memory.remove_if(&Key(1), |value| value.0 == 1);
        }),
        ("retain", |memory| {
            memory.retain(|key, _| key.0 % 2 == 0);
        }),
        ("expire", |memory| {
            memory.expire(10);
        }),
        ("shrink", |memory| memory.resize(2, 800).unwrap()),
        ("drop the bytes bound", |memory| memory.resize(3, 0).unwrap()),
        ("clear", |memory| {
            memory.clear();
        }),
    ]
}

/// Uses the cache as if nothing had happened.
fn use_on(memory: &Trapped, clock: &Clock, after_what: &str) {
    memory.validate();
    memory.resize(100, 0).unwrap();
    for key in 0..20 {
        memory.insert(Key(key), Value(key), 10, after(clock, Duration::from_secs(1)));
        assert_eq!(memory.get_with(&Key(key), |value| value.0), Some(key), "after {after_what}");
        memory.validate();
    }
    assert!(memory.remove(&Key(19)).is_some());
    memory.validate();
}

#[test]
fn a_panic_in_hash_eq_clone_or_drop_harms_nothing() {
    let mut sprung = 0;
    for policy in POLICIES {
        for (name, operation) in operations() {
            for place in [Place::Hash, Place::Eq, Place::Clone, Place::DropKey, Place::DropValue] {
                for calls_before in 0..6 {
                    let clock = Clock::manual();
                    let memory = filled(policy, &clock);
                    clock.advance(GRANULE);
                    TRAP.set(Some((place, calls_before)));
                    let result = catch_unwind(AssertUnwindSafe(|| operation(&memory)));
                    TRAP.set(None);
                    memory.validate();
                    let stats = memory.stats();
                    let left = stats.replacements + stats.evictions + stats.expirations + stats.removals;
                    assert_eq!(
                        stats.inserts - left,
                        stats.entries,
                        "{policy:?}, {name}, {place:?} {calls_before}"
                    );
                    use_on(&memory, &clock, &format!("{name}, {place:?} {calls_before}"));
                    sprung += u32::from(result.is_err());
                }
            }
        }
    }
    assert!(sprung > 100, "{sprung} panics are a test");
}

#[test]
fn a_panic_in_a_closure_changes_nothing() {
    let operations: [(&str, Operation); 6] = [
        ("get_with", |memory| {
            memory.get_with(&Key(1), |_| resume_unwind(Box::new(())) as u32);
        }),
        ("peek_with", |memory| {
            memory.peek_with(&Key(1), |_| resume_unwind(Box::new(())) as u32);
        }),
        ("remove_if", |memory| {
            memory.remove_if(&Key(1), |_| resume_unwind(Box::new(())));
        }),
        ("insert_if", |memory| {
            memory.insert_if(Key(1), Value(9), 1, Moment::NEVER, |_| resume_unwind(Box::new(())));
        }),
        ("for_each", |memory| memory.for_each(|_, _| resume_unwind(Box::new(())))),
        ("retain", |memory| {
            memory.retain(|key, _| key.0 != 2 && resume_unwind(Box::new(())));
        }),
    ];
    for policy in POLICIES {
        for (name, operation) in operations {
            let clock = Clock::manual();
            let memory = filled(policy, &clock);
            assert!(catch_unwind(AssertUnwindSafe(|| operation(&memory))).is_err(), "{name}");
            assert_eq!(memory.len(), 8, "{name}");
            assert_eq!(memory.peek_with(&Key(1), |value| value.0), Some(1), "{name}");
            use_on(&memory, &clock, name);
        }
    }
}
