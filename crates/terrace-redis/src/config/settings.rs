//! All settings, as they are once they were checked.

use super::{Login, Passwords, Servers};
use crate::tls::RootFile;
use std::sync::Arc;
use std::time::Duration;

/// What is asked of a server, and what is promised for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Scripts and streams, and everything.
    Coherent,
    /// Neither, and less: see [`crate::PlainRedis`].
    Plain,
}

impl Mode {
    /// As it stands in the settings that all nodes share.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Coherent => "coherent",
            Self::Plain => "plain",
        }
    }
}

/// All settings, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    pub(crate) servers: Servers,
    pub(crate) login: Login,
    /// For sentinels.
    pub(crate) sentinel_login: Login,
    pub(crate) root_certificate: Option<Arc<RootFile>>,
    pub(crate) database: u32,
    pub(crate) key_prefix: String,
    pub(crate) partitions: u16,
    pub(crate) connections: usize,
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) max_retries: u32,
    pub(crate) connect_timeout: Duration,
    pub(crate) read_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) tracking: bool,
    pub(crate) node_id: u64,
}

impl Settings {
    /// The passwords that connections are opened with.
    pub(crate) fn passwords(&self) -> Passwords {
        let (servers, sentinels) = (self.login.password.clone(), self.sentinel_login.password.clone());
        Passwords { servers, sentinels }
    }
}
