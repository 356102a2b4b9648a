//! Counts allocations and bytes of one contender, under an allocator that counts: `terrace-bench-compare-counts NAME`.
//!
//! One contender per process, so that what an earlier one left in the allocator does not blur the growth of the process.
//! Only the calling thread is counted; no contender has threads of its own.

use anyhow::{Context, Result, bail};
use foldhash::fast::RandomState;
use foyer_memory::{CacheBuilder, CacheProperties, S3FifoConfig};
use std::fs;
use std::hint::black_box;
use terrace_bench_compare::contenders::{ALL, Contender, OURS, OURS_LRU, PEER};
use terrace_bench_compare::counts::Counts;
use terrace_bench_harness::keys::{Keys, mix};
use terrace_bench_harness::streams::{Operation, Stream, Streams};
use terrace_bench_harness::workload::{Scale, Workload};
use terrace_core::Moment;
use terrace_memory::{Memory, Policy};

const ENTRIES: u64 = 1_000_000;
/// Of an integer key and an integer value.
const PAYLOAD_BYTES: f64 = 16.0;
const PAGE_BYTES: f64 = 4096.0;

fn main() -> Result<()> {
    let name = std::env::args().nth(1).context("usage: terrace-bench-compare-counts NAME")?;
    let contender =
        ALL.iter().find(|contender| contender.name == name).context("a contender of that name")?;
    let (overhead, resident) = overhead(&name, ENTRIES)?;
    let [hit, insert, overwrite] = allocations(contender, Scale::FULL)?;
    println!("{}", Counts { overhead, resident, hit, insert, overwrite });
    Ok(())
}

/// Bytes per entry besides key and value: asked for, and by growth of the process.
fn overhead(name: &str, entries: u64) -> Result<(f64, f64)> {
    match name {
        OURS => ours(Policy::Default, entries),
        OURS_LRU => ours(Policy::Lru, entries),
        "papaya" | "hashbrown" => map(name, entries),
        _ => cache(name, entries),
    }
}

fn ours(policy: Policy, entries: u64) -> Result<(f64, f64)> {
    let capacity = usize::try_from(entries)?;
    let builder = || Memory::<u64, u64>::builder().entries_max(capacity).policy(policy);
    filled(
        entries,
        || builder().build().expect("a bound is set"),
        |cache, key| cache.insert(key, key, 16, Moment::NEVER),
        |cache, key| cache.get(&key).is_some(),
    )
}

fn cache(name: &str, entries: u64) -> Result<(f64, f64)> {
    let capacity = usize::try_from(entries)?;
    match name {
        PEER => filled(
            entries,
            || {
                let (weighter, hasher) = (quick_cache::UnitWeighter, RandomState::default());
                quick_cache::sync::Cache::<u64, u64, _, _>::with(
                    capacity,
                    entries,
                    weighter,
                    hasher,
                    <_>::default(),
                )
            },
            |cache, key| cache.insert(key, key),
            |cache, key| cache.get(&key).is_some(),
        ),
        "moka" => filled(
            entries,
            || {
                moka::sync::Cache::<u64, u64>::builder()
                    .max_capacity(entries)
                    .initial_capacity(capacity)
                    .build()
            },
            |cache, key| {
                cache.insert(key, key);
                if key % 64 == 0 {
                    cache.run_pending_tasks();
                }
            },
            |cache, key| cache.get(&key).is_some(),
        ),
        "mini-moka" => filled(
            entries,
            || {
                mini_moka::sync::Cache::<u64, u64>::builder()
                    .max_capacity(entries)
                    .initial_capacity(capacity)
                    .build()
            },
            |cache, key| cache.insert(key, key),
            |cache, key| cache.get(&key).is_some(),
        ),
        "foyer S3-FIFO" => filled(
            entries,
            || {
                let builder = CacheBuilder::new(capacity).with_eviction_config(S3FifoConfig::default());
                builder.build::<CacheProperties>()
            },
            |cache, key: u64| cache.insert(key, key),
            |cache, key| cache.get(&key).is_some(),
        ),
        _ => bail!("it is not known how {name} is built"),
    }
}

fn map(name: &str, entries: u64) -> Result<(f64, f64)> {
    let capacity = usize::try_from(entries)?;
    match name {
        "papaya" => filled(
            entries,
            || papaya::HashMap::<u64, u64>::builder().capacity(capacity).build(),
            |map, key| map.pin().insert(key, key).copied(),
            |map, key| map.pin().contains_key(&key),
        ),
        "hashbrown" => filled(
            entries,
            || {
                hashbrown::HashMap::<u64, u64, RandomState>::with_capacity_and_hasher(
                    capacity,
                    <_>::default(),
                )
            },
            |map, key| map.insert(key, key),
            |map, key| map.contains_key(&key),
        ),
        _ => bail!("it is not known how {name} is built"),
    }
}

/// Fills a cache with so many integers and counts what that took, for each entry that is held in the end.
fn filled<C, R>(
    entries: u64,
    build: impl FnOnce() -> C,
    mut insert: impl FnMut(&mut C, u64) -> R,
    holds: impl Fn(&C, u64) -> bool,
) -> Result<(f64, f64)> {
    let before = resident_bytes()?;
    let mut cache = None;
    let used = allocation_counter::measure(|| {
        let cache = cache.insert(build());
        for number in 0..entries {
            insert(cache, mix(number));
        }
    });
    let grown = resident_bytes()? - before;
    let cache = cache.context("the cache was built")?;
    let held = (0..entries).filter(|number| holds(&cache, mix(*number))).count() as f64;
    Ok((used.bytes_current as f64 / held - PAYLOAD_BYTES, grown / held - PAYLOAD_BYTES))
}

fn resident_bytes() -> Result<f64> {
    let text = fs::read_to_string("/proc/self/statm").context("the size of this process")?;
    let pages: f64 = text.split(' ').nth(1).context("resident pages")?.parse()?;
    Ok(pages * PAGE_BYTES)
}

/// Allocations of a hit, an insert with eviction and an overwrite.
fn allocations(contender: &Contender, scale: Scale) -> Result<[f64; 3]> {
    let all_fit = (contender.build)(&Workload::hit(scale))?;
    let keys = Stream::of(Keys::sequence(0, scale.small));
    count(&*all_fit, Operation::Insert, &keys);
    count(&*all_fit, Operation::Get, &keys);
    let hit = count(&*all_fit, Operation::Get, &keys);
    let overwrite = count(&*all_fit, Operation::Insert, &keys);
    let full = (contender.build)(&Workload::insert(scale))?;
    let keys = Stream::of(Keys::sequence(0, 3 * scale.cached));
    count(&*full, Operation::Insert, &keys);
    let keys = Stream::of(Keys::sequence(1 << 30, 2 * scale.cached));
    let insert = count(&*full, Operation::Insert, &keys);
    Ok([hit, insert, overwrite])
}

/// Allocations per key of a stream, each key used once.
fn count(subject: &dyn Streams, operation: Operation, stream: &Stream) -> f64 {
    let keys = stream.keys.len();
    let used = allocation_counter::measure(|| {
        black_box(subject.run(operation, stream, 0, keys));
    });
    subject.settle();
    used.count_total as f64 / keys as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_counted() {
        for contender in &ALL {
            let (asked, _) = overhead(contender.name, 1_000).unwrap();
            assert!(asked > 0.0, "{}: {asked}", contender.name);
            let [hit, insert, overwrite] = allocations(contender, Scale::SMOKE).unwrap();
            assert!(hit < 1.0 && insert >= 1.0 && overwrite >= 1.0, "{}: {hit} {insert}", contender.name);
        }
    }
}
