//! Counters: as JSON for people and programs, as text for Prometheus, as a line in the log.

use super::{App, json, key};
use crate::config::METRICS_PREFIX;
use crate::origin::Guards;
use crate::process;
use crate::traces::Traces;
use axum::extract::State;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use terrace::{METRICS_CONTENT_TYPE, Stats, origin_metrics};

/// The counters that matter most. The first ten and their names are part of the interface.
#[derive(Serialize)]
pub(crate) struct Summary {
    /// Lookups that L1 or L2 answered.
    hits: u64,
    /// Lookups that neither could answer.
    misses: u64,
    /// Hits of all lookups, from 0 to 1.
    hit_rate: f64,
    /// Values stored.
    sets: u64,
    /// Keys removed.
    deletes: u64,
    /// Entries that left L1 for want of room.
    evictions: u64,
    /// Entries in L1 now.
    l1_size: u64,
    /// Lookups that L2 answered.
    l2_hits: u64,
    /// Lookups that L1 and L2 could not answer.
    l2_misses: u64,
    /// What went wrong with L2.
    l2_errors: u64,
    /// Lookups.
    requests: u64,
    /// Lookups that L1 answered.
    l1_hits: u64,
    /// L1 hits of all lookups, from 0 to 1.
    l1_hit_rate: f64,
    /// Weight of the entries in L1 now, in bytes.
    l1_bytes: u64,
    /// Entries that left L1 because their time was over.
    expirations: u64,
    /// Lookups that waited for somebody else's load.
    coalesced: u64,
    /// Loads from origins that ended.
    loads: u64,
    /// Loads that failed.
    load_failures: u64,
    /// Keys, patterns and tags invalidated.
    invalidations: u64,
    /// Invalidations that wait for L2 to come back.
    pending_invalidations: u64,
    /// Mean duration of a lookup, in nanoseconds.
    average_latency_ns: u64,
    /// Seconds since counting began.
    seconds: f64,
}

impl From<&Stats> for Summary {
    fn from(stats: &Stats) -> Self {
        let total = &stats.total;
        Self {
            hits: total.hits,
            misses: total.misses,
            hit_rate: stats.hit_rate(),
            sets: total.sets,
            deletes: total.deletes,
            evictions: total.evictions,
            l1_size: total.entries,
            l2_hits: total.hits_l2,
            l2_misses: total.misses_l2,
            l2_errors: total.l2_errors,
            requests: total.requests,
            l1_hits: total.hits_l1,
            l1_hit_rate: stats.l1_hit_rate(),
            l1_bytes: total.bytes,
            expirations: total.expirations,
            coalesced: total.coalesced,
            loads: total.loads,
            load_failures: total.loads_failed + total.loads_panicked,
            invalidations: total.invalidations,
            pending_invalidations: stats.pending_invalidations,
            average_latency_ns: total.latency.get.mean_ns,
            seconds: stats.seconds,
        }
    }
}

#[derive(Serialize)]
struct Verbose<'a> {
    #[serde(flatten)]
    summary: Summary,
    stats: &'a Stats,
}

/// `GET /api/cache/metrics`; with `?verbose=true` also everything there is, by keyspace.
pub(super) async fn summary(State(app): State<Arc<App>>, uri: Uri) -> Response {
    let stats = app.cache.stats();
    let summary = Summary::from(&stats);
    let body = if key::flag(&uri, "verbose") {
        serde_json::to_vec(&Verbose { summary, stats: &stats })
    } else {
        serde_json::to_vec(&summary)
    };
    json(body.expect("numbers and names have a JSON form"))
}

/// `GET /metrics`.
pub(super) async fn prometheus(State(app): State<Arc<App>>) -> Response {
    let mut more = app.reloads.metrics()
        + &keyspaces(&app)
        + &origin_metrics(app.breakers.values().flat_map(Guards::each));
    more.extend(app.traces.as_ref().map(Traces::metrics));
    let ours = with(app.cache.metrics(), &more);
    let named = if app.metrics_prefix == METRICS_PREFIX { ours } else { under(&app.metrics_prefix, &ours) };
    let mut response = with(named, &process::metrics()).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(METRICS_CONTENT_TYPE));
    response
}

/// What the configuration says of each keyspace that may be a label, for Prometheus to join with.
fn keyspaces(app: &App) -> String {
    const HEAD: &str = "# HELP terrace_keyspace_info Always 1; the labels tell the strategy of a keyspace and the name of its origin.\n\
                        # TYPE terrace_keyspace_info gauge\n";
    let all = [&app.spaces].into_iter().chain(app.spaces_of_tenants.values());
    let told = all.flat_map(|spaces| spaces.iter().zip(spaces.about())).map(|(keyspace, about)| {
        let (name, strategy) = (keyspace.name(), about.strategy.as_str());
        let origin = escaped(about.origin.as_deref().unwrap_or_default());
        format!(
            "{METRICS_PREFIX}_keyspace_info{{keyspace=\"{name}\",strategy=\"{strategy}\",origin=\"{origin}\"}} 1\n"
        )
    });
    std::iter::once(HEAD.to_owned()).chain(told).collect()
}

/// The value of a label. Keyspaces have names that need no escape; origins may be called anything.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The same metrics, with names that begin with another prefix.
fn under(prefix: &str, metrics: &str) -> String {
    let mut renamed = String::with_capacity(metrics.len());
    for line in metrics.split_inclusive('\n') {
        let before =
            ["# HELP ", "# TYPE ", ""].into_iter().find(|start| line.starts_with(start)).unwrap_or("");
        let name = &line[before.len()..];
        match name.strip_prefix(METRICS_PREFIX).filter(|rest| rest.starts_with('_')) {
            Some(rest) => renamed.extend([before, prefix, rest]),
            None => renamed.push_str(line),
        }
    }
    renamed
}

/// Metrics with more of them before the line that ends them.
fn with(mut metrics: String, more: &str) -> String {
    let end = metrics.rfind("# EOF").unwrap_or(metrics.len());
    metrics.insert_str(end, more);
    metrics
}

/// One line of the log with the counters.
pub(crate) fn log(app: &App) {
    let summary = Summary::from(&app.cache.stats());
    tracing::info!(
        hits = summary.hits,
        misses = summary.misses,
        hit_rate = summary.hit_rate,
        sets = summary.sets,
        deletes = summary.deletes,
        evictions = summary.evictions,
        l1_size = summary.l1_size,
        l2_hits = summary.l2_hits,
        l2_misses = summary.l2_misses,
        l2_errors = summary.l2_errors,
        loads = summary.loads,
        load_failures = summary.load_failures,
        pending_invalidations = summary.pending_invalidations,
        "counters"
    );
}
