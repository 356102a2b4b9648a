//! Counting without contention.
//!
//! 1. Each thread adds to one of [`BLOCKS`] blocks, each on cache lines of its own; a reading sums them.
//! 2. Counters only grow, until they are reset. A reading taken while others count may miss their latest counts.
//!
//! Deliberately absent: what an event *means*; [`crate::stats`] has the rule of every counter.

use std::array;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Blocks of counters: enough that few threads share one.
const BLOCKS: usize = 16;

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counter {
    Hits,
    Misses,
    Inserts,
    Replacements,
    Evictions,
    Expirations,
    Rejections,
    Removals,
    ListenerPanics,
    ListenerSkips,
}

impl Counter {
    const COUNT: usize = Self::ListenerSkips as usize + 1;
}

/// One thread's counters, alone on their cache lines (two lines, since processors fetch them in pairs).
#[repr(align(128))]
#[derive(Default, Debug)]
struct Block([AtomicU64; Counter::COUNT]);

/// The counters of one cache.
#[derive(Debug)]
pub(crate) struct Counters(Box<[Block; BLOCKS]>);

impl Counters {
    pub(crate) fn new() -> Self {
        Self(Box::new(array::from_fn(|_| Block::default())))
    }

    #[inline]
    pub(crate) fn add(&self, counter: Counter, count: u64) {
        self.0[slot()].0[counter as usize].fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn sum(&self, counter: Counter) -> u64 {
        let values = self.0.iter().map(|block| block.0[counter as usize].load(Ordering::Relaxed));
        values.fold(0, u64::wrapping_add)
    }

    pub(crate) fn reset(&self) {
        for cell in self.0.iter().flat_map(|block| &block.0) {
            cell.store(0, Ordering::Relaxed);
        }
    }
}

/// The block that this thread adds to.
#[inline]
fn slot() -> usize {
    const UNKNOWN: usize = usize::MAX;
    thread_local! {
        static SLOT: Cell<usize> = const { Cell::new(UNKNOWN) };
    }
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    SLOT.with(|slot| {
        if slot.get() == UNKNOWN {
            slot.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        slot.get() % BLOCKS
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn counts_of_all_threads_are_summed() {
        let counters = Counters::new();
        thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| (0..100).for_each(|_| counters.add(Counter::Hits, 2)));
            }
        });
        assert_eq!(counters.sum(Counter::Hits), 8_000);
        assert_eq!(counters.sum(Counter::ListenerSkips), 0);
        counters.reset();
        assert_eq!(counters.sum(Counter::Hits), 0);
    }
}
