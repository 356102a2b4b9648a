//! How a keyspace answers a lookup: a hit in memory, or whatever takes longer.
//!
//! 1. A hit is decided before anything is made that can wait, and allocates nothing.
//! 2. What takes longer is boxed and out of line. So the way of a hit is short enough to become part of its caller, and its
//!    answer stays in registers: on its way there through memory it would wait for the value's reference count.

use super::{EntryOptions, Fetched, Keyspace, Tagging};
use crate::Tier;
use crate::entry::{Entry, Found, Resident};
use crate::erased::typed_clone;
use crate::error::{Error, ErrorKind, LoadError, OriginFailure};
use crate::origin::bound::Bound;
use crate::read::{Loading, Wanted};
use crate::stale::Here;
use crate::telemetry::{Call, Op, is_sampled, timed_one};
use std::any::Any;
use std::borrow::Borrow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use terrace_core::remote::BoxFuture;
use terrace_core::{CacheKey, Key};

/// A lookup under way: `hit` at the first poll, then what `beyond` begins.
pub(super) struct Lookup<H, B, F: ?Sized> {
    hit: H,
    beyond: Option<B>,
    waiting: Option<Pin<Box<F>>>,
}

impl<H, B, F> Lookup<H, B, F>
where
    H: FnMut() -> Option<F::Output>,
    B: FnOnce() -> Pin<Box<F>>,
    F: Future + ?Sized,
{
    #[inline]
    pub(super) fn new(hit: H, beyond: B) -> Self {
        Self { hit, beyond: Some(beyond), waiting: None }
    }
}

/// Nothing in it is pinned: it is moved freely, and what waits is behind a pointer.
impl<H, B, F: ?Sized> Unpin for Lookup<H, B, F> {}

impl<H, B, F> Future for Lookup<H, B, F>
where
    H: FnMut() -> Option<F::Output>,
    B: FnOnce() -> Pin<Box<F>>,
    F: Future + ?Sized,
{
    type Output = F::Output;

    #[expect(clippy::inline_always, reason = "a call would hand the answer back through memory")]
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let lookup = self.get_mut();
        if lookup.waiting.is_none() {
            if let Some(answer) = (lookup.hit)() {
                return Poll::Ready(answer);
            }
            lookup.waiting = lookup.beyond.take().map(|beyond| beyond());
        }
        let waiting = lookup.waiting.as_mut().expect("what takes longer has begun");
        poll_beyond(waiting.as_mut(), context)
    }
}

/// Takes what waits, not the lookup: that one's fields can stay in registers if nobody else knows where it is.
#[cold]
#[inline(never)]
fn poll_beyond<F: Future + ?Sized>(waiting: Pin<&mut F>, context: &mut Context<'_>) -> Poll<F::Output> {
    waiting.poll(context)
}

