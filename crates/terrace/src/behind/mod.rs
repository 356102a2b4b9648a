//! Write-behind: writes that are acknowledged before the origin has them, and that are not lost.
//!
//! A [`Journal`] is a file. A write is acknowledged when it is in the file (or earlier, see [`Ack`]), and brought to the origin
//! later, in batches, by the [`Sink`] of its keyspace. It knows nothing of types: keys and values are bytes.
//!
//! ```text
//! write ─▶ row ─▶ one commit for many ─▶ acknowledged ─▶ ready ─▶ batch ─▶ sink ─▶ done
//!                                                          ▲                  │ fails
//!                                                          └──── parked ◀─────┤
//!                                                            dead letters ◀───┘
//! ```
//!
//! # What holds
//! 1. **Nothing acknowledged is lost.** A write whose reply says [`Ack::Fsync`] reaches the sink, or a newer one of its key does,
//!    or it is a dead letter: whenever the process is killed, the power fails, the disk fills up or fails. For [`Ack::Os`] the
//!    power must not fail. For [`Ack::Memory`] the process must live until the next commit.
//! 2. **Per key, order holds.** One write of a key is under way at a time. One that failed is tried again before those behind it.
//!    After a restart what was pending comes before what is new.
//! 3. **Only what was not sent is coalesced**: the newest write of a key takes the place of those that the sink never had.
//! 4. **At least once**, with the same [`WriteId`] each time, and a version by which a sink can refuse what is old.
//! 5. **A key that fails waits by itself.** After its last attempt all of its writes become dead letters, which stay in the file.
//! 6. **Everything is bounded**: writes and bytes that wait, dead letters, commits, batches, attempts and their time. A write for
//!    which there is no room waits until its deadline, or is refused.
//! 7. **A damaged file stops the start.** It is named, and keeps its bytes. Half a commit at the end is none, and is taken back.
//!    After a failed sync nothing is written to the file any more, and what it holds in memory is still sent.
//! 8. **A request is taken once**, if its sender gives it a name ([`IdempotencyKey`]): a repetition is acknowledged as the first was, and does
//!    nothing, also after the write went its way and others came. What is remembered is in the commit of the write.
//!
//! # Reads, removals and invalidations
//! - A local read asks [`Lane::pending`] first: the newest acknowledged write of a key is what it sees, until the origin has it.
//! - To remove a key is a write like another: a delete, with its place in the key's order.
//! - To invalidate a key says that copies are old, not that a write is not wanted: what is pending stays pending, and reads go on
//!   to see it.
//! - A write that was given up is seen no more: the origin's value is the truth again, and the sink is told
//!   ([`Sink::given_up`]), so that copies can be dropped.
//! - Other nodes do not see what is pending here. Two nodes that write one key behind are in an order if the sink compares versions: that
//!   of L2, where the keyspace has one that answers.
//!
//! | module | decides |
//! |---|---|
//! | `queue`, `chain` | which write may be sent, what takes whose place, what an outcome means |
//! | `stamps` | the versions of writes, by which an origin knows which of two is the newer |
//! | `lane` | what a caller waits for |
//! | `graves` | which dead letter may be brought back |
//! | `roll` | what is known of a write by its number |
//! | `requests`, `idempotency` | whether a request was taken before |
//! | `store`, `tap`, `guarded` | what is in the file, what a failure of it means |
//! | `inspect` | what somebody sees who only looks into the file |
//! | `writer` | who is acknowledged when |
//! | `drain` | when the sink is called |
//!
//! Deliberately absent: types, retries of a whole origin (a sink that cannot reach it says [`Outcome::Unavailable`]), a format of
//! our own for the file, which is a redb database.

mod chain;
mod counters;
mod drain;
mod error;
mod graves;
mod guarded;
mod idempotency;
mod inspect;
mod lane;
mod options;
mod queue;
mod record;
mod requests;
mod roll;
mod shared;
mod sink;
mod stamps;
mod store;
mod tap;
#[cfg(test)]
mod tests;
mod writer;

