//! The system of record behind the cache: what a program says of it.
//!
//! 1. An origin is asked in tasks of the cache's own, each call within a limit; that it panics, or takes too long, is a failure
//!    of that call.
//! 2. What a failure means for copies depends on whether the origin may have the write all the same: see
//!    [`WriteFailure`].
//!
//! | module | decides |
//! |---|---|
//! | [`bound`] | what a call to an origin is, with its types taken away |
//! | [`closures`] | how an origin is made of closures |

pub(crate) mod bound;
mod closures;

pub use closures::OriginFn;

use crate::entry::Tier;
use crate::keyspace::Fetched;
use crate::telemetry::OriginTimer;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::Tag;

/// Keys that [`Origin::load_many`] loads at the same time, unless the origin has a way of its own: it has only so many connections.
const LOADS_AT_ONCE: usize = 256;

/// Loads what the cache does not have, and takes what is written.
///
/// Only `load` has to be there. An origin without `store` and `delete` can be read through, and not written.
///
/// # Examples
/// ```
/// use std::collections::HashMap;
/// use std::convert::Infallible;
/// use parking_lot::Mutex;
/// use terrace::{Origin, WriteFailure};
///
/// #[derive(Default)]
/// struct Table(Mutex<HashMap<u64, String>>);
///
/// impl Origin<u64, String> for Table {
///     type Error = Infallible;
///
///     async fn load(&self, key: &u64) -> Result<Option<String>, Infallible> {
///         Ok(self.0.lock().get(key).cloned())
///     }
///
///     async fn store(&self, key: &u64, value: &String) -> Result<(), WriteFailure<Infallible>> {
///         self.0.lock().insert(*key, value.clone());
///         Ok(())
///     }
///
///     async fn delete(&self, key: &u64) -> Result<(), WriteFailure<Infallible>> {
///         self.0.lock().remove(key);
///         Ok(())
///     }
/// }
/// ```
pub trait Origin<K: Send + Sync, V: Send + Sync>: Send + Sync + 'static {
    /// Why a call failed.
    type Error: fmt::Display + fmt::Debug + Send + Sync + 'static;

    /// Loads one value; `None` if the origin has none.
    ///
    /// Runs in a task of its own, at most once at a time per key and node, and goes on when the caller that
    /// started it is gone. It is dropped after the keyspace's `load_timeout`.
    fn load(&self, key: &K) -> impl Future<Output = Result<Option<V>, Self::Error>> + Send;

    /// Loads many values, one answer for each key and in their order. Unless an origin has a better way, by
    /// [`load`](Origin::load), up to 256 at the same time.
    fn load_many(&self, keys: &[K]) -> impl Future<Output = Vec<Result<Option<V>, Self::Error>>> + Send {
        async move {
            let (mut waiting, mut running) = (keys.iter(), FuturesOrdered::new());
            let mut answers = Vec::with_capacity(keys.len());
            running.extend(waiting.by_ref().take(LOADS_AT_ONCE).map(|key| self.load(key)));
            while let Some(answer) = running.next().await {
                answers.push(answer);
                running.extend(waiting.next().map(|key| self.load(key)));
            }
            answers
        }
    }

    /// Loads one value, and may say more of it: tags, by which it can be invalidated, and how long it is fresh. Unless an origin says so, by
    /// [`load`](Origin::load). One that does has [`fetch_many`](Origin::fetch_many) too: batches ask by that.
    ///
    /// A tag that is invalidated while the load runs counts: the value is returned then, and not kept. [`Fetched::same`] is a
    /// failure here, as no old value is given.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::convert::Infallible;
    /// use terrace::{Cache, Fetched, Origin, Tag};
    ///
    /// struct Api;
    /// impl Origin<u64, String> for Api {
    ///     type Error = Infallible;
    ///     async fn load(&self, key: &u64) -> Result<Option<String>, Infallible> {
    ///         Ok(self.fetch(key).await?.into_value())
    ///     }
    ///     async fn fetch(&self, _: &u64) -> Result<Fetched<String>, Infallible> {
    ///         // Here: what the answer says of groups.
    ///         Ok(Fetched::value("ann".to_owned()).tags(Tag::new("org:7")))
    ///     }
    ///     async fn fetch_many(&self, keys: &[u64]) -> Vec<Result<Fetched<String>, Infallible>> {
    ///         vec![Ok(Fetched::value("ann".to_owned()).tags(Tag::new("org:7"))); keys.len()]
    ///     }
    /// }
    ///
    /// let users = Cache::memory()?.keyspace::<u64, String>("users").read_through(Api).build()?;
    /// assert_eq!(users.get_entry(&1).await?.expect("it has all").tags, [Tag::new("org:7")?]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    fn fetch(&self, key: &K) -> impl Future<Output = Result<Fetched<V>, Self::Error>> + Send {
        async move { self.load(key).await.map(Fetched::from) }
    }

    /// Loads many values, and may say more of each, as [`fetch`](Origin::fetch); one answer for each key and in their order. Unless an
    /// origin says so, by [`load_many`](Origin::load_many).
    fn fetch_many(&self, keys: &[K]) -> impl Future<Output = Vec<Result<Fetched<V>, Self::Error>>> + Send {
        async move {
            let loaded = self.load_many(keys).await.into_iter();
            loaded.map(|answer| answer.map(Fetched::from)).collect()
        }
    }

    /// Whether [`load_many`](Origin::load_many) is one call to the origin, which takes one place where loads are bounded, whatever the
    /// number of its keys. Where it is not, each key of a batch is loaded by [`load`](Origin::load), in a place of its own. Default: it is.
    fn loads_together(&self) -> bool {
        true
    }

    /// Whose fault it is that a load failed with this error. Default: the origin's.
    ///
    /// Statistics and metrics go by it, nothing else does. An origin that answers some calls without asking anybody should time its calls
    /// itself as well ([`Origin::time_by`]).
    fn fault_of(&self, error: &Self::Error) -> Fault {
        let _: &Self::Error = error;
        Fault::Origin
    }

    /// Takes a timer, if the origin times its calls itself: then nobody else does. Asked once for each keyspace that the origin is bound
    /// to, before the first call for it. Default: it does not, and each call of one of these functions is timed, from begin to end.
    ///
    /// For an origin that answers some calls without asking anybody, or asks more than once for one of them: see [`OriginTimer`].
    fn time_by(&self, timer: &OriginTimer) -> bool {
        let _: &OriginTimer = timer;
        false
    }

    /// Stores one value.
    ///
    /// Goes on when the caller that asked for it is gone. It is dropped after the keyspace's `load_timeout`; whether the
    /// origin has the value then is not known.
    fn store(
        &self,
        key: &K,
        value: &V,
    ) -> impl Future<Output = Result<(), WriteFailure<Self::Error>>> + Send {
        let _: (&K, &V) = (key, value);
        std::future::ready(Err(WriteFailure::Unsupported))
    }

    /// Removes one value. That there is none is no failure.
    ///
    /// As [`Origin::store`] otherwise.
    fn delete(&self, key: &K) -> impl Future<Output = Result<(), WriteFailure<Self::Error>>> + Send {
        let _: &K = key;
        std::future::ready(Err(WriteFailure::Unsupported))
    }

    /// Makes many changes, at most one of each key, and gives one answer for each, in their order. Unless an origin has a
    /// better way, by [`store`](Origin::store) and [`delete`](Origin::delete), one after the other.
    ///
    /// What was written behind comes at least once: see [`OriginWrite::fence`].
    fn store_many(
        &self,
        writes: &[OriginWrite<K, V>],
    ) -> impl Future<Output = Vec<Result<(), WriteFailure<Self::Error>>>> + Send {
        async move {
            let mut answers = Vec::with_capacity(writes.len());
            for OriginWrite { key, value, .. } in writes {
                answers.push(match value {
                    Some(value) => self.store(key, value).await,
                    None => self.delete(key).await,
                });
            }
            answers
        }
    }

    /// Makes one change, and may say what else is not true any more because of it. Unless an origin says so, by
    /// [`store`](Origin::store) or [`delete`](Origin::delete).
    ///
    /// As [`Origin::store`] otherwise. What is written at once comes by this one, or by [`Origin::write_many`].
    fn write(&self, write: &OriginWrite<K, V>) -> impl Future<Output = OriginAnswer<Self::Error>> + Send {
        async move {
            let made = match &write.value {
                Some(value) => self.store(&write.key, value).await,
                None => self.delete(&write.key).await,
            };
            made.into()
        }
    }

    /// Makes many changes, as [`store_many`](Origin::store_many), and may say what else is not true any more because of each. Unless
    /// an origin says so, by that.
    fn write_many(
        &self,
        writes: &[OriginWrite<K, V>],
    ) -> impl Future<Output = Vec<OriginAnswer<Self::Error>>> + Send {
        async move { self.store_many(writes).await.into_iter().map(OriginAnswer::from).collect() }
    }
}

