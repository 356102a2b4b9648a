//! The settings of a keyspace.

use super::Keyspace;
use crate::cache::Cache;
use crate::coherence::trust::Trust;
use crate::erased::{Format, Opaque, Weigher};
use crate::error::{ConfigError, KeyspaceError};
use crate::space::{Rules, Space, SuspectPolicy, View};
use crate::terms::{EntryOptions, Terms};
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::codec::Json;
use terrace_core::envelope::Compression;
use terrace_core::{Codec, Namespace, Tag, Ttl};

/// Settings of a keyspace, each with a default that works; made by [`Cache::keyspace`].
#[must_use = "a keyspace is not open until it is built"]
pub struct KeyspaceBuilder<K, V, C = Json> {
    cache: Cache,
    name: String,
    codec: C,
    weigher: Option<Weigher<V>>,
    tagger: Option<Arc<super::Tagger<K, V>>>,
    rules: Rules,
    key: PhantomData<fn(K)>,
}

impl<K, V, C: fmt::Debug> fmt::Debug for KeyspaceBuilder<K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyspaceBuilder")
            .field("name", &self.name)
            .field("codec", &self.codec)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// Longest that a load may take, unless the keyspace is told otherwise.
const LOAD_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Largest value, encoded, unless the keyspace is told otherwise: 16 MiB.
const VALUE_BYTES_MAX_DEFAULT: u64 = 16 << 20;

impl<K, V> KeyspaceBuilder<K, V> {
    pub(crate) fn new(cache: Cache, name: &str) -> Self {
        let rules = Rules {
            terms: Terms::new(cache.shared.default_ttl),
            uses_l1: true,
            uses_l2: true,
            compression: Compression::default(),
            value_bytes_max: VALUE_BYTES_MAX_DEFAULT,
            load_timeout: LOAD_TIMEOUT_DEFAULT,
            suspect: SuspectPolicy::default(),
        };
        let name = name.to_owned();
        Self { cache, name, codec: Json, weigher: None, tagger: None, rules, key: PhantomData }
    }
}

