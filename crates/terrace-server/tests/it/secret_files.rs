//! Secrets in files of their own, `x_file` instead of `x`.

use crate::http_api::Api;
use crate::support::{refused, start};
use std::path::{Path, PathBuf};
use terrace_server::ReloadError;
use terrace_server::config::{Config, OriginConfig, Secret, Sources};
use terrace_testkit::server::{RedisServer, unique_prefix};
use terrace_testkit::wait::until_some;

/// A folder with secrets.
struct Secrets(tempfile::TempDir);

impl Secrets {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn set(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }
}

fn toml(of: &Secrets) -> String {
    let named = |name: &str, text: &str| of.set(name, text).display().to_string();
    format!(
        "[l2]\nurl_file = '{}'\n[origin.a]\ntype = 'postgres'\nurl_file = '{}'\npassword_file = '{}'\n\
         [origin.b]\ntype = 'postgres'\nurl = 'postgres://u@db/d'\npassword = 'hunter2'\n\
         [origin.api]\ntype = 'http'\nbase_url = 'http://api'\nheaders = {{ x-key = 'hunter2' }}\n\
         headers_file = {{ authorization = '{}' }}\n\
         [telemetry.otlp]\nendpoint = 'http://localhost:4318'\nheaders_file = {{ authorization = '{}' }}\n",
        named("redis", "redis://u:hunter2@cache:6379\n"),
        named("database", "postgres://u@db/d\r\n"),
        named("password", "hunter2\n\n"),
        named("token", "Bearer hunter2\n"),
        named("otlp", "Bearer hunter2"),
    )
}

#[test]
fn a_secret_is_what_its_file_has_and_is_shown_nowhere() {
    let secrets = Secrets::new();
    let toml = toml(&secrets);
    let config = Config::load(&Sources::text(&toml)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.l2.as_ref().map(|l2| l2.url.reveal()), Some("redis://u:hunter2@cache:6379"));
    for (name, url) in [("a", "postgres://u@db/d"), ("b", "postgres://u@db/d")] {
        let OriginConfig::Postgres(origin) = &config.origins[name] else { panic!("{name}") };
        assert_eq!(origin.url.reveal(), url);
        assert_eq!(origin.password.as_ref().map(Secret::reveal), Some("hunter2"), "{name}");
    }
    let OriginConfig::Http(api) = &config.origins["api"] else { panic!("api") };
    assert_eq!(api.headers["authorization"].reveal(), "Bearer hunter2");
    assert_eq!(api.headers["x-key"].reveal(), "hunter2");
    assert_eq!(config.telemetry.otlp.headers["authorization"].reveal(), "Bearer hunter2");
    let shown = format!("{config:?}{}", config.effective_toml());
    assert!(!shown.contains("hunter2"), "{shown}");
    let settings = Config::settings(&Sources::text(&toml)).expect("the same");
    let line_of = |key: &str| {
        let setting = settings.iter().find(|setting| setting.key == key);
        setting.unwrap_or_else(|| panic!("{key}")).from.to_string()
    };
    for (key, line) in [
        ("l2.url", 2),
        ("origin.a.url", 5),
        ("origin.a.password", 6),
        ("origin.api.headers.authorization", 15),
        ("telemetry.otlp.headers.authorization", 18),
    ] {
        assert_eq!(line_of(key), format!("configuration:{line}"), "{key}");
    }
}

