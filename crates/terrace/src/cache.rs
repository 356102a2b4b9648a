//! The cache: tiers, background work, and the register of keyspaces.

use crate::builder::CacheBuilder;
use crate::bulkhead::{Bulkhead, BulkheadLoad};
use crate::error::{ConfigError, Error, KeyspaceError, ShutdownError};
use crate::hot::HotKey;
use crate::keyspace::KeyspaceBuilder;
use crate::resilience::{BreakerGauges, BreakerHealth, BreakerState, L2, Transitions};
use crate::runtime;
use crate::space::{Shared, Space, View};
use crate::staleness::Staleness;
use crate::telemetry::{BusEvents, EngineGauges, LookupTimes, Sources, SpaceCounters, Stats};
use std::collections::hash_map::Entry as Slot;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use terrace_core::remote::RemoteHealth;
use terrace_core::{Namespace, RemoteError};

/// A cache of one or two tiers. Cloning is cheap, and clones are the same cache.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::time::Duration;
/// use terrace::{Cache, L1};
///
/// let cache = Cache::builder().l1(L1::entries(100_000)).default_ttl(Duration::from_secs(60)).build()?;
/// let names = cache.keyspace::<u64, String>("names").build()?;
/// names.put(&7, "ann".to_owned()).await?;
/// assert_eq!(names.get(&7).await?.as_deref().map(String::as_str), Some("ann"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Cache {
    pub(crate) shared: Arc<Shared>,
}

/// How the tiers are.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// Whether there is an L1.
    pub has_l1: bool,
    /// What L2 says of itself, or why it could not be asked; `None` if there is none.
    pub l2: Option<Result<RemoteHealth, RemoteError>>,
    /// Whether L2 is asked, or left alone because too much of what it was asked failed; `None` if there is none, or no breaker.
    /// `l2` was asked all the same.
    pub breaker: Option<BreakerHealth>,
    /// The last call that L2 refused, if that was in the last minute: its memory is full, a permission is missing, it is no primary.
    /// It answers all the same, so `l2` may be well.
    pub refused: Option<RemoteError>,
    /// Invalidations that hold on this node, and that L2 has not seen.
    pub pending_invalidations: u64,
    /// The keyspaces that returned more stale answers in the last minute, or older ones, than their
    /// [`StalenessBudget`](crate::StalenessBudget) allows.
    pub over_budget: Vec<Staleness>,
}

impl Health {
    /// Whether every tier answers, refuses nothing and is asked, L2 knows of every invalidation, and no keyspace is over its budget of stale answers.
    pub fn is_whole(&self) -> bool {
        let is_asked = self.breaker.as_ref().is_none_or(|breaker| breaker.state == BreakerState::Closed);
        !matches!(self.l2, Some(Err(_)))
            && is_asked
            && self.refused.is_none()
            && self.pending_invalidations == 0
            && self.over_budget.is_empty()
    }
}

impl Cache {
    /// A cache with settings.
    pub fn builder() -> CacheBuilder {
        CacheBuilder::default()
    }

    /// A cache in memory, with the default settings: 10,000 entries, fresh for 5 minutes.
    ///
    /// # Errors
    /// None with the default settings.
    pub fn memory() -> Result<Self, ConfigError> {
        Self::builder().build()
    }

    /// Opens a keyspace: a namespace whose keys have type `K` and whose values have type `V`. A name can be open
    /// once; clone the keyspace to use it in several places.
    pub fn keyspace<K, V>(&self, name: &str) -> KeyspaceBuilder<K, V> {
        KeyspaceBuilder::new(self.clone(), name)
    }

    /// Asks the tiers how they are.
    ///
    /// # Cost
    /// One round trip to L2.
    pub async fn health(&self) -> Health {
        let l2 = match &self.shared.l2 {
            Some(l2) => Some(l2.remote().health().await),
            None => None,
        };
        Health {
            has_l1: self.shared.l1.is_some(),
            l2,
            breaker: self.breaker(),
            refused: self.refused(),
            pending_invalidations: self.shared.pending_invalidations(),
            over_budget: self.staleness().into_iter().filter(Staleness::is_over).collect(),
        }
    }

    /// How the breaker of L2 is, without asking L2; `None` if there is no L2, or no breaker.
    pub fn breaker(&self) -> Option<BreakerHealth> {
        self.shared.l2.as_ref().and_then(L2::breaker_health)
    }

    /// The last call that L2 refused, if that was in the last minute, without asking L2.
    pub fn refused(&self) -> Option<RemoteError> {
        self.shared.l2.as_ref().and_then(L2::refused)
    }

