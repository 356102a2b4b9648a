//! The rules of `[server] tls`: which files, and that they fit each other.
//!
//! 1. The files are read when the configuration is, so that a certificate that cannot be is refused before anything is served with it.

use super::check::Checker;
use super::file;
use super::report::Refusal;
use crate::tls;
use serde::Serialize;
use std::path::PathBuf;
use toml::Spanned;

/// TLS on the listeners.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[non_exhaustive]
pub struct TlsConfig {
    /// The certificates, as PEM: the service's own first, then those between it and a root.
    pub cert_file: PathBuf,
    /// The private key of the first, as PEM.
    pub key_file: PathBuf,
    /// The roots of clients, as PEM. Where it is set, a client needs a certificate of one of them. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
}

impl Checker<'_> {
    pub(super) fn tls(&mut self, given: Spanned<file::ServerTls>) -> Option<TlsConfig> {
        let at = given.span();
        let file::ServerTls { cert_file, key_file, client_ca_file } = given.into_inner();
        let (Some(cert_file), Some(key_file)) = (cert_file, key_file) else {
            let refusal = Refusal::new(at, "TLS needs a certificate and its key");
            self.refuse(&refusal.help("write `tls = { cert_file = \"tls.crt\", key_file = \"tls.key\" }`"));
            return None;
        };
        let path = |file: Spanned<String>| PathBuf::from(file.into_inner());
        let config = TlsConfig {
            cert_file: path(cert_file),
            key_file: path(key_file),
            client_ca_file: client_ca_file.map(path),
        };
        match tls::settings(&config) {
            Ok(_) => Some(config),
            Err(error) => {
                self.refuse(&Refusal::new(at, error.to_string()));
                None
            }
        }
    }
}
