//! Which settings are there, and which values are allowed?
//!
//! 1. A wrong value is refused with its setting, itself and what is allowed. Nothing is clamped in silence.
//! 2. Passwords, given apart or within a URL, are never part of such a message.

mod address;
mod passwords;
mod servers;
mod settings;

pub(crate) use address::{Address, List};
pub use passwords::Passwords;
pub(crate) use servers::{Login, Servers};
pub(crate) use settings::{Mode, Settings};

use self::passwords::Password;
use self::servers::Secret;
use crate::plain::PlainRedis;
use crate::remote::Redis;
use crate::tls::RootFile;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::Partition;

/// A setting with a value that is not allowed.
///
/// # Examples
/// ```
/// use terrace_redis::Redis;
/// let error = Redis::address("localhost:6379").connections(0).build().expect_err("none is too few");
/// assert_eq!(error.to_string(), "the Redis setting `connections` is 0; allowed is 1 to 64");
/// ```
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the Redis setting `{setting}` is {value}; allowed is {allowed}")]
#[non_exhaustive]
pub struct ConfigError {
    /// The setting's name, as the method of [`RedisBuilder`] that sets it.
    pub setting: &'static str,
    /// What it was set to; hidden where it may hold a secret.
    pub value: String,
    /// What it may be set to.
    pub allowed: &'static str,
}

impl ConfigError {
    fn new(setting: &'static str, value: impl fmt::Display, allowed: &'static str) -> Self {
        Self { setting, value: value.to_string(), allowed }
    }

    /// What it means that nothing could be made of checked settings.
    pub(crate) fn of_client(tls: bool, error: &redis::RedisError) -> Self {
        let (setting, allowed) = if tls {
            ("root_certificate", "a readable file of PEM certificates")
        } else {
            ("address", "`host:port`")
        };
        Self::new(setting, format!("not usable ({error})"), allowed)
    }
}

/// The settings of a connection to Redis or Valkey, in the making. Made by [`Redis::url`], [`Redis::address`],
/// [`Redis::sentinel`] or [`Redis::cluster`].
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use terrace_redis::Redis;
/// let redis = Redis::url("redis://localhost:6379/2")?
///     .password("swordfish")
///     .key_prefix("shop:")
///     .read_timeout(Duration::from_millis(500))
///     .build()?;
/// assert!(!format!("{redis:?}").contains("swordfish"));
/// # Ok::<(), terrace_redis::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "settings do nothing until they are built"]
pub struct RedisBuilder {
    addresses: Vec<String>,
    kind: Kind,
    tls: bool,
    root_certificate: Option<PathBuf>,
    username: Option<String>,
    password: Option<Secret>,
    sentinel_username: Option<String>,
    sentinel_password: Option<Secret>,
    sentinel_tls: Option<bool>,
    database: u32,
    key_prefix: String,
    partitions: u16,
    connections: Option<u32>,
    pool_size: Option<u32>,
    min_idle: Option<u32>,
    max_idle: Option<u32>,
    max_lifetime: Option<Duration>,
    max_retries: u32,
    connect_timeout: Duration,
    read_timeout: Duration,
    write_timeout: Duration,
    tracking: bool,
    node_id: Option<u64>,
}

/// What stands at the addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Kind {
    One,
    Sentinel(String),
    Cluster,
}

impl RedisBuilder {
    const PORT_DEFAULT: u16 = 6379;
    const SENTINEL_PORT_DEFAULT: u16 = 26379;
    /// Prefix of every key and channel, unless it is set otherwise.
    pub const KEY_PREFIX_DEFAULT: &'static str = "terrace:";
    /// Longest prefix, in bytes.
    pub const KEY_PREFIX_BYTES_MAX: usize = 64;
    /// Multiplexed connections, unless it is set otherwise: a second one keeps small calls from queueing behind a
    /// large reply, and serves alone while the other reconnects.
    pub const CONNECTIONS_DEFAULT: u32 = 2;
    /// Most multiplexed connections.
    pub const CONNECTIONS_MAX: u32 = 64;
    /// Most partitions of a namespace.
    pub const PARTITIONS_MAX: u16 = 4096;
    /// Further attempts of the layer above, unless it is set otherwise.
    pub const MAX_RETRIES_DEFAULT: u32 = 3;
    /// Time for opening a connection, unless it is set otherwise.
    pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
    /// Deadline of a reading call, unless it is set otherwise.
    pub const READ_TIMEOUT_DEFAULT: Duration = Duration::from_secs(3);
    /// Deadline of a writing call, unless it is set otherwise.
    pub const WRITE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(3);
    const TIMEOUT_MAX: Duration = Duration::from_hours(1);

