//! Tenants: whatever one of them asks for, nothing of another is in the answer, and nothing of another changes.

use crate::http_api::Api;
use crate::support::{Answer, Client, refused, start, token};
use std::collections::{BTreeMap, BTreeSet};
use terrace_server::config::{Config, Sources};

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
    match chance.below(24) {
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
        18 => ("GET", format!("/api/cache/hot?keyspace={keyspace}"), String::new()),
        19 => ("GET", "/api/cache/hot".to_owned(), String::new()),
        20 => ("GET", format!("/api/cache/behind?keyspace={keyspace}"), String::new()),
        21 => ("POST", format!("/api/cache/behind/{keyspace}/flush"), String::new()),
        22 => ("GET", format!("/api/cache/{}", chance.of(&["behind", "keyspaces"])), String::new()),
        _ => (
            "GET",
            format!("/{}", chance.of(&["readyz?verbose", "metrics", "api/cache/metrics?verbose=true"])),
            String::new(),
        ),
    }
}

/// Whether what a change that was acknowledged names is a key of this party's.
fn apply(party: &mut Party, method: &str, target: &str, body: &str) {
    let key = target.strip_prefix("/api/cache/").unwrap_or_default();
    match method {
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
        if let Some(kept) = asked.and_then(|key| parties[who].kept.get(key)) {
            hits += 1;
            if !answer.body.contains(&format!("\"value\":\"{kept}\"")) {
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
        "/api/cache/bus",
        "/api/cache/latencies",
        "/nowhere",
    ] {
        service.with("token-a", "GET", target, "").await.problem(403, "forbidden");
    }
    for target in ["/api/cache/hot", "/api/cache/behind", "/api/cache/why/x"] {
        assert_eq!(service.with("token-a", "GET", target, "").await.status, 200, "{target}");
    }
    let unknown = service.with("token-a", "GET", "/api/cache/hot?keyspace=b--users", "").await;
    assert!(!unknown.problem(422, "body_invalid").contains("b--"), "{unknown:?}");
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
