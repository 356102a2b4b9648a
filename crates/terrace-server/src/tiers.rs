//! The library's cache, from the configuration.

use crate::config::{BusMode, Config, EvictionPolicy, L1Config, L2Breaker, L2Config, L2Retry, Period};
use crate::server::StartError;
use terrace::behind::Journal;
use terrace::{
    Breaker, Cache, CacheBuilder, L1, PlainRedis, Policy, Redis, RedisError, RedisPasswords, Retry,
};

/// The cache of a configuration, and what changes the passwords of its shared tier.
pub(crate) struct Tiers {
    pub(crate) cache: Cache,
    pub(crate) passwords: Option<RedisPasswords>,
}

/// The tiers of a configuration. Opens no connection.
pub(crate) fn open(config: &Config, journal: Option<Journal>) -> Result<Tiers, StartError> {
    let mut builder = Cache::builder()
        .default_ttl(config.defaults.ttl.0)
        .staleness_max(config.l1.staleness_max.0)
        .hot_keys_max(config.metrics.hot_keys);
    builder = if config.l1.enabled { builder.l1(l1(&config.l1)) } else { builder.no_l1() };
    let mut passwords = None;
    if let Some(l2_config) = &config.l2 {
        let L2Config { wait_max, breaker, retry, .. } = l2_config;
        let l2 = l2(l2_config, config.bus.mode)?;
        passwords = Some(l2.passwords());
        builder = patient(l2.add_to(builder), *wait_max, breaker, retry);
    }
    if let Some(journal) = journal {
        builder = builder.journal(journal);
    }
    Ok(Tiers { cache: builder.build()?, passwords })
}

/// The journal of a configuration, if it has one. Reads all of its file.
pub(crate) fn journal(config: &Config) -> Result<Option<Journal>, StartError> {
    let path = config.write_behind.path.as_ref().filter(|_| config.write_behind.enabled);
    Ok(path.map(|path| Journal::open(path, config.write_behind.options())).transpose()?)
}

/// How much trouble of the shared tier is put up with.
pub(crate) fn patient(
    builder: CacheBuilder,
    wait_max: Period,
    breaker: &L2Breaker,
    retry: &L2Retry,
) -> CacheBuilder {
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let retry = Retry::default().max(number(retry.max)).base(retry.base.0).cap(retry.cap.0);
    let builder = builder.l2_wait_max(wait_max.0).retry(retry);
    if !breaker.enabled {
        return builder.no_breaker();
    }
    let settings = Breaker::default()
        .failures(breaker.failures)
        .window(breaker.window.0)
        .min_calls(number(breaker.min_calls))
        .open(breaker.open.0)
        .ramp(breaker.ramp.0);
    builder.breaker(breaker.slow.map_or(settings, |slow| settings.slow(slow.0)))
}

fn l1(config: &L1Config) -> L1 {
    let entries = usize::try_from(config.max_entries).unwrap_or(usize::MAX);
    let policy = match config.policy {
        EvictionPolicy::Default => Policy::Default,
        EvictionPolicy::Lru => Policy::Lru,
    };
    L1::entries(entries)
        .bytes(config.max_bytes.map_or(0, |size| size.0))
        .policy(policy)
        .ttl(config.ttl.0)
        .cleanup(config.cleanup_interval.0)
}

/// The shared tier, in the mode that is wanted.
pub(crate) enum L2 {
    Coherent(Redis),
    Plain(PlainRedis),
}

impl L2 {
    pub(crate) fn passwords(&self) -> RedisPasswords {
        match self {
            Self::Coherent(redis) => redis.passwords(),
            Self::Plain(redis) => redis.passwords(),
        }
    }

    fn add_to(self, builder: CacheBuilder) -> CacheBuilder {
        match self {
            Self::Coherent(redis) => builder.l2(redis),
            Self::Plain(redis) => builder.l2(redis),
        }
    }
}

/// The shared tier of a configuration. Opens no connection.
///
/// # Errors
/// If a setting cannot be, or not in this mode; also if the file with the root certificate cannot be read.
pub(crate) fn l2(config: &L2Config, mode: BusMode) -> Result<L2, RedisError> {
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let mut builder = Redis::url(config.url.reveal())?
        .key_prefix(config.key_prefix.as_str())
        .tracking(config.tracking)
        .pool_size(number(config.pool_size))
        .min_idle(number(config.min_idle))
        .max_retries(number(config.max_retries))
        .connect_timeout(config.timeouts.connect.0)
        .read_timeout(config.timeouts.read.0)
        .write_timeout(config.timeouts.write.0);
    if let Some(max_idle) = config.max_idle {
        builder = builder.max_idle(number(max_idle));
    }
    if let Some(username) = &config.username {
        builder = builder.username(username);
    }
    if let Some(password) = &config.password {
        builder = builder.password(password.reveal());
    }
    if let Some(database) = config.database {
        builder = builder.database(database);
    }
    if let Some(connections) = config.connections {
        builder = builder.connections(number(connections));
    }
    if let Some(lifetime) = config.max_lifetime {
        builder = builder.max_lifetime(lifetime.0);
    }
    if let Some(file) = &config.tls.root_certificate_file {
        builder = builder.root_certificate(file);
    }
    if let Some(sentinel) = &config.sentinel {
        if let Some(username) = &sentinel.username {
            builder = builder.sentinel_username(username);
        }
        if let Some(password) = &sentinel.password {
            builder = builder.sentinel_password(password.reveal());
        }
        if let Some(tls) = sentinel.tls {
            builder = builder.sentinel_tls(tls);
        }
    }
    match mode {
        BusMode::Coherent => builder.build().map(L2::Coherent),
        BusMode::Plain => builder.build_plain().map(L2::Plain),
    }
}
