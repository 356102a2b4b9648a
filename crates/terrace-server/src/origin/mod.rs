//! The systems of record that the service loads from, and writes to.
//!
//! 1. An origin is named in the configuration and shared by the keyspaces that name it. It connects when first asked,
//!    so one that is down keeps nothing from starting.
//! 2. A `Loader` is what one keyspace asks: a key in, a JSON document, nothing or an [`OriginError`] out; a document in, and
//!    whether the origin has it, does not have it, or may have it.
//! 3. Every answer comes within the origin's own deadlines.
//!
//! Deliberately absent: retries, and any memory of failures. What a failure means for a request, the library and
//! the API decide.

mod error;
mod loader;
mod postgres;
pub mod sql;
mod sqlite;
mod sqlite_file;
mod sqlite_writer;

pub use error::OriginError;
pub(crate) use error::Told;
pub(crate) use loader::Loader;

use crate::config::{Config, KeyspaceConfig, OriginConfig, SourceConfig};
use loader::{Parameter, Prepared};
use postgres::{Postgres, one_document};
use sql::Statement;
use sqlite::{Purpose, Sqlite};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use terrace::codec::JsonText;
use terrace::{Bulkhead, WriteFailure};

/// What came of a write.
type Written = Result<(), WriteFailure<OriginError>>;

/// An origin that cannot be set up.
#[derive(Clone, Debug, thiserror::Error)]
#[error("origin `{origin}` cannot be set up: {reason}")]
pub struct SetupError {
    /// The origin's name.
    pub origin: String,
    /// What was tried, and what came of it.
    pub reason: String,
}

#[derive(Debug)]
enum Database {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Database {
    fn start(name: &str, config: &OriginConfig, is_written: bool) -> Result<Self, SetupError> {
        let failed = |reason: String| SetupError { origin: name.to_owned(), reason };
        match config {
            OriginConfig::Sqlite(config) => {
                let started = Sqlite::start(name, config, is_written);
                started.map(Self::Sqlite).map_err(|error| failed(error.to_string()))
            }
            OriginConfig::Postgres(config) => Postgres::new(name, config).map(Self::Postgres).map_err(failed),
        }
    }

    /// The statement that loads, as this database wants it.
    fn loading(&self, source: &SourceConfig) -> Prepared {
        let (statement, column) = (&source.load, source.document.as_deref());
        let text = match self {
            Self::Sqlite(_) => statement.numbered('?'),
            Self::Postgres(_) => one_document(&statement.numbered('$'), column),
        };
        Prepared { text: text.into(), names: statement.names().to_vec() }
    }

    /// A statement that writes, as this database wants it.
    fn writing(&self, statement: &Statement) -> Prepared {
        let sign = match self {
            Self::Sqlite(_) => '?',
            Self::Postgres(_) => '$',
        };
        Prepared { text: statement.numbered(sign).into(), names: statement.names().to_vec() }
    }

    async fn load(
        &self,
        text: &Arc<str>,
        values: Vec<Parameter>,
        document: Option<&Arc<str>>,
    ) -> Result<Option<JsonText>, OriginError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.load(text, values, document.cloned()).await,
            Self::Postgres(postgres) => postgres.load(text, &values).await,
        }
    }

    async fn write(&self, text: &Arc<str>, values: Vec<Parameter>) -> Written {
        match self {
            Self::Sqlite(sqlite) => sqlite.write(text, values).await,
            Self::Postgres(postgres) => postgres.write(text, &values).await,
        }
    }

    /// How many writes of a batch are under way at the same time.
    fn writes_at_once(&self) -> usize {
        match self {
            Self::Sqlite(_) => 1,
            Self::Postgres(postgres) => postgres.writes_at_once(),
        }
    }

    async fn check(&self, statement: &Prepared, purpose: Purpose) -> Result<(), OriginError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.check(&statement.text, purpose).await,
            Self::Postgres(postgres) => postgres.check(&statement.text).await,
        }
    }
}

/// The origins of a configuration, by name.
#[derive(Debug)]
pub(crate) struct Origins {
    databases: BTreeMap<String, Arc<Database>>,
    bulkheads: BTreeMap<String, Bulkhead>,
}

impl Origins {
    pub(crate) fn start(config: &Config) -> Result<Self, SetupError> {
        let start = |(name, origin): (&String, &OriginConfig)| {
            let is_writer = |keyspace: &KeyspaceConfig| {
                let source = keyspace.source.as_ref().filter(|_| keyspace.strategy.writes());
                source.is_some_and(|source| source.origin == *name)
            };
            let is_written = config.keyspaces.values().any(is_writer);
            Ok((name.clone(), Arc::new(Database::start(name, origin, is_written)?)))
        };
        let databases = config.origins.iter().map(start).collect::<Result<_, _>>()?;
        let mut bulkheads = BTreeMap::new();
        for (name, origin) in &config.origins {
            if let Some(bulkhead) = origin.loads().bulkhead(name) {
                let failed = |error: terrace::ConfigError| SetupError {
                    origin: name.clone(),
                    reason: error.to_string(),
                };
                bulkheads.insert(name.clone(), bulkhead.map_err(failed)?);
            }
        }
        Ok(Self { databases, bulkheads })
    }

    /// What bounds the loads of an origin, of all keyspaces together.
    pub(crate) fn bulkhead(&self, origin: &str) -> Option<&Bulkhead> {
        self.bulkheads.get(origin)
    }

    /// What a keyspace asks; `None` if it has no source.
    pub(crate) fn loader(&self, keyspace: &KeyspaceConfig) -> Option<Loader> {
        let source = keyspace.source.as_ref()?;
        let database = Arc::clone(self.databases.get(&source.origin)?);
        let attempt = keyspace.write_behind.as_ref().map_or(Duration::MAX, |lane| lane.attempt_timeout.0);
        Some(Loader {
            origin: source.origin.as_str().into(),
            pattern: keyspace.pattern.clone(),
            load: database.loading(source),
            document: source.document.as_deref().map(Into::into),
            store: source.store.as_ref().map(|statement| database.writing(statement)),
            delete: source.delete.as_ref().map(|statement| database.writing(statement)),
            batch_time: attempt / 2,
            database,
        })
    }

    /// Whether an origin compiles the statements of a source: what each is called, and what is wrong with it.
    pub(crate) async fn check(&self, source: &SourceConfig) -> Vec<(&'static str, Result<(), OriginError>)> {
        let Some(database) = self.databases.get(&source.origin) else { return Vec::new() };
        let document: Option<Arc<str>> = source.document.as_deref().map(Into::into);
        let load = |statement: &Statement| Purpose::Load {
            parameters: statement.names().len(),
            document: document.clone(),
        };
        let write = |statement: &Statement| Purpose::Write { parameters: statement.names().len() };
        let many = source.load_many.as_ref().map(|statement| {
            let many = SourceConfig { load: statement.clone(), ..source.clone() };
            ("load_many", database.loading(&many), load(statement))
        });
        let writing = [("store", &source.store), ("delete", &source.delete)].into_iter();
        let writing = writing.filter_map(|(name, statement)| {
            let statement = statement.as_ref()?;
            Some((name, database.writing(statement), write(statement)))
        });
        let first = ("load", database.loading(source), load(&source.load));
        let mut findings = Vec::new();
        for (name, statement, purpose) in [first].into_iter().chain(many).chain(writing) {
            findings.push((name, database.check(&statement, purpose).await));
        }
        findings
    }
}
