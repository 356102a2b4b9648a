//! Reading through to a SQLite file.

use crate::support::{Running, config, start};
use rusqlite::Connection;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use terrace_server::check;

const ROWS: &str = "
    create table users (id integer primary key, name text, score real, photo blob, left_at text);
    insert into users values (1, 'Ada', 1.5, x'00ff', null), (2, 'Bo ''the'' \"quote\"', null, null, null);
    create table twice (id integer, n integer);
    insert into twice values (1, 1), (1, 2);
";

fn database() -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ref.db");
    Connection::open(&file).and_then(|connection| connection.execute_batch(ROWS)).expect("rows");
    let file = file.display().to_string();
    (folder, file)
}

fn toml(file: &str) -> String {
    format!(
        r#"
        [origin.lite]
        type = "sqlite"
        file = "{file}"
        [keyspace.users]
        pattern = "user:{{id}}"
        source = {{ origin = "lite", load = "select * from users where id = :id" }}
        [keyspace.names]
        pattern = "name:{{*name}}"
        source = {{ origin = "lite", load = "select id from users where name = :name" }}
        [keyspace.twice]
        pattern = "twice:{{id}}"
        source = {{ origin = "lite", load = "select n from twice where id = :id" }}
        "#
    )
}

async fn service(file: &str) -> Running {
    start(&toml(file)).await
}

#[tokio::test]
async fn a_miss_is_loaded_and_then_a_hit() {
    let (_folder, file) = database();
    let service = service(&file).await;
    let value = r#"{"id":1,"name":"Ada","score":1.5,"photo":"\\x00ff","left_at":null}"#;
    for (hit, source) in [(false, "origin"), (true, "l1")] {
        let got = service.get("/api/cache/user:1").await;
        let expected = format!(
            r#"{{"value":{value},"hit":{hit},"source":"{source}","cached_at":"T","expires_at":"T"}}"#
        );
        assert_eq!(got.body_without_times(), expected);
    }
    let got = service.get("/api/cache/user:2").await;
    assert!(got.body.contains(r#""name":"Bo 'the' \"quote\"","score":null,"#), "{}", got.body);
}

#[tokio::test]
async fn values_of_keys_are_data_to_the_statement() {
    let (_folder, file) = database();
    let service = service(&file).await;
    let got = service.get("/api/cache/name:Bo%20'the'%20%22quote%22").await;
    assert!(got.body.starts_with(r#"{"value":{"id":2},"#), "{}", got.body);
    for key in ["name:x'%20or%20'1'='1", "user:1%20or%201=1", "user:abc", "user:1;drop%20table%20users"] {
        service.get(&format!("/api/cache/{key}")).await.problem(404, "key_not_found");
    }
    assert_eq!(service.get("/api/cache/user:1").await.status, 200);
}

#[tokio::test]
async fn more_than_one_row_is_a_failure_of_the_origin() {
    let (_folder, file) = database();
    let detail = service(&file).await.get("/api/cache/twice:1").await.problem(502, "origin_not_unique");
    assert_eq!(detail, "origin `lite` has more than one row for this key");
}

#[tokio::test]
async fn invalidated_values_are_loaded_again() {
    let (_folder, file) = database();
    let service = service(&file).await;
    service.get("/api/cache/user:1").await;
    Connection::open(&file)
        .and_then(|c| c.execute("update users set name = 'Eve' where id = 1", []))
        .expect("changed");
    assert!(service.get("/api/cache/user:1").await.body.contains("Ada"));
    service.post("/api/cache/invalidate", r#"{"pattern":"user:*"}"#).await;
    let got = service.get("/api/cache/user:1").await;
    assert!(got.body.contains("Eve") && got.body.contains(r#""source":"origin""#), "{}", got.body);
}

#[tokio::test]
async fn a_file_that_appears_later_is_no_reason_not_to_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("later.db").display().to_string();
    let service = service(&file).await;
    let detail = service.get("/api/cache/user:1").await.problem(502, "origin_unavailable");
    assert_eq!(detail, "the origin `lite` is unreachable");
    assert_eq!(service.get("/readyz").await.status, 200);
    assert!(!Path::new(&file).exists(), "reading makes no file");
    Connection::open(&file).and_then(|connection| connection.execute_batch(ROWS)).expect("rows");
    assert_eq!(service.get("/api/cache/user:1").await.status, 200);
}

#[tokio::test]
async fn a_statement_that_runs_for_too_long_is_interrupted() {
    let (_folder, file) = database();
    let toml = format!(
        "origin.lite = {{ type = 'sqlite', file = '{file}', pool = 1, statement_timeout = '100ms' }}\n\
         [keyspace.slow]\npattern = 'slow:{{n}}'\n\
         source = {{ origin = 'lite', load = \"with recursive c(n) as (select 1 union all select n + 1 from c) select max(n) as n from c where n <> :n\" }}\n\
         [keyspace.users]\npattern = 'user:{{id}}'\n\
         source = {{ origin = 'lite', load = 'select * from users where id = :id' }}\n"
    );
    let service = start(&toml).await;
    service.get("/api/cache/slow:1").await.problem(504, "origin_timeout");
    assert_eq!(service.get("/api/cache/user:1").await.status, 200, "its thread is free again");
}

#[tokio::test]
async fn a_delay_is_waited_for() {
    let (_folder, file) = database();
    let toml =
        format!("{}\n", toml(&file).replace("type = \"sqlite\"", "type = \"sqlite\"\ndelay = \"300ms\""));
    let service = start(&toml).await;
    let clock = terrace::Clock::system();
    let before = clock.precise();
    assert_eq!(service.get("/api/cache/user:1").await.status, 200);
    assert!(clock.precise().since(before) >= Duration::from_millis(300));
}

#[tokio::test]
async fn concurrent_misses_of_one_key_are_one_load() {
    let (_folder, file) = database();
    let toml = toml(&file).replace("type = \"sqlite\"", "type = \"sqlite\"\ndelay = \"200ms\"");
    let service = start(&toml).await;
    let gets = (0..20).map(|_| service.get("/api/cache/user:1"));
    for answer in futures_util::future::join_all(gets).await {
        assert_eq!(answer.status, 200);
    }
    let metrics: serde_json::Value =
        serde_json::from_str(&service.get("/api/cache/metrics").await.body).expect("JSON");
    assert_eq!((&metrics["loads"], &metrics["requests"]), (&1.into(), &20.into()), "{metrics}");
}

#[tokio::test]
async fn checking_finds_statements_that_do_not_compile() {
    let (_folder, file) = database();
    let findings = check(&config(&toml(&file))).await.expect("it can be checked");
    assert_eq!(findings.len(), 3);
    assert!(findings.iter().all(|finding| finding.result.is_ok()), "{findings:?}");

    for (load, words) in [
        ("selct * from users where id = :id", "syntax error"),
        ("select * from usres where id = :id", "no such table"),
        ("delete from users where id = :id", "it reads nothing"),
        ("select id, name as id from users where id = :id", "two of its columns are called `id`"),
        ("select * from users where id = :id and name = ?", "parameters without a name"),
    ] {
        let broken = toml(&file).replace("select * from users where id = :id", load);
        let findings = check(&config(&broken)).await.expect("it can be checked");
        let found =
            findings.iter().find(|finding| finding.what == "keyspace.users.source.load").expect("checked");
        let words_found = found.result.as_ref().expect_err(load);
        assert!(words_found.contains(words), "{load}: {words_found}");
    }
}
