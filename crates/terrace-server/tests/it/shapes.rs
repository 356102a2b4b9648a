//! The shapes that programs rely on, byte for byte.

use crate::log::Log;
use crate::support::{Running, start};
use terrace_server::Stop;

async fn memory() -> Running {
    start("").await
}

#[tokio::test]
async fn a_value_that_was_put_is_got() {
    let service = memory().await;
    let put = service.put("/api/cache/user:42", r#"{"value":{"name": "Ada", "n":1e3},"ttl":3600}"#).await;
    assert_eq!((put.status, put.header("content-type")), (200, Some("application/json")));
    assert_eq!(put.body_without_times(), r#"{"success":true,"expires_at":"T"}"#);

    let got = service.get("/api/cache/user:42").await;
    assert_eq!((got.status, got.header("content-type")), (200, Some("application/json")));
    assert_eq!(
        got.body_without_times(),
        r#"{"value":{"name": "Ada", "n":1e3},"hit":true,"source":"l1","cached_at":"T","expires_at":"T"}"#
    );
}

#[tokio::test]
async fn times_are_those_of_the_entry() {
    let service = memory().await;
    service.put("/api/cache/a", r#"{"value":1,"ttl":3600}"#).await;
    let got = service.get("/api/cache/a").await;
    let body: serde_json::Value = serde_json::from_str(&got.body).expect("JSON");
    let time = |member: &str| {
        let text = body[member].as_str().expect("a time");
        humantime::parse_rfc3339(text).expect("RFC 3339")
    };
    let lifetime = time("expires_at").duration_since(time("cached_at")).expect("in this order").as_secs_f64();
    assert!((3599.0..3601.0).contains(&lifetime), "{lifetime}");
}

#[tokio::test]
async fn every_kind_of_json_value_goes_in_and_out_unchanged() {
    let service = memory().await;
    for value in
        ["null", "true", "-0.0", "12345678901234567890", "\"\\u00e9\\n\"", "[]", r#"{"a":1,"a":2}"#, "\"é\""]
    {
        let put = service.put("/api/cache/v", &format!("{{\"value\":{value}}}")).await;
        assert_eq!(put.status, 200, "{value}");
        let got = service.get("/api/cache/v").await;
        let expected =
            format!(r#"{{"value":{value},"hit":true,"source":"l1","cached_at":"T","expires_at":"T"}}"#);
        assert_eq!(got.body_without_times(), expected);
    }
}

#[tokio::test]
async fn ttls_are_seconds_durations_or_never() {
    let service = memory().await;
    for (ttl, expires_at) in [
        ("60", "\"T\""),
        ("\"5m\"", "\"T\""),
        ("\"250ms\"", "\"T\""),
        ("null", "\"T\""),
        ("\"never\"", "null"),
        ("9007199254740993", "null"),
        ("18446744073709551615", "null"),
    ] {
        let put = service.put("/api/cache/t", &format!("{{\"value\":1,\"ttl\":{ttl}}}")).await;
        let expected = format!(r#"{{"success":true,"expires_at":{expires_at}}}"#);
        assert_eq!(put.body_without_times(), expected, "{ttl}");
    }
    let got = service.get("/api/cache/t").await;
    let expected = r#"{"value":1,"hit":true,"source":"l1","cached_at":"T","expires_at":null}"#;
    assert_eq!(got.body_without_times(), expected);
}

#[tokio::test]
async fn a_ttl_of_zero_keeps_nothing() {
    let service = memory().await;
    service.put("/api/cache/z", r#"{"value":1}"#).await;
    let put = service.put("/api/cache/z", r#"{"value":2,"ttl":0}"#).await;
    assert_eq!(put.body_without_times(), r#"{"success":true,"expires_at":"T"}"#);
    service.get("/api/cache/z").await.problem(404, "key_not_found");
}

#[tokio::test]
async fn a_miss_is_a_problem_byte_for_byte() {
    let service = memory().await;
    let miss = service.get("/api/cache/no%20body").await;
    assert_eq!(miss.status, 404);
    assert_eq!(
        miss.body,
        r#"{"type":"/problems/key_not_found","title":"There is no value for this key","status":404,"detail":"nothing is stored under no body","instance":"/api/cache/no%20body","code":"key_not_found","key":"no body"}"#
    );
}

#[tokio::test]
async fn removals_say_whether_there_was_something() {
    let service = memory().await;
    service.put("/api/cache/a", r#"{"value":1}"#).await;
    let first = service.delete("/api/cache/a").await;
    assert_eq!((first.status, first.body.as_str()), (200, r#"{"success":true,"deleted":true}"#));
    let second = service.delete("/api/cache/a").await;
    assert_eq!((second.status, second.body.as_str()), (200, r#"{"success":true,"deleted":false}"#));
    assert_eq!(service.get("/api/cache/a").await.status, 404);
}

#[tokio::test]
async fn head_says_whether_there_is_something_without_a_body() {
    let service = memory().await;
    service.put("/api/cache/a", r#"{"value":1}"#).await;
    let there = service.send("HEAD", "/api/cache/a", "").await;
    assert_eq!((there.status, there.body.as_str()), (200, ""));
    let get = service.get("/api/cache/a").await;
    for name in ["etag", "content-type", "vary"] {
        assert_eq!(there.header(name), get.header(name), "{name}");
    }
    assert_eq!(there.header("content-length"), None, "a body that was not made is not of no length");
    let gone = service.send("HEAD", "/api/cache/b", "").await;
    assert_eq!((gone.status, gone.body.as_str()), (404, ""));
    let bad = service.send("HEAD", "/api/cache/%ff", "").await;
    assert_eq!((bad.status, bad.body.as_str()), (400, ""));
}

#[tokio::test]
async fn invalidations_count() {
    let service = start("keyspace.users.pattern = 'user:{id}'").await;
    for key in ["user:1", "user:2", "user:3", "motd"] {
        service.put(&format!("/api/cache/{key}"), r#"{"value":1,"tags":["all"]}"#).await;
    }
    for (body, answer) in [
        (r#"{"keys":["user:1","motd"]}"#, r#"{"invalidated":2,"success":true}"#),
        (r#"{"keys":["user:1"]}"#, r#"{"invalidated":0,"success":true}"#),
        (r#"{"pattern":"user:[2-9]"}"#, r#"{"invalidated":2,"success":true}"#),
        (r#"{"pattern":"*"}"#, r#"{"invalidated":0,"success":true}"#),
    ] {
        let done = service.post("/api/cache/invalidate", body).await;
        assert_eq!((done.status, done.body.as_str()), (200, answer), "{body}");
    }
    for key in ["user:1", "motd"] {
        service.put(&format!("/api/cache/{key}"), r#"{"value":1,"tags":["a","b"]}"#).await;
    }
    let done = service.post("/api/cache/invalidate", r#"{"tags":["b"]}"#).await;
    assert_eq!(done.body, r#"{"invalidated":2,"success":true}"#);
}

#[tokio::test]
async fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let service = start("keyspace.users.pattern = 'user:{id}'").await;
    for key in ["user:1", "user:2", "motd"] {
        service.put(&format!("/api/cache/{key}"), r#"{"value":1,"tags":["all"]}"#).await;
    }
    for (body, answer) in [
        (
            r#"{"pattern":"user:*","dry_run":true}"#,
            r#"{"exact":true,"matched":2,"sample":["user:1","user:2"],"success":true}"#,
        ),
        (
            r#"{"keys":["motd","none"],"tags":["none"],"dry_run":true}"#,
            r#"{"exact":true,"matched":1,"sample":["motd"],"success":true}"#,
        ),
        (
            r#"{"tags":["all"],"dry_run":true}"#,
            r#"{"exact":true,"matched":3,"sample":["motd","user:1","user:2"],"success":true}"#,
        ),
    ] {
        let done = service.post("/api/cache/invalidate", body).await;
        let parsed: serde_json::Value = serde_json::from_str(&done.body).expect("JSON");
        let expected: serde_json::Value = serde_json::from_str(answer).expect("JSON");
        let sorted = |mut answer: serde_json::Value| {
            let sample = answer["sample"].as_array_mut().expect("a sample");
            sample.sort_by_key(|key| key.as_str().map(str::to_owned));
            answer
        };
        assert_eq!((done.status, sorted(parsed)), (200, expected), "{body}");
    }
    for key in ["user:1", "user:2", "motd"] {
        assert_eq!(service.get(&format!("/api/cache/{key}")).await.status, 200);
    }
}

#[tokio::test]
async fn an_invalidation_can_come_later_or_never() {
    let service = memory().await;
    service.put("/api/cache/a", r#"{"value":1}"#).await;
    for body in [
        r#"{"keys":["a"],"policy":"lazy"}"#,
        r#"{"keys":["a"],"delay":"1h"}"#,
        r#"{"keys":["a"],"policy":"delayed","delay":3600}"#,
    ] {
        let later = service.post("/api/cache/invalidate", body).await;
        assert_eq!((later.status, later.header("terrace-effect")), (200, Some("later")), "{body}");
        assert_eq!(later.body, r#"{"invalidated":0,"exact":false,"success":true}"#);
        assert_eq!(service.get("/api/cache/a").await.status, 200);
    }
    let soon = service.post("/api/cache/invalidate", r#"{"keys":["a"],"delay":"10ms"}"#).await;
    assert_eq!(soon.status, 200);
    terrace_testkit::wait::until_some("it to be due", async || {
        (service.get("/api/cache/a").await.status == 404).then_some(())
    })
    .await;
    for body in [
        r#"{"keys":["a"],"policy":"delayed"}"#,
        r#"{"keys":["a"],"policy":"lazy","delay":"1s"}"#,
        r#"{"keys":["a"],"policy":"never"}"#,
        r#"{"keys":["a"],"delay":"soon"}"#,
    ] {
        let refused = service.post("/api/cache/invalidate", body).await;
        assert!(matches!(refused.status, 400 | 422), "{body}: {}", refused.body);
    }
}

#[tokio::test]
async fn it_is_told_why_a_key_is_answered_as_it_is() {
    let service = memory().await;
    service.put("/api/cache/user:1", r#"{"value":1,"tags":["org:7"]}"#).await;
    for path in ["/api/cache/why/user:1", "/api/cache/why?key=user:1"] {
        let why = service.get(path).await;
        let body: serde_json::Value = serde_json::from_str(&why.body).expect("JSON");
        assert_eq!((why.status, &body["answer"], &body["key"]), (200, &"l1".into(), &"user:1".into()));
        assert_eq!(
            (&body["l1"]["tags"][0], &body["l1"]["dead_by"]),
            (&"org:7".into(), &serde_json::Value::Null)
        );
        assert_eq!((&body["l2"], &body["trusted_for"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    }
    let miss = service.get("/api/cache/why/none").await;
    assert_eq!(miss.status, 200);
    assert!(miss.body.contains(r#""answer":"miss""#), "{}", miss.body);
    assert_eq!(service.get("/api/cache/why").await.status, 400);
}

#[tokio::test]
async fn metrics_have_the_promised_members_first() {
    let service = memory().await;
    service.put("/api/cache/a", r#"{"value":1}"#).await;
    service.get("/api/cache/a").await;
    service.get("/api/cache/b").await;
    service.delete("/api/cache/a").await;
    let metrics = service.get("/api/cache/metrics").await;
    let beginning = r#"{"hits":1,"misses":1,"hit_rate":0.5,"sets":1,"deletes":1,"evictions":0,"l1_size":0,"l2_hits":0,"l2_misses":0,"l2_errors":0,"#;
    assert!(metrics.body.starts_with(beginning), "{}", metrics.body);
    let verbose = service.get("/api/cache/metrics?verbose=true").await;
    let body: serde_json::Value = serde_json::from_str(&verbose.body).expect("JSON");
    assert_eq!(body["stats"]["keyspaces"]["default"]["hits_l1"], 1);
}

#[tokio::test]
async fn keys_with_reserved_names_are_reached_by_the_query() {
    let service = memory().await;
    for key in ["metrics", "invalidate", "..", "a+b", "a/b"] {
        let target = format!("/api/cache?key={}", key.replace('+', "%2B"));
        assert_eq!(service.put(&target, &format!(r#"{{"value":"{key}","key":"{key}"}}"#)).await.status, 200);
        assert!(service.get(&target).await.body.starts_with(&format!(r#"{{"value":"{key}","#)), "{key}");
    }
    assert!(service.get("/api/cache/metrics").await.body.starts_with(r#"{"hits":"#));
    assert!(service.get("/api/cache/%6Detrics").await.body.starts_with(r#"{"value":"metrics""#));
    assert!(service.get("/api/cache/a%2Fb").await.body.starts_with(r#"{"value":"a/b""#));
}

#[tokio::test]
async fn the_verbose_form_adds_members_behind_the_others() {
    let service = memory().await;
    service.put("/api/cache/a", r#"{"value":1,"ttl":"never","tags":["x","y"]}"#).await;
    let got = service.get("/api/cache/a?verbose=true").await;
    let plain = r#"{"value":1,"hit":true,"source":"l1","cached_at":"T","expires_at":null,"key":"a","ttl":null,"age":"#;
    assert!(got.body_without_times().starts_with(plain), "{}", got.body);
    let body: serde_json::Value = serde_json::from_str(&got.body).expect("JSON");
    assert_eq!(body["tags"], serde_json::json!(["x", "y"]));
    assert!(body["age"].is_f64() && body["version"].is_u64(), "{}", got.body);
}

#[tokio::test]
async fn health_is_told_apart_from_readiness() {
    let service = memory().await;
    assert_eq!(service.get("/livez").await.body, r#"{"status":"ok"}"#);
    for path in ["/readyz", "/healthz"] {
        let ready = service.get(path).await;
        assert_eq!((ready.status, ready.body.as_str()), (200, r#"{"status":"ok","degraded":[]}"#));
    }
}

#[tokio::test]
async fn prometheus_metrics_can_be_switched_off() {
    let service = memory().await;
    let metrics = service.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(
        metrics.header("content-type").is_some_and(|kind| kind.contains("openmetrics")),
        "{}",
        metrics.head
    );
    assert!(metrics.body.contains("terrace_"), "{}", metrics.body);

    let service = start("metrics.enabled = false").await;
    service.get("/metrics").await.problem(404, "route_not_found");
    assert_eq!(service.get("/api/cache/metrics").await.status, 200);
}

#[tokio::test]
async fn the_type_of_a_problem_leads_to_its_explanation() {
    let service = memory().await;
    let page = service.get("/problems/key_too_long").await;
    assert_eq!((page.status, page.body.as_str()), (200, "key_too_long (400): The key is too long\n"));
    service.get("/problems/none").await.problem(404, "route_not_found");
}

#[tokio::test]
async fn it_stops_cleanly() {
    let service = memory().await;
    service.put("/api/cache/a", r#"{"value":1}"#).await;
    let ended = service.stop(Stop::Now).await;
    assert!(ended.is_clean(), "{ended:?}");
}

#[tokio::test]
async fn the_log_says_memory_alone_and_then_the_counters() {
    let log = Log::of_this_thread();
    let service = start("metrics.interval = '20ms'").await;
    assert!(log.text().contains("on memory alone: neither REDIS_URL nor REDIS_ADDR nor `l2.url` is set"));
    service.put("/api/cache/a", r#"{"value":1}"#).await;
    service.get("/api/cache/a").await;
    terrace_testkit::wait::until("a line with the counters", || {
        log.text().lines().any(|line| line.contains("counters hits=1 misses=0 hit_rate=1.0 sets=1 "))
    })
    .await;
}
