//! A table as an origin: what a keyspace asks becomes one statement, for one key or for many.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use terrace::{Origin, OriginWrite, TextKey, WriteFailure};

/// A row: a key, its value, and what tells a newer write from an older one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The text of the key.
    pub key: String,
    /// The value; `None` to remove it. The row stays, because of its version.
    pub value: Option<String>,
    /// The version of what is written behind. A row that has a greater one stays as it is.
    pub version: Option<i64>,
}

/// A database whose tables have the columns `key`, `value` and `version`.
pub trait Database: Clone + Send + Sync + 'static {
    /// Why a statement failed.
    type Error: fmt::Display + fmt::Debug + Send + Sync + 'static;

    /// The values of these keys, as far as there are any, by one statement.
    fn load(
        &self,
        table: &'static str,
        keys: Vec<String>,
    ) -> impl Future<Output = Result<HashMap<String, String>, Self::Error>> + Send;

    /// Stores all of these rows or none, by one statement.
    fn store(
        &self,
        table: &'static str,
        rows: Vec<Row>,
    ) -> impl Future<Output = Result<(), WriteFailure<Self::Error>>> + Send;
}

/// One table of a database.
#[derive(Clone, Debug)]
pub struct Table<D> {
    /// The database.
    pub database: D,
    /// The table's name.
    pub name: &'static str,
}

fn text(key: &impl TextKey) -> String {
    key.with_text(str::to_owned)
}

/// Calls that failed for one key failed for all of them, and for the same reason.
fn each<T>(keys: usize, result: Result<(), T>) -> Vec<Result<(), WriteFailure<String>>>
where
    WriteFailure<String>: From<T>,
{
    match result {
        Ok(()) => (0..keys).map(|_| Ok(())).collect(),
        Err(error) => {
            let failure = WriteFailure::from(error);
            (0..keys).map(|_| Err(failure.clone())).collect()
        }
    }
}

/// A failure whose error is known by its words alone: it is told to many.
fn in_words<E: fmt::Display>(failure: WriteFailure<E>) -> WriteFailure<String> {
    match failure {
        WriteFailure::Unavailable(error) => WriteFailure::Unavailable(error.to_string()),
        WriteFailure::Unknown(error) => WriteFailure::Unknown(error.to_string()),
        WriteFailure::Refused(error) => WriteFailure::Refused(error.to_string()),
        failure => WriteFailure::Failed(failure.to_string()),
    }
}

impl<K, D> Origin<K, String> for Table<D>
where
    K: TextKey + Clone + Send + Sync + 'static,
    D: Database,
{
    type Error = String;

    async fn load(&self, key: &K) -> Result<Option<String>, String> {
        let mut rows =
            self.database.load(self.name, vec![text(key)]).await.map_err(|error| error.to_string())?;
        Ok(rows.remove(&text(key)))
    }

    async fn load_many(&self, keys: &[K]) -> Vec<Result<Option<String>, String>> {
        match self.database.load(self.name, keys.iter().map(text).collect()).await {
            Ok(rows) => keys.iter().map(|key| Ok(rows.get(&text(key)).cloned())).collect(),
            Err(error) => keys.iter().map(|_| Err(error.to_string())).collect(),
        }
    }

    async fn store(&self, key: &K, value: &String) -> Result<(), WriteFailure<String>> {
        let row = Row { key: text(key), value: Some(value.clone()), version: None };
        self.database.store(self.name, vec![row]).await.map_err(in_words)
    }

    async fn delete(&self, key: &K) -> Result<(), WriteFailure<String>> {
        let row = Row { key: text(key), value: None, version: None };
        self.database.store(self.name, vec![row]).await.map_err(in_words)
    }

    async fn store_many(&self, writes: &[OriginWrite<K, String>]) -> Vec<Result<(), WriteFailure<String>>> {
        let row = |write: &OriginWrite<K, String>| Row {
            key: text(&write.key),
            value: write.value.as_deref().cloned(),
            version: write.fence.map(|fence| fence.version.try_into().unwrap_or(i64::MAX)),
        };
        let stored = self.database.store(self.name, writes.iter().map(row).collect()).await;
        each(writes.len(), stored.map_err(in_words))
    }
}
