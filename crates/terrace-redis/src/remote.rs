//! [`Redis`]: the calls of [`Remote`], put together.
//!
//! 1. One L2 hit is one round trip. So is a batch of reads, and a batch of up to 512 writes; a longer one is cut.
//! 2. Reads of a batch are all under way at once. Writes of a batch keep their order.
//! 3. A read asks for the time left, then for the value. A writer that comes in between leaves a time that belongs to
//!    the value before, so the time of the value's own envelope, from when the request was sent, is a bound as well.

use crate::bus::Fit;
use crate::call;
use crate::commands::{Commands, Reading};
use crate::config::{ConfigError, RedisBuilder, Settings};
use crate::error;
use crate::link::{Again, Link, one};
use crate::replies;
use crate::rules::{self, Rules};
use crate::supervisor::Supervisor;
use crate::tls;
use futures_util::future::try_join_all;
use futures_util::stream;
use redis::{Cmd, Pipeline, Value};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::bus::Bus;
use terrace_core::envelope::Sealed;
use terrace_core::remote::{
    BoxFuture, Delayed, Due, FillOutcome, Generation, Invalidated, Lease, LeaseOutcome, LeaseToken, Names,
    RemoteHealth, RemoteResult, Stored, Sweep, SweepRule,
};
use terrace_core::{Clock, Key, Namespace, Remote, RemoteError, Tag, Ttl, Version};
use tokio::sync::watch;

/// Most keys that are read in one write, so that replies of others can get in between.
pub(crate) const READ_KEYS_MAX: usize = 128;
/// Most changes that are sent in one write.
const WRITES_MAX: usize = 512;

/// A Redis or Valkey server as the shared tier.
///
/// Made by [`Redis::url`] or [`Redis::address`]. Cheap to clone; clones share the connections, which close when the
/// last clone is dropped. The first call opens them, on the runtime it runs on.
///
/// Every call ends within its deadline, the read or the write timeout. Only [`Remote::sweep`] is as long as the
/// server has keys: there the deadline is that of each step. Dropped in the middle, it has voided all leases and
/// removed a part.
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
    supervisor: Supervisor,
    /// The namespaces that are listened to, in the order in which they were joined. It only grows.
    joined: watch::Sender<Vec<Namespace>>,
}

impl Redis {
    /// Begins with `redis://[user[:password]@]host[:port][/database]`, or `rediss://` for TLS.
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

    pub(crate) fn new(settings: Settings) -> Result<Self, ConfigError> {
        let client = tls::client(&settings)?;
        let commands = Commands {
            names: crate::keys::Names::new(&settings.key_prefix, settings.partitions, settings.database),
            origin: format!("{:016x}", settings.node_id),
        };
        let supervisor = Supervisor::new(settings, client);
        Ok(Self(Arc::new(Inner { commands, supervisor, joined: watch::Sender::default() })))
    }

    /// How often the layer above may try a call again; the adapter never does.
    pub fn max_retries(&self) -> u32 {
        self.settings().max_retries
    }

    /// The name of this node in the messages it publishes.
    pub fn node_id(&self) -> u64 {
        self.settings().node_id
    }

    /// How many connections are held, after pool settings were turned into a number of them.
    pub fn connections(&self) -> usize {
        self.settings().connections
    }

    pub(crate) fn settings(&self) -> &Settings {
        self.0.supervisor.settings()
    }

    pub(crate) fn commands(&self) -> &Commands {
        &self.0.commands
    }

    pub(crate) fn supervisor(&self) -> &Supervisor {
        &self.0.supervisor
    }

    pub(crate) fn joined(&self) -> &watch::Sender<Vec<Namespace>> {
        &self.0.joined
    }

    pub(crate) async fn read<T, F>(&self, steps: impl FnOnce(Arc<Link>) -> F) -> Result<T, RemoteError>
    where
        F: Future<Output = Result<T, RemoteError>>,
    {
        call::run(&self.0.supervisor, self.settings().read_timeout, steps).await
    }

    async fn write<T, F>(&self, steps: impl FnOnce(Arc<Link>) -> F) -> Result<T, RemoteError>
    where
        F: Future<Output = Result<T, RemoteError>>,
    {
        call::run(&self.0.supervisor, self.settings().write_timeout, steps).await
    }

    /// Calls scripts in order, on a server that fits.
    pub(crate) async fn write_on(&self, fit: Fit, commands: Vec<Cmd>) -> Result<(), RemoteError> {
        let steps = |link: Arc<Link>| async move {
            fit.check(&link)?;
            run_in_parts(&link, commands, Again::Undone).await.map(drop)
        };
        self.write(steps).await
    }

    /// [`Remote::sweep`] on a server that fits.
    pub(crate) async fn sweep_on(
        &self,
        fit: Fit,
        namespace: &Namespace,
        rule: &SweepRule,
    ) -> Result<Sweep, RemoteError> {
        let sweep = Sweep { rule: rule.clone(), id: crate::config::random() };
        self.write_on(fit, self.commands().sweep(namespace, &sweep)).await?;
        Ok(sweep)
    }

