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
//! | `graves` | which dead letter may be brought back |
//! | `store`, `tap`, `guarded` | what is in the file, what a failure of it means |
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
mod options;
mod queue;
mod record;
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
pub use options::{Ack, JournalOptions, LaneOptions, WhenFull};
pub use record::{DeadLetter, Operation, Outcome, Pending, Write};
pub use sink::{Outcomes, Sink};

use crate::runtime;
use crate::telemetry::JournalGauges;
use bytes::Bytes;
use record::Record;
use redb::StorageBackend;
use redb::backends::FileBackend;
use shared::{Keyspace, Shared, Taken, Terms};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use store::{Opener, Store};
use terrace_core::{Moment, Version};

/// Writes of all keyspaces that an origin does not have yet, and the file that keeps them.
///
/// Clones are handles of one journal. When the last one is dropped, with the [`Lane`]s, the journal ends by itself: what is
/// pending stays in the file. [`Journal::shutdown`] waits for that, and brings to the origin what it can before.
///
/// # Examples
/// ```
/// use bytes::Bytes;
/// use std::{sync::Arc, time::Duration};
/// use terrace::behind::{Journal, JournalOptions, LaneOptions, Operation, Outcome, Outcomes, Pending, Sink, Write};
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
/// metrics.write("metrics:1".into(), value.clone(), None, Duration::from_secs(1)).await?;
/// assert_eq!(metrics.pending(b"metrics:1"), Pending::Stored(Bytes::from_static(b"17")));
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

/// A keyspace that is written behind. Clones are handles of the same one.
#[derive(Clone)]
pub struct Lane {
    owner: Arc<Owner>,
    keyspace: Arc<Keyspace>,
    index: usize,
}

/// What a caller gets for its write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Acknowledged {
    /// The write's name.
    pub id: WriteId,
    /// What the acknowledgement stands for.
    pub ack: Ack,
}

/// What a flush came to, about the writes that were accepted before it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Flushed {
    /// Writes that the origin has now, or that newer ones have taken the place of.
    pub stored: u64,
    /// Writes that failed and are tried again, and those behind them.
    pub parked: u64,
    /// Writes that were given up meanwhile.
    pub dead: u64,
}

