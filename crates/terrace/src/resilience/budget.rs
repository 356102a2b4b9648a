//! How long may one read wait for L2, all its calls together?
//!
//! 1. A read begins with `l2_wait_max`. Each of its calls takes away what it took; when nothing is left, none is made any more.
//! 2. Only what waits for L2 counts: not the loader, not the wait for another node's load.
//! 3. A call that is not over in time is let go, and its answer dropped. One that has to be seen through, because somebody
//!    would wait for what it leaves behind, goes on without the read ([`going_on`]).
//! 4. What is not a read has no budget: its calls end by the adapter's deadlines.
//!
//! The budget of a read is found where its calls are made, by the task: so a call deep below needs no argument more.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use terrace_core::Clock;

tokio::task_local! {
    static WAITING: Waiting;
}

/// Who waits for the calls that this task makes now.
#[derive(Clone)]
enum Waiting {
    /// A read, which has so much time left.
    Read(Budget),
    /// Nobody for sure: the call is seen through.
    Nobody,
}

/// The time that a read may still spend on L2. Clones are the same budget.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    /// In nanoseconds.
    left: Arc<AtomicU64>,
    /// Whether a call that failed is made again.
    tries_again: bool,
}

/// What a call that took too long is still going to be.
pub(crate) type Rest<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Budget {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { left: Arc::new(AtomicU64::new(nanos(limit))), tries_again: true }
    }

    /// The same, with one attempt for each call: for who would wait for the next call behind this one.
    pub(crate) fn once(self) -> Self {
        Self { tries_again: false, ..self }
    }

    /// Runs a part of the read: the calls in it are made on this budget.
    ///
    /// # Cost
    /// One allocation: the future of a read would else be as large as all that it can come to.
    pub(crate) fn spend<F: Future>(&self, part: F) -> impl Future<Output = F::Output> + use<F> {
        WAITING.scope(Waiting::Read(self.clone()), Box::pin(part))
    }

    fn left(&self) -> Duration {
        Duration::from_nanos(self.left.load(Ordering::Relaxed))
    }

    fn take(&self, took: Duration) {
        let took = nanos(took);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(took)))
            .ok();
    }
}

/// Runs what is seen through, whoever waits for it.
pub(super) async fn going_on<T>(work: impl Future<Output = T>) -> T {
    WAITING.scope(Waiting::Nobody, work).await
}

/// Whether this is seen through on behalf of a read, which may have gone on without it.
pub(super) fn is_going_on() -> bool {
    WAITING.try_with(|waiting| matches!(waiting, Waiting::Nobody)).unwrap_or(false)
}

/// Whether a call that failed may be made again after this pause.
pub(super) fn allows(pause: Duration) -> bool {
    current().is_none_or(|budget| budget.tries_again && pause < budget.left())
}

/// What the read that is under way has left; `None` if it is none.
pub(super) fn left() -> Option<Duration> {
    current().map(|budget| budget.left())
}

fn current() -> Option<Budget> {
    let of = |waiting: &Waiting| match waiting {
        Waiting::Read(budget) => Some(budget.clone()),
        Waiting::Nobody => None,
    };
    WAITING.try_with(of).ok().flatten()
}

/// Waits as long as the read may, and takes it from what is left. If that is too short, gives the rest back.
pub(super) async fn within_left<F: Future + Unpin>(clock: &Clock, mut future: F) -> Result<F::Output, F> {
    let Some(budget) = current() else { return Ok(future.await) };
    let since = clock.precise();
    let Some(done) = crate::runtime::within(budget.left(), &mut future).await else {
        budget.take(Duration::MAX);
        return Err(future);
    };
    budget.take(clock.precise().since(since));
    Ok(done)
}

/// Lets time pass, which is taken from what is left.
pub(super) async fn pause(while_: Duration) {
    crate::runtime::sleep(while_).await;
    if let Some(budget) = current() {
        budget.take(while_);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::sleep;

    const LIMIT: Duration = Duration::from_millis(250);

    /// A call that takes so long, by both clocks.
    fn call(clock: &Clock, took: Duration) -> Pin<Box<impl Future<Output = ()> + use<>>> {
        let clock = clock.clone();
        Box::pin(async move {
            sleep(took).await;
            clock.advance(took);
        })
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_one_read_share_its_time() {
        let (clock, budget) = (Clock::manual(), Budget::new(LIMIT));
        for expected in [true, true, false, false] {
            let in_time = budget.spend(within_left(&clock, call(&clock, Duration::from_millis(100)))).await;
            assert_eq!(in_time.is_ok(), expected);
        }
        assert_eq!(budget.spend(async { left() }).await, Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_seen_through_and_what_is_no_read_has_no_limit() {
        let (clock, budget) = (Clock::manual(), Budget::new(LIMIT));
        assert!(within_left(&clock, call(&clock, LIMIT * 10)).await.is_ok());
        let work = going_on(within_left(&clock, call(&clock, LIMIT * 10)));
        assert!(budget.spend(work).await.is_ok());
        assert!(!is_going_on() && left().is_none());
    }
}
