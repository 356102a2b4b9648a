//! A PostgreSQL server as an origin.
//!
//! 1. Values travel as text, and the server reads them as whatever type it compares them with: integers, UUIDs,
//!    timestamps, booleans, text. One that it cannot read is a bad key, not a failure of the origin.
//! 2. The row comes back as the JSON document that PostgreSQL makes of it.
//! 3. Connections are made when first needed, and give up statements by themselves after the statement timeout. One that is dead,
//!    or has not answered by then, is thrown away.
//! 4. Those that load are read-only. Those that write are others, so that neither waits for the other; each has to answer before
//!    it gets a write, so that one that died while it idled does not leave a write unknown.
//! 5. A write is one statement, and a transaction of its own. An error of the server that leaves the connection alive says that
//!    it was taken back; that the connection ended, or did not answer in time, says nothing.
//! 6. A statement that loads many is asked for [`ROWS_MAX`] rows and one more: with that it is not for keys, and does not do.
//! 7. TLS has [`super::postgres_tls`].

use super::Written;
use super::error::OriginError;
use super::loader::{Found, Parameter};
use super::postgres_tls::{connector, settings};
use super::roots::{Believing, Renewal, Roots};
use super::together::AT_ONCE_MAX;
use crate::config::PostgresConfig;
use crate::runtime;
use bytes::{Bytes, BytesMut};
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod};
use std::sync::Arc;
use std::time::Duration;
use terrace::WriteFailure;
use terrace::codec::JsonText;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::Row;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::{Format, IsNull, ToSql, Type};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How much longer than the statement timeout an answer is waited for, because the server counts from later on.
const PATIENCE: Duration = Duration::from_millis(500);

