//! What the service is told: a TOML file, the environment and flags, made into one checked [`Config`].
//!
//! 1. Order: defaults < file < well-known variables < `TERRACE__*` variables < flags.
//! 2. Nothing is repaired silently: an unknown key, a value that cannot be, or settings that contradict each other
//!    are refused, with the line and a caret, or with the variable's name.
//! 3. A [`Config`] that exists is consistent: every origin and capture it names is there, every number is in range.
//!    Whether servers answer and SQL compiles is not known before [`crate::check()`] asks.
//! 4. Secrets are never shown: see [`Secret`] and [`Address`].
//!
//! | stage | module |
//! |---|---|
//! | the keys that exist | `file` |
//! | all keys that do not | `unknown` |
//! | `${VAR}`, variables, flags | `overlay` |
//! | defaults, rules between settings | `check` |
//! | how a refusal looks | `report` |
//! | who set what is in force | `show` |
//! | the file's form, for editors | `schema` |

mod answers;
mod auth;
mod behind;
mod bus;
mod check;
mod compression;
mod elsewhere;
mod file;
mod freshness;
mod keyspaces;
mod l2;
mod limits;
mod origin;
mod origins;

mod overlay;
mod patience;
mod report;
mod schema;
mod secret;
mod secret_files;
mod show;
mod sources;
mod telemetry;
mod tenants;
mod tls;
mod units;
mod unknown;

pub use answers::SourceFreshness;
pub use auth::{AuthConfig, AuthMode, TokenConfig};
pub(crate) use auth::{is_keyspace_of, tenant_keyspace};
pub use behind::{AckSetting, LaneConfig, OnFull, WriteBehindConfig};
pub use bus::{BusConfig, BusMode};
pub use compression::{CompressionAlgorithm, CompressionConfig, DictionaryConfig};
pub use freshness::{Freshness, Share};
pub(crate) use keyspaces::UNMATCHED;
pub use l2::{L2Config, L2OnError, L2Sentinel, L2Timeouts, L2Tls};
pub use limits::{Limits, OriginLoads};
pub use origin::{HttpConfig, OriginConfig, PostgresConfig, SqliteConfig};
pub use patience::{L2Breaker, L2Retry, OriginBreakerConfig};
pub use report::ConfigError;
pub(crate) use report::nearest;
pub use secret::{Address, Secret};
pub use show::{SetBy, Setting};
pub use sources::SourceConfig;
pub(crate) use sources::{DOCUMENT, TENANT, VERSION, list_of};
pub(crate) use telemetry::METRICS_PREFIX;
pub use telemetry::{LogForm, OtlpConfig, TelemetryConfig};
pub use tenants::TenantLimits;
pub use tls::TlsConfig;
pub use units::{ByteSize, Period, TtlSetting};

use crate::tagging::TagRule;
use crate::template::Template;
use report::{Document, Extra};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where a configuration comes from.
///
/// # Examples
/// ```
/// use terrace_server::config::{Config, Sources};
/// let sources = Sources::text("[l1]\nmax_entries = 500\n").flag("--listen", "server.listen", "127.0.0.1:0");
/// let config = Config::load(&sources)?;
/// assert_eq!(config.l1.max_entries, 500);
/// assert_eq!(config.server.listen, "127.0.0.1:0");
/// # Ok::<(), terrace_server::config::ConfigError>(())
/// ```
#[derive(Clone, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    text: Option<String>,
    variables: Vec<(String, String)>,
    flags: Vec<Extra>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Sources {
    /// Nothing: the defaults.
    pub fn none() -> Self {
        Self::default()
    }

    /// A TOML file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { file: Some(path.into()), ..Self::default() }
    }

    /// TOML text that is in no file.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }

    /// The environment of this process. Variables that are not UTF-8 are left out.
    #[must_use]
    pub fn environment(self) -> Self {
        let readable = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        self.variables(readable)
    }

    /// These environment variables, and no others.
    #[must_use]
    pub fn variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.variables = variables.into_iter().collect();
        self.variables.sort();
        self
    }

    /// A command line flag: its name in errors, the key it sets (`server.listen`), and its value.
    #[must_use]
    pub fn flag(mut self, name: &str, key: &str, value: impl Into<String>) -> Self {
        let path = key.split('.').map(str::to_owned).collect();
        self.flags.push(Extra { name: name.to_owned(), path, value: value.into() });
        self
    }

    fn document(&self) -> Result<Document, ConfigError> {
        let text = match (&self.text, &self.file) {
            (Some(text), _) => text.clone(),
            (None, Some(path)) => std::fs::read_to_string(path).map_err(|error| {
                ConfigError::new(format!("error: cannot read {}\n  = note: {error}", path.display()))
            })?,
            (None, None) => String::new(),
        };
        let mut extras = overlay::from_environment(&self.variables);
        extras.extend(self.flags.iter().cloned());
        Ok(Document { path: self.file.clone(), text, extras })
    }
}

