//! Odd capacities, lifetimes and weights.

use super::{GRANULE, POLICIES, after, builder, numbers};
use crate::{Expired, Insertion, Memory};
use std::time::Duration;
use terrace_core::{Clock, Moment};

#[test]
fn a_cache_of_one_or_two_entries_holds_one_or_two() {
    let clock = Clock::manual();
    for policy in POLICIES {
        for entries in [1, 2] {
            for bytes_max in [0, 1, 2, 100, 1 << 62] {
                let memory =
                    builder(policy, &clock).entries_max(entries).bytes_max(bytes_max).build().unwrap();
                for key in 0..100_u64 {
                    assert_eq!(memory.insert(key, key, 0, Moment::NEVER), Insertion::Stored);
                    memory.validate();
                    assert_eq!(
                        memory.get(&key),
                        Some(key),
                        "the newest of {entries} ({bytes_max} bytes) is held"
                    );
                    let expected = entries.min(usize::try_from(key + 1).unwrap());
                    assert_eq!(memory.len(), expected, "{policy:?}, {entries} entries, {bytes_max} bytes");
                }
            }
        }
    }
}

#[test]
fn a_cache_bounded_by_one_or_two_bytes_holds_what_fits() {
    let clock = Clock::manual();
    for policy in POLICIES {
        for bytes in [1, 2] {
            let memory: Memory<u64, u64> =
                builder(policy, &clock).entries_max(0).bytes_max(bytes).build().unwrap();
            assert_eq!(memory.insert(0, 0, bytes + 1, Moment::NEVER), Insertion::Rejected);
            for key in 0..10 {
                assert_eq!(memory.insert(key, key, 1, Moment::NEVER), Insertion::Stored);
                memory.validate();
                assert_eq!(memory.weight_bytes(), bytes.min(key + 1));
            }
        }
    }
}

#[test]
fn both_bounds_zero_are_refused() {
    let error = Memory::<u64, u64>::builder().entries_max(0).build().expect_err("no bound");
    assert_eq!((error.setting, error.value.as_str()), ("entries_max", "0"));
}

#[test]
fn a_full_small_cache_is_used_to_the_last_entry() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let memory = numbers(policy, 2_047, &clock);
        (0..2_047).for_each(|key| assert_eq!(memory.insert(key, key, 9, Moment::NEVER), Insertion::Stored));
        assert_eq!((memory.len(), memory.stats().evictions), (2_047, 0));
        memory.insert(2_047, 0, 9, Moment::NEVER);
        assert_eq!((memory.len(), memory.stats().evictions), (2_047, 1));
        memory.validate();
    }
}

#[test]
fn the_table_of_odd_lifetimes() {
    let day = Duration::from_hours(24);
    for policy in POLICIES {
        for (ttl, stored, still_there_after) in [
            (Duration::ZERO, Insertion::Expired, None),
            (Duration::from_nanos(1), Insertion::Expired, None),
            (Duration::from_micros(5), Insertion::Stored, Some(Duration::ZERO)),
            (Duration::from_millis(1), Insertion::Stored, Some(Duration::from_micros(995))),
            (Duration::from_millis(1 << 31), Insertion::Stored, Some(24 * day)),
            (Duration::from_millis(1 << 53), Insertion::Stored, Some(36 * 365 * day)),
            (Duration::MAX, Insertion::Stored, Some(500 * 365 * day)),
        ] {
            let clock = Clock::manual();
            let memory = numbers(policy, 10, &clock);
            assert_eq!(memory.insert(1, 1, 1, after(&clock, ttl)), stored, "{ttl:?}");
            memory.validate();
            if let Some(wait) = still_there_after {
                clock.advance(wait);
                assert_eq!(memory.get(&1), Some(1), "{ttl:?} after {wait:?}");
                assert_eq!(memory.expire(9).removed, 0);
            }
            if ttl < 100 * day {
                clock.advance(ttl);
                assert_eq!(memory.peek(&1), None, "{ttl:?}");
                assert_eq!(memory.expire(9).removed, usize::from(stored == Insertion::Stored));
                assert_eq!(memory.len(), 0);
            }
            memory.validate();
        }
    }
}