impl<K, V> Keyspace<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    /// A fresh value in L1, without its record. Counted if it is there, and timed if it is this call's turn.
    #[inline]
    pub(super) fn hit<Q: CacheKey + ?Sized>(&self, key: &Q) -> Option<Arc<V>> {
        if is_sampled() { self.hit_timed(key) } else { self.hit_untimed(key) }
    }

    #[cold]
    fn hit_timed<Q: CacheKey + ?Sized>(&self, key: &Q) -> Option<Arc<V>> {
        let counters = &self.view.space.counters;
        key.with_text(|text| self.view.space.hot.note(text));
        let timer = counters.timer_of_sample();
        let value = self.hit_untimed(key)?;
        counters.observe(Op::Get, Tier::L1, timer);
        Some(value)
    }

    /// A function of its own: inlined into the state machine of a future it is slower. All bookkeeping comes before the value's
    /// reference count is raised: what comes after waits for that, and the count is in another cache line than the entry.
    #[inline(never)]
    fn hit_untimed<Q: CacheKey + ?Sized>(&self, key: &Q) -> Option<Arc<V>> {
        let (l1, reading) = self.view.l1_trusted()?;
        let space = &self.view.space;
        key.with_name(|name| {
            l1.get_with(self.view.name(name), &space.bans, reading, |resident| {
                if space.lingers.load(Ordering::Acquire)
                    && reading.now(&self.view.shared.clock) >= resident.plain_until
                {
                    return None;
                }
                space.counters.hit(Tier::L1);
                Some(typed_clone(&resident.value))
            })
        })?
    }

    /// The entry of a key if this process' memory has it fresh and nothing is to be done about it: what [`Keyspace::get_entry`] would
    /// return without waiting. `None` says nothing of other tiers, and is counted nowhere; whoever wants more goes on with
    /// [`Keyspace::get_entry`].
    ///
    /// # Cost
    /// An L1 hit: no await, no lock that a writer holds for long, an allocation if the entry has tags. Without a hit, a look at L1.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let users = terrace::Cache::memory()?.keyspace::<u64, String>("users").build()?;
    /// assert!(users.hit_entry(&7).is_none());
    /// users.put(&7, "ann".into()).await?;
    /// assert_eq!(*users.hit_entry(&7).expect("it was put").value, "ann");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn hit_entry<Q>(&self, key: &Q) -> Option<Entry<V>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        // A lookup that finds nothing would count, for the eviction policy and the statistics of L1, beside the one that follows it.
        let (l1, _) = self.view.l1_trusted()?;
        let latest = self.view.latest();
        let is_value =
            |copy: &Resident| copy.is_answer(latest) && latest < copy.plain_until && !copy.is_absent();
        key.with_name(|name| l1.peek_with(self.view.name(name), &self.view.space.bans, is_value))
            .filter(|is_value| *is_value)?;
        let timer = self.view.space.counters.timer();
        let Here::Fresh(found) = key.with_text(|text| self.view.here(text)) else { return None };
        if found.resident.is_absent() {
            return None;
        }
        self.view.space.hot.sample(key);
        self.view.count_lookup(Ok(Some(&found)));
        self.view.space.counters.observe(Op::Get, Tier::L1, timer);
        found.into_entry(&self.view.shared.clock)
    }

    /// [`Keyspace::get`], when L1 does not have the value.
    #[cold]
    #[inline(never)]
    pub(super) fn find_beyond<'a, Q>(&'a self, key: &'a Q) -> BoxFuture<'a, Result<Option<Arc<V>>, Error>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
    {
        Box::pin(async move { Ok(self.find(key).await?.and_then(Found::into_value)) })
    }

    /// The entry of a key, from the nearest tier that has it, or from the bound origin.
    pub(super) async fn find<Q>(&self, key: &Q) -> Result<Option<Found>, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
    {
        let timer = self.view.space.counters.timer();
        let text = key.to_key()?;
        let found = match self.to_load() {
            None => self.view.read(&text).await?,
            Some(origin) => self.find_through(origin, &text, || key.to_owned()).await?,
        };
        let farthest = match &found {
            Some(found) => found.tier,
            None if self.can_load() => Tier::Origin,
            None => self.farthest(),
        };
        self.view.space.counters.observe(Op::Get, farthest, timer);
        Ok(found)
    }

    /// Reads a key through `origin`. `known` is what L2 said of it just now, if it was asked.
    pub(super) async fn find_through(
        &self,
        origin: &Arc<dyn Bound<K, V>>,
        text: &Key,
        owned: impl FnOnce() -> K,
    ) -> Result<Option<Found>, Error> {
        let load = || Self::fetching_from(self.tagging(Vec::new()), origin, owned());
        let terms = &self.view.space.terms();
        self.view.read_or_load(text, Wanted::Answer, terms, load).await
    }

    /// [`Keyspace::get_or_load_with`], when L1 does not have the value. See [`Keyspace::find_beyond`].
    #[cold]
    #[inline(never)]
    pub(super) fn load_beyond<Q, F, E>(
        &self,
        key: &Q,
        options: EntryOptions,
        loader: impl FnOnce() -> F,
    ) -> Pin<Box<impl Future<Output = Result<Arc<V>, LoadError<E>>>>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
        F: Future<Output = Result<V, E>> + Send + 'static,
        E: fmt::Display + Send + Sync + 'static,
    {
        Box::pin(self.load(key, options, loader))
    }

    async fn load<Q, F, E>(
        &self,
        key: &Q,
        options: EntryOptions,
        loader: impl FnOnce() -> F,
    ) -> Result<Arc<V>, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
        F: Future<Output = Result<V, E>> + Send + 'static,
        E: fmt::Display + Send + Sync + 'static,
    {
        let timer = self.view.space.counters.timer();
        let text = key.to_key().map_err(Error::from)?;
        let terms = self.view.space.terms().with(&options);
        self.view.shared.check(&terms).map_err(Error::from)?;
        let owned = key.to_owned();
        let load = || {
            let loading = timed_one(&self.view.space.counters, Call::Load, loader());
            Self::loading(self.tagging(options.tags), owned, async move {
                loading
                    .await
                    .map(Fetched::value)
                    .map_err(|error| ErrorKind::Load(OriginFailure::new(error)).into())
            })
        };
        let found = self.view.read_or_load(&text, Wanted::Value, &terms, load).await?;
        let farthest = found.as_ref().map_or(Tier::Origin, |found| found.tier);
        self.view.space.counters.observe(Op::Get, farthest, timer);
        found.and_then(Found::into_value).ok_or(LoadError::Cache(ErrorKind::Closed.into()))
    }

    /// A load with its value made typeless, and tagged.
    pub(super) fn loading(
        tagging: Tagging<K, V>,
        key: K,
        load: impl Future<Output = Result<Fetched<V>, Error>> + Send + 'static,
    ) -> Loading {
        Box::new(move |_| Box::pin(async move { tagging.entry(&key, load.await?, None) }))
    }
}
