//! The typed view of one namespace: what programs hold.
//!
//! A [`Keyspace`] adds types to the typeless paths ([`crate::read`], [`crate::write`], [`crate::invalidate`]) and counts
//! what its caller asked for. It decides nothing itself.

mod batch;
mod builder;
mod compare;
mod fetch;
mod limits;
mod live;
mod lookup;
#[cfg(feature = "journal")]
mod once;
mod reading;
mod replace;
#[cfg(feature = "journal")]
mod sink;
mod strategy;
mod warm;

use lookup::Lookup;

use crate::terms::EntryOptions;
pub use builder::KeyspaceBuilder;
pub use fetch::Fetched;
pub(crate) use fetch::Tagging;
pub use reading::ReadOptions;
pub use strategy::Strategy;

use crate::Tier;
use crate::entry::{Entry, Resident, remaining};
use crate::erased::typed_clone;
use crate::error::{Error, LoadError};
use crate::invalidate::{Invalidated, Invalidation, InvalidationPolicy, Invalidator};
use crate::origin::Origin;
use crate::origin::bound::bind;
use crate::space::View;
use crate::telemetry::{Event, Op, Timer};
use crate::why::Why;
use crate::write::{Removed, Writing, Written, check_tags};
use std::any::Any;
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use strategy::{Backing, one};
use terrace_core::remote::SweepRule;
use terrace_core::{CacheKey, Key, Tag, Ttl};

/// A user's function from an entry to its tags.
pub(crate) type Tagger<K, V> = dyn Fn(&K, &V) -> Vec<Tag> + Send + Sync;

/// The entries of one namespace, with keys of type `K` and values of type `V`.
///
/// Cloning is cheap, and clones are the same keyspace. Values come out as `Arc<V>`: a hit in L1 hands out the very
/// value that is kept, without decoding or copying it.
///
/// # Consistency
/// On one node: after `put`, `remove`, `invalidate` or `clear` returns, no read that starts later returns, as fresh, a
/// value whose load or L2 read began before; also while L2 is down. Between nodes, L2 never holds the result of a
/// load that began before an invalidation it was told of; and where L2 tells of changes, as Redis does, no read that starts
/// [`staleness_max`](crate::CacheBuilder::staleness_max) after a change was [`Applied`](crate::Effect::Applied) returns an older value
/// as fresh. Where L2 does not tell, an L1 copy lives at most its L1 TTL.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let cache = terrace::Cache::memory()?;
/// let squares = cache.keyspace::<u64, u64>("squares").build()?;
/// let nine = squares.get_or_load(&3, async || Ok::<_, std::convert::Infallible>(9)).await?;
/// assert_eq!(*nine, 9);
/// assert_eq!(squares.get(&3).await?, Some(nine));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct Keyspace<K, V> {
    view: View,
    tagger: Option<Arc<Tagger<K, V>>>,
    backing: Option<Arc<Backing<K, V>>>,
}

impl<K, V> Clone for Keyspace<K, V> {
    fn clone(&self) -> Self {
        Self { view: self.view.clone(), tagger: self.tagger.clone(), backing: self.backing.clone() }
    }
}

impl<K, V> fmt::Debug for Keyspace<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyspace")
            .field("namespace", &self.view.space.namespace)
            .field("rules", &self.view.space.rules())
            .finish_non_exhaustive()
    }
}

