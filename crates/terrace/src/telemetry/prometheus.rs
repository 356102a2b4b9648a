//! How are metrics written?
//!
//! As `OpenMetrics` text, which ends in `# EOF`. A reader of Prometheus' older text format accepts it too, and then
//! knows the type of the gauges and histograms only.
//!
//! 1. Every series of a registered keyspace is written at every scrape, at zero if nothing happened yet.
//! 2. Names come from [`super::names`], label values from closed sets.

use super::counters::{Event, Op, TIERS};
use super::names::{self, Kind, Metric};
use super::{EngineGauges, Snapshots, SpaceSnapshot};
use crate::entry::Tier;
use crate::resilience::{BreakerGauges, BreakerState};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;
use std::time::Duration;
use terrace_core::Namespace;

/// The media type of what [`Cache::metrics`](crate::Cache::metrics) writes.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes all metrics.
pub(super) fn encode(
    spaces: Snapshots,
    pending_invalidations: u64,
    bus_lag: Duration,
    breaker: Option<BreakerGauges>,
    version: &'static str,
) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape {
        spaces,
        pending_invalidations,
        bus_lag,
        breaker,
        version,
    }));
    let mut text = String::new();
    text::encode(&mut text, &registry).expect("writing to a String does not fail");
    text
}

/// Everything that one scrape shows.
#[derive(Debug)]
struct Scrape {
    spaces: Snapshots,
    pending_invalidations: u64,
    bus_lag: Duration,
    breaker: Option<BreakerGauges>,
    version: &'static str,
}

/// A metric with one number per keyspace and labels.
struct Family {
    metric: Metric,
    series: &'static [(Labels, Value)],
}

/// The labels of one series besides the keyspace.
type Labels = &'static [(&'static str, &'static str)];

/// Where the number of a series comes from.
enum Value {
    Count(Event),
    Engine(fn(&EngineGauges) -> u64),
}

impl Value {
    fn of(&self, space: &SpaceSnapshot) -> u64 {
        match self {
            Self::Count(event) => space.counters.count(*event),
            Self::Engine(gauge) => gauge(&space.engine),
        }
    }
}

