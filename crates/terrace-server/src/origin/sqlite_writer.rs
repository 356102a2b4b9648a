//! Writing to a SQLite file.
//!
//! 1. One connection on one thread, because SQLite lets one write at a time. Loads do not wait for it.
//! 2. A statement is a transaction: it is there wholly when it returns, or not at all. That the file is locked, full, or not to be
//!    opened says that nothing was done; that the answer did not come in time, or that the disk failed, says nothing.
//! 3. A file that is not there is not made.

use super::Written;
use super::error::OriginError;
use super::loader::Parameter;
use super::sqlite::QUEUE_JOBS_MAX;
use super::sqlite_file::SqliteFile;
use crate::config::SqliteConfig;
use crate::runtime;
use rusqlite::types::{ToSqlOutput, Value};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql};
use std::sync::Arc;
use std::time::Duration;
use terrace::WriteFailure;
use tokio::sync::{mpsc, oneshot};

struct Job {
    sql: Arc<str>,
    values: Vec<Parameter>,
    answer: oneshot::Sender<Written>,
}

/// The one that writes to a SQLite file.
#[derive(Debug)]
pub(super) struct Writer {
    name: Arc<str>,
    jobs: mpsc::Sender<Job>,
    /// The longest that an answer can take: one statement in front of it, and its own.
    limit: Duration,
}

impl Writer {
    pub(super) fn start(name: &Arc<str>, config: &SqliteConfig) -> std::io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE_JOBS_MAX);
        let file = SqliteFile::new(config, OpenFlags::SQLITE_OPEN_READ_WRITE);
        let mut worker = Worker { name: Arc::clone(name), file };
        runtime::thread("sqlite-writer".to_owned(), move || {
            while let Some(job) = queue.blocking_recv() {
                worker.run(job);
            }
        })?;
        Ok(Self { name: Arc::clone(name), jobs, limit: config.statement_timeout.0 * 2 })
    }

    pub(super) async fn write(&self, sql: &Arc<str>, values: Vec<Parameter>) -> Written {
        let (answer, answered) = oneshot::channel();
        let job = Job { sql: Arc::clone(sql), values, answer };
        let asked = runtime::within(self.limit, async {
            self.jobs.send(job).await.ok()?;
            answered.await.ok()
        });
        let reason = match asked.await {
            Some(Some(written)) => return written,
            Some(None) => "its thread is gone".to_owned(),
            None => format!("it did not answer within {:?}", self.limit),
        };
        let origin = Arc::clone(&self.name);
        Err(WriteFailure::Unknown(OriginError::Unknown { origin, reason, is_answered: false }))
    }
}

/// What the thread does.
struct Worker {
    name: Arc<str>,
    file: SqliteFile,
}

impl Worker {
    fn run(&mut self, job: Job) {
        if job.answer.is_closed() {
            return;
        }
        let written = match self.file.begin() {
            Ok(connection) => write(connection, &job.sql, &job.values).map_err(|error| self.explain(&error)),
            Err(error) => Err(WriteFailure::Unavailable(self.unavailable(&error))),
        };
        let _nobody_waits_any_more = job.answer.send(written);
    }

    fn explain(&self, error: &rusqlite::Error) -> WriteFailure<OriginError> {
        let (origin, reason) = (Arc::clone(&self.name), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => {
                WriteFailure::Failed(OriginError::Timeout { origin, after: self.file.timeout() })
            }
            Some(ErrorCode::CannotOpen | ErrorCode::OutOfMemory) => {
                WriteFailure::Unavailable(self.unavailable(error))
            }
            // Others write, or nobody may: what it is asked for, it has.
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied,
            ) => WriteFailure::Unavailable(OriginError::NotNow { origin, reason }),
            Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) => {
                WriteFailure::Refused(OriginError::Refused { origin, reason })
            }
            Some(ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                WriteFailure::Unknown(OriginError::Unknown { origin, reason, is_answered: false })
            }
            _ => WriteFailure::Failed(OriginError::Failed { origin, reason }),
        }
    }

    fn unavailable(&self, error: &rusqlite::Error) -> OriginError {
        // A document can be too much for the memory that there is.
        let is_reached = error.sqlite_error_code() == Some(ErrorCode::OutOfMemory);
        OriginError::Unavailable { origin: Arc::clone(&self.name), reason: error.to_string(), is_reached }
    }
}

impl ToSql for Parameter {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Text(text) => text.to_sql(),
            Self::Nothing => Ok(ToSqlOutput::Owned(Value::Null)),
            Self::List(texts) => Ok(ToSqlOutput::Owned(Value::Text(json_list(texts)))),
            Self::Number(number) => {
                // A version counts writes, so it is far from the largest number.
                Ok(ToSqlOutput::Owned(Value::Integer(i64::try_from(*number).unwrap_or(i64::MAX))))
            }
        }
    }
}

/// Runs a statement to its end, whatever it returns.
fn write(connection: &Connection, sql: &str, values: &[Parameter]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(values))?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// A list as SQLite reads one.
fn json_list(texts: &[String]) -> String {
    serde_json::to_string(texts).expect("texts have a JSON form")
}
