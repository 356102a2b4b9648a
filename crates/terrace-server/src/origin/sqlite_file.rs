//! One thread's connection to a SQLite file.
//!
//! 1. The file is opened when it is first needed, and has to be there.
//! 2. A statement that runs for too long is interrupted.

use crate::config::SqliteConfig;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use terrace::Clock;

/// Statements that a connection keeps compiled.
const STATEMENTS_MAX: usize = 64;
/// Steps of SQLite's virtual machine between two looks at the clock: about 10 µs.
const STEPS_PER_LOOK: i32 = 1000;

/// A file, and the connection to it once there is one.
pub(super) struct SqliteFile {
    path: PathBuf,
    access: OpenFlags,
    timeout: Duration,
    /// When the running statement is interrupted, in nanoseconds of the system's clock.
    deadline: Arc<AtomicU64>,
    connection: Option<Connection>,
}

impl SqliteFile {
    pub(super) fn new(config: &SqliteConfig, access: OpenFlags) -> Self {
        let (path, timeout) = (config.file.clone(), config.statement_timeout.0);
        Self { path, access, timeout, deadline: Arc::default(), connection: None }
    }

    /// How long a statement may run.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What gives a statement that runs as much time again.
    pub(super) fn more_time(&self) -> impl Fn() + use<> {
        let (deadline, timeout) = (Arc::clone(&self.deadline), self.timeout);
        move || deadline.store(Clock::system().precise().plus(timeout).as_nanos(), Ordering::Relaxed)
    }

    /// The connection, for a statement whose time begins now.
    pub(super) fn begin(&mut self) -> rusqlite::Result<&Connection> {
        self.more_time()();
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => open(&self.path, self.access, self.timeout, &self.deadline)?,
        };
        Ok(self.connection.insert(connection))
    }
}

fn open(
    file: &Path,
    access: OpenFlags,
    timeout: Duration,
    deadline: &Arc<AtomicU64>,
) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_with_flags(file, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(timeout)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    let (clock, deadline) = (Clock::system(), Arc::clone(deadline));
    let is_late = move || clock.precise().as_nanos() > deadline.load(Ordering::Relaxed);
    connection.progress_handler(STEPS_PER_LOOK, Some(is_late))?;
    Ok(connection)
}
