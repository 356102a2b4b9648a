//! TLS: who is let into a handshake, what is spoken after it, and certificates that change meanwhile.

use crate::authority::Authority;
use crate::support::{Client, config, refused, start, token};
use bytes::Bytes;
use std::time::Duration;
use terrace_server::Stop;
use terrace_server::config::{Config, Sources};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest that the service may take to end a connection that it should end.
const PATIENCE: Duration = Duration::from_secs(20);

/// One request in HTTP/2: the status and the body.
async fn ask_h2(client: &mut h2::client::SendRequest<Bytes>, target: &str) -> (u16, String) {
    let request = axum::http::Request::get(format!("https://127.0.0.1{target}")).body(()).expect("a request");
    let mut client = client.clone().ready().await.expect("ready");
    let (answer, _) = client.send_request(request, true).expect("sent");
    let answer = answer.await.expect("an answer");
    let status = answer.status().as_u16();
    let (mut body, mut text) = (answer.into_body(), Vec::new());
    while let Some(data) = body.data().await {
        let data = data.expect("data");
        body.flow_control().release_capacity(data.len()).expect("released");
        text.extend_from_slice(&data);
    }
    (status, String::from_utf8(text).expect("text"))
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_over_tls_and_neither_without() {
    let authority = Authority::new();
    let service = start(&(authority.toml("") + &token("web", "t", "scopes = ['read:*', 'write:*']"))).await;
    let stream = authority.connect(service.address, "http/1.1", None).await.expect("a handshake");
    let mut client = Client::over(stream);
    assert_eq!(client.ask("t", "PUT", "/api/cache/a", "{\"value\":1}").await.status, 200);
    client.ask("x", "GET", "/api/cache/a", "").await.problem(401, "unauthorized");

    let stream = authority.connect(service.address, "h2", None).await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut h2, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    drop(crate::support::beside(connection));
    let (status, body) = ask_h2(&mut h2, "/api/cache/a").await;
    assert_eq!((status, body.contains("\"code\":\"unauthorized\"")), (401, true), "{body}");
    assert_eq!(ask_h2(&mut h2, "/livez").await, (200, "{\"status\":\"ok\"}".to_owned()));
    let many = futures_util::future::join_all((0..50).map(|_| {
        let mut h2 = h2.clone();
        async move { ask_h2(&mut h2, "/livez").await.0 }
    }));
    assert_eq!(many.await, vec![200; 50]);

    for (target, status, length) in [("/v1/keys/a", 200, "1"), ("/api/cache/none", 404, "")] {
        let request = axum::http::Request::head(format!("https://127.0.0.1{target}"))
            .header("authorization", "Bearer t")
            .header("x-request-id", "abc");
        let request = request.body(()).expect("a request");
        let (answer, _) = h2.clone().ready().await.expect("ready").send_request(request, true).expect("sent");
        let answer = answer.await.expect("an answer");
        assert_eq!((answer.status().as_u16(), &answer.headers()["x-request-id"] == "abc"), (status, true));
        assert!(length.is_empty() || answer.headers()["content-length"] == length, "{answer:?}");
        assert!(answer.into_body().data().await.is_none(), "{target}: a `HEAD` has no body");
    }

    let large = format!("{{\"value\":\"{}\"}}", "x".repeat(500_000));
    let request =
        axum::http::Request::put("https://127.0.0.1/api/cache/large").header("authorization", "Bearer t");
    let (answer, mut body) = h2
        .clone()
        .ready()
        .await
        .expect("ready")
        .send_request(request.body(()).expect("a request"), false)
        .expect("sent");
    body.send_data(large.into(), true).expect("sent");
    assert_eq!(answer.await.expect("an answer").status(), 200, "more than the window");

    let mut plain = TcpStream::connect(service.address).await.expect("it listens");
    plain.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, plain.read_to_end(&mut bytes)).await.expect("it ends").ok();
    assert!(!bytes.starts_with(b"HTTP"), "{bytes:?}");
    let ended = service.stop(Stop::Now).await;
    assert!(ended.is_clean(), "connections that do nothing end at once: {ended:?}");
}

#[tokio::test]
async fn a_client_without_a_certificate_of_the_right_root_is_turned_away() {
    let (authority, of_clients, stranger) = (Authority::new(), Authority::new(), Authority::new());
    let service = start(&authority.toml_for_clients_of(&of_clients)).await;
    let known = of_clients.sign();
    let stream = authority.connect(service.address, "http/1.1", Some(&known)).await.expect("a handshake");
    assert_eq!(Client::over(stream).ask("", "GET", "/livez", "").await.status, 200);
    for identity in [None, Some(stranger.sign())] {
        // In TLS 1.3 a client hears of it only when it reads.
        let Ok(mut stream) = authority.connect(service.address, "http/1.1", identity.as_ref()).await else {
            continue;
        };
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.ok();
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it ends");
        assert!(read.is_err() && bytes.is_empty(), "{bytes:?}");
    }
}

