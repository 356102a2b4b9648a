//! Saying that values are no longer true.
//!
//! | what | on this node | in L2 |
//! |---|---|---|
//! | keys | drop the copies | one script per key, one round trip |
//! | tags | ban the copies that have them | bump the tag's generation: whatever was stored with it is dead |
//! | pattern, everything | ban the copies that match | write the rule down in every partition; remove what matches afterwards |
//!
//! What is to be invalidated later waits in [`crate::coherence::delayed`].
//!
//! As in [`crate::write`], the copies are dropped or banned once before L2 is told and once after, and what L2 could not be
//! told waits in [`crate::coherence::pending`].

mod invalidator;
mod numbered;
mod preview;

pub use invalidator::{InvalidationPolicy, Invalidator};
pub use numbered::Numbered;
pub use preview::Preview;

use crate::Tier;
use crate::coherence::bans::Ban;
use crate::coherence::delayed::Targets;
use crate::coherence::sweeping::{Reaped, counted};
use crate::error::Error;
use crate::events::EventKind;
use crate::space::View;
use crate::telemetry::{Event, Op, Timer};
use crate::write::{Effect, Removed};
use std::marker::PhantomData;
use std::time::Duration;
use terrace_core::glob::GlobError;
use terrace_core::remote::{SweepRule, Swept};
use terrace_core::{CacheKey, Glob, Key, KeyError, RemoteError, Tag, Version};

/// Tags that L2 is told of in one call because an origin says so.
const TAGS_AT_ONCE: usize = 1_000;

/// What came of an invalidation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Invalidated {
    /// Entries that were removed, as far as it is known. By tags it is the number of copies on this node, and none where L1 has
    /// more than 16,384: entries die without being looked for. By pattern it is what was found within a second; the rest is
    /// just as dead, and removed in the background.
    pub count: u64,
    /// Whether `count` is all there was.
    pub is_exact: bool,
    /// How far it has come.
    pub effect: Effect,
}

