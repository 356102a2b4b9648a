//! The other ways to read a value over HTTP: webdis, which asks Redis for each request, and nginx, which has no module for Redis and
//! passes requests on, or keeps answers itself.
//!
//! 1. Programs of the machine, started here on ports that were free, with their files in a folder of their own; they end with the value
//!    that stands for them.
//! 2. Each writes no log of requests and uses two threads or processes, as the service does.

use anyhow::{Context, Result, ensure};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use terrace_bench_harness::timing::Deadline;

/// How long a program may take until it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(5);

/// A program that listens.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    child: Child,
    /// Holds its files.
    _folder: tempfile::TempDir,
}

impl Peer {
    /// webdis before a Redis server; `None` where it is not installed.
    pub(super) fn webdis(redis_port: u16) -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let address = free_address()?;
        let settings = format!(
            r#"{{"redis_host":"127.0.0.1","redis_port":{redis_port},"http_host":"127.0.0.1","http_port":{port},"threads":2,
               "pool_size":32,"daemonize":false,"websockets":false,"database":0,"verbosity":0,"logfile":"{log}"}}"#,
            port = address.port(),
            log = folder.path().join("webdis.log").display(),
        );
        let file = folder.path().join("webdis.json");
        std::fs::write(&file, settings)?;
        Self::start(Command::new("webdis").arg(&file), address, folder)
    }

    /// nginx, which passes `/passed` on to a handler, keeps answers of `/kept`, and asks for both at the same path there;
    /// `None` where it is not installed.
    pub(super) fn nginx(handler: SocketAddr, path: &str) -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let address = free_address()?;
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, nginx_settings(folder.path(), address, handler, path))?;
        let mut command = Command::new("nginx");
        command
            .arg("-p")
            .arg(folder.path())
            .arg("-e")
            .arg(folder.path().join("error.log"))
            .arg("-c")
            .arg(file);
        Self::start(&mut command, address, folder)
    }

    fn start(command: &mut Command, address: SocketAddr, folder: tempfile::TempDir) -> Result<Option<Self>> {
        let name = command.get_program().to_string_lossy().into_owned();
        // webdis leaves a file where it is started.
        command.current_dir(folder.path());
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let Ok(child) = spawned else {
            println!("{name} is not installed, and left out; `apt-get install {name}`\n");
            return Ok(None);
        };
        let mut peer = Self { address, child, _folder: folder };
        let deadline = Deadline::after(LISTENS_WITHIN);
        while TcpStream::connect(address).is_err() {
            ensure!(peer.child.try_wait()?.is_none(), "{name} ended at once");
            ensure!(!deadline.has_passed(), "{name} does not listen");
            std::thread::yield_now();
        }
        Ok(Some(peer))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Not killed: nginx ends the processes that it started.
        let pid = self.child.id().to_string();
        if Command::new("kill").arg(pid).status().is_ok_and(|status| status.success()) {
            self.child.wait().ok();
        }
    }
}

fn nginx_settings(folder: &Path, address: SocketAddr, handler: SocketAddr, path: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off; worker_processes 2; pid {folder}/nginx.pid; user root;
         events {{ worker_connections 512; }}
         http {{
           access_log off; keepalive_requests 100000000;
           client_body_temp_path {folder}/body; fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
           scgi_temp_path {folder}/scgi; proxy_temp_path {folder}/proxy;
           proxy_cache_path {folder}/kept keys_zone=kept:10m;
           upstream handler {{ server {handler}; keepalive 64; keepalive_requests 100000000; }}
           server {{
             listen {address};
             proxy_http_version 1.1; proxy_set_header Connection \"\";
             location = /passed {{ proxy_pass http://handler{path}; }}
             location = /kept {{ proxy_pass http://handler{path}; proxy_cache kept; proxy_cache_valid 200 1h; }}
           }}
         }}"
    )
}

/// An address that nobody listens at.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.local_addr().context("a listener has an address")
}
