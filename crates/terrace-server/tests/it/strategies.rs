//! The strategies that write, against a SQLite file: what is where after a change, and after one that failed.

use crate::support::{Answer, Running, config, start};
use rusqlite::{Connection, OptionalExtension};
use serde_json::Value;
use std::time::Duration;
use tempfile::TempDir;
use terrace_server::{Stop, check};

const TABLE: &str =
    "create table docs (id text primary key, doc text not null check (doc <> '\"never\"'), version integer);";

/// A SQLite file, and a journal beside it.
pub(crate) struct Files {
    folder: TempDir,
}

impl Files {
    pub(crate) fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().expect("a folder") };
        files.make();
        files
    }

    fn make(&self) {
        self.connection().execute_batch(TABLE).expect("a table");
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(crate) fn connection(&self) -> Connection {
        let connection = Connection::open(self.path("ref.db")).expect("a file");
        connection.busy_timeout(Duration::from_secs(20)).expect("patience");
        connection
    }

    /// As [`Files::toml`], where each tenant has rows of its own.
    pub(crate) fn toml_of_tenants(&self, strategy: &str) -> String {
        let id = "coalesce(:tenant, '') || :id";
        let toml = self.toml(strategy, "").replace("where id = :id", &format!("where id = {id}"));
        toml.replace("(:id, ", &format!("({id}, "))
    }

    fn doc(&self, id: &str) -> Option<String> {
        let row = self.connection().query_row("select doc from docs where id = ?", [id], |row| row.get(0));
        row.optional().expect("the table is there")
    }

    pub(crate) fn toml(&self, strategy: &str, more: &str) -> String {
        let version = if strategy == "write-behind" { ":version" } else { "0" };
        let fence = if strategy == "write-behind" { " where docs.version < excluded.version" } else { "" };
        let (file, journal) = (self.path("ref.db"), self.path("writes.journal"));
        format!(
            r#"
            [origin.lite]
            type = "sqlite"
            file = "{file}"
            statement_timeout = "200ms"
            [write_behind]
            path = "{journal}"
            interval = "1h"
            backoff_min = "20ms"
            backoff_max = "20ms"
            attempts_max = 2
            {more}
            [keyspace.docs]
            pattern = "doc:{{id}}"
            strategy = "{strategy}"
            [keyspace.docs.source]
            origin = "lite"
            document = "doc"
            load = "select doc from docs where id = :id"
            store = "insert into docs values (:id, :value, {version}) on conflict (id) do update set doc = excluded.doc, version = excluded.version{fence}"
            delete = "delete from docs where id = :id"
            "#
        )
    }

    pub(crate) async fn service(&self, strategy: &str) -> Running {
        start(&self.toml(strategy, "")).await
    }
}

pub(crate) fn json(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
}

/// The value and its source.
async fn got(service: &Running) -> (String, String) {
    let body = json(&service.get("/api/cache/doc:1").await);
    (body["value"].to_string(), body["source"].as_str().unwrap_or_default().to_owned())
}

async fn put(service: &Running, value: &str) -> Answer {
    service.put("/api/cache/doc:1", &format!("{{\"value\":{value}}}")).await
}

/// How the keyspace stands.
async fn standing(service: &Running) -> Value {
    json(&service.get("/api/cache/behind").await)["keyspaces"][0].clone()
}

