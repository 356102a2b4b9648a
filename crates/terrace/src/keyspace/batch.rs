//! Many keys in one call.
//!
//! A batch is as many single operations, made in one round trip where there is L2. It is not atomic: another caller
//! may see some of it done and some not.

use super::{EntryOptions, Fetched, Keyspace, Tagger, Tagging};
use crate::Tier;
use crate::coherence::tickets::Ticket;
use crate::entry::{Entry, Found};
use crate::error::{Error, ErrorKind, LoadError, OriginFailure};
use crate::read::together::{LoadMany, loading_of, seats};
use crate::read::{Loading, Loads, Look, Sent, Wanted};
use crate::space::View;
use crate::telemetry::{Call, Event, Op, timed_many};
use crate::terms::Terms;
use crate::write::{Removed, Writing, Written};
use futures_util::future::join;
use futures_util::{StreamExt, stream};
use std::any::Any;
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use terrace_core::envelope::{Envelope, TagStamp};
use terrace_core::remote::Stored;
use terrace_core::{CacheKey, Key, Tag};

/// Keys that are read at the same time: what a batch keeps in memory besides its answers is bounded by it.
const AT_ONCE_MAX: usize = 4096;
/// Keys of a batch that are loaded at the same time by an origin that does not load them in one call.
const LOADS_AT_ONCE: usize = 256;

/// How the keys of a batch are loaded.
struct BatchLoads<'a, K, V> {
    view: &'a View,
    tagger: Option<&'a Arc<Tagger<K, V>>>,
    keys: Vec<K>,
    load: LoadMany<K, V>,
    is_one_call: bool,
    /// Those of the call's options.
    tags: &'a [Tag],
}

