//! Traces, as a collector receives them: what belongs to what, what is not traced, and what a collector that is away does.

use crate::http_api::{Api, Mood};
use crate::log::Lines;
use crate::support::{Client, Running, beside, config, run, token};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use terrace_server::{Server, Stop, Traces};
use terrace_testkit::server::RedisServer;
use terrace_testkit::wait::until;
use tokio::net::TcpListener;
use tracing_subscriber::prelude::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SAMPLED: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
const PATH: &str = "/v2/docs/hunter2";

/// Who says that a request is theirs.
struct Shown(Option<String>);

impl<S: Sync> FromRequestParts<S> for Shown {
    type Rejection = std::convert::Infallible;

    fn from_request_parts(
        parts: &mut Parts,
        _: &S,
    ) -> impl Future<Output = Result<Self, Self::Rejection>> + Send {
        let shown = parts.headers.get("authorization").and_then(|header| header.to_str().ok());
        ready(Ok(Self(shown.map(str::to_owned))))
    }
}

/// What takes traces.
#[derive(Clone, Default)]
struct Collector {
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    /// What it was shown with each.
    shown: Arc<Mutex<Vec<Option<String>>>>,
}

impl Collector {
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = Router::new().route("/v1/traces", post(Self::take)).with_state(collector.clone());
        drop(beside(async move { axum::serve(listener, router).await }));
        (collector, url)
    }

    fn take(State(collector): State<Self>, Shown(shown): Shown, body: Bytes) -> Ready<Vec<u8>> {
        let request = ExportTraceServiceRequest::decode(body).expect("Protobuf");
        collector.requests.lock().expect("no panic").push(request);
        collector.shown.lock().expect("no panic").push(shown);
        ready(Vec::new())
    }

    /// All that it was sent.
    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        self.requests.lock().expect("no panic").clone()
    }

    fn shown_last(&self) -> Option<String> {
        self.shown.lock().expect("no panic").last().cloned().flatten()
    }

    fn spans(&self) -> Vec<Span> {
        let resources = self.requests().into_iter().flat_map(|request| request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// An attribute of a span, as text.
fn of(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::BoolValue(flag) => Some(flag.to_string()),
        other => panic!("{name}: {other:?}"),
    }
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {names:?}"))
}

/// The names of a span and of those that it is within, outermost last.
fn way(spans: &[Span], name: &str) -> Vec<String> {
    let (mut span, mut way) = (named(spans, name), vec![name.to_owned()]);
    while let Some(parent) = spans.iter().find(|other| other.span_id == span.parent_span_id) {
        way.push(parent.name.clone());
        span = parent;
    }
    way
}

/// A service that sends traces, as long as the guard is there.
async fn traced(toml: &str, endpoint: &str, sample: f64) -> (Running, tracing::subscriber::DefaultGuard) {
    traced_and_logged(toml, endpoint, sample, Lines::default()).await
}

async fn traced_and_logged(
    toml: &str,
    endpoint: &str,
    sample: f64,
    lines: Lines,
) -> (Running, tracing::subscriber::DefaultGuard) {
    let config =
        config(&format!("{toml}\n[telemetry]\notlp = {{ endpoint = '{endpoint}', sample = {sample} }}"));
    let traces = Traces::start(&config.telemetry).expect("it can be set up");
    let log = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || lines.clone());
    let log = log.with_filter(tracing_subscriber::filter::LevelFilter::WARN);
    let listening = tracing_subscriber::registry().with(traces.as_ref().map(Traces::layer)).with(log);
    let guard = tracing::subscriber::set_default(listening);
    (run(Server::bind_traced(&config, traces).await.expect("it starts")), guard)
}

fn toml(api: &Api, strategy: &str, folder: &std::path::Path) -> String {
    let store = if strategy == "read-through" { "" } else { "store = 'PUT /docs/{id}'" };
    format!(
        r#"
        [origin.api]
        type = "http"
        base_url = "{}"
        timeout = "500ms"
        [write_behind]
        path = "{}"
        interval = "1ms"
        [keyspace.docs]
        pattern = "doc:{{id}}"
        strategy = "{strategy}"
        [keyspace.docs.source]
        origin = "api"
        load = "GET /docs/{{id}}"
        {store}
        "#,
        api.url(),
        folder.join("writes.journal").display()
    )
}

