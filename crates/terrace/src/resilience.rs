//! Calls to L2: counted, and never in the way.
//!
//! Every call to the shared tier goes through [`L2`]. The adapter sees to the deadline of a call; here it is decided
//! what a failure means. For a read it means "not found there". For a change it means "not delivered yet", which
//! [`crate::coherence::pending`] remembers, or an error if trying again cannot help.
//!
//! 1. Before the first call for a namespace, L2 and this node agree on its settings. Those who come meanwhile wait for
//!    that one attempt, and share its failure. On another life of L2's server they agree anew.
//! 2. An answer to many questions has as many parts, or is an error.
//!
//! 3. A server that refuses this node's beats because it may not be the primary any more is not believed either: it still answers
//!    reads, and what it answers may have been changed elsewhere.
//!
//! Deliberately absent, for now: retries and a circuit breaker. A call fails at once while there is no connection,
//! so a dead L2 costs a read nothing; a slow one costs it the adapter's deadline.

use crate::coherence::listener;
use crate::runtime::Turns;
use crate::space::{Shared, Space};
use crate::telemetry::Event;
use futures_util::{Stream, StreamExt};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use terrace_core::remote::{Remote, RemoteResult, SharedSettings, SweepRule};
use terrace_core::{Key, Moment, RemoteError};
use tokio::sync::Mutex;

/// How long the first call for a namespace waits at most until this node hears of other nodes' changes.
const HEARING_WAIT_MAX: Duration = Duration::from_secs(1);

/// The second tier.
pub(crate) struct L2 {
    remote: Arc<dyn Remote>,
    shared: Weak<Shared>,
    lease: Duration,
    listening: Turns,
    is_cut_off: AtomicBool,
}

/// Whether L2 and this node agree on the settings of a namespace.
#[derive(Default)]
pub(crate) struct Agreement {
    is_reached: AtomicBool,
    /// How many attempts have failed.
    failures: AtomicU64,
    /// Held by the one who tries. What the last attempt failed with.
    trying: Mutex<Option<RemoteError>>,
    /// When nobody waits any more until this node hears of the namespace. Set once, so that callers who go away early do not
    /// wait one after the other for ever.
    hears_by: OnceLock<Moment>,
}

impl Agreement {
    /// L2 may have forgotten the settings: the next call tells them again before it asks anything else.
    pub(crate) fn doubt(&self) {
        self.is_reached.store(false, Ordering::Release);
    }
}

impl L2 {
    /// `lease` is how old a copy can be that counts as fresh.
    pub(crate) fn new(remote: Arc<dyn Remote>, shared: Weak<Shared>, lease: Duration) -> Self {
        Self { remote, shared, lease, listening: Turns::default(), is_cut_off: AtomicBool::new(false) }
    }

    /// Whether the server may not be the primary any more, so that nothing it has is known to be fresh.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.is_cut_off.load(Ordering::Acquire)
    }

    /// What a beat came to. One that fails in another way than by the server's word says nothing.
    pub(crate) fn heed_beat(&self, beat: &Result<(), RemoteError>) {
        let is_cut_off = match beat {
            Ok(()) => false,
            Err(RemoteError::CutOff { .. }) => true,
            Err(_) => return,
        };
        if self.is_cut_off.swap(is_cut_off, Ordering::AcqRel) != is_cut_off {
            tracing::warn!(
                is_cut_off,
                "whether L2 takes changes has changed; while it does not, it is not read"
            );
        }
    }

    /// How old a copy can be that counts as fresh.
    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    pub(crate) fn remote(&self) -> &dyn Remote {
        &*self.remote
    }

    /// Whether it tells of changes that others make.
    pub(crate) fn tells_changes(&self) -> bool {
        self.remote.bus().is_some()
    }

    /// Makes one call for `space`, having made sure that L2 and this node agree on the namespace's settings.
    pub(crate) async fn call<'a, T>(
        &'a self,
        space: &'a Space,
        call: impl FnOnce(&'a dyn Remote) -> RemoteResult<'a, T>,
    ) -> Result<T, RemoteError> {
        self.prepare(space).await?;
        Self::counted(space, call(&*self.remote).await)
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

    /// The keys that a rule names, some at a time.
    pub(crate) async fn names<'a>(
        &'a self,
        space: &'a Space,
        rule: &'a SweepRule,
    ) -> Result<impl Stream<Item = Result<Vec<Key>, RemoteError>> + Unpin + use<'a>, RemoteError> {
        self.prepare(space).await?;
        Ok(self.remote.names(&space.namespace, rule).map(|step| Self::counted(space, step)))
    }

    /// Sees to it that L2 and this node agree, and that this node listens. Whoever takes a ticket does this before: hearing of
    /// a namespace for the first time voids all tickets.
    pub(crate) async fn prepare(&self, space: &Space) -> Result<(), RemoteError> {
        if !space.agreement.is_reached.load(Ordering::Acquire) {
            return self.agree(space).await;
        }
        // The runtime that the listener ran on may have ended.
        self.see_to_listening();
        Ok(())
    }

    async fn agree(&self, space: &Space) -> Result<(), RemoteError> {
        let Agreement { is_reached, failures, trying, hears_by: _ } = &space.agreement;
        let failures_before = failures.load(Ordering::Acquire);
        let mut last_failure = trying.lock().await;
        if is_reached.load(Ordering::Acquire) {
            return Ok(());
        }
        if let Some(error) =
            last_failure.as_ref().filter(|_| failures.load(Ordering::Acquire) > failures_before)
        {
            return Err(error.clone());
        }
        let settings = SharedSettings { codec: Some((space.format.codec(), space.format.codec_name())) };
        let result = Self::counted(space, self.remote.open_with(&space.namespace, &settings).await);
        match &result {
            Ok(()) => {
                self.hear_of(space).await;
                is_reached.store(true, Ordering::Release);
            }
            Err(error) => {
                if matches!(error, RemoteError::Mismatch { .. }) && failures_before == 0 {
                    tracing::error!(namespace = %space.namespace, %error, "this node does without L2 in a namespace");
                }
                *last_failure = Some(error.clone());
                failures.fetch_add(1, Ordering::AcqRel);
            }
        }
        result
    }

    /// Begins to hear of other nodes' changes in a namespace that was opened, and waits until it does, for a while.
    async fn hear_of(&self, space: &Space) {
        let (Some(bus), Some(shared)) = (self.remote.bus(), self.shared.upgrade()) else { return };
        bus.join(&space.namespace);
        self.see_to_listening();
        let now = shared.clock.precise();
        let by = *space.agreement.hears_by.get_or_init(|| now.plus(HEARING_WAIT_MAX));
        space.trust.wait(&shared.clock, by.since(now)).await;
    }

    /// Starts listening, unless that is going on.
    pub(crate) fn see_to_listening(&self) {
        if self.listening.are_taken() || self.remote.bus().is_none() {
            return;
        }
        let Some(shared) = self.shared.upgrade().filter(|shared| shared.runtime.is_available()) else {
            return;
        };
        if let Some(turn) = self.listening.take() {
            let (weak, remote) = (Weak::clone(&self.shared), Arc::clone(&self.remote));
            shared.runtime.spawn_until_closed(listener::listen(weak, remote, self.lease, turn));
        }
    }

    fn counted<T>(space: &Space, result: Result<T, RemoteError>) -> Result<T, RemoteError> {
        space.counters.count(Event::L2RoundTrip);
        result.inspect_err(|error| {
            space.counters.l2_error(error);
            tracing::debug!(namespace = %space.namespace, %error, "a call to L2 failed");
        })
    }
}
