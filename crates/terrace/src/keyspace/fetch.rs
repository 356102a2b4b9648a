//! Loads that say more than a value: how long it is to be kept, under which tags, that there is none, or that the old one
//! still holds.
//!
//! [`Tagging`] makes an entry of whatever a load brings, for every way to load.

use super::{Keyspace, Tagger};
use crate::entry::{Entry, Found, Resident};
use crate::erased::{Erased, typed_clone};
use crate::error::{Error, ErrorKind, LoadError, OriginFailure};
use crate::origin::bound::Bound;
use crate::read::{Loaded, Loading, Wanted};
use crate::telemetry::{Call, Op, timed_one};
use crate::terms::EntryOptions;
use crate::write::check_tags;
use crate::{Tier, Ttl};
use std::any::Any;
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use terrace_core::{CacheKey, Tag};

/// What a load brings.
///
/// # Examples
/// See [`Keyspace::fetch`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Fetched<V> {
    content: Content<V>,
    ttl: Option<Ttl>,
    tags: Vec<Tag>,
}

#[derive(Clone, Debug)]
enum Content<V> {
    Value(V),
    Absent,
    Same,
}

impl<V> Fetched<V> {
    /// A value.
    pub fn value(value: V) -> Self {
        Self::of(Content::Value(value))
    }

    /// The origin has no such entry. That is remembered for the `negative_ttl`.
    pub fn absent() -> Self {
        Self::of(Content::Absent)
    }

    /// The old value still holds ("not modified"): it is fresh again for a TTL, under its old tags.
    pub fn same() -> Self {
        Self::of(Content::Same)
    }

    /// The value, if it is one.
    #[must_use]
    pub fn into_value(self) -> Option<V> {
        match self.content {
            Content::Value(value) => Some(value),
            Content::Absent | Content::Same => None,
        }
    }

    /// The same with another form of its value: for an origin that is made of another one.
    pub fn map<W>(self, form: impl FnOnce(V) -> W) -> Fetched<W> {
        let Self { content, ttl, tags } = self;
        let content = match content {
            Content::Value(value) => Content::Value(form(value)),
            Content::Absent => Content::Absent,
            Content::Same => Content::Same,
        };
        Fetched { content, ttl, tags }
    }

    fn of(content: Content<V>) -> Self {
        Self { content, ttl: None, tags: Vec::new() }
    }

    /// How long the entry is fresh, in place of what keyspace and call say.
    pub fn ttl(mut self, ttl: impl Into<Ttl>) -> Self {
        self.ttl = Some(ttl.into());
        self
    }

    /// Tags of a new value, besides those of keyspace and call.
    pub fn tags(mut self, tags: impl IntoIterator<Item = Tag>) -> Self {
        self.tags.extend(tags);
        self
    }
}

impl<V> From<Option<V>> for Fetched<V> {
    fn from(value: Option<V>) -> Self {
        value.map_or_else(Self::absent, Self::value)
    }
}

/// An old entry, for as long as its load runs.
pub(crate) struct Old {
    value: Erased,
    tags: Vec<Tag>,
}

impl Old {
    /// The old entry, and its value; of one that says that there is no value nothing is old.
    fn of<V: Any + Send + Sync>(resident: Option<&Resident>) -> Option<(Self, Arc<V>)> {
        let resident = resident.filter(|resident| !resident.is_absent())?;
        let old = Self { value: resident.value.clone(), tags: resident.tags().to_vec() };
        let value = typed_clone(&old.value);
        Some((old, value))
    }
}

/// What makes an entry of what a load brings.
pub(crate) struct Tagging<K, V> {
    pub(crate) tagger: Option<Arc<Tagger<K, V>>>,
    /// Of all entries, besides those that the load says and those of the keyspace's tagger.
    pub(crate) tags: Vec<Tag>,
}

impl<K, V: Any + Send + Sync> Tagging<K, V> {
    /// What is to be kept; `None` if the origin has no such entry.
    pub(crate) fn entry(
        &self,
        key: &K,
        fetched: Fetched<V>,
        old: Option<Old>,
    ) -> Result<Option<Loaded>, Error> {
        let Fetched { content, ttl, tags } = fetched;
        match (content, old) {
            (Content::Absent, _) => Ok(None),
            (Content::Value(value), _) => self.tagged(key, Arc::new(value), tags, ttl).map(Some),
            (Content::Same, Some(old)) => Ok(Some(Loaded { value: old.value, tags: old.tags, ttl })),
            (Content::Same, None) => {
                let reason = "the loader says that the old value still holds, and there is none";
                Err(ErrorKind::Load(OriginFailure::new(reason)).into())
            }
        }
    }

