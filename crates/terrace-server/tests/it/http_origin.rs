//! Keyspaces over an HTTP API: what it is asked, what its answers mean, and that no key leads it elsewhere.

use crate::authority::Authority;
use crate::http_api::{Api, Mood};
use crate::support::{Answer, Running, config, start};
use serde_json::Value;
use std::time::Duration;
use terrace_server::config::{Config, Sources};

const PATH: &str = "/v2/docs/1";

fn toml(api: &Api, strategy: &str, folder: &std::path::Path) -> String {
    let writing = match strategy {
        "read-through" => "",
        _ => "store = 'PUT /docs/{id}'\ndelete = 'DELETE /docs/{id}'",
    };
    format!(
        r#"
        [origin.api]
        type = "http"
        base_url = "{}"
        timeout = "500ms"
        max_body = "1KiB"
        headers = {{ authorization = "Bearer hunter2" }}
        [write_behind]
        path = "{}"
        interval = "1h"
        backoff_min = "20ms"
        backoff_max = "20ms"
        [keyspace.docs]
        pattern = "doc:{{id}}"
        strategy = "{strategy}"
        [keyspace.docs.source]
        origin = "api"
        load = "GET /docs/{{id}}"
        {writing}
        "#,
        api.url(),
        folder.join("writes.journal").display()
    )
}

/// A service in front of an API.
struct Pair {
    api: Api,
    service: Running,
    _folder: tempfile::TempDir,
}

impl Pair {
    async fn of(strategy: &str) -> Self {
        let (api, folder) = (Api::start().await, tempfile::tempdir().expect("a folder"));
        let service = start(&toml(&api, strategy, folder.path())).await;
        Self { api, service, _folder: folder }
    }

    async fn got(&self) -> (String, String) {
        let body = json(&self.service.get("/api/cache/doc:1").await);
        (body["value"].to_string(), body["source"].as_str().unwrap_or_default().to_owned())
    }

    async fn put(&self, value: &str) -> Answer {
        self.service.put("/api/cache/doc:1", &format!("{{\"value\":{value}}}")).await
    }
}

fn json(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
}

fn pair(value: &str, source: &str) -> (String, String) {
    (value.to_owned(), source.to_owned())
}

#[tokio::test]
async fn a_miss_is_one_request_and_a_hit_none() {
    let Pair { api, service, .. } = &Pair::of("read-through").await;
    api.set(PATH, r#"{"name":"ann"}"#);
    let first = json(&service.get("/api/cache/doc:1").await);
    assert_eq!((&first["value"]["name"], &first["source"]), (&"ann".into(), &"origin".into()));
    assert_eq!(json(&service.get("/api/cache/doc:1").await)["source"], "l1");
    let asked = api.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), ("GET", PATH));
    assert_eq!(asked[0].headers["authorization"], "Bearer hunter2");
    assert_eq!(asked[0].headers["accept"], "application/json");
    service.get("/api/cache/doc:2").await.problem(404, "key_not_found");
}

#[tokio::test]
async fn a_key_is_data_in_a_path_and_leads_nowhere_else() {
    let Pair { api, service, .. } = &Pair::of("read-through").await;
    for (key, path) in [
        ("doc:a%2Fb", "/v2/docs/a%2Fb"),
        ("doc:a%3Fadmin=1%23x", "/v2/docs/a%3Fadmin%3D1%23x"),
        ("doc:%252e%252e.x", "/v2/docs/%252e%252e.x"),
        ("doc:@evil.example", "/v2/docs/%40evil.example"),
    ] {
        service.get(&format!("/api/cache/{key}")).await.problem(404, "key_not_found");
        let asked = api.asked();
        assert_eq!(asked.iter().map(|asked| asked.path.as_str()).collect::<Vec<_>>(), [path], "{key}");
    }
    for key in [
        "doc:..",
        "doc:.",
        "doc:%2e%2E",
        "doc:..%2Fadmin",
        "doc:a%2F..%2F..%2Fadmin",
        "doc:..%5Cadmin",
        "doc:%252e%252e",
    ] {
        let detail = service.get(&format!("/api/cache?key={key}")).await.problem(400, "key_refused");
        assert!(detail.contains("leads elsewhere"), "{detail}");
    }
    assert!(api.asked().is_empty(), "the API was not asked");
}

