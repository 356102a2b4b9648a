//! With a shared tier: two services, and a Redis that comes and goes.

use crate::support::start;
use terrace::PlainRedis;
use terrace_testkit::server::{RedisCluster, RedisSentinel, RedisServer, redis_url, unique_prefix};
use terrace_testkit::wait;

fn toml(url: &str, prefix: &str) -> String {
    format!(
        "[l2]\nurl = '{url}'\nkey_prefix = '{prefix}'\ntimeouts = {{ connect = '1s', read = '1s', write = '1s' }}\n"
    )
}

#[tokio::test]
async fn what_one_service_stores_another_reads_from_l2() {
    let Some(url) = redis_url().await else { return };
    let toml = toml(&url, &unique_prefix());
    let (one, two) = (start(&toml).await, start(&toml).await);
    one.put("/api/cache/a", r#"{"value":{"n":1},"ttl":60,"tags":["t"]}"#).await;
    for source in ["l2", "l1"] {
        let got = two.get("/api/cache/a").await;
        let expected = format!(
            r#"{{"value":{{"n":1}},"hit":true,"source":"{source}","cached_at":"T","expires_at":"T"}}"#
        );
        assert_eq!(got.body_without_times(), expected);
    }
    let deleted = two.delete("/api/cache/a").await;
    assert_eq!(deleted.body, r#"{"success":true,"deleted":true}"#);
    assert_eq!(deleted.header("terrace-effect"), None);
    assert_eq!(two.get("/readyz").await.body, r#"{"status":"ok","degraded":[]}"#);
}

#[tokio::test]
async fn patterns_reach_what_only_l2_has() {
    // A server of its own: the count is complete in time if there are few keys to look through.
    let Some(redis) = RedisServer::start().await else { return };
    let toml = format!("keyspace.users.pattern = 'user:{{id}}'\n{}", toml(&redis.url(), "x:"));
    let (one, two) = (start(&toml).await, start(&toml).await);
    for key in ["user:1", "user:2", "motd"] {
        one.put(&format!("/api/cache/{key}"), r#"{"value":1}"#).await;
    }
    let done = two.post("/api/cache/invalidate", r#"{"pattern":"user:*"}"#).await;
    assert!(done.body.starts_with(r#"{"invalidated":2,"success":true,"id":["#), "{done:?}");
    assert_eq!(two.get("/api/cache/user:1").await.status, 404);
    assert_eq!(two.get("/api/cache/motd").await.status, 200);
}

#[tokio::test]
async fn without_redis_requests_go_on_and_say_so() {
    let Some(redis) = RedisServer::start().await else { return };
    let service = start(&toml(&redis.url(), "x:")).await;
    assert_eq!(service.put("/api/cache/a", r#"{"value":1}"#).await.status, 200);
    redis.kill();

    let put = service.put("/api/cache/b", r#"{"value":2}"#).await;
    assert_eq!(put.body_without_times(), r#"{"success":true,"expires_at":"T"}"#);
    assert_eq!((put.status, put.header("terrace-effect")), (200, Some("queued")));
    assert_eq!(service.get("/api/cache/a").await.status, 200);
    assert_eq!(service.get("/api/cache/b").await.status, 200);
    assert_eq!(service.get("/api/cache/none").await.status, 404);
    let deleted = service.delete("/api/cache/a").await;
    assert_eq!((deleted.status, deleted.header("terrace-effect")), (200, Some("queued")));
    assert_eq!(service.get("/api/cache/a").await.status, 404);
    let ready = service.get("/readyz").await;
    assert_eq!((ready.status, ready.body.as_str()), (200, r#"{"status":"ok","degraded":["l2"]}"#));
    let refreshed = service.post("/api/cache/refresh", r#"{"keys":["b"]}"#).await;
    refreshed.problem(503, "l2_unavailable");
    assert_eq!(refreshed.header("retry-after"), Some("1"));

    redis.restart().await;
    wait::until_some("L2 to be trusted again", async || {
        let put = service.put("/api/cache/c", r#"{"value":3}"#).await;
        put.header("terrace-effect").is_none().then_some(())
    })
    .await;
    assert_eq!(service.get("/readyz").await.body, r#"{"status":"ok","degraded":[]}"#);
}

#[tokio::test]
async fn it_starts_without_redis() {
    let service = start(&toml("redis://127.0.0.1:1", "x:")).await;
    assert_eq!(service.get("/readyz").await.body, r#"{"status":"ok","degraded":["l2"]}"#);
    assert_eq!(service.get("/api/cache/a").await.status, 404);
    assert_eq!(service.put("/api/cache/a", r#"{"value":1}"#).await.status, 200);
    assert_eq!(service.get("/api/cache/a").await.status, 200);
}

#[tokio::test]
async fn a_copy_that_cannot_be_proven_fresh_is_stale_or_refused_as_the_keyspace_says() {
    let Some(redis) = RedisServer::start().await else { return };
    let more =
        "l1.staleness_max = '100ms'\nkeyspace.strict = { pattern = 'strict:{id}', suspect = 'error' }\n";
    let service = start(&format!("{more}{}", toml(&redis.url(), "x:"))).await;
    for key in ["a", "strict:a"] {
        assert_eq!(service.put(&format!("/api/cache/{key}"), r#"{"value":1}"#).await.status, 200);
    }
    redis.kill();
    wait::until_some("the copy to be stale", async || {
        let got = service.get("/api/cache/a").await;
        assert_eq!(got.status, 200);
        got.body.contains(r#""hit":true,"source":"stale""#).then_some(())
    })
    .await;
    let refused = service.get("/api/cache/strict:a").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(refused.body.contains("l2_unavailable"), "{}", refused.body);
    assert_eq!(service.get("/api/cache/strict:none").await.status, 404);
}

#[tokio::test]
async fn a_cluster_is_a_tier_like_any_other() {
    let Some(cluster) = RedisCluster::start().await else { return };
    let toml = toml(&format!("redis+cluster://{}", cluster.addresses().join(",")), "x:");
    let (one, two) = (start(&toml).await, start(&toml).await);
    for key in ["a", "b", "c", "d"] {
        assert_eq!(one.put(&format!("/api/cache/{key}"), r#"{"value":1}"#).await.status, 200);
        assert_eq!(two.get(&format!("/api/cache/{key}")).await.status, 200);
    }
    assert_eq!(two.delete("/api/cache/a").await.header("terrace-effect"), None, "it is done everywhere");
    assert_eq!(two.get("/readyz").await.body, r#"{"status":"ok","degraded":[]}"#);
}

#[tokio::test]
async fn a_split_brain_without_a_bound_is_shown() {
    let Some(watched) = RedisSentinel::start().await else { return };
    let url = format!("redis+sentinel://{}/{}", watched.addresses().join(","), RedisSentinel::PRIMARY);
    let service = start(&toml(&url, "x:")).await;
    assert_eq!(service.put("/api/cache/a", r#"{"value":1}"#).await.status, 200);
    let warned = async || {
        let ready = service.get("/readyz").await;
        assert_eq!(ready.status, 200);
        ready.body.contains("min-replicas-to-write").then_some(ready.body)
    };
    let body = wait::until_some("a warning", warned).await;
    assert!(body.starts_with(r#"{"status":"ok","degraded":[],"warnings":[""#), "{body}");
}

#[tokio::test]
async fn a_server_without_scripts_and_streams_is_a_tier_in_the_plain_mode_and_health_says_what_is_missing() {
    let user = "app on >pw ~* &* +@all -@scripting -@stream";
    let Some(redis) = RedisServer::builder().acl(user).start().await else { return };
    let url = redis.url().replace("://", "://app:pw@");
    let refused = start(&toml(&url, "x:")).await;
    assert_eq!(refused.get("/readyz").await.body, r#"{"status":"ok","degraded":["l2"]}"#);
    let plain = format!("bus.mode = 'plain'\n{}", toml(&url, "y:"));
    let (one, two) = (start(&plain).await, start(&plain).await);
    let put = one.put("/api/cache/a", r#"{"value":1}"#).await;
    assert_eq!((put.status, put.header("terrace-effect")), (200, None));
    assert_eq!(two.get("/api/cache/a").await.status, 200);
    assert_eq!(one.delete("/api/cache/a").await.header("terrace-effect"), None);
    wait::until_some("the other one to hear of it", async || {
        (two.get("/api/cache/a").await.status == 404).then_some(())
    })
    .await;
    let ready = one.get("/readyz").await.body;
    for missing in PlainRedis::NOT_PROMISED {
        assert!(ready.contains(missing), "{missing}: {ready}");
    }
}
