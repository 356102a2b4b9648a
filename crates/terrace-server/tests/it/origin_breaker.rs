//! An origin that fails too often is left alone, and what comes of it.

use crate::postgres::Schema;
use crate::support::{Answer, Running, start};
use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::{get, put};
use futures_util::future::join_all;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;
use terrace_testkit::server::PostgresServer;
use terrace_testkit::wait::{pause, until_some};

/// Settings that open after four failures, for a moment.
const QUICK: &str = "breaker = { min_calls = 4, open = '300ms' }";
/// Settings that leave it open for as long as a test takes.
const LONG: &str = "breaker = { min_calls = 4, open = '10m' }";

async fn breaker(service: &Running, target: &str) -> Value {
    let answer = service.get("/api/cache/breakers").await;
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    let all = body["breakers"].as_array().expect("a list");
    all.iter().find(|breaker| breaker["target"] == target).cloned().unwrap_or_else(|| panic!("{body}"))
}

/// What Prometheus is told of a series.
async fn series(service: &Running, name: &str) -> Option<f64> {
    let text = service.get("/metrics").await.body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))?;
    line.parse().ok()
}

fn assert_left_alone(answer: &Answer, origin: &str) {
    let detail = answer.problem(503, "origin_left_alone");
    assert!(detail.contains(&format!("origin `{origin}` is left alone")), "{detail}");
    let seconds = answer.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| seconds >= 1), "{answer:?}");
}

/// Fails calls of an origin until its breaker is open.
async fn open(service: &Running, prefix: &str, target: &str) {
    for number in 0..8 {
        let answer = service.get(&format!("/api/cache/{prefix}:{}", 1000 + number)).await;
        assert!([502, 503, 504].contains(&answer.status), "{answer:?}");
    }
    assert_eq!(breaker(service, target).await["state"], "open");
}

async fn table(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("it answers");
    crate::support::beside(async move {
        connection.await.ok();
    });
    client
}

/// A keyspace that is written through to this database, and one that is written behind.
fn dying(url: &str, journal: &str) -> String {
    let statements = "document = 'doc'\nload = 'select doc from docs where id = :id'\n";
    let store =
        "insert into docs (id, doc) values (:id, :value) on conflict (id) do update set doc = excluded.doc";
    format!(
        "[origin.main]\ntype = 'postgres'\nurl = '{url}'\nconnect_timeout = '1s'\n{QUICK}\n\
         [write_behind]\npath = '{journal}'\nbackoff_min = '50ms'\nbackoff_max = '100ms'\n\
         [keyspace.docs]\npattern = 'doc:{{id}}'\nstrategy = 'write-through'\nttl = '1ms'\nstale_if_error = '10m'\n\
         [keyspace.docs.source]\norigin = 'main'\n{statements}store = '{store}'\n\
         [keyspace.later]\npattern = 'later:{{id}}'\nstrategy = 'write-behind'\nwrite_behind = {{ interval = '10ms' }}\n\
         [keyspace.later.source]\norigin = 'main'\n{statements}store = '{store} where :version::int8 > 0'\n"
    )
}

