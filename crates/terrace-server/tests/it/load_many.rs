//! Many keys of a batch, loaded by one statement.

use crate::postgres::Schema;
use crate::support::{Running, refused, start};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use tempfile::TempDir;

/// A file with rows 0 to 199, but for those that end in 7.
fn file() -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("many.db");
    let rows = "create table things (id integer primary key, word text, doc text);
        create table twice (id integer, n integer);
        insert into twice values (1, 1), (1, 2), (2, 3);
        with recursive n(i) as (select 0 union all select i + 1 from n where i < 199)
        insert into things select i, 'w' || i, '{\"n\": ' || i || '}' from n where i % 10 <> 7;";
    Connection::open(&file).and_then(|connection| connection.execute_batch(rows)).expect("rows");
    let file = file.display().to_string();
    (folder, file)
}

fn keyspace(name: &str, load: &str, load_many: &str, more: &str) -> String {
    format!(
        "[keyspace.{name}]\npattern = '{name}:{{*id}}'\n\
         source = {{ origin = 'main', load = \"{load}\", load_many = \"{load_many}\"{more} }}\n"
    )
}

fn sqlite(file: &str) -> String {
    let list = "where id in (select value from json_each(:id))";
    [
        format!("[origin.main]\ntype = 'sqlite'\nfile = '{file}'\n"),
        keyspace("thing", "select * from things where id = :id", &format!("select * from things {list}"), ""),
        keyspace(
            "word",
            "select word as id, doc from things where word = :id",
            "select word as id, doc from things where word in (select value from json_each(:id))",
            "",
        ),
        keyspace(
            "doc",
            "select doc from things where id = :id",
            &format!("select id, doc from things {list}"),
            ", document = 'doc'",
        ),
        keyspace("twice", "select * from twice where id = :id", &format!("select * from twice {list}"), ""),
        counted(list, "things"),
        keyspace(
            "stray",
            "select id, doc from things where id = :id",
            "select id + 1000 as id, doc from things where id in (select value from json_each(:id))",
            "",
        ),
        keyspace(
            "broken",
            "select id, doc from things where id = :id",
            &format!("select id as other from things {list}"),
            "",
        ),
    ]
    .concat()
}

/// A keyspace whose values say which statement brought them.
fn counted(list: &str, table: &str) -> String {
    let load = format!("select id, (select random()) as x from {table} where id = :id");
    keyspace("counted", &load, &format!("select id, (select random()) as x from {table} {list}"), "")
}

fn postgres(schema: &Schema) -> String {
    let Schema { url, name, .. } = schema;
    let (table, list) = (format!("{name}.many"), "where id = any(:id)");
    [
        format!("[origin.main]\ntype = 'postgres'\nurl = '{url}'\npool = 4\n"),
        keyspace(
            "thing",
            &format!("select * from {table} where id = :id"),
            &format!("select * from {table} {list}"),
            "",
        ),
        keyspace(
            "word",
            &format!("select word as id, doc from {table} where word = :id"),
            &format!("select word as id, doc from {table} where word = any(:id)"),
            "",
        ),
        keyspace(
            "doc",
            &format!("select doc from {table} where id = :id"),
            &format!("select id, doc from {table} {list}"),
            ", document = 'doc'",
        ),
        keyspace(
            "twice",
            &format!("select * from {name}.twice where id = :id"),
            &format!("select * from {name}.twice {list}"),
            "",
        ),
        counted(list, &table),
        keyspace(
            "stray",
            &format!("select id, doc from {table} where id = :id"),
            &format!("select id + 1000 as id, doc from {table} {list}"),
            "",
        ),
        keyspace(
            "broken",
            &format!("select id, doc from {table} where id = :id"),
            &format!("select id::text as id, doc from {table} {list}"),
            "",
        ),
    ]
    .concat()
}

async fn with_rows() -> Option<Schema> {
    let schema = Schema::create().await?;
    let name = &schema.name;
    let rows = format!(
        "create table {name}.many (id bigint primary key, word text, doc jsonb);
         create table {name}.twice (id int, n int);
         insert into {name}.twice values (1, 1), (1, 2), (2, 3);
         insert into {name}.many select i, 'w' || i, jsonb_build_object('n', i)
         from generate_series(0, 199) i where i % 10 <> 7;"
    );
    schema.client.batch_execute(&rows).await.expect("rows");
    Some(schema)
}