impl<K, V, C> KeyspaceBuilder<K, V, C> {
    /// How long entries are fresh, unless one says otherwise. Default: the cache's `default_ttl`.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.rules.terms.ttl = ttl.into();
        self
    }

    /// What entries have whose call says nothing else: TTLs, grace, timeouts, refresh-ahead. Tags among the options are ignored.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use terrace::{Cache, EntryOptions};
    /// let options = EntryOptions::new()
    ///     .ttl(Duration::from_secs(60))
    ///     .jitter(0.1)
    ///     .grace(Duration::from_secs(600))
    ///     .stale_while_revalidate(Duration::from_secs(30))
    ///     .soft_timeout(Duration::from_millis(100));
    /// let users = Cache::memory()?.keyspace::<u64, String>("users").options(options).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "options are made where they are given, as for a call")]
    pub fn options(mut self, options: EntryOptions) -> Self {
        self.rules.terms = self.rules.terms.with(&options);
        self
    }

    /// How long a copy stays in L1 at most. Never longer than the entry, nor than the cache's own L1 TTL.
    pub fn l1_ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.rules.terms.l1_ttl = ttl.into();
        self
    }

    /// Keeps no copies in L1.
    pub fn no_l1(mut self) -> Self {
        self.rules.uses_l1 = false;
        self
    }

    /// When values are compressed for L2. Default: zstd from 1 KiB on.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.rules.compression = compression;
        self
    }

    /// The largest value, in bytes, encoded and not compressed. Default: 16 MiB. A larger one is refused by `put`, and
    /// returned but not kept by a load.
    pub fn value_bytes_max(mut self, bytes: u64) -> Self {
        self.rules.value_bytes_max = bytes;
        self
    }

    /// How long a load may take before it is dropped. Its lease lasts as long, but at most 5 minutes: what a longer load
    /// brings is returned, and kept nowhere. Default: 30 s.
    pub fn load_timeout(mut self, limit: Duration) -> Self {
        self.rules.load_timeout = limit;
        self
    }

    /// What to do with a copy in L1 that cannot be proven fresh. Default: [`SuspectPolicy::Validate`].
    pub fn suspect(mut self, policy: SuspectPolicy) -> Self {
        self.rules.suspect = policy;
        self
    }

    /// What a value weighs in L1, in bytes. Default: the length of its encoding where that is known or L1 is bounded
    /// by bytes, else the size of its type.
    pub fn weigher(mut self, weigher: impl Fn(&V) -> u64 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Box::new(weigher));
        self
    }

    /// The tags of an entry, made from its key and value.
    pub fn tags(mut self, tagger: impl Fn(&K, &V) -> Vec<Tag> + Send + Sync + 'static) -> Self {
        self.tagger = Some(Arc::new(tagger));
        self
    }

    /// How values become bytes for L2. Default: JSON.
    pub fn codec<D: Codec<V>>(self, codec: D) -> KeyspaceBuilder<K, V, D> {
        let Self { cache, name, codec: _, weigher, tagger, rules, key } = self;
        KeyspaceBuilder { cache, name, codec, weigher, tagger, rules, key }
    }

    /// Keeps the values of this keyspace in this process' memory, whatever tiers the cache has. They need no codec.
    pub fn memory_only(mut self) -> KeyspaceBuilder<K, V, Opaque> {
        self.rules.uses_l2 = false;
        let Self { cache, name, codec: _, weigher, tagger, rules, key } = self;
        KeyspaceBuilder { cache, name, codec: Opaque, weigher, tagger, rules, key }
    }

    /// Opens the keyspace.
    ///
    /// # Errors
    /// [`KeyspaceError::Name`] if the name cannot be a namespace, [`KeyspaceError::Setting`] if a setting cannot be,
    /// [`KeyspaceError::Open`] if the keyspace is open already.
    pub fn build(self) -> Result<Keyspace<K, V>, KeyspaceError>
    where
        V: Any + Send + Sync,
        C: Codec<V>,
    {
        let Self { cache, name, codec, weigher, tagger, rules, key: _ } = self;
        let namespace = Namespace::new(&name)?;
        check(&cache, &rules)?;
        let format = Box::new(Format::new(codec, weigher));
        let shared = cache.shared;
        let has_bus = shared.l2.as_ref().is_some_and(|l2| rules.uses_l2 && l2.tells_changes());
        let lingers = std::sync::atomic::AtomicBool::new(rules.terms.may_linger());
        let space = shared.open_space(namespace, |id, namespace, counters| Space {
            id,
            bans: crate::coherence::bans::Bans::new(namespace.clone()),
            generations: crate::coherence::generations::Generations::default(),
            questions: crate::coherence::questions::Questions::default(),
            retiring: crate::runtime::Turns::default(),
            chores: crate::runtime::Turns::default(),
            audits: crate::runtime::Turns::default(),
            delayed_here: Arc::default(),
            reaping: tokio::sync::Semaphore::new(1),
            namespace,
            format,
            rules,
            flights: crate::flight::Flights::default(),
            pending: crate::coherence::pending::Pending::default(),
            recent: crate::coherence::recent::Recent::default(),
            events: Arc::default(),
            refreshes: crate::refresh::Refreshes::default(),
            counters,
            agreement: crate::resilience::Agreement::default(),
            deliveries: crate::runtime::Turns::default(),
            trust: if has_bus { Trust::not_yet() } else { Trust::always() },
            waiting: crate::waiting::Waiting::default(),
            cooling: crate::stale::Cooling::default(),
            lingers,
        })?;
        Ok(Keyspace { view: View { shared, space }, tagger, origin: None })
    }
}

fn check(cache: &Cache, rules: &Rules) -> Result<(), ConfigError> {
    if rules.load_timeout.is_zero() {
        return Err(ConfigError::new("load_timeout", rules.load_timeout, "give a load some time, e.g. 30 s"));
    }
    if rules.value_bytes_max == 0 {
        return Err(ConfigError::new("value_bytes_max", 0, "a value has at least one byte"));
    }
    rules.terms.check()?;
    let has_l1 = rules.uses_l1 && cache.shared.l1.is_some();
    let has_l2 = rules.uses_l2 && cache.shared.l2.is_some();
    if !has_l1 && !has_l2 {
        return Err(ConfigError::new("tiers", "none", "leave L1 on, or give the cache an L2"));
    }
    Ok(())
}
