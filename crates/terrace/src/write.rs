//! The order of tiers on a write, and on every other change.
//!
//! ```text
//! drop the L1 copy ─▶ change L2 ─▶ drop the L1 copy again, and keep the new value if nobody else changed the key
//! ```
//!
//! 1. The second drop catches what a concurrent read brought into L1 between the first one and L2's answer.
//! 2. When L2 cannot be reached, or does not answer, the change still holds on this node: the key waits in
//!    [`crate::coherence::pending`], and L2 is not believed about it until it has been told. The caller learns of it
//!    by [`Effect::Queued`].
//! 3. When L2 refuses, the caller gets the error, this node keeps no copy, and the key waits as well: L2 may still hold
//!    the old value.

#[cfg(feature = "journal")]
pub(crate) mod behind;
mod compare;
pub(crate) mod order;
pub(crate) mod through;
pub(crate) mod watch;

use crate::coherence::tickets::Ticket;
use crate::entry::Resident;
use crate::erased::Erased;
use crate::error::{Error, ErrorKind};
use crate::events::EventKind;
use crate::space::{Made, Payload, View};
use crate::telemetry::Event;
use crate::terms::{Lasting, Terms};
use bytes::Bytes;
use terrace_core::mutants::{self, Mutant};
use terrace_core::remote::Invalidated as KeyInvalidated;
use terrace_core::{Key, RemoteError, Tag, Ttl, Version};

/// How far a change has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Effect {
    /// Every tier has it.
    Applied,
    /// This node has it. L2 could not be reached, and is told as soon as it can be; until then other nodes may
    /// still read the old value from it.
    Queued,
    /// Nobody has it yet: it was asked for later, or left to expiry ([`InvalidationPolicy`](crate::InvalidationPolicy)).
    Later,
}

impl Effect {
    /// The lesser of two effects.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.max(other)
    }
}

/// What came of storing a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Written {
    /// How far it has come.
    pub effect: Effect,
    /// The version of the new value; zero if L2, which gives versions, could not be reached.
    pub version: Version,
    /// How long it is fresh.
    pub ttl: Ttl,
    /// Whether it took the place of a value; `None` where nobody has looked.
    pub replaced: Option<bool>,
    /// What the journal says, where the keyspace is written behind.
    #[cfg(feature = "journal")]
    pub journaled: Option<crate::behind::Acknowledged>,
}

impl Written {
    pub(crate) fn of(effect: Effect, version: Version, ttl: Ttl) -> Self {
        Self {
            effect,
            version,
            ttl,
            replaced: None,
            #[cfg(feature = "journal")]
            journaled: None,
        }
    }

    /// The same, if it came no farther than this.
    pub(crate) fn and(self, effect: Effect) -> Self {
        Self { effect: self.effect.and(effect), ..self }
    }
}

/// What came of removing a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Removed {
    /// Whether a tier that could be asked had a value.
    pub existed: bool,
    /// How far the removal has come.
    pub effect: Effect,
    /// The version of the removal; zero if L2, which gives versions, could not be reached.
    pub version: Version,
    /// What the journal says, where the keyspace is written behind.
    #[cfg(feature = "journal")]
    pub journaled: Option<crate::behind::Acknowledged>,
}

impl Removed {
    pub(crate) fn of(existed: bool, effect: Effect, version: Version) -> Self {
        Self {
            existed,
            effect,
            version,
            #[cfg(feature = "journal")]
            journaled: None,
        }
    }

    pub(crate) fn queued() -> Self {
        Self::of(false, Effect::Queued, Version::ZERO)
    }

    /// The same, if it came no farther than this.
    pub(crate) fn and(self, effect: Effect) -> Self {
        Self { effect: self.effect.and(effect), ..self }
    }
}

/// A value to be stored.
pub(crate) struct Writing {
    pub(crate) key: Key,
    pub(crate) value: Erased,
    pub(crate) lasting: Lasting,
    pub(crate) terms: Terms,
    pub(crate) tags: Vec<Tag>,
}

/// A value that can be stored: encoded if there is an L2, and weighed.
pub(crate) struct Prepared {
    key: Key,
    value: Erased,
    lasting: Lasting,
    terms: Terms,
    tags: Vec<Tag>,
    payload: Payload,
    weight_bytes: u64,
}