pub use crate::origin::WriteId;
pub use counters::{Condition, JournalFigures, LaneFigures};
pub use error::{OpenError, RetryError, WriteError};
pub(crate) use idempotency::Request;
pub use idempotency::{IdempotencyKey, IdempotencyKeyError};
pub use inspect::Inspected;
pub(crate) use lane::Held;
pub use lane::{Acknowledged, Flushed, Lane};
pub use options::{Ack, JournalOptions, LaneOptions, WhenFull};
pub use record::{DeadLetter, Operation, Outcome, Pending, Write, WriteState};
pub use sink::{Outcomes, Sink};

use crate::runtime;
use crate::telemetry::JournalGauges;
use redb::StorageBackend;
use redb::backends::FileBackend;
use shared::Shared;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::{Opener, Store};

/// Writes of all keyspaces that an origin does not have yet, and the file that keeps them.
///
/// Clones are handles of one journal. When the last one is dropped, with the [`Lane`]s, the journal ends by itself: what is
/// pending stays in the file. [`Journal::shutdown`] waits for that, and brings to the origin what it can before.
///
/// # Examples
/// ```
/// use bytes::Bytes;
/// use std::{sync::Arc, time::Duration};
/// use terrace::behind::{Journal, JournalOptions, LaneOptions, Operation, Outcome, Outcomes, Pending, Sink, Write, WriteState};
///
/// struct Nowhere;
///
/// impl Sink for Nowhere {
///     fn store_many<'a>(&'a self, writes: &'a [Write]) -> Outcomes<'a> {
///         Box::pin(async move { vec![Outcome::Stored; writes.len()] })
///     }
/// }
///
/// # tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("writes.journal");
/// let journal = Journal::open(&path, JournalOptions::default())?;
/// let metrics = journal.lane("metrics", LaneOptions::default(), Arc::new(Nowhere))?;
///
/// let value = Operation::Store(Bytes::from_static(b"17"));
/// let written = metrics.write("metrics:1".into(), value.clone(), None, Duration::from_secs(1)).await?;
/// assert_eq!(metrics.pending(b"metrics:1"), Pending::Stored(Bytes::from_static(b"17")));
/// assert!(matches!(metrics.state_of(written.id), Some(WriteState::Waiting { .. })));
///
/// assert_eq!(metrics.flush().await.left(), 0);
/// assert_eq!(metrics.pending(b"metrics:1"), Pending::Nothing);
/// journal.shutdown(Duration::from_secs(5)).await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Journal(Arc<Owner>);

#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.runtime.end();
        self.0.end();
    }
}

/// What a shutdown came to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Drained {
    /// Writes that waited when it began, and that the origin has now, or that newer ones have taken the place of.
    pub stored: u64,
    /// Writes that stay in the file for the next start.
    pub left: u64,
    /// Dead letters, all there are. They stay in the file too.
    pub dead: u64,
    /// Whether the file was closed in time. If not, the next start takes the writes that were brought to the origin last for
    /// pending, and sends them again.
    pub is_closed: bool,
}

impl Journal {
    /// Opens a journal, or makes one where there is no file. Each cache needs one of its own.
    ///
    /// Writes that the file holds wait until their keyspace has a [`lane`](Journal::lane).
    ///
    /// # Errors
    /// [`OpenError::InUse`] if somebody has it open; [`OpenError::Corrupt`] if it is damaged, and then the file is left as it
    /// is; [`OpenError::NotAJournal`], [`OpenError::Io`], [`OpenError::Setting`].
    ///
    /// # Cost
    /// Blocks: reads all of the file, checks it, and makes two syncs. What is pending stays in memory. One thread.
    pub fn open(path: impl AsRef<Path>, options: JournalOptions) -> Result<Self, OpenError> {
        let path = path.as_ref().to_owned();
        let file = path.clone();
        Self::open_with(&path, Box::new(move || open_file(&file)), options)
    }

    fn open_with(path: &Path, opener: Opener, options: JournalOptions) -> Result<Self, OpenError> {
        options.check()?;
        let (shared, store) = load(path, opener, options)?;
        let writing = Arc::clone(&shared);
        let journal = Self(Arc::new(Owner(shared)));
        let started = runtime::thread("terrace-journal", move || writer::run(&writing, store));
        started.map_err(|error| OpenError::Io { path: path.to_owned(), error })?;
        Ok(journal)
    }