/// What is written for every keyspace.
const FAMILIES: [Family; 24] = [
    Family {
        metric: names::REQUESTS,
        series: &[
            (&[(names::OP, "get"), (names::RESULT, "hit_l1")], Value::Count(Event::HitL1)),
            (&[(names::OP, "get"), (names::RESULT, "hit_l2")], Value::Count(Event::HitL2)),
            (&[(names::OP, "get"), (names::RESULT, "hit_stale")], Value::Count(Event::HitStale)),
            (
                &[(names::OP, "get"), (names::RESULT, "hit_revalidating")],
                Value::Count(Event::HitRevalidating),
            ),
            (&[(names::OP, "get"), (names::RESULT, "hit_load_slow")], Value::Count(Event::HitLoadSlow)),
            (&[(names::OP, "get"), (names::RESULT, "hit_load_failed")], Value::Count(Event::HitLoadFailed)),
            (&[(names::OP, "get"), (names::RESULT, "negative")], Value::Count(Event::HitAbsent)),
            (&[(names::OP, "get"), (names::RESULT, "miss")], Value::Count(Event::Miss)),
            (&[(names::OP, "put"), (names::RESULT, "applied")], Value::Count(Event::PutApplied)),
            (&[(names::OP, "put"), (names::RESULT, "queued")], Value::Count(Event::PutQueued)),
            (&[(names::OP, "put"), (names::RESULT, "failed")], Value::Count(Event::PutFailed)),
            (&[(names::OP, "remove"), (names::RESULT, "applied")], Value::Count(Event::RemoveApplied)),
            (&[(names::OP, "remove"), (names::RESULT, "queued")], Value::Count(Event::RemoveQueued)),
            (&[(names::OP, "remove"), (names::RESULT, "failed")], Value::Count(Event::RemoveFailed)),
            (
                &[(names::OP, "invalidate"), (names::RESULT, "applied")],
                Value::Count(Event::InvalidateApplied),
            ),
            (&[(names::OP, "invalidate"), (names::RESULT, "queued")], Value::Count(Event::InvalidateQueued)),
            (&[(names::OP, "invalidate"), (names::RESULT, "failed")], Value::Count(Event::InvalidateFailed)),
        ],
    },
    Family {
        metric: names::HITS,
        series: &[
            (&[(names::TIER, "l1")], Value::Count(Event::HitL1)),
            (&[(names::TIER, "l2")], Value::Count(Event::HitL2)),
        ],
    },
    Family { metric: names::MISSES, series: &[(&[], Value::Count(Event::Miss))] },
    Family {
        metric: names::ORIGIN_REQUESTS,
        series: &[
            (&[(names::OUTCOME, "found")], Value::Count(Event::LoadFound)),
            (&[(names::OUTCOME, "absent")], Value::Count(Event::LoadAbsent)),
            (&[(names::OUTCOME, "failed")], Value::Count(Event::LoadFailed)),
            (&[(names::OUTCOME, "panicked")], Value::Count(Event::LoadPanicked)),
        ],
    },
    Family { metric: names::LOADS_COLLAPSED, series: &[(&[], Value::Count(Event::Coalesced))] },
    Family {
        metric: names::FILLS,
        series: &[
            (&[(names::OUTCOME, "stored")], Value::Count(Event::FillStored)),
            (&[(names::OUTCOME, "rejected")], Value::Count(Event::FillRejected)),
        ],
    },
    Family { metric: names::L1_ENTRIES, series: &[(&[], Value::Engine(|engine| engine.entries))] },
    Family { metric: names::L1_BYTES, series: &[(&[], Value::Engine(|engine| engine.bytes))] },
    Family {
        metric: names::L1_EVICTIONS,
        series: &[
            (&[(names::REASON, "size")], Value::Engine(|engine| engine.evictions)),
            (&[(names::REASON, "ttl")], Value::Engine(|engine| engine.expirations)),
            (&[(names::REASON, "invalidated")], Value::Engine(|engine| engine.invalidated)),
        ],
    },
    Family { metric: names::BUS_CHANGES, series: &[(&[], Value::Count(Event::BusHeard))] },
    Family {
        metric: names::BUS_HOLES,
        series: &[
            (&[(names::OUTCOME, "repaired")], Value::Count(Event::BusRepaired)),
            (&[(names::OUTCOME, "suspected")], Value::Count(Event::BusSuspected)),
        ],
    },
    Family { metric: names::BUS_TOUCHES, series: &[(&[], Value::Count(Event::BusTouched))] },
    Family { metric: names::BUS_INCARNATIONS, series: &[(&[], Value::Count(Event::BusIncarnation))] },
    Family {
        metric: names::BUS_REASSERTIONS,
        series: &[
            (&[(names::OUTCOME, "asserted")], Value::Count(Event::Reasserted)),
            (&[(names::OUTCOME, "dropped")], Value::Count(Event::RecentDropped)),
        ],
    },
    Family { metric: names::BUS_LAPSES, series: &[(&[], Value::Count(Event::BusLapsed))] },
    Family {
        metric: names::AUDITS,
        series: &[
            (&[(names::OUTCOME, "passed")], Value::Count(Event::AuditPassed)),
            (&[(names::OUTCOME, "failed")], Value::Count(Event::AuditFailed)),
        ],
    },
    Family { metric: names::REFRESHES, series: &[(&[], Value::Count(Event::Refreshed))] },
    Family {
        metric: names::VALIDATIONS,
        series: &[
            (&[(names::OUTCOME, "same")], Value::Count(Event::ValidatedSame)),
            (&[(names::OUTCOME, "changed")], Value::Count(Event::ValidatedChanged)),
            (&[(names::OUTCOME, "missing")], Value::Count(Event::ValidatedMissing)),
            (&[(names::OUTCOME, "unanswered")], Value::Count(Event::ValidationUnanswered)),
        ],
    },
    Family { metric: names::L2_ROUND_TRIPS, series: &[(&[], Value::Count(Event::L2RoundTrip))] },
    Family { metric: names::L2_REJECTED, series: &[(&[], Value::Count(Event::L2Rejected))] },
    Family { metric: names::L2_RETRIES, series: &[(&[], Value::Count(Event::L2Retried))] },
    Family {
        metric: names::L2_BYTES,
        series: &[
            (&[(names::DIRECTION, "read")], Value::Count(Event::L2BytesRead)),
            (&[(names::DIRECTION, "written")], Value::Count(Event::L2BytesWritten)),
        ],
    },
    Family {
        metric: names::L2_ERRORS,
        series: &[
            (&[(names::KIND, "unavailable")], Value::Count(Event::L2Unavailable)),
            (&[(names::KIND, "timeout")], Value::Count(Event::L2Timeout)),
            (&[(names::KIND, "broken")], Value::Count(Event::L2Broken)),
            (&[(names::KIND, "late")], Value::Count(Event::L2Late)),
            (&[(names::KIND, "refused")], Value::Count(Event::L2Refused)),
            (&[(names::KIND, "protocol")], Value::Count(Event::L2Protocol)),
            (&[(names::KIND, "mismatch")], Value::Count(Event::L2Mismatch)),
            (&[(names::KIND, "other")], Value::Count(Event::L2Other)),
            (&[(names::KIND, "envelope")], Value::Count(Event::L2Envelope)),
            (&[(names::KIND, "payload")], Value::Count(Event::L2Payload)),
        ],
    },
    Family {
        metric: names::INVALIDATIONS,
        series: &[
            (&[(names::KIND, "key")], Value::Count(Event::InvalidatedKey)),
            (&[(names::KIND, "pattern")], Value::Count(Event::InvalidatedPattern)),
            (&[(names::KIND, "tag")], Value::Count(Event::InvalidatedTag)),
            (&[(names::KIND, "clear")], Value::Count(Event::InvalidatedAll)),
        ],
    },
];

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &FAMILIES {
            self.family(&mut encoder, family)?;
        }
        self.durations(&mut encoder)?;
        let mut pending = describe(&mut encoder, names::PENDING_INVALIDATIONS)?;
        pending.encode_gauge(&self.pending_invalidations)?;
        self.breaker(&mut encoder)?;
        let mut lag = describe(&mut encoder, names::BUS_LAG)?;
        lag.encode_gauge(&self.bus_lag.as_secs_f64())?;
        let mut build = describe(&mut encoder, names::BUILD_INFO)?;
        build.encode_family(&[(names::VERSION, self.version)])?.encode_gauge(&1_u64)
    }
}

