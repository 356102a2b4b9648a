//! What do `get`, `put` and `remove` of a keyspace do at its origin?

use super::{EntryOptions, Keyspace};
use crate::error::{ConfigError, Error, ErrorKind, OriginFailure};
use crate::origin::bound::{Answered, Bound, NotWritten, bind, timed};
use crate::origin::{Origin, OriginWrite, WriteFailure};
use crate::telemetry::{Call, Event, Op, SpaceCounters, timed_one};
use crate::write::through::OriginCall;
use crate::write::{Effect, Removed, Writing, Written};
use crate::{StoreError, Tier};
use std::any::Any;
use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use terrace_core::{CacheKey, Key, Ttl, Version};

/// How a keyspace works with its origin.
///
/// | strategy | `get`, when no tier has it | `put` | `remove` |
/// |---|---|---|---|
/// | cache-aside | is a miss: the program loads, with [`get_or_load`](Keyspace::get_or_load) | the tiers | the tiers |
/// | read-through | loads | the tiers | the tiers |
/// | write-through | loads | the origin, then the tiers | the origin, then the tiers |
/// | write-around | loads, if the origin [can](Origin::can_load) | the origin, then drops the key from the tiers | the origin, then the tiers |
/// | write-behind | loads | the journal, then the tiers; later the origin | the journal, then the tiers; later the origin |
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Strategy {
    /// The cache does not know the origin.
    #[default]
    CacheAside,
    /// The cache loads from it.
    ReadThrough,
    /// And stores there first.
    WriteThrough,
    /// And stores there only.
    WriteAround,
    /// And stores there later.
    WriteBehind,
}

impl Strategy {
    /// The name in settings and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CacheAside => "cache-aside",
            Self::ReadThrough => "read-through",
            Self::WriteThrough => "write-through",
            Self::WriteAround => "write-around",
            Self::WriteBehind => "write-behind",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The origin of a keyspace, and what it is used for.
pub(super) struct Backing<K, V> {
    pub(super) origin: Arc<dyn Bound<K, V>>,
    pub(super) strategy: Strategy,
}

impl<K, V> Backing<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// The origin, if anything can be loaded from it.
    pub(super) fn to_load(&self) -> Option<&Arc<dyn Bound<K, V>>> {
        Some(&self.origin).filter(|origin| origin.can_load())
    }

    /// The same, with calls that are timed as those of the keyspace that it is bound to.
    pub(super) fn timed(self, counters: &Arc<SpaceCounters>) -> Self {
        Self { origin: timed(self.origin, counters), ..self }
    }
}

/// How a keyspace works with this origin, or with none.
pub(super) fn strategy_of<K, V>(backing: Option<&Backing<K, V>>) -> Strategy {
    backing.map_or(Strategy::CacheAside, |backing| backing.strategy)
}

