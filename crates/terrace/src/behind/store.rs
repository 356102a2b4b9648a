//! The journal's file: a redb database of a few tables, and what its failures mean.
//!
//! 1. A commit with writes that are acknowledged by it is made in two phases. One phase is enough against torn writes, but if
//!    a page of the last commit is damaged later, opening would silently go back to the commit before; after two phases it
//!    fails instead. A commit that only forgets writes may be lost: they are sent again, under the same id.
//! 2. Opening reads every page and checks its sum. What does not fit stops it, and the file keeps its bytes: until the file
//!    is known to be sound, what redb writes while it opens goes to memory only ([`Guarded`]).
//! 3. Numbers of writes are reserved ahead, in the file, so that none is given out twice even if the write that had it was
//!    never in the file.
//! 4. A file is of the first format until it has what that has no table for ([`requests`]). Both are read.
//! 5. Who only looks into a file has it held for ever: nothing of it changes, and a repair that it needs is made in memory
//!    ([`inspect`]).
//! 6. After a failed sync nothing is written to the file any more. A full disk is no such failure: the file is opened anew,
//!    which brings back its last commit, and the commit is made again.

mod requests;
mod tables;

pub(super) use self::requests::Row as RequestRow;
use self::tables::Tables;

use super::error::OpenError;
use super::guarded::{Guarded, Release};
use super::idempotency::Request;
use super::record::{Operation, Record};
use super::tap::{Tap, Tapped};
use bytes::Bytes;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, StorageError,
    TableDefinition,
};
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Keyspace, key, value if there is one, version.
type Row = (&'static str, &'static [u8], Option<&'static [u8]>, u64);
/// The same, attempts, reason.
type DeadRow = (&'static str, &'static [u8], Option<&'static [u8]>, u64, u32, &'static str);

const META: TableDefinition<'static, &str, u128> = TableDefinition::new("meta");
const PENDING: TableDefinition<'static, u64, Row> = TableDefinition::new("pending");
const ATTEMPTS: TableDefinition<'static, u64, u32> = TableDefinition::new("attempts");
const DEAD: TableDefinition<'static, u64, DeadRow> = TableDefinition::new("dead");
const OVERTAKEN: TableDefinition<'static, u64, ()> = TableDefinition::new("overtaken");

const FORMAT: &str = "format";
const FORMAT_FIRST: u128 = 1;
/// With requests.
const FORMAT_NOW: u128 = 2;
const JOURNAL: &str = "journal";
const RESERVED: &str = "reserved";
/// The highest version that was given out. Not in files of the first days, whose versions were numbers of writes.
const STAMP: &str = "stamp";

/// What redb may keep in memory of the file. It is read once, at the start.
const CACHE_BYTES: usize = 16 << 20;

/// Gives the file that the journal is in, as often as it is opened.
pub(super) type Opener = Box<dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send>;

/// A change of the file that is no new write. They are made in their order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Note {
    /// The write is done, or another has taken its place.
    Done(u64),
    /// So many attempts have been made.
    Attempts(u64, u32),
    /// The write was given up.
    Bury(u64, u32, Arc<str>),
    /// A dead letter is to be tried again.
    Revive(u64),
    /// A dead letter was dropped.
    Drop(u64),
    /// A newer write than this dead letter was acknowledged.
    Overtaken(u64),
    /// The version of a write that is pending, or was given up.
    Version(u64, u64),
    /// The write of a request is over: keyspace, digest of the idempotency key, number of the write.
    Over(Arc<str>, u128, u64),
    /// A request is not remembered any more: the same.
    Forget(Arc<str>, u128, u64),
}

/// What is to be committed at once.
#[derive(Debug, Default)]
pub(super) struct Commit<'a> {
    pub(super) records: &'a [Arc<Record>],
    pub(super) notes: &'a [Note],
    /// Writes whose requests are remembered, in the file themselves or not.
    pub(super) requested: &'a [Arc<Record>],
    /// The number that the next write will get.
    pub(super) next: u64,
    /// The highest version that was given out.
    pub(super) stamp: u64,
    /// The wall clock, in seconds.
    pub(super) now: u64,
    /// Whether somebody is told by this commit that a write is safe.
    pub(super) acknowledges: bool,
}

