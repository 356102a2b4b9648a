//! What decides who comes in, while the service runs: credentials and certificates, replaced together.
//!
//! 1. All of it or nothing: what could fail is done before the first is replaced. A reload opens keyspaces between the two, so that
//!    nobody comes in for whom there are none.
//! 2. What is under way goes on with what it began with.

use crate::audit;
use crate::auth::{self, Auth, ReplaceError};
use crate::config::Config;
use crate::tls::{self, Tls, TlsError};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Why credentials and certificates stay as they are.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecurityError {
    /// The credentials cannot be replaced.
    #[error(transparent)]
    Auth(#[from] ReplaceError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There would be TLS where there is none, or none where there is.
    #[error("`server.tls` was set or removed: that needs a restart, because a listener has it or not")]
    Switched,
}

/// The credentials and certificates of a service that runs.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// use terrace_server::Server;
/// use terrace_server::config::{Config, Sources};
///
/// let server = Server::bind(&Config::load(&Sources::text("server.listen = '127.0.0.1:0'"))?).await?;
/// let security = server.security();
/// let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
/// let with_token = format!("[[auth.token]]\nname = 'web'\nsha256 = '{digest}'\nscopes = ['read:*']");
/// security.replace(&Config::load(&Sources::text(with_token))?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Security {
    pub(crate) auth: Arc<Auth>,
    pub(crate) tls: Option<Arc<Tls>>,
}

impl Security {
    /// Puts the tokens of a configuration, and the certificates that its files have now, in the place of those that are in force. All
    /// else in it is not looked at. What came of it is noted in the audit log.
    ///
    /// # Errors
    /// [`SecurityError`]; nothing has changed then. A tenant that is new has no keyspaces yet: [`Reloader::reload`](crate::Reloader::reload)
    /// opens them.
    ///
    /// # Cost
    /// Reads the files with certificates. Requests do not wait for it: each is judged by the old credentials or the new.
    pub fn replace(&self, config: &Config) -> Result<(), SecurityError> {
        self.auth.knows_all(&config.auth.tenants()).map_err(|error| refused(error.into()))?;
        self.prepare(config)?.replace(true);
        Ok(())
    }

    /// Makes what is to take the place of what is in force.
    pub(crate) fn prepare(&self, config: &Config) -> Result<Prepared<'_>, SecurityError> {
        let certificates = match (&self.tls, &config.server.tls) {
            (Some(tls), Some(config)) => tls.prepare(config).map(Some).map_err(Into::into),
            (None, None) => Ok(None),
            _ => Err(SecurityError::Switched),
        };
        let certificates = certificates.map_err(refused)?;
        let credentials = self.auth.prepare(&config.auth).map_err(|error| refused(error.into()))?;
        Ok(Prepared { credentials, certificates })
    }
}

/// What of a change is noted in the audit log.
const CHANGE: &str = "replace credentials and certificates";

fn refused(error: SecurityError) -> SecurityError {
    audit::by_the_operator(CHANGE, &error.to_string());
    error
}

/// Credentials and certificates that can take the place of others.
pub(crate) struct Prepared<'a> {
    credentials: auth::Prepared<'a>,
    certificates: Option<tls::Prepared<'a>>,
}

impl Prepared<'_> {
    /// The tenants that have to have keyspaces before these can be in force.
    pub(crate) fn tenants(&self) -> &BTreeSet<String> {
        self.credentials.tenants()
    }

    /// Puts them in force, and notes that if they are others than before.
    pub(crate) fn replace(self, are_credentials_others: bool) {
        let is_other = self.certificates.as_ref().is_some_and(tls::Prepared::is_other);
        self.credentials.replace();
        if let Some(certificates) = self.certificates {
            certificates.replace();
        }
        if are_credentials_others || is_other {
            audit::by_the_operator(CHANGE, "done");
        }
    }
}
