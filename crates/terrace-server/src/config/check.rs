//! From what is written to what holds: defaults, ranges, and rules between settings.
//!
//! 1. Everything that is wrong is collected, so one run shows all of it.
//! 2. Nothing is clamped or repaired.

use super::report::{ConfigError, Document, Refusal, nearest};
use super::units::{ByteSize, Count, Period, TtlSetting};
use super::{
    CompressionAlgorithm, CompressionConfig, Config, Defaults, EvictionPolicy, L1Config, L2Config, L2Timeouts,
    MetricsConfig, OriginConfig, PostgresConfig, ServerConfig, ShutdownConfig, SqliteConfig, WriteBehindConfig,
    file, keyspaces,
};
use crate::config::{Address, Secret};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;
use terrace::Key;
use toml::Spanned;

/// Collects what is wrong.
pub(super) struct Checker<'d> {
    pub(super) document: &'d Document,
    refusals: Vec<(usize, String)>,
}

impl Checker<'_> {
    pub(super) fn refuse(&mut self, refusal: &Refusal<'_>) {
        self.refusals.push((refusal.at.start, self.document.render(refusal)));
    }

    /// A value, or its default if it is missing or not allowed.
    fn ranged<T: Copy>(
        &mut self,
        given: Option<Spanned<T>>,
        default: T,
        is_allowed: impl Fn(&T) -> bool,
        allowed: &str,
    ) -> T {
        match given {
            None => default,
            Some(value) if is_allowed(value.get_ref()) => value.into_inner(),
            Some(value) => {
                self.refuse(&Refusal::new(value.span(), format!("this cannot be: {allowed}")));
                default
            }
        }
    }

    fn positive(&mut self, given: Option<Spanned<Period>>, default: Period) -> Period {
        self.ranged(given, default, |period| !period.0.is_zero(), "it must be more than zero")
    }

    fn count(&mut self, given: Option<Spanned<Count>>, default: u64, max: u64) -> u64 {
        let allowed = format!("it must be from 1 to {max}");
        self.ranged(given, Count(default), |count| (1..=max).contains(&count.0), &allowed).0
    }

    fn size(&mut self, given: Option<Spanned<ByteSize>>, default: ByteSize, max: ByteSize) -> ByteSize {
        let allowed = format!("it must be from 1B to {max}");
        self.ranged(given, default, |size| (1..=max.0).contains(&size.0), &allowed)
    }

    /// One of a few words, with a hint at the one that was probably meant.
    pub(super) fn word<T: Copy>(
        &mut self,
        given: Option<Spanned<String>>,
        what: &str,
        words: &[(&str, T)],
        default: T,
    ) -> T {
        let Some(given) = given else { return default };
        if let Some((_, value)) = words.iter().find(|(word, _)| word == given.get_ref()) {
            return *value;
        }
        let near = nearest(given.get_ref(), words.iter().map(|(word, _)| *word));
        let all = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let help = near.map_or_else(|| format!("there is {all}"), |near| format!("did you mean `{near}`?"));
        self.refuse(&Refusal::new(given.span(), format!("unknown {what} `{}`", given.get_ref())).help(help));
        default
    }
}

pub(super) fn check(document: &Document, file: file::File) -> Result<Config, ConfigError> {
    let mut checker = Checker { document, refusals: Vec::new() };
    let l1 = checker.l1(file.l1);
    let defaults = checker.defaults(file.defaults);
    let origins = checker.origins(file.origin);
    let keyspaces = keyspaces::check(&mut checker, file.keyspace, &origins, &defaults, &l1);
    let config = Config {
        server: checker.server(file.server),
        l2: checker.l2(file.l2),
        metrics: MetricsConfig {
            enabled: file.metrics.enabled.is_none_or(|flag| flag.0),
            interval: checker.positive(file.metrics.interval, Period::seconds(10)),
        },
        write_behind: WriteBehindConfig {
            enabled: file.write_behind.enabled.is_none_or(|flag| flag.0),
            interval: checker.positive(file.write_behind.interval, Period::seconds(10)),
        },
        l1,
        defaults,
        origins: origins.into_iter().filter_map(|(name, origin)| Some((name, origin?))).collect(),
        keyspaces,
    };
    checker.refusals.sort();
    match checker.refusals {
        refusals if refusals.is_empty() => Ok(config),
        refusals => Err(ConfigError::all(refusals.into_iter().map(|(_, report)| report).collect())),
    }
}

/// The origins by name; `None` where one is there but wrong, so that naming it is not a second error.
pub(super) type Origins = BTreeMap<String, Option<OriginConfig>>;

