//! What does a person read?
//!
//! [`Stats`] is made from a snapshot when somebody asks. Each number says at its field what it counts. Two numbers
//! that belong together always agree, because one is the sum of others; numbers that are counted apart may be an
//! instant apart while the cache is in use.

use super::counters::TIERS;
use super::event::{Event, Op};
#[cfg(feature = "journal")]
use super::histogram::Histogram;
use super::histogram::HistogramSnapshot;
use super::{Sources, SpaceSnapshot};
use crate::bulkhead::BulkheadLoad;
use crate::entry::Tier;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use terrace_core::Namespace;

/// What a cache did since it was built, or since its statistics were last reset.
///
/// `total` is the sum over `keyspaces`. Numbers of entries and bytes are those of now, whenever the last reset was.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let cache = terrace::Cache::memory()?;
/// let squares = cache.keyspace::<u64, u64>("squares").build()?;
/// squares.put(&3, 9).await?;
/// squares.get(&3).await?;
/// squares.get(&4).await?;
///
/// let stats = cache.stats();
/// assert_eq!((stats.total.hits, stats.total.misses, stats.total.sets), (1, 1, 1));
/// assert_eq!(stats.keyspaces["squares"].hit_rate(), 0.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// How long ago counting began, in seconds.
    pub seconds: f64,
    /// Whether there is an L2.
    pub has_l2: bool,
    /// Invalidations that wait for L2 to come back, now.
    pub pending_invalidations: u64,
    /// The bounds on loads, now. `refused` counts since a bound was made.
    pub bulkheads: Vec<BulkheadLoad>,
    /// All keyspaces together.
    pub total: Figures,
    /// Each keyspace by its name.
    pub keyspaces: BTreeMap<String, Figures>,
}

