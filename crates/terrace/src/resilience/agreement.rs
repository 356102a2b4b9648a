//! That L2 and this node agree on the settings of a namespace, before anything else is asked.
//!
//! 1. One attempt runs at a time, in a task of its own: it goes on when those who wait for it have no more time or go away.
//! 2. Those who come meanwhile wait for that one attempt, and share its failure.
//! 3. On another life of L2's server they agree anew.
//! 4. An attempt that went down with its runtime is begun again by the next who waits.

use super::L2;
use crate::runtime::{Turn, Turns};
use crate::space::{Space, View};
use parking_lot::Mutex;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use terrace_core::remote::SharedSettings;
use terrace_core::{Moment, RemoteError};
use tokio::sync::Notify;

/// How long the first call for a namespace waits at most until this node hears of other nodes' changes.
const HEARING_WAIT_MAX: Duration = Duration::from_secs(1);

/// Whether L2 and this node agree on the settings of a namespace.
#[derive(Default)]
pub(crate) struct Agreement {
    is_reached: AtomicBool,
    /// How many attempts have failed, and what the last one failed with.
    failures: AtomicU64,
    last_failure: Mutex<Option<RemoteError>>,
    trying: Turns,
    /// Woken when an attempt has ended.
    ended: Notify,
    /// When nobody waits any more until this node hears of the namespace. Set once, so that attempts that are broken off early
    /// do not wait one after the other for ever.
    hears_by: OnceLock<Moment>,
}

/// An attempt under way. Whoever waits is woken when it is dropped, however it ends.
struct Attempt<'a> {
    agreement: &'a Agreement,
    turn: Option<Turn>,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        drop(self.turn.take());
        self.agreement.ended.notify_waiters();
    }
}

impl Agreement {
    /// L2 may have forgotten the settings: the next call tells them again before it asks anything else.
    pub(crate) fn doubt(&self) {
        self.is_reached.store(false, Ordering::Release);
    }

    #[inline]
    pub(super) fn is_reached(&self) -> bool {
        self.is_reached.load(Ordering::Acquire)
    }
}

impl L2 {
    /// Waits until L2 and this node agree, or an attempt has failed that ended after this was called.
    pub(super) async fn agree(&self, space: &Space) -> Result<(), RemoteError> {
        let agreement = &space.agreement;
        let failures_before = agreement.failures.load(Ordering::Acquire);
        loop {
            let mut ended = pin!(agreement.ended.notified());
            ended.as_mut().enable();
            if agreement.is_reached() {
                return Ok(());
            }
            if agreement.failures.load(Ordering::Acquire) > failures_before {
                let last_failure = agreement.last_failure.lock().clone();
                return last_failure.map_or(Ok(()), Err);
            }
            let Some(turn) = agreement.trying.take() else {
                ended.await;
                continue;
            };
            match self.own(space) {
                Some(view) => {
                    let shared = Arc::clone(&view.shared);
                    shared.runtime.spawn_until_closed(async move {
                        if let Some(l2) = view.l2() {
                            l2.attempt_to_agree(&view.space, turn).await;
                        }
                    });
                    ended.await;
                }
                None => self.attempt_to_agree(space, turn).await,
            }
        }
    }

    /// What a task of its own has to keep, if one can be started.
    fn own(&self, space: &Space) -> Option<View> {
        let shared = self.shared.upgrade().filter(|shared| shared.runtime.is_available())?;
        let space = shared.spaces.read().get(&space.namespace).map(Arc::clone)?;
        Some(View { shared, space })
    }

    /// Tries once.
    async fn attempt_to_agree(&self, space: &Space, turn: Turn) {
        let agreement = &space.agreement;
        let _attempt = Attempt { agreement, turn: Some(turn) };
        if agreement.is_reached() {
            return;
        }
        let settings = SharedSettings { codec: Some((space.format.codec(), space.format.codec_name())) };
        match self.observed(space, self.remote.open_with(&space.namespace, &settings)).await {
            Ok(()) => {
                self.hear_of(space).await;
                agreement.is_reached.store(true, Ordering::Release);
            }
            Err(error) => {
                let is_first = agreement.failures.load(Ordering::Acquire) == 0;
                if matches!(error, RemoteError::Mismatch { .. }) && is_first {
                    tracing::error!(namespace = %space.namespace, %error, "this node does without L2 in a namespace");
                }
                *agreement.last_failure.lock() = Some(error);
                agreement.failures.fetch_add(1, Ordering::AcqRel);
            }
        }
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
}