/// Why a commit failed. Nothing of it may be taken for written, or for not written.
#[derive(Debug)]
pub(super) enum CommitError {
    /// No room. It can be made again later.
    DiskFull,
    /// The file is out of use.
    Poisoned(String),
}

/// What a file held when it was opened.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) journal: u128,
    pub(super) next: u64,
    pub(super) stamp: u64,
    /// In the order of their numbers, with the attempts that were made.
    pub(super) pending: Vec<(Arc<Record>, u32)>,
    /// In the order of their numbers: attempts, reason, whether it was overtaken.
    pub(super) dead: Vec<(Arc<Record>, u32, Arc<str>, bool)>,
    /// Requests, those of the writes above included.
    pub(super) requests: Vec<RequestRow>,
}

/// An open journal.
pub(super) struct Store {
    database: Option<Database>,
    opener: Opener,
    path: PathBuf,
    tap: Arc<Tap>,
    reserved: u64,
    /// How many numbers are reserved ahead: more than may be given out between two commits.
    block: u64,
    is_poisoned: Option<String>,
}

impl Store {
    /// Opens the journal, or makes one of this name.
    pub(super) fn open(
        path: &Path,
        opener: Opener,
        block: u64,
        name: u128,
    ) -> Result<(Self, Loaded), OpenError> {
        let tap = Arc::new(Tap::default());
        let database = open(path, &opener, &tap)?;
        let mut store = Self {
            database: Some(database),
            opener,
            path: path.to_owned(),
            tap,
            reserved: 0,
            block,
            is_poisoned: None,
        };
        let loaded = store.load(name)?;
        Ok((store, loaded))
    }

    pub(super) fn tap(&self) -> &Tap {
        &self.tap
    }

    /// Reads all of it, and reserves numbers.
    fn load(&mut self, name: u128) -> Result<Loaded, OpenError> {
        let loaded = judged(&self.path, || self.read(name))?;
        let commit =
            Commit { next: loaded.next, stamp: loaded.stamp, acknowledges: true, ..Commit::default() };
        match self.commit(&commit) {
            Ok(()) => Ok(loaded),
            Err(CommitError::DiskFull) => {
                let error = io::Error::from(io::ErrorKind::StorageFull);
                Err(OpenError::Io { path: self.path.clone(), error })
            }
            Err(CommitError::Poisoned(reason)) => {
                Err(OpenError::Io { path: self.path.clone(), error: io::Error::other(reason) })
            }
        }
    }

    fn read(&self, name: u128) -> Result<Loaded, LoadFailure> {
        let Some(database) = &self.database else { return Err(format_failure("it is closed")) };
        if let Some(loaded) = all_of(database)? {
            return Ok(loaded);
        }
        self.create(name)?;
        Ok(Loaded { journal: name, next: 1, ..Loaded::default() })
    }

    /// Writes what a new file needs, in one commit.
    fn create(&self, name: u128) -> Result<(), LoadFailure> {
        let Some(database) = &self.database else { return Err(format_failure("it is closed")) };
        let mut transaction = database.begin_write().map_err(redb::Error::from)?;
        transaction.set_two_phase_commit(true);
        {
            let mut meta = transaction.open_table(META).map_err(redb::Error::from)?;
            for (key, value) in [(FORMAT, FORMAT_FIRST), (JOURNAL, name), (RESERVED, 1)] {
                meta.insert(key, value).map_err(redb::Error::from)?;
            }
            Tables::open(&transaction)?;
        }
        transaction.commit().map_err(redb::Error::from)?;
        Ok(())
    }

    /// Makes one commit. When it returns, the disk has it.
    pub(super) fn commit(&mut self, commit: &Commit<'_>) -> Result<(), CommitError> {
        if let Some(reason) = &self.is_poisoned {
            return Err(CommitError::Poisoned(reason.clone()));
        }
        let reserved = self.reservation(commit.next);
        if self.database.is_none() {
            self.reopen()?;
        }
        let Some(database) = &self.database else { return Err(CommitError::DiskFull) };
        let made = catch_unwind(AssertUnwindSafe(|| write(database, commit, reserved)));
        self.tap.forget();
        let failure = match made {
            Ok(Ok(())) => {
                self.reserved = reserved;
                return Ok(());
            }
            Ok(Err(error)) => self.failure(&error),
            Err(panic) => Err(told(&*panic)),
        };
        // It is opened anew before it is used again; closing writes nothing after a failure.
        self.database = None;
        match failure {
            Ok(()) => Err(CommitError::DiskFull),
            Err(reason) => Err(self.poison(reason)),
        }
    }

