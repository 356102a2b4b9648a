//! One Redis or Valkey server that keeps nothing on disk.
//!
//! 1. It listens on 127.0.0.1 alone.
//! 2. After [`Redis::kill`] and [`Redis::start_again`] it is empty and has the same address.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::{ask, start_on, start_on_free_port};
use crate::process::{Group, Stop, on_path, tied};

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Redis {
    group: Group,
    port: u16,
    program: PathBuf,
    folder: PathBuf,
}

impl Redis {
    /// The server's program, if it is installed.
    pub fn find() -> Option<PathBuf> {
        on_path("redis-server").or_else(|| on_path("valkey-server"))
    }

    /// Starts a server whose files are in `folder`.
    ///
    /// # Errors
    /// When it is not installed or does not answer, or after a request to stop.
    pub fn start(folder: &Path, stop: &Stop) -> Result<Self> {
        let program = Self::find().context("redis-server is not installed")?;
        let log = log(folder);
        let (group, port) =
            start_on_free_port("Redis", &log, stop, |port| launch(&program, folder, port), is_ready)?;
        Ok(Self { group, port, program, folder: folder.to_owned() })
    }

    /// The address as clients write it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.group.id()
    }

    /// Ends it as a crash would. Its memory is lost.
    pub fn kill(&mut self) {
        self.group.kill();
    }

    /// Starts it anew on the port it had, empty.
    ///
    /// # Errors
    /// When somebody else took the port meanwhile, or after a request to stop.
    pub fn start_again(&mut self, stop: &Stop) -> Result<()> {
        self.group.kill();
        let launch = |port| launch(&self.program, &self.folder, port);
        self.group = start_on("Redis", self.port, stop, launch, is_ready)?;
        Ok(())
    }
}

fn log(folder: &Path) -> PathBuf {
    folder.join("redis.log")
}

fn launch(program: &Path, folder: &Path, port: u16) -> Result<Group> {
    let log = File::options().create(true).append(true).open(log(folder))?;
    let mut command = tied(program, "KILL", None);
    command
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"])
        .args(["--port", &port.to_string()])
        .arg("--dir")
        .arg(folder)
        .stdout(log.try_clone()?)
        .stderr(log);
    Group::start(&mut command, Signal::TERM)
}

fn is_ready(server: SocketAddr) -> bool {
    ask(server, b"PING\r\n") == Some(*b"+PONG\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_server_comes_back_at_the_same_address() {
        if Redis::find().is_none() {
            eprintln!("SKIP: redis-server is not installed; `cargo xtask test` installs it");
            return;
        }
        let (folder, stop) = (tempfile::tempdir().unwrap(), Stop::default());
        let mut redis = Redis::start(folder.path(), &stop).unwrap();
        let (url, first, server) = (redis.url(), redis.id(), super::super::address(redis.port));
        assert_eq!(ask(server, b"SET k v\r\n"), Some(*b"+OK\r\n"));
        redis.kill();
        assert!(!is_ready(server), "a killed server answers");
        redis.start_again(&stop).unwrap();
        assert_ne!(redis.id(), first);
        assert_eq!(redis.url(), url);
        assert_eq!(ask(server, b"EXISTS k\r\n"), Some(*b":0\r\n"), "memory survived a crash");
        drop(redis);
        assert!(!is_ready(server), "a dropped server answers");
    }
}
