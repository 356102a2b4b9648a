//! How long did calls to the origin take?
//!
//! 1. A call is what the program's code is asked for in one go, of one key or of many, and nothing around it: no lease, no place of a
//!    bulkhead, not the other keys of a batch. An origin that knows better when it asks somebody says so itself: [`OriginTimer`].
//! 2. Every call counts once, whatever came of it: one that panics, or is given up because it takes too long, has failed after
//!    the time that it took until then. One that was not made after all does not count.
//! 3. It has failed if any part of it has: of a batch, one key.
//! 4. A keyspace has durations from when an origin is bound to it, or from its first call of a closure: each takes as many series as
//!    everything else that it has.

use super::counters::SpaceCounters;
use super::histogram::{Histogram, HistogramSnapshot};
use crate::origin::OriginAnswer;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use terrace_core::Moment;

/// What the origin is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(crate) enum Call {
    Load,
    /// One call that loads many keys.
    LoadMany,
    /// One value, or many changes in one call.
    Store,
    Delete,
}

impl Call {
    pub(super) const ALL: [Self; 4] = [Self::Load, Self::LoadMany, Self::Store, Self::Delete];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::LoadMany => "load_many",
            Self::Store => "store",
            Self::Delete => "delete",
        }
    }
}

/// What can come of a call, as far as durations are concerned.
pub(super) const OUTCOMES: [(bool, &str); 2] = [(true, "ok"), (false, "failed")];

/// How many histograms there are for each keyspace.
const SERIES: usize = Call::ALL.len() * OUTCOMES.len();

/// Where the durations of calls are kept that ended so.
const fn series(call: Call, is_ok: bool) -> usize {
    call as usize * OUTCOMES.len() + if is_ok { 0 } else { 1 }
}

/// The durations of a keyspace's calls, once there may be any. A call to an origin is too long, and too seldom, for threads to get into
/// each other's way.
#[derive(Default, Debug)]
pub(super) struct CallTimes(OnceLock<Box<[Histogram]>>);

impl CallTimes {
    /// The durations, from now on also where they are read.
    fn expected(&self) -> &[Histogram] {
        self.0.get_or_init(|| (0..SERIES).map(|_| Histogram::of_one_shard()).collect())
    }

    pub(super) fn snapshot(&self) -> CallSnapshot {
        CallSnapshot(self.0.get().map(|calls| calls.iter().map(Histogram::snapshot).collect()))
    }
}

/// The durations of a keyspace's calls at one time; nothing if there never was a call, or an origin.
#[derive(Clone, Default, Debug)]
pub(super) struct CallSnapshot(Option<Box<[HistogramSnapshot]>>);

impl CallSnapshot {
    /// How long calls took that ended so.
    pub(super) fn of(&self, call: Call, is_ok: bool) -> Option<&HistogramSnapshot> {
        self.0.as_ref().map(|calls| &calls[series(call, is_ok)])
    }

    /// What happened since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let since = |now: &[HistogramSnapshot], then: &[HistogramSnapshot]| {
            now.iter().zip(then).map(|(now, then)| now.since(then)).collect()
        };
        match (&self.0, &earlier.0) {
            (Some(now), Some(then)) => Self(Some(since(now, then))),
            _ => self.clone(),
        }
    }

    /// Adds the calls of another keyspace.
    pub(super) fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (Some(mine), Some(theirs)) => {
                mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| mine.merge(theirs));
            }
            (None, Some(theirs)) => self.0 = Some(theirs.clone()),
            (_, None) => {}
        }
    }
}

/// What an origin answers, as far as durations are concerned.
pub(crate) trait CallAnswer {
    /// Whether it did what it was asked for.
    fn is_ok(&self) -> bool;
}

impl<T, E> CallAnswer for Result<T, E> {
    fn is_ok(&self) -> bool {
        self.is_ok()
    }
}

impl<E> CallAnswer for OriginAnswer<E> {
    fn is_ok(&self) -> bool {
        self.made.is_ok()
    }
}

/// A call of the origin that gives one answer, with a note of how long it took.
///
/// # Cost
/// The clock is read twice.
pub(crate) fn timed_one<A: CallAnswer, F: Future<Output = A>>(
    counters: &Arc<SpaceCounters>,
    call: Call,
    asking: F,
) -> impl Future<Output = A> + use<A, F> {
    timed(Arc::clone(counters), call, A::is_ok, asking)
}

