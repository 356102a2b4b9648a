//! What an API says of groups: `Cache-Group-Invalidation` in its answer to a change, of which what has these tags is gone when the change is
//! acknowledged, and `Cache-Groups` in its answer to a load, which are the tags of what was loaded.

use crate::http_api::{Api, Mood};
use crate::log::Log;
use crate::support::{Client, Running, start, token};
use serde_json::Value;

/// Two keyspaces over an API, of which one has this strategy, and a place for a tenant in its paths, if there are any.
fn toml(api: &Api, strategy: &str, folder: &std::path::Path, tenant: &str) -> String {
    let keyspace = |name: &str, strategy: &str| {
        format!(
            "[keyspace.{name}]\npattern = '{name}:{{id}}'\nstrategy = '{strategy}'\n[keyspace.{name}.source]\norigin = 'api'\n\
             load = 'GET {tenant}/{name}/{{id}}'\nstore = 'PUT {tenant}/{name}/{{id}}'\ndelete = 'DELETE {tenant}/{name}/{{id}}'\n"
        )
    };
    format!(
        "[origin.api]\ntype = 'http'\nbase_url = '{}'\n[write_behind]\npath = '{}'\ninterval = '1h'\n{}{}",
        api.url(),
        folder.join("writes.journal").display(),
        keyspace("doc", strategy),
        keyspace("other", "write-through"),
    )
}