#[test]
fn a_secret_beside_its_file_and_a_file_that_cannot_be_read_are_refused() {
    let secrets = Secrets::new();
    let all = toml(&secrets);
    for (from, to, words) in [
        ("[l2]\n", "[l2]\nurl = 'redis://h'\n", "both `url` and `url_file` are set"),
        ("[origin.a]\n", "[origin.a]\nurl = 'postgres://u@h/d'\n", "both `url` and `url_file` are set"),
        ("[origin.a]\n", "[origin.a]\npassword = 'x'\n", "both `password` and `password_file` are set"),
        ("x-key", "AUTHORIZATION", "this header is in `headers`, too"),
        ("postgres://u@db/d'", "postgres://u:x@db/d'", "the address has a password, too"),
    ] {
        let refused = refused(&all.replacen(from, to, 1));
        assert!(refused.contains(words) && refused.contains('^'), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
    let folder = std::env::current_dir().expect("a folder");
    for (name, rest) in [
        ("redis", "l2.url_file"),
        ("database", "origin.a.url_file"),
        ("password", "origin.a.password_file"),
        ("token", "origin.api.headers_file"),
        ("otlp", "telemetry.otlp.headers_file"),
    ] {
        let path = secrets.0.path().join(name).display().to_string();
        let refused = refused(&all.replace(&path, "nowhere.secret"));
        assert!(refused.contains("cannot read this file") && refused.contains('^'), "{rest}: {refused}");
        let begin = format!("relative paths begin at {}", folder.display());
        assert!(refused.contains(&begin), "{rest}: {refused}");
    }
    let empty = secrets.0.path().join("empty");
    std::fs::write(&empty, "\n").expect("a file");
    let large = secrets.0.path().join("large");
    std::fs::write(&large, "x".repeat((64 << 10) + 1)).expect("a file");
    let folder = secrets.0.path().display().to_string();
    for (file, words) in [
        (empty.display().to_string(), "there is nothing in it"),
        (large.display().to_string(), "it has more than 65536 bytes"),
        (folder, "it is no regular file"),
    ] {
        let refused = refused(&format!("[l2]\nurl = 'redis://h'\npassword_file = '{file}'\n"));
        assert!(refused.contains(words) && refused.contains('^'), "{refused}");
    }
    let said = refused("[l2]\nurl_file = 'redis://u:hunter2@h'\n")
        + &refused("origin.a.headers_file = 'Bearer hunter2'\n");
    assert!(!said.replace("headers_file = 'Bearer hunter2'", "").contains("hunter2"), "{said}");
    let foreign = refused("[origin.a]\ntype = 'sqlite'\nfile = 'x'\npassword_file = 'y'\n");
    assert!(foreign.contains("an origin of type `sqlite` has no `password_file`"), "{foreign}");
}

#[tokio::test]
async fn a_header_of_a_file_is_sent_and_another_one_after_a_reload() {
    let (api, secrets) = (Api::start().await, Secrets::new());
    let file = |text: &str| secrets.set("token", text);
    let toml = |file: &Path| {
        format!(
            "[origin.api]\ntype = 'http'\nbase_url = '{}'\nheaders_file = {{ authorization = '{}' }}\n\
             [keyspace.docs]\npattern = 'doc:{{id}}'\nsource = {{ origin = 'api', load = 'GET /docs/{{id}}' }}\n",
            api.url(),
            file.display()
        )
    };
    let toml = toml(&file("Bearer one\n"));
    let service = start(&toml).await;
    let sent = async |key: &str| {
        service.get(key).await.problem(404, "key_not_found");
        api.asked()[0].headers["authorization"].to_str().expect("text").to_owned()
    };
    assert_eq!(sent("/api/cache/doc:1").await, "Bearer one");
    file("Bearer two\n");
    assert_eq!(service.reload(&toml).await.expect("it can change"), ["origin.api.headers"]);
    assert_eq!(sent("/api/cache/doc:2").await, "Bearer two");
}

#[tokio::test]
async fn another_password_of_redis_is_taken_by_a_reload_and_nothing_else_of_it_is() {
    let Some(redis) = RedisServer::builder().password("hunter1").start().await else { return };
    let (secrets, prefix) = (Secrets::new(), unique_prefix());
    for setting in ["password_file", "url_file"] {
        let write = |user: &str, password: &str| match setting {
            "password_file" => secrets.set(setting, password),
            _ => secrets.set(setting, &format!("redis://{user}:{password}@{}", redis.address())),
        };
        let url = if setting == "url_file" { String::new() } else { format!("url = '{}'\n", redis.url()) };
        let file = write("default", "hunter1").display().to_string();
        let toml =
            format!("[l2]\n{url}{setting} = '{file}'\nkey_prefix = '{prefix}'\nbreaker.open = '100ms'\n");
        let service = start(&toml).await;
        let is_well = async || {
            let ready = service.get("/readyz").await.body;
            (ready == r#"{"status":"ok","degraded":[]}"#).then_some(())
        };
        let put = async |n: u32| {
            let body = format!("{{\"value\":{n}}}");
            assert_eq!(service.put("/api/cache/k", &body).await.status, 200);
        };
        put(1).await;
        until_some("Redis to be reached", is_well).await;
        redis.cli(&["config", "set", "requirepass", "hunter2"]).await;
        write("default", "hunter2");
        assert_eq!(service.reload(&toml).await.expect("it can change"), ["l2.password"], "{setting}");
        redis.cli(&["-a", "hunter2", "client", "kill", "type", "normal"]).await;
        redis.cli(&["-a", "hunter2", "client", "kill", "type", "pubsub"]).await;
        put(2).await;
        until_some("Redis to be reached again", is_well).await;
        if setting == "url_file" {
            write("another", "hunter2");
            let refused = service.reload(&toml).await;
            assert!(
                matches!(&refused, Err(ReloadError::Fixed(names)) if names == &["l2.url"]),
                "{refused:?}"
            );
        }
        redis.cli(&["-a", "hunter2", "config", "set", "requirepass", "hunter1"]).await;
    }
}

#[test]
fn what_is_beside_the_configuration_counts_before_what_is_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("url");
    std::fs::write(&path, "redis://by-file:1\n").expect("a file");
    let url = |variables: &[(&str, &str)]| {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let sources = Sources::text("l2.url = 'redis://written:1'").variables(variables.iter().map(own));
        Config::load(&sources).expect("it can be").l2.expect("there is one").url.to_string()
    };
    let path = path.display().to_string();
    assert_eq!(url(&[]), "redis://written:1");
    assert_eq!(url(&[("TERRACE__L2__URL_FILE", &path)]), "redis://by-file:1");
    let both = [("TERRACE__L2__URL_FILE", &*path), ("TERRACE__L2__URL", "redis://beside:1")];
    assert_eq!(url(&both), "redis://beside:1");
}