/// The same of one that gives an answer for each of many keys.
pub(crate) fn timed_many<A: CallAnswer, F: Future<Output = Vec<A>>>(
    counters: &Arc<SpaceCounters>,
    call: Call,
    asking: F,
) -> impl Future<Output = Vec<A>> + use<A, F> {
    timed(Arc::clone(counters), call, |answers: &Vec<A>| answers.iter().all(A::is_ok), asking)
}

async fn timed<T>(
    counters: Arc<SpaceCounters>,
    call: Call,
    is_ok: impl Fn(&T) -> bool,
    asking: impl Future<Output = T>,
) -> T {
    let timing = OriginTiming::begin(counters, call);
    let answer = asking.await;
    timing.end(is_ok(&answer));
    answer
}

/// Times the calls of an origin that knows itself when it makes them, for the keyspace that it is bound to:
/// [`Origin::time_by`](crate::Origin::time_by). Clones are for the same keyspace.
///
/// # Examples
/// An origin that answers for some keys without asking anybody:
/// ```
/// use std::sync::OnceLock;
/// use terrace::{Cache, Origin, OriginTimer};
///
/// #[derive(Default)]
/// struct Even(OnceLock<OriginTimer>);
///
/// impl Origin<u64, u64> for Even {
///     type Error = &'static str;
///
///     async fn load(&self, key: &u64) -> Result<Option<u64>, &'static str> {
///         if key % 2 == 1 {
///             return Ok(None);
///         }
///         let timing = self.0.get().map(OriginTimer::load);
///         let answer = Ok(Some(key / 2)); // of a database, for example
///         if let Some(timing) = timing {
///             timing.end(answer.is_ok());
///         }
///         answer
///     }
///
///     fn time_by(&self, timer: &OriginTimer) -> bool {
///         self.0.set(timer.clone()).is_ok()
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let cache = Cache::builder().build()?;
/// let halves = cache.keyspace::<u64, u64>("halves").read_through(Even::default()).build()?;
/// assert!(halves.get(&7).await?.is_none() && halves.get(&8).await?.is_some());
/// let series = "terrace_origin_duration_seconds_count{keyspace=\"halves\",op=\"load\",outcome=\"ok\"} 1";
/// assert!(cache.metrics().contains(series));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct OriginTimer(Arc<SpaceCounters>);

/// A call that is under way. One that is dropped was given up, so it has failed.
#[must_use = "a call that is dropped has failed"]
pub struct OriginTiming {
    counters: Arc<SpaceCounters>,
    call: Call,
    begun: Moment,
    /// Nothing if it was not made.
    is_ok: Option<bool>,
}

impl OriginTimer {
    /// A timer for an origin that is bound to a keyspace, which has durations from now on.
    pub(crate) fn new(counters: &Arc<SpaceCounters>) -> Self {
        counters.calls.expected();
        Self(Arc::clone(counters))
    }

    /// A call that loads one value begins.
    ///
    /// # Cost
    /// A reading of the clock, as has each of these, and its end.
    pub fn load(&self) -> OriginTiming {
        self.begin(Call::Load)
    }

    /// A call that loads many values begins.
    pub fn load_many(&self) -> OriginTiming {
        self.begin(Call::LoadMany)
    }

    /// A call that stores one value begins, or one that makes many changes.
    pub fn store(&self) -> OriginTiming {
        self.begin(Call::Store)
    }

    /// A call that removes values begins.
    pub fn delete(&self) -> OriginTiming {
        self.begin(Call::Delete)
    }

    fn begin(&self, call: Call) -> OriginTiming {
        OriginTiming::begin(Arc::clone(&self.0), call)
    }
}

impl OriginTiming {
    fn begin(counters: Arc<SpaceCounters>, call: Call) -> Self {
        counters.calls.expected();
        let begun = counters.clock.precise();
        Self { counters, call, begun, is_ok: Some(false) }
    }

    /// The call has ended: whether it did all that it was to do.
    pub fn end(mut self, is_ok: bool) {
        self.is_ok = Some(is_ok);
    }

    /// The call was not made after all, so it does not count.
    pub fn not_made(mut self) {
        self.is_ok = None;
    }
}

impl Drop for OriginTiming {
    fn drop(&mut self) {
        let Some(is_ok) = self.is_ok else { return };
        let took = self.counters.clock.precise().since(self.begun);
        self.counters.calls.expected()[series(self.call, is_ok)].record(0, took, 1);
    }
}

impl fmt::Debug for OriginTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginTimer").finish_non_exhaustive()
    }
}

impl fmt::Debug for OriginTiming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginTiming").field("call", &self.call).finish_non_exhaustive()
    }
}
