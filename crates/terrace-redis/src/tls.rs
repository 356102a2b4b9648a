//! How is the server known to be the right one?
//!
//! 1. With TLS the peer's certificate and name are always verified.
//! 2. A provider of cryptography (`ring`) is installed for the process only if none is: the program's choice wins.

use crate::config::{ConfigError, Settings};
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
    TlsCertificates,
};
use rustls::crypto::{CryptoProvider, ring};
use std::time::Duration;

/// What every connection is opened with.
pub(crate) fn client(settings: &Settings) -> Result<Client, ConfigError> {
    let info = connection_info(settings);
    let client = if settings.tls {
        if CryptoProvider::get_default().is_none() {
            // Only fails if somebody else was faster, which serves as well.
            ring::default_provider().install_default().ok();
        }
        let root_cert = settings.root_certificate.clone();
        Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
    } else {
        Client::open(info)
    };
    client.map_err(|error| ConfigError {
        setting: if settings.tls { "root_certificate" } else { "address" },
        value: format!("not usable ({error})"),
        allowed: if settings.tls { "a readable file of PEM certificates" } else { "`host:port`" },
    })
}

fn connection_info(settings: &Settings) -> ConnectionInfo {
    let (host, port) = (settings.address.host.clone(), settings.address.port);
    let address = if settings.tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let mut redis = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(i64::from(settings.database))
        .set_lib_name("terrace", env!("CARGO_PKG_VERSION"));
    if let Some(username) = &settings.username {
        redis = redis.set_username(username);
    }
    if let Some(password) = &settings.password {
        redis = redis.set_password(password.reveal());
    }
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(1));
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive.with_retries(3));
    let info = address.into_connection_info().expect("an address is turned into itself");
    info.set_redis_settings(redis).set_tcp_settings(tcp)
}
