//! How does terrace get along without scripts and streams, and what does it not promise then?
//!
//! Scripts make a change, its number and its message one step. Without them a number is given out first, and then the change and
//! its message are one transaction (`MULTI`, `EXEC`): between the two somebody else may come. What must not be done unless
//! something still holds, as a fill under a lease, is watched (`WATCH`), on a connection that nobody else uses meanwhile.
//!
//! | module | decides |
//! |---|---|
//! | `steps` | what is done together, and on which connection |
//! | `exclusive` | who has a connection for himself, to watch something |
//! | `numbers` | which numbers changes and values get |
//! | `state` | what a namespace remembers, and how it is read |
//! | `leases` | who may load, and whose value is stored |
//! | `tags` | which generations tags have |
//! | `sweeps` | what a sweep kills, and what is removed |
//! | `later` | which delayed invalidations are due |
//! | `bus` | how a node hears of changes |
//! | `remote` | how calls are put together |
//!
//! 1. A change and its message are one transaction, so messages of one connection come in the order of the changes.
//! 2. A number is given out once, and is greater than all that were given out before. Changes need not happen in the order of
//!    their numbers, so nothing here or above takes a greater number for a later change.
//! 3. A fill is stored only while its lease is there and its epoch lasts: both are watched from before they are read.
//! 4. A transaction is never cut, and never shares a write with half of another one: between `MULTI` and `EXEC` a connection
//!    belongs to it.
//! 5. Losing any key makes misses: without a first number all values are dead, without the epoch all leases are void, without a
//!    floor all tags are bumped.
//! 6. What removes needs no memory: `DEL` and `PUBLISH` are not refused for want of it. Transactions and new numbers are, and can be
//!    done without then.
//!
//! Deliberately absent: Clusters, retries of what may have been done, and anything that scripts or streams would be needed for.

mod bus;
mod exclusive;
mod later;
mod leases;
mod numbers;
mod remote;
mod state;
mod steps;
mod sweeps;
mod tags;

pub(crate) use bus::greet;

use crate::commands::Commands;
use crate::config::{ConfigError, Mode, Passwords, Settings};
use crate::keys::Names;
use crate::scripts::Channels;
use crate::topology::Topology;
use exclusive::Exclusive;
use numbers::ServerClock;
use std::fmt;
use std::sync::Arc;
use terrace_core::Namespace;
use tokio::sync::watch;