/// Why an invalidation could not be named.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidateError {
    /// A tag that cannot be one.
    #[error(transparent)]
    Tag(#[from] KeyError),
    /// A pattern that cannot be one.
    #[error(transparent)]
    Pattern(#[from] GlobError),
}

/// Names what is to be invalidated; see [`Keyspace::invalidate`](crate::Keyspace::invalidate).
#[must_use = "an invalidation does nothing until it is sent"]
pub struct Invalidation<K> {
    view: View,
    keys: Result<Vec<Key>, KeyError>,
    tags: Vec<Tag>,
    patterns: Vec<Glob>,
    policy: InvalidationPolicy,
    key: PhantomData<fn(K)>,
}

impl<K> std::fmt::Debug for Invalidation<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invalidation")
            .field("tags", &self.tags)
            .field("patterns", &self.patterns)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl<K> Invalidation<K> {
    pub(crate) fn new(view: View) -> Self {
        let policy = InvalidationPolicy::Immediate;
        Self { view, keys: Ok(Vec::new()), tags: Vec::new(), patterns: Vec::new(), policy, key: PhantomData }
    }

    /// Adds keys.
    pub fn keys<Q>(mut self, keys: impl IntoIterator<Item = Q>) -> Self
    where
        Q: CacheKey,
    {
        self.keys = self.keys.and_then(|mut all| {
            for key in keys {
                all.push(key.to_key()?);
            }
            Ok(all)
        });
        self
    }

    /// Adds a pattern over the texts of the keys, with the meaning of Redis' `SCAN MATCH`.
    ///
    /// # Errors
    /// [`InvalidateError::Pattern`] if it is empty or too long.
    pub fn pattern(mut self, pattern: &str) -> Result<Self, InvalidateError> {
        self.patterns.push(Glob::new(pattern)?);
        Ok(self)
    }

    fn globs(mut self, globs: impl IntoIterator<Item = Glob>) -> Self {
        self.patterns.extend(globs);
        self
    }

    /// Says when what was named stops being true. At once, if this is not called.
    pub fn policy(mut self, policy: InvalidationPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// [`InvalidationPolicy::Delayed`]: for an origin whose replicas lag, a second invalidation after the first; or for what
    /// is published at a time.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # use std::time::Duration;
    /// let users = terrace::Cache::memory()?.keyspace::<u64, String>("users").build()?;
    /// users.put(&1, "ann".into()).await?;
    /// let later = users.invalidate().keys([1]).after(Duration::from_secs(5)).send().await?;
    /// assert_eq!(later.effect, terrace::Effect::Later);
    /// assert!(users.get(&1).await?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn after(self, delay: Duration) -> Self {
        self.policy(InvalidationPolicy::Delayed(delay))
    }

    /// Adds a tag.
    ///
    /// # Errors
    /// [`InvalidateError::Tag`] if the text cannot be a tag.
    pub fn tag(mut self, tag: &str) -> Result<Self, InvalidateError> {
        self.tags.push(Tag::new(tag)?);
        Ok(self)
    }

    /// Invalidates all that was named. When it returns, no read that starts later on this node returns an older
    /// value.
    ///
    /// # Errors
    /// [`ErrorKind::Key`](crate::ErrorKind::Key) if a key cannot be one; then nothing was invalidated.
    /// [`ErrorKind::Remote`](crate::ErrorKind::Remote) if L2 refused a part of it;
    /// the other parts were invalidated, and this node keeps no copy of any. What is to be invalidated later and could not be
    /// noted is [`ErrorKind::Remote`](crate::ErrorKind::Remote) too, and some of it may come about.
    ///
    /// # Cost
    /// Later: one round trip for each 512 keys, tags and patterns, now and when it is due, besides what it costs then.
    /// Keys: one round trip. Tags: one round trip. Patterns: one round trip each, with a short script for each partition; then up
    /// to a second for the count, while entries are found by a pass over all keys of the server. Where L1 has few
    /// entries they are looked through, for the count.
    ///
    /// # Cancel safety
    /// It goes on when the caller goes away.
    pub async fn send(self) -> Result<Invalidated, Error> {
        self.send_numbered().await.map(|numbered| numbered.invalidated)
    }

    /// [`send`](Self::send), and by which numbers L2 tells of what was named: a node that has told of the event of one of them has forgotten
    /// what it had of that.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    ///
    /// # Cost
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    /// It goes on when the caller goes away.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let users = terrace::Cache::memory()?.keyspace::<u64, String>("users").build()?;
    /// let numbered = users.invalidate().keys([1]).tag("team:7")?.send_numbered().await?;
    /// assert!(numbered.keys.is_empty() && numbered.tags.is_empty(), "there is no L2 that tells of it");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn send_numbered(self) -> Result<Numbered, Error> {
        let Self { view, keys, tags, patterns, policy, key: _ } = self;
        let rules = patterns.into_iter().map(SweepRule::Matching).collect();
        let targets = Targets { keys: keys?, tags, rules };
        match policy {
            InvalidationPolicy::Immediate => {
                let timer = view.space.counters.timer();
                let result = view.invalidate_noting(targets, true).await;
                view.count_invalidation(timer, result.as_ref().map(|numbered| &numbered.invalidated));
                result
            }
            InvalidationPolicy::Delayed(delay) => {
                let later = view.clone();
                view.carry_out(async move { later.delay(targets, delay).await }).await?;
                Ok(Invalidated::later().into())
            }
            InvalidationPolicy::Lazy => Ok(Invalidated::later().into()),
        }
    }
}

impl View {
    /// Invalidates all of it. Goes on if the caller goes away. Waits a while for the count of what patterns name, if that
    /// `is_counted`.
    pub(crate) async fn invalidate_all_of(
        &self,
        targets: Targets,
        is_counted: bool,
    ) -> Result<Invalidated, Error> {
        self.invalidate_noting(targets, is_counted).await.map(|numbered| numbered.invalidated)
    }

