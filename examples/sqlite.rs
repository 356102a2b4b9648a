//! The five strategies over SQLite: `cargo run --example sqlite`.

use rusqlite::Connection;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use terrace::behind::{Journal, JournalOptions};
use terrace::{Cache, WriteFailure};
use terrace_examples::Failure;
use terrace_examples::patterns::{Patterns, TABLES};
use terrace_examples::table::{Database, Row};
use terrace_examples::tour::tour;

/// A SQLite file. Its calls block, so they run where that hurts nobody.
#[derive(Clone)]
pub(crate) struct Sqlite(Arc<Mutex<Connection>>);

impl Sqlite {
    pub(crate) fn open(file: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(file)?;
        for table in TABLES {
            let columns = "key text primary key, value text, version integer";
            connection.execute_batch(&format!("create table if not exists {table} ({columns})"))?;
        }
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> rusqlite::Result<T> {
        let connection = Arc::clone(&self.0);
        let run = move || job(&mut connection.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(run).await.expect("no job panics")
    }
}

impl Database for Sqlite {
    type Error = rusqlite::Error;

    async fn load(
        &self,
        table: &'static str,
        keys: Vec<String>,
    ) -> rusqlite::Result<HashMap<String, String>> {
        let sql = format!(
            "select key, value from {table} \
             where value is not null and key in (select value from json_each(?1))"
        );
        let keys = serde_json::to_string(&keys).expect("texts are JSON");
        self.run(move |connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            statement.query_map([keys], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .await
    }

    async fn store(&self, table: &'static str, rows: Vec<Row>) -> Result<(), WriteFailure<rusqlite::Error>> {
        // What is written behind can come twice, and late: a row that has seen a later write stays as it is.
        let sql = format!(
            "insert into {table} (key, value, version) \
             select value ->> 0, value ->> 1, value ->> 2 from json_each(?1) where true \
             on conflict (key) do update set value = excluded.value, \
                 version = coalesce(excluded.version, {table}.version) \
             where excluded.version is null or {table}.version is null or {table}.version < excluded.version"
        );
        let rows: Vec<_> = rows.into_iter().map(|row| (row.key, row.value, row.version)).collect();
        let rows = serde_json::to_string(&rows).expect("rows are JSON");
        let stored = self.run(move |connection| connection.prepare_cached(&sql)?.execute([rows]));
        Ok(stored.await.map(drop)?)
    }
}

pub(crate) async fn run(folder: &Path, out: &mut (impl Write + Send)) -> Result<(), Failure> {
    let database = Sqlite::open(&folder.join("rows.db"))?;
    let journal = Journal::open(folder.join("writes.journal"), JournalOptions::default())?;
    let cache = Cache::builder().journal(journal).build()?;
    let patterns = Patterns::open(&cache, &database)?;
    tour(&patterns, &database, out).await?;
    cache.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    run(folder.path(), &mut std::io::stdout()).await
}