impl<K, V> Keyspace<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    /// [`Keyspace::get`] for many keys, in their order.
    ///
    /// # Errors
    /// As [`Keyspace::get`]; one key that fails fails the call, after all keys were tried.
    ///
    /// # Cost
    /// One round trip for all that L1 does not have, two if one of them has tags; one more beside it for copies that
    /// cannot be proven fresh, without their values. With an origin, the rest is loaded
    /// by one call to [`Origin::load_many`](crate::Origin::load_many), but for what somebody else is loading already. More than 4,096 keys are
    /// read in several goes.
    pub async fn get_many<Q>(&self, keys: &[Q]) -> Result<Vec<Option<Arc<V>>>, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync,
    {
        let found = self.find_many(keys).await?;
        Ok(found.into_iter().map(|found| found.and_then(Found::into_value)).collect())
    }

    /// [`Keyspace::get_entry`] for many keys, in their order.
    ///
    /// # Errors
    /// As [`Keyspace::get_many`].
    pub async fn get_entries<Q>(&self, keys: &[Q]) -> Result<Vec<Option<Entry<V>>>, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync,
    {
        let clock = &self.view.shared.clock;
        let found = self.find_many(keys).await?;
        Ok(found.into_iter().map(|found| found.and_then(|found| found.into_entry(clock))).collect())
    }

    /// [`Keyspace::get_entries`], where each key succeeds or fails by itself.
    ///
    /// # Errors
    /// Each key's own, as for [`Keyspace::get_entry`].
    ///
    /// # Cost
    /// As [`Keyspace::get_many`].
    ///
    /// # Cancel safety
    /// Safe. A load that began goes on.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use terrace::{Cache, OriginFn};
    /// let halves = OriginFn::load(async |n: u64| if n % 2 == 0 { Ok(Some(n / 2)) } else { Err("it is odd") });
    /// let halves = Cache::memory()?.keyspace::<u64, u64>("halves").read_through(halves).build()?;
    /// let found = halves.get_each_entry(&[4, 5]).await;
    /// assert_eq!(found[0].as_ref().unwrap().as_ref().map(|entry| *entry.value), Some(2));
    /// assert!(found[1].is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn get_each_entry<Q>(&self, keys: &[Q]) -> Vec<Result<Option<Entry<V>>, Error>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync,
    {
        let clock = &self.view.shared.clock;
        let named: Vec<Result<Key, Error>> =
            keys.iter().map(|key| key.to_key().map_err(Error::from)).collect();
        let (texts, owned) = named_of(&named, keys);
        let mut found = self.find_each(&texts, owned).await.into_iter();
        let mut next = || found.next().unwrap_or_else(|| Err(ErrorKind::Closed.into()));
        let answer = |text: Result<Key, Error>| match text {
            Ok(_) => next().map(|found| found.and_then(|found| found.into_entry(clock))),
            Err(error) => Err(error),
        };
        named.into_iter().map(answer).collect()
    }

    /// [`Keyspace::put`] for many entries. All are checked before the first is stored.
    ///
    /// # Errors
    /// As [`Keyspace::put`]; when L2 refuses one of them, the call fails, and this node keeps no copy of any.
    ///
    /// # Cost
    /// One round trip, two with tags.
    ///
    /// # Cancel safety
    /// The writes go on when the caller goes away.
    pub async fn put_many(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<Vec<Written>, Error> {
        let entries: Vec<(K, Writing)> = entries
            .into_iter()
            .map(|(key, value)| {
                self.writing(&key, value, EntryOptions::default()).map(|writing| (key, writing))
            })
            .collect::<Result<_, _>>()?;
        let counters = &self.view.space.counters;
        let (timer, count) = (counters.timer(), entries.len() as u64);
        let stored = self.store(entries).await;
        counters.observe(Op::Put, self.farthest_written(), timer);
        match stored {
            Ok(stored) => {
                let counted: Vec<_> = stored.into_iter().map(|written| self.counted_put(written)).collect();
                counted.into_iter().collect()
            }
            Err(error) => {
                counters.add(Event::PutFailed, count);
                Err(error)
            }
        }
    }

    /// [`Keyspace::remove`] for many keys, in their order.
    ///
    /// # Errors
    /// As [`Keyspace::remove`].
    ///
    /// # Cost
    /// One round trip.
    pub async fn remove_many<Q>(&self, keys: &[Q]) -> Result<Vec<Removed>, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync,
    {
        self.remove_keys(texts(keys)?, || keys.iter().map(ToOwned::to_owned).collect()).await
    }

    async fn find_many<Q>(&self, keys: &[Q]) -> Result<Vec<Option<Found>>, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync,
    {
        let texts = texts(keys)?;
        let owned = keys.iter().map(ToOwned::to_owned).collect();
        self.find_each(&texts, owned).await.into_iter().collect()
    }

    async fn find_each(&self, texts: &[Key], keys: Vec<K>) -> Vec<Result<Option<Found>, Error>> {
        let counters = &self.view.space.counters;
        let timer = counters.timer();
        let (found, farthest) = match self.to_load() {
            None => (self.look_many(texts).await, self.farthest()),
            Some(origin) => {
                let (origin, is_one_call) = (Arc::clone(origin), origin.loads_together());
                let load: LoadMany<K, V> = Arc::new(move |keys| origin.load_many(keys));
                let terms = &self.view.space.terms();
                (self.find_or_load_many(texts, keys, (load, is_one_call), &[], terms).await, Tier::Origin)
            }
        };
        counters.observe(Op::Get, farthest, timer);
        found
    }

    fn sample_many(&self, texts: &[Key]) {
        for text in texts {
            self.view.space.hot.sample(text);
        }
    }

    /// What the tiers have of many keys.
    async fn look_many(&self, texts: &[Key]) -> Vec<Result<Option<Found>, Error>> {
        self.sample_many(texts);
        let mut lookups = self.view.lookups(texts.len());
        let mut all = Vec::with_capacity(texts.len());
        for texts in texts.chunks(AT_ONCE_MAX) {
            for (text, look) in texts.iter().zip(self.view.look_for_many(texts).await) {
                let found = match look {
                    Look::Hit(found) | Look::Kept(found) => Ok(Some(found)),
                    Look::Unproven => Err(Error::from(ErrorKind::Unproven)),
                    Look::Miss { .. } => Ok(self.view.find_behind(text)),
                    Look::Unknown => match self.view.find_behind(text) {
                        Some(found) => Ok(Some(found)),
                        None => self.view.unknown(text),
                    },
                };
                lookups.end(&found);
                all.push(found);
            }
        }
        all
    }

    async fn find_or_load_many(
        &self,
        texts: &[Key],
        mut keys: Vec<K>,
        (load, is_one_call): (LoadMany<K, V>, bool),
        tags: &[Tag],
        terms: &Terms,
    ) -> Vec<Result<Option<Found>, Error>> {
        self.sample_many(texts);
        let mut lookups = self.view.lookups(texts.len());
        let mut all = Vec::with_capacity(texts.len());
        for texts in texts.chunks(AT_ONCE_MAX) {
            let rest = keys.split_off(texts.len());
            let loads = BatchLoads {
                view: &self.view,
                tagger: self.tagger.as_ref(),
                keys: std::mem::replace(&mut keys, rest),
                load: Arc::clone(&load),
                is_one_call,
                tags,
            };
            let found = self.view.find_or_load_many(texts, Wanted::Answer, terms, &loads).await;
            all.extend(found.into_iter().inspect(|found| lookups.end(found)));
        }
        all
    }

    /// The values of many keys, in their order; those that no tier has are brought by one call of the loader.
    ///
    /// The loader gets the keys that are to be loaded, and gives an answer for each, in their order; `None` where there is
    /// no value. Each key succeeds or fails by itself. What somebody else is loading already, by a batch or by itself, is
    /// waited for. Of keys for which another node holds the lease the loader may be called once more.
    ///
    /// # Errors
    /// Each key's own, as for [`Keyspace::get_or_load`]. If the loader gives another number of answers than it was asked for,
    /// [`ErrorKind::LoadMiscounted`](crate::ErrorKind::LoadMiscounted) for all of that call.
    ///
    /// # Cost
    /// As [`Keyspace::get_many`]; with L2 a lease and a fill for each loaded key, all at the same time.
    ///
    /// # Cancel safety
    /// Safe. A load that began goes on.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let squares = terrace::Cache::memory()?.keyspace::<u64, u64>("squares").build()?;
    /// let load = |keys: Vec<u64>| async move {
    ///     // Here: SELECT … WHERE id = ANY($1)
    ///     keys.into_iter().map(|key| key.checked_mul(key).map(Some).ok_or("too large")).collect()
    /// };
    /// let found = squares.get_or_load_many(&[2, 3, u64::MAX], load).await;
    /// assert_eq!(found[1].as_ref().unwrap().as_deref(), Some(&9));
    /// assert!(found[2].is_err());
    /// assert_eq!(squares.get(&2).await?.as_deref(), Some(&4));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn get_or_load_many<Q, F, E>(
        &self,
        keys: &[Q],
        loader: impl Fn(Vec<K>) -> F + Send + Sync + 'static,
    ) -> Vec<Result<Option<Arc<V>>, LoadError<E>>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync,
        F: Future<Output = Vec<Result<Option<V>, E>>> + Send + 'static,
        E: fmt::Display + Send + Sync + 'static,
    {
        self.get_or_load_many_with(keys, EntryOptions::default(), loader).await
    }

    /// As [`Keyspace::get_or_load_many`], with options for the loaded entries.
    ///
    /// # Errors
    /// As [`Keyspace::get_or_load_many`]; of options that contradict each other, each key's.
    pub async fn get_or_load_many_with<Q, F, E>(
        &self,
        keys: &[Q],
        options: EntryOptions,
        loader: impl Fn(Vec<K>) -> F + Send + Sync + 'static,
    ) -> Vec<Result<Option<Arc<V>>, LoadError<E>>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync,
        F: Future<Output = Vec<Result<Option<V>, E>>> + Send + 'static,
        E: fmt::Display + Send + Sync + 'static,
    {
        let terms = self.view.space.terms().with(&options);
        if let Err(error) = self.view.shared.check(&terms) {
            return keys.iter().map(|_| Err(Error::from(error.clone()).into())).collect();
        }
        let (loader, counters) = (Arc::new(loader), Arc::clone(&self.view.space.counters));
        let load: LoadMany<K, V> = Arc::new(move |keys| {
            let (loader, counters) = (Arc::clone(&loader), Arc::clone(&counters));
            Box::pin(async move {
                let loaded =
                    timed_many(&counters, Call::LoadMany, async { loader(keys).await }).await.into_iter();
                let failed = |error| Error::from(ErrorKind::Load(OriginFailure::new(error)));
                loaded.map(|answer| answer.map(Fetched::from).map_err(failed)).collect()
            })
        });
        let timer = self.view.space.counters.timer();
        let named: Vec<Result<Key, Error>> =
            keys.iter().map(|key| key.to_key().map_err(Error::from)).collect();
        let (texts, owned) = named_of(&named, keys);
        let found = self.find_or_load_many(&texts, owned, (load, true), &options.tags, &terms).await;
        self.view.space.counters.observe(Op::Get, Tier::Origin, timer);
        let mut found = found.into_iter();
        let mut next = || found.next().unwrap_or_else(|| Err(ErrorKind::Closed.into()));
        let results = named.into_iter().map(|text| match text {
            Ok(_) => next().map(|found| found.and_then(Found::into_value)).map_err(LoadError::from),
            Err(error) => Err(error.into()),
        });
        results.collect()
    }
}

