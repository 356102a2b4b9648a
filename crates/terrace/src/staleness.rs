//! How stale is what is returned, and is that too much?
//!
//! An old value that is returned where a load fails hides that it fails. So how old such values are is measured, and a keyspace
//! that returns more of them than its *budget* allows makes the cache's health say so.
//!
//! 1. Each stale answer is measured when it is counted. A fresh one costs nothing here.
//! 2. The last minute is what the counters have grown by since a *mark*. Marks are made at most every [`STEP`], before a stale
//!    answer is counted, when a background load ends, or when somebody asks. So there is one before the first stale
//!    answer of a minute, and where nobody notices anything none is made.
//! 3. A share of too few lookups says nothing: below [`LOOKUPS_MIN`] only the age of an answer can be over the budget.

use crate::entry::{Resident, StaleReason};
use crate::error::ConfigError;
use crate::space::View;
use crate::telemetry::{Counts, Event};
use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use terrace_core::Moment;

/// The time that shares and ages are of.
const WINDOW: Duration = Duration::from_mins(1);
/// How far marks are apart at least.
const STEP: Duration = Duration::from_secs(5);
/// Lookups of a window below which a share says nothing.
const LOOKUPS_MIN: u64 = 20;
/// What ages are rounded up to: so the greatest is not written anew by every answer while all of them age.
const AGE_UNIT: Duration = Duration::from_millis(100);

/// How much of what a keyspace returns may be stale before the cache's health says that it is too much.
///
/// Each bound holds for the answers of the last minute on one node. A keyspace that returns stale values at once by design
/// (`stale_while_revalidate`) and is read seldom returns hardly any others: bound their age there, not their share.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use terrace::{Cache, StalenessBudget};
/// let budget = StalenessBudget::new().share_max(0.2).age_max(Duration::from_secs(300));
/// let cache = Cache::builder().staleness_budget(budget).build()?;
/// # Ok::<(), terrace::ConfigError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[must_use = "it does nothing until it is given to a cache or a keyspace"]
pub struct StalenessBudget {
    share_max: Option<f64>,
    age_max: Option<Duration>,
}

impl StalenessBudget {
    /// No bound.
    pub const fn new() -> Self {
        Self { share_max: None, age_max: None }
    }

    /// The greatest share of stale answers among all lookups, from 0 up to, but not including, 1. Of fewer than 20 lookups it is not
    /// asked.
    pub const fn share_max(mut self, share: f64) -> Self {
        self.share_max = Some(share);
        self
    }

    /// The longest that a value that is returned may be past its TTL.
    pub const fn age_max(mut self, age: Duration) -> Self {
        self.age_max = Some(age);
        self
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match self.share_max {
            Some(share) if !(0.0..1.0).contains(&share) => {
                let allowed =
                    "a share of all lookups, from 0 and below 1, e.g. 0.2; leave it out for no bound";
                Err(ConfigError::new("staleness_budget.share_max", share, allowed))
            }
            _ => Ok(()),
        }
    }
}

/// How stale the answers of a keyspace were in the last minute, on this node.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct Staleness {
    /// The keyspace.
    pub keyspace: String,
    /// Lookups.
    pub lookups: u64,
    /// Lookups that were answered with a stale value, for whichever reason.
    pub stale: u64,
    /// How long the oldest of those values was past its TTL, to a tenth of a second; zero if none was.
    #[serde(rename = "oldest_seconds", serialize_with = "seconds")]
    pub oldest: Duration,
    /// Loads in the background that ended.
    pub background_loads: u64,
    /// Of those, the ones that brought no answer, or for which there was no place.
    pub background_failed: u64,
    /// Whether more answers were stale than the budget allows.
    pub is_share_over: bool,
    /// Whether one of them was older than it allows.
    pub is_age_over: bool,
}

fn seconds<S: Serializer>(age: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(age.as_secs_f64())
}

impl Staleness {
    /// The share of lookups that were answered with a stale value, from 0 to 1; 0 if there were none.
    pub fn share(&self) -> f64 {
        part(self.stale, self.lookups)
    }

    /// The share of background loads that brought an answer, from 0 to 1; 1 if there were none.
    pub fn background_success(&self) -> f64 {
        1.0 - part(self.background_failed, self.background_loads)
    }

    /// Whether it is more than the budget allows.
    pub fn is_over(&self) -> bool {
        self.is_share_over || self.is_age_over
    }
}

