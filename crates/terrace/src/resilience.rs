//! Calls to L2: counted, and never in the way.
//!
//! Every call to the shared tier goes through [`L2`]. The adapter sees to the deadline of a call; here it is decided
//! what a failure means. For a read it means "not found there". For a change it means "not delivered yet", which
//! [`crate::coherence::pending`] remembers, or an error if trying again cannot help.
//!
//! 1. Before the first call for a namespace, L2 and this node agree on its settings. Those who come meanwhile wait for
//!    that one attempt, and share its failure.
//! 2. An answer to many questions has as many parts, or is an error.
//!
//! Deliberately absent, for now: retries and a circuit breaker. A call fails at once while there is no connection,
//! so a dead L2 costs a read nothing; a slow one costs it the adapter's deadline.

use crate::space::Space;
use crate::telemetry::{Event, SpaceCounters};
use futures_util::FutureExt;
use futures_util::future::Shared;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use terrace_core::RemoteError;
use terrace_core::remote::{BoxFuture, Remote, RemoteResult};

/// The second tier.
pub(crate) struct L2 {
    remote: Arc<dyn Remote>,
}

/// Whether L2 and this node agree on the settings of a namespace.
#[derive(Default)]
pub(crate) struct Agreement {
    is_reached: AtomicBool,
    attempt: Mutex<Option<Attempt>>,
}

/// One attempt to agree, shared by all who wait for it.
type Attempt = Shared<BoxFuture<'static, Result<(), RemoteError>>>;

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
        if !space.agreement.is_reached.load(Ordering::Acquire) {
            self.agree(space).await?;
            space.agreement.is_reached.store(true, Ordering::Release);
        }
        counted(&space.counters, call(&*self.remote).await)
    }

    /// [`L2::call`] for one that answers about each of `expected` things.
    pub(crate) async fn call_each<'a, T>(
        &'a self,
        space: &'a Space,
        expected: usize,
        call: impl FnOnce(&'a dyn Remote) -> RemoteResult<'a, Vec<T>>,
    ) -> Result<Vec<T>, RemoteError> {
        let answers = self.call(space, call).await?;
        if answers.len() == expected {
            return Ok(answers);
        }
        let reason = format!("{} answers to {expected} questions", answers.len());
        let error = RemoteError::Protocol { reason };
        space.counters.l2_error(&error);
        Err(error)
    }

    async fn agree(&self, space: &Space) -> Result<(), RemoteError> {
        let attempt = {
            let mut attempt = space.agreement.attempt.lock();
            match attempt.as_ref().filter(|attempt| attempt.peek().is_none()) {
                Some(running) => running.clone(),
                None => attempt.insert(self.attempt(space)).clone(),
            }
        };
        attempt.await
    }

    fn attempt(&self, space: &Space) -> Attempt {
        let (remote, namespace) = (Arc::clone(&self.remote), space.namespace.clone());
        let counters = Arc::clone(&space.counters);
        async move { counted(&counters, remote.open(&namespace).await) }.boxed().shared()
    }
}

fn counted<T>(counters: &SpaceCounters, result: Result<T, RemoteError>) -> Result<T, RemoteError> {
    counters.count(Event::L2RoundTrip);
    result.inspect_err(|error| {
        counters.l2_error(error);
        tracing::debug!(%error, "a call to L2 failed");
    })
}