    /// Calls one script.
    pub(crate) async fn change(&self, command: Cmd) -> Result<Value, RemoteError> {
        let pipeline = one(command);
        let replies = self.write(|link| async move { link.run(&pipeline, Again::Undone).await }).await?;
        replies.into_iter().next().ok_or_else(|| error::unexpected("a reply", &"none"))
    }

    /// Calls scripts in order, within `limit` altogether.
    async fn change_many(
        &self,
        limit: Duration,
        commands: Vec<Cmd>,
        again: Again,
    ) -> Result<Vec<Value>, RemoteError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let steps = |link: Arc<Link>| async move { run_in_parts(&link, commands, again).await };
        call::run(&self.0.supervisor, limit, steps).await
    }

    async fn write_many(&self, commands: Vec<Cmd>, again: Again) -> Result<Vec<Value>, RemoteError> {
        self.change_many(self.settings().write_timeout, commands, again).await
    }

    /// Looks at the names of all keys, step by step, each within the deadline of a read.
    ///
    /// All steps take the same connection: on another one it might be another server, to which a cursor means
    /// nothing, and keys would be passed over.
    fn scan<'a>(&'a self, namespace: &'a Namespace, rule: &'a SweepRule) -> Names<'a> {
        let begin = Scan { link: None, cursor: Some(0) };
        Box::pin(stream::try_unfold(begin, move |scan| async move {
            let limit = self.settings().read_timeout;
            let Some(cursor) = scan.cursor else { return Ok(None) };
            let (link, limit) = match scan.link {
                Some(link) => (link, limit),
                None => call::connection(&self.0.supervisor, limit).await?,
            };
            let step = one(self.commands().scan(namespace, rule, cursor));
            let reply = call::on(&link, limit, link.ask(&step)).await?.pop();
            let (next, names) =
                replies::scanned(reply.ok_or_else(|| error::unexpected("a reply", &"none"))?)?;
            let key = |name: &Vec<u8>| self.commands().names.named_by(namespace, rule, name);
            let keys = names.iter().filter_map(key).collect();
            Ok(Some((keys, Scan { link: Some(link), cursor: Some(next).filter(|next| *next != 0) })))
        }))
    }

    /// Whether the number of partitions that a namespace was opened with first is this node's.
    fn check_agreed(&self, namespace: &Namespace, replies: &[Value]) -> Result<(), RemoteError> {
        let agreed = replies.get(1).ok_or_else(|| error::unexpected("two replies", &replies));
        let (agreed, own) = (replies::partitions(agreed?)?, self.settings().partitions);
        if agreed == own {
            return Ok(());
        }
        let reason =
            format!("namespace `{namespace}` has {agreed} partitions, and this node is set to {own}");
        Err(RemoteError::Mismatch { reason })
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(self.settings()).finish()
    }
}

/// Where looking at names has come to.
struct Scan {
    link: Option<Arc<Link>>,
    /// Where to go on; nowhere if that was all.
    cursor: Option<u64>,
}

/// The values of some keys, in one exchange.
async fn read_some(link: &Link, keys: &[Key], reading: &Reading) -> Result<Vec<Option<Stored>>, RemoteError> {
    let mut replies = link.ask(&reading.pipeline).await?.into_iter();
    let rules = replies.by_ref().take(reading.partitions).map(|reply| Rules::read(&reply));
    let rules: Vec<Rules> = rules.collect::<Result<_, _>>()?;
    let mut found = Vec::with_capacity(keys.len());
    for (key, &place) in keys.iter().zip(&reading.places) {
        let (Some(ttl), Some(value), Some(rules)) = (replies.next(), replies.next(), rules.get(place)) else {
            return Err(error::unexpected("a reply for each key", &found.len()));
        };
        let stored = replies::stored(&ttl, value)?;
        found.push(stored.filter(|stored| !rules.kill(key.as_str(), stored)));
    }
    Ok(found)
}

/// Calls scripts in order, a bounded number in one write.
async fn run_in_parts(link: &Link, commands: Vec<Cmd>, again: Again) -> Result<Vec<Value>, RemoteError> {
    let mut replies = Vec::with_capacity(commands.len());
    let mut commands = commands.into_iter();
    while commands.len() > 0 {
        let pipeline = in_a_row(commands.by_ref().take(WRITES_MAX));
        replies.append(&mut link.run(&pipeline, again).await?);
    }
    Ok(replies)
}

fn in_a_row(commands: impl ExactSizeIterator<Item = Cmd>) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(commands.len());
    for command in commands {
        pipeline.add_command(command);
    }
    pipeline
}