    /// Up to which number numbers are reserved once the next commit is made.
    fn reservation(&self, next: u64) -> u64 {
        let is_enough = self.reserved >= next.saturating_add(self.block / 2);
        if is_enough { self.reserved } else { next.saturating_add(self.block) }
    }

    /// Whether the disk was merely full; else what is wrong.
    fn failure(&self, error: &redb::Error) -> Result<(), String> {
        let is_full = !self.tap.sync_failed() && matches!(error, redb::Error::Io(error) if is_full(error));
        if is_full { Ok(()) } else { Err(error.to_string()) }
    }

    fn poison(&mut self, reason: String) -> CommitError {
        self.is_poisoned = Some(reason.clone());
        CommitError::Poisoned(reason)
    }

    fn reopen(&mut self) -> Result<(), CommitError> {
        match open(&self.path, &self.opener, &self.tap) {
            Ok(database) => {
                self.database = Some(database);
                Ok(())
            }
            Err(OpenError::Io { error, .. }) if is_full(&error) && !self.tap.sync_failed() => {
                Err(CommitError::DiskFull)
            }
            Err(error) => Err(self.poison(error.to_string())),
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Why a sound database could not be loaded.
enum LoadFailure {
    Storage(Box<redb::Error>),
    Format(String),
}

fn format_failure(reason: &str) -> LoadFailure {
    LoadFailure::Format(reason.to_owned())
}

impl From<redb::Error> for LoadFailure {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::TableDoesNotExist(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::TableIsMultimap(_) => Self::Format(error.to_string()),
            error => Self::Storage(Box::new(error)),
        }
    }
}

/// What came of reading a database, as whoever opens the file is told.
fn judged<T>(path: &Path, read: impl FnOnce() -> Result<T, LoadFailure>) -> Result<T, OpenError> {
    let path = path.to_owned();
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(LoadFailure::Format(reason))) => Err(OpenError::NotAJournal { path, reason }),
        Ok(Err(LoadFailure::Storage(error))) => Err(match *error {
            redb::Error::Io(error) => OpenError::Io { path, error },
            error => OpenError::Corrupt { path, reason: error.to_string() },
        }),
        Err(panic) => Err(OpenError::Corrupt { path, reason: told(&*panic) }),
    }
}

/// Names of keyspaces, each kept once, and requests by the numbers of their writes.
struct Names(HashMap<String, Arc<str>>, HashMap<u64, Request>);

