//! The `OpenAPI` document against the service: its methods are those that there are, and answers have the forms that it says.

use crate::limits::database;
use crate::support::{Answer, Running, start};
use serde_json::{Value, json};

/// Where the document is for those who read it without a service.
const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

async fn document(service: &Running) -> Value {
    let answer = service.get("/api/cache/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(service.get("/openapi.json").await.body, answer.body);
    serde_json::from_str(&answer.body).expect("JSON")
}

#[tokio::test]
async fn the_committed_document_is_the_one_that_is_served() {
    let served = document(&start("").await).await;
    if std::env::var_os("TERRACE_RENEW").is_some() {
        let text = format!("{}\n", serde_json::to_string_pretty(&served).expect("JSON"));
        std::fs::write(COMMITTED, text).expect("the folder can be written to");
    }
    let committed: Value =
        serde_json::from_slice(&std::fs::read(COMMITTED).expect("it is there")).expect("JSON");
    let renew = "TERRACE_RENEW=1 cargo nextest run -p terrace-server the_committed_document";
    assert!(served == committed, "docs/openapi.json is old; `{renew}` writes it anew");
}

#[tokio::test]
async fn methods_that_are_described_are_there_and_no_others() {
    let service = start("").await;
    let document = document(&service).await;
    for (path, operations) in document["paths"].as_object().expect("an object") {
        let target = path
            .replace("{key}", "k")
            .replace("{keyspace}", "default")
            .replace("{code}", "internal")
            .replace("{id}", "x");
        for method in ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"] {
            if path == "/api/cache/events" && method == "GET" {
                continue;
            }
            let is_head_of_get = method == "HEAD" && operations.get("get").is_some();
            let is_described = is_head_of_get || operations.get(method.to_ascii_lowercase()).is_some();
            let status = service.send(method, &target, "").await.status;
            assert_eq!(status != 405, is_described, "{method} {target}: {status}");
        }
    }
}

