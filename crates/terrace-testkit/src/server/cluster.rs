//! A Redis Cluster of one test's own.

use super::redis::{RedisServer, RedisServerBuilder, Role};
use crate::wait;
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;
use tempfile::TempDir;

const PRIMARIES: usize = 3;
const SLOTS: u16 = 1 << 14;
/// After how long a member that does not answer is taken for dead, in milliseconds.
const NODE_TIMEOUT: &str = "1500";
/// How many names are moved at a time.
const MOVED: usize = 100;
/// How long it takes until it is worth while to ask again.
pub(super) const STEP: Duration = Duration::from_millis(25);
/// How long a member may take to say what it knows.
const PATIENCE: Duration = Duration::from_millis(500);

/// Which slots a primary has, by ports: first, last, the primary, its replicas.
type Shard = (u16, u16, u16, Vec<u16>);

/// Six servers: members 0 to 2 begin as primaries of a third of the slots each, members 3 to 5 as their replicas, in the
/// same order. They end when this value is dropped.
pub struct RedisCluster {
    members: Vec<RedisServer>,
    _certificates: TempDir,
}

impl RedisCluster {
    /// Starts one. `None`, with a line on the terminal, if no server is installed.
    ///
    /// # Panics
    /// If it does not come up.
    ///
    /// # Cancel safety
    /// Dropping the future ends the servers.
    pub async fn start() -> Option<Self> {
        Self::start_with(RedisServer::builder()).await
    }

    /// Starts one whose members are all like this.
    ///
    /// # Panics
    /// If it does not come up.
    ///
    /// # Cancel safety
    /// Dropping the future ends the servers.
    pub async fn start_with(member: RedisServerBuilder) -> Option<Self> {
        let folder = TempDir::new().expect("a temporary folder");
        let password = member.password.clone();
        let mut member = member
            .role(Role::Member)
            .setting("cluster-node-timeout", NODE_TIMEOUT)
            .setting("repl-diskless-sync-delay", "0")
            // A replica that has followed nothing yet is not told of, and what it follows first is a ping.
            .setting("repl-ping-replica-period", "1")
            .shared_certificates(folder.path());
        if let Some(password) = &password {
            member = member.setting("masterauth", password);
        }
        let members = join_all((0..PRIMARIES * 2).map(|_| member.clone().start())).await;
        let members = members.into_iter().collect::<Option<Vec<_>>>()?;
        let cluster = Self { members, _certificates: folder };
        cluster.form().await;
        Some(cluster)
    }

