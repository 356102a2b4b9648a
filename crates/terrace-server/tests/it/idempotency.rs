//! Requests with an `Idempotency-Key`: what is written behind is written once, however often it is asked for.

use crate::strategies::{Files, json};
use crate::support::{Answer, Client, Running, beside, start, token};
use rusqlite::OptionalExtension;
use serde_json::Value;
use std::collections::HashSet;
use terrace_server::Stop;

const UUID: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";
const FLUSH: &str = "/api/cache/behind/docs/flush";

/// A request of this name.
async fn named(service: &Running, name: &str, (method, path, body): (&str, &str, &str)) -> Answer {
    let header = format!("idempotency-key: \"{name}\"");
    service.send_with(method, path, &[&header, "content-type: application/json"], body.as_bytes()).await
}

async fn put(service: &Running, name: &str, value: &str) -> Answer {
    named(service, name, ("PUT", "/api/cache/doc:1", &format!("{{\"value\":{value}}}"))).await
}

/// Where it is told what becomes of a write, and whether that was a repetition.
fn told(answer: &Answer) -> (String, bool) {
    assert_eq!(answer.status, 202, "{answer:?}");
    let (body, location) = (json(answer), answer.header("location").expect("a location").to_owned());
    assert!(location.ends_with(body["write_id"].as_str().expect("an id")), "{answer:?}");
    assert_eq!((&body["ack"], &body["success"]), (&"fsync".into(), &true.into()));
    (location, body["repeated"].as_bool().unwrap_or(false))
}

async fn value(service: &Running, key: &str) -> Value {
    json(&service.get(&format!("/api/cache/{key}")).await)["value"].clone()
}

async fn pending(service: &Running) -> u64 {
    let standing = json(&service.get("/api/cache/behind").await)["keyspaces"][0].clone();
    standing["pending"].as_u64().expect("a number")
}

fn row(files: &Files, id: &str) -> Option<String> {
    let row = files.connection().query_row("select doc from docs where id = ?", [id], |row| row.get(0));
    row.optional().expect("the table is there")
}

async fn flush(service: &Running) {
    assert_eq!(json(&service.post(FLUSH, "").await)["success"], true);
}

