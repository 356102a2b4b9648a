//! The settings of a keyspace.

#[cfg(feature = "journal")]
use super::sink::{OriginSink, Parse};
use super::strategy::{Backing, Strategy};
use super::{Keyspace, Tagger};
#[cfg(feature = "journal")]
use crate::behind::LaneOptions;
use crate::bulkhead::Bulkheads;
use crate::cache::Cache;
use crate::coherence::trust::Trust;
use crate::erased::{Format, Opaque, Weigher};
use crate::error::{ConfigError, KeyspaceError};
use crate::origin::Origin;
use crate::origin::bound::bind;
use crate::space::{Rules, Space, SuspectPolicy, View};
use crate::terms::{EntryOptions, Terms};
use arc_swap::ArcSwap;
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::codec::Json;
use terrace_core::envelope::{Algorithm, Compression, Dictionary};
use terrace_core::{Codec, Namespace, Tag, Ttl};

/// Settings of a keyspace, each with a default that works; made by [`Cache::keyspace`].
#[must_use = "a keyspace is not open until it is built"]
pub struct KeyspaceBuilder<K, V, C = Json> {
    pub(super) cache: Cache,
    pub(super) name: String,
    codec: C,
    weigher: Option<Weigher<V>>,
    pub(super) tagger: Option<Arc<Tagger<K, V>>>,
    pub(super) backing: Option<Backing<K, V>>,
    #[cfg(feature = "journal")]
    pub(super) behind: Option<(LaneOptions, Parse<K>)>,
    pub(super) uses_l1: bool,
    pub(super) uses_l2: bool,
    pub(super) rules: Rules,
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
            compression: Compression::default(),
            dictionary: None,
            value_bytes_max: VALUE_BYTES_MAX_DEFAULT,
            load_timeout: LOAD_TIMEOUT_DEFAULT,
            staleness_budget: cache.shared.staleness_budget,
            loads_max: None,
            loads_wait_max: None,
            bulkhead: None,
            bulkheads: Bulkheads::default(),
            suspect: SuspectPolicy::default(),
            fails_closed: false,
        };
        Self {
            cache,
            name: name.to_owned(),
            codec: Json,
            weigher: None,
            tagger: None,
            backing: None,
            #[cfg(feature = "journal")]
            behind: None,
            uses_l1: true,
            uses_l2: true,
            rules,
            key: PhantomData,
        }
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
        self.uses_l1 = false;
        self
    }

    /// When values are compressed for L2. Default: zstd from 1 KiB on.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.rules.compression = compression;
        self
    }

    /// Compresses values from 64 bytes on with this dictionary, instead of as [`KeyspaceBuilder::compression`] says: for many short values that are
    /// alike, as JSON is. It has to be learned from values as the codec writes them.
    ///
    /// It has to go with zstd: a keyspace of another algorithm is refused. What was written with a dictionary can be read with that one alone. A node that has another one, or none, counts such an entry in L2 as a miss
    /// (and in [`Figures::decode_failures`](crate::Figures::decode_failures)), loads the value and stores it as it does itself: so nodes can get a new
    /// dictionary one after the other, and never return a wrong value. What was written without one is read as ever.
    ///
    /// # Cost
    /// None here: [`Dictionary::new`] has prepared it. Each thread keeps a context for dictionaries, besides that for other values.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use terrace::codec::Text;
    /// use terrace::{Cache, Dictionary};
    /// let samples: Vec<String> =
    ///     (0..500).map(|id| format!(r#"{{"id":{id},"name":"user {}","plan":"team"}}"#, id * 7)).collect();
    /// let dictionary = Dictionary::train(&samples, 4 << 10)?;
    /// let users = Cache::memory()?.keyspace::<u64, String>("users").codec(Text).dictionary(dictionary).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn dictionary(mut self, dictionary: Dictionary) -> Self {
        self.rules.dictionary = Some(dictionary);
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

    /// How values become bytes for L2, and for the journal. Default: JSON.
    pub fn codec<D: Codec<V>>(self, codec: D) -> KeyspaceBuilder<K, V, D> {
        KeyspaceBuilder {
            cache: self.cache,
            name: self.name,
            codec,
            weigher: self.weigher,
            tagger: self.tagger,
            backing: self.backing,
            #[cfg(feature = "journal")]
            behind: self.behind,
            uses_l1: self.uses_l1,
            uses_l2: self.uses_l2,
            rules: self.rules,
            key: self.key,
        }
    }

    /// Keeps the values of this keyspace in this process' memory, whatever tiers the cache has. They need no codec.
    pub fn memory_only(mut self) -> KeyspaceBuilder<K, V, Opaque> {
        self.uses_l2 = false;
        self.codec(Opaque)
    }

    /// Opens the keyspace.
    ///
    /// # Errors
    /// [`KeyspaceError::Name`] if the name cannot be a namespace, [`KeyspaceError::Setting`] if a setting cannot be,
    /// [`KeyspaceError::Open`] if the keyspace is open already.
    pub fn build(self) -> Result<Keyspace<K, V>, KeyspaceError>
    where
        K: Send + Sync + 'static,
        V: Any + Send + Sync,
        C: Codec<V>,
    {
        let namespace = Namespace::new(&self.name)?;
        check(&self.rules, &self.cache)?;
        self.check_tiers()?;
        super::limits::check_shared(&self.cache, &self.rules)?;
        let bulkheads = super::limits::bulkheads(&self.name, &self.rules)?;
        #[cfg(feature = "journal")]
        self.check_behind()?;
        let format = Box::new(Format::new(self.codec, self.weigher));
        let (shared, rules) = (self.cache.shared, Rules { bulkheads, ..self.rules });
        let (uses_l1, uses_l2, hot_keys_max) = (self.uses_l1, self.uses_l2, shared.hot_keys_max);
        let has_bus = shared.l2.as_ref().is_some_and(|l2| uses_l2 && l2.tells_changes());
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
            uses_l1,
            uses_l2,
            rules: ArcSwap::from_pointee(rules),
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
            order: crate::write::order::Order::default(),
            watching: crate::write::watch::Watching::default(),
            #[cfg(feature = "journal")]
            behind: std::sync::OnceLock::new(),
            hot: crate::hot::HotKeys::new(hot_keys_max, shared.clock.clone()),
            watch: crate::staleness::Watch::default(),
            lingers,
        })?;
        let view = View { shared, space };
        let backing = self.backing.map(|backing| backing.timed(&view.space.counters));
        view.space.counters.change_strategy(super::strategy::strategy_of(backing.as_ref()));
        #[cfg(feature = "journal")]
        if let Some(((options, parse), backing)) = self.behind.zip(backing.as_ref()) {
            attach(&view, options, parse, backing)?;
        }
        Ok(Keyspace { view, tagger: self.tagger, backing: backing.map(Arc::new) })
    }

    /// Whether there is a tier to keep values in.
    fn check_tiers(&self) -> Result<(), ConfigError> {
        let has_l1 = self.uses_l1 && self.cache.shared.l1.is_some();
        let has_l2 = self.uses_l2 && self.cache.shared.l2.is_some();
        if !has_l1 && !has_l2 {
            return Err(ConfigError::new("tiers", "none", "leave L1 on, or give the cache an L2"));
        }
        Ok(())
    }

    /// What write-behind needs, before anything is opened.
    #[cfg(feature = "journal")]
    fn check_behind(&self) -> Result<(), KeyspaceError>
    where
        C: Codec<V>,
    {
        if self.behind.is_none() {
            return Ok(());
        }
        if self.cache.shared.journal.is_none() {
            let allowed = "give the cache a journal, with `CacheBuilder::journal`";
            return Err(ConfigError::new("write_behind", "without a journal", allowed).into());
        }
        if let Some((options, _)) = &self.behind {
            options.check().map_err(|error| ConfigError {
                setting: "write_behind",
                value: self.name.clone(),
                allowed: error.to_string(),
            })?;
        }
        if self.codec.id() == Opaque::ID {
            let allowed = "values go to a file, so leave out `memory_only`; without an L2 the keyspace is in memory all the same";
            return Err(ConfigError::new("write_behind", "of a keyspace without a codec", allowed).into());
        }
        Ok(())
    }
}