impl<K, V> Keyspace<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    /// The keyspace's name.
    pub fn name(&self) -> &str {
        self.view.space.namespace.as_str()
    }

    /// Binds an origin: from now on `get`, `get_entry` and `get_many` of this handle and its clones read through. What they write
    /// goes to the tiers alone; for more, give the origin to the keyspace's builder, e.g. by
    /// [`write_through`](KeyspaceBuilder::write_through).
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use terrace::{Cache, ErrorKind, Origin};
    ///
    /// struct Broken;
    /// impl Origin<u64, String> for Broken {
    ///     type Error = std::io::ErrorKind;
    ///     async fn load(&self, _: &u64) -> Result<Option<String>, Self::Error> {
    ///         Err(std::io::ErrorKind::ConnectionRefused)
    ///     }
    /// }
    ///
    /// let users = Cache::memory()?.keyspace::<u64, String>("users").build()?.with_origin(Broken);
    /// let error = users.get(&1).await.unwrap_err();
    /// let ErrorKind::Load(failure) = error.kind() else { panic!("the origin is broken") };
    /// assert_eq!(failure.downcast(), Some(std::io::ErrorKind::ConnectionRefused.into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn with_origin<O: Origin<K, V>>(self, origin: O) -> Self {
        let backing = Backing { origin: bind(origin), strategy: Strategy::ReadThrough };
        let backing = backing.timed(&self.view.space.counters);
        Self { backing: Some(Arc::new(backing)), ..self }
    }

    /// The value of a key, from the nearest tier that has it fresh; from the origin if one is bound.
    ///
    /// A copy that cannot be proven fresh is returned, or not, as the keyspace's [`SuspectPolicy`](crate::SuspectPolicy) says;
    /// [`Keyspace::get_entry`] tells which it is.
    ///
    /// # Errors
    /// [`ErrorKind::Key`](crate::ErrorKind::Key) if the key cannot be one. With an origin also what [`Keyspace::get_or_load`] fails with. L2 in
    /// trouble is a miss, not an error; but under [`SuspectPolicy::Error`](crate::SuspectPolicy::Error) it is
    /// [`ErrorKind::Unproven`](crate::ErrorKind::Unproven) for a key of which there is a copy that may be old, and with
    /// [`fail_closed`](KeyspaceBuilder::fail_closed) [`ErrorKind::L2Unavailable`](crate::ErrorKind::L2Unavailable) for one of which there is none.
    ///
    /// # Cost
    /// L1 hit: no allocation, no await. L2 hit: one round trip, two if the generation of one of its tags is not known here yet.
    ///
    /// # Cancel safety
    /// Safe. A load that began goes on.
    pub fn get<'a, Q>(&'a self, key: &'a Q) -> impl Future<Output = Result<Option<Arc<V>>, Error>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
    {
        Lookup::new(|| Some(Ok(Some(self.hit(key)?))), || self.find_beyond(key))
    }

    /// As [`Keyspace::get`], with all that is known about the entry.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub async fn get_entry<Q>(&self, key: &Q) -> Result<Option<Entry<V>>, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
    {
        self.view.space.hot.sample(key);
        Ok(self.find(key).await?.and_then(|found| found.into_entry(&self.view.shared.clock)))
    }

    /// The value of a key if this process' memory has it fresh.
    ///
    /// # Cost
    /// As an L1 hit: no allocation, no await. It neither counts in statistics nor keeps the entry from eviction.
    pub fn peek<Q>(&self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        let (l1, _) = self.view.l1_trusted()?;
        let latest = self.view.latest();
        let copied = |resident: &Resident| {
            let is_value = resident.is_answer(latest) && !resident.is_absent();
            is_value.then(|| typed_clone(&resident.value))
        };
        key.with_name(|name| l1.peek_with(self.view.name(name), &self.view.space.bans, copied))?
    }

    /// Whether a tier has a value of the key that [`Keyspace::get`] would return. The origin is not asked, and statistics do not
    /// count it as a lookup.
    ///
    /// # Errors
    /// [`ErrorKind::Key`](crate::ErrorKind::Key) if the key cannot be one; [`ErrorKind::Unproven`](crate::ErrorKind::Unproven) and
    /// [`ErrorKind::L2Unavailable`](crate::ErrorKind::L2Unavailable) as [`Keyspace::get`].
    pub async fn contains<Q>(&self, key: &Q) -> Result<bool, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        let key = key.to_key()?;
        Ok(self.view.look(&key).await?.is_some_and(|found| !found.resident.is_absent()))
    }

    /// The value of a key; if no tier has it, the loader is run and its value kept.
    ///
    /// Concurrent callers share one load. It runs in a task of its own: a caller that goes away stops waiting, and the
    /// load goes on for the others and for the cache.
    ///
    /// # Errors
    /// [`LoadError::Loader`] with the loader's own error, shared by all who waited; [`LoadError::Cache`] if the key
    /// cannot be one, the loader panicked or took longer than `load_timeout`, or the keyspace [fails closed](KeyspaceBuilder::fail_closed)
    /// and L2 cannot be asked. After a failure the key is free: the
    /// next call loads.
    ///
    /// # Cost
    /// As [`Keyspace::get`]; on a miss with L2, a lease and a fill, one round trip each, besides the load.
    ///
    /// # Cancel safety
    /// Safe.
    ///
    /// # Races
    /// A load that began before an invalidation of its key is given to the caller that started it, and kept nowhere.
    /// A loader that asks for the very key it loads waits for itself, until `load_timeout` ends it.
    ///
    /// # Panics
    /// If called outside a tokio runtime and no tier has the value.
    pub fn get_or_load<Q, F, E>(
        &self,
        key: &Q,
        loader: impl FnOnce() -> F,
    ) -> impl Future<Output = Result<Arc<V>, LoadError<E>>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
        F: Future<Output = Result<V, E>> + Send + 'static,
        E: fmt::Display + Send + Sync + 'static,
    {
        // Not through `get_or_load_with`: a hit makes and drops no options.
        let beyond = move || self.load_beyond(key, EntryOptions::default(), loader);
        Lookup::new(|| Some(Ok(self.hit(key)?)), beyond)
    }

    /// As [`Keyspace::get_or_load`], with options for the loaded entry.
    ///
    /// # Errors
    /// As [`Keyspace::get_or_load`].
    pub fn get_or_load_with<Q, F, E>(
        &self,
        key: &Q,
        options: EntryOptions,
        loader: impl FnOnce() -> F,
    ) -> impl Future<Output = Result<Arc<V>, LoadError<E>>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
        F: Future<Output = Result<V, E>> + Send + 'static,
        E: fmt::Display + Send + Sync + 'static,
    {
        Lookup::new(|| Some(Ok(self.hit(key)?)), move || self.load_beyond(key, options, loader))
    }

    /// Why a read of the key answers as it does: for people who look for a fault.
    ///
    /// # Errors
    /// [`ErrorKind::Key`](crate::ErrorKind::Key) if the key cannot be one. That L2 cannot be asked is part of the answer.
    ///
    /// # Cost
    /// With L2 up to three round trips, one of which reads the logs of the partitions of the key and of four of its tags: up to
    /// 4,096 messages each.
    pub async fn why<Q>(&self, key: &Q) -> Result<Why, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        self.view.why(&key.to_key()?).await
    }

    /// Stores a value in every tier.
    ///
    /// # Errors
    /// [`ErrorKind::Key`](crate::ErrorKind::Key), [`ErrorKind::Codec`](crate::ErrorKind::Codec), [`ErrorKind::ValueTooLarge`](crate::ErrorKind::ValueTooLarge): nothing was changed. [`ErrorKind::Remote`](crate::ErrorKind::Remote): L2 refused;
    /// this node has dropped its copy.
    ///
    /// # Cost
    /// Without L2: no await. With L2: one round trip, two with tags.
    ///
    /// # Cancel safety
    /// The write goes on when the caller goes away.
    pub async fn put<Q>(&self, key: &Q, value: V) -> Result<Written, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
    {
        self.put_with(key, value, EntryOptions::default()).await
    }

    /// As [`Keyspace::put`], with options for the entry.
    ///
    /// # Errors
    /// As [`Keyspace::put`]; [`ErrorKind::TooManyTags`](crate::ErrorKind::TooManyTags).
    pub async fn put_with<Q>(&self, key: &Q, value: V, options: EntryOptions) -> Result<Written, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let timer = self.timer_of_change();
        let stored = match self.writing(key, value, options) {
            Ok(writing) if self.backing.is_none() => {
                self.view.write(vec![writing]).await.map(|written| written[0])
            }
            Ok(writing) => one(self.store(vec![(key.to_owned(), writing)]).await),
            Err(error) => Err(error),
        };
        self.view.space.counters.observe(Op::Put, self.farthest_written(), timer);
        self.counted_put(stored)
    }

    /// Times a change: for certain if it goes further than this process' memory.
    fn timer_of_change(&self) -> Timer {
        let counters = &self.view.space.counters;
        let stays = self.view.l2().is_none() && self.farthest_written() == Tier::L1;
        if stays { counters.timer_sampled() } else { counters.timer() }
    }

    /// Removes a key from every tier.
    ///
    /// # Errors
    /// [`ErrorKind::Key`](crate::ErrorKind::Key) if the key cannot be one; [`ErrorKind::Remote`](crate::ErrorKind::Remote) if L2 refused.
    ///
    /// # Cost
    /// Without L2: no await. With L2: one round trip.
    ///
    /// # Cancel safety
    /// The removal goes on when the caller goes away.
    pub async fn remove<Q>(&self, key: &Q) -> Result<Removed, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let removed = self.remove_keys(vec![key.to_key()?], || vec![key.to_owned()]).await?;
        Ok(removed[0])
    }

    /// Names entries to be invalidated: by key, by pattern, by tag.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let users = terrace::Cache::memory()?.keyspace::<u64, String>("users").build()?;
    /// users.put_many([(1, "ann".into()), (2, "ben".into()), (30, "cy".into())]).await?;
    /// let done = users.invalidate().keys([1]).pattern("3*")?.send().await?;
    /// assert_eq!(done.count, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn invalidate(&self) -> Invalidation<K> {
        Invalidation::new(self.view.clone())
    }

    /// An invalidator: it names entries as [`Keyspace::invalidate`] does, by one policy, and remembers patterns.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use terrace::InvalidationPolicy::Immediate;
    /// let users = terrace::Cache::memory()?.keyspace::<String, u64>("users").build()?;
    /// users.put_many([("user:1".into(), 1), ("team:1".into(), 2), ("org:1".into(), 3)]).await?;
    /// let invalidator = users.invalidator(Immediate);
    /// invalidator.register("user:*")?;
    /// invalidator.register("team:*")?;
    /// assert_eq!(invalidator.invalidate_registered().await?.count, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn invalidator(&self, policy: InvalidationPolicy) -> Invalidator<K> {
        Invalidator::new(self.view.clone(), policy)
    }

    /// Removes every entry of this namespace, and of no other.
    ///
    /// # Errors
    /// [`ErrorKind::Remote`](crate::ErrorKind::Remote) if L2 refused.
    ///
    /// # Cost
    /// As of a pattern: see [`Invalidation::send`].
    ///
    /// # Cancel safety
    /// It goes on when the caller goes away.
    pub async fn clear(&self) -> Result<Invalidated, Error> {
        let counters = &self.view.space.counters;
        counters.count(Event::InvalidatedAll);
        let timer = counters.timer();
        let result = self.view.sweep(SweepRule::All).await;
        self.view.count_invalidation(timer, result.as_ref());
        result
    }

    fn writing<Q>(&self, key: &Q, value: V, options: EntryOptions) -> Result<Writing, Error>
    where
        Q: CacheKey + ToOwned<Owned = K> + ?Sized,
    {
        let text = key.to_key()?;
        let terms = self.view.space.terms().with(&options);
        self.view.shared.check(&terms)?;
        let mut tags = options.tags;
        if let Some(tagger) = &self.tagger {
            tags.extend(tagger(&key.to_owned(), &value));
        }
        let lasting = terms.lasting(terms.ttl, &self.view.shared.chance);
        Ok(Writing { key: text, value: Arc::new(value), lasting, terms, tags: check_tags(tags)? })
    }

    async fn remove_keys(
        &self,
        keys: Vec<Key>,
        owned: impl FnOnce() -> Vec<K>,
    ) -> Result<Vec<Removed>, Error> {
        let (count, timer) = (keys.len() as u64, self.timer_of_change());
        let removed = self.discard(keys, owned).await;
        self.view.space.counters.observe(Op::Remove, self.farthest_written(), timer);
        match removed {
            Ok(removed) => {
                let counted: Vec<_> =
                    removed.into_iter().map(|removed| self.counted_remove(removed)).collect();
                counted.into_iter().collect()
            }
            Err(error) => {
                self.view.space.counters.add(Event::RemoveFailed, count);
                Err(error)
            }
        }
    }

    /// The farthest tier that this namespace uses.
    fn farthest(&self) -> Tier {
        if self.view.l2().is_some() { Tier::L2 } else { Tier::L1 }
    }

    /// How much longer the L1 copy of a key is fresh, if there is one.
    pub fn peek_ttl<Q>(&self, key: &Q) -> Option<Ttl>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        let (l1, _) = self.view.l1_trusted()?;
        let latest = self.view.latest();
        let deadline = |resident: &Resident| resident.is_answer(latest).then_some(resident.fresh_until);
        let fresh_until =
            key.with_name(|name| l1.peek_with(self.view.name(name), &self.view.space.bans, deadline))??;
        Some(remaining(fresh_until, &self.view.shared.clock))
    }
}
