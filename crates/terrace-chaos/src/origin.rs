//! The system of record: a SQLite file that the harness writes and the nodes read.
//!
//! 1. Each row has a number that only grows. Whoever changes a key raises it here first, and tells the cache then.
//! 2. What a node loads carries a mark that no other load has, so that loads can be counted by what they bring.

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use rusqlite::{Connection, params};
use std::path::{Path, PathBuf};

/// A file with the table `items`.
#[derive(Debug)]
pub(crate) struct Origin {
    file: PathBuf,
    connection: Mutex<Connection>,
}

impl Origin {
    /// Makes the file, with rows from 0 to below `rows`, of number 1.
    pub(crate) fn create(folder: &Path, rows: u32) -> Result<Self> {
        let file = folder.join("origin.db");
        let connection = Connection::open(&file).context("cannot make a database")?;
        let pragmas = "pragma journal_mode = wal; pragma synchronous = off;";
        connection.execute_batch(pragmas)?;
        connection.execute_batch("create table items (id integer primary key, number integer not null);")?;
        connection.execute(
            "with recursive n(id) as (select 0 union all select id + 1 from n where id + 1 < ?1) insert into items select id, 1 from n",
            params![rows],
        )?;
        Ok(Self { file, connection: Mutex::new(connection) })
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// What a node runs to load a row. It sees the rows as they are when it begins, and takes a while for a few of those that are
    /// asked for most: so changes come in between.
    pub(crate) const LOAD: &str = "select id, number, random() as mark, case when id < 4 then (\
         with recursive n(x) as (select 1 union all select x + 1 from n where x < 8000) select count(*) from n\
         ) end as work from items where id = :id";

    /// Writes a number.
    pub(crate) fn set(&self, id: u32, number: u64) -> Result<()> {
        let connection = self.connection.lock();
        let mut statement = connection.prepare_cached("update items set number = ?2 where id = ?1")?;
        statement.execute(params![id, i64::try_from(number)?]).context("cannot write a number")?;
        Ok(())
    }
}
