//! Lookups that want something else than what the keyspace does by itself.

use super::Keyspace;
use crate::Tier;
use crate::entry::{Entry, Found, Lookup};
use crate::error::Error;
use crate::read::Wanted;
use crate::telemetry::Op;
use crate::terms::Terms;
use std::any::Any;
use std::borrow::Borrow;
use std::time::Duration;
use terrace_core::{CacheKey, Ttl};

/// What one lookup wants. What is not set is as the keyspace has it.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use terrace::ReadOptions;
/// let options = ReadOptions::new().max_stale(Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use = "options do nothing until they are given to a call"]
pub struct ReadOptions {
    max_stale: Option<Duration>,
    is_anew: bool,
    is_unkept: bool,
}

impl ReadOptions {
    /// No options: all as the keyspace has it.
    pub fn new() -> Self {
        Self::default()
    }

    /// An entry that is past its TTL for no longer than this, and is still there, is returned at once, as stale, while it is loaded in the
    /// background. Of no effect without an origin.
    pub fn max_stale(mut self, time: Duration) -> Self {
        self.max_stale = Some(time);
        self
    }

    /// The origin is asked, whatever the tiers have; without an origin, L2 is. If the origin fails, the answer is what the tiers have, as stale.
    pub fn anew(mut self) -> Self {
        self.is_anew = true;
        self
    }

    /// What has to be loaded for this lookup is kept nowhere. A [look](Keyspace::look_with) leaves no copy in L1 either.
    pub fn unkept(mut self) -> Self {
        self.is_unkept = true;
        self
    }

    fn terms(self, keyspace: &Terms) -> Terms {
        let mut terms = *keyspace;
        if let Some(time) = self.max_stale {
            terms.revalidate = terms.revalidate.max(time);
        }
        if self.is_unkept {
            terms.ttl = Ttl::After(Duration::ZERO);
            terms.negative_ttl = Duration::ZERO;
            terms.adaptive = None;
        }
        terms
    }
}

impl<K, V> Keyspace<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    /// As [`Keyspace::get_entry`], with options.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    ///
    /// # Cost
    /// As [`Keyspace::get`]. [`ReadOptions::anew`]: a look at the tiers, and a load.
    ///
    /// # Cancel safety
    /// Safe. A load that began goes on.
    pub async fn get_entry_with<Q>(&self, key: &Q, options: ReadOptions) -> Result<Option<Entry<V>>, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let found = self.find_with(key, options).await?;
        Ok(found.and_then(|found| found.into_entry(&self.view.shared.clock)))
    }

    /// As [`Keyspace::get_entry_with`], and tells a negative entry from nothing.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    ///
    /// # Cost
    /// As [`Keyspace::get_entry_with`].
    ///
    /// # Cancel safety
    /// Safe. A load that began goes on.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::{convert::Infallible, time::Duration};
    /// use terrace::{Cache, EntryOptions, Lookup, OriginFn, ReadOptions, Tier};
    ///
    /// let origin = OriginFn::load(|_: u64| async { Ok::<Option<String>, Infallible>(None) });
    /// let options = EntryOptions::new().negative_ttl(Duration::from_secs(60));
    /// let users = Cache::memory()?.keyspace("users").options(options).read_through(origin).build()?;
    /// users.get(&7).await?;
    /// let known = users.lookup(&7, ReadOptions::new()).await?;
    /// assert!(matches!(known, Lookup::Absent { tier: Tier::L1, .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn lookup<Q>(&self, key: &Q, options: ReadOptions) -> Result<Lookup<V>, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let found = self.find_with(key, options).await?;
        Ok(found.map_or(Lookup::Nothing, |found| found.into_lookup(&self.view.shared.clock)))
    }

    async fn find_with<Q>(&self, key: &Q, options: ReadOptions) -> Result<Option<Found>, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
    {
        self.view.space.hot.sample(key);
        let timer = self.view.space.counters.timer();
        let text = key.to_key()?;
        let terms = options.terms(&self.view.space.rules().terms);
        let found = match self.to_load() {
            None if options.is_anew => self.view.read_l2_anew(&text).await?,
            None => self.view.read(&text).await?,
            Some(origin) => {
                let load = || Self::fetching_from(self.tagging(Vec::new()), origin, key.to_owned());
                if options.is_anew {
                    self.view.read_past_tiers(&text, &terms, load).await?
                } else {
                    self.view.read_or_load(&text, Wanted::Answer, &terms, load).await?
                }
            }
        };
        let farthest = match &found {
            Some(found) => found.tier,
            None if self.can_load() => Tier::Origin,
            None => self.farthest(),
        };
        self.view.space.counters.observe(Op::Get, farthest, timer);
        Ok(found)
    }

    /// The entry of a key, from the tiers alone: the origin is not asked, and statistics do not count it as a lookup.
    ///
    /// # Errors
    /// As [`Keyspace::contains`].
    ///
    /// # Cost
    /// As [`Keyspace::get`] without an origin.
    pub async fn look<Q>(&self, key: &Q) -> Result<Option<Entry<V>>, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        let key = key.to_key()?;
        let found = self.view.look(&key).await?;
        Ok(found.and_then(|found| found.into_entry(&self.view.shared.clock)))
    }

    /// As [`Keyspace::look`], and tells a negative entry from nothing. With [`ReadOptions::unkept`] what L2 has is not copied to L1, so that the
    /// tiers are as they were, but for a copy that may be old: L2 is asked about it as for any lookup. The other options are about loads, and there is none.
    ///
    /// # Errors
    /// As [`Keyspace::contains`].
    ///
    /// # Cost
    /// As [`Keyspace::look`].
    pub async fn look_with<Q>(&self, key: &Q, options: ReadOptions) -> Result<Lookup<V>, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        let key = key.to_key()?;
        let found = self.view.look_and(&key, !options.is_unkept).await?;
        Ok(found.map_or(Lookup::Nothing, |found| found.into_lookup(&self.view.shared.clock)))
    }
}