impl Scrape {
    fn family(&self, encoder: &mut DescriptorEncoder<'_>, family: &Family) -> fmt::Result {
        let mut metric = describe(encoder, family.metric)?;
        for (namespace, space) in &self.spaces {
            for (labels, value) in family.series {
                let labels = with_keyspace(namespace, labels);
                let mut series = metric.encode_family(&labels)?;
                match family.metric.kind {
                    Kind::Gauge => series.encode_gauge(&value.of(space))?,
                    _ => series.encode_counter::<NoLabelSet, _, u64>(&value.of(space), None)?,
                }
            }
        }
        Ok(())
    }

    /// The breaker of L2, if there is one. It is one for all keyspaces.
    fn breaker(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(BreakerGauges { state, transitions }) = self.breaker else { return Ok(()) };
        let labels = |of: BreakerState| [(names::TARGET, Tier::L2.as_str()), (names::STATE, of.as_str())];
        let mut metric = describe(encoder, names::BREAKER_STATE)?;
        for of in BreakerState::ALL {
            metric.encode_family(&labels(of))?.encode_gauge(&u64::from(of == state))?;
        }
        let mut metric = describe(encoder, names::BREAKER_TRANSITIONS)?;
        for (of, count) in BreakerState::ALL.into_iter().zip(transitions) {
            let labels = labels(of);
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn durations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = describe(encoder, names::OPERATION_DURATION)?;
        for (namespace, space) in &self.spaces {
            for (op, tier) in Op::ALL.into_iter().flat_map(|op| TIERS.map(|tier| (op, tier))) {
                let histogram = space.counters.durations(op, tier);
                let labels =
                    with_keyspace(namespace, &[(names::OP, op.as_str()), (names::TIER, tier.as_str())]);
                metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                    histogram.sum().as_secs_f64(),
                    histogram.count(),
                    &histogram.octaves(),
                    None,
                )?;
            }
        }
        Ok(())
    }
}

fn with_keyspace<'a>(
    namespace: &'a Namespace,
    labels: &[(&'static str, &'static str)],
) -> Vec<(&'static str, &'a str)> {
    let mut all = vec![(names::KEYSPACE, namespace.as_str())];
    all.extend_from_slice(labels);
    all
}

/// Writes the lines that introduce a metric. The encoder puts `_total` behind the name of a counter by itself.
fn describe<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    metric: Metric,
) -> Result<MetricEncoder<'e>, fmt::Error> {
    let (name, kind) = match metric.kind {
        Kind::Counter => (metric.name.strip_suffix("_total").unwrap_or(metric.name), MetricType::Counter),
        Kind::Gauge => (metric.name, MetricType::Gauge),
        Kind::Histogram => (metric.name, MetricType::Histogram),
    };
    encoder.encode_descriptor(name, metric.help, None, kind)
}
