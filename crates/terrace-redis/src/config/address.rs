//! Where are servers, and how is that written down?
//!
//! 1. A URL of several servers is read as as many URLs of one, so that all of them have the same form.
//! 2. What is refused is not repeated where it may hold a password.

use super::{ConfigError, RedisBuilder};
use redis::{ConnectionAddr, IntoConnectionInfo};
use std::fmt;

/// Where a server is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    const ALLOWED: &'static str = "`host`, `host:port` or `[ipv6]:port`, with a port from 1 to 65535";

    pub(super) fn parse(text: &str, port_default: u16) -> Result<Self, ConfigError> {
        let refusal = || ConfigError::new("address", format!("{text:?}"), Self::ALLOWED);
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(refusal)?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(refusal)?) })
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(port_default), str::parse).map_err(|_| refusal())?;
        let is_odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '@' | ',');
        if host.is_empty() || host.contains(is_odd) || port == 0 {
            return Err(refusal());
        }
        Ok(Self { host: host.to_owned(), port })
    }

    /// What a server calls another: `host:port`, where the host may have colons, or be missing if it is its own.
    pub(crate) fn redirected(text: &str, asked: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let host = if host.is_empty() { &asked.host } else { host };
        (host != "?").then(|| Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Addresses as messages show them.
pub(crate) struct List<'a>(pub(crate) &'a [Address]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().enumerate() {
            write!(f, "{}{address}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// What a URL says, in the making.
pub(super) fn read_url(url: &str) -> Result<RedisBuilder, ConfigError> {
    let Some((scheme, rest)) = url.split_once("://") else { return Err(refusal()) };
    let (plain, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
    let (login, servers) = rest.split_at(rest.rfind('@').map_or(0, |at| at + 1));
    let (hosts, path) = servers.split_once('/').unwrap_or((servers, ""));
    let each = |path: &str| -> Result<Vec<RedisBuilder>, ConfigError> {
        hosts.split(',').map(|host| one_server(&format!("{plain}://{login}{host}/{path}"))).collect()
    };
    let (mut builders, primary) = match kind {
        "" if !hosts.contains(',') => return one_server(url),
        "cluster" => (each(path)?, None),
        "sentinel" => {
            let (name, database) = path.split_once('/').unwrap_or((path, ""));
            (each(database)?, Some(name))
        }
        _ => return Err(refusal()),
    };
    let addresses = hosts.split(',').map(str::to_owned).collect();
    let builder = builders.swap_remove(0);
    Ok(match primary {
        None => builder.cluster_of(addresses),
        Some(name) => builder.sentinel_of(name, addresses),
    })
}

fn refusal() -> ConfigError {
    const ALLOWED: &str = "`redis://[user[:password]@]host[:port][/database]`, \
                           `redis+sentinel://[user[:password]@]host[:port],…/primary[/database]` or \
                           `redis+cluster://[user[:password]@]host[:port],…`, with `rediss` for TLS";
    ConfigError::new("url", "not an address of Redis (hidden: it may hold a password)", ALLOWED)
}

fn one_server(url: &str) -> Result<RedisBuilder, ConfigError> {
    let parsed = redis::parse_redis_url(url).ok_or_else(refusal)?;
    if parsed.query().is_some() || parsed.fragment().is_some() {
        const PLAIN: &str = "a URL without `?…` and `#…`; an unverified TLS peer is never accepted";
        return Err(ConfigError::new("url", "one with options", PLAIN));
    }
    let info = parsed.into_connection_info().map_err(|_| refusal())?;
    let (host, port, tls) = match info.addr() {
        ConnectionAddr::Tcp(host, port) => (host, *port, false),
        ConnectionAddr::TcpTls { host, port, .. } => (host, *port, true),
        _ => return Err(refusal()),
    };
    let mut builder = RedisBuilder::from_address(&Address { host: host.clone(), port }.to_string()).tls(tls);
    builder.database = u32::try_from(info.redis_settings().db()).map_err(|_| refusal())?;
    builder.username = info.redis_settings().username().map(str::to_owned);
    Ok(match info.redis_settings().password() {
        Some(password) => builder.password(password),
        None => builder,
    })
}