    pub(crate) fn from_address(address: &str) -> Self {
        Self {
            addresses: vec![address.to_owned()],
            kind: Kind::One,
            tls: false,
            root_certificate: None,
            username: None,
            password: None,
            sentinel_username: None,
            sentinel_password: None,
            sentinel_tls: None,
            database: 0,
            key_prefix: Self::KEY_PREFIX_DEFAULT.to_owned(),
            partitions: Partition::COUNT_DEFAULT,
            connections: None,
            pool_size: None,
            min_idle: None,
            max_idle: None,
            max_lifetime: None,
            max_retries: Self::MAX_RETRIES_DEFAULT,
            connect_timeout: Self::CONNECT_TIMEOUT_DEFAULT,
            read_timeout: Self::READ_TIMEOUT_DEFAULT,
            write_timeout: Self::WRITE_TIMEOUT_DEFAULT,
            tracking: false,
            node_id: None,
        }
    }

    pub(crate) fn from_url(url: &str) -> Result<Self, ConfigError> {
        address::read_url(url)
    }

    pub(crate) fn sentinel_of(mut self, primary: &str, sentinels: Vec<String>) -> Self {
        (self.kind, self.addresses) = (Kind::Sentinel(primary.to_owned()), sentinels);
        self
    }

    pub(crate) fn cluster_of(mut self, members: Vec<String>) -> Self {
        (self.kind, self.addresses) = (Kind::Cluster, members);
        self
    }

