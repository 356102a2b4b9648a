//! A SQLite file full of people who do not exist.
//!
//! 1. All rows are written in one transaction: 100,000 take less than a second.
//! 2. The file and its folder are gone when the [`DemoOrigin`] is dropped.

use crate::zipf::Random;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const GIVEN: [&str; 16] = [
    "Ada", "Bo", "Chen", "Dara", "Emeka", "Fatima", "Goran", "Hana", "Ines", "Jun", "Kofi", "Lena", "Mio",
    "Noor", "Olga", "Pia",
];
const FAMILY: [&str; 16] = [
    "Adeyemi", "Berg", "Costa", "Dimitrov", "Eriksen", "Farah", "Gupta", "Haas", "Ito", "Jansen", "Kaya",
    "Lopez", "Mori", "Novak", "Okafor", "Petit",
];
/// Organisations that the people belong to.
const ORGANISATIONS: u64 = 500;

/// A database of users that removes itself.
#[derive(Debug)]
pub(crate) struct DemoOrigin {
    folder: TempDir,
}

impl DemoOrigin {
    /// Makes the file, with rows numbered from 1. Blocks.
    pub(crate) fn create(rows: u32) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("terrace-demo-").tempdir()?;
        let origin = Self { folder };
        fill(&origin.file(), rows)?;
        Ok(origin)
    }

    /// Where the file is.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("users.db")
    }
}

fn fill(file: &Path, rows: u32) -> anyhow::Result<()> {
    let mut connection = Connection::open(file)?;
    connection.pragma_update(None, "synchronous", "off")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "create table users (id integer primary key, name text not null, email text not null, org integer not null)",
    )?;
    {
        let mut insert =
            transaction.prepare("insert into users (id, name, email, org) values (?1, ?2, ?3, ?4)")?;
        let mut random = Random::seeded(u64::from(rows));
        for id in 1..=rows {
            let (given, family) = (pick(&GIVEN, &mut random), pick(&FAMILY, &mut random));
            let email = format!("{}.{}{id}@example.com", given.to_lowercase(), family.to_lowercase());
            let org = i64::try_from(random.next() % ORGANISATIONS)?;
            insert.execute((id, format!("{given} {family}"), email, org))?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn pick<'a>(names: &[&'a str; 16], random: &mut Random) -> &'a str {
    names[usize::try_from(random.next() % 16).unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_all_rows_and_goes_away() {
        let origin = DemoOrigin::create(1000).unwrap();
        let file = origin.file();
        let connection = Connection::open(&file).unwrap();
        let count: i64 =
            connection.query_row("select count(distinct email) from users", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1000);
        drop((connection, origin));
        assert!(!file.exists());
    }
}
