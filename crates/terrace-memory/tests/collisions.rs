//! Keys that somebody has chosen so that they collide.
//!
//! 1. The keys would share a 256th of a shard's index, and a shard, if hashes were not keyed by the process: what is known in
//!    advance of the hash function is of no use to whoever chooses keys.
//! 2. Figures are printed; `TERRACE_TEST_COLLISIONS` sets another number of keys. What is judged is far from what chance or a busy machine
//!    does: without a key, a lookup costs tens to hundreds of times as much.

use std::hash::BuildHasher;
use std::hint::black_box;
use terrace_core::{Clock, Moment};
use terrace_memory::Memory;

/// Keys in the short form.
const KEYS: usize = 10_000;
/// Lookups that are timed together.
const BATCH: usize = 32;

/// Keys whose hashes without a key agree in the bits that choose the shard, and in eight of those that choose the place.
fn chosen(count: usize) -> Vec<String> {
    let unkeyed = foldhash::quality::FixedState::default();
    let collides = |key: &String| unkeyed.hash_one(key.as_str()) & 0x0000_0003_ff00_0000 == 0;
    (0_u64..).map(|number| format!("user:{number}")).filter(collides).take(count).collect()
}

/// The mean and the 99th percentile of a lookup, in nanoseconds, with all keys in the memory.
fn lookups(keys: &[String]) -> (f64, f64) {
    let memory: Memory<String, usize> =
        Memory::builder().entries_max(keys.len() * 4).build().expect("a memory");
    for (number, key) in keys.iter().enumerate() {
        memory.insert(key.clone(), number, 1, Moment::NEVER);
    }
    assert!(memory.len() > keys.len() * 9 / 10, "{} of {} are held", memory.len(), keys.len());
    let clock = Clock::system();
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..3 {
        for batch in keys.chunks_exact(BATCH) {
            let begun = clock.precise();
            for key in batch {
                black_box(memory.get(black_box(key.as_str())));
            }
            times.push(clock.precise().since(begun).as_secs_f64() * 1e9 / BATCH as f64);
        }
    }
    times.sort_by(f64::total_cmp);
    (times.iter().sum::<f64>() / times.len() as f64, times[times.len() * 99 / 100])
}

#[test]
fn keys_that_were_chosen_to_collide_cost_what_others_do() {
    let count = std::env::var("TERRACE_TEST_COLLISIONS").ok().map(|count| count.parse().expect("a number"));
    let count = count.unwrap_or(KEYS);
    let others: Vec<String> = (0..count).map(|number| format!("user:{}", number * 1_024)).collect();
    let (mean, p99) = lookups(&others);
    let (mean_chosen, p99_chosen) = lookups(&chosen(count));
    println!(
        "{count} keys: {mean:.0} ns, p99 {p99:.0} ns; chosen to collide: {mean_chosen:.0} ns, p99 {p99_chosen:.0} ns; ratio of p99 {:.2}",
        p99_chosen / p99
    );
    assert!(p99_chosen < p99 * 10.0, "{p99_chosen} ns, not {p99} ns");
}
