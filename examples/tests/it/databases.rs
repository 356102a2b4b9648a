//! The five strategies over real databases, and the fence that makes a late write harmless.

use std::time::Duration;
use terrace::Cache;
use terrace::behind::{Journal, JournalOptions};
use terrace_examples::Failure;
use terrace_examples::patterns::Patterns;
use terrace_examples::table::{Database, Row};
use terrace_testkit::server::{postgres_url, unique_prefix};

const EXPECTED: [&str; 11] = [
    r#"write-through: entry:7 is Some("ann") in the database at once"#,
    r#"write-behind: acknowledged by Fsync, read as Some("2 calls")"#,
    "write-behind: the database has None",
    r#"write-behind: and after a flush Some("2 calls")"#,
    "read-through: config:limit is 100 from origin",
    "read-through: config:limit is 100 from l1",
    "cache-aside: participant:60701190 is None before",
    "cache-aside: and a bank once the program has loaded it",
    r#"cache-aside: dict:key:a%3Ab is Some("60701190")"#,
    "write-around: vsync:1 is in the cache: false",
    "write-around: and is done from origin when it is read",
];

/// What comes to be in the database, one call after the other.
async fn rows_are_fenced<D: Database>(database: &D) {
    let table = "metrics";
    let row = |key: &str, value: Option<&str>, version| Row {
        key: key.to_owned(),
        value: value.map(str::to_owned),
        version,
    };
    let read = async |key: &str| {
        let rows = database.load(table, vec![key.to_owned(), "none".into()]).await.expect("it is read");
        rows.get(key).cloned()
    };
    let store = async |rows| database.store(table, rows).await.expect("it is stored");
    store(vec![row("a", Some("5"), Some(5)), row("b", Some("6"), Some(6))]).await;
    store(vec![row("a", Some("4"), Some(4)), row("b", Some("7"), Some(7))]).await;
    assert_eq!((read("a").await.as_deref(), read("b").await.as_deref()), (Some("5"), Some("7")));
    store(vec![row("a", None, Some(8))]).await;
    store(vec![row("a", Some("5"), Some(5))]).await;
    assert_eq!(read("a").await, None, "what was removed is not brought back by a straggler");
    store(vec![row("a", Some("at once"), None)]).await;
    assert_eq!(read("a").await.as_deref(), Some("at once"), "what has no version is the last word");
}

/// A write that is written behind, to a row that has seen a later one.
async fn a_late_write_changes_nothing<D: Database>(database: &D) -> Result<(), Failure> {
    let late = Row { key: "late".into(), value: Some("newer".into()), version: Some(i64::MAX) };
    database.store("metrics", vec![late]).await.expect("it is stored");
    let folder = tempfile::tempdir()?;
    let journal = Journal::open(folder.path().join("journal"), JournalOptions::default())?;
    let cache = Cache::builder().journal(journal).build()?;
    let patterns = Patterns::open(&cache, database)?;
    patterns.metrics.put("late", "older".into()).await?;
    patterns.metrics.put_many([("x".into(), "1".into()), ("y".into(), "2".into())]).await?;
    cache.shutdown(Duration::from_secs(20)).await?;
    let keys = ["late", "x", "y"].map(str::to_owned);
    let rows = database.load("metrics", keys.to_vec()).await.expect("it is read");
    assert_eq!(keys.map(|key| rows[&key].clone()), ["newer", "1", "2"]);
    Ok(())
}

fn lines(out: Vec<u8>) -> Vec<String> {
    String::from_utf8(out).expect("it prints text").lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let mut out = Vec::new();
    crate::sqlite::run(folder.path(), &mut out).await.unwrap();
    assert_eq!(lines(out), EXPECTED);
    let database = crate::sqlite::Sqlite::open(&folder.path().join("rows.db")).unwrap();
    rows_are_fenced(&database).await;
    a_late_write_changes_nothing(&database).await.unwrap();
}

#[tokio::test]
async fn postgres() {
    let Some(url) = postgres_url() else { return };
    let schema = unique_prefix().replace(['-', ':'], "_");
    let admin = crate::postgres::Postgres::connect(&url).unwrap();
    admin.get().await.unwrap().batch_execute(&format!("create schema {schema}")).await.unwrap();
    let own = format!("{url}?options=-c%20search_path%3D{schema}");
    let mut out = Vec::new();
    crate::postgres::run(&own, &mut out).await.unwrap();
    assert_eq!(lines(out), EXPECTED);
    let database = crate::postgres::Postgres::open(&own).await.unwrap();
    rows_are_fenced(&database).await;
    a_late_write_changes_nothing(&database).await.unwrap();
    drop(database);
    admin.get().await.unwrap().batch_execute(&format!("drop schema {schema} cascade")).await.unwrap();
}
