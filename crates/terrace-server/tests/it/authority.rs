//! Certificates of one test's own, and clients that believe them.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A root, and a folder with what it signed.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: String,
    pub(crate) folder: tempfile::TempDir,
}

/// A certificate and its key, as PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no name is no wrong name");
        params.distinguished_name.push(DnType::CommonName, "terrace test root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key can be made");
        let root = params.self_signed(&key).expect("a root signs itself").pem();
        let folder = tempfile::tempdir().expect("a folder");
        Self { issuer: Issuer::new(params, key), root, folder }
    }

    /// The root's own certificate, as PEM.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    pub(crate) fn sign(&self) -> Identity {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("the root signs").pem();
        Identity { certificate, key: key.serialize_pem() }
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("the folder is ours");
        path
    }

    /// Writes a certificate of the service, over that which is there.
    pub(crate) fn write_service(&self) {
        let identity = self.sign();
        self.write("tls.crt", &identity.certificate);
        self.write("tls.key", &identity.key);
    }

    /// A new certificate of the service, in a configuration.
    pub(crate) fn toml(&self, more: &str) -> String {
        self.write_service();
        let folder = self.folder.path().display();
        format!("server.tls = {{ cert_file = '{folder}/tls.crt', key_file = '{folder}/tls.key'{more} }}\n")
    }

    /// The same, for clients of these roots alone.
    pub(crate) fn toml_for_clients_of(&self, roots: &Self) -> String {
        let file = self.write("client-ca.crt", &roots.root);
        self.toml(&format!(", client_ca_file = '{}'", file.display()))
    }

    /// A connection of a client that believes this root, speaks this protocol, and shows this certificate.
    pub(crate) async fn connect(
        &self,
        to: SocketAddr,
        protocol: &str,
        identity: Option<&Identity>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.root.as_bytes()).expect("PEM")).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("versions").with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(vec![certificate], key).expect("they fit")
            }
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(to).await?;
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}
