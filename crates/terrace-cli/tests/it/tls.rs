//! A service that speaks TLS, and wants to know its clients.

use crate::process::{Run, Running, Service, run, terrace, write};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::path::{Path, PathBuf};

/// A root of one test's own, and what it signed: files in a folder.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no name is no wrong name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key can be made");
        let root = params.self_signed(&key).expect("a root signs itself").pem();
        write(folder, &format!("{name}.pem"), root.as_bytes());
        Self { issuer: Issuer::new(params, key), folder: folder.to_owned() }
    }

    /// Writes `name.crt`, `name.key`, and `name.pem` with both.
    fn sign(&self, name: &str) {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("the root signs").pem();
        for (ending, text) in [
            ("crt", certificate.clone()),
            ("key", key.serialize_pem()),
            ("pem", format!("{certificate}{}", key.serialize_pem())),
        ] {
            write(&self.folder, &format!("{name}.{ending}"), text.as_bytes());
        }
    }
}

#[test]
fn a_service_is_known_by_its_root_and_knows_its_clients_by_theirs() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "root");
    Authority::new(folder.path(), "stranger");
    authority.sign("service");
    authority.sign("client");
    let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let text = format!(
        "[server]\ntls = {{ cert_file = '{}', key_file = '{}', client_ca_file = '{}' }}\n",
        file("service.crt"),
        file("service.key"),
        file("root.pem")
    );
    let config = write(folder.path(), "terrace.toml", text.as_bytes());
    let mut command = terrace();
    command.arg("serve").arg("-c").arg(config).args(["--listen", "127.0.0.1:0"]);
    let mut service = Running::start(&mut command);
    let line = service.stdout.find("listening on https://");
    let url = line.split([' ', ',']).find(|word| word.starts_with("https://")).expect("a URL").to_owned();
    let ask = |more: &[&str]| -> Run { run(["stats", "--json", "--url", &url].iter().chain(more)) };
    let (root, pem, cert, key) =
        (file("root.pem"), file("client.pem"), file("client.crt"), file("client.key"));

    ask(&["--cacert", &root, "--cert", &pem]).expect(0);
    ask(&["--cacert", &root, "--cert", &cert, "--cert-key", &key]).expect(0);
    let mut by_variables = terrace();
    by_variables.args(["stats", "--url", &url]).env("TERRACE_CACERT", &root).env("TERRACE_CERT", &pem);
    assert!(by_variables.output().expect("it runs").status.success());

    let trace = write(folder.path(), "tiny.txt", b"one\ntwo\none\n").to_string_lossy().into_owned();
    let rows = format!("sqlite:{}", file("rows.db"));
    let replay = |more: &[&str]| {
        run(["replay", &trace, "--origin", &rows, "--url", &url, "--json"].iter().chain(more))
    };
    let told = replay(&["--cacert", &root, "--cert", &pem]).expect(1).stdout;
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["requests"], &told["failed"]), (&3.into(), &0.into()), "asked, and not found: {told}");
    assert!(replay(&["--cert", &pem]).expect(5).stderr.contains("--cacert FILE or TERRACE_CACERT"));

    let unknown = file("stranger.pem");
    for (told, words) in [
        (ask(&["--cert", &pem]), "--cacert FILE or TERRACE_CACERT"),
        (ask(&["--cacert", &unknown, "--cert", &pem]), "--cacert FILE or TERRACE_CACERT"),
        (ask(&["--cacert", &root]), "--cert FILE or TERRACE_CERT"),
    ] {
        let told = told.expect(5).stderr;
        assert!(told.starts_with("error: no answer from https://") && told.contains(words), "{told}");
        assert!(!told.contains("terrace serve") && !told.contains('{'), "{told}");
    }
    ask(&["--cacert", &file("none.pem")]).expect(3);
    ask(&["--cacert", &key]).expect(2);
    ask(&["--cacert", &root, "--cert", &cert]).expect(2);
    ask(&["--cacert", &root, "--cert-key", &key]).expect(2);
}

#[test]
fn a_service_without_tls_is_said_to_have_none() {
    let service = Service::start("[l1]\nmax_entries = 9\n");
    let told = run(["stats", "--url", &service.url.replace("http", "https")]).expect(5).stderr;
    assert!(told.contains("write http://"), "{told}");
}
