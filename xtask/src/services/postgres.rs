//! One PostgreSQL server with a new cluster, made for speed and not for keeping.
//!
//! 1. It listens on 127.0.0.1 alone, has no socket file, and trusts whoever connects from there.
//! 2. PostgreSQL refuses to run as root: then it runs as the user `postgres`, who owns only the cluster's folder.
//!
//! Deliberately absent: durability (`fsync` is off).

use std::fs::{File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::{ask, start_on_free_port, tail};
use crate::process::{Group, Stop, is_executable, is_root, setpriv, success, tied};

const USER: &str = "postgres";
/// Who may connect: any user from this machine by TCP, nobody otherwise.
const ACCESS: &str = "host all all 127.0.0.1/32 trust\n";
const SETTINGS: [&str; 8] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_connections=200",
    "shared_buffers=64MB",
    "lc_messages=C",
];

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Postgres {
    _group: Group,
    port: u16,
}

impl Postgres {
    /// The folder with the server's programs, if they are installed: first on the search path, then where Debian has them.
    pub fn find() -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places: Vec<PathBuf> =
            std::env::split_paths(&path).map(|folder| folder.join("postgres")).collect();
        places.extend(packaged());
        // A link on the search path may lead to a folder that has the rest.
        let folders =
            places.iter().filter_map(|program| Some(program.canonicalize().ok()?.parent()?.to_owned()));
        folders
            .into_iter()
            .find(|folder| ["initdb", "postgres"].iter().all(|name| is_executable(&folder.join(name))))
    }

    /// Makes a cluster in `folder` and starts its server.
    ///
    /// # Errors
    /// When it is not installed or does not answer, or after a request to stop.
    pub fn start(folder: &Path, stop: &Stop) -> Result<Self> {
        let programs = Self::find().context("PostgreSQL (initdb and postgres) is not installed")?;
        let user = is_root().then_some(USER);
        ensure!(
            user.is_none() || setpriv().is_some(),
            "PostgreSQL refuses root and there is no setpriv (util-linux) to change the user: run this as another user"
        );
        let data = folder.join("postgres");
        let log = folder.join("postgres.log");
        own_folder(folder, &data, user)?;
        initialise(&programs, &data, &log, user, stop)?;
        let launch = |port| launch(&programs, &data, &log, user, port);
        let (group, port) = start_on_free_port("PostgreSQL", &log, stop, launch, is_ready)?;
        Ok(Self { _group: group, port })
    }

    /// The address as clients write it.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

/// Debian's places, the newest version first.
fn packaged() -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    versions.sort_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, folder)| folder.join("bin/postgres")).collect()
}

/// Makes the folder of the cluster, reachable for and owned by `user`.
fn own_folder(parent: &Path, data: &Path, user: Option<&str>) -> Result<()> {
    std::fs::create_dir(data)?;
    std::fs::set_permissions(data, Permissions::from_mode(0o700))?;
    if let Some(user) = user {
        std::fs::set_permissions(parent, Permissions::from_mode(0o711))?;
        let status =
            Command::new("chown").arg(format!("{user}:")).arg(data).status().context("cannot run chown")?;
        success(&format!("giving the cluster to the user {user}"), status)?;
    }
    Ok(())
}

fn initialise(programs: &Path, data: &Path, log: &Path, user: Option<&str>, stop: &Stop) -> Result<()> {
    let output = File::create(log)?;
    let mut command = tied(programs.join("initdb"), "TERM", user);
    command
        .args([
            "--username",
            USER,
            "--auth",
            "trust",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
            "--no-sync",
            "--pgdata",
        ])
        .arg(data)
        .current_dir(data)
        .stdout(output.try_clone()?)
        .stderr(output);
    let status = Group::start(&mut command, Signal::TERM)?.wait(stop)?;
    success("initdb", status).with_context(|| tail(log))?;
    std::fs::write(data.join("pg_hba.conf"), ACCESS).context("cannot write pg_hba.conf")
}

fn launch(programs: &Path, data: &Path, log: &Path, user: Option<&str>, port: u16) -> Result<Group> {
    let output = File::options().append(true).open(log)?;
    // SIGQUIT and SIGINT both end the whole server without waiting for its clients.
    let mut command = tied(programs.join("postgres"), "QUIT", user);
    command.arg("-D").arg(data).args(["-p", &port.to_string()]);
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    command.current_dir(data).stdout(output.try_clone()?).stderr(output);
    Group::start(&mut command, Signal::INT)
}

/// Sends what a client sends first; `R` (authentication) comes only when the server takes clients.
fn is_ready(server: SocketAddr) -> bool {
    const PROTOCOL: [u8; 4] = [0, 3, 0, 0];
    let body = [&PROTOCOL[..], b"user\0postgres\0database\0postgres\0\0"].concat();
    let length = u32::try_from(body.len() + 4).expect("the message is short");
    let message = [&length.to_be_bytes()[..], &body].concat();
    ask(server, &message) == Some(*b"R")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_server_is_gone() {
        if Postgres::find().is_none() {
            eprintln!("SKIP: PostgreSQL is not installed; `cargo xtask test` installs it");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let postgres = Postgres::start(folder.path(), &Stop::default()).unwrap();
        let server = super::super::address(postgres.port);
        assert!(is_ready(server));
        drop(postgres);
        assert!(!is_ready(server), "a dropped server answers");
    }
}
