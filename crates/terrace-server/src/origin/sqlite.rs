//! A SQLite file as an origin, and loads from it. Writes have [`super::sqlite_writer`].
//!
//! 1. Each connection lives on a thread of its own, because SQLite blocks. Work reaches the threads through one bounded
//!    queue.
//! 2. The file is opened when it is first needed, for loads read-only. A file that is not there yet is a failed load, not a failed
//!    start.
//! 3. Work that nobody waits for any more is not begun.
//! 4. A row becomes a JSON object: integers and reals as numbers, text as strings, blobs as `"\x..."` in hexadecimal (as
//!    PostgreSQL writes them), null and infinities as null. A column that is the whole document has it as JSON text; a number or null
//!    is one, too.

use super::Written;
use super::error::OriginError;
use super::loader::Parameter;
use super::postgres::NO_KEY;
use super::sqlite_file::SqliteFile;
use super::sqlite_writer::Writer;
use crate::config::SqliteConfig;
use crate::runtime;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Statement};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use terrace::codec::JsonText;
use tokio::sync::{mpsc, oneshot};

/// Loads that wait for a thread, at most; more wait to be queued.
pub(super) const QUEUE_JOBS_MAX: usize = 1024;

type Answer = Result<Option<JsonText>, OriginError>;
/// What came of a job: an answer for each key of a batch, or the failure of all.
type Answers = Result<Vec<Answer>, OriginError>;

struct Job {
    sql: Arc<str>,
    work: Work,
    /// Set when a thread has taken it.
    is_begun: Arc<AtomicBool>,
    answer: oneshot::Sender<Answers>,
}

enum Work {
    Load { values: Vec<Parameter>, document: Option<Arc<str>> },
    LoadMany { values: Vec<Parameter>, document: Option<Arc<str>>, count: usize },
    Check { purpose: Purpose },
}

/// What a statement is for, and how many parameters it should have.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    Load { parameters: usize, document: Option<Arc<str>> },
    Write { parameters: usize },
}

/// A SQLite file.
#[derive(Debug)]
pub(super) struct Sqlite {
    name: Arc<str>,
    jobs: mpsc::Sender<Job>,
    threads: usize,
    writer: Option<Writer>,
    delay: Duration,
    /// The longest that an answer can take: one statement in front of it, and its own.
    limit: Duration,
}

