//! How are durations distributed?
//!
//! A log-linear histogram: each doubling from 100 ns to 13.4 s is cut into four equal steps, so a quantile read from
//! it is at most a quarter too high. It never allocates after its creation, never locks, never loses a count.
//!
//! 1. A bucket holds the durations up to and including its upper bound.
//! 2. Recording is two relaxed adds.
//! 3. Every [`octaves`](HistogramSnapshot::octaves) bound is also a bound of a finer bucket, so what is exported is
//!    exact.
//!
//! Deliberately absent: the clock, and the decision what to measure.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Blocks per histogram. Few are enough: what is recorded is a sample of the L1 hits, or something that a network
/// round trip dwarfs.
pub(super) const SHARDS: usize = 4;

/// Upper bound of the first bucket.
const FIRST_NANOS: u64 = 100;
/// Doublings after it.
const OCTAVES: usize = 27;
/// Equal steps in each doubling.
const STEPS: usize = 4;
const STEP_NANOS: u64 = FIRST_NANOS / STEPS as u64;
/// The first bucket, the steps, and one for everything longer.
const BUCKETS: usize = 1 + OCTAVES * STEPS + 1;

/// The bucket that a duration belongs to.
fn bucket(nanos: u64) -> usize {
    if nanos <= FIRST_NANOS {
        return 0;
    }
    let steps = (nanos - 1) / STEP_NANOS;
    let octave = steps.ilog2() - STEPS.ilog2();
    let step = (steps >> octave) as usize % STEPS;
    (1 + octave as usize * STEPS + step).min(BUCKETS - 1)
}

/// The longest duration that belongs to a bucket; of the last one, the longest that does not.
fn upper_nanos(bucket: usize) -> u64 {
    let Some(step) = bucket.min(BUCKETS - 2).checked_sub(1) else { return FIRST_NANOS };
    ((STEPS + 1 + step % STEPS) as u64 * STEP_NANOS) << (step / STEPS)
}

/// The bounds of [`HistogramSnapshot::octaves`], but for the last, which is none.
pub(super) fn octave_bounds() -> impl Iterator<Item = Duration> {
    (0..=OCTAVES).map(|octave| Duration::from_nanos(FIRST_NANOS << octave))
}

#[repr(align(128))]
#[derive(Debug)]
struct Block {
    buckets: [AtomicU64; BUCKETS],
    sum_nanos: AtomicU64,
}

/// A histogram that threads record into.
#[derive(Debug)]
pub(super) struct Histogram(Box<[Block]>);

impl Histogram {
    pub(super) fn new() -> Self {
        Self::of(SHARDS)
    }

    /// One for what is recorded so seldom that threads need not be kept apart.
    pub(super) fn of_one_shard() -> Self {
        Self::of(1)
    }

    fn of(shards: usize) -> Self {
        let block =
            || Block { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_nanos: AtomicU64::new(0) };
        Self((0..shards).map(|_| block()).collect())
    }

    /// Records a duration that stands for `weight` of them.
    pub(super) fn record(&self, shard: usize, duration: Duration, weight: u64) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let block = &self.0[shard];
        block.buckets[bucket(nanos)].fetch_add(weight, Ordering::Relaxed);
        block.sum_nanos.fetch_add(nanos.saturating_mul(weight), Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            buckets: std::array::from_fn(|bucket| {
                self.0.iter().map(|block| block.buckets[bucket].load(Ordering::Relaxed)).sum()
            }),
            sum_nanos: self
                .0
                .iter()
                .fold(0, |sum, block| sum.wrapping_add(block.sum_nanos.load(Ordering::Relaxed))),
        }
    }
}

/// What a histogram held at one time.
#[derive(Clone, Debug)]
pub(crate) struct HistogramSnapshot {
    buckets: [u64; BUCKETS],
    sum_nanos: u64,
}

impl HistogramSnapshot {
    pub(super) const fn zero() -> Self {
        Self { buckets: [0; BUCKETS], sum_nanos: 0 }
    }

