//! The systems of record that the service loads from, and writes to.
//!
//! 1. An origin is named in the configuration and shared by the keyspaces that name it. It connects when first asked,
//!    so one that is down keeps nothing from starting.
//! 2. A `Loader` is what one keyspace asks: a key in, a JSON document, nothing or an [`OriginError`] out; a document in, and
//!    whether the origin has it, does not have it, or may have it.
//! 3. Every answer comes within the origin's own deadlines.
//!
//! 4. An origin that fails too often is left alone for a while, by breakers of its own that all its keyspaces share: one for loads, which
//!    fail at once then, and one for writes, which are not made. Neither says anything of the other: a database that has no room left can be
//!    read. A reload that leaves the origin as it is leaves them as they are.
//!
//! Deliberately absent: retries. What a failure means for a request, the library and the API decide.

mod answers;
mod ask;
pub mod endpoint;
mod error;
mod freshness;
mod groups;
mod http;
mod keys;
mod loader;
mod postgres;
pub(crate) mod postgres_tls;
mod room;
mod roots;
pub mod sql;
mod sqlite;
mod sqlite_file;
mod sqlite_writer;
mod together;
mod under_way;
mod validators;

pub use ask::Ask;
pub use error::OriginError;
pub(crate) use error::Told;
pub use keys::{KeysError, NoKey, each_key};
pub(crate) use loader::Loader;
pub(crate) use roots::Renewal;

use crate::config::{Config, KeyspaceConfig, OriginConfig, SourceConfig, SourceFreshness, list_of};
use answers::Answers;
use http::Http;
use loader::{Asking, Found, Many, Parameter, Prepared, Requests, Statements};
use postgres::{Postgres, many_documents, one_document};
use room::Room;
use sql::Statement;
use sqlite::{Purpose, Sqlite, many_rows};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use terrace::codec::JsonText;
use terrace::{Bulkhead, Clock, OriginAnswer, OriginBreaker, Ttl, WriteFailure};

/// What came of a write.
type Written = Result<(), WriteFailure<OriginError>>;

/// The same, and what else the origin says is not true any more.
type Answered = OriginAnswer<OriginError>;

/// An origin that cannot be set up.
#[derive(Clone, Debug, thiserror::Error)]
#[error("origin `{origin}` cannot be set up: {reason}")]
pub struct SetupError {
    /// The origin's name.
    pub origin: String,
    /// What was tried, and what came of it.
    pub reason: String,
}

#[derive(Clone, Debug)]
enum System {
    Database(Arc<Database>),
    Http(Arc<Http>),
}

impl System {
    fn start(name: &str, config: &OriginConfig, is_written: bool) -> Result<Self, SetupError> {
        let failed = |reason: String| SetupError { origin: name.to_owned(), reason };
        let database = |database| Self::Database(Arc::new(database));
        match config {
            OriginConfig::Sqlite(config) => {
                let started = Sqlite::start(name, config, is_written);
                started.map(Database::Sqlite).map(database).map_err(|error| failed(error.to_string()))
            }
            OriginConfig::Postgres(config) => {
                Postgres::new(name, config).map(Database::Postgres).map(database).map_err(failed)
            }
            OriginConfig::Http(config) => {
                Http::new(name, config).map(|http| Self::Http(Arc::new(http))).map_err(failed)
            }
        }
    }

