//! What is loaded ahead of its first read?
//!
//! ```text
//! keys ──────────┐
//! names in L2 ───┼─▶ a batch ─▶ not in L1? ─▶ room? ─▶ one look in L2 ─hit─▶ promote
//! pages of rows ─┘                                        └─miss─▶ flights ─▶ leases ─▶ load ─▶ fill
//! ```
//!
//! 1. What is warmed goes the way of a load, flight, lease and ticket: never over a newer value, and never back after an
//!    invalidation. What a query brings was read before its key was known here: [`guard`].
//! 2. Nobody leaves L1 for it, unless the caller says so. Where there is no room it stays in L2, or is left out.
//! 3. What is there already is left alone: a warm-up counts as no access, and as no lookup.
//! 4. At most one batch is in memory, and so many keys are loaded at the same time: the next batch begins when one has ended.
//! 5. A key that fails is counted, and the others go on. L2 in trouble is a failure here, not a miss: what could not be kept
//!    is not loaded.

mod guard;
mod loads;
mod progress;
mod rows;

pub(crate) use guard::is_withdrawn;
pub use progress::{WarmProgress, Warmed};

use crate::coherence::tickets::Ticket;
use crate::entry::{Found, StaleReason, Tier};
use crate::error::{ConfigError, Error, ErrorKind, OriginFailure};
use crate::keyspace::{Tagger, Tagging};
use crate::origin::bound::Bound;
use crate::read::together::LoadMany;
use crate::read::{Loading, Loads, Look, Wanted};
use crate::space::View;
use crate::telemetry::{Call, timed_one};
use crate::terms::{EntryOptions, Terms};
use futures_util::StreamExt;
use loads::{InOneCall, OneByOne};
use progress::Fate;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::remote::SweepRule;
use terrace_core::{CacheKey, Glob, Key, RemoteError, Ttl};

/// Keys that are looked for in L2 by one call.
const BATCH: usize = 256;
/// Keys that are loaded at the same time, unless told otherwise.
const LOADS_AT_ONCE: usize = 256;

/// A warm-up that is still to begin; made by [`Keyspace::warm`](crate::Keyspace::warm).
///
/// # What it does to L1
/// Nobody leaves L1 for what is warmed: when seven eighths of one of its bounds are reached, values are kept in L2 alone, and
/// where there is none they are not loaded ([`Warmed::no_room`]). What is in L1 already is not touched, so it gets no older and no
/// younger in the eyes of the eviction policy. With [`even_if_full`](Self::even_if_full) warmed values take others' places, as
/// those of reads do: by the default policy the places of what was not read twice; by [`Policy::Lru`](crate::Policy::Lru) of
/// anything, the hottest included, if there are enough of them.
///
/// Beside an L2 a copy stays in L1 for [its TTL there](crate::L1::ttl), a minute by default, however it came. To warm what is not read
/// within a minute helps L2, not L1.
///
/// # Cancel safety
/// Whoever drops a warm-up ends it: no load begins any more, and those that began go on. So does a shutdown of the cache, which is
/// [`ErrorKind::Closed`].
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::convert::Infallible;
/// use terrace::{Cache, OriginFn};
///
/// let origin = OriginFn::load(|key: u64| async move { Ok::<_, Infallible>(Some(key * key)) });
/// let squares = Cache::memory()?.keyspace::<u64, u64>("squares").read_through(origin).build()?;
///
/// let warm = squares.warm().at_once(16);
/// let progress = warm.progress();
/// warm.keys(1..=100).await?;
/// assert_eq!(squares.peek(&7).as_deref(), Some(&49));
/// assert_eq!(progress.now().to_string(), "100 of 100 keys: 100 done, 0 skipped, 0 failed");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[must_use = "a warm-up does nothing until it is told what to warm"]
pub struct Warm<K, V> {
    view: View,
    tagger: Option<Arc<Tagger<K, V>>>,
    origin: Option<Arc<dyn Bound<K, V>>>,
    options: EntryOptions,
    at_once: Option<usize>,
    may_evict: bool,
    progress: WarmProgress,
}

