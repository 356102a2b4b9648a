//! What does a query of the program bring?

use super::guard::{Reason, Withdrawn};
use super::loads::OneByOne;
use super::progress::Fate;
use super::{Warm, Warmed};
use crate::coherence::tickets::{Mark, Ticket};
use crate::error::{ConfigError, Error, ErrorKind, LoadError, OriginFailure};
use crate::read::{Loading, Wanted};
use futures_util::{Stream, StreamExt};
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use terrace_core::{CacheKey, Key};

/// Entries that are stored at the same time, unless told otherwise: each waits for a beat, and those of a batch for the same one.
const ENTRIES_AT_ONCE: usize = 256;

impl<K, V> Warm<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    /// Keeps what a query brings, as if each entry had been loaded: not over what a tier has, and not if its key was changed
    /// since the query began, on whichever node.
    ///
    /// The query has to begin when it is called. What was read before that may be older than an invalidation that nobody
    /// remembers here.
    ///
    /// # Races
    /// With writes behind of *other* nodes: that their origin has them is told to nobody where L2 still has the value, so where its tags or its
    /// time are over a row that was read before may be kept. Flush those first (`Lane::flush`).
    ///
    /// # Errors
    /// [`LoadError::Loader`] with the query's own error. Else as [`Warm::keys`]; [`ErrorKind::Options`] also if L2 does not tell of other nodes'
    /// changes, and [`ErrorKind::Unproven`] if this node does not hear of them now.
    ///
    /// # Cost
    /// For each batch of at most 256 entries ([`Warm::at_once`]) one look in L2, a lease and a fill for each entry that it does not have,
    /// and the wait for the next beat, which takes a quarter of [`staleness_max`](crate::CacheBuilder::staleness_max). Who reads such a
    /// key meanwhile waits as long. Which keys were changed is known to one of 4,096 groups, and a second after a change of a tag,
    /// a pattern or everything not even that: then a long query loses entries ([`Warmed::overtaken`]), and [pages](Warm::pages) lose fewer.
    /// If such a change is just past, the query begins up to 2 s later.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let users = terrace::Cache::memory()?.keyspace::<u64, String>("users").build()?;
    /// let warmed = users.warm().rows(async || {
    ///     // Here: SELECT id, name FROM users ORDER BY last_seen DESC LIMIT 1000
    ///     Ok::<_, std::io::Error>(vec![(1, "ann".to_owned()), (2, "ben".to_owned())])
    /// }).await?;
    /// assert_eq!((warmed.loaded, warmed.total), (2, Some(2)));
    /// assert_eq!(users.peek(&2).as_deref().map(String::as_str), Some("ben"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn rows<F, I, E>(self, query: impl FnOnce() -> F) -> Result<Warmed, LoadError<E>>
    where
        F: Future<Output = Result<I, E>>,
        I: IntoIterator<Item = (K, V)>,
        E: fmt::Display + Send + Sync + 'static,
    {
        self.prepare().await?;
        let (at_once, mark) = self.begin().await?;
        let rows = query().await.map_err(not_read)?.into_iter();
        self.expect(rows.size_hint());
        self.keep_all(&mark, rows, at_once).await?;
        Ok(self.progress.now())
    }

    /// [`Warm::rows`], page by page: `query` is given the last key of the page before, and brings the entries after it, until it brings
    /// none. Each page is read when its turn has come, so that little is in memory, and few entries are overtaken.
    ///
    /// # Errors
    /// As [`Warm::rows`].
    ///
    /// # Cost
    /// As [`Warm::rows`], for each page.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let squares = terrace::Cache::memory()?.keyspace::<u64, u64>("squares").build()?;
    /// let warmed = squares.warm().pages(async |after: Option<u64>| {
    ///     // Here: SELECT id, value FROM squares WHERE id > $1 ORDER BY id LIMIT 10
    ///     let next = after.map_or(1, |after| after + 1);
    ///     Ok::<_, std::io::Error>((next..=30.min(next + 9)).map(|n| (n, n * n)).collect::<Vec<_>>())
    /// }).await?;
    /// assert_eq!(warmed.loaded, 30);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn pages<F, E>(self, mut query: impl FnMut(Option<K>) -> F) -> Result<Warmed, LoadError<E>>
    where
        F: Future<Output = Result<Vec<(K, V)>, E>>,
        E: fmt::Display + Send + Sync + 'static,
    {
        let mut last = None;
        self.prepare().await?;
        loop {
            let (at_once, mark) = self.begin().await?;
            let page = query(last).await.map_err(not_read)?;
            last = page.last().map(|(key, _)| key.clone());
            if last.is_none() {
                return Ok(self.progress.now());
            }
            self.keep_all(&mark, page.into_iter(), at_once).await?;
        }
    }

    /// [`Warm::rows`] for a query whose entries come one by one. An entry that could not be read is counted as failed.
    ///
    /// # Errors
    /// As [`Warm::rows`].
    ///
    /// # Cost
    /// As [`Warm::rows`].
    pub async fn stream<S, E>(self, query: impl FnOnce() -> S) -> Result<Warmed, Error>
    where
        S: Stream<Item = Result<(K, V), E>>,
        E: fmt::Display + Send + Sync + 'static,
    {
        self.prepare().await?;
        let (at_once, mark) = self.begin().await?;
        let mut batches = std::pin::pin!(query().chunks(at_once));
        while let Some(batch) = batches.next().await {
            let entries = batch.into_iter().filter_map(|entry| {
                let failed = |error| self.progress.fail(ErrorKind::Load(OriginFailure::new(error)).into());
                entry.map_err(failed).ok()
            });
            let entries: Vec<(K, V)> = entries.collect();
            Box::pin(self.keep(&mark, entries)).await?;
        }
        Ok(self.progress.now())
    }

    /// Sees to it that a query that begins soon loses little.
    async fn prepare(&self) -> Result<(), Error> {
        self.begin().await?;
        self.view.wait_for_bans().await;
        Ok(())
    }

    /// How many entries are stored at the same time, and what nothing that is read from now on is older than.
    async fn begin(&self) -> Result<(usize, Mark), Error> {
        let at_once = self.checked(ENTRIES_AT_ONCE)?;
        if self.view.l2().is_some_and(|l2| !l2.tells_changes()) {
            let allowed = "L2 has to tell of other nodes' changes; where it does not, warm by keys";
            return Err(ConfigError::new("warm", "by a query", allowed).into());
        }
        self.check_open()?;
        self.view.begin_hearing().await?;
        Ok((at_once, self.view.shared.tickets.mark()))
    }

    async fn keep_all(
        &self,
        mark: &Mark,
        mut entries: impl Iterator<Item = (K, V)>,
        at_once: usize,
    ) -> Result<(), Error> {
        loop {
            let batch: Vec<(K, V)> = entries.by_ref().take(at_once).collect();
            if batch.is_empty() {
                return Ok(());
            }
            Box::pin(self.keep(mark, batch)).await?;
        }
    }

    async fn keep(&self, mark: &Mark, entries: Vec<(K, V)>) -> Result<(), Error> {
        self.check_open()?;
        let batch = self.named(entries.into_iter());
        let has_room = self.has_room(batch.len());
        let missing = self.sift(batch, has_room).await;
        let (texts, rows): (Vec<Key>, Vec<(K, Arc<V>)>) =
            missing.into_iter().map(|(text, (key, value))| (text, (key, Arc::new(value)))).unzip();
        let tickets: Vec<Ticket> = texts.iter().map(|text| self.view.ticket_at(mark, text)).collect();
        let reasons: Vec<Reason> = texts.iter().map(|_| Reason::default()).collect();
        let tagging = self.tagging();
        let loading = |place: usize| {
            let ((key, value), tagging) = (rows[place].clone(), Arc::clone(&tagging));
            let loading: Loading =
                Box::new(move |_| Box::pin(async move { tagging.value(&key, value).map(Some) }));
            self.view.guarded(tickets[place], &texts[place], loading, &reasons[place])
        };
        let loads = OneByOne { loading, bounded: None };
        for place in self.bring(&texts, Wanted::Value, self.terms(has_room), &loads).await {
            match reasons[place].get() {
                Some(Withdrawn::Unheard) => self.progress.fail(ErrorKind::Unproven.into()),
                Some(Withdrawn::Changed) | None => self.progress.count(Fate::Overtaken, 1),
            }
        }
        Ok(())
    }
}

fn not_read<E: fmt::Display + Send + Sync + 'static>(error: E) -> LoadError<E> {
    LoadError::Loader(Arc::new(error))
}
