//! A look into a journal's file, for people and their tools.
//!
//! 1. No byte of the file changes, and its name may be one that nobody may write to: it is opened to read, what a kill left half
//!    done is mended in memory, and then that is thrown away.
//! 2. Whoever writes to the file excludes who looks, and the other way round; those who look do not exclude each other.
//!
//! Deliberately absent: a look into a file that is in use. Pages change under the reader, and what it saw would be true at no time.

use super::error::OpenError;
use super::record::{DeadLetter, Write};
use super::store::{self, Loaded};
use super::{Journal, OpenOptions};
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use std::io;
use std::ops::Bound;
use std::path::Path;

/// What a journal's file holds: see [`Journal::inspect`].
#[derive(Clone, Default, Debug)]
#[non_exhaustive]
pub struct Inspected {
    /// Writes that the origin does not have, in the order in which they were taken. [`Write::attempt`] is how many attempts were made.
    pub pending: Vec<Write>,
    /// Writes that were given up, in the same order.
    pub dead: Vec<DeadLetter>,
}

impl Journal {
    /// Reads what a journal's file holds, and changes nothing of it. Nobody may have it open.
    ///
    /// # Errors
    /// [`OpenError::InUse`] if somebody has it open; [`OpenError::Corrupt`] if it is damaged; [`OpenError::NotAJournal`], also of an
    /// empty file; [`OpenError::Io`], also if there is none.
    ///
    /// # Cost
    /// Blocks: reads all of the file, and checks it. What is pending is in memory, as it is in a process that has the journal open.
    /// Who opens the journal meanwhile is told that it is in use.
    ///
    /// # Examples
    /// ```
    /// use bytes::Bytes;
    /// use std::{sync::Arc, time::Duration};
    /// use terrace::behind::{Journal, JournalOptions, LaneOptions, Operation, Outcome, Outcomes, Sink, Write};
    ///
    /// # struct Nowhere;
    /// # impl Sink for Nowhere {
    /// #     fn store_many<'a>(&'a self, writes: &'a [Write]) -> Outcomes<'a> {
    /// #         Box::pin(async move { vec![Outcome::Stored; writes.len()] })
    /// #     }
    /// # }
    /// # tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(async {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("writes.journal");
    /// let journal = Journal::open(&path, JournalOptions::default())?;
    /// let metrics = journal.lane("metrics", LaneOptions::default(), Arc::new(Nowhere))?;
    /// let value = Operation::Store(Bytes::from_static(b"17"));
    /// metrics.write("metrics:1".into(), value, None, Duration::from_secs(1)).await?;
    /// journal.shutdown(Duration::ZERO).await;
    ///
    /// let found = Journal::inspect(&path)?;
    /// for write in &found.pending {
    ///     println!("{} waits: {:?} {:?}, since {:?}", write.keyspace, write.operation, write.key, write.taken_at());
    /// }
    /// assert_eq!((found.pending.len(), found.dead.len()), (1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn inspect(path: impl AsRef<Path>) -> Result<Inspected, OpenError> {
        let path = path.as_ref();
        let file = ReadOnly::open(path).map_err(|error| OpenError::Io { path: path.to_owned(), error })?;
        let Some(file) = file else {
            return Err(OpenError::NotAJournal { path: path.to_owned(), reason: "it is empty".to_owned() });
        };
        store::inspect(path, Box::new(file)).map(Inspected::of)
    }
}

impl Inspected {
    fn of(loaded: Loaded) -> Self {
        let Loaded { journal, pending, dead, .. } = loaded;
        let pending = pending.into_iter().map(|(record, attempts)| record.write(journal, attempts));
        let dead = dead.into_iter().map(|(record, attempts, reason, is_overtaken)| DeadLetter {
            write: record.write(journal, attempts),
            reason: reason.to_string(),
            is_overtaken,
        });
        Self { pending: pending.collect(), dead: dead.collect() }
    }
}

/// A file that is opened to read. It can only be locked as one who reads.
#[derive(Debug)]
pub(super) struct ReadOnly(FileBackend);

impl ReadOnly {
    /// Opens a file; `None` if there is nothing in it, of which redb would make a new one.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(None);
        }
        FileBackend::new(file).map(|file| Some(Self(file))).map_err(io::Error::other)
    }
}

impl StorageBackend for ReadOnly {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _offset: u64, _data: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}
