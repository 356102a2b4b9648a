//! `X-Request-Id`: it comes back with every answer, is told to nobody else, and is nothing but an id.

use crate::http_api::{Api, Mood};
use crate::log::Log;
use crate::support::{Answer, Client, Running, beside, start, token};
use terrace_testkit::wait;
use tokio::net::TcpStream;

const ID: &str = "0af7-1a/b=c";
const LINE: &str = "x-request-id: 0af7-1a/b=c";

async fn asked(service: &Running, method: &str, target: &str, lines: &[&str], body: &str) -> Answer {
    service.send_with(method, target, &[&[LINE], lines].concat(), body.as_bytes()).await
}

#[tokio::test]
async fn every_answer_has_the_id_of_its_request() {
    let service = start("[server]\nmax_body = '1KiB'\n[defaults]\nmax_value = '16B'").await;
    service.put("/api/cache/a", "{\"value\":1}").await;
    let tag = service.get("/api/cache/a").await.header("etag").expect("a tag").to_owned();
    let known = format!("if-none-match: {tag}");
    let lines = "{\"get\":\"a\"}\n{\"delete\":\"none\"}\n";
    let long = "x".repeat(2_000);
    let cases: [(&str, &str, &[&str], &str, u16); 26] = [
        ("GET", "/api/cache/a", &[], "", 200),
        ("GET", "/v1/keys/a", &[], "", 200),
        ("GET", "/api/cache/a", &["cache-control: no-cache"], "", 200),
        ("GET", "/api/cache/a", &[&known], "", 304),
        ("HEAD", "/api/cache/a", &[], "", 200),
        ("HEAD", "/v1/keys/a", &[], "", 200),
        ("HEAD", "/v1/keys/none", &[], "", 404),
        ("GET", "/api/cache/none", &[], "", 404),
        ("GET", "/api/cache/%ff", &[], "", 400),
        ("PUT", "/api/cache/b", &[], "{\"value\":1}", 200),
        ("PUT", "/api/cache/b", &[], "{", 400),
        ("PUT", "/api/cache/b", &[], "{\"valu\":1}", 422),
        ("PUT", "/api/cache/b", &[], &long, 413),
        ("PUT", "/api/cache/b", &["if-match: \"x\""], "{\"value\":1}", 412),
        ("PUT", "/v1/keys/b", &["origin: http://elsewhere.example"], "1", 403),
        ("DELETE", "/api/cache/b", &[], "", 200),
        ("PATCH", "/api/cache/b", &[], "", 405),
        ("POST", "/api/cache/batch", &[], "{\"get\":[\"a\"]}", 200),
        ("POST", "/api/cache/batch", &["content-type: application/x-ndjson"], lines, 200),
        ("POST", "/api/cache/invalidate", &[], "{\"keys\":[\"a\"]}", 200),
        ("GET", "/api/cache/metrics", &[], "", 200),
        ("GET", "/metrics", &[], "", 200),
        ("GET", "/readyz", &[], "", 200),
        ("GET", "/openapi.json", &[], "", 200),
        ("GET", "/", &[], "", 200),
        ("GET", "/nowhere", &[], "", 404),
    ];
    for (method, target, lines, body, status) in cases {
        let answer = asked(&service, method, target, lines, body).await;
        assert_eq!((answer.status, answer.header("x-request-id")), (status, Some(ID)), "{method} {target}");
        if status >= 400 && method != "HEAD" {
            let problem: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
            assert_eq!(problem["request_id"], ID, "{method} {target}");
        }
        let without = service.send_with(method, target, lines, body.as_bytes()).await;
        assert_eq!(without.header("x-request-id"), None, "{method} {target}");
        assert!(!without.body.contains("request_id") || target == "/openapi.json", "{method} {target}");
    }
    let request = format!("GET /api/cache/events HTTP/1.1\r\nhost: x\r\n{LINE}\r\n\r\n");
    let events = service.raw_until(request.as_bytes(), "\r\n\r\n").await;
    assert!(events.contains(&format!("{LINE}\r\n")), "{events}");
}

