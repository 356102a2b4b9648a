//! Which keys of a keyspace does its origin have? Those that a query finds, whose columns are called as the parts of the pattern.
//!
//! 1. Each part has a column and each column is a part, so that no key is made of something else than is meant.
//! 2. Nothing is written: the connection cannot, a statement that would is refused, and a transaction is taken back.
//! 3. Rows are given away as they come, however many there are; the next ones have the time of a statement each time.
//! 4. A row that makes no key, or one of another keyspace, is said and passed over.

use super::error::OriginError;
use super::postgres::Postgres;
use super::sql::{SqlError, Statement};
use super::sqlite::check_shape;
use super::sqlite_file::SqliteFile;
use crate::config::{Config, OriginConfig, SqliteConfig};
use crate::runtime;
use crate::template::Template;
use rusqlite::types::ValueRef;
use rusqlite::{ErrorCode, OpenFlags, Row};
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The configuration has no such keyspace.
    #[error("the configuration has no keyspace `{0}`")]
    NoKeyspace(String),
    /// The keyspace, or its origin, cannot be asked with a query.
    #[error("{0}")]
    NoDatabase(String),
    /// It is not one statement.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// The query is none, or its columns make no keys.
    #[error("{0}")]
    Query(String),
    /// What the origin said, or that it said nothing.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The origin cannot be set up.
    #[error("{0}")]
    SetUp(String),
    /// Whoever wanted the keys could not take one.
    #[error("what was found cannot be kept: {0}")]
    Kept(#[from] io::Error),
}

impl KeysError {
    /// Whether the origin did not answer: another time may bring an answer.
    pub fn is_unanswered(&self) -> bool {
        matches!(self, Self::Origin(error) if error.is_unanswered())
    }

    /// Whether the origin does not let us in.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Origin(error) if error.is_denied())
    }
}

/// Why a row makes no key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("row {row}: {reason}")]
pub struct NoKey {
    /// Which row, from 1.
    pub row: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Gives each key that a query finds at the origin of a keyspace to `take`.
///
/// # Errors
/// [`KeysError`]. What was taken before is no mistake.
///
/// # Cost
/// One connection to the origin, for as long as there are rows.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// use terrace_server::config::{Config, Sources};
/// use terrace_server::origin::{KeysError, each_key};
///
/// let config = Config::load(&Sources::text("[keyspace.users]\npattern = 'user:{id}'\n"))?;
/// let asked = each_key(&config, "users", "select id from users", |_key| Ok(())).await;
/// assert!(matches!(asked, Err(KeysError::NoDatabase(_))), "it has no origin");
/// # Ok::<(), terrace_server::config::ConfigError>(())
/// # }).unwrap();
/// ```
pub async fn each_key(
    config: &Config,
    keyspace: &str,
    sql: &str,
    mut take: impl FnMut(Result<String, NoKey>) -> io::Result<()>,
) -> Result<(), KeysError> {
    let mut made = Maker::new(config, keyspace)?;
    let source = config.keyspaces.get(keyspace).and_then(|keyspace| keyspace.source.as_ref());
    let named = source.and_then(|source| config.origins.get_key_value(&source.origin));
    let Some((name, origin)) = named else {
        let reason = format!("keyspace `{keyspace}` has no origin that a query could be for");
        return Err(KeysError::NoDatabase(reason));
    };
    let query = Statement::parse(sql)?;
    if let Some(parameter) = query.names().first() {
        return Err(KeysError::Query(format!(
            "the query has a parameter, `:{parameter}`, which nothing gives"
        )));
    }
    let text = query.as_str();
    match origin {
        OriginConfig::Sqlite(sqlite) => {
            let mut rows = rows(name, sqlite, text, made.pattern.clone())?;
            while let Some(row) = rows.recv().await {
                take(made.key(row?))?;
            }
            Ok(())
        }
        OriginConfig::Postgres(postgres) => {
            let origin = Postgres::new(name, postgres).map_err(KeysError::SetUp)?;
            let pattern = made.pattern.clone();
            let wanted = |columns: &[&str]| wanted(&pattern, columns);
            let take = |values: Vec<_>| Ok(take(made.key(values.into_iter().map(Ok).collect()))?);
            origin.each_row(text, wanted, take).await
        }
        OriginConfig::Http(_) => Err(KeysError::NoDatabase(format!(
            "the origin of keyspace `{keyspace}`, `{name}`, is an HTTP API, which takes no query"
        ))),
    }
}

/// What a row has for the parts of a key, in their order: a text, nothing, or what is wrong with it.
type Values = Vec<Result<Option<String>, String>>;

/// What makes keys of rows.
struct Maker {
    pattern: Template,
    /// The other patterns that take keys from this one, and whose they are.
    nearer: Vec<(String, Template)>,
    row: u64,
}

impl Maker {
    fn new(config: &Config, name: &str) -> Result<Self, KeysError> {
        let keyspace = config.keyspaces.get(name).ok_or_else(|| KeysError::NoKeyspace(name.to_owned()))?;
        let pattern = keyspace.pattern.clone();
        let takes = |other: &Template| other.prefix().len() > pattern.prefix().len();
        let others = config.keyspaces.iter().filter(|(_, other)| takes(&other.pattern));
        let nearer = others.map(|(name, other)| (name.clone(), other.pattern.clone())).collect();
        Ok(Self { pattern, nearer, row: 0 })
    }

