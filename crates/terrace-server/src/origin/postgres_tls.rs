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

use super::roots::Roots;
use crate::config::PostgresConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use tokio_postgres::config::{Host, SslMode, SslNegotiation};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What an address says, with the mode that is meant.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn settings(url: &str, has_root: bool) -> Result<tokio_postgres::Config, &'static str> {
    let stated = mode_at(url);
    let mut known = url.to_owned();
    if let Some(at) = &stated {
        match &url[at.clone()] {
            "verify-ca" => {
                return Err(
                    "`sslmode=verify-ca` would believe any host that the root knows; write `verify-full`",
                );
            }
            // The client does not know the word; that certificates are looked at is a matter of the connector.
            "verify-full" => known.replace_range(at.clone(), "require"),
            _ => {}
        }
    }
    let mut settings: tokio_postgres::Config =
        known.parse().map_err(|_| "this is not the address of a PostgreSQL server")?;
    if settings.get_ssl_negotiation() == SslNegotiation::Direct {
        return Err("`sslnegotiation=direct` is not spoken; leave it out");
    }
    // A mode that the client has read is never lowered, whatever was found here.
    if stated.is_none() && settings.get_ssl_mode() == SslMode::Prefer {
        let is_here = settings.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
            #[cfg(unix)]
            Host::Unix(_) => true,
        });
        let is_here = is_here && settings.get_hostaddrs().iter().all(IpAddr::is_loopback);
        settings.ssl_mode(match (has_root, is_here) {
            (true, _) => SslMode::Require,
            (false, true) => SslMode::Disable,
            (false, false) => SslMode::Prefer,
        });
    }
    Ok(settings)
}

/// Where an address says which mode, the last time that it does.
fn mode_at(address: &str) -> Option<Range<usize>> {
    let is_url = address.starts_with("postgres://") || address.starts_with("postgresql://");
    if is_url { mode_in_url(address) } else { mode_in_words(address) }
}

/// Parameters follow the first `?` after the credentials.
fn mode_in_url(url: &str) -> Option<Range<usize>> {
    let credentials = url.find('@').map_or(0, |at| at + 1);
    let mut at = credentials + url[credentials..].find('?')? + 1;
    let mut found = None;
    for pair in url[at..].split('&') {
        if let Some(mode) = pair.strip_prefix("sslmode=") {
            found = Some(at + pair.len() - mode.len()..at + pair.len());
        }
        at += pair.len() + 1;
    }
    found
}

/// Words, each with blanks around its `=` or none, and quotes around its value or none.
fn mode_in_words(text: &str) -> Option<Range<usize>> {
    let (mut at, mut found) = (0, None);
    let blanks = |at: usize| at + text[at..].len() - text[at..].trim_start().len();
    while blanks(at) < text.len() {
        let word = blanks(at);
        let end = text[word..]
            .find(|c: char| c == '=' || c.is_whitespace())
            .map_or(text.len(), |length| word + length);
        let equals = blanks(end);
        if !text[equals..].starts_with('=') {
            return found;
        }
        let from = blanks(equals + 1);
        let is_quoted = text[from..].starts_with('\'');
        let from = from + usize::from(is_quoted);
        let (mut is_escaped, mut to) = (false, text.len());
        for (place, c) in text[from..].char_indices() {
            if !is_escaped && (if is_quoted { c == '\'' } else { c.is_whitespace() }) {
                to = from + place;
                break;
            }
            is_escaped = c == '\\' && !is_escaped;
        }
        if &text[word..end] == "sslmode" {
            found = Some(from..to);
        }
        at = (to + usize::from(is_quoted)).min(text.len());
    }
    found
}

/// What makes handshakes, for connections of this mode.
///
/// # Errors
/// Which roots cannot be read, and why.
pub(super) fn connector(
    config: &PostgresConfig,
    mode: SslMode,
    believed: &Roots,
) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let settings = if config.verify_certificate {
        let roots = if mode == SslMode::Disable { RootCertStore::empty() } else { roots(config, believed)? };
        builder.with_root_certificates(roots)
    } else {
        let verifier = Arc::new(Whoever(provider));
        builder.dangerous().with_custom_certificate_verifier(verifier)
    };
    Ok(MakeRustlsConnect::new(settings.with_no_client_auth()))
}

fn roots(config: &PostgresConfig, believed: &Roots) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match config.root_certificate_file.as_ref().zip(believed.as_ref()) {
        Some((file, pem)) => {
            for root in crate::tls::certificates_of(file, pem).map_err(|error| error.to_string())? {
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
            ("host=127.0.0.1 user=u sslmode = require", false, SslMode::Require),
            ("host=127.0.0.1 sslmode\t=\n'verify-full' user=u", false, SslMode::Require),
            ("host=127.0.0.1 password='sslmode=disable ' user=u", true, SslMode::Require),
            ("host=db.internal password=a\\ sslmode=disable user=u", false, SslMode::Prefer),
            ("host=localhost hostaddr=10.0.0.5 user=u", false, SslMode::Prefer),
            ("host=db.internal user=u sslmode=require sslmode=disable", false, SslMode::Disable),
            ("postgres://u@db.internal/d?sslmode=require&application_name=what?", false, SslMode::Require),
            ("postgres://u@127.0.0.1/d?application_name=sslmode%3Ddisable", true, SslMode::Require),
            ("postgres://u:a?sslmode=disable@db.internal/d", true, SslMode::Require),
        ] {
            assert_eq!(settings(url, has_root).map(|settings| settings.get_ssl_mode()), Ok(mode), "{url}");
        }
        assert!(settings("postgres://u@h/d?sslmode=verify-ca", true).is_err());
        assert!(settings("postgres://u@h/d?sslmode=allow", false).is_err());
        assert!(settings("host=h user=u sslmode = verify-ca", true).is_err());
        assert!(settings("postgres://u@h/d?sslmode=require&sslnegotiation=direct", true).is_err());
    }
}
