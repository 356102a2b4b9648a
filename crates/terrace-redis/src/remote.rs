//! [`Redis`]: the calls of [`Remote`], put together.
//!
//! 1. One L2 hit is one round trip. So is a batch of reads, and a batch of up to 512 writes; a longer one is cut.
//! 2. Reads of a batch are all under way at once. Writes of a batch keep their order.

use crate::call;
use crate::commands::Commands;
use crate::config::{ConfigError, Mode, Passwords, RedisBuilder, Settings};
use crate::error;
use crate::replies::{self, Judged};
use crate::rules;
use crate::scanning::scan;
use crate::scripts::Channels;
use crate::sending::{Sending, one};
use crate::supervisor::Supervisor;
use crate::topology::{Fit, Topology};
use futures_util::future::try_join_all;
use redis::{Cmd, Value};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::bus::Bus;
use terrace_core::envelope::Sealed;
use terrace_core::remote::{
    BoxFuture, Compared, Delayed, Due, Expected, FillOutcome, Generation, Invalidated, Lease, LeaseOutcome,
    LeaseToken, ListPlace, Listed, Names, RemoteHealth, RemoteResult, SharedSettings, Stored, Sweep,
    SweepRule, Swept, Validity,
};
use terrace_core::{Clock, Key, Namespace, Remote, RemoteError, Tag, Ttl, Version};
use tokio::sync::watch;

/// Redis or Valkey as the shared tier: one server, the primary that sentinels elect, or a Cluster.
///
/// Made by [`Redis::url`], [`Redis::address`], [`Redis::sentinel`] or [`Redis::cluster`]. Cheap to clone; clones share the connections, which close when the
/// last clone is dropped. The first call opens them, on the runtime it runs on.
///
/// Every call ends within its deadline, the read or the write timeout. Only [`Remote::names`] is as long as the
/// server has keys: there the deadline is that of each step.
///
/// # Examples
/// ```no_run
/// use terrace_core::{Key, Namespace, Remote};
/// use terrace_redis::Redis;
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let redis = Redis::url("redis://localhost:6379")?.build()?;
/// let (users, key) = (Namespace::new("users")?, Key::new("42")?);
/// redis.open(&users).await?;
/// assert!(redis.get(&users, &key).await?.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    commands: Commands,
    topology: Topology,
    /// The namespaces that are listened to, in the order in which they were joined. It only grows.
    joined: watch::Sender<Vec<Namespace>>,
}

impl Redis {
    /// Begins with `redis://[user[:password]@]host[:port][/database]`, or `rediss://` for TLS.
    ///
    /// Several servers are written as `redis+sentinel://[user[:password]@]host[:port],…/primary[/database]` and
    /// `redis+cluster://[user[:password]@]host[:port],…`, with `rediss` for TLS. User and password are those of the servers;
    /// sentinels have [their own](RedisBuilder::sentinel_password).
    ///
    /// # Errors
    /// [`ConfigError`] if it is no such URL. It does not repeat the URL, which may hold a password.
    pub fn url(url: &str) -> Result<RedisBuilder, ConfigError> {
        RedisBuilder::from_url(url)
    }

    /// Begins with `host:port`; without a port it is 6379. The address is checked when the settings are built.
    pub fn address(address: &str) -> RedisBuilder {
        RedisBuilder::from_address(address)
    }

    /// Begins with sentinels, as `host:port` (without a port it is 26379), and the name by which they know the primary.
    /// They are asked who that is at the start, whenever a connection is lost, and every second; so a primary that they have
    /// replaced is left also by those who still reach it.
    pub fn sentinel(primary: &str, sentinels: impl IntoIterator<Item = impl Into<String>>) -> RedisBuilder {
        let sentinels = sentinels.into_iter().map(Into::into).collect();
        RedisBuilder::from_address("").sentinel_of(primary, sentinels)
    }

    /// Begins with some members of a Cluster, as `host:port`; without a port it is 6379. They know the others. It has to be
    /// of Redis 7.0 or Valkey 7.2, or later.
    pub fn cluster(members: impl IntoIterator<Item = impl Into<String>>) -> RedisBuilder {
        RedisBuilder::from_address("").cluster_of(members.into_iter().map(Into::into).collect())
    }

    pub(crate) fn new(settings: Settings) -> Result<Self, ConfigError> {
        let commands = Commands {
            names: crate::keys::Names::new(&settings.key_prefix, settings.partitions, settings.database),
            mode: Mode::Coherent,
            origin: format!("{:016x}", settings.node_id),
            channels: Channels::of(settings.servers.is_cluster()),
        };
        let topology = Topology::new(settings)?;
        Ok(Self(Arc::new(Inner { commands, topology, joined: watch::Sender::default() })))
    }