#[tokio::test]
async fn a_trace_leads_from_the_client_through_the_tiers_to_the_origin() {
    let Some(redis) = RedisServer::start().await else { return };
    let ((collector, url), api, folder) =
        (Collector::start().await, Api::start().await, tempfile::tempdir().expect("a folder"));
    api.set(PATH, r#"{"word":"xyzzy"}"#);
    let tokens = token("web", "sesame", "scopes = ['read:*']");
    let toml = format!("l2.url = '{}'\n{}\n{tokens}", redis.url(), toml(&api, "read-through", folder.path()));
    let (service, _listening) = traced(&toml, &url, 0.0).await;
    let lines = [SAMPLED, "tracestate: vendor=1", "authorization: Bearer sesame"];
    for tier in ["origin", "l1"] {
        let answer = service.send_with("GET", "/api/cache/doc:hunter2", &lines, b"").await;
        assert!(answer.body.contains(&format!("\"source\":\"{tier}\"")), "{answer:?}");
    }
    assert!(service.stop(Stop::Now).await.is_clean());

    let spans = collector.spans();
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "{spans:?}");
    let route = "GET /api/cache/{*key}";
    assert_eq!(way(&spans, "GET"), ["GET", "load", "flight", "lookup", route]);
    for call in ["validate", "get", "lease", "fill"] {
        if spans.iter().any(|span| span.name == call) || call == "fill" {
            assert_eq!(way(&spans, call), [call, "flight", "lookup", route]);
        }
    }
    let root = named(&spans, route);
    assert_eq!(hex(&root.parent_span_id), "b7ad6b7169203331");
    assert_eq!((root.kind, named(&spans, "GET").kind), (2, 3), "a server, and a client");
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/api/cache/{*key}"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(of(root, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(of(named(&spans, "flight"), "terrace.l2.outcome").as_deref(), Some("miss"));
    assert_eq!(of(named(&spans, "load"), "terrace.load.outcome").as_deref(), Some("found"));
    assert_eq!(of(named(&spans, "GET"), "url.template").as_deref(), Some("/docs/{id}"));
    assert_eq!(of(named(&spans, "lookup"), "terrace.keyspace").as_deref(), Some("docs"));
    let tiers: Vec<_> = spans.iter().filter_map(|span| of(span, "terrace.tier")).collect();
    assert_eq!(tiers, ["origin", "l1"]);

    let asked = api.asked();
    let headers = &asked[0].headers;
    assert_eq!(headers["traceparent"], format!("00-{TRACE}-{}-01", hex(&named(&spans, "GET").span_id)));
    assert_eq!(headers["tracestate"], "vendor=1");

    let everything = format!("{:?}", collector.requests());
    assert!(everything.contains("service.name"));
    for secret in ["hunter2", "xyzzy", "sesame"] {
        assert!(!everything.contains(secret), "{secret} in {everything}");
    }
}

#[tokio::test]
async fn what_is_not_sampled_or_not_switched_on_is_nowhere() {
    let ((collector, url), api, folder) =
        (Collector::start().await, Api::start().await, tempfile::tempdir().expect("a folder"));
    let toml = toml(&api, "read-through", folder.path());
    for (endpoint, sample, lines) in
        [(url.as_str(), 1.0, &[UNSAMPLED][..]), (&url, 0.0, &[]), ("", 1.0, &[SAMPLED])]
    {
        let (service, _listening) = traced(&toml, endpoint, sample).await;
        let missing = service.send_with("GET", "/api/cache/doc:1", lines, b"").await;
        assert_eq!(missing.status, 404);
        assert!(!missing.body.contains("trace_id"), "{missing:?}");
        assert_eq!(service.get("/livez").await.status, 200);
        assert!(service.stop(Stop::Now).await.is_clean());
        let asked = api.asked();
        assert_eq!(asked.len(), 1);
        assert!(!asked[0].headers.contains_key("traceparent"), "{endpoint} {sample}");
        assert!(collector.requests().is_empty(), "{endpoint} {sample}: {:?}", collector.spans());
    }
    let (service, _listening) = traced(&toml, &url, 1.0).await;
    service.get("/api/cache/doc:1").await;
    service.get("/livez").await;
    service.stop(Stop::Now).await;
    let spans = collector.spans();
    let roots: Vec<&str> =
        spans.iter().filter(|span| span.parent_span_id.is_empty()).map(|span| span.name.as_str()).collect();
    assert_eq!(roots, ["GET /api/cache/{*key}"], "a trace of its own, and none of a probe");
}