#[test]
fn an_insert_with_a_past_deadline_removes() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let memory = numbers(policy, 10, &clock);
        memory.insert(1, 1, 1, Moment::NEVER);
        assert_eq!(memory.insert(1, 2, 1, Moment::from_nanos(0)), Insertion::Expired);
        assert_eq!((memory.get(&1), memory.len(), memory.stats().removals), (None, 0, 1));
    }
}

#[test]
fn a_deadline_can_be_changed_and_dropped() {
    let clock = Clock::manual();
    let second = Duration::from_secs(1);
    for policy in POLICIES {
        let memory = numbers(policy, 10, &clock);
        memory.insert(1, 1, 1, after(&clock, second));
        memory.insert(1, 2, 1, Moment::NEVER);
        memory.insert(2, 1, 1, Moment::NEVER);
        memory.insert(2, 2, 1, after(&clock, second));
        memory.validate();
        clock.advance(second);
        assert_eq!((memory.get(&1), memory.get(&2)), (Some(2), None));
        assert_eq!(memory.stats().expirations, 1);
    }
}

#[test]
fn weights_of_any_size_never_overflow() {
    let clock = Clock::manual();
    for policy in POLICIES {
        for (entries, bytes) in [(4, 0), (4, 1 << 62), (0, 1 << 62), (1, (1 << 62) - 1), (1 << 31, 1 << 62)] {
            let memory = builder(policy, &clock).entries_max(entries).bytes_max(bytes).build().unwrap();
            for weight in [0, 1, 1 << 32, 1 << 61, (1 << 62) - 1, 1 << 62, (1 << 63) + 1, u64::MAX] {
                for key in 0..8_u64 {
                    let insertion = memory.insert(key, key, weight, Moment::NEVER);
                    let share = bytes / memory.shards.len() as u64;
                    let fits = bytes == 0 || weight <= share;
                    assert_eq!(insertion == Insertion::Stored, fits, "{weight} of {bytes}: {insertion:?}");
                    memory.validate();
                }
            }
            let sum = memory.weight_bytes();
            assert_eq!(sum == u64::MAX, bytes == 0, "{sum}");
        }
    }
}

#[test]
fn removal_counts_and_weights_follow_every_change() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let memory = numbers(policy, 100, &clock);
        memory.insert(1, 1, 10, Moment::NEVER);
        memory.insert(1, 2, 30, Moment::NEVER);
        memory.insert(2, 1, 5, Moment::NEVER);
        assert_eq!((memory.len(), memory.weight_bytes()), (2, 35));
        assert_eq!(memory.remove(&1), Some(2));
        assert_eq!((memory.len(), memory.weight_bytes()), (1, 5));
        let stats = memory.stats();
        assert_eq!((stats.inserts, stats.replacements, stats.removals), (3, 1, 1));
        memory.reset_stats();
        let stats = memory.stats();
        assert_eq!((stats.inserts, stats.removals, stats.entries, stats.bytes), (0, 0, 1, 5));
    }
}

#[test]
fn a_clock_that_jumps_back_an_hour_harms_nothing() {
    let hour = Duration::from_hours(1);
    let back = Duration::from_nanos(u64::MAX - u64::try_from(hour.as_nanos()).unwrap() + 1);
    for policy in POLICIES {
        let clock = Clock::manual();
        clock.advance(2 * hour);
        let memory = numbers(policy, 2, &clock);
        memory.insert(1, 1, 1, after(&clock, GRANULE));
        let before = clock.now();
        clock.advance(back);
        assert_eq!(before.since(clock.now()), hour, "the clock went back");
        assert_eq!(memory.get(&1), Some(1), "a deadline in the future is one");
        for key in 2..9 {
            memory.insert(key, key, 1, after(&clock, GRANULE));
            memory.validate();
        }
        assert_eq!(memory.expire(9), Expired { removed: 0, more: false });
        clock.advance(2 * hour);
        memory.expire(9);
        assert_eq!(memory.len(), 0);
        memory.validate();
    }
}

