//! What removing an expired entry in the background costs.

use anyhow::{Result, ensure};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use terrace_bench_harness::keys::Keys;
use terrace_bench_harness::ours::Key;
use terrace_bench_harness::subject::{Value, value};
use terrace_bench_harness::threads::time;
use terrace_core::Clock;
use terrace_memory::{Memory, Policy};

/// Entries that one call may remove, as one would choose it in service.
const BUDGET: usize = 1_024;
/// Deadlines are spread over so many seconds.
const SPREAD_SECS: u64 = 60;

/// Nanoseconds per removed entry, when all entries have expired and every thread removes until none is left.
pub(crate) fn nanos_per_entry(policy: Policy, entries: usize, threads: usize) -> Result<f64> {
    let clock = Clock::manual();
    let memory: Memory<Key, Value> =
        Memory::builder().entries_max(2 * entries).policy(policy).clock(clock.clone()).build()?;
    let keys = Keys::shuffled(entries, 11);
    for (at, key) in keys.walk(0, entries) {
        let ttl = Duration::from_secs(1 + at as u64 % SPREAD_SECS);
        memory.insert(Key::from(key), value(at), 1, clock.now().plus(ttl));
    }
    let held = memory.len();
    clock.advance(Duration::from_secs(2 * SPREAD_SECS));
    let removed = AtomicUsize::new(0);
    let per_call = time(
        threads,
        1,
        |_| {},
        |_| {
            loop {
                let expired = memory.expire(BUDGET);
                removed.fetch_add(expired.removed, Ordering::Relaxed);
                if !expired.more {
                    break;
                }
            }
        },
    );
    let removed = removed.into_inner();
    ensure!(removed == held && memory.is_empty(), "{removed} of {held} entries were removed");
    Ok(per_call.nanos * threads as f64 / removed as f64)
}
