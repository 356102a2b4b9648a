//! The owner of spawning in this crate.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use terrace_bench_harness::timing::Deadline;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// After so long whoever was started waits for what it is to wait for.
const SETTLED_AFTER: Duration = Duration::from_millis(20);

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

/// Starts all of these, and returns when each has been polled and waits.
pub(crate) async fn all_waiting<F>(futures: impl Iterator<Item = F>) -> JoinSet<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let (mut running, polled) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    for future in futures {
        let polled = Arc::clone(&polled);
        running.spawn(async move {
            let mut future = std::pin::pin!(future);
            let mut is_first = true;
            std::future::poll_fn(|context| {
                let answer = future.as_mut().poll(context);
                polled.fetch_add(usize::from(std::mem::take(&mut is_first)), Ordering::Relaxed);
                answer
            })
            .await
        });
    }
    while polled.load(Ordering::Relaxed) < running.len() {
        tokio::task::yield_now().await;
    }
    // Those that take a few turns until they wait get them.
    terrace_testkit::wait::pause(SETTLED_AFTER).await;
    running
}