#[test]
fn expiry_keeps_to_its_budget_and_comes_back_for_the_rest() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let memory = numbers(policy, 100_000, &clock);
        let ttl = Duration::from_secs(1);
        (0..5_000).for_each(|key| {
            memory.insert(key, key, 1, after(&clock, ttl));
        });
        (5_000..6_000).for_each(|key| {
            memory.insert(key, key, 1, Moment::NEVER);
        });
        assert_eq!(memory.expire(10_000), Expired { removed: 0, more: false });
        clock.advance(ttl);
        assert_eq!(memory.expire(0), Expired { removed: 0, more: true });
        for _ in 0..9 {
            assert_eq!(memory.expire(500), Expired { removed: 500, more: true });
            memory.validate();
        }
        assert_eq!(memory.expire(500), Expired { removed: 500, more: false });
        assert_eq!((memory.len(), memory.stats().expirations), (1_000, 5_000));
    }
}

#[test]
fn an_expired_entry_leaves_when_it_is_read() {
    let clock = Clock::manual();
    for policy in POLICIES {
        let memory = numbers(policy, 10, &clock);
        memory.insert(1, 1, 1, after(&clock, GRANULE));
        clock.advance(GRANULE);
        assert_eq!((memory.peek(&1), memory.len()), (None, 1), "a peek changes nothing");
        assert_eq!((memory.get(&1), memory.len()), (None, 0));
        assert_eq!((memory.stats().misses, memory.stats().expirations), (1, 1));
        memory.validate();
    }
}

#[test]
fn resizing_holds_the_new_bounds_at_once() {
    let clock = Clock::manual();
    let bounds =
        [(500, 0), (50, 0), (400, 4_000), (400, 400), (0, 3_000), (0, 100), (1, 0), (1, 1), (2_000, 0)];
    for policy in POLICIES {
        let memory = builder(policy, &clock).entries_max(1_000).build().unwrap();
        for (entries, bytes) in bounds {
            (0..1_000).for_each(|key| {
                memory.insert(key, key, 9, Moment::NEVER);
            });
            memory.resize(entries, bytes).unwrap();
            memory.validate();
            memory.insert(0, 0, 0, Moment::NEVER);
            assert_eq!(memory.get(&0), Some(0));
        }
        assert_eq!(memory.resize(0, 0).expect_err("no bound").setting, "entries_max");
        let stats = memory.stats();
        let left = stats.replacements + stats.evictions + stats.expirations + stats.removals;
        assert_eq!(stats.inserts - left, stats.entries);
    }
}

#[test]
fn keys_spread_over_all_shards() {
    for policy in POLICIES {
        let memory = numbers(policy, 10_000, &Clock::manual());
        (0..10_000).for_each(|key| {
            memory.insert(key, key, 1, Moment::NEVER);
        });
        memory.validate();
        assert!(memory.len() > 9_400, "{} of 10,000 in {} shards", memory.len(), memory.shards.len());
        let share = 10_000 / memory.shards.len();
        assert!(memory.shards.iter().all(|shard| shard.lock().len() > share * 8 / 10), "an even spread");
    }
}

#[test]
fn a_cache_of_several_shards_refuses_fewer_entries_than_shards() {
    let memory: Memory<u64, u64> = Memory::builder().entries_max(10_000).build().unwrap();
    let shards = memory.shards.len();
    assert!(shards > 1);
    assert!(memory.resize(shards, 0).is_ok());
    assert!(memory.resize(shards - 1, 0).is_err());
    memory.validate();
}