    /// Makes one Cluster of members that know nothing of each other.
    async fn form(&self) {
        let share = SLOTS / 3 + 1;
        for (index, member) in (0_u16..).zip(&self.members) {
            let mut connection = member.connect().await;
            tell(&mut connection, &format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1)).await;
            if usize::from(index) < PRIMARIES {
                let (first, last) = (index * share, SLOTS.min((index + 1) * share) - 1);
                tell(&mut connection, &format!("CLUSTER ADDSLOTSRANGE {first} {last}")).await;
            }
            let (port, member_port) = (self.members[0].port(), self.members[0].member_port());
            tell(&mut connection, &format!("CLUSTER MEET 127.0.0.1 {port} {member_port}")).await;
        }
        for (index, member) in self.members.iter().enumerate().skip(PRIMARIES) {
            let mut connection = member.connect().await;
            let id = self.id(index - PRIMARIES).await;
            let replicate = format!("CLUSTER REPLICATE {id}");
            wait::until_some("members to know each other", async || {
                line(&replicate).exec_async(&mut connection).await.ok()
            })
            .await;
        }
        self.settled().await;
    }

    /// Its members, whatever they are by now.
    pub fn members(&self) -> &[RedisServer] {
        &self.members
    }

    /// `127.0.0.1:port` of each member.
    pub fn addresses(&self) -> Vec<String> {
        self.members.iter().map(RedisServer::address).collect()
    }

    async fn id(&self, index: usize) -> String {
        ask(&mut self.members[index].connect().await, "CLUSTER MYID").await
    }

    /// The indices of the members that own slots, in the order of the slots.
    ///
    /// # Panics
    /// If no member knows.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn primaries(&self) -> Vec<usize> {
        let mut primaries = Vec::new();
        for (.., port, _) in self.shards().await {
            let index = self.index_of(port);
            if !primaries.contains(&index) {
                primaries.push(index);
            }
        }
        primaries
    }

    /// The slot of a name.
    ///
    /// # Panics
    /// If no member answers.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn slot_of(&self, name: &str) -> u16 {
        ask(&mut self.members[0].connect().await, &format!("CLUSTER KEYSLOT {name}")).await
    }

    /// The member that owns the slot of a name.
    ///
    /// # Panics
    /// If no member knows.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn owner_of(&self, name: &str) -> usize {
        let slot = self.slot_of(name).await;
        let shards = self.shards().await;
        let shard = shards.into_iter().find(|(first, last, ..)| (*first..=*last).contains(&slot));
        self.index_of(shard.expect("every slot has an owner").2)
    }

    /// A replica of a primary.
    ///
    /// # Panics
    /// If it has none.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn replica_of(&self, primary: usize) -> usize {
        let port = self.members[primary].port();
        let shards = self.shards().await;
        let shard = shards.into_iter().find(|(_, _, owner, replicas)| *owner == port && !replicas.is_empty());
        self.index_of(shard.expect("it has a replica").3[0])
    }

    fn index_of(&self, port: u16) -> usize {
        self.members.iter().position(|member| member.port() == port).expect("it is a member")
    }

    async fn shards(&self) -> Vec<Shard> {
        wait::until_some("a member that knows", async || {
            let known = join_all(self.members.iter().map(known)).await;
            known.into_iter().flatten().flatten().next()
        })
        .await
    }

    /// Waits until all members that answer find the Cluster well and agree on who owns what, and replicas follow.
    ///
    /// # Panics
    /// If that does not happen.
    ///
    /// # Cancel safety
    /// Dropping the future only stops the waiting.
    pub async fn settled(&self) {
        wait::until_some("the Cluster to settle", async || {
            wait::pause(STEP).await;
            let known = join_all(self.members.iter().map(known)).await;
            let known = known.into_iter().flatten().collect::<Option<Vec<_>>>()?;
            let (first, rest) = known.split_first()?;
            let slots: u16 = first.iter().map(|(first, last, ..)| last - first + 1).sum();
            let shards: HashMap<_, _> =
                first.iter().map(|(.., primary, replicas)| (primary, replicas)).collect();
            let members: usize = shards.values().map(|replicas| 1 + replicas.len()).sum();
            let is_settled =
                slots == SLOTS && members == known.len() && rest.iter().all(|shards| shards == first);
            is_settled.then_some(())
        })
        .await;
    }

    /// Makes a replica the primary in its primary's place, in an orderly way, and waits until it is.
    ///
    /// # Panics
    /// If that does not happen.
    ///
    /// # Cancel safety
    /// Dropping the future may leave it to happen.
    pub async fn failover(&self, replica: usize) {
        let mut connection = self.members[replica].connect().await;
        tell(&mut connection, "CLUSTER FAILOVER").await;
        wait::until_some("the replica to be the primary", async || {
            let role: Vec<redis::Value> = line("ROLE").query_async(&mut connection).await.ok()?;
            (role.first() == Some(&redis::Value::BulkString(b"master".to_vec()))).then_some(())
        })
        .await;
    }

    /// Says that a slot will be moved, and moves nothing yet.
    ///
    /// # Panics
    /// If a member refuses.
    ///
    /// # Cancel safety
    /// Dropping the future may leave one of the two told.
    pub async fn begin_to_move(&self, from: usize, to: usize, slot: u16) {
        let (source, target) = (self.id(from).await, self.id(to).await);
        tell(&mut self.members[to].connect().await, &format!("CLUSTER SETSLOT {slot} IMPORTING {source}"))
            .await;
        tell(&mut self.members[from].connect().await, &format!("CLUSTER SETSLOT {slot} MIGRATING {target}"))
            .await;
    }

    /// Moves slots to a primary, with what is in them, as an operator's tool does: names go over one by one, then the
    /// new owner is told, then the old one, then the other primaries.
    ///
    /// # Panics
    /// If a member refuses.
    ///
    /// # Cancel safety
    /// Dropping the future may leave a slot half moved.
    pub async fn move_slots(&self, from: usize, to: usize, slots: Range<u16>) {
        let owners = self.primaries().await;
        let mut others = Vec::new();
        for index in owners.into_iter().filter(|index| ![from, to].contains(index)) {
            others.push(self.members[index].connect().await);
        }
        let (mut source, mut target) = (self.members[from].connect().await, self.members[to].connect().await);
        let (from, to, port) = (self.id(from).await, self.id(to).await, self.members[to].port());
        for slot in slots {
            tell(&mut target, &format!("CLUSTER SETSLOT {slot} IMPORTING {from}")).await;
            tell(&mut source, &format!("CLUSTER SETSLOT {slot} MIGRATING {to}")).await;
            loop {
                let names: Vec<String> =
                    ask(&mut source, &format!("CLUSTER GETKEYSINSLOT {slot} {MOVED}")).await;
                if names.is_empty() {
                    break;
                }
                let mut migrate = line(&format!("MIGRATE 127.0.0.1 {port}"));
                migrate.arg("").arg(0).arg(5000);
                if let Some(password) = self.members[0].password() {
                    migrate.arg("AUTH").arg(password);
                }
                migrate.arg("KEYS").arg(names);
                migrate.exec_async(&mut source).await.expect("names go over");
            }
            let own = format!("CLUSTER SETSLOT {slot} NODE {to}");
            tell(&mut target, &own).await;
            // They may have heard of it already. A primary that has given its last slot away is one no more, and refuses.
            for other in std::iter::once(&mut source).chain(&mut others) {
                line(&own).exec_async(other).await.ok();
            }
        }
    }
}

