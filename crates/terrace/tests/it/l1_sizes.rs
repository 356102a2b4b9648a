//! What L1 of another size would miss: what was counted, what is estimated, what is not promised.

use crate::fixture::Node;
use std::convert::Infallible;
use std::time::Duration;
use terrace::{Cache, Clock, Keyspace, L1, L1Size, NoSizes, Policy, Ttl};
use terrace_testkit::fake::FakeRemote;

/// Numbers that look like chance, and are the same each time.
fn dice(step: u64) -> u64 {
    let mixed = (step + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 16
}

/// A key of so many, low ones more often.
fn skewed(step: u64, keys: u64) -> u64 {
    let share = dice(step) % (1 << 20);
    (share * share * keys) >> 40
}

fn cache(entries: usize, clock: &Clock) -> (Cache, Keyspace<u64, u64>) {
    let cache = Cache::builder().l1(L1::entries(entries)).clock(clock.clone()).default_ttl(Ttl::Never);
    let cache = cache.build().expect("valid settings");
    let numbers = cache.keyspace("numbers").build().expect("a new keyspace");
    (cache, numbers)
}

async fn ask(numbers: &Keyspace<u64, u64>, keys: impl Iterator<Item = u64>) {
    for key in keys {
        numbers.get_or_load(&key, async move || Ok::<_, Infallible>(key)).await.expect("it loads");
    }
}

fn of(sizes: &[L1Size], factor: f64) -> f64 {
    sizes.iter().find(|size| size.factor.total_cmp(&factor).is_eq()).expect("each factor is there").miss_ratio
}

/// Every eighth key of these caches is looked at, and which ones is chance: one estimate is off by a tenth now and then, their mean is not.
#[tokio::test]
async fn caches_of_the_other_sizes_miss_about_what_is_said() {
    const ENTRIES: usize = 300;
    const CACHES: u8 = 8;
    let keys = || (0..30_000).map(|step| skewed(step, 3_000));
    let clock = Clock::manual();
    let mut said = Vec::new();
    for _ in 0..CACHES {
        let (cache_here, numbers) = cache(ENTRIES, &clock);
        ask(&numbers, keys()).await;
        let sizes = cache_here.l1_sizes().unwrap();
        assert_eq!(sizes.iter().map(|size| size.entries).collect::<Vec<_>>(), [75, 150, 300, 600, 1200]);
        assert!(sizes.iter().all(|size| size.bytes >= size.entries * 128), "{sizes:?}");
        assert!(sizes.is_sorted_by(|one, next| one.miss_ratio >= next.miss_ratio), "{sizes:?}");
        let counted = 1.0 - cache_here.stats().l1_hit_rate();
        assert!((of(&sizes, 1.0) - counted).abs() < 1e-9, "{counted} {sizes:?}");
        said.push(sizes);
    }
    for (factor, entries) in [(0.25, 75), (0.5, 150), (2.0, 600), (4.0, 1200)] {
        let (other, numbers) = cache(entries, &clock);
        ask(&numbers, keys()).await;
        let truth = 1.0 - other.stats().l1_hit_rate();
        let mean = said.iter().map(|sizes| of(sizes, factor)).sum::<f64>() / f64::from(CACHES);
        println!("{factor} times: {mean:.3} said, {truth:.3} in truth");
        assert!((mean - truth).abs() < 0.1, "{factor}: {truth} {said:?}");
    }
}

#[tokio::test]
async fn more_room_is_not_said_to_keep_what_leaves_because_its_time_is_over() {
    let clock = Clock::manual();
    let (cache, numbers) = cache(100, &clock);
    ask(&numbers, (0..200).cycle().take(10_000)).await;
    let sizes = cache.l1_sizes().unwrap();
    assert!(of(&sizes, 4.0) < of(&sizes, 1.0) - 0.3, "all of it would find room: {sizes:?}");
    numbers.clear().await.unwrap();
    let brief: Keyspace<u64, u64> = cache.keyspace("brief").ttl(Duration::from_secs(9)).build().unwrap();
    let mut seconds = 0;
    // Nothing of these fifteen minutes leaves for want of room: there are 50 keys.
    while seconds < 15 * 60 {
        for key in 0..50 {
            brief.get_or_load(&key, async move || Ok::<_, Infallible>(key)).await.unwrap();
        }
        clock.advance(Duration::from_secs(10));
        seconds += 10;
        let _marks_are_made = cache.l1_sizes();
    }
    let sizes = cache.l1_sizes().unwrap();
    assert!(of(&sizes, 1.0) > 0.9, "{sizes:?}");
    assert_eq!((of(&sizes, 2.0), of(&sizes, 4.0)), (of(&sizes, 1.0), of(&sizes, 1.0)), "{sizes:?}");
}

#[tokio::test]
async fn more_room_is_not_said_to_avoid_more_misses_than_there_were_evictions() {
    let (cache, numbers) = cache(100, &Clock::manual());
    ask(&numbers, (0..200).cycle().take(2_000)).await;
    // What nobody has is asked for again and again, and is never kept, however much room there is.
    for step in 0..60_000 {
        numbers.get(&(1_000 + step % 150)).await.unwrap();
        if step % 30 == 0 {
            ask(&numbers, [step / 30 % 200].into_iter()).await;
        }
    }
    let sizes = cache.l1_sizes().unwrap();
    assert!(of(&sizes, 1.0) > 0.9, "{sizes:?}");
    assert!(of(&sizes, 4.0) > of(&sizes, 1.0) - 0.1, "there were few evictions: {sizes:?}");
}

#[tokio::test]
async fn the_minutes_before_the_last_ten_do_not_count() {
    let clock = Clock::manual();
    let (cache, numbers) = cache(100, &clock);
    ask(&numbers, (0..1_000).cycle().take(10_000)).await;
    assert!(of(&cache.l1_sizes().unwrap(), 1.0) > 0.8);
    for _ in 0..3 {
        clock.advance(Duration::from_mins(5));
        ask(&numbers, (0..20).cycle().take(4_000)).await;
        let _marks_are_made = cache.l1_sizes();
    }
    let sizes = cache.l1_sizes().unwrap();
    assert!(of(&sizes, 1.0) < 0.1, "{sizes:?}");
}

#[tokio::test]
async fn keyspaces_without_l1_do_not_count() {
    let remote = FakeRemote::new(Clock::manual());
    let cache = Cache::builder().l1(L1::entries(100)).l2(remote).build().unwrap();
    let apart: Keyspace<u64, u64> = cache.keyspace("apart").no_l1().build().unwrap();
    for key in 0..2_000 {
        apart.get(&key).await.unwrap();
    }
    let numbers = cache.keyspace::<u64, u64>("numbers").build().unwrap();
    ask(&numbers, (0..200).cycle().take(4_000)).await;
    let lookups = cache.stats().keyspaces["numbers"].clone();
    let sizes = cache.l1_sizes().unwrap();
    assert!((of(&sizes, 1.0) - (1.0 - lookups.l1_hit_rate())).abs() < 1e-9, "{sizes:?}");
}

#[tokio::test]
async fn where_nothing_is_known_it_is_said_why() {
    let clock = Clock::manual();
    assert_eq!(Node::first_without_l1().await.cache.l1_sizes(), Err(NoSizes::NoL1));
    let lru = Cache::builder().l1(L1::entries(100).policy(Policy::Lru)).build().unwrap();
    assert_eq!(lru.l1_sizes(), Err(NoSizes::Lru));
    let (cache, numbers) = cache(100, &clock);
    ask(&numbers, (0..90).cycle().take(10_000)).await;
    assert_eq!(cache.l1_sizes(), Err(NoSizes::NotFull), "it was never full");
    ask(&numbers, (0..200).cycle().take(10_000)).await;
    assert!(cache.l1_sizes().is_ok());
    for _ in 0..3 {
        clock.advance(Duration::from_mins(5));
        let _marks_are_made = cache.l1_sizes();
    }
    assert_eq!(cache.l1_sizes(), Err(NoSizes::FewLookups), "nobody has asked for a while");
}