/// What a batch has of each key: its status, and its value or code.
async fn together(service: &Running, keys: &[String]) -> Vec<(u64, Value)> {
    let answer = service.post("/api/cache/batch", &json!({ "get": keys }).to_string()).await;
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    body["get"].as_array().expect("a list").iter().map(|item| said(item["status"].as_u64(), item)).collect()
}

/// What it has of each by itself.
async fn one_by_one(service: &Running, keys: &[String]) -> Vec<(u64, Value)> {
    let mut answers = Vec::new();
    for key in keys {
        let encoded = key.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"));
        let answer = service.get(&format!("/api/cache/{encoded}")).await;
        let body: Value = serde_json::from_str(&answer.body).expect("JSON");
        answers.push(said(Some(u64::from(answer.status)), &body));
    }
    answers
}

fn said(status: Option<u64>, body: &Value) -> (u64, Value) {
    let status = status.expect("a status");
    (status, if status == 200 { body["value"].clone() } else { body["code"].clone() })
}

fn numbered(keyspace: &str, numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|number| format!("{keyspace}:{number}")).collect()
}

/// How many statements brought these values.
fn statements(answers: &[(u64, Value)]) -> usize {
    answers
        .iter()
        .filter(|(status, _)| *status == 200)
        .map(|(_, value)| value["x"].to_string())
        .collect::<HashSet<_>>()
        .len()
}

async fn misses_are_one_statement(service: &Running) {
    let first = together(service, &numbered("counted", 0..50)).await;
    assert_eq!(first.iter().filter(|(status, _)| *status == 404).count(), 5, "{first:?}");
    let all = together(service, &numbered("counted", 0..150)).await;
    assert_eq!(all[..50], first[..], "what is there is not asked for");
    assert_eq!((statements(&first), statements(&all[50..])), (1, 1), "one statement for all that is missing");
    let line = |key: String| format!("{{\"get\":\"{key}\"}}");
    let lines = numbered("counted", 150..200).into_iter().map(line).collect::<Vec<_>>().join("\n");
    let media = ["content-type: application/x-ndjson"];
    let streamed = service.send_with("POST", "/api/cache/batch", &media, lines.as_bytes()).await;
    let seeds: HashSet<String> = streamed
        .body
        .lines()
        .filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["status"] == 200).then(|| line["value"]["x"].to_string())
        })
        .collect();
    assert_eq!(seeds.len(), 1, "{}", streamed.body);
}

#[tokio::test]
async fn all_misses_of_a_batch_are_one_statement_of_sqlite() {
    let (_folder, file) = file();
    misses_are_one_statement(&start(&sqlite(&file)).await).await;
}

#[tokio::test]
async fn all_misses_of_a_batch_are_one_statement_of_postgres() {
    let Some(schema) = with_rows().await else { return };
    misses_are_one_statement(&start(&postgres(&schema)).await).await;
    schema.remove().await;
}

/// Keys of which some are there, some not, some twice, some written in another way, and some no numbers.
fn keys() -> impl Strategy<Value = Vec<String>> {
    let spelled = prop_oneof![
        6 => (0_u64..220).prop_map(|number| number.to_string()),
        1 => (0_u64..220).prop_map(|number| format!("0{number}")),
        1 => (0_u64..220).prop_map(|number| format!("w{number}")),
        1 => prop_oneof![
            Just("9223372036854775808"), Just("-1"), Just(" 5"), Just("x"), Just("NULL"), Just("{1,2}"), Just("1.0"),
            Just("a\"b"), Just("a\\"), Just("'; --"), Just("\u{e9},"), Just("true"), Just("1e2"),
        ].prop_map(str::to_owned),
    ];
    let keyspace = prop_oneof![
        4 => Just("thing"), 3 => Just("word"), 2 => Just("doc"), 1 => Just("twice"), 1 => Just("stray"), 1 => Just("broken"),
    ];
    proptest::collection::vec(
        (keyspace, spelled).prop_map(|(keyspace, id)| format!("{keyspace}:{id}")),
        1..40,
    )
}

