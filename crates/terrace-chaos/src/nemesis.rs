//! What is done to the fleet while it works.
//!
//! 1. A fault begins and ends in `Fault::inflict`: when that returns, nothing is left of it but its consequences.
//! 2. Which node it meets, and what chance there is in it, comes from the seed.

use crate::dice::Dice;
use crate::fleet::{Backing, Topology};
use crate::world::World;
use anyhow::Result;
use std::time::Duration;
use terrace_testkit::server::{Proxy, Pushes, RedisServer, Road};
use terrace_testkit::wait::pause;

/// Between two strikes of a fault that lasts no time by itself.
const STRIKE_EVERY: Duration = Duration::from_millis(300);
/// The keyspaces of the load, and the one of all other keys: who invalidates a tag opens them all.
const NAMESPACES: u32 = 4;
/// How late everything is on a slow road.
const LATENCY: Duration = Duration::from_millis(200);

macro_rules! faults {
    ($($fault:ident $name:literal $what:literal),+ $(,)?) => {
        /// Something that goes wrong in operation.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Fault {
            $(#[doc = $what] $fault,)+
        }

        impl Fault {
            /// All of them, in the order in which they are told of.
            pub const ALL: &'static [Self] = &[$(Self::$fault,)+];

            /// What it is called.
            pub fn name(self) -> &'static str {
                match self { $(Self::$fault => $name,)+ }
            }

            /// What it is.
            pub fn what(self) -> &'static str {
                match self { $(Self::$fault => $what,)+ }
            }
        }
    };
}

faults! {
    Calm "calm" "Nothing.",
    KillNode "kill-node" "A node is killed and started anew.",
    HaltNode "halt-node" "A node is halted (SIGSTOP) and goes on later (T11).",
    KillRedis "kill-redis" "The server is killed and comes back empty (T1).",
    HaltRedis "halt-redis" "The server is halted (SIGSTOP) and goes on later.",
    Flush "flushall" "The server forgets everything, again and again (T14).",
    ForgetScripts "script-flush" "The server forgets its scripts, again and again (T14).",
    KillClients "client-kill" "The server ends all connections, again and again (T14).",
    KillListeners "client-kill-pubsub" "The server ends the connections that listen, again and again (T14).",
    SmallBuffers "output-buffer" "The server ends the connections of listeners that are a little behind (T16).",
    MemoryEvicting "maxmemory-lru" "The server evicts whatever was not used lately, counters and logs too (T13).",
    MemoryRefusing "maxmemory-noeviction" "The server has no memory left for writes (T13).",
    PauseClients "client-pause" "The server answers nobody for a while.",
    BlockRequests "blackhole-requests" "What one node sends does not arrive.",
    BlockReplies "blackhole-replies" "What the server sends to one node does not arrive.",
    HalfOpen "half-open" "Nothing passes between the nodes and the server, and connections stay open.",
    Latency "latency" "Everything between one node and the server is 200 ms late each way (T10).",
    Trickle "trickle" "The server's bytes reach one node one a second (T10).",
    CutRoads "cut" "The connections of one node end, again and again.",
    LosePushes "lose-pushes" "No message reaches any node, and connections stay open (T2).",
    Failover "failover" "A replica takes the place of its primary.",
    ThinPushes "thin-pushes" "One message of a hundred is lost on its way, and no beat (T3).",
}

/// Whom a fault met, and what it left behind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Met {
    pub(crate) words: String,
    /// Whether a server was replaced by another that may not know all that it had acknowledged.
    pub(crate) forgets: bool,
}

impl Met {
    fn one(words: String) -> Self {
        Self { words, forgets: false }
    }
}

impl Fault {
    /// Whether it can be done to a fleet on this.
    pub fn fits(self, topology: Topology) -> bool {
        match self {
            Self::BlockReplies
            | Self::BlockRequests
            | Self::CutRoads
            | Self::HalfOpen
            | Self::Latency
            | Self::LosePushes
            | Self::ThinPushes
            | Self::Trickle
            | Self::SmallBuffers
            | Self::MemoryEvicting
            | Self::MemoryRefusing => topology == Topology::Single,
            Self::Failover => topology != Topology::Single,
            _ => true,
        }
    }

    /// How old a fresh read may be. Single messages that are lost with nothing after them are found by their counters, which are
    /// read in 20 beats, of four a lease, of one namespace after the other.
    pub fn allowed(self, lease: Duration) -> Duration {
        if self == Self::ThinPushes { lease * (5 * NAMESPACES + 1) } else { lease }
    }

    /// Does it for a while.
    pub(crate) async fn inflict(self, world: &World, dice: &mut Dice, hold: Duration) -> Result<Met> {
        let victim = usize::try_from(dice.below(world.fleet.nodes.len() as u64))?;
        let (fleet, node, backing) = (&world.fleet, &world.fleet.nodes[victim], &world.fleet.backing);
        let met = Met::one(format!("node {victim}"));
        match self {
            Self::Calm => pause(hold).await,
            Self::KillNode => {
                node.kill();
                pause(hold).await;
                fleet.revive(node).await?;
                return Ok(met);
            }
            Self::HaltNode => {
                node.halt();
                pause(hold).await;
                node.go_on();
                return Ok(met);
            }
            Self::KillRedis | Self::HaltRedis | Self::Failover => return self.on_primary(world, hold).await,
            Self::Flush => strike(backing, hold, &["FLUSHALL"]).await,
            Self::ForgetScripts => strike(backing, hold, &["SCRIPT", "FLUSH"]).await,
            Self::KillClients => strike(backing, hold, &["CLIENT", "KILL", "TYPE", "normal"]).await,
            Self::KillListeners => strike(backing, hold, &["CLIENT", "KILL", "TYPE", "pubsub"]).await,
            Self::SmallBuffers => return Ok(Met::one(small_buffers(world, hold).await)),
            Self::MemoryEvicting | Self::MemoryRefusing => {
                return self.memory(backing.primary().await, hold).await.map(Met::one);
            }
            Self::PauseClients => {
                let millis = hold.as_millis().to_string();
                for server in backing.servers() {
                    server.cli(&["CLIENT", "PAUSE", &millis, "ALL"]).await;
                }
                pause(hold).await;
            }
            road => return Ok(Met::one(road.on_roads(world, victim, hold).await)),
        }
        Ok(Met::default())
    }

