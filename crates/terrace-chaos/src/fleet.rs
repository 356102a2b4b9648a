//! Real processes: nodes of the built program, the server between them, and the road of each node to it.
//!
//! 1. Every process ends with the fleet, and at the latest with this process.
//! 2. A node that is killed comes back on another port, as another life: what it had acknowledged for itself alone is
//!    gone with the life before.
//! 3. What varies with the topology of the server is said by [`Backing`] alone.

use crate::origin::Origin;
use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use terrace_testkit::server::{Process, Proxy, RedisCluster, RedisSentinel, RedisServer};
use terrace_testkit::wait::until_some;

/// What a fleet runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topology {
    /// One server.
    Single,
    /// A primary and two replicas, watched by three sentinels.
    Sentinel,
    /// Three primaries with a replica each.
    Cluster,
}

/// How a fleet is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The built program.
    pub program: PathBuf,
    /// What it runs on.
    pub topology: Topology,
    /// How many nodes there are.
    pub nodes: usize,
    /// How old a copy may be that counts as fresh (`staleness_max`).
    pub lease: Duration,
    /// How long a load of `slow:` keys takes.
    pub slow_load: Duration,
    /// How long a node waits for the server.
    pub l2_timeout: Duration,
    /// How long a read may wait for the server, with all its calls.
    pub l2_wait_max: Duration,
    /// How long a client of a node waits for it.
    pub request_timeout: Duration,
    /// Rows of the origin.
    pub rows: u32,
}

impl Settings {
    /// Four nodes with the default lease.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            topology: Topology::Single,
            nodes: 4,
            lease: Duration::from_secs(1),
            slow_load: Duration::from_millis(500),
            l2_timeout: Duration::from_millis(500),
            l2_wait_max: Duration::from_millis(250),
            request_timeout: Duration::from_secs(5),
            rows: 10_000,
        }
    }

    /// Of a fleet that gives nothing up because its machine is busy.
    #[must_use]
    pub fn patient(self) -> Self {
        let long = Duration::from_secs(20);
        Self { l2_timeout: long, l2_wait_max: long, request_timeout: Duration::from_secs(25), ..self }
    }
}

/// The server behind the fleet.
#[derive(Debug)]
pub(crate) enum Backing {
    /// One server, with a road from each node that can be made bad.
    Single {
        server: RedisServer,
        roads: Vec<Proxy>,
    },
    Sentinel(RedisSentinel),
    Cluster(RedisCluster),
}

impl Backing {
    /// `None`, with a line on the terminal, if no server is installed.
    async fn start(settings: &Settings) -> Option<Self> {
        match settings.topology {
            Topology::Single => {
                let server = RedisServer::start().await?;
                let mut roads = Vec::new();
                for _ in 0..settings.nodes {
                    roads.push(Proxy::start(server.port()).await);
                }
                Some(Self::Single { server, roads })
            }
            Topology::Sentinel => {
                let server = RedisServer::builder().setting("min-replicas-to-write", "1");
                let server = server.setting("min-replicas-max-lag", "1");
                RedisSentinel::start_with(server, RedisServer::builder()).await.map(Self::Sentinel)
            }
            Topology::Cluster => RedisCluster::start().await.map(Self::Cluster),
        }
    }

    /// Where a node finds the server.
    fn url(&self, node: usize) -> String {
        match self {
            Self::Single { roads, .. } => format!("redis://{}", roads[node].address()),
            Self::Sentinel(sentinel) => {
                format!("redis+sentinel://{}/{}", sentinel.addresses().join(","), RedisSentinel::PRIMARY)
            }
            Self::Cluster(cluster) => format!("redis+cluster://{}", cluster.addresses().join(",")),
        }
    }

    /// All servers that hold values.
    pub(crate) fn servers(&self) -> &[RedisServer] {
        match self {
            Self::Single { server, .. } => std::slice::from_ref(server),
            Self::Sentinel(sentinel) => sentinel.servers(),
            Self::Cluster(cluster) => cluster.members(),
        }
    }

