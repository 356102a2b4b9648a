//! Does this node hear of other nodes' changes, for people who ask?
//!
//! Nothing is noted for this: it is read off what decides whether copies count as fresh ([`super::trust`]), and off counters.

use crate::cache::Cache;
use crate::why::Trusted;
use std::sync::atomic::Ordering;
use std::time::Duration;
use terrace_core::bus::NodeId;

/// Whether this node hears of other nodes' changes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum BusState {
    /// There is nobody to hear of: no L2, one that tells nothing, or no keyspace that uses it.
    Alone,
    /// No keyspace that uses L2 has heard anything yet. Each begins with its first call that asks L2.
    Waiting,
    /// Each keyspace that has begun to hear goes on: its copies count as fresh.
    Joined,
    /// A keyspace does not hear any more. Its copies count as fresh only after L2 was asked.
    Lost,
}

impl BusState {
    /// One word for people and programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Waiting => "waiting",
            Self::Joined => "joined",
            Self::Lost => "lost",
        }
    }
}

/// How this node hears of other nodes' changes; see [`Cache::bus_health`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BusHealth {
    /// Whether it does.
    pub state: BusState,
    /// How long its last message to itself took to come back: so late it hears of changes. `None` if none came back yet.
    pub lag: Option<Duration>,
    /// How often messages were found missing, since the cache was built, whether the log told them or copies were asked about.
    pub gaps: u64,
    /// The name of this node's connection in messages; `None` without a bus.
    pub node: Option<NodeId>,
}

impl Cache {
    /// How this node hears of other nodes' changes, without asking L2.
    ///
    /// # Cost
    /// For each keyspace a look at the clock, and the sum of some counters.
    ///
    /// # Examples
    /// ```
    /// use terrace::{BusState, Cache};
    /// let bus = Cache::memory()?.bus_health();
    /// assert_eq!((bus.state, bus.lag, bus.gaps), (BusState::Alone, None, 0));
    /// # Ok::<(), terrace::ConfigError>(())
    /// ```
    pub fn bus_health(&self) -> BusHealth {
        let node = self.shared.l2.as_ref().and_then(|l2| Some(l2.remote().bus()?.node()));
        let (mut state, mut gaps) = (BusState::Alone, 0);
        for view in self.views().iter().filter(|view| node.is_some() && view.l2().is_some()) {
            let (trust, clock) = (&view.space.trust, &self.shared.clock);
            gaps += view.space.counters.gaps();
            state = match (trust.left(clock), state) {
                (Trusted::Lapsed, _) if trust.has_lapsed(clock) => BusState::Lost,
                (Trusted::For(_), BusState::Alone | BusState::Waiting) => BusState::Joined,
                (Trusted::Lapsed, BusState::Alone) => BusState::Waiting,
                _ => state,
            };
        }
        let nanos = self.shared.bus_lag_nanos.load(Ordering::Relaxed);
        BusHealth { state, lag: (nanos > 0).then(|| Duration::from_nanos(nanos)), gaps, node }
    }
}
