//! The strategies that write, against a PostgreSQL server.

use crate::support::{Answer, Running, config, start};
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use terrace_server::check;
use terrace_testkit::server::postgres_url;
use tokio_postgres::{Client, NoTls};

/// A table of one test's own, and a user that can be locked out.
struct Table {
    url: String,
    name: String,
    client: Client,
    folder: tempfile::TempDir,
}

impl Table {
    /// `None`, with a line on the terminal, if there is no server to test with.
    async fn create() -> Option<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let url = postgres_url()?;
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("the server answers");
        crate::support::beside(async move {
            connection.await.ok();
        });
        let name = format!("terrace_w{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let made = format!(
            "create role {name} login; create schema {name} authorization {name};
             create table {name}.docs (id bigint primary key, doc jsonb not null check (doc <> '\"never\"'), version bigint);
             alter table {name}.docs owner to {name};"
        );
        client.batch_execute(&made).await.expect("a table");
        let (_, server) = url.rsplit_once('@').expect("a user");
        let url = format!("postgres://{name}@{server}");
        Some(Self { url, name, client, folder: tempfile::tempdir().expect("a folder") })
    }

    fn toml(&self, strategy: &str) -> String {
        let Self { url, name, folder, .. } = self;
        let behind = strategy == "write-behind";
        let version = if behind { ":version" } else { "0" };
        let fence = if behind { " where docs.version < excluded.version" } else { "" };
        let journal = folder.path().join("writes.journal").display().to_string();
        format!(
            r#"
            [origin.main]
            type = "postgres"
            url = "{url}"
            statement_timeout = "500ms"
            pool = 2
            write_pool = 2
            [write_behind]
            path = "{journal}"
            interval = "1h"
            backoff_min = "20ms"
            backoff_max = "20ms"
            attempts_max = 2
            [keyspace.docs]
            pattern = "doc:{{id}}"
            strategy = "{strategy}"
            [keyspace.docs.source]
            origin = "main"
            document = "doc"
            load = "select doc from {name}.docs where id = :id"
            store = "insert into {name}.docs as docs values (:id, :value, {version}) on conflict (id) do update set doc = excluded.doc, version = excluded.version{fence}"
            delete = "delete from {name}.docs where id = :id"
            "#
        )
    }

    async fn row(&self, id: i64) -> Option<(String, i64)> {
        let sql = format!("select doc::text, version from {}.docs where id = $1", self.name);
        let row = self.client.query_opt(&sql, &[&id]).await.expect("the table is there");
        row.map(|row| (row.get(0), row.get(1)))
    }

    /// Lets nobody of the service in, and ends its connections.
    async fn lock_out(&self) {
        let name = &self.name;
        let sql = format!(
            "alter role {name} nologin;
             select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = '{name}'"
        );
        self.client.batch_execute(&sql).await.expect("locked out");
    }

    async fn let_in(&self) {
        self.client.batch_execute(&format!("alter role {} login", self.name)).await.expect("let in");
    }

    async fn remove(self) {
        let name = &self.name;
        self.lock_out().await;
        let sql = format!("drop schema {name} cascade; drop role {name}");
        self.client.batch_execute(&sql).await.expect("dropped");
    }
}

fn json(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
}

async fn put(service: &Running, key: &str, value: &str) -> Answer {
    service.put(&format!("/api/cache/{key}"), &format!("{{\"value\":{value}}}")).await
}

/// The value and its source.
async fn got(service: &Running, key: &str) -> (String, String) {
    let body = json(&service.get(&format!("/api/cache/{key}")).await);
    (body["value"].to_string(), body["source"].as_str().unwrap_or_default().to_owned())
}

fn pair(value: &str, source: &str) -> (String, String) {
    (value.to_owned(), source.to_owned())
}

