//! Two services on one Redis, one of which is halted in the middle of something (SIGSTOP) and goes on later.

use crate::http::request;
use crate::process::{Running, Service, run, terrace, write};
use std::path::Path;
use std::time::Duration;
use terrace_testkit::server::RedisServer;
use terrace_testkit::wait::{pause, until_some};

/// Far more than `staleness_max` in the configuration below.
const LONGER_THAN_A_LEASE: Duration = Duration::from_millis(700);

fn service(redis: &RedisServer, more: &str) -> Service {
    let url = redis.url();
    Service::start(&format!("[l1]\nstaleness_max = \"200ms\"\n[l2]\nurl = \"{url}\"\n{more}"))
}

/// What a service answers for `key`: value and source.
fn get(service: &Service, key: &str) -> (String, String) {
    let reply = request("GET", &format!("{}/api/cache/{key}", service.url), &[], "");
    let text = |name: &str| reply.body[name].as_str().unwrap_or_default().to_owned();
    (text("value"), text("source"))
}

fn put(service: &Service, key: &str, value: &str) {
    let json = ["content-type: application/json".to_owned()];
    let body = format!("{{\"value\":\"{value}\"}}");
    let reply = request("PUT", &format!("{}/api/cache/{key}", service.url), &json, &body);
    assert_eq!(reply.status, 200, "{:?}", reply.body);
}

/// Reads until the service answers from its own memory.
async fn warm(service: &Service, key: &str, value: &str) {
    until_some("a copy in memory", async || {
        let answer = get(service, key);
        assert_eq!(answer.0, value);
        (answer.1 == "l1").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_made_through_one_service_is_seen_through_the_other() {
    let Some(redis) = RedisServer::start().await else { return };
    let (one, other) = (service(&redis, ""), service(&redis, ""));
    put(&one, "k", "old");
    warm(&other, "k", "old").await;
    put(&one, "k", "new");
    until_some("the new value", async || (get(&other, "k").0 == "new").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_invalidated_through_one_service_is_watched_on_the_other_under_the_id_that_is_printed() {
    let Some(redis) = RedisServer::start().await else { return };
    let (one, other) = (service(&redis, ""), service(&redis, ""));
    let mut command = terrace();
    command.args(["watch", "--type", "bus", "--type", "invalidate", "--json", "--url", &other.url]);
    let mut watching = Running::start(&mut command);
    watching.stdout.find("\"joined\"");
    for [option, named] in [["--key", "k"], ["--tag", "t"], ["--pattern", "p*"]] {
        let printed = one.run(&["invalidate", option, named, "--yes", "--json"]).expect(0).stdout;
        let printed: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
        let told = watching.stdout.find(&format!("\"version\":{}", printed["id"][0]));
        assert!(told.contains("\"invalidate\"") && told.contains(&format!("\"{named}\"")), "{told}");
    }
    watching.signal("INT");
    assert_eq!(watching.wait(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_keyspace_was_opened_with_another_codec_is_refused_until_that_is_forgotten() {
    let Some(redis) = RedisServer::start().await else { return };
    redis.cli(&["hset", "terrace:1:meta:default", "codec", "5", "codec_name", "postcard"]).await;
    let service = service(&redis, "");
    let json = ["content-type: application/json".to_owned()];
    let write_k =
        || request("PUT", &format!("{}/api/cache/k", service.url), &json, "{\"value\":\"v\"}").status;
    assert_eq!(write_k(), 502);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config =
        write(folder.path(), "terrace.toml", format!("[l2]\nurl = \"{}\"\n", redis.url()).as_bytes());
    let forget = |more: &[&str]| {
        let config = config.to_string_lossy();
        run(["forget-settings", "default", "-c", &config].iter().chain(more))
    };
    assert!(forget(&[]).expect(2).stderr.contains("--yes"));
    assert_eq!(write_k(), 502, "nobody has agreed");
    assert!(forget(&["--yes"]).expect(0).stderr.contains("decides on its settings"));
    assert_eq!(write_k(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_was_halted_returns_nothing_old_when_it_goes_on() {
    let Some(redis) = RedisServer::start().await else { return };
    let (one, other) = (service(&redis, ""), service(&redis, ""));
    put(&one, "k", "old");
    warm(&other, "k", "old").await;
    other.running.signal("STOP");
    put(&one, "k", "new");
    pause(LONGER_THAN_A_LEASE).await;
    other.running.signal("CONT");
    assert_eq!(get(&other, "k").0, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_was_halted_while_its_key_changed_is_kept_nowhere() {
    let Some(redis) = RedisServer::start().await else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let more = origin(folder.path());
    let (one, other) = (service(&redis, &more), service(&redis, &more));
    let url = other.url.clone();
    let loading = std::thread::spawn(move || {
        request("GET", &format!("{url}/api/cache/user:1"), &[], "").body["value"].clone()
    });
    until_some("the load to have its lease", async || {
        let leases = redis.cli(&["--scan", "--pattern", "terrace:*:l:user:1"]).await;
        (!leases.is_empty()).then_some(())
    })
    .await;
    other.running.signal("STOP");
    put(&one, "user:1", "new");
    other.running.signal("CONT");
    assert_eq!(loading.join().expect("it does not panic")["name"], "old", "its call began before");
    for service in [&one, &other, &one, &other] {
        assert_eq!(get(service, "user:1").0, "new");
    }
}

/// A table whose only row takes a while to load.
fn origin(folder: &Path) -> String {
    let file = folder.join("users.db");
    let database = rusqlite::Connection::open(&file).expect("a database");
    let made = "create table users (id integer primary key, name text); insert into users values (1, 'old');";
    database.execute_batch(made).expect("a table");
    drop(write(folder, "made", b""));
    let file = file.display();
    format!(
        "[origin.lite]\ntype = \"sqlite\"\nfile = '{file}'\ndelay = \"800ms\"\n[keyspace.users]\npattern = \"user:{{id}}\"\n\
         source = {{ origin = \"lite\", load = \"select name from users where id = :id\" }}\n"
    )
}
