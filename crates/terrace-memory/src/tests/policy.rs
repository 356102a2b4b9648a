//! Who leaves, and who must not.

use super::{GRANULE, POLICIES, Random, after, builder, numbers};
use crate::{Insertion, Memory, Policy};
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;
use terrace_core::{Clock, Moment};

#[test]
fn expired_entries_leave_before_live_ones() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let memory = numbers(policy, 100, &clock);
        (0..50).for_each(|key| {
            memory.insert(key, key, 1, Moment::NEVER);
        });
        (50..100).for_each(|key| {
            memory.insert(key, key, 1, after(&clock, GRANULE));
        });
        clock.advance(2 * GRANULE);
        for key in 100..150 {
            memory.insert(key, key, 1, Moment::NEVER);
            memory.validate();
        }
        let stats = memory.stats();
        assert_eq!((stats.expirations, stats.evictions), (50, 0), "{policy:?}");
        memory.insert(150, 0, 1, Moment::NEVER);
        assert_eq!(memory.stats().evictions, 1);
    }
}

#[test]
fn one_expired_entry_leaves_even_in_its_last_moments_of_a_granule() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let memory = numbers(policy, 3, &clock);
        memory.insert(1, 1, 1, after(&clock, Duration::from_millis(2)));
        memory.insert(2, 2, 1, after(&clock, Duration::from_millis(1)));
        memory.insert(3, 3, 1, Moment::NEVER);
        clock.advance(Duration::from_millis(1));
        memory.insert(4, 4, 1, Moment::NEVER);
        assert_eq!([1, 2, 3, 4].map(|key| memory.get(&key)), [Some(1), None, Some(3), Some(4)], "{policy:?}");
    }
}

#[test]
fn an_oversized_value_takes_nothing_with_it_but_its_keys_old_value() {
    let clock = Clock::manual();
    for policy in POLICIES {
        for entries in [0, 50] {
            let memory: Memory<u64, u64> =
                builder(policy, &clock).entries_max(entries).bytes_max(1_000).build().unwrap();
            (0..50).for_each(|key| {
                memory.insert(key, key, 10, Moment::NEVER);
            });
            let held = memory.len();
            for weight in [1_001, 5_000, u64::MAX] {
                memory.insert(7, 7, 10, Moment::NEVER);
                assert_eq!(memory.insert(7, 8, weight, Moment::NEVER), Insertion::Rejected, "{policy:?}");
                assert_eq!((memory.get(&7), memory.len()), (None, held - 1));
                assert_eq!(memory.insert(999, 8, weight, Moment::NEVER), Insertion::Rejected);
                memory.validate();
            }
            let stats = memory.stats();
            assert_eq!((stats.rejections, stats.replacements, stats.evictions), (6, 4, 0));
        }
    }
}

#[test]
fn one_pass_over_many_keys_does_not_flush_the_default_policy() {
    let clock = Clock::manual();
    let mut survivors = [0; 2];
    for (policy, survived) in POLICIES.into_iter().zip(&mut survivors) {
        let memory = numbers(policy, 1_000, &clock);
        for _ in 0..3 {
            for key in 0..500 {
                if memory.get(&key).is_none() {
                    memory.insert(key, key, 1, Moment::NEVER);
                }
            }
        }
        (10_000..15_000).for_each(|key| {
            memory.insert(key, key, 1, Moment::NEVER);
        });
        *survived = (0..500).filter(|key| memory.peek(key).is_some()).count();
        memory.validate();
    }
    assert_eq!(survivors[1], 0, "LRU is flushed");
    assert!(survivors[0] > 450, "{} of 500 survive", survivors[0]);
}

#[test]
fn a_skewed_load_hits_mostly() {
    for policy in POLICIES {
        let memory = numbers(policy, 1_000, &Clock::manual());
        let mut random = Random(11);
        for _ in 0..50_000 {
            let range = 1 << random.below(15);
            let key = random.below(range);
            if memory.get(&key).is_none() {
                memory.insert(key, key, 1, Moment::NEVER);
            }
        }
        memory.validate();
        let ratio = memory.stats().hit_ratio().unwrap();
        assert!(ratio > 0.65, "{policy:?}: {ratio}");
    }
}

#[test]
fn the_default_policy_fills_both_bounds_with_even_entries() {
    let filled_with = |weight| {
        let bounded = builder(Policy::Default, &Clock::manual()).entries_max(1_000).bytes_max(100_000);
        let memory: Memory<u64, u64> = bounded.build().unwrap();
        (0..3_000).for_each(|key| {
            memory.insert(key, key, weight, Moment::NEVER);
        });
        memory.validate();
        (memory.len(), memory.weight_bytes())
    };
    assert_eq!(filled_with(50), (1_000, 50_000), "light entries fill the entries");
    assert_eq!(filled_with(200), (500, 100_000), "heavy entries fill the bytes");
}

/// LRU as one would write it on paper: keys and weights, newest last.
struct Paper {
    entries: Vec<(u64, u64)>,
    entries_max: usize,
    bytes_max: u64,
}

