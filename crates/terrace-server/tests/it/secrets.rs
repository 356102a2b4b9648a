//! A secret is in no error, no `Debug`, no printed configuration, and no answer.

use crate::authority::Authority;
use crate::log::Log;
use crate::support::{Client, beside, config, start, token};
use std::fmt::Write;
use terrace_server::config::{Config, Secret, Sources};
use tokio::io::{AsyncRead, AsyncWrite};

const SECRET: &str = "hunter2";

#[test]
fn errors_do_not_repeat_secrets() {
    for toml in [
        "[l2]\nurl = 'redis://h'\npassword = hunter2\n",
        "[l2]\nurl = 'redis://h'\npassword = ['hunter2']\n",
        "[l2]\nurl = 'redis://h'\npassword = { text = 'hunter2' }\n",
        "[l2]\nurl = 'redis://h'\npassword = 'hunter2' 'x'\n",
        "[l2]\nurl = 'http://u:hunter2@h'\n",
        "[l2]\nurl = 'redis://u:hunter2@h:port'\n",
        "[l2]\nurl = 'redis://u:hunter2@h'\ndatabase = 'x'\n",
        "[l2]\nurl = 'redis://u:hunter2@h?insecure'\n",
        "l2 = 'redis://u:hunter2@h'\n",
        "l2 = { url = 'redis://u:hunter2@h', elephant = 1 }\n",
        "origin.a = { type = 'postgres', url = 'postgres://u:hunter2@h:port/d' }\n",
        "origin.a = { type = 'postgres', url = 'host=h password=hunter2 nonsense' }\n",
        "origin.a = { type = 'postgres', url = 'postgres://h/d?sslmode=verify-ca&password=hunter2' }\n",
        "origin.a = { type = 'sqlite', file = 'x', url = 'postgres://u:hunter2@h/d' }\n",
        "origin.a = 'postgres://u:hunter2@h/d'\n",
    ] {
        let error = Config::load(&Sources::text(toml)).expect_err(toml);
        let mut shown = error.to_string();
        write!(shown, "{error:?}").expect("a text takes text");
        assert!(!shown.contains(SECRET), "{toml}\n{shown}");
    }
}

#[test]
fn errors_about_variables_do_not_repeat_secrets() {
    for (name, value) in [
        ("REDIS_URL", "http://u:hunter2@h"),
        ("REDIS_ADDR", "u:hunter2@h:port"),
        ("TERRACE__L2__PASSWORD__X", "hunter2"),
        ("TERRACE__L2", "redis://u:hunter2@h"),
    ] {
        let variables = [(name.to_owned(), value.to_owned())];
        let error = Config::load(&Sources::none().variables(variables)).expect_err(name).to_string();
        assert!(!error.contains(SECRET), "{error}");
    }
}

#[test]
fn a_configuration_shows_its_shape_and_not_its_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "hunter2\n").expect("written");
    let toml = format!(
        "[l2]\nurl = 'redis://u:hunter2@cache:6379'\npassword_file = '{}'\n\
         [origin.a]\ntype = 'postgres'\nurl = 'postgres://u:hunter2@db/d'\n",
        file.display()
    );
    let sources = Sources::text(toml).variables([("REDIS_PASSWORD".to_owned(), String::new())]);
    let config = Config::load(&sources).unwrap_or_else(|error| panic!("{error}"));
    let l2 = config.l2.as_ref().expect("an L2");
    assert_eq!(l2.password.as_ref().map(Secret::reveal), Some(SECRET));
    let shown = format!("{config:?}\n{config:#?}\n{}\n{sources:?}", config.effective_toml());
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(shown.contains("redis://***@cache:6379") && shown.contains("postgres://***@db/d"), "{shown}");
}

#[test]
fn a_password_is_given_once() {
    let toml = "[l2]\nurl = 'redis://h'\npassword = 'a'\npassword_file = '/nowhere'\n";
    let error = Config::load(&Sources::text(toml)).expect_err("refused").to_string();
    assert!(error.contains("both `password` and `password_file` are set"), "{error}");
    let toml = "[l2]\nurl = 'redis://h'\npassword_file = '/nowhere'\n";
    let error = Config::load(&Sources::text(toml)).expect_err("refused").to_string();
    assert!(error.contains("cannot read this file"), "{error}");
    let variables = [("REDIS_PASSWORD".to_owned(), "b".to_owned())];
    let config = Config::load(&Sources::text(toml).variables(variables)).expect("the variable wins");
    assert_eq!(
        config.l2.and_then(|l2| l2.password).map(|password| password.reveal().to_owned()),
        Some("b".into())
    );
}