impl<K, V> Keyspace<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    /// How this handle works with its origin.
    pub fn strategy(&self) -> Strategy {
        strategy_of(self.backing.as_deref())
    }

    /// Whether what no tier has is loaded: this handle has an origin, and that [can be loaded from](Origin::can_load).
    pub fn can_load(&self) -> bool {
        self.to_load().is_some()
    }

    /// What loads.
    pub(super) fn to_load(&self) -> Option<&Arc<dyn Bound<K, V>>> {
        self.backing.as_deref().and_then(Backing::to_load)
    }

    /// This handle, over another origin that is written through.
    pub(crate) fn written_through(self, origin: impl Origin<K, V>) -> Result<Self, ConfigError> {
        if self.view.writes_behind() {
            let allowed =
                "its journal could bring an older write to the origin later; use the keyspace's own `put`";
            return Err(ConfigError::new("write_through", "over a keyspace that is written behind", allowed));
        }
        let backing = Backing { origin: bind(origin), strategy: Strategy::WriteThrough };
        let backing = backing.timed(&self.view.space.counters);
        Ok(Self { backing: Some(Arc::new(backing)), ..self })
    }

    /// What is written behind: to flush it, to see how it stands, to retry or drop dead letters. `None` if the keyspace is not
    /// [written behind](crate::KeyspaceBuilder::write_behind).
    ///
    /// Writes that are given to it directly change no tier: use [`Keyspace::put`] and [`Keyspace::remove`].
    #[cfg(feature = "journal")]
    pub fn behind(&self) -> Option<&crate::behind::Lane> {
        self.view.space.behind.get().map(|behind| &behind.lane)
    }

    /// Stores a value by `store`, and then in every tier: write-through with a closure instead of an origin.
    ///
    /// # Errors
    /// [`StoreError::Origin`] with the closure's error: every tier is as it was before. [`StoreError::Cache`] if key, value or
    /// options cannot be, or the closure panicked or took longer than `load_timeout`: then it may have stored the value, so
    /// copies are dropped. That a tier fails after the closure is no error: it is told later.
    ///
    /// # Cost
    /// As [`Keyspace::put`], after the closure. Changes of one key by way of closures or origins go one after the other on a node.
    ///
    /// # Races
    /// If anybody else changes the key meanwhile, on whichever node, it is dropped from the tiers instead of stored: nobody
    /// knows which of the two the origin has in the end.
    ///
    /// # Cancel safety
    /// It goes on when the caller goes away.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let users = terrace::Cache::memory()?.keyspace::<u64, String>("users").build()?;
    /// let options = terrace::EntryOptions::new();
    /// users.put_through(&7, "ann".to_owned(), options, |name| async move {
    ///     // Here: UPDATE users SET name = … WHERE id = 7
    ///     if name.is_empty() { Err("a user has a name") } else { Ok(()) }
    /// }).await?;
    /// assert_eq!(users.get(&7).await?.as_deref().map(String::as_str), Some("ann"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn put_through<Q, F, E>(
        &self,
        key: &Q,
        value: V,
        options: EntryOptions,
        store: impl FnOnce(Arc<V>) -> F,
    ) -> Result<Written, StoreError<E>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display + Send + Sync + 'static,
    {
        let writing = self.writing(key, value, options)?;
        let value = crate::erased::typed_clone(&writing.value);
        let begun = catch_unwind(AssertUnwindSafe(|| {
            timed_one(&self.view.space.counters, Call::Store, store(value))
        }));
        // A panic goes on where that of a store that has begun would: there it is a failure.
        let call =
            begun.map_or_else(|panic| -> OriginCall { Box::pin(async { resume_unwind(panic) }) }, by_closure);
        let written = self.timed(Op::Put, async { one(self.view.store_through(vec![writing], call).await) });
        Ok(self.counted_put(written.await)?)
    }

    /// Changes the origin by `store`, and then drops the key from every tier: write-around with a closure instead of an origin.
    /// The next read loads. For removals, too.
    ///
    /// # Errors
    /// As [`Keyspace::put_through`].
    ///
    /// # Cost
    /// As [`Keyspace::remove`], after the closure.
    ///
    /// # Cancel safety
    /// It goes on when the caller goes away.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let users = terrace::Cache::memory()?.keyspace::<u64, String>("users").build()?;
    /// users.put(&7, "ann".to_owned()).await?;
    /// users.put_around(&7, async { Ok::<_, std::io::Error>(()) }).await?;
    /// assert_eq!(users.get(&7).await?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn put_around<Q, F, E>(&self, key: &Q, store: F) -> Result<Removed, StoreError<E>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display + Send + Sync + 'static,
    {
        let keys = vec![key.to_key().map_err(Error::from)?];
        let call = by_closure(timed_one(&self.view.space.counters, Call::Store, store));
        let removed = self.timed(Op::Remove, async { one(self.view.drop_through(keys, call).await) });
        Ok(self.counted_remove(removed.await)?)
    }

    /// Stores values as the keyspace's strategy says, and gives what came of each.
    pub(super) async fn store(
        &self,
        entries: Vec<(K, Writing)>,
    ) -> Result<Vec<Result<Written, Error>>, Error> {
        let Some(Backing { origin, strategy }) = self.backing.as_deref() else {
            return self.store_in_tiers(entries).await;
        };
        if *strategy == Strategy::ReadThrough || *strategy == Strategy::CacheAside {
            return self.store_in_tiers(entries).await;
        }
        if entries.len() > 1 && has_repeated(entries.iter().map(|(_, writing)| &writing.key)) {
            return self.store_one_by_one(entries).await;
        }
        let write = |(key, writing): &(K, Writing)| {
            OriginWrite::now(key.clone(), Some(crate::erased::typed_clone(&writing.value)))
        };
        let call = |entries: &[(K, Writing)]| by_origin(origin, entries.iter().map(write).collect());
        let writings = |entries: Vec<(K, Writing)>| entries.into_iter().map(|(_, writing)| writing).collect();
        match strategy {
            Strategy::WriteAround => {
                let keys = entries.iter().map(|(_, writing)| writing.key.clone()).collect();
                let removed = self.view.drop_through(keys, call(&entries)).await?;
                let nowhere = Ttl::After(std::time::Duration::ZERO);
                let written = |removed: Removed| Written::of(removed.effect, Version::ZERO, nowhere);
                Ok(removed.into_iter().map(|removed| removed.map(written)).collect())
            }
            #[cfg(feature = "journal")]
            Strategy::WriteBehind => self.view.store_behind(writings(entries)).await,
            _ => {
                let call = call(&entries);
                self.view.store_through(writings(entries), call).await
            }
        }
    }

    async fn store_in_tiers(&self, entries: Vec<(K, Writing)>) -> Result<Vec<Result<Written, Error>>, Error> {
        let writings = entries.into_iter().map(|(_, writing)| writing).collect();
        Ok(self.view.write(writings).await?.into_iter().map(Ok).collect())
    }

    /// A key that is stored more than once keeps its order.
    async fn store_one_by_one(
        &self,
        entries: Vec<(K, Writing)>,
    ) -> Result<Vec<Result<Written, Error>>, Error> {
        let mut results = Vec::with_capacity(entries.len());
        for entry in entries {
            results.push(one(Box::pin(self.store(vec![entry])).await));
        }
        Ok(results)
    }

    /// Removes keys as the keyspace's strategy says, and gives what came of each.
    pub(super) async fn discard(
        &self,
        keys: Vec<Key>,
        owned: impl FnOnce() -> Vec<K>,
    ) -> Result<Vec<Result<Removed, Error>>, Error> {
        match self.backing.as_deref() {
            #[cfg(feature = "journal")]
            Some(Backing { strategy: Strategy::WriteBehind, .. }) => {
                self.view.drop_behind(once_each(&keys)).await.map(|removed| spread(&keys, removed))
            }
            Some(Backing { strategy: Strategy::WriteThrough | Strategy::WriteAround, origin }) => {
                let mut seen = HashSet::new();
                let named = keys.iter().zip(owned()).filter(|(key, _)| seen.insert((*key).clone()));
                let writes = named.map(|(_, key)| OriginWrite::now(key, None)).collect();
                let removed = self.view.drop_through(once_each(&keys), by_origin(origin, writes)).await?;
                Ok(spread(&keys, removed))
            }
            _ => Ok(self.view.remove(keys).await?.into_iter().map(Ok).collect()),
        }
    }

    /// The farthest tier that a change asks.
    pub(super) fn farthest_written(&self) -> Tier {
        match self.strategy() {
            Strategy::WriteThrough | Strategy::WriteAround => Tier::Origin,
            _ => self.farthest(),
        }
    }

    async fn timed<T>(&self, op: Op, change: impl Future<Output = T>) -> T {
        let timer = self.view.space.counters.timer();
        let done = change.await;
        self.view.space.counters.observe(op, Tier::Origin, timer);
        done
    }

    pub(super) fn counted_put(&self, result: Result<Written, Error>) -> Result<Written, Error> {
        self.view.space.counters.count(match &result {
            Ok(Written { effect: Effect::Queued, .. }) => Event::PutQueued,
            Ok(_) => Event::PutApplied,
            Err(_) => Event::PutFailed,
        });
        result
    }

    pub(super) fn counted_remove(&self, result: Result<Removed, Error>) -> Result<Removed, Error> {
        self.view.space.counters.count(match &result {
            Ok(Removed { effect: Effect::Queued, .. }) => Event::RemoveQueued,
            Ok(_) => Event::RemoveApplied,
            Err(_) => Event::RemoveFailed,
        });
        result
    }
}

