//! What is written behind, and what came of it.

use super::idempotency::Request;
use crate::origin::WriteId;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// What is to be done with a key.
#[derive(Clone, PartialEq, Eq)]
pub enum Operation {
    /// Store this value, encoded.
    Store(Bytes),
    /// Remove the value.
    Delete,
}

impl Operation {
    /// The value's bytes, if there is one.
    pub fn value(&self) -> Option<&Bytes> {
        match self {
            Self::Store(value) => Some(value),
            Self::Delete => None,
        }
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(value) => write!(f, "Store({} bytes)", value.len()),
            Self::Delete => f.write_str("Delete"),
        }
    }
}

/// A write as the sink gets it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Write {
    /// The same in every attempt.
    pub id: WriteId,
    /// The keyspace's name.
    pub keyspace: Arc<str>,
    /// The key.
    pub key: Bytes,
    /// What is to be done.
    pub operation: Operation,
    /// For the fence of the sink: apply a write only if its version is above the one that the key has. See
    /// [`Fence::version`](crate::Fence::version).
    pub version: u64,
    /// Which attempt this is, from 1 on. In a list it is how many there were.
    pub attempt: u32,
}

/// Versions below are numbers of writes, in journals of the first days: 2001 in microseconds, and more writes than anybody makes.
const NUMBERS_MAX: u64 = 1_000_000_000_000_000;

impl Write {
    /// When it was taken: by the clock of L2 if that gave it its [version](Self::version), else by that of its node. `None` for a
    /// write of a journal of the first days, which did not know.
    pub fn taken_at(&self) -> Option<SystemTime> {
        let is_time = self.version >= NUMBERS_MAX;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(self.version)).filter(|_| is_time)
    }

    /// What it counts for [`JournalOptions::pending_bytes_max`](super::JournalOptions::pending_bytes_max): key, value, and about what
    /// keeping it takes.
    pub fn weight(&self) -> usize {
        weight(self.key.len(), &self.operation)
    }
}

/// What the sink did with one write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The origin has it, or something newer.
    Stored,
    /// It failed, and may succeed later.
    Failed(String),
    /// The origin could not be asked. The write is tried again and again, and this does not count as one of its attempts.
    Unavailable(String),
    /// The origin is left alone for so long: it was not asked, or could not be reached and is not asked from now on. The write is tried
    /// again then, and what else of its keyspace has failed no earlier. This does not count as one of its attempts, nor for how long it
    /// waits after the next failure.
    LeftAlone {
        /// Why.
        reason: String,
        /// How long until the origin may be asked again.
        again: Duration,
    },
    /// The origin has it, and somebody else is still to be told. It stays in the file and is brought again a little later, unless a
    /// newer write of its key is there, which takes over that duty. This does not count as one of its attempts.
    Held(String),
    /// The origin will never take it: it goes to the dead letters at once.
    Refused(String),
}

/// A write that was given up. It waits until somebody retries or drops it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The write.
    pub write: Write,
    /// Why it was given up: what its last attempt failed with, or that it stood behind such a one.
    pub reason: String,
    /// Whether a newer write of the key was acknowledged since. Then it can be dropped, but not retried: it would bring back an
    /// old value.
    pub is_overtaken: bool,
}

/// What is known of one write: see [`Lane::state_of`](super::Lane::state_of).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WriteState {
    /// It waits for the origin, or is on its way there.
    Waiting {
        /// The write, with the attempts that were made.
        write: Write,
        /// For how long it has waited in this process: since it was taken, or found in the file, or brought back.
        waited: Duration,
    },
    /// It was given up.
    Dead(DeadLetter),
    /// A newer write of its key took its place before it was sent: the origin never gets it by itself.
    Coalesced {
        /// The write that stands for it now, while that waits or is a dead letter. If it does not, the origin has had it, or it was
        /// dropped.
        by: Option<WriteId>,
    },
    /// Nothing of it waits here. The journal keeps nothing of what is over, so it cannot say which of these is so: the origin has it; a
    /// newer write has taken its place, a while ago or before a restart; it was a dead letter that somebody dropped; it was refused;
    /// it was acknowledged as [`Ack::Memory`](super::Ack) or [`Ack::Os`](super::Ack), and ended with the process; it is a write of another keyspace.
    Gone,
}

/// What a local read must see of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pending {
    /// No acknowledged write is under way: what the tiers and the origin say is true.
    Nothing,
    /// This value, which the origin may not have yet.
    Stored(Bytes),
    /// No value, though the origin may still have one.
    Deleted,
}

/// A write as it is kept here.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) number: u64,
    pub(super) keyspace: Arc<str>,
    pub(super) key: Bytes,
    pub(super) operation: Operation,
    version: AtomicU64,
    /// The request that asked for it, if its sender gave that a name.
    pub(super) request: Option<Request>,
}

impl Record {
    pub(super) fn new(
        number: u64,
        keyspace: Arc<str>,
        key: Bytes,
        operation: Operation,
        version: u64,
    ) -> Self {
        Self { number, keyspace, key, operation, version: AtomicU64::new(version), request: None }
    }

    /// The same write, asked for by this request.
    pub(super) fn asked_for_by(self, request: Option<Request>) -> Self {
        Self { request, ..self }
    }

    /// The version of the write. It may change for as long as the write is held.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    pub(super) fn set_version(&self, version: u64) {
        self.version.store(version, Ordering::Relaxed);
    }

    /// What it counts for the bound in bytes: key, value, and about what keeping it takes.
    pub(super) fn weight(&self) -> usize {
        weight(self.key.len(), &self.operation)
    }

    pub(super) fn write(&self, journal: u128, attempt: u32) -> Write {
        Write {
            id: WriteId { journal, number: self.number },
            keyspace: Arc::clone(&self.keyspace),
            key: self.key.clone(),
            operation: self.operation.clone(),
            version: self.version(),
            attempt,
        }
    }
}

/// About what it takes to keep a write, besides key and value.
const OVERHEAD_BYTES: usize = 256;

/// What a write counts for the bound in bytes.
pub(super) fn weight(key_bytes: usize, operation: &Operation) -> usize {
    key_bytes + operation.value().map_or(0, Bytes::len) + OVERHEAD_BYTES
}
