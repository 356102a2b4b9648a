//! How is the server known to be the right one?
//!
//! 1. With TLS the peer's certificate and name are always verified.
//! 2. The file with roots is read anew for each connection. Where it cannot be used by then, what it said before is: a connection that is
//!    lost while somebody writes the file can be made again.
//! 3. A provider of cryptography (`ring`) is installed for the process only if none is: the program's choice wins.

use crate::config::{Address, Login, Settings};
use arc_swap::ArcSwap;
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{
    Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, RedisResult,
    TlsCertificates,
};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What connections to a server with values are opened with.
pub(crate) fn client(settings: &Settings, address: &Address) -> RedisResult<Client> {
    open(settings, &settings.login, address, settings.database)
}

/// What connections to a sentinel are opened with.
pub(crate) fn sentinel(settings: &Settings, address: &Address) -> RedisResult<Client> {
    open(settings, &settings.sentinel_login, address, 0)
}

fn open(settings: &Settings, login: &Login, address: &Address, database: u32) -> RedisResult<Client> {
    let mut redis = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(i64::from(database))
        .set_lib_name("terrace", env!("CARGO_PKG_VERSION"));
    if let Some(username) = &login.username {
        redis = redis.set_username(username);
    }
    if let Some(password) = login.password.now() {
        redis = redis.set_password(password.reveal());
    }
    let (host, port) = (address.host.clone(), address.port);
    let address = if login.tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(1));
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive.with_retries(3));
    let info = address.into_connection_info().expect("an address is turned into itself");
    let info = info.set_redis_settings(redis).set_tcp_settings(tcp);
    if !login.tls {
        return Client::open(info);
    }
    if CryptoProvider::get_default().is_none() {
        // Only fails if somebody else was faster, which serves as well.
        ring::default_provider().install_default().ok();
    }
    let with = |root_cert: Option<Vec<u8>>| {
        Client::build_with_tls(info.clone(), TlsCertificates { client_tls: None, root_cert })
    };
    match &settings.root_certificate {
        None => with(None),
        Some(file) => file.by_newest(|pem| with(Some(pem))),
    }
}

/// What a file with roots says. Without any, as while somebody writes it, nobody would be believed.
fn roots(path: &Path) -> std::io::Result<Vec<u8>> {
    let pem = std::fs::read(path)?;
    let has_some = CertificateDer::pem_slice_iter(&pem).next().is_some();
    has_some
        .then_some(pem)
        .ok_or_else(|| std::io::Error::other("there is no PEM section `CERTIFICATE` in it"))
}

/// A file with roots, and what it said last that could be used.
#[derive(Debug)]
pub(crate) struct RootFile {
    path: PathBuf,
    last: ArcSwap<Vec<u8>>,
}

impl RootFile {
    /// Reads the file for the first time.
    pub(crate) fn read(path: &Path) -> std::io::Result<Self> {
        Ok(Self { path: path.to_owned(), last: ArcSwap::from_pointee(roots(path)?) })
    }

    /// What is made of what the file says now; where that is nothing, of what it said before.
    fn by_newest<T>(&self, make: impl Fn(Vec<u8>) -> RedisResult<T>) -> RedisResult<T> {
        let (last, file) = (self.last.load_full(), self.path.display());
        match roots(&self.path) {
            Ok(now) if now != *last => match make(now.clone()) {
                Ok(made) => {
                    tracing::info!(%file, "other root certificates are believed from now on");
                    self.last.store(Arc::new(now));
                    return Ok(made);
                }
                Err(error) => {
                    tracing::warn!(%file, %error, "root certificates cannot be used; those before are believed");
                }
            },
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%file, %error, "root certificates cannot be read; those before are believed");
            }
        }
        make(last.to_vec())
    }
}
