//! Another configuration for a service that runs: what changes, what is refused, and that nobody notices.

use crate::authority::Authority;
use crate::log::Log;
use crate::support::{Client, Running, beside, start, token};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use terrace::KeyspaceError;
use terrace_server::{ReloadError, Stop};
use terrace_testkit::server::{RedisServer, unique_prefix};

/// A database with two tables of the same rows.
fn database(folder: &Path) -> Connection {
    let database = Connection::open(folder.join("ref.db")).expect("a database");
    let tables = "create table one (id integer primary key, name text); insert into one values (1, 'one'), (2, 'two');
                  create table two (id integer primary key, name text); insert into two values (1, 'uno'), (2, 'due');";
    database.execute_batch(tables).expect("two tables");
    database
}

/// A configuration with a keyspace of rows and one of entries.
fn toml(folder: &Path, table: &str, rest: &str) -> String {
    let file = folder.join("ref.db");
    format!(
        "[origin.lite]\ntype = 'sqlite'\nfile = '{}'\npool = 1\n[keyspace.rows]\npattern = 'row:{{id}}'\n\
         source = {{ origin = 'lite', load = 'select name from {table} where id = :id' }}\n\
         [keyspace.entries]\npattern = 'entry:{{id}}'\n{rest}\n",
        file.display()
    )
}

async fn value(service: &Running, key: &str) -> Option<serde_json::Value> {
    let answer = service.get(&format!("/api/cache/{key}")).await;
    let body: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    (answer.status == 200).then(|| body["value"].clone())
}

