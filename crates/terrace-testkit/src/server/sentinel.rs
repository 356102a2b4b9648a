//! A Redis primary of one test's own, with replicas, under the eyes of sentinels.

use super::cluster::{STEP, ask, line, tell};
use super::redis::{RedisServer, RedisServerBuilder, Role};
use crate::wait;
use futures_util::future::join_all;
use std::collections::HashMap;
use std::fmt;
use tempfile::TempDir;

const SERVERS: usize = 3;
const SENTINELS: usize = 3;
/// How many sentinels have to find that the primary is gone.
const QUORUM: usize = 2;
/// After how long a server that does not answer is taken for gone, in milliseconds.
const DOWN_AFTER: &str = "500";

/// Three servers, of which the first begins as the primary of the others, and three sentinels. They end when this value is
/// dropped.
pub struct RedisSentinel {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
    _certificates: TempDir,
}

impl RedisSentinel {
    /// The name by which the sentinels know the primary.
    pub const PRIMARY: &'static str = "main";

    /// Starts one. `None`, with a line on the terminal, if no server is installed.
    ///
    /// # Panics
    /// If it does not come up.
    ///
    /// # Cancel safety
    /// Dropping the future ends the servers.
    pub async fn start() -> Option<Self> {
        Self::start_with(RedisServer::builder(), RedisServer::builder()).await
    }

    /// Starts one whose servers and sentinels are like these. Either both speak TLS or none.
    ///
    /// # Panics
    /// If it does not come up.
    ///
    /// # Cancel safety
    /// Dropping the future ends the servers.
    pub async fn start_with(server: RedisServerBuilder, sentinel: RedisServerBuilder) -> Option<Self> {
        let folder = TempDir::new().expect("a temporary folder");
        let password = server.password.clone();
        let mut server = server.setting("repl-diskless-sync-delay", "0").shared_certificates(folder.path());
        if let Some(password) = &password {
            server = server.setting("masterauth", password);
        }
        let sentinel = sentinel.role(Role::Sentinel).certificates_of(&server);
        let servers = join_all((0..SERVERS).map(|_| server.clone().start())).await;
        let sentinels = join_all((0..SENTINELS).map(|_| sentinel.clone().start())).await;
        let servers = servers.into_iter().collect::<Option<Vec<_>>>()?;
        let sentinels = sentinels.into_iter().collect::<Option<Vec<_>>>()?;
        let made = Self { servers, sentinels, _certificates: folder };
        made.form(password.as_deref()).await;
        Some(made)
    }

    /// Makes the first server the primary, and has the sentinels watch it.
    async fn form(&self, password: Option<&str>) {
        let port = self.servers[0].port();
        for replica in &self.servers[1..] {
            tell(&mut replica.connect().await, &format!("REPLICAOF 127.0.0.1 {port}")).await;
        }
        self.followed(0).await;
        let name = Self::PRIMARY;
        for sentinel in &self.sentinels {
            let mut connection = sentinel.connect().await;
            tell(&mut connection, &format!("SENTINEL MONITOR {name} 127.0.0.1 {port} {QUORUM}")).await;
            let set =
                format!("SENTINEL SET {name} down-after-milliseconds {DOWN_AFTER} failover-timeout 3000");
            tell(&mut connection, &set).await;
            if let Some(password) = password {
                tell(&mut connection, &format!("SENTINEL SET {name} auth-pass {password}")).await;
            }
        }
        self.watched().await;
    }

    /// Waits until a server has all others that answer as its replicas.
    async fn followed(&self, primary: usize) {
        let mut connection = self.servers[primary].connect().await;
        let alive =
            join_all(self.servers.iter().map(RedisServer::try_connect)).await.into_iter().flatten().count();
        wait::until_some("replicas to follow", async || {
            wait::pause(STEP).await;
            let info: String = line("INFO replication").query_async(&mut connection).await.ok()?;
            (info.matches("state=online").count() + 1 == alive).then_some(())
        })
        .await;
    }

    /// Waits until the sentinels know each other and the replicas.
    async fn watched(&self) {
        wait::until_some("sentinels to know each other", async || {
            wait::pause(STEP).await;
            for sentinel in &self.sentinels {
                let mut connection = sentinel.try_connect().await?;
                let known: HashMap<String, String> = line(&format!("SENTINEL MASTER {}", Self::PRIMARY))
                    .query_async(&mut connection)
                    .await
                    .ok()?;
                let count = |field: &str| known.get(field)?.parse::<usize>().ok();
                if count("num-other-sentinels")? + 1 < SENTINELS || count("num-slaves")? + 1 < SERVERS {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// The servers with values, whatever they are by now.
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// The sentinels.
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// `127.0.0.1:port` of each sentinel.
    pub fn addresses(&self) -> Vec<String> {
        self.sentinels.iter().map(RedisServer::address).collect()
    }

    /// The index of the primary, as the first sentinel that answers sees it.
    ///
    /// # Panics
    /// If none answers.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn primary(&self) -> usize {
        let asking = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {}", Self::PRIMARY);
        let port = wait::until_some("a sentinel that answers", async || {
            for sentinel in &self.sentinels {
                if let Some(mut connection) = sentinel.try_connect().await {
                    let address: (String, u16) = ask(&mut connection, &asking).await;
                    return Some(address.1);
                }
            }
            None
        })
        .await;
        self.servers.iter().position(|server| server.port() == port).expect("it is one of the servers")
    }

    /// Has the sentinels elect another primary, and waits until they have.
    ///
    /// # Panics
    /// If that does not happen.
    ///
    /// # Cancel safety
    /// Dropping the future may leave it to happen.
    pub async fn failover(&self) {
        let before = self.primary().await;
        let asking = format!("SENTINEL FAILOVER {}", Self::PRIMARY);
        let mut connection = self.sentinels[0].connect().await;
        wait::until_some("the failover to begin", async || {
            line(&asking).exec_async(&mut connection).await.ok()
        })
        .await;
        self.replaced(before).await;
    }

    /// Waits until the sentinels name another primary than this, and it takes changes.
    ///
    /// # Panics
    /// If that does not happen.
    ///
    /// # Cancel safety
    /// Dropping the future only stops the waiting.
    pub async fn replaced(&self, before: usize) {
        wait::until_some("another primary", async || {
            wait::pause(STEP).await;
            let primary = self.primary().await;
            if primary == before {
                return None;
            }
            let mut connection = self.servers[primary].try_connect().await?;
            let role: Vec<redis::Value> = line("ROLE").query_async(&mut connection).await.ok()?;
            (role.first() == Some(&redis::Value::BulkString(b"master".to_vec()))).then_some(())
        })
        .await;
    }
}

impl fmt::Debug for RedisSentinel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSentinel")
            .field("servers", &self.servers)
            .field("sentinels", &self.sentinels)
            .finish_non_exhaustive()
    }
}