/// A PostgreSQL server.
pub(super) struct Postgres {
    name: Arc<str>,
    pools: Believing<Pools>,
    connect_timeout: Duration,
    statement_timeout: Duration,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Postgres {
    pub(super) fn new(name: &str, config: &PostgresConfig) -> Result<Self, String> {
        if !config.verify_certificate {
            tracing::warn!(
                origin = name,
                "whose certificate the server shows is not looked at: whoever is between can read and change everything"
            );
        }
        Ok(Self {
            name: name.into(),
            pools: Believing::new(config.root_certificate_file.as_deref(), |roots| {
                Pools::new(config, roots)
            })?,
            connect_timeout: config.connect_timeout.0,
            statement_timeout: config.statement_timeout.0,
        })
    }

    /// Other connections, if the file with roots says something else by now.
    pub(super) fn renew(&self, config: &PostgresConfig) -> Result<Option<Renewal>, String> {
        self.pools.next(config.root_certificate_file.as_deref(), |roots| Pools::new(config, roots))
    }

    /// Loads a value. A pooled connection that turns out to be dead is thrown away and another one is asked, until one
    /// is new: the end of a server shows on its connections only when they are used.
    pub(super) async fn load(
        &self,
        sql: &str,
        values: &[Parameter],
    ) -> Result<Option<JsonText>, OriginError> {
        self.one(&self.found(sql, values).await?)
    }

    /// Loads the values of so many keys.
    pub(super) async fn load_many(
        &self,
        sql: &str,
        values: &[Parameter],
        count: usize,
    ) -> Result<Vec<Found>, OriginError> {
        let mut answers: Vec<Found> = (0..count).map(|_| Ok(None)).collect();
        let rows = self.found(sql, values).await?;
        if rows.len() > ROWS_MAX {
            return Err(self.failed(TOO_MANY.to_owned()));
        }
        for row in rows {
            let place: Option<i64> = row.try_get(0).map_err(|error| self.explain(&error))?;
            let place = place.and_then(|place| usize::try_from(place).ok()?.checked_sub(1));
            let Some(answer) = place.and_then(|place| answers.get_mut(place)) else {
                return Err(self.failed(NO_KEY.to_owned()));
            };
            *answer = match answer {
                Ok(None) => self.document(&row, 1).map(Some),
                _ => Err(OriginError::NotUnique { origin: Arc::clone(&self.name) }),
            };
        }
        Ok(answers)
    }

    async fn found(&self, sql: &str, values: &[Parameter]) -> Result<Vec<Row>, OriginError> {
        let pools = self.pools.now();
        loop {
            let (client, _place) = self.client(&pools.loading).await?;
            let is_pooled = Object::metrics(&client).recycle_count > 0;
            match self.rows(client, sql, values).await {
                Err(OriginError::Unavailable { .. }) if is_pooled => {}
                rows => return rows,
            }
        }
    }

    async fn rows(&self, client: Object, sql: &str, values: &[Parameter]) -> Result<Vec<Row>, OriginError> {
        let ran = runtime::within(self.statement_timeout + PATIENCE, run(&client, sql, values)).await;
        let is_silent = ran.is_none();
        let result = match ran {
            Some(rows) => rows.map_err(|error| self.explain(&error)),
            None => Err(self.timeout(self.statement_timeout)),
        };
        if is_silent || matches!(result, Err(OriginError::Unavailable { .. })) {
            drop(Object::take(client));
        }
        result
    }

    /// Makes a change.
    pub(super) async fn write(&self, sql: &str, values: &[Parameter]) -> Written {
        let pools = self.pools.now();
        let (client, _place) = self.client(&pools.writing).await.map_err(WriteFailure::Unavailable)?;
        let limit = self.statement_timeout + PATIENCE;
        let written = match runtime::within(limit, change(&client, sql, values)).await {
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => Err(self.explain_write(&error)),
            None => Err(self.unknown(format!("it did not answer within {limit:?}"))),
        };
        if matches!(written, Err(WriteFailure::Unknown(_) | WriteFailure::Unavailable(_))) {
            drop(Object::take(client));
        }
        written
    }

    /// How many loads can be under way at the same time.
    pub(super) fn loads_at_once(&self) -> usize {
        self.pools.now().loading.pool.status().max_size.max(1)
    }

    /// How many writes can be under way at the same time.
    pub(super) fn writes_at_once(&self) -> usize {
        self.pools.now().writing.pool.status().max_size.max(1)
    }

    fn explain_write(&self, error: &Unchanged) -> WriteFailure<OriginError> {
        let (Unchanged::BeforeSent(error) | Unchanged::Sent(error), is_sent) =
            (error, matches!(error, Unchanged::Sent(_)));
        let (origin, reason) = (Arc::clone(&self.name), words(error));
        let (Some(code), Some(database)) = (error.code(), error.as_db_error()) else {
            return if is_sent {
                self.unknown(reason)
            } else {
                WriteFailure::Unavailable(self.unavailable(reason, true))
            };
        };
        let ends_connection = matches!(database.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
        match code.code() {
            _ if is_sent && (ends_connection || *code == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN) => {
                self.unknown(reason)
            }
            _ if *code == SqlState::QUERY_CANCELED => {
                WriteFailure::Failed(self.timeout(self.statement_timeout))
            }
            // A replica, or a disk that is full: what it is asked for, it has.
            code if code.starts_with("53") || code == SqlState::READ_ONLY_SQL_TRANSACTION.code() => {
                WriteFailure::Unavailable(OriginError::NotNow { origin, reason })
            }
            code if REFUSED.iter().any(|class| code.starts_with(class)) => {
                WriteFailure::Refused(OriginError::Refused { origin, reason })
            }
            code if UNAVAILABLE.iter().any(|class| code.starts_with(class)) => {
                WriteFailure::Unavailable(self.unavailable(reason, true))
            }
            _ => WriteFailure::Failed(self.failed(reason)),
        }
    }

    fn unknown(&self, reason: String) -> WriteFailure<OriginError> {
        let origin = Arc::clone(&self.name);
        WriteFailure::Unknown(OriginError::Unknown { origin, reason, is_answered: false })
    }

    fn one(&self, rows: &[Row]) -> Result<Option<JsonText>, OriginError> {
        match rows {
            [] => Ok(None),
            [row] => self.document(row, 0).map(Some),
            _ => Err(OriginError::NotUnique { origin: Arc::clone(&self.name) }),
        }
    }

    /// Whether the statement compiles.
    pub(super) async fn check(&self, sql: &str) -> Result<(), OriginError> {
        let (client, _place) = self.client(&self.pools.now().loading).await?;
        self.timely(client.prepare(sql)).await.map(|_statement| ())
    }

    /// Gives each row of a statement to `take`, in a transaction that can write nothing: the columns that `wanted` chooses of all, as texts.
    /// Each [`FETCHED`] rows have the time of a statement.
    pub(super) async fn each_row<E: From<OriginError>>(
        &self,
        sql: &str,
        wanted: impl FnOnce(&[&str]) -> Result<Vec<String>, E>,
        mut take: impl FnMut(Vec<Option<String>>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut client, _place) = self.client(&self.pools.now().loading).await?;
        let prepared = self.timely(client.prepare(sql)).await?;
        let columns: Vec<&str> = prepared.columns().iter().map(tokio_postgres::Column::name).collect();
        let columns = wanted(&columns)?;
        let texts: Vec<String> =
            columns.iter().map(|name| format!("t.\"{}\"::text", name.replace('"', "\"\""))).collect();
        let reading = self.timely(client.build_transaction().read_only(true).start()).await?;
        let text = format!("select {} from (\n{sql}\n) t", texts.join(", "));
        let statement = self.timely(reading.prepare(&text)).await?;
        let rows = self.timely(reading.bind(&statement, &[])).await?;
        loop {
            let fetched = self.timely(reading.query_portal(&rows, FETCHED)).await?;
            if fetched.is_empty() {
                return Ok(());
            }
            for row in fetched {
                let values = (0..columns.len()).map(|at| row.try_get(at)).collect::<Result<Vec<_>, _>>();
                take(values.map_err(|error| self.explain(&error))?)?;
            }
        }
    }

    async fn timely<T>(
        &self,
        asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, OriginError> {
        match runtime::within(self.statement_timeout + PATIENCE, asked).await {
            Some(answer) => answer.map_err(|error| self.explain(&error)),
            None => Err(self.timeout(self.statement_timeout)),
        }
    }

    async fn client(
        &self,
        connections: &Connections,
    ) -> Result<(Object, Option<OwnedSemaphorePermit>), OriginError> {
        let places = Arc::clone(&connections.places);
        let place = runtime::within(self.connect_timeout, places.acquire_owned()).await;
        let Some(place) = place else {
            let reason = format!("no connection was free within {:?}", self.connect_timeout);
            return Err(OriginError::NotNow { origin: Arc::clone(&self.name), reason });
        };
        match runtime::within(self.connect_timeout, connections.pool.get()).await {
            Some(Ok(client)) => Ok((client, place.ok())),
            Some(Err(PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)))) => {
                Err(OriginError::unconnected(&self.name, words(&error), error.code().map(SqlState::code)))
            }
            Some(Err(error)) => Err(self.unavailable(error.to_string(), false)),
            None => Err(self.unavailable(format!("no connection within {:?}", self.connect_timeout), false)),
        }
    }

    fn document(&self, row: &Row, column: usize) -> Result<JsonText, OriginError> {
        let text: &str = row.try_get(column).map_err(|error| self.explain(&error))?;
        JsonText::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|error| self.failed(error.to_string()))
    }