impl Flushed {
    /// Writes that the origin does not have.
    pub fn left(&self) -> u64 {
        self.parked + self.dead
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

/// A write that is acknowledged, and not sent before its version is known.
pub(crate) struct Held {
    lane: Lane,
    record: Option<Arc<Record>>,
}

impl Held {
    /// L2 has given the change this version.
    pub(crate) fn given(mut self, version: Version) {
        self.release((version != Version::ZERO).then(|| version.get()));
    }

    fn release(&mut self, given: Option<u64>) {
        if let Some(record) = self.record.take() {
            self.lane.owner.0.release(self.lane.index, &record, given);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release(None);
    }
}

impl Lane {
    /// Takes a write, and returns when it is acknowledged as the keyspace's [`Ack`] says. `version` is for the fence of the
    /// sink; unless given, it is made from the time of this node, and above all before it.
    ///
    /// # Errors
    /// [`WriteError::Full`] if there is no room, at once or until `wait_max` is over, as [`WhenFull`] says;
    /// [`WriteError::DiskFull`], [`WriteError::Poisoned`], [`WriteError::TooLarge`], [`WriteError::Closed`]: nothing was taken,
    /// and nothing is sent. [`WriteError::Unacknowledged`] if it was taken and `wait_max` was over first.
    ///
    /// # Cost
    /// One short lock, and a wait for the journal's next commit: its window, and two syncs of the disk (none for
    /// [`Ack::Os`], no wait for [`Ack::Memory`]). The value is kept in memory until the origin has it.
    ///
    /// # Races
    /// Writes of one key that are under way at the same time are ordered by the lock. Each reply names its number.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, nothing was taken. Dropped later, the write goes its way.
    pub async fn write(
        &self,
        key: Bytes,
        operation: Operation,
        version: Option<u64>,
        wait_max: Duration,
    ) -> Result<Acknowledged, WriteError> {
        let (taken, by) = self.take_in(key, operation, version, false, wait_max).await?;
        self.acknowledged(taken, by, wait_max).await
    }

    /// [`Lane::write`] of what L2 is about to give a version: it is not sent before that is said, or the [`Held`] is dropped.
    pub(crate) async fn write_held(
        &self,
        key: Bytes,
        operation: Operation,
        wait_max: Duration,
    ) -> Result<(Acknowledged, Held), WriteError> {
        let (taken, by) = self.take_in(key, operation, None, true, wait_max).await?;
        let held = Held { lane: self.clone(), record: Some(Arc::clone(&taken.record)) };
        Ok((self.acknowledged(taken, by, wait_max).await?, held))
    }

    /// Gives a write its place, when there is room.
    async fn take_in(
        &self,
        key: Bytes,
        operation: Operation,
        version: Option<u64>,
        is_held: bool,
        wait_max: Duration,
    ) -> Result<(Taken, Moment), WriteError> {
        let shared = &self.owner.0;
        let by = shared.options.clock.precise().plus(wait_max);
        shared.see_to_draining(self.index, &self.keyspace);
        let terms = Terms { version, is_held, ack: self.keyspace.options.ack };
        loop {
            let mut room = pin!(shared.room.notified());
            room.as_mut().enable();
            let error = match shared.submit(self.index, key.clone(), operation.clone(), terms) {
                Ok(taken) => return Ok((taken, by)),
                Err(error) => error,
            };
            let waits = self.keyspace.options.when_full == WhenFull::Wait;
            let rest = by.since(shared.options.clock.precise());
            if !waits || !matches!(error, WriteError::Full { .. }) || rest.is_zero() {
                return Err(self.refused(error));
            }
            self.make_room();
            if runtime::within(rest, room).await.is_none() {
                return Err(self.refused(error));
            }
        }
    }

    async fn acknowledged(
        &self,
        taken: Taken,
        by: Moment,
        wait_max: Duration,
    ) -> Result<Acknowledged, WriteError> {
        let shared = &self.owner.0;
        let id = WriteId { journal: shared.journal, number: taken.number };
        if let Some(reply) = taken.reply {
            let rest = by.since(shared.options.clock.precise());
            match runtime::within(rest, reply).await {
                Some(Ok(result)) => result?,
                Some(Err(_)) => return Err(WriteError::Closed),
                None => return Err(WriteError::Unacknowledged { id, after: wait_max }),
            }
        }
        Ok(Acknowledged { id, ack: self.keyspace.options.ack })
    }

    fn refused(&self, error: WriteError) -> WriteError {
        self.keyspace.counters.add(counters::Tally::Refused, 1);
        error
    }

    /// Who waits for room does not wait for an interval: all keyspaces send what they have.
    fn make_room(&self) {
        let shared = &self.owner.0;
        let lanes: Vec<usize> = shared.lanes.lock().keys().copied().collect();
        for lane in lanes {
            if let Some(keyspace) = shared.keyspace(lane) {
                shared.see_to_draining(lane, &keyspace);
                shared.force(lane, &keyspace);
            }
        }
    }

    /// What a local read must see of a key.
    ///
    /// # Cost
    /// One short lock and one lookup, whatever waits. No allocation.
    pub fn pending(&self, key: &[u8]) -> Pending {
        self.owner.0.state.lock().queues[self.index].pending(key)
    }

    /// Sends what waits, and returns when every write that was acknowledged before the call was sent, or has failed and waits
    /// for another attempt, or was given up. It says how many of each.
    ///
    /// Keys that failed before the call are not tried out of turn.
    ///
    /// # Cancel safety
    /// Dropped, it stops waiting; what was to be sent is.
    pub async fn flush(&self) -> Flushed {
        let shared = &self.owner.0;
        let (mark, before) = {
            let state = shared.state.lock();
            (state.next.saturating_sub(1), state.queues[self.index].count_until(state.next) as u64)
        };
        let dead_before = self.figures().dead;
        shared.settle_until(self.index, mark).await;
        let parked = shared.state.lock().queues[self.index].count_until(mark) as u64;
        let dead = (self.figures().dead - dead_before).min(before.saturating_sub(parked));
        Flushed { stored: before.saturating_sub(parked + dead), parked, dead }
    }

    /// How it stands, and what it did.
    pub fn figures(&self) -> LaneFigures {
        self.owner.0.lane_figures(self.index)
    }

    /// The first writes that wait, in their order, with the attempts that were made.
    ///
    /// # Cost
    /// Holds the journal's lock while it looks at all writes of the keyspace: for people, not for programs.
    pub fn waiting(&self, count_max: usize) -> Vec<Write> {
        let shared = &self.owner.0;
        shared.state.lock().queues[self.index].waiting(shared.journal, count_max)
    }

    /// The first dead letters, in their order.
    pub fn dead_letters(&self, count_max: usize) -> Vec<DeadLetter> {
        let shared = &self.owner.0;
        shared.state.lock().queues[self.index].dead_letters(shared.journal, count_max)
    }

    /// Brings a key's dead letters back, with all of their attempts before them, and in their order. Gives how many.
    ///
    /// # Errors
    /// [`RetryError::Unknown`] if there is none; [`RetryError::Overtaken`] if a newer write of the key was acknowledged since.
    pub fn retry_dead(&self, key: &[u8]) -> Result<usize, RetryError> {
        let shared = &self.owner.0;
        let (key, now, mut notes) = (Bytes::copy_from_slice(key), shared.options.clock.precise(), Vec::new());
        let mut state = shared.state.lock();
        let count = state.queues[self.index].revive(&key, now, &mut notes)?;
        shared.note(&mut state, notes);
        drop(state);
        self.keyspace.sink.brought_back(&key);
        self.keyspace.wake.notify_one();
        Ok(count)
    }

    /// Forgets a key's dead letters for good. Gives how many.
    pub fn drop_dead(&self, key: &[u8]) -> usize {
        let shared = &self.owner.0;
        let mut notes = Vec::new();
        let mut state = shared.state.lock();
        let count = state.queues[self.index].drop_dead(&Bytes::copy_from_slice(key), &mut notes);
        shared.note(&mut state, notes);
        drop(state);
        shared.room.notify_waiters();
        count
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("figures", &self.figures()).finish_non_exhaustive()
    }
}

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
