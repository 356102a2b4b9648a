//! The owner of time and of spawning in this crate.

use std::future::Future;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// How long `work` takes.
#[expect(clippy::disallowed_methods, reason = "this module is the owner of time")]
pub(crate) fn time<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}

/// A point in time to stop at.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    #[expect(clippy::disallowed_methods, reason = "this module is the owner of time")]
    pub(crate) fn after(duration: Duration) -> Self {
        Self(Instant::now() + duration)
    }

    #[expect(clippy::disallowed_methods, reason = "this module is the owner of time")]
    pub(crate) fn has_passed(self) -> bool {
        Instant::now() >= self.0
    }
}

/// Runs `tasks` copies of `body` at the same time, each until the deadline, and adds up what they did. Gives what was
/// done per second.
pub(crate) async fn throughput<F, W>(tasks: usize, duration: Duration, body: F) -> f64
where
    F: Fn(usize, Deadline) -> W,
    W: Future<Output = u64> + Send + 'static,
{
    let deadline = Deadline::after(duration);
    let mut running: JoinSet<u64> = (0..tasks).map(|task| body(task, deadline)).collect();
    let mut done = 0;
    while let Some(count) = running.join_next().await {
        done += count.expect("a task of the benchmark does not panic");
    }
    done as f64 / duration.as_secs_f64()
}

/// Lets a future run beside the measuring, until the runtime ends.
pub(crate) fn spawn(runtime: &Runtime, future: impl Future<Output = ()> + Send + 'static) {
    drop(runtime.spawn(future));
}
