//! TLS to PostgreSQL: when it is spoken, and whose certificates are believed.
//!
//! | `sslmode` of the address | |
//! |---|---|
//! | none | `require` with a `root_certificate_file`; else `disable` to this machine, and `prefer` to another |
//! | `disable` | no TLS |
//! | `prefer` | TLS if the server offers it; who can change what is sent can take the offer away |
//! | `require`, `verify-full` | TLS, or no connection |
//!
//! 1. Wherever TLS is spoken, the certificate has to be of a root that is believed, and for the host of the address. What only other
//!    clients take for `require`, encryption with whomever, there is by `verify_certificate = false` alone, and is warned of.
//! 2. Roots are those of `root_certificate_file`, else the system's.
//!
//! Deliberately absent: `verify-ca`, which believes any host that a root knows; client certificates.

use crate::config::PostgresConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What an address says, with the mode that is meant.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn settings(url: &str, has_root: bool) -> Result<tokio_postgres::Config, &'static str> {
    // In a URL parameters follow a `?`; what is before it may be a password.
    let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let (before, parameters) = match url.rfind('?') {
        Some(at) if is_url => url.split_at(at),
        None if is_url => (url, ""),
        _ => ("", url),
    };
    if parameters.contains("sslmode=verify-ca") {
        return Err("`sslmode=verify-ca` would believe any host that the root knows; write `verify-full`");
    }
    // The client does not know the word; that certificates are looked at is a matter of the connector.
    let known = before.to_owned() + &parameters.replace("sslmode=verify-full", "sslmode=require");
    let mut settings: tokio_postgres::Config =
        known.parse().map_err(|_| "this is not the address of a PostgreSQL server")?;
    if !parameters.contains("sslmode=") {
        let is_here = settings.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => {
                name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
            }
            #[cfg(unix)]
            Host::Unix(_) => true,
        });
        settings.ssl_mode(match (has_root, is_here) {
            (true, _) => SslMode::Require,
            (false, true) => SslMode::Disable,
            (false, false) => SslMode::Prefer,
        });
    }
    Ok(settings)
}

/// What makes handshakes, for connections of this mode.
///
/// # Errors
/// Which roots cannot be read, and why.
pub(super) fn connector(config: &PostgresConfig, mode: SslMode) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let settings = if config.verify_certificate {
        let roots = if mode == SslMode::Disable { RootCertStore::empty() } else { roots(config)? };
        builder.with_root_certificates(roots)
    } else {
        let verifier = Arc::new(Whoever(provider));
        builder.dangerous().with_custom_certificate_verifier(verifier)
    };
    Ok(MakeRustlsConnect::new(settings.with_no_client_auth()))
}

fn roots(config: &PostgresConfig) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match &config.root_certificate_file {
        Some(file) => {
            for root in crate::tls::certificates(file).map_err(|error| error.to_string())? {
                roots.add(root).map_err(|error| format!("{}: {error}", file.display()))?;
            }
        }
        None => {
            // One that cannot be read is one that nothing is believed for.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

/// Believes every certificate, if the server has its key.
#[derive(Debug)]
struct Whoever(Arc<CryptoProvider>);

impl ServerCertVerifier for Whoever {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_means_what_it_says() {
        for (url, has_root, mode) in [
            ("postgres://u@127.0.0.1/d", false, SslMode::Disable),
            ("postgres://u@[::1]/d", false, SslMode::Disable),
            ("postgres://u@localhost,127.0.0.1/d", false, SslMode::Disable),
            ("host=/run/postgresql user=u", false, SslMode::Disable),
            ("postgres://u@db.internal/d", false, SslMode::Prefer),
            ("postgres://u@localhost,db.internal/d", false, SslMode::Prefer),
            ("postgres://u@127.0.0.1/d", true, SslMode::Require),
            ("postgres://u@db.internal/d?sslmode=disable", false, SslMode::Disable),
            ("postgres://u@127.0.0.1/d?sslmode=prefer", true, SslMode::Prefer),
            ("postgres://u@127.0.0.1/d?sslmode=require", false, SslMode::Require),
            ("postgres://u@127.0.0.1/d?sslmode=verify-full", false, SslMode::Require),
            ("postgres://u:sslmode=disable@db.internal/d", false, SslMode::Prefer),
            ("host=127.0.0.1 user=u sslmode=verify-full", false, SslMode::Require),
        ] {
            assert_eq!(settings(url, has_root).map(|settings| settings.get_ssl_mode()), Ok(mode), "{url}");
        }
        assert!(settings("postgres://u@h/d?sslmode=verify-ca", true).is_err());
        assert!(settings("postgres://u@h/d?sslmode=allow", false).is_err());
    }
}
