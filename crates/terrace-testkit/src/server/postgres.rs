//! A PostgreSQL server of one test's own, which may be killed and started again.
//!
//! PostgreSQL refuses to run as root: then it runs as the user `postgres`, who owns the cluster's folder alone.

use super::certificates::Certificates;
use super::process::Process;
use super::{free_port, skipped};
use crate::wait::until;
use rustix::process::Signal;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const USER: &str = "postgres";

/// A PostgreSQL server of one test's own. It ends with this value.
#[derive(Debug)]
pub struct PostgresServer {
    process: Option<Process>,
    programs: PathBuf,
    port: u16,
    certificates: Certificates,
    folder: TempDir,
}

impl PostgresServer {
    /// Starts a server with a new cluster, that speaks TLS with a certificate for `localhost` and `127.0.0.1`, and takes clients without TLS
    /// where `needs_tls` is false. `None`, with a line on the terminal, if PostgreSQL is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(needs_tls: bool) -> Option<Self> {
        let Some(programs) = programs() else {
            skipped("PostgreSQL is not installed");
            return None;
        };
        let folder = TempDir::new().expect("a temporary folder");
        let certificates = Certificates::write(folder.path());
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("the folder is ours");
        let certificate = data.join("server.pem");
        let key = data.join("server.key");
        let initialise =
            ["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync", "-D"];
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
        };
        mode(folder.path(), 0o755);
        own(&data);
        let made = as_user(&programs.join("initdb")).args(initialise).arg(&data).current_dir(&data).output();
        let made = made.expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::copy(&certificates.certificate, &certificate).expect("a copy");
        std::fs::copy(&certificates.key, &key).expect("a copy");
        mode(&key, 0o600);
        let kind = if needs_tls { "hostssl" } else { "host" };
        std::fs::write(data.join("pg_hba.conf"), format!("{kind} all all 127.0.0.1/32 trust\n"))
            .expect("written");
        own(&data);
        let mut server = Self { process: None, programs, port: free_port(), certificates, folder };
        server.start_again().await;
        Some(server)
    }

    /// Its URL; whether by TLS, and how its certificate is looked at, a caller adds.
    pub fn url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/postgres", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The root that signed its certificate, and one that did not.
    pub fn roots(&self) -> (&Path, &Path) {
        (&self.certificates.authority, &self.certificates.stranger)
    }

    /// Ends it as a crash does, clients or not.
    ///
    /// # Panics
    /// If it goes on.
    pub async fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        process.signal(Signal::QUIT);
        until("the end of PostgreSQL", || process.has_ended()).await;
    }

    /// Starts it again, with what it had.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start_again(&mut self) {
        let data = self.folder.path().join("data");
        let log = self.folder.path().join("postgres.log");
        let port = self.port.to_string();
        let mut arguments: Vec<OsString> = vec!["-D".into(), data.clone().into(), "-p".into(), port.into()];
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "ssl=on",
            "ssl_cert_file=server.pem",
            "ssl_key_file=server.key",
            "shared_buffers=16MB",
        ] {
            arguments.extend(["-c".into(), setting.into()]);
        }
        let command = as_user(&self.programs.join("postgres"));
        let program = command.get_program().to_owned();
        let before: Vec<OsString> = command.get_args().map(ToOwned::to_owned).collect();
        let arguments = [before, arguments].concat();
        let started = Process::start_with(&program, &arguments, &log, |command| {
            command.current_dir(&data);
        });
        let process = self.process.insert(started);
        let port = self.port;
        until("PostgreSQL", || {
            let log = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(!process.has_ended(), "it does not start: {}", log());
            is_ready(port)
        })
        .await;
    }
}

/// Whether it takes clients: it says with `R`, or with an error about TLS that is the server's word, that it has read the first message.
fn is_ready(port: u16) -> bool {
    let body = [&[0, 3, 0, 0][..], b"user\0postgres\0database\0postgres\0\0"].concat();
    let length = u32::try_from(body.len() + 4).expect("the message is short");
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(&[&length.to_be_bytes()[..], &body].concat())?;
        let mut answer = vec![0; 512];
        let read = stream.read(&mut answer)?;
        answer.truncate(read);
        Ok(answer)
    };
    let is_refusal = |answer: &[u8]| answer.windows(6).any(|part| part == b"C28000");
    ask().is_ok_and(|answer| answer.first() == Some(&b'R') || is_refusal(&answer))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn as_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]).arg(program);
    command
}

fn own(folder: &Path) {
    if is_root() {
        let owned = Command::new("chown").arg("-R").arg(format!("{USER}:")).arg(folder).status();
        assert!(owned.is_ok_and(|status| status.success()), "chown runs");
    }
}

/// The folder with its programs: where they are on the search path, or where Debian has them, the newest first.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = packaged
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    versions.sort_by(|a, b| b.cmp(a));
    folders.extend(versions.into_iter().map(|(_, folder)| folder.join("bin")));
    folders.into_iter().find(|folder| ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file()))
}