/// Whose fault it is that a load failed.
///
/// # Examples
/// An origin that is left alone while it is known to be in trouble:
/// ```
/// use terrace::{Breaker, Cache, Clock, Fault, Origin, OriginBreaker};
///
/// struct Guarded(OriginBreaker);
///
/// impl Origin<u64, u64> for Guarded {
///     type Error = &'static str;
///
///     async fn load(&self, key: &u64) -> Result<Option<u64>, &'static str> {
///         let call = self.0.begin().map_err(|_| "left alone")?;
///         call.end(true); // of a database that does not answer, for example
///         Err("no answer")
///     }
///
///     fn fault_of(&self, error: &&'static str) -> Fault {
///         if *error == "left alone" { Fault::Here } else { Fault::Origin }
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let breaker = OriginBreaker::new("database", Breaker::default().min_calls(2), Clock::system())?;
/// let cache = Cache::builder().build()?;
/// let users = cache.keyspace::<u64, u64>("users").read_through(Guarded(breaker)).build()?;
/// for key in 0..5 {
///     assert!(users.get(&key).await.is_err());
/// }
/// let total = cache.stats().total;
/// assert_eq!((total.loads_failed, total.loads_not_asked, total.lookups_failed), (2, 3, 5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The origin's: it was asked, and failed, or refused what it should not.
    Origin,
    /// Nobody's: the origin was not asked, because it is left alone, or there was no place for the call. Such a load counts as
    /// refused, not as failed.
    Here,
    /// The caller's: the origin cannot have such a key. The load has failed; the lookup was answered, so it counts as a miss and not as an
    /// error.
    Caller,
}

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
    /// It cannot be written at all: it has no [`store`](Origin::store), or no [`delete`](Origin::delete).
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