impl<K, V> Loads for BatchLoads<'_, K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    fn together(&self, places: &[usize]) -> Vec<Loading> {
        self.loadings(places, true)
    }

    fn alone(&self, place: usize) -> Loading {
        let alone = self.loadings(&[place], false).pop();
        alone.unwrap_or_else(|| Box::new(|_| Box::pin(async { Err(ErrorKind::Closed.into()) })))
    }
}

impl<K, V> BatchLoads<'_, K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    fn loadings(&self, places: &[usize], takes_place: bool) -> Vec<Loading> {
        let keys: Vec<K> = places.iter().map(|&at| self.keys[at].clone()).collect();
        let one_by_one = (takes_place && !self.is_one_call).then(|| one_by_one(self.view, &self.load));
        let takes_place = takes_place && self.is_one_call;
        let seats = seats(self.view, one_by_one.as_ref().unwrap_or(&self.load), keys.clone(), takes_place);
        let loading = |(seat, key): (_, K)| {
            let tagging = Tagging { tagger: self.tagger.cloned(), tags: self.tags.to_vec() };
            loading_of(seat, move |fetched| tagging.entry(&key, fetched, None))
        };
        seats.into_iter().zip(keys).map(loading).collect()
    }
}

/// Loads each key by a call of its own, in a place of its own.
fn one_by_one<K, V>(view: &View, load: &LoadMany<K, V>) -> LoadMany<K, V>
where
    K: Send + 'static,
    V: Send + 'static,
{
    let (view, load) = (view.clone(), Arc::clone(load));
    // More would only wait for each other, and some for too long.
    let at_once =
        view.space.rules().bulkheads.loads_max().map_or(LOADS_AT_ONCE, |most| most.clamp(1, LOADS_AT_ONCE));
    Arc::new(move |keys| {
        let (view, load) = (view.clone(), Arc::clone(&load));
        let load_one = move |key: K| {
            let (view, load) = (view.clone(), Arc::clone(&load));
            async move {
                let _place = view.place_for_batch().await?;
                load(vec![key]).await.pop().unwrap_or_else(|| Err(ErrorKind::Closed.into()))
            }
        };
        Box::pin(stream::iter(keys).map(load_one).buffered(at_once).collect())
    })
}