    /// What a source asks of it, of a keyspace with this TTL. Words that are not of this system's kind are left out: a configuration that was checked has none.
    fn asking(&self, source: &SourceConfig, ttl: Ttl) -> Asking {
        match self {
            Self::Database(database) => {
                let writing = |ask: &Ask| ask.statement().map(|statement| database.writing(statement));
                let loading =
                    |ask: &Ask| Some(database.loading(ask.statement()?, source.document.as_deref()));
                Asking::Sql(Statements {
                    load: source.load.as_ref().and_then(loading),
                    load_many: source
                        .load_many
                        .as_ref()
                        .and_then(|ask| database.loading_many(ask, source.document.as_deref())),
                    document: source.document.as_deref().map(Into::into),
                    store: source.store.as_ref().and_then(writing),
                    delete: source.delete.as_ref().and_then(writing),
                    database: Arc::clone(database),
                })
            }
            Self::Http(api) => {
                let endpoint = |ask: &Ask| ask.endpoint().cloned();
                Asking::Http(Requests {
                    origin: source.origin.as_str().into(),
                    load: source.load.as_ref().and_then(endpoint),
                    store: source.store.as_ref().and_then(endpoint),
                    delete: source.delete.as_ref().and_then(endpoint),
                    answers: Answers::new(
                        (source.freshness == SourceFreshness::Answer).then_some(ttl),
                        source.conditional,
                    ),
                    api: Arc::clone(api),
                })
            }
        }
    }
}

#[derive(Debug)]
enum Database {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Database {
    /// The statement that loads, as this database wants it.
    fn loading(&self, statement: &Statement, column: Option<&str>) -> Prepared {
        let text = match self {
            Self::Sqlite(_) => statement.numbered('?'),
            Self::Postgres(_) => one_document(&statement.numbered('$'), column),
        };
        Prepared { text: text.into(), names: statement.names().to_vec() }
    }

    /// The statement that loads many, as this database wants it: each row with the place of its key in the list.
    fn loading_many(&self, ask: &Ask, column: Option<&str>) -> Option<Many> {
        let (statement, part) = (ask.statement()?, list_of(ask)?);
        let number = statement.names().iter().position(|name| name == part)? + 1;
        let text = match self {
            Self::Sqlite(_) => many_rows(&statement.numbered('?'), part, number),
            Self::Postgres(_) => many_documents(&statement.numbered('$'), column, part, number),
        };
        let statement = Prepared { text: text.into(), names: statement.names().to_vec() };
        Some(Many { statement, part: part.to_owned() })
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

    async fn load_many(
        &self,
        text: &Arc<str>,
        values: Vec<Parameter>,
        document: Option<&Arc<str>>,
        count: usize,
    ) -> Result<Vec<Found>, OriginError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.load_many(text, values, document.cloned(), count).await,
            Self::Postgres(postgres) => postgres.load_many(text, &values, count).await,
        }
    }

    async fn write(&self, text: &Arc<str>, values: Vec<Parameter>) -> Written {
        match self {
            Self::Sqlite(sqlite) => sqlite.write(text, values).await,
            Self::Postgres(postgres) => postgres.write(text, &values).await,
        }
    }

    /// How many loads are under way at the same time.
    fn loads_at_once(&self) -> usize {
        match self {
            Self::Sqlite(sqlite) => sqlite.loads_at_once(),
            Self::Postgres(postgres) => postgres.loads_at_once(),
        }
    }

    /// How many writes of a batch are under way at the same time.
    fn writes_at_once(&self) -> usize {
        match self {
            Self::Sqlite(_) => 1,
            Self::Postgres(postgres) => postgres.writes_at_once(),
        }
    }

    /// Whether each statement of a source compiles.
    async fn check_all(&self, source: &SourceConfig) -> Vec<(&'static str, Result<(), OriginError>)> {
        let (column, mut findings) = (source.document.as_deref(), Vec::new());
        if let Some(statement) = source.load.as_ref().and_then(Ask::statement) {
            let purpose =
                Purpose::Load { parameters: statement.names().len(), document: column.map(Into::into) };
            findings.push(("load", self.check(&self.loading(statement, column), purpose).await));
        }
        if let Some(many) = source.load_many.as_ref().and_then(|ask| self.loading_many(ask, column)) {
            let parameters = many.statement.names.len();
            let purpose = Purpose::Load { parameters, document: column.map(Into::into) };
            findings.push(("load_many", self.check(&many.statement, purpose).await));
        }
        let writing = [("store", source.store.as_ref()), ("delete", source.delete.as_ref())];
        for (name, statement) in writing.map(|(name, ask)| (name, ask.and_then(Ask::statement))) {
            let Some(statement) = statement else { continue };
            let purpose = Purpose::Write { parameters: statement.names().len() };
            findings.push((name, self.check(&self.writing(statement), purpose).await));
        }
        findings
    }

