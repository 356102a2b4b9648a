//! How long did calls to the origin take?
//!
//! 1. A call is what the program's code is asked for in one go, of one key or of many, and nothing around it: no wait for a place,
//!    a lease, or the other keys of a batch. So what is slow here is the origin.
//! 2. Every call counts once, whatever came of it: one that panics, or is given up because it takes too long, has failed after
//!    the time that it took until then.
//! 3. It has failed if any part of it has: of a batch, one key.

use super::counters::SpaceCounters;
use super::histogram::{Histogram, HistogramSnapshot};
use crate::origin::OriginAnswer;
use std::future::Future;
use std::sync::Arc;
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
pub(super) const SERIES: usize = Call::ALL.len() * OUTCOMES.len();

/// Where the durations of calls are kept that ended so.
pub(super) const fn series(call: Call, is_ok: bool) -> usize {
    call as usize * OUTCOMES.len() + if is_ok { 0 } else { 1 }
}

/// The durations of a keyspace's calls. A call to an origin is too long, and too seldom, for threads to get into each other's way.
#[derive(Debug)]
pub(super) struct CallTimes(Box<[Histogram]>);

impl CallTimes {
    pub(super) fn new() -> Self {
        Self((0..SERIES).map(|_| Histogram::of_one_shard()).collect())
    }

    pub(super) fn snapshot(&self) -> Vec<HistogramSnapshot> {
        self.0.iter().map(Histogram::snapshot).collect()
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
    let begun = counters.clock.precise();
    let mut timing = Timing { counters, call, begun, is_ok: false };
    let answer = asking.await;
    timing.is_ok = is_ok(&answer);
    answer
}

/// A call under way. When it is dropped, the call has ended, or was given up.
struct Timing {
    counters: Arc<SpaceCounters>,
    call: Call,
    begun: Moment,
    is_ok: bool,
}

impl Drop for Timing {
    fn drop(&mut self) {
        let took = self.counters.clock.precise().since(self.begun);
        self.counters.calls.0[series(self.call, self.is_ok)].record(0, took, 1);
    }
}