    /// How often the layer above may try a call again; the adapter never does.
    pub fn max_retries(&self) -> u32 {
        self.settings().max_retries
    }

    /// The name of this node in the messages it publishes.
    pub fn node_id(&self) -> u64 {
        self.settings().node_id
    }

    /// How many connections are held to each primary, after pool settings were turned into a number of them.
    pub fn connections(&self) -> usize {
        self.settings().connections
    }

    /// What changes the passwords while this tier is in use.
    pub fn passwords(&self) -> Passwords {
        self.settings().passwords()
    }

    pub(crate) fn settings(&self) -> &Settings {
        self.0.topology.settings()
    }

    pub(crate) fn commands(&self) -> &Commands {
        &self.0.commands
    }

    pub(crate) fn topology(&self) -> &Topology {
        &self.0.topology
    }

    pub(crate) fn joined(&self) -> &watch::Sender<Vec<Namespace>> {
        &self.0.joined
    }

    pub(crate) async fn read(&self, commands: Vec<Cmd>) -> Result<Vec<Value>, RemoteError> {
        self.0.topology.exchange(commands, Sending::Reads, self.settings().read_timeout).await
    }

    /// Calls scripts on servers that fit.
    pub(crate) async fn change_on(&self, fit: &Fit, commands: Vec<Cmd>) -> Result<Vec<Value>, RemoteError> {
        self.0.topology.exchange_on(fit, commands, Sending::Changes, self.settings().write_timeout).await
    }

    /// [`Remote::sweep`] on servers that fit. Primaries of a Cluster do their parts side by side, so there no partition is the last.
    pub(crate) async fn sweep_on(
        &self,
        fit: &Fit,
        namespace: &Namespace,
        rule: &SweepRule,
    ) -> Result<Swept, RemoteError> {
        let sweep = Sweep { rule: rule.clone(), id: crate::config::random() };
        let (commands, limit) = (self.commands().sweep(namespace, &sweep), self.settings().write_timeout);
        let is_row = !self.settings().servers.is_cluster();
        let sending = if is_row { Sending::Row } else { Sending::Changes };
        let replies = self.0.topology.exchange_on(fit, commands, sending, limit).await?;
        let last = replies.last().filter(|_| is_row);
        Ok(Swept { sweep, version: last.map(replies::version).transpose()? })
    }

    /// Calls one script.
    pub(crate) async fn change(&self, command: Cmd) -> Result<Value, RemoteError> {
        let replies = self.change_many(vec![command]).await?;
        replies.into_iter().next().ok_or_else(|| error::unexpected("a reply", &"none"))
    }

    /// Calls scripts.
    pub(crate) async fn change_many(&self, commands: Vec<Cmd>) -> Result<Vec<Value>, RemoteError> {
        self.change_on(&Fit::Any, commands).await
    }

    /// Calls sets. When that has failed, none of them takes effect any more.
    async fn set_each(&self, commands: Vec<Cmd>) -> Result<Vec<Value>, RemoteError> {
        let limit = self.settings().write_timeout;
        let by = Clock::system().precise().plus(limit);
        self.0.topology.exchange(commands, Sending::Sets { by }, limit).await
    }

    async fn set_all(&self, commands: Vec<Cmd>) -> Result<Vec<Version>, RemoteError> {
        self.set_each(commands).await?.into_iter().map(replies::changed).collect()
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(self.settings()).finish()
    }
}

