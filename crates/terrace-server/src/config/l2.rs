//! The shared tier: where it is, who the service is to it, and how long it is waited for.

use super::patience::{L2Breaker, L2Retry};
use super::secret::{Address, Secret};
use super::units::Period;
use serde::Serialize;
use std::path::PathBuf;

/// The shared tier.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct L2Config {
    /// `redis://` or `rediss://` host, port and database; or `redis+sentinel://` hosts, the primary's name and database; or
    /// `redis+cluster://` hosts.
    pub url: Address,
    /// User for servers with access control lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Database number; `None` is the URL's, or 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<u32>,
    /// What every key begins with. Default `terrace:`.
    pub key_prefix: String,
    /// Whether writers that are not terrace are heard of, too: `redis-cli`, `FLUSHALL`, expiry and eviction. Default false.
    pub tracking: bool,
    /// Connections that a pool would have, each with one call at a time. Default 100. Connections here carry any number
    /// of calls at once, so this maps to one connection per 50, at least 1 and at most 4.
    pub pool_size: u64,
    /// Connections that a pool would keep open while they idle. Default 10, or the pool's size if that is less. Here all
    /// stay open, so it only has to be at most the pool's size.
    pub min_idle: u64,
    /// Connections that a pool would keep open at most while they idle: at most the pool's size, and moot here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_idle: Option<u64>,
    /// How many connections there are, instead of what `pool_size` maps to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// After how long a connection is replaced. Default never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lifetime: Option<Period>,
    /// The same as `retry.max`, under the name that pools have for it.
    pub max_retries: u64,
    /// How long one read may wait for the shared tier, all its calls together. Default 250 ms.
    pub wait_max: Period,
    /// What a read does that memory cannot answer while the shared tier cannot be asked. Default `bypass`.
    pub on_error: L2OnError,
    /// When the shared tier is left alone.
    pub breaker: L2Breaker,
    /// What of a failed call is tried again.
    pub retry: L2Retry,
    /// Deadlines.
    pub timeouts: L2Timeouts,
    /// TLS.
    pub tls: L2Tls,
    /// Who the service is to sentinels, which have users of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<L2Sentinel>,
}

/// What a read does that memory cannot answer while the shared tier cannot be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum L2OnError {
    /// It goes on to the origin; without one there is no such key.
    Bypass,
    /// It fails: nobody is asked instead.
    Fail,
}

/// Who the service is to sentinels.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct L2Sentinel {
    /// User for sentinels with access control lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password. Default none, also if the servers need one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Whether they speak TLS. Default as the servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
}

/// TLS to the shared tier.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct L2Tls {
    /// A file with the root certificates to trust, as PEM, instead of the system's. Implies TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_certificate_file: Option<PathBuf>,
}

/// Deadlines of the shared tier.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct L2Timeouts {
    /// For a connection. Default 5 s.
    pub connect: Period,
    /// For a read. Default 3 s.
    pub read: Period,
    /// For a write. Default 3 s.
    pub write: Period,
}
