//! What there is and how it does, over HTTP: keyspaces, breakers, latencies, the bus, checks.

use crate::limits::database;
use crate::support::{Running, start};
use serde_json::{Value, json};
use terrace_testkit::server::{RedisServer, redis_url, unique_prefix};
use terrace_testkit::wait::until_some;

async fn told(service: &Running, target: &str) -> Value {
    let answer = service.get(target).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{answer:?}");
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
}

fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| humantime::parse_rfc3339(text).is_ok())
}

#[tokio::test]
async fn keyspaces_are_listed_with_what_they_are_and_did() {
    let (_folder, file, _connection) = database();
    let service = start(&format!(
        r#"
        origin.lite = {{ type = "sqlite", file = "{file}" }}
        [keyspace.users]
        pattern = "user:{{id}}"
        ttl = "15m"
        source = {{ origin = "lite", load = "select * from users where id = :id" }}
        [keyspace.a]
        pattern = "a:{{*rest}}"
        ttl = "never"
        "#
    ))
    .await;
    service.get("/api/cache/user:1").await;
    service.get("/api/cache/user:1").await;
    service.put("/api/cache/other", r#"{"value":1}"#).await;
    service.delete("/api/cache/other").await;
    service.get("/api/cache/other").await;
    let mut all = told(&service, "/api/cache/keyspaces").await;
    let bytes = all["keyspaces"][1]["l1_bytes"].take();
    assert!(bytes.as_u64() > Some(100), "{bytes}");
    let zero = json!({
        "name": "a", "pattern": "a:{*rest}", "strategy": "cache-aside", "ttl": null, "origin": null,
        "l1_entries": 0, "l1_bytes": 0, "hits_l1": 0, "hits_l2": 0, "hits_stale": 0, "misses": 0, "loads": 0,
        "load_failures": 0, "sets": 0, "deletes": 0, "evictions": 0, "behind_pending": null,
    });
    let with = |changes: Value| {
        let mut keyspace = zero.clone();
        let members = keyspace.as_object_mut().expect("an object");
        members.extend(changes.as_object().expect("an object").clone());
        keyspace
    };
    let users = with(json!({
        "name": "users", "pattern": "user:{id}", "strategy": "read-through", "ttl": 900.0, "origin": "lite",
        "l1_entries": 1, "l1_bytes": null, "hits_l1": 1, "misses": 1, "loads": 1,
    }));
    let default = with(json!({
        "name": "default", "pattern": "*", "ttl": 3600.0, "misses": 1, "sets": 1, "deletes": 1,
    }));
    assert_eq!(all, json!({ "keyspaces": [zero, users, default] }));
}

#[tokio::test]
async fn latencies_are_told_class_by_class() {
    let service = start("").await;
    service.put("/api/cache/a", r#"{"value":1}"#).await;
    for _ in 0..61 * 3 {
        service.get("/api/cache/a").await;
    }
    let all = told(&service, "/api/cache/latencies").await;
    let bounds: Vec<f64> = serde_json::from_value(all["bounds"].clone()).expect("numbers");
    assert_eq!((bounds.len(), bounds[0]), (28, 1e-7));
    assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{bounds:?}");
    let tiers = all["tiers"].as_array().expect("an array");
    assert_eq!(
        tiers.iter().map(|of| of["tier"].as_str()).collect::<Vec<_>>(),
        [Some("l1"), Some("l2"), Some("origin")]
    );
    for of in tiers {
        let counts: Vec<u64> = serde_json::from_value(of["counts"].clone()).expect("numbers");
        assert_eq!(counts.len(), bounds.len() + 1);
        assert_eq!(Some(counts.iter().sum()), of["count"].as_u64());
    }
    assert!(tiers[0]["count"].as_u64() >= Some(61), "{all}");
    assert!(tiers[0]["sum_seconds"].as_f64() > Some(0.0), "{all}");
    assert_eq!((&tiers[0]["sampled"], &tiers[1]["sampled"]), (&json!(61), &Value::Null));
}

#[tokio::test]
async fn latencies_are_told_of_one_keyspace_too() {
    let service = start("keyspace.users.pattern = 'user:{id}'").await;
    service.put("/api/cache/user:1", r#"{"value":1}"#).await;
    service.put("/api/cache/other", r#"{"value":1}"#).await;
    let read = async |key: &str| {
        // The threads that serve each time one lookup in 61.
        for _ in 0..61 * 4 {
            service.get(&format!("/api/cache/{key}")).await;
        }
    };
    let asked = async |target: &str| {
        let all = told(&service, &format!("/api/cache/latencies{target}")).await;
        let tiers = all["tiers"].as_array().expect("an array").clone();
        tiers.iter().map(|of| of["count"].as_u64().expect("a number")).sum::<u64>()
    };
    read("user:1").await;
    let users = asked("?keyspace=users").await;
    assert!(users >= 61, "{users}");
    assert_eq!((asked("?keyspace=default").await, asked("").await), (0, users));
    read("other").await;
    let default = asked("?keyspace=default").await;
    assert!(default >= 61, "{default}");
    assert_eq!((asked("?keyspace=users").await, asked("").await), (users, users + default));
    let problem = service.get("/api/cache/latencies?keyspace=nobodys").await;
    assert!(problem.problem(422, "query_invalid").contains("users, default"), "{problem:?}");
}

#[tokio::test]
async fn what_other_sizes_of_memory_would_miss_is_told_or_why_it_is_not() {
    let service = start("[l1]\nmax_entries = 100").await;
    let first = told(&service, "/api/cache/capacity").await;
    let detail = first["unknown"]["detail"].as_str();
    assert!(detail.is_some_and(|detail| detail.contains("has not been full")), "{first}");
    let unknown = json!({ "code": "not_full", "detail": detail });
    assert_eq!(first, json!({ "l1_entries": 0, "l1_bytes": 0, "sizes": [], "unknown": unknown }));
    let put = |id| json!({ "key": format!("k:{id}"), "value": id });
    let get = |id| format!("k:{id}");
    for _ in 0..20 {
        for ids in [0..50_u32, 50..100, 100..150] {
            let batch = json!({ "set": ids.clone().map(put).collect::<Vec<_>>(), "get": ids.map(get).collect::<Vec<_>>() });
            service.post("/api/cache/batch", &batch.to_string()).await;
        }
        let all = json!({ "get": (0..150_u32).map(get).collect::<Vec<_>>() });
        service.post("/api/cache/batch", &all.to_string()).await;
    }
    let all = told(&service, "/api/cache/capacity").await;
    assert_eq!(all["unknown"], Value::Null, "{all}");
    let column = |name: &str| -> Vec<f64> {
        let sizes = all["sizes"].as_array().expect("an array");
        sizes.iter().map(|size| size[name].as_f64().expect("a number")).collect()
    };
    assert_eq!(column("factor"), [0.25, 0.5, 1.0, 2.0, 4.0]);
    assert_eq!(column("entries"), [25.0, 50.0, 100.0, 200.0, 400.0]);
    let misses = column("miss_ratio");
    assert!(misses.is_sorted_by(|smaller, larger| smaller >= larger), "{all}");
    let metrics = told(&service, "/api/cache/metrics").await;
    let counted = 1.0 - metrics["l1_hit_rate"].as_f64().expect("a number");
    assert!((misses[2] - counted).abs() < 1e-9, "{all} {metrics}");
    assert_eq!((&all["l1_entries"], &all["l1_bytes"]), (&metrics["l1_size"], &metrics["l1_bytes"]));
    let lru = start("[l1]\nmax_entries = 100\npolicy = 'lru'").await;
    assert_eq!(told(&lru, "/api/cache/capacity").await["unknown"]["code"], "lru");
}

/// The sum of what a column rose by, from the first sample to the last.
fn rise(keyspace: &Value, column: &str) -> u64 {
    let counts: Vec<u64> = serde_json::from_value(keyspace[column].clone()).expect("numbers");
    counts.last().zip(counts.first()).map_or(0, |(last, first)| last - first)
}

#[tokio::test]
async fn what_was_before_is_kept_for_those_who_come_later() {
    let Some(url) = redis_url().await else { return };
    let toml = format!(
        "[l2]\nurl = '{url}'\nkey_prefix = '{}'\n[keyspace.users]\npattern = 'user:{{id}}'",
        unique_prefix()
    );
    let service = start(&toml).await;
    let first = until_some("a first sample", async || {
        let history = told(&service, "/api/cache/history").await;
        (history["ago_seconds"].as_array().map(Vec::len) == Some(1)).then_some(history)
    })
    .await;
    assert_eq!(first["interval_seconds"], 5.0);
    let names = first["keyspaces"].as_array().expect("an array").iter().map(|of| of["name"].as_str());
    assert_eq!(names.collect::<Vec<_>>(), [Some("users"), Some("default")]);
    assert_eq!(first["keyspaces"][0]["hits_l1"], json!([0]));
    service.put("/api/cache/user:1", r#"{"value":1}"#).await;
    for key in ["user:1", "user:1", "user:1", "user:2", "other"] {
        service.get(&format!("/api/cache/{key}")).await;
    }
    service.post("/api/cache/invalidate", r#"{"keys":["user:1"]}"#).await;
    let history = until_some("a sample with all of it", async || {
        let history = told(&service, "/api/cache/history").await;
        (rise(&history["keyspaces"][0], "invalidations") == 1).then_some(history)
    })
    .await;
    let of = |name| told(&service, name);
    let (now, latencies) = (of("/api/cache/keyspaces").await, of("/api/cache/latencies").await);
    for (place, keyspace) in now["keyspaces"].as_array().expect("an array").iter().enumerate() {
        let kept = &history["keyspaces"][place];
        assert_eq!(kept["name"], keyspace["name"]);
        for column in ["hits_l1", "hits_l2", "hits_stale", "misses", "loads", "load_failures", "evictions"] {
            let column_kept = kept[column].as_array().expect("an array");
            assert_eq!(column_kept.last(), Some(&keyspace[column]), "{column} {history}");
        }
    }
    assert_eq!((rise(&history["keyspaces"][0], "hits_l1"), rise(&history["keyspaces"][1], "misses")), (3, 1));
    let ago: Vec<f64> = serde_json::from_value(history["ago_seconds"].clone()).expect("numbers");
    // A time lags behind by no more than what the clock tells apart.
    let step = 5.0 - terrace::Clock::system().resolution().as_secs_f64();
    assert!(ago.windows(2).all(|pair| pair[0] - pair[1] >= step), "{ago:?}");
    for (place, tier) in latencies["tiers"].as_array().expect("an array").iter().enumerate() {
        let kept = &history["service"]["latencies"][place];
        assert_eq!(
            (&kept["tier"], kept["counts"].as_array().map(Vec::len)),
            (&tier["tier"], Some(ago.len()))
        );
        assert_eq!(kept["counts"][ago.len() - 1], tier["counts"]);
    }
    let breakers = json!([{ "target": "l2", "states": vec!["closed"; ago.len()] }]);
    assert_eq!(history["service"]["breakers"], breakers);
    assert_eq!(history["service"]["lag_seconds"].as_array().map(Vec::len), Some(ago.len()));
    assert_eq!(history["service"]["left_out"], 0);
}

#[tokio::test]
async fn one_that_is_alone_has_no_breaker_and_says_so() {
    let service = start("").await;
    assert_eq!(told(&service, "/api/cache/breakers").await, json!({ "breakers": [] }));
    let mut bus = told(&service, "/api/cache/bus").await;
    let instance = bus["instance"].take();
    assert_eq!(instance["id"].as_str().map(str::len), Some(16), "{instance}");
    assert_eq!(instance["version"], env!("CARGO_PKG_VERSION"));
    assert!(is_time(&instance["started_at"]), "{instance}");
    let expected =
        json!({ "state": "alone", "lag_seconds": null, "gaps": 0, "instance": null, "instances": [] });
    assert_eq!(bus, expected);
    let ready = told(&service, "/readyz?verbose").await;
    let checks = json!([
        { "check": "serving", "state": "ok", "ok": true },
        { "check": "config", "state": "ok", "ok": true },
        { "check": "stale", "state": "ok", "ok": true },
    ]);
    assert_eq!(ready, json!({ "status": "ok", "degraded": [], "checks": checks }));
}

#[tokio::test]
async fn what_changes_others_hear_of_shows() {
    let Some(url) = redis_url().await else { return };
    let toml = format!("[l2]\nurl = '{url}'\nkey_prefix = '{}'", unique_prefix());
    let (one, two) = (start(&toml).await, start(&toml).await);
    assert_eq!(told(&one, "/api/cache/bus").await["state"], "waiting");
    one.put("/api/cache/a", r#"{"value":1}"#).await;
    let bus = until_some("a beat that is back", async || {
        let bus = told(&one, "/api/cache/bus").await;
        (bus["state"] == "joined" && !bus["lag_seconds"].is_null()).then_some(bus)
    })
    .await;
    assert!(bus["lag_seconds"].as_f64() > Some(0.0), "{bus}");
    // The name of an instance is that which its changes have.
    let why = told(&two, "/api/cache/why/a").await;
    assert_eq!(why["changes"][0]["by"], bus["instance"]["id"]);
    assert_ne!(told(&two, "/api/cache/bus").await["instance"]["id"], bus["instance"]["id"]);
}

#[tokio::test]
async fn a_breaker_that_opens_shows_and_so_does_a_bus_that_is_lost() {
    let Some(redis) = RedisServer::start().await else { return };
    let toml = format!(
        "[l2]\nurl = '{}'\nkey_prefix = 'x:'\nbreaker = {{ min_calls = 3 }}\n[l1]\nttl = '1ms'\nstaleness_max = '200ms'",
        redis.url()
    );
    let service = start(&toml).await;
    service.put("/api/cache/a", r#"{"value":1}"#).await;
    let closed = told(&service, "/api/cache/breakers").await["breakers"][0].take();
    assert_eq!((&closed["target"], &closed["state"]), (&json!("l2"), &json!("closed")));
    assert!(closed["calls"].as_u64() > Some(0) && closed["failures"] == 0 && is_time(&closed["since"]));
    until_some("a bus that is joined", async || {
        (told(&service, "/api/cache/bus").await["state"] == "joined").then_some(())
    })
    .await;
    redis.kill();
    let open = until_some("a breaker that is not closed", async || {
        service.get("/api/cache/b").await;
        let breaker = told(&service, "/api/cache/breakers").await["breakers"][0].take();
        (breaker["state"] != "closed").then_some(breaker)
    })
    .await;
    assert!(
        open["failures"].as_u64() > Some(1) && open["calls"].as_u64() > closed["calls"].as_u64(),
        "{open}"
    );
    let checks = until_some("a bus that is lost", async || {
        let checks = told(&service, "/readyz?verbose").await["checks"].take();
        let lost = json!({ "check": "bus", "state": "lost", "ok": false });
        checks.as_array().expect("an array").contains(&lost).then_some(checks)
    })
    .await;
    let not_ok: Vec<&str> = checks
        .as_array()
        .expect("an array")
        .iter()
        .filter(|check| check["ok"] == false)
        .filter_map(|check| check["check"].as_str())
        .collect();
    assert_eq!(not_ok, ["l2", "breaker", "bus"]);
    assert_eq!(told(&service, "/readyz").await["degraded"], json!(["l2"]));
}

#[tokio::test]
async fn what_is_written_behind_is_counted() {
    let (_folder, file, _connection) = database();
    let journals = tempfile::tempdir().expect("a folder");
    let service = start(&format!(
        r#"
        origin.lite = {{ type = "sqlite", file = "{file}" }}
        write_behind = {{ path = "{}", interval = "1h", flush_at = 500 }}
        [keyspace.users]
        pattern = "user:{{id}}"
        strategy = "write-behind"
        [keyspace.users.source]
        origin = "lite"
        load = "select * from users where id = :id"
        store = "insert into users (id, name) values (:id, :value) on conflict (id) do update set name = excluded.name"
        "#,
        journals.path().join("w.journal").display()
    ))
    .await;
    service.put("/api/cache/user:1", r#"{"value":1}"#).await;
    service.put("/api/cache/user:2", r#"{"value":1}"#).await;
    let all = told(&service, "/api/cache/keyspaces").await;
    assert_eq!(
        (&all["keyspaces"][0]["behind_pending"], &all["keyspaces"][1]["behind_pending"]),
        (&json!(2), &Value::Null)
    );
    let checks = told(&service, "/readyz?verbose").await["checks"].take();
    assert!(
        checks
            .as_array()
            .expect("an array")
            .contains(&json!({ "check": "journal", "state": "sound", "ok": true }))
    );
}
