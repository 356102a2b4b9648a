//! TLS to a PostgreSQL server, with certificates that were made for the test.

use crate::support::{refused, start};
use terrace_testkit::server::PostgresServer;

/// A service that reads from this address whether its connection is encrypted.
fn toml(url: &str, more: &str) -> String {
    format!(
        "[origin.main]\ntype = 'postgres'\nurl = '{url}'\nconnect_timeout = '5s'\n{more}\n\
         [keyspace.tls]\npattern = 'tls:{{id}}'\n\
         source = {{ origin = 'main', load = 'select ssl, :id as id from pg_stat_ssl where pid = pg_backend_pid()' }}\n"
    )
}

/// Whether the connection is encrypted; `None` if there is none.
async fn is_encrypted(url: &str, more: &str) -> Option<bool> {
    let answer = start(&toml(url, more)).await.get("/api/cache/tls:1").await;
    if answer.status == 502 {
        answer.problem(502, "origin_unavailable");
        return None;
    }
    assert_eq!(answer.status, 200, "{answer:?}");
    Some(answer.body.contains(r#""ssl":true"#))
}

fn root(path: &std::path::Path) -> String {
    format!("root_certificate_file = '{}'", path.display())
}

#[tokio::test]
async fn certificates_are_looked_at_wherever_tls_is_spoken() {
    let Some(server) = PostgresServer::start(false).await else { return };
    let (own, stranger) = server.roots();
    let (own, stranger) = (root(own), root(stranger));
    let with = |mode: &str| format!("{}?sslmode={mode}", server.url());
    let by_name = |name: &str, mode: &str| with(mode).replace("127.0.0.1", name);
    for (url, more, expected) in [
        (server.url(), "", Some(false)),
        (with("disable"), "", Some(false)),
        (server.url(), own.as_str(), Some(true)),
        (with("prefer"), &own, Some(true)),
        (with("require"), &own, Some(true)),
        (with("verify-full"), &own, Some(true)),
        (by_name("localhost", "verify-full"), &own, Some(true)),
        // Nobody that the system believes signed it, nor this root.
        (with("require"), "", None),
        (with("prefer"), "", None),
        (with("require"), &stranger, None),
        (with("verify-full"), &stranger, None),
        (with("require"), "verify_certificate = false", Some(true)),
    ] {
        assert_eq!(is_encrypted(&url, more).await, expected, "{url} {more}");
    }
    // The same server by a name that its certificate does not have.
    let port = server.port();
    for mode in ["prefer", "require", "verify-full"] {
        let url = format!("host=elsewhere.test hostaddr=127.0.0.1 port={port} user=postgres sslmode={mode}");
        assert_eq!(is_encrypted(&url, &own).await, None, "{mode}");
    }
    let url = format!("host=elsewhere.test hostaddr=127.0.0.1 port={port} user=postgres sslmode=require");
    assert_eq!(is_encrypted(&url, "verify_certificate = false").await, Some(true));
}

#[tokio::test]
async fn a_server_that_wants_tls_gets_it_or_nothing() {
    let Some(server) = PostgresServer::start(true).await else { return };
    let own = root(server.roots().0);
    assert_eq!(is_encrypted(&server.url(), &own).await, Some(true));
    let plain = start(&toml(&format!("{}?sslmode=disable", server.url()), "")).await;
    assert!([502, 503].contains(&plain.get("/api/cache/tls:1").await.status));
}

/// A reload that changes no setting reads the file again: wrong roots are believed no more, and what is none is refused.
#[tokio::test]
async fn another_root_in_the_same_file_is_believed_after_a_reload() {
    let Some(server) = PostgresServer::start(false).await else { return };
    let (own, stranger) = server.roots();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    let put = |from: &std::path::Path| std::fs::copy(from, &file).expect("it is there");
    put(stranger);
    let toml = toml(&server.url(), &root(&file));
    let service = start(&toml).await;
    let is_loaded = async |key: &str| service.get(&format!("/api/cache/tls:{key}")).await.status == 200;
    assert!(!is_loaded("1").await);
    assert_eq!(service.reload(&toml).await.expect("it is taken"), [""; 0], "the same file");
    put(own);
    assert!(!is_loaded("1").await, "nobody has read it");
    let named = ["origin.main.root_certificate_file"];
    assert_eq!(service.reload(&toml).await.expect("it is taken"), named);
    assert!(is_loaded("1").await);
    std::fs::write(&file, "no certificate").expect("it is written");
    let refused = service.reload(&toml).await.expect_err("there is none in it").to_string();
    assert!(refused.contains("main") && refused.contains("ca.pem"), "{refused}");
    assert!(is_loaded("2").await, "the root before is believed");
    put(stranger);
    let more = format!("{toml}[keyspace.other]\npattern = 'other'\n");
    assert_eq!(service.reload(&more).await.expect("it is taken"), ["keyspace.other", named[0]]);
    assert!(!is_loaded("3").await, "connections of the root before are used no more");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let of = |url: &str, more: &str| refused(&toml(url, more));
    let root = "root_certificate_file = 'ca.pem'";
    assert!(of("postgres://u@h/d?sslmode=disable", root).contains("no root is looked at"));
    let both = of("postgres://u@h/d", &format!("{root}\nverify_certificate = false"));
    assert!(both.contains("verify_certificate = false"), "{both}");
    assert!(of("postgres://u@h/d?sslmode=verify-ca", root).contains("`verify-full`"));
    let no_address = of("postgres://u:secret@h/d?sslmode=allow", "");
    assert!(no_address.contains("not the address") && !no_address.contains("secret"), "{no_address}");
}