/// Waits until the keyspace stands as it should.
async fn until(service: &Running, is_so: impl Fn(&Value) -> bool) -> Value {
    let waiting = async {
        loop {
            let standing = standing(service).await;
            if is_so(&standing) {
                return standing;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("in time")
}

fn pair(value: &str, source: &str) -> (String, String) {
    (value.to_owned(), source.to_owned())
}

#[tokio::test]
async fn write_through_stores_in_both() {
    let files = Files::new();
    let service = files.service("write-through").await;
    let stored = put(&service, r#"{"a": [1, "it's"]}"#).await;
    assert_eq!(
        (stored.status, stored.body_without_times().as_str()),
        (200, r#"{"success":true,"expires_at":"T"}"#)
    );
    assert_eq!(files.doc("1").as_deref(), Some(r#"{"a": [1, "it's"]}"#));
    assert_eq!(got(&service).await, pair(r#"{"a":[1,"it's"]}"#, "l1"));
    service.post("/api/cache/invalidate", r#"{"keys":["doc:1"]}"#).await;
    assert_eq!(got(&service).await, pair(r#"{"a":[1,"it's"]}"#, "origin"), "what is loaded is what was put");
    let deleted = service.delete("/api/cache/doc:1").await;
    assert_eq!(deleted.body, r#"{"success":true,"deleted":true}"#);
    assert_eq!(files.doc("1"), None);
    service.get("/api/cache/doc:1").await.problem(404, "key_not_found");
}

#[tokio::test]
async fn write_through_that_fails_leaves_the_cache_as_it_was() {
    let files = Files::new();
    let service = files.service("write-through").await;
    put(&service, "1").await;
    let lock = files.connection();
    lock.execute_batch("begin exclusive").expect("locked");
    put(&service, "2").await.problem(502, "origin_unavailable");
    service.delete("/api/cache/doc:1").await.problem(502, "origin_unavailable");
    assert_eq!(got(&service).await, pair("1", "l1"));
    lock.execute_batch("rollback").expect("unlocked");
    let detail = put(&service, "\"never\"").await.problem(422, "origin_refused");
    assert!(!detail.contains("CHECK") && detail.contains("`lite`"), "{detail}");
    assert_eq!(got(&service).await, pair("1", "l1"));
    assert_eq!((put(&service, "2").await.status, files.doc("1").as_deref()), (200, Some("2")));
    assert_eq!(got(&service).await, pair("2", "l1"));
}

#[tokio::test]
async fn a_file_that_is_not_there_is_not_made_by_a_write() {
    let files = Files::new();
    std::fs::remove_file(files.path("ref.db")).expect("removed");
    let service = files.service("write-through").await;
    put(&service, "1").await.problem(502, "origin_unavailable");
    assert!(!std::path::Path::new(&files.path("ref.db")).exists());
    files.make();
    assert_eq!(put(&service, "1").await.status, 200);
}

#[tokio::test]
async fn write_around_stores_at_the_origin_alone() {
    let files = Files::new();
    let service = files.service("write-around").await;
    assert_eq!((put(&service, "1").await.status, files.doc("1").as_deref()), (200, Some("1")));
    assert_eq!(got(&service).await, pair("1", "origin"));
    assert_eq!(got(&service).await, pair("1", "l1"));
    put(&service, "2").await;
    assert_eq!(got(&service).await, pair("2", "origin"), "the copy is gone");
    let lock = files.connection();
    lock.execute_batch("begin exclusive").expect("locked");
    put(&service, "3").await.problem(502, "origin_unavailable");
    assert_eq!(got(&service).await, pair("2", "l1"));
}

#[tokio::test]
async fn write_behind_acknowledges_first_and_stores_later() {
    let files = Files::new();
    let service = files.service("write-behind").await;
    let first = json(&put(&service, "1").await);
    assert_eq!((&first["success"], &first["ack"]), (&true.into(), &"fsync".into()), "{first}");
    let second = json(&put(&service, "2").await);
    let number = |body: &Value| {
        let id = body["write_id"].as_str().expect("an id").to_owned();
        id.rsplit_once('-').expect("journal and number").1.parse::<u64>().expect("a number")
    };
    assert!(number(&second) > number(&first), "{first} {second}");
    assert_eq!(got(&service).await, pair("2", "l1"));
    assert_eq!(files.doc("1"), None, "the origin gets it later");
    assert_eq!(standing(&service).await["pending"], 1, "the newer took the place of the older");
    let flushed = service.post("/api/cache/behind/docs/flush", "").await;
    assert_eq!(flushed.body, r#"{"stored":1,"parked":0,"dead":0,"success":true}"#);
    assert_eq!(files.doc("1").as_deref(), Some("2"));
    let deleted = json(&service.delete("/api/cache/doc:1").await);
    assert_eq!((&deleted["deleted"], &deleted["ack"]), (&true.into(), &"fsync".into()));
    service.get("/api/cache/doc:1").await.problem(404, "key_not_found");
    assert_eq!(files.doc("1").as_deref(), Some("2"));
    service.post("/api/cache/behind/docs/flush", "").await;
    assert_eq!(files.doc("1"), None);
}

#[tokio::test]
async fn write_behind_outlasts_an_origin_that_is_away() {
    const KEYS: u64 = 20;
    let files = Files::new();
    // All of them one after the other would take far longer than an attempt may: the first that fails speaks for all.
    let service = start(&files.toml("write-behind", "attempt_timeout = '1s'")).await;
    let lock = files.connection();
    lock.execute_batch("begin exclusive").expect("locked");
    for key in 0..KEYS {
        let answer = service.put(&format!("/api/cache/doc:{key}"), "{\"value\":7}").await;
        assert_eq!(json(&answer)["ack"], "fsync", "{answer:?}");
    }
    let flushed = service.post("/api/cache/behind/docs/flush", "").await;
    assert_eq!(flushed.body, r#"{"stored":0,"parked":20,"dead":0,"success":true}"#);
    until(&service, |standing| standing["retried"].as_u64() >= Some(4 * KEYS)).await;
    let standing = standing(&service).await;
    assert_eq!((&standing["pending"], &standing["dead"]), (&KEYS.into(), &0.into()), "{standing}");
    assert_eq!(got(&service).await, pair("7", "l1"));
    lock.execute_batch("rollback").expect("unlocked");
    until(&service, |standing| standing["pending"] == 0).await;
    for key in 0..KEYS {
        assert_eq!(files.doc(&key.to_string()).as_deref(), Some("7"), "{key}");
    }
}

#[tokio::test]
async fn what_the_origin_refuses_is_kept_until_somebody_decides() {
    let files = Files::new();
    let service = files.service("write-behind").await;
    put(&service, "\"never\"").await;
    service.post("/api/cache/behind/docs/flush", "").await;
    let dead = standing(&service).await;
    let letter = &dead["dead_letters"][0];
    assert_eq!(
        (&dead["dead"], &letter["key"], &letter["operation"]),
        (&1.into(), &"doc:1".into(), &"store".into())
    );
    let reason = letter["reason"].as_str().expect("a reason");
    assert!(reason.contains("does not take this write") && !reason.contains("CHECK"), "{reason}");
    service.get("/api/cache/doc:1").await.problem(404, "key_not_found");

    service
        .post("/api/cache/behind/docs/retry", r#"{"key":"doc:2"}"#)
        .await
        .problem(404, "dead_letter_not_found");
    let retried = service.post("/api/cache/behind/docs/retry", r#"{"key":"doc:1"}"#).await;
    assert_eq!(retried.body, r#"{"retried":1,"success":true}"#);
    service.post("/api/cache/behind/docs/flush", "").await;
    until(&service, |standing| standing["dead"] == 1).await;
    put(&service, "2").await;
    service
        .post("/api/cache/behind/docs/retry", r#"{"key":"doc:1"}"#)
        .await
        .problem(409, "dead_letter_overtaken");
    let dropped = service.post("/api/cache/behind/docs/drop", r#"{"key":"doc:1"}"#).await;
    assert_eq!(dropped.body, r#"{"dropped":1,"success":true}"#);
    service.post("/api/cache/behind/docs/flush", "").await;
    assert_eq!((standing(&service).await["dead"].as_u64(), files.doc("1").as_deref()), (Some(0), Some("2")));
    for route in ["flush", "retry", "drop"] {
        let problem = service.post(&format!("/api/cache/behind/nobody/{route}"), r#"{"key":"x"}"#).await;
        assert!(problem.problem(404, "not_written_behind").contains("docs"));
    }
}

#[tokio::test]
async fn a_full_journal_refuses_and_says_when_to_come_again() {
    let files = Files::new();
    for (more, value) in [("on_full = 'refuse'", "2"), ("on_full = 'wait'", "3")] {
        let lock = files.connection();
        lock.execute_batch("begin exclusive").expect("locked");
        let toml = files.toml("write-behind", &format!("pending_max = 1\n{more}\n"));
        let service = start(&format!("server.request_timeout = '1s'\n{toml}")).await;
        let first = service.put("/api/cache/doc:0", r#"{"value":1}"#).await;
        assert_eq!(first.status, 202, "{first:?}");
        let refused = put(&service, value).await;
        refused.problem(503, "journal_full");
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(service.send("HEAD", "/api/cache/doc:1", "").await.status, 404, "no tier has it");
        lock.execute_batch("rollback").expect("unlocked");
        service.post("/api/cache/behind/docs/flush", "").await;
        until(&service, |standing| standing["pending"] == 0).await;
        assert_eq!(put(&service, value).await.status, 202);
        assert!(service.stop(Stop::Now).await.is_clean());
        assert_eq!(files.doc("1").as_deref(), Some(value), "a shutdown drains");
    }
}

#[tokio::test]
async fn what_stays_in_the_journal_goes_on_with_the_next_start() {
    let files = Files::new();
    let toml = files.toml("write-behind", "").replace("interval = \"1h\"", "interval = \"10ms\"");
    let service = start(&format!("server.shutdown.grace = '1s'\n{toml}")).await;
    let lock = files.connection();
    lock.execute_batch("begin exclusive").expect("locked");
    assert_eq!(put(&service, "1").await.status, 202);
    let ended = service.stop(Stop::Now).await;
    assert_eq!(ended.cache.as_ref().err().map(|error| error.writes), Some(1), "{ended:?}");
    assert!(ended.is_clean(), "nothing was lost: {ended:?}");
    lock.execute_batch("rollback").expect("unlocked");
    let service = start(&toml).await;
    let standing = until(&service, |standing| standing["pending"] == 0).await;
    assert_eq!(standing["replayed"], 1);
    assert_eq!(files.doc("1").as_deref(), Some("1"));
}

#[tokio::test]
async fn a_journal_has_one_service() {
    let files = Files::new();
    let _service = files.service("write-behind").await;
    let second = terrace_server::Server::bind(&config(&files.toml("write-behind", ""))).await;
    let error = second.expect_err("the file is in use").to_string();
    assert!(error.contains("in use by somebody else") && error.contains("writes.journal"), "{error}");
}

#[tokio::test]
async fn without_a_statement_nothing_is_removed() {
    let files = Files::new();
    for strategy in ["write-through", "write-behind"] {
        let toml = files.toml(strategy, "").replace("delete = \"delete from docs where id = :id\"", "");
        let service = start(&toml).await;
        put(&service, "1").await;
        let refused = service.delete("/api/cache/doc:1").await;
        refused.problem(405, "delete_unsupported");
        assert_eq!(refused.header("allow"), Some("get, head, put"));
        assert_eq!(got(&service).await, pair("1", "l1"));
        assert!(service.stop(Stop::Now).await.is_clean());
    }
}

#[tokio::test]
async fn keys_and_values_are_data_to_the_statements() {
    let files = Files::new();
    let service = files.service("write-through").await;
    let key = "x'); drop table docs; --";
    let target = "/api/cache/doc:x');%20drop%20table%20docs;%20--";
    assert_eq!(service.put(target, r#"{"value":"'); drop table docs; --"}"#).await.status, 200);
    assert_eq!(files.doc(key).as_deref(), Some("\"'); drop table docs; --\""));
}

#[tokio::test]
async fn checking_finds_statements_that_cannot_write() {
    let files = Files::new();
    let of = |toml: String| async move { check(&config(&toml)).await.expect("it can be checked") };
    let findings = of(files.toml("write-behind", "")).await;
    let what: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
    let source = ["keyspace.docs.source.load", "keyspace.docs.source.store", "keyspace.docs.source.delete"];
    assert_eq!(what, [&["write_behind.path"], source.as_slice()].concat());
    assert!(
        findings.iter().all(|finding| finding.result.is_ok() && finding.warnings.is_empty()),
        "{findings:?}"
    );
    for (from, to, at, words) in [
        ("delete from docs", "delete from dogs", 3, "no such table"),
        ("delete from docs where", "select doc from docs where", 3, "it writes nothing"),
        ("document = \"doc\"", "document = \"dock\"", 1, "called `dock`"),
        ("writes.journal", "none/writes.journal", 0, "make it"),
    ] {
        let found = of(files.toml("write-behind", "").replace(from, to)).await[at].result.clone();
        assert!(found.as_ref().is_err_and(|found| found.contains(words)), "{to}: {found:?}");
    }
    let unfenced = files.toml("write-behind", "").replace(":version", "0");
    let findings = of(unfenced).await;
    assert!(findings[2].warnings[0].contains("`:version`") && findings[2].result.is_ok(), "{findings:?}");
}