    /// [`View::invalidate_all_of`], with the numbers of what L2 was told.
    async fn invalidate_noting(&self, targets: Targets, is_counted: bool) -> Result<Numbered, Error> {
        let (view, Targets { keys, tags, rules }) = (self.clone(), targets);
        let counters = &self.space.counters;
        counters.add(Event::InvalidatedKey, keys.len() as u64);
        counters.add(Event::InvalidatedTag, tags.len() as u64);
        counters.add(Event::InvalidatedPattern, rules.len() as u64);
        let all = async move {
            let mut told = Numbered::nothing();
            let mut total = Ok(told.invalidated);
            if !keys.is_empty() {
                let removed = view.remove_through(&keys).await;
                told.add_keys(&keys, removed.as_deref().unwrap_or_default());
                total = both(total, removed.map(|removed| Invalidated::sum(&removed)));
            }
            if !tags.is_empty() {
                let done = view.invalidate_tags(&tags).await.map(|(done, versions)| {
                    told.add_tags(&tags, &versions);
                    done
                });
                total = both(total, done);
            }
            for rule in rules {
                let done = view.sweep_through(&rule, is_counted).await.map(|(done, version)| {
                    told.add_rule(&rule, version);
                    done
                });
                total = both(total, done);
            }
            let invalidated = total?;
            // Where nobody tells of changes, numbers are of no use.
            Ok(if view.tells() { Numbered { invalidated, ..told } } else { invalidated.into() })
        };
        self.carry_out(all).await
    }

    pub(crate) fn count_invalidation(&self, timer: Timer, result: Result<&Invalidated, &Error>) {
        let farthest = if self.l2().is_some() { Tier::L2 } else { Tier::L1 };
        self.space.counters.observe(Op::Invalidate, farthest, timer);
        self.space.counters.count(match result {
            Ok(Invalidated { effect: Effect::Applied, .. }) => Event::InvalidateApplied,
            Ok(_) => Event::InvalidateQueued,
            Err(_) => Event::InvalidateFailed,
        });
    }

    /// Invalidates tags, those that are many in several calls. That L2 refuses is logged, and L2 is told later.
    async fn invalidate_for_origin(&self, tags: &[Tag]) -> Effect {
        let mut effect = Effect::Applied;
        let mut distinct = tags.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        for some in distinct.chunks(TAGS_AT_ONCE) {
            let timer = self.space.counters.timer();
            self.space.counters.add(Event::InvalidatedTag, some.len() as u64);
            let result = self.invalidate_tags(some).await.map(|(done, _)| done);
            self.count_invalidation(timer, result.as_ref());
            effect = effect.and(result.map_or_else(
                |error| {
                    let namespace = &self.space.namespace;
                    tracing::warn!(%namespace, %error, "L2 does not take tags that the origin says are not true any more; it is told later");
                    Effect::Queued
                },
                |invalidated| invalidated.effect,
            ));
        }
        effect
    }

    /// Invalidates what an origin says is not true any more because of a change that was made there, within a time: what L2 was not told of
    /// by then, it is told later.
    pub(crate) async fn invalidate_for_origin_within(&self, limit: Duration, tags: &[Tag]) -> Effect {
        let told = crate::runtime::within(limit, self.invalidate_for_origin(tags)).await;
        told.unwrap_or_else(|| {
            self.ban(&Ban::Tags(tags));
            self.space.generations.forget(tags);
            if self.l2().is_none() {
                return Effect::Applied;
            }
            self.space.pending.add_tags(tags);
            self.deliver_soon();
            Effect::Queued
        })
    }

