//! Tests of the whole cache, with [`Memory::validate`] after each operation.

mod listener;
mod model;
mod panics;
mod policy;
mod tables;
mod threads;

use crate::{Builder, Memory, Policy};
use std::time::Duration;
use terrace_core::{Clock, Moment};

const POLICIES: [Policy; 2] = [Policy::Default, Policy::Lru];

/// A bit more than a granule of the expiry index: what expired this long ago is always found.
const GRANULE: Duration = Duration::from_millis(68);

fn builder<K, V>(policy: Policy, clock: &Clock) -> Builder<K, V> {
    Builder::new().policy(policy).clock(clock.clone())
}

/// A cache of numbers, bounded by entries.
fn numbers(policy: Policy, entries: usize, clock: &Clock) -> Memory<u64, u64> {
    builder(policy, clock).entries_max(entries).build().unwrap()
}

fn after(clock: &Clock, ttl: Duration) -> Moment {
    clock.now().plus(ttl)
}

/// A small seeded generator (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
