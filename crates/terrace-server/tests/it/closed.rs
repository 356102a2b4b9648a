//! A service that wants Redis or nothing: `l2.on_error = "fail"`, and `ready.require_l2`.

use crate::http_api::Api;
use crate::support::{Running, refused, start};
use terrace_testkit::server::RedisServer;
use terrace_testkit::wait::until_some;

const PUT: &str = r#"{"value":1}"#;

/// What a service that fails without Redis is told, beside an API that has a price.
fn toml(redis: &RedisServer, api: &Api) -> String {
    format!(
        "[l2]\nurl = '{}'\nkey_prefix = 'x:'\non_error = 'fail'\nbreaker.open = '200ms'\nbreaker.ramp = '100ms'\n\
         [origin.api]\ntype = 'http'\nbase_url = '{}'\n\
         [keyspace.prices]\npattern = 'price:{{id}}'\nstrategy = 'write-through'\nstale_if_error = '1h'\n\
         source = {{ origin = 'api', load = 'GET /prices/{{id}}', store = 'PUT /prices/{{id}}' }}\n",
        redis.url(),
        api.url()
    )
}

fn loads(api: &Api) -> usize {
    api.asked().iter().filter(|asked| asked.method == "GET").count()
}

/// Waits for an answer: reads that Redis is not asked for in time fail, and so do most at first when it is back.
async fn until_status(service: &Running, path: &str, status: u16) {
    until_some("Redis to be asked", async || (service.get(path).await.status == status).then_some(())).await;
}