    /// How many durations.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them together.
    pub(super) fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos)
    }

    /// The mean; zero if there is none.
    pub(super) fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos.checked_div(self.count()).unwrap_or(0))
    }

    /// A duration that the share `quantile` (0 to 1) of all does not exceed, at most a quarter above the least such
    /// one; zero if there is none. Never more than 13.4 s, where the histogram ends.
    pub(super) fn quantile(&self, quantile: f64) -> Duration {
        let rank = quantile * self.count() as f64;
        let mut below = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            below += count;
            if *count > 0 && below as f64 >= rank {
                return Duration::from_nanos(upper_nanos(bucket));
            }
        }
        Duration::ZERO
    }

    /// The counts between the doublings of 100 ns: each with its upper bound in seconds, the last without bound. `scale` is what the
    /// durations were divided by.
    pub(super) fn octaves(&self, scale: u32) -> Vec<(f64, u64)> {
        let (first, rest) = self.buckets.split_at(1);
        let (steps, beyond) = rest.split_at(OCTAVES * STEPS);
        let octaves = steps.chunks_exact(STEPS).map(|steps| steps.iter().sum());
        let bounds = (0..=OCTAVES).map(|octave| ((FIRST_NANOS << octave) * u64::from(scale)) as f64 / 1e9);
        let counts = first.iter().copied().chain(octaves);
        bounds.zip(counts).chain([(f64::INFINITY, beyond[0])]).collect()
    }

    /// What was recorded since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            buckets: std::array::from_fn(|bucket| {
                self.buckets[bucket].saturating_sub(earlier.buckets[bucket])
            }),
            sum_nanos: self.sum_nanos.wrapping_sub(earlier.sum_nanos),
        }
    }

    /// Adds what another histogram held.
    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum_nanos = self.sum_nanos.wrapping_add(other.sum_nanos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_the_bucket_below() {
        for index in 0..BUCKETS - 2 {
            let upper = upper_nanos(index);
            assert_eq!(bucket(upper), index, "{upper}");
            assert_eq!(bucket(upper + 1), index + 1, "{upper} + 1");
            assert!(upper < upper_nanos(index + 1));
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_quantile_is_at_most_a_quarter_too_high() {
        let histogram = Histogram::new();
        let durations: Vec<u64> = (0..10_000).map(|step| 120 + step * step / 7).collect();
        for (index, nanos) in durations.iter().enumerate() {
            histogram.record(index % SHARDS, Duration::from_nanos(*nanos), 1);
        }
        let snapshot = histogram.snapshot();
        for (quantile, exact) in [(0.5, durations[4_999]), (0.99, durations[9_899]), (1.0, durations[9_999])]
        {
            let read = u64::try_from(snapshot.quantile(quantile).as_nanos()).unwrap();
            assert!(exact <= read && read <= exact + exact / 4 + 1, "{quantile}: {read} for {exact}");
        }
        assert_eq!(snapshot.mean().as_nanos(), u128::from(durations.iter().sum::<u64>() / 10_000));
    }

    #[test]
    fn what_is_exported_adds_up_and_is_cut_at_the_doublings() {
        let histogram = Histogram::new();
        for nanos in [100, 101, 200, 201, 13_421_772_800, 13_421_772_801, u64::MAX] {
            histogram.record(0, Duration::from_nanos(nanos), 1);
        }
        let octaves = histogram.snapshot().octaves(1);
        assert_eq!(octaves.iter().map(|(_, count)| count).sum::<u64>(), 7);
        assert_eq!(octaves[..3], [(1e-7, 1), (2e-7, 2), (4e-7, 1)]);
        assert_eq!(octaves[OCTAVES..], [(13.421_772_8, 1), (f64::INFINITY, 2)]);
    }

    #[test]
    fn an_empty_histogram_has_no_quantiles_and_no_mean() {
        let zero = HistogramSnapshot::zero();
        assert_eq!((zero.count(), zero.mean(), zero.quantile(0.99)), (0, Duration::ZERO, Duration::ZERO));
    }
}
