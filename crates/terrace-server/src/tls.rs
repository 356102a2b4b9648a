//! TLS on the listeners.
//!
//! 1. One implementation and one provider, which are named here: rustls with ring, TLS 1.2 and 1.3, no renegotiation. What
//!    another crate installs changes nothing.
//! 2. With `client_ca_file` a client without a certificate of one of those roots is turned away in the handshake.
//! 3. A connection keeps what it began with; certificates are replaced between two handshakes, all of them or none.

use crate::config::TlsConfig;
use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// The protocols that are offered, the better one first.
const PROTOCOLS: [&[u8]; 2] = [HTTP_2, b"http/1.1"];
/// What HTTP/2 is called in a handshake.
pub(crate) const HTTP_2: &[u8] = b"h2";

/// Why there can be no TLS.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or has not what it should.
    #[error("{} has no {what}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What was there instead.
        reason: String,
    },
    /// The files do not fit each other.
    #[error("the certificate and the key cannot be used: {0}")]
    Unfit(String),
}

/// What handshakes are made with.
pub(crate) struct Tls(ArcSwap<InForce>);

/// What the files had, and what was made of it.
struct InForce {
    fingerprint: u64,
    settings: Arc<ServerConfig>,
}

impl InForce {
    fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        let fingerprint = fingerprint(config);
        Ok(Self { fingerprint, settings: settings(config)? })
    }
}

impl Tls {
    pub(crate) fn new(config: &TlsConfig) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::from_pointee(InForce::read(config)?)))
    }

    /// Reads the certificates that the files of a configuration have now, to take the place of these.
    ///
    /// # Errors
    /// [`TlsError`] if they cannot be used.
    pub(crate) fn prepare(&self, config: &TlsConfig) -> Result<Prepared<'_>, TlsError> {
        Ok(Prepared { tls: self, next: Arc::new(InForce::read(config)?) })
    }

    /// What the next handshake is made with.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.load().settings))
    }
}

/// Certificates that can take the place of others.
pub(crate) struct Prepared<'a> {
    tls: &'a Tls,
    next: Arc<InForce>,
}

impl Prepared<'_> {
    /// Whether the files have something else by now.
    pub(crate) fn is_other(&self) -> bool {
        self.tls.0.load().fingerprint != self.next.fingerprint
    }

    /// Lets the next handshake be made with these.
    pub(crate) fn replace(self) {
        self.tls.0.store(self.next);
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// A hash of what the files of a configuration have. They are read again for what is made of them: files that change between the two are
/// told of once more than need be.
fn fingerprint(config: &TlsConfig) -> u64 {
    let files = [Some(&config.cert_file), Some(&config.key_file), config.client_ca_file.as_ref()];
    let texts = files.map(|file| file.and_then(|file| std::fs::read(file).ok()));
    let hash = |sum: u64, text: &Option<Vec<u8>>| {
        let text = rapidhash::v3::rapidhash_v3(text.as_deref().unwrap_or_default());
        rapidhash::v3::rapidhash_v3(&[sum.to_le_bytes(), text.to_le_bytes()].concat())
    };
    texts.iter().fold(0, hash)
}

/// Reads the files of a configuration.
pub(crate) fn settings(config: &TlsConfig) -> Result<Arc<ServerConfig>, TlsError> {
    let unfit = |error: &dyn fmt::Display| TlsError::Unfit(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(&config.cert_file)?;
    let key = PrivateKeyDer::from_pem_file(&config.key_file)
        .map_err(|error| no(&config.key_file, "private key", &error))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| unfit(&error))?;
    let builder = match &config.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path)? {
                roots.add(root).map_err(|error| no(path, "root certificate", &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.build().map_err(|error| no(path, "root certificate", &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut settings = builder.with_single_cert(chain, key).map_err(|error| unfit(&error))?;
    settings.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(settings))
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    some(path, read)
}

/// Those that a file has whose content was read before.
pub(crate) fn certificates_of(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    some(path, CertificateDer::pem_slice_iter(pem).collect())
}

fn some(
    path: &Path,
    read: Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error>,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = read.map_err(|error| no(path, "certificate", &error))?;
    if certificates.is_empty() {
        return Err(no(path, "certificate", &"there is no PEM section `CERTIFICATE`"));
    }
    Ok(certificates)
}

fn no(path: &Path, what: &'static str, reason: &dyn fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), what, reason: reason.to_string() }
}