    fn key(&mut self, values: Values) -> Result<String, NoKey> {
        self.row += 1;
        self.of(values).map_err(|reason| NoKey { row: self.row, reason })
    }

    fn of(&self, values: Values) -> Result<String, String> {
        let mut parts = Vec::with_capacity(values.len());
        for (name, value) in self.pattern.names().zip(values) {
            parts.push(value?.ok_or_else(|| format!("the column `{name}` is null"))?);
        }
        let key = self.pattern.key(&parts).map_err(|name| {
            format!("the column `{name}` is empty or has a `:`, which no such part of a key has")
        })?;
        match self.nearer.iter().find(|(_, other)| other.matches(&key)) {
            Some((name, _)) => Err(format!("{key:?} is a key of keyspace `{name}`")),
            None => Ok(key),
        }
    }
}

/// The columns that make the keys of a pattern, in the order of its parts.
fn wanted(pattern: &Template, columns: &[&str]) -> Result<Vec<String>, KeysError> {
    let names: Vec<&str> = pattern.names().collect();
    let text = pattern.as_str();
    let refused = |reason: String| Err(KeysError::Query(reason));
    if pattern.has_nameless_rest() || names.is_empty() {
        return refused(format!("not all of the pattern `{text}` has a name that a column could have"));
    }
    if columns.is_empty() {
        return refused("the query reads nothing; one that does is a `select`".to_owned());
    }
    if let Some(other) = columns.iter().find(|column| !names.contains(column)) {
        let names = names.join("`, `");
        return refused(format!("the column `{other}` is no part of the pattern `{text}`; select `{names}`"));
    }
    if let Some(missing) = names.iter().find(|name| !columns.contains(name)) {
        return refused(format!("the pattern `{text}` has the part `{missing}`, and no column is called so"));
    }
    match columns.iter().enumerate().find(|(at, column)| columns[..*at].contains(column)) {
        Some((_, twice)) => refused(format!("two columns are called `{twice}`")),
        None => Ok(names.into_iter().map(str::to_owned).collect()),
    }
}

/// Rows that wait to be taken.
const ROWS_WAITING_MAX: usize = 1000;

/// The rows of a query of a SQLite file, which is read on a thread of its own.
fn rows(
    name: &str,
    config: &SqliteConfig,
    sql: &str,
    pattern: Template,
) -> Result<mpsc::Receiver<Result<Values, KeysError>>, KeysError> {
    let (sender, receiver) = mpsc::channel(ROWS_WAITING_MAX);
    let mut file = SqliteFile::new(config, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let (name, sql): (Arc<str>, String) = (name.into(), sql.to_owned());
    let work = move || {
        if let Err(error) = read(&mut file, &name, &sql, &pattern, &sender) {
            let _nobody_waits_any_more = sender.blocking_send(Err(error));
        }
    };
    runtime::thread("sqlite-keys".to_owned(), work).map_err(|error| KeysError::SetUp(error.to_string()))?;
    Ok(receiver)
}

fn read(
    file: &mut SqliteFile,
    name: &Arc<str>,
    sql: &str,
    pattern: &Template,
    sender: &mpsc::Sender<Result<Values, KeysError>>,
) -> Result<(), KeysError> {
    let (more_time, timeout) = (file.more_time(), file.timeout());
    let failed = |error: rusqlite::Error| {
        let (origin, reason) = (Arc::clone(name), error.to_string());
        KeysError::Origin(match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted | ErrorCode::DatabaseBusy) => {
                OriginError::Timeout { origin, after: timeout }
            }
            Some(ErrorCode::CannotOpen) => OriginError::Unavailable { origin, reason, is_reached: false },
            _ => OriginError::Failed { origin, reason },
        })
    };
    let connection = file.begin().map_err(failed)?;
    let mut statement = connection.prepare(sql).map_err(failed)?;
    check_shape(&statement, 0, None).map_err(KeysError::Query)?;
    let columns = wanted(pattern, &statement.column_names().collect::<Vec<_>>())?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let values = columns.iter().map(|column| text(row, column)).collect();
        if sender.blocking_send(Ok(values)).is_err() {
            return Ok(());
        }
        more_time();
    }
    Ok(())
}

fn text(row: &Row<'_>, column: &str) -> Result<Option<String>, String> {
    match row.get_ref(column).map_err(|error| error.to_string())? {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(number) => Ok(Some(number.to_string())),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(error) => Err(format!("the column `{column}` is not UTF-8: {error}")),
        },
        ValueRef::Real(_) | ValueRef::Blob(_) => {
            Err(format!("the column `{column}` is neither a whole number nor a text; `cast` it to one"))
        }
    }
}
