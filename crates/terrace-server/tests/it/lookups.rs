//! What Prometheus is told of lookups: that an error there is what a client saw as one, and under which strategy lookups are counted.

use crate::http_api::{Api, Mood};
use crate::support::{Answer, Running, start};
use terrace_testkit::server::{redis_url, unique_prefix};
use terrace_testkit::wait::until_some;

/// Settings that leave an open breaker open for as long as a test takes.
const LONG: &str = "breaker = { min_calls = 4, open = '10m' }";
const NO_BREAKER: &str = "breaker = { enabled = false }";

/// A keyspace in front of an API, with these settings of the origin, of the keyspace, and of all.
fn toml(api: &Api, origin: &str, keyspace: &str, all: &str) -> String {
    format!(
        "{all}\n[origin.api]\ntype = 'http'\nbase_url = '{}'\n{origin}\n\
         [keyspace.a]\npattern = 'a:{{id}}'\n{keyspace}\n\
         [keyspace.a.source]\norigin = 'api'\nload = 'GET /docs/{{id}}'\n",
        api.url()
    )
}

/// The number of a series.
async fn series(service: &Running, name: &str) -> u64 {
    let (text, name) = (service.get("/metrics").await.body, format!("{name} "));
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
}

async fn result(service: &Running, result: &str) -> u64 {
    let labels = format!("keyspace=\"a\",op=\"get\",result=\"{result}\"");
    series(service, &format!("terrace_requests_total{{{labels}}}")).await
}

async fn outcome(service: &Running, outcome: &str) -> u64 {
    let labels = format!("keyspace=\"a\",outcome=\"{outcome}\"");
    series(service, &format!("terrace_origin_requests_total{{{labels}}}")).await
}

async fn misses(service: &Running, strategy: &str) -> u64 {
    series(service, &format!("terrace_misses_total{{keyspace=\"a\",strategy=\"{strategy}\"}}")).await
}

async fn hits(service: &Running, tier: &str, strategy: &str) -> u64 {
    let labels = format!("keyspace=\"a\",tier=\"{tier}\",strategy=\"{strategy}\"");
    series(service, &format!("terrace_hits_total{{{labels}}}")).await
}

