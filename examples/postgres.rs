//! The five strategies over PostgreSQL: `DATABASE_URL=postgres://… cargo run --example postgres`. It makes six tables.

use deadpool_postgres::{Manager, Pool, PoolError};
use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;
use terrace::behind::{Journal, JournalOptions};
use terrace::{Cache, WriteFailure};
use terrace_examples::Failure;
use terrace_examples::patterns::{Patterns, TABLES};
use terrace_examples::table::{Database, Row};
use terrace_examples::tour::tour;
use tokio_postgres::NoTls;

/// A PostgreSQL server, by a few connections.
#[derive(Clone)]
pub(crate) struct Postgres(Pool);

impl Postgres {
    pub(crate) fn connect(url: &str) -> Result<Pool, Failure> {
        Ok(Pool::builder(Manager::new(url.parse()?, NoTls)).max_size(8).build()?)
    }

    pub(crate) async fn open(url: &str) -> Result<Self, Failure> {
        let pool = Self::connect(url)?;
        let client = pool.get().await?;
        for table in TABLES {
            let columns = "key text primary key, value text, version bigint";
            client.batch_execute(&format!("create table if not exists {table} ({columns})")).await?;
        }
        Ok(Self(pool))
    }
}

impl Database for Postgres {
    type Error = PoolError;

    async fn load(
        &self,
        table: &'static str,
        keys: Vec<String>,
    ) -> Result<HashMap<String, String>, PoolError> {
        let client = self.0.get().await?;
        let sql = format!("select key, value from {table} where value is not null and key = any($1)");
        let statement = client.prepare_cached(&sql).await?;
        let rows = client.query(&statement, &[&keys]).await?;
        Ok(rows.into_iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    async fn store(&self, table: &'static str, rows: Vec<Row>) -> Result<(), WriteFailure<PoolError>> {
        // Who has no connection has sent nothing.
        let client = self.0.get().await.map_err(WriteFailure::Unavailable)?;
        // What is written behind can come twice, and late: a row that has seen a later write stays as it is.
        let sql = format!(
            "insert into {table} (key, value, version) \
             select * from unnest($1::text[], $2::text[], $3::bigint[]) \
             on conflict (key) do update set value = excluded.value, \
                 version = coalesce(excluded.version, {table}.version) \
             where excluded.version is null or {table}.version is null or {table}.version < excluded.version"
        );
        let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
        let values: Vec<Option<&str>> = rows.iter().map(|row| row.value.as_deref()).collect();
        let versions: Vec<Option<i64>> = rows.iter().map(|row| row.version).collect();
        let stored = async {
            let statement = client.prepare_cached(&sql).await?;
            client.execute(&statement, &[&keys, &values, &versions]).await
        };
        match stored.await {
            Ok(_) => Ok(()),
            // The server says no, so it has nothing. Anything else may have happened on the way back.
            Err(error) if error.as_db_error().is_some() => Err(WriteFailure::Failed(error.into())),
            Err(error) => Err(WriteFailure::Unknown(error.into())),
        }
    }
}

pub(crate) async fn run(url: &str, out: &mut (impl Write + Send)) -> Result<(), Failure> {
    let database = Postgres::open(url).await?;
    let folder = tempfile::tempdir()?;
    let journal = Journal::open(folder.path().join("writes.journal"), JournalOptions::default())?;
    let cache = Cache::builder().journal(journal).build()?;
    let patterns = Patterns::open(&cache, &database)?;
    tour(&patterns, &database, out).await?;
    cache.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url =
        std::env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL to postgres://user@host/database")?;
    run(&url, &mut std::io::stdout()).await
}