    /// The same of a value of which no more is said.
    pub(crate) fn value(&self, key: &K, value: Arc<V>) -> Result<Loaded, Error> {
        self.tagged(key, value, Vec::new(), None)
    }

    fn tagged(&self, key: &K, value: Arc<V>, mut tags: Vec<Tag>, ttl: Option<Ttl>) -> Result<Loaded, Error> {
        tags.extend_from_slice(&self.tags);
        tags.extend(self.tagger.iter().flat_map(|tagger| tagger(key, &value)));
        Ok(Loaded { value, tags: check_tags(tags)?, ttl })
    }
}

impl<K, V> Keyspace<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    /// As [`Keyspace::get_or_load_with`], with a loader that is given the old value, if there is one, and that can say more than a
    /// value ([`Fetched`]). `None` if the origin has no such entry.
    ///
    /// # Errors
    /// As [`Keyspace::get_or_load`]; [`LoadError::Foreign`] if the loader says that the old value still holds, and there is none.
    ///
    /// # Cost
    /// As [`Keyspace::get_or_load`]. An old value that still holds is written to L2 once more.
    ///
    /// # Cancel safety
    /// Safe. A load that began goes on.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use terrace::{Cache, EntryOptions, Fetched};
    /// let pages = Cache::memory()?.keyspace::<String, String>("pages").build()?;
    /// let options = EntryOptions::new().negative_ttl(Duration::from_secs(10));
    /// let entry = pages.fetch("/", options, |_old| async {
    ///     // Here: ask the server, with the old value's ETag.
    ///     Ok::<_, std::io::Error>(Fetched::value("welcome".to_owned()).ttl(Duration::from_secs(90)))
    /// });
    /// assert_eq!(*entry.await?.expect("it is there").value, "welcome");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn fetch<Q, F, E>(
        &self,
        key: &Q,
        options: EntryOptions,
        loader: impl FnOnce(Option<Arc<V>>) -> F + Send + 'static,
    ) -> Result<Option<Entry<V>>, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
        F: Future<Output = Result<Fetched<V>, E>> + Send + 'static,
        E: fmt::Display + Send + Sync + 'static,
    {
        let timer = self.view.space.counters.timer();
        self.view.space.hot.sample(key);
        let text = key.to_key().map_err(Error::from)?;
        let terms = self.view.space.terms().with(&options);
        self.view.shared.check(&terms).map_err(Error::from)?;
        let load = || self.fetching(key.to_owned(), options.tags, loader);
        let found = self.view.read_or_load(&text, Wanted::Answer, &terms, load).await?;
        let farthest = found.as_ref().map_or(Tier::Origin, |found| found.tier);
        self.view.space.counters.observe(Op::Get, farthest, timer);
        Ok(found.and_then(|found: Found| found.into_entry(&self.view.shared.clock)))
    }

    /// A load by an origin, with its value made typeless, and tagged.
    pub(super) fn fetching_from(tagging: Tagging<K, V>, origin: &Arc<dyn Bound<K, V>>, key: K) -> Loading {
        let origin = Arc::clone(origin);
        Box::new(move |old: Option<&Resident>| {
            let (old, value) = Old::of(old).unzip();
            let running = origin.load(key.clone(), value);
            Box::pin(async move { tagging.entry(&key, running.await?, old) })
        })
    }

    /// What makes entries of what is loaded, with these tags besides.
    pub(super) fn tagging(&self, tags: Vec<Tag>) -> Tagging<K, V> {
        Tagging { tagger: self.tagger.clone(), tags }
    }

    fn fetching<F, E>(
        &self,
        key: K,
        tags: Vec<Tag>,
        loader: impl FnOnce(Option<Arc<V>>) -> F + Send + 'static,
    ) -> Loading
    where
        F: Future<Output = Result<Fetched<V>, E>> + Send + 'static,
        E: fmt::Display + Send + Sync + 'static,
    {
        let (tagging, counters) = (self.tagging(tags), Arc::clone(&self.view.space.counters));
        Box::new(move |old: Option<&Resident>| {
            let (old, value) = Old::of(old).unzip();
            let running = loader(value);
            let running = timed_one(&counters, Call::Load, running);
            Box::pin(async move {
                let failed = |error| Error::from(ErrorKind::Load(OriginFailure::new(error)));
                tagging.entry(&key, running.await.map_err(failed)?, old)
            })
        })
    }
}