impl Remote for Redis {
    fn open_with<'a>(
        &'a self,
        namespace: &'a Namespace,
        settings: &'a SharedSettings,
    ) -> RemoteResult<'a, ()> {
        Box::pin(async move {
            let record = settings.record(self.settings().partitions).with("mode", Mode::Coherent.word());
            let there = self.change(self.commands().agree(namespace, &record)).await;
            record.check(namespace, &replies::settings(there.map_err(error::naming_plain)?)?)?;
            let floors = self.change_many(self.commands().floors(namespace)).await;
            floors.map(drop).map_err(error::naming_plain)
        })
    }

    fn forget_settings<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, ()> {
        let command = self.commands().forget_settings(namespace);
        Box::pin(async move { self.change(command).await.map(drop) })
    }

    fn get<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> RemoteResult<'a, Option<Stored>> {
        Box::pin(async move {
            Ok(self.get_all(namespace, std::slice::from_ref(key)).await?.into_iter().next().flatten())
        })
    }

    fn get_many<'a>(
        &'a self,
        namespace: &'a Namespace,
        keys: &'a [Key],
    ) -> RemoteResult<'a, Vec<Option<Stored>>> {
        Box::pin(self.get_all(namespace, keys))
    }

    fn validate<'a>(
        &'a self,
        namespace: &'a Namespace,
        asked: &'a [(Key, Version)],
    ) -> RemoteResult<'a, Vec<Validity>> {
        Box::pin(self.validate_all(namespace, asked))
    }

    fn settle<'a>(
        &'a self,
        namespace: &'a Namespace,
        asked: &'a [(Key, Version)],
    ) -> RemoteResult<'a, Vec<Validity>> {
        Box::pin(async move {
            let ending = asked.iter().map(|(key, _)| self.commands().end_lease(namespace, key));
            self.change_many(ending.collect()).await?;
            self.validate_all(namespace, asked).await
        })
    }

    fn shard_of(&self, namespace: &Namespace, key: &Key) -> u16 {
        let shard = self.0.topology.shard_of(&self.commands().names.value(namespace, key));
        u16::try_from(shard).unwrap_or_default()
    }

    fn lease<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        token: LeaseToken,
        duration: Duration,
        dead: Option<Version>,
    ) -> RemoteResult<'a, LeaseOutcome> {
        Box::pin(async move {
            let mut dead = dead;
            loop {
                let command = self.commands().lease(namespace, key, token, duration, dead);
                match replies::lease(self.change(command).await?, key, token)? {
                    Ok(outcome) => return Ok(outcome),
                    // The version is another one each time, so this ends when nobody sweeps any more.
                    Err(swept) => dead = Some(swept),
                }
            }
        })
    }

    fn renew<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        lease: &'a Lease,
        duration: Duration,
    ) -> RemoteResult<'a, bool> {
        let command = self.commands().renew(namespace, key, lease, duration);
        Box::pin(async move { replies::renewed(&self.change(command).await?) })
    }

    fn release<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        lease: &'a Lease,
    ) -> RemoteResult<'a, ()> {
        let command = self.commands().release(namespace, key, lease);
        Box::pin(async move { self.change(command).await.map(drop) })
    }

    fn fill<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        lease: &'a Lease,
        value: Sealed,
        ttl: Ttl,
    ) -> RemoteResult<'a, FillOutcome> {
        let command = self.commands().fill(namespace, key, lease, &value, ttl);
        Box::pin(async move { replies::fill(&self.change(command).await?) })
    }

    fn set<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        value: Sealed,
        ttl: Ttl,
    ) -> RemoteResult<'a, Version> {
        let command = self.commands().set(namespace, key, &value, ttl);
        Box::pin(async move {
            let version = self.set_all(vec![command]).await?.pop();
            version.ok_or_else(|| error::unexpected("a reply", &"none"))
        })
    }

    fn set_many<'a>(
        &'a self,
        namespace: &'a Namespace,
        entries: Vec<(Key, Sealed, Ttl)>,
    ) -> RemoteResult<'a, Vec<Version>> {
        let set = |(key, value, ttl): &(Key, Sealed, Ttl)| self.commands().set(namespace, key, value, *ttl);
        let commands = entries.iter().map(set).collect();
        Box::pin(self.set_all(commands))
    }

    fn can_compare(&self) -> bool {
        true
    }

    fn set_if<'a>(
        &'a self,
        namespace: &'a Namespace,
        key: &'a Key,
        expected: Expected,
        value: Option<(Sealed, Ttl)>,
    ) -> RemoteResult<'a, Compared> {
        Box::pin(async move {
            let mut judged = Judged::default();
            loop {
                let command = self.commands().set_if(namespace, key, expected, judged, value.as_ref());
                let reply = self.set_each(vec![command]).await?.pop();
                let reply = reply.ok_or_else(|| error::unexpected("a reply", &"none"))?;
                match replies::compared(reply, key, judged)? {
                    Ok(compared) => return Ok(compared),
                    // More is known of the sweeps each time, so this ends when nobody sweeps any more.
                    Err(more) => judged = more,
                }
            }
        })
    }

    fn invalidate<'a>(
        &'a self,
        namespace: &'a Namespace,
        keys: &'a [Key],
    ) -> RemoteResult<'a, Vec<Invalidated>> {
        let commands = keys.iter().map(|key| self.commands().invalidate(namespace, key)).collect();
        Box::pin(async move {
            let replies = self.change_many(commands).await?;
            replies.into_iter().map(replies::invalidated).collect()
        })
    }

    fn sweep<'a>(&'a self, namespace: &'a Namespace, rule: &'a SweepRule) -> RemoteResult<'a, Swept> {
        Box::pin(async move { self.sweep_on(&Fit::Any, namespace, rule).await })
    }

    fn sweeps<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, Vec<Sweep>> {
        let rules = self.commands().rules(namespace);
        Box::pin(async move {
            let replies = self.read(rules).await?;
            let mut sweeps = Vec::new();
            for reply in &replies {
                for sweep in rules::sweeps(reply)? {
                    if !sweeps.contains(&sweep) {
                        sweeps.push(sweep);
                    }
                }
            }
            Ok(sweeps)
        })
    }

    fn names<'a>(&'a self, namespace: &'a Namespace, rule: &'a SweepRule) -> Names<'a> {
        scan(&self.0.topology, self.commands(), namespace, rule)
    }

    fn list<'a>(
        &'a self,
        namespace: &'a Namespace,
        rule: &'a SweepRule,
        from: Option<ListPlace>,
        count: u32,
    ) -> RemoteResult<'a, Option<Listed>> {
        Box::pin(self.list_page(namespace, rule, from, count))
    }

    fn reap<'a>(
        &'a self,
        namespace: &'a Namespace,
        sweep: &'a Sweep,
        keys: &'a [Key],
    ) -> RemoteResult<'a, u64> {
        let commands = self.commands().reap(namespace, sweep, keys);
        Box::pin(async move {
            let replies = self.change_many(commands).await?;
            replies.iter().map(replies::count).sum()
        })
    }

    fn retire<'a>(&'a self, namespace: &'a Namespace, sweep: &'a Sweep) -> RemoteResult<'a, ()> {
        let commands = self.commands().retire(namespace, sweep);
        Box::pin(async move { self.change_many(commands).await.map(drop) })
    }

    fn delay<'a>(
        &'a self,
        namespace: &'a Namespace,
        invalidations: &'a [Delayed],
        after: Duration,
    ) -> RemoteResult<'a, ()> {
        let command = self.commands().delay(namespace, invalidations, after);
        Box::pin(async move { self.change(command).await.map(drop) })
    }

    fn due<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, Due> {
        let command = self.commands().due(namespace);
        Box::pin(async move { replies::due(self.change(command).await?) })
    }

    fn done<'a>(&'a self, namespace: &'a Namespace, invalidations: &'a [Delayed]) -> RemoteResult<'a, ()> {
        Box::pin(async move {
            if invalidations.is_empty() {
                return Ok(());
            }
            self.change(self.commands().done(namespace, invalidations)).await.map(drop)
        })
    }

    fn bump_tags<'a>(&'a self, namespace: &'a Namespace, tags: &'a [Tag]) -> RemoteResult<'a, Vec<Version>> {
        let commands = self.commands().bump_tags(namespace, tags);
        Box::pin(async move { self.change_many(commands).await?.iter().map(replies::version).collect() })
    }

    fn generations<'a>(
        &'a self,
        namespace: &'a Namespace,
        tags: &'a [Tag],
    ) -> RemoteResult<'a, Vec<Generation>> {
        let commands = self.commands().generations(namespace, tags);
        Box::pin(async move {
            let limit = self.settings().read_timeout;
            let replies = self.0.topology.exchange(commands, Sending::Changes, limit).await?;
            replies.iter().map(replies::generation).collect()
        })
    }

    fn bus(&self) -> Option<&dyn Bus> {
        Some(self)
    }

    fn health(&self) -> RemoteResult<'_, RemoteHealth> {
        Box::pin(async move {
            let limit = self.settings().read_timeout;
            let map = self.0.topology.map(limit).await?;
            let asked =
                try_join_all(map.shards.iter().map(|shard| ask_health(&shard.supervisor, limit))).await?;
            let slowest = asked.into_iter().max_by_key(|health| health.round_trip);
            let mut health = slowest.ok_or_else(|| error::unexpected("a server", &"none"))?;
            health.warnings = map.shards.iter().filter_map(|shard| shard.supervisor.warning()).collect();
            health.warnings.dedup();
            health.warnings.extend(self.0.topology.warning());
            Ok(health)
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.topology.close())
    }
}

/// How one server is.
pub(crate) async fn ask_health(
    supervisor: &Supervisor,
    limit: Duration,
) -> Result<RemoteHealth, RemoteError> {
    let (link, limit) = call::connection(supervisor, limit).await?;
    let clock = Clock::system();
    let since = clock.precise();
    call::on(&link, limit, link.ask(&one(redis::cmd("PING")))).await?;
    let round_trip = clock.precise().since(since);
    Ok(RemoteHealth { round_trip, server: link.server().to_owned(), warnings: Vec::new() })
}
