//! Real servers beside a task: Redis and PostgreSQL on free ports of 127.0.0.1, in a temporary folder.
//!
//! 1. A server is handed out only when it has answered in its own protocol.
//! 2. Dropping a server ends it; the folder goes last. Killing this process with SIGKILL ends them too (see `process`).
//! 3. Nothing is found or stopped by name or by port: only by the number of the child that was started here.
//!
//! Deliberately absent: servers that were running before, fixed ports, anything reachable from another machine.

pub mod postgres;
pub mod redis;

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tempfile::TempDir;

use crate::process::{Group, Stop, run, tied, wait_for};
use postgres::Postgres;
use redis::Redis;

/// How long a server may take until it answers.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// How long one attempt to talk to a server may take.
const TALK_WITHIN: Duration = Duration::from_secs(2);
/// How often a server is started anew because its port was taken between our look and its start.
const ATTEMPTS: usize = 5;

/// A Redis and a PostgreSQL, both empty and private to this task.
#[derive(Debug)]
pub struct Servers {
    /// The Redis server.
    pub redis: Redis,
    /// The PostgreSQL server.
    pub postgres: Postgres,
    _folder: TempDir,
}

impl Servers {
    /// Starts both and waits until both answer.
    ///
    /// # Errors
    /// When one is not installed or does not come up (with the end of its log), or after a request to stop.
    pub fn start(stop: &Stop) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("terrace-servers-").tempdir()?;
        let redis = Redis::start(folder.path(), stop)?;
        let postgres = Postgres::start(folder.path(), stop)?;
        eprintln!("servers: {} and {}", redis.url(), postgres.url());
        Ok(Self { redis, postgres, _folder: folder })
    }

    /// Tells `command` the addresses.
    pub fn export(&self, command: &mut Command) {
        command.env("TERRACE_TEST_REDIS_URL", self.redis.url());
        command.env("TERRACE_TEST_POSTGRES_URL", self.postgres.url());
    }
}

/// Runs `command` beside fresh servers.
///
/// # Errors
/// When the servers cannot be installed or started, or the command fails.
pub fn run_beside(command: &[OsString], stop: &Stop) -> Result<()> {
    crate::install::servers(stop)?;
    let servers = Servers::start(stop)?;
    let (program, arguments) = command.split_first().context("no command was given")?;
    let mut command = tied(program, "TERM", None);
    command.args(arguments);
    servers.export(&mut command);
    run(&mut command, stop)
}

/// Starts a server by `launch` and waits until `answers` agrees, with another port if the server ends at once.
fn start_on_free_port(
    name: &str,
    log: &Path,
    stop: &Stop,
    launch: impl Fn(u16) -> Result<Group>,
    answers: fn(SocketAddr) -> bool,
) -> Result<(Group, u16)> {
    let mut last = anyhow!("{name} was not tried");
    for _ in 0..ATTEMPTS {
        let port = free_port()?;
        match start_on(name, port, stop, &launch, answers) {
            Ok(group) => return Ok((group, port)),
            Err(error) => last = error,
        }
        stop.check()?;
    }
    Err(last.context(format!("the end of {name}'s log:\n{}", tail(log))))
}

/// Starts a server on `port` and waits until it answers.
fn start_on(
    name: &str,
    port: u16,
    stop: &Stop,
    launch: impl Fn(u16) -> Result<Group>,
    answers: fn(SocketAddr) -> bool,
) -> Result<Group> {
    let mut group = launch(port)?;
    wait_for(&format!("{name} answering on port {port}"), READY_WITHIN, stop, || {
        if let Some(status) = group.ended()? {
            return Err(anyhow!("{name} ended at once ({status})"));
        }
        Ok(answers(address(port)).then_some(()))
    })?;
    Ok(group)
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(address(0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// Sends `question` and returns the first bytes of the answer; `None` when there is none yet.
fn ask<const N: usize>(server: SocketAddr, question: &[u8]) -> Option<[u8; N]> {
    let mut stream = TcpStream::connect_timeout(&server, TALK_WITHIN).ok()?;
    stream.set_read_timeout(Some(TALK_WITHIN)).ok()?;
    stream.write_all(question).ok()?;
    let mut answer = [0; N];
    stream.read_exact(&mut answer).ok()?;
    Some(answer)
}

/// The last lines of a log, for an error message.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
