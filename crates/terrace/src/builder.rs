//! The settings of a cache.

use crate::cache::Cache;
use crate::coherence::tickets::Tickets;
use crate::error::ConfigError;
use crate::hot::HotKey;
use crate::l1::L1 as FirstTier;
use crate::resilience::{Breaker, L2, Patience, Retry};
use crate::runtime::{Runtime, Turns};
use crate::sizes::Lately;
use crate::space::Shared;
use crate::staleness::StalenessBudget;
use crate::telemetry::{Build, BusCounters, Telemetry};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::Duration;
use terrace_core::version::LocalVersions;
use terrace_core::{Chance, Clock, Remote, Ttl};
use terrace_memory::Policy;

/// Settings of the first tier: this process' memory.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use terrace::{L1, Policy};
/// let l1 = L1::entries(1_000_000).bytes(512 << 20).ttl(Duration::from_secs(60)).policy(Policy::Lru);
/// ```
#[derive(Clone, Debug)]
#[must_use = "settings do nothing until a cache is built with them"]
pub struct L1 {
    entries_max: usize,
    bytes_max: u64,
    policy: Policy,
    ttl: Option<Ttl>,
    cleanup: Duration,
}

impl L1 {
    /// Entries held at most, unless told otherwise.
    pub const ENTRIES_MAX_DEFAULT: usize = 10_000;
    /// The longest that a copy of an L2 entry stays, unless told otherwise.
    pub const TTL_DEFAULT: Duration = Duration::from_mins(1);
    /// Time between two background removals of what has expired, unless told otherwise.
    pub const CLEANUP_DEFAULT: Duration = Duration::from_mins(1);

    /// Holds at most so many entries; zero for no bound by entries.
    pub fn entries(entries_max: usize) -> Self {
        Self { entries_max, bytes_max: 0, policy: Policy::Default, ttl: None, cleanup: Self::CLEANUP_DEFAULT }
    }

    /// Holds at most so many bytes of keys, values and records; zero for no bound by bytes, which is the default.
    pub fn bytes(mut self, bytes_max: u64) -> Self {
        self.bytes_max = bytes_max;
        self
    }

    /// Who is evicted. Default: [`Policy::Default`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// How long a copy stays at most. Default: 1 minute if its keyspace uses an L2, as a bound on what no node hears of: a
    /// stranger's change to L2, or an L2 that has lost one; no bound of its own if it does not.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = Some(ttl.into());
        self
    }

    /// How often expired entries are removed in the background. Default: every minute. They are never returned,
    /// however late that is.
    pub fn cleanup(mut self, interval: Duration) -> Self {
        self.cleanup = interval;
        self
    }
}

impl Default for L1 {
    fn default() -> Self {
        Self::entries(Self::ENTRIES_MAX_DEFAULT)
    }
}

/// Settings of a cache, each with a default that works; made by [`Cache::builder`].
#[derive(Debug)]
#[must_use = "a cache is not made until it is built"]
pub struct CacheBuilder {
    l1: Option<L1>,
    l2: Option<Arc<dyn Remote>>,
    default_ttl: Ttl,
    staleness_budget: StalenessBudget,
    staleness_max: Duration,
    hot_keys_max: usize,
    patience: Patience,
    clock: Clock,
    chance: Chance,
    #[cfg(feature = "journal")]
    journal: Option<crate::behind::Journal>,
}

impl Default for CacheBuilder {
    fn default() -> Self {
        let default_ttl = Ttl::After(Self::TTL_DEFAULT);
        Self {
            l1: Some(L1::default()),
            l2: None,
            default_ttl,
            staleness_budget: StalenessBudget::new(),
            staleness_max: Self::STALENESS_MAX_DEFAULT,
            hot_keys_max: HotKey::COUNTED_DEFAULT,
            patience: Patience::default(),
            clock: Clock::system(),
            chance: Chance::system(),
            #[cfg(feature = "journal")]
            journal: None,
        }
    }
}

