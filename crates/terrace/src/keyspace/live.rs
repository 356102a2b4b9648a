//! What a keyspace tells and asks beyond its own callers: events, loading anew, and which keys there are.

use super::{Keyspace, Tagging};
use crate::error::Error;
use crate::events::Events;
use crate::hot::HotKey;
use crate::listing::{KeyPage, KeyPlace};
use crate::telemetry::LookupTimes;
use std::any::Any;
use std::borrow::Borrow;
use std::sync::Arc;
use terrace_core::{CacheKey, Glob, Key, Version};

impl<K, V> Keyspace<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    /// The keys that were looked up most on this node, at most so many (256 are counted), the hottest first.
    ///
    /// One lookup in 61 of a thread is looked at, so the numbers are estimates, and a keyspace that is hardly read has none. A key that
    /// makes up more than a hundredth of the lookups is here, and is here with its share, give or take a few hundredths of that;
    /// `error` says by how much a number may be too high because the key was counted late.
    ///
    /// What L1 has of the keys is told, too. To look there is no lookup, and keeps no copy from being evicted.
    ///
    /// # Cost
    /// A lock, which lookups do not wait for, a copy of each key, and a look for each into L1. Lookups that are not looked at cost nothing.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let users = terrace::Cache::memory()?.keyspace::<u64, String>("users").build()?;
    /// users.put(&7, "ann".into()).await?;
    /// for _ in 0..1000 {
    ///     users.get(&7).await?;
    /// }
    /// let hottest = users.hot_keys(1).remove(0);
    /// assert_eq!(hottest.key, "7");
    /// assert!((900..=1100).contains(&hottest.lookups));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn hot_keys(&self, limit: usize) -> Vec<HotKey> {
        self.view.hot_keys(limit)
    }

    /// How long lookups of this keyspace took since the cache was built; see [`Cache::lookup_times`](crate::Cache::lookup_times).
    ///
    /// # Cost
    /// The sum of some hundred counters.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let cache = terrace::Cache::memory()?;
    /// let squares = cache.keyspace::<u64, u64>("squares").build()?;
    /// let cubes = cache.keyspace::<u64, u64>("cubes").build()?;
    /// squares.get_or_load(&3, async || Ok::<_, std::io::Error>(9)).await?;
    /// let loads = |times: terrace::LookupTimes| times.tiers[2].count;
    /// assert_eq!((loads(squares.lookup_times()), loads(cubes.lookup_times())), (1, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn lookup_times(&self) -> LookupTimes {
        LookupTimes::of([&*self.view.space.counters])
    }

    /// Some of the keys that the tiers hold and that the pattern names, from a place on; first those of this node's L1, then those of L2. For
    /// people who look around: it is no way to read entries.
    ///
    /// About `count` keys, at least one is meant. Where L2 has many keys of others, a page may have none; where it puts them
    /// close together, some more. A key that a tier holds from the first page to the last is on one of them at least, and told of
    /// once for each tier. `None` if the place means nothing any more, because servers have changed: then only a new beginning helps.
    ///
    /// # Errors
    /// [`ErrorKind::Remote`](crate::ErrorKind::Remote) if L2 cannot be asked, or cannot list its keys.
    ///
    /// # Cost
    /// In L1 a look at some copies, 65,536 of all keyspaces and the rest of the part that the last one is in; changes of keys of a part
    /// wait for a moment. In L2 two round trips, and a third one at the end.
    ///
    /// # Cancel safety
    /// Safe.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use terrace::{Glob, KeyPlace};
    /// let users = terrace::Cache::memory()?.keyspace::<u64, String>("users").build()?;
    /// users.put_many([(1, "ann".into()), (2, "ben".into()), (30, "cy".into())]).await?;
    /// let (mut keys, mut at) = (Vec::new(), Some(KeyPlace::FIRST));
    /// while let Some(place) = at {
    ///     let page = users.list(&Glob::new("?")?, &place, 100).await?.expect("no server has changed");
    ///     keys.extend(page.keys.into_iter().map(|held| held.key));
    ///     at = page.next;
    /// }
    /// keys.sort();
    /// assert_eq!(keys, ["1", "2"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn list(
        &self,
        pattern: &Glob,
        from: &KeyPlace,
        count: usize,
    ) -> Result<Option<KeyPage>, Error> {
        self.view.list(pattern, from, count).await
    }

    /// What happens to this keyspace's entries from now on: changes of this node, and of all others where L2 tells of them.
    ///
    /// A subscriber that does not take events is not waited for. It keeps 1,024; what comes after is counted, and told as
    /// [`EventKind::Missed`](crate::EventKind::Missed). Where L2 tells of changes, this begins to be so with the first call that asks L2.
    ///
    /// # Cost
    /// Each event is cloned for each subscriber. Without subscribers events cost nothing.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use terrace::EventKind;
    ///
    /// let users = terrace::Cache::memory()?.keyspace::<u64, String>("users").build()?;
    /// let mut events = users.events();
    /// users.put(&42, "ann".into()).await?;
    /// let event = events.next().await.unwrap();
    /// assert!(matches!(event.kind, EventKind::Set(key) if key.as_str() == "42") && event.is_own);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn events(&self) -> Events {
        self.view.space.events.subscribe()
    }

    /// Lets this node answer requests to load a key anew ([`Keyspace::refresh`]), its own and other nodes': it loads by the origin
    /// that is bound to this handle. `parse` makes a key from its text. The last handle for which this is called counts.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use terrace::{Cache, Origin};
    ///
    /// #[derive(Default)]
    /// struct Counter(AtomicU64);
    /// impl Origin<u64, u64> for Counter {
    ///     type Error = std::convert::Infallible;
    ///     async fn load(&self, _: &u64) -> Result<Option<u64>, Self::Error> {
    ///         Ok(Some(self.0.fetch_add(1, Ordering::Relaxed)))
    ///     }
    /// }
    ///
    /// let cache = Cache::memory()?;
    /// let numbers = cache.keyspace::<u64, u64>("numbers").build()?.with_origin(Counter::default());
    /// let numbers = numbers.with_refresh(|text| text.parse().ok());
    /// assert_eq!(numbers.get(&7).await?.as_deref(), Some(&0));
    /// numbers.refresh(&7).await?;
    /// while numbers.get(&7).await?.as_deref() != Some(&1) {
    ///     tokio::task::yield_now().await;
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn with_refresh(self, parse: impl Fn(&str) -> Option<K> + Send + Sync + 'static) -> Self {
        if let Some(origin) = self.to_load().cloned() {
            let tagger = self.tagger.clone();
            let reload = move |text: &Key| {
                let key = parse(text.as_str())?;
                let tagging = Tagging { tagger: tagger.clone(), tags: Vec::new() };
                Some(Self::fetching_from(tagging, &origin, key))
            };
            self.view.space.refreshes.load_by(Arc::new(reload));
        }
        self
    }

    /// Asks every node to load a key anew, and returns when L2 has passed it on, with the number of the request there; zero
    /// without an L2 that tells of changes.
    ///
    /// The old value stays until the new one is there, and stays for good if it cannot be loaded; if the origin does not have
    /// the key any more, it is removed. This node loads it if it can ([`Keyspace::with_refresh`]), others if they can and have a
    /// copy in L1; with an L2 all of them share one load. Nodes with a copy that cannot load it wait for the new value. To be rid
    /// of an old value at once, [invalidate](Keyspace::invalidate) it.
    ///
    /// # Errors
    /// [`ErrorKind::Key`](crate::ErrorKind::Key) if the key cannot be one; [`ErrorKind::Remote`](crate::ErrorKind::Remote) if L2 could not be
    /// told: then nobody loads, and it is not told later.
    ///
    /// # Cost
    /// One round trip. The load runs in the background.
    ///
    /// # Cancel safety
    /// It goes on when the caller goes away.
    pub async fn refresh<Q>(&self, key: &Q) -> Result<Version, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        self.view.refresh(key.to_key()?).await
    }
}