impl Sqlite {
    pub(super) fn start(name: &str, config: &SqliteConfig, is_written: bool) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE_JOBS_MAX);
        let queue = Arc::new(Mutex::new(queue));
        let name: Arc<str> = name.into();
        for number in 0..config.pool {
            let mut worker = Worker {
                name: Arc::clone(&name),
                file: SqliteFile::new(config, OpenFlags::SQLITE_OPEN_READ_ONLY),
            };
            let queue = Arc::clone(&queue);
            runtime::thread(format!("sqlite-{number}"), move || {
                while let Some(job) = next(&queue) {
                    worker.run(job);
                }
            })?;
        }
        let writer = if is_written { Some(Writer::start(&name, config)?) } else { None };
        let threads = usize::try_from(config.pool).unwrap_or(usize::MAX);
        let (delay, limit) = (config.delay.0, config.statement_timeout.0 * 2);
        Ok(Self { name, jobs, threads, writer, delay, limit })
    }

    /// How many loads can be under way at the same time.
    pub(super) fn loads_at_once(&self) -> usize {
        self.threads
    }

    pub(super) async fn write(&self, sql: &Arc<str>, values: Vec<Parameter>) -> Written {
        match &self.writer {
            Some(writer) => writer.write(sql, values).await,
            None => super::takes_no_writes(&self.name),
        }
    }

    pub(super) async fn load(
        &self,
        sql: &Arc<str>,
        values: Vec<Parameter>,
        document: Option<Arc<str>>,
    ) -> Answer {
        if !self.delay.is_zero() {
            runtime::sleep(self.delay).await;
        }
        self.ask(sql, Work::Load { values, document }).await?.pop().unwrap_or(Ok(None))
    }

    /// Loads the values of so many keys.
    pub(super) async fn load_many(
        &self,
        sql: &Arc<str>,
        values: Vec<Parameter>,
        document: Option<Arc<str>>,
        count: usize,
    ) -> Answers {
        if !self.delay.is_zero() {
            runtime::sleep(self.delay).await;
        }
        self.ask(sql, Work::LoadMany { values, document, count }).await
    }

    /// Whether the statement compiles, and does what it is for.
    pub(super) async fn check(&self, sql: &Arc<str>, purpose: Purpose) -> Result<(), OriginError> {
        self.ask(sql, Work::Check { purpose }).await.map(|_nothing| ())
    }

    async fn ask(&self, sql: &Arc<str>, work: Work) -> Answers {
        let (answer, answered) = oneshot::channel();
        let is_begun = Arc::new(AtomicBool::new(false));
        let job = Job { sql: Arc::clone(sql), work, is_begun: Arc::clone(&is_begun), answer };
        let asked = runtime::within(self.limit, async {
            self.jobs.send(job).await.ok()?;
            answered.await.ok()
        });
        match asked.await {
            Some(Some(answer)) => answer,
            Some(None) => Err(OriginError::Failed {
                origin: Arc::clone(&self.name),
                reason: "its threads are gone".into(),
            }),
            None if is_begun.load(Ordering::Relaxed) => {
                Err(OriginError::Timeout { origin: Arc::clone(&self.name), after: self.limit })
            }
            None => {
                let reason = format!("no thread was free within {:?}", self.limit);
                Err(OriginError::NotNow { origin: Arc::clone(&self.name), reason })
            }
        }
    }
}

fn next(queue: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}

/// What one thread does.
struct Worker {
    name: Arc<str>,
    file: SqliteFile,
}

impl Worker {
    fn run(&mut self, job: Job) {
        if job.answer.is_closed() {
            return;
        }
        job.is_begun.store(true, Ordering::Relaxed);
        let result = match self.file.begin() {
            Ok(connection) => match &job.work {
                Work::Load { values, document } => {
                    load(connection, &job.sql, values, document.as_deref()).map(|loaded| vec![Ok(loaded)])
                }
                Work::LoadMany { values, document, count } => {
                    load_many(connection, &job.sql, (values, *count), document.as_deref(), &self.name)
                }
                Work::Check { purpose } => check(connection, &job.sql, purpose).map(|()| Vec::new()),
            },
            Err(error) => Err(Failure::Open(error)),
        };
        let _nobody_waits_any_more = job.answer.send(result.map_err(|failure| self.explain(failure)));
    }

    fn explain(&self, failure: Failure) -> OriginError {
        let origin = Arc::clone(&self.name);
        match failure {
            Failure::Open(error) => {
                OriginError::Unavailable { origin, reason: error.to_string(), is_reached: false }
            }
            Failure::NotUnique => OriginError::NotUnique { origin },
            Failure::Sql(error) => match error.sqlite_error_code() {
                Some(ErrorCode::OperationInterrupted | ErrorCode::DatabaseBusy) => {
                    OriginError::Timeout { origin, after: self.file.timeout() }
                }
                Some(ErrorCode::CannotOpen) => {
                    OriginError::Unavailable { origin, reason: error.to_string(), is_reached: false }
                }
                _ => OriginError::Failed { origin, reason: error.to_string() },
            },
            Failure::Row(reason) => OriginError::Failed { origin, reason },
        }
    }
}

