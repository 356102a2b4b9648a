//! How are metrics written?
//!
//! As `OpenMetrics` text, which ends in `# EOF`. A reader of Prometheus' older text format accepts it too, and then
//! knows the type of the gauges and histograms only.
//!
//! 1. Every series of a registered keyspace is written at every scrape, at zero if nothing happened yet; those of calls to the origin once
//!    there may be any ([`super::calls`]).
//! 2. Names come from [`super::names`], label values from closed sets.

#[cfg(feature = "journal")]
use super::JournalGauges;
use super::calls::{Call, OUTCOMES};
use super::counters::{STALENESS_SCALE, TIERS};
use super::event::{Event, Op};
use super::families::{FAMILIES, Family};
use super::histogram::HistogramSnapshot;
use super::names::{self, Kind, Metric};
use super::{Build, BusEvents, Snapshots};
use crate::bulkhead::BulkheadLoad;
use crate::entry::{StaleReason, Tier};
use crate::resilience::{BreakerGauges, BreakerState};
use crate::staleness::Staleness;
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

/// A number of what a keyspace returned in the last minute.
type OfStaleness = fn(&Staleness) -> f64;

/// Why stale values are returned, in the order of their events.
const REASONS: [StaleReason; 4] =
    [StaleReason::Unproven, StaleReason::Revalidating, StaleReason::LoadSlow, StaleReason::LoadFailed];

/// Writes all metrics.
pub(super) fn encode(scrape: Scrape) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    text::encode(&mut text, &registry).expect("writing to a String does not fail");
    text
}

/// Everything that one scrape shows.
#[derive(Debug)]
pub(super) struct Scrape {
    pub(super) spaces: Snapshots,
    pub(super) pending_invalidations: u64,
    pub(super) bus_lag: Duration,
    pub(super) bus_events: BusEvents,
    pub(super) breaker: Option<BreakerGauges>,
    pub(super) bulkheads: Vec<BulkheadLoad>,
    pub(super) staleness: Vec<Staleness>,
    #[cfg(feature = "journal")]
    pub(super) journal: Option<JournalGauges>,
    pub(super) build: Build,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &FAMILIES {
            self.family(&mut encoder, family)?;
        }
        self.durations(&mut encoder)?;
        self.calls(&mut encoder)?;
        self.staleness(&mut encoder)?;
        let mut pending = describe(&mut encoder, names::PENDING_INVALIDATIONS)?;
        pending.encode_gauge(&self.pending_invalidations)?;
        self.breaker(&mut encoder)?;
        #[cfg(feature = "journal")]
        if let Some(journal) = &self.journal {
            journal.encode(&mut encoder)?;
        }
        self.bulkheads(&mut encoder)?;
        let mut lag = describe(&mut encoder, names::BUS_LAG)?;
        lag.encode_gauge(&self.bus_lag.as_secs_f64())?;
        self.bus_events.encode(&mut encoder)?;
        let mut build = describe(&mut encoder, names::BUILD_INFO)?;
        let labels = [(names::VERSION, self.build.version), (names::COMMIT, self.build.commit)];
        build.encode_family(&labels)?.encode_gauge(&1_u64)
    }
}