#[tokio::test]
async fn the_collector_is_shown_other_headers_after_a_reload() {
    let (collector, url) = Collector::start().await;
    let toml = |shown: &str| {
        format!(
            "telemetry.otlp = {{ endpoint = '{url}', sample = 1, headers = {{ authorization = '{shown}' }} }}\n"
        )
    };
    let before = config(&toml("one"));
    let traces = Traces::start(&before.telemetry).expect("it can be set up");
    let listening = tracing_subscriber::registry().with(traces.as_ref().map(Traces::layer));
    let _listening = tracing::subscriber::set_default(listening);
    let service = run(Server::bind_traced(&before, traces).await.expect("it starts"));
    let is_shown = |header: &str| collector.shown_last().as_deref() == Some(header);
    service.get("/api/cache/k").await;
    until("the first to be shown", || is_shown("one")).await;
    let changed = service.reload(&toml("two")).await.expect("it can change");
    assert_eq!(changed, ["telemetry.otlp.headers"]);
    service.get("/api/cache/k").await;
    until("the other to be shown", || is_shown("two")).await;
    let refused = service.reload(&toml("a\\u0000b").replace('\'', "\"")).await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn a_problem_says_of_which_trace_it_is() {
    let ((collector, url), api, folder) =
        (Collector::start().await, Api::start().await, tempfile::tempdir().expect("a folder"));
    let tokens = token("web", "sesame", "scopes = ['read:doc:*']");
    let toml = format!("{}\n{tokens}", toml(&api, "read-through", folder.path()));
    let (service, _listening) = traced(&toml, &url, 1.0).await;
    let trace_of = |answer: &crate::support::Answer| {
        let body: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        body["trace_id"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
    };
    let token = "authorization: Bearer sesame";
    for (target, lines, status) in [
        ("/api/cache/doc:1", &[SAMPLED, token, "x-request-id: abc"][..], 404),
        ("/v1/keys/doc:1", &[SAMPLED, token], 404),
        ("/api/cache/other", &[SAMPLED, token], 403),
        ("/api/cache/doc:1", &[SAMPLED], 401),
        ("/api/cache/%00", &[SAMPLED, token], 400),
    ] {
        let answer = service.send_with("GET", target, lines, b"").await;
        assert_eq!((answer.status, trace_of(&answer).as_str()), (status, TRACE), "{answer:?}");
    }
    let own = service.send_with("GET", "/api/cache/doc:1", &[token], b"").await;
    let own = trace_of(&own);
    assert_ne!(own, TRACE, "a trace of its own");
    assert!(service.stop(Stop::Now).await.is_clean());
    let spans = collector.spans();
    let traces: Vec<String> = spans.iter().map(|span| hex(&span.trace_id)).collect();
    assert!(traces.contains(&own), "{own} in {traces:?}");
    let ids: Vec<_> = spans.iter().filter_map(|span| of(span, "http.request.header.x-request-id")).collect();
    assert_eq!(ids, ["abc"], "the id that a client gave");
}

#[tokio::test]
async fn who_waits_for_the_load_of_another_has_a_link_to_it_and_failures_are_told() {
    let ((collector, url), api, folder) =
        (Collector::start().await, Api::start().await, tempfile::tempdir().expect("a folder"));
    let (service, _listening) = traced(&toml(&api, "read-through", folder.path()), &url, 1.0).await;
    api.mood(Mood::Hang);
    let ask = || service.get("/api/cache/doc:1");
    let join = async {
        while api.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        ask().await
    };
    let (first, second) = tokio::join!(ask(), join);
    assert_eq!((first.status, second.status), (504, 504), "{first:?} {second:?}");
    service.stop(Stop::Now).await;
    let spans = collector.spans();
    let (flight, wait) = (named(&spans, "flight"), named(&spans, "wait"));
    assert_ne!(flight.trace_id, wait.trace_id);
    let links: Vec<_> = wait.links.iter().map(|link| (&link.trace_id, &link.span_id)).collect();
    assert_eq!(links, [(&flight.trace_id, &flight.span_id)]);
    for (name, error) in
        [("GET", "unanswered"), ("load", "failed"), ("GET /api/cache/{*key}", "origin_timeout")]
    {
        let span = named(&spans, name);
        assert_eq!(of(span, "error.type").as_deref(), Some(error), "{name}");
        assert_eq!(span.status.as_ref().map(|status| status.code), Some(2), "{name}");
    }
}

#[tokio::test]
async fn what_is_written_at_once_is_of_the_trace_and_what_is_written_behind_has_one_of_its_own() {
    let ((collector, url), api) = (Collector::start().await, Api::start().await);
    for (strategy, is_of_the_trace) in [("write-through", true), ("write-behind", false)] {
        let folder = tempfile::tempdir().expect("a folder");
        let (service, _listening) = traced(&toml(&api, strategy, folder.path()), &url, 1.0).await;
        let stored = service.send_with("PUT", "/api/cache/doc:1", &[SAMPLED], br#"{"value":1}"#).await;
        assert!((200..300).contains(&stored.status), "{stored:?}");
        assert!(service.stop(Stop::Now).await.is_clean());
        let asked = api.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        let spans = std::mem::take(&mut *collector.requests.lock().expect("no panic"));
        let spans: Vec<Span> = spans
            .into_iter()
            .flat_map(|request| request.resource_spans)
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans)
            .collect();
        let sent = named(&spans, "PUT");
        assert_eq!(hex(&sent.trace_id) == TRACE, is_of_the_trace, "{spans:?}");
        let told = format!("00-{}-{}-01", hex(&sent.trace_id), hex(&sent.span_id));
        assert_eq!(asked[0].headers["traceparent"], told);
        let outer = way(&spans, "PUT");
        let expected: &[&str] = if is_of_the_trace {
            &["PUT", "store", "change", "PUT /api/cache/{*key}"]
        } else {
            &["PUT", "write behind"]
        };
        assert_eq!(outer, expected);
    }
}

/// How many spans came to what.
async fn count(service: &Running, outcome: &str) -> u64 {
    let metrics = service.get("/metrics").await.body;
    let name = format!("terrace_trace_spans_total{{outcome=\"{outcome}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no {name} in {metrics}"))
}

#[tokio::test]
async fn a_collector_that_is_away_is_counted_and_said_once_and_harms_nobody() {
    let nowhere = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", nowhere.local_addr().expect("an address"));
    drop(nowhere);
    let lines = Lines::default();
    let (service, _listening) = traced_and_logged("", &url, 1.0, lines.clone()).await;
    for round in 1..=2 {
        assert_eq!(service.put("/api/cache/a", r#"{"value":1}"#).await.status, 200);
        let before = count(&service, "failed").await;
        while count(&service, "failed").await == before {
            tokio::task::yield_now().await;
        }
        assert_eq!(lines.text().matches("the collector takes no traces").count(), 1, "{round}");
    }
    assert_eq!(count(&service, "sent").await, 0);
    assert!(service.stop(Stop::Now).await.is_clean());
}

#[tokio::test]
async fn a_collector_that_hangs_makes_nobody_wait_and_what_is_too_much_is_dropped() {
    let deaf = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", deaf.local_addr().expect("an address"));
    let (service, _listening) = traced("", &url, 1.0).await;
    let mut client = Client::of(&service).await;
    assert_eq!(client.ask("", "PUT", "/api/cache/a", r#"{"value":1}"#).await.status, 200);
    // Two spans each, and room for 2048 and one batch of 512.
    for _ in 0..1500 {
        assert_eq!(client.ask("", "GET", "/api/cache/a", "").await.status, 200);
    }
    let dropped = count(&service, "dropped").await;
    assert!((440..=960).contains(&dropped), "{dropped}");
    drop(client);
    let stopping = tokio::time::timeout(Duration::from_secs(10), service.stop(Stop::Now)).await;
    assert!(stopping.expect("the end has a bound").is_clean());
}
