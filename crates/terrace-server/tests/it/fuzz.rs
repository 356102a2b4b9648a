//! Random requests: never a 5xx, never a panic, always a whole answer. Random configurations: taken, or refused with words.

use crate::support::{Running, start};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[derive(Clone, Debug)]
struct Request {
    method: String,
    target: String,
    body: Vec<u8>,
}

fn target() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just("/api/cache/".to_owned()),
        1 => Just("/api/cache".to_owned()),
        1 => Just("/api/cache/invalidate".to_owned()),
        1 => Just("/api/cache/metrics".to_owned()),
        1 => Just("?key=".to_owned()),
        1 => Just("?verbose=true".to_owned()),
        1 => Just("/problems/".to_owned()),
        2 => "[a-z:/.*{}+&=-]{0,12}",
        3 => any::<u8>().prop_map(|byte| format!("%{byte:02x}")),
        1 => "%[0-9a-g]{0,2}",
        1 => (1..700_usize).prop_map(|length| "k".repeat(length)),
    ];
    vec(piece, 0..6).prop_map(|pieces| format!("/{}", pieces.concat().trim_start_matches('/')))
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:e}")),
        "\"[ -~]{0,8}\"",
        Just("\"never\"".to_owned()),
        Just("\"5m\"".to_owned()),
        Just("[[[[{}]]]]".to_owned()),
    ];
    let name = prop_oneof![
        Just("value"),
        Just("ttl"),
        Just("key"),
        Just("keys"),
        Just("tags"),
        Just("pattern"),
        Just("x"),
    ];
    let value = prop_oneof![leaf.clone(), vec(leaf, 0..3).prop_map(|items| format!("[{}]", items.join(",")))];
    vec((name, value), 0..4).prop_map(|members| {
        let members: Vec<String> =
            members.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

fn request() -> impl Strategy<Value = Request> {
    let method = prop_oneof![
        3 => Just("GET".to_owned()),
        4 => Just("PUT".to_owned()),
        3 => Just("POST".to_owned()),
        2 => Just("DELETE".to_owned()),
        1 => Just("HEAD".to_owned()),
        1 => "[A-Z]{1,8}".prop_filter("a tunnel is no request", |method| method != "CONNECT"),
    ];
    let body = prop_oneof![4 => json().prop_map(String::into_bytes), 1 => vec(any::<u8>(), 0..64), 1 => Just(vec![])];
    (method, target(), body).prop_map(|(method, target, body)| Request { method, target, body })
}

async fn check(service: &Running, request: &Request) -> Result<(), TestCaseError> {
    let answer = service.send_bytes(&request.method, &request.target, &request.body).await;
    prop_assert!(answer.status < 500, "{request:?}: {answer:?}");
    let length = answer.header("content-length").and_then(|length| length.parse().ok());
    if request.method == "HEAD" {
        prop_assert_eq!(&answer.body, "", "{:?}", request);
    } else {
        prop_assert_eq!(length, Some(answer.body.len()), "{:?}: {:?}", request, answer);
    }
    if answer.status >= 400 && request.method != "HEAD" {
        prop_assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{:?}: {:?}",
            request,
            answer
        );
        prop_assert!(serde_json::from_str::<serde_json::Value>(&answer.body).is_ok(), "{answer:?}");
    }
    Ok(())
}

#[test]
fn no_request_breaks_the_service() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let service = runtime.block_on(start("keyspace.users.pattern = 'user:{id}'\nserver.max_body = '1KiB'"));
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(3000);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&request(), |request| runtime.block_on(check(&service, &request)));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    assert_eq!(runtime.block_on(service.get("/livez")).status, 200);
}

/// A configuration with something of everything, to be changed.
const CONFIGURATION: &str = r#"
[server]
listen = "127.0.0.1:0"
max_body = "8MiB"
shutdown = { drain = "5s", grace = "25s" }
[l1]
max_bytes = "512MiB"
[l2]
url = "${NOT_SET:-redis://localhost:6379/0}"
breaker = { failures = 0.5, window = "10s" }
[defaults]
ttl = "5m"
compression = { algo = "zstd", min = "1KiB" }
[origin.lite]
type = "sqlite"
file = "ref.db"
[origin.api]
type = "http"
base_url = "https://api.internal"
[keyspace.users]
pattern = "user:{id}"
source = { origin = "lite", load = "select * from users where id = :id and :tenant = 1" }
[keyspace.orders]
pattern = "order:{id}"
strategy = "write-through"
source = { origin = "api", load = "GET /{tenant}/{id}", store = "PUT /{tenant}/{id}" }
[[auth.token]]
name = "web"
sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
scopes = ["read:user:*", "admin"]
tenant = "acme"
rate = { per_second = 5, burst = 10 }
[auth.tenant.acme]
max_requests = 5
"#;

/// Parts of that, in another order, with some of them taken out, and with bytes that are others.
fn configuration() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n".to_owned()),
        Just("${".to_owned()),
        Just("{{}}".to_owned()),
        Just("'''".to_owned()),
        Just("é\u{202e}\u{0}".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just("[a.b.c]".to_owned()),
        "[ -~]{0,12}",
        Just("[".repeat(2_000)),
    ];
    let change = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), piece);
    vec(change, 0..5).prop_map(|changes| {
        let mut text = CONFIGURATION.to_owned();
        for (at, end, piece) in changes {
            let at = at.index(text.len());
            let end = text.len().min(at + end.index(30));
            if text.is_char_boundary(at) && text.is_char_boundary(end) {
                text.replace_range(at..end, &piece);
            }
        }
        text
    })
}

#[test]
fn no_configuration_makes_a_panic() {
    use terrace_server::config::{Config as Terrace, Sources};
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(500);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let taken = std::cell::Cell::new(0_u64);
    let outcome = runner.run(&configuration(), |text| {
        match Terrace::load(&Sources::text(&text)) {
            Ok(config) => {
                taken.set(taken.get() + 1);
                prop_assert!(!config.effective_toml().is_empty());
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    println!("{cases} configurations: {} taken, the others refused with words", taken.get());
    assert!(taken.get() > 0 && taken.get() < u64::from(cases), "{}", taken.get());
}