/// Lets the journal bring a keyspace's writes to its origin.
#[cfg(feature = "journal")]
fn attach<K, V>(
    view: &View,
    options: LaneOptions,
    parse: Parse<K>,
    backing: &Backing<K, V>,
) -> Result<(), KeyspaceError>
where
    K: Send + Sync + 'static,
    V: Any + Send + Sync,
{
    let Some(journal) = &view.shared.journal else { return Ok(()) };
    let sink = OriginSink {
        shared: Arc::downgrade(&view.shared),
        space: Arc::downgrade(&view.space),
        origin: Arc::clone(&backing.origin),
        parse,
        limit: options.settled_within(),
    };
    let lane = journal.lane(view.space.namespace.as_str(), options, Arc::new(sink));
    let lane = lane.map_err(|error| ConfigError {
        setting: "write_behind",
        value: view.space.namespace.to_string(),
        allowed: error.to_string(),
    })?;
    let left = lane.waiting(usize::MAX);
    let left: Vec<terrace_core::Key> =
        left.iter().filter_map(|write| super::sink::key_of(&write.key)).collect();
    let _it_is_new = view.space.behind.set(crate::write::behind::Behind::new(lane));
    // L2 may have never heard of what an earlier process left behind.
    view.forget_behind(&left);
    Ok(())
}

