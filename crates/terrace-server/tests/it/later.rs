//! What is written behind is answered with 202, and its `Location` tells what becomes of it.

use crate::strategies::{Files, json};
use crate::support::{Answer, Client, Running, beside, start, token};
use serde_json::Value;
use std::time::Duration;
use terrace_server::Stop;

const FLUSH: &str = "/api/cache/behind/docs/flush";

/// Where an acknowledgement leads, which has to be that of a write that the origin gets later.
fn location(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    let (body, location) = (json(answer), answer.header("location").expect("a location").to_owned());
    let id = body["write_id"].as_str().expect("an id");
    assert!(location.ends_with(&format!("/writes/{id}")), "{location} is not of {id}");
    location
}

async fn put(service: &Running, key: &str, value: &str) -> Answer {
    service.put(&format!("/api/cache/{key}"), &format!("{{\"value\":{value}}}")).await
}

/// What is told of a write.
async fn told(service: &Running, location: &str) -> Value {
    let answer = service.get(location).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    json(&answer)
}

async fn state(service: &Running, location: &str) -> String {
    told(service, location).await["state"].as_str().expect("a state").to_owned()
}

#[tokio::test]
async fn what_is_written_behind_is_accepted_in_both_views_and_told_of() {
    let files = Files::new();
    let service = files.service("write-behind").await;
    let first = location(&put(&service, "doc:1", "1").await);
    let waiting = told(&service, &first).await;
    let id = first.rsplit('/').next().expect("an id");
    assert_eq!(
        (&waiting["write_id"], &waiting["keyspace"], &waiting["state"], &waiting["key"]),
        (&id.into(), &"docs".into(), &"waiting".into(), &"doc:1".into())
    );
    assert_eq!((&waiting["operation"], &waiting["attempts"]), (&"store".into(), &0.into()), "{waiting}");
    assert!(waiting["waiting_seconds"].as_f64().is_some_and(|seconds| seconds < 60.0), "{waiting}");
    let raw = ["content-type: application/json"];
    let second = location(&service.send_with("PUT", "/v1/keys/doc:1", &raw, b"2").await);
    let coalesced = told(&service, &first).await;
    assert_eq!((&coalesced["state"], &coalesced["by"]), (&"coalesced".into(), &second.as_str().into()));
    let third = location(&service.delete("/v1/keys/doc:1").await);
    assert_eq!(told(&service, &third).await["operation"], "delete");
    let other = location(&service.delete("/api/cache/doc:2").await);
    assert_eq!(service.send("HEAD", &other, "").await.status, 200);
    assert_eq!(service.post(FLUSH, "").await.status, 200);
    for location in [&third, &other] {
        assert_eq!(state(&service, location).await, "gone");
    }
    assert_eq!(told(&service, &first).await["by"], Value::Null, "what stood for it is over");
}