    async fn ping(&self) -> Result<(), OriginError> {
        match self {
            // What is no database says so when its tables are asked for.
            Self::Sqlite(sqlite) => {
                let purpose = Purpose::Load { parameters: 0, document: None };
                sqlite.check(&"select count(*) from sqlite_schema".into(), purpose).await
            }
            Self::Postgres(postgres) => postgres.check("select 1").await,
        }
    }

    async fn check(&self, statement: &Prepared, purpose: Purpose) -> Result<(), OriginError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.check(&statement.text, purpose).await,
            Self::Postgres(postgres) => postgres.check(&statement.text).await,
        }
    }
}

/// What a database that takes no writes says.
fn takes_no_writes(origin: &Arc<str>) -> Written {
    Err(WriteFailure::Failed(OriginError::Failed {
        origin: Arc::clone(origin),
        reason: "it was opened for reading alone".to_owned(),
    }))
}

/// Whether a keyspace writes to this origin.
fn is_written(config: &Config, name: &str) -> bool {
    config.keyspaces.values().any(|keyspace| {
        let source = keyspace.source.as_ref().filter(|_| keyspace.strategy.writes());
        source.is_some_and(|source| source.origin == name)
    })
}

/// The origins of a configuration, by name.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    systems: BTreeMap<String, System>,
    bulkheads: BTreeMap<String, Bulkhead>,
    breakers: Breakers,
}

/// The breakers of origins, by name.
pub(crate) type Breakers = BTreeMap<String, Guards>;

/// The breakers of one origin. What is always asked has none, and what is never written has none for writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guards {
    pub(crate) loads: Option<OriginBreaker>,
    pub(crate) writes: Option<OriginBreaker>,
}

impl Guards {
    fn new(name: &str, origin: &OriginConfig, is_written: bool) -> Result<Self, SetupError> {
        let settings = origin.breaker();
        let guard = |calls: &'static str, is_asked: bool| {
            let breaker = (is_asked && settings.enabled)
                .then(|| OriginBreaker::for_calls(name, calls, settings.settings(), Clock::system()));
            breaker
                .transpose()
                .map_err(|error| SetupError { origin: name.to_owned(), reason: error.to_string() })
        };
        Ok(Self { loads: guard("loads", true)?, writes: guard("writes", is_written)? })
    }

    /// Each of them.
    pub(crate) fn each(&self) -> impl Iterator<Item = &OriginBreaker> {
        self.loads.iter().chain(&self.writes)
    }

    /// Each of them, with what it is called beside others.
    pub(crate) fn named(&self, origin: &str) -> impl Iterator<Item = (String, &OriginBreaker)> {
        let loads = self.loads.iter().map(move |breaker| (format!("origin.{origin}"), breaker));
        loads.chain(self.writes.iter().map(move |breaker| (format!("origin.{origin}.writes"), breaker)))
    }
}

impl Origins {
    pub(crate) fn start(config: &Config) -> Result<Self, SetupError> {
        Self::default().set_up(None, config)
    }

    /// The origins of another configuration. Those that are as they were go on as they are, with their connections.
    pub(crate) fn next(&self, before: &Config, config: &Config) -> Result<Self, SetupError> {
        self.set_up(Some(before), config)
    }