#[tokio::test]
async fn an_old_put_that_comes_again_leaves_what_came_after_it_in_journal_tiers_and_origin() {
    let files = Files::new();
    let service = files.service("write-behind").await;
    let (first, is_repeated) = told(&put(&service, UUID, "1").await);
    assert!(!is_repeated);
    assert_eq!(told(&put(&service, UUID, "1").await), (first.clone(), true), "at once");
    let newer = told(&put(&service, "other", "2").await).0;
    assert_ne!(newer, first);
    assert_eq!(told(&put(&service, UUID, "1").await), (first.clone(), true), "it was coalesced");
    assert_eq!((value(&service, "doc:1").await, pending(&service).await), (2.into(), 1));
    flush(&service).await;
    assert_eq!(told(&put(&service, UUID, "1").await), (first.clone(), true), "it was flushed");
    assert_eq!((value(&service, "doc:1").await, pending(&service).await), (2.into(), 0));
    assert_eq!(row(&files, "1").as_deref(), Some("2"));
    service.post("/api/cache/invalidate", r#"{"keys":["doc:1"]}"#).await;
    assert_eq!(value(&service, "doc:1").await, 2, "what the origin has is that, too");

    let dead = told(&put(&service, "dead", "\"never\"").await).0;
    flush(&service).await;
    assert_eq!(json(&service.get(&dead).await)["state"], "dead");
    assert_eq!(told(&put(&service, "dead", "\"never\"").await), (dead.clone(), true), "it is a dead letter");
    service.post("/api/cache/behind/docs/drop", r#"{"key":"doc:1"}"#).await;
    assert_eq!(told(&put(&service, "dead", "\"never\"").await), (dead, true), "it was dropped");
    let standing = json(&service.get("/api/cache/behind").await)["keyspaces"][0].clone();
    assert_eq!((&standing["repeated"], &standing["idempotency_keys"]), (&5.into(), &3.into()), "{standing}");
    let metrics = service.get("/metrics").await.body;
    assert!(
        metrics.lines().any(|line| line.contains("outcome=\"repeated\"") && line.ends_with(" 5")),
        "{metrics}"
    );
}

#[tokio::test]
async fn both_views_and_both_methods_know_a_name() {
    let files = Files::new();
    let service = files.service("write-behind").await;
    for path in ["/api/cache/doc:2", "/v1/keys/doc:3", "/api/cache?key=doc:4", "/v1/keys?key=doc:5"] {
        let body = if path.starts_with("/api") { r#"{"value":7}"# } else { "7" };
        let (stored, removed) = (format!("put {path}").replace(' ', "-"), format!("delete-{path}"));
        let first = told(&named(&service, &stored, ("PUT", path, body)).await).0;
        let gone = told(&named(&service, &removed, ("DELETE", path, "")).await);
        assert!(!gone.1 && gone.0 != first);
        assert_eq!(told(&named(&service, &stored, ("PUT", path, body)).await), (first, true), "{path}");
        assert_eq!(service.get(path).await.status, 404, "{path}: it stays removed");
        let again = named(&service, &removed, ("DELETE", path, "")).await;
        assert_eq!((told(&again).0, json(&again)["deleted"].clone()), (gone.0, false.into()), "{path}");
    }
    assert_eq!(pending(&service).await, 4);
    // The same change is the same request, in whichever view and with or without quotation marks.
    let first = told(&put(&service, UUID, "[1]").await).0;
    let bare = [&format!("idempotency-key: {UUID}"), "content-type: application/json"];
    assert_eq!(told(&service.send_with("PUT", "/v1/keys/doc:1", &bare, b"[1]").await), (first, true));
}

#[tokio::test]
async fn a_name_is_not_given_to_another_request() {
    let files = Files::new();
    let service = files.service("write-behind").await;
    told(&put(&service, UUID, "1").await);
    for other in [
        ("PUT", "/api/cache/doc:1", r#"{"value":2}"#),
        ("PUT", "/api/cache/doc:1", r#"{"value":1,"ttl":60}"#),
        ("PUT", "/api/cache/doc:1", r#"{"value":1,"tags":["a"]}"#),
        ("PUT", "/api/cache/doc:2", r#"{"value":1}"#),
        ("DELETE", "/api/cache/doc:1", ""),
        ("PUT", "/v1/keys/doc:1", "2"),
    ] {
        let refused = named(&service, UUID, other).await;
        let detail = refused.problem(422, "idempotency_key_reused");
        assert!(detail.contains("a key of its own"), "{detail}");
    }
    assert_eq!((value(&service, "doc:1").await, pending(&service).await), (1.into(), 1));
    assert_eq!(service.get("/api/cache/doc:2").await.status, 404);
    let raw = format!("idempotency-key: {UUID}");
    let typed = ["cache-control: max-age=60", "content-type: application/json", &raw];
    service.send_with("PUT", "/v1/keys/doc:1", &typed, b"1").await.problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_name_that_is_none_is_refused_where_it_matters_and_not_looked_at_elsewhere() {
    let files = Files::new();
    let service = files.service("write-behind").await;
    let long = "k".repeat(256);
    for line in ["", "\"\"", "a b", "\"open", "a, b", &long] {
        let header = format!("idempotency-key: {line}");
        for (method, body) in [("PUT", &br#"{"value":1}"#[..]), ("DELETE", b"")] {
            let refused = service.send_with(method, "/api/cache/doc:1", &[&header], body).await;
            assert!(refused.problem(400, "header_invalid").contains("UUID"), "{line}");
        }
        let aside = service.send_with("PUT", "/api/cache/aside", &[&header], br#"{"value":1}"#).await;
        assert_eq!((aside.status, aside.header("location")), (200, None), "{line}");
    }
    assert_eq!(pending(&service).await, 0);
    for n in 1..3 {
        let body = format!("{{\"value\":{n}}}");
        let aside = named(&service, UUID, ("PUT", "/api/cache/aside", &body)).await;
        assert_eq!((aside.status, json(&aside).get("repeated")), (200, None));
    }
    assert_eq!(value(&service, "aside").await, 2, "nothing is remembered of what is not written behind");
}

#[tokio::test]
async fn a_batch_has_no_name_where_one_would_be_remembered() {
    let files = Files::new();
    let set = r#"{"set":[{"key":"doc:1","value":1}]}"#;
    let line = r#"{"set":{"key":"doc:1","value":1}}"#;
    let ask = async |service: &Running, media: &str, body: &str| {
        let headers = [format!("idempotency-key: {UUID}"), format!("content-type: {media}")];
        service.send_with("POST", "/api/cache/batch", &[&headers[0], &headers[1]], body.as_bytes()).await
    };
    let service = files.service("write-behind").await;
    for (media, body) in [("application/json", set), ("application/x-ndjson", line)] {
        let refused = ask(&service, media, body).await;
        assert!(refused.problem(400, "header_invalid").contains("one by one"), "{media}");
    }
    assert_eq!(pending(&service).await, 0);
    assert!(service.stop(Stop::Now).await.is_clean());
    let service = files.service("write-through").await;
    assert_eq!(ask(&service, "application/json", set).await.status, 200);
}

#[tokio::test]
async fn a_request_is_remembered_after_a_restart() {
    let files = Files::new();
    let service = files.service("write-behind").await;
    let stored = told(&put(&service, "stored", "1").await).0;
    flush(&service).await;
    let waiting = told(&put(&service, "waiting", "2").await).0;
    assert!(service.stop(Stop::Now).await.is_clean());
    let service = files.service("write-behind").await;
    assert_eq!(told(&put(&service, "stored", "1").await), (stored, true));
    assert_eq!(told(&put(&service, "waiting", "2").await), (waiting, true));
    put(&service, "waiting", "3").await.problem(422, "idempotency_key_reused");
    assert_eq!(value(&service, "doc:1").await, 2);
    assert_eq!(
        row(&files, "1").as_deref(),
        Some("2"),
        "what waited was brought there by the end of the first"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_equal_requests_at_the_same_time_are_one_write() {
    let files = Files::new();
    let service = files.service("write-behind").await;
    let (address, body) = (service.address, r#"{"value":{"n":1}}"#);
    let request = format!(
        "PUT /api/cache/doc:1 HTTP/1.1\r\nhost: test\r\nidempotency-key: {UUID}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let asking: Vec<_> = (0..32)
        .map(|_| {
            let request = request.clone();
            beside(async move {
                let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
                tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.expect("sent");
                let mut answer = String::new();
                tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.expect("an answer");
                answer
            })
        })
        .collect();
    let (mut locations, mut repeated) = (HashSet::new(), 0);
    for asked in asking {
        let answer = asked.await.expect("no panic");
        assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
        let location = answer.lines().find(|line| line.to_ascii_lowercase().starts_with("location:"));
        locations.insert(location.expect("a location").to_owned());
        repeated += u32::from(answer.contains("\"repeated\":true"));
    }
    assert_eq!((locations.len(), repeated, pending(&service).await), (1, 31, 1), "{locations:?}");
    let standing = json(&service.get("/api/cache/behind").await)["keyspaces"][0].clone();
    assert_eq!((&standing["acknowledged"], &standing["coalesced"]), (&1.into(), &0.into()), "{standing}");
}

#[tokio::test]
async fn no_tenant_sees_or_blocks_the_name_of_another() {
    const ALL: &str = "scopes = ['read:*', 'write:*', 'admin']";
    let files = Files::new();
    let tokens = [
        token("a", "token-a", &format!("{ALL}\ntenant = 'a'")),
        token("b", "token-b", &format!("{ALL}\ntenant = 'b'")),
        token("zero", "token-0", ALL),
    ];
    let service = start(&format!("{}\n{}", files.toml_of_tenants("write-behind"), tokens.concat())).await;
    let mut client = Client::of(&service).await;
    let name = format!("idempotency-key: {UUID}");
    let mut ids = HashSet::new();
    for (token, value) in [("token-a", 1), ("token-b", 2), ("token-0", 3)] {
        for is_repeated in [false, true] {
            let body = format!("{{\"value\":{value}}}");
            let answer = client.ask_with(token, "PUT", "/api/cache/doc:1", &[&name], &body).await;
            let (location, again) = told(&answer);
            assert_eq!(again, is_repeated, "{token}");
            ids.insert(location);
        }
    }
    assert_eq!(ids.len(), 3, "{ids:?}");
    let refused = client.ask_with("token-b", "PUT", "/api/cache/doc:1", &[&name], r#"{"value":1}"#).await;
    let detail = refused.problem(422, "idempotency_key_reused");
    let own = ids.iter().find(|location| location.contains("/b--docs/")).expect("one of b");
    assert!(detail.contains(own.rsplit('/').next().expect("an id")), "{detail}: that of its own write");
}