enum Failure {
    Open(rusqlite::Error),
    Sql(rusqlite::Error),
    NotUnique,
    Row(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

fn load(
    connection: &Connection,
    sql: &str,
    values: &[Parameter],
    whole: Option<&str>,
) -> Result<Option<JsonText>, Failure> {
    let mut statement = connection.prepare_cached(sql)?;
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let document = text_of(&columns, row, 0, whole);
    if rows.next()?.is_some() {
        return Err(Failure::NotUnique);
    }
    document.map(Some)
}

/// The statement that gives each row that `sql` finds the place of its key in the list that is parameter `number`: the one that the column
/// `part` is equal to.
pub(super) fn many_rows(sql: &str, part: &str, number: usize) -> String {
    let part = part.replace('"', "\"\"");
    format!(
        "with \"terrace keys\" as materialized (select key as n, value as v from json_each(?{number})) \
         select k.n as \"{PLACE}\", t.* from (\n{sql}\n) t left join \"terrace keys\" k on t.\"{part}\" = k.v"
    )
}

/// The column that has the place; no key can be called so.
const PLACE: &str = "terrace place";

fn load_many(
    connection: &Connection,
    sql: &str,
    (values, count): (&[Parameter], usize),
    whole: Option<&str>,
    origin: &Arc<str>,
) -> Result<Vec<Answer>, Failure> {
    let mut statement = connection.prepare_cached(sql)?;
    let columns: Vec<String> = statement.column_names().skip(1).map(str::to_owned).collect();
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    let mut answers: Vec<Answer> = (0..count).map(|_| Ok(None)).collect();
    while let Some(row) = rows.next()? {
        let place: Option<i64> = row.get(0)?;
        let place = place.and_then(|place| usize::try_from(place).ok());
        let Some(answer) = place.and_then(|place| answers.get_mut(place)) else {
            return Err(Failure::Row(NO_KEY.to_owned()));
        };
        *answer = match answer {
            Ok(None) => text_of(&columns, row, 1, whole).map(Some).map_err(|failure| {
                let reason = match failure {
                    Failure::Row(reason) => reason,
                    Failure::Open(error) | Failure::Sql(error) => error.to_string(),
                    Failure::NotUnique => NO_KEY.to_owned(),
                };
                OriginError::Failed { origin: Arc::clone(origin), reason }
            }),
            _ => Err(OriginError::NotUnique { origin: Arc::clone(origin) }),
        };
    }
    Ok(answers)
}

/// The document of a row, whose columns begin at some place.
fn text_of(
    columns: &[String],
    row: &Row<'_>,
    first: usize,
    whole: Option<&str>,
) -> Result<JsonText, Failure> {
    let document = match whole {
        Some(name) => whole_document(name, row)?,
        None => document(columns, row, first)?,
    };
    JsonText::new(document.into()).map_err(|error| Failure::Row(error.to_string()))
}

fn check(connection: &Connection, sql: &str, purpose: &Purpose) -> Result<(), Failure> {
    let statement = connection.prepare(sql)?;
    match purpose {
        Purpose::Load { parameters, document } => check_shape(&statement, *parameters, document.as_deref()),
        Purpose::Write { parameters } => check_write(&statement, *parameters),
    }
    .map_err(Failure::Row)
}

fn check_write(statement: &Statement<'_>, parameters: usize) -> Result<(), String> {
    if statement.readonly() {
        return Err(
            "it writes nothing; a statement that writes is an `insert`, `update` or `delete`".to_owned()
        );
    }
    check_parameters(statement, parameters)
}

fn check_parameters(statement: &Statement<'_>, parameters: usize) -> Result<(), String> {
    if statement.parameter_count() != parameters {
        return Err("it has parameters without a name from the pattern; write them as `:name`".to_owned());
    }
    Ok(())
}

pub(super) fn check_shape(
    statement: &Statement<'_>,
    parameters: usize,
    document: Option<&str>,
) -> Result<(), String> {
    if statement.column_count() == 0 || !statement.readonly() {
        return Err("it reads nothing; a statement that loads is a `select`".to_owned());
    }
    check_parameters(statement, parameters)?;
    let names: Vec<&str> = statement.column_names().collect();
    if let Some(document) = document.filter(|document| !names.contains(document)) {
        return Err(format!("none of its columns is called `{document}`, as `document` says"));
    }
    let twice = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name));
    match twice {
        Some((_, name)) => Err(format!("two of its columns are called `{name}`; rename one with `as`")),
        None => Ok(()),
    }
}

