//! From what is written to what holds: defaults, ranges, and rules between settings.
//!
//! 1. Everything that is wrong is collected, so one run shows all of it.
//! 2. Nothing is clamped or repaired.

use super::freshness::{Freshness, Given};
use super::report::{ConfigError, Document, Refusal, nearest};
use super::units::{ByteSize, Count, Flag, Period, TtlSetting};
use super::{
    AuthConfig, BusConfig, BusMode, Config, Defaults, EvictionPolicy, L1Config, L2Config, L2OnError,
    L2Sentinel, L2Timeouts, L2Tls, Limits, ReadyConfig, ServerConfig, ShutdownConfig, Suspect, elsewhere,
    file, keyspaces, limits, origins,
};
use crate::config::Address;
use crate::tiers;
use std::path::PathBuf;
use std::time::Duration;
use terrace::{Key, L1, Ttl};
use toml::Spanned;

/// Most entries that L1 can count.
const ENTRIES_MAX: u64 = 1 << 31;

/// Longest that the service waits for anything of a client, or for its own end: what is longer is meant otherwise, and a moment that far
/// away could be none that there is.
const WAIT_MAX: Period = Period::seconds(24 * 60 * 60);

/// Requests at work at a time, unless the file says another number.
const REQUESTS_DEFAULT: u64 = 4096;
/// Most that the file can say.
const REQUESTS_MAX: u64 = 1_000_000;

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
    pub(super) fn ranged<T: Copy>(
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

    pub(super) fn positive(&mut self, given: Option<Spanned<Period>>, default: Period) -> Period {
        self.ranged(given, default, |period| !period.0.is_zero(), "it must be more than zero")
    }

    /// A time that the service waits for somebody, at most a day.
    fn wait(&mut self, given: Option<Spanned<Period>>, default: Period, least: Duration) -> Period {
        let at_least = if least.is_zero() { "" } else { "more than zero and " };
        let allowed = format!("it must be {at_least}at most 24 h");
        self.ranged(given, default, |period| (least..=WAIT_MAX.0).contains(&period.0), &allowed)
    }

    pub(super) fn count(&mut self, given: Option<Spanned<Count>>, default: u64, max: u64) -> u64 {
        let allowed = format!("it must be from 1 to {max}");
        self.ranged(given, Count(default), |count| (1..=max).contains(&count.0), &allowed).0
    }

    pub(super) fn size(
        &mut self,
        given: Option<Spanned<ByteSize>>,
        default: ByteSize,
        max: ByteSize,
    ) -> ByteSize {
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
        let known = || words.iter().map(|(word, _)| *word);
        let near = || nearest(given.get_ref(), known()).map(|near| format!("did you mean `{near}`?"));
        let all =
            || format!("there is {}", known().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "));
        let help = elsewhere::word(given.get_ref(), &known());
        let help = help.map(str::to_owned).or_else(near).unwrap_or_else(all);
        self.refuse(&Refusal::new(given.span(), format!("unknown {what} `{}`", given.get_ref())).help(help));
        default
    }
}

pub(super) fn check(document: &Document, file: file::File) -> Result<Config, ConfigError> {
    let mut checker = Checker { document, refusals: Vec::new() };
    let requests_max = file.server.max_requests.as_ref().map(|most| most.get_ref().0);
    let requests_max =
        requests_max.filter(|most| (1..=REQUESTS_MAX).contains(most)).unwrap_or(REQUESTS_DEFAULT);
    let auth = checker.auth(file.auth, requests_max);
    let tenants = auth.tenants();
    let bus = checker.bus(file.bus);
    let adaptive_at = limits::adaptive_at(&file.defaults, &file.keyspace);
    let l2 = checker.l2(file.l2, bus.mode);
    let l1 = checker.l1(file.l1, l2.is_some());
    let defaults = checker.defaults(file.defaults);
    let origins = origins::check(&mut checker, file.origin);
    let write_behind = checker.write_behind(file.write_behind);
    let around = keyspaces::Around {
        origins: &origins,
        defaults: &defaults,
        write_behind: &write_behind,
        has_l2: l2.is_some(),
        tenants: &tenants,
    };
    let keyspaces = keyspaces::check(&mut checker, file.keyspace, around);
    let config = Config {
        server: checker.server(file.server, &auth),
        auth,
        metrics: checker.metrics(file.metrics, &adaptive_at),
        telemetry: checker.telemetry(file.telemetry),
        ready: checker.ready(file.ready, l2.is_some()),
        write_behind,
        l1,
        l2,
        bus,
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

impl Checker<'_> {
    fn server(&mut self, server: file::Server, auth: &AuthConfig) -> ServerConfig {
        const SOME: Duration = Duration::from_nanos(1);
        for listen in server.listen.iter().chain(&server.admin_listen) {
            if self.is_address(listen) {
                self.open_listener(listen, auth);
            }
        }
        let listen = server.listen.map_or_else(|| "127.0.0.1:4000".to_owned(), Spanned::into_inner);
        ServerConfig {
            listen,
            request_timeout: self.wait(server.request_timeout, Period::seconds(5), SOME),
            header_timeout: self.wait(server.header_timeout, Period::seconds(30), SOME),
            max_body: self.size(server.max_body, ByteSize(8 << 20), ByteSize(1 << 30)),
            max_requests: self.count(server.max_requests, REQUESTS_DEFAULT, REQUESTS_MAX),
            max_connections: self.count(server.max_connections, 10_000, 1_000_000),
            shutdown: ShutdownConfig {
                drain: self.wait(server.shutdown.drain, Period::seconds(5), Duration::ZERO),
                grace: self.wait(server.shutdown.grace, Period::seconds(25), Duration::ZERO),
            },
            admin_listen: server.admin_listen.map(Spanned::into_inner),
            tls: server.tls.and_then(|tls| self.tls(tls)),
        }
    }

    fn is_address(&mut self, listen: &Spanned<String>) -> bool {
        let port = listen.get_ref().rsplit_once(':').filter(|(host, _)| !host.is_empty());
        let is_address = port.is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if !is_address {
            let refusal = Refusal::new(listen.span(), "this is not a host and a port")
                .help("write `127.0.0.1:4000`, or `0.0.0.0:4000` to serve other machines");
            self.refuse(&refusal);
        }
        is_address
    }

    fn l1(&mut self, l1: file::L1, has_l2: bool) -> L1Config {
        const POLICIES: [(&str, EvictionPolicy); 2] =
            [("default", EvictionPolicy::Default), ("lru", EvictionPolicy::Lru)];
        let ttl_default = if has_l2 { Ttl::After(L1::TTL_DEFAULT) } else { Ttl::Never };
        let enabled = self.l1_enabled(l1.enabled.as_ref(), has_l2);
        let is_bounded = l1.max_bytes.is_some() || !enabled;
        let positive_ttl = "it must be more than zero; `enabled = false` switches L1 off";
        L1Config {
            enabled,
            max_entries: self
                .ranged(
                    l1.max_entries,
                    Count(L1::ENTRIES_MAX_DEFAULT as u64),
                    |count| count.0 <= ENTRIES_MAX && (count.0 > 0 || is_bounded),
                    "it is at most 2147483648, and 0 entries are bounded by bytes only, so `max_bytes` has to be set",
                )
                .0,
            max_bytes: l1.max_bytes.map(|size| {
                self.size(Some(size), ByteSize(1), ByteSize(1 << 60))
            }),
            ttl: self.ranged(l1.ttl, TtlSetting(ttl_default), |ttl| !ttl.0.is_zero(), positive_ttl),
            policy: self.word(l1.policy, "policy", &POLICIES, EvictionPolicy::Default),
            cleanup_interval: self.positive(l1.cleanup_interval, Period::seconds(60)),
            staleness_max: self.ranged(
                l1.staleness_max,
                Period::seconds(1),
                |period| period.0 >= Duration::from_millis(100),
                "it is at least 100 ms",
            ),
        }
    }

    /// What to do with a copy that cannot be proven fresh.
    pub(super) fn suspect(&mut self, given: Option<Spanned<String>>, default: Suspect) -> Suspect {
        const POLICIES: [(&str, Suspect); 3] =
            [("validate", Suspect::Validate), ("stale", Suspect::Stale), ("error", Suspect::Error)];
        self.word(given, "policy", &POLICIES, default)
    }

    /// Whether L1 is on; it cannot be off where it is the only tier.
    pub(super) fn l1_enabled(&mut self, given: Option<&Spanned<Flag>>, has_l2: bool) -> bool {
        let Some(flag) = given.filter(|flag| !flag.get_ref().0) else { return true };
        if !has_l2 {
            let refusal =
                Refusal::new(flag.span(), "without L1 and without L2 there is nothing to keep values in");
            self.refuse(&refusal.help("leave L1 on, or set `l2.url`"));
        }
        false
    }

    fn ready(&mut self, ready: file::Ready, has_l2: bool) -> ReadyConfig {
        let required = ready.require_l2.filter(|flag| flag.get_ref().0);
        if let Some(flag) = required.as_ref().filter(|_| !has_l2) {
            let refusal = Refusal::new(flag.span(), "there is no shared tier that could be required");
            self.refuse(&refusal.help("set `l2.url`, or leave this out"));
        }
        ReadyConfig { require_l2: required.is_some() }
    }

    fn bus(&mut self, bus: file::Bus) -> BusConfig {
        const MODES: [(&str, BusMode); 2] = [("coherent", BusMode::Coherent), ("plain", BusMode::Plain)];
        BusConfig { mode: self.word(bus.mode, "mode", &MODES, BusMode::Coherent) }
    }

    fn l2(&mut self, l2: file::L2, mode: BusMode) -> Option<L2Config> {
        const ON_ERROR: [(&str, L2OnError); 2] = [("bypass", L2OnError::Bypass), ("fail", L2OnError::Fail)];
        let password = self.password(l2.password, l2.password_file);
        let pool_size = self.count(l2.pool_size, 100, 100_000);
        let patience = self.patience(l2.wait_max, l2.breaker, l2.retry, l2.max_retries.as_ref());
        let database_max = "the number of a database is at most 65535";
        let config = L2Config {
            url: Address::new(""),
            username: l2.username.filter(|name| !name.is_empty()),
            password,
            database: l2.database.map(|number| {
                let number = self.ranged(Some(number), Count(0), |number| number.0 <= 65_535, database_max);
                u32::try_from(number.0).unwrap_or_default()
            }),
            key_prefix: l2.key_prefix.map_or_else(|| "terrace:".to_owned(), Spanned::into_inner),
            tracking: l2.tracking.is_some_and(|tracking| tracking.0),
            pool_size,
            min_idle: self
                .ranged(
                    l2.min_idle,
                    Count(pool_size.min(10)),
                    |count| count.0 <= pool_size,
                    "it is more than `pool_size`",
                )
                .0,
            max_idle: l2.max_idle.map(|count| self.count(Some(count), 0, pool_size)),
            connections: l2.connections.map(|count| self.count(Some(count), 1, 64)),
            max_lifetime: l2.max_lifetime.map(|period| self.positive(Some(period), Period::seconds(1))),
            max_retries: patience.retry.max,
            wait_max: patience.wait_max,
            on_error: self.word(l2.on_error, "policy", &ON_ERROR, L2OnError::Bypass),
            breaker: patience.breaker,
            retry: patience.retry,
            timeouts: L2Timeouts {
                connect: self.positive(l2.timeouts.connect, Period::seconds(5)),
                read: self.positive(l2.timeouts.read, Period::seconds(3)),
                write: self.positive(l2.timeouts.write, Period::seconds(3)),
            },
            tls: L2Tls {
                root_certificate_file: l2
                    .tls
                    .root_certificate_file
                    .map(|file| PathBuf::from(file.into_inner())),
            },
            sentinel: None,
        };
        let url = self.or_file("url", l2.url, l2.url_file, Address::new);
        let sentinel = l2.sentinel.map(|sentinel| self.sentinel(sentinel, url.as_ref()));
        let url = url.filter(|url| !url.get_ref().reveal().is_empty())?;
        let at = url.span();
        let config = L2Config { url: url.into_inner(), sentinel, ..config };
        if let Err(error) = tiers::l2(&config, mode) {
            self.refuse(&Refusal::new(at, error.to_string()));
        }
        Some(config)
    }

    fn sentinel(&mut self, given: Spanned<file::Sentinel>, url: Option<&Spanned<Address>>) -> L2Sentinel {
        let is_meant = |url: &Spanned<Address>| {
            let scheme = url.get_ref().reveal().split_once("://").map(|(scheme, _)| scheme);
            scheme.is_some_and(|scheme| scheme.ends_with("+sentinel"))
        };
        if !url.is_some_and(is_meant) {
            let refusal = Refusal::new(given.span(), "`l2.url` names no sentinels");
            self.refuse(&refusal.help("write `redis+sentinel://host:26379,host:26379/primary`"));
        }
        let given = given.into_inner();
        L2Sentinel {
            username: given.username.filter(|name| !name.is_empty()),
            password: self.password(given.password, given.password_file),
            tls: given.tls.map(|flag| flag.0),
        }
    }

    fn defaults(&mut self, defaults: file::Defaults) -> Defaults {
        let key_max = ByteSize(Key::LENGTH_MAX as u64);
        let freshness = self.freshness(
            Given {
                stale_while_revalidate: defaults.stale_while_revalidate,
                stale_if_error: defaults.stale_if_error,
                soft_timeout: defaults.soft_timeout,
                hard_timeout: defaults.hard_timeout,
                negative_ttl: defaults.negative_ttl,
                jitter: defaults.jitter,
                refresh_ahead: defaults.refresh_ahead,
            },
            &Freshness::default(),
        );
        let limits = self.limits(
            limits::Given {
                loads_max: defaults.loads_max,
                loads_wait_max: defaults.loads_wait_max,
                flight_age_max: defaults.flight_age_max,
                adaptive_ttl: defaults.adaptive_ttl,
                adaptive_ttl_reads: defaults.adaptive_ttl_reads,
                stale_share_max: defaults.stale_share_max,
                stale_age_max: defaults.stale_age_max,
            },
            &(0..0),
            &Limits::default(),
            &freshness,
        );
        Defaults {
            ttl: defaults.ttl.unwrap_or(TtlSetting(Duration::from_hours(1).into())),
            compression: self.compression(defaults.compression),
            max_value: self.size(defaults.max_value, ByteSize(1 << 20), ByteSize(512 << 20)),
            max_key: self.size(defaults.max_key, ByteSize(512), key_max),
            suspect: self.suspect(defaults.suspect, Suspect::Validate),
            freshness,
            limits,
        }
    }
}