#[tokio::test]
async fn an_error_of_a_lookup_is_what_a_client_sees_as_one() {
    let api = Api::start().await;
    let settings = format!("timeout = '300ms'\n{NO_BREAKER}");
    let service = start(&toml(&api, &settings, "negative_ttl = 0", "")).await;
    assert_eq!((result(&service, "miss").await, result(&service, "error").await), (0, 0), "from the start");
    let (mut answered, mut failed) = (0, 0);
    for (number, (mood, status)) in [
        (Mood::Text("{}".to_owned()), 200),
        (Mood::Status(404), 404),
        (Mood::Status(422), 400),
        (Mood::Status(500), 502),
        (Mood::Status(502), 502),
        (Mood::Status(503), 503),
        (Mood::Text("<html>".to_owned()), 502),
        (Mood::Hang, 504),
    ]
    .into_iter()
    .enumerate()
    {
        api.mood(mood.clone());
        let path = format!("/api/cache/a:{number}");
        let seen = if status == 200 {
            vec![service.get(&path).await]
        } else {
            vec![service.get(&path).await, service.get(&path).await]
        };
        assert!(seen.iter().all(|answer| answer.status == status), "{mood:?}: {seen:?}");
        let count = if status >= 500 { &mut failed } else { &mut answered };
        *count += seen.len() as u64;
        let counted = (result(&service, "miss").await, result(&service, "error").await);
        assert_eq!(counted, (answered, failed), "{mood:?}");
        assert_eq!(misses(&service, "read-through").await, answered + failed, "{mood:?}");
    }
    let refused = service.get("/api/cache?key=a:..").await;
    assert_eq!(
        (refused.status, result(&service, "error").await),
        (400, failed),
        "a key that cannot be asked for"
    );
    api.mood(Mood::Status(503));
    let batch = service.post("/api/cache/batch", r#"{"get":["a:0","a:b1","a:b2"]}"#).await;
    assert_eq!(batch.body.matches("\"status\":503").count(), 2, "{batch:?}");
    assert_eq!(result(&service, "error").await, failed + 2);
}

#[tokio::test]
async fn in_an_outage_errors_grow_and_other_misses_do_not_and_what_is_refused_here_is_no_failed_load() {
    let api = Api::start().await;
    for id in ["1", "2"] {
        api.set(&format!("/v2/docs/{id}"), "1");
    }
    let service = start(&toml(&api, LONG, "", "")).await;
    for key in ["a:1", "a:2", "a:none"] {
        service.get(&format!("/api/cache/{key}")).await;
    }
    let before = (result(&service, "miss").await, misses(&service, "read-through").await);
    assert_eq!(before, (3, 3));
    api.mood(Mood::Status(502));
    api.asked();
    let mut seen = Vec::new();
    for number in 0..20 {
        seen.push(service.get(&format!("/api/cache/a:down{number}")).await.status);
    }
    assert_eq!(service.get("/api/cache/a:1").await.status, 200, "what is there is there");
    let left_alone = seen.iter().filter(|status| **status == 503).count() as u64;
    let made = api.asked().len() as u64;
    assert!(left_alone > 0 && left_alone + made == 20, "{seen:?}");
    assert_eq!((result(&service, "error").await, result(&service, "miss").await), (20, 3));
    assert_eq!((misses(&service, "read-through").await, result(&service, "hit_l1").await), (23, 1));
    assert_eq!((outcome(&service, "failed").await, outcome(&service, "refused").await), (made, left_alone));
    let batch = service.post("/api/cache/batch", r#"{"get":["a:b1","a:b2","a:b3"]}"#).await;
    assert_eq!(batch.body.matches("origin_left_alone").count(), 3, "{batch:?}");
    assert_eq!((result(&service, "error").await, result(&service, "miss").await), (23, 3));
    assert_eq!(
        (outcome(&service, "failed").await, outcome(&service, "refused").await),
        (made, left_alone + 3)
    );
}

#[tokio::test]
async fn old_values_that_are_served_in_an_outage_are_no_errors() {
    let api = Api::start().await;
    api.set("/v2/docs/1", "1");
    let service = start(&toml(&api, LONG, "ttl = '1ms'\nstale_if_error = '10m'", "")).await;
    assert_eq!(service.get("/api/cache/a:1").await.status, 200);
    api.mood(Mood::Status(503));
    let stale = until_some("a value past its TTL", async || {
        let answer = service.get("/api/cache/a:1").await;
        answer.body.contains("\"source\":\"stale\"").then_some(answer)
    })
    .await;
    assert_eq!(stale.status, 200);
    assert_eq!(result(&service, "error").await, 0);
}

#[tokio::test]
async fn a_lookup_that_takes_longer_than_its_request_may_is_an_error() {
    let api = Api::start().await;
    api.mood(Mood::Hang);
    let all = "server.request_timeout = '300ms'\n";
    let service = start(&toml(&api, "timeout = '10s'", "", all)).await;
    service.get("/api/cache/a:1").await.problem(504, "timeout");
    assert_eq!((result(&service, "error").await, result(&service, "miss").await), (1, 0));
    let batch = service.post("/api/cache/batch", r#"{"get":["a:2","a:3"]}"#).await;
    assert_eq!((batch.status, result(&service, "error").await), (504, 3), "{batch:?}");
    let lines = "{\"get\":\"a:4\"}\n{\"get\":\"a:5\"}\n";
    let headers = ["content-type: application/x-ndjson"];
    let lines = service.send_with("POST", "/api/cache/batch", &headers, lines.as_bytes()).await;
    assert_eq!(
        (lines.body.matches("\"timeout\"").count(), result(&service, "error").await),
        (2, 5),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_request_that_looks_nowhere_but_in_the_tiers_is_no_lookup() {
    let api = Api::start().await;
    let service = start(&toml(&api, LONG, "", "")).await;
    let headers = ["cache-control: only-if-cached"];
    let answer = service.send_with("GET", "/api/cache/a:1", &headers, b"").await;
    assert_eq!((answer.status, service.send("HEAD", "/api/cache/a:1", "").await.status), (504, 404));
    assert_eq!((result(&service, "error").await, misses(&service, "read-through").await), (0, 0));
}

#[tokio::test]
async fn lookups_stay_with_the_strategy_that_they_were_counted_under_when_a_reload_changes_it() {
    let api = Api::start().await;
    api.set("/v2/docs/1", "1");
    let writing = |toml: &str| toml.replace("load =", "store = 'PUT /docs/{id}'\nload =");
    let reading = toml(&api, NO_BREAKER, "strategy = 'read-through'", "");
    let through = writing(&toml(&api, NO_BREAKER, "strategy = 'write-through'", ""));
    let service = start(&reading).await;
    let shares = async |strategy| (hits(&service, "l1", strategy).await, misses(&service, strategy).await);
    assert_eq!((shares("read-through").await, hits(&service, "l2", "read-through").await), ((0, 0), 0));
    for _ in 0..3 {
        service.get("/api/cache/a:1").await;
    }
    assert_eq!(shares("read-through").await, (2, 1));
    service.reload(&through).await.expect("it is taken");
    assert_eq!((shares("read-through").await, shares("write-through").await), ((2, 1), (0, 0)));
    service.get("/api/cache/a:1").await;
    service.get("/api/cache/a:none").await;
    assert_eq!((shares("read-through").await, shares("write-through").await), ((2, 1), (1, 1)));
    service.reload(&through.replace("[keyspace.a]", "[keyspace.a]\nttl = '1h'")).await.expect("it is taken");
    service.reload(&reading.replace("GET", "FETCH")).await.expect_err("it is none");
    assert_eq!((shares("read-through").await, shares("write-through").await), ((2, 1), (1, 1)));
    service.reload(&reading).await.expect("it is taken");
    service.get("/api/cache/a:1").await;
    assert_eq!((shares("read-through").await, shares("write-through").await), ((3, 1), (1, 1)), "it goes on");
    let all = result(&service, "hit_l1").await + result(&service, "miss").await;
    assert_eq!(all, 6, "no lookup is in two shares, or in none");
}

/// What an answer says without its body, but for what is of this one answer: its time, its name, and the seconds that are left.
fn said(answer: &Answer) -> (u16, Vec<String>) {
    let own = ["date:", "x-request-id:", "content-length:", "content-type:"];
    let lines = answer.head.lines().skip(1).filter(|line| !own.iter().any(|name| line.starts_with(name)));
    let mut lines: Vec<String> = lines.map(|line| line.replace(|c: char| c.is_ascii_digit(), "")).collect();
    lines.sort();
    (answer.status, lines)
}

async fn head_is_get(service: &Running, key: &str, status: u16, part: &str, lines: &[&str]) {
    for path in [format!("/v1/keys/{key}"), format!("/api/cache/{key}")] {
        let head = service.send_with("HEAD", &path, lines, b"").await;
        let get = service.send_with("GET", &path, lines, b"").await;
        assert_eq!(said(&head), said(&get), "{path} {lines:?}");
        assert_eq!((head.status, head.body.as_str()), (status, ""), "{path} {lines:?}");
        let standing = head.header("cache-status").unwrap_or_default();
        assert!(standing.contains(part), "{path} {lines:?}: {standing}");
    }
}

#[tokio::test]
async fn a_head_of_nothing_says_what_a_get_says() {
    let api = Api::start().await;
    let service = start(&toml(&api, NO_BREAKER, "negative_ttl = '10m'", "")).await;
    head_is_get(&service, "none", 404, "fwd=uri-miss", &[]).await;
    api.mood(Mood::Status(404));
    service.get("/api/cache/a:1").await.problem(404, "key_not_found");
    head_is_get(&service, "a:1", 404, "detail=negative", &[]).await;
    for key in ["none", "a:1"] {
        head_is_get(&service, key, 504, "only-if-cached", &["cache-control: only-if-cached"]).await;
        head_is_get(&service, key, 400, "", &["cache-control: max-stale=soon"]).await;
    }
}

#[tokio::test]
async fn a_look_that_keeps_nothing_leaves_the_tiers_as_they_are() {
    let Some(url) = redis_url().await else { return };
    let toml = format!("[l2]\nurl = '{url}'\nkey_prefix = '{}'\n", unique_prefix());
    let (one, two) = (start(&toml).await, start(&toml).await);
    one.put("/api/cache/k", r#"{"value":1}"#).await;
    let places = async || {
        let why: serde_json::Value =
            serde_json::from_str(&two.get("/api/cache/why/k").await.body).expect("JSON");
        (why["l1"].is_null(), why["l2"].is_null())
    };
    let line = ["cache-control: only-if-cached, no-store"];
    for _ in 0..2 {
        for (method, path) in [("GET", "/api/cache/k"), ("HEAD", "/v1/keys/k"), ("GET", "/v1/keys/k")] {
            let answer = two.send_with(method, path, &line, b"").await;
            assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
            let standing = answer.header("cache-status").unwrap_or_default();
            assert!(
                standing.contains("terrace-l2; hit") && !standing.contains("stored"),
                "{method}: {standing}"
            );
            assert_eq!(places().await, (true, false), "{method} {path}");
        }
    }
    let kept = two.send_with("HEAD", "/v1/keys/k", &["cache-control: no-store"], b"").await;
    assert!(kept.header("cache-status").is_some_and(|standing| standing.ends_with("; stored")), "{kept:?}");
    assert_eq!(places().await, (false, false), "a plain one keeps a copy, as a read does");
}
