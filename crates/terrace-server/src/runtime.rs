//! Tasks, threads and waiting: the only place of the service that asks the async runtime or the system for them.
//!
//! 1. Tasks are tracked, so that a shutdown can wait for them, and told when to stop.
//! 2. Threads end by themselves, when nobody can send them work any more.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;
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
        let ended = self.ended.clone();
        self.running.spawn(async move {
            let _done_or_ended = ended.run_until_cancelled(task).await;
        });
    }

    /// Tells every task to come to an end.
    pub(crate) fn stop(&self) {
        self.stopping.cancel();
        self.running.close();
    }

    /// Completes when the tasks have been told to stop.
    pub(crate) fn stopped(&self) -> WaitForCancellationFutureOwned {
        self.stopping.clone().cancelled_owned()
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