/// Everything the service is told, checked, with defaults filled in.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct Config {
    /// The listener, and the limits on requests.
    pub server: ServerConfig,
    /// Who may come in.
    pub auth: AuthConfig,
    /// The memory of this process.
    pub l1: L1Config,
    /// The shared tier; `None` runs on memory alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l2: Option<L2Config>,
    /// How instances tell each other of changes, by way of the shared tier.
    pub bus: BusConfig,
    /// What holds for every keyspace that says nothing else.
    pub defaults: Defaults,
    /// The systems of record, by name.
    #[serde(rename = "origin", skip_serializing_if = "BTreeMap::is_empty")]
    pub origins: BTreeMap<String, OriginConfig>,
    /// The keyspaces, by name.
    #[serde(rename = "keyspace", skip_serializing_if = "BTreeMap::is_empty")]
    pub keyspaces: BTreeMap<String, KeyspaceConfig>,
    /// Metrics.
    pub metrics: MetricsConfig,
    /// The log, and traces.
    pub telemetry: TelemetryConfig,
    /// The journal, and how what is written behind is brought to its origin.
    pub write_behind: WriteBehindConfig,
    /// When the service says that it is ready.
    pub ready: ReadyConfig,
}

/// When the service says that it is ready.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct ReadyConfig {
    /// Whether it is not while the shared tier cannot be asked. Default false: it is degraded then, and serves.
    pub require_l2: bool,
}

/// The listener, and the limits on requests.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Host and port to listen on; port 0 takes a free one. Default `127.0.0.1:4000`.
    pub listen: String,
    /// How long a request may take, with its body and its origin. Default 5 s, at most a day.
    pub request_timeout: Period,
    /// How long a client may take to send the head of a request, and a connection may idle. Default 30 s, at most a day.
    pub header_timeout: Period,
    /// Largest request body, in bytes. Default 8 MiB.
    pub max_body: ByteSize,
    /// Most requests at work at a time; more are answered 503. Default 4096.
    pub max_requests: u64,
    /// Most connections at a time; more wait to be accepted. Default 10,000.
    pub max_connections: u64,
    /// Host and port of a second listener, for probes, metrics and what concerns the service; the first has none of the latter then.
    /// Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_listen: Option<String>,
    /// How the service stops.
    pub shutdown: ShutdownConfig,
    /// TLS on all listeners. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
}

/// How the service stops.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct ShutdownConfig {
    /// How long it goes on serving while `/readyz` says 503, so that load balancers notice. Default 5 s, at most a day.
    pub drain: Period,
    /// How long requests that are under way may take after that. Default 25 s, at most a day.
    pub grace: Period,
}

/// Which entries leave L1 first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvictionPolicy {
    /// Those that were used neither often nor recently.
    Default,
    /// Those that were used least recently.
    Lru,
}

/// The memory of this process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct L1Config {
    /// Whether there is an L1. Default true.
    pub enabled: bool,
    /// Most entries; 0 is bounded by bytes only. Default 10,000.
    pub max_entries: u64,
    /// Most bytes; `None` is bounded by entries only. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<ByteSize>,
    /// The longest an L1 copy lives. Default 1 minute with an L2, without one as long as the entry.
    pub ttl: TtlSetting,
    /// Which entries leave first. Default `default`.
    pub policy: EvictionPolicy,
    /// How often expired entries are removed that nobody reads. Default 60 s.
    pub cleanup_interval: Period,
    /// How long after another instance's change was acknowledged a copy may still count as fresh. Default 1 s, at least
    /// 100 ms.
    pub staleness_max: Period,
}