impl<K: Send + Sync, V: Send + Sync, O: Origin<K, V>> Origin<K, V> for Arc<O> {
    type Error = O::Error;

    fn load(&self, key: &K) -> impl Future<Output = Result<Option<V>, Self::Error>> + Send {
        (**self).load(key)
    }

    fn load_many(&self, keys: &[K]) -> impl Future<Output = Vec<Result<Option<V>, Self::Error>>> + Send {
        (**self).load_many(keys)
    }

    fn fetch(&self, key: &K) -> impl Future<Output = Result<Fetched<V>, Self::Error>> + Send {
        (**self).fetch(key)
    }

    fn fetch_many(&self, keys: &[K]) -> impl Future<Output = Vec<Result<Fetched<V>, Self::Error>>> + Send {
        (**self).fetch_many(keys)
    }

    fn loads_together(&self) -> bool {
        (**self).loads_together()
    }

    fn fault_of(&self, error: &Self::Error) -> Fault {
        (**self).fault_of(error)
    }

    fn time_by(&self, timer: &OriginTimer) -> bool {
        (**self).time_by(timer)
    }

    fn store(
        &self,
        key: &K,
        value: &V,
    ) -> impl Future<Output = Result<(), WriteFailure<Self::Error>>> + Send {
        (**self).store(key, value)
    }

    fn delete(&self, key: &K) -> impl Future<Output = Result<(), WriteFailure<Self::Error>>> + Send {
        (**self).delete(key)
    }

    fn store_many(
        &self,
        writes: &[OriginWrite<K, V>],
    ) -> impl Future<Output = Vec<Result<(), WriteFailure<Self::Error>>>> + Send {
        (**self).store_many(writes)
    }

    fn write(&self, write: &OriginWrite<K, V>) -> impl Future<Output = OriginAnswer<Self::Error>> + Send {
        (**self).write(write)
    }

    fn write_many(
        &self,
        writes: &[OriginWrite<K, V>],
    ) -> impl Future<Output = Vec<OriginAnswer<Self::Error>>> + Send {
        (**self).write_many(writes)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
