//! How L2 is probed while its breaker is open, and what comes before it is believed again.
//!
//! 1. A probe is a task in the background: no read waits for it. It asks how L2 is (`PING`), which must be answered as soon as
//!    a read wants its answers.
//! 2. Then the invalidations that L2 has not seen are delivered. The breaker closes after that, so the first read that asks L2 finds
//!    no value that this node has invalidated. What is added meanwhile is distrusted key by key ([`crate::coherence::pending`]).
//! 3. A probe that goes down with its runtime has failed. The next caller that is turned away begins anew.

use super::L2;
use super::breaker::Probe;
use super::gate::Gate;
use crate::cache::Cache;
use crate::runtime::{Turn, sleep, within};
use crate::space::Shared;
use std::sync::{Arc, Weak};
use std::time::Duration;
use terrace_core::Moment;

/// How long the delivery may take that belongs to a probe. What is left then is delivered by the next.
const DELIVERY_MAX: Duration = Duration::from_secs(10);

/// A probe under way, which has failed unless it is told otherwise.
struct UnderWay<'a> {
    gate: &'a Gate,
    probe: Option<Probe>,
}

impl UnderWay<'_> {
    fn ends(&mut self, is_well: bool) {
        if let Some(probe) = self.probe.take() {
            self.gate.probed(probe, is_well);
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.ends(false);
    }
}

impl L2 {
    /// Sees to it that L2 is probed, unless somebody does or nobody has to.
    pub(super) fn see_to_probing(&self) {
        if self.probing.are_taken() {
            return;
        }
        let Some(shared) = self.shared.upgrade().filter(|shared| shared.runtime.is_available()) else {
            return;
        };
        if let Some(turn) = self.probing.take() {
            shared.runtime.spawn_until_closed(probe_until_well(Weak::clone(&self.shared), turn));
        }
    }

    /// Probes once, if it is time for that, by the clock or by the time `by` which was slept: a test may hold the one still.
    async fn probe_once(&self, gate: &Gate, shared: Arc<Shared>, by: Moment) {
        let Some(probe) = gate.probe(by) else { return };
        let mut under_way = UnderWay { gate, probe: Some(probe) };
        let is_well = match within(self.wait_max, self.remote.health()).await {
            Some(Ok(_)) => deliver_all(Cache { shared }).await,
            Some(Err(error)) => {
                tracing::debug!(%error, "a probe of L2 failed");
                false
            }
            None => {
                tracing::debug!(limit = ?self.wait_max, "a probe of L2 was not answered in time");
                false
            }
        };
        under_way.ends(is_well);
    }
}

/// Probes until the breaker has closed, or the cache is gone.
async fn probe_until_well(cache: Weak<Shared>, _turn: Turn) {
    let mut by = Moment::from_nanos(0);
    loop {
        let Some(shared) = cache.upgrade() else { return };
        let Some((l2, gate)) = shared.l2.as_ref().and_then(|l2| Some((l2, l2.gate.as_ref()?))) else {
            return;
        };
        l2.probe_once(gate, Arc::clone(&shared), by).await;
        let Some(wait) = gate.until_probe() else { return };
        by = shared.clock.precise().plus(wait);
        drop(shared);
        sleep(wait).await;
    }
}

/// Tells L2 of all that it has not seen. Whether nothing is left that it could be told again.
async fn deliver_all(cache: Cache) -> bool {
    let delivered = within(DELIVERY_MAX, async {
        for view in cache.views() {
            // What L2 refuses stays distrusted, and is no reason to leave it alone.
            let is_left = |error: terrace_core::RemoteError| error.is_retryable();
            if !view.space.pending.is_empty() && view.deliver_once().await.is_err_and(is_left) {
                return false;
            }
        }
        true
    });
    delivered.await.unwrap_or(false)
}
