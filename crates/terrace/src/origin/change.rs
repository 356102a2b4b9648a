//! What is an origin asked to change, and what can it say of that?
//!
//! 1. A change is of one key: a value to store, or that there is to be none.
//! 2. What is written behind can be told from its repetition, and from an older write: [`Fence`].
//! 3. An answer says whether the change was made, or that nobody knows, and what else is not true any more because of it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::Tag;

/// What an origin says of a change that it was asked for.
///
/// # Examples
/// ```
/// use terrace::{OriginAnswer, Tag, WriteFailure};
///
/// let mut answer = OriginAnswer::from(Ok::<(), WriteFailure<std::io::Error>>(()));
/// answer.invalidates.push(Tag::new("org:7")?);
/// assert!(answer.made.is_ok());
/// # Ok::<(), terrace::KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct OriginAnswer<E> {
    /// Whether it made the change.
    pub made: Result<(), WriteFailure<E>>,
    /// Tags whose entries, in the same keyspace, are not true any more because of it. They are invalidated before the change is
    /// acknowledged; of what is written behind, before the write leaves the journal. What that costs is what
    /// [`Keyspace::invalidate`](crate::Keyspace::invalidate) does with tags. A failure is what it is there: L2 is told later, and the change
    /// counts as [`Queued`](crate::Effect::Queued), not as failed. Of a call that is given up after `load_timeout` nothing is known, these
    /// included: an origin that makes many changes in one call has to be done by then.
    pub invalidates: Vec<Tag>,
}

impl<E> From<Result<(), WriteFailure<E>>> for OriginAnswer<E> {
    fn from(made: Result<(), WriteFailure<E>>) -> Self {
        Self { made, invalidates: Vec::new() }
    }
}

impl<E> OriginAnswer<E> {
    /// The same answer with another form of its error: for an origin that is made of another one.
    #[must_use]
    pub fn map_failure<F>(self, form: impl FnOnce(WriteFailure<E>) -> WriteFailure<F>) -> OriginAnswer<F> {
        OriginAnswer { made: self.made.map_err(form), invalidates: self.invalidates }
    }
}

/// A change that an origin is to make.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct OriginWrite<K, V> {
    /// The key.
    pub key: K,
    /// The new value; `None` to remove the one that is there.
    pub value: Option<Arc<V>>,
    /// What tells a repetition, and an older write, from a new one; `None` for what is written at once.
    pub fence: Option<Fence>,
}

impl<K, V> OriginWrite<K, V> {
    pub(crate) fn now(key: K, value: Option<Arc<V>>) -> Self {
        Self { key, value, fence: None }
    }

    /// The same change with another form of its value: for an origin that is made of another one.
    #[must_use]
    pub fn with_value<W>(&self, value: Option<Arc<W>>) -> OriginWrite<K, W>
    where
        K: Clone,
    {
        OriginWrite { key: self.key.clone(), value, fence: self.fence }
    }
}

/// What an origin can know a repeated write by.
///
/// A write that is written behind is sent at least once, and two attempts can overlap. What makes that harmless is to apply it
/// only if its version is above the one that is stored with the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Fence {
    /// The write's name, the same in every attempt, before and after a restart.
    pub id: WriteId,
    /// A time in microseconds, which rises from write to write of a key: the version that L2 gave the write, where the keyspace
    /// has an L2 that answers, so it orders the writes of all nodes. Where L2 does not answer, it is the node's clock; then
    /// writes of one key by several nodes are in the order of their clocks.
    pub version: u64,
    /// Which attempt this is, from 1 on.
    pub attempt: u32,
}

/// The name of one write that is written behind, the same in every attempt, before and after a restart.
///
/// Numbers rise, and none is given out twice by one journal. Who remembers the number that was applied last for each key, per
/// journal, can tell what is a repetition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WriteId {
    /// Which journal; drawn by chance when its file was made.
    pub journal: u128,
    /// Which write of it.
    pub number: u64,
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{}", self.journal, self.number)
    }
}

/// A text is not the name of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no write is called so: a write's id is 32 hexadecimal digits, a `-` and a number")]
#[non_exhaustive]
pub struct WriteIdError;

impl FromStr for WriteId {
    type Err = WriteIdError;

    /// Reads what [`Display`](fmt::Display) wrote, and nothing else: a write has one name.
    fn from_str(text: &str) -> Result<Self, WriteIdError> {
        let (journal, number) = text.split_once('-').ok_or(WriteIdError)?;
        let journal = u128::from_str_radix(journal, 16).map_err(|_| WriteIdError)?;
        let id = Self { journal, number: number.parse().map_err(|_| WriteIdError)? };
        if id.to_string() == text { Ok(id) } else { Err(WriteIdError) }
    }
}

/// Why an origin did not make a change. A `?` on the origin's own error says [`WriteFailure::Failed`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WriteFailure<E> {
    /// It cannot be written at all: it has no [`store`](super::Origin::store), or no [`delete`](super::Origin::delete).
    Unsupported,
    /// It failed, and may succeed later. The origin does not have the write.
    Failed(E),
    /// The origin will never take it.
    Refused(E),
    /// The origin could not be reached. What is written behind is tried again and again, and this does not count as one of its
    /// attempts.
    Unavailable(E),
    /// The origin is left alone: it was not asked, or could not be reached and is not asked from now on. What is written behind is tried
    /// again after that time, whatever it failed with before, and this does not count as one of its attempts.
    LeftAlone {
        /// What it failed with.
        error: E,
        /// How long until the origin may be asked again.
        again: Duration,
    },
    /// It failed, and whether the origin has the write is not known: copies of the key are dropped.
    Unknown(E),
}

impl<E> From<E> for WriteFailure<E> {
    fn from(error: E) -> Self {
        Self::Failed(error)
    }
}

impl<E: fmt::Display> fmt::Display for WriteFailure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported => f.write_str("the origin cannot be written in this way"),
            Self::Failed(error)
            | Self::Refused(error)
            | Self::Unavailable(error)
            | Self::LeftAlone { error, .. }
            | Self::Unknown(error) => error.fmt(f),
        }
    }
}