#[tokio::test]
async fn what_an_answer_to_a_load_means() {
    let Pair { api, service, .. } = &Pair::of("read-through").await;
    let elsewhere = Api::start().await;
    for (mood, status, code) in [
        (Mood::Status(404), 404, "key_not_found"),
        (Mood::Status(410), 404, "key_not_found"),
        (Mood::Status(204), 404, "key_not_found"),
        (Mood::Status(400), 400, "key_refused"),
        (Mood::Status(422), 400, "key_refused"),
        (Mood::Status(401), 502, "origin_failed"),
        (Mood::Status(500), 502, "origin_failed"),
        (Mood::Status(503), 503, "origin_busy"),
        (Mood::Status(429), 503, "origin_busy"),
        (Mood::Status(502), 502, "origin_unavailable"),
        (Mood::Redirect(elsewhere.url()), 502, "origin_failed"),
        (Mood::Text("<html>".to_owned()), 502, "origin_failed"),
        (Mood::Text(format!("\"{}\"", "x".repeat(2_000))), 502, "origin_failed"),
        (Mood::Hang, 504, "origin_timeout"),
    ] {
        api.mood(mood.clone());
        let answer = service.get("/api/cache/doc:1").await;
        assert_eq!((answer.status, json(&answer)["code"].as_str()), (status, Some(code)), "{mood:?}");
        assert!(!answer.body.contains("hunter2") && !answer.body.contains(&api.url()), "{answer:?}");
    }
    assert!(elsewhere.asked().is_empty(), "redirects are not followed");
    api.mood(Mood::Well);
    api.set(PATH, "1");
    assert_eq!(json(&service.get("/api/cache/doc:1").await)["value"], 1);
}

