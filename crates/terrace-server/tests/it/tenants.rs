//! Tenants: whatever one of them asks for, nothing of another is in the answer, and nothing of another changes, also while tenants come
//! and go.

use crate::http_api::Api;
use crate::support::{Answer, Client, Running, beside, refused, start, token};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use terrace_server::config::{Config, Sources};
use terrace_testkit::wait::until_some;

/// Requests in the short form; `TERRACE_TEST_TENANT_CASES` sets another number.
const CASES: u64 = 3_000;
const ALL: &str = "scopes = ['read:*', 'write:*', 'invalidate:*', 'admin']";

/// Who asks: a token, a word that is in every value of theirs and in nobody else's, and what their keyspaces are called.
struct Party {
    token: &'static str,
    mark: &'static str,
    row: &'static str,
    kept: BTreeMap<String, String>,
}

impl Party {
    fn all() -> [Self; 3] {
        let party = |token, mark, row| Self { token, mark, row, kept: BTreeMap::new() };
        [
            party("token-a", "MARK-A", "ROW-A"),
            party("token-b", "MARK-B", "ROW-B"),
            party("token-0", "MARK-0", "ROW-0"),
        ]
    }
}

fn database() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rows.db");
    let rows = "create table t (tenant text, id text, v text);
        insert into t values ('a', '1', 'ROW-A'), ('a', '2', 'ROW-A'), ('b', '1', 'ROW-B'), ('b', '3', 'ROW-B'),
            (null, '1', 'ROW-0'), (null, '4', 'ROW-0');";
    rusqlite::Connection::open(&file).and_then(|connection| connection.execute_batch(rows)).expect("rows");
    let file = file.display().to_string();
    (folder, file)
}

fn toml(file: &str) -> String {
    let [a, b, zero] = Party::all();
    format!(
        "[origin.lite]\ntype = 'sqlite'\nfile = '{file}'\n\
         [keyspace.rows]\npattern = 'row:{{id}}'\n\
         source = {{ origin = 'lite', load = 'select v from t where tenant is :tenant and id = :id' }}\n\
         [keyspace.users]\npattern = 'user:{{id}}'\n{}{}{}",
        token("a", a.token, &format!("{ALL}\ntenant = 'a'")),
        token("b", b.token, &format!("{ALL}\ntenant = 'b'")),
        token("zero", zero.token, ALL),
    )
}

/// Numbers from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, count: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % count
    }

    fn of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        let place = self.below(all.len() as u64);
        &all[usize::try_from(place).expect("a place")]
    }
}

const KEYS: [&str; 12] = [
    "user:1",
    "user:2",
    "user:3",
    "x",
    "y",
    "default",
    "a--default",
    "b--users",
    "b--default:x",
    "row:1",
    "row:3",
    "a",
];
const PATTERNS: [&str; 9] = ["*", "user:*", "user:1", "b--*", "[xy]", "?", "a*", "row:*", "--"];
const TAGS: [&str; 3] = ["t", "u", "MARK"];

