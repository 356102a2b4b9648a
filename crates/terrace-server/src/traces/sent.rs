//! The traces of a service that sends them.

use super::collector::{Collector, Credentials, headers};
use super::outbox::{self, Figures};
use super::sampling::Draw;
use super::{context, spans};
use crate::config::TelemetryConfig;
use crate::runtime::Tasks;
use axum::http::Request;
use opentelemetry::trace::{SpanContext, TracerProvider};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use terrace::TRACE_TARGET;
use tracing::{Span, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// Longest that the end of the service waits for spans to be sent.
const END_MAX: Duration = Duration::from_secs(2);

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("traces cannot be sent: {0}")]
pub struct TracesError(String);

/// The traces of a service: which requests are traced, and the way to the collector.
///
/// Two things have to be done with it: its [`Traces::layer`] is added to what listens to spans in this process, and a service is started
/// with it, by [`Server::bind_traced`](crate::Server::bind_traced).
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// use terrace_server::config::{Config, Sources};
/// use terrace_server::{Server, Stop, Traces};
/// use tracing_subscriber::prelude::*;
///
/// let toml = "server.listen = '127.0.0.1:0'\ntelemetry.otlp = { endpoint = 'http://127.0.0.1:4318', sample = 0.1 }";
/// let config = Config::load(&Sources::text(toml))?;
/// let traces = Traces::start(&config.telemetry)?.expect("there is an endpoint");
/// tracing_subscriber::registry().with(traces.layer()).init();
/// let server = Server::bind_traced(&config, Some(traces)).await?;
/// assert!(server.run(async { Stop::Now }).await.is_clean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    draw: Draw,
    figures: Arc<Figures>,
    credentials: Credentials,
    tasks: Tasks,
}

impl Traces {
    /// Opens the way to the collector that a configuration names; `None` if it names none. The collector need not be up.
    ///
    /// # Errors
    /// [`TracesError`] if the client cannot be set up.
    ///
    /// # Panics
    /// Outside an async runtime: the task that sends is started here.
    pub fn start(config: &TelemetryConfig) -> Result<Option<Self>, TracesError> {
        let config = &config.otlp;
        if config.endpoint.is_none() {
            return Ok(None);
        }
        let collector = Collector::new(config, RandomState::new().hash_one("life")).map_err(TracesError)?;
        let (tasks, credentials) = (Tasks::default(), collector.credentials());
        let (inlet, figures) = outbox::open(collector, &tasks);
        let draw = Draw::of(config.sample.0);
        let provider =
            SdkTracerProvider::builder().with_span_processor(inlet).with_sampler(draw.clone()).build();
        spans::turn_on();
        Ok(Some(Self { provider, draw, figures, credentials, tasks }))
    }

    /// Readies the headers of another configuration, to be sent when what is returned is called.
    pub(crate) fn renew(&self, config: &TelemetryConfig) -> Result<impl FnOnce() + use<>, TracesError> {
        let (headers, credentials) =
            (headers(&config.otlp).map_err(TracesError)?, Arc::clone(&self.credentials));
        Ok(move || credentials.store(Arc::new(headers)))
    }

    /// What listens to the spans of the service, and to no others and no events.
    ///
    /// # Cost
    /// Of a request that is not sampled, nothing. Of one that is, some allocations for each span, and a lock of the registry.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'lookup> LookupSpan<'lookup> + Send + Sync,
    {
        let tracer: SdkTracer = self.provider.tracer("terrace");
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_level(false)
            .with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target() == TRACE_TARGET))
    }

    /// The span of a request, if it is traced. `route` is asked for then.
    pub(crate) fn request<B>(&self, request: &Request<B>, route: impl FnOnce() -> Option<String>) -> Span {
        let parent = context::of(request.headers());
        let is_sampled = parent.as_ref().map_or_else(|| self.draw.turn(), SpanContext::is_sampled);
        if !is_sampled {
            return Span::none();
        }
        let span = spans::request(request.method(), route().as_deref(), request.version());
        if let Some(parent) = parent {
            context::adopt(&span, parent);
        }
        span
    }

    /// As metrics for Prometheus.
    pub(crate) fn metrics(&self) -> String {
        self.figures.metrics()
    }

    /// Sends what waits, within [`END_MAX`].
    pub(crate) async fn end(&self) {
        self.tasks.stop();
        if self.tasks.end(END_MAX).await > 0 {
            tracing::warn!("the collector was too slow for the last traces, which are lost");
        }
    }
}
