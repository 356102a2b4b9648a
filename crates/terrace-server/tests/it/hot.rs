//! The keys that are looked up most, over HTTP.

use crate::support::{refused, start};
use terrace_server::config::{Config, Sources};

#[tokio::test]
async fn the_hottest_keys_are_told_by_keyspace() {
    let service = start("keyspace.users.pattern = 'user:{id}'").await;
    assert_eq!(service.get("/api/cache/hot").await.body, r#"{"keys":[]}"#);
    service.put("/api/cache/user:1", r#"{"value":1}"#).await;
    service.put("/api/cache/hot:1", r#"{"value":1}"#).await;
    // The threads that serve each look at one lookup in 61.
    for _ in 0..61 * 4 {
        service.get("/api/cache/user:1").await;
        service.get("/api/cache/hot:1").await;
        service.get("/api/cache/hot:1").await;
    }
    let told = async |target: &str| {
        let answer = service.get(target).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        let body: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        let keys = body["keys"].as_array().expect("an array").clone();
        assert!(keys.iter().all(|key| key["lookups"].as_u64() >= Some(61) && key["error"] == 0), "{keys:?}");
        let name = |key: &serde_json::Value| format!("{}/{}", key["keyspace"], key["key"]).replace('"', "");
        keys.iter().map(name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(told("/api/cache/hot").await, "default/hot:1 users/user:1");
    assert_eq!(told("/api/cache/hot?keyspace=users").await, "users/user:1");
    assert_eq!(told("/api/cache/hot?limit=1").await, "default/hot:1");
}

#[tokio::test]
async fn what_memory_has_of_the_hottest_keys_is_told() {
    let service = start("keyspace.users.pattern = 'user:{id}'").await;
    service.put("/api/cache/user:1", r#"{"value":"x"}"#).await;
    for _ in 0..61 * 4 {
        service.get("/api/cache/user:1").await;
        service.get("/api/cache/user:404").await;
    }
    let told = async |target: &str| -> serde_json::Value {
        serde_json::from_str(&service.get(target).await.body).expect("JSON")
    };
    let counted = told("/api/cache/keyspaces").await;
    let hot = told("/api/cache/hot").await;
    let of = |key: &str| {
        let keys = hot["keys"].as_array().expect("an array").iter();
        keys.clone().find(|line| line["key"] == key).unwrap_or_else(|| panic!("{key} is not in {hot}"))
    };
    let listed = told("/api/cache/keys?pattern=user:1").await["keys"][0]["bytes"].take();
    assert!(listed.as_u64() > Some(0), "{listed}");
    assert_eq!((&of("user:1")["tier"], &of("user:1")["bytes"]), (&"l1".into(), &listed));
    assert!(of("user:404")["tier"].is_null() && of("user:404")["bytes"].is_null(), "{hot}");
    let (per_second, lookups) = (of("user:1")["per_second"].as_f64(), of("user:1")["lookups"].as_f64());
    assert!(per_second > Some(0.0) && per_second <= lookups, "{hot}");
    assert_eq!(told("/api/cache/keyspaces").await, counted, "to ask is no lookup");
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused() {
    let service = start("").await;
    for query in ["limit=0", "limit=1001", "limit=many", "keyspace=nobodys", "key_space=users"] {
        let answer = service.get(&format!("/api/cache/hot?{query}")).await;
        answer.problem(422, "query_invalid");
    }
    assert_eq!(service.put("/api/cache/hot", r#"{"value":1}"#).await.status, 405);
    assert_eq!(service.put("/api/cache?key=hot", r#"{"value":1}"#).await.status, 200);
}

#[tokio::test]
async fn as_many_keys_are_told_as_the_configuration_lets_be_counted() {
    for (hot_keys, told) in [(0, 0), (2, 2)] {
        let service = start(&format!("metrics.hot_keys = {hot_keys}")).await;
        for round in 0..61 * 4 {
            service.get(&format!("/api/cache/key:{}", round % 7)).await;
        }
        let body = service.get("/api/cache/hot").await.body;
        assert_eq!(body.matches("\"key\":").count(), told, "{hot_keys}: {body}");
    }
}

#[test]
fn what_is_read_often_is_not_known_where_no_key_is_counted() {
    let counted = "[metrics]\nhot_keys = 0\n";
    for (toml, line) in [
        (format!("{counted}[defaults]\nadaptive_ttl = 4\n"), 4),
        (format!("{counted}[keyspace.a]\npattern = 'a:{{id}}'\nadaptive_ttl = 4\n"), 5),
    ] {
        let refusal = refused(&toml);
        assert!(refusal.contains("`adaptive_ttl` needs to know which keys are read often"), "{refusal}");
        assert!(refusal.contains(&format!("--> configuration:{line}:")), "{refusal}");
        assert!(refusal.contains("2 | hot_keys = 0"), "{refusal}");
    }
    for toml in ["metrics.hot_keys = 1\ndefaults.adaptive_ttl = 4", "metrics.hot_keys = 0"] {
        Config::load(&Sources::text(toml)).unwrap_or_else(|error| panic!("{error}"));
    }
}