/// What is asked for next.
fn request(chance: &mut Chance, mark: &str) -> (&'static str, String, String) {
    let own = format!("user:{mark}");
    let key = if chance.below(6) == 0 { own.as_str() } else { *chance.of(&KEYS) };
    let (pattern, tag) = (*chance.of(&PATTERNS), *chance.of(&TAGS));
    let keyspace = *chance.of(&["users", "a--users", "b--users", "default", "a--default", "b--default"]);
    let is_dry = chance.below(2) == 0;
    let invalidate = |body: String| ("POST", "/api/cache/invalidate".to_owned(), body);
    match chance.below(30) {
        0..=5 => ("GET", format!("/api/cache/{key}?verbose=true"), String::new()),
        6 => ("HEAD", format!("/api/cache/{key}"), String::new()),
        7..=11 if !key.starts_with("row:") => {
            let body = format!("{{\"value\":\"{mark} {key}\",\"tags\":[\"{tag}\"]}}");
            ("PUT", format!("/api/cache/{key}"), body)
        }
        7..=12 => ("DELETE", format!("/api/cache/{key}"), String::new()),
        13 => invalidate(format!("{{\"keys\":[\"{key}\",\"x\"],\"dry_run\":{is_dry}}}")),
        14 => invalidate(format!("{{\"pattern\":\"{pattern}\",\"dry_run\":{is_dry}}}")),
        15 => invalidate(format!("{{\"tags\":[\"{tag}\"],\"dry_run\":{is_dry}}}")),
        16 => ("POST", "/api/cache/refresh".to_owned(), format!("{{\"keys\":[\"{key}\"]}}")),
        17 => ("GET", format!("/api/cache/why/{key}"), String::new()),
        18 => {
            let path = *chance.of(&["hot", "latencies"]);
            ("GET", format!("/api/cache/{path}?keyspace={keyspace}"), String::new())
        }
        19 => ("GET", "/api/cache/hot".to_owned(), String::new()),
        20 => ("GET", format!("/api/cache/behind?keyspace={keyspace}"), String::new()),
        21 => ("POST", format!("/api/cache/behind/{keyspace}/flush"), String::new()),
        22 => ("GET", format!("/api/cache/{}", chance.of(&["behind", "keyspaces"])), String::new()),
        23 => (*chance.of(&["GET", "GET", "HEAD"]), format!("/v1/keys/{key}"), String::new()),
        24 => ("DELETE", format!("/v1/keys/{key}"), String::new()),
        25 => ("GET", format!("/api/cache/keys?pattern={pattern}"), String::new()),
        26 => ("GET", format!("/api/cache/keys?keyspace={keyspace}"), String::new()),
        27 | 28 => ("POST", "/api/cache/batch".to_owned(), batch(chance, mark, key)),
        _ => (
            "GET",
            format!("/{}", chance.of(&["readyz?verbose", "metrics", "api/cache/metrics?verbose=true"])),
            String::new(),
        ),
    }
}

/// A batch that reads, stores and removes; rows are loaded, and not stored.
fn batch(chance: &mut Chance, mark: &str, key: &str) -> String {
    let stored = if key.starts_with("row:") { "y" } else { key };
    let (read, removed) = (*chance.of(&KEYS), *chance.of(&KEYS));
    format!(
        "{{\"get\":[\"{key}\",\"{read}\",\"row:1\"],\"set\":[{{\"key\":\"{stored}\",\"value\":\"{mark} {stored}\"}}],\
          \"delete\":[\"{removed}\"]}}"
    )
}

/// Notes what a change that was acknowledged did to the keys of this party.
fn apply(party: &mut Party, method: &str, target: &str, body: &str) {
    let key =
        target.strip_prefix("/api/cache/").or_else(|| target.strip_prefix("/v1/keys/")).unwrap_or_default();
    match method {
        "POST" if key == "batch" => {
            let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
            let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
            let set = &body["set"][0];
            party.kept.insert(text(&set["key"]), text(&set["value"]));
            party.kept.remove(&text(&body["delete"][0]));
        }
        "PUT" => {
            let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
            party.kept.insert(key.to_owned(), body["value"].as_str().expect("text").to_owned());
        }
        "DELETE" => drop(party.kept.remove(key)),
        "POST" if key == "invalidate" && !body.contains("\"dry_run\":true") => {
            let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
            let keys: BTreeSet<&str> =
                body["keys"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str).collect();
            let glob =
                body["pattern"].as_str().map(|pattern| terrace::Glob::new(pattern).expect("a pattern"));
            // Which entries have a tag is not modelled: what may be gone is not asked for any more.
            let has_tags = body["tags"].is_array();
            party.kept.retain(|key, _| {
                !has_tags
                    && !keys.contains(key.as_str())
                    && glob.as_ref().is_none_or(|glob| !glob.matches(key))
            });
        }
        _ => {}
    }
}