/// What one keyspace did, or all of them. A batch counts once per key.
///
/// Every lookup is exactly one of `hits_l1`, `hits_l2`, `stale_hits`, `negative_hits` and `misses`. Asking whether a key is contained is
/// a lookup; to `peek` is none.
#[derive(Clone, PartialEq, Default, Debug, Serialize)]
#[non_exhaustive]
pub struct Figures {
    /// Lookups: hits, stale hits, negative hits and misses.
    pub requests: u64,
    /// Lookups answered with a fresh value by L1 or L2.
    pub hits: u64,
    /// Lookups answered by L1 with a fresh value.
    pub hits_l1: u64,
    /// Lookups answered by L2 with a fresh value, by their own question or by that of the flight they joined.
    pub hits_l2: u64,
    /// Lookups answered with a stale value: one past its TTL, or not proven fresh.
    pub stale_hits: u64,
    /// Lookups answered with the knowledge that the origin has no such value.
    pub negative_hits: u64,
    /// Loads that began in the background because an old value was returned.
    pub loads_behind: u64,
    /// Loads that began in the background because a value was near the end of its TTL.
    pub loads_ahead: u64,
    /// Lookups that neither L1 nor L2 could answer, whatever the origin then did.
    pub misses: u64,
    /// Of `misses`, lookups that nobody answered: they ended in an error, or their callers gave them up.
    pub lookups_failed: u64,
    /// Lookups that L1 had no fresh value for: all but `hits_l1`.
    pub misses_l1: u64,
    /// Lookups that went past L1 and that L2 had no fresh value for either, or could not be asked for. Zero if there
    /// is no L2.
    pub misses_l2: u64,
    /// Lookups that joined a flight instead of starting one. Each is also a hit or a miss.
    pub coalesced: u64,
    /// Loads from the origin that ended: found, absent, failed and panicked. One load may answer many lookups.
    pub loads: u64,
    /// Loads that ended with a value.
    pub loads_found: u64,
    /// Loads that ended with the knowledge that there is no value.
    pub loads_absent: u64,
    /// Loads that ended with the loader's error. What the origin was not asked for is not in it.
    pub loads_failed: u64,
    /// Loads that ended with the loader's panic.
    pub loads_panicked: u64,
    /// Loads in the background that ended. They are `loads`, but for those that did not run.
    pub loads_background: u64,
    /// Of `loads_background`, those that brought no answer, or for which there was no place.
    pub loads_background_failed: u64,
    /// Flights whose loader took longer than `flight_age_max`, so that another one began.
    pub flights_fenced: u64,
    /// Loads that did not run, because there was no place for them. They are no `loads`.
    pub loads_refused: u64,
    /// Loads that the origin was not asked for, as it says itself ([`Fault::Here`](crate::Fault::Here)): it is left alone, or had no
    /// place for the call. They are no `loads`.
    pub loads_not_asked: u64,
    /// Loaded values that were kept.
    pub fills: u64,
    /// Loaded values that were kept nowhere, because their key changed during the load.
    pub fills_rejected: u64,
    /// Values stored at a caller's wish, at once or queued for L2.
    pub sets: u64,
    /// Of `sets`, those whose storing in L2 waits.
    pub sets_queued: u64,
    /// Puts that returned an error.
    pub sets_failed: u64,
    /// Keys removed at a caller's wish, whether or not they were there, at once or queued for L2.
    pub deletes: u64,
    /// Of `deletes`, those whose removal from L2 waits.
    pub deletes_queued: u64,
    /// Removals that returned an error.
    pub deletes_failed: u64,
    /// Keys, patterns and tags invalidated, and clears.
    pub invalidations: u64,
    /// Keys named in invalidations. Removals are not invalidations.
    pub invalidated_keys: u64,
    /// Patterns named in invalidations, however many keys they matched.
    pub invalidated_patterns: u64,
    /// Tags named in invalidations, however many entries had them.
    pub invalidated_tags: u64,
    /// How often everything was cleared.
    pub clears: u64,
    /// Entries that L1 removed for want of room.
    pub evictions: u64,
    /// Entries that L1 removed because their time was over.
    pub expirations: u64,
    /// Entries in L1 now. Expired ones count until they leave.
    pub entries: u64,
    /// Their weight now, in bytes.
    pub bytes: u64,
    /// Requests to L2, whatever came of them. A pipeline is one.
    pub l2_round_trips: u64,
    /// Bytes of envelopes received from L2.
    pub l2_bytes_read: u64,
    /// Bytes of envelopes sent to L2.
    pub l2_bytes_written: u64,
    /// Everything that went wrong with L2: failed requests and unreadable entries.
    pub l2_errors: u64,
    /// Of `l2_errors`, those of the network: no connection, no answer in time, connection broken, request too late.
    pub network_errors: u64,
    /// Of `l2_errors`, entries that could not be read. Such a lookup goes on as if L2 had nothing.
    pub decode_failures: u64,
    /// How long calls took.
    pub latency: Latencies,
}

/// How long calls took. A batch is one call. Calls that need no more than L1 are sampled, and each sample stands for
/// those between it and the next.
#[derive(Clone, PartialEq, Default, Debug, Serialize)]
#[non_exhaustive]
pub struct Latencies {
    /// All lookups.
    pub get: Latency,
    /// Lookups that asked no more than L1.
    pub get_l1: Latency,
    /// Lookups that asked L2, and not the origin.
    pub get_l2: Latency,
    /// Lookups that waited for the origin.
    pub get_origin: Latency,
    /// Puts.
    pub put: Latency,
    /// Removals.
    pub remove: Latency,
    /// Invalidations and clears.
    pub invalidate: Latency,
}

/// How long calls of one kind took. Quantiles are at most a quarter too high, and end at 13.4 s.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
#[non_exhaustive]
pub struct Latency {
    /// How many calls; where they are sampled, an estimate.
    pub count: u64,
    /// The mean, in nanoseconds; zero if there were no calls.
    pub mean_ns: u64,
    /// What half of the calls did not exceed, in nanoseconds.
    pub p50_ns: u64,
    /// What 99 % of the calls did not exceed, in nanoseconds.
    pub p99_ns: u64,
}