    /// What is done to a server that takes changes. A replica takes its place meanwhile, if it has one.
    async fn on_primary(self, world: &World, hold: Duration) -> Result<Met> {
        let backing = &world.fleet.backing;
        let has_replicas = backing.servers().len() > 1;
        let server = backing.primary().await;
        let met = format!("the server at {}", server.port());
        match self {
            Self::KillRedis => {
                server.kill();
                pause(hold).await;
                server.restart().await;
            }
            Self::HaltRedis => {
                server.stop();
                pause(hold).await;
                server.cont();
            }
            _ => {
                backing.failover().await;
                pause(hold).await;
            }
        }
        backing.settled().await;
        Ok(Met { words: met, forgets: has_replicas })
    }

    async fn memory(self, server: &RedisServer, hold: Duration) -> Result<String> {
        let (used, data) =
            (memory(server, "used_memory").await?, memory(server, "used_memory_dataset").await?);
        let (policy, limit) = match self {
            Self::MemoryEvicting => ("allkeys-lru", used - data / 2),
            _ => ("noeviction", used - used / 10),
        };
        let before = memory(server, "evicted_keys").await?;
        server.cli(&["CONFIG", "SET", "maxmemory-policy", policy]).await;
        server.cli(&["CONFIG", "SET", "maxmemory", &limit.to_string()]).await;
        pause(hold).await;
        let evicted = memory(server, "evicted_keys").await? - before;
        server.cli(&["CONFIG", "SET", "maxmemory", "0"]).await;
        Ok(format!("{} KiB of {} KiB, {evicted} evicted", limit >> 10, used >> 10))
    }

    async fn on_roads(self, world: &World, victim: usize, hold: Duration) -> String {
        let roads = world.fleet.backing.roads();
        let road = &roads[victim];
        let met = format!("node {victim}");
        match self {
            Self::BlockRequests => road.roads(Road::Blocked, Road::Open),
            Self::BlockReplies => road.roads(Road::Open, Road::Blocked),
            Self::Latency => road.roads(Road::Slow(LATENCY), Road::Slow(LATENCY)),
            Self::Trickle => road.roads(Road::Open, Road::Trickle),
            Self::HalfOpen => roads.iter().for_each(Proxy::block),
            Self::CutRoads => {
                repeat(hold, async || road.cut()).await;
                return met;
            }
            Self::LosePushes => return lose(world, Pushes::Lost, hold).await,
            _ => return lose(world, Pushes::Thinned(10), hold).await,
        }
        pause(hold).await;
        roads.iter().for_each(Proxy::unblock);
        if self == Self::HalfOpen { String::new() } else { met }
    }
}

/// Loses messages on all roads. Tells how many.
async fn lose(world: &World, pushes: Pushes, hold: Duration) -> String {
    let roads = world.fleet.backing.roads();
    let lost = || roads.iter().map(Proxy::lost).sum::<u64>();
    let before = lost();
    for road in roads {
        road.pushes(pushes);
    }
    pause(hold).await;
    for road in roads {
        road.pushes(Pushes::Pass);
    }
    format!("{} messages lost", lost() - before)
}

async fn strike(backing: &Backing, hold: Duration, command: &[&str]) {
    repeat(hold, async || {
        for server in backing.servers() {
            drop(server.cli(command).await);
        }
    })
    .await;
}

async fn repeat(hold: Duration, blow: impl AsyncFn()) {
    let mut left = hold;
    loop {
        blow().await;
        let step = left.min(STRIKE_EVERY);
        pause(step).await;
        left -= step;
        if left.is_zero() {
            return;
        }
    }
}

/// Bursts of messages that no node asked for, with next to no room for them.
async fn small_buffers(world: &World, hold: Duration) -> String {
    const BURST: &str = "for _, channel in ipairs(redis.call('PUBSUB', 'CHANNELS', '*:c')) do \
                         redis.call('PUBLISH', channel, string.rep('x', 512)) end return 0";
    let (server, roads) = (world.fleet.backing.primary().await, world.fleet.backing.roads());
    let connections = || roads.iter().map(Proxy::connections).sum::<u64>();
    let before = connections();
    server.cli(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 4096 4096 1"]).await;
    repeat(hold, async || drop(server.cli(&["EVAL", BURST, "0"]).await)).await;
    server.cli(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 33554432 8388608 60"]).await;
    format!("{} connections anew", connections() - before)
}

/// A figure that the server tells of itself.
async fn memory(server: &RedisServer, name: &str) -> Result<u64> {
    let text = server.cli(&["INFO", "everything"]).await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.map_or(Ok(0), |figure| figure.trim().parse())?)
}