impl Scrape {
    fn family(&self, encoder: &mut DescriptorEncoder<'_>, family: &Family) -> fmt::Result {
        let mut metric = describe(encoder, family.metric)?;
        for (namespace, space) in &self.spaces {
            for (labels, value) in family.series {
                for (strategy, number) in value.of(space) {
                    let mut labels = with_keyspace(namespace, labels);
                    labels.extend(strategy.map(|strategy| (names::STRATEGY, strategy.as_str())));
                    let mut series = metric.encode_family(&labels)?;
                    match family.metric.kind {
                        Kind::Gauge => series.encode_gauge(&number)?,
                        _ => series.encode_counter::<NoLabelSet, _, u64>(&number, None)?,
                    }
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

    /// The bounds on loads, by name. A keyspace and an origin may have the same, so the scope is told as well.
    fn bulkheads(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let labels = |of: &BulkheadLoad| {
            let scope = if of.is_own { "keyspace" } else { "shared" };
            vec![(names::BULKHEAD, of.name.clone()), (names::SCOPE, scope.to_owned())]
        };
        let mut metric = describe(encoder, names::BULKHEAD_LOADS)?;
        for of in &self.bulkheads {
            for (state, loads) in [("running", of.running), ("waiting", of.waiting)] {
                let mut labels = labels(of);
                labels.push((names::STATE, state.to_owned()));
                metric.encode_family(&labels)?.encode_gauge(&(loads as u64))?;
            }
        }
        let mut metric = describe(encoder, names::BULKHEAD_LOADS_MAX)?;
        for of in &self.bulkheads {
            metric.encode_family(&labels(of))?.encode_gauge(&(of.loads_max as u64))?;
        }
        let mut metric = describe(encoder, names::BULKHEAD_REFUSED)?;
        for of in &self.bulkheads {
            metric.encode_family(&labels(of))?.encode_counter::<NoLabelSet, _, u64>(&of.refused, None)?;
        }
        Ok(())
    }

    /// How stale answers were: all of them by their age, and those of the last minute.
    fn staleness(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = describe(encoder, names::STALE_AGE)?;
        for (namespace, space) in &self.spaces {
            for (event, reason) in Event::STALE.into_iter().zip(REASONS) {
                debug_assert_eq!(event, Event::of_stale(reason));
                let histogram = space.counters.staleness(event);
                let labels = with_keyspace(namespace, &[(names::REASON, reason.as_str())]);
                let sum = histogram.sum().as_secs_f64() * f64::from(STALENESS_SCALE);
                metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                    sum,
                    histogram.count(),
                    &histogram.octaves(STALENESS_SCALE),
                    None,
                )?;
            }
        }
        let gauges: [(Metric, OfStaleness); 4] = [
            (names::STALE_SHARE, Staleness::share),
            (names::STALE_OLDEST, |of| of.oldest.as_secs_f64()),
            (names::STALE_OVER_BUDGET, |of| f64::from(u8::from(of.is_over()))),
            (names::BACKGROUND_SUCCESS, Staleness::background_success),
        ];
        for (metric, gauge) in gauges {
            let mut metric = describe(encoder, metric)?;
            for of in &self.staleness {
                metric.encode_family(&[(names::KEYSPACE, of.keyspace.as_str())])?.encode_gauge(&gauge(of))?;
            }
        }
        Ok(())
    }

    fn durations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = describe(encoder, names::OPERATION_DURATION)?;
        for (namespace, space) in &self.spaces {
            for (op, tier) in Op::ALL.into_iter().flat_map(|op| TIERS.map(|tier| (op, tier))) {
                let labels =
                    with_keyspace(namespace, &[(names::OP, op.as_str()), (names::TIER, tier.as_str())]);
                encode_durations(&mut metric, &labels, space.counters.durations(op, tier))?;
            }
        }
        Ok(())
    }

    /// How long the origin took.
    fn calls(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = describe(encoder, names::ORIGIN_DURATION)?;
        for (namespace, space) in &self.spaces {
            for (call, (is_ok, outcome)) in
                Call::ALL.into_iter().flat_map(|call| OUTCOMES.map(|of| (call, of)))
            {
                let Some(took) = space.counters.calls.of(call, is_ok) else { continue };
                let labels =
                    with_keyspace(namespace, &[(names::OP, call.as_str()), (names::OUTCOME, outcome)]);
                encode_durations(&mut metric, &labels, took)?;
            }
        }
        Ok(())
    }
}

/// Writes one histogram of durations in seconds.
fn encode_durations(
    metric: &mut MetricEncoder<'_>,
    labels: &[(&'static str, &str)],
    histogram: &HistogramSnapshot,
) -> fmt::Result {
    metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
        histogram.sum().as_secs_f64(),
        histogram.count(),
        &histogram.octaves(1),
        None,
    )
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
pub(super) fn describe<'e>(
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
