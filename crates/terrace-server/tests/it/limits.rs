//! Bounds on loads, and on how stale answers may be, over HTTP.

use crate::support::start;
use rusqlite::Connection;
use tempfile::TempDir;
use terrace_testkit::wait::until_some;

pub(crate) fn database() -> (TempDir, String, Connection) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ref.db");
    let rows = "create table users (id integer primary key, name text); insert into users values (1, 'Ada');";
    let connection = Connection::open(&file).expect("a file");
    connection.execute_batch(rows).expect("rows");
    let file = file.display().to_string();
    (folder, file, connection)
}

#[tokio::test]
async fn a_load_that_finds_no_place_is_answered_503_with_a_time() {
    let (_folder, file, _connection) = database();
    let service = start(&format!(
        r#"
        [origin.lite]
        type = "sqlite"
        file = "{file}"
        delay = "2s"
        loads_max = 1
        loads_wait_max = 0
        [keyspace.users]
        pattern = "user:{{id}}"
        source = {{ origin = "lite", load = "select * from users where id = :id" }}
        [keyspace.names]
        pattern = "name:{{id}}"
        source = {{ origin = "lite", load = "select name from users where id = :id" }}
        "#
    ))
    .await;
    let second = async {
        until_some("the first load to run", async || {
            let metrics = service.get("/metrics").await.body;
            let running = "terrace_bulkhead_loads{bulkhead=\"lite\",scope=\"shared\",state=\"running\"} 1\n";
            metrics.contains(running).then_some(())
        })
        .await;
        service.get("/api/cache/name:1").await
    };
    let (first, second) = tokio::join!(service.get("/api/cache/user:1"), second);
    assert_eq!(first.status, 200);
    assert_eq!((second.status, second.header("retry-after")), (503, Some("1")));
    assert!(second.body.contains(r#""code":"origin_overloaded""#), "{}", second.body);
    assert!(second.body.contains("`lite` has 1 loads at work"), "{}", second.body);
    assert!(service.get("/problems/origin_overloaded").await.body.contains("503"));
}

#[tokio::test]
async fn a_service_that_lives_on_stale_values_says_so_and_goes_on() {
    let (_folder, file, connection) = database();
    let service = start(&format!(
        r#"
        [origin.lite]
        type = "sqlite"
        file = "{file}"
        [keyspace.users]
        pattern = "user:{{id}}"
        ttl = "1ms"
        stale_if_error = "10m"
        stale_age_max = "1ms"
        source = {{ origin = "lite", load = "select * from users where id = :id" }}
        "#
    ))
    .await;
    assert_eq!(service.get("/api/cache/user:1").await.status, 200);
    assert_eq!(service.get("/readyz").await.body, r#"{"status":"ok","degraded":[]}"#);
    connection.execute_batch("drop table users").expect("nobody needs it");
    let ready = until_some("a stale answer that is older than it may be", async || {
        let is_stale = service.get("/api/cache/user:1").await.body.contains(r#""source":"stale""#);
        let ready = service.get("/readyz").await;
        (is_stale && !ready.body.contains(r#""degraded":[]"#)).then_some(ready)
    })
    .await;
    assert_eq!(ready.status, 200);
    let body: serde_json::Value = serde_json::from_str(&ready.body).expect("JSON");
    assert_eq!(body["degraded"], serde_json::json!(["stale"]));
    assert_eq!(body["stale"][0]["keyspace"], "users");
    assert!(body["stale"][0]["oldest_seconds"].as_f64() > Some(0.0), "{body}");
}
