//! Passwords that change while connections are open.
//!
//! 1. A connection is opened with the password that holds then. Those that are open are replaced after it has changed, as at the end of
//!    their lifetime: the new one is opened first, so no call fails for it, and one that cannot be opened leaves the old one in use.
//! 2. A password is never shown.

use super::servers::Secret;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// The password of servers of one kind, which all that open connections share.
#[derive(Clone)]
pub(crate) struct Password(Arc<watch::Sender<Option<Secret>>>);

/// What tells whether a password has changed since.
pub(crate) struct Seen(watch::Receiver<Option<Secret>>);

impl Password {
    pub(crate) fn new(password: Option<Secret>) -> Self {
        Self(Arc::new(watch::Sender::new(password)))
    }

    /// What holds now.
    pub(crate) fn now(&self) -> Option<Secret> {
        self.0.borrow().clone()
    }

    /// That what holds now was seen.
    pub(crate) fn seen(&self) -> Seen {
        Seen(self.0.subscribe())
    }

    fn set(&self, password: Option<Secret>) {
        self.0.send_if_modified(|now| {
            let is_other = *now != password;
            *now = password;
            is_other
        });
    }
}

impl Seen {
    /// Whether another password holds by now.
    pub(crate) fn is_outdated(&self) -> bool {
        self.0.has_changed().unwrap_or(false)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.now().fmt(f)
    }
}

/// The passwords of a tier, to be changed while it is in use. It keeps no connection open.
///
/// # Examples
/// ```
/// let redis = terrace_redis::Redis::url("redis://app:old@localhost")?.build()?;
/// let passwords = redis.passwords();
/// // `redis` is a cache's by now, and somebody has given the user another password.
/// passwords.set("new");
/// # Ok::<(), terrace_redis::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Passwords {
    pub(crate) servers: Password,
    pub(crate) sentinels: Password,
}

impl Passwords {
    /// The password of the servers from now on; an empty one is none.
    ///
    /// Connections that are open are replaced by others with this password within about a quarter of a second: the new one is opened first,
    /// and no call fails for it; for a moment there are up to twice as many. Where the server refuses it the old one stays in use, which is logged, and it is tried again every
    /// 5 s. What listens to changes stays open, and has this password when it is opened anew.
    ///
    /// # Races
    /// Of two calls at the same time one is the last. A connection that is being opened may have the old password, and is replaced then.
    pub fn set(&self, password: impl Into<String>) {
        self.servers.set(Secret::unless_empty(password));
    }

    /// The password of sentinels from now on, for connections to them that are opened after this; an empty one is none.
    pub fn set_for_sentinels(&self, password: impl Into<String>) {
        self.sentinels.set(Secret::unless_empty(password));
    }

    /// The passwords of another tier from now on, by the rules of [`Passwords::set`]: where both are made from a configuration.
    pub fn set_to_those_of(&self, other: &Self) {
        self.servers.set(other.servers.now());
        self.sentinels.set(other.sentinels.now());
    }
}
