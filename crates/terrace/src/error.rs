//! What can go wrong, per operation.
//!
//! A miss is not an error, and neither is a tier that is down on a read: the next one answers, and a counter says so. A keyspace
//! that fails closed wants it otherwise.
//! Errors are what the caller has to know: a key that cannot be one, a value that cannot be stored, a loader that
//! failed, an L2 that refuses, a cache that was shut down.

use crate::origin::Fault;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::{CodecError, KeyError, RemoteError};

/// Why an operation on a cache failed: a [`kind`](Error::kind) behind a pointer, so that the answer of a hit, which carries
/// none, fits into two registers.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use terrace::ErrorKind;
/// let texts = terrace::Cache::memory()?.keyspace::<String, String>("texts").build()?;
/// let refused = texts.get("a\nb").await.unwrap_err();
/// assert!(matches!(refused.kind(), ErrorKind::Key(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<ErrorKind>);

/// What there is to know about an [`Error`].
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The key cannot be a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The value cannot be encoded, or what L2 held cannot be decoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The value is larger than the keyspace allows.
    #[error(
        "the value has {bytes} bytes, and keyspace `{keyspace}` allows {bytes_max}; store less, or raise `value_bytes_max`"
    )]
    ValueTooLarge {
        /// The keyspace's name.
        keyspace: String,
        /// The value's size in bytes, encoded and not compressed.
        bytes: u64,
        /// The largest allowed.
        bytes_max: u64,
    },
    /// More tags than an entry can have.
    #[error("the entry has {count} tags, and at most {count_max} are allowed")]
    TooManyTags {
        /// How many were given.
        count: usize,
        /// The most allowed.
        count_max: usize,
    },
    /// L2 refused a write, and trying again will not help. This node has dropped its own copy and no longer trusts
    /// what L2 holds under the key.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The keyspace's origin failed.
    #[error("the origin failed: {0}")]
    Load(OriginFailure),
    /// The loader panicked, or what the keyspace does with its value: tagger, weigher or codec. The key is free again:
    /// the next call loads.
    #[error("the loader panicked: {message}")]
    LoadPanicked {
        /// What it panicked with.
        message: Arc<str>,
    },
    /// The loader took too long and was dropped.
    #[error("the loader did not answer within {after:?}")]
    LoadTimedOut {
        /// The keyspace's `load_timeout`.
        after: Duration,
    },
    /// The origin did not take a write. Unless it says that it may have it all the same ([`WriteFailure::Unknown`]), every tier is
    /// as it was before.
    ///
    /// [`WriteFailure::Unknown`]: crate::WriteFailure::Unknown
    #[error("the origin did not take the write: {0}")]
    Store(OriginFailure),
    /// The keyspace's origin cannot be written in this way: it has no `store`, or no `delete`.
    #[error("the keyspace's origin cannot be written in this way; give it `store` and `delete`")]
    StoreUnsupported,
    /// The origin panicked during a write. Whether it has the write is not known, so copies were dropped.
    #[error("the origin panicked during a write, which it may have or not: {message}")]
    StorePanicked {
        /// What it panicked with.
        message: Arc<str>,
    },
    /// The origin took too long for a write. Whether it has the write is not known, so copies were dropped.
    #[error("the origin did not answer within {after:?}, and may have the write or not")]
    StoreTimedOut {
        /// The keyspace's `load_timeout`.
        after: Duration,
    },
    /// Others are changing the key at the origin, one after the other, and their turns took too long. Nothing was changed.
    #[error("the key is being changed by others, and was not free within {after:?}; nothing was changed")]
    StoreBusy {
        /// The keyspace's `load_timeout`.
        after: Duration,
    },
    /// Nobody can say what is there at the moment of the change: the keyspace is written to its origin, or L2 cannot look and change in
    /// one step.
    #[error(
        "the keyspace cannot be changed on a condition: its origin is written, or its L2 cannot look and change in one step"
    )]
    ConditionUnsupported,
    /// L2 did not say whether a change on a condition was made. If the error is [unsent](RemoteError::is_unsent), it was not; else it
    /// may have been, and takes no effect any more from now on.
    #[error("whether the condition holds, and the change was made, is not known: {0}")]
    ConditionUnknown(RemoteError),
    /// Others have changed the key again and again, just before it was to be changed on a condition. Nothing was changed.
    #[error("the key is being changed by others; nothing was changed")]
    Contended,
    /// The journal did not take a write.
    #[cfg(feature = "journal")]
    #[error(transparent)]
    Journal(#[from] crate::behind::WriteError),
    /// A loader of many keys gave another number of answers than it was asked for, so nobody knows which is whose.
    #[error("the loader gave {got} answers for {asked} keys; give one for each, in their order")]
    LoadMiscounted {
        /// How many keys it was asked for.
        asked: usize,
        /// How many answers it gave.
        got: usize,
    },
    /// There was no place for the load: as many were at work as may be ([`Bulkhead`](crate::Bulkhead),
    /// [`loads_max`](crate::KeyspaceBuilder::loads_max)), and none ended in time.
    #[error(
        "`{bulkhead}` has {loads_max} loads at work, as many as it may, and none ended within {waited_max:?}; try again later, or raise `loads_max`"
    )]
    Overloaded {
        /// The bulkhead's name; of a keyspace's own, the keyspace's.
        bulkhead: String,
        /// Loads that it lets run at a time.
        loads_max: usize,
        /// How long a load waits there at most.
        waited_max: Duration,
    },
    /// Options of a call contradict each other, or its keyspace's.
    #[error(transparent)]
    Options(#[from] ConfigError),
    /// This node has a value that may be old, L2 cannot be asked, and the keyspace wants an error then.
    #[error(
        "the value cannot be proven fresh: no word of other nodes' changes comes through, and L2 does not answer"
    )]
    Unproven,
    /// L2 cannot be asked, and the keyspace is read with it or not at all
    /// ([`fail_closed`](crate::KeyspaceBuilder::fail_closed)). Nobody was asked instead.
    #[error("L2 cannot be asked, and without it the keyspace asks nobody else")]
    L2Unavailable,
    /// The cache was shut down, or the runtime that ran the load was.
    #[error("the cache is shut down")]
    Closed,
}

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// What went wrong, to keep.
    pub fn into_kind(self) -> ErrorKind {
        *self.0
    }

    /// Whose fault it is that a load failed, if one did.
    pub(crate) fn load_fault(&self) -> Option<Fault> {
        match self.kind() {
            ErrorKind::Load(failure) => Some(failure.fault()),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self.kind() {
            ErrorKind::Remote(error) => error.is_retryable(),
            #[cfg(feature = "journal")]
            ErrorKind::Journal(error) => error.is_retryable(),
            ErrorKind::ConditionUnknown(error) => error.is_retryable() && error.is_unsent(),
            ErrorKind::Contended
            | ErrorKind::Load(_)
            | ErrorKind::LoadPanicked { .. }
            | ErrorKind::LoadTimedOut { .. }
            | ErrorKind::Store(_)
            | ErrorKind::StorePanicked { .. }
            | ErrorKind::StoreTimedOut { .. }
            | ErrorKind::StoreBusy { .. }
            | ErrorKind::Overloaded { .. }
            | ErrorKind::Unproven
            | ErrorKind::L2Unavailable => true,
            _ => false,
        }
    }

    /// Whether a tier or the origin could not be reached, or has too much to do.
    pub fn is_unavailable(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Remote(RemoteError::Unavailable { .. })
                | ErrorKind::LoadTimedOut { .. }
                | ErrorKind::StoreTimedOut { .. }
                | ErrorKind::StoreBusy { .. }
                | ErrorKind::Overloaded { .. }
                | ErrorKind::Unproven
                | ErrorKind::L2Unavailable
                | ErrorKind::Closed
        )
    }
}

