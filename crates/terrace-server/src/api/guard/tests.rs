//! The door by itself: what breaks, what hangs, and who has no keyspaces here.

use super::*;
use crate::config::{Config, Sources};
use axum::http::StatusCode;
use axum::routing::get;
use terrace::Clock;

async fn panics() -> StatusCode {
    panic!("a handler that breaks");
}

async fn hangs() -> StatusCode {
    std::future::pending().await
}

async fn answer(path: &str) -> (u16, serde_json::Value) {
    let limits = Limits {
        key_bytes_max: 16,
        body_bytes_max: 16,
        value_bytes_max: 16,
        request_timeout: Duration::from_secs(1),
        requests_max: 2,
    };
    let router = Router::new().route("/api/panics", get(panics)).route("/api/hangs", get(hangs));
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let config = Config::load(&Sources::none()).expect("the defaults").auth;
    let auth = Arc::new(Auth::new(&config, Clock::manual()));
    let refusals = Arc::new(Refusals::new(Clock::manual()));
    let guard = Arc::new(Guard::over((router, Needs::nothing()), auth, refusals, limits));
    let response = guard.answer(request).await;
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    (status, serde_json::from_slice(&body).expect("JSON"))
}

#[tokio::test]
async fn a_panic_is_a_problem_that_does_not_say_what_broke() {
    let (status, body) = answer("/api/panics").await;
    assert_eq!((status, body["code"].as_str()), (500, Some("internal")));
    assert!(!body.to_string().contains("breaks"), "{body}");
}

/// Between two configurations somebody can be taken for a tenant of the later one at a guard of the earlier one.
#[tokio::test]
async fn a_tenant_that_has_no_keyspaces_here_gets_nothing() {
    let token = "[[auth.token]]\nname = 'new'\ntenant = 'new'\n\
                 sha256 = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'\n\
                 scopes = ['read:*', 'write:*', 'invalidate:*', 'admin']";
    let config = Config::load(&Sources::text(token)).unwrap_or_else(|error| panic!("{error}"));
    let in_force = crate::server::app(&config, None).expect("it starts");
    let known = App::clone(&in_force.app);
    let unknown = App { spaces_of_tenants: crate::keyspaces::OfTenants::new(), ..known.clone() };
    for (method, path, body) in [
        ("GET", "/api/cache/k", ""),
        ("PUT", "/api/cache/k", "{\"value\":1}"),
        ("DELETE", "/api/cache/k", ""),
        ("GET", "/v1/keys/k", ""),
        ("PUT", "/v1/keys/k", "1"),
        ("POST", "/api/cache/batch", "{\"get\":[\"k\"]}"),
        ("POST", "/api/cache/invalidate", "{\"keys\":[\"k\"]}"),
        ("POST", "/api/cache/refresh", "{\"keys\":[\"k\"]}"),
        ("GET", "/api/cache/why/k", ""),
        ("GET", "/api/cache/hot", ""),
        ("GET", "/api/cache/behind", ""),
        ("POST", "/api/cache/behind/new--default/flush", ""),
        ("GET", "/api/cache/keys", ""),
        ("GET", "/api/cache/keyspaces", ""),
    ] {
        let answer = async |app: &App| {
            let guard = Arc::new(Guard::new(Arc::new(app.clone()), Side::Whole));
            let request = Request::builder().method(method).uri(path);
            let request = request.header("authorization", "Bearer test").body(Body::from(body));
            guard.answer(request.expect("a request")).await.status().as_u16()
        };
        assert_eq!(answer(&unknown).await, 401, "{method} {path}");
        assert_ne!(answer(&known).await, 401, "{method} {path}");
    }
    let lines = Request::post("/api/cache/batch").header("authorization", "Bearer test");
    let lines = lines.header("content-type", "application/x-ndjson").body(Body::from("{\"get\":\"k\"}"));
    let guard = Arc::new(Guard::new(Arc::new(unknown), Side::Whole));
    assert_eq!(guard.answer(lines.expect("a request")).await.status().as_u16(), 401);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_given_up() {
    let (status, body) = answer("/api/hangs").await;
    assert_eq!((status, body["code"].as_str()), (504, Some("timeout")));
    assert_eq!(body["instance"], "/api/hangs");
}