    /// The transitions of the breaker of L2 from now on, one by one; `None` if there is no L2, or no breaker.
    pub fn breaker_transitions(&self) -> Option<Transitions> {
        self.shared.l2.as_ref().and_then(L2::breaker_transitions)
    }

    /// How stale the answers of each keyspace were in the last minute, without asking L2; sorted by name.
    ///
    /// # Cost
    /// For each keyspace the sum of some counters, and a lock for an instant.
    pub fn staleness(&self) -> Vec<Staleness> {
        let mut all: Vec<Staleness> = self.views().iter().map(View::staleness).collect();
        all.sort_by(|one, other| one.keyspace.cmp(&other.keyspace));
        all
    }

    /// Lets L2 forget the settings that all nodes of a keyspace have to share (its codec, the number of its partitions), so
    /// that the next node that uses it decides anew. For a keyspace whose settings were changed on purpose, once no node
    /// lives any more that has the old ones: one that does goes on with them. Values stay; those of another codec count as
    /// missing.
    ///
    /// # Errors
    /// [`ErrorKind::Key`](crate::ErrorKind::Key) if it cannot be a keyspace's name, [`ErrorKind::Remote`](crate::ErrorKind::Remote)
    /// if L2 cannot be told. Without L2 nothing is to be done.
    ///
    /// # Cost
    /// One round trip.
    ///
    /// # Cancel safety
    /// A call that was sent takes effect.
    pub async fn forget_settings(&self, keyspace: &str) -> Result<(), Error> {
        let namespace = Namespace::new(keyspace)?;
        if let Some(l2) = &self.shared.l2 {
            l2.remote().forget_settings(&namespace).await?;
        }
        Ok(())
    }

    /// What happened since the cache was built, or statistics were reset.
    pub fn stats(&self) -> Stats {
        self.shared.telemetry.stats(&*self.shared)
    }

    /// How long lookups took since the cache was built, class by class: what a program draws, and takes differences of.
    ///
    /// # Cost
    /// For each keyspace the sum of some hundred counters. No locks but that of the list of keyspaces.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let cache = terrace::Cache::memory()?;
    /// cache.keyspace::<u64, u64>("squares").build()?.get_or_load(&3, async || Ok::<_, std::io::Error>(9)).await?;
    /// let times = cache.lookup_times();
    /// let origin = times.tiers.iter().find(|of| of.tier == terrace::Tier::Origin);
    /// assert_eq!(origin.map(|of| (of.count, of.counts.len())), Some((1, times.bounds.len() + 1)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn lookup_times(&self) -> LookupTimes {
        self.shared.telemetry.lookup_times()
    }

    /// Lets [`Cache::stats`] start again from zero. Metrics for Prometheus go on.
    pub fn reset_stats(&self) {
        self.shared.telemetry.reset(&*self.shared);
    }

    /// The keys that were looked up most on this node, of all keyspaces; see [`Keyspace::hot_keys`](crate::Keyspace::hot_keys).
    pub fn hot_keys(&self, limit: usize) -> Vec<HotKey> {
        let views = self.views();
        let mut all: Vec<HotKey> = views.iter().flat_map(|view| view.hot_keys(limit)).collect();
        all.sort_by(|one, other| other.lookups.cmp(&one.lookups).then_with(|| one.key.cmp(&other.key)));
        all.truncate(limit);
        all
    }

    /// All metrics as text for Prometheus, of content type [`METRICS_CONTENT_TYPE`](crate::METRICS_CONTENT_TYPE).
    pub fn metrics(&self) -> String {
        self.shared.telemetry.encode(&*self.shared, self.staleness())
    }

    /// Ends the cache: no new loads and writes, running ones are waited for, what is written behind is brought to the origins,
    /// undelivered invalidations are tried once more, connections are closed. Reads of what L1 holds still answer.
    ///
    /// With a journal, loads and writes are waited for during half of the limit, so that the rest is there for what is written
    /// behind. What the origins do not take in time stays in the journal.
    ///
    /// # Errors
    /// [`ShutdownError`] if that took longer than `limit`, L2 has not seen every invalidation, or writes stay in the journal.
    pub async fn shutdown(&self, limit: Duration) -> Result<(), ShutdownError> {
        let shared = &self.shared;
        let begun = shared.clock.precise();
        let writes = self.drain_journal(limit).await;
        let limit_left = limit.saturating_sub(shared.clock.precise().since(begun));
        let ended = runtime::within(limit_left, async {
            shared.runtime.close().await;
            for view in self.views() {
                if !view.space.pending.is_empty() {
                    let _undelivered_is_reported_below = view.deliver_once().await;
                }
            }
        });
        let ended = ended.await.is_some();
        let loads = shared.runtime.running();
        shared.runtime.give_up();
        for view in self.views() {
            view.space.events.close();
        }
        if let Some(l2) = &shared.l2 {
            l2.remote().close().await;
        }
        let invalidations = usize::try_from(shared.pending_invalidations()).unwrap_or(usize::MAX);
        if ended && invalidations == 0 && writes == 0 {
            return Ok(());
        }
        Err(ShutdownError { after: limit, loads, writes, invalidations })
    }

    /// Brings what is written behind to the origins. Gives how many writes stay in the journal.
    #[cfg(feature = "journal")]
    async fn drain_journal(&self, limit: Duration) -> u64 {
        let Some(journal) = &self.shared.journal else { return 0 };
        let begun = self.shared.clock.precise();
        let _closed_or_late = runtime::within(limit / 2, self.shared.runtime.close()).await;
        let drained = journal.shutdown(limit.saturating_sub(self.shared.clock.precise().since(begun)));
        drained.await.left
    }

    #[cfg(not(feature = "journal"))]
    async fn drain_journal(&self, _limit: Duration) -> u64 {
        0
    }

    /// The journal, if there is one.
    #[cfg(feature = "journal")]
    pub fn journal(&self) -> Option<&crate::behind::Journal> {
        self.shared.journal.as_ref()
    }

    pub(crate) fn views(&self) -> Vec<View> {
        let spaces = self.shared.spaces.read();
        let view = |space: &Arc<Space>| View { shared: Arc::clone(&self.shared), space: Arc::clone(space) };
        let mut views: Vec<View> = spaces.values().map(view).collect();
        // In the order in which they were opened: that of the map is chance.
        views.sort_by_key(|view| view.space.id);
        views
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("keyspaces", &self.shared.spaces.read().keys().collect::<Vec<_>>())
            .field("l1_entries", &self.shared.l1.as_ref().map(crate::l1::L1::len))
            .field("l2", &self.shared.l2.as_ref().map(L2::remote))
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Registers a namespace, which must be new.
    pub(crate) fn open_space(
        &self,
        namespace: Namespace,
        make: impl FnOnce(u32, Namespace, Arc<SpaceCounters>) -> Space,
    ) -> Result<Arc<Space>, KeyspaceError> {
        let mut spaces = self.spaces.write();
        let id = u32::try_from(spaces.len()).expect("fewer than 4 billion keyspaces");
        match spaces.entry(namespace.clone()) {
            Slot::Occupied(_) => Err(KeyspaceError::Open { name: namespace.to_string() }),
            Slot::Vacant(slot) => {
                let counters = self.telemetry.space(&namespace);
                Ok(Arc::clone(slot.insert(Arc::new(make(id, namespace, counters)))))
            }
        }
    }

    fn pending_invalidations(&self) -> u64 {
        self.spaces.read().values().map(|space| space.pending.len() as u64).sum()
    }
}

