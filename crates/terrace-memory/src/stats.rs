//! What a cache counted, and the rule of every counter.

use crate::counters::{Counter, Counters};

/// Counts since the cache was built or [`crate::Memory::reset_stats`], and what it holds now.
///
/// While nothing is in progress and nothing was reset,
/// `entries = inserts - replacements - evictions - expirations - removals`.
///
/// # Examples
/// ```
/// use terrace_core::Moment;
/// use terrace_memory::Memory;
/// let memory = Memory::<String, u32>::builder().entries_max(100).build()?;
/// memory.insert("a".to_owned(), 1, 4, Moment::NEVER);
/// memory.get("a");
/// memory.get("b");
/// let stats = memory.stats();
/// assert_eq!((stats.hits, stats.misses, stats.inserts, stats.entries, stats.bytes), (1, 1, 1, 1, 4));
/// assert_eq!(stats.hit_ratio(), Some(0.5));
/// # Ok::<(), terrace_memory::ConfigError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Lookups by `get` and `get_with` that found a live entry.
    pub hits: u64,
    /// Lookups by `get` and `get_with` that found none, or an expired one.
    pub misses: u64,
    /// Values that were stored.
    pub inserts: u64,
    /// Live values that gave way to a newer value of their key, stored or rejected.
    pub replacements: u64,
    /// Live entries that left because room was needed.
    pub evictions: u64,
    /// Entries that had expired when they left, whatever took them out.
    pub expirations: u64,
    /// Values that were not admitted because they were too big.
    pub rejections: u64,
    /// Live entries taken out by `remove`, `remove_if`, `retain`, `clear`, or by an insert with a past deadline.
    pub removals: u64,
    /// Calls of the removal listener that panicked.
    pub listener_panics: u64,
    /// Removals that the listener was not told of, because it caused them itself too deeply nested.
    pub listener_skips: u64,
    /// Entries held now. Expired ones count until they leave.
    pub entries: u64,
    /// Sum of the weights of the entries held now.
    pub bytes: u64,
    /// Entries that have left and are not dropped yet, because a read was under way that may have met them.
    pub held_back: u64,
}

/// What a cache holds.
#[derive(Default, Debug)]
pub(crate) struct Tally {
    pub(crate) entries: usize,
    pub(crate) weight: u128,
    pub(crate) held_back: usize,
}

impl Tally {
    /// The weight, or the most that can be said.
    pub(crate) fn bytes(&self) -> u64 {
        u64::try_from(self.weight).unwrap_or(u64::MAX)
    }
}

impl MemoryStats {
    pub(crate) fn new(counters: &Counters, tally: &Tally) -> Self {
        Self {
            hits: counters.sum(Counter::Hits),
            misses: counters.sum(Counter::Misses),
            inserts: counters.sum(Counter::Inserts),
            replacements: counters.sum(Counter::Replacements),
            evictions: counters.sum(Counter::Evictions),
            expirations: counters.sum(Counter::Expirations),
            rejections: counters.sum(Counter::Rejections),
            removals: counters.sum(Counter::Removals),
            listener_panics: counters.sum(Counter::ListenerPanics),
            listener_skips: counters.sum(Counter::ListenerSkips),
            entries: tally.entries as u64,
            bytes: tally.bytes(),
            held_back: tally.held_back as u64,
        }
    }

    /// Misses as a part of all lookups, from 0 to 1; `None` before the first lookup.
    pub fn miss_ratio(&self) -> Option<f64> {
        self.hit_ratio().map(|hits| 1.0 - hits)
    }

    /// Hits as a part of all lookups, from 0 to 1; `None` before the first lookup.
    pub fn hit_ratio(&self) -> Option<f64> {
        let lookups = self.hits.saturating_add(self.misses);
        (lookups != 0).then(|| self.hits as f64 / lookups as f64)
    }
}
