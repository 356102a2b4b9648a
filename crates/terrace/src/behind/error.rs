//! What can go wrong with a journal.

use crate::origin::WriteId;
use std::path::PathBuf;
use std::time::Duration;

/// Why a journal could not be opened. The file is left as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another cache of this one, has it open.
    #[error("the journal {path} is in use by somebody else; give each cache a file of its own")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is damaged. Acknowledged writes may be in it, so nothing is skipped, and it is neither mended nor overwritten.
    #[error(
        "the journal {path} is damaged ({reason}); it was left as it is: move it away and keep it, it may hold writes that the origin does not have"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// It is a sound file, and no journal that this version can read.
    #[error("the file {path} is no journal of this version ({reason}); give another path")]
    NotAJournal {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The operating system refused.
    #[error("the journal {path} cannot be opened: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: std::io::Error,
    },
    /// A setting makes no sense.
    #[error("`{setting}` of write-behind is {value}, and must be {allowed}")]
    Setting {
        /// Which one.
        setting: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// The keyspace is written behind already.
    #[error("the keyspace `{keyspace}` has a sink already")]
    Attached {
        /// Its name.
        keyspace: String,
    },
}

/// Why a write was not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// As many writes wait as are allowed, and none got away in time.
    #[error(
        "{pending} writes of {bytes} bytes wait for the origin, and no more are allowed; see why it does not take them, or raise `pending_max`"
    )]
    Full {
        /// How many wait.
        pending: usize,
        /// How many bytes they count.
        bytes: usize,
    },
    /// The write alone is larger than all that may wait.
    #[error("the write counts {bytes} bytes, and all that wait together may count {bytes_max}")]
    TooLarge {
        /// What it counts.
        bytes: usize,
        /// What is allowed.
        bytes_max: usize,
    },
    /// The disk is full. Nothing is lost, and writes are taken again when there is room.
    #[error("the journal has no room on its disk; make some")]
    DiskFull,
    /// The disk failed. Nothing is written to the file any more; what it had acknowledged is still brought to the origin.
    /// Whether this very write is in the file is not known: it may be applied after a restart.
    #[error("the journal is out of use, since its disk failed ({reason}); replace the disk, then restart")]
    Poisoned {
        /// What the operating system said.
        reason: String,
    },
    /// It was taken, and not acknowledged in time. It may still be written.
    #[error("the write {id} was not acknowledged within {after:?}; it may still be written")]
    Unacknowledged {
        /// Its name.
        id: WriteId,
        /// How long that was.
        after: Duration,
    },
    /// Its idempotency key was given before, to another request: nothing was taken. See [`IdempotencyKey`](super::IdempotencyKey).
    #[error(
        "the idempotency key was given to another request before, whose write is {id}; give each request a key of its own, and the same request to its repetitions"
    )]
    KeyReused {
        /// The write of the first request with this key.
        id: WriteId,
    },
    /// The journal was shut down.
    #[error("the journal is shut down")]
    Closed,
}

impl WriteError {
    /// Whether the same call may succeed later without anybody restarting anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::DiskFull | Self::Unacknowledged { .. })
    }
}

/// Why a dead letter was not brought back.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RetryError {
    /// There is none of this key.
    #[error("there is no dead letter of this key")]
    Unknown,
    /// A newer write of the key was acknowledged since.
    #[error("a newer write of the key was acknowledged since; an older one would undo it: drop it instead")]
    Overtaken,
}