/// A write under way: the L1 copy is dropped, L2 is still to be told.
pub(crate) struct Begun {
    key: Key,
    resident: Resident,
    lasting: Lasting,
    terms: Terms,
    ticket: Ticket,
    weight_bytes: u64,
}

/// A write that has ended, and its ticket, unless somebody else has changed the key meanwhile.
pub(crate) struct Ended {
    written: Written,
    renewed: Option<Ticket>,
}

impl View {
    /// Stores values in every tier: all are checked before the first is stored. Goes on if the caller goes away.
    pub(crate) async fn write(&self, writings: Vec<Writing>) -> Result<Vec<Written>, Error> {
        let leave = self.begin()?;
        if self.l2().is_none() {
            return self.write_all_here(writings);
        }
        let prepared =
            writings.into_iter().map(|writing| self.prepare(writing)).collect::<Result<Vec<_>, _>>()?;
        let view = self.clone();
        self.shared.runtime.run(leave, async move { view.write_through(prepared).await }).await?
    }

    /// [`View::write`] as a step of a change that goes on by itself.
    #[cfg(feature = "journal")]
    async fn write_tiers(&self, writings: Vec<Writing>) -> Result<Vec<Written>, Error> {
        if self.l2().is_none() {
            return self.write_all_here(writings);
        }
        let prepared =
            writings.into_iter().map(|writing| self.prepare(writing)).collect::<Result<Vec<_>, _>>()?;
        self.write_through(prepared).await
    }

    /// Stores values where there is no L2.
    fn write_all_here(&self, writings: Vec<Writing>) -> Result<Vec<Written>, Error> {
        let weights = writings.iter().map(|writing| self.weigh(&writing.value, None)).collect::<Vec<_>>();
        weights.iter().try_for_each(|&weight| self.check_size(weight))?;
        let weighed = writings.into_iter().zip(weights);
        Ok(weighed.map(|(writing, weight)| self.write_here(writing, weight)).collect())
    }

    fn write_here(&self, writing: Writing, weight_bytes: u64) -> Written {
        let Writing { key, value, lasting, terms, tags } = writing;
        let ttl = lasting.ttl;
        loop {
            let version = self.shared.versions.next();
            let entry = || self.entry(value.clone(), version, lasting, &tags);
            let copy = (!ttl.is_zero()).then(|| self.copy(entry(), weight_bytes, true, &terms));
            if self.l1().is_none_or(|l1| l1.replace(self.space.id, &key, copy)) {
                self.tell_own(true, [EventKind::Set(key)]);
                return Written::of(Effect::Applied, version, ttl);
            }
        }
    }

    fn prepare(&self, writing: Writing) -> Result<Prepared, Error> {
        let Writing { key, value, lasting, terms, tags } = writing;
        let (payload, weight_bytes) = if self.l2().is_some() {
            let payload = self.encode(&value)?;
            let weight = self.weigh(&value, Some(payload.bytes.len()));
            (payload, weight)
        } else {
            let weight = self.weigh(&value, None);
            self.check_size(weight)?;
            (Payload { codec: self.space.format.codec(), bytes: Bytes::new() }, weight)
        };
        Ok(Prepared { key, value, lasting, terms, tags, payload, weight_bytes })
    }

    async fn write_through(&self, prepared: Vec<Prepared>) -> Result<Vec<Written>, Error> {
        let agreed = self.agree_before_writing().await;
        let begun = self.begin_writes(&prepared);
        let (ended, failure) = self.finish_writes(begun, prepared, agreed).await;
        match failure {
            Some(error) if !error.is_retryable() => Err(error.into()),
            _ => Ok(ended.into_iter().map(|ended| ended.written).collect()),
        }
    }

    /// Sees to it that L2 and this node agree about the namespace, if there is an L2.
    async fn agree_before_writing(&self) -> Result<(), RemoteError> {
        match self.l2() {
            Some(l2) => l2.prepare(&self.space).await,
            None => Ok(()),
        }
    }

