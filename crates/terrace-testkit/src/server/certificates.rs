//! Certificates for a test's own server.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::path::{Path, PathBuf};

/// The files of a server with TLS.
#[derive(Debug)]
pub(super) struct Certificates {
    pub(super) authority: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    /// A root that signed nothing of this server's.
    pub(super) stranger: PathBuf,
}

fn authority(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("no name is no wrong name");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().expect("a key can be made");
    let certificate = params.self_signed(&key).expect("a root signs itself");
    (Issuer::new(params, key), certificate.pem())
}

impl Certificates {
    /// Writes new ones for `localhost` and `127.0.0.1`.
    pub(super) fn write(folder: &Path) -> Self {
        let file = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("the folder is ours");
            path
        };
        let (issuer, root) = authority("terrace test root");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).expect("these are names");
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &issuer).expect("the root signs");
        Self {
            authority: file("root.pem", root),
            certificate: file("server.pem", certificate.pem()),
            key: file("server.key", key.serialize_pem()),
            stranger: file("stranger.pem", authority("terrace test stranger").1),
        }
    }
}