impl Paper {
    fn touch(&mut self, key: u64) -> bool {
        let Some(index) = self.entries.iter().position(|entry| entry.0 == key) else { return false };
        let entry = self.entries.remove(index);
        self.entries.push(entry);
        true
    }

    fn insert(&mut self, key: u64, weight: u64) {
        self.entries.retain(|entry| entry.0 != key);
        if weight > self.bytes_max {
            return;
        }
        self.entries.push((key, weight));
        let bytes = |paper: &Self| paper.entries.iter().map(|entry| entry.1).sum::<u64>();
        while self.entries.len() > self.entries_max || bytes(self) > self.bytes_max {
            self.entries.remove(0);
        }
    }
}

proptest! {
    #[test]
    fn lru_is_lru(
        entries_max in 1..12_usize,
        bytes_max in 1..120_u64,
        steps in prop::collection::vec((any::<bool>(), 0..20_u64, 0..40_u64), 1..200),
    ) {
        let memory: Memory<u64, u64> = builder(Policy::Lru, &Clock::manual())
            .entries_max(entries_max)
            .bytes_max(bytes_max)
            .build()
            .unwrap();
        let mut paper = Paper { entries: Vec::new(), entries_max, bytes_max };
        for (is_read, key, weight) in steps {
            if is_read {
                prop_assert_eq!(memory.get(&key).is_some(), paper.touch(key));
            } else {
                memory.insert(key, key, weight, Moment::NEVER);
                paper.insert(key, weight);
            }
            memory.validate();
            let mut held: Vec<u64> = paper.entries.iter().map(|entry| entry.0).collect();
            held.sort_unstable();
            let found: Vec<u64> = (0..20).filter(|key| memory.peek(key).is_some()).collect();
            prop_assert_eq!(found, held);
        }
    }
}

#[test]
fn a_value_that_grows_is_replaced_and_never_gone_in_between() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let memory: Memory<u64, u64> = builder(policy, &clock).entries_max(0).bytes_max(100).build().unwrap();
        (0..10).for_each(|key| {
            memory.insert(key, key, 10, Moment::NEVER);
        });
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert!(memory.get(&9).is_some(), "it is always there: the others leave for it");
                }
            });
            for round in 0..2_000 {
                memory.insert(9, round, 10 + round % 2 * 30, Moment::NEVER);
                (0..9).for_each(|key| {
                    memory.peek(&key).is_none().then(|| memory.insert(key, key, 1, Moment::NEVER));
                });
                memory.validate();
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn a_resize_to_far_less_evicts_in_steps_and_inserts_meanwhile_do_not_pay_for_it() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let own: Arc<OnceLock<Weak<Memory<u64, u64>>>> = Arc::default();
        let (inside, most) = (Arc::clone(&own), Arc::new(AtomicU64::new(0)));
        let seen = Arc::clone(&most);
        let memory = builder(policy, &clock)
            .entries_max(20_000)
            .on_removal(move |key: &u64, _: &u64, _| {
                let memory = inside.get().and_then(Weak::upgrade).unwrap();
                if *key < 1_000_000 {
                    let before = memory.len();
                    memory.insert(1_000_000 + key, 0, 0, Moment::NEVER);
                    seen.fetch_max((before + 1).saturating_sub(memory.len()) as u64, Ordering::Relaxed);
                }
            })
            .build()
            .unwrap();
        let memory = Arc::new(memory);
        own.set(Arc::downgrade(&memory)).unwrap();
        (0..20_000).for_each(|key| {
            memory.insert(key, key, 0, Moment::NEVER);
        });
        memory.resize(1_000, 0).unwrap();
        assert!(memory.len() <= 1_000);
        let most = most.load(Ordering::Relaxed);
        assert!(most <= 2 * 128, "{most} entries left for one insert");
        memory.validate();
    }
}

#[test]
fn only_a_full_cache_under_the_default_policy_has_a_curve() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let memory = numbers(policy, 100, &clock);
        for key in (0..150).cycle().take(40_000) {
            if memory.get(&key).is_none() {
                memory.insert(key, key, 1, Moment::NEVER);
            }
        }
        assert_eq!(memory.miss_ratio_curve().is_empty(), policy == Policy::Lru);
    }
    let memory = numbers(Policy::Default, 100, &clock);
    for key in (0..90).cycle().take(40_000) {
        memory.insert(key, key, 1, Moment::NEVER);
        memory.get(&key);
    }
    assert!(memory.miss_ratio_curve().is_empty(), "it was never full");
}

#[test]
fn one_crowded_shard_does_not_set_the_size_of_the_sample() {
    let clock = Clock::manual();
    let memory: Memory<u64, u64> =
        builder(Policy::Default, &clock).entries_max(0).bytes_max(256 << 20).build().unwrap();
    assert!(memory.shards.len() > 1, "it takes several");
    let crowded: Vec<u64> = (0..)
        .filter(|key| std::ptr::eq(memory.shard(memory.hash(key)), &raw const memory.shards[0]))
        .take(4)
        .collect();
    for key in crowded {
        memory.insert(key, key, 9 << 20, Moment::NEVER);
    }
    assert!(memory.stats().evictions > 0 && memory.sampler.is_asleep());
}