    /// Invalidates tags. Returns their versions, too, if L2 was told.
    async fn invalidate_tags(&self, tags: &[Tag]) -> Result<(Invalidated, Vec<Version>), Error> {
        let ban = || {
            self.ban(&Ban::Tags(tags));
            self.space.generations.forget(tags);
        };
        ban();
        let mut here = self.remove_dead(false);
        let tell = |is_applied| {
            self.tell_own(is_applied, tags.iter().map(|tag| EventKind::TagInvalidated(tag.clone())));
        };
        let Some(l2) = self.l2() else {
            tell(true);
            return Ok((Invalidated::here(here, self.is_counted()), Vec::new()));
        };
        self.note_tags(tags);
        let namespace = &self.space.namespace;
        let bump =
            l2.call_each(&self.space, "bump tags", tags.len(), |remote| remote.bump_tags(namespace, tags));
        let told = bump.await;
        if told.is_ok() {
            self.note_bumped(tags);
        } else {
            self.space.pending.add_tags(tags);
            self.deliver_soon();
        }
        tell(told.is_ok());
        ban();
        here += self.remove_dead(false);
        match told {
            Ok(versions) => {
                Ok((Invalidated { count: here, is_exact: false, effect: Effect::Applied }, versions))
            }
            Err(error) => Ok((Invalidated::queued(here, error)?, Vec::new())),
        }
    }

    /// Removes what the rule names, in every tier. Goes on if the caller goes away.
    pub(crate) async fn sweep(&self, rule: SweepRule) -> Result<Invalidated, Error> {
        let view = self.clone();
        self.carry_out(async move { Ok(view.sweep_through(&rule, true).await?.0) }).await
    }

    /// Removes what the rule names. Returns the number under which everybody is told of it, too, if there is one.
    async fn sweep_through(
        &self,
        rule: &SweepRule,
        is_counted: bool,
    ) -> Result<(Invalidated, Option<Version>), Error> {
        let ban = Ban::Sweep(rule);
        self.ban(&ban);
        let here = self.remove_dead(self.l2().is_none());
        let tell = |is_applied| self.tell_own(is_applied, [EventKind::swept(rule)]);
        let Some(l2) = self.l2() else {
            tell(true);
            return Ok((Invalidated::here(here, true), None));
        };
        self.note_sweep(rule);
        let told = l2.call(&self.space, "sweep", |remote| remote.sweep(&self.space.namespace, rule)).await;
        if told.is_ok() {
            self.note_sweep(rule);
        } else {
            self.space.pending.add_rule(rule);
            self.deliver_soon();
        }
        tell(told.is_ok());
        self.ban(&ban);
        match told {
            Ok(Swept { sweep, version }) => {
                let reaping = self.reap_soon(sweep);
                let Reaped { count, is_all } =
                    if is_counted { counted(reaping).await } else { Reaped::default() };
                Ok((Invalidated { count, is_exact: is_all, effect: Effect::Applied }, version))
            }
            Err(error) => Ok((Invalidated::queued(here, error)?, None)),
        }
    }
}

/// Two invalidations as one, or the first failure.
fn both(one: Result<Invalidated, Error>, other: Result<Invalidated, Error>) -> Result<Invalidated, Error> {
    let (one, other) = (one?, other?);
    Ok(Invalidated {
        count: one.count + other.count,
        is_exact: one.is_exact && other.is_exact,
        effect: one.effect.and(other.effect),
    })
}

impl Invalidated {
    fn sum(removed: &[Removed]) -> Self {
        let count = removed.iter().filter(|removed| removed.existed).count() as u64;
        let effect = removed.iter().fold(Effect::Applied, |effect, removed| effect.and(removed.effect));
        Self { count, is_exact: effect == Effect::Applied, effect }
    }

    /// What comes of it is not known yet.
    fn later() -> Self {
        Self { count: 0, is_exact: false, effect: Effect::Later }
    }

    /// What came of it where there is no L2.
    fn here(count: u64, is_exact: bool) -> Self {
        Self { count, is_exact, effect: Effect::Applied }
    }

    /// What came of it if L2 could not be told, or why that is an error.
    fn queued(here: u64, error: RemoteError) -> Result<Self, Error> {
        if error.is_retryable() {
            return Ok(Self { count: here, is_exact: false, effect: Effect::Queued });
        }
        Err(error.into())
    }
}
