//! The owner of spawning in this crate.

use std::future::Future;
use std::time::Duration;
use terrace_bench_harness::timing::Deadline;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

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