    /// A server that takes changes.
    pub(crate) async fn primary(&self) -> &RedisServer {
        match self {
            Self::Single { server, .. } => server,
            Self::Sentinel(sentinel) => &sentinel.servers()[sentinel.primary().await],
            Self::Cluster(cluster) => &cluster.members()[cluster.primaries().await[0]],
        }
    }

    /// Has a replica take the place of a primary; nothing where there is none.
    pub(crate) async fn failover(&self) {
        match self {
            Self::Single { .. } => {}
            Self::Sentinel(sentinel) => sentinel.failover().await,
            Self::Cluster(cluster) => {
                let primary = cluster.primaries().await[0];
                cluster.failover(cluster.replica_of(primary).await).await;
            }
        }
    }

    /// Waits until all servers know each other again.
    pub(crate) async fn settled(&self) {
        if let Self::Cluster(cluster) = self {
            cluster.settled().await;
        }
    }

    /// The roads from the nodes to the server; none where nodes find their own way.
    pub(crate) fn roads(&self) -> &[Proxy] {
        match self {
            Self::Single { roads, .. } => roads,
            Self::Sentinel(_) | Self::Cluster(_) => &[],
        }
    }
}

/// Where a node is, and since when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Life {
    /// Counted from one.
    pub(crate) number: u32,
    pub(crate) address: SocketAddr,
}

/// One process of the program.
#[derive(Debug)]
pub(crate) struct Node {
    index: usize,
    process: Mutex<Option<Process>>,
    life: Mutex<Life>,
}

impl Node {
    pub(crate) fn life(&self) -> Life {
        *self.life.lock()
    }

    /// Ends it at once (SIGKILL).
    pub(crate) fn kill(&self) {
        drop(self.process.lock().take());
    }

    /// Halts it (SIGSTOP).
    pub(crate) fn halt(&self) {
        if let Some(process) = &mut *self.process.lock() {
            process.halt();
        }
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn go_on(&self) {
        if let Some(process) = &mut *self.process.lock() {
            process.go_on();
        }
    }

    /// Memory that it holds, in KiB, now and at most so far.
    pub(crate) fn resident_kib(&self) -> (u64, u64) {
        let id = self.process.lock().as_ref().map(Process::id).unwrap_or_default();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        (field("VmRSS:").unwrap_or(0), field("VmHWM:").unwrap_or(0))
    }
}

/// Nodes, server and origin.
#[derive(Debug)]
pub struct Fleet {
    pub(crate) settings: Settings,
    pub(crate) origin: Origin,
    pub(crate) backing: Backing,
    pub(crate) nodes: Vec<Node>,
    folder: TempDir,
}

impl Fleet {
    /// Starts everything. `None`, with a line on the terminal, if no server is installed.
    ///
    /// # Errors
    /// If the program does not start, or the origin cannot be written.
    ///
    /// # Cancel safety
    /// Dropping the future ends what was started.
    pub async fn start(settings: Settings) -> Result<Option<Self>> {
        let Some(backing) = Backing::start(&settings).await else { return Ok(None) };
        let folder = TempDir::new().context("cannot make a temporary folder")?;
        let origin = Origin::create(folder.path(), settings.rows)?;
        let mut fleet = Self { settings, origin, backing, nodes: Vec::new(), folder };
        for index in 0..fleet.settings.nodes {
            std::fs::write(fleet.config(index), fleet.toml(index)?)?;
            let (process, address) = fleet.launch(index, 1).await?;
            let life = Mutex::new(Life { number: 1, address });
            fleet.nodes.push(Node { index, process: Mutex::new(Some(process)), life });
        }
        Ok(Some(fleet))
    }

    /// Whether it runs on one server, so that messages can be lost on their way.
    pub fn is_single(&self) -> bool {
        self.settings.topology == Topology::Single
    }

    /// Starts a node that was killed.
    pub(crate) async fn revive(&self, node: &Node) -> Result<()> {
        let number = node.life().number + 1;
        let (process, address) = self.launch(node.index, number).await?;
        *node.process.lock() = Some(process);
        *node.life.lock() = Life { number, address };
        Ok(())
    }