/// A column that has the whole document, as JSON.
fn whole_document(name: &str, row: &Row<'_>) -> Result<Vec<u8>, Failure> {
    match row.get_ref(name)? {
        ValueRef::Null => Ok(b"null".to_vec()),
        ValueRef::Integer(number) => Ok(number.to_string().into_bytes()),
        ValueRef::Text(text) => Ok(text.to_vec()),
        ValueRef::Real(_) | ValueRef::Blob(_) => {
            Err(Failure::Row(format!("column `{name}` is no JSON text, and is to be the document")))
        }
    }
}

fn document(columns: &[String], row: &Row<'_>, first: usize) -> Result<Vec<u8>, Failure> {
    let mut json = vec![b'{'];
    for (at, name) in columns.iter().enumerate() {
        if at > 0 {
            json.push(b',');
        }
        write_json(&mut json, name)?;
        json.push(b':');
        match row.get_ref(first + at)? {
            ValueRef::Null => json.extend_from_slice(b"null"),
            ValueRef::Integer(number) => write_json(&mut json, &number)?,
            ValueRef::Real(number) => write_json(&mut json, &number)?,
            ValueRef::Text(text) => {
                let text = std::str::from_utf8(text)
                    .map_err(|error| Failure::Row(format!("column `{name}` is not UTF-8: {error}")))?;
                write_json(&mut json, text)?;
            }
            ValueRef::Blob(bytes) => write_hexadecimal(&mut json, bytes),
        }
    }
    json.push(b'}');
    Ok(json)
}

fn write_json(json: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) -> Result<(), Failure> {
    serde_json::to_writer(json, value).map_err(|error| Failure::Row(error.to_string()))
}

fn write_hexadecimal(json: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    json.extend_from_slice(b"\"\\\\x");
    for byte in bytes {
        json.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    json.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(sql: &str) -> Result<String, String> {
        let connection = Connection::open_in_memory().expect("memory");
        match load(&connection, sql, &[], None) {
            Ok(row) => Ok(row.map_or_else(|| "none".to_owned(), |row| row.to_string())),
            Err(Failure::NotUnique) => Err("not unique".to_owned()),
            Err(Failure::Row(reason)) => Err(reason),
            Err(Failure::Sql(error) | Failure::Open(error)) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_row_becomes_a_json_object() {
        let sql = "select 1 as i, 9223372036854775807 as big, 0.5 as r, 'a\"\n' as t, x'00ff' as b, null as n, 9e999 as inf";
        let expected =
            r#"{"i":1,"big":9223372036854775807,"r":0.5,"t":"a\"\n","b":"\\x00ff","n":null,"inf":null}"#;
        assert_eq!(loaded(sql).as_deref(), Ok(expected));
    }

    #[test]
    fn none_one_or_too_many_rows() {
        assert_eq!(loaded("select 1 where false").as_deref(), Ok("none"));
        assert_eq!(loaded("select 1 as a union select 2"), Err("not unique".to_owned()));
        assert!(loaded("select cast(x'ff' as text) as t").expect_err("not UTF-8").contains("column `t`"));
    }

    #[test]
    fn statements_that_load_nothing_are_refused() {
        let connection = Connection::open_in_memory().expect("memory");
        connection.execute_batch("create table t (a, b)").expect("a table");
        let refusal = |sql: &str| {
            let statement = connection.prepare(sql).expect("it compiles");
            check_shape(&statement, 1, None).err().unwrap_or_default()
        };
        assert_eq!(refusal("select a from t where b = ?1"), "");
        assert!(refusal("delete from t where a = ?1 returning a").contains("reads nothing"));
        assert!(refusal("insert into t values (?1, 2)").contains("reads nothing"));
        assert!(refusal("select a from t where b = ?1 and a = @x").contains("without a name"));
        assert!(refusal("select a, b as a from t where b = ?1").contains("called `a`"));
    }
}