/// What to do with an L1 copy that cannot be proven fresh.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suspect {
    /// Ask L2; if that cannot be asked, return the copy as stale.
    Validate,
    /// Return the copy as stale.
    Stale,
    /// Ask L2; if that cannot be asked, fail.
    Error,
}

/// What holds for every keyspace that says nothing else.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct Defaults {
    /// How long entries are fresh. Default 1 hour.
    pub ttl: TtlSetting,
    /// Compression in L2.
    pub compression: CompressionConfig,
    /// Largest value, in bytes of JSON. Default 1 MiB.
    pub max_value: ByteSize,
    /// Longest key, in bytes. Default 512.
    pub max_key: ByteSize,
    /// What to do with an L1 copy that cannot be proven fresh. Default `validate`.
    pub suspect: Suspect,
    /// What is done with old entries, and how long a load is waited for.
    #[serde(flatten)]
    pub freshness: Freshness,
    /// What bounds loads, how long hot entries last, and how stale answers may be.
    #[serde(flatten)]
    pub limits: Limits,
}

/// What a keyspace does about its origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Strategy {
    /// The program reads the cache, and fills it itself.
    CacheAside,
    /// A miss is loaded from the origin.
    ReadThrough,
    /// And a change is made there first, then in the tiers.
    WriteThrough,
    /// And a change is made there; the tiers drop their copies.
    WriteAround,
    /// And a change is acknowledged by the journal, and made there later.
    WriteBehind,
}

impl Strategy {
    /// Its name in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CacheAside => "cache-aside",
            Self::ReadThrough => "read-through",
            Self::WriteThrough => "write-through",
            Self::WriteAround => "write-around",
            Self::WriteBehind => "write-behind",
        }
    }

    /// Whether changes go to the origin.
    pub fn writes(self) -> bool {
        matches!(self, Self::WriteThrough | Self::WriteAround | Self::WriteBehind)
    }
}

/// A part of the keys, with rules of its own.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct KeyspaceConfig {
    /// Which keys.
    #[serde(serialize_with = "pattern")]
    pub pattern: Template,
    /// What happens on a miss.
    pub strategy: Strategy,
    /// How long entries are fresh.
    pub ttl: TtlSetting,
    /// Its L1 copies.
    pub l1: KeyspaceL1,
    /// What its values in L2 have in common. Default nothing: they are compressed as `defaults.compression` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<DictionaryConfig>,
    /// What to do with an L1 copy that cannot be proven fresh.
    pub suspect: Suspect,
    /// Whether caches that several people share may not keep its entries.
    pub private: bool,
    /// Which tags its entries have, besides those that whoever stores them gives.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<TagRule>,
    /// What is done with old entries, and how long a load is waited for.
    #[serde(flatten)]
    pub freshness: Freshness,
    /// What bounds loads, how long hot entries last, and how stale answers may be.
    #[serde(flatten)]
    pub limits: Limits,
    /// Where values are loaded from, and written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceConfig>,
    /// How it is written behind, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_behind: Option<LaneConfig>,
}

fn pattern<S: serde::Serializer>(pattern: &Template, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(pattern.as_str())
}

/// The L1 copies of one keyspace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct KeyspaceL1 {
    /// Whether there are any.
    pub enabled: bool,
    /// The longest they live.
    pub ttl: TtlSetting,
}

/// Metrics.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct MetricsConfig {
    /// Whether `GET /metrics` answers and the counters are logged. Default true.
    pub enabled: bool,
    /// How often the counters are logged. Default 10 s.
    pub interval: Period,
    /// What the names of metrics begin with, before the first `_`. Default `terrace`. The rules, alerts and the board in `deploy/` go by
    /// the default.
    pub prefix: String,
    /// Most keys of each keyspace of which it is known how often they are looked up; 0 counts none. Default 256.
    pub hot_keys: usize,
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong and where: file, line, column and a caret, or the name of the
    /// variable or flag.
    ///
    /// # Cost
    /// Reads the file, and those that it names for secrets and dictionaries. Opens no connection.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        Self::load_noting(sources, |_, _| ())
    }

    /// The configuration with every default filled in, as TOML. Secrets are hidden; but for them it loads again as the
    /// same configuration.
    #[expect(clippy::missing_panics_doc, reason = "every setting has a TOML form, so it does not panic")]
    pub fn effective_toml(&self) -> String {
        toml::to_string(self).expect("every setting has a TOML form")
    }
}