    fn config(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("node-{node}.toml"))
    }

    fn toml(&self, node: usize) -> Result<String> {
        let file = serde_json::to_string(&self.origin.file().to_string_lossy())?;
        let Settings { lease, slow_load, l2_timeout, l2_wait_max, request_timeout, .. } = &self.settings;
        let (lease, slow, load) = (lease.as_millis(), slow_load.as_millis(), Origin::LOAD);
        let (answer, wait, request) =
            (l2_timeout.as_millis(), l2_wait_max.as_millis(), request_timeout.as_millis());
        let url = self.backing.url(node);
        Ok(format!(
            "[server]\nrequest_timeout = \"{request}ms\"\n\
             [l1]\nmax_entries = 5000\nstaleness_max = \"{lease}ms\"\n\
             [l2]\nurl = \"{url}\"\nwait_max = \"{wait}ms\"\ntimeouts = {{ connect = \"1s\", read = \"{answer}ms\", write = \"{answer}ms\" }}\n\
             [defaults]\nttl = \"10m\"\n\
             [origin.db]\ntype = \"sqlite\"\nfile = {file}\n\
             [origin.slow]\ntype = \"sqlite\"\nfile = {file}\ndelay = \"{slow}ms\"\n\
             [keyspace.items]\npattern = \"item:{{id}}\"\nsource = {{ origin = \"db\", load = \"{load}\" }}\n\
             [keyspace.slow]\npattern = \"slow:{{id}}\"\nsource = {{ origin = \"slow\", load = \"{load}\" }}\n\
             [keyspace.groups]\npattern = \"group:{{*id}}\"\nstrategy = \"cache-aside\"\n\
             [metrics]\nenabled = true\n"
        ))
    }

    async fn launch(&self, node: usize, life: u32) -> Result<(Process, SocketAddr)> {
        let log = self.folder.path().join(format!("node-{node}.{life}.log"));
        let arguments = ["serve".into(), "-c".into(), self.config(node).into_os_string()];
        let arguments: Vec<OsString> =
            arguments.into_iter().chain(["--listen".into(), "127.0.0.1:0".into()]).collect();
        let mut process =
            Process::start_with(self.settings.program.as_os_str(), &arguments, &log, clear_environment);
        let address = until_some("a node to listen", async || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let address = listening_on(&text);
            (address.is_some() || process.has_ended()).then_some(address)
        });
        let address = address.await.with_context(|| {
            format!("node {node} does not start: {}", std::fs::read_to_string(&log).unwrap_or_default())
        })?;
        Ok((process, address))
    }

    /// What the nodes said last, for people.
    pub fn logs(&self) -> String {
        let files = std::fs::read_dir(self.folder.path()).into_iter().flatten().flatten();
        let mut logs: Vec<PathBuf> = files.map(|file| file.path()).filter(|path| is_log(path)).collect();
        logs.sort();
        let tail = |path: &PathBuf| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(20).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            format!("== {}\n{}\n", path.display(), lines.join("\n"))
        };
        logs.iter().map(tail).collect()
    }
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

/// The first address in what a node printed, once its line is complete.
fn listening_on(text: &str) -> Option<SocketAddr> {
    let (_, rest) = text.split_once("listening on http://")?;
    let end = rest.find([' ', ',', '\n', '\r'])?;
    rest[..end].trim_end_matches('/').parse().ok()
}

/// What the program reads from its environment is not for these nodes.
fn clear_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["TERRACE_", "CACHE_", "REDIS_", "METRICS_", "RUST_LOG"].iter().any(|ours| text.starts_with(ours))
        {
            command.env_remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_once_its_line_is_complete() {
        let address = "127.0.0.1:4711".parse().ok();
        assert_eq!(listening_on("x\nlistening on http://127.0.0.1:4711, with Redis\n"), address);
        assert_eq!(listening_on("listening on http://127.0.0.1:4711\n"), address);
        assert_eq!(listening_on("listening on http://127.0.0.1:47"), None);
    }
}