#[tokio::test]
async fn answers_and_logs_do_not_repeat_secrets() {
    let log = Log::of_this_thread();
    let service = start(
        "origin.a = { type = 'postgres', url = 'postgres://u:hunter2@127.0.0.1:1/d' }\n\
         l2 = { url = 'redis://u:hunter2@127.0.0.1:1', timeouts.connect = '100ms' }\n\
         [keyspace.users]\npattern = 'user:{id}'\nsource = { origin = 'a', load = 'select :id' }\n",
    )
    .await;
    for target in
        ["/api/cache/user:1", "/readyz", "/metrics", "/api/cache/metrics?verbose=true", "/api/cache/x"]
    {
        let answer = service.get(target).await;
        assert!(!format!("{answer:?}").contains(SECRET), "{answer:?}");
    }
    let lines = log.text();
    assert!(lines.contains("a load failed") && lines.contains("listening"), "{lines}");
    assert!(!lines.contains(SECRET), "{lines}");
}

/// Secrets in every place where one can be: in none where anybody reads, whatever goes wrong.
#[tokio::test]
async fn planted_secrets_are_found_nowhere() {
    const PLANTED: [&str; 6] = [
        "hunter2",
        "planted-token",
        "planted-wrong-token",
        "planted-in-query",
        "planted-value",
        "planted-digest",
    ];
    let log = Log::of_this_thread();
    let authority = Authority::new();
    let toml = format!(
        "{}origin.a = {{ type = 'postgres', url = 'postgres://u:hunter2@127.0.0.1:1/d' }}\n\
         l2 = {{ url = 'redis://u:hunter2@127.0.0.1:1', timeouts.connect = '100ms' }}\n\
         [keyspace.users]\npattern = 'user:{{id}}'\nsource = {{ origin = 'a', load = 'select :id' }}\n{}",
        authority.toml(""),
        token(
            "web",
            "planted-token",
            "scopes = ['read:*', 'write:x', 'invalidate:x', 'admin']\nrate = { per_second = 20, burst = 20 }"
        ),
    );
    let shown = format!("{:?}{}", config(&toml), config(&toml).effective_toml());
    let service = start(&toml).await;
    let mut texts = vec![shown, format!("{:?}", service.security)];
    for protocol in ["http/1.1", "http/1.1", "h2"] {
        let Ok(stream) = authority.connect(service.address, protocol, None).await else {
            panic!("no handshake")
        };
        if protocol == "h2" {
            texts.push(ask_h2_with("planted-token", stream).await);
            continue;
        }
        let mut client = Client::over(stream);
        for (token, method, target, body) in [
            ("planted-token", "GET", "/api/cache/user:1", ""),
            ("planted-token", "GET", "/api/cache/x?token=planted-in-query", ""),
            ("planted-token", "PUT", "/api/cache/x", "{\"value\":\"planted-value\"}"),
            ("planted-token", "PUT", "/api/cache/y", "{\"value\":\"planted-value\"}"),
            ("planted-token", "PUT", "/api/cache/x", "{\"value\":\"planted-value"),
            ("planted-wrong-token", "GET", "/api/cache/x?token=planted-in-query", ""),
            ("planted-token", "POST", "/api/cache/invalidate", "{\"keys\":[\"x\"]}"),
            ("planted-token", "GET", "/api/cache/why/x", ""),
            ("planted-token", "GET", "/readyz?verbose", ""),
            ("planted-token", "GET", "/metrics", ""),
            ("planted-token", "GET", "/api/cache/metrics?verbose=true", ""),
        ] {
            texts.push(format!("{:?}", client.ask(token, method, target, body).await));
        }
    }
    let plaintext = "[[auth.token]]\nname = 'a'\nsha256 = 'planted-digest'\nscopes = ['read:*']";
    texts.push(Config::load(&Sources::text(plaintext)).expect_err("no digest").to_string());
    let lines = log.text();
    assert!(lines.contains("TRACE") && lines.contains("terrace::audit"), "{lines}");
    texts.push(lines);
    let hits: Vec<&str> =
        texts.iter().flat_map(|text| PLANTED.into_iter().filter(|secret| text.contains(secret))).collect();
    let bytes: usize = texts.iter().map(String::len).sum();
    println!("planted secrets: {} places, {bytes} bytes, {} hits", PLANTED.len(), hits.len());
    assert_eq!(hits, Vec::<&str>::new());
}

/// Asks over HTTP/2, whose library logs frames.
async fn ask_h2_with(token: &str, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> String {
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    drop(beside(connection));
    let request = axum::http::Request::get("https://127.0.0.1/api/cache/user:2?token=planted-in-query")
        .header("authorization", format!("Bearer {token}"));
    let mut client = client.ready().await.expect("ready");
    let (answer, _) = client.send_request(request.body(()).expect("a request"), true).expect("sent");
    format!("{:?}", answer.await.expect("an answer"))
}
