//! The origin of a replay: one table with a row per key, in SQLite or PostgreSQL.
//!
//! 1. Every key of a trace has a row, and what it holds depends on nothing but the trace's name, the key and the
//!    kind of database: two runs and two machines make the same.
//! 2. Rows that are there already are left as they are. A row that somebody changed is what the origin says now.
//! 3. A row stands for the JSON object of its columns `id` and `doc`, which is what a service makes of it too.
//! 4. [`Rows::fingerprints`] reads the table by its own query, past every cache: it is what answers are checked
//!    against.

mod postgres;
mod sqlite;

use super::expected::Fingerprint;
use crate::failure::{Exit, Failure};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use postgres::PostgresRows;
use sqlite::SqliteRows;
use std::path::PathBuf;
use std::str::FromStr;

/// The table's name.
pub(crate) const TABLE: &str = "terrace_replay";

/// Where the table is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum OriginPlace {
    /// A SQLite file that is made for one run and removed after it.
    Temporary,
    /// A SQLite file that stays.
    Sqlite(PathBuf),
    /// A PostgreSQL database, by its URL.
    Postgres(String),
}

impl FromStr for OriginPlace {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        match text.split_once(':') {
            None if text == "sqlite" => Ok(Self::Temporary),
            Some(("sqlite", file)) if !file.is_empty() => Ok(Self::Sqlite(file.into())),
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(text.to_owned())),
            _ => Err(Failure::usage("--origin is none that a replay knows")
                .next("use sqlite, sqlite:FILE or postgres://USER@HOST/DATABASE")),
        }
    }
}

/// The primary key of a row.
pub(crate) fn id(trace: &str, key: u32) -> String {
    format!("{trace}:{key}")
}

/// An open table.
#[derive(Debug)]
pub(crate) enum Rows {
    /// In SQLite.
    Sqlite(SqliteRows),
    /// In PostgreSQL.
    Postgres(PostgresRows),
}

impl Rows {
    /// Opens the database, and makes the table if there is none.
    pub(crate) async fn open(place: &OriginPlace) -> anyhow::Result<Self> {
        match place {
            OriginPlace::Temporary => Ok(Self::Sqlite(SqliteRows::open_temporary().await?)),
            OriginPlace::Sqlite(file) => Ok(Self::Sqlite(SqliteRows::open(file.clone()).await?)),
            OriginPlace::Postgres(url) => Ok(Self::Postgres(PostgresRows::open(url).await?)),
        }
    }

    /// Makes sure that the keys `0..distinct` of a trace have rows. Returns how many were added.
    pub(crate) async fn prepare(&self, trace: &str, distinct: u32) -> anyhow::Result<u64> {
        let added = match self {
            Self::Sqlite(rows) => rows.prepare(trace, distinct).await,
            Self::Postgres(rows) => rows.prepare(trace, distinct).await,
        };
        added.with_context(|| format!("cannot fill {TABLE} with the rows of {trace}"))
    }

    /// What the rows of the keys `0..distinct` of a trace hold, in the order of the keys.
    pub(crate) async fn fingerprints(&self, trace: &str, distinct: u32) -> anyhow::Result<Vec<Fingerprint>> {
        let mut collector = Collector::new(trace, distinct);
        let read = match self {
            Self::Sqlite(rows) => rows.read_all(&mut collector).await,
            Self::Postgres(rows) => rows.read_all(&mut collector).await,
        };
        read.with_context(|| format!("cannot read the rows of {trace} in {TABLE}"))?;
        collector.finish()
    }

    /// One row as JSON.
    pub(crate) async fn load(&self, id: &str) -> anyhow::Result<Option<Bytes>> {
        match self {
            Self::Sqlite(rows) => rows.load(id).await,
            Self::Postgres(rows) => rows.load(id).await,
        }
    }
}

/// Puts rows, in whatever order they come, into the order of keys.
#[derive(Debug, Default)]
struct Collector {
    prefix: String,
    found: Vec<Option<Fingerprint>>,
}

impl Collector {
    fn new(trace: &str, distinct: u32) -> Self {
        Self { prefix: format!("{trace}:"), found: vec![None; distinct as usize] }
    }

    fn add(&mut self, id: &str, row: &str) -> anyhow::Result<()> {
        let key = id.strip_prefix(&self.prefix).and_then(|key| key.parse::<usize>().ok());
        if let Some(place) = key.and_then(|key| self.found.get_mut(key)) {
            let fingerprint = Fingerprint::of(row.as_bytes());
            *place = Some(fingerprint.with_context(|| format!("the row of {id} is not JSON"))?);
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<Vec<Fingerprint>> {
        let expected = self.found.len();
        let found: Vec<_> = self.found.into_iter().flatten().collect();
        ensure!(
            found.len() == expected,
            Failure::new(Exit::Failure, format!("{TABLE} lacks {} rows", expected - found.len()))
                .next("run `terrace replay --prepare` with the same --origin")
        );
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_by_scheme() {
        assert_eq!("sqlite".parse::<OriginPlace>().unwrap(), OriginPlace::Temporary);
        assert_eq!("sqlite:a.db".parse::<OriginPlace>().unwrap(), OriginPlace::Sqlite("a.db".into()));
        let url = "postgres://me@localhost/app";
        assert_eq!(url.parse::<OriginPlace>().unwrap(), OriginPlace::Postgres(url.to_owned()));
        for wrong in ["", "sqlite:", "mysql://x", "file.db"] {
            assert!(wrong.parse::<OriginPlace>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn rows_are_put_in_order_and_missing_ones_are_noticed() {
        let mut collector = Collector::new("t", 2);
        collector.add("t:1", "{\"n\": 1}").unwrap();
        collector.add("t:7", "{}").unwrap();
        collector.add("other:0", "{}").unwrap();
        assert!(collector.add("t:0", "{").is_err());
        collector.add("t:0", "{\"n\": 0}").unwrap();
        assert_eq!(collector.finish().unwrap()[1], Fingerprint::of(b"{\"n\":1}").unwrap());
        assert!(Collector::new("t", 1).finish().unwrap_err().to_string().contains("lacks 1 rows"));
    }

    #[tokio::test]
    async fn a_sqlite_table_is_filled_once_and_left_alone_then() {
        let rows = Rows::open(&OriginPlace::Temporary).await.unwrap();
        assert_eq!(rows.prepare("t", 5).await.unwrap(), 5);
        assert_eq!(rows.prepare("t", 8).await.unwrap(), 3);
        let fingerprints = rows.fingerprints("t", 8).await.unwrap();
        let row = rows.load("t:7").await.unwrap().unwrap();
        assert_eq!(Fingerprint::of(&row), Some(fingerprints[7]));
        assert_eq!(rows.load("t:8").await.unwrap(), None);
        let distinct: std::collections::HashSet<_> = fingerprints.iter().collect();
        assert_eq!(distinct.len(), 8);
    }
}
