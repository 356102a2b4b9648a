//! The configuration as it is written: every section and key there is, and nothing else.
//!
//! 1. Unknown keys are refused, everywhere.
//! 2. Everything is optional here. What must be there, and what goes together, is decided in [`super::check`], which
//!    needs to know where each value stands: hence [`Spanned`].
//!
//! A new setting begins here. A table or key that is not built yet is absent, so naming it is an error that shows
//! the place.

use super::freshness::{Number, Share};
use super::secret::{Address, Secret};
use super::secret_files::Named;
use super::units::{ByteSize, Count, Flag, Period, TtlSetting};
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// The whole file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct File {
    pub(super) server: Server,
    pub(super) auth: Auth,
    pub(super) l1: L1,
    pub(super) l2: L2,
    pub(super) bus: Bus,
    pub(super) defaults: Defaults,
    pub(super) origin: BTreeMap<Spanned<String>, Spanned<Origin>>,
    pub(super) keyspace: BTreeMap<Spanned<String>, Spanned<Keyspace>>,
    pub(super) metrics: Metrics,
    pub(super) telemetry: Telemetry,
    pub(super) write_behind: WriteBehind,
    pub(super) ready: Ready,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Server {
    pub(super) listen: Option<Spanned<String>>,
    pub(super) request_timeout: Option<Spanned<Period>>,
    pub(super) header_timeout: Option<Spanned<Period>>,
    pub(super) max_body: Option<Spanned<ByteSize>>,
    pub(super) max_requests: Option<Spanned<Count>>,
    pub(super) max_connections: Option<Spanned<Count>>,
    pub(super) shutdown: Shutdown,
    pub(super) admin_listen: Option<Spanned<String>>,
    pub(super) tls: Option<Spanned<ServerTls>>,
}