/// Whatever keys are asked for, a batch of them is answered as each by itself.
async fn compare(first: &Running, second: &Running, keys: &[String]) -> Result<(), TestCaseError> {
    let (batch, singles) = (together(first, keys).await, one_by_one(second, keys).await);
    for service in [first, second] {
        let swept = service.post("/api/cache/invalidate", r#"{"pattern":"*"}"#).await;
        prop_assert_eq!(swept.status, 200);
    }
    for ((key, batch), single) in keys.iter().zip(batch).zip(singles) {
        prop_assert_eq!(batch, single, "{}", key);
    }
    Ok(())
}

fn batches_are_singles(toml: &str, runtime: &tokio::runtime::Runtime) {
    let (first, second) = runtime.block_on(async { (start(toml).await, start(toml).await) });
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let ran = runner.run(&keys(), |keys| runtime.block_on(compare(&first, &second, &keys)));
    ran.unwrap_or_else(|error| panic!("{error}"));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn a_batch_is_answered_as_its_keys_by_themselves_from_sqlite() {
    let (_folder, file) = file();
    batches_are_singles(&sqlite(&file), &runtime());
}

#[test]
fn a_batch_is_answered_as_its_keys_by_themselves_from_postgres() {
    let runtime = runtime();
    let Some(schema) = runtime.block_on(with_rows()) else { return };
    batches_are_singles(&postgres(&schema), &runtime);
    runtime.block_on(schema.remove());
}

#[tokio::test]
async fn a_key_that_the_database_cannot_read_fails_no_other() {
    let Some(schema) = with_rows().await else { return };
    let service = start(&postgres(&schema)).await;
    let mut keys = numbered("counted", 0..64);
    keys.insert(21, "counted:x".to_owned());
    let answers = together(&service, &keys).await;
    assert_eq!(answers[21], (400, "key_refused".into()), "{:?}", answers[21]);
    let found = answers.iter().filter(|(status, _)| *status == 200).count();
    assert_eq!(found, 58, "{answers:?}");
    assert!(statements(&answers) <= 8, "halved, not one by one: {}", statements(&answers));
    schema.remove().await;
}

/// A part of a statement that takes so long, and between which two moments, in microseconds, it certainly ran.
/// (`pg_stat_activity` also has the statements of other tests, and is not read at one moment.)
fn at_work(seconds: &str) -> (String, &'static str) {
    let work = format!("with w as materialized (select clock_timestamp() as began, pg_sleep({seconds}))");
    let micros = "array[extract(epoch from began) * 1000000, extract(epoch from clock_timestamp()) * 1000000]::bigint[]";
    (work, micros)
}

/// How many statements ran at one moment, at most, and certainly so: the answers of one statement began together.
fn most_at_work(answers: &[(u64, Value)]) -> usize {
    let mut ran: BTreeMap<u64, u64> = BTreeMap::new();
    for (_, value) in answers {
        if let (Some(began), Some(ended)) = (value["ran"][0].as_u64(), value["ran"][1].as_u64()) {
            let last = ran.entry(began).or_insert(ended);
            *last = ended.max(*last);
        }
    }
    let beside = |moment: &u64| ran.range(..=moment).filter(|(_, ended)| *ended > moment).count();
    ran.keys().map(beside).max().expect("they say so")
}

#[tokio::test]
async fn a_column_that_is_not_unique_brings_so_many_rows_and_no_more() {
    let Some(schema) = with_rows().await else { return };
    let Schema { url, name, .. } = &schema;
    let select = |how: &str| format!("select id, n, '{how}' as how from {name}.twice");
    let toml = format!("[origin.main]\ntype = 'postgres'\nurl = '{url}'\n")
        + &keyspace(
            "twice",
            &format!("{} where id = :id", select("alone")),
            &format!("{} where id = any(:id)", select("many")),
            "",
        );
    let keys = numbered("twice", 1..3);
    let few = together(&start(&toml).await, &keys).await;
    assert_eq!((few[0].0, &few[1].1["how"]), (502, &"many".into()), "{few:?}");
    let more = format!("insert into {name}.twice select 1, i from generate_series(3, 511) i");
    schema.client.batch_execute(&more).await.expect("rows");
    let most = together(&start(&toml).await, &keys).await;
    assert_eq!((most[0].0, &most[1].1["how"]), (502, &"many".into()), "512 rows: {most:?}");
    let one = format!("insert into {name}.twice values (1, 512)");
    schema.client.batch_execute(&one).await.expect("a row");
    let service = start(&toml).await;
    let many = together(&service, &keys).await;
    assert_eq!((many[0].0, &many[1].1["how"]), (502, &"alone".into()), "513 rows: {many:?}");
    let breakers = service.get("/api/cache/breakers").await.body;
    assert!(breakers.contains(r#""state":"closed""#) && breakers.contains(r#""failures":0"#), "{breakers}");
    schema.remove().await;
}

#[tokio::test]
async fn keys_that_are_loaded_one_by_one_have_a_place_each() {
    let Some(schema) = with_rows().await else { return };
    let Schema { url, name, .. } = &schema;
    let (work, ran) = at_work("0.03");
    for (case, bound, own, least, most) in
        [("wide", "", "", 3, 8), ("shared", "loads_max = 2", "", 1, 2), ("own", "", "loads_max = 3", 1, 1)]
    {
        let load = format!("{work} select id, {ran} as ran from w, {name}.many where id = :id");
        // Its `load_many` never does.
        let many = format!("select id::text as id from {name}.many where id = any(:id)");
        let toml = format!("[origin.main]\ntype = 'postgres'\nurl = '{url}'\npool = 12\n{bound}\n")
            + &keyspace("one", &load, &many, "")
            + own;
        let answers = together(&start(&toml).await, &numbered("one", 0..24)).await;
        assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 22, "{answers:?}");
        let found = most_at_work(&answers);
        assert!((least..=most).contains(&found), "{case}: {found}");
    }
    schema.remove().await;
}

#[tokio::test]
async fn keys_that_no_statement_of_a_batch_can_read_are_loaded_a_few_at_a_time() {
    let Some(schema) = with_rows().await else { return };
    let Schema { url, name, .. } = &schema;
    let (work, ran) = at_work("0.01");
    for (case, bound, least, most) in [("wide", "", 3, 8), ("shared", "loads_max = 5", 2, 5)] {
        let load = format!("{work} select :id as id, {ran} as ran from w");
        // It compares with numbers, which `x1` is none of.
        let many = format!("select id, word as n from {name}.many where id = any(:id)");
        let toml = format!("[origin.main]\ntype = 'postgres'\nurl = '{url}'\npool = 40\n{bound}\n")
            + &keyspace("far", &load, &many, "");
        let keys: Vec<String> = (0..1000).map(|number| format!("far:x{number}")).collect();
        let answers = together(&start(&toml).await, &keys).await;
        assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
        let found = most_at_work(&answers);
        assert!((least..=most).contains(&found), "{case}: {found}");
    }
    schema.remove().await;
}

#[tokio::test]
async fn statements_of_one_batch_run_beside_each_other_as_far_as_there_is_room() {
    let Some(schema) = with_rows().await else { return };
    let url = &schema.url;
    let (work, ran) = at_work("0.2");
    for (case, bound, least, most) in [
        ("pooled", "pool = 16", 2, 4),
        ("narrow", "pool = 2", 1, 1),
        ("bound", "pool = 16\nloads_max = 1", 1, 1),
    ] {
        let toml = format!("[origin.main]\ntype = 'postgres'\nurl = '{url}'\n{bound}\n")
            + &keyspace(
                "far",
                "select :id as id",
                &format!(
                    "{work} select i as id, {ran} as ran from w, generate_series(0, 999) i where i = any(:id)"
                ),
                "",
            );
        let answers = together(&start(&toml).await, &numbered("far", 0..1000)).await;
        assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
        let found = most_at_work(&answers);
        assert!((least..=most).contains(&found), "{case}: {found}");
    }
    schema.remove().await;
}

#[test]
fn what_is_not_one_list_is_refused_when_it_is_read() {
    let of = |kind: &str, pattern: &str, load_many: &str| {
        refused(&format!(
            "[origin.main]\n{kind}\n[keyspace.a]\npattern = '{pattern}'\n\
             source = {{ origin = 'main', load = 'select * from a where a = :a and b = :b', load_many = '{load_many}' }}\n"
        ))
    };
    let (postgres, sqlite) = ("type = 'postgres'\nurl = 'postgres://u@h/d'", "type = 'sqlite'\nfile = 'x'");
    let two = of(postgres, "a:{a}:{b}", "select * from a where a = any(:a) and b = any(:b)");
    assert!(two.contains("names none or several") && two.contains("one by one"), "{two}");
    let none = of(postgres, "a:{a}:{b}", "select * from a");
    assert!(none.contains("names none or several"), "{none}");
    let unread = of(sqlite, "a:{a}:{b}", "select * from a where k = :key");
    assert!(unread.contains("json_each(:id)"), "{unread}");
}
