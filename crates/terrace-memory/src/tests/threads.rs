//! Many threads at once: bounded, seeded, without waiting.

use super::{GRANULE, POLICIES, Random, after, builder, numbers};
use crate::{Insertion, Memory, Policy};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use terrace_core::{Clock, Moment};

const THREADS: u64 = 4;
const STEPS: u64 = 15_000;

const fn assert_shareable<T: Send + Sync>() {}
const _: () = assert_shareable::<Memory<String, Arc<[u8]>>>();

/// A value that says whose it is and how new.
fn value(key: u64, step: u64) -> u64 {
    key << 32 | step
}

/// One thread's life with its own keys, which nobody else writes: it must never read an older value than it wrote.
fn live(memory: &Memory<u64, u64>, clock: &Clock, thread: u64) {
    let mut random = Random(thread);
    let mut newest: HashMap<u64, Option<u64>> = HashMap::new();
    for step in 1..=STEPS {
        if step % 50 == 0 {
            clock.advance(Duration::from_millis(5));
        }
        let key = random.below(200) * THREADS + thread;
        let mine = newest.entry(key).or_default();
        match random.below(10) {
            0..4 => {
                let found = memory.get(&key);
                assert!(found.is_none() || found == *mine, "key {key}: {found:?}, written {mine:?}");
            }
            4..7 => {
                let deadline = match random.below(3) {
                    0 => Moment::NEVER,
                    _ => after(clock, Duration::from_millis(1 + random.below(300))),
                };
                let insertion = memory.insert(key, value(key, step), random.below(20), deadline);
                *mine = (insertion == Insertion::Stored).then_some(value(key, step));
            }
            7 => {
                memory.remove(&key);
                *mine = None;
                assert_eq!(memory.get(&key), None, "read after remove");
            }
            8 => {
                memory.remove_if(&key, |value| value % 2 == 0);
            }
            _ => {
                let other = random.below(200 * THREADS);
                let found = memory.get_with(&other, |value| value >> 32);
                assert!(found.is_none_or(|found| found == other), "a value of key {other}");
            }
        }
    }
}

/// What background tasks and operators do meanwhile.
fn disturb(memory: &Memory<u64, u64>, done: &AtomicBool) {
    let mut random = Random(77);
    while !done.load(Ordering::Relaxed) {
        match random.below(12) {
            0..4 => {
                memory.expire(usize::try_from(random.below(200)).unwrap());
            }
            4 => {
                memory.retain(|key, value| value >> 32 == *key && value % 5 != 0);
            }
            5 => memory.for_each(|key, value| assert_eq!(value >> 32, *key)),
            6 => memory.resize(usize::try_from(50 + random.below(100)).unwrap(), 1_000).unwrap(),
            7 => memory.resize(100, 0).unwrap(),
            8 if random.below(10) == 0 => {
                memory.clear();
            }
            _ => memory.validate(),
        }
    }
}

fn stress(policy: Policy) {
    let clock = Clock::manual();
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    let memory: Memory<u64, u64> = builder(policy, &clock)
        .entries_max(100)
        .bytes_max(1_000)
        .on_removal(move |key: &u64, value: &u64, _| {
            assert_eq!(value >> 32, *key);
            count.fetch_add(1, Ordering::Relaxed);
        })
        .build()
        .unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| disturb(&memory, &done));
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (memory, clock) = (&memory, &clock);
                scope.spawn(move || live(memory, clock, thread))
            })
            .collect();
        let failed = threads.into_iter().filter_map(|thread| thread.join().err()).last();
        done.store(true, Ordering::Relaxed);
        if let Some(failure) = failed {
            std::panic::resume_unwind(failure);
        }
    });
    memory.validate();
    let stats = memory.stats();
    let left = stats.replacements + stats.evictions + stats.expirations + stats.removals;
    assert_eq!(stats.inserts - left, stats.entries, "{stats:?}");
    assert_eq!(left, told.load(Ordering::Relaxed), "each removal is told once");
    assert_eq!((stats.listener_panics, stats.listener_skips), (0, 0));
    assert!(stats.evictions > 0 && stats.expirations > 0 && stats.hits > 0, "{stats:?}");
}

#[test]
fn threads_see_their_own_writes_and_every_entry_leaves_once() {
    for policy in POLICIES {
        stress(policy);
    }
}

#[test]
fn clear_removes_whatever_was_inserted_before_it_began() {
    for policy in POLICIES {
        let memory = numbers(policy, 100_000, &Clock::manual());
        let inserted = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for key in 1..=20_000 {
                    memory.insert(key, key, 1, Moment::NEVER);
                    inserted.store(key, Ordering::Release);
                }
            });
            while inserted.load(Ordering::Acquire) < 20_000 {
                let before = inserted.load(Ordering::Acquire);
                memory.clear();
                for key in before.saturating_sub(50)..=before {
                    assert_eq!(memory.peek(&key), None, "key {key} of {before}");
                }
            }
        });
        memory.clear();
        memory.validate();
        assert_eq!(memory.len(), 0);
    }
}

#[test]
fn a_walk_meets_what_stays_exactly_once_while_others_come_and_go() {
    for policy in POLICIES {
        let clock = Clock::manual();
        let memory = numbers(policy, 100_000, &clock);
        (0..1_000).for_each(|key| {
            memory.insert(key, key, 1, Moment::NEVER);
        });
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = Random(5);
                while !done.load(Ordering::Relaxed) {
                    let key = 1_000 + random.below(500);
                    memory.insert(key, key, 1, after(&clock, GRANULE));
                    memory.remove(&(1_000 + random.below(500)));
                    let overwritten = 1_500 + random.below(500);
                    memory.insert(overwritten, overwritten, 1, Moment::NEVER);
                }
            });
            for _ in 0..50 {
                let mut met = vec![0_u32; 1_000];
                memory.for_each(|key, _| {
                    if let Some(met) = met.get_mut(usize::try_from(*key).unwrap()) {
                        *met += 1;
                    }
                });
                assert!(met.iter().all(|met| *met == 1), "each once");
                met.fill(0);
                memory.retain(|key, _| {
                    let met = met.get_mut(usize::try_from(*key).unwrap());
                    met.map(|met| *met += 1).is_some()
                });
                assert!(met.iter().all(|met| *met == 1), "each once");
            }
            done.store(true, Ordering::Relaxed);
        });
        memory.validate();
        assert!((0..1_000).all(|key| memory.peek(&key) == Some(key)));
    }
}
