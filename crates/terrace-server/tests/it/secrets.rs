//! A secret is in no error, no `Debug`, no printed configuration, and no answer.

use crate::log::Log;
use crate::support::start;
use std::fmt::Write;
use terrace_server::config::{Config, Secret, Sources};

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
        "origin.a = { type = 'postgres', url = 'postgres://h/d?sslmode=require&password=hunter2' }\n",
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
