//! Telling L2 of the invalidations that it has not seen yet.
//!
//! 1. One delivery per namespace runs at a time. Whoever queues an invalidation, or meets a key that L2 is not believed
//!    about, sees to it that one runs.
//! 2. What was delivered is forgotten piece by piece, so that an L2 that answers now and then is told everything.
//! 3. A piece that L2 refuses does not hold up the others.
//! 4. Deliveries go on while L2 is left alone ([`crate::resilience`]): other nodes read from it what it was not told of.

use super::bans::Ban;
use crate::resilience::L2;
use crate::runtime::{Turn, sleep};
use crate::space::View;
use std::time::Duration;
use terrace_core::envelope::TagStamp;
use terrace_core::{Key, RemoteError};

/// First pause between two attempts to deliver what L2 has not seen; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Keys or tags delivered in one call.
const BATCH_MAX: usize = 512;

impl View {
    /// Whether what L2 holds under `key` may be older than an invalidation that it has not seen.
    pub(crate) fn distrusts(&self, key: &Key) -> bool {
        self.l2().is_some_and(L2::is_cut_off) || self.see_to(self.space.pending.distrusts(key))
    }

    /// Whether one of these tags of an entry in L2 was invalidated, and L2 has not seen it.
    pub(crate) fn distrusts_tags(&self, tags: &[TagStamp]) -> bool {
        self.see_to(self.space.pending.distrusts_tags(tags)) || self.space.recent.distrusts_tags(tags)
    }

    fn see_to(&self, is_distrusted: bool) -> bool {
        if is_distrusted {
            self.deliver_soon();
        }
        is_distrusted
    }

    /// Starts delivering what L2 has not seen, unless that is going on.
    pub(crate) fn deliver_soon(&self) {
        if !self.shared.runtime.is_available() {
            return;
        }
        // Taken outright, not looked at first: one who is about to give his turn up has to see that somebody came.
        if let Some(turn) = self.space.deliveries.take() {
            let view = self.clone();
            self.shared.runtime.spawn_until_closed(async move { view.deliver(turn).await });
        }
    }

    /// Delivers until nothing is left.
    async fn deliver(&self, mut turn: Turn) {
        let mut pause = PAUSE_MIN;
        loop {
            if self.deliver_once().await.is_err() {
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
                continue;
            }
            drop(turn);
            if self.space.pending.is_empty() {
                return;
            }
            let Some(again) = self.space.deliveries.take() else { return };
            turn = again;
        }
    }

    /// Tries once to deliver what waits now. Fails if some of it is left.
    pub(crate) async fn deliver_once(&self) -> Result<(), RemoteError> {
        let Some(l2) = self.l2() else { return Ok(()) };
        let Self { space, .. } = self;
        let (namespace, pending) = (&space.namespace, &space.pending);
        let delivery = pending.delivery();
        let mut refusal = Ok(());
        let mut note = |result: Result<(), RemoteError>| match result {
            Err(error) if error.is_retryable() => Err(error),
            Err(error) => {
                refusal = Err(error);
                Ok(false)
            }
            Ok(()) => Ok(true),
        };
        for keys in delivery.keys.chunks(BATCH_MAX) {
            self.note_keys(keys);
            let told = l2.press(space, "invalidate", |remote| remote.invalidate(namespace, keys)).await;
            let told = L2::each(space, keys.len(), told);
            match &told {
                Ok(told) => self.note_made(keys.iter().zip(told.iter().map(|told| told.version))),
                Err(_) => self.note_failed(keys),
            }
            if note(told.map(drop))? {
                pending.delivered_keys(keys, delivery.until);
            }
        }
        for tags in delivery.tags.chunks(BATCH_MAX) {
            self.note_tags(tags);
            let told = l2.press(space, "bump tags", |remote| remote.bump_tags(namespace, tags)).await;
            if note(L2::each(space, tags.len(), told).map(drop))? {
                self.note_bumped(tags);
                // What L2 told of them meanwhile is from before, and must not be known when L2 is believed again.
                self.ban(&Ban::Tags(tags));
                self.space.generations.forget(tags);
                pending.delivered_tags(tags, delivery.until);
            }
        }
        for rule in &delivery.rules {
            self.note_sweep(rule);
            let swept = l2.press(space, "sweep", |remote| remote.sweep(namespace, rule)).await;
            if note(swept.map(|swept| drop(self.reap_soon(swept.sweep))))? {
                self.note_sweep(rule);
                pending.delivered_rule(rule, delivery.until);
            }
        }
        refusal
    }
}