impl Stats {
    /// Puts together what happened during `elapsed`, by keyspace.
    pub(super) fn new(
        elapsed: Duration,
        spaces: impl Iterator<Item = (Namespace, SpaceSnapshot)>,
        sources: &impl Sources,
    ) -> Self {
        let has_l2 = sources.has_l2();
        let mut total = SpaceSnapshot::zero();
        let mut keyspaces = BTreeMap::new();
        for (namespace, space) in spaces {
            total.merge(&space);
            keyspaces.insert(namespace.to_string(), Figures::new(&space, has_l2));
        }
        Self {
            seconds: elapsed.as_secs_f64(),
            has_l2,
            pending_invalidations: sources.pending_invalidations(),
            bulkheads: sources.bulkheads(),
            total: Figures::new(&total, has_l2),
            keyspaces,
        }
    }

    /// The share of all lookups that were hits, from 0 to 1; see [`Figures::hit_rate`].
    pub fn hit_rate(&self) -> f64 {
        self.total.hit_rate()
    }

    /// The share of all lookups that were hits in L1, from 0 to 1; see [`Figures::l1_hit_rate`].
    pub fn l1_hit_rate(&self) -> f64 {
        self.total.l1_hit_rate()
    }
}

impl Figures {
    /// The share of lookups answered with a fresh value by L1 or L2, from 0 to 1; 0 before the first lookup. A stale
    /// hit is no hit.
    pub fn hit_rate(&self) -> f64 {
        share(self.hits, self.requests)
    }

    /// The share of lookups answered with a fresh value by L1, from 0 to 1; 0 before the first lookup.
    pub fn l1_hit_rate(&self) -> f64 {
        share(self.hits_l1, self.requests)
    }

    /// How long a lookup took on average.
    pub fn average_latency(&self) -> Duration {
        Duration::from_nanos(self.latency.get.mean_ns)
    }

    fn new(space: &SpaceSnapshot, has_l2: bool) -> Self {
        let count = |event| space.counters.count(event);
        let sum = |events: &[Event]| space.counters.sum(events);
        Self {
            requests: sum(&[Event::HitL1, Event::HitL2, Event::HitAbsent])
                + sum(&Event::STALE)
                + sum(&Event::MISSES),
            hits: sum(&[Event::HitL1, Event::HitL2]),
            hits_l1: count(Event::HitL1),
            hits_l2: count(Event::HitL2),
            stale_hits: sum(&Event::STALE),
            negative_hits: count(Event::HitAbsent),
            loads_behind: count(Event::LoadBehind),
            loads_ahead: count(Event::LoadAhead),
            misses: sum(&Event::MISSES),
            lookups_failed: count(Event::LookupFailed),
            misses_l1: sum(&[Event::HitL2, Event::HitAbsent]) + sum(&Event::STALE) + sum(&Event::MISSES),
            misses_l2: if has_l2 { sum(&Event::MISSES) } else { 0 },
            coalesced: count(Event::Coalesced),
            fills: count(Event::FillStored),
            fills_rejected: count(Event::FillRejected),
            sets: sum(&[Event::PutApplied, Event::PutQueued]),
            sets_queued: count(Event::PutQueued),
            sets_failed: count(Event::PutFailed),
            deletes: sum(&[Event::RemoveApplied, Event::RemoveQueued]),
            deletes_queued: count(Event::RemoveQueued),
            deletes_failed: count(Event::RemoveFailed),
            evictions: space.engine.evictions,
            expirations: space.engine.expirations,
            entries: space.engine.entries,
            bytes: space.engine.bytes,
            latency: Latencies::new(space),
            ..Self::default()
        }
        .with_loads(space)
        .with_invalidations(space)
        .with_l2(space)
    }