    fn set_up(&self, before: Option<&Config>, config: &Config) -> Result<Self, SetupError> {
        let mut next = Self::default();
        for (name, origin) in &config.origins {
            let was = before.and_then(|before| Some((before.origins.get(name)?, is_written(before, name))));
            let is_same = was == Some((origin, is_written(config, name)));
            let system = match self.systems.get(name).filter(|_| is_same) {
                Some(system) => system.clone(),
                None => System::start(name, origin, is_written(config, name))?,
            };
            next.systems.insert(name.clone(), system);
            let has_same_bound = was.is_some_and(|(was, _)| was.loads() == origin.loads());
            let bulkhead = match self.bulkheads.get(name).filter(|_| has_same_bound) {
                Some(bulkhead) => Some(Ok(bulkhead.clone())),
                None => origin.loads().bulkhead(name),
            };
            let failed =
                |error: terrace::ConfigError| SetupError { origin: name.clone(), reason: error.to_string() };
            let guards = match self.breakers.get(name).filter(|_| is_same) {
                Some(guards) => guards.clone(),
                None => Guards::new(name, origin, is_written(config, name))?,
            };
            next.breakers.insert(name.clone(), guards);
            if let Some(bulkhead) = bulkhead {
                next.bulkheads.insert(name.clone(), bulkhead.map_err(failed)?);
            }
        }
        Ok(next)
    }

    /// Those whose file with roots says something else by now, made ready to believe that.
    pub(crate) fn renewals(&self, config: &Config) -> Result<Vec<(String, Renewal)>, SetupError> {
        let mut renewals = Vec::new();
        for (name, system) in &self.systems {
            let renewal = match (system, config.origins.get(name)) {
                (System::Http(api), Some(OriginConfig::Http(config))) => api.renew(config),
                (System::Database(database), Some(OriginConfig::Postgres(config))) => match &**database {
                    Database::Postgres(postgres) => postgres.renew(config),
                    Database::Sqlite(_) => Ok(None),
                },
                _ => Ok(None),
            };
            let failed = |reason| SetupError { origin: name.clone(), reason };
            renewals.extend(renewal.map_err(failed)?.map(|renewal| (name.clone(), renewal)));
        }
        Ok(renewals)
    }

    /// What bounds the loads of an origin, of all keyspaces together.
    pub(crate) fn bulkhead(&self, origin: &str) -> Option<&Bulkhead> {
        self.bulkheads.get(origin)
    }

    /// Their breakers.
    pub(crate) fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    /// What a keyspace asks for a tenant, or for nobody in particular; `None` if it has no source.
    pub(crate) fn loader(&self, keyspace: &KeyspaceConfig, tenant: Option<&str>) -> Option<Loader> {
        let source = keyspace.source.as_ref()?;
        let attempt = keyspace.write_behind.as_ref().map_or(Duration::MAX, |lane| lane.attempt_timeout.0);
        Some(Loader {
            origin: source.origin.as_str().into(),
            tenant: tenant.map(Into::into),
            pattern: keyspace.pattern.clone(),
            asking: self.systems.get(&source.origin)?.asking(source, keyspace.ttl.0),
            guards: self.breakers.get(&source.origin).cloned().unwrap_or_default(),
            room: match self.bulkhead(&source.origin) {
                _ if keyspace.limits.loads_max.is_some() => Room::Own,
                Some(bulkhead) => Room::Shared(bulkhead.clone()),
                None => Room::Wide,
            },
            batch_time: attempt / 2,
            timer: OnceLock::new(),
        })
    }

    /// Whether an origin compiles the statements of a source, or can be reached: what each is called, and what is wrong with it.
    pub(crate) async fn check(&self, source: &SourceConfig) -> Vec<(&'static str, Result<(), OriginError>)> {
        match self.systems.get(&source.origin) {
            Some(System::Database(database)) => database.check_all(source).await,
            Some(System::Http(api)) => {
                vec![(if source.load.is_some() { "load" } else { "store" }, api.check().await)]
            }
            None => Vec::new(),
        }
    }

    /// Whether an origin answers, whatever it has.
    pub(crate) async fn ping(&self, name: &str) -> Result<(), OriginError> {
        match self.systems.get(name) {
            Some(System::Database(database)) => database.ping().await,
            Some(System::Http(api)) => api.check().await,
            None => Ok(()),
        }
    }
}