impl<K: Into<ErrorKind>> From<K> for Error {
    fn from(kind: K) -> Self {
        Self(Box::new(kind.into()))
    }
}

/// The error of a loader, or of an origin, shared by everyone who waited for it.
#[derive(Clone)]
pub struct OriginFailure(Arc<Failure>);

struct Failure {
    error: Arc<dyn Any + Send + Sync>,
    message: String,
    fault: Fault,
}

impl OriginFailure {
    pub(crate) fn new<E: fmt::Display + Send + Sync + 'static>(error: E) -> Self {
        Self::by(Fault::Origin, error)
    }

    pub(crate) fn by<E: fmt::Display + Send + Sync + 'static>(fault: Fault, error: E) -> Self {
        let message = error.to_string();
        Self(Arc::new(Failure { error: Arc::new(error), message, fault }))
    }

    /// Whose fault it is, as the origin says of a load ([`Origin::fault_of`](crate::Origin::fault_of)); of all else, its own.
    pub fn fault(&self) -> Fault {
        self.0.fault
    }

    /// The loader's own error, if it is of this type.
    ///
    /// # Examples
    /// See [`Keyspace::with_origin`](crate::Keyspace::with_origin).
    pub fn downcast<E: Any + Send + Sync>(&self) -> Option<Arc<E>> {
        terrace_memory::downcast_clone(&self.0.error)
    }
}

