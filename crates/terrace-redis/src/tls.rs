//! How is the server known to be the right one?
//!
//! 1. With TLS the peer's certificate and name are always verified.
//! 2. A provider of cryptography (`ring`) is installed for the process only if none is: the program's choice wins.

use crate::config::{Address, Login, Settings};
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{
    Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, RedisResult,
    TlsCertificates,
};
use rustls::crypto::{CryptoProvider, ring};
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
    if let Some(password) = &login.password {
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
    let root_cert = settings.root_certificate.clone();
    Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
}