fn part(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// What is remembered of the last minute of one namespace.
#[derive(Default)]
pub(crate) struct Watch {
    marks: Mutex<VecDeque<Mark>>,
    /// When the next mark may be made, in nanoseconds of the clock.
    due_at: AtomicU64,
    /// The greatest age since the last mark, in [`AGE_UNIT`]s.
    oldest: AtomicU64,
}

/// What was counted at one time.
#[derive(Clone, Copy)]
struct Mark {
    at: Moment,
    counts: Counts,
    /// The greatest age of an answer between the mark before and this one, and the latest that it can have been.
    oldest: u64,
    oldest_at: Moment,
}

impl Watch {
    /// Makes a mark, if it is time to. What is counted after this call is behind it.
    fn mark(&self, now: Moment, counts: impl FnOnce() -> Counts) {
        if now.as_nanos() < self.due_at.load(Ordering::Relaxed) {
            return;
        }
        // Who has the lock makes the mark.
        if let Some(mut marks) = self.marks.try_lock() {
            self.mark_in(&mut marks, now, counts());
        }
    }

    fn mark_in(&self, marks: &mut VecDeque<Mark>, now: Moment, counts: Counts) {
        // An answer later than that would have made a mark itself.
        let oldest_at = marks.back().map_or(now, |last| now.min(last.at.plus(STEP)));
        while marks.front().is_some_and(|first| now.since(first.at) > WINDOW) {
            marks.pop_front();
        }
        let oldest = self.oldest.swap(0, Ordering::Relaxed);
        marks.push_back(Mark { at: now, counts, oldest, oldest_at });
        self.due_at.store(now.plus(STEP).as_nanos(), Ordering::Relaxed);
    }

    /// Notes how long an answer was past its TTL.
    fn note(&self, past: Duration) {
        let units = u64::try_from(past.as_nanos().div_ceil(AGE_UNIT.as_nanos())).unwrap_or(u64::MAX);
        if self.oldest.load(Ordering::Relaxed) < units {
            self.oldest.fetch_max(units, Ordering::Relaxed);
        }
    }

    /// What the counts have grown by in the window, and the greatest age in it.
    fn look(&self, now: Moment, counts: Counts) -> (Counts, Duration) {
        let mut marks = self.marks.lock();
        if now.as_nanos() >= self.due_at.load(Ordering::Relaxed) {
            self.mark_in(&mut marks, now, counts);
        }
        let is_in_window = |at: Moment| now.since(at) <= WINDOW;
        let first = marks.iter().find(|mark| is_in_window(mark.at)).map_or(counts, |first| first.counts);
        let marked = marks.iter().filter(|mark| is_in_window(mark.oldest_at)).map(|mark| mark.oldest).max();
        let oldest = marked.unwrap_or(0).max(self.oldest.load(Ordering::Relaxed));
        (counts.since(&first), AGE_UNIT.saturating_mul(u32::try_from(oldest).unwrap_or(u32::MAX)))
    }
}

impl View {
    /// Counts a stale answer, and measures it.
    pub(crate) fn count_stale(&self, reason: StaleReason, resident: &Resident) {
        let (now, counters) = (self.shared.clock.now(), &self.space.counters);
        let past = now.since(resident.fresh_until);
        self.space.watch.mark(now, || counters.counts());
        counters.stale(reason, past);
        self.space.watch.note(past);
    }

    /// Counts a load in the background that has ended.
    pub(crate) fn count_background(&self, is_answered: bool) {
        self.space.watch.mark(self.shared.clock.now(), || self.space.counters.counts());
        self.space.counters.count(if is_answered {
            Event::BackgroundLoaded
        } else {
            Event::BackgroundFailed
        });
    }

    /// How stale the answers of the last minute were.
    pub(crate) fn staleness(&self) -> Staleness {
        let (counts, oldest) = self.space.watch.look(self.shared.clock.now(), self.space.counters.counts());
        let Counts { lookups, stale, background_loads, background_failed } = counts;
        let keyspace = self.space.namespace.to_string();
        let (is_share_over, is_age_over) = (false, false);
        let found = Staleness {
            keyspace,
            lookups,
            stale,
            oldest,
            background_loads,
            background_failed,
            is_share_over,
            is_age_over,
        };
        let StalenessBudget { share_max, age_max } = self.space.rules().staleness_budget;
        Staleness {
            is_share_over: lookups >= LOOKUPS_MIN && share_max.is_some_and(|share| found.share() > share),
            is_age_over: age_max.is_some_and(|age| found.oldest > age),
            ..found
        }
    }
}