/// The keys that can be, as texts and as they are.
fn named_of<K, Q: ToOwned<Owned = K>>(named: &[Result<Key, Error>], keys: &[Q]) -> (Vec<Key>, Vec<K>) {
    let can_be = named.iter().zip(keys);
    can_be.filter_map(|(text, key)| Some((text.as_ref().ok()?.clone(), key.to_owned()))).unzip()
}

fn texts<Q: CacheKey>(keys: &[Q]) -> Result<Vec<Key>, Error> {
    keys.iter().map(|key| key.to_key().map_err(Error::from)).collect()
}

impl View {
    /// [`View::look`] for many keys: what L1 has, and what L2 says of the rest, in one round trip.
    pub(crate) async fn look_for_many(&self, keys: &[Key]) -> Vec<Look> {
        let mut looks: Vec<Look> =
            keys.iter().map(|key| self.look_here(key).map_or(Look::Unknown, Look::Hit)).collect();
        let budget = self.budget();
        let can_ask = budget.spend(self.can_ask_l2()).await;
        let missing = (0..keys.len()).filter(|&at| !matches!(looks[at], Look::Hit(_)));
        let (suspect, absent): (Vec<usize>, Vec<usize>) =
            missing.partition(|&at| self.suspect_copy(&keys[at]).is_some());
        let tickets: Vec<Ticket> =
            absent.iter().map(|&at| self.shared.tickets.take(self.name_of(keys[at].as_str()))).collect();
        let named = |which: &[usize]| which.iter().map(|&at| keys[at].clone()).collect::<Vec<Key>>();
        let (suspects, absents) = (named(&suspect), named(&absent));
        let (proven, read) = if can_ask {
            let asking = join(self.validate_many(&suspects), self.look_in_l2_for_many(&absents));
            budget.spend(asking).await
        } else {
            (vec![Look::Unknown; suspect.len()], vec![Look::Unknown; absent.len()])
        };
        for ((&at, ticket), look) in absent.iter().zip(tickets).zip(read) {
            if let Look::Hit(found) = &look {
                self.promote(ticket, &keys[at], found);
            }
            looks[at] = look;
        }
        for (&at, look) in suspect.iter().zip(proven) {
            looks[at] = look;
        }
        for at in suspect.into_iter().chain(absent) {
            if matches!(looks[at], Look::Unknown) {
                looks[at] = self.without_l2(&keys[at]);
            }
        }
        looks
    }