/// What is wrong with an answer to this party.
fn leak(answer: &Answer, who: usize, parties: &[Party], target: &str) -> Option<String> {
    let tenant_names: &[&str] = match who {
        0 => &["keyspace\":\"b--", "name\":\"b--", "there are b--", ", b--"],
        1 => &["keyspace\":\"a--", "name\":\"a--", "there are a--", ", a--"],
        // The operator's figures count everybody's; what keys there are is in none of them.
        _ if target.starts_with("/metrics") || target.starts_with("/api/cache/metrics") => &[],
        _ => &[
            "keyspace\":\"a--",
            "keyspace\":\"b--",
            "name\":\"a--",
            "name\":\"b--",
            "there are a--",
            "there are b--",
            ", a--",
            ", b--",
        ],
    };
    let others = parties.iter().enumerate().filter(|(number, _)| *number != who);
    let marks = others.flat_map(|(_, party)| [party.mark, party.row]);
    let found = marks.chain(tenant_names.iter().copied()).find(|word| answer.body.contains(word));
    found.map(|word| format!("{word} in {answer:?}"))
}

#[tokio::test]
async fn nothing_of_one_tenant_is_in_an_answer_to_another() {
    let number =
        |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (cases, seed) = (number("TERRACE_TEST_TENANT_CASES", CASES), number("TERRACE_TEST_SEED", 88_172_645));
    let (_folder, file) = database();
    let service = start(&toml(&file)).await;
    let mut chance = Chance(seed);
    let mut parties = Party::all();
    let mut client = Client::of(&service).await;
    let (mut leaks, mut hits, mut changes) = (Vec::new(), 0, 0);
    for _ in 0..cases {
        let who = usize::try_from(chance.below(3)).expect("a place");
        let (method, target, body) = request(&mut chance, parties[who].mark);
        let answer = client.ask(parties[who].token, method, &target, &body).await;
        if answer.status == 200 {
            apply(&mut parties[who], method, target.split('?').next().unwrap_or_default(), &body);
            changes += u64::from(method != "GET" && method != "HEAD");
        }
        leaks.extend(leak(&answer, who, &parties, &target));
        let asked = target.strip_prefix("/api/cache/").and_then(|rest| rest.strip_suffix("?verbose=true"));
        let asked_raw = target.strip_prefix("/v1/keys/").filter(|_| method == "GET");
        if let Some(kept) = asked.or(asked_raw).and_then(|key| parties[who].kept.get(key)) {
            hits += 1;
            let value = if asked.is_some() { format!("\"value\":\"{kept}\"") } else { format!("\"{kept}\"") };
            if !answer.body.contains(&value) {
                leaks.push(format!("{target} should be {kept}: {answer:?}"));
            }
        }
        assert!(answer.status < 500, "{method} {target} {body}: {answer:?}");
    }
    println!(
        "tenants: {cases} requests, {changes} changes, {hits} reads of what was put, {} leaks, seed {seed}",
        leaks.len()
    );
    assert!(leaks.is_empty(), "seed {seed}: {:?}", &leaks[..leaks.len().min(5)]);
    assert!(hits > cases / 100 && changes > cases / 10, "{hits} {changes}");
}

#[tokio::test]
async fn a_tenant_has_the_rows_of_its_own() {
    let (_folder, file) = database();
    let service = start(&toml(&file)).await;
    for (token, id, row) in [
        ("token-a", 1, Some("ROW-A")),
        ("token-b", 1, Some("ROW-B")),
        ("token-0", 1, Some("ROW-0")),
        ("token-a", 3, None),
        ("token-b", 3, Some("ROW-B")),
        ("token-0", 3, None),
        ("token-b", 2, None),
    ] {
        let answer = service.with(token, "GET", &format!("/api/cache/row:{id}"), "").await;
        assert_eq!(answer.status, if row.is_some() { 200 } else { 404 }, "{token} {id}: {answer:?}");
        assert!(answer.body.contains(row.unwrap_or("key_not_found")), "{token} {id}: {answer:?}");
    }
}