impl Names {
    fn record(
        &mut self,
        number: u64,
        keyspace: &str,
        key: &[u8],
        value: Option<&[u8]>,
        version: u64,
    ) -> Arc<Record> {
        let name = self.0.entry(keyspace.to_owned()).or_insert_with(|| keyspace.into());
        let operation =
            value.map_or(Operation::Delete, |value| Operation::Store(Bytes::copy_from_slice(value)));
        let record = Record::new(number, Arc::clone(name), Bytes::copy_from_slice(key), operation, version);
        Arc::new(record.asked_for_by(self.1.get(&number).copied()))
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn told(panic: &(dyn std::any::Any + Send)) -> String {
    crate::runtime::panic_message(panic).to_owned()
}

fn open(path: &Path, opener: &Opener, tap: &Arc<Tap>) -> Result<Database, OpenError> {
    let io_error = |error| OpenError::Io { path: path.to_owned(), error };
    let file = opener().map_err(io_error)?;
    let (database, release) = open_held(path, Box::new(Tapped::new(file, Arc::clone(tap))))?;
    release.release().map_err(io_error)?;
    Ok(database)
}

/// Reads all that a file has, and changes nothing of it.
pub(super) fn inspect(path: &Path, file: Box<dyn StorageBackend>) -> Result<Loaded, OpenError> {
    let (database, _never_released) = open_held(path, file)?;
    let all = judged(path, || all_of(&database))?;
    Ok(all.unwrap_or_default())
}

/// Opens a file that keeps its bytes until it is released.
pub(super) fn open_held(
    path: &Path,
    file: Box<dyn StorageBackend>,
) -> Result<(Database, Release), OpenError> {
    let io_error = |error| OpenError::Io { path: path.to_owned(), error };
    let (guarded, release) = Guarded::new(file);
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    let opened = catch_unwind(AssertUnwindSafe(|| builder.create_with_backend(guarded)));
    let corrupt = |reason: String| OpenError::Corrupt { path: path.to_owned(), reason };
    let database = match opened {
        Ok(Ok(database)) => database,
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
            return Err(OpenError::InUse { path: path.to_owned() });
        }
        Ok(Err(DatabaseError::Storage(StorageError::Io(error))))
            if error.kind() != io::ErrorKind::InvalidData && error.kind() != io::ErrorKind::UnexpectedEof =>
        {
            return Err(io_error(error));
        }
        Ok(Err(error)) => return Err(corrupt(error.to_string())),
        Err(panic) => return Err(corrupt(told(&*panic))),
    };
    Ok((database, release))
}

/// All that a database has; `None` if nothing was ever written to it.
fn all_of(database: &Database) -> Result<Option<Loaded>, LoadFailure> {
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    if transaction.list_tables().map_err(redb::Error::from)?.next().is_none() {
        return Ok(None);
    }
    let meta = transaction.open_table(META).map_err(redb::Error::from)?;
    let get = |name: &str| -> Result<u128, LoadFailure> {
        let value = meta.get(name).map_err(redb::Error::from)?;
        value.map(|value| value.value()).ok_or_else(|| format_failure(&format!("it has no `{name}`")))
    };
    let format = get(FORMAT)?;
    if !(FORMAT_FIRST..=FORMAT_NOW).contains(&format) {
        let reason = format!("its format is {format}, and {FORMAT_NOW} is the newest that is known");
        return Err(format_failure(&reason));
    }
    let journal = get(JOURNAL)?;
    let next = u64::try_from(get(RESERVED)?).map_err(|_| format_failure("its numbers are used up"))?;
    let stamp = meta.get(STAMP).map_err(redb::Error::from)?.map_or(0, |stamp| stamp.value());
    let stamp = u64::try_from(stamp).map_err(|_| format_failure("its versions are used up"))?;
    let mut loaded = Loaded { journal, next, stamp, ..Loaded::default() };
    read_rows(&transaction, &mut loaded)?;
    Ok(Some(loaded))
}

fn read_rows(transaction: &ReadTransaction, loaded: &mut Loaded) -> Result<(), redb::Error> {
    let mut attempts = HashMap::new();
    for row in transaction.open_table(ATTEMPTS)?.iter()? {
        let (number, count) = row?;
        attempts.insert(number.value(), count.value());
    }
    loaded.requests = requests::read(transaction)?;
    let requests = loaded.requests.iter().map(|row| (row.number, row.request));
    let mut names = Names(HashMap::new(), requests.collect());
    for row in transaction.open_table(PENDING)?.iter()? {
        let (number, row) = row?;
        let (keyspace, key, value, version) = row.value();
        let record = names.record(number.value(), keyspace, key, value, version);
        let tried = attempts.get(&record.number).copied().unwrap_or(0);
        loaded.pending.push((record, tried));
    }
    let overtaken = transaction.open_table(OVERTAKEN)?;
    for row in transaction.open_table(DEAD)?.iter()? {
        let (number, row) = row?;
        let (keyspace, key, value, version, tried, reason) = row.value();
        let record = names.record(number.value(), keyspace, key, value, version);
        let is_overtaken = overtaken.get(record.number)?.is_some();
        loaded.dead.push((record, tried, reason.into(), is_overtaken));
    }
    Ok(())
}

fn write(database: &Database, commit: &Commit<'_>, reserved: u64) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(commit.acknowledges);
    let mut meta = transaction.open_table(META)?;
    meta.insert(RESERVED, u128::from(reserved))?;
    meta.insert(STAMP, u128::from(commit.stamp))?;
    drop(meta);
    let mut tables = Tables::open(&transaction)?;
    for record in commit.records {
        let value = record.operation.value().map(|value| &value[..]);
        tables.pending.insert(record.number, (&*record.keyspace, &*record.key, value, record.version()))?;
    }
    for note in commit.notes {
        tables.apply(note)?;
    }
    drop(tables);
    requests::write(&transaction, commit.requested, commit.notes, commit.now)?;
    transaction.commit()?;
    Ok(())
}
