//! Which keys the tiers hold, over HTTP.

use crate::support::{Client, Running, start, token};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use terrace_testkit::server::RedisServer;
use terrace_testkit::wait::until_some;

async fn page(service: &Running, query: &str) -> Value {
    let answer = service.get(&format!("/api/cache/keys?{query}")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{answer:?}");
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
}

/// All that is listed, as `keyspace/key/tier`.
async fn listed(service: &Running, query: &str) -> Vec<String> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = page(service, &format!("{query}&cursor={cursor}")).await;
        for held in page["keys"].as_array().expect("an array") {
            let text = |member: &str| held[member].as_str().expect("text").to_owned();
            all.push([text("keyspace"), text("key"), text("tier")].join("/"));
        }
        match page["cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return all,
        }
    }
}

const TWO: &str = "keyspace.users.pattern = 'user:{id}'\nkeyspace.orders.pattern = 'order:{id}'\n";

#[tokio::test]
async fn keys_are_listed_by_keyspace_and_pattern() {
    let service = start(TWO).await;
    for key in ["user:1", "user:2", "order:1", "motd", "a%2Fb"] {
        service.put(&format!("/api/cache/{key}"), r#"{"value":"secret","ttl":60}"#).await;
    }
    let sorted = async |query: &str| {
        let mut all = listed(&service, query).await;
        all.sort();
        all.join(" ")
    };
    let all = "default/a/b/l1 default/motd/l1 orders/order:1/l1 users/user:1/l1 users/user:2/l1";
    assert_eq!(sorted("").await, all);
    assert_eq!(sorted("limit=1").await, all);
    assert_eq!(sorted("pattern=user:*").await, "users/user:1/l1 users/user:2/l1");
    assert_eq!(sorted("pattern=*1").await, "orders/order:1/l1 users/user:1/l1");
    assert_eq!(sorted("keyspace=users&pattern=*2&tier=l1").await, "users/user:2/l1");
    assert_eq!(sorted("tier=l2").await, "");
    let one = page(&service, "keyspace=orders").await;
    let held = &one["keys"][0];
    assert!(held["ttl"].as_f64().is_some_and(|ttl| ttl > 50.0 && ttl <= 60.0), "{one}");
    assert!(held["bytes"].as_u64() > Some(100), "{one}");
    assert_eq!((held.as_object().expect("an object").len(), &one["cursor"]), (5, &Value::Null));
    assert!(!one.to_string().contains("secret"), "values are not listed");
    service.put("/api/cache/ever", r#"{"value":1,"ttl":"never"}"#).await;
    assert_eq!(page(&service, "pattern=ever").await["keys"][0]["ttl"], Value::Null);
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused() {
    let service = start(TWO).await;
    for query in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "tier=l3",
        "keyspace=nobodys",
        "cursor=x",
        "cursor=00",
        "cursor=6465666175",
        "cursor=%ff",
    ] {
        let answer = service.get(&format!("/api/cache/keys?{query}")).await;
        assert!([400, 422].contains(&answer.status), "{query}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    let all = service.get("/api/cache/keys?pattrn=user:*").await.problem(422, "query_invalid");
    assert!(all.contains("`pattrn`; did you mean `pattern`?"), "{all}");
    assert_eq!(service.get("/api/cache/keys?limit=1&_=17").await.status, 200);
    let long = "6".repeat(5000);
    service.get(&format!("/api/cache/keys?cursor={long}")).await.problem(422, "query_invalid");
    // `gone/l1` and `default/l1.1.0.`
    service.get("/api/cache/keys?cursor=676f6e652f6c31").await.problem(410, "cursor_lost");
    service.get("/api/cache/keys?cursor=64656661756c742f6c312e312e302e").await.problem(410, "cursor_lost");
    assert_eq!(service.put("/api/cache/keys", r#"{"value":1}"#).await.status, 405);
    assert_eq!(service.put("/api/cache?key=keys", r#"{"value":1}"#).await.status, 200);
}

#[tokio::test]
async fn keys_of_redis_are_listed_until_the_server_is_another() {
    let Some(redis) = RedisServer::start().await else { return };
    let l2 = format!(
        "[l2]\nurl = '{}'\nkey_prefix = 'x:'\ntimeouts = {{ connect = '1s', read = '1s', write = '1s' }}\n",
        redis.url()
    );
    let (one, two) = (start(&format!("{TWO}{l2}")).await, start(&format!("{TWO}{l2}")).await);
    for index in 0..300 {
        one.put(&format!("/api/cache/user:{index}"), r#"{"value":1}"#).await;
    }
    two.get("/api/cache/user:7").await;
    let all: Vec<String> = listed(&two, "pattern=user:*&limit=20").await;
    let keys: BTreeSet<&String> = all.iter().collect();
    assert_eq!(keys.len(), 301, "once in L2 and one copy in L1");
    assert!(keys.contains(&"users/user:7/l1".to_owned()) && keys.contains(&"users/user:7/l2".to_owned()));
    assert_eq!(listed(&two, "pattern=user:*&tier=l1").await, ["users/user:7/l1"]);

    let begun = page(&two, "keyspace=users&tier=l2&limit=20").await;
    assert!(begun["keys"].as_array().is_some_and(|keys| (1..100).contains(&keys.len())), "{begun}");
    let cursor = begun["cursor"].as_str().expect("there is more").to_owned();
    let next = page(&one, &format!("keyspace=users&tier=l2&cursor={cursor}")).await;
    assert_ne!(next["keys"], json!([]), "another instance goes on");
    redis.restart().await;
    let lost = until_some("the server is back", async || {
        let answer = two.get(&format!("/api/cache/keys?cursor={cursor}")).await;
        (answer.status != 503).then_some(answer)
    })
    .await;
    lost.problem(410, "cursor_lost");
    redis.kill();
    let down = two.get("/api/cache/keys?keyspace=users&tier=l2").await;
    down.problem(503, "listing_unavailable");
    assert_eq!(down.header("retry-after"), Some("1"));
    assert_eq!(two.get("/api/cache/keys?keyspace=users&tier=l1").await.status, 200);
}

#[tokio::test]
async fn a_tenant_lists_its_own_keys_and_follows_no_cursor_of_another() {
    let of = |name: &str, tenant: &str| {
        token(name, name, &format!("scopes = ['read:*', 'write:*', 'admin']\n{tenant}"))
    };
    let (a, b, zero) = (of("a", "tenant = 'a'"), of("b", "tenant = 'b'"), of("zero", ""));
    let service =
        start(&format!("{TWO}{a}{b}{zero}{}", token("c", "c", "scopes = ['read:*', 'write:*']"))).await;
    let mut client = Client::of(&service).await;
    for name in ["a", "b", "zero"] {
        for index in 0..3 {
            let target = format!("/api/cache/user:of-{name}-{index}");
            assert_eq!(client.ask(name, "PUT", &target, r#"{"value":1}"#).await.status, 200);
        }
    }
    let mut cursors = Vec::new();
    for name in ["a", "b", "zero"] {
        let all = client.ask(name, "GET", "/api/cache/keys", "").await;
        assert_eq!(all.body.matches("user:of-").count(), 3, "{}", all.body);
        assert_eq!(all.body.matches(&format!("user:of-{name}-")).count(), 3, "{}", all.body);
        let begun = client.ask(name, "GET", "/api/cache/keys?limit=1", "").await;
        let begun: Value = serde_json::from_str(&begun.body).expect("JSON");
        cursors.push((name, begun["cursor"].as_str().expect("there is more").to_owned()));
    }
    for (name, cursor) in &cursors {
        for other in ["a", "b", "zero"] {
            let next = client.ask(other, "GET", &format!("/api/cache/keys?cursor={cursor}"), "").await;
            let foreign = next.body.matches("user:of-").count()
                - next.body.matches(&format!("user:of-{other}-")).count();
            assert_eq!(foreign, 0, "{name} to {other}: {}", next.body);
        }
    }
    client.ask("c", "GET", "/api/cache/keys", "").await.problem(403, "forbidden");
    assert_eq!(client.ask("c", "GET", "/openapi.json", "").await.status, 200, "what there is, is no secret");
}