async fn gauge(service: &Running) -> String {
    let metrics = service.get("/metrics").await.body;
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    let line = metrics.lines().find(|line| line.starts_with("terrace_config_reload_success "));
    line.expect("the metric is there").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_reloads_disturb_no_request() {
    const RELOADS: usize = 50;
    let folder = tempfile::tempdir().expect("a folder");
    let _database = database(folder.path());
    let service = Arc::new(start(&toml(folder.path(), "one", "ttl = '1h'")).await);
    let (is_over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = Vec::new();
    for client in 0..4 {
        let (service, is_over, served) = (Arc::clone(&service), Arc::clone(&is_over), Arc::clone(&served));
        clients.push(beside(async move {
            for turn in 0_u64.. {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let key = format!("entry:{client}-{turn}");
                let put = service.put(&format!("/api/cache/{key}"), &format!("{{\"value\":{turn}}}")).await;
                assert_eq!(put.status, 200, "{put:?}");
                assert_eq!(value(&service, &key).await, Some(turn.into()), "an acknowledged write is there");
                let row = format!("row:{}", 1 + turn % 2);
                let name = value(&service, &row).await.expect("the row is there")["name"].clone();
                assert!(["one", "uno", "two", "due"].contains(&name.as_str().expect("a text")), "{name}");
                let invalidated =
                    service.post("/api/cache/invalidate", &format!("{{\"keys\":[\"{row}\"]}}")).await;
                assert_eq!(invalidated.status, 200, "{invalidated:?}");
                served.fetch_add(4, Ordering::Relaxed);
            }
        }));
    }
    for turn in 0..RELOADS {
        let before = served.load(Ordering::Relaxed);
        let (table, pool) = if turn % 2 == 0 { ("two", 2) } else { ("one", 1) };
        let more =
            format!("ttl = '{}m'\n[keyspace.n{}]\npattern = 'n{}:{{id}}'", turn + 1, turn % 3, turn % 2);
        let toml = toml(folder.path(), table, &more).replace("pool = 1", &format!("pool = {pool}"));
        let changed = service.reload(&toml).await.unwrap_or_else(|error| panic!("{error}"));
        for setting in ["origin.lite.pool", "keyspace.rows.source.load", "keyspace.entries.ttl"] {
            assert!(changed.iter().any(|changed| changed == setting), "{setting} in {changed:?}");
        }
        while served.load(Ordering::Relaxed) < before + 8 {
            tokio::task::yield_now().await;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no request was disturbed");
    }
    assert!(served.load(Ordering::Relaxed) >= RELOADS * 8);
    assert_eq!(gauge(&service).await, "terrace_config_reload_success 1");
    let service = Arc::into_inner(service).expect("the clients have ended");
    assert!(service.stop(Stop::Now).await.is_clean());
}

#[tokio::test]
async fn what_cannot_change_is_refused_by_name_and_nothing_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let _database = database(folder.path());
    let plain = toml(folder.path(), "one", "");
    let service = start(&plain).await;
    for (setting, name) in [
        ("l1.max_entries = 5", "l1.max_entries"),
        ("server.max_connections = 5", "server.max_connections"),
        ("server.shutdown.grace = 1", "server.shutdown.grace"),
        ("write_behind.path = 'j'", "write_behind.path"),
        ("metrics.enabled = false", "metrics.enabled"),
        ("metrics.hot_keys = 0", "metrics.hot_keys"),
        ("telemetry.log = 'json'", "telemetry.log"),
        ("l2.url = 'redis://127.0.0.1:1'", "l2.url"),
        ("bus.mode = 'plain'", "bus.mode"),
    ] {
        let other = format!("{setting}\n{}", toml(folder.path(), "two", "ttl = 7"));
        let error = service.reload(&other).await.expect_err(setting);
        assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        let ReloadError::Fixed(names) = error else { panic!("{error:?}") };
        assert!(names.contains(&name.to_owned()), "{names:?}");
        assert_eq!(gauge(&service).await, "terrace_config_reload_success 0");
    }
    assert_eq!(value(&service, "row:1").await, Some(serde_json::json!({ "name": "one" })), "the old source");
    let changed = service.reload(&format!("server.max_body = 20\n{plain}")).await.expect("that can change");
    assert_eq!(changed, ["server.max_body"]);
    let refused = service.put("/api/cache/entry:1", "{\"value\":\"as long as it may not be\"}").await;
    assert_eq!(refused.status, 413);
    assert_eq!(gauge(&service).await, "terrace_config_reload_success 1");
    assert!(
        service.reload(&format!("server.max_body = 20\n{plain}")).await.expect("it is the same").is_empty()
    );
}

#[tokio::test]
async fn only_credentials_and_certificates_that_are_others_are_noted() {
    let (log, authority) = (Log::of_this_thread(), Authority::new());
    let tls = authority.toml("");
    let toml = |ttl: &str, name: &str| {
        format!("{tls}defaults.ttl = '{ttl}'\n{}", token(name, name, "scopes = ['read:*']"))
    };
    let service = start(&toml("1m", "one")).await;
    let noted = || log.text().matches("replace credentials and certificates").count();
    service.reload(&toml("2m", "one")).await.expect("it can change");
    service.reload(&toml("2m", "one")).await.expect("nothing has changed");
    assert_eq!(noted(), 0, "{}", log.text());
    service.reload(&toml("2m", "two")).await.expect("it can change");
    assert_eq!(noted(), 1, "another token");
    authority.write_service();
    service.reload(&toml("2m", "two")).await.expect("it can change");
    assert_eq!(noted(), 2, "another certificate in a file of the same name");
}

#[tokio::test]
async fn a_bad_file_keeps_the_old_one_and_readers_of_events_hear_of_it() {
    let service = Arc::new(start("[keyspace.a]\npattern = 'a:{id}'\nttl = '1h'\n").await);
    let reading = {
        let service = Arc::clone(&service);
        beside(async move {
            let request =
                "GET /api/cache/events?types=config HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n";
            service.raw_until(request.as_bytes(), "\"taken\"").await
        })
    };
    // The reader has come when a change of the configuration reaches it.
    let mut turns = 0;
    while !reading.is_finished() {
        let error = service.reload("[keyspace.a]\npatern = 'a:{id}'\n").await.expect_err("a wrong name");
        let text = error.to_string();
        for part in ["patern", "^^^^^^", "did you mean `pattern`?", ":2:1"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        let ready = service.get("/readyz?verbose").await;
        assert_eq!((ready.status, ready.body.contains("\"degraded\":[]")), (200, true), "{ready:?}");
        assert!(ready.body.contains(r#"{"check":"config","state":"refused","ok":false}"#), "{ready:?}");
        turns += 1;
        let ttl = format!("[keyspace.a]\npattern = 'a:{{id}}'\nttl = '{turns}m'\n");
        assert_eq!(service.reload(&ttl).await.expect("it is right"), ["keyspace.a.ttl"]);
    }
    let ready = service.get("/readyz?verbose").await;
    assert!(ready.body.contains(r#"{"check":"config","state":"ok","ok":true}"#), "{ready:?}");
    let events = reading.await.expect("it ends");
    assert!(events.contains("event: config\ndata: {\"at\":\""), "{events}");
    assert!(events.contains("\"settings\":[\"keyspace.a.ttl\"],\"state\":\"taken\""), "{events}");
    assert!(!events.contains("patern"), "the file is not for everybody: {events}");
    service.put("/api/cache/a:1", "{\"value\":1}").await;
    let entry = service.get("/api/cache/a:1?verbose=true").await.body;
    let entry: serde_json::Value = serde_json::from_str(&entry).expect("JSON");
    let ttl = entry["ttl"].as_f64().expect("a number");
    assert!(ttl <= f64::from(turns) * 60.0, "the new TTL: {ttl}");
}

#[tokio::test]
async fn keys_that_change_their_keyspace_begin_without_old_entries() {
    let (with, without) = ("[keyspace.a]\npattern = 'a:{id}'\n", "");
    let service = start(with).await;
    let put = async |number: u32| {
        let answer = service.put("/api/cache/a:1", &format!("{{\"value\":{number}}}")).await;
        assert_eq!(answer.status, 200);
    };
    put(1).await;
    service.reload(without).await.expect("a keyspace may go");
    assert_eq!(value(&service, "a:1").await, None, "it is in another keyspace");
    put(2).await;
    service.reload(with).await.expect("a keyspace may come back");
    assert_eq!(value(&service, "a:1").await, None, "not 1, which is older than 2");
    put(3).await;
    service.reload("[keyspace.a]\npattern = 'a:{id}:x'\n").await.expect("a pattern may change");
    assert_eq!(value(&service, "a:1").await, None, "not 2, which is older than 3");
    service.put("/api/cache/b:1", "{\"value\":4}").await;
    service.reload("[keyspace.a]\npattern = 'a:{id}'\n").await.expect("a pattern may change back");
    assert_eq!(value(&service, "b:1").await, Some(4.into()), "what does not move stays");
}

#[tokio::test]
async fn strategies_and_sources_change_but_not_what_is_written_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = database(folder.path());
    let service = start(&toml(folder.path(), "one", "")).await;
    let name = |id: u32| {
        let row = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        database.query_row("select name from one where id = ?", [id], row).expect("the row")
    };
    service.put("/api/cache/row:1", "{\"value\":\"new\"}").await;
    assert_eq!(name(1), "one", "a read-through keyspace writes to no origin");
    let store = "store = 'update one set name = :value where id = :id', load = ";
    let through = toml(folder.path(), "one", "")
        .replace("load = ", store)
        .replace("pattern = 'row:{id}'", "pattern = 'row:{id}'\nstrategy = 'write-through'");
    service.reload(&through).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(service.put("/api/cache/row:1", "{\"value\":\"new\"}").await.status, 200);
    assert_eq!(name(1), "\"new\"", "the value is JSON");

    let journal = format!("write_behind.path = '{}'\n", folder.path().join("journal").display());
    let behind = format!("{journal}{}", through.replace("write-through", "write-behind"));
    let error = service.reload(&behind).await.expect_err("the journal is opened at the start");
    assert!(error.to_string().contains("write_behind.path"), "{error}");
    drop(service);
    let service = start(&behind).await;
    for (other, name) in [
        (behind.replace("write-behind", "write-through"), "keyspace.rows.strategy"),
        (behind.replace("set name", "set  name"), "keyspace.rows.source.store"),
        (behind.replace("pool = 1", "pool = 2"), "origin.lite.pool"),
        (behind.replace("row:{id}", "rows:{id}"), "keyspace.rows.pattern"),
        (
            behind.replace("strategy = ", "l1.enabled = true\nwrite_behind.interval = 5\nstrategy = "),
            "keyspace.rows.write_behind.interval",
        ),
    ] {
        let ReloadError::Fixed(names) = service.reload(&other).await.expect_err(name) else {
            panic!("{name}")
        };
        assert!(names.contains(&name.to_owned()), "{name} in {names:?}");
    }
    let other = behind.replace("strategy = ", "ttl = '5m'\nstrategy = ");
    assert_eq!(service.reload(&other).await.expect("a TTL may change"), ["keyspace.rows.ttl"]);
    assert_eq!(service.put("/api/cache/row:2", "{\"value\":\"later\"}").await.status, 202);
    assert_eq!(service.post("/api/cache/behind/rows/flush", "").await.status, 200);
    assert_eq!(name(2), "\"later\"", "what is written behind goes on to its origin");
}

#[tokio::test]
async fn tokens_come_and_go_with_the_rest_or_not_at_all() {
    let toml = |secret: &str, ttl: &str, more: &str| {
        let all = "scopes = ['read:*', 'write:*', 'admin']";
        format!("{}{more}[keyspace.a]\npattern = 'a:{{id}}'\nttl = '{ttl}'\n", token("web", secret, all))
    };
    let service = start(&toml("one", "1h", "")).await;
    let ask = async |secret: &str| {
        let mut client = Client::of(&service).await;
        client.ask(secret, "PUT", "/api/cache/a:1", "{\"value\":1}").await.status
    };
    assert_eq!((ask("one").await, ask("two").await), (200, 401));
    let changed = service.reload(&toml("two", "1h", "")).await.expect("tokens may change");
    assert!(!changed.is_empty() && changed.iter().all(|changed| changed.starts_with("auth.")), "{changed:?}");
    assert_eq!((ask("one").await, ask("two").await), (401, 200));

    let tenant = token("acme", "three", "tenant = 'acme'\nscopes = ['read:*', 'write:*']");
    let authority = Authority::new();
    let switched = format!("{}{}", authority.toml(""), toml("four", "1m", &tenant));
    let error = service.reload(&switched).await.expect_err("a listener has TLS or not");
    assert!(matches!(error, ReloadError::Security(_)), "{error}");
    let error = service.reload(&format!("l1.max_entries = 5\n{}", toml("four", "1m", &tenant))).await;
    assert!(matches!(error, Err(ReloadError::Fixed(_))), "{error:?}");
    assert_eq!((ask("two").await, ask("three").await, ask("four").await), (200, 401, 401));
    let mut client = Client::of(&service).await;
    let metrics = client.ask("two", "GET", "/metrics", "").await.body;
    assert!(metrics.contains("\"default\"") && !metrics.contains("acme"), "nothing of the tenant is left");
    let mut client = Client::of(&service).await;
    let entry = client.ask("two", "GET", "/api/cache/a:1?verbose=true", "").await.body;
    let entry: serde_json::Value = serde_json::from_str(&entry).expect("JSON");
    assert!(entry["ttl"].as_f64() > Some(60.0), "the keyspace is as it was: {entry}");
}

#[tokio::test]
async fn tenants_keyspaces_change_with_those_of_everybody() {
    let toml = |ttl: &str, more: &str| {
        let tenant = token("acme", "secret", "tenant = 'acme'\nscopes = ['read:*', 'write:*']");
        format!("{tenant}[keyspace.a]\npattern = 'a:{{id}}'\nttl = '{ttl}'\n{more}")
    };
    let service = start(&toml("1h", "")).await;
    service
        .reload(&toml("1m", "[keyspace.b]\npattern = 'b:{id}'\n"))
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let mut client = Client::of(&service).await;
    for key in ["a:1", "b:1"] {
        let path = format!("/api/cache/{key}");
        assert_eq!(client.ask("secret", "PUT", &path, "{\"value\":1}").await.status, 200);
        let entry = client.ask("secret", "GET", &format!("{path}?verbose=true"), "").await.body;
        let entry: serde_json::Value = serde_json::from_str(&entry).expect("JSON");
        assert_eq!(entry["ttl"].as_f64() <= Some(60.0), key == "a:1", "{entry}");
    }
}

#[tokio::test]
async fn what_is_a_tenants_is_nobody_elses_in_the_same_process() {
    let scopes = "scopes = ['read:*', 'write:*']";
    let (all, tenant) = (token("all", "all", scopes), token("x", "x", &format!("tenant = 'x'\n{scopes}")));
    let named = "[keyspace.x--users]\npattern = 'user:{id}'\n";
    let plain = "[keyspace.users]\npattern = 'user:{id}'\n";
    let service = start(&format!("{all}{named}")).await;
    let ask = async |secret: &str, method: &str, body: &str| {
        Client::of(&service).await.ask(secret, method, "/api/cache/user:1", body).await
    };
    assert_eq!(ask("all", "PUT", "{\"value\":\"of nobody in particular\"}").await.status, 200);
    let error = service.reload(&format!("{all}{tenant}{plain}")).await.expect_err("the tenant would have it");
    assert!(error.to_string().contains("`keyspace.x--users`"), "{error}");
    assert_eq!((ask("all", "GET", "").await.status, ask("x", "GET", "").await.status), (200, 401));

    let service = start(&format!("{all}{tenant}{plain}")).await;
    let ask = async |secret: &str, method: &str, body: &str| {
        Client::of(&service).await.ask(secret, method, "/api/cache/user:1", body).await
    };
    assert_eq!(ask("x", "PUT", "{\"value\":\"of x\"}").await.status, 200);
    let error = service.reload(&format!("{all}{named}")).await.expect_err("everybody would have it");
    assert!(error.to_string().contains("`keyspace.x--users`"), "{error}");
    assert_eq!((ask("all", "GET", "").await.status, ask("x", "GET", "").await.status), (404, 200));
    service.reload(&format!("{all}{plain}")).await.expect("the tenant may go");
    assert_eq!((ask("all", "GET", "").await.status, ask("x", "GET", "").await.status), (404, 401));
}

#[tokio::test]
async fn nobody_comes_in_by_a_configuration_whose_keyspaces_cannot_be_opened() {
    let scopes = "scopes = ['read:*', 'write:*']";
    let all = token("all", "all", scopes);
    let long = token("long", "long", &format!("tenant = 'abcdefghijkl'\n{scopes}"));
    let service = start(&format!("{all}{long}")).await;
    service.reload(&all).await.expect("the tenant may go");
    let keyspace = "[keyspace.names-of-20-characters]\npattern = 'n:{id}'\n";
    assert_eq!(keyspace.find(']').expect("a name") - "[keyspace.".len(), 22);
    let new = token("new", "new", &format!("tenant = 'new'\n{scopes}")) + &token("other", "other", scopes);
    let error =
        service.reload(&format!("{all}{new}{keyspace}")).await.expect_err("too long for the first tenant");
    assert!(matches!(error, ReloadError::Keyspace(_)), "{error}");
    let ask = async |secret: &str| {
        Client::of(&service).await.ask(secret, "PUT", "/api/cache/k", "{\"value\":1}").await.status
    };
    assert_eq!((ask("all").await, ask("new").await, ask("long").await), (200, 401, 401));
    assert_eq!(ask("other").await, 401, "the old tokens are in force, all of them and no others");
    service.reload(&format!("{all}{long}{new}")).await.expect("what was refused is in nobody's way");
    assert_eq!((ask("all").await, ask("new").await, ask("long").await), (200, 200, 200));
}

/// What a reload brings that is refused later than its keyspaces are opened, of which one is written behind.
fn with_lane(folder: &Path, ttl: &str, more: &str) -> String {
    let statements =
        "load = 'select name from one where id = :id', store = 'update one set name = :value where id = :id'";
    let lane = "pattern = 'later:{id}'\nstrategy = 'write-behind'\nsource = { origin = 'lite', ";
    toml(folder, "one", &format!("ttl = '{ttl}'\n[keyspace.later]\n{lane}{statements} }}\n{more}"))
}

#[tokio::test]
async fn a_refused_reload_that_opened_a_lane_leaves_all_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let _database = database(folder.path());
    let Some(redis) = RedisServer::start().await else { return };
    let scopes = "scopes = ['read:*', 'write:*', 'admin']";
    let all = token("all", "all", scopes);
    let long = token("long", "long", &format!("tenant = 'abcdefghijkl'\n{scopes}"));
    let l2 = format!("[l2]\nurl = '{}'\nkey_prefix = '{}'\n", redis.url(), unique_prefix());
    let too_long = "[keyspace.names-of-20-characters]\npattern = 'n:{id}'\n";
    for (fixed, tokens, more) in [(l2.as_str(), "", ""), ("", all.as_str(), too_long)] {
        let journal = folder.path().join(format!("journal-{}", more.len()));
        let of = |keyspaces: &str| {
            format!("write_behind.path = '{}'\n{fixed}{tokens}{keyspaces}", journal.display())
        };
        let plain = |ttl: &str| of(&toml(folder.path(), "one", &format!("ttl = '{ttl}'")));
        let tenant = if tokens.is_empty() { "" } else { &long };
        let told_apart = plain("1h").replace("id = :id'", "id = :id and :tenant is not 0'");
        let service = start(&format!("{told_apart}{tenant}")).await;
        service.reload(&plain("1h")).await.unwrap_or_else(|error| panic!("{error}"));
        let ttl = async || {
            let mut client = Client::of(&service).await;
            let put = client.ask("all", "PUT", "/api/cache/entry:1", "{\"value\":1}").await;
            assert_eq!(put.status, 200, "{put:?}");
            let entry = client.ask("all", "GET", "/api/cache/entry:1?verbose=true", "").await.body;
            let entry: serde_json::Value = serde_json::from_str(&entry).expect("JSON");
            entry["ttl"].as_f64().expect("a number")
        };
        assert!(ttl().await > 3000.0);
        // What a keyspace that moves has is swept by a script.
        redis.cli(&["acl", "setuser", "default", "-eval", "-evalsha"]).await;
        let error = service.reload(&of(&with_lane(folder.path(), "1m", more))).await.expect_err("refused");
        redis.cli(&["acl", "setuser", "default", "+@all"]).await;
        let is_first = if more.is_empty() {
            matches!(error, ReloadError::Sweep(_))
        } else {
            matches!(error, ReloadError::Keyspace(KeyspaceError::Name(_)))
        };
        assert!(is_first, "{error:?}");
        assert!(ttl().await > 3000.0, "the old settings");
        let changed = service.reload(&plain("2m")).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(changed, ["keyspace.entries.ttl"], "what was refused is in nobody's way");
        assert!(ttl().await < 121.0);
    }
}

#[tokio::test]
async fn what_would_be_a_tenants_that_was_here_is_nobody_elses_although_it_was_never_opened() {
    let scopes = "scopes = ['read:*', 'write:*']";
    let (op, acme) = (token("op", "op", scopes), token("a", "a", &format!("tenant = 'acme'\n{scopes}")));
    let service = start(&format!("{op}{acme}")).await;
    let both = "[keyspace.x]\npattern = 'x:{id}'\n[keyspace.acme--x]\npattern = 'y:{id}'\n";
    for keyspaces in [both, "[keyspace.acme--x]\npattern = 'y:{id}'\n"] {
        let error = service.reload(&format!("{op}{keyspaces}")).await.expect_err("it would be the tenant's");
        let ReloadError::Fixed(names) = error else { panic!("{error:?}") };
        assert_eq!(names, ["keyspace.acme--x"]);
    }
    service.reload(&format!("{op}[keyspace.x]\npattern = 'x:{{id}}'\n")).await.expect("another name may");
}
