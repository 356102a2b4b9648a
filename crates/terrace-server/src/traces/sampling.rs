//! Which requests are traced?
//!
//! 1. One that comes from a span elsewhere is, if that one is.
//! 2. Of the others a share is, as the configuration says: they are drawn evenly, so that of any many in a row that share is.
//! 3. The guard draws for requests, before a span is made. What has a trace of its own and is no request draws when its span begins.

use opentelemetry::trace::{Link, SpanContext, SpanKind, TraceContextExt, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Steps of this size fall evenly over all numbers: 2⁶⁴ divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Draws a share of all turns.
#[derive(Clone, Debug)]
pub(super) struct Draw {
    at: Arc<AtomicU64>,
    /// What is drawn is below this; `None` draws all.
    below: Option<u64>,
}

impl Draw {
    /// Draws this share, from 0 to 1.
    pub(super) fn of(share: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 2⁶⁴")]
        let below = (share < 1.0).then_some((share * u64::MAX as f64) as u64);
        Self { at: Arc::default(), below }
    }

    /// Whether this turn is drawn.
    pub(super) fn turn(&self) -> bool {
        let Some(below) = self.below else { return true };
        below > 0 && self.at.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP) < below
    }
}

impl ShouldSample for Draw {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        _: TraceId,
        _: &str,
        kind: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let parent = parent.map(|parent| parent.span().span_context().clone()).filter(SpanContext::is_valid);
        let is_drawn = match &parent {
            Some(parent) => parent.is_sampled(),
            None => *kind == SpanKind::Server || self.turn(),
        };
        let decision = if is_drawn { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop };
        let trace_state = parent.map(|parent| parent.trace_state().clone()).unwrap_or_default();
        SamplingResult { decision, attributes: Vec::new(), trace_state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_is_drawn_is_the_one_that_was_asked_for() {
        for (share, expected) in [(0.0, 0), (0.01, 100), (0.25, 2500), (1.0, 10_000)] {
            let draw = Draw::of(share);
            let drawn = (0..10_000).filter(|_| draw.turn()).count();
            assert!(drawn.abs_diff(expected) <= 2, "{share}: {drawn}");
        }
    }
}
