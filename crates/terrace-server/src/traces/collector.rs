//! How spans are sent: OTLP over HTTP, as Protobuf.
//!
//! 1. One attempt for each batch, within a time limit. What failed is not sent again: a collector that was away need not be told
//!    everything at once when it is back.
//! 2. Redirects are not followed, and no proxy of the environment is used. What is answered is read up to a limit.
//! 3. Errors have no address in them, and no header.

use crate::config::OtlpConfig;
use arc_swap::ArcSwap;
use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::SpanData;
use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url, redirect};
use std::sync::Arc;
use std::time::Duration;

/// How long one attempt may take.
pub(super) const ATTEMPT_MAX: Duration = Duration::from_secs(5);
/// Where a collector takes traces, below its address.
const PATH: &str = "/v1/traces";
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What every request to a collector has. It can be changed while spans are sent.
pub(super) type Credentials = Arc<ArcSwap<HeaderMap>>;

/// Who is sent spans.
#[derive(Debug)]
pub(super) struct Collector {
    client: Client,
    url: Url,
    credentials: Credentials,
    resource: ResourceAttributesWithSchema,
}

impl Collector {
    pub(super) fn new(config: &OtlpConfig, life: u64) -> Result<Self, String> {
        // Whoever embeds the service may have chosen one already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let credentials = Arc::new(ArcSwap::from_pointee(headers(config)?));
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("terrace/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.without_url().to_string())?;
        let endpoint = config.endpoint.as_deref().unwrap_or_default();
        let url = url(endpoint).ok_or_else(|| "its endpoint cannot be read".to_owned())?;
        let resource = Resource::builder_empty()
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_attributes([
                KeyValue::new("service.name", config.service.clone()),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", format!("{life:016x}")),
            ])
            .build();
        Ok(Self { client, url, credentials, resource: (&resource).into() })
    }

    /// What changes its credentials.
    pub(super) fn credentials(&self) -> Credentials {
        Arc::clone(&self.credentials)
    }

    /// Sends spans; says how many of them the collector refused.
    pub(super) async fn send(&self, spans: Vec<SpanData>) -> Result<u64, String> {
        let resource_spans = group_spans_by_resource_and_scope(spans, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let request = self.client.post(self.url.clone()).timeout(ATTEMPT_MAX);
        let request = request.headers(HeaderMap::clone(&self.credentials.load()));
        let sent = request.header(CONTENT_TYPE, PROTOBUF).body(body).send().await;
        let response = sent.map_err(|error| words(&error.without_url()))?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("it answered {status}"));
        }
        let answer = read(response).await.map_err(|error| words(&error.without_url()))?;
        let refused =
            ExportTraceServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
        Ok(refused.and_then(|refused| u64::try_from(refused.rejected_spans).ok()).unwrap_or(0))
    }
}

/// The headers of a configuration.
pub(super) fn headers(config: &OtlpConfig) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let name: HeaderName = name.parse().map_err(|_| format!("`{name}` is no header"))?;
        let mut value: HeaderValue =
            value.reveal().parse().map_err(|_| format!("the header `{name}` cannot have this value"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

async fn read(mut response: reqwest::Response) -> Result<Bytes, reqwest::Error> {
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if chunk.len() > ANSWER_BYTES_MAX - answer.len() {
            break;
        }
        answer.extend_from_slice(&chunk);
    }
    Ok(answer.into())
}

/// Where traces go: below the address that is given, unless it leads there already.
fn url(endpoint: &str) -> Option<Url> {
    let base = endpoint.trim_end_matches('/');
    if base.ends_with(PATH) { base.parse().ok() } else { format!("{base}{PATH}").parse().ok() }
}

/// What an error and its sources say, in one line.
fn words(error: &reqwest::Error) -> String {
    let mut words = vec![error.to_string()];
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        words.push(error.to_string());
        next = error.source();
    }
    words.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_go_below_the_address_that_is_given() {
        for (given, expected) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            ("https://host/otlp", "https://host/otlp/v1/traces"),
            ("https://host/otlp/v1/traces", "https://host/otlp/v1/traces"),
        ] {
            assert_eq!(url(given).map(String::from).as_deref(), Some(expected), "{given}");
        }
    }
}