impl fmt::Display for OriginFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for OriginFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OriginFailure({:?})", self.0.message)
    }
}

/// Why [`Keyspace::get_or_load`](crate::Keyspace::get_or_load) has no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader failed. One failure is shared by everyone who waited for that load.
    #[error("the loader failed: {0}")]
    Loader(Arc<E>),
    /// Somebody else's loader of the same key failed, with an error of another type.
    #[error("the loader failed: {0}")]
    Foreign(OriginFailure),
    /// The cache itself could not answer.
    #[error(transparent)]
    Cache(Error),
}

impl<E> LoadError<E> {
    /// What the cache could not do; `None` if it was a loader that failed.
    pub fn cache(&self) -> Option<&ErrorKind> {
        match self {
            Self::Cache(error) => Some(error.kind()),
            Self::Loader(_) | Self::Foreign(_) => None,
        }
    }
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Loader(error) => Self::Loader(Arc::clone(error)),
            Self::Foreign(failure) => Self::Foreign(failure.clone()),
            Self::Cache(error) => Self::Cache(error.clone()),
        }
    }
}

impl<E: Any + Send + Sync> From<Error> for LoadError<E> {
    fn from(error: Error) -> Self {
        match error.into_kind() {
            ErrorKind::Load(failure) => match failure.downcast::<E>() {
                Some(error) => Self::Loader(error),
                None => Self::Foreign(failure),
            },
            other => Self::Cache(other.into()),
        }
    }
}

/// Why a value that a closure was to store was not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError<E> {
    /// The closure failed. Every tier is as it was before.
    #[error("the origin did not take the write: {0}")]
    Origin(Arc<E>),
    /// The cache could not do it, or the closure panicked or took too long.
    #[error(transparent)]
    Cache(Error),
}

impl<E: Any + Send + Sync> From<Error> for StoreError<E> {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Store(failure) => match failure.downcast::<E>() {
                Some(error) => Self::Origin(error),
                None => Self::Cache(error),
            },
            _ => Self::Cache(error),
        }
    }
}

/// A setting that cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{setting}` cannot be {value}: {allowed}")]
#[non_exhaustive]
pub struct ConfigError {
    /// Which setting.
    pub setting: &'static str,
    /// The value it was given.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

impl ConfigError {
    pub(crate) fn new(setting: &'static str, value: impl fmt::Debug, allowed: &str) -> Self {
        Self { setting, value: format!("{value:?}"), allowed: allowed.to_owned() }
    }
}

/// Why a keyspace cannot be opened.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyspaceError {
    /// The name cannot be a namespace.
    #[error(transparent)]
    Name(#[from] KeyError),
    /// A setting cannot be.
    #[error(transparent)]
    Setting(#[from] ConfigError),
    /// The keyspace is open already. One namespace has one value type and one set of rules: clone the first
    /// [`Keyspace`](crate::Keyspace) instead of opening it twice.
    #[error("keyspace `{name}` is open already; clone the first one instead of opening it twice")]
    Open {
        /// The keyspace's name.
        name: String,
    },
}

/// What was left when the time for a shutdown ran out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "shut down after {after:?} with {loads} loads still running, {invalidations} invalidations not delivered to L2, and {writes} writes that stay in the journal"
)]
#[non_exhaustive]
pub struct ShutdownError {
    /// The time that was given.
    pub after: Duration,
    /// Background tasks that were still running; they were told to stop.
    pub loads: usize,
    /// Writes that were acknowledged and that the origin does not have. They stay in the journal for the next start. Zero without
    /// a journal.
    pub writes: u64,
    /// Invalidations that L2 has not seen, and that die with this cache: it and other nodes keep the old values until their
    /// TTL.
    pub invalidations: usize,
}
