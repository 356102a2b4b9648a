//! What the service tells of itself among the events: breakers, and what becomes of what is written behind.

use crate::events::{Reader, Told};
use crate::strategies::Files;
use crate::support::{Answer, Client, Running, beside, start, token};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use terrace_testkit::server::{RedisServer, unique_prefix};
use terrace_testkit::wait::until_some;

/// An API that answers every request with this status.
async fn api(status: &Arc<AtomicU16>) -> String {
    let status = Arc::clone(status);
    let answer = async move || {
        let status = StatusCode::from_u16(status.load(Ordering::Relaxed)).expect("a status");
        (status, [("content-type", "application/json")], "1")
    };
    let router = Router::new().route("/a/{id}", get(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    beside(async move {
        axum::serve(listener, router).await.expect("it serves");
    });
    format!("http://{address}")
}

fn with_api(base: &str, open: &str) -> String {
    format!(
        "[origin.api]\ntype = 'http'\nbase_url = '{base}'\nbreaker = {{ min_calls = 4, open = '{open}' }}\n\
         [keyspace.a]\npattern = 'a:{{id}}'\nsource = {{ origin = 'api', load = 'GET /a/{{id}}' }}\n"
    )
}

/// A reader that has begun.
async fn reader(service: &Running, query: &str) -> Reader {
    let mut reader = Reader::open(service, query, None).await;
    reader.begun().await;
    reader
}

/// What an event says of a breaker.
fn step(told: &Told) -> (String, String, String) {
    let json = told.json();
    assert_eq!(told.name, "breaker", "{told:?}");
    assert!(told.id.is_some() && json["at"].as_str().is_some(), "{told:?}");
    let [target, was, state] =
        ["target", "was", "state"].map(|name| json[name].as_str().expect(name).to_owned());
    (target, was, state)
}

fn of(target: &str, was: &str, state: &str) -> (String, String, String) {
    (target.to_owned(), was.to_owned(), state.to_owned())
}

/// Asks for keys that nobody asked for before.
async fn fail(service: &Running, prefix: &str, keys: std::ops::Range<u32>) {
    for number in keys {
        let answer = service.get(&format!("/api/cache/{prefix}:{number}")).await;
        assert!([502, 503].contains(&answer.status), "{answer:?}");
    }
}

#[tokio::test]
async fn each_state_that_a_breaker_comes_into_is_told_once_and_a_reader_that_comes_back_goes_on_behind_it() {
    let status = Arc::new(AtomicU16::new(500));
    let base = api(&status).await;
    let service = start(&with_api(&base, "100ms")).await;
    let mut told = reader(&service, "?types=breaker").await;
    // One more reader, which makes no second teller.
    drop(reader(&service, "").await);
    fail(&service, "a", 0..4).await;
    let opened = told.told().await;
    assert_eq!(step(&opened), of("origin.api", "closed", "open"));
    status.store(200, Ordering::Relaxed);
    until_some("a probe", async || (service.get("/api/cache/a:new").await.status == 200).then_some(())).await;
    // A change between them has a place in the same row.
    assert_eq!(service.put("/api/cache/between", r#"{"value":1}"#).await.status, 200);
    assert_eq!(step(&told.told().await), of("origin.api", "open", "half_open"));
    assert_eq!(step(&told.told().await), of("origin.api", "half_open", "closed"));

    let mut back = Reader::open(&service, "", opened.id.as_deref()).await;
    let mut names = Vec::new();
    for _ in 0..3 {
        let told = back.told().await;
        names.push(if told.name == "breaker" { step(&told).2 } else { told.key() });
    }
    names.sort_unstable();
    assert_eq!(names, ["between", "closed", "half_open"], "exactly what it missed");

    // That of an origin that stays is not told of twice, and those that come are told of.
    let both = with_api(&base, "100ms")
        + &with_api(&base, "10m")
            .replace("api", "other")
            .replace("[keyspace.a]\npattern = 'a:", "[keyspace.b]\npattern = 'b:");
    service.reload(&both).await.expect("it is taken");
    status.store(500, Ordering::Relaxed);
    fail(&service, "a", 100..104).await;
    assert_eq!(step(&told.told().await), of("origin.api", "closed", "open"));
    fail(&service, "b", 200..204).await;
    assert_eq!(step(&told.told().await), of("origin.other", "closed", "open"), "and none between");
    // Other settings are another breaker.
    service.reload(&both.replace("10m", "9m")).await.expect("it is taken");
    fail(&service, "b", 300..304).await;
    assert_eq!(step(&told.told().await), of("origin.other", "closed", "open"));
}

#[tokio::test]
async fn a_redis_that_is_left_alone_is_told_of() {
    let Some(server) = RedisServer::start().await else { return };
    let toml = format!(
        "[l2]\nurl = '{}'\nkey_prefix = '{}'\nbreaker = {{ min_calls = 2, open = '50ms', ramp = '10ms' }}\n",
        server.url(),
        unique_prefix()
    );
    let service = start(&toml).await;
    assert_eq!(service.put("/api/cache/a", r#"{"value":1}"#).await.status, 200);
    let mut told = reader(&service, "?types=breaker").await;
    server.kill();
    let asking = async {
        for number in 0.. {
            service.get(&format!("/api/cache/{number}")).await;
        }
    };
    let opened = async { step(&told.told().await) };
    let first =
        tokio::select! { biased; opened = opened => opened, () = asking => unreachable!("it asks for ever") };
    assert_eq!(first, of("l2", "closed", "open"));
    assert_eq!(step(&told.told().await), of("l2", "open", "half_open"), "it is probed");
    assert_eq!(step(&told.told().await), of("l2", "half_open", "open"), "and is not there");
}

async fn put(service: &Running, key: &str, value: &str) -> Answer {
    service.put(&format!("/api/cache/{key}"), &format!("{{\"value\":{value}}}")).await
}

/// The next event about a write.
async fn about_write(reader: &mut Reader) -> (Option<String>, Value) {
    loop {
        let told = reader.told().await;
        let json = told.json();
        assert_eq!((told.name.as_str(), json["keyspace"].as_str()), ("queue", Some("docs")), "{told:?}");
        assert!(!told.data.contains("never"), "no value: {told:?}");
        if json["state"] != "standing" {
            return (told.id, json);
        }
    }
}

#[tokio::test]
async fn a_write_that_is_given_up_and_what_people_do_about_it_are_told() {
    let files = Files::new();
    let service = files.service("write-behind").await;
    let mut told = reader(&service, "?types=queue").await;
    let mut of_others = reader(&service, "?types=queue&pattern=other:*").await;
    let id = put(&service, "doc:1", "\"never\"").await;
    let id: Value = serde_json::from_str(&id.body).expect("JSON");
    service.post("/api/cache/behind/docs/flush", "").await;
    let (place, given_up) = about_write(&mut told).await;
    assert_eq!(
        (&given_up["state"], &given_up["key"], &given_up["write_id"]),
        (&"given_up".into(), &"doc:1".into(), &id["write_id"])
    );
    service.post("/api/cache/behind/docs/retry", r#"{"key":"doc:1"}"#).await;
    service.post("/api/cache/behind/docs/flush", "").await;
    service.post("/api/cache/behind/docs/drop", r#"{"key":"doc:1"}"#).await;
    service
        .post("/api/cache/behind/docs/drop", r#"{"key":"doc:1"}"#)
        .await
        .problem(404, "dead_letter_not_found");
    let mut steps = Vec::new();
    for _ in 0..3 {
        let (_, json) = about_write(&mut told).await;
        steps.push((json["state"].clone(), json["key"].clone(), json["letters"].clone()));
    }
    let step = |state: &str, letters: Value| (state.into(), "doc:1".into(), letters);
    let expected = [step("retried", 1.into()), step("given_up", Value::Null), step("dropped", 1.into())];
    assert_eq!(steps, expected);

    let mut back = Reader::open(&service, "?types=queue", place.as_deref()).await;
    assert_eq!(about_write(&mut back).await.1["state"], "retried", "it goes on behind the first");
    // How it stands concerns all keys; a dead letter its own.
    put(&service, "doc:2", "2").await;
    let standing = of_others.told().await;
    assert_eq!(standing.json()["state"], "standing", "{standing:?}");
}

#[tokio::test]
async fn how_what_is_written_behind_stands_is_told_when_it_changed() {
    let files = Files::new();
    let service = files.service("write-behind").await;
    let mut told = reader(&service, "?types=queue").await;
    for key in ["doc:1", "doc:2", "doc:3"] {
        put(&service, key, "1").await;
    }
    loop {
        let json = told.told().await.json();
        let oldest = json["oldest_seconds"].as_f64().expect("a number");
        assert!(json["state"] == "standing" && json["dead"] == 0 && oldest >= 0.0, "{json}");
        if json["pending"] == 3 {
            break;
        }
    }
    put(&service, "doc:4", "\"never\"").await;
    service.post("/api/cache/behind/docs/flush", "").await;
    loop {
        let json = told.told().await.json();
        if (&json["state"], &json["pending"], &json["dead"]) == (&"standing".into(), &0.into(), &1.into()) {
            break;
        }
    }
    // Nothing has changed since, so the next that comes is of this change.
    put(&service, "doc:5", "1").await;
    let json = told.told().await.json();
    assert_eq!((&json["pending"], &json["dead"]), (&1.into(), &1.into()), "{json}");
}

#[tokio::test]
async fn keys_of_dead_letters_are_for_those_who_may_read_them_and_nothing_of_a_tenant_is_told() {
    const ALL: &str = "scopes = ['read:*', 'write:*', 'admin']";
    let files = Files::new();
    let tokens = [
        token("a", "token-a", &format!("{ALL}\ntenant = 'a'")),
        token("zero", "token-0", ALL),
        token("blind", "token-blind", "scopes = ['admin']"),
    ];
    let id = "coalesce(:tenant, '') || :id";
    let toml = files.toml("write-behind", "");
    let toml = toml.replace("where id = :id", &format!("where id = {id}"));
    let toml = toml.replace("(:id, ", &format!("({id}, ")) + "\n" + &tokens.concat();
    let service = start(&toml).await;
    let line = |token: &str| format!("authorization: Bearer {token}\r\n");
    let mut sees = Reader::with(&service, "?types=queue,breaker", &line("token-0")).await;
    let mut blind = Reader::with(&service, "?types=queue,breaker", &line("token-blind")).await;
    for reader in [&mut sees, &mut blind] {
        reader.begun().await;
    }
    let mut client = Client::of(&service).await;
    for (token, keyspace, key) in [("token-a", "a--docs", "doc:secret"), ("token-0", "docs", "doc:own")] {
        let put = client.ask(token, "PUT", &format!("/api/cache/{key}"), r#"{"value":"never"}"#).await;
        assert_eq!(put.status, 202, "{put:?}");
        client.ask(token, "POST", &format!("/api/cache/behind/{keyspace}/flush"), "").await;
        let behind = client.ask(token, "GET", "/api/cache/behind", "").await;
        assert!(behind.body.contains("\"dead\":1"), "{behind:?}");
    }
    // The tenant's letter was there first.
    let (_, seen) = about_write(&mut sees).await;
    assert_eq!((&seen["state"], &seen["key"]), (&"given_up".into(), &"doc:own".into()));
    let (_, unseen) = about_write(&mut blind).await;
    assert_eq!((&unseen["write_id"], unseen.get("key")), (&seen["write_id"], None), "{unseen}");
    // So was a second of it for how the queues stand.
    let standing = sees.told().await.json();
    assert_eq!((&standing["state"], &standing["keyspace"]), (&"standing".into(), &"docs".into()));
    client.ask("token-a", "GET", "/api/cache/events?types=queue,breaker", "").await.problem(403, "forbidden");
}
