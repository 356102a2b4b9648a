//! Counting without contention.
//!
//! 1. A thread has a number while it is in a section (see [`crate::raw`]). Each of the first [`SOLE`] numbers has a block of
//!    counters of its own, which only its thread writes: counting is a load and a store. All others share a block, and
//!    count by atomic additions. A reading sums the blocks.
//! 2. Counters only grow. A reset notes the sums, and readings are from there on.
//! 3. A reading taken while others count may miss their latest counts.
//!
//! Deliberately absent: what an event *means*; [`crate::stats`] has the rule of every counter.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Blocks of counters that only one thread writes.
const SOLE: usize = 63;

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
    const ALL: [Self; 10] = [
        Self::Hits,
        Self::Misses,
        Self::Inserts,
        Self::Replacements,
        Self::Evictions,
        Self::Expirations,
        Self::Rejections,
        Self::Removals,
        Self::ListenerPanics,
        Self::ListenerSkips,
    ];
    const COUNT: usize = Self::ALL.len();
}

/// One thread's counters, alone on their cache lines (two lines, since processors fetch them in pairs).
#[repr(align(128))]
#[derive(Default, Debug)]
struct Block([AtomicU64; Counter::COUNT]);

#[derive(Debug)]
struct Blocks {
    sole: [Block; SOLE],
    /// That of all threads that have none of their own.
    shared: Block,
}

/// The counters of one cache.
#[derive(Debug)]
pub(crate) struct Counters {
    blocks: Box<Blocks>,
    /// The sums at the last reset.
    before: [AtomicU64; Counter::COUNT],
}

impl Counters {
    pub(crate) fn new() -> Self {
        let zero = |_| AtomicU64::new(0);
        let blocks = Blocks { sole: array::from_fn(|_| Block::default()), shared: Block::default() };
        Self { blocks: Box::new(blocks), before: array::from_fn(zero) }
    }

    /// Adds to a counter. `thread` is the thread's number, whose section is open.
    #[inline]
    pub(crate) fn add(&self, thread: usize, counter: Counter, count: u64) {
        if let Some(Block(own)) = self.blocks.sole.get(thread) {
            let cell = &own[counter as usize];
            cell.store(cell.load(Relaxed).wrapping_add(count), Relaxed);
        } else {
            self.blocks.shared.0[counter as usize].fetch_add(count, Relaxed);
        }
    }

    pub(crate) fn sum(&self, counter: Counter) -> u64 {
        let since = self.total(counter).wrapping_sub(self.before[counter as usize].load(Relaxed));
        // A reset meanwhile may have noted more than this sum has seen.
        if since.cast_signed() < 0 { 0 } else { since }
    }

    fn total(&self, counter: Counter) -> u64 {
        let blocks = self.blocks.sole.iter().chain([&self.blocks.shared]);
        let values = blocks.map(|block| block.0[counter as usize].load(Relaxed));
        values.fold(0, u64::wrapping_add)
    }

    pub(crate) fn reset(&self) {
        for counter in Counter::ALL {
            self.before[counter as usize].store(self.total(counter), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn counts_of_all_threads_are_summed_and_reset() {
        let counters = Counters::new();
        thread::scope(|scope| {
            for thread in 0..2 * SOLE {
                let counters = &counters;
                scope.spawn(move || (0..100).for_each(|_| counters.add(thread, Counter::Hits, 2)));
            }
        });
        assert_eq!(counters.sum(Counter::Hits), 400 * SOLE as u64);
        assert_eq!(counters.sum(Counter::ListenerSkips), 0);
        counters.reset();
        assert_eq!(counters.sum(Counter::Hits), 0);
        counters.add(0, Counter::Hits, 1);
        assert_eq!(counters.sum(Counter::Hits), 1);
    }

    #[test]
    fn every_counter_has_its_place() {
        for (place, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, place);
        }
    }
}