#[tokio::test]
async fn what_is_returned_as_stale_says_when_it_expired() {
    let (api, folder) = (Api::start().await, tempfile::tempdir().expect("a folder"));
    let toml = toml(&api, "read-through", folder.path());
    let toml = toml.replace("strategy =", "ttl = '20ms'\nstale_if_error = '1h'\nstrategy =");
    let service = start(&toml).await;
    api.set(PATH, "1");
    service.get("/api/cache/doc:1").await;
    api.mood(Mood::Status(500));
    let clock = terrace::Clock::system();
    terrace_testkit::wait::until_some("a stale answer that expired before it was asked for", async || {
        let before = clock.wall() - Duration::from_millis(5);
        let body = json(&service.get("/api/cache/doc:1").await);
        let ended = humantime::parse_rfc3339(body["expires_at"].as_str()?).expect("RFC 3339");
        (body["source"] == "stale" && ended < before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_api_that_is_not_there_is_unavailable() {
    let folder = tempfile::tempdir().expect("a folder");
    let api = Api::start().await;
    let toml = toml(&api, "write-through", folder.path()).replace(&api.url(), "http://127.0.0.1:1");
    let service = start(&toml).await;
    service.get("/api/cache/doc:1").await.problem(502, "origin_unavailable");
    service.put("/api/cache/doc:1", "{\"value\":1}").await.problem(502, "origin_unavailable");
    let findings = terrace_server::check(&config(&toml)).await.expect("it can be checked");
    assert!(
        findings.iter().any(|finding| finding.what == "keyspace.docs.source.load" && finding.result.is_err())
    );
}

#[tokio::test]
async fn an_api_that_has_too_much_to_do_says_when_to_come_again() {
    let pair_ = Pair::of("write-through").await;
    for (mood, again) in [
        (Mood::Again(429, "7"), Some("7")),
        (Mood::Again(503, "0"), Some("1")),
        (Mood::Again(503, "86400"), Some("3600")),
        (Mood::Again(429, "soon"), None),
    ] {
        pair_.api.mood(mood.clone());
        let answer = pair_.service.get("/api/cache/doc:1").await;
        let detail = answer.problem(503, "origin_busy");
        assert!(
            detail.contains("`api` was reached") && detail.contains("it answered"),
            "{mood:?}: {answer:?}"
        );
        assert_eq!(answer.header("retry-after"), again, "{mood:?}: {answer:?}");
        assert_eq!(json(&answer)["retry_after"].as_u64(), again.and_then(|again| again.parse().ok()));
    }
    pair_.api.mood(Mood::Again(429, "9"));
    let refused = pair_.put("1").await;
    refused.problem(503, "origin_busy");
    assert_eq!(refused.header("retry-after"), Some("9"));
}

#[tokio::test]
async fn write_through_stores_there_first() {
    let pair_ = Pair::of("write-through").await;
    assert_eq!(pair_.put("{\"a\":1}").await.status, 200);
    assert_eq!(pair_.api.document(PATH).as_deref(), Some("{\"a\":1}"));
    assert_eq!(pair_.api.asked()[0].headers["content-type"], "application/json");
    assert_eq!(pair_.got().await, pair("{\"a\":1}", "l1"));
    for (status, seen, code) in
        [(409, 422, "origin_refused"), (429, 503, "origin_busy"), (401, 502, "origin_failed")]
    {
        pair_.api.mood(Mood::Status(status));
        pair_.put("2").await.problem(seen, code);
        assert_eq!(pair_.got().await, pair("{\"a\":1}", "l1"), "{status}: the tiers are as they were");
    }
    for (number, status) in [500, 503, 524, 303].into_iter().enumerate() {
        let value = format!("{}", number + 3);
        pair_.api.mood(Mood::DoneBut(status));
        pair_.put(&value).await.problem(504, "write_unknown");
        pair_.api.mood(Mood::Well);
        assert_eq!(
            pair_.got().await,
            pair(&value, "origin"),
            "{status}: nobody knew, so the copy was dropped"
        );
    }
    assert_eq!(pair_.service.delete("/api/cache/doc:1").await.status, 200);
    assert_eq!(pair_.api.document(PATH), None);
    assert_eq!(
        pair_.service.delete("/api/cache/doc:1").await.status,
        200,
        "that there is none is no failure"
    );
}

#[tokio::test]
async fn write_around_stores_there_alone() {
    let pair_ = Pair::of("write-around").await;
    assert_eq!(pair_.put("1").await.status, 200);
    assert_eq!(pair_.got().await, pair("1", "origin"));
    assert_eq!(pair_.put("2").await.status, 200);
    assert_eq!(pair_.got().await, pair("2", "origin"), "the copy is gone");
}

#[tokio::test]
async fn write_behind_sends_again_under_the_same_id_and_newer_writes_with_a_higher_version() {
    let pair_ = Pair::of("write-behind").await;
    let flush = async || pair_.service.post("/api/cache/behind/docs/flush", "").await;
    let id = json(&pair_.put("1").await)["write_id"].as_str().expect("an id").to_owned();
    pair_.api.mood(Mood::DoneBut(504));
    flush().await;
    pair_.api.mood(Mood::Well);
    let waited = async {
        while json(&pair_.service.get("/api/cache/behind").await)["keyspaces"][0]["pending"] != 0 {
            flush().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.expect("it is sent again");
    let first = pair_.api.asked();
    assert!(first.len() >= 2, "it was sent again: {first:?}");
    let of = |asked: &[crate::http_api::Asked], name: &str| -> Vec<String> {
        asked.iter().map(|asked| asked.headers[name].to_str().expect("text").to_owned()).collect()
    };
    assert!(of(&first, "idempotency-key").iter().all(|own| *own == id), "{first:?} {id}");
    pair_.put("2").await;
    flush().await;
    assert_eq!(pair_.api.document(PATH).as_deref(), Some("2"));
    let version =
        |asked: &[crate::http_api::Asked]| of(asked, "terrace-version")[0].parse::<u64>().expect("a number");
    assert!(version(&pair_.api.asked()) > version(&first));
}

#[test]
fn what_an_origin_over_http_may_be_told() {
    let load = |origin: &str, source: &str| {
        let toml = format!(
            "[origin.api]\ntype = 'http'\n{origin}\n[keyspace.a]\npattern = 'a:{{id}}'\n[keyspace.a.source]\norigin = 'api'\n{source}\n"
        );
        Config::load(&Sources::text(&toml)).map_err(|error| error.to_string())
    };
    let (base, source) = ("base_url = 'https://api.internal'", "load = 'GET /a/{id}'");
    let config = load(base, source).unwrap_or_else(|error| panic!("{error}"));
    let printed = config.effective_toml();
    assert_eq!(
        Config::load(&Sources::text(&printed)).unwrap_or_else(|error| panic!("{error}\n{printed}")),
        config
    );
    for (origin, source, says) in [
        ("", source, "has no base_url"),
        ("base_url = 'ftp://x'", source, "`http` or `https`"),
        ("base_url = 'https://u:p@x'", source, "credentials do not stand in an address"),
        ("base_url = 'https://x?a=b'", source, "no `?`"),
        ("base_url = 'nonsense'", source, "not the address of an API"),
        ("base_url = 'https://x'\npool = 3", source, "no `pool`"),
        ("base_url = 'https://x'\nheaders = { 'a b' = 'c' }", source, "not the name of a header"),
        ("base_url = 'https://x'\nheaders = { host = 'evil' }", source, "the client's own"),
        (base, "load = 'select 1'", "is not one of GET"),
        (base, "load = 'PUT /a/{id}'", "PUT is not a method for this"),
        (base, "load = 'GET /a/{ix}'", "did you mean `{id}`?"),
        (base, "load = 'GET /a'", "all its keys would load the same"),
        (base, "load = 'GET /a/../{id}'", "lead elsewhere"),
        (base, "load = 'GET /a/{id}'\nload_many = 'GET /a'", "has no `load_many`"),
        (base, "load = 'GET /a/{id}'\ndocument = 'doc'", "has no columns"),
    ] {
        let error = load(origin, source).expect_err(says);
        assert!(error.contains(says), "{says}: {error}");
        assert!(error.contains("-->"), "{error}");
    }
}

#[test]
fn the_value_of_a_header_is_never_shown() {
    let toml = "[origin.api]\ntype = 'http'\nbase_url = 'https://x'\nheaders = { authorization = 'Bearer hunter2', bad = 'a\\u0000hunter2' }\ntimeout = 'soon'\n";
    let error = Config::load(&Sources::text(toml)).expect_err("refused").to_string();
    assert!(!error.contains("hunter2"), "{error}");
    let toml = "[origin.api]\ntype = 'http'\nbase_url = 'https://x'\n[origin.api.headers]\nauthorization = 'Bearer hunter2'\n";
    let config = Config::load(&Sources::text(toml)).unwrap_or_else(|error| panic!("{error}"));
    assert!(!format!("{config:?}{}", config.effective_toml()).contains("hunter2"));
    let wrong = toml.replace("'Bearer hunter2'", "['Bearer hunter2']");
    let error = Config::load(&Sources::text(&wrong)).expect_err("refused").to_string();
    assert!(!error.contains("hunter2"), "{error}");
}

/// Its journal goes on with the same lane: what is written behind to an origin cannot be changed by a reload, and whom it believes can.
#[tokio::test]
async fn another_root_in_the_same_file_is_believed_after_a_reload_also_by_what_is_written_behind() {
    let (own, stranger, folder) =
        (Authority::new(), Authority::new(), tempfile::tempdir().expect("a folder"));
    let api = start(&own.toml("")).await;
    let file = folder.path().join("ca.pem");
    let put = |text: &str| std::fs::write(&file, text).expect("it is written");
    put(stranger.root());
    let toml = format!(
        "[origin.api]\ntype = 'http'\nbase_url = 'https://{}'\nroot_certificate_file = '{}'\n\
         [write_behind]\npath = '{}'\n[keyspace.a]\npattern = 'a:{{id}}'\nstrategy = 'write-behind'\n\
         source = {{ origin = 'api', load = 'GET /livez?of={{id}}', store = 'PUT /api/cache/{{id}}' }}\n",
        api.address,
        file.display(),
        folder.path().join("journal").display(),
    );
    let service = start(&toml).await;
    let is_loaded = async |key: &str| service.get(&format!("/api/cache/a:{key}")).await.status == 200;
    assert!(!is_loaded("1").await);
    put(own.root());
    let named = ["origin.api.root_certificate_file"];
    assert_eq!(service.reload(&toml).await.expect("it is taken"), named);
    assert!(is_loaded("1").await);
    for wrong in ["", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
        put(wrong);
        let refused = service.reload(&toml).await.expect_err("nobody would be believed").to_string();
        assert!(refused.contains("api") && refused.contains("ca.pem"), "{refused}");
    }
    assert!(is_loaded("2").await, "the root before is believed");
}