    /// Drops the L1 copies of all, and only then takes a ticket for each.
    fn begin_writes(&self, prepared: &[Prepared]) -> Vec<Begun> {
        for prepared in prepared {
            self.drop_l1(&prepared.key);
        }
        prepared.iter().map(|prepared| self.begin_write(prepared)).collect()
    }

    /// Tells L2, and keeps in L1 what nobody else has changed meanwhile. Also gives what L2 failed with, if it did.
    async fn finish_writes(
        &self,
        begun: Vec<Begun>,
        prepared: Vec<Prepared>,
        agreed: Result<(), RemoteError>,
    ) -> (Vec<Ended>, Option<RemoteError>) {
        let keys = || begun.iter().map(|begun| &begun.key);
        self.note_keys(keys());
        let told = match agreed {
            Ok(()) => self.tell_set(prepared).await,
            Err(error) => Err(error),
        };
        match told {
            Ok(versions) => {
                self.note_made(keys().zip(versions.iter().copied()));
                self.tell_own(true, keys().map(|key| EventKind::Set(key.clone())));
                (self.end_writes(begun, Effect::Applied, versions, true), None)
            }
            Err(error) => {
                self.queue_keys(keys());
                self.note_failed(keys());
                self.tell_own(false, keys().map(|key| EventKind::Set(key.clone())));
                let keep = error.is_retryable();
                let versions = vec![Version::ZERO; begun.len()];
                (self.end_writes(begun, Effect::Queued, versions, keep), Some(error))
            }
        }
    }

    /// A write whose L1 copy was dropped.
    fn begin_write(&self, prepared: &Prepared) -> Begun {
        let Prepared { key, value, lasting, terms, tags, payload: _, weight_bytes } = prepared;
        let ticket = self.shared.tickets.take(self.name_of(key.as_str()));
        let resident = self.entry(value.clone(), Version::ZERO, *lasting, tags);
        let (key, weight_bytes) = (key.clone(), *weight_bytes);
        Begun { key, resident, lasting: *lasting, terms: *terms, ticket, weight_bytes }
    }

    fn end_writes(
        &self,
        begun: Vec<Begun>,
        effect: Effect,
        versions: Vec<Version>,
        keep: bool,
    ) -> Vec<Ended> {
        let tickets = begun.iter().map(|begun| begun.ticket);
        let renewed = self.shared.tickets.renew(tickets.zip(versions.iter().copied()));
        let ended = begun.into_iter().zip(renewed).zip(versions);
        ended
            .map(|((begun, renewed), version)| {
                let written = self.end_write(begun, renewed, effect, version, keep);
                Ended { written, renewed }
            })
            .collect()
    }

    fn end_write(
        &self,
        begun: Begun,
        renewed: Option<Ticket>,
        effect: Effect,
        version: Version,
        keep: bool,
    ) -> Written {
        let Begun { key, resident, lasting: Lasting { ttl, .. }, terms, ticket: _, weight_bytes } = begun;
        if let Some(l1) = self.l1() {
            let is_anchored = effect == Effect::Applied;
            let copy = (keep && !ttl.is_zero())
                .then(|| self.copy(Resident { version, ..resident }, weight_bytes, is_anchored, &terms));
            l1.settle(self.space.id, &key, renewed, copy);
        } else {
            self.drop_l1(&key);
        }
        Written::of(effect, version, ttl)
    }

    async fn tell_set(&self, prepared: Vec<Prepared>) -> Result<Vec<Version>, RemoteError> {
        let Some(l2) = self.l2() else { return Ok(Vec::new()) };
        let all_tags: Vec<Tag> = prepared.iter().flat_map(|prepared| prepared.tags.clone()).collect();
        let mut stamps = self.stamps(&all_tags).await?.into_iter();
        let mut entries = Vec::with_capacity(prepared.len());
        for Prepared { key, lasting, tags, payload, .. } in prepared {
            let own = stamps.by_ref().take(tags.len()).collect();
            let sealed = self.seal(&key, Made::Put, payload, lasting, own);
            let sealed = sealed.map_err(|error| RemoteError::Refused { reason: error.to_string() })?;
            self.space.counters.add(Event::L2BytesWritten, sealed.as_bytes().len() as u64);
            entries.push((key, sealed, lasting.in_all()));
        }
        let namespace = &self.space.namespace;
        match entries.pop() {
            None => Ok(Vec::new()),
            Some((key, sealed, ttl)) if entries.is_empty() => Ok(vec![
                l2.call(&self.space, "set", |remote| remote.set(namespace, &key, sealed.clone(), ttl))
                    .await?,
            ]),
            Some(last) => {
                entries.push(last);
                let count = entries.len();
                l2.call_each(&self.space, "set many", count, |remote| {
                    remote.set_many(namespace, entries.clone())
                })
                .await
            }
        }
    }