#[tokio::test]
async fn certificates_are_replaced_and_connections_go_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let toml = old.toml("");
    let service = start(&toml).await;
    let stream = old.connect(service.address, "http/1.1", None).await.expect("a handshake");
    let mut client = Client::over(stream);
    assert_eq!(client.ask("", "GET", "/livez", "").await.status, 200);

    let signed = new.sign();
    old.write("tls.crt", &signed.certificate);
    let unfit = Config::load(&Sources::text(&toml)).expect_err("the key is that of the old one").to_string();
    assert!(unfit.contains("cannot be used") && unfit.contains('^'), "{unfit}");
    old.write("tls.key", &signed.key);
    service.security.replace(&config(&toml)).expect("replaced");
    assert!(old.connect(service.address, "http/1.1", None).await.is_err(), "signed by another root now");
    let stream = new.connect(service.address, "http/1.1", None).await.expect("a handshake");
    assert_eq!(Client::over(stream).ask("", "GET", "/livez", "").await.status, 200);
    assert_eq!(client.ask("", "GET", "/livez", "").await.status, 200, "what was open stays open");

    let switched = service.security.replace(&config("")).expect_err("TLS is not switched off").to_string();
    assert!(switched.contains("restart"), "{switched}");
}

#[tokio::test]
async fn what_does_nothing_after_it_has_connected_is_cut_off() {
    let authority = Authority::new();
    let service = start(&(authority.toml("") + "server.header_timeout = '200ms'\n")).await;
    let mut silent = TcpStream::connect(service.address).await.expect("it listens");
    let mut half = TcpStream::connect(service.address).await.expect("it listens");
    half.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.expect("the beginning of a hello");
    let ended = async |stream: &mut TcpStream| {
        let mut bytes = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it ends").ok();
    };
    ended(&mut silent).await;
    ended(&mut half).await;
    for protocol in ["http/1.1", "h2"] {
        let mut stream = authority.connect(service.address, protocol, None).await.expect("a handshake");
        let mut bytes = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect(protocol).ok();
    }
    let stream = authority.connect(service.address, "h2", None).await.expect("a handshake");
    let (mut idle, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = crate::support::beside(connection);
    assert_eq!(ask_h2(&mut idle, "/livez").await.0, 200);
    tokio::time::timeout(PATIENCE, connection).await.expect("it ends").expect("no panic").ok();
}

#[tokio::test]
async fn what_concerns_the_service_is_on_the_admin_listener_alone() {
    let tokens =
        token("ops", "ops", "scopes = ['admin', 'read:*']") + &token("web", "web", "scopes = ['read:*']");
    let service =
        start(&format!("server.admin_listen = '127.0.0.1:0'\nserver.max_requests = 4\n{tokens}")).await;
    let admin = service.admin.expect("an admin listener");
    let ask = async |address, token: &str, target: &str| {
        let mut client = Client::over(TcpStream::connect(address).await.expect("it listens"));
        client.ask(token, "GET", target, "").await.status
    };
    for target in [
        "/metrics",
        "/api/cache/metrics",
        "/api/cache/hot",
        "/api/cache/why/a",
        "/api/cache/events",
        "/api/cache/behind",
    ] {
        assert_eq!(ask(service.address, "ops", target).await, 404, "{target}");
        assert_eq!(ask(service.address, "", target).await, 404, "{target}");
        let elsewhere = service.get(target).await.problem(404, "route_not_found");
        assert!(elsewhere.contains("at the admin listener") && !elsewhere.contains("127."), "{elsewhere}");
        assert_eq!(ask(admin, "web", target).await, 403, "{target}");
        assert_eq!(ask(admin, "", target).await, 401, "{target}");
        if target != "/api/cache/events" {
            assert_eq!(ask(admin, "ops", target).await, 200, "{target}");
        }
    }
    for address in [service.address, admin] {
        assert_eq!(ask(address, "", "/livez").await, 200);
        assert_eq!(ask(address, "", "/api/cache/a").await, 401);
        assert_eq!(ask(address, "web", "/api/cache/metric").await, 404);
    }
    let put = |target| service.with("ops", "PUT", target, "{\"value\":1}");
    assert_eq!(put("/api/cache/metrics").await.status, 404, "it does not become a key");
}

#[test]
fn tls_that_cannot_be_is_refused_where_it_stands() {
    let authority = Authority::new();
    let toml = authority.toml("");
    let folder = authority.folder.path().display().to_string();
    let empty = authority.write("empty.pem", "nothing").display().to_string();
    for (toml, words) in [
        (toml.replace("tls.crt", "missing.crt"), "missing.crt has no certificate"),
        (toml.replace(&format!("{folder}/tls.crt"), &empty), "has no certificate"),
        (toml.replace(&format!("{folder}/tls.key"), &empty), "has no private key"),
        (format!("server.tls = {{ cert_file = '{empty}' }}"), "needs a certificate and its key"),
        (authority.toml(&format!(", client_ca_file = '{empty}'")), "has no certificate"),
    ] {
        let error = refused(&toml);
        assert!(error.contains(words) && error.contains('^'), "{toml}: {error}");
    }
}
