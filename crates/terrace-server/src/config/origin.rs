//! What is known of an origin: the settings of each type. Their rules are in `origins`.

use super::limits::OriginLoads;
use super::patience::OriginBreakerConfig;
use super::secret::{Address, Secret};
use super::units::{ByteSize, Period};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A system of record.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OriginConfig {
    /// A SQLite file.
    Sqlite(SqliteConfig),
    /// A PostgreSQL server.
    Postgres(PostgresConfig),
    /// An HTTP API.
    Http(HttpConfig),
}

impl OriginConfig {
    /// How many loads are at work at a time.
    pub(crate) fn loads(&self) -> &OriginLoads {
        match self {
            Self::Sqlite(of) => &of.loads,
            Self::Postgres(of) => &of.loads,
            Self::Http(of) => &of.loads,
        }
    }

    /// When it is left alone.
    pub(crate) fn breaker(&self) -> &OriginBreakerConfig {
        match self {
            Self::Sqlite(of) => &of.breaker,
            Self::Postgres(of) => &of.breaker,
            Self::Http(of) => &of.breaker,
        }
    }
}

/// A SQLite file.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct SqliteConfig {
    /// The file. It is opened when first asked, read-only unless a keyspace writes to it.
    pub file: PathBuf,
    /// Connections, each on a thread of its own. Default 2.
    pub pool: u64,
    /// How long a statement may run. Default 2 s.
    pub statement_timeout: Period,
    /// How many loads are at work at a time.
    #[serde(flatten)]
    pub loads: OriginLoads,
    /// When it is left alone.
    pub breaker: OriginBreakerConfig,
    /// Waits this long before every load, for demonstrations of a slow origin. Default 0.
    pub delay: Period,
}

/// A PostgreSQL server.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct PostgresConfig {
    /// `postgres://user:password@host/database`.
    pub url: Address,
    /// The password, if it does not stand in the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// A file with the root certificates to trust, as PEM, instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_certificate_file: Option<PathBuf>,
    /// Whether the server's certificate has to be of a root that is trusted, and for its host. Default true.
    pub verify_certificate: bool,
    /// Most connections that load. Default 16.
    pub pool: u64,
    /// Most connections that write, if a keyspace does. Default 4.
    pub write_pool: u64,
    /// How long a statement may run. Default 2 s.
    pub statement_timeout: Period,
    /// How long to wait for a connection. Default 2 s.
    pub connect_timeout: Period,
    /// How many loads are at work at a time.
    #[serde(flatten)]
    pub loads: OriginLoads,
    /// When it is left alone.
    pub breaker: OriginBreakerConfig,
}

/// An HTTP API.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[non_exhaustive]
pub struct HttpConfig {
    /// Scheme, host, port, and what every path begins with: `https://api.internal/v2`.
    pub base_url: String,
    /// What every request has: for credentials, which are kept secret.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// How long a request may take, all in all. Default 2 s.
    pub timeout: Period,
    /// How long to wait for a connection. Default 2 s.
    pub connect_timeout: Period,
    /// Most loads under way at a time. Default 64.
    pub concurrency: u64,
    /// Most writes under way at a time. Default 8.
    pub write_concurrency: u64,
    /// Largest answer that is read. Default 8 MiB.
    pub max_body: ByteSize,
    /// A file with the root certificates to trust, as PEM, instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_certificate_file: Option<PathBuf>,
    /// How many loads are at work at a time.
    #[serde(flatten)]
    pub loads: OriginLoads,
    /// When it is left alone.
    pub breaker: OriginBreakerConfig,
}
