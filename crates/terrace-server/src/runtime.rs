//! Tasks, threads and waiting: the only place of the service that asks the async runtime or the system for them.
//!
//! 1. Tasks are tracked, so that a shutdown can wait for them, and told when to stop.
//! 2. Threads end by themselves, when nobody can send them work any more.
//! 3. What every request of a connection asks, whether it is told to stop and whether its head is late, takes no lock that connections share.

use futures_util::StreamExt;
use futures_util::future::select;
use futures_util::stream::FuturesUnordered;
use hyper::rt::Sleep;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

/// The tasks of one server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    running: TaskTracker,
    stopping: CancellationToken,
    ended: CancellationToken,
}

impl Tasks {
    /// Runs a future until it ends, or until [`Tasks::end`] drops it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ended = Told::of(&self.ended);
        self.running.spawn(async move {
            select(ended, pin!(task)).await;
        });
    }

    /// Tells every task to come to an end.
    pub(crate) fn stop(&self) {
        self.stopping.cancel();
        self.running.close();
    }

    /// Completes when the tasks have been told to stop.
    pub(crate) fn stopped(&self) -> Told {
        Told::of(&self.stopping)
    }

    /// How many tasks are running.
    pub(crate) fn count(&self) -> usize {
        self.running.len()
    }

    /// Waits for all tasks; after `limit`, drops those that are left and says how many.
    pub(crate) async fn end(&self, limit: Duration) -> usize {
        if within(limit, self.running.wait()).await.is_some() {
            return 0;
        }
        let left = self.count();
        self.ended.cancel();
        self.running.wait().await;
        left
    }
}

/// Completes when a task is told something. What waits in it is asked only after it was woken: each question takes two locks that all who
/// wait for the same share.
#[derive(Debug)]
pub(crate) struct Told(FuturesUnordered<WaitForCancellationFutureOwned>);

impl Told {
    fn of(token: &CancellationToken) -> Self {
        Self(FuturesUnordered::from_iter([token.clone().cancelled_owned()]))
    }
}

impl Future for Told {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_next_unpin(context).map(|_told| ())
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}

/// Waits.
#[expect(clippy::disallowed_methods, reason = "this module is the owner of waiting")]
pub(crate) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// The result of `future`, or `None` if it takes longer than `limit`.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

/// Starts a thread.
///
/// # Errors
/// If the system has no thread to give.
pub(crate) fn thread(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name).spawn(work).map(|_handle| ())
}

/// Completes after a while; can be asked from within a `poll` function.
pub(crate) type Timer = Pin<Box<tokio::time::Sleep>>;

/// Starts a timer.
#[expect(clippy::disallowed_methods, reason = "this module is the owner of waiting")]
pub(crate) fn timer(duration: Duration) -> Timer {
    Box::pin(tokio::time::sleep(duration))
}

/// The timers of one connection's HTTP library, which asks for one at each request and has never two. They share one of the runtime, which
/// is put off when it goes off too early, and not with each request: setting it takes a lock that all connections share.
#[derive(Clone, Debug)]
pub(crate) struct Timers(Arc<Mutex<Timer>>);

impl Timers {
    /// Those of a connection whose timers take so long.
    pub(crate) fn of(usual: Duration) -> Self {
        Self(Arc::new(Mutex::new(timer(usual))))
    }
}

impl hyper::rt::Timer for Timers {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Until { deadline: deadline.into(), shared: Arc::clone(&self.0) })
    }

    #[expect(clippy::disallowed_methods, reason = "this module is the owner of waiting")]
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// One timer of [`Timers`].
struct Until {
    deadline: tokio::time::Instant,
    shared: Arc<Mutex<Timer>>,
}

impl Sleep for Until {}

impl Future for Until {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut timer = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if timer.deadline() > self.deadline {
            timer.as_mut().reset(self.deadline);
        }
        loop {
            ready!(timer.as_mut().poll(context));
            if timer.deadline() >= self.deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(self.deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::rt::Timer as _;

    #[tokio::test(start_paused = true)]
    async fn timers_that_share_one_end_when_each_is_due() {
        let seconds = Duration::from_secs;
        let timers = Timers::of(seconds(30));
        let begun = timers.now();
        // Each is given up before it is due, as that of a head that came.
        for at in [0, 10, 20] {
            let mut given_up = timers.sleep_until(begun + seconds(at + 30));
            assert!(within(seconds(10), given_up.as_mut()).await.is_none());
        }
        timers.sleep(seconds(30)).await;
        assert_eq!(timers.now() - begun, seconds(60), "put off by each request");
        timers.sleep(seconds(5)).await;
        assert_eq!(timers.now() - begun, seconds(65), "sooner than usual");
        timers.sleep_until(begun).await;
        assert_eq!(timers.now() - begun, seconds(65), "over already");
    }

    #[tokio::test]
    async fn who_asks_now_and_then_is_told_once_it_is_so() {
        let tasks = Tasks::default();
        let mut stopped = tasks.stopped();
        for _ in 0..3 {
            assert!(futures_util::poll!(&mut stopped).is_pending());
        }
        tasks.stop();
        (&mut stopped).await;
        stopped.await;
        tasks.stopped().await;
    }

    #[tokio::test]
    async fn tasks_that_do_not_end_are_ended() {
        let tasks = Tasks::default();
        tasks.spawn(std::future::pending());
        tasks.spawn(async {});
        tasks.stop();
        assert_eq!(tasks.end(Duration::from_millis(20)).await, 1);
        assert_eq!(tasks.count(), 0);
    }
}
