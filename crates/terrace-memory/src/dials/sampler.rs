//! Which accesses are simulated, and who hears of the result.
//!
//! 1. A key is sampled or not by the top bits of its hash, so always or never. Its low 32 bits stand for it.
//! 2. The share of the keys is chosen so that [`SIMULATED`] entries of the cache are simulated, but no more than
//!    every [`STRIDE_MIN`]th key is sampled, unless that would leave less than [`SIMULATED_MIN`] entries.
//! 3. What every read looks at (the threshold) and every writer (the dials) is written only when it changes, and
//!    lies on other cache lines than the lock and what it guards.

use super::contest::{BATCH, Contest};
use super::curve::{Curve, CurvePoint};
use super::keys::Keys;
use super::{CHOICES, Dials};
use crate::hash;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Entries of the cache that a simulation stands for, if the cache is large enough.
pub(super) const SIMULATED: usize = 64;
/// A simulation of fewer tells nothing. A cache of fewer is simulated whole.
const SIMULATED_MIN: usize = 16;
/// At most every so many-th key is sampled.
const STRIDE_MIN: usize = 8;

/// Chooses the dials of one cache. Shared by all threads.
#[derive(Debug)]
pub(crate) struct Sampler {
    /// Hashes below are sampled: none while asleep.
    threshold: AtomicU64,
    dials: AtomicU32,
    studied: Apart<Mutex<Studied>>,
}

/// Not on one cache line (nor, for the prefetcher's sake, on one pair of them) with what is next to it.
#[derive(Debug)]
#[repr(align(128))]
struct Apart<T>(T);

#[derive(Debug)]
struct Studied {
    entries: usize,
    study: Option<Box<Study>>,
}

/// What is known of the accesses.
#[derive(Debug)]
struct Study {
    contest: Contest,
    curve: Curve,
    keys: Keys,
    /// Keys noted and not run yet, held by their numbers.
    batch: Vec<u16>,
}

/// The part of the keys that is sampled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sample {
    /// Entries of the cache that are sampled.
    entries: usize,
    threshold: u64,
}

impl Sampler {
    /// A sleeping sampler of a cache of so many entries.
    pub(crate) fn new(entries_expected: usize) -> Self {
        let studied = Studied { entries: entries_expected.max(1), study: None };
        Self {
            threshold: AtomicU64::new(0),
            dials: AtomicU32::new(CHOICES[0].to_bits()),
            studied: Apart(Mutex::new(studied)),
        }
    }

    /// Sampling begins, unless it has. To be called when the cache evicts: one that never does needs no dials.
    ///
    /// # Cost
    /// A load if awake; else a lock and a few allocations.
    #[inline]
    pub(crate) fn wake(&self) {
        if self.is_asleep() {
            self.begin();
        }
    }

    /// The cache has another capacity now. What was learned is forgotten, but for the dials. A change by less than a
    /// quarter is ignored: the choice does not depend on it.
    pub(crate) fn resize(&self, entries_expected: usize) {
        let mut studied = self.studied.0.lock();
        let entries = entries_expected.max(1);
        if studied.study.is_none() {
            studied.entries = entries;
        } else if entries.abs_diff(studied.entries) >= studied.entries.div_ceil(4) {
            studied.entries = entries;
            self.study_anew(&mut studied);
        }
    }

    /// Whether sampling has not begun.
    #[inline]
    pub(crate) fn is_asleep(&self) -> bool {
        self.threshold.load(Ordering::Relaxed) == 0
    }

    /// Whether accesses of the key with this hash are to be noted.
    #[inline]
    pub(crate) fn samples(&self, hash: u64) -> bool {
        hash < self.threshold.load(Ordering::Relaxed)
    }

    /// An access, hit or miss, of a sampled key. Lost if another is being noted at this moment.
    ///
    /// # Cost
    /// A few nanoseconds, but every [`BATCH`]th time some microseconds.
    #[cold]
    pub(crate) fn note(&self, hash: u64) {
        let Some(mut studied) = self.studied.0.try_lock() else { return };
        let Some(study) = studied.study.as_deref_mut() else { return };
        if let Some(dials) = study.note(hash::lower(hash)) {
            self.dials.store(dials.to_bits(), Ordering::Relaxed);
        }
    }

    /// The dials to use.
    #[inline]
    pub(crate) fn dials(&self) -> Dials {
        Dials::from_bits(self.dials.load(Ordering::Relaxed))
    }

    /// What a quarter, a half, twice and four times the capacity would miss, given the miss ratio that was measured
    /// lately at the capacity as it is. Empty as long as nothing is known. Accesses noted meanwhile are lost; there
    /// is no other effect.
    pub(crate) fn curve(&self, miss_ratio_measured: f64) -> Vec<CurvePoint> {
        let studied = self.studied.0.lock();
        let study = studied.study.as_ref();
        study.map_or_else(Vec::new, |study| study.curve.points(miss_ratio_measured))
    }

    #[cold]
    fn begin(&self) {
        let mut studied = self.studied.0.lock();
        if studied.study.is_none() {
            self.study_anew(&mut studied);
        }
    }

    fn study_anew(&self, studied: &mut Studied) {
        let sample = Sample::of(studied.entries);
        studied.study = Some(Box::new(Study::new(studied.entries, sample.entries, self.dials())));
        self.threshold.store(sample.threshold, Ordering::Relaxed);
    }
}

impl Study {
    fn new(entries: usize, simulated: usize, dials: Dials) -> Self {
        let keys = Keys::new(Contest::known_max(simulated) + Curve::known_max(simulated) + BATCH);
        let contest = Contest::new(simulated, dials, &keys);
        let curve = Curve::new(entries, simulated, dials, &keys);
        Self { contest, curve, keys, batch: Vec::with_capacity(BATCH) }
    }

    /// The dials to use from now on, if others.
    fn note(&mut self, hash: u32) -> Option<Dials> {
        self.batch.extend(self.keys.take(hash));
        if self.batch.len() < BATCH {
            return None;
        }
        let outcome = self.contest.run(&self.batch, &mut self.keys);
        self.curve.run(&self.batch, outcome.hits, &mut self.keys);
        if let Some(dials) = outcome.turned {
            self.curve.turn(dials);
        }
        for key in self.batch.drain(..) {
            self.keys.release(key);
        }
        outcome.turned
    }
}

impl Sample {
    fn of(cache_entries: usize) -> Self {
        let few = SIMULATED_MIN.min(cache_entries);
        let entries = SIMULATED.min(cache_entries / STRIDE_MIN).max(few);
        Self { entries, threshold: (u64::MAX / cache_entries as u64) * entries as u64 }
    }
}