    fn explain(&self, error: &tokio_postgres::Error) -> OriginError {
        let Some(code) = error.code() else {
            return if error.is_closed() {
                self.unavailable(words(error), true)
            } else {
                self.failed(words(error))
            };
        };
        if *code == SqlState::QUERY_CANCELED {
            return self.timeout(self.statement_timeout);
        }
        let reason = words(error);
        match code.code() {
            code if UNREADABLE_VALUE.contains(&code) => {
                OriginError::Key { origin: Arc::clone(&self.name), reason }
            }
            code if UNAVAILABLE.iter().any(|class| code.starts_with(class)) => self.unavailable(reason, true),
            _ => self.failed(reason),
        }
    }

    fn unavailable(&self, reason: String, is_reached: bool) -> OriginError {
        OriginError::Unavailable { origin: Arc::clone(&self.name), reason, is_reached }
    }

    fn failed(&self, reason: String) -> OriginError {
        OriginError::Failed { origin: Arc::clone(&self.name), reason }
    }

    fn timeout(&self, after: Duration) -> OriginError {
        OriginError::Timeout { origin: Arc::clone(&self.name), after }
    }
}

/// States that say that a value cannot be read as the type it is compared with: out of range, no such text, no such
/// date or time, characters that text cannot have.
const UNREADABLE_VALUE: [&str; 7] = ["22003", "22007", "22008", "22021", "22P02", "22P03", "22P05"];

/// That `load_many` brings what nobody asked for.
pub(super) const NO_KEY: &str = "`load_many` found a row that belongs to none of its keys";

/// Rows that are taken at a time of a statement that finds any number.
const FETCHED: i32 = 1000;
/// Most rows that `load_many` may bring: one for each key, and as many again.
const ROWS_MAX: usize = 2 * AT_ONCE_MAX;
/// That `load_many` brings more.
const TOO_MANY: &str = "`load_many` found more than 512 rows, so keys have several: give it a column that is unique, or leave it out";

/// Classes of states that say that the server, not the statement, is in trouble: connection, resources, shutdown.
const UNAVAILABLE: [&str; 3] = ["08", "53", "57"];

/// Classes of states that say that the server will never take a write: data that is no value of its type, and constraints.
const REFUSED: [&str; 2] = ["22", "23"];

/// The statement that makes one JSON document of the one row that `sql` should find, or of one of its columns.
pub(super) fn one_document(sql: &str, column: Option<&str>) -> String {
    format!("select {} from (\n{sql}\n) t limit 2", text_of(column))
}

