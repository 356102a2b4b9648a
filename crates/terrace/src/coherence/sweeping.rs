//! Removing from L2 what sweeps have killed.
//!
//! A sweep holds as soon as L2 has written it down. What it killed still takes room, and each read of L2 compares with its
//! rule, so it is removed in the background and the sweep ended:
//!
//! 1. Only a sweep for which every name was looked at is ended. One that fails on the way begins anew.
//! 2. The server is asked for no more than half of the time: after each step comes a pause as long as the step.
//! 3. A sweep whose node died is ended by another: every node looks now and then ([`super::chores`]) for sweeps that have been active for long.

use crate::runtime::{sleep, within};
use crate::space::View;
use futures_util::StreamExt;
use std::time::Duration;
use terrace_core::remote::Sweep;
use terrace_core::{Moment, RemoteError};
use tokio::sync::watch;

/// How long an invalidation waits for the count of what it has killed.
const COUNTING_MAX: Duration = Duration::from_secs(1);
/// First pause after a step that failed; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause after a step that failed.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long a sweep is left to the node that began it.
const ORPHANED_AFTER: Duration = Duration::from_mins(1);

/// What has been removed by now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Reaped {
    pub(crate) count: u64,
    /// Whether that is all.
    pub(crate) is_all: bool,
}

impl View {
    /// Removes what a sweep has killed, and waits for that a while.
    pub(crate) async fn reap(&self, sweep: Sweep) -> Reaped {
        let mut reaped = self.reap_soon(sweep);
        let all = within(COUNTING_MAX, reaped.wait_for(|reaped| reaped.is_all)).await;
        drop(all);
        *reaped.borrow()
    }

    /// Removes what a sweep has killed in a task of its own.
    pub(crate) fn reap_soon(&self, sweep: Sweep) -> watch::Receiver<Reaped> {
        let (progress, reaped) = watch::channel(Reaped::default());
        let view = self.clone();
        self.shared.runtime.spawn_until_closed(async move {
            let mut pause = PAUSE_MIN;
            while let Err(error) = view.reap_once(&sweep, &progress).await {
                tracing::debug!(namespace = %view.space.namespace, %error, "removing what was swept begins anew");
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            progress.send_modify(|reaped| reaped.is_all = true);
        });
        reaped
    }

    /// Looks at every name once.
    async fn reap_once(&self, sweep: &Sweep, progress: &watch::Sender<Reaped>) -> Result<(), RemoteError> {
        let Some(l2) = self.l2() else { return Ok(()) };
        let (space, clock) = (&self.space, &self.shared.clock);
        let mut names = l2.names(space, &sweep.rule).await?;
        loop {
            let since = clock.precise();
            let Some(keys) = names.next().await else { break };
            let keys = keys?;
            if !keys.is_empty() {
                let removed = l2.call(space, |remote| remote.reap(&space.namespace, sweep, &keys)).await?;
                progress.send_modify(|reaped| reaped.count += removed);
            }
            sleep(clock.precise().since(since)).await;
        }
        l2.call(space, |remote| remote.retire(&space.namespace, sweep)).await
    }

    /// Ends the sweeps that have been known for long.
    pub(super) async fn end_orphans(&self, known: &mut Vec<(Sweep, Moment)>) {
        let Some(l2) = self.l2() else { return };
        let active = l2.call(&self.space, |remote| remote.sweeps(&self.space.namespace)).await;
        let Ok(active) = active else { return };
        let now = self.shared.clock.precise();
        known.retain(|(sweep, _)| active.contains(sweep));
        for sweep in active {
            if !known.iter().any(|(other, _)| *other == sweep) {
                known.push((sweep, now));
            }
        }
        let orphans = known.extract_if(.., |(_, since)| now.since(*since) >= ORPHANED_AFTER);
        for (sweep, _) in orphans.collect::<Vec<_>>() {
            self.reap_once(&sweep, &watch::Sender::default()).await.ok();
        }
    }
}
