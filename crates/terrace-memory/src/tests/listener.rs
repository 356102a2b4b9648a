//! The removal listener: causes, use of the cache from within, panics.

use super::{GRANULE, POLICIES, after, builder, numbers};
use crate::{Memory, Policy, RemovalCause};
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use terrace_core::{Clock, Moment};

type Numbers = Memory<u64, u64>;

/// A cache whose listener gets the cache itself.
fn reentrant(
    policy: Policy,
    clock: &Clock,
    listener: impl Fn(&Numbers, u64, u64, RemovalCause) + Send + Sync + 'static,
) -> Arc<Numbers> {
    let own: Arc<OnceLock<Weak<Numbers>>> = Arc::default();
    let inside = Arc::clone(&own);
    let memory = builder(policy, clock)
        .entries_max(10)
        .on_removal(move |key: &u64, value: &u64, cause| {
            if let Some(memory) = inside.get().and_then(Weak::upgrade) {
                listener(&memory, *key, *value, cause);
            }
        })
        .build()
        .unwrap();
    let memory = Arc::new(memory);
    own.set(Arc::downgrade(&memory)).expect("set once");
    memory
}

#[test]
fn every_cause_is_told_with_its_entry() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let told: Arc<Mutex<Vec<_>>> = Arc::default();
        let log = Arc::clone(&told);
        let memory: Memory<u64, &str> = builder(policy, &clock)
            .entries_max(2)
            .bytes_max(1_000)
            .on_removal(move |key: &u64, value: &&str, cause| log.lock().unwrap().push((*key, *value, cause)))
            .build()
            .unwrap();
        memory.insert(1, "old", 1, Moment::NEVER);
        memory.insert(1, "new", 1, Moment::NEVER);
        memory.insert(1, "too big", 2_000, Moment::NEVER);
        memory.insert(2, "short-lived", 1, after(&clock, GRANULE));
        clock.advance(GRANULE);
        memory.remove(&2);
        memory.insert(3, "removed", 1, Moment::NEVER);
        memory.remove(&3);
        memory.insert(4, "cleared", 1, Moment::NEVER);
        memory.clear();
        memory.insert(5, "judged", 1, Moment::NEVER);
        memory.retain(|_, _| false);
        memory.insert(6, "past", 1, Moment::NEVER);
        memory.insert(6, "never held", 1, Moment::from_nanos(0));
        (7..10).for_each(|key| {
            memory.insert(key, "evicted", 1, Moment::NEVER);
        });
        let told = told.lock().unwrap().clone();
        assert_eq!(
            told[..7],
            [
                (1, "old", RemovalCause::Replaced),
                (1, "new", RemovalCause::Replaced),
                (2, "short-lived", RemovalCause::Expired),
                (3, "removed", RemovalCause::Explicit),
                (4, "cleared", RemovalCause::Explicit),
                (5, "judged", RemovalCause::Explicit),
                (6, "past", RemovalCause::Explicit),
            ]
        );
        assert_eq!((told.len(), told[7].1, told[7].2), (8, "evicted", RemovalCause::Capacity));
    }
}

#[test]
fn the_listener_may_use_the_cache() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let memory = reentrant(policy, &clock, |memory, key, value, _| {
            memory.get(&key);
            memory.remove(&(key + 1));
            memory.insert(key + 1_000, value, 1, Moment::NEVER);
            memory.retain(|key, _| key % 7 != 0);
            memory.expire(10);
            memory.resize(10, 0).unwrap();
            memory.validate();
            if key % 50 == 0 {
                memory.clear();
            }
        });
        for key in 0..300 {
            memory.insert(key % 40, key, 1, Moment::NEVER);
            memory.validate();
        }
        assert!(memory.len() <= 10);
    }
}

#[test]
fn the_listener_may_resize_and_validate_while_a_resize_evicts() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let memory = reentrant(policy, &clock, |memory, key, _, cause| {
            assert_eq!(cause, RemovalCause::Capacity);
            memory.validate();
            memory.resize(if key % 2 == 0 { 5 } else { 4 }, 0).unwrap();
        });
        (0..10).for_each(|key| {
            memory.insert(key, key, 1, Moment::NEVER);
        });
        memory.resize(6, 0).unwrap();
        memory.validate();
        assert!(memory.len() <= 5);
        assert_eq!(memory.stats().listener_panics, 0);
    }
}

#[test]
fn a_listener_that_puts_back_whatever_is_evicted_comes_to_an_end() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let told = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&told);
        let memory = reentrant(policy, &clock, move |memory, key, value, cause| {
            count.fetch_add(1, Ordering::Relaxed);
            if cause == RemovalCause::Capacity {
                memory.insert(key, value, 1, Moment::NEVER);
            }
        });
        (0..11).for_each(|key| {
            memory.insert(key, key, 1, Moment::NEVER);
        });
        memory.validate();
        let stats = memory.stats();
        assert_eq!((stats.entries, told.load(Ordering::Relaxed), stats.listener_skips), (10, 8, 1));
        assert_eq!(stats.evictions, 9);
        memory.insert(99, 99, 1, Moment::NEVER);
        assert_eq!(memory.stats().listener_skips, 2, "the nesting was left again");
    }
}

#[test]
fn a_panicking_listener_is_counted_and_called_again() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let calls = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&calls);
        let memory: Memory<u64, u64> = builder(policy, &clock)
            .entries_max(10)
            .on_removal(move |_: &u64, _: &u64, _| {
                count.fetch_add(1, Ordering::Relaxed);
                panic::resume_unwind(Box::new("a listener's own trouble"));
            })
            .build()
            .unwrap();
        (0..100).for_each(|key| {
            memory.insert(key, key, 1, Moment::NEVER);
        });
        memory.validate();
        assert_eq!(memory.remove(&99).or_else(|| memory.remove(&98)).map(|value| value / 10), Some(9));
        assert_eq!(memory.clear(), 9);
        assert_eq!(calls.load(Ordering::Relaxed), 100);
        assert_eq!((memory.stats().listener_panics, memory.stats().listener_skips), (100, 0));
        assert_eq!((memory.stats().evictions, memory.stats().removals), (90, 10));
    }
}

#[test]
fn a_cache_without_a_listener_counts_the_same() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let memory = numbers(policy, 10, &clock);
        (0..100).for_each(|key| {
            memory.insert(key, key, 1, Moment::NEVER);
        });
        assert_eq!((memory.stats().evictions, memory.stats().listener_skips), (90, 0));
    }
}