impl Remote for Redis {
    fn open<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, ()> {
        Box::pin(self.write(move |link| async move {
            let agreed = link.ask(&self.commands().agree(namespace)).await?;
            self.check_agreed(namespace, &agreed)?;
            run_in_parts(&link, self.commands().floors(namespace), Again::Undone).await.map(drop)
        }))
    }

    fn get<'a>(&'a self, namespace: &'a Namespace, key: &'a Key) -> RemoteResult<'a, Option<Stored>> {
        Box::pin(async move {
            let keys = std::slice::from_ref(key);
            let reading = self.commands().get(namespace, keys);
            let found = self.read(|link| async move { read_some(&link, keys, &reading).await }).await?;
            Ok(found.into_iter().next().flatten())
        })
    }

    fn get_many<'a>(
        &'a self,
        namespace: &'a Namespace,
        keys: &'a [Key],
    ) -> RemoteResult<'a, Vec<Option<Stored>>> {
        Box::pin(async move {
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let readings =
                keys.chunks(READ_KEYS_MAX).map(|keys| (keys, self.commands().get(namespace, keys)));
            let readings: Vec<(&[Key], Reading)> = readings.collect();
            let steps = |link: Arc<Link>| async move {
                let parts = readings.iter().map(|(keys, reading)| read_some(&link, keys, reading));
                let parts = try_join_all(parts).await?;
                Ok(parts.into_iter().flatten().collect())
            };
            self.read(steps).await
        })
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
        Box::pin(async move { replies::changed(self.change(command).await?) })
    }

    fn set_many<'a>(
        &'a self,
        namespace: &'a Namespace,
        entries: Vec<(Key, Sealed, Ttl)>,
    ) -> RemoteResult<'a, Vec<Version>> {
        let set = |(key, value, ttl): &(Key, Sealed, Ttl)| self.commands().set(namespace, key, value, *ttl);
        let commands = entries.iter().map(set).collect();
        Box::pin(async move {
            let replies = self.write_many(commands, Again::InOrder).await?;
            replies.into_iter().map(replies::changed).collect()
        })
    }

    fn invalidate<'a>(
        &'a self,
        namespace: &'a Namespace,
        keys: &'a [Key],
    ) -> RemoteResult<'a, Vec<Invalidated>> {
        let commands = keys.iter().map(|key| self.commands().invalidate(namespace, key)).collect();
        Box::pin(async move {
            let replies = self.write_many(commands, Again::Undone).await?;
            replies.into_iter().map(replies::invalidated).collect()
        })
    }

    fn sweep<'a>(&'a self, namespace: &'a Namespace, rule: &'a SweepRule) -> RemoteResult<'a, Sweep> {
        Box::pin(self.sweep_on(Fit::Any, namespace, rule))
    }

    fn sweeps<'a>(&'a self, namespace: &'a Namespace) -> RemoteResult<'a, Vec<Sweep>> {
        let rules = self.commands().rules(namespace);
        Box::pin(async move {
            let replies = self.read(|link| async move { link.ask(&rules).await }).await?;
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
        self.scan(namespace, rule)
    }

    fn reap<'a>(
        &'a self,
        namespace: &'a Namespace,
        sweep: &'a Sweep,
        keys: &'a [Key],
    ) -> RemoteResult<'a, u64> {
        let commands = self.commands().reap(namespace, sweep, keys);
        Box::pin(async move {
            let replies = self.write_many(commands, Again::Undone).await?;
            replies.iter().map(replies::count).sum()
        })
    }

    fn retire<'a>(&'a self, namespace: &'a Namespace, sweep: &'a Sweep) -> RemoteResult<'a, ()> {
        let commands = self.commands().retire(namespace, sweep);
        Box::pin(async move { self.write_many(commands, Again::Undone).await.map(drop) })
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

    fn bump_tags<'a>(&'a self, namespace: &'a Namespace, tags: &'a [Tag]) -> RemoteResult<'a, ()> {
        let commands = self.commands().bump_tags(namespace, tags);
        Box::pin(async move { self.write_many(commands, Again::Undone).await.map(drop) })
    }

    fn generations<'a>(
        &'a self,
        namespace: &'a Namespace,
        tags: &'a [Tag],
    ) -> RemoteResult<'a, Vec<Generation>> {
        let commands = self.commands().generations(namespace, tags);
        Box::pin(async move {
            let replies = self.change_many(self.settings().read_timeout, commands, Again::Undone).await?;
            replies.iter().map(replies::generation).collect()
        })
    }

    fn bus(&self) -> Option<&dyn Bus> {
        Some(self)
    }

    fn health(&self) -> RemoteResult<'_, RemoteHealth> {
        Box::pin(async move {
            let ping = one(redis::cmd("PING"));
            let steps = |link: Arc<Link>| async move {
                let clock = Clock::system();
                let since = clock.precise();
                link.ask(&ping).await?;
                let round_trip = clock.precise().since(since);
                Ok(RemoteHealth { round_trip, server: link.server().to_owned() })
            };
            self.read(steps).await
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.0.supervisor.close())
    }
}
