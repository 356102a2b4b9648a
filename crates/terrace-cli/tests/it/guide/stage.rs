//! What a page finds when it is run: servers, ports and names of its own.
//!
//! 1. A page speaks of the ports that a reader has: 4000 and 4001 of the service, 6379 of Redis, 5432 of PostgreSQL.
//!    Behind `127.0.0.1:` or `localhost:` they are replaced by the page's own, in commands, configurations and files `*.toml`;
//!    what is printed is turned back before it is compared.
//! 2. A page that speaks of Redis or PostgreSQL has a server, or a database, of its own, and is left out, visibly, where there is none.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use terrace_testkit::server::{RedisServer, postgres_url};
use tokio_postgres::NoTls;

/// The database that pages speak of.
const DATABASE: &str = "postgres://postgres@127.0.0.1:5432/app";
/// Below those that the system gives out for port 0, so that no other test is handed one of ours.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// What pages use that a machine may lack.
const PROGRAMS: [&str; 5] = ["sqlite3", "psql", "redis-cli", "curl", "openssl"];

/// What stands for what.
#[derive(Debug)]
pub(super) struct Stage {
    /// What a page says, and what is meant.
    names: Vec<(String, String)>,
    pub(super) folder: tempfile::TempDir,
    /// Where the service listens that is not told where.
    pub(super) listen: String,
    _redis: Option<RedisServer>,
}

impl Stage {
    /// Sets the stage for a page; `None`, with a line on the terminal, if something is missing.
    pub(super) async fn set(file: &str, text: &str) -> Option<Self> {
        if let Some(program) = PROGRAMS.iter().find(|program| text.contains(**program) && !is_there(program))
        {
            eprintln!("SKIPPED: {file} needs {program}");
            return None;
        }
        let mut names = Vec::new();
        let mut redis = None;
        if text.contains(":5432") {
            let stem = Path::new(file).file_stem().expect("a name").to_string_lossy().replace('-', "_");
            names.push((DATABASE.to_owned(), database(&stem).await?));
        }
        if text.contains(":6379") {
            let server = RedisServer::start().await?;
            names.extend(port(6379, server.port()));
            redis = Some(server);
        }
        let [service, other] = free_ports();
        for (said, meant) in [(4000, service), (4001, other)] {
            names.extend(port(said, meant));
        }
        let folder = tempfile::tempdir().expect("a folder");
        Some(Self { names, folder, listen: format!("127.0.0.1:{service}"), _redis: redis })
    }

    /// What a page says, as it is meant here.
    pub(super) fn meant(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (said, meant)| text.replace(said, meant))
    }

    /// What was printed here, as a page says it.
    pub(super) fn said(&self, text: &str) -> String {
        let folder = self.folder.path().to_string_lossy().into_owned();
        let text = text.replace(&format!("{folder}/"), "");
        self.names.iter().fold(text, |text, (said, meant)| text.replace(meant, said))
    }

    /// Gives configurations that a command wrote the ports of this page.
    pub(super) fn adapt_files(&self) {
        for entry in std::fs::read_dir(self.folder.path()).expect("the folder is there").flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|kind| kind == "toml") {
                let text = std::fs::read_to_string(&path).expect("text");
                let meant = self.meant(&text);
                if meant != text {
                    std::fs::write(&path, meant).expect("the folder is ours");
                }
            }
        }
    }
}

fn port(said: u16, meant: u16) -> [(String, String); 2] {
    ["127.0.0.1", "localhost"].map(|host| (format!("{host}:{said}"), format!("{host}:{meant}")))
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn free_ports() -> [u16; 2] {
    let width = PORTS.end - PORTS.start;
    let start = u16::try_from(std::process::id() * 16 % u32::from(width)).expect("it is below the width");
    let mut ports = (0..width).map(|step| PORTS.start + (start + step) % width);
    let mut next = || ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    [(); 2].map(|()| next().expect("a free port"))
}

/// An empty database, and its address.
async fn database(page: &str) -> Option<String> {
    let url = postgres_url()?;
    let name = format!("guide_{page}_{}", std::process::id());
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("the server answers");
    let making = async {
        client.batch_execute(&format!("create database {name}")).await.expect("a database");
        drop(client);
    };
    let ((), _) = tokio::join!(making, connection);
    let (server, _) = url.rsplit_once('/').expect("it names a database");
    Some(format!("{server}/{name}"))
}
