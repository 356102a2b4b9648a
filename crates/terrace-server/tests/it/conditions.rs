//! Entity tags and conditions, on both views; and on two services that share a Redis.

use crate::support::{Answer, Running, beside, start};
use std::sync::Arc;
use terrace_testkit::server::{redis_url, unique_prefix};

impl Running {
    async fn put_if(&self, target: &str, line: &str, body: &str) -> Answer {
        self.send_with("PUT", target, &[line], body.as_bytes()).await
    }

    async fn tag(&self, target: &str) -> String {
        self.get(target).await.header("etag").expect("an entity tag").to_owned()
    }
}

async fn with_redis() -> Option<String> {
    Some(format!("[l2]\nurl = '{}'\nkey_prefix = '{}'\n", redis_url().await?, unique_prefix()))
}

#[tokio::test]
async fn what_is_asked_of_a_change_and_not_heeded_is_refused() {
    let service = start("").await;
    for (view, body) in [("/api/cache/k", r#"{"value":1}"#), ("/v1/keys/k", "one")] {
        service.put(view, body).await;
        let tag = service.tag(view).await;
        for line in ["if-unmodified-since: Mon, 01 Jan 2001 00:00:00 GMT", "content-range: bytes 0-4/100"] {
            for method in ["PUT", "DELETE"] {
                let refused = service.send_with(method, view, &[line], body.as_bytes()).await;
                let detail = refused.problem(400, "header_invalid");
                assert!(detail.contains(line.split(':').next().expect("a name")), "{detail}");
            }
        }
        assert_eq!(service.tag(view).await, tag, "nothing was changed");
        // The entity tag is the condition, and the time is none (RFC 9110, 13.1.4).
        let lines = [&format!("if-match: {tag}"), "if-unmodified-since: Mon, 01 Jan 2001 00:00:00 GMT"];
        assert_eq!(service.send_with("PUT", view, &lines, body.as_bytes()).await.status, 200);
    }
}

/// What has to hold of two services that share their entries, which may be one and the same.
async fn keep_conditions(one: &Running, two: &Running) {
    for (view, first, second) in
        [("/api/cache/k", r#"{"value":1}"#, r#"{"value":2}"#), ("/v1/keys/r", "one", "two")]
    {
        let created = one.put_if(view, "if-none-match: *", first).await;
        assert_eq!(created.status, 201, "{view}: {created:?}");
        two.put_if(view, "if-none-match: *", second).await.problem(412, "version_mismatch");
        let old = two.tag(view).await;
        assert_eq!(created.header("etag"), Some(old.as_str()), "{view}");

        let known = two.send_with("GET", view, &[&format!("if-none-match: W/{old}, \"x\"")], b"").await;
        assert_eq!((known.status, known.body.as_str()), (304, ""), "{view}: {known:?}");
        assert_eq!(known.header("etag"), Some(old.as_str()), "{view}");
        assert!(known.header("cache-control").is_some(), "{view}: {known:?}");
        assert_eq!(two.send_with("HEAD", view, &[&format!("if-none-match: {old}")], b"").await.status, 304);
        assert_eq!(two.send_with("GET", view, &["if-none-match: \"x\""], b"").await.status, 200);
        two.send_with("GET", view, &["if-match: \"x\""], b"").await.problem(412, "version_mismatch");

        let replaced = two.put_if(view, &format!("if-match: {old}"), second).await;
        assert_eq!(replaced.status, 200, "{view}: {replaced:?}");
        let new = replaced.header("etag").expect("an entity tag").to_owned();
        assert_ne!(new, old);
        one.put_if(view, &format!("if-match: {old}"), first).await.problem(412, "version_mismatch");
        one.put_if(view, &format!("if-match: W/{new}"), first).await.problem(412, "version_mismatch");
        one.put_if(view, &format!("if-none-match: {new}"), first).await.problem(412, "version_mismatch");
        let stale = one.send_with("DELETE", view, &[&format!("if-match: {old}")], b"").await;
        stale.problem(412, "version_mismatch");
        let gone = one.send_with("DELETE", view, &[&format!("if-match: \"x\", {new}")], b"").await;
        assert_eq!(gone.body, r#"{"success":true,"deleted":true}"#, "{view}");
        two.put_if(view, &format!("if-match: {new}"), second).await.problem(412, "version_mismatch");
        two.put_if(view, "if-match: *", second).await.problem(412, "version_mismatch");
    }
    let absent = r#"{"value":1,"if_absent":true}"#;
    assert_eq!(one.put("/api/cache/k", absent).await.status, 201);
    two.put("/api/cache/k", absent).await.problem(412, "version_mismatch");
    assert_eq!(two.put_if("/api/cache/k", "if-match: *", r#"{"value":3}"#).await.status, 200);
    assert!(one.get("/api/cache/k").await.body.starts_with(r#"{"value":3,"#));
}

#[tokio::test]
async fn conditions_hold_in_memory() {
    let service = start("").await;
    keep_conditions(&service, &service).await;
}

#[tokio::test]
async fn conditions_hold_between_two_services() {
    let Some(toml) = with_redis().await else { return };
    let hearing = format!("{toml}[l1]\nstaleness_max = '1s'\n");
    let (one, two) = (start(&hearing).await, start(&hearing).await);
    keep_conditions_without_copies(&one, &two).await;
}

/// [`keep_conditions`] of services whose copies lag by up to a second: what is read is asked of Redis.
async fn keep_conditions_without_copies(one: &Running, two: &Running) {
    let anew = async |service: &Running| {
        let got = service.send_with("GET", "/v1/keys/k", &["cache-control: no-cache"], b"").await;
        (got.body.clone(), got.header("etag").map(str::to_owned))
    };
    let created = one.put_if("/v1/keys/k", "if-none-match: *", "one").await;
    assert_eq!(created.status, 201, "{created:?}");
    two.put_if("/v1/keys/k", "if-none-match: *", "two").await.problem(412, "version_mismatch");
    let (body, old) = anew(two).await;
    assert_eq!((body.as_str(), old.as_deref()), ("one", created.header("etag")));
    let old = old.expect("an entity tag");
    assert_eq!(two.put_if("/v1/keys/k", &format!("if-match: {old}"), "two").await.status, 200);
    one.put_if("/v1/keys/k", &format!("if-match: {old}"), "three").await.problem(412, "version_mismatch");
    let (body, new) = anew(one).await;
    assert_eq!(body, "two");
    let line = format!("if-match: {}", new.expect("an entity tag"));
    assert_eq!(one.send_with("DELETE", "/v1/keys/k", &[&line], b"").await.status, 200);
    two.put_if("/v1/keys/k", &line, "four").await.problem(412, "version_mismatch");
    assert_eq!(anew(two).await.1, None);
}

/// Adds one, so often, by reading and then replacing what was read.
async fn count(service: Arc<Running>, times: u32) {
    for _ in 0..times {
        loop {
            let got = service.send_with("GET", "/v1/keys/n", &["cache-control: no-cache"], b"").await;
            let number: u32 = if got.status == 404 { 0 } else { got.body.parse().expect("a number") };
            let line = match got.header("etag") {
                Some(tag) => format!("if-match: {tag}"),
                None => "if-none-match: *".to_owned(),
            };
            match service.put_if("/v1/keys/n", &line, &(number + 1).to_string()).await.status {
                200 | 201 => break,
                412 | 503 => {}
                other => panic!("{other}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_count_on_two_services_nobody_is_lost() {
    const EACH: u32 = 20;
    let Some(toml) = with_redis().await else { return };
    let (one, two) = (Arc::new(start(&toml).await), Arc::new(start(&toml).await));
    let tasks: Vec<_> = [&one, &two, &one, &two]
        .map(|service| beside(count(Arc::clone(service), EACH)))
        .into_iter()
        .collect();
    for task in tasks {
        task.await.expect("it counts");
    }
    let end = one.send_with("GET", "/v1/keys/n", &["cache-control: no-cache"], b"").await;
    assert_eq!(end.body, (4 * EACH).to_string());
}

#[tokio::test]
async fn where_redis_cannot_compare_it_is_refused() {
    let Some(toml) = with_redis().await else { return };
    let service = start(&format!("{toml}[bus]\nmode = 'plain'\n")).await;
    assert_eq!(service.send_with("PUT", "/v1/keys/k", &[], b"one").await.status, 200);
    let tag = service.tag("/v1/keys/k").await;
    for line in ["if-none-match: *".to_owned(), format!("if-match: {tag}")] {
        service.put_if("/v1/keys/k", &line, "two").await.problem(501, "condition_unsupported");
    }
    assert_eq!(service.get("/v1/keys/k").await.body, "one");
    let known = service.send_with("GET", "/v1/keys/k", &[&format!("if-none-match: {tag}")], b"").await;
    assert_eq!(known.status, 304);
}

#[tokio::test]
async fn while_redis_is_away_nothing_is_changed_on_a_condition() {
    let toml = "[l2]\nurl = 'redis://127.0.0.1:1'\nkey_prefix = 'x:'\n";
    let service = start(toml).await;
    service.put_if("/v1/keys/k", "if-none-match: *", "one").await.problem(503, "l2_unavailable");
    service.get("/v1/keys/k").await.problem(404, "key_not_found");
}
