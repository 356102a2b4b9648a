//! When is a call given up?
//!
//! 1. Every call ends within its deadline, counted from its first poll.
//! 2. [`RemoteError::Unavailable`] means that nothing was sent; after that it is [`RemoteError::Timeout`] or
//!    [`RemoteError::Broken`], and the call may or may not have taken effect.
//! 3. A set is given up at one moment, by which the server is told to have done it or not to do it any more. Whoever has failed
//!    before, because a connection was lost over which it may still arrive, is told at that moment.
//! 4. A call that is dropped leaves the connection as it was; its replies are read and thrown away.

use crate::link::Link;
use crate::supervisor::Supervisor;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::{Clock, RemoteError};

/// A connection, and what is left of `limit`.
pub(crate) async fn connection(
    supervisor: &Supervisor,
    limit: Duration,
) -> Result<(Arc<Link>, Duration), RemoteError> {
    if let Some(link) = supervisor.current() {
        return Ok((link, limit));
    }
    let clock = Clock::system();
    let since = clock.precise();
    let link = supervisor.first(limit).await?;
    Ok((link, limit.saturating_sub(clock.precise().since(since))))
}

/// Runs `steps` until they end, `limit` passes or the connection is lost.
pub(crate) async fn on<T>(
    link: &Link,
    limit: Duration,
    steps: impl Future<Output = Result<T, RemoteError>>,
) -> Result<T, RemoteError> {
    tokio::select! {
        biased;
        ended = tokio::time::timeout(limit, steps) => {
            ended.unwrap_or(Err(RemoteError::Timeout { after: limit }))
        }
        reason = link.lost() => Err(RemoteError::Broken { reason: reason.to_owned() }),
    }
}