impl fmt::Debug for RedisCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisCluster").field(&self.members).finish()
    }
}

/// What a member knows: nothing if it does not answer, and then nothing if it finds the Cluster down, or follows nobody.
async fn known(member: &RedisServer) -> Option<Option<Vec<Shard>>> {
    let asking = async {
        let mut connection = member.try_connect().await?;
        let info: String = line("CLUSTER INFO").query_async(&mut connection).await.ok()?;
        let following: String = line("INFO replication").query_async(&mut connection).await.ok()?;
        let ranges: Vec<redis::Value> = line("CLUSTER SLOTS").query_async(&mut connection).await.ok()?;
        let is_well = info.contains("cluster_state:ok") && !following.contains("master_link_status:down");
        Some(is_well.then_some(ranges))
    };
    let ranges = tokio::time::timeout(PATIENCE, asking).await.ok()??;
    Some(ranges.and_then(|ranges| {
        let mut shards = ranges.into_iter().map(shard).collect::<Option<Vec<_>>>()?;
        shards.sort_unstable();
        Some(shards)
    }))
}

fn shard(range: redis::Value) -> Option<Shard> {
    let mut fields = Vec::<redis::Value>::from_redis_value(range).ok()?.into_iter();
    let first = u16::from_redis_value(fields.next()?).ok()?;
    let last = u16::from_redis_value(fields.next()?).ok()?;
    let port = |server: redis::Value| {
        let port = Vec::<redis::Value>::from_redis_value(server).ok()?.into_iter().nth(1)?;
        u16::from_redis_value(port).ok()
    };
    let mut ports = fields.map(port).collect::<Option<Vec<_>>>()?;
    let primary = ports.remove(0);
    ports.sort_unstable();
    Some((first, last, primary, ports))
}

/// A command whose words hold no spaces.
pub(super) fn line(words: &str) -> Cmd {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().unwrap_or_default());
    command.arg(words.collect::<Vec<_>>());
    command
}

pub(super) async fn ask<T: FromRedisValue>(connection: &mut MultiplexedConnection, words: &str) -> T {
    let answer = line(words).query_async(connection).await;
    answer.unwrap_or_else(|error| panic!("`{words}` is refused: {error}"))
}

pub(super) async fn tell(connection: &mut MultiplexedConnection, words: &str) {
    ask::<()>(connection, words).await;
}