impl Checker<'_> {
    fn server(&mut self, server: file::Server) -> ServerConfig {
        let listen = match server.listen {
            Some(listen) => {
                self.listen_address(&listen);
                listen.into_inner()
            }
            None => "127.0.0.1:4000".to_owned(),
        };
        ServerConfig {
            listen,
            request_timeout: self.positive(server.request_timeout, Period::seconds(5)),
            header_timeout: self.positive(server.header_timeout, Period::seconds(30)),
            max_body: self.size(server.max_body, ByteSize(8 << 20), ByteSize(1 << 30)),
            max_requests: self.count(server.max_requests, 4096, 1_000_000),
            max_connections: self.count(server.max_connections, 10_000, 1_000_000),
            shutdown: ShutdownConfig {
                drain: server.shutdown.drain.unwrap_or(Period::seconds(5)),
                grace: server.shutdown.grace.unwrap_or(Period::seconds(25)),
            },
        }
    }

    fn listen_address(&mut self, listen: &Spanned<String>) {
        let port = listen.get_ref().rsplit_once(':').filter(|(host, _)| !host.is_empty());
        if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            let refusal = Refusal::new(listen.span(), "this is not a host and a port")
                .help("write `127.0.0.1:4000`, or `0.0.0.0:4000` to serve other machines");
            self.refuse(&refusal);
        }
    }

    fn l1(&mut self, l1: file::L1) -> L1Config {
        const POLICIES: [(&str, EvictionPolicy); 2] =
            [("default", EvictionPolicy::Default), ("lru", EvictionPolicy::Lru)];
        let enabled = l1.enabled.is_none_or(|flag| flag.0);
        let is_unbounded = l1.max_bytes.is_none();
        let entries_allowed = |count: &Count| count.0 > 0 || !is_unbounded || !enabled;
        L1Config {
            enabled,
            max_entries: self
                .ranged(
                    l1.max_entries,
                    Count(10_000),
                    entries_allowed,
                    "0 entries are bounded by bytes only, and `max_bytes` is not set",
                )
                .0,
            max_bytes: l1.max_bytes.map(|size| {
                self.ranged(Some(size), ByteSize(1), |size| size.0 > 0, "it must be at least one byte")
            }),
            ttl: self.ranged(
                l1.ttl,
                TtlSetting(Duration::from_secs(60).into()),
                |ttl| !ttl.0.is_zero(),
                "it must be more than zero; `enabled = false` switches L1 off",
            ),
            policy: self.word(l1.policy, "policy", &POLICIES, EvictionPolicy::Default),
            cleanup_interval: self.positive(l1.cleanup_interval, Period::seconds(60)),
        }
    }

    fn l2(&mut self, l2: file::L2) -> Option<L2Config> {
        let password = self.password(l2.password, l2.password_file);
        let config = L2Config {
            url: Address::new(""),
            username: l2.username.filter(|name| !name.is_empty()),
            password,
            database: l2.database.map(|number| {
                let allowed = "the number of a database is at most 65535";
                let number = self.ranged(Some(number), Count(0), |number| number.0 <= 65_535, allowed);
                u32::try_from(number.0).unwrap_or_default()
            }),
            key_prefix: self.key_prefix(l2.key_prefix),
            pool_size: self.count(l2.pool_size, 100, 100_000),
            min_idle: l2.min_idle.map_or(10, |count| count.into_inner().0),
            timeouts: L2Timeouts {
                connect: self.positive(l2.timeouts.connect, Period::seconds(5)),
                read: self.positive(l2.timeouts.read, Period::seconds(3)),
                write: self.positive(l2.timeouts.write, Period::seconds(3)),
            },
            root_certificate_file: l2.tls.root_certificate_file.map(|file| PathBuf::from(file.into_inner())),
        };
        let url = l2.url.filter(|url| !url.get_ref().reveal().is_empty())?;
        self.redis_url(&url);
        Some(L2Config { url: url.into_inner(), ..config })
    }

    fn redis_url(&mut self, url: &Spanned<Address>) {
        let text = url.get_ref().reveal();
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        if !matches!(scheme, Some("redis" | "rediss" | "valkey" | "valkeys")) {
            let refusal = Refusal::new(url.span(), "this is not the address of a Redis or Valkey server")
                .help("write `redis://host:6379`, or `rediss://host:6379` for TLS");
            self.refuse(&refusal);
        }
    }

    fn password(&mut self, text: Option<Spanned<Secret>>, file: Option<Spanned<String>>) -> Option<Secret> {
        if let Some(text) = text {
            let both_in_file = |file: &Spanned<String>| {
                self.document.extra(&text.span()).is_none() && self.document.extra(&file.span()).is_none()
            };
            if let Some(file) = file.filter(both_in_file) {
                let title = "both `password` and `password_file` are set";
                self.refuse(&Refusal::new(file.span(), title).help("keep one of them"));
            }
            return Some(text.into_inner()).filter(|text| !text.reveal().is_empty());
        }
        let file = file?;
        match std::fs::read_to_string(file.get_ref()) {
            Ok(text) => Some(Secret::new(text.trim_end_matches(['\n', '\r']))),
            Err(error) => {
                self.refuse(&Refusal::new(file.span(), format!("cannot read this file: {error}")));
                None
            }
        }
    }

    fn key_prefix(&mut self, given: Option<Spanned<String>>) -> String {
        const LENGTH_MAX: usize = 64;
        let Some(given) = given else { return "terrace:".to_owned() };
        let is_odd = |c: char| c.is_control() || c.is_whitespace() || "{}*?[]\\".contains(c);
        if given.get_ref().len() > LENGTH_MAX || given.get_ref().contains(is_odd) {
            let title = format!(
                "a key prefix has at most {LENGTH_MAX} bytes, without spaces, control characters and `{{}}*?[]\\`"
            );
            self.refuse(&Refusal::new(given.span(), title));
        }
        given.into_inner()
    }

    fn defaults(&mut self, defaults: file::Defaults) -> Defaults {
        const ALGORITHMS: [(&str, CompressionAlgorithm); 3] = [
            ("zstd", CompressionAlgorithm::Zstd),
            ("lz4", CompressionAlgorithm::Lz4),
            ("none", CompressionAlgorithm::None),
        ];
        let key_max = ByteSize(Key::LENGTH_MAX as u64);
        Defaults {
            ttl: defaults.ttl.unwrap_or(TtlSetting(Duration::from_secs(3600).into())),
            codec: self.word(defaults.codec, "codec", &[("json", "json")], "json"),
            compression: CompressionConfig {
                algo: self.word(
                    defaults.compression.algo,
                    "algorithm",
                    &ALGORITHMS,
                    CompressionAlgorithm::Zstd,
                ),
                min: defaults.compression.min.unwrap_or(ByteSize(1024)),
            },
            max_value: self.size(defaults.max_value, ByteSize(1 << 20), ByteSize(512 << 20)),
            max_key: self.size(defaults.max_key, ByteSize(512), key_max),
        }
    }

    fn origins(&mut self, origins: BTreeMap<Spanned<String>, Spanned<file::Origin>>) -> Origins {
        let checked = |(name, origin): (Spanned<String>, Spanned<file::Origin>)| {
            (name.get_ref().clone(), self.origin(&name.span(), origin.into_inner()))
        };
        origins.into_iter().map(checked).collect()
    }

    fn origin(&mut self, at: &Range<usize>, origin: file::Origin) -> Option<OriginConfig> {
        const KINDS: [(&str, Option<bool>); 2] = [("sqlite", Some(true)), ("postgres", Some(false))];
        if origin.kind.is_none() {
            let refusal = Refusal::new(at.clone(), "this origin has no type");
            self.refuse(&refusal.help("add `type = \"sqlite\"` or `type = \"postgres\"`"));
            return None;
        }
        match self.word(origin.kind.clone(), "type of origin", &KINDS, None)? {
            true => self.sqlite(at, origin),
            false => self.postgres(at, origin),
        }
    }

    fn sqlite(&mut self, at: &Range<usize>, origin: file::Origin) -> Option<OriginConfig> {
        self.refuse_foreign(origin.url.as_ref().map(Spanned::span), "url", "sqlite");
        self.refuse_foreign(origin.connect_timeout.as_ref().map(Spanned::span), "connect_timeout", "sqlite");
        let Some(file) = origin.file.filter(|file| !file.get_ref().is_empty()) else {
            let refusal = Refusal::new(at.clone(), "this origin has no file");
            self.refuse(&refusal.help("add `file = \"data.db\"`"));
            return None;
        };
        Some(OriginConfig::Sqlite(SqliteConfig {
            file: file.into_inner().into(),
            pool: self.count(origin.pool, 2, 64),
            statement_timeout: self.positive(origin.statement_timeout, Period::seconds(2)),
            delay: origin.delay.map_or(Period(Duration::ZERO), Spanned::into_inner),
        }))
    }

    fn postgres(&mut self, at: &Range<usize>, origin: file::Origin) -> Option<OriginConfig> {
        self.refuse_foreign(origin.file.as_ref().map(Spanned::span), "file", "postgres");
        self.refuse_foreign(origin.delay.as_ref().map(Spanned::span), "delay", "postgres");
        let Some(url) = origin.url else {
            let refusal = Refusal::new(at.clone(), "this origin has no url");
            self.refuse(&refusal.help("add `url = \"postgres://user:password@host/database\"`"));
            return None;
        };
        if url.get_ref().reveal().parse::<tokio_postgres::Config>().is_err() {
            let refusal = Refusal::new(url.span(), "this is not the address of a PostgreSQL server");
            self.refuse(&refusal.help("write `postgres://user:password@host/database`"));
            return None;
        }
        Some(OriginConfig::Postgres(PostgresConfig {
            url: url.into_inner(),
            pool: self.count(origin.pool, 16, 10_000),
            statement_timeout: self.positive(origin.statement_timeout, Period::seconds(2)),
            connect_timeout: self.positive(origin.connect_timeout, Period::seconds(2)),
        }))
    }

    fn refuse_foreign(&mut self, at: Option<Range<usize>>, key: &str, kind: &str) {
        if let Some(at) = at {
            self.refuse(&Refusal::new(at, format!("an origin of type `{kind}` has no `{key}`")));
        }
    }
}
