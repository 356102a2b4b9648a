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
//! | [`change`] | what an origin is asked to change, and what it can say of that |
//! | [`closures`] | how an origin is made of closures |

pub(crate) mod bound;
mod change;
mod closures;

pub use change::{Fence, OriginAnswer, OriginWrite, WriteFailure, WriteId, WriteIdError};
pub use closures::OriginFn;

use crate::entry::Tier;
use crate::keyspace::Fetched;
use crate::telemetry::OriginTimer;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// Keys that a batch loads at the same time, unless the origin has a way of its own: it has only so many connections.
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
        async move { ask_each(keys, |key| self.load(key)).await }
    }

    /// Loads one value, and may say more of it: tags, by which it can be invalidated, and how long it is fresh. Unless an origin says so, by
    /// [`load`](Origin::load). One that does has [`fetch_many`](Origin::fetch_many) too, by which batches ask, or says that it does
    /// not [load together](Origin::loads_together).
    ///
    /// A tag that is invalidated while the load runs counts: the value is returned then, and not kept. [`Fetched::same`] is a
    /// failure here, as no old value is given; see [`fetch_again`](Origin::fetch_again).
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

    /// As [`fetch`](Origin::fetch), of a key of which there is an old value: a stale one within its grace, or a copy that is to be loaded anew
    /// although it is fresh. For an origin that can tell whether that still holds, which it says by [`Fetched::same`]. Unless an origin has
    /// a way, by [`fetch`](Origin::fetch).
    ///
    /// Loads of a batch do not come here, but by [`fetch_many`](Origin::fetch_many).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::convert::Infallible;
    /// use terrace::{Cache, Fetched, Origin, ReadOptions};
    ///
    /// struct Api;
    /// impl Origin<u64, String> for Api {
    ///     type Error = Infallible;
    ///     async fn load(&self, _: &u64) -> Result<Option<String>, Infallible> {
    ///         Ok(Some("ann".to_owned()))
    ///     }
    ///     async fn fetch_again(&self, _: &u64, old: &String) -> Result<Fetched<String>, Infallible> {
    ///         // Here: ask the API with what it called this value.
    ///         assert_eq!(old, "ann");
    ///         Ok(Fetched::same())
    ///     }
    /// }
    ///
    /// let users = Cache::memory()?.keyspace::<u64, String>("users").read_through(Api).build()?;
    /// users.get(&1).await?;
    /// let again = users.get_entry_with(&1, ReadOptions::new().anew()).await?.expect("it is there");
    /// assert_eq!(*again.value, "ann");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    fn fetch_again(&self, key: &K, old: &V) -> impl Future<Output = Result<Fetched<V>, Self::Error>> + Send {
        let _: &V = old;
        self.fetch(key)
    }

    /// Loads many values, and may say more of each, as [`fetch`](Origin::fetch); one answer for each key and in their order. Unless an
    /// origin says so, by [`load_many`](Origin::load_many), or where that is not one call ([`loads_together`](Origin::loads_together)) by
    /// [`fetch`](Origin::fetch), up to 256 at the same time.
    fn fetch_many(&self, keys: &[K]) -> impl Future<Output = Vec<Result<Fetched<V>, Self::Error>>> + Send {
        async move {
            if !self.loads_together() {
                return ask_each(keys, |key| self.fetch(key)).await;
            }
            let loaded = self.load_many(keys).await.into_iter();
            loaded.map(|answer| answer.map(Fetched::from)).collect()
        }
    }

    /// Whether [`load_many`](Origin::load_many) and [`fetch_many`](Origin::fetch_many) are one call to the origin, which takes one place where
    /// loads are bounded, whatever the number of its keys. Where they are not, each key of a batch that is read is loaded by a
    /// [`fetch_many`](Origin::fetch_many) of that key alone, which is a [`fetch`](Origin::fetch) unless the origin says otherwise, in a place of
    /// its own. [`Warm::keys`](crate::Warm::keys) asks for many keys at a time, in one place, all the same. Default: they are.
    fn loads_together(&self) -> bool {
        true
    }

    /// Whether it can be loaded from. From one that says no nothing is loaded: what no tier has is a miss, as without an origin. It is asked
    /// with each lookup that L1 does not answer, so it has to be quick, and to say the same each time. Default: it can.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::convert::Infallible;
    /// use terrace::{Cache, Origin, WriteFailure};
    ///
    /// struct Queue;
    /// impl Origin<u64, String> for Queue {
    ///     type Error = Infallible;
    ///     async fn load(&self, _: &u64) -> Result<Option<String>, Infallible> {
    ///         Ok(None)
    ///     }
    ///     fn can_load(&self) -> bool {
    ///         false
    ///     }
    ///     async fn store(&self, _: &u64, _: &String) -> Result<(), WriteFailure<Infallible>> {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let jobs = Cache::memory()?.keyspace::<u64, String>("jobs").write_around(Queue).build()?;
    /// jobs.put(&7, "sync".to_owned()).await?;
    /// assert_eq!(jobs.get(&7).await?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    fn can_load(&self) -> bool {
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

/// Asks for each of many keys, so many at the same time, and gives the answers in their order.
async fn ask_each<'a, K, F: Future>(keys: &'a [K], ask: impl Fn(&'a K) -> F) -> Vec<F::Output> {
    let (mut waiting, mut running) = (keys.iter(), FuturesOrdered::new());
    let mut answers = Vec::with_capacity(keys.len());
    running.extend(waiting.by_ref().take(LOADS_AT_ONCE).map(&ask));
    while let Some(answer) = running.next().await {
        answers.push(answer);
        running.extend(waiting.next().map(&ask));
    }
    answers
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

    fn fetch_again(&self, key: &K, old: &V) -> impl Future<Output = Result<Fetched<V>, Self::Error>> + Send {
        (**self).fetch_again(key, old)
    }

    fn fetch_many(&self, keys: &[K]) -> impl Future<Output = Vec<Result<Fetched<V>, Self::Error>>> + Send {
        (**self).fetch_many(keys)
    }

    fn loads_together(&self) -> bool {
        (**self).loads_together()
    }

    fn can_load(&self) -> bool {
        (**self).can_load()
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