impl CacheBuilder {
    /// How long an entry is fresh, unless the cache, its keyspace or it says otherwise: 5 minutes.
    pub const TTL_DEFAULT: Duration = Duration::from_mins(5);

    /// How old a copy in L1 may be, by changes of other nodes, that counts as fresh, unless told otherwise: 1 second.
    pub const STALENESS_MAX_DEFAULT: Duration = Duration::from_secs(1);

    /// How long one read may wait for L2, unless told otherwise: 250 ms.
    pub const L2_WAIT_MAX_DEFAULT: Duration = Patience::WAIT_MAX_DEFAULT;

    /// The first tier. Default: [`L1::default`].
    pub fn l1(mut self, l1: L1) -> Self {
        self.l1 = Some(l1);
        self
    }

    /// No first tier: every read asks L2.
    pub fn no_l1(mut self) -> Self {
        self.l1 = None;
        self
    }

    /// The second tier, e.g. `terrace::Redis`. Default: none.
    pub fn l2(mut self, remote: impl Remote) -> Self {
        self.l2 = Some(Arc::new(remote));
        self
    }

    /// How long entries are fresh, unless their keyspace says otherwise. Default: 5 minutes.
    pub fn default_ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.default_ttl = ttl.into();
        self
    }

    /// After another node's change was acknowledged, how long this node may still return the older value as fresh, whatever
    /// connection is lost and whoever is late or paused. Usually it hears of a change within a millisecond. When it cannot know
    /// that it does, its copies are suspect (see [`SuspectPolicy`](crate::SuspectPolicy)). Default: 1 second. At least 100 ms.
    ///
    /// # Cost
    /// A message to itself every quarter of this time, or every second if that is sooner.
    pub fn staleness_max(mut self, limit: Duration) -> Self {
        self.staleness_max = limit;
        self
    }

    /// How long one read may wait for L2, all its calls together, if L2 is slow or does not answer. After that the read goes on as
    /// if L2 could not be reached; what L2 still answers is dropped, a loaded value is still stored there. Changes are bounded by the
    /// timeouts of L2's adapter. Default: 250 ms. At least 1 ms.
    ///
    /// A load that fills L2 needs two round trips within this time, before it and after it; values that take longer to arrive are
    /// never found in L2.
    pub fn l2_wait_max(mut self, limit: Duration) -> Self {
        self.patience.wait_max = limit;
        self
    }

    /// When L2 is left alone, because too much of what it is asked fails, and when it is asked again. Default:
    /// [`Breaker::default`].
    ///
    /// # Cost
    /// One atomic load before a call to L2, a lock for an instant after it. None for a hit in L1.
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.patience.breaker = Some(breaker);
        self
    }

    /// Asks L2 whatever came of it before: each read waits for a hung one for [`CacheBuilder::l2_wait_max`], each change until
    /// the adapter's timeout.
    pub fn no_breaker(mut self) -> Self {
        self.patience.breaker = None;
        self
    }

    /// What of a failed call to L2 is tried again. Default: [`Retry::default`].
    pub fn retry(mut self, retry: Retry) -> Self {
        self.patience.retry = retry;
        self
    }

    /// How much of what a keyspace returns may be stale, unless it says otherwise, before [`Health`](crate::Health) says that it is too
    /// much. Default: no bound.
    pub fn staleness_budget(mut self, budget: StalenessBudget) -> Self {
        self.staleness_budget = budget;
        self
    }

    /// Most keys of each keyspace of which it is counted how often they are looked up, for [`Cache::hot_keys`] and
    /// [`AdaptiveTtl`](crate::AdaptiveTtl). Zero counts none: then there are no hot keys, and an adaptive TTL is refused. Default:
    /// [`HotKey::COUNTED_DEFAULT`], 256. At most [`HotKey::COUNTED_MAX`], 4,096.
    ///
    /// # Cost
    /// Memory, of each keyspace from when it is opened: 180 bytes for a key, and up to 1.1 KB for each of more than 64 bytes.
    pub fn hot_keys_max(mut self, keys: usize) -> Self {
        self.hot_keys_max = keys;
        self
    }

    /// Where the cache reads the time: a test gives it a [`Clock::manual`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Where the cache gets its chance from: the operating system's, unless a test that has to be repeatable gives it a
    /// [`Chance::seeded`]. Tokens of leases are drawn from it, so no two caches may share a seed and an L2.
    pub fn chance(mut self, chance: Chance) -> Self {
        self.chance = chance;
        self
    }

    /// Where keyspaces that are [written behind](crate::KeyspaceBuilder::write_behind) keep what their origins do not have yet. One
    /// journal is one cache's. Default: none.
    ///
    /// [`Cache::shutdown`] brings what it can to the origins, and closes it.
    #[cfg(feature = "journal")]
    pub fn journal(mut self, journal: crate::behind::Journal) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Makes the cache. It connects to L2 when that is first needed, so an L2 that is down is no error.
    ///
    /// # Errors
    /// [`ConfigError`] if a setting cannot be, or there is neither L1 nor L2.
    pub fn build(self) -> Result<Cache, ConfigError> {
        #[cfg(feature = "journal")]
        let journal = self.journal;
        let (l1, l2, default_ttl, staleness_max) = (self.l1, self.l2, self.default_ttl, self.staleness_max);
        let (patience, clock, chance) = (self.patience, self.clock, self.chance);
        let (staleness_budget, hot_keys_max) = (self.staleness_budget, self.hot_keys_max);
        if l1.is_none() && l2.is_none() {
            return Err(ConfigError::new("tiers", "none", "leave L1 on, or give the cache an L2"));
        }
        let tickets = Arc::new(Tickets::new(&chance));
        let cleanup_interval = l1.as_ref().map_or(L1::CLEANUP_DEFAULT, |l1| l1.cleanup);
        if cleanup_interval < Duration::from_millis(1) {
            return Err(ConfigError::new("cleanup", cleanup_interval, "at least a millisecond, e.g. 60 s"));
        }
        if staleness_max < Duration::from_millis(100) {
            return Err(ConfigError::new("staleness_max", staleness_max, "at least 100 ms, e.g. 1 s"));
        }
        if hot_keys_max > HotKey::COUNTED_MAX {
            return Err(ConfigError::new("hot_keys_max", hot_keys_max, "at most 4096, and zero for none"));
        }
        patience.check()?;
        staleness_budget.check()?;
        let l1 = l1.map(|l1| first_tier(&l1, &tickets, &clock)).transpose()?;
        let shared = Arc::new_cyclic(|shared| Shared {
            l1,
            l2: l2.map(|remote| {
                L2::new(remote, Weak::clone(shared), staleness_max, &patience, &clock, &chance)
            }),
            tickets,
            runtime: Runtime::default(),
            lately: Lately::since(clock.now()),
            telemetry: Telemetry::new(clock.clone(), Build::THIS),
            versions: LocalVersions::default(),
            default_ttl,
            staleness_budget,
            cleanup_interval,
            hot_keys_max,
            spaces: parking_lot::RwLock::default(),
            cleaning: Turns::default(),
            #[cfg(feature = "journal")]
            journal,
            life: std::sync::OnceLock::new(),
            bus_lag_nanos: AtomicU64::default(),
            bus_counters: BusCounters::default(),
            clock,
            chance,
        });
        Ok(Cache { shared })
    }
}

fn first_tier(settings: &L1, tickets: &Arc<Tickets>, clock: &Clock) -> Result<FirstTier, ConfigError> {
    let L1 { entries_max, bytes_max, policy, ttl, cleanup: _ } = *settings;
    FirstTier::new(entries_max, bytes_max, policy, ttl, tickets, clock).map_err(|error| ConfigError {
        setting: error.setting,
        value: error.value,
        allowed: error.allowed,
    })
}
