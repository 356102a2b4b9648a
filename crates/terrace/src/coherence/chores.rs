//! What every node does now and then, on behalf of nodes that died.
//!
//! 1. Sweeps that have been active for long are ended ([`super::sweeping`]).
//! 2. Invalidations that are due are made ([`super::delayed`]).

use crate::runtime::sleep;
use crate::space::View;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::Moment;
use terrace_core::remote::Sweep;

/// How often each node looks, in each namespace.
const INTERVAL: Duration = Duration::from_secs(15);

impl View {
    /// Sees to it that somebody looks, until the cache is gone.
    pub(crate) fn see_to_chores(&self) {
        if self.space.chores.are_taken() || self.l2().is_none() || !self.shared.runtime.is_available() {
            return;
        }
        let Some(turn) = self.space.chores.take() else { return };
        let (shared, space) = (Arc::downgrade(&self.shared), Arc::downgrade(&self.space));
        self.shared.runtime.spawn_until_closed(async move {
            let _turn = turn;
            let mut known: Vec<(Sweep, Moment)> = Vec::new();
            loop {
                sleep(INTERVAL).await;
                let (Some(shared), Some(space)) = (shared.upgrade(), space.upgrade()) else { return };
                let view = Self { shared, space };
                view.end_orphans(&mut known).await;
                if let Err(error) = view.make_due().await {
                    tracing::debug!(namespace = %view.space.namespace, %error, "what is due cannot be made");
                }
            }
        });
    }
}
