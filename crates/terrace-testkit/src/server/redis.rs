//! A Redis server of one test's own.

use super::certificates::Certificates;
use super::process::Process;
use super::{free_port, skipped};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, TlsCertificates};
use rustix::process::Signal;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
const START_ATTEMPTS: u32 = 20;

/// What a server is besides a place for values.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Role {
    /// It is alone.
    #[default]
    Alone,
    /// A member of a Cluster, whose members speak with each other on another port.
    Member,
    /// It watches others, and holds no values.
    Sentinel,
}

/// How to start a server.
#[derive(Clone, Debug, Default)]
#[must_use = "a server that is not started serves nothing"]
pub struct RedisServerBuilder {
    pub(super) password: Option<String>,
    has_tls: bool,
    certificates: Option<Arc<Certificates>>,
    role: Role,
    arguments: Vec<OsString>,
}

impl RedisServerBuilder {
    /// Demands this password of the default user.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.setting("requirepass", password)
    }

    /// Adds an ACL user, as `name on >password ~* +@all`.
    pub fn acl(mut self, user: &str) -> Self {
        self.arguments.push("--user".into());
        self.arguments.extend(user.split(' ').map(OsString::from));
        self
    }

    /// Speaks TLS alone, with certificates of its own authority.
    pub fn tls(mut self) -> Self {
        self.has_tls = true;
        self
    }

    pub(super) fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// Makes the certificates that it and its like have in common, if it speaks TLS.
    pub(super) fn shared_certificates(mut self, folder: &Path) -> Self {
        self.certificates = self.has_tls.then(|| Arc::new(Certificates::write(folder)));
        self
    }

    pub(super) fn certificates_of(mut self, other: &Self) -> Self {
        (self.has_tls, self.certificates) = (other.has_tls, other.certificates.clone());
        self
    }

    /// Sets what the configuration file would: `maxmemory` to `3mb`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([format!("--{name}").into(), value.into()]);
        self
    }

    /// Starts the server and waits until it answers. `None`, with a line on the terminal, if none is installed.
    ///
    /// # Panics
    /// If an installed server does not start.
    ///
    /// # Cancel safety
    /// Dropping the future ends the server.
    pub async fn start(self) -> Option<RedisServer> {
        let Some(program) = PROGRAMS.into_iter().find(|program| find(program).is_some()) else {
            skipped("redis-server is not installed");
            return None;
        };
        let folder = TempDir::new().expect("a temporary folder");
        let own = || self.has_tls.then(|| Arc::new(Certificates::write(folder.path())));
        let certificates = self.certificates.clone().or_else(own);
        let ports = (0, 0);
        let mut server =
            RedisServer { options: self, program, certificates, folder, ports, process: Mutex::new(None) };
        for _ in 0..START_ATTEMPTS {
            server.ports = (free_port(), free_port());
            if server.try_start().await {
                return Some(server);
            }
        }
        panic!("{program} does not start; its log says: {}", server.log());
    }
}

/// A connection of somebody who does not know of terrace.
pub struct Plain(MultiplexedConnection);

impl Plain {
    /// Sends a command, and waits for its reply.
    ///
    /// # Panics
    /// If the server refuses it.
    ///
    /// # Cancel safety
    /// A command that was sent is executed.
    pub async fn run(&mut self, words: &[&str]) {
        let mut command = redis::cmd(words[0]);
        let done = command.arg(&words[1..]).exec_async(&mut self.0).await;
        done.unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain")
    }
}

/// A server process of one test's own. It ends when this value is dropped.
pub struct RedisServer {
    options: RedisServerBuilder,
    program: &'static str,
    certificates: Option<Arc<Certificates>>,
    folder: TempDir,
    /// That for clients, and that for other members of a Cluster.
    ports: (u16, u16),
    process: Mutex<Option<Process>>,
}

impl RedisServer {
    /// A server to be started otherwise than plainly.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }

    /// Starts a plain server. `None`, with a line on the terminal, if none is installed.
    ///
    /// # Panics
    /// If an installed server does not start.
    ///
    /// # Cancel safety
    /// Dropping the future ends the server.
    pub async fn start() -> Option<Self> {
        Self::builder().start().await
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.ports.0
    }

    pub(super) fn member_port(&self) -> u16 {
        self.ports.1
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// Its URL, without credentials.
    pub fn url(&self) -> String {
        let scheme = if self.certificates.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port())
    }

    /// The file with the certificate that signed the server's.
    pub fn authority(&self) -> Option<&Path> {
        self.certificates.as_ref().map(|certificates| certificates.authority.as_path())
    }

    /// A file with a root certificate that signed nothing of the server's.
    pub fn stranger(&self) -> Option<&Path> {
        self.certificates.as_ref().map(|certificates| certificates.stranger.as_path())
    }

    /// Ends the process at once, as a crash does (SIGKILL), and waits until it is gone.
    pub fn kill(&self) {
        drop(self.process.lock().take());
    }

    /// Starts it again on the same port, with nothing in it. Kills it first if it runs.
    ///
    /// # Panics
    /// If it does not start.
    ///
    /// # Cancel safety
    /// Dropping the future may leave it killed.
    pub async fn restart(&self) {
        self.kill();
        std::fs::remove_file(self.folder.path().join("dump.rdb")).ok();
        self.restart_as_it_is().await;
    }

    async fn restart_as_it_is(&self) {
        self.kill();
        for _ in 0..START_ATTEMPTS {
            if self.try_start().await {
                return;
            }
        }
        panic!("{} does not start again; its log says: {}", self.program, self.log());
    }