#[tokio::test]
async fn a_postgres_that_dies_is_left_alone_and_asked_again_when_it_is_back() {
    let Some(mut server) = PostgresServer::start(false).await else { return };
    let url = server.url();
    let rows = "create table docs (id text primary key, doc jsonb); insert into docs values ('1', '{\"n\": 1}'), ('2', '2')";
    table(&url).await.batch_execute(rows).await.expect("rows");
    let folder = tempfile::tempdir().expect("a folder");
    let service = start(&dying(&url, &folder.path().join("journal").display().to_string())).await;
    assert_eq!(service.get("/api/cache/doc:1").await.status, 200);
    assert_eq!(breaker(&service, "origin.main").await["state"], "closed");
    assert_eq!(
        series(&service, "terrace_origin_breaker_state{origin=\"main\",calls=\"loads\",state=\"open\"}")
            .await,
        Some(0.0)
    );

    server.kill().await;
    // A call that finds the breaker open says so at once; the time to probe comes again and again, and the probe fails.
    let refused = until_some("an open breaker", async || {
        let answer = service.get("/api/cache/doc:none").await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_left_alone(&refused, "main");
    let stale = service.get("/api/cache/doc:1").await;
    assert!(stale.status == 200 && stale.body.contains(r#""source":"stale""#), "{stale:?}");
    let ready: Value = serde_json::from_str(&service.get("/readyz?verbose").await.body).expect("JSON");
    assert_eq!(ready["degraded"], serde_json::json!(["origin"]), "{ready}");
    let checks = ready["checks"].as_array().expect("a list");
    assert!(checks.iter().any(|check| check["check"] == "origin.main" && check["ok"] == false), "{ready}");
    let refused = until_some("a write that is not made", async || {
        let answer = service.put("/api/cache/doc:2", r#"{"value":3}"#).await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_left_alone(&refused, "main");
    assert_eq!(service.put("/api/cache/later:9", r#"{"value":9}"#).await.status, 202, "it waits");

    server.start_again().await;
    until_some("a closed breaker", async || {
        let loaded = service.get("/api/cache/doc:2").await;
        (loaded.status == 200 && loaded.body.contains(r#""source":"origin""#)).then_some(loaded)
    })
    .await;
    assert!(
        service.get("/api/cache/doc:2").await.body.contains(r#""value":2,"#),
        "what was refused was not made"
    );
    let client = table(&url).await;
    until_some("the write that waited", async || {
        let rows = client.query("select 1 from docs where id = '9'", &[]).await.ok()?;
        (rows.len() == 1).then_some(())
    })
    .await;
    assert_eq!(breaker(&service, "origin.main").await["state"], "closed");
    let opened = series(
        &service,
        "terrace_origin_breaker_transitions_total{origin=\"main\",calls=\"loads\",state=\"open\"}",
    )
    .await;
    let rejected =
        series(&service, "terrace_origin_calls_total{origin=\"main\",calls=\"loads\",result=\"rejected\"}")
            .await;
    assert!(opened >= Some(1.0) && rejected >= Some(1.0), "{opened:?} {rejected:?}");
}

/// An API that answers reads and writes with a status that the test chooses, and counts what it is asked.
async fn api(status: &Arc<AtomicU16>, asked: &Arc<AtomicU64>) -> String {
    let (status, asked) = (Arc::clone(status), Arc::clone(asked));
    let answer = move |Path(id): Path<String>| {
        asked.fetch_add(1, Ordering::Relaxed);
        let status = StatusCode::from_u16(status.load(Ordering::Relaxed)).expect("a status");
        async move { (status, format!("{{\"id\":\"{id}\"}}")) }
    };
    serve(Router::new().route("/a/{id}", get(answer.clone()).put(answer))).await
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    crate::support::beside(async move {
        axum::serve(listener, router).await.ok();
    });
    format!("http://{address}")
}

#[tokio::test]
async fn what_an_api_refuses_opens_nothing_and_what_it_fails_at_does() {
    let (status, asked) = (Arc::new(AtomicU16::new(400)), Arc::new(AtomicU64::new(0)));
    let base = api(&status, &asked).await;
    let service = start(&format!(
        "[origin.api]\ntype = 'http'\nbase_url = '{base}'\n{LONG}\n[origin.other]\ntype = 'http'\nbase_url = '{base}'\n\
         [keyspace.a]\npattern = 'a:{{id}}'\nsource = {{ origin = 'api', load = 'GET /a/{{id}}' }}\n\
         [keyspace.b]\npattern = 'b:{{id}}'\nsource = {{ origin = 'other', load = 'GET /a/{{id}}' }}\n"
    ))
    .await;
    for refusal in [400, 404, 410, 414, 422, 401, 403] {
        status.store(refusal, Ordering::Relaxed);
        for number in 0..6 {
            service.get(&format!("/api/cache/a:{refusal}-{number}")).await;
        }
    }
    let well = breaker(&service, "origin.api").await;
    assert_eq!(
        (&well["state"], &well["calls"], &well["failures"]),
        (&"closed".into(), &42.into(), &0.into())
    );
    status.store(500, Ordering::Relaxed);
    // What succeeded counts in the window, too: as many have to fail.
    for number in 0..60 {
        service.get(&format!("/api/cache/a:f{number}")).await;
    }
    assert_eq!(breaker(&service, "origin.api").await["state"], "open");
    let before = asked.load(Ordering::Relaxed);
    assert_left_alone(&service.get("/api/cache/a:new").await, "api");
    assert_eq!(asked.load(Ordering::Relaxed), before, "it is not asked");
    status.store(200, Ordering::Relaxed);
    assert_eq!(service.get("/api/cache/b:new").await.status, 200, "each origin has a breaker of its own");
}

/// How long calls took is told of those that were made. What is refused here asks nobody, of one key or of many.
#[tokio::test]
async fn what_is_refused_because_an_origin_is_left_alone_is_no_call_that_took_so_long() {
    let (status, asked) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU64::new(0)));
    let base = api(&status, &asked).await;
    let service = start(&format!(
        "[origin.api]\ntype = 'http'\nbase_url = '{base}'\n{LONG}\n\
         [keyspace.a]\npattern = 'a:{{id}}'\nstrategy = 'write-through'\n\
         [keyspace.a.source]\norigin = 'api'\nload = 'GET /a/{{id}}'\nstore = 'PUT /a/{{id}}'\n"
    ))
    .await;
    let timed = async |op: &str, outcome: &str| {
        let labels = format!("keyspace=\"a\",op=\"{op}\",outcome=\"{outcome}\"");
        series(&service, &format!("terrace_origin_duration_seconds_count{{{labels}}}")).await
    };
    assert_eq!(service.get("/api/cache/a:1").await.status, 200);
    assert_eq!((timed("load", "ok").await, timed("load", "failed").await), (Some(1.0), Some(0.0)));
    status.store(503, Ordering::Relaxed);
    open(&service, "a", "origin.api").await;
    for number in 0..9 {
        assert_left_alone(&service.get(&format!("/api/cache/a:left{number}")).await, "api");
    }
    let batch = service.post("/api/cache/batch", r#"{"get":["a:left1","a:left2"]}"#).await;
    assert!(batch.body.contains("origin_left_alone"), "{batch:?}");
    let made = u32::try_from(asked.load(Ordering::Relaxed)).map(f64::from).expect("few");
    assert_eq!((timed("load", "ok").await, timed("load", "failed").await), (Some(1.0), Some(made - 1.0)));
    assert_eq!(timed("load_many", "failed").await, Some(0.0));
    let told = "terrace_origin_calls_total{origin=\"api\",calls=\"loads\",result=\"failed\"}";
    assert_eq!(series(&service, told).await, Some(made - 1.0));
    for number in 0..9 {
        assert!(service.put(&format!("/api/cache/a:{number}"), r#"{"value":1}"#).await.status >= 500);
    }
    let writes = async |result: &str| {
        let labels = format!("origin=\"api\",calls=\"writes\",result=\"{result}\"");
        series(&service, &format!("terrace_origin_calls_total{{{labels}}}")).await.expect("a number")
    };
    let made = f64::from(u32::try_from(asked.load(Ordering::Relaxed)).expect("few")) - made;
    assert_eq!((timed("store", "failed").await, writes("failed").await), (Some(made), made));
    assert_eq!((made > 0.0, Some(writes("rejected").await)), (true, Some(9.0 - made)));
}

#[tokio::test]
async fn a_key_at_which_an_api_always_fails_does_not_shut_off_the_others() {
    let failing = get(async |Path(id): Path<String>| {
        let status = id.strip_prefix("bad").and_then(|status| status.parse().ok()).unwrap_or(200);
        (StatusCode::from_u16(status).expect("a status"), "{}")
    });
    let base = serve(Router::new().route("/a/{id}", failing)).await;
    let service = start(&format!(
        "[origin.api]\ntype = 'http'\nbase_url = '{base}'\n{LONG}\n\
         [keyspace.a]\npattern = 'a:{{id}}'\nsource = {{ origin = 'api', load = 'GET /a/{{id}}' }}\n"
    ))
    .await;
    for number in 0..6 {
        assert_eq!(service.get(&format!("/api/cache/a:good{number}")).await.status, 200);
    }
    for status in [429, 500, 503, 504] {
        for _ in 0..24 {
            let seen = if [429, 503].contains(&status) { (503, "origin_busy") } else { (502, "") };
            let answer = service.get(&format!("/api/cache/a:bad{status}")).await;
            assert_eq!((answer.status, answer.body.contains(seen.1)), (seen.0, true), "{answer:?}");
        }
    }
    assert_eq!(service.get("/api/cache/a:good").await.status, 200);
    let well = breaker(&service, "origin.api").await;
    assert_eq!((&well["state"], &well["failures"]), (&"closed".into(), &96.into()));
}

#[tokio::test]
async fn a_gateway_that_has_nothing_behind_it_is_left_alone_whatever_it_is_asked_for() {
    for keys in [1, 99] {
        let (status, asked) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU64::new(0)));
        let base = api(&status, &asked).await;
        let service = start(&format!(
            "[origin.api]\ntype = 'http'\nbase_url = '{base}'\n{LONG}\n\
             [keyspace.a]\npattern = 'a:{{id}}'\nsource = {{ origin = 'api', load = 'GET /a/{{id}}' }}\n"
        ))
        .await;
        status.store(503, Ordering::Relaxed);
        for number in 0..4 {
            service.get(&format!("/api/cache/a:{}", number % keys)).await.problem(503, "origin_busy");
        }
        assert_left_alone(&service.get("/api/cache/a:0").await, "api");
        assert_eq!(asked.load(Ordering::Relaxed), 4);
    }
}

#[tokio::test]
async fn a_key_at_which_an_api_always_fails_does_not_keep_it_from_the_others() {
    let is_down = Arc::new(AtomicU16::new(1));
    let down = Arc::clone(&is_down);
    let failing = get(async move |Path(id): Path<String>| match id.as_str() {
        "bad" => StatusCode::INTERNAL_SERVER_ERROR,
        _ if down.load(Ordering::Relaxed) == 1 => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::NOT_FOUND,
    });
    let base = serve(Router::new().route("/a/{id}", failing)).await;
    let service = start(&format!(
        "[origin.api]\ntype = 'http'\nbase_url = '{base}'\nbreaker = {{ min_calls = 4, open = '2s' }}\n\
         [keyspace.a]\npattern = 'a:{{id}}'\nsource = {{ origin = 'api', load = 'GET /a/{{id}}' }}\n"
    ))
    .await;
    open(&service, "a", "origin.api").await;
    is_down.store(0, Ordering::Relaxed);
    // It is asked for all the time, so it is what is asked for when the first probe is due.
    until_some("a probe that fails", async || {
        (service.get("/api/cache/a:bad").await.status == 502).then_some(())
    })
    .await;
    until_some("another that is due", async || {
        let bad = service.get("/api/cache/a:bad").await;
        assert_left_alone(&bad, "api");
        (breaker(&service, "origin.api").await["state"] == "half_open").then_some(())
    })
    .await;
    assert_eq!(service.get("/api/cache/a:good").await.status, 404);
    assert_eq!(breaker(&service, "origin.api").await["state"], "closed");
}

#[tokio::test]
async fn a_key_for_which_a_database_has_not_enough_memory_does_not_shut_off_the_others() {
    let Some(schema) = Schema::create().await else { return };
    let (url, name) = (&schema.url, &schema.name);
    let doc = format!(
        "create function {name}.doc(id text) returns jsonb language plpgsql as $$ begin
         if id = 'bad' then raise exception 'too much' using errcode = '53200'; end if;
         return to_jsonb(id); end $$"
    );
    schema.client.batch_execute(&doc).await.expect("a function");
    let service = start(&format!(
        "[origin.main]\ntype = 'postgres'\nurl = '{url}'\n{LONG}\n\
         [keyspace.docs]\npattern = 'doc:{{id}}'\n\
         source = {{ origin = 'main', document = 'doc', load = 'select {name}.doc(:id) as doc' }}\n"
    ))
    .await;
    for number in 0..3 {
        assert_eq!(service.get(&format!("/api/cache/doc:{number}")).await.status, 200);
    }
    for _ in 0..9 {
        service.get("/api/cache/doc:bad").await.problem(502, "origin_unavailable");
    }
    assert_eq!(service.get("/api/cache/doc:9").await.status, 200);
    schema.remove().await;
}

#[tokio::test]
async fn writes_that_wait_for_a_lock_shut_off_no_reads() {
    let Some(schema) = Schema::create().await else { return };
    let (url, docs) = (&schema.url, format!("{}.docs", schema.name));
    let rows = format!(
        "create table {docs} (id text primary key, doc jsonb); insert into {docs} select i::text, '1' from generate_series(1, 9) i"
    );
    schema.client.batch_execute(&rows).await.expect("rows");
    let service = start(&format!(
        "[origin.main]\ntype = 'postgres'\nurl = '{url}'\nstatement_timeout = '50ms'\n{LONG}\n\
         [keyspace.docs]\npattern = 'doc:{{id}}'\nstrategy = 'write-through'\n\
         [keyspace.docs.source]\norigin = 'main'\ndocument = 'doc'\nload = 'select doc from {docs} where id = :id'\n\
         store = 'update {docs} set doc = :value where id = :id'\n"
    ))
    .await;
    let mut holder = table(url).await;
    let lock = holder.transaction().await.expect("it begins");
    lock.batch_execute(&format!("lock table {docs} in exclusive mode")).await.expect("nobody else has it");
    for number in 1..=4 {
        let answer = service.put(&format!("/api/cache/doc:{number}"), r#"{"value":2}"#).await;
        assert!([502, 503, 504].contains(&answer.status), "{answer:?}");
    }
    assert_eq!(breaker(&service, "origin.main.writes").await["state"], "open");
    assert_left_alone(&service.put("/api/cache/doc:9", r#"{"value":2}"#).await, "main");
    assert_eq!(breaker(&service, "origin.main").await["state"], "closed");
    for number in 1..=9 {
        assert_eq!(service.get(&format!("/api/cache/doc:{number}")).await.status, 200, "it is read");
    }
    let ready: Value = serde_json::from_str(&service.get("/readyz?verbose").await.body).expect("JSON");
    let is_shut = |name: &str| {
        let checks = ready["checks"].as_array().expect("a list");
        checks.iter().find(|check| check["check"] == name).map(|check| check["ok"] == false)
    };
    assert_eq!((is_shut("origin.main"), is_shut("origin.main.writes")), (Some(false), Some(true)), "{ready}");
    let of = |calls: &str| {
        format!("terrace_origin_breaker_state{{origin=\"main\",calls=\"{calls}\",state=\"open\"}}")
    };
    assert_eq!(
        (series(&service, &of("loads")).await, series(&service, &of("writes")).await),
        (Some(0.0), Some(1.0))
    );
    drop(lock);
    schema.remove().await;
}

#[tokio::test]
async fn reads_that_fail_shut_off_no_writes() {
    let route = get(async || StatusCode::INTERNAL_SERVER_ERROR).merge(put(async || StatusCode::NO_CONTENT));
    let base = serve(Router::new().route("/a/{id}", route)).await;
    let service = start(&format!(
        "[origin.api]\ntype = 'http'\nbase_url = '{base}'\n{LONG}\n\
         [keyspace.a]\npattern = 'a:{{id}}'\nstrategy = 'write-around'\n\
         source = {{ origin = 'api', load = 'GET /a/{{id}}', store = 'PUT /a/{{id}}' }}\n"
    ))
    .await;
    open(&service, "a", "origin.api").await;
    assert_eq!(service.put("/api/cache/a:1", r#"{"value":2}"#).await.status, 200);
    let writes = breaker(&service, "origin.api.writes").await;
    assert_eq!((&writes["state"], &writes["calls"]), (&"closed".into(), &1.into()));
}

#[tokio::test]
async fn a_reload_that_leaves_an_origin_as_it_was_leaves_its_breaker_open() {
    let toml = |more: &str| {
        format!(
            "[origin.main]\ntype = 'postgres'\nurl = 'postgres://nobody@127.0.0.1:1/none'\n{LONG}\n\
             [keyspace.a]\npattern = 'a:{{id}}'\nsource = {{ origin = 'main', load = 'select :id as id' }}\n{more}"
        )
    };
    let service = start(&toml("")).await;
    open(&service, "a", "origin.main").await;
    service.reload(&toml("[keyspace.b]\npattern = 'b:{id}'\n")).await.expect("it is taken");
    assert_left_alone(&service.get("/api/cache/a:1").await, "main");
    let anew = toml("").replace("10m", "9m");
    service.reload(&anew).await.expect("it is taken");
    assert_eq!(
        breaker(&service, "origin.main").await["state"],
        "closed",
        "other settings are another breaker"
    );
    let body = r#"{"get":["a:1","a:2","a:3","a:4","a:5","a:6","a:7","a:8"]}"#;
    service.post("/api/cache/batch", body).await;
    assert_eq!(breaker(&service, "origin.main").await["state"], "open");
    let wrong = crate::support::refused(&toml("").replace("min_calls = 4", "min_calls = 0"));
    assert!(wrong.contains("min_calls") && wrong.contains("at least 1"), "{wrong}");
}

#[tokio::test]
async fn what_is_refused_without_asking_neither_closes_it_nor_keeps_it_open() {
    let (status, asked) = (Arc::new(AtomicU16::new(500)), Arc::new(AtomicU64::new(0)));
    let base = api(&status, &asked).await;
    let service = start(&format!(
        "[origin.api]\ntype = 'http'\nbase_url = '{base}'\n{QUICK}\n\
         [keyspace.a]\npattern = 'a:{{id}}'\nsource = {{ origin = 'api', load = 'GET /a/{{id}}' }}\n"
    ))
    .await;
    for number in 0..4 {
        assert_eq!(service.get(&format!("/api/cache/a:{number}")).await.status, 502);
    }
    assert_eq!(breaker(&service, "origin.api").await["state"], "open");
    let before = asked.load(Ordering::Relaxed);
    // Long enough for the probe to be due: whatever is asked now could be it.
    pause(Duration::from_secs(1)).await;
    for _ in 0..8 {
        service.get("/api/cache?key=a:..").await.problem(400, "key_refused");
    }
    assert_eq!(breaker(&service, "origin.api").await["state"], "half_open");
    assert_eq!(asked.load(Ordering::Relaxed), before, "nothing was asked");
    status.store(200, Ordering::Relaxed);
    assert_eq!(service.get("/api/cache/a:new").await.status, 200, "the probe was still to be had");
    assert_eq!(breaker(&service, "origin.api").await["state"], "closed");
}

#[tokio::test]
async fn a_crowd_that_waits_here_says_nothing_of_the_origin() {
    let never = get(async || std::future::pending::<StatusCode>().await);
    let base = serve(Router::new().route("/a/{id}", never)).await;
    let service = start(&format!(
        "[origin.api]\ntype = 'http'\nbase_url = '{base}'\ntimeout = '2s'\nconcurrency = 1\n{LONG}\n\
         [keyspace.a]\npattern = 'a:{{id}}'\nsource = {{ origin = 'api', load = 'GET /a/{{id}}' }}\n"
    ))
    .await;
    let paths: Vec<String> = (0..24).map(|number| format!("/api/cache/a:{number}")).collect();
    let answers = join_all(paths.iter().map(|path| service.get(path))).await;
    let waited = answers.iter().filter(|answer| answer.body.contains("does not take this now")).count();
    // One was asked, and perhaps one more when that was given up.
    assert!(waited >= 22, "{answers:?}");
    let well = breaker(&service, "origin.api").await;
    assert_eq!(well["state"], "closed", "{well}");
    assert!(well["failures"].as_u64().is_some_and(|failures| failures <= 2), "{well}");
}
