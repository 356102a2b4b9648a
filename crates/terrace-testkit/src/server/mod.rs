//! Real servers for tests.
//!
//! | item | is |
//! |---|---|
//! | [`RedisServer`] | a server of one test's own: it may be killed, stopped, filled up |
//! | [`RedisCluster`] | a Cluster of one test's own: three primaries, three replicas |
//! | [`RedisSentinel`] | a primary, two replicas and three sentinels of one test's own |
//! | [`PostgresServer`] | a server of one test's own, with TLS: it may be killed |
//! | [`redis_url`], [`postgres_url`] | a server that many tests share, each under a prefix of its own |
//! | [`Proxy`] | a road to a server that counts round trips and can be made as bad as roads get |
//! | [`Process`] | any other program, which ends with its test as well |
//!
//! 1. Servers listen on loopback, on a port that was free, and keep their files in a temporary folder.
//! 2. A server ends with the value that stands for it, and at the latest with this process, however that ends.

mod certificates;
mod cluster;
mod postgres;
mod process;
mod proxy;
mod redis;
mod resp;
mod sentinel;

pub use cluster::RedisCluster;
pub use postgres::PostgresServer;
pub use process::Process;
pub use proxy::{Proxy, Pushes, Road};
pub use redis::{Plain, RedisServer, RedisServerBuilder};
pub use sentinel::RedisSentinel;

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::OnceCell;

/// The environment variable with the URL of a Redis server that tests may share.
pub const REDIS_URL_VARIABLE: &str = "TERRACE_TEST_REDIS_URL";
/// The environment variable with the URL of a PostgreSQL server that tests may share.
pub const POSTGRES_URL_VARIABLE: &str = "TERRACE_TEST_POSTGRES_URL";

/// The URL of a Redis server that tests may share: that of the environment, or of one that is started for this
/// process. `None`, with a line on the terminal, if there is neither.
///
/// Tests that share it need a [`unique_prefix`] each, and must not flush it.
///
/// # Cancel safety
/// Dropping the future may end a server that was being started; the next call starts another.
pub async fn redis_url() -> Option<String> {
    static SHARED: OnceCell<Option<RedisServer>> = OnceCell::const_new();
    if let Some(url) = from_environment(REDIS_URL_VARIABLE) {
        return Some(url);
    }
    SHARED.get_or_init(RedisServer::start).await.as_ref().map(RedisServer::url)
}

/// The URL of a PostgreSQL server that tests may share, from the environment. `None`, with a line on the terminal,
/// if it is not set.
pub fn postgres_url() -> Option<String> {
    let url = from_environment(POSTGRES_URL_VARIABLE);
    if url.is_none() {
        skipped(&format!("{POSTGRES_URL_VARIABLE} is not set"));
    }
    url
}

fn from_environment(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|url| !url.is_empty())
}

/// A prefix for keys that no other test has, in this process or another.
pub fn unique_prefix() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let chance = getrandom::u32().unwrap_or_default();
    format!("t{}-{count}-{chance:08x}:", std::process::id())
}

/// Tells people that a test does not test. Written to the terminal directly, past the capture of test output.
fn skipped(reason: &str) {
    writeln!(std::io::stderr(), "skipped: {reason}").ok();
}

fn free_port() -> u16 {
    let listener =
        std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}