    /// Removes keys from every tier, in one round trip. Goes on if the caller goes away.
    pub(crate) async fn remove(&self, keys: Vec<Key>) -> Result<Vec<Removed>, Error> {
        let view = self.clone();
        self.carry_out(async move { view.remove_through(&keys).await }).await
    }

    pub(crate) async fn remove_through(&self, keys: &[Key]) -> Result<Vec<Removed>, Error> {
        let mut existed: Vec<bool> = keys.iter().map(|key| self.drop_l1(key)).collect();
        let told_own = |is_applied| {
            self.tell_own(is_applied, keys.iter().map(|key| EventKind::Invalidated(key.clone())));
        };
        if self.l2().is_none() {
            told_own(true);
            let here =
                existed.into_iter().map(|existed| Removed::of(existed, Effect::Applied, Version::ZERO));
            return Ok(here.collect());
        }
        self.note_keys(keys);
        let told = self.tell_invalidate(keys).await;
        if let Ok(told) = &told {
            self.note_made(keys.iter().zip(told.iter().map(|told| told.version)));
        } else {
            self.queue_keys(keys);
            self.note_failed(keys);
        }
        told_own(told.is_ok());
        for (key, existed) in keys.iter().zip(&mut existed) {
            *existed |= !mutants::is(Mutant::SingleDrop) && self.drop_l1(key);
        }
        match told {
            Ok(seen) => {
                let both = existed.into_iter().zip(seen);
                let removed = both.map(|(existed, seen)| {
                    Removed::of(existed || seen.existed, Effect::Applied, seen.version)
                });
                Ok(removed.collect())
            }
            Err(error) if error.is_retryable() => {
                let here =
                    existed.into_iter().map(|existed| Removed::of(existed, Effect::Queued, Version::ZERO));
                Ok(here.collect())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn tell_invalidate(&self, keys: &[Key]) -> Result<Vec<KeyInvalidated>, RemoteError> {
        match self.l2() {
            Some(l2) if !keys.is_empty() => {
                let namespace = &self.space.namespace;
                l2.call_each(&self.space, "invalidate", keys.len(), |remote| {
                    remote.invalidate(namespace, keys)
                })
                .await
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Drops this node's copy and voids the reads that began before. Returns whether there was a copy.
    pub(crate) fn drop_l1(&self, key: &Key) -> bool {
        let name = self.name_of(key.as_str());
        if let Some(l1) = self.l1() {
            l1.drop_copy(name)
        } else {
            self.shared.tickets.void(name);
            false
        }
    }

    fn queue_keys<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        self.space.pending.add_keys(keys);
        self.deliver_soon();
    }
}

#[cfg(not(feature = "journal"))]
impl View {
    /// Without a journal nothing is written behind.
    #[expect(clippy::unused_self, reason = "with a journal it is asked")]
    pub(crate) fn is_behind(&self, _key: &Key) -> bool {
        false
    }

    /// Without a journal nothing is written behind.
    #[expect(clippy::unused_self, reason = "with a journal it is asked")]
    pub(crate) fn find_behind(&self, _key: &Key) -> Option<crate::entry::Found> {
        None
    }

    /// Without a journal nothing is written behind.
    #[expect(clippy::unused_self, reason = "with a journal it is asked")]
    pub(crate) fn writes_behind(&self) -> bool {
        false
    }
}

/// The tags that a caller gave, if they are not too many.
pub(crate) fn check_tags(tags: Vec<Tag>) -> Result<Vec<Tag>, Error> {
    let count = tags.len();
    if count > Tag::PER_ENTRY_MAX {
        return Err(ErrorKind::TooManyTags { count, count_max: Tag::PER_ENTRY_MAX }.into());
    }
    Ok(tags)
}
