//! Removing from L2 what sweeps have killed.
//!
//! A sweep holds as soon as L2 has written it down. What it killed still takes room, and each read of L2 compares with its
//! rule, so it is removed in the background and the sweep ended:
//!
//! 1. Only a sweep for which every name was looked at is ended. One that fails on the way begins anew.
//! 2. A node asks the server for no more than half of the time: after each step comes a pause as long as the step, and the sweeps
//!    of a namespace take turns.
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
/// How often removing what a sweep killed is tried, before it is left to whoever looks for orphans.
const ATTEMPTS_MAX: u32 = 8;
/// How long a sweep is left to the node that began it. Each node waits up to as long again, so that not all begin at once.
const ORPHANED_AFTER: Duration = Duration::from_mins(5);

/// What has been removed by now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Reaped {
    pub(crate) count: u64,
    /// Whether that is all.
    pub(crate) is_all: bool,
}

/// What has been removed by the time that nobody waits any longer.
pub(crate) async fn counted(mut reaped: watch::Receiver<Reaped>) -> Reaped {
    let all = within(COUNTING_MAX, reaped.wait_for(|reaped| reaped.is_all)).await;
    drop(all);
    *reaped.borrow()
}

impl View {
    /// Removes what a sweep has killed in a task of its own.
    pub(crate) fn reap_soon(&self, sweep: Sweep) -> watch::Receiver<Reaped> {
        let (progress, reaped) = watch::channel(Reaped::default());
        let view = self.clone();
        self.shared.runtime.spawn_until_closed(async move {
            let mut pause = PAUSE_MIN;
            for _ in 0..ATTEMPTS_MAX {
                match view.reap_in_turn(&sweep, &progress).await {
                    Ok(()) => {
                        progress.send_modify(|reaped| reaped.is_all = true);
                        return;
                    }
                    Err(error) => {
                        tracing::debug!(namespace = %view.space.namespace, %error, "removing what was swept begins anew");
                        sleep(pause).await;
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                }
            }
        });
        reaped
    }

    /// Looks at every name once, if the sweep is still active when its turn comes: another may have taken its place.
    async fn reap_in_turn(&self, sweep: &Sweep, progress: &watch::Sender<Reaped>) -> Result<(), RemoteError> {
        let Some(l2) = self.l2() else { return Ok(()) };
        let turn = self.space.reaping.acquire().await;
        let active = l2.ask(&self.space, "sweeps", |remote| remote.sweeps(&self.space.namespace)).await?;
        let done = if active.contains(sweep) { self.reap_once(sweep, progress).await } else { Ok(()) };
        drop(turn);
        done
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
                let removed =
                    l2.call(space, "reap", |remote| remote.reap(&space.namespace, sweep, &keys)).await?;
                progress.send_modify(|reaped| reaped.count += removed);
            }
            sleep(clock.precise().since(since)).await;
        }
        l2.call(space, "retire", |remote| remote.retire(&space.namespace, sweep)).await
    }

    /// Ends the sweeps that have been known for long.
    pub(super) async fn end_orphans(&self, known: &mut Vec<(Sweep, Moment)>) {
        let Some(l2) = self.l2() else { return };
        let active = l2.ask(&self.space, "sweeps", |remote| remote.sweeps(&self.space.namespace)).await;
        let Ok(active) = active else { return };
        let now = self.shared.clock.precise();
        known.retain(|(sweep, _)| active.contains(sweep));
        for sweep in active {
            if !known.iter().any(|(other, _)| *other == sweep) {
                known.push((sweep, now));
            }
        }
        let longer = u64::try_from(ORPHANED_AFTER.as_nanos()).unwrap_or(u64::MAX);
        let patience = ORPHANED_AFTER + Duration::from_nanos(self.shared.chance.below(longer));
        let orphans = known.extract_if(.., |(_, since)| now.since(*since) >= patience);
        for (sweep, _) in orphans.collect::<Vec<_>>() {
            self.reap_in_turn(&sweep, &watch::Sender::default()).await.ok();
        }
    }
}