#[tokio::test]
async fn write_through_stores_in_both_or_in_none() {
    let Some(table) = Table::create().await else { return };
    let service = start(&table.toml("write-through")).await;
    assert_eq!(put(&service, "doc:1", r#"{"a":[1,"it's"]}"#).await.status, 200);
    assert_eq!(table.row(1).await, Some((r#"{"a": [1, "it's"]}"#.to_owned(), 0)));
    assert_eq!(got(&service, "doc:1").await, pair(r#"{"a":[1,"it's"]}"#, "l1"));
    service.post("/api/cache/invalidate", r#"{"keys":["doc:1"]}"#).await;
    assert_eq!(got(&service, "doc:1").await, pair(r#"{"a":[1,"it's"]}"#, "origin"));

    let detail = put(&service, "doc:1", "\"never\"").await.problem(422, "origin_refused");
    assert_eq!(detail, "the origin `main` does not take this write; the log of the service says why");
    put(&service, "doc:abc", "1").await.problem(422, "origin_refused");
    table.lock_out().await;
    put(&service, "doc:1", "2").await.problem(502, "origin_unavailable");
    service.delete("/api/cache/doc:1").await.problem(502, "origin_unavailable");
    assert_eq!(got(&service, "doc:1").await, pair(r#"{"a":[1,"it's"]}"#, "l1"));
    table.let_in().await;
    assert_eq!(put(&service, "doc:1", "2").await.status, 200);
    assert_eq!(service.delete("/api/cache/doc:1").await.status, 200);
    assert_eq!(table.row(1).await, None);
    table.remove().await;
}

#[tokio::test]
async fn a_write_that_waits_for_a_lock_ends_in_time_and_is_taken_back() {
    let Some(table) = Table::create().await else { return };
    let service = start(&table.toml("write-through")).await;
    put(&service, "doc:1", "1").await;
    let lock = format!("begin; select 1 from {}.docs where id = 1 for update", table.name);
    table.client.batch_execute(&lock).await.expect("locked");
    put(&service, "doc:1", "2").await.problem(504, "origin_timeout");
    assert_eq!(got(&service, "doc:1").await, pair("1", "l1"));
    table.client.batch_execute("rollback").await.expect("unlocked");
    assert_eq!(table.row(1).await, Some(("1".to_owned(), 0)));
    table.remove().await;
}

#[tokio::test]
async fn a_connection_that_ends_under_a_write_leaves_it_unknown_and_drops_the_copy() {
    let Some(table) = Table::create().await else { return };
    let toml =
        table.toml("write-through").replace("statement_timeout = \"500ms\"", "statement_timeout = \"30s\"");
    let service = std::sync::Arc::new(start(&format!("server.request_timeout = '30s'\n{toml}")).await);
    put(&service, "doc:1", "1").await;
    let lock = format!("begin; select 1 from {}.docs where id = 1 for update", table.name);
    table.client.batch_execute(&lock).await.expect("locked");
    let writing = std::sync::Arc::clone(&service);
    let writing = crate::support::beside(async move { put(&writing, "doc:1", "2").await });
    let ended = format!(
        "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity
         where usename = '{}' and wait_event_type = 'Lock'",
        table.name
    );
    let ending =
        async { while table.client.query_one(&ended, &[]).await.expect("asked").get::<_, i64>(0) == 0 {} };
    tokio::time::timeout(Duration::from_secs(20), ending).await.expect("it waits for the lock");
    writing.await.expect("an answer").problem(504, "write_unknown");
    table.client.batch_execute("rollback").await.expect("unlocked");
    assert_eq!(got(&service, "doc:1").await, pair("1", "origin"), "its copy was dropped");
    table.remove().await;
}

#[tokio::test]
async fn write_around_stores_at_the_origin_alone() {
    let Some(table) = Table::create().await else { return };
    let service = start(&table.toml("write-around")).await;
    assert_eq!(put(&service, "doc:1", "1").await.status, 200);
    assert_eq!(got(&service, "doc:1").await, pair("1", "origin"));
    table.lock_out().await;
    put(&service, "doc:1", "2").await.problem(502, "origin_unavailable");
    assert_eq!(got(&service, "doc:1").await, pair("1", "l1"));
    table.remove().await;
}

#[tokio::test]
async fn what_is_only_written_is_never_loaded() {
    let Some(table) = Table::create().await else { return };
    let toml = table.toml("write-around").replace("load =", "# load =").replace("document =", "# document =");
    let service = start(&toml).await;
    assert_eq!(put(&service, "doc:1", "1").await.status, 200);
    assert_eq!(table.row(1).await.map(|(doc, _)| doc).as_deref(), Some("1"));
    service.get("/api/cache/doc:1").await.problem(404, "key_not_found");
    assert_eq!(service.delete("/api/cache/doc:1").await.status, 200);
    assert_eq!(table.row(1).await, None);
    table.remove().await;
}

#[tokio::test]
async fn write_behind_outlasts_an_origin_that_is_away() {
    let Some(table) = Table::create().await else { return };
    let service = start(&table.toml("write-behind")).await;
    table.lock_out().await;
    for number in 1..=20 {
        let answer = json(&put(&service, &format!("doc:{number}"), &number.to_string()).await);
        assert_eq!(answer["ack"], "fsync", "{answer}");
    }
    let flushed = service.post("/api/cache/behind/docs/flush", "").await;
    assert_eq!(flushed.body, r#"{"stored":0,"parked":20,"dead":0,"success":true}"#);
    let until = async |is_so: fn(&Value) -> bool| {
        let waiting =
            async { while !is_so(&json(&service.get("/api/cache/behind").await)["keyspaces"][0]) {} };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("in time");
    };
    until(|standing| standing["retried"].as_u64() >= Some(80)).await;
    until(|standing| standing["dead"] == 0 && standing["pending"] == 20).await;
    table.let_in().await;
    until(|standing| standing["pending"] == 0).await;
    for number in 1..=20_i64 {
        let (doc, version) = table.row(number).await.expect("stored");
        assert!(doc == number.to_string() && version > 0, "{number}: {doc} {version}");
    }
    service.delete("/api/cache/doc:1").await;
    service.post("/api/cache/behind/docs/flush", "").await;
    assert_eq!(table.row(1).await, None);
    table.remove().await;
}

#[tokio::test]
async fn checking_finds_statements_that_cannot_write() {
    let Some(table) = Table::create().await else { return };
    let toml = table.toml("write-through");
    let findings = check(&config(&toml)).await.expect("it can be checked");
    assert!(findings.len() == 4 && findings.iter().all(|finding| finding.result.is_ok()), "{findings:?}");
    let delete = format!("delete from {}.docs", table.name);
    for (from, to, at, words) in [
        ("insert into", "insrt into", 2, "syntax error"),
        (delete.as_str(), "delete from no_such_table", 3, "does not exist"),
        ("document = \"doc\"", "document = \"dock\"", 1, "does not exist"),
    ] {
        let findings = check(&config(&toml.replace(from, to))).await.expect("it can be checked");
        let found = findings[at].result.clone();
        assert!(found.as_ref().is_err_and(|found| found.contains(words)), "{to}: {found:?}");
    }
    table.remove().await;
}

#[tokio::test]
async fn a_request_that_comes_again_leaves_the_row_that_came_after_it() {
    let Some(table) = Table::create().await else { return };
    let toml = table.toml("write-behind");
    let service = start(&toml).await;
    let named = async |service: &Running, value: &str| {
        let body = format!("{{\"value\":{value}}}");
        let header = "idempotency-key: \"8e03978e-40d5\"";
        service.send_with("PUT", "/api/cache/doc:1", &[header], body.as_bytes()).await
    };
    let first = named(&service, "1").await;
    assert_eq!(first.status, 202, "{first:?}");
    let flush = async |service: &Running| service.post("/api/cache/behind/docs/flush", "").await;
    flush(&service).await;
    put(&service, "doc:1", "2").await;
    flush(&service).await;
    let row = table.row(1).await;
    assert_eq!(row.as_ref().map(|(doc, _)| doc.as_str()), Some("2"));
    let again = named(&service, "1").await;
    assert_eq!((again.status, again.header("location")), (202, first.header("location")), "{again:?}");
    named(&service, "3").await.problem(422, "idempotency_key_reused");
    assert_eq!(json(&flush(&service).await)["stored"], 0, "nothing was written");
    assert_eq!((table.row(1).await, got(&service, "doc:1").await.0.as_str()), (row, "2"));
    assert!(service.stop(terrace_server::Stop::Now).await.is_clean());
    let service = start(&toml).await;
    let again = named(&service, "1").await;
    assert_eq!((again.status, again.header("location")), (202, first.header("location")), "after a restart");
    assert!(service.stop(terrace_server::Stop::Now).await.is_clean());
    table.remove().await;
}
