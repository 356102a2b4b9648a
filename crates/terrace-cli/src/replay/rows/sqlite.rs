//! The table in SQLite: any number of connections to one file, each used by one blocking call at a time.

use super::{Collector, TABLE, id};
use crate::runtime;
use anyhow::Context as _;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// A row as JSON, as a service makes it of its columns.
const ROW: &str = "json_object('id', id, 'doc', doc)";
/// How long a call waits for another process that writes.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(crate) struct SqliteRows(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: PathBuf,
    idle: Mutex<Vec<Connection>>,
    _folder: Option<TempDir>,
}

impl SqliteRows {
    /// A table in a file that is removed when the last of its rows is dropped.
    pub(super) async fn open_temporary() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("terrace-replay-").tempdir()?;
        Self::create(folder.path().join("origin.db"), Some(folder)).await
    }

    /// A table in a file that stays.
    pub(super) async fn open(file: PathBuf) -> anyhow::Result<Self> {
        Self::create(file, None).await
    }

    async fn create(file: PathBuf, folder: Option<TempDir>) -> anyhow::Result<Self> {
        let rows = Self(Arc::new(Inner { file, idle: Mutex::default(), _folder: folder }));
        rows.with(|connection| {
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.execute_batch(&format!(
                "create table if not exists {TABLE} (id text primary key, doc text not null) without rowid"
            ))?;
            Ok(())
        })
        .await?;
        Ok(rows)
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let inner = Arc::clone(&self.0);
        runtime::blocking(move || {
            let idle = inner.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut connection = idle.map_or_else(|| connect(&inner.file), Ok)?;
            let result = work(&mut connection);
            inner.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            result
        })
        .await
    }

    pub(super) async fn prepare(&self, trace: &str, distinct: u32) -> anyhow::Result<u64> {
        let trace = trace.to_owned();
        self.with(move |connection| {
            let transaction = connection.transaction()?;
            let mut added = 0;
            {
                let mut insert = transaction
                    .prepare(&format!("insert or ignore into {TABLE} (id, doc) values (?1, ?2)"))?;
                for key in 0..distinct {
                    added += insert.execute((id(&trace, key), document(&trace, key)))? as u64;
                }
            }
            transaction.commit()?;
            Ok(added)
        })
        .await
    }

    pub(super) async fn read_all(&self, collector: &mut Collector) -> anyhow::Result<()> {
        let mut filled = std::mem::take(collector);
        *collector = self
            .with(move |connection| {
                let mut select = connection.prepare(&format!(
                    "select id, {ROW} from {TABLE} where substr(id, 1, length(?1)) = ?1"
                ))?;
                let mut rows = select.query([filled.prefix.as_str()])?;
                while let Some(row) = rows.next()? {
                    filled.add(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?)?;
                }
                Ok(filled)
            })
            .await?;
        Ok(())
    }

    pub(super) async fn load(&self, id: &str) -> anyhow::Result<Option<Bytes>> {
        let id = id.to_owned();
        self.with(move |connection| {
            let mut select =
                connection.prepare_cached(&format!("select {ROW} from {TABLE} where id = ?1"))?;
            let document: Option<String> = select.query_row([id], |row| row.get(0)).optional()?;
            Ok(document.map(Bytes::from))
        })
        .await
    }
}

fn connect(file: &Path) -> anyhow::Result<Connection> {
    let connection = Connection::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "synchronous", "off")?;
    Ok(connection)
}

/// 160 characters that no other row has.
fn document(trace: &str, key: u32) -> String {
    let seed = trace.bytes().fold(u64::from(key), |seed, byte| seed.rotate_left(8) ^ u64::from(byte));
    let mut random = crate::zipf::Random::seeded(seed);
    (0..10).map(|_| format!("{:016x}", random.next())).collect::<Vec<_>>().concat()
}