impl<K, V, C> KeyspaceBuilder<K, V, C>
where
    K: Send + Sync + 'static,
    V: Any + Send + Sync,
{
    /// `get` loads what no tier has. What is written goes to the tiers alone.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::convert::Infallible;
    /// use terrace::{Cache, OriginFn};
    ///
    /// let origin = OriginFn::load(|key: u64| async move { Ok::<_, Infallible>(Some(key * key)) });
    /// let squares = Cache::memory()?.keyspace::<u64, u64>("squares").read_through(origin).build()?;
    /// assert_eq!(squares.get(&3).await?.as_deref(), Some(&9));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn read_through(self, origin: impl Origin<K, V>) -> Self {
        self.with(origin, Strategy::ReadThrough)
    }

    /// `get` loads what no tier has; `put` and `remove` change the origin, and then the tiers.
    ///
    /// An origin that does not take a write leaves every tier as it was, and its error is the caller's
    /// ([`ErrorKind::Store`](crate::ErrorKind::Store)). That a tier fails after the origin is no failure of the write: it is logged and
    /// counted, the tier is told later, and is not believed about the key until then.
    ///
    /// # Races
    /// Changes of one key go one after the other on a node. If another node, or an invalidation, changes the key between the
    /// origin and the tiers, the key is dropped instead of stored: nobody knows which of the two the origin has in the end. A
    /// process that dies between the origin and L2 leaves the old value there until its TTL.
    ///
    /// # Examples
    /// See [`OriginFn`](crate::OriginFn).
    pub fn write_through(self, origin: impl Origin<K, V>) -> Self {
        self.with(origin, Strategy::WriteThrough)
    }

    /// `get` loads what no tier has; `put` changes the origin, and drops the key from the tiers: the next `get` loads. For what is
    /// written and rarely read soon after. `remove` removes from the origin, and then from the tiers.
    ///
    /// Failures mean the same as for [`write_through`](Self::write_through).
    pub fn write_around(self, origin: impl Origin<K, V>) -> Self {
        self.with(origin, Strategy::WriteAround)
    }

    /// `get` loads what no tier has; `put` and `remove` are acknowledged when the cache's journal has them, change the tiers, and
    /// reach the origin later, in batches, of one key in their order. The reply names what the acknowledgement stands for
    /// ([`Written::journaled`](crate::Written::journaled)).
    ///
    /// Needs a cache with a [journal](crate::CacheBuilder::journal). See [`terrace::behind`](crate::behind) for what holds, and what
    /// deleting and invalidating mean.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(async {
    /// use std::{convert::Infallible, time::Duration};
    /// use terrace::behind::{Ack, Journal, JournalOptions, LaneOptions};
    /// use terrace::{Cache, OriginFn};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("writes.journal");
    ///
    /// let origin = OriginFn::load(|_: u64| async { Ok::<Option<u64>, Infallible>(None) })
    ///     .store(|_key, _value| async { Ok(()) });
    /// let cache = Cache::builder().journal(Journal::open(&path, JournalOptions::default())?).build()?;
    /// let visits = cache.keyspace::<u64, u64>("visits").write_behind(origin, LaneOptions::default()).build()?;
    ///
    /// let written = visits.put(&7, 1).await?;
    /// assert_eq!(written.journaled.map(|journaled| journaled.ack), Some(Ack::Fsync));
    /// assert_eq!(visits.get(&7).await?.as_deref(), Some(&1));
    /// cache.shutdown(Duration::from_secs(5)).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    #[cfg(feature = "journal")]
    pub fn write_behind(mut self, origin: impl Origin<K, V>, options: LaneOptions) -> Self
    where
        K: terrace_core::TextKey,
    {
        self.behind = Some((options, K::from_text));
        Self { backing: Some(Backing { origin: bind(origin), strategy: Strategy::WriteBehind }), ..self }
    }

    fn with(self, origin: impl Origin<K, V>, strategy: Strategy) -> Self {
        Self {
            backing: Some(Backing { origin: bind(origin), strategy }),
            #[cfg(feature = "journal")]
            behind: None,
            ..self
        }
    }
}

/// Whether these rules make sense, in this cache.
pub(super) fn check(rules: &Rules, cache: &Cache) -> Result<(), ConfigError> {
    if rules.load_timeout.is_zero() {
        return Err(ConfigError::new("load_timeout", rules.load_timeout, "give a load some time, e.g. 30 s"));
    }
    if rules.value_bytes_max == 0 {
        return Err(ConfigError::new("value_bytes_max", 0, "a value has at least one byte"));
    }
    let algorithm = rules.compression.algorithm;
    if rules.dictionary.is_some() && algorithm != Some(Algorithm::Zstd) {
        let with =
            algorithm.map_or("without compression".to_owned(), |other| format!("with {}", other.name()));
        return Err(ConfigError::new(
            "dictionary",
            with,
            "a dictionary goes with zstd: `.compression(Compression::ZSTD)`",
        ));
    }
    cache.shared.check(&rules.terms)?;
    super::limits::check(rules)
}
