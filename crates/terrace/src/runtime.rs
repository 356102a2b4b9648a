//! Spawning, waiting and joining: the only place of the library that asks the async runtime for anything.
//!
//! 1. Every task is tracked, so that shutdown can wait for it.
//! 2. A task outlives the caller that started it. It ends by itself, or when the cache is closed.
//! 3. Tasks run on the runtime of whoever calls. A cache can be built outside a runtime.

use crate::error::Error;
use std::future::Future;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one cache.
#[derive(Debug, Default)]
pub(crate) struct Runtime {
    tasks: TaskTracker,
    closed: CancellationToken,
}

impl Runtime {
    /// Runs a future to its end, whoever is waiting for it or not.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Runs a future to its end in a task of its own, and waits for it. A caller that goes away stops waiting only.
    ///
    /// # Errors
    /// [`Error::Closed`] if the runtime was shut down under it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        self.tasks.spawn(task).await.map_err(|_| Error::Closed)
    }

    /// Runs a future until it ends or the cache is closed, whichever comes first.
    pub(crate) fn spawn_until_closed(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closed = self.closed.clone();
        self.tasks.spawn(async move {
            let _ended_or_closed = closed.run_until_cancelled(task).await;
        });
    }

    /// Whether the caller is inside a runtime, so that a task can be started.
    pub(crate) fn is_available() -> bool {
        tokio::runtime::Handle::try_current().is_ok()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    pub(crate) fn running(&self) -> usize {
        self.tasks.len()
    }

    /// Ends the background tasks and waits for the others.
    pub(crate) async fn close(&self) {
        self.closed.cancel();
        self.tasks.close();
        self.tasks.wait().await;
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
