//! Who answered, how fast, and how often nobody did?
//!
//! 1. Every request ends in exactly one place: served by a tier, failed, or wrong. Nothing is dropped, and
//!    `requests` is the sum.
//! 2. Latencies are kept per tier in histograms of two significant digits, from 1 ns to 100 s; longer ones count as
//!    100 s. Merging tallies loses nothing.

use hdrhistogram::Histogram;
use std::time::Duration;
use terrace::Tier;

/// All tiers, nearest first.
pub(crate) const TIERS: [Tier; 3] = [Tier::L1, Tier::L2, Tier::Origin];

/// The tier that replies call so.
pub(crate) fn tier_named(name: &str) -> Option<Tier> {
    TIERS.into_iter().find(|tier| tier.as_str() == name)
}

/// What one tier did.
#[derive(Clone, Debug)]
pub(crate) struct TierTally {
    /// How long its answers took, in nanoseconds. Its length is the number of answers.
    pub(crate) latency: Histogram<u64>,
    /// Bytes of the values it gave.
    pub(crate) bytes: u64,
    /// Bytes of the objects that the values stand for, by the trace's own sizes.
    pub(crate) object_bytes: u64,
}

impl Default for TierTally {
    fn default() -> Self {
        Self { latency: empty_histogram(), bytes: 0, object_bytes: 0 }
    }
}

/// What became of a number of requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    tiers: [TierTally; 3],
    /// Requests that ended in an error.
    pub(crate) failed: u64,
    /// Requests answered with a value that the origin does not have, or without a value that it has.
    pub(crate) wrong: u64,
    /// The first few of both, in words.
    pub(crate) examples: Vec<String>,
}

impl Tally {
    /// How many failures are kept in words.
    const EXAMPLES_MAX: usize = 5;
    const LATENCY_NANOS_MAX: u64 = 100_000_000_000;

    /// Counts an answer.
    pub(crate) fn serve(&mut self, by: Tier, took: Duration, bytes: u64, object_bytes: u64) {
        let tier = &mut self.tiers[by as usize];
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(Self::LATENCY_NANOS_MAX);
        tier.latency.saturating_record(nanos.max(1));
        tier.bytes += bytes;
        tier.object_bytes += object_bytes;
    }

    /// Counts a request that ended in an error.
    pub(crate) fn fail(&mut self, what: impl FnOnce() -> String) {
        self.failed += 1;
        self.keep_example(what);
    }

    /// Counts a wrong answer.
    pub(crate) fn mistake(&mut self, what: impl FnOnce() -> String) {
        self.wrong += 1;
        self.keep_example(what);
    }

    fn keep_example(&mut self, what: impl FnOnce() -> String) {
        if self.examples.len() < Self::EXAMPLES_MAX {
            self.examples.push(what());
        }
    }

    /// Adds another tally to this one.
    pub(crate) fn merge(&mut self, other: Self) {
        for (mine, theirs) in self.tiers.iter_mut().zip(other.tiers) {
            mine.latency.add(theirs.latency).expect("all histograms here have the same bounds");
            mine.bytes += theirs.bytes;
            mine.object_bytes += theirs.object_bytes;
        }
        self.failed += other.failed;
        self.wrong += other.wrong;
        let room = Self::EXAMPLES_MAX - self.examples.len();
        self.examples.extend(other.examples.into_iter().take(room));
    }

    /// What a tier did.
    pub(crate) fn tier(&self, by: Tier) -> &TierTally {
        &self.tiers[by as usize]
    }

    /// Requests that a tier answered.
    pub(crate) fn served(&self, by: Tier) -> u64 {
        self.tier(by).latency.len()
    }

    /// All requests.
    pub(crate) fn requests(&self) -> u64 {
        TIERS.into_iter().map(|by| self.served(by)).sum::<u64>() + self.failed + self.wrong
    }

    /// The part of all requests that a tier answered, from 0 to 1.
    pub(crate) fn ratio(&self, by: Tier) -> f64 {
        self.served(by) as f64 / self.requests().max(1) as f64
    }

    /// The part of all requests that did not need the origin, from 0 to 1.
    pub(crate) fn hit_ratio(&self) -> f64 {
        self.ratio(Tier::L1) + self.ratio(Tier::L2)
    }

    /// The latencies of all tiers together.
    pub(crate) fn latency(&self) -> Histogram<u64> {
        let mut all = empty_histogram();
        for tier in &self.tiers {
            all.add(&tier.latency).expect("all histograms here have the same bounds");
        }
        all
    }

    /// Bytes of all values given.
    pub(crate) fn bytes(&self) -> u64 {
        self.tiers.iter().map(|tier| tier.bytes).sum()
    }

    /// The part of the objects' bytes that a tier gave, from 0 to 1; `None` without sizes.
    pub(crate) fn byte_ratio(&self, by: Tier) -> Option<f64> {
        let all: u64 = self.tiers.iter().map(|tier| tier.object_bytes).sum();
        (all > 0).then(|| self.tier(by).object_bytes as f64 / all as f64)
    }
}

fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, Tally::LATENCY_NANOS_MAX, 2).expect("the bounds are constants that fit")
}

/// A quantile of a histogram of nanoseconds.
pub(crate) fn quantile(latency: &Histogram<u64>, quantile: f64) -> Duration {
    Duration::from_nanos(latency.value_at_quantile(quantile))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_ends_in_one_place() {
        let mut tally = Tally::default();
        tally.serve(Tier::L1, Duration::from_nanos(200), 10, 100);
        tally.serve(Tier::Origin, Duration::from_millis(20), 30, 300);
        tally.fail(|| "no answer".to_owned());
        tally.mistake(|| "another value".to_owned());
        assert_eq!(tally.requests(), 4);
        assert!((tally.hit_ratio() - 0.25).abs() < 1e-9);
        assert_eq!(tally.byte_ratio(Tier::Origin), Some(0.75));
        assert_eq!(tally.examples, ["no answer", "another value"]);
    }

    #[test]
    fn merging_loses_nothing() {
        let mut all = Tally::default();
        for worker in 0..4_u32 {
            let mut tally = Tally::default();
            for request in 1..=100 {
                tally.serve(Tier::L2, Duration::from_micros(request), 1, 0);
            }
            tally.fail(|| format!("worker {worker}"));
            tally.fail(|| format!("worker {worker} again"));
            all.merge(tally);
        }
        assert_eq!((all.requests(), all.failed, all.bytes()), (408, 8, 400));
        assert_eq!(all.examples.len(), Tally::EXAMPLES_MAX);
        assert_eq!(all.byte_ratio(Tier::L2), None);
        let median = quantile(&all.latency(), 0.5);
        assert!(median.abs_diff(Duration::from_micros(50)) < Duration::from_micros(1), "{median:?}");
    }

    #[test]
    fn a_latency_beyond_all_bounds_is_still_counted() {
        let mut tally = Tally::default();
        tally.serve(Tier::L1, Duration::ZERO, 0, 0);
        tally.serve(Tier::L1, Duration::MAX, 0, 0);
        assert_eq!(tally.served(Tier::L1), 2);
    }

    #[test]
    fn names_are_those_of_the_replies() {
        for tier in TIERS {
            assert_eq!(tier_named(tier.as_str()), Some(tier));
        }
        assert_eq!(tier_named("stale"), None);
    }
}