impl Sources for Shared {
    fn engine(&self, namespace: &Namespace) -> EngineGauges {
        let id = self.spaces.read().get(namespace).map(|space| space.id);
        match (&self.l1, id) {
            (Some(l1), Some(id)) => l1.residency(id),
            _ => EngineGauges::default(),
        }
    }

    fn pending_invalidations(&self) -> u64 {
        Self::pending_invalidations(self)
    }

    fn bus_lag(&self) -> Duration {
        Duration::from_nanos(self.bus_lag_nanos.load(Ordering::Relaxed))
    }

    fn bus_events(&self) -> BusEvents {
        self.bus_counters.snapshot()
    }

    fn has_l2(&self) -> bool {
        self.l2.is_some()
    }

    fn bulkheads(&self) -> Vec<BulkheadLoad> {
        let spaces = self.spaces.read();
        let of = |space: &Arc<Space>| {
            let rules = space.rules();
            let own = rules.bulkheads.own.as_ref().map(|own| BulkheadLoad { is_own: true, ..own.load() });
            own.into_iter().chain(rules.bulkheads.shared.as_ref().map(Bulkhead::load)).collect::<Vec<_>>()
        };
        let mut all: Vec<BulkheadLoad> = spaces.values().flat_map(of).collect();
        all.sort_by(|one, other| (one.is_own, &one.name).cmp(&(other.is_own, &other.name)));
        all.dedup_by(|one, other| one.is_own == other.is_own && one.name == other.name);
        all
    }

    fn breaker(&self) -> Option<BreakerGauges> {
        self.l2.as_ref().and_then(L2::breaker_gauges)
    }

    #[cfg(feature = "journal")]
    fn journal(&self) -> Option<crate::telemetry::JournalGauges> {
        self.journal.as_ref().map(crate::behind::Journal::gauges)
    }
}