/// What came of the only one.
pub(super) fn one<T>(results: Result<Vec<Result<T, Error>>, Error>) -> Result<T, Error> {
    results?.pop().unwrap_or_else(|| Err(ErrorKind::Closed.into()))
}

/// A change that the origin is asked for: of one key by itself, of more together.
fn by_origin<K, V>(origin: &Arc<dyn Bound<K, V>>, mut writes: Vec<OriginWrite<K, V>>) -> OriginCall {
    match writes.pop() {
        Some(only) if writes.is_empty() => {
            let call = origin.write(only);
            Box::pin(async move { vec![call.await] })
        }
        Some(last) => {
            writes.push(last);
            origin.write_many(writes)
        }
        None => Box::pin(std::future::ready(Vec::new())),
    }
}

fn by_closure<E>(store: impl Future<Output = Result<(), E>> + Send + 'static) -> OriginCall
where
    E: fmt::Display + Send + Sync + 'static,
{
    Box::pin(async move {
        let stored = store.await;
        let failed = |error| -> NotWritten { WriteFailure::Failed(OriginFailure::new(error)) };
        vec![Answered::from(stored.map_err(failed))]
    })
}

fn has_repeated<'a>(keys: impl Iterator<Item = &'a Key>) -> bool {
    let mut seen = HashSet::new();
    !keys.into_iter().all(|key| seen.insert(key))
}

/// Each key once, in the order of their first mention.
fn once_each(keys: &[Key]) -> Vec<Key> {
    let mut seen = HashSet::new();
    keys.iter().filter(|key| seen.insert(*key)).cloned().collect()
}

/// What came of each mention, given what came of each key.
fn spread<T: Clone>(keys: &[Key], results: Vec<Result<T, Error>>) -> Vec<Result<T, Error>> {
    let by_key: std::collections::HashMap<Key, Result<T, Error>> =
        once_each(keys).into_iter().zip(results).collect();
    keys.iter().map(|key| by_key.get(key).cloned().unwrap_or_else(|| Err(ErrorKind::Closed.into()))).collect()
}