    /// Kills it and starts it again on the same port, with what it saved last (`SAVE`), which it reads although it is told to
    /// save nothing by itself.
    ///
    /// # Panics
    /// If it does not start.
    ///
    /// # Cancel safety
    /// Dropping the future may leave it killed.
    pub async fn restart_with_dump(&self) {
        self.restart_as_it_is().await;
    }

    /// Halts the process (SIGSTOP): its sockets stay open and nobody answers.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a halted process go on (SIGCONT).
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &mut *self.process.lock() {
            process.signal(signal);
        }
    }

    /// Runs `redis-cli` against it, as the default user, and returns what it prints.
    ///
    /// # Panics
    /// If `redis-cli` cannot be run.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the command to itself.
    pub async fn cli(&self, arguments: &[&str]) -> String {
        let program = self.program.replace("server", "cli");
        let mut command = tokio::process::Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &self.port().to_string()]);
        if let Some(certificates) = &self.certificates {
            command.arg("--tls").arg("--cacert").arg(&certificates.authority);
        }
        if let Some(password) = &self.options.password {
            command.env("REDISCLI_AUTH", password);
        }
        let output = command.args(arguments).output().await.expect("redis-cli comes with the server");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn arguments(&self) -> Vec<OsString> {
        let port = OsString::from(self.port().to_string());
        let mut arguments: Vec<OsString> = Vec::new();
        if self.options.role == Role::Sentinel {
            // It writes what it learns into a file of its own, and refuses to start without one.
            let file = self.folder.path().join("sentinel.conf");
            std::fs::write(&file, "sentinel resolve-hostnames no\n").expect("the folder is ours");
            arguments.extend([file.into(), "--sentinel".into()]);
        } else {
            arguments.extend(["--save", "", "--appendonly", "no"].map(Into::into));
        }
        arguments.extend(["--bind", "127.0.0.1"].map(Into::into));
        arguments.extend([
            "--dir".into(),
            self.folder.path().into(),
            "--logfile".into(),
            self.log_file().into(),
        ]);
        match &self.certificates {
            None => arguments.extend(["--port".into(), port]),
            Some(files) => {
                arguments.extend(["--port".into(), "0".into(), "--tls-port".into(), port]);
                arguments.extend(["--tls-auth-clients".into(), "no".into()]);
                arguments.extend(["--tls-replication".into(), "yes".into()]);
                arguments.extend(["--tls-ca-cert-file".into(), files.authority.clone().into()]);
                arguments.extend(["--tls-cert-file".into(), files.certificate.clone().into()]);
                arguments.extend(["--tls-key-file".into(), files.key.clone().into()]);
            }
        }
        if self.options.role == Role::Member {
            let member_port = self.member_port().to_string();
            arguments.extend(["--cluster-enabled", "yes", "--cluster-port", &member_port].map(Into::into));
            if self.certificates.is_some() {
                arguments.extend(["--tls-cluster", "yes"].map(Into::into));
            }
        }
        arguments.extend(self.options.arguments.iter().cloned());
        arguments
    }

    pub(super) fn password(&self) -> Option<&str> {
        self.options.password.as_deref()
    }

    /// A connection to it, as the default user.
    ///
    /// # Panics
    /// If it does not answer.
    ///
    /// # Cancel safety
    /// Dropping the future opens nothing.
    pub async fn connect(&self) -> MultiplexedConnection {
        crate::wait::until_some("a connection", async || self.try_connect().await).await
    }

    /// A connection of somebody who does not know of terrace, as the default user.
    ///
    /// # Panics
    /// If it does not answer.
    ///
    /// # Cancel safety
    /// Dropping the future opens nothing.
    pub async fn plain(&self) -> Plain {
        Plain(self.connect().await)
    }

    pub(super) async fn try_connect(&self) -> Option<MultiplexedConnection> {
        let (host, port) = ("127.0.0.1".to_owned(), self.port());
        let address = if self.certificates.is_some() {
            // Only fails if somebody else was faster, which serves as well.
            rustls::crypto::ring::default_provider().install_default().ok();
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let mut login = redis::RedisConnectionInfo::default();
        if let Some(password) = &self.options.password {
            login = login.set_password(password);
        }
        let info = address.into_connection_info().expect("an address is turned into itself");
        let info = info.set_redis_settings(login);
        let client = match &self.certificates {
            None => Client::open(info),
            Some(files) => {
                let root_cert = std::fs::read(&files.authority).ok();
                Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
            }
        };
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(crate::wait::DEADLINE));
        let client = client.expect("the settings are right");
        client.get_multiplexed_async_connection_with_config(&config).await.ok()
    }

    /// Starts the process and waits for it to be ready. False if it ends instead, as it does when somebody else has
    /// taken the port in the meantime.
    async fn try_start(&self) -> bool {
        std::fs::remove_file(self.log_file()).ok();
        *self.process.lock() = Some(Process::start(self.program, &self.arguments()));
        let ask = async || {
            let log = self.log();
            if ["Ready to accept connections", "Sentinel ID is"].iter().any(|words| log.contains(words)) {
                return Some(true);
            }
            let has_ended = self.process.lock().as_mut().is_none_or(Process::has_ended);
            has_ended.then_some(false)
        };
        let is_ready = crate::wait::until_some("the server to be ready", ask).await;
        if !is_ready {
            crate::wait::pause(Duration::from_millis(20)).await;
        }
        is_ready
    }
}

impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisServer({})", self.address())
    }
}

/// A port that is free now. Somebody may take it before it is used; then the start fails and is tried again.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
