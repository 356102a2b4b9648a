//! What Prometheus is told of the breakers of origins, which belong to no cache.

use super::names::{self, Kind, Metric};
use crate::resilience::{OriginBreaker, OriginHealth};
use std::fmt::Write;

/// The values of a metric's label, with a number for each.
type Lines = Vec<(&'static str, u64)>;

/// Metrics of these breakers, in the format of [`METRICS_CONTENT_TYPE`](crate::METRICS_CONTENT_TYPE), without the line that ends them. All
/// series are there from the start.
///
/// # Cost
/// A lock of each breaker, for an instant.
///
/// # Examples
/// ```
/// use terrace::{Breaker, Clock, OriginBreaker, origin_metrics};
/// let breaker = OriginBreaker::new("main", Breaker::default(), Clock::system())?;
/// let series = "terrace_origin_breaker_state{origin=\"main\",calls=\"all\",state=\"open\"} 0\n";
/// assert!(origin_metrics([&breaker]).contains(series));
/// # Ok::<(), terrace::ConfigError>(())
/// ```
pub fn origin_metrics<'a>(breakers: impl IntoIterator<Item = &'a OriginBreaker>) -> String {
    let labels = |breaker: &OriginBreaker| {
        format!("origin=\"{}\",calls=\"{}\"", escaped(breaker.name()), escaped(breaker.calls()))
    };
    let of_each = |breaker: &'a OriginBreaker| (labels(breaker), breaker.health());
    let healths: Vec<(String, OriginHealth)> = breakers.into_iter().map(of_each).collect();
    let mut text = String::new();
    if healths.is_empty() {
        return text;
    }
    family(&mut text, names::ORIGIN_BREAKER_STATE, "state", &healths, |health| {
        health
            .transitions
            .iter()
            .map(|(state, _)| (state.as_str(), u64::from(*state == health.state)))
            .collect()
    });
    family(&mut text, names::ORIGIN_BREAKER_TRANSITIONS, "state", &healths, |health| {
        health.transitions.iter().map(|(state, times)| (state.as_str(), *times)).collect()
    });
    family(&mut text, names::ORIGIN_CALLS, "result", &healths, |health| {
        let ok = health.calls.saturating_sub(health.failures);
        vec![("ok", ok), ("failed", health.failures), ("rejected", health.rejected)]
    });
    text
}

fn family(
    text: &mut String,
    metric: Metric,
    label: &str,
    healths: &[(String, OriginHealth)],
    lines: impl Fn(&OriginHealth) -> Lines,
) {
    let Metric { name, kind, help } = metric;
    let base = name.trim_end_matches("_total");
    let kind = if kind == Kind::Counter { "counter" } else { "gauge" };
    // Writing to a text does not fail.
    let _ok = writeln!(text, "# HELP {base} {help}\n# TYPE {base} {kind}");
    for (labels, health) in healths {
        for (value, number) in lines(health) {
            let _ok = writeln!(text, "{name}{{{labels},{label}=\"{value}\"}} {number}");
        }
    }
}

/// A label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
