//! How much longer does an entry last that is read often?
//!
//! 1. Only a TTL that keyspace or call say is stretched: a loader that says how long its value is right means it.
//! 2. What counts is how often the entry was looked up on the node that loads it, between its last load and this one, as far as
//!    its keyspace's hot keys tell ([`crate::hot`]). They tell of too few lookups rather than of too many.
//! 3. Where no key is counted, nobody can know, and it is refused to want it.
//! 4. A stretched TTL is an upper bound like any other: chance shortens it, and it is at most so many times the TTL.

use crate::error::ConfigError;
use crate::space::{Shared, View};
use crate::telemetry::SAMPLE_EVERY;
use crate::terms::Terms;
use terrace_core::{Key, Ttl};

/// How much longer entries last that are read often.
///
/// An entry that nobody read since it was loaded last gets its TTL, one that was looked up [`reads`](AdaptiveTtl::reads) times gets
/// [`up_to`](AdaptiveTtl::up_to) so many times of that, and others what lies between. So an origin is asked less often for what
/// everybody reads; such entries may be older, too, unless they are invalidated when they change.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use terrace::{AdaptiveTtl, EntryOptions};
/// // From 1 minute to 5, which is for what is read 2,000 times between two loads.
/// let options = EntryOptions::new().ttl(Duration::from_secs(60)).adaptive_ttl(AdaptiveTtl::up_to(5.0).reads(2_000));
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[must_use = "it does nothing until it is given to options"]
pub struct AdaptiveTtl {
    factor_max: f64,
    reads: u64,
}

impl AdaptiveTtl {
    /// How many lookups make an entry last as long as it may, unless told otherwise.
    pub const READS_DEFAULT: u64 = 1_000;
    /// The most that a TTL can be stretched.
    pub const FACTOR_MAX: f64 = 1_000.0;

    /// Entries last up to so many times their TTL: more than once, at most [`AdaptiveTtl::FACTOR_MAX`] times.
    pub const fn up_to(factor_max: f64) -> Self {
        Self { factor_max, reads: Self::READS_DEFAULT }
    }

    /// How often an entry has to be looked up, between two loads and on the node that loads it, to last as long as it may. One lookup
    /// in 61 is looked at, and stands for the others: so at least 61, and better some hundreds. Default: 1,000.
    pub const fn reads(mut self, reads: u64) -> Self {
        self.reads = reads;
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if !(self.factor_max > 1.0 && self.factor_max <= Self::FACTOR_MAX) {
            let allowed = "how many times its TTL an entry may last: more than 1, at most 1000, e.g. 4";
            return Err(ConfigError::new("adaptive_ttl", self.factor_max, allowed));
        }
        if self.reads < u64::from(SAMPLE_EVERY) {
            let allowed = "at least 61, because one lookup in 61 is looked at, e.g. 1000";
            return Err(ConfigError::new("adaptive_ttl_reads", self.reads, allowed));
        }
        Ok(())
    }

    /// The TTL of an entry that was looked up so often.
    fn stretched(&self, ttl: Ttl, lookups: u64) -> Ttl {
        let Ttl::After(ttl) = ttl else { return ttl };
        let share = (lookups as f64 / self.reads as f64).min(1.0);
        let factor = 1.0 + (self.factor_max - 1.0) * share;
        // What is too long for a clock lasts for ever, as it does elsewhere.
        let seconds = ttl.as_secs_f64() * factor;
        std::time::Duration::try_from_secs_f64(seconds).map_or(Ttl::Never, |long| Ttl::After(long.max(ttl)))
    }
}

impl Shared {
    /// Whether entries can be kept and loaded on these terms.
    ///
    /// # Errors
    /// As [`Terms::check`]; also if it is not known what is read often.
    pub(crate) fn check(&self, terms: &Terms) -> Result<(), ConfigError> {
        terms.check()?;
        match terms.adaptive {
            Some(adaptive) if self.hot_keys_max == 0 => {
                let allowed = "none where no keys are counted: leave `CacheBuilder::hot_keys_max` out";
                Err(ConfigError::new("adaptive_ttl", adaptive.factor_max, allowed))
            }
            _ => Ok(()),
        }
    }
}

impl View {
    /// The TTL of an entry that was loaded, and whose loader did or did not say how long it is right.
    pub(crate) fn ttl_of_loaded(&self, key: &Key, said: Option<Ttl>, terms: &Terms) -> Ttl {
        let lookups = || self.space.hot.looked_up_since_load(key.as_str());
        let adaptive = terms.adaptive.map(|adaptive| (adaptive, lookups()));
        match (said, adaptive) {
            (Some(said), _) => said,
            (None, Some((adaptive, lookups))) => adaptive.stretched(terms.ttl, lookups),
            (None, None) => terms.ttl,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn a_ttl_is_stretched_in_proportion_and_within_its_bounds() {
        let adaptive = AdaptiveTtl::up_to(5.0);
        let of = |lookups| adaptive.stretched(MINUTE.into(), lookups).duration().expect("it ends");
        assert_eq!([0, 500, 1_000, u64::MAX].map(of), [MINUTE, MINUTE * 3, MINUTE * 5, MINUTE * 5]);
        assert!((0..1_000).map(of).is_sorted());
        assert_eq!(adaptive.stretched(Ttl::Never, 1_000), Ttl::Never);
        assert_eq!(adaptive.stretched(Duration::ZERO.into(), 1_000), Ttl::After(Duration::ZERO));
        assert_eq!(adaptive.stretched(Duration::MAX.into(), 1_000), Ttl::Never);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for factor in [1.0, 0.5, -2.0, 1_000.5, f64::NAN, f64::INFINITY] {
            assert_eq!(AdaptiveTtl::up_to(factor).check().unwrap_err().setting, "adaptive_ttl");
        }
        assert_eq!(AdaptiveTtl::up_to(2.0).reads(60).check().unwrap_err().setting, "adaptive_ttl_reads");
        assert_eq!(AdaptiveTtl::up_to(2.0).reads(61).check(), Ok(()));
    }
}