/// The statement that makes a JSON document of each row that `sql` finds, with the place of its key in the list that is parameter `number`:
/// the one that the column `part` is equal to. The types of both are the server's affair.
pub(super) fn many_documents(sql: &str, column: Option<&str>, part: &str, number: usize) -> String {
    let (text, part) = (text_of(column), part.replace('"', "\"\""));
    format!(
        "select k.n, {text} from (\n{sql}\n) t left join unnest(${number}) with ordinality k(v, n) on t.\"{part}\" = k.v \
         limit {}",
        ROWS_MAX + 1
    )
}

fn text_of(column: Option<&str>) -> String {
    match column {
        None => "to_json(t)::text".to_owned(),
        Some(column) => format!("coalesce(to_json(t.\"{}\")::text, 'null')", column.replace('"', "\"\"")),
    }
}

async fn run(client: &Object, sql: &str, values: &[Parameter]) -> Result<Vec<Row>, tokio_postgres::Error> {
    let statement = client.prepare_cached(sql).await?;
    client.query(&statement, &bound(values)).await
}

fn bound(values: &[Parameter]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

/// Why a change was not made, as far as is known.
enum Unchanged {
    BeforeSent(tokio_postgres::Error),
    Sent(tokio_postgres::Error),
}

async fn change(client: &Object, sql: &str, values: &[Parameter]) -> Result<(), Unchanged> {
    let statement = client.prepare_cached(sql).await.map_err(Unchanged::BeforeSent)?;
    let changed = client.execute(&statement, &bound(values)).await;
    changed.map(|_rows| ()).map_err(Unchanged::Sent)
}

/// Connections that load, and those that write.
#[derive(Clone)]
struct Pools {
    loading: Connections,
    writing: Connections,
}

impl Pools {
    fn new(config: &PostgresConfig, roots: &Roots) -> Result<Self, String> {
        let mut settings = settings(config.url.reveal(), config.root_certificate_file.is_some())?;
        let tls = connector(config, settings.get_ssl_mode(), roots)?;
        if settings.get_application_name().is_none() {
            settings.application_name("terrace");
        }
        if let Some(password) = &config.password {
            settings.password(password.reveal());
        }
        settings.connect_timeout(config.connect_timeout.0);
        let timeout = config.statement_timeout.0;
        let loading = prepare_session(timeout, "on");
        let writing = prepare_session(timeout, "off");
        Ok(Self {
            loading: Connections::new((&settings, tls.clone()), RecyclingMethod::Fast, config.pool, loading)?,
            writing: Connections::new(
                (&settings, tls),
                RecyclingMethod::Verified,
                config.write_pool,
                writing,
            )?,
        })
    }
}

/// Connections, and the places for those who use them: who waits for a place waits for others here, and who has one for the server.
#[derive(Clone)]
struct Connections {
    pool: Pool,
    places: Arc<Semaphore>,
}

impl Connections {
    fn new(
        (settings, tls): (&tokio_postgres::Config, MakeRustlsConnect),
        recycling_method: RecyclingMethod,
        size: u64,
        session: Hook,
    ) -> Result<Self, String> {
        let manager = Manager::from_config(settings.clone(), tls, ManagerConfig { recycling_method });
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let pool = Pool::builder(manager).max_size(size).post_create(session).build();
        Ok(Self { pool: pool.map_err(|error| error.to_string())?, places: Arc::new(Semaphore::new(size)) })
    }
}

fn prepare_session(statement_timeout: Duration, read_only: &str) -> Hook {
    let millis = statement_timeout.as_millis().clamp(1, i32::MAX.unsigned_abs().into());
    let sql: Arc<str> =
        format!("set statement_timeout = {millis}; set default_transaction_read_only = {read_only}").into();
    Hook::async_fn(move |client, _| {
        let sql = Arc::clone(&sql);
        Box::pin(async move { client.batch_execute(&sql).await.map_err(HookError::Backend) })
    })
}

/// What an error and its sources say, in one line.
fn words(error: &tokio_postgres::Error) -> String {
    if let Some(database) = error.as_db_error() {
        return format!("{} ({})", database.message(), database.code().code());
    }
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// A list as PostgreSQL reads one, whatever its elements are.
fn array(texts: &[String]) -> String {
    let mut array = "{".to_owned();
    for (at, text) in texts.iter().enumerate() {
        array.push_str(if at == 0 { "\"" } else { ",\"" });
        for c in text.chars() {
            if matches!(c, '"' | '\\') {
                array.push('\\');
            }
            array.push(c);
        }
        array.push('"');
    }
    array.push('}');
    array
}

/// A value goes as text, which PostgreSQL reads as the type it needs.
impl ToSql for Parameter {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Nothing => return Ok(IsNull::Yes),
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Self::List(texts) => out.extend_from_slice(array(texts).as_bytes()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}
