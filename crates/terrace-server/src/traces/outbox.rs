//! When are spans sent, and which are not?
//!
//! 1. Spans that have ended wait in a queue of [`QUEUE_MAX`]. One that comes when it is full is dropped, and counted.
//! 2. One task sends them, up to [`BATCH_MAX`] at a time, the first of a batch after [`LINGER`] at the latest. While an attempt is under
//!    way, others wait in the queue.
//! 3. What the collector does not take is counted. It is said once that it is away, and once that it is back.
//! 4. At the end what waits is sent, until an attempt fails or the time for it is over; what is left is dropped, and counted.

use super::collector::{ATTEMPT_MAX, Collector};
use crate::runtime::{self, Tasks};
use futures_util::future::{Either, select};
use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Spans that wait, at most.
pub(super) const QUEUE_MAX: usize = 2048;
/// Spans that are sent at a time, at most.
const BATCH_MAX: usize = 512;
/// How long the first span of a batch waits for others.
const LINGER: Duration = Duration::from_secs(1);

/// What became of spans.
#[derive(Debug, Default)]
pub(super) struct Figures {
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Figures {
    /// As metrics for Prometheus.
    pub(super) fn metrics(&self) -> String {
        let [sent, dropped, failed] =
            [&self.sent, &self.dropped, &self.failed].map(|count| count.load(Ordering::Relaxed));
        format!(
            "# HELP terrace_trace_spans Spans of traces that ended, by what became of them.\n\
             # TYPE terrace_trace_spans counter\n\
             terrace_trace_spans_total{{outcome=\"sent\"}} {sent}\n\
             terrace_trace_spans_total{{outcome=\"dropped\"}} {dropped}\n\
             terrace_trace_spans_total{{outcome=\"failed\"}} {failed}\n"
        )
    }
}

fn add(count: &AtomicU64, more: usize) {
    count.fetch_add(more as u64, Ordering::Relaxed);
}

/// Where spans go when they end.
#[derive(Debug)]
pub(super) struct Inlet {
    queue: Sender<SpanData>,
    figures: Arc<Figures>,
}

impl SpanProcessor for Inlet {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.queue.try_send(span).is_err() {
            add(&self.figures.dropped, 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Opens the way from spans that end to a collector.
pub(super) fn open(collector: Collector, tasks: &Tasks) -> (Inlet, Arc<Figures>) {
    let (queue, waiting) = channel(QUEUE_MAX);
    let figures = Arc::new(Figures::default());
    let outbox = Outbox { waiting, collector, figures: Arc::clone(&figures), is_away: false };
    tasks.spawn(outbox.run(tasks.stopped()));
    (Inlet { queue, figures: Arc::clone(&figures) }, figures)
}

struct Outbox {
    waiting: Receiver<SpanData>,
    collector: Collector,
    figures: Arc<Figures>,
    is_away: bool,
}

impl Outbox {
    async fn run(mut self, stopped: impl Future<Output = ()>) {
        let mut stopped = pin!(stopped);
        loop {
            let mut batch = Vec::new();
            let is_over = {
                let gathering = pin!(self.gather(&mut batch));
                matches!(select(stopped.as_mut(), gathering).await, Either::Left(_))
            };
            if is_over {
                return self.send_rest(batch).await;
            }
            if batch.is_empty() {
                return;
            }
            self.send(batch).await;
        }
    }

    /// Takes from the queue what is sent together; nothing, if nothing will come any more.
    async fn gather(&mut self, batch: &mut Vec<SpanData>) {
        self.waiting.recv_many(batch, BATCH_MAX).await;
        let fill = async {
            while batch.len() < BATCH_MAX {
                let room = BATCH_MAX - batch.len();
                if self.waiting.recv_many(batch, room).await == 0 {
                    return;
                }
            }
        };
        runtime::within(LINGER, fill).await;
    }

    async fn send_rest(&mut self, mut batch: Vec<SpanData>) {
        self.waiting.close();
        loop {
            if batch.is_empty() && self.waiting.recv_many(&mut batch, BATCH_MAX).await == 0 {
                return;
            }
            self.send(std::mem::take(&mut batch)).await;
            if self.is_away {
                add(&self.figures.dropped, self.waiting.len());
                return;
            }
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let count = batch.len();
        let sent = runtime::within(ATTEMPT_MAX, self.collector.send(batch)).await;
        let sent = sent.unwrap_or_else(|| Err(format!("it did not answer within {ATTEMPT_MAX:?}")));
        match sent {
            Ok(refused) => {
                let refused = usize::try_from(refused).unwrap_or(count).min(count);
                add(&self.figures.sent, count - refused);
                add(&self.figures.failed, refused);
                if std::mem::take(&mut self.is_away) {
                    tracing::info!("the collector takes traces again");
                }
            }
            Err(reason) => {
                add(&self.figures.failed, count);
                if !std::mem::replace(&mut self.is_away, true) {
                    tracing::warn!(reason, "the collector takes no traces; they are dropped and counted");
                }
            }
        }
    }
}