/// What of a value is not as a form says; a member that the form does not know is not.
fn differs(document: &Value, form: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(reference) = form["$ref"].as_str() {
        let form = document.pointer(&reference[1..]).unwrap_or_else(|| panic!("no {reference}"));
        return differs(document, form, value, at);
    }
    let wrong = |what: &str| Some(format!("{at}: {what}: {value}"));
    if form.get("const").is_some_and(|expected| expected != value) {
        return wrong("another constant");
    }
    let kinds = match &form["type"] {
        Value::String(kind) => vec![kind.as_str()],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let is = |kind: &&str| match *kind {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        _ => value.is_object(),
    };
    if !kinds.iter().any(is) {
        return wrong("another type");
    }
    if form["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return wrong("another word");
    }
    if form["minimum"].as_f64().zip(value.as_f64()).is_some_and(|(least, number)| number < least)
        || form["maximum"].as_f64().zip(value.as_f64()).is_some_and(|(most, number)| number > most)
    {
        return wrong("out of bounds");
    }
    if let Some(items) = value.as_array() {
        return items.iter().find_map(|item| differs(document, &form["items"], item, &format!("{at}[]")));
    }
    let (Some(members), Some(properties)) = (value.as_object(), form["properties"].as_object()) else {
        return None;
    };
    let required = form["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(missing) = required.into_iter().find(|name| !members.contains_key(*name)) {
        return wrong(&format!("no {missing}"));
    }
    members.iter().find_map(|(name, value)| match properties.get(name) {
        Some(form) => differs(document, form, value, &format!("{at}.{name}")),
        None => Some(format!("{at}: the document does not know {name}")),
    })
}

/// Asserts that an answer is one of those that the document knows of this path.
fn check(document: &Value, (method, path): (&str, &str), answer: &Answer) {
    let operation = &document["paths"][path][method.to_ascii_lowercase()];
    assert!(operation.is_object(), "{method} {path}");
    let described = &operation["responses"][answer.status.to_string()];
    assert!(described.is_object(), "{method} {path}: {answer:?}");
    let Some(kind) = answer.header("content-type").filter(|_| !answer.body.is_empty()) else {
        assert!(described.get("content").is_none() || method == "HEAD", "{method} {path}: {answer:?}");
        return;
    };
    let content = &described["content"];
    if content.get(kind).is_none() && content.get("*/*").is_some() {
        return;
    }
    let form = &content[kind]["schema"];
    assert!(form.is_object(), "{method} {path}: {answer:?}");
    if kind.contains("json") {
        let value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(differs(document, form, &value, path), None, "{method} {path}");
    }
}

#[test]
fn the_check_finds_what_is_wrong() {
    let document = json!({ "forms": { "A": { "type": ["object", "null"], "required": ["n"], "properties": {
        "n": { "type": "integer", "minimum": 0 }, "words": { "type": "array", "items": { "enum": ["a"], "type": "string" } },
        "yes": { "const": true },
    } } } });
    let is_wrong = |value: &Value| differs(&document, &json!({ "$ref": "#/forms/A" }), value, "").is_some();
    for right in [json!(null), json!({ "n": 1 }), json!({ "n": 0, "words": ["a", "a"], "yes": true })] {
        assert!(!is_wrong(&right), "{right}");
    }
    for wrong in [
        json!(1),
        json!({}),
        json!({ "n": -1 }),
        json!({ "n": 1.5 }),
        json!({ "n": 1, "words": ["b"] }),
        json!({ "n": 1, "words": "a" }),
        json!({ "n": 1, "yes": false }),
        json!({ "n": 1, "other": 1 }),
    ] {
        assert!(is_wrong(&wrong), "{wrong}");
    }
}

/// Where entries are, in the document.
const ENTRY: &str = "/api/cache/{key}";

/// Where it is told what has become of a write.
const WRITE: &str = "/api/cache/behind/{keyspace}/writes/{id}";

/// Method, path in the document, target, body.
const REQUESTS: &[(&str, &str, &str, &str)] = &[
    ("PUT", ENTRY, "/api/cache/a", r#"{"value":{"n":1},"ttl":"5m","tags":["t"]}"#),
    ("PUT", ENTRY, "/api/cache/a", r#"{"value":1,"key":"b"}"#),
    ("PUT", ENTRY, "/api/cache/a", "no JSON"),
    ("PUT", "/api/cache", "/api/cache?key=e", r#"{"value":null,"ttl":"never"}"#),
    ("PUT", ENTRY, "/api/cache/user:2", r#"{"value":"ben"}"#),
    ("PUT", ENTRY, "/api/cache/user:x", r#"{"value":"a name for no number"}"#),
    ("GET", ENTRY, "/api/cache/a?verbose=true", ""),
    ("GET", ENTRY, "/api/cache/user:1", ""),
    ("GET", "/api/cache", "/api/cache?key=e&verbose=true", ""),
    ("GET", ENTRY, "/api/cache/none", ""),
    ("GET", ENTRY, "/api/cache/%00", ""),
    ("HEAD", ENTRY, "/api/cache/a", ""),
    (
        "PUT",
        ENTRY,
        "/api/cache/b",
        r#"{"value":"AAE=","encoding":"base64","content_type":"image/png","if_absent":true}"#,
    ),
    ("PUT", ENTRY, "/api/cache/b", r#"{"value":1,"if_absent":true}"#),
    ("GET", ENTRY, "/api/cache/b", ""),
    ("PUT", "/v1/keys/{key}", "/v1/keys/c", "bytes"),
    ("PUT", "/v1/keys", "/v1/keys?key=user:1", "bytes for an origin that takes JSON"),
    ("GET", "/v1/keys/{key}", "/v1/keys/c", ""),
    ("GET", "/v1/keys", "/v1/keys?key=none", ""),
    ("HEAD", "/v1/keys/{key}", "/v1/keys/c", ""),
    ("DELETE", "/v1/keys/{key}", "/v1/keys/c", ""),
    (
        "POST",
        "/api/cache/batch",
        "/api/cache/batch",
        r#"{"get":["b","none","user:1"],"set":[{"key":"d","value":1},{"value":2}],"delete":["d","none"]}"#,
    ),
    ("POST", "/api/cache/batch", "/api/cache/batch", r#"{"x":1}"#),
    ("DELETE", ENTRY, "/api/cache/a", ""),
    ("DELETE", ENTRY, "/api/cache/user:1", ""),
    ("POST", "/api/cache/invalidate", "/api/cache/invalidate", r#"{"keys":["a"]}"#),
    (
        "POST",
        "/api/cache/invalidate",
        "/api/cache/invalidate",
        r#"{"pattern":"u*","tags":["t"],"dry_run":true}"#,
    ),
    ("POST", "/api/cache/invalidate", "/api/cache/invalidate", "{}"),
    ("POST", "/api/cache/refresh", "/api/cache/refresh", r#"{"keys":["user:1"]}"#),
    ("GET", "/api/cache/why/{key}", "/api/cache/why/e", ""),
    ("GET", "/api/cache/why", "/api/cache/why?key=none", ""),
    ("GET", "/api/cache/why", "/api/cache/why", ""),
    ("GET", "/api/cache/keys", "/api/cache/keys?limit=1", ""),
    ("GET", "/api/cache/keys", "/api/cache/keys?cursor=6c", ""),
    ("GET", "/api/cache/hot", "/api/cache/hot", ""),
    ("GET", "/api/cache/keyspaces", "/api/cache/keyspaces", ""),
    ("GET", "/api/cache/breakers", "/api/cache/breakers", ""),
    ("GET", "/api/cache/latencies", "/api/cache/latencies", ""),
    ("GET", "/api/cache/bus", "/api/cache/bus", ""),
    ("GET", "/api/cache/capacity", "/api/cache/capacity", ""),
    ("GET", "/api/cache/history", "/api/cache/history", ""),
    ("GET", "/api/cache/metrics", "/api/cache/metrics?verbose=true", ""),
    ("GET", "/api/cache/behind", "/api/cache/behind", ""),
    ("POST", "/api/cache/behind/{keyspace}/flush", "/api/cache/behind/users/flush", ""),
    ("GET", "/api/cache/behind", "/api/cache/behind?keyspace=users", ""),
    ("GET", WRITE, "/api/cache/behind/users/writes/x", ""),
    ("GET", WRITE, "/api/cache/behind/none/writes/x", ""),
    ("POST", "/api/cache/behind/{keyspace}/retry", "/api/cache/behind/users/retry", r#"{"key":"user:9"}"#),
    ("POST", "/api/cache/behind/{keyspace}/drop", "/api/cache/behind/users/drop", r#"{"key":"user:x"}"#),
    ("POST", "/api/cache/behind/{keyspace}/flush", "/api/cache/behind/none/flush", ""),
    ("POST", "/api/cache/behind/{keyspace}/flush", "/api/cache/behind/%ff/flush", ""),
    ("GET", "/livez", "/livez", ""),
    ("GET", "/readyz", "/readyz?verbose", ""),
    ("GET", "/healthz", "/healthz", ""),
    ("GET", "/metrics", "/metrics", ""),
    ("GET", "/problems/{code}", "/problems/internal", ""),
    ("GET", "/problems/{code}", "/problems/none", ""),
];

#[tokio::test]
async fn answers_have_the_forms_that_are_described() {
    let (_folder, file, _connection) = database();
    let journals = tempfile::tempdir().expect("a folder");
    let service = start(&format!(
        r#"
        origin.lite = {{ type = "sqlite", file = "{file}" }}
        write_behind = {{ path = "{}", interval = "1h", attempts_max = 1 }}
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
    let document = document(&service).await;
    for (method, path, target, body) in REQUESTS {
        let answer = service.send(method, target, body).await;
        check(&document, (method, path), &answer);
    }
    let mut states = Vec::new();
    for value in ["\"first\"", "\"second\"", "null"] {
        let stored = service.put("/api/cache/user:7", &format!("{{\"value\":{value}}}")).await;
        check(&document, ("PUT", ENTRY), &stored);
        states.push(stored.header("location").expect("it is written behind").to_owned());
    }
    for _before_and_after in 0..2 {
        for location in &states {
            check(&document, ("GET", WRITE), &service.get(location).await);
        }
        service.post("/api/cache/behind/users/flush", "").await;
    }
    let batch = r#"{"set":[{"key":"user:7","value":1}]}"#;
    check(&document, ("POST", "/api/cache/batch"), &service.post("/api/cache/batch", batch).await);
}
