//! Tags that a keyspace gives its entries, by rules in the configuration.

use crate::support::{Running, refused, start};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

/// A file with users 1 to 4: two of each organisation, and one with too many labels.
fn file() -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tags.db");
    let many: Vec<String> = (0..33).map(|number| number.to_string()).collect();
    let rows = format!(
        "create table users (id integer primary key, doc text);
         insert into users values (1, '{{\"org\":7,\"labels\":[\"a\",\"b\"]}}'), (2, '{{\"org\":7}}'),
         (3, '{{\"org\":{{\"id\":7}}}}'), (4, '{{\"labels\":[{}]}}');",
        many.join(",")
    );
    Connection::open(&file).and_then(|connection| connection.execute_batch(&rows)).expect("rows");
    let file = file.display().to_string();
    (folder, file)
}

fn toml(file: &str, strategy: &str) -> String {
    let list = "where id in (select value from json_each(:id))";
    let store =
        "store = 'insert into users values (:id, :value) on conflict (id) do update set doc = excluded.doc'";
    let store = if strategy == "read-through" { "" } else { store };
    format!(
        "[origin.main]\ntype = 'sqlite'\nfile = '{file}'\n\
         [keyspace.users]\npattern = 'user:{{id}}'\nstrategy = '{strategy}'\n\
         tags = ['org:{{value.org}}', 'label:{{value.labels}}', 'user-{{id}}']\n\
         [keyspace.users.source]\norigin = 'main'\ndocument = 'doc'\n\
         load = 'select doc from users where id = :id'\nload_many = 'select id, doc from users {list}'\n{store}\n"
    )
}

async fn source(service: &Running, key: &str) -> String {
    let answer = service.get(&format!("/api/cache/{key}")).await;
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
    body["source"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

async fn forget(service: &Running, tag: &str) {
    let answer = service.post("/api/cache/invalidate", &format!("{{\"tags\":[\"{tag}\"]}}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn what_is_loaded_goes_with_the_tags_that_its_keyspace_gives() {
    let (_folder, file) = file();
    let service = start(&toml(&file, "read-through")).await;
    let sources = async || {
        let mut sources = Vec::new();
        for number in 1..4 {
            sources.push(source(&service, &format!("user:{number}")).await);
        }
        sources
    };
    assert_eq!(source(&service, "user:1").await, "origin");
    let batch = service.post("/api/cache/batch", r#"{"get":["user:2","user:3"]}"#).await;
    assert_eq!(batch.status, 200);
    let raw = service.get("/v1/keys/user:1").await;
    assert_eq!(
        raw.header("cache-groups"),
        Some("\"label:a\", \"label:b\", \"org:7\", \"user-1\""),
        "{raw:?}"
    );
    assert_eq!(sources().await, ["l1", "l1", "l1"]);
    forget(&service, "org:8").await;
    assert_eq!(sources().await, ["l1", "l1", "l1"]);
    forget(&service, "label:b").await;
    assert_eq!(sources().await, ["origin", "l1", "l1"]);
    forget(&service, "org:7").await;
    assert_eq!(sources().await, ["origin", "origin", "l1"], "an object makes no tag");
    forget(&service, "user-3").await;
    assert_eq!(sources().await, ["l1", "l1", "origin"]);
}

#[tokio::test]
async fn what_is_written_has_them_besides_those_of_who_writes() {
    let (_folder, file) = file();
    for strategy in ["write-through", "read-through"] {
        let service = start(&toml(&file, strategy)).await;
        for (tag, gone) in [("org:9", true), ("own", true), ("org:7", false)] {
            let body = r#"{"value":{"org":9},"tags":["own"]}"#;
            assert_eq!(service.put("/api/cache/user:1", body).await.status, 200);
            forget(&service, tag).await;
            let found = source(&service, "user:1").await;
            assert_eq!(found == "origin", gone, "{strategy} {tag}: {found}");
        }
        let header = ["content-type: text/plain"];
        let bytes = service.send_with("PUT", "/v1/keys/user:2", &header, b"hello").await;
        if strategy == "read-through" {
            assert!(matches!(bytes.status, 200 | 204), "{bytes:?}");
            let raw = service.get("/v1/keys/user:2").await;
            assert_eq!(raw.header("cache-groups"), Some("\"user-2\""), "what is not JSON has no members");
        }
    }
}

#[tokio::test]
async fn more_tags_than_an_entry_can_have_are_an_error_of_whose_value_it_is() {
    let (_folder, file) = file();
    let service = start(&toml(&file, "read-through")).await;
    let loaded = service.get("/api/cache/user:4").await;
    assert!(loaded.status == 502 && loaded.body.contains("34 tags"), "{loaded:?}");
    let batch = service.post("/api/cache/batch", r#"{"get":["user:1","user:4"]}"#).await;
    let body: Value = serde_json::from_str(&batch.body).expect("JSON");
    assert_eq!((&body["get"][0]["status"], &body["get"][1]["status"]), (&200.into(), &502.into()), "{body}");
    let labels: Vec<u32> = (0..33).collect();
    let body = serde_json::json!({ "value": { "labels": labels } }).to_string();
    let written = service.put("/api/cache/user:1", &body).await;
    assert!(written.status == 422 && written.body.contains("34 tags"), "{written:?}");
}

#[test]
fn what_is_no_rule_is_refused_where_it_stands() {
    let of = |tags: &str| refused(&format!("[keyspace.users]\npattern = 'user:{{id}}'\ntags = [{tags}]\n"));
    let unknown = of("'a', 'org:{org}'");
    assert!(unknown.contains("captures no `org`") && unknown.contains("{value.org}"), "{unknown}");
    assert!(unknown.contains(":3:") || unknown.contains("tags = "), "{unknown}");
    assert!(of("'{value.a}{value.b}'").contains("two members"));
    let many = vec!["'a'"; 33].join(", ");
    assert!(of(&many).contains("32 tags at most"));
}