#[tokio::test]
async fn what_concerns_all_of_the_service_is_for_no_tenant() {
    let (_folder, file) = database();
    let service = start(&toml(&file)).await;
    for target in [
        "/metrics",
        "/api/cache/metrics",
        "/api/cache/events",
        "/api/cache/events?types=breaker,queue",
        "/api/cache/bus",
        "/api/cache/capacity",
        "/nowhere",
    ] {
        service.with("token-a", "GET", target, "").await.problem(403, "forbidden");
    }
    for target in ["/api/cache/hot", "/api/cache/latencies", "/api/cache/behind", "/api/cache/why/x"] {
        assert_eq!(service.with("token-a", "GET", target, "").await.status, 200, "{target}");
    }
    let told = until_some("a first sample", async || {
        let history = service.with("token-a", "GET", "/api/cache/history", "").await;
        let told: serde_json::Value = serde_json::from_str(&history.body).expect("JSON");
        (told["ago_seconds"] != serde_json::json!([])).then_some(told)
    })
    .await;
    let names = told["keyspaces"].as_array().expect("an array").iter().map(|of| of["name"].as_str());
    let names: Vec<&str> = names.map(|name| name.expect("text")).collect();
    assert!(!names.is_empty() && names.iter().all(|name| name.starts_with("a--")), "{names:?}");
    assert!(told["service"].is_null() && !told.to_string().contains("b--"), "{told}");
    for path in ["hot", "latencies"] {
        let target = format!("/api/cache/{path}?keyspace=b--users");
        let unknown = service.with("token-a", "GET", &target, "").await;
        assert!(!unknown.problem(422, "query_invalid").contains("b--"), "{unknown:?}");
    }
}

#[tokio::test]
async fn a_tenant_sees_how_long_its_own_lookups_took() {
    let (_folder, file) = database();
    let service = start(&toml(&file)).await;
    for _ in 0..61 * 4 {
        service.with("token-b", "GET", "/api/cache/user:1", "").await;
        service.with("token-b", "GET", "/api/cache/row:1", "").await;
    }
    let counted = async |token: &str, target: &str| {
        let answer = service.with(token, "GET", &format!("/api/cache/latencies{target}"), "").await;
        let told: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        let tiers = told["tiers"].as_array().expect("an array").iter();
        tiers.map(|of| of["count"].as_u64().expect("a number")).sum::<u64>()
    };
    let (all, rows) = (counted("token-b", "").await, counted("token-b", "?keyspace=b--rows").await);
    assert!(rows >= 61, "{rows}");
    assert_eq!(all, rows + counted("token-b", "?keyspace=b--users").await);
    assert_eq!((counted("token-a", "").await, counted("token-0", "?keyspace=rows").await), (0, 0));
    assert_eq!(counted("token-0", "").await, all, "an operator's are those of the process");
}

#[tokio::test]
async fn an_api_is_asked_for_the_tenant_and_for_nobody_else() {
    let api = Api::start().await;
    api.set("/v2/a/users/1", "\"of a\"");
    let service = start(&format!(
        "[origin.api]\ntype = 'http'\nbase_url = '{}'\n\
         [keyspace.users]\npattern = 'user:{{id}}'\nstrategy = 'write-through'\n\
         source = {{ origin = 'api', load = 'GET /{{tenant}}/users/{{id}}', store = 'PUT /{{tenant}}/users/{{id}}' }}\n{}{}{}",
        api.url(),
        token("a", "token-a", &format!("{ALL}\ntenant = 'a'")),
        token("b", "token-b", &format!("{ALL}\ntenant = 'b'")),
        token("zero", "token-0", ALL),
    ))
    .await;
    let get = |token| service.with(token, "GET", "/api/cache/user:1", "");
    assert!(get("token-a").await.body.contains("of a"));
    assert_eq!(get("token-b").await.status, 404);
    api.asked();
    assert_eq!(get("token-0").await.status, 404);
    let put = |token| service.with(token, "PUT", "/api/cache/user:2", "{\"value\":2}");
    put("token-0").await.problem(400, "key_refused");
    assert_eq!(api.asked().len(), 0, "nobody's tenant has no path");
    assert_eq!(put("token-b").await.status, 200);
    assert_eq!(api.document("/v2/b/users/2").as_deref(), Some("2"));
}