    /// Writes a keyspace behind: what its file holds of it, and what is written from now on, goes to `sink`.
    ///
    /// The sink is called on the runtime of whoever calls the lane. What was pending is sent when the interval is over, or
    /// with the first flush.
    ///
    /// # Errors
    /// [`OpenError::Attached`] if it has a sink; [`OpenError::Setting`].
    pub fn lane(&self, keyspace: &str, options: LaneOptions, sink: Arc<dyn Sink>) -> Result<Lane, OpenError> {
        let lane = self.0.0.attach(keyspace, options, sink)?;
        let Some(keyspace) = self.0.0.keyspace(lane) else {
            return Err(OpenError::Attached { keyspace: keyspace.to_owned() });
        };
        self.0.0.see_to_draining(lane, &keyspace);
        Ok(Lane { owner: Arc::clone(&self.0), keyspace, index: lane })
    }

    /// How it is, and what it did.
    pub fn figures(&self) -> JournalFigures {
        self.0.0.figures()
    }

    /// What Prometheus is told of it.
    pub(crate) fn gauges(&self) -> JournalGauges {
        let shared = &self.0.0;
        let names: Vec<Arc<str>> =
            shared.state.lock().queues.iter().map(|queue| Arc::clone(&queue.name)).collect();
        let flushes = names.iter().enumerate();
        let flushes = flushes.map(|(lane, name)| (name.to_string(), shared.counters_of(lane).flushes()));
        JournalGauges { figures: shared.figures(), flushes: flushes.collect() }
    }

    /// Ends the journal: no more writes are taken, and what waits is brought to the origin until the limit is over; with no
    /// time, nothing is sent. What is left stays in the file, parked keys with it.
    ///
    /// # Cancel safety
    /// Dropped, it leaves the journal ending: no writes are taken, and what waits stays in the file.
    pub async fn shutdown(&self, limit: Duration) -> Drained {
        let shared = &self.0.0;
        let by = shared.options.clock.precise().plus(limit);
        shared.close();
        let (mark, before) = {
            let state = shared.state.lock();
            (state.next, state.totals().0)
        };
        let lanes: Vec<usize> = shared.lanes.lock().keys().copied().collect();
        let sending = async {
            let all = lanes.iter().map(|&lane| shared.settle_until(lane, mark));
            futures_util::future::join_all(all).await;
        };
        if !limit.is_zero() {
            let _all_were_sent = runtime::within(limit, sending).await;
        }
        shared.runtime.end();
        // A short while more: what was sent has to be noted, or it is sent again.
        let rest = by.since(shared.options.clock.precise()).max(CLOSING_MIN);
        let closing = async {
            shared.runtime.close().await;
            shared.end();
            shared.ended.cancelled().await;
        };
        let is_closed = runtime::within(rest, closing).await.is_some();
        shared.end();
        let state = shared.state.lock();
        let left = state.totals().0;
        let dead = state.dead() as u64;
        Drained { stored: before.saturating_sub(left) as u64, left: left as u64, dead, is_closed }
    }
}

/// What a shutdown takes at least for closing the file.
const CLOSING_MIN: Duration = Duration::from_millis(250);

fn load(path: &Path, opener: Opener, options: JournalOptions) -> Result<(Arc<Shared>, Store), OpenError> {
    // Between two commits no more numbers are given out than writes may wait.
    let block = (options.pending_max as u64).saturating_mul(4).max(1 << 10);
    let name = (u128::from(options.chance.number()) << 64) | u128::from(options.chance.number());
    let (store, loaded) = Store::open(path, opener, block, name)?;
    Ok((Arc::new(Shared::new(options, loaded)), store))
}

fn open_file(path: &Path) -> io::Result<Box<dyn StorageBackend>> {
    if !path.exists() {
        make_file(path)?;
    }
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
}

/// Makes an empty journal under another name, and gives it its own when the disk has all of it: half a file is never taken for
/// a damaged one. Whoever else does the same at the same time, one file is taken.
fn make_file(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(name);
    let _no_file_is_fine = std::fs::remove_file(&new);
    let made = redb::Database::create(&new).and_then(redb::Database::close);
    made.map_err(io::Error::other)?;
    let named = match std::fs::hard_link(&new, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Not every file system has links.
        Err(_) if !path.exists() => std::fs::rename(&new, path),
        named => named,
    };
    let _it_may_have_been_renamed = std::fs::remove_file(&new);
    named?;
    sync_folder(path)
}

/// The file's name has to be on the disk as well.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
    }
    Ok(())
}
