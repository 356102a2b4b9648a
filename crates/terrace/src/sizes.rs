//! What would L1 of another size answer?
//!
//! 1. How much more or less other sizes would miss is the engine's estimate, from simulations on a sample of what L1 is asked for. How much L1
//!    misses as it is was counted: lookups of the last five to ten minutes, of the keyspaces that use L1.
//! 2. More room keeps only what leaves for want of room. What leaves because its time is over, or because it was invalidated, would leave a
//!    larger L1 too. So of what the simulations promise a larger size, only the share counts that evictions have of all that left, and no more
//!    than there were evictions: a miss that more room avoids had one before it. Of a smaller size it is the other way round: all that they
//!    threaten counts. Neither promises too much.
//! 3. Nothing of this is on the way of a lookup. Counters are summed up when somebody asks, and at most once with each cleaning of L1.

use crate::cache::Cache;
use crate::l1::L1;
use crate::space::Shared;
use parking_lot::Mutex;
use serde::Serialize;
use std::time::Duration;
use terrace_core::Moment;

/// The least time that is looked back on, once so much has passed.
const LATELY: Duration = Duration::from_mins(5);
/// Fewer lookups tell nothing.
const LOOKUPS_MIN: u64 = 1_000;

/// A size of L1, and what it would miss of the lookups of the last minutes; see [`Cache::l1_sizes`].
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct L1Size {
    /// The size as a multiple of what it is now: 0.25, 0.5, 1, 2 or 4.
    pub factor: f64,
    /// How many entries an L1 of this size holds.
    pub entries: u64,
    /// What they weigh, if they weigh what those in L1 weigh on average now.
    pub bytes: u64,
    /// Lookups that L1 has no fresh value for, of all, from 0 to 1: counted for the size that L1 has, else an estimate.
    pub miss_ratio: f64,
}

/// Why nothing is known of other sizes; see [`Cache::l1_sizes`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoSizes {
    /// There is no L1.
    #[error("there is no L1")]
    NoL1,
    /// L1 evicts by [`Policy::Lru`](crate::Policy::Lru), for which nothing is simulated.
    #[error("L1 evicts by LRU, for which nothing is simulated; the default policy would tell")]
    Lru,
    /// L1 has not been full yet, or not for long enough: more room would hold nothing more.
    #[error("L1 has not been full for long enough: until it evicts, more room would change nothing")]
    NotFull,
    /// There were less than a thousand lookups in the last minutes.
    #[error("there were less than 1,000 lookups in the last minutes")]
    FewLookups,
}

impl NoSizes {
    /// A word for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoL1 => "no_l1",
            Self::Lru => "lru",
            Self::NotFull => "not_full",
            Self::FewLookups => "few_lookups",
        }
    }
}

/// What was counted of L1 until some time.
#[derive(Clone, Copy, Default, Debug)]
struct Traffic {
    lookups: u64,
    hits: u64,
    evictions: u64,
    /// Copies that left, whyever.
    departures: u64,
}

impl Traffic {
    fn since(self, earlier: Self) -> Self {
        Self {
            lookups: self.lookups.saturating_sub(earlier.lookups),
            hits: self.hits.saturating_sub(earlier.hits),
            evictions: self.evictions.saturating_sub(earlier.evictions),
            departures: self.departures.saturating_sub(earlier.departures),
        }
    }

    /// Misses of all lookups; `None` if there were too few.
    fn miss_ratio(self) -> Option<f64> {
        let misses = self.lookups.saturating_sub(self.hits);
        (self.lookups >= LOOKUPS_MIN).then(|| misses as f64 / self.lookups as f64)
    }

    /// Evictions for each lookup: more misses than that, more room cannot avoid.
    fn evicted(self) -> f64 {
        self.evictions as f64 / self.lookups.max(1) as f64
    }

    /// The share of what left that more room would have kept.
    fn share_of_evictions(self) -> f64 {
        if self.departures == 0 {
            0.0
        } else {
            self.evictions.min(self.departures) as f64 / self.departures as f64
        }
    }
}

/// What was counted at two times: one that is at least [`LATELY`] ago, as soon as there is such a time, and one after it.
#[derive(Debug)]
pub(crate) struct Lately(Mutex<[Mark; 2]>);

#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Moment,
    traffic: Traffic,
}

impl Lately {
    /// Nothing was counted until `now`.
    pub(crate) fn since(now: Moment) -> Self {
        Self(Mutex::new([Mark { at: now, traffic: Traffic::default() }; 2]))
    }

    /// What happened between the earlier mark and now. Makes a mark if it is time to.
    fn look(&self, now: Moment, traffic: Traffic) -> Traffic {
        let mut marks = self.0.lock();
        if now.since(marks[1].at) >= LATELY {
            *marks = [marks[1], Mark { at: now, traffic }];
        }
        traffic.since(marks[0].traffic)
    }
}

impl Shared {
    /// Notes how much L1 was asked for until now, and gives how much that was lately.
    fn look_at_traffic(&self, l1: &L1) -> Traffic {
        let mut all = Traffic::default();
        for space in self.spaces.read().values().filter(|space| space.uses_l1) {
            let (lookups, hits) = space.counters.lookups_and_hits();
            let left = l1.residency(space.id);
            all.lookups += lookups;
            all.hits += hits;
            all.evictions += left.evictions;
            all.departures += left.evictions + left.expirations + left.invalidated;
        }
        self.lately.look(self.clock.now(), all)
    }