#[test]
fn what_two_tenants_would_share_is_refused() {
    let a = token("a", "t", &format!("{ALL}\ntenant = 'a'"));
    let origin = "origin.lite = { type = 'sqlite', file = 'x.db' }\n";
    let source = |load: &str| {
        format!(
            "{origin}[keyspace.k]\npattern = 'k:{{id}}'\nsource = {{ origin = 'lite', load = '{load}' }}\n{a}"
        )
    };
    for (toml, words) in [
        (source("select 1 where :id = 1"), "does the same for all of them"),
        (format!("[keyspace.a--x]\npattern = 'x:*'\n{a}"), "has no `--`"),
        (format!("[keyspace.{}]\npattern = 'x:*'\n{a}", "k".repeat(30)), "too long"),
        (
            format!(
                "{origin}[keyspace.k]\npattern = 'k:{{tenant}}'\nsource = {{ origin = 'lite', load = 'select :tenant' }}\n{a}"
            ),
            "the tenant that asks",
        ),
        (format!("[keyspace.k]\npattern = 'k:*'\nprivate = false\n{a}"), "private where there are tenants"),
    ] {
        let error = refused(&toml);
        assert!(error.contains(words) && error.contains('^'), "{toml}: {error}");
    }
    Config::load(&Sources::text(source("select 1 where :id = 1 and :tenant = 1")))
        .expect("it tells tenants apart");
    let without =
        "[keyspace.k]\npattern = 'k:{tenant}'\nsource = { origin = 'lite', load = 'select :tenant' }\n";
    Config::load(&Sources::text(format!("{origin}{without}")))
        .expect("a capture like any other, without tenants");
}