    /// The ACL user to authenticate as. Without one it is the server's `default` user.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into()).filter(|username| !username.is_empty());
        self
    }

    /// The password to authenticate with. An empty one counts as none.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Secret::unless_empty(password);
        self
    }

    /// The ACL user to authenticate as at sentinels, which know other users than the servers do. None by default.
    pub fn sentinel_username(mut self, username: impl Into<String>) -> Self {
        self.sentinel_username = Some(username.into()).filter(|username| !username.is_empty());
        self
    }

    /// The password for sentinels; none by default, also if the servers need one. An empty one counts as none.
    pub fn sentinel_password(mut self, password: impl Into<String>) -> Self {
        self.sentinel_password = Secret::unless_empty(password);
        self
    }

    /// Whether sentinels speak TLS; as the servers do by default. They are verified against the same root certificates.
    pub fn sentinel_tls(mut self, tls: bool) -> Self {
        self.sentinel_tls = Some(tls);
        self
    }

    /// The number of the database; 0 by default, and always on a Cluster.
    pub fn database(mut self, database: u32) -> Self {
        self.database = database;
        self
    }

    /// Whether to speak TLS. A URL that begins with `rediss://` says so too. The peer's certificate is always
    /// verified, against [`RedisBuilder::root_certificate`] or else the system's store.
    pub fn tls(mut self, tls: bool) -> Self {
        self.tls = tls;
        self
    }

    /// A file with the root certificates to trust, as PEM, instead of the system's. Implies TLS. It is read anew for each connection, so other
    /// certificates can be put there; where they cannot be used, those before are, and a warning says so.
    pub fn root_certificate(mut self, file: impl Into<PathBuf>) -> Self {
        self.root_certificate = Some(file.into());
        self.tls = true;
        self
    }

    /// What every key and channel begins with; [`RedisBuilder::KEY_PREFIX_DEFAULT`] by default. Deployments that
    /// share a server need prefixes that differ.
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// Into how many partitions a namespace is cut; 256 by default. All nodes of a deployment need the same number.
    pub fn partitions(mut self, partitions: u16) -> Self {
        self.partitions = partitions;
        self
    }

    /// How many connections to hold to each primary; [`RedisBuilder::CONNECTIONS_DEFAULT`] by default. All calls of a process share
    /// them: a connection carries any number of calls at once, and more of them rarely help.
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = Some(connections);
        self
    }

    /// The size of the connection pool that would be needed if each connection carried one call at a time. It is
    /// turned into a number of multiplexed connections: one per 50, at least 1, at most 4. So 20 gives 1, and 100
    /// gives 2. [`RedisBuilder::connections`] overrides it.
    pub fn pool_size(mut self, pool_size: u32) -> Self {
        self.pool_size = Some(pool_size);
        self
    }

    /// How many connections of the pool to keep open while they idle. All of the few that there are stay open, so
    /// this only has to be at most the pool size.
    pub fn min_idle(mut self, min_idle: u32) -> Self {
        self.min_idle = Some(min_idle);
        self
    }

    /// How many connections of the pool to keep open at most while they idle. All of the few that there are stay open,
    /// so this too only has to be at most the pool size.
    pub fn max_idle(mut self, max_idle: u32) -> Self {
        self.max_idle = Some(max_idle);
        self
    }

    /// After how long a connection is replaced by a new one, at least a second; never by default. The new one is
    /// opened before the old one is let go, so no call fails for it. For load balancers that end old connections,
    /// and for passwords and certificates that change.
    pub fn max_lifetime(mut self, max_lifetime: Duration) -> Self {
        self.max_lifetime = Some(max_lifetime);
        self
    }

    /// How often a layer above may try a call again that failed for want of the network; 3 by default. The adapter
    /// makes one attempt per call, never waits for a reconnect, and only hands this number on
    /// ([`Redis::max_retries`]). The library has its own setting, `CacheBuilder::retry`.
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.max_retries = max_retries;
        self
    }

    /// How long opening a connection may take, from the name's resolution to the loaded scripts; 5 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The deadline of calls that read; 3 s by default.
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// The deadline of calls that write; 3 s by default.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// Whether nodes hear of writers that are not terrace, too: `redis-cli DEL`, `FLUSHALL`, what expires or is evicted; no by default.
    /// Every node of a deployment decides for itself. A server that does not allow it is not listened to, so that no copy counts as
    /// fresh, and [`Remote::health`](terrace_core::Remote::health) warns.
    ///
    /// # Cost
    /// One comparison on the server for each key that anybody writes there and each namespace; one name of some dozen bytes to each node
    /// for each key that is written in a namespace. A change or a fill is followed by one read of L2 by whoever reads the key next, on
    /// each node, the one that made it included. A lost connection, and a namespace's first use, cost all copies. A beat takes
    /// one round trip more.
    pub fn tracking(mut self, tracking: bool) -> Self {
        self.tracking = tracking;
        self
    }

    /// The name of this node in the messages it publishes; random by default. No two nodes may share one.
    pub fn node_id(mut self, node_id: u64) -> Self {
        self.node_id = Some(node_id);
        self
    }

    /// Checks the settings, and makes of them what speaks to servers without scripts and streams. It promises less, as
    /// [`PlainRedis`] says. All nodes of a deployment have to be built in the same way.
    ///
    /// # Errors
    /// As [`RedisBuilder::build`], and for a Cluster and for tracking, which this mode does without.
    ///
    /// # Cost
    /// As [`RedisBuilder::build`].
    ///
    /// # Examples
    /// ```
    /// use terrace_redis::Redis;
    /// Redis::address("localhost:6379").build_plain()?;
    /// let error = Redis::cluster(["localhost:6379"]).build_plain().expect_err("it has no Cluster");
    /// assert!(error.to_string().contains("plain mode"));
    /// # Ok::<(), terrace_redis::ConfigError>(())
    /// ```
    pub fn build_plain(self) -> Result<PlainRedis, ConfigError> {
        if self.kind == Kind::Cluster {
            let allowed = "one server or sentinels, for the plain mode serves no Cluster";
            return Err(ConfigError::new("cluster", self.addresses.join(","), allowed));
        }
        if self.tracking {
            return Err(ConfigError::new(
                "tracking",
                true,
                "false, for the plain mode hears of no strangers",
            ));
        }
        PlainRedis::new(Settings { mode: Mode::Plain, ..self.check()? })
    }

    /// Checks the settings. Opens no connection and needs no runtime: the first call does, so a server that is down
    /// is no error here.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first setting with a value that is not allowed, also if the file of root
    /// certificates cannot be read.
    ///
    /// # Cost
    /// Reads the file of root certificates, if one is set.
    pub fn build(self) -> Result<Redis, ConfigError> {
        Redis::new(self.check()?)
    }

    pub(crate) fn check(self) -> Result<Settings, ConfigError> {
        let servers = self.check_servers()?;
        self.check_prefix()?;
        check_range("partitions", &self.partitions, &(1..=Self::PARTITIONS_MAX), "1 to 4096")?;
        check_range("database", &self.database, &(0..=i32::MAX.unsigned_abs()), "0 to 2147483647")?;
        let timeouts = Shown(Duration::from_millis(1))..=Shown(Self::TIMEOUT_MAX);
        check_range("connect_timeout", &Shown(self.connect_timeout), &timeouts, "1 ms to 1 h")?;
        check_range("read_timeout", &Shown(self.read_timeout), &timeouts, "1 ms to 1 h")?;
        check_range("write_timeout", &Shown(self.write_timeout), &timeouts, "1 ms to 1 h")?;
        if let Some(lifetime) = self.max_lifetime {
            let lifetimes = Shown(Duration::from_secs(1))..=Shown(Duration::MAX);
            check_range("max_lifetime", &Shown(lifetime), &lifetimes, "1 s or more")?;
        }
        let connections = self.check_connections()?;
        let root_certificate = self.root_certificate.as_ref().map(|file| {
            let allowed = "a readable file of PEM certificates";
            RootFile::read(file).map(Arc::new).map_err(|error| {
                ConfigError::new("root_certificate", format!("{} ({error})", file.display()), allowed)
            })
        });
        let login = Login { username: self.username, password: Password::new(self.password), tls: self.tls };
        let sentinel_login = Login {
            username: self.sentinel_username,
            password: Password::new(self.sentinel_password),
            tls: self.sentinel_tls.unwrap_or(self.tls),
        };
        Ok(Settings {
            mode: Mode::Coherent,
            servers,
            login,
            sentinel_login,
            root_certificate: root_certificate.transpose()?,
            database: self.database,
            key_prefix: self.key_prefix,
            partitions: self.partitions,
            connections,
            max_lifetime: self.max_lifetime,
            max_retries: self.max_retries,
            connect_timeout: self.connect_timeout,
            read_timeout: self.read_timeout,
            write_timeout: self.write_timeout,
            tracking: self.tracking,
            node_id: self.node_id.unwrap_or_else(random),
        })
    }

    fn check_servers(&self) -> Result<Servers, ConfigError> {
        let port = if matches!(self.kind, Kind::Sentinel(_)) {
            Self::SENTINEL_PORT_DEFAULT
        } else {
            Self::PORT_DEFAULT
        };
        let addresses = self.addresses.iter().map(|address| Address::parse(address, port));
        let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
        let Some(first) = addresses.first() else {
            return Err(ConfigError::new("addresses", "none", "one or more"));
        };
        match &self.kind {
            Kind::One => Ok(Servers::One(first.clone())),
            Kind::Sentinel(primary) => {
                let is_odd = |c: char| c.is_whitespace() || c.is_control();
                if primary.is_empty() || primary.contains(is_odd) {
                    let allowed = "the name that the sentinels know it by, without spaces";
                    return Err(ConfigError::new("sentinel", format!("the primary {primary:?}"), allowed));
                }
                Ok(Servers::Sentinel { primary: primary.clone(), sentinels: addresses })
            }
            Kind::Cluster if self.database != 0 => {
                Err(ConfigError::new("database", self.database, "0, for a Cluster has no other"))
            }
            Kind::Cluster => Ok(Servers::Cluster(addresses)),
        }
    }

    fn check_prefix(&self) -> Result<(), ConfigError> {
        let is_odd = |c: char| c.is_control() || matches!(c, '{' | '}');
        if self.key_prefix.len() > Self::KEY_PREFIX_BYTES_MAX || self.key_prefix.contains(is_odd) {
            let allowed = "at most 64 bytes without control characters, `{` and `}`";
            return Err(ConfigError::new("key_prefix", format!("{:?}", self.key_prefix), allowed));
        }
        Ok(())
    }

    fn check_connections(&self) -> Result<usize, ConfigError> {
        const PER_CONNECTION: u32 = 50;
        let pool_size = self.pool_size.unwrap_or(u32::MAX);
        check_range("pool_size", &pool_size, &(1..=u32::MAX), "1 or more")?;
        if let Some(min_idle) = self.min_idle.filter(|min_idle| *min_idle > pool_size) {
            return Err(ConfigError::new("min_idle", min_idle, "0 to the pool size"));
        }
        if let Some(max_idle) = self.max_idle.filter(|max_idle| *max_idle > pool_size) {
            return Err(ConfigError::new("max_idle", max_idle, "0 to the pool size"));
        }
        let from_pool = self.pool_size.map(|pool_size| (pool_size / PER_CONNECTION).clamp(1, 4));
        let connections = self.connections.or(from_pool).unwrap_or(Self::CONNECTIONS_DEFAULT);
        check_range("connections", &connections, &(1..=Self::CONNECTIONS_MAX), "1 to 64")?;
        Ok(connections as usize)
    }
}

/// A duration as messages show it.
#[derive(PartialEq, PartialOrd)]
struct Shown(Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

fn check_range<T: PartialOrd + fmt::Display>(
    setting: &'static str,
    value: &T,
    range: &RangeInclusive<T>,
    allowed: &'static str,
) -> Result<(), ConfigError> {
    if range.contains(value) { Ok(()) } else { Err(ConfigError::new(setting, value, allowed)) }
}

/// A number that no other node will have.
pub(crate) fn random() -> u64 {
    getrandom::u64().expect("the operating system gives random bytes")
}

#[cfg(test)]
mod tests;
