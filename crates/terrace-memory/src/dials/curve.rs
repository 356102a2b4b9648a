//! What a cache of another size would miss: the miss-ratio curve.
//!
//! 1. A point is a simulation at the dials in use, of the capacity that belongs to its size. The cache's own size is
//!    simulated by the contest already. A larger one is simulated at no larger capacity, but on a part of the
//!    sample. So the curve costs less than three simulations more.
//! 2. A hot key is in the sample or is not, and shifts its hit ratio either way; of the misses it hardly has a share.
//!    So only misses are counted, all against the same number of samples, and what counts in the end is how many
//!    more or less than at the cache's own size, whose miss ratio is known (as SHARDS-adj does with the total).
//! 3. The counts are halved every [`WINDOW`] samples: the curve tells of the last few windows.
//! 4. A larger cache is never reported to miss more than a smaller one. Where a simulation says so, it is noise, or a
//!    quirk not worth acting on.

use super::Dials;
use super::contest::BATCH;
use super::keys::Keys;
use super::simulation::Simulation;

/// Samples between two halvings.
const WINDOW: usize = 8192;
/// The other sizes on the curve, in quarters of the capacity.
const QUARTERS: [usize; 4] = [1, 2, 8, 16];
/// Longest ghost of the simulations, to save memory: twice the capacity.
const GHOST_WAYS_MAX: u8 = 4;

/// A size of the cache and what it would miss; see [`Memory::miss_ratio_curve`](crate::Memory::miss_ratio_curve).
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct CurvePoint {
    /// Its size as a multiple of the cache as it is, which is the point at 1.
    pub factor: f64,
    /// How many entries such a cache holds.
    pub entries: usize,
    /// Misses per lookup, from 0 to 1.
    pub miss_ratio: f64,
}

#[derive(Debug)]
struct Gauge {
    quarters: usize,
    simulation: Simulation,
    /// It sees the keys whose hash ends in so many zeros.
    zeros: u32,
    misses: u32,
}

#[derive(Debug)]
pub(super) struct Curve {
    entries: usize,
    others: [Gauge; QUARTERS.len()],
    /// Misses at the cache's own size.
    misses: u32,
    samples: u32,
    /// Samples until the counts are halved.
    left: usize,
}

impl Gauge {
    fn new(capacity: usize, quarters: usize, dials: Dials, keys: &Keys) -> Self {
        let (capacity, zeros) = part_of(capacity, quarters);
        let simulation = Simulation::new(capacity, dials, GHOST_WAYS_MAX, keys);
        Self { quarters, simulation, zeros, misses: 0 }
    }

    fn run(&mut self, batch: &[u16], keys: &mut Keys) {
        for &key in batch {
            if keys.hash(key).trailing_zeros() >= self.zeros {
                self.misses += u32::from(!self.simulation.access(key, keys));
            }
        }
    }

    /// Its size, and the misses that it would have had if it had seen all keys of the sample.
    fn misses_of_all(&self) -> (usize, f64) {
        (self.quarters, f64::from(self.misses) * f64::from(1 << self.zeros))
    }
}

/// What to simulate instead of so many quarters of the capacity: a capacity, on the keys that end in so many zeros.
const fn part_of(capacity: usize, quarters: usize) -> (usize, u32) {
    let zeros = if quarters > 4 { (quarters / 4).ilog2() } else { 0 };
    let part = (capacity * quarters / 4) >> zeros;
    (if part == 0 { 1 } else { part }, zeros)
}

impl Curve {
    /// The most keys that a curve knows.
    pub(super) fn known_max(capacity: usize) -> usize {
        QUARTERS.iter().map(|&size| Simulation::known_max(part_of(capacity, size).0, GHOST_WAYS_MAX)).sum()
    }

    /// The curve of a cache of so many entries, of which so many are simulated.
    pub(super) fn new(entries: usize, capacity: usize, dials: Dials, keys: &Keys) -> Self {
        let others = QUARTERS.map(|quarters| Gauge::new(capacity, quarters, dials, keys));
        Self { entries, others, misses: 0, samples: 0, left: WINDOW }
    }

    pub(super) fn turn(&mut self, dials: Dials) {
        for gauge in &mut self.others {
            gauge.simulation.turn(dials);
        }
    }

    /// Runs a full batch. At the cache's own size, these of its accesses hit.
    pub(super) fn run(&mut self, batch: &[u16], hits: u64, keys: &mut Keys) {
        for gauge in &mut self.others {
            gauge.run(batch, keys);
        }
        self.misses += hits.count_zeros();
        self.samples += u64::BITS;
        self.left -= BATCH;
        if self.left == 0 {
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.left = WINDOW;
        self.samples /= 2;
        self.misses /= 2;
        self.others.iter_mut().for_each(|gauge| gauge.misses /= 2);
    }

    /// Smaller sizes first, given the miss ratio of the cache as it is. Empty if nothing has been seen yet.
    pub(super) fn points(&self, measured: f64) -> Vec<CurvePoint> {
        if self.samples == 0 {
            return Vec::new();
        }
        let mut sizes: Vec<_> = self.others.iter().map(Gauge::misses_of_all).collect();
        sizes.push((4, f64::from(self.misses)));
        sizes.sort_by_key(|&(quarters, _)| quarters);
        let per_miss = if self.misses == 0 {
            f64::from(self.samples).recip()
        } else {
            measured / f64::from(self.misses)
        };
        let mut least = 1.0_f64;
        let points = sizes.into_iter().map(|(quarters, misses)| {
            least = least.min(misses * per_miss);
            let (factor, entries) = (quarters as f64 / 4.0, self.entries.saturating_mul(quarters) / 4);
            CurvePoint { factor, entries, miss_ratio: least }
        });
        points.collect()
    }
}
