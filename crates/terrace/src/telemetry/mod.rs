//! What has the cache done so far?
//!
//! 1. Counting is cheap and never fails: a load and a store per event ([`counters`]).
//! 2. Everything else happens when somebody asks: sums, rates and the text for Prometheus are made from a snapshot.
//! 3. Two readers see the same counters differently: [`Stats`] starts again from zero at a reset, Prometheus' counters
//!    never go back.
//! 4. Labels come from closed sets: the keyspaces that were registered, and the words of this module. Never a key.
//!
//! | module | decides |
//! |---|---|
//! | [`event`] | what counts as what |
//! | [`counters`] | how it is counted |
//! | [`histogram`] | how durations are kept |
//! | [`stats`] | what a person reads |
//! | [`times`] | what is drawn as a distribution |
//! | [`calls`] | how long the origin took, and what one call of it is |
//! | `bus` | what counts as a message of the bus |
//! | [`by_strategy`] | under which strategy lookups were answered |
//! | [`families`] | which numbers are in which metric |
//! | [`names`] | what a metric is called |
//! | [`prometheus`], `behind`, `origins` | how metrics are written |
//! | [`spans`] | which parts of a call have a span |
//!
//! Deliberately absent: logs, what is done with spans, and any type of a metrics library in a signature.

#[cfg(feature = "journal")]
mod behind;
mod bus;
mod by_strategy;
mod calls;
mod counters;
mod event;
mod families;
mod histogram;
mod names;
mod origins;
mod prometheus;
pub(crate) mod spans;
mod stats;
mod times;

#[cfg(test)]
mod tests;

#[cfg(feature = "journal")]
pub(crate) use behind::JournalGauges;
pub(crate) use bus::{BusCounters, BusEvents, Direction, MessageType};
pub(crate) use calls::{Call, timed_many, timed_one};
pub use calls::{OriginTimer, OriginTiming};
pub(crate) use counters::{Counts, SAMPLE_EVERY, SpaceCounters, Timer, is_sampled};
pub(crate) use event::{Event, Op};
#[cfg(feature = "journal")]
pub(crate) use histogram::HistogramSnapshot;
pub use origins::origin_metrics;
pub use prometheus::METRICS_CONTENT_TYPE;
#[cfg(feature = "journal")]
pub(crate) use stats::Times;
pub use stats::{Figures, Latencies, Latency, Stats};
pub use times::{LookupTimes, TierTimes};

use crate::bulkhead::BulkheadLoad;
use crate::resilience::BreakerGauges;
use crate::staleness::Staleness;
use counters::CounterSnapshot;
use parking_lot::RwLock;
use prometheus::Scrape;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::{Clock, Moment, Namespace};

/// What L1 says of its entries of one keyspace.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct EngineGauges {
    /// Entries held now.
    pub(crate) entries: u64,
    /// What they weigh now, in bytes.
    pub(crate) bytes: u64,
    /// Entries removed for want of room, since the cache was built.
    pub(crate) evictions: u64,
    /// Entries removed because their time was over, since the cache was built.
    pub(crate) expirations: u64,
    /// Entries removed because they were invalidated, since the cache was built.
    pub(crate) invalidated: u64,
}

/// What only the rest of the library knows, asked for when a snapshot is made.
pub(crate) trait Sources {
    /// What L1 holds of a keyspace; zeroes where there is no L1.
    fn engine(&self, namespace: &Namespace) -> EngineGauges;

    /// Invalidations that wait for L2.
    fn pending_invalidations(&self) -> u64;

    /// How long this node's last message to itself took to come back; zero if none did.
    fn bus_lag(&self) -> Duration;

    /// What went over the bus.
    fn bus_events(&self) -> BusEvents;

    /// Whether there is an L2.
    fn has_l2(&self) -> bool;

    /// The bounds on loads.
    fn bulkheads(&self) -> Vec<BulkheadLoad>;

    /// The breaker of L2, if there is one.
    fn breaker(&self) -> Option<BreakerGauges>;

    /// The journal, if there is one.
    #[cfg(feature = "journal")]
    fn journal(&self) -> Option<JournalGauges>;
}

/// What was built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Build {
    pub(crate) version: &'static str,
    /// As whoever built it said by the variable `TERRACE_COMMIT`; else `unknown`.
    pub(crate) commit: &'static str,
}

