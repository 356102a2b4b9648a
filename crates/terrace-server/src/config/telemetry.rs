//! What the service tells others of itself: metrics, its log, traces.

use super::MetricsConfig;
use super::check::Checker;
use super::file;
use super::freshness::Share;
use super::report::Refusal;
use super::secret::Secret;
use super::units::{Count, Period};
use reqwest::Url;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use terrace::HotKey;
use toml::Spanned;

/// The share of requests that is traced unless something else is said.
const SAMPLE_DEFAULT: Share = Share(0.01);

/// What the names of metrics begin with unless something else is said.
pub(crate) const METRICS_PREFIX: &str = "terrace";
/// The longest beginning of a metric's name, in bytes.
const METRICS_PREFIX_BYTES_MAX: usize = 40;

/// The form of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LogForm {
    /// For people where a person sees it, else for programs.
    #[default]
    Auto,
    /// For people: a line of text for each event.
    Pretty,
    /// For programs: a JSON object in a line for each event.
    Json,
}

/// What the service tells others of itself, beside metrics.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct TelemetryConfig {
    /// The form of the log on stderr. Default `auto`.
    pub log: LogForm,
    /// Traces.
    pub otlp: OtlpConfig,
}

/// Where traces are sent, by OTLP over HTTP, as Protobuf.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct OtlpConfig {
    /// The address of the collector, `http://localhost:4318`; `/v1/traces` is added to it. Default none: nothing is traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The share of requests that is traced, from 0 to 1, of those that say nothing of it themselves. Default 0.01.
    pub sample: Share,
    /// The name that the service has there. Default `terrace`.
    pub service: String,
    /// What every request to the collector has: for credentials, which are kept secret.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
}

impl Checker<'_> {
    pub(super) fn telemetry(&mut self, given: file::Telemetry) -> TelemetryConfig {
        const FORMS: [(&str, LogForm); 3] =
            [("auto", LogForm::Auto), ("pretty", LogForm::Pretty), ("json", LogForm::Json)];
        let file::Otlp { endpoint, sample, service, headers, headers_file } = given.otlp;
        let endpoint = endpoint.filter(|endpoint| !endpoint.get_ref().is_empty());
        TelemetryConfig {
            log: self.word(given.log, "form of the log", &FORMS, LogForm::Auto),
            otlp: OtlpConfig {
                endpoint: endpoint.and_then(|endpoint| self.endpoint(endpoint)),
                sample: self.ranged(
                    sample,
                    SAMPLE_DEFAULT,
                    |share| (0.0..=1.0).contains(&share.0),
                    "it is a share, from 0 to 1",
                ),
                service: service.filter(|name| !name.is_empty()).unwrap_or_else(|| "terrace".to_owned()),
                headers: self.headers(headers, headers_file),
            },
        }
    }

    /// `adaptive_at` is where entries are said to last longer that are read often, if that is said anywhere.
    pub(super) fn metrics(&mut self, given: file::Metrics, adaptive_at: &[Range<usize>]) -> MetricsConfig {
        MetricsConfig {
            enabled: given.enabled.is_none_or(|flag| flag.0),
            interval: self.positive(given.interval, Period::seconds(10)),
            prefix: self.metrics_prefix(given.prefix),
            hot_keys: self.hot_keys(given.hot_keys, adaptive_at),
        }
    }

    /// How many keys are counted. Without any it is not known what is read often.
    fn hot_keys(&mut self, given: Option<Spanned<Count>>, adaptive_at: &[Range<usize>]) -> usize {
        let at = given.as_ref().map(Spanned::span);
        let (most, default) = (HotKey::COUNTED_MAX, Count(HotKey::COUNTED_DEFAULT as u64));
        let allowed = format!("it is at most {most}, and 0 counts none");
        let keys = self.ranged(given, default, |keys| keys.0 <= most as u64, &allowed).0;
        if let (0, Some(at)) = (keys, at) {
            for adaptive in adaptive_at {
                let title = "`adaptive_ttl` needs to know which keys are read often, and none are counted";
                let refusal = Refusal::new(adaptive.clone(), title).also(at.clone(), "none are");
                self.refuse(&refusal.help("leave `metrics.hot_keys` out, or `adaptive_ttl`"));
            }
        }
        usize::try_from(keys).unwrap_or(most)
    }

    /// What the names of metrics begin with.
    fn metrics_prefix(&mut self, given: Option<Spanned<String>>) -> String {
        let Some(prefix) = given else { return METRICS_PREFIX.to_owned() };
        let text = prefix.get_ref();
        let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if !begins || !text.bytes().all(is_part) || text.len() > METRICS_PREFIX_BYTES_MAX {
            let help = format!(
                "it is a small letter, and then small letters, digits and `_`: {METRICS_PREFIX_BYTES_MAX} at most"
            );
            self.refuse(
                &Refusal::new(prefix.span(), format!("`{text}` cannot begin a metric's name")).help(help),
            );
        }
        prefix.into_inner()
    }

    fn endpoint(&mut self, text: Spanned<String>) -> Option<String> {
        let url = Url::parse(text.get_ref()).ok().filter(Url::has_host);
        let refused = match &url {
            _ if cfg!(not(feature = "otlp")) => {
                Some(("this build sends no traces", "build it with the feature `otlp`, or leave this out"))
            }
            Some(url) if !matches!(url.scheme(), "http" | "https") => {
                Some(("traces are sent by `http` or `https`", "write `http://localhost:4318`"))
            }
            Some(url) if !url.username().is_empty() || url.password().is_some() => Some((
                "credentials do not stand in an address",
                "send them in a header: `headers = { authorization = \"Bearer ${OTLP_TOKEN}\" }`",
            )),
            Some(url) if url.query().is_some() || url.fragment().is_some() => {
                Some(("the address of a collector has no `?` and no `#`", "write `http://localhost:4318`"))
            }
            Some(_) => None,
            None => Some(("this is not the address of a collector", "write `http://localhost:4318`")),
        };
        if let Some((title, help)) = refused {
            self.refuse(&Refusal::new(text.span(), title).help(help));
            return None;
        }
        Some(text.into_inner())
    }
}