#[tokio::test]
async fn without_redis_a_read_fails_that_memory_cannot_answer_and_no_origin_is_asked() {
    let (Some(redis), api) = (RedisServer::start().await, Api::start().await) else { return };
    api.set("/v2/prices/1", "10");
    api.set("/v2/prices/2", "20");
    let service = start(&toml(&redis, &api)).await;
    until_status(&service, "/api/cache/price:1", 200).await;
    until_status(&service, "/api/cache/session:none", 404).await;
    redis.kill();

    for path in ["/api/cache/price:2", "/v1/keys/price:2", "/api/cache/session:1", "/v1/keys/session:1"] {
        let answer = service.get(path).await;
        let detail = answer.problem(503, "l2_unavailable");
        assert!(detail.contains("on_error"), "{detail}");
        assert_eq!(answer.header("retry-after"), Some("1"), "{path}");
        assert_eq!(service.send("HEAD", path, "").await.status, 503, "{path}");
    }
    let batch = service.post("/api/cache/batch", r#"{"get":["price:1","price:2","session:1"]}"#).await;
    let items: serde_json::Value = serde_json::from_str(&batch.body).expect("JSON");
    let statuses: Vec<_> = (0..3).map(|at| items["get"][at]["status"].as_u64()).collect();
    assert_eq!(statuses, [Some(200), Some(503), Some(503)], "{batch:?}");
    let copied = service.get("/api/cache/price:1").await;
    assert_eq!(copied.status, 200, "memory has it: {copied:?}");
    assert_eq!(loads(&api), 1);

    let put = service.put("/api/cache/price:3", PUT).await;
    assert_eq!((put.status, put.header("terrace-effect")), (200, Some("queued")));
    assert_eq!(api.document("/v2/prices/3").as_deref(), Some("1"), "a change is made as ever");

    redis.restart().await;
    until_status(&service, "/api/cache/session:1", 404).await;
    until_status(&service, "/api/cache/price:2", 200).await;
}

#[tokio::test]
async fn a_redis_that_is_full_shows_although_it_answers() {
    let (Some(redis), api) = (RedisServer::start().await, Api::start().await) else { return };
    api.set("/v2/prices/1", "10");
    let service = start(&format!("ready.require_l2 = true\n{}", toml(&redis, &api))).await;
    until_status(&service, "/api/cache/session:none", 404).await;
    assert_eq!(service.get("/readyz").await.body, r#"{"status":"ok","degraded":[]}"#);
    redis.cli(&["config", "set", "maxmemory-policy", "noeviction"]).await;
    redis.cli(&["config", "set", "maxmemory", "1"]).await;
    service.get("/api/cache/price:1").await.problem(503, "l2_unavailable");

    let ready = service.get("/readyz?verbose").await;
    let checks: serde_json::Value = serde_json::from_str(&ready.body).expect("JSON");
    assert_eq!(
        (ready.status, &checks["status"], &checks["degraded"]),
        (200, &"ok".into(), &["l2_calls"][..].into())
    );
    let of = |name: &str| {
        checks["checks"].as_array().and_then(|all| all.iter().find(|check| check["check"] == name))
    };
    let state = |name: &str| of(name).map(|check| check["state"].clone());
    assert_eq!((state("l2"), state("l2_calls")), (Some("ok".into()), Some("refused".into())));

    redis.kill();
    let ready = until_some("a breaker that is open", async || {
        service.get("/api/cache/price:1").await;
        let ready = service.get("/readyz").await;
        ready.body.contains(r#""state":"open""#).then_some(ready)
    })
    .await;
    assert_eq!(ready.status, 503, "it requires Redis");
    assert!(ready.body.contains(r#""degraded":["l2","l2_calls"]"#), "each is said once: {ready:?}");
}

#[tokio::test]
async fn an_entry_past_its_ttl_is_returned_as_stale_instead() {
    let (Some(redis), api) = (RedisServer::start().await, Api::start().await) else { return };
    api.set("/v2/prices/1", "10");
    let service = start(&format!("defaults.ttl = '50ms'\n{}", toml(&redis, &api))).await;
    until_status(&service, "/api/cache/price:1", 200).await;
    redis.kill();
    let stale = until_some("the entry to be past its TTL", async || {
        let got = service.get("/api/cache/price:1").await;
        assert_eq!(got.status, 200, "{got:?}");
        got.body.contains(r#""source":"stale""#).then_some(got)
    })
    .await;
    assert!(stale.header("cache-status").is_some_and(|status| status.contains("detail=")), "{stale:?}");
    assert_eq!(loads(&api), 1);
}

#[tokio::test]
async fn a_service_that_requires_redis_is_not_ready_without_it() {
    let Some(redis) = RedisServer::start().await else { return };
    let l2 = format!(
        "[l2]\nurl = '{}'\nkey_prefix = 'x:'\nbreaker = {{ open = '200ms', ramp = '100ms' }}\n",
        redis.url()
    );
    let requires = format!("ready.require_l2 = true\n{l2}");
    let service = start(&requires).await;
    let ready = service.get("/readyz").await;
    assert_eq!((ready.status, ready.body.as_str()), (200, r#"{"status":"ok","degraded":[]}"#));
    redis.kill();
    for path in ["/readyz", "/healthz"] {
        let ready = service.get(path).await;
        assert_eq!(ready.status, 503, "{path}");
        assert!(ready.body.starts_with(r#"{"status":"unready","degraded":["l2"]"#), "{path}: {ready:?}");
    }
    assert_eq!(service.get("/livez").await.status, 200);
    assert_eq!(service.get("/api/cache/a").await.status, 404, "it serves those who come all the same");

    assert_eq!(service.reload(&l2).await.expect("that can change"), ["ready.require_l2"]);
    assert_eq!(service.get("/readyz").await.status, 200);
    service.reload(&requires).await.expect("that can change");
    assert_eq!(service.get("/readyz").await.status, 503);
    redis.restart().await;
    until_status(&service, "/readyz", 200).await;
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_line() {
    let words = refused("[ready]\nrequire_l2 = true\n");
    assert!(
        words.contains("there is no shared tier") && words.contains("2 |") && words.contains("l2.url"),
        "{words}"
    );
    let words = refused("[l2]\nurl = 'redis://h'\non_error = 'fails'\n");
    assert!(words.contains("unknown policy `fails`") && words.contains("did you mean `fail`?"), "{words}");
}