#[tokio::test]
async fn a_write_is_told_of_while_it_is_on_its_way_and_when_it_was_given_up() {
    let files = Files::new();
    let service = files.service("write-behind").await;
    let lock = files.connection();
    lock.execute_batch("begin exclusive").expect("locked");
    let location_of = location(&put(&service, "doc:1", "1").await);
    let bytes = format!("POST {FLUSH} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    let address = service.address;
    let flushing = beside(async move {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
        tokio::io::AsyncWriteExt::write_all(&mut stream, bytes.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await.expect("an answer");
    });
    while !flushing.is_finished() {
        assert_eq!(state(&service, &location_of).await, "waiting");
    }
    lock.execute_batch("rollback").expect("unlocked");
    until(&service, &location_of, "gone").await;

    let never = location(&put(&service, "doc:1", "\"never\"").await);
    service.post(FLUSH, "").await;
    let dead = told(&service, &never).await;
    assert_eq!(
        (&dead["state"], &dead["key"], &dead["overtaken"]),
        (&"dead".into(), &"doc:1".into(), &false.into())
    );
    assert!(dead["reason"].as_str().is_some_and(|reason| reason.contains("does not take")), "{dead}");
    let newer = location(&put(&service, "doc:1", "2").await);
    assert_eq!(told(&service, &never).await["overtaken"], true);
    service.post("/api/cache/behind/docs/drop", r#"{"key":"doc:1"}"#).await;
    assert_eq!(state(&service, &never).await, "gone");
    assert!(service.stop(Stop::Now).await.is_clean());

    let service = files.service("write-behind").await;
    assert_eq!(state(&service, &newer).await, "gone", "ids are known over restarts");
}

/// Waits until this is told of a write.
async fn until(service: &Running, location: &str, word: &str) {
    let waiting = async { while state(service, location).await != word {} };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("in time");
}

#[tokio::test]
async fn an_id_that_was_never_given_out_is_not_found() {
    let files = Files::new();
    let service = files.service("write-behind").await;
    let own = location(&put(&service, "doc:1", "1").await);
    let (path, id) = own.rsplit_once('/').expect("a path");
    let (journal, number) = id.split_once('-').expect("two parts");
    let digit = if journal.starts_with('0') { "1" } else { "0" };
    let other = format!("{digit}{}-{number}", &journal[1..]);
    for id in [
        other.as_str(),
        &format!("{journal}-18446744073709551615"),
        "x",
        "17",
        &id.to_uppercase(),
        &format!("{id}%20"),
    ] {
        if id == own.rsplit('/').next().expect("an id") {
            continue;
        }
        service.get(&format!("{path}/{id}")).await.problem(404, "write_not_found");
    }
    let elsewhere = own.replace("/docs/", "/nobody/");
    assert!(service.get(&elsewhere).await.problem(404, "not_written_behind").contains("docs"));
    service.get(&own.replace("/docs/", "/%ff/")).await.problem(404, "not_written_behind");
    service.put(&own, r#"{"value":1}"#).await.problem(405, "method_not_allowed");
}

#[tokio::test]
async fn a_batch_says_of_each_item_where_it_is_told_of() {
    let files = Files::new();
    let service = files.service("write-behind").await;
    let body = r#"{"set":[{"key":"doc:1","value":1},{"key":"aside","value":2}],"delete":["doc:2"]}"#;
    let answer = json(&service.post("/api/cache/batch", body).await);
    for item in [&answer["set"][0], &answer["delete"][0]] {
        assert_eq!((&item["status"], &item["ack"]), (&202.into(), &"fsync".into()), "{item}");
        let told = told(&service, item["location"].as_str().expect("a location")).await;
        assert_eq!((&told["write_id"], &told["state"]), (&item["write_id"], &"waiting".into()));
    }
    let aside = &answer["set"][1];
    assert_eq!((&aside["status"], &aside["location"]), (&200.into(), &Value::Null), "{aside}");
}

#[tokio::test]
async fn what_does_not_come_later_is_no_202() {
    let files = Files::new();
    for strategy in ["write-through", "write-around"] {
        let service = files.service(strategy).await;
        for answer in [put(&service, "doc:1", "1").await, service.delete("/api/cache/doc:1").await] {
            assert_eq!((answer.status, answer.header("location")), (200, None), "{answer:?}");
        }
        assert!(service.stop(Stop::Now).await.is_clean());
    }
}

#[tokio::test]
async fn nobody_is_told_of_the_writes_of_others() {
    const ALL: &str = "scopes = ['read:*', 'write:*', 'admin']";
    let files = Files::new();
    let tokens = [
        token("a", "token-a", &format!("{ALL}\ntenant = 'a'")),
        token("b", "token-b", &format!("{ALL}\ntenant = 'b'")),
        token("zero", "token-0", ALL),
        token("blind", "token-blind", "scopes = ['admin']\ntenant = 'a'"),
        token("writer", "token-writer", "scopes = ['read:*', 'write:*']\ntenant = 'a'"),
    ];
    let service = start(&format!("{}\n{}", files.toml_of_tenants("write-behind"), tokens.concat())).await;
    let mut client = Client::of(&service).await;
    let stored = client.ask("token-a", "PUT", "/api/cache/doc:secret", r#"{"value":1}"#).await;
    let own = location(&stored);
    assert!(own.starts_with("/api/cache/behind/a--docs/writes/"), "{own}");
    let mut ask = async |token, target: &str| client.ask(token, "GET", target, "").await;
    assert_eq!(json(&ask("token-a", &own).await)["key"], "doc:secret");
    let blind = json(&ask("token-blind", &own).await);
    assert_eq!((&blind["state"], blind.get("key")), (&"waiting".into(), None), "{blind}");
    ask("token-writer", &own).await.problem(403, "forbidden");
    for (token, name) in [("token-b", "b--docs"), ("token-0", "docs")] {
        let elsewhere = ask(token, &own).await;
        assert!(!elsewhere.problem(404, "not_written_behind").contains("a--"), "{elsewhere:?}");
        let gone = ask(token, &own.replace("a--docs", name)).await;
        let keys: Vec<String> = json(&gone).as_object().expect("an object").keys().cloned().collect();
        assert_eq!(
            (gone.status, json(&gone)["state"].as_str(), keys.len()),
            (200, Some("gone"), 3),
            "{gone:?}"
        );
    }
    client.ask("token-a", "PUT", "/api/cache/doc:secret", r#"{"value":"never"}"#).await;
    client.ask("token-a", "POST", "/api/cache/behind/a--docs/flush", "").await;
    for (token, key) in [("token-a", Some("doc:secret")), ("token-blind", None)] {
        let behind = json(&client.ask(token, "GET", "/api/cache/behind", "").await);
        let letter = &behind["keyspaces"][0]["dead_letters"][0];
        let shown = letter.get("key").and_then(Value::as_str);
        assert_eq!((&letter["operation"], shown), (&"store".into(), key), "{behind}");
    }
}