#[expect(clippy::struct_field_names, reason = "they are called so in the file")]
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct ServerTls {
    pub(super) cert_file: Option<Spanned<String>>,
    pub(super) key_file: Option<Spanned<String>>,
    pub(super) client_ca_file: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Auth {
    pub(super) mode: Option<Spanned<String>>,
    pub(super) allow_open: Option<Spanned<Flag>>,
    pub(super) hosts: Vec<Spanned<String>>,
    pub(super) token: Vec<Spanned<Token>>,
    pub(super) tenant_defaults: Option<Spanned<Tenant>>,
    pub(super) tenant: BTreeMap<Spanned<String>, Spanned<Tenant>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Tenant {
    pub(super) rate: Option<Spanned<Rate>>,
    pub(super) max_requests: Option<Spanned<Count>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Token {
    pub(super) name: Option<Spanned<String>>,
    pub(super) sha256: Option<Spanned<Secret>>,
    pub(super) sha256_file: Option<Spanned<String>>,
    pub(super) scopes: Vec<Spanned<String>>,
    pub(super) rate: Option<Spanned<Rate>>,
    pub(super) tenant: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Rate {
    pub(super) per_second: Option<Spanned<Count>>,
    pub(super) burst: Option<Spanned<Count>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Shutdown {
    pub(super) drain: Option<Spanned<Period>>,
    pub(super) grace: Option<Spanned<Period>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct L1 {
    pub(super) enabled: Option<Spanned<Flag>>,
    pub(super) max_entries: Option<Spanned<Count>>,
    pub(super) max_bytes: Option<Spanned<ByteSize>>,
    pub(super) ttl: Option<Spanned<TtlSetting>>,
    pub(super) policy: Option<Spanned<String>>,
    pub(super) cleanup_interval: Option<Spanned<Period>>,
    pub(super) staleness_max: Option<Spanned<Period>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct L2 {
    pub(super) url: Option<Spanned<Address>>,
    pub(super) url_file: Option<Spanned<String>>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Spanned<Secret>>,
    pub(super) password_file: Option<Spanned<String>>,
    pub(super) database: Option<Spanned<Count>>,
    pub(super) key_prefix: Option<Spanned<String>>,
    pub(super) tracking: Option<Flag>,
    pub(super) pool_size: Option<Spanned<Count>>,
    pub(super) min_idle: Option<Spanned<Count>>,
    pub(super) max_idle: Option<Spanned<Count>>,
    pub(super) connections: Option<Spanned<Count>>,
    pub(super) max_lifetime: Option<Spanned<Period>>,
    pub(super) max_retries: Option<Spanned<Count>>,
    pub(super) wait_max: Option<Spanned<Period>>,
    pub(super) on_error: Option<Spanned<String>>,
    pub(super) breaker: Option<Spanned<Breaker>>,
    pub(super) retry: Option<Spanned<Retry>>,
    pub(super) timeouts: Timeouts,
    pub(super) tls: Tls,
    pub(super) sentinel: Option<Spanned<Sentinel>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Bus {
    pub(super) mode: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Breaker {
    pub(super) enabled: Option<Flag>,
    pub(super) failures: Option<Share>,
    pub(super) window: Option<Period>,
    pub(super) min_calls: Option<Count>,
    pub(super) open: Option<Period>,
    pub(super) slow: Option<Period>,
    pub(super) ramp: Option<Period>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Retry {
    pub(super) max: Option<Count>,
    pub(super) base: Option<Period>,
    pub(super) cap: Option<Period>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Sentinel {
    pub(super) username: Option<String>,
    pub(super) password: Option<Spanned<Secret>>,
    pub(super) password_file: Option<Spanned<String>>,
    pub(super) tls: Option<Flag>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Timeouts {
    pub(super) connect: Option<Spanned<Period>>,
    pub(super) read: Option<Spanned<Period>>,
    pub(super) write: Option<Spanned<Period>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Tls {
    pub(super) root_certificate_file: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Defaults {
    pub(super) ttl: Option<TtlSetting>,
    pub(super) compression: Compression,
    pub(super) max_value: Option<Spanned<ByteSize>>,
    pub(super) max_key: Option<Spanned<ByteSize>>,
    pub(super) suspect: Option<Spanned<String>>,
    pub(super) stale_while_revalidate: Option<Spanned<Period>>,
    pub(super) stale_if_error: Option<Spanned<Period>>,
    pub(super) soft_timeout: Option<Spanned<Period>>,
    pub(super) hard_timeout: Option<Spanned<Period>>,
    pub(super) negative_ttl: Option<Spanned<Period>>,
    pub(super) jitter: Option<Spanned<Share>>,
    pub(super) refresh_ahead: Option<Spanned<Share>>,
    pub(super) loads_max: Option<Spanned<Count>>,
    pub(super) loads_wait_max: Option<Spanned<Period>>,
    pub(super) flight_age_max: Option<Spanned<Period>>,
    pub(super) adaptive_ttl: Option<Spanned<Number>>,
    pub(super) adaptive_ttl_reads: Option<Spanned<Count>>,
    pub(super) stale_share_max: Option<Spanned<Share>>,
    pub(super) stale_age_max: Option<Spanned<Period>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Compression {
    pub(super) algo: Option<Spanned<String>>,
    pub(super) level: Option<Spanned<Count>>,
    pub(super) min: Option<ByteSize>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Origin {
    #[serde(rename = "type")]
    pub(super) kind: Option<Spanned<String>>,
    pub(super) file: Option<Spanned<String>>,
    pub(super) url: Option<Spanned<Address>>,
    pub(super) url_file: Option<Spanned<String>>,
    pub(super) password: Option<Spanned<Secret>>,
    pub(super) password_file: Option<Spanned<String>>,
    pub(super) pool: Option<Spanned<Count>>,
    pub(super) statement_timeout: Option<Spanned<Period>>,
    pub(super) connect_timeout: Option<Spanned<Period>>,
    pub(super) write_pool: Option<Spanned<Count>>,
    pub(super) delay: Option<Spanned<Period>>,
    pub(super) base_url: Option<Spanned<String>>,
    pub(super) headers: Option<Named<Secret>>,
    pub(super) headers_file: Option<Named<String>>,
    pub(super) timeout: Option<Spanned<Period>>,
    pub(super) concurrency: Option<Spanned<Count>>,
    pub(super) write_concurrency: Option<Spanned<Count>>,
    pub(super) max_body: Option<Spanned<ByteSize>>,
    pub(super) root_certificate_file: Option<Spanned<String>>,
    pub(super) verify_certificate: Option<Spanned<Flag>>,
    pub(super) loads_max: Option<Spanned<Count>>,
    pub(super) loads_wait_max: Option<Spanned<Period>>,
    pub(super) breaker: Option<Spanned<OriginBreaker>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct OriginBreaker {
    pub(super) enabled: Option<Flag>,
    pub(super) failures: Option<Share>,
    pub(super) window: Option<Period>,
    pub(super) min_calls: Option<Count>,
    pub(super) open: Option<Period>,
    pub(super) slow: Option<Period>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Keyspace {
    pub(super) pattern: Option<Spanned<String>>,
    pub(super) strategy: Option<Spanned<String>>,
    pub(super) ttl: Option<TtlSetting>,
    pub(super) l1: KeyspaceL1,
    pub(super) compression: KeyspaceCompression,
    pub(super) suspect: Option<Spanned<String>>,
    pub(super) private: Option<Spanned<Flag>>,
    pub(super) tags: Vec<Spanned<String>>,
    pub(super) source: Option<Spanned<Source>>,
    pub(super) write_behind: Option<Spanned<Lane>>,
    pub(super) stale_while_revalidate: Option<Spanned<Period>>,
    pub(super) stale_if_error: Option<Spanned<Period>>,
    pub(super) soft_timeout: Option<Spanned<Period>>,
    pub(super) hard_timeout: Option<Spanned<Period>>,
    pub(super) negative_ttl: Option<Spanned<Period>>,
    pub(super) jitter: Option<Spanned<Share>>,
    pub(super) refresh_ahead: Option<Spanned<Share>>,
    pub(super) loads_max: Option<Spanned<Count>>,
    pub(super) loads_wait_max: Option<Spanned<Period>>,
    pub(super) flight_age_max: Option<Spanned<Period>>,
    pub(super) adaptive_ttl: Option<Spanned<Number>>,
    pub(super) adaptive_ttl_reads: Option<Spanned<Count>>,
    pub(super) stale_share_max: Option<Spanned<Share>>,
    pub(super) stale_age_max: Option<Spanned<Period>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct KeyspaceL1 {
    pub(super) enabled: Option<Spanned<Flag>>,
    pub(super) ttl: Option<TtlSetting>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct KeyspaceCompression {
    pub(super) dictionary: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Source {
    pub(super) origin: Option<Spanned<String>>,
    pub(super) load: Option<Spanned<String>>,
    pub(super) load_many: Option<Spanned<String>>,
    pub(super) document: Option<Spanned<String>>,
    pub(super) store: Option<Spanned<String>>,
    pub(super) delete: Option<Spanned<String>>,
    pub(super) freshness: Option<Spanned<String>>,
    pub(super) conditional: Option<Spanned<Flag>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Ready {
    pub(super) require_l2: Option<Spanned<Flag>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Metrics {
    pub(super) enabled: Option<Flag>,
    pub(super) interval: Option<Spanned<Period>>,
    pub(super) prefix: Option<Spanned<String>>,
    pub(super) hot_keys: Option<Spanned<Count>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Telemetry {
    pub(super) log: Option<Spanned<String>>,
    pub(super) otlp: Otlp,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Otlp {
    pub(super) endpoint: Option<Spanned<String>>,
    pub(super) sample: Option<Spanned<Share>>,
    pub(super) service: Option<String>,
    pub(super) headers: Option<Named<Secret>>,
    pub(super) headers_file: Option<Named<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct WriteBehind {
    pub(super) enabled: Option<Flag>,
    pub(super) path: Option<String>,
    pub(super) pending_max: Option<Spanned<Count>>,
    pub(super) pending_bytes_max: Option<Spanned<ByteSize>>,
    pub(super) dead_max: Option<Spanned<Count>>,
    pub(super) commit_window: Option<Spanned<Period>>,
    pub(super) ack: Option<Spanned<String>>,
    pub(super) interval: Option<Spanned<Period>>,
    pub(super) batch_max: Option<Spanned<Count>>,
    pub(super) flush_at: Option<Spanned<Count>>,
    pub(super) on_full: Option<Spanned<String>>,
    pub(super) attempts_max: Option<Spanned<Count>>,
    pub(super) attempt_timeout: Option<Spanned<Period>>,
    pub(super) backoff_min: Option<Spanned<Period>>,
    pub(super) backoff_max: Option<Spanned<Period>>,
    pub(super) idempotency_keys_max: Option<Spanned<Count>>,
    pub(super) idempotency_keys_for: Option<Spanned<Period>>,
}

/// What a keyspace says of its own way to be written behind; each is also in [`WriteBehind`], for all.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct Lane {
    pub(super) ack: Option<Spanned<String>>,
    pub(super) interval: Option<Spanned<Period>>,
    pub(super) batch_max: Option<Spanned<Count>>,
    pub(super) flush_at: Option<Spanned<Count>>,
    pub(super) on_full: Option<Spanned<String>>,
    pub(super) attempts_max: Option<Spanned<Count>>,
    pub(super) attempt_timeout: Option<Spanned<Period>>,
    pub(super) backoff_min: Option<Spanned<Period>>,
    pub(super) backoff_max: Option<Spanned<Period>>,
    pub(super) idempotency_keys_max: Option<Spanned<Count>>,
    pub(super) idempotency_keys_for: Option<Spanned<Period>>,
}