/// Redis or Valkey as the shared tier where scripts or streams are missing or refused: one server, or the primary that
/// sentinels elect, from Redis 6.0 on. Made by [`RedisBuilder::build_plain`](crate::RedisBuilder::build_plain).
///
/// Use [`Redis`](crate::Redis) wherever the server lets you. All nodes of a namespace have to use the same of the two: names on
/// the server differ, and whoever comes second with the other is refused
/// ([`RemoteError::Mismatch`](terrace_core::RemoteError::Mismatch)).
///
/// # What is kept
/// Every change is published in the transaction that makes it. A copy counts as fresh only while beats come back, so a lost
/// connection, a pause, a slow consumer or a replica in the place of the primary end that within the staleness that is allowed.
/// One loader runs in the fleet, and a fill whose lease an invalidation has voided is refused. Tags, sweeps and delayed
/// invalidations work.
///
/// # What is not promised
/// [`PlainRedis::NOT_PROMISED`] has it in short, and `health` shows it as warnings. In full:
///
/// - Messages are no chain, and there is no log. One that is lost while its connection stays open, by a proxy for example, is never
///   noticed: a copy may be stale until its TTL ends. After every reconnect all copies are suspect, also where nothing was missed.
/// - A number is given out a moment before its change is made. Of two changes of one key at the same time, that of the smaller
///   version may be the one that stays, and a value may be newer than one of a greater version. All nodes agree on which.
/// - A load, a bump and a sweep that meet in that moment count as in the order of their numbers: what was loaded after an invalidation
///   was asked for, and before it was made, may stay.
/// - Where the server has no memory left, bumps of tags, sweeps and delayed invalidations are refused. Invalidations of keys are not.
/// - Where the server does not tell its incarnation (`INFO`), each reconnect counts as another one, and what a server forgot in a
///   failover may be filled until the first node has joined it.
/// - Copies are not audited: there is no log to hold them against. Writers that are not terrace are not heard of.
///
/// # Cost
/// A read is one round trip, with what the namespace remembers read before it. A change is two, a lease two, a fill two on one of at
/// most eight connections that exist for that. A process holds two connections as with scripts, one that listens, and those
/// eight as far as they are needed.
///
/// # What an ACL user needs
/// `~<prefix>*` and `&<prefix>*` (`terrace:` by default), and by name: `+get +getrange +set +del +pttl +pexpire +hget +hgetall +hmget
/// +hset +hsetnx +hdel +hlen +hexists +zadd +zcard +zrem +zrange +zscore +zincrby +zunionstore +scan +time +ping +publish +subscribe
/// +multi +exec +watch +unwatch`. With `+info` failovers are known for what they are; with `+config|get` the adapter can
/// warn of settings that give no bound on a split brain.
///
/// # Examples
/// ```no_run
/// use terrace_core::{Key, Namespace, Remote};
/// use terrace_redis::Redis;
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let redis = Redis::url("redis://localhost:6379")?.build_plain()?;
/// let (users, key) = (Namespace::new("users")?, Key::new("42")?);
/// redis.open(&users).await?;
/// assert!(redis.get(&users, &key).await?.is_none());
/// assert!(!redis.health().await?.warnings.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PlainRedis(Arc<Inner>);

struct Inner {
    commands: Commands,
    topology: Topology,
    exclusive: Exclusive,
    clock: ServerClock,
    /// The namespaces that are listened to, in the order in which they were joined. It only grows.
    joined: watch::Sender<Vec<Namespace>>,
}

impl PlainRedis {
    /// What this mode does not promise, each in a sentence for whoever runs it. `health` shows them as warnings.
    pub const NOT_PROMISED: [&'static str; 5] = [
        "plain mode: a message that is lost while its connection stays open is never noticed; copies may be stale until their TTL ends",
        "plain mode: there is no log; after every reconnect all copies in memory are suspect",
        "plain mode: values and their versions are not made in one step; of two changes of a key at once either may stay",
        "plain mode: a load that begins while an invalidation is under way may stay",
        "plain mode: a server without memory refuses bumps of tags, sweeps and delayed invalidations",
    ];
    /// What is not promised besides where the server does not tell its incarnation.
    const WITHOUT_INCARNATION: &'static str = "plain mode: `INFO` is refused; a failover cannot be told from a reconnect, and late loads may fill after it";

    pub(crate) fn new(settings: Settings) -> Result<Self, ConfigError> {
        let commands = Commands {
            names: Names::plain(&settings.key_prefix, settings.partitions, settings.database),
            mode: Mode::Plain,
            origin: format!("{:016x}", settings.node_id),
            channels: Channels::Plain,
        };
        let topology = Topology::new(settings)?;
        let (exclusive, clock) = (Exclusive::default(), ServerClock::default());
        Ok(Self(Arc::new(Inner { commands, topology, exclusive, clock, joined: watch::Sender::default() })))
    }

    /// How often the layer above may try a call again; the adapter never does.
    pub fn max_retries(&self) -> u32 {
        self.settings().max_retries
    }

    /// The name of this node in the messages it publishes.
    pub fn node_id(&self) -> u64 {
        self.settings().node_id
    }

    /// What changes the passwords while this tier is in use.
    pub fn passwords(&self) -> Passwords {
        self.settings().passwords()
    }

    fn settings(&self) -> &Settings {
        self.0.topology.settings()
    }

    fn names(&self) -> &Names {
        &self.0.commands.names
    }
}

impl fmt::Debug for PlainRedis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PlainRedis").field(self.settings()).finish()
    }
}