    /// [`View::look_in_l2`] for many keys.
    pub(crate) async fn look_in_l2_for_many(&self, keys: &[Key]) -> Vec<Look> {
        let unknown = || keys.iter().map(|_| Look::Unknown).collect();
        let Some(l2) = self.l2().filter(|_| !keys.is_empty()) else { return unknown() };
        let trusted: Vec<bool> = keys.iter().map(|key| !self.distrusts(key)).collect();
        let sent: Vec<Sent> = keys.iter().map(|key| self.sending(key)).collect();
        let namespace = &self.space.namespace;
        let read =
            l2.ask_each(&self.space, "get many", keys.len(), |remote| remote.get_many(namespace, keys)).await;
        let Ok(stored) = read else { return unknown() };
        let opened = keys.iter().zip(&stored).map(|(key, stored)| Some(self.open(key, stored.as_ref()?)));
        let opened: Vec<Option<Option<Envelope>>> = opened.collect();
        let stamps: Vec<TagStamp> = opened
            .iter()
            .flatten()
            .flatten()
            .filter(|envelope| !self.distrusts_tags(&envelope.tags))
            .flat_map(|envelope| envelope.tags.iter().cloned())
            .collect();
        let alive = self.alive(&stamps).await;
        let judged = stored.iter().zip(&opened).zip(trusted.into_iter().zip(sent));
        judged
            .zip(keys)
            .map(|(((stored, envelope), (is_trusted, sent)), key)| match (stored, envelope) {
                _ if !is_trusted => Look::Unknown,
                (Some(stored), Some(envelope)) => {
                    self.judge(key, envelope.as_ref(), stored, alive.as_deref(), sent)
                }
                _ => Look::Miss { dead: None, old: None },
            })
            .collect()
    }

    /// [`View::examine`] of what was opened, given the stamps of all tags that are alive; `None` if that cannot be
    /// known.
    fn judge(
        &self,
        key: &Key,
        envelope: Option<&Envelope>,
        stored: &Stored,
        alive: Option<&[TagStamp]>,
        sent: Sent,
    ) -> Look {
        let dead = Look::Miss { dead: Some(stored.claimed_version()), old: None };
        let Some(envelope) = envelope else { return dead };
        match alive {
            _ if envelope.tags.is_empty() => {}
            None => return Look::Unknown,
            Some(alive) if !envelope.tags.iter().all(|stamp| alive.contains(stamp)) => return dead,
            Some(_) => {}
        }
        self.decoded(key, envelope, stored, sent).unwrap_or(dead)
    }
}
