//! Waiting for a condition, with a deadline.
//!
//! This is the only place in the testkit that may wait for time to pass.

use std::future::Future;
use std::time::Duration;

/// How long a condition may take before a test gives up: far more than it ever needs, on a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(2);

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not within [`DEADLINE`]; the message names `what`.
///
/// # Cancel safety
/// Dropping the future only stops the asking.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    until_some(what, async || condition().then_some(())).await;
}

/// Asks again and again until there is an answer, and returns it.
///
/// # Panics
/// If there is none within [`DEADLINE`]; the message names `what`.
///
/// # Cancel safety
/// That of `ask`.
pub async fn until_some<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            pause(STEP).await;
        }
    };
    within(what, DEADLINE, asking).await
}

/// Runs a future that has to end in time.
///
/// # Panics
/// If it does not end within `deadline`; the message names `what`.
///
/// # Cancel safety
/// That of `future`.
pub async fn within<F: Future>(what: &str, deadline: Duration, future: F) -> F::Output {
    let output = tokio::time::timeout(deadline, future).await;
    output.unwrap_or_else(|_| panic!("gave up after {deadline:?} waiting for {what}"))
}

/// Lets time pass. For what has no condition to wait for: a server's own clock, an interval between samples.
///
/// # Cancel safety
/// Dropping the future ends the pause.
#[expect(clippy::disallowed_methods, reason = "this module is the testkit's owner of waiting")]
pub async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
