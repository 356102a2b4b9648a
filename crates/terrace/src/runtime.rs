//! Spawning, waiting and joining: the only place of the library that asks the async runtime for anything.
//!
//! 1. Every task is tracked, so that shutdown can wait for it. None begins after shutdown has begun.
//! 2. A task outlives the caller that started it. It ends by itself, or when the cache is closed.
//! 3. Tasks run on the runtime of whoever calls. A cache can be built outside a runtime, and outlive one: what a
//!    runtime took down with it is started again by the next caller.

use crate::error::{Error, ErrorKind};
use crate::telemetry::spans;
use std::any::Any;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
#[cfg(feature = "journal")]
use tokio_util::task::AbortOnDropHandle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument;

/// The tasks of one cache.
#[derive(Debug, Default)]
pub(crate) struct Runtime {
    tasks: TaskTracker,
    closed: CancellationToken,
    given_up: CancellationToken,
}

/// Leave to start a task. A shutdown waits for whoever has it.
pub(crate) struct Leave(#[expect(dead_code, reason = "it is held, not read")] TaskTrackerToken);

impl Runtime {
    /// Leave to start a task, until the cache is closed.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] after that.
    pub(crate) fn enter(&self) -> Result<Leave, Error> {
        let leave = Leave(self.tasks.token());
        if self.is_closed() { Err(ErrorKind::Closed.into()) } else { Ok(leave) }
    }

    /// Runs a load to its end, whoever is waiting for it or not, unless a shutdown gives it up.
    pub(crate) fn spawn_load(&self, _leave: Leave, load: impl Future<Output = ()> + Send + 'static) {
        let given_up = self.given_up.clone();
        self.tasks.spawn(async move {
            let _ended_or_given_up = given_up.run_until_cancelled(load).await;
        });
    }

    /// Runs a part of what has leave to run: a shutdown waits for it, or gives it up, as for the whole. It begins even if the cache
    /// was closed meanwhile.
    pub(crate) fn spawn_part(&self, part: impl Future<Output = ()> + Send + 'static) {
        let given_up = self.given_up.clone();
        self.tasks.spawn(async move {
            let _ended_or_given_up = given_up.run_until_cancelled(part).await;
        });
    }

    /// Ends when the cache is closed.
    pub(crate) async fn closing(&self) {
        self.closed.cancelled().await;
    }

    /// Whether the caller is inside a runtime.
    pub(crate) fn is_inside() -> bool {
        tokio::runtime::Handle::try_current().is_ok()
    }

    /// Runs a future to its end in a task of its own, and waits for it. A caller that goes away stops waiting only.
    /// A panic goes on in the caller.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if the runtime was shut down under it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        leave: Leave,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        let running = self.tasks.spawn(task.instrument(spans::change()));
        drop(leave);
        running.await.map_err(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => ErrorKind::Closed.into(),
        })
    }

    /// Runs a future until it ends or the cache is closed, whichever comes first.
    pub(crate) fn spawn_until_closed(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closed = self.closed.clone();
        self.tasks.spawn(async move {
            let _ended_or_closed = closed.run_until_cancelled(task).await;
        });
    }

    /// Whether a background task can be started: the caller is inside a runtime, and the cache is open.
    pub(crate) fn is_available(&self) -> bool {
        !self.is_closed() && tokio::runtime::Handle::try_current().is_ok()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.tasks.is_closed()
    }

    /// The result of `future`; `None` if the cache is closed first.
    pub(crate) async fn until_closed<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.closed.run_until_cancelled(future).await
    }

    pub(crate) fn running(&self) -> usize {
        self.tasks.len()
    }

    /// Runs a task for `limit` at most, apart from the caller: neither its panic nor its standing still is the caller's. It is
    /// dropped when it takes longer, and when the caller goes away.
    #[cfg(feature = "journal")]
    pub(crate) async fn attempt<T: Send + 'static>(
        &self,
        limit: Duration,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Attempt<T> {
        let running = AbortOnDropHandle::new(self.tasks.spawn(task));
        match within(limit, running).await {
            None => Attempt::TimedOut,
            Some(Ok(answer)) => Attempt::Ended(answer),
            Some(Err(error)) => match error.try_into_panic() {
                Ok(panic) => Attempt::Panicked(panic_message(&*panic).to_owned()),
                Err(_) => Attempt::Closed,
            },
        }
    }

    /// Tells the background tasks to end, and waits for none.
    pub(crate) fn end(&self) {
        self.tasks.close();
        self.closed.cancel();
    }

    /// Ends the background tasks and waits for the others.
    pub(crate) async fn close(&self) {
        self.end();
        self.tasks.wait().await;
    }

    /// Tells the loads that still run to stop.
    pub(crate) fn give_up(&self) {
        self.given_up.cancel();
    }
}

/// What came of a task that was run apart.
#[cfg(feature = "journal")]
pub(crate) enum Attempt<T> {
    /// Its answer.
    Ended(T),
    /// It panicked, with this message.
    Panicked(String),
    /// It took too long.
    TimedOut,
    /// The runtime was shut down under it.
    Closed,
}

/// What a panic says.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "a panic without a message"
    }
}

/// Runs `body` on a thread of its own, for what may block for long.
///
/// # Errors
/// If the operating system gives no thread.
#[cfg(feature = "journal")]
pub(crate) fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map(drop)
}

/// Whose turn it is to run a background task of which there is one at most.
#[derive(Debug, Default)]
pub(crate) struct Turns(Arc<AtomicBool>);

/// The turn of a background task. Dropping it, as a runtime does when it shuts down, ends it; a panic does not, because
/// the task would panic again.
#[derive(Debug)]
pub(crate) struct Turn(Arc<AtomicBool>);

impl Turns {
    /// Whether somebody has the turn.
    #[inline]
    pub(crate) fn are_taken(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The turn, if nobody has it. What was done before it ended for somebody else is seen after it was taken.
    pub(crate) fn take(&self) -> Option<Turn> {
        (!self.0.swap(true, Ordering::AcqRel)).then(|| Turn(Arc::clone(&self.0)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // A swap, not a store: whoever failed to take the turn before this is seen to have tried.
            self.0.swap(false, Ordering::AcqRel);
        }
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
