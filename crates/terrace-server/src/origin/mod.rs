//! The systems of record that the service loads from.
//!
//! 1. An origin is named in the configuration and shared by the keyspaces that name it. It connects when first asked,
//!    so one that is down keeps nothing from starting.
//! 2. A loader is what one keyspace asks: a key in, a JSON document, nothing or an [`OriginError`] out.
//! 3. Every answer comes within the origin's own deadlines.
//!
//! Deliberately absent: retries, and any memory of failures. What a failure means for a request, the library and
//! the API decide.

mod error;
mod postgres;
pub mod sql;
mod sqlite;

pub use error::OriginError;

use crate::config::{Config, OriginConfig};
use crate::template::Template;
use postgres::{Postgres, one_document};
use sql::Statement;
use sqlite::Sqlite;
use std::collections::BTreeMap;
use std::sync::Arc;
use terrace::codec::JsonText;
use terrace::{Bulkhead, Key, Origin};

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
    fn start(name: &str, config: &OriginConfig) -> Result<Self, SetupError> {
        let failed = |reason: String| SetupError { origin: name.to_owned(), reason };
        match config {
            OriginConfig::Sqlite(config) => {
                Sqlite::start(name, config).map(Self::Sqlite).map_err(|error| failed(error.to_string()))
            }
            OriginConfig::Postgres(config) => Postgres::new(name, config).map(Self::Postgres).map_err(failed),
        }
    }

    /// The text of a statement as this database wants it.
    fn text(&self, statement: &Statement) -> Arc<str> {
        match self {
            Self::Sqlite(_) => statement.numbered('?').into(),
            Self::Postgres(_) => one_document(&statement.numbered('$')).into(),
        }
    }

    async fn check(&self, statement: &Statement) -> Result<(), OriginError> {
        let text = self.text(statement);
        match self {
            Self::Sqlite(sqlite) => sqlite.check(&text, statement.names().len()).await,
            Self::Postgres(postgres) => postgres.check(&text).await,
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
            Ok((name.clone(), Arc::new(Database::start(name, origin)?)))
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

    /// What a keyspace with this pattern and statement asks.
    pub(crate) fn loader(&self, origin: &str, pattern: &Template, load: &Statement) -> Option<Loader> {
        let database = Arc::clone(self.databases.get(origin)?);
        let text = database.text(load);
        Some(Loader { database, pattern: pattern.clone(), names: load.names().to_vec(), text })
    }

    /// Whether an origin compiles a statement.
    pub(crate) async fn check(&self, origin: &str, statement: &Statement) -> Result<(), OriginError> {
        match self.databases.get(origin) {
            Some(database) => database.check(statement).await,
            None => Err(OriginError::Failed { origin: origin.into(), reason: "it is not configured".into() }),
        }
    }
}

/// Loads the values of one keyspace.
#[derive(Debug)]
pub(crate) struct Loader {
    database: Arc<Database>,
    pattern: Template,
    names: Vec<String>,
    text: Arc<str>,
}

impl Loader {
    /// The values of the statement's parameters; `None` if the key is not of the keyspace's pattern.
    fn values(&self, key: &str) -> Option<Vec<String>> {
        let captures = self.pattern.captures(key)?;
        self.names.iter().map(|name| captures.get(name).map(str::to_owned)).collect()
    }
}

impl Origin<Key, JsonText> for Loader {
    type Error = OriginError;

    async fn load(&self, key: &Key) -> Result<Option<JsonText>, OriginError> {
        let Some(values) = self.values(key.as_str()) else { return Ok(None) };
        let loaded = match &*self.database {
            Database::Sqlite(sqlite) => sqlite.load(&self.text, values).await,
            Database::Postgres(postgres) => postgres.load(&self.text, &values).await,
        };
        loaded.inspect_err(|error| {
            if matches!(error, OriginError::Key { .. }) {
                tracing::debug!(%error, "the origin refused a key");
            } else {
                tracing::warn!(%error, "a load failed");
            }
        })
    }
}
