//! The keys that are looked up most, over HTTP.

use crate::support::start;

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
async fn what_cannot_be_asked_for_is_refused() {
    let service = start("").await;
    for query in ["limit=0", "limit=1001", "limit=many", "keyspace=nobodys"] {
        let answer = service.get(&format!("/api/cache/hot?{query}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (422, Some("application/problem+json")));
    }
    assert_eq!(service.put("/api/cache/hot", r#"{"value":1}"#).await.status, 405);
    assert_eq!(service.put("/api/cache?key=hot", r#"{"value":1}"#).await.status, 200);
}