    fn with_loads(self, space: &SpaceSnapshot) -> Self {
        let count = |event| space.counters.count(event);
        Self {
            loads: space.counters.sum(&[
                Event::LoadFound,
                Event::LoadAbsent,
                Event::LoadFailed,
                Event::LoadPanicked,
            ]),
            loads_found: count(Event::LoadFound),
            loads_absent: count(Event::LoadAbsent),
            loads_failed: count(Event::LoadFailed),
            loads_panicked: count(Event::LoadPanicked),
            flights_fenced: count(Event::FlightFenced),
            loads_background: space.counters.sum(&[Event::BackgroundLoaded, Event::BackgroundFailed]),
            loads_background_failed: count(Event::BackgroundFailed),
            loads_refused: count(Event::LoadRefused),
            loads_not_asked: count(Event::LoadNotAsked),
            ..self
        }
    }

    fn with_invalidations(self, space: &SpaceSnapshot) -> Self {
        let count = |event| space.counters.count(event);
        Self {
            invalidations: space.counters.sum(&[
                Event::InvalidatedKey,
                Event::InvalidatedPattern,
                Event::InvalidatedTag,
                Event::InvalidatedAll,
            ]),
            invalidated_keys: count(Event::InvalidatedKey),
            invalidated_patterns: count(Event::InvalidatedPattern),
            invalidated_tags: count(Event::InvalidatedTag),
            clears: count(Event::InvalidatedAll),
            ..self
        }
    }

    fn with_l2(self, space: &SpaceSnapshot) -> Self {
        let count = |event| space.counters.count(event);
        let sum = |events: &[Event]| space.counters.sum(events);
        let network_errors = sum(&[Event::L2Unavailable, Event::L2Timeout, Event::L2Broken, Event::L2Late]);
        let decode_failures = sum(&[Event::L2Envelope, Event::L2Payload]);
        let refusals = sum(&[Event::L2Refused, Event::L2Protocol, Event::L2Mismatch, Event::L2Other]);
        Self {
            l2_round_trips: count(Event::L2RoundTrip),
            l2_bytes_read: count(Event::L2BytesRead),
            l2_bytes_written: count(Event::L2BytesWritten),
            l2_errors: network_errors + decode_failures + refusals,
            network_errors,
            decode_failures,
            ..self
        }
    }
}

impl Latencies {
    fn new(space: &SpaceSnapshot) -> Self {
        let one = |op, tier| Latency::new(space.counters.durations(op, tier));
        let all = |op| {
            let mut sum = HistogramSnapshot::zero();
            for tier in TIERS {
                sum.merge(space.counters.durations(op, tier));
            }
            Latency::new(&sum)
        };
        Self {
            get: all(Op::Get),
            get_l1: one(Op::Get, Tier::L1),
            get_l2: one(Op::Get, Tier::L2),
            get_origin: one(Op::Get, Tier::Origin),
            put: all(Op::Put),
            remove: all(Op::Remove),
            invalidate: all(Op::Invalidate),
        }
    }
}

impl Latency {
    fn new(histogram: &HistogramSnapshot) -> Self {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self {
            count: histogram.count(),
            mean_ns: nanos(histogram.mean()),
            p50_ns: nanos(histogram.quantile(0.5)),
            p99_ns: nanos(histogram.quantile(0.99)),
        }
    }
}

/// How long something took that happens too seldom to be sampled.
#[cfg(feature = "journal")]
#[derive(Debug)]
pub(crate) struct Times(Histogram);

#[cfg(feature = "journal")]
impl Times {
    pub(crate) fn new() -> Self {
        Self(Histogram::new())
    }

    pub(crate) fn record(&self, took: Duration) {
        self.0.record(0, took, 1);
    }

    pub(crate) fn latency(&self) -> Latency {
        Latency::new(&self.snapshot())
    }

    pub(crate) fn snapshot(&self) -> HistogramSnapshot {
        self.0.snapshot()
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