/// What a tenant does until it is told to end, and what it saw.
struct Guest {
    served: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

/// Asks as a tenant, over and over: every value says whose it is.
fn guest(service: &Arc<Running>, name: &'static str, is_over: &Arc<AtomicBool>) -> Guest {
    let (service, is_over, served) = (Arc::clone(service), Arc::clone(is_over), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&served);
    let task = beside(async move {
        let (mut wrong, mut client, mut is_known) = (Vec::new(), Client::of(&service).await, false);
        let row = format!("ROW-{}", name.to_ascii_uppercase());
        for turn in 0_u64.. {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let (key, id) = (format!("user:{}", turn % 7), 1 + turn % 2);
            let put = format!("{{\"value\":\"{name}/{key}/{turn}\"}}");
            let put = client.ask(name, "PUT", &format!("/api/cache/{key}"), &put).await;
            let entry = client.ask(name, "GET", &format!("/api/cache/{key}"), "").await;
            let loaded = client.ask(name, "GET", &format!("/api/cache/row:{id}"), "").await;
            let statuses = [put.status, entry.status, loaded.status];
            if statuses.contains(&401) && !is_known {
                tokio::task::yield_now().await;
                continue;
            }
            is_known = true;
            let is_own = entry.body.contains(&format!("\"value\":\"{name}/{key}/{turn}\""));
            if statuses != [200; 3] || !is_own || !loaded.body.contains(&row) {
                wrong.push(format!("{name} {turn}: {put:?} {entry:?} {loaded:?}"));
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
        wrong
    });
    Guest { served, task }
}

impl Guest {
    async fn serve(&self, more: u64) {
        let before = self.served.load(Ordering::Relaxed);
        while self.served.load(Ordering::Relaxed) < before + more {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_come_while_others_work_and_find_nothing_of_theirs() {
    const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let (_folder, file) = database();
    let rows: String = NAMES
        .map(|n| {
            format!(
                "insert into t values ('{n}', '1', 'ROW-{0}'), ('{n}', '2', 'ROW-{0}');",
                n.to_uppercase()
            )
        })
        .concat();
    let connection = rusqlite::Connection::open(&file).expect("a database");
    connection.execute_batch(&format!("delete from t; {rows}")).expect("rows");
    let with = |names: &[&str]| {
        let tokens: Vec<String> =
            names.iter().map(|name| token(name, name, &format!("{ALL}\ntenant = '{name}'"))).collect();
        let all = toml(&file);
        format!("{}{}", &all[..all.find("[[auth.token]]").expect("tokens")], tokens.concat())
    };
    let service = Arc::new(start(&with(&NAMES[..1])).await);
    let is_over = Arc::new(AtomicBool::new(false));
    let guests: Vec<Guest> = NAMES.iter().map(|name| guest(&service, name, &is_over)).collect();
    for known in 1..=NAMES.len() {
        if known > 1 {
            service.reload(&with(&NAMES[..known])).await.unwrap_or_else(|error| panic!("{error}"));
        }
        for (name, guest) in NAMES.iter().zip(&guests).take(known) {
            let answer = service.with(name, "GET", "/api/cache/row:1", "").await;
            assert_eq!(answer.status, 200, "{name}, {known}: {answer:?}");
            guest.serve(20).await;
        }
        for name in &NAMES[known..] {
            service.with(name, "GET", "/api/cache/row:1", "").await.problem(401, "unauthorized");
        }
    }
    is_over.store(true, Ordering::Relaxed);
    let mut served = Vec::new();
    for guest in guests {
        let wrong = guest.task.await.expect("it does not panic");
        assert!(wrong.is_empty(), "{:?}", &wrong[..wrong.len().min(3)]);
        served.push(guest.served.load(Ordering::Relaxed));
    }
    println!("tenants that came: {served:?} rounds of three requests, 0 wrong");
}

#[tokio::test]
async fn a_tenant_that_goes_is_refused_at_once_and_comes_back_to_what_it_had() {
    let (_folder, file) = database();
    let whole = toml(&file);
    let a = token("a", "token-a", &format!("{ALL}\ntenant = 'a'"));
    let without = whole.replace(&a, "");
    let service = start(&whole).await;
    let ask = |token: &'static str, method: &'static str, body: &'static str| {
        service.with(token, method, "/api/cache/user:1", body)
    };
    assert_eq!(ask("token-a", "PUT", "{\"value\":\"of a\"}").await.status, 200);
    service.reload(&without).await.expect("a tenant may go");
    ask("token-a", "GET", "").await.problem(401, "unauthorized");
    for other in ["token-b", "token-0"] {
        assert_eq!(ask(other, "GET", "").await.status, 404, "{other}");
    }
    assert_eq!(ask("token-b", "PUT", "{\"value\":\"of b\"}").await.status, 200);
    let new = token("new", "token-c", &format!("{ALL}\ntenant = 'c'"));
    service.reload(&format!("{without}{new}")).await.expect("another comes");
    assert_eq!(ask("token-c", "GET", "").await.status, 404, "it has not the place of who went");
    service.reload(&format!("{whole}{new}")).await.expect("and the first comes back");
    assert!(ask("token-a", "GET", "").await.body.contains("of a"));
    assert!(ask("token-b", "GET", "").await.body.contains("of b"));
    assert_eq!(ask("token-c", "GET", "").await.status, 404);
}
