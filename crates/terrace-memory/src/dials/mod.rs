//! The settings of the queues, chosen by what the cache is asked for.
//!
//! S3-FIFO [1] has three dials: the share of the small queue, the length of the ghost, and the hits that an entry
//! needs to leave small for main. No setting is good for all: recency wants a large small queue, loops want a long
//! memory, and where reuse comes soon or never, anything but a FIFO lets dead entries hold main. So a few S3-FIFO
//! caches of some dozen keys, one for each of [`CHOICES`], are simulated on a sample of the keys, and the cache
//! takes the dials of the best. A small cache on a hash sample of the keys behaves as the large one on all of
//! them [2, 3].
//!
//! 1. **Reads** outside the sample pay one compare. About [`sampler::SIMULATED`] of the cache's entries are in the
//!    sample, so the larger the cache, the rarer the rest.
//! 2. **Nobody waits**: an access that finds the simulations busy is not counted. An access allocates nothing; the
//!    simulations are allocated by [`Sampler::wake`] and take less than 64 KiB from then on,
//!    whatever the size of the cache. Before that nothing is sampled.
//! 3. **Deterministic**: the same accesses give the same dials. Neither a clock nor chance takes part.
//! 4. **Steady**: dials change only for a lead outside the noise (see [`contest`]), about every few turnovers of the
//!    cache at the most. Until something speaks against them they are the best fixed dials known.
//! 5. **No surprise**: no code of the user's runs in here, and nothing panics.
//!
//! The simulations count keys, whatever they weigh. The same samples give the miss-ratio curve ([`curve`]).
//!
//! 1. Yang et al., *FIFO Queues are All You Need for Cache Eviction*, SOSP 2023.
//! 2. Waldspurger et al., *Efficient MRC Construction with SHARDS*, FAST 2015.
//! 3. Waldspurger et al., *Cache Modeling and Optimization using Miniature Simulations*, USENIX ATC 2017.

mod contest;
mod curve;
mod keys;
mod sampler;
mod simulation;
// Safe code whose threads meet at one lock only: nothing for Miri or a model checker, and hours of it.
#[cfg(all(test, not(any(miri, terrace_loom, terrace_shuttle))))]
mod tests;

pub use curve::CurvePoint;
pub(crate) use sampler::Sampler;

/// The settings of the queues. Shares are of the capacity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Dials {
    /// Share of the small queue, in percent.
    pub(crate) small_percent: u8,
    /// Fingerprints used per bucket of the ghost, which has a bucket for every two entries.
    pub(crate) ghost_ways: u8,
    /// Hits that an entry needs to leave the small queue for the main one.
    pub(crate) promote_hits: u8,
}

/// What there is to choose from. The first is the start.
pub(crate) const CHOICES: [Dials; 6] = [
    // The best fixed dials.
    Dials::new(10, 4, 1),
    // S3-FIFO as published.
    Dials::new(10, 2, 2),
    // Frequency: almost everything must prove itself.
    Dials::new(1, 2, 1),
    // Loops and long scans: a long memory.
    Dials::new(5, 8, 2),
    // Recency.
    Dials::new(40, 2, 2),
    // Nearly FIFO: reuse soon or never.
    Dials::new(90, 2, 2),
];

impl Dials {
    /// The most ways of all choices: what a bucket of the ghost has room for.
    pub(crate) const GHOST_WAYS_MAX: u8 = 8;

    const fn new(small_percent: u8, ghost_ways: u8, promote_hits: u8) -> Self {
        assert!(1 <= small_percent && small_percent <= 90);
        assert!(1 <= ghost_ways && ghost_ways <= Self::GHOST_WAYS_MAX);
        Self { small_percent, ghost_ways, promote_hits }
    }

    const fn to_bits(self) -> u32 {
        u32::from_le_bytes([self.small_percent, self.ghost_ways, self.promote_hits, 0])
    }

    const fn from_bits(bits: u32) -> Self {
        let [small_percent, ghost_ways, promote_hits, _] = bits.to_le_bytes();
        Self { small_percent, ghost_ways, promote_hits }
    }
}
