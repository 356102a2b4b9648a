//! Calls to L2: counted, and never in the way.
//!
//! Every call to the shared tier goes through [`L2`]. The adapter sees to the deadline of a call; here it is decided
//! what a failure means. For a read it means "not found there". For a change it means "not delivered yet", which
//! [`crate::coherence::pending`] remembers, or an error if trying again cannot help.
//!
//! Deliberately absent, for now: retries and a circuit breaker. A call fails at once while there is no connection,
//! so a dead L2 costs a read nothing; a slow one costs it the adapter's deadline.

use crate::space::Space;
use crate::telemetry::Event;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use terrace_core::remote::{Remote, RemoteResult};
use terrace_core::RemoteError;

/// The second tier.
pub(crate) struct L2 {
    remote: Arc<dyn Remote>,
}

impl L2 {
    pub(crate) fn new(remote: Arc<dyn Remote>) -> Self {
        Self { remote }
    }

    pub(crate) fn remote(&self) -> &dyn Remote {
        &*self.remote
    }

    /// Makes one call for `space`, having made sure that L2 and this node agree on the namespace's settings.
    pub(crate) async fn call<'a, T>(
        &'a self,
        space: &'a Space,
        call: impl FnOnce(&'a dyn Remote) -> RemoteResult<'a, T>,
    ) -> Result<T, RemoteError> {
        if !space.is_open_in_l2.load(Ordering::Acquire) {
            Self::counted(space, self.remote.open(&space.namespace)).await?;
            space.is_open_in_l2.store(true, Ordering::Release);
        }
        Self::counted(space, call(&*self.remote)).await
    }

    async fn counted<T>(space: &Space, call: RemoteResult<'_, T>) -> Result<T, RemoteError> {
        let result = call.await;
        space.counters.count(Event::L2RoundTrip);
        if let Err(error) = &result {
            space.counters.l2_error(error);
            tracing::debug!(namespace = %space.namespace, %error, "a call to L2 failed");
        }
        result
    }
}