async fn source(service: &Running, key: &str) -> String {
    let answer = service.get(&format!("/api/cache/{key}")).await;
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
    body["source"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// Stores two entries with tags of their own, and one of the other keyspace.
async fn three(service: &Running) {
    for (key, tag) in [("doc:1", "org:7"), ("doc:2", "b, c"), ("other:1", "org:7")] {
        let body = serde_json::json!({ "value": 1, "tags": [tag] }).to_string();
        let stored = service.put(&format!("/api/cache/{key}"), &body).await;
        assert!(matches!(stored.status, 200 | 202), "{stored:?}");
    }
}

async fn sources(service: &Running) -> [String; 3] {
    [source(service, "doc:1").await, source(service, "doc:2").await, source(service, "other:1").await]
}

#[tokio::test]
async fn an_answer_to_a_change_says_which_entries_are_not_true_any_more() {
    let (api, folder) = (Api::start().await, tempfile::tempdir().expect("a folder"));
    let service = start(&toml(&api, "write-through", folder.path(), "")).await;
    let (gone, there) = ("origin", "l1");
    let cases: [(u16, &[&str], u16, [&str; 3]); 9] = [
        (200, &["\"org:7\""], 200, [gone, there, there]),
        (204, &["\"x\", \"org:7\";p", "\"b, c\""], 200, [gone, gone, there]),
        (201, &["\"\", \"b, c\""], 200, [there, gone, there]),
        (204, &["org:7"], 200, [there, there, there]),
        (204, &["\"org:7\", oops"], 200, [there, there, there]),
        (303, &["\"org:7\""], 504, [gone, there, there]),
        (409, &["\"org:7\""], 422, [there, there, there]),
        (500, &["\"org:7\""], 504, [there, there, there]),
        (204, &[], 200, [there, there, there]),
    ];
    for (status, lines, seen, expected) in cases {
        api.mood(Mood::Well);
        three(&service).await;
        api.mood(Mood::Untrue(status, lines.to_vec()));
        let answer = service.put("/api/cache/doc:3", "{\"value\":3}").await;
        assert_eq!(answer.status, seen, "{status} {lines:?}");
        assert_eq!(answer.header("terrace-effect"), None);
        assert_eq!(sources(&service).await, expected, "{status} {lines:?}: loads say nothing of it");
    }
    for (status, expected) in [(204, [gone, there, there]), (404, [there, there, there])] {
        api.mood(Mood::Well);
        three(&service).await;
        api.mood(Mood::Untrue(status, vec!["\"org:7\""]));
        assert_eq!(service.delete("/api/cache/doc:3").await.status, 200);
        assert_eq!(sources(&service).await, expected, "{status}: a removal");
    }
    api.mood(Mood::Well);
    three(&service).await;
    api.mood(Mood::Untrue(204, vec!["\"org:7\""]));
    let batch = r#"{"set":[{"key":"doc:3","value":1},{"key":"doc:4","value":1}],"delete":["doc:3"]}"#;
    assert_eq!(service.post("/api/cache/batch", batch).await.status, 200);
    assert_eq!(sources(&service).await, [gone, there, there], "a batch");
}

#[tokio::test]
async fn what_is_written_behind_makes_untrue_when_the_origin_has_it() {
    let (api, folder) = (Api::start().await, tempfile::tempdir().expect("a folder"));
    let service = start(&toml(&api, "write-behind", folder.path(), "")).await;
    three(&service).await;
    service.post("/api/cache/behind/doc/flush", "").await;
    api.mood(Mood::Untrue(204, vec!["\"org:7\""]));
    assert_eq!(service.put("/api/cache/doc:3", "{\"value\":3}").await.status, 202);
    assert_eq!(sources(&service).await, ["l1", "l1", "l1"], "nobody has asked the origin yet");
    assert_eq!(service.post("/api/cache/behind/doc/flush", "").await.status, 200);
    assert_eq!(sources(&service).await, ["origin", "l1", "l1"]);
}

#[tokio::test]
async fn what_is_written_around_makes_untrue_what_another_keyspace_does_not_share() {
    let (api, folder) = (Api::start().await, tempfile::tempdir().expect("a folder"));
    let service = start(&toml(&api, "write-around", folder.path(), "")).await;
    three(&service).await;
    assert_eq!(source(&service, "doc:1").await, "origin");
    api.mood(Mood::Untrue(204, vec!["\"org:7\""]));
    assert_eq!(service.put("/api/cache/doc:3", "{\"value\":3}").await.status, 200);
    assert_eq!(source(&service, "other:1").await, "l1");
    let metrics = service.get("/metrics").await.body;
    let of = |name: &str| format!("terrace_invalidations_total{{keyspace=\"{name}\",kind=\"tag\"}}");
    let counted = |name: &str, count: u32| metrics.contains(&format!("{} {count}\n", of(name)));
    assert!(counted("doc", 1) && !counted("other", 1), "{metrics}");
}

#[tokio::test]
async fn an_answer_to_one_tenant_makes_nothing_of_another_untrue() {
    let (api, folder) = (Api::start().await, tempfile::tempdir().expect("a folder"));
    let tokens: Vec<String> = ["a", "b"]
        .map(|tenant| token(tenant, tenant, &format!("tenant = '{tenant}'\nscopes = ['read:*', 'write:*']")))
        .into();
    let toml = toml(&api, "write-through", folder.path(), "/{tenant}");
    let service = start(&format!("{}{toml}", tokens.concat())).await;
    let mut client = Client::of(&service).await;
    for tenant in ["a", "b"] {
        let body = "{\"value\":1,\"tags\":[\"org:7\"]}";
        assert_eq!(client.ask(tenant, "PUT", "/api/cache/doc:1", body).await.status, 200);
    }
    api.mood(Mood::Untrue(204, vec!["\"org:7\""]));
    assert_eq!(client.ask("a", "PUT", "/api/cache/doc:2", "{\"value\":2}").await.status, 200);
    for (tenant, source) in [("a", "origin"), ("b", "l1")] {
        let body = client.ask(tenant, "GET", "/api/cache/doc:1", "").await.body;
        assert!(body.contains(&format!("\"source\":\"{source}\"")), "{tenant}: {body}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_said_now_and_then_and_without_its_words() {
    let log = Log::of_this_thread();
    let (api, folder) = (Api::start().await, tempfile::tempdir().expect("a folder"));
    let service = start(&toml(&api, "write-through", folder.path(), "")).await;
    api.mood(Mood::Untrue(204, vec!["planted"]));
    for number in 0..20 {
        let target = format!("/api/cache/doc:{number}");
        assert_eq!(service.put(&target, "{\"value\":3}").await.status, 200);
    }
    let text = log.text();
    let said = text.lines().filter(|line| line.contains("`Cache-Group-Invalidation` is ignored")).count();
    assert!((1..20).contains(&said), "{said} times");
    assert!(!text.contains("planted"), "{text}");
}

/// An API whose documents 1 to 4 are of these groups.
async fn grouped(service: &Running, api: &Api, lines: &[&str]) {
    api.mood(Mood::Well);
    for number in 1..5 {
        service.put(&format!("/api/cache/doc:{number}"), "{\"value\":1}").await;
    }
    service.post("/api/cache/invalidate", r#"{"pattern":"doc:*"}"#).await;
    api.mood(Mood::Grouped(lines.iter().map(|line| (*line).to_owned()).collect()));
}

#[tokio::test]
async fn what_was_loaded_goes_with_the_groups_that_its_answer_named() {
    let (api, folder) = (Api::start().await, tempfile::tempdir().expect("a folder"));
    let service = start(&toml(&api, "write-through", folder.path(), "")).await;
    grouped(&service, &api, &["\"org:7\";x, \"b, c\"", "\"org:7\""]).await;
    assert_eq!(source(&service, "doc:1").await, "origin");
    let batch = r#"{"get":["doc:2","doc:3"]}"#;
    assert_eq!(service.post("/api/cache/batch", batch).await.status, 200);
    let media = ["content-type: application/x-ndjson"];
    let streamed = service.send_with("POST", "/api/cache/batch", &media, b"{\"get\":\"doc:4\"}\n").await;
    assert!(streamed.body.contains("\"status\":200"), "{streamed:?}");
    let raw = service.get("/v1/keys/doc:1").await;
    assert_eq!(raw.header("cache-groups"), Some("\"b, c\", \"org:7\""), "{raw:?}");

    api.mood(Mood::Untrue(204, vec!["\"d\""]));
    service.put("/api/cache/doc:9", "{\"value\":9}").await;
    for number in 1..5 {
        assert_eq!(source(&service, &format!("doc:{number}")).await, "l1");
    }
    api.mood(Mood::Untrue(204, vec!["\"org:7\""]));
    service.put("/api/cache/doc:9", "{\"value\":9}").await;
    for number in 1..5 {
        assert_eq!(source(&service, &format!("doc:{number}")).await, "origin", "{number}");
    }
}

#[tokio::test]
async fn a_value_of_more_groups_than_an_entry_has_tags_is_not_loaded() {
    let (api, folder) = (Api::start().await, tempfile::tempdir().expect("a folder"));
    let service = start(&toml(&api, "write-through", folder.path(), "")).await;
    let groups =
        |count: usize| (0..count).map(|number| format!("\"{number}\"")).collect::<Vec<_>>().join(",");
    grouped(&service, &api, &[&groups(33)]).await;
    let answer = service.get("/api/cache/doc:1").await;
    assert_eq!(answer.status, 502, "{answer:?}");
    api.mood(Mood::Grouped(vec![groups(32)]));
    assert_eq!(source(&service, "doc:1").await, "origin");
    api.mood(Mood::Grouped(vec!["no list".to_owned()]));
    assert_eq!(source(&service, "doc:2").await, "origin", "what cannot be read is ignored");
    assert_eq!(service.get("/v1/keys/doc:2").await.header("cache-groups"), None);
}
