//! A hit allocates nothing.

use std::sync::Arc;
use std::time::Duration;
use terrace_core::{Clock, Moment};
use terrace_memory::{Memory, Policy};

fn filled(policy: Policy, clock: &Clock) -> Memory<String, Arc<[u8]>> {
    let memory = Memory::builder()
        .entries_max(1_000)
        .policy(policy)
        .clock(clock.clone())
        .build()
        .expect("a bound is set");
    for key in 0..100 {
        let ttl = Duration::from_hours(1);
        let deadline = if key % 2 == 0 { Moment::NEVER } else { clock.now().plus(ttl) };
        memory.insert(format!("user:{key}"), Arc::from([7; 256]), 300, deadline);
    }
    memory
}

#[test]
fn a_hit_by_a_borrowed_key_allocates_nothing() {
    for policy in [Policy::Default, Policy::Lru] {
        for clock in [Clock::system(), Clock::manual()] {
            let memory = filled(policy, &clock);
            let keys: Vec<String> = (0..100).map(|key| format!("user:{key}")).collect();
            let mut found = 0;
            let used = allocation_counter::measure(|| {
                for key in &keys {
                    found += memory.get(key.as_str()).map_or(0, |value| value.len());
                    found += memory.get_with(key.as_str(), |value| value.len()).unwrap_or(0);
                    found += memory.peek(key.as_str()).map_or(0, |value| value.len());
                }
                found += memory.get("user:none").map_or(0, |value| value.len());
            });
            assert_eq!(found, 3 * 100 * 256, "all are hits");
            assert_eq!(used.count_total, 0, "{policy:?}: {used:?}");
        }
    }
}

#[test]
fn the_counter_counts() {
    let used = allocation_counter::measure(|| drop(std::hint::black_box(vec![1_u8; 100])));
    assert_eq!(used.count_total, 1);
}