    /// Notes how much L1 was asked for until now, so that what is asked for later can be told from it.
    pub(crate) fn mark_traffic(&self) {
        if let Some(l1) = &self.l1 {
            self.look_at_traffic(l1);
        }
    }
}

impl Cache {
    /// What L1 would miss if it had a quarter, a half, twice or four times its size, beside what it misses as it is. Smaller sizes come first, and
    /// none misses less than a larger one.
    ///
    /// Of the lookups of the last five to ten minutes, by all keyspaces that use L1; of a longer time where L1 is cleaned more rarely than that.
    /// The size that L1 has was counted. The others are estimated from a sample of the keys, usually within a few points, as if what is asked for
    /// stayed as it is. What would leave a larger L1 just the same, because its time is over or it is invalidated, is not promised to stay, and a
    /// larger size is promised to avoid no more misses than there were evictions. Where few misses are for want of room, a smaller size would
    /// miss less than is said.
    ///
    /// # Errors
    /// [`NoSizes`]: why nothing can be said.
    ///
    /// # Cost
    /// The sum of some counters for each keyspace, two locks for an instant, and those of L1 one after the other. Not for every request. Lookups pay
    /// nothing for it.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use terrace::{Cache, L1, NoSizes};
    /// let cache = Cache::builder().l1(L1::entries(100)).build()?;
    /// let squares = cache.keyspace::<u64, u64>("squares").build()?;
    /// assert_eq!(cache.l1_sizes(), Err(NoSizes::NotFull));
    /// for key in (0..200).cycle().take(20_000) {
    ///     squares.get_or_load(&key, async move || Ok::<_, std::io::Error>(key * key)).await?;
    /// }
    /// let sizes = cache.l1_sizes()?;
    /// let [own, twice] = [1.0, 2.0].map(|factor| sizes.iter().find(|size| size.factor == factor).unwrap());
    /// assert_eq!(own.entries, 100);
    /// assert!(twice.miss_ratio < own.miss_ratio, "all 200 keys find room there");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn l1_sizes(&self) -> Result<Vec<L1Size>, NoSizes> {
        let l1 = self.shared.l1.as_ref().ok_or(NoSizes::NoL1)?;
        let lately = self.shared.look_at_traffic(l1);
        if l1.policy == terrace_memory::Policy::Lru {
            return Err(NoSizes::Lru);
        }
        let points = l1.miss_ratios_at(lately.miss_ratio().unwrap_or_default());
        if points.is_empty() {
            return Err(NoSizes::NotFull);
        }
        let measured = lately.miss_ratio().ok_or(NoSizes::FewLookups)?;
        // Where the simulations miss nothing at the size that L1 has, this is not what was measured.
        let own = points.iter().rfind(|point| point.factor <= 1.0).map_or(measured, |point| point.miss_ratio);
        let (share, evicted) = (lately.share_of_evictions(), lately.evicted());
        let size = |point: terrace_memory::CurvePoint| {
            let more = point.miss_ratio - own;
            let counted = if point.factor > 1.0 { (more * share).max(-evicted) } else { more };
            L1Size {
                factor: point.factor,
                entries: point.entries as u64,
                bytes: l1.weight_of(point.entries),
                miss_ratio: (measured + counted).clamp(0.0, 1.0),
            }
        };
        Ok(points.into_iter().map(size).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use terrace_core::Clock;

    const fn traffic(lookups: u64, hits: u64, evictions: u64, departures: u64) -> Traffic {
        Traffic { lookups, hits, evictions, departures }
    }

    #[test]
    fn what_is_looked_back_on_is_at_least_five_minutes_once_so_much_has_passed() {
        let clock = Clock::manual();
        let lately = Lately::since(clock.now());
        let mut seen = Vec::new();
        for minute in 1..=20 {
            clock.advance(Duration::from_mins(1));
            seen.push(lately.look(clock.now(), traffic(100 * minute, 0, 0, 0)).lookups / 100);
        }
        assert_eq!(seen[..5], [1, 2, 3, 4, 5]);
        assert!(seen[5..].iter().all(|minutes| (5..=10).contains(minutes)), "{seen:?}");
    }

    #[test]
    fn counters_that_go_back_count_as_nothing() {
        let lately = Lately::since(Moment::from_nanos(0));
        assert_eq!(lately.look(Moment::from_nanos(0), traffic(5, 5, 5, 5)).lookups, 5);
        assert_eq!(traffic(1, 2, 3, 4).since(traffic(9, 9, 9, 9)).lookups, 0);
    }

    #[test]
    fn few_lookups_and_no_departures_tell_nothing() {
        assert_eq!(traffic(LOOKUPS_MIN - 1, 0, 0, 0).miss_ratio(), None);
        assert_eq!(traffic(LOOKUPS_MIN, LOOKUPS_MIN / 4, 0, 0).miss_ratio(), Some(0.75));
        let shares =
            [(0, 0), (3, 4), (5, 4)].map(|(evicted, left)| traffic(0, 0, evicted, left).share_of_evictions());
        assert_eq!(shares.as_slice(), [0.0, 0.75, 1.0], "they are counted apart");
    }
}