impl Build {
    /// This one.
    pub(crate) const THIS: Self = Self {
        version: env!("CARGO_PKG_VERSION"),
        commit: match option_env!("TERRACE_COMMIT") {
            Some(commit) if !commit.is_empty() => commit,
            _ => "unknown",
        },
    };
}

/// All counters of a cache.
#[derive(Debug)]
pub(crate) struct Telemetry {
    clock: Clock,
    build: Build,
    spaces: RwLock<BTreeMap<Namespace, Arc<SpaceCounters>>>,
    baseline: RwLock<Baseline>,
}

/// What statistics subtract.
#[derive(Debug)]
struct Baseline {
    since: Moment,
    spaces: Snapshots,
}

/// Every keyspace at one time.
type Snapshots = BTreeMap<Namespace, SpaceSnapshot>;

/// One keyspace at one time.
#[derive(Clone, Debug)]
struct SpaceSnapshot {
    counters: CounterSnapshot,
    engine: EngineGauges,
}

impl Telemetry {
    /// No keyspace yet.
    pub(crate) fn new(clock: Clock, build: Build) -> Self {
        let since = clock.now();
        Self {
            clock,
            build,
            spaces: RwLock::default(),
            baseline: RwLock::new(Baseline { since, spaces: BTreeMap::new() }),
        }
    }

    /// The counters of a keyspace, at zero if it is new. The same name always has the same counters.
    pub(crate) fn space(&self, namespace: &Namespace) -> Arc<SpaceCounters> {
        let mut spaces = self.spaces.write();
        let counters = spaces
            .entry(namespace.clone())
            .or_insert_with(|| Arc::new(SpaceCounters::new(self.clock.clone())));
        Arc::clone(counters)
    }

    /// What happened since the cache was built or statistics were last reset.
    pub(crate) fn stats(&self, sources: &impl Sources) -> Stats {
        let baseline = self.baseline.read();
        let spaces = self.snapshot(sources).into_iter().map(|(namespace, now)| {
            match baseline.spaces.get(&namespace) {
                Some(then) => (namespace, now.since(then)),
                None => (namespace, now),
            }
        });
        Stats::new(self.clock.now().since(baseline.since), spaces, sources)
    }

    /// Lets statistics start again from zero. What [`Telemetry::encode`] writes goes on.
    pub(crate) fn reset(&self, sources: &impl Sources) {
        let mut baseline = self.baseline.write();
        *baseline = Baseline { since: self.clock.now(), spaces: self.snapshot(sources) };
    }

    /// All metrics since the cache was built, as `OpenMetrics` text, which Prometheus' own format also accepts.
    pub(crate) fn encode(&self, sources: &impl Sources, staleness: Vec<Staleness>) -> String {
        prometheus::encode(Scrape {
            spaces: self.snapshot(sources),
            pending_invalidations: sources.pending_invalidations(),
            bus_lag: sources.bus_lag(),
            bus_events: sources.bus_events(),
            breaker: sources.breaker(),
            bulkheads: sources.bulkheads(),
            staleness,
            #[cfg(feature = "journal")]
            journal: sources.journal(),
            build: self.build,
        })
    }

    fn snapshot(&self, sources: &impl Sources) -> Snapshots {
        let spaces = self.spaces.read().clone();
        let snapshot = |(namespace, counters): (Namespace, Arc<SpaceCounters>)| {
            let engine = sources.engine(&namespace);
            (namespace, SpaceSnapshot { counters: counters.snapshot(), engine })
        };
        spaces.into_iter().map(snapshot).collect()
    }
}

impl SpaceSnapshot {
    fn zero() -> Self {
        Self { counters: CounterSnapshot::zero(), engine: EngineGauges::default() }
    }

    /// What happened since `earlier`; what is held, is held now.
    fn since(&self, earlier: &Self) -> Self {
        let (now, then) = (self.engine, earlier.engine);
        Self {
            counters: self.counters.since(&earlier.counters),
            engine: EngineGauges {
                evictions: now.evictions.saturating_sub(then.evictions),
                expirations: now.expirations.saturating_sub(then.expirations),
                invalidated: now.invalidated.saturating_sub(then.invalidated),
                ..now
            },
        }
    }

    fn merge(&mut self, other: &Self) {
        self.counters.merge(&other.counters);
        self.engine.entries += other.engine.entries;
        self.engine.bytes += other.engine.bytes;
        self.engine.evictions += other.engine.evictions;
        self.engine.expirations += other.engine.expirations;
        self.engine.invalidated += other.engine.invalidated;
    }
}