#[tokio::test]
async fn refusals_at_the_door_have_it_on_both_listeners() {
    let web = token("web", "web", "scopes = ['read:user:*']\nrate = { per_second = 1, burst = 1 }");
    let toml = format!("server.admin_listen = '127.0.0.1:0'\n{web}");
    let service = start(&toml).await;
    let of = |lines: &'static [&'static str], target: &'static str| {
        let service = &service;
        async move {
            let answer = asked(service, "GET", target, lines, "").await;
            assert_eq!(answer.header("x-request-id"), Some(ID), "{answer:?}");
            answer.status
        }
    };
    assert_eq!(of(&[], "/api/cache/user:1").await, 401);
    assert_eq!(of(&["authorization: Bearer web"], "/api/cache/order:1").await, 403);
    let mut statuses = Vec::new();
    while statuses.last() != Some(&429) {
        statuses.push(of(&["authorization: Bearer web"], "/api/cache/user:1").await);
        assert!(statuses.len() < 100, "one in a second may be: {statuses:?}");
    }
    let admin = TcpStream::connect(service.admin.expect("there is one")).await.expect("it listens");
    let answer = Client::over(admin).ask(&format!("nobody\r\n{LINE}"), "GET", "/livez", "").await;
    assert_eq!((answer.status, answer.header("x-request-id")), (200, Some(ID)));
}

#[tokio::test]
async fn who_is_turned_away_for_want_of_room_has_it_too_and_no_origin_is_told() {
    let api = Api::start().await;
    let toml = format!(
        "server.max_requests = 1\n[origin.api]\ntype = 'http'\nbase_url = '{}'\n[keyspace.docs]\npattern = 'doc:{{id}}'\n\
         strategy = 'read-through'\nsource = {{ origin = 'api', load = 'GET /docs/{{id}}' }}",
        api.url()
    );
    let service = start(&toml).await;
    api.mood(Mood::Hang);
    let request = format!("GET /api/cache/doc:1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{LINE}\r\n\r\n");
    let address = service.address;
    let hanging = beside(async move {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.expect("sent");
        stream
    });
    let _stream = hanging.await.expect("it is sent");
    let mut told = Vec::new();
    wait::until("the origin is asked", || {
        told.extend(api.asked());
        !told.is_empty()
    })
    .await;
    assert!(!told[0].headers.contains_key("x-request-id"), "{told:?}");
    let answer = asked(&service, "GET", "/api/cache/doc:2", &[], "").await;
    answer.problem(503, "overloaded");
    assert_eq!(answer.header("x-request-id"), Some(ID));
}

#[tokio::test]
async fn what_is_no_id_is_passed_over() {
    let service = start("").await;
    service.put("/api/cache/a", "{\"value\":1}").await;
    let longest = format!("x-request-id: {}", "x".repeat(128));
    let too_long = format!("{longest}x");
    let answer = service.send_with("GET", "/api/cache/a", &[&longest], b"").await;
    assert_eq!(answer.header("x-request-id").map(str::len), Some(128));
    for lines in [
        &["x-request-id:"][..],
        &["x-request-id: a b"],
        &["x-request-id: a\"b"],
        &["x-request-id: a\tb"],
        &["x-request-id: caf\u{e9}"],
        &[&too_long],
        &[LINE, LINE],
    ] {
        for target in ["/api/cache/a", "/api/cache/none"] {
            let answer = service.send_with("GET", target, lines, b"").await;
            assert_eq!(answer.header("x-request-id"), None, "{lines:?}");
            assert!(!answer.body.contains("request_id"), "{lines:?}");
        }
    }
}

#[tokio::test]
async fn what_is_noted_says_by_which_request() {
    let log = Log::of_this_thread();
    let service = start("").await;
    asked(&service, "POST", "/api/cache/invalidate", &[], "{\"keys\":[\"a\"]}").await;
    asked(&service, "PUT", "/api/cache/a", &["sec-fetch-site: cross-site"], "{\"value\":1}").await;
    service.post("/api/cache/invalidate", "{\"keys\":[\"b\"]}").await;
    let text = log.text();
    let noted: Vec<&str> = text.lines().filter(|line| line.contains("terrace::audit")).collect();
    assert_eq!(noted.len(), 3, "{text}");
    let field = format!("request_id=\"{ID}\"");
    assert!(noted[0].contains(&field) && noted[1].contains(&field), "{noted:?}");
    assert!(!noted[2].contains("request_id"), "{noted:?}");
}