impl<K, V> fmt::Debug for Warm<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warm")
            .field("namespace", &self.view.space.namespace)
            .field("at_once", &self.at_once)
            .field("may_evict", &self.may_evict)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl<K, V> Warm<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    pub(crate) fn new(
        view: View,
        tagger: Option<Arc<Tagger<K, V>>>,
        origin: Option<Arc<dyn Bound<K, V>>>,
    ) -> Self {
        let (options, progress) = (EntryOptions::new(), WarmProgress::default());
        Self { view, tagger, origin, options, at_once: None, may_evict: false, progress }
    }

    /// Loads at most so many keys at the same time, in one call of [`load_many`](crate::Origin::load_many) where the origin loads. Default: 256.
    /// Of what a query brings so many are stored at the same time. What an L2 is asked at the same time it has to answer within
    /// [`l2_wait_max`](crate::CacheBuilder::l2_wait_max): what comes later than that is in L1 alone, for 30 s, as after any load. Where loads are [bounded](crate::KeyspaceBuilder::loads_max), a
    /// call of the origin takes one place, and loaders of single keys at most half of all places: reads shall find one.
    pub fn at_once(self, count: usize) -> Self {
        Self { at_once: Some(count), ..self }
    }

    /// Options of the entries, as of a [`get_or_load_with`](crate::Keyspace::get_or_load_with).
    pub fn options(self, options: EntryOptions) -> Self {
        Self { options, ..self }
    }

    /// Lets what is warmed take others' places in L1.
    pub fn even_if_full(self) -> Self {
        Self { may_evict: true, ..self }
    }

    /// How far it has come, batch by batch; to be taken before it begins, and looked at while it runs.
    pub fn progress(&self) -> WarmProgress {
        self.progress.clone()
    }

    /// Loads these keys by the keyspace's origin, as far as no tier has them.
    ///
    /// # Errors
    /// [`ErrorKind::Options`] if the keyspace has no origin, or the settings cannot be; [`ErrorKind::Closed`] if the cache is shut
    /// down meanwhile. That keys fail is no error: see [`Warmed::failed`].
    ///
    /// # Cost
    /// For each batch ([`Warm::at_once`]) that L1 does not have one or two round trips, and one call of the origin; for each key
    /// that is loaded a lease and a fill, all at the same time.
    pub async fn keys(self, keys: impl IntoIterator<Item = K>) -> Result<Warmed, Error> {
        let Some(origin) = self.origin.clone() else {
            let allowed = "bind an origin, e.g. by `read_through`, or give a loader, by `keys_with`";
            return Err(ConfigError::new("warm", "without an origin", allowed).into());
        };
        let tagging = self.tagging();
        let load: LoadMany<K, V> = Arc::new(move |keys| origin.load_many(keys));
        let (view, at_once) = (&self.view, self.checked(LOADS_AT_ONCE)?);
        let loads = |keys| InOneCall { view, tagging: Arc::clone(&tagging), keys, load: Arc::clone(&load) };
        self.load_all(at_once, keys, loads).await
    }

    /// [`Warm::keys`] with a loader of its own, key by key: `None` if there is no such entry.
    ///
    /// # Errors
    /// As [`Warm::keys`].
    ///
    /// # Cost
    /// As [`Warm::keys`], with one call of the loader for each key.
    pub async fn keys_with<F, E>(
        self,
        keys: impl IntoIterator<Item = K>,
        loader: impl Fn(K) -> F + Send + Sync,
    ) -> Result<Warmed, Error>
    where
        F: Future<Output = Result<Option<V>, E>> + Send + 'static,
        E: fmt::Display + Send + Sync + 'static,
    {
        let (tagging, loader, at_once) = (self.tagging(), &loader, self.checked(LOADS_AT_ONCE)?);
        let counters = &self.view.space.counters;
        self.load_all(at_once.min(self.places()), keys, |keys| {
            let tagging = Arc::clone(&tagging);
            let loading = move |place: usize| -> Loading {
                let (key, tagging) = (keys[place].clone(), Arc::clone(&tagging));
                let loading = timed_one(counters, Call::Load, loader(key.clone()));
                Box::new(move |_| {
                    Box::pin(async move {
                        let loaded =
                            loading.await.map_err(|error| ErrorKind::Load(OriginFailure::new(error)))?;
                        tagging.entry(&key, loaded.into(), None)
                    })
                })
            };
            OneByOne { loading, bounded: Some(self.view.clone()) }
        })
        .await
    }

    /// Copies from L2 into L1 what has a key that the pattern names, until L1 has no room. Nothing is loaded.
    ///
    /// # Errors
    /// [`ErrorKind::Options`] if the keyspace does not use both tiers; [`ErrorKind::Remote`] if L2 cannot tell its names;
    /// [`ErrorKind::Closed`] if the cache is shut down meanwhile.
    ///
    /// # Cost
    /// One pass over the names of *all* keys of the server, and one round trip for each 256 keys that L1 does not have.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn warm(users: terrace::Keyspace<u64, String>) -> Result<(), Box<dyn std::error::Error>> {
    /// use terrace::Glob;
    /// let warmed = users.warm().matching(Glob::new("1*")?).await?;
    /// println!("{warmed}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn matching(self, pattern: Glob) -> Result<Warmed, Error> {
        let (Some(l2), Some(_)) = (self.view.l2(), self.view.l1()) else {
            let allowed = "the keyspace has to use L1 and L2 to copy from one to the other";
            return Err(ConfigError::new("warm", "by a pattern", allowed).into());
        };
        let rule = if pattern.is_all() { SweepRule::All } else { SweepRule::Matching(pattern) };
        let mut names = l2.names(&self.view.space, &rule).await?;
        while let Some(keys) = names.next().await {
            for batch in keys?.chunks(BATCH) {
                self.check_open()?;
                if !self.has_room(batch.len()) {
                    self.progress.count(Fate::NoRoom, batch.len());
                    return Ok(self.progress.now());
                }
                let batch = batch.iter().map(|key| (key.clone(), ())).collect();
                let gone = self.sift(batch, true).await.len();
                self.progress.count(Fate::Absent, gone);
            }
        }
        Ok(self.progress.now())
    }

    async fn load_all<L: Loads>(
        &self,
        at_once: usize,
        keys: impl IntoIterator<Item = K>,
        loads: impl Fn(Vec<K>) -> L,
    ) -> Result<Warmed, Error> {
        let mut keys = keys.into_iter();
        self.expect(keys.size_hint());
        loop {
            let batch: Vec<K> = keys.by_ref().take(at_once).collect();
            if batch.is_empty() {
                return Ok(self.progress.now());
            }
            self.check_open()?;
            let batch = self.named(batch.into_iter().map(|key| (key, ())));
            let has_room = self.has_room(batch.len());
            let missing = self.sift(batch, has_room).await;
            let (texts, keys): (Vec<Key>, Vec<K>) =
                missing.into_iter().map(|(text, (key, ()))| (text, key)).unzip();
            let loads = loads(keys);
            let none = self.bring(&texts, Wanted::Answer, self.terms(has_room), &loads).await;
            self.progress.count(Fate::Absent, none.len());
        }
    }

    /// Loads keys that no tier has. Gives the places of those that the load brought nothing for, which are still to be counted.
    async fn bring(&self, texts: &[Key], wanted: Wanted, terms: Terms, loads: &dyn Loads) -> Vec<usize> {
        let brought = self.view.find_or_load_many(texts, wanted, &terms, loads).await;
        let mut none = Vec::new();
        for (place, found) in brought.into_iter().enumerate() {
            match found {
                Ok(Some(found)) => self.progress.count(fate(&found), 1),
                Ok(None) => none.push(place),
                Err(error) => self.progress.fail(error),
            }
        }
        none
    }

    fn expect(&self, size_hint: (usize, Option<usize>)) {
        if size_hint.1 == Some(size_hint.0) {
            self.progress.expect(size_hint.0 as u64);
        }
    }

    fn tagging(&self) -> Arc<Tagging<K, V>> {
        Arc::new(Tagging { tagger: self.tagger.clone(), tags: self.options.tags.clone() })
    }

    /// Keys with their texts; those that cannot be keys have failed.
    fn named<T>(&self, batch: impl Iterator<Item = (K, T)>) -> Vec<(Key, (K, T))> {
        let named = batch.filter_map(|(key, rest)| match key.to_key() {
            Ok(text) => Some((text, (key, rest))),
            Err(error) => {
                self.progress.fail(error.into());
                None
            }
        });
        named.collect()
    }

    /// Sees to what the tiers have of a batch. Gives the rest.
    async fn sift<T>(&self, mut batch: Vec<(Key, T)>, has_room: bool) -> Vec<(Key, T)> {
        let before = batch.len();
        batch.retain(|(key, _)| !self.view.is_here(key));
        self.progress.count(Fate::There, before - batch.len());
        let Some(l2) = self.view.l2() else {
            if has_room {
                return batch;
            }
            self.progress.count(Fate::NoRoom, batch.len());
            return Vec::new();
        };
        if let Err(error) = l2.prepare(&self.view.space).await {
            for _ in &batch {
                self.progress.fail(error.clone().into());
            }
            return Vec::new();
        }
        let view = &self.view;
        let keys: Vec<Key> = batch.iter().map(|(key, _)| key.clone()).collect();
        let ticket = |key: &Key| view.shared.tickets.take(view.name_of(key.as_str()));
        let tickets: Vec<Ticket> = keys.iter().map(ticket).collect();
        let looks = view.look_in_l2_for_many(&keys).await;
        let looked = batch.into_iter().zip(tickets).zip(looks);
        let missing = looked.filter_map(|(((key, rest), ticket), look)| match look {
            Look::Hit(found) | Look::Kept(found) if !found.resident.is_absent() => {
                let is_copied = has_room && view.l1().is_some();
                if is_copied {
                    view.promote(ticket, &key, &found);
                }
                self.progress.count(if is_copied { Fate::Promoted } else { Fate::There }, 1);
                None
            }
            Look::Unknown | Look::Unproven => {
                let reason = "it could not be asked for a key that was to be warmed".to_owned();
                self.progress.fail(RemoteError::Unavailable { reason }.into());
                None
            }
            _ => Some((key, rest)),
        });
        missing.collect()
    }

    fn has_room(&self, count: usize) -> bool {
        self.may_evict || self.view.l1().is_none_or(|l1| l1.has_room(count))
    }

    /// The terms of what is loaded. It is waited for, however long it takes: nothing would bound how much is loaded in the background.
    fn terms(&self, has_room: bool) -> Terms {
        let terms = self.view.space.terms().with(&self.options);
        let terms = Terms { revalidate: Duration::ZERO, soft_timeout: None, hard_timeout: None, ..terms };
        if has_room { terms } else { Terms { l1_ttl: Ttl::After(Duration::ZERO), ..terms } }
    }

    /// How many keys are seen to at the same time, if the settings can be.
    fn checked(&self, default: usize) -> Result<usize, Error> {
        self.view.shared.check(&self.view.space.terms().with(&self.options))?;
        match self.at_once.unwrap_or(default) {
            0 => Err(ConfigError::new("at_once", 0, "at least one key, e.g. 64").into()),
            count => Ok(count),
        }
    }

    /// How many loaders of single keys may be at work: half of what is allowed, where that is bounded, so that reads find a place.
    fn places(&self) -> usize {
        self.view.space.rules().bulkheads.loads_max().map_or(usize::MAX, |places| places.div_ceil(2))
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.view.shared.runtime.is_closed() { Err(ErrorKind::Closed.into()) } else { Ok(()) }
    }
}

/// What became of a key of which this was found.
fn fate(found: &Found) -> Fate {
    match found {
        Found { stale: Some(StaleReason::LoadFailed), .. } => Fate::Failed,
        found if found.resident.is_absent() => Fate::Absent,
        Found { tier: Tier::Origin, .. } => Fate::Loaded,
        Found { tier: Tier::L2, .. } => Fate::Promoted,
        Found { tier: Tier::L1, .. } => Fate::There,
    }
}

impl View {
    /// Whether L1 has a fresh copy. Counts neither as a lookup nor as an access.
    fn is_here(&self, key: &Key) -> bool {
        let latest = self.latest();
        let Some((l1, _)) = self.l1_trusted() else { return false };
        let name = self.name_of(key.as_str());
        l1.peek_with(name, &self.space.bans, |copy| copy.is_answer(latest)).unwrap_or(false)
    }
}
