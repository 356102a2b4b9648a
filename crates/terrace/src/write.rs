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

use crate::coherence::tickets::Ticket;
use crate::entry::Resident;
use crate::erased::Erased;
use crate::error::Error;
use crate::space::View;
use crate::telemetry::Event;
use bytes::Bytes;
use std::sync::atomic::Ordering;
use std::time::Duration;
use terrace_core::remote::Invalidated as KeyInvalidated;
use terrace_core::{Key, RemoteError, Tag, Ttl, Version};

/// How far a change has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Every tier has it.
    Applied,
    /// This node has it. L2 could not be reached, and is told as soon as it can be; until then other nodes may
    /// still read the old value from it.
    Queued,
}

impl Effect {
    /// The lesser of two effects.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self == Self::Applied { other } else { Self::Queued }
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
}

/// What came of removing a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Removed {
    /// Whether a tier that could be asked had a value.
    pub existed: bool,
    /// How far the removal has come.
    pub effect: Effect,
}

/// First pause between two attempts to deliver what L2 has not seen; it doubles up to [`DELIVERY_PAUSE_MAX`].
const DELIVERY_PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause between two attempts.
const DELIVERY_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Keys delivered in one call.
const DELIVERY_KEYS_MAX: usize = 512;

/// A value to be stored.
pub(crate) struct Writing {
    pub(crate) key: Key,
    pub(crate) value: Erased,
    pub(crate) ttl: Ttl,
    pub(crate) tags: Vec<Tag>,
}

/// A write under way: the L1 copy is dropped, L2 is still to be told.
struct Begun {
    key: Key,
    resident: Resident,
    ttl: Ttl,
    ticket: Ticket,
    /// Bytes of the encoding.
    encoded: usize,
}

impl View {
    /// Stores values in every tier: all are checked before the first is stored. Goes on if the caller goes away.
    pub(crate) async fn write(&self, writings: Vec<Writing>) -> Result<Vec<Written>, Error> {
        self.begin()?;
        if self.l2().is_none() {
            for writing in &writings {
                self.check_weight(&writing.value)?;
            }
            return Ok(writings.into_iter().map(|writing| self.write_here(writing)).collect());
        }
        let payloads: Vec<Bytes> =
            writings.iter().map(|writing| self.encode(&writing.value)).collect::<Result<_, _>>()?;
        let view = self.clone();
        self.shared.runtime.run(async move { view.write_through(writings, payloads).await }).await?
    }

    /// Stores a value where there is no L2.
    fn write_here(&self, writing: Writing) -> Written {
        let Writing { key, value, ttl, tags } = writing;
        let version = self.shared.versions.next();
        if let Some(l1) = self.l1() {
            let copy =
                (!ttl.is_zero()).then(|| self.copy(self.entry(value, version, ttl, &tags), None, true));
            l1.replace(self.space.id, &key, copy);
        }
        Written { effect: Effect::Applied, version, ttl }
    }

    async fn write_through(
        &self,
        writings: Vec<Writing>,
        payloads: Vec<Bytes>,
    ) -> Result<Vec<Written>, Error> {
        let all_tags: Vec<Vec<Tag>> = writings.iter().map(|writing| writing.tags.clone()).collect();
        let begun: Vec<Begun> = writings
            .into_iter()
            .zip(&payloads)
            .map(|(writing, payload)| self.begin_write(writing, payload.len()))
            .collect();
        match self.tell_set(&begun, payloads, &all_tags).await {
            Ok(versions) => {
                let ended = begun.into_iter().zip(versions);
                Ok(ended
                    .map(|(begun, version)| self.end_write(begun, Effect::Applied, version, true))
                    .collect())
            }
            Err(error) => {
                self.queue_keys(begun.iter().map(|begun| &begun.key));
                let keep = error.is_retryable();
                let ended =
                    begun.into_iter().map(|begun| self.end_write(begun, Effect::Queued, Version::ZERO, keep));
                let written = ended.collect();
                if keep { Ok(written) } else { Err(error.into()) }
            }
        }
    }

    fn begin_write(&self, writing: Writing, encoded: usize) -> Begun {
        let Writing { key, value, ttl, tags } = writing;
        self.drop_l1(&key);
        let ticket = self.shared.tickets.take(self.name(key.as_str()));
        let resident = self.entry(value, Version::ZERO, ttl, &tags);
        Begun { key, resident, ttl, ticket, encoded }
    }

    fn end_write(&self, begun: Begun, effect: Effect, version: Version, keep: bool) -> Written {
        let Begun { key, resident, ttl, ticket, encoded } = begun;
        if let Some(l1) = self.l1() {
            let is_anchored = effect == Effect::Applied;
            let copy = (keep && !ttl.is_zero())
                .then(|| self.copy(Resident { version, ..resident }, Some(encoded), is_anchored));
            match effect {
                Effect::Applied => l1.settle(self.space.id, &key, ticket, copy),
                Effect::Queued => l1.replace(self.space.id, &key, copy),
            }
        } else {
            self.drop_l1(&key);
        }
        Written { effect, version, ttl }
    }

    /// Refuses a value that is too large, as far as its size is known without L2.
    fn check_weight(&self, value: &Erased) -> Result<(), Error> {
        let is_weighed = self.shared.l1.as_ref().is_some_and(|l1| l1.is_bounded_by_bytes);
        let format = &self.space.format;
        self.check_size(if is_weighed { format.weight(value) } else { format.quick_weight(value) })
    }

    async fn tell_set(
        &self,
        begun: &[Begun],
        payloads: Vec<Bytes>,
        all_tags: &[Vec<Tag>],
    ) -> Result<Vec<Version>, RemoteError> {
        let Some(l2) = self.l2() else { return Ok(Vec::new()) };
        let mut stamps = self.stamps(&all_tags.concat()).await?.into_iter();
        let mut entries = Vec::with_capacity(begun.len());
        for ((begun, payload), tags) in begun.iter().zip(payloads).zip(all_tags) {
            let own = stamps.by_ref().take(tags.len()).collect();
            let sealed = self.seal(&begun.key, payload, begun.ttl, own);
            let sealed = sealed.map_err(|error| RemoteError::Refused { reason: error.to_string() })?;
            self.space.counters.add(Event::L2BytesWritten, sealed.as_bytes().len() as u64);
            entries.push((begun.key.clone(), sealed, begun.ttl));
        }
        let namespace = &self.space.namespace;
        if let [_] = entries.as_slice()
            && let Some((_, sealed, ttl)) = entries.pop()
        {
            let version =
                l2.call(&self.space, |remote| remote.set(namespace, &begun[0].key, sealed, ttl)).await?;
            return Ok(vec![version]);
        }
        l2.call(&self.space, |remote| remote.set_many(namespace, entries)).await
    }

    /// Removes keys from every tier, in one round trip. Goes on if the caller goes away.
    pub(crate) async fn remove(&self, keys: Vec<Key>) -> Result<Vec<Removed>, Error> {
        self.begin()?;
        if self.l2().is_none() {
            let removed =
                keys.iter().map(|key| Removed { existed: self.drop_l1(key), effect: Effect::Applied });
            return Ok(removed.collect());
        }
        let view = self.clone();
        self.shared.runtime.run(async move { view.remove_through(&keys).await }).await?
    }

    async fn remove_through(&self, keys: &[Key]) -> Result<Vec<Removed>, Error> {
        let mut existed: Vec<bool> = keys.iter().map(|key| self.drop_l1(key)).collect();
        let told = self.tell_invalidate(keys).await;
        if told.is_err() {
            self.queue_keys(keys);
        }
        for (key, existed) in keys.iter().zip(&mut existed) {
            *existed |= self.drop_l1(key);
        }
        let effect = match told {
            Ok(seen) => {
                for (existed, seen) in existed.iter_mut().zip(seen) {
                    *existed |= seen.existed;
                }
                Effect::Applied
            }
            Err(error) if error.is_retryable() => Effect::Queued,
            Err(error) => return Err(error.into()),
        };
        Ok(existed.into_iter().map(|existed| Removed { existed, effect }).collect())
    }

    async fn tell_invalidate(&self, keys: &[Key]) -> Result<Vec<KeyInvalidated>, RemoteError> {
        match self.l2() {
            Some(l2) if !keys.is_empty() => {
                l2.call(&self.space, |remote| remote.invalidate(&self.space.namespace, keys)).await
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Drops this node's copy and voids the reads that began before. Returns whether there was a copy.
    pub(crate) fn drop_l1(&self, key: &Key) -> bool {
        let name = self.name(key.as_str());
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

    /// Starts delivering what L2 has not seen, unless that is going on.
    pub(crate) fn deliver_soon(&self) {
        if !self.space.is_delivering.swap(true, Ordering::AcqRel) {
            let view = self.clone();
            self.shared.runtime.spawn_until_closed(async move { view.deliver().await });
        }
    }

    /// Delivers until nothing is left.
    async fn deliver(&self) {
        let mut pause = DELIVERY_PAUSE_MIN;
        loop {
            if self.deliver_once().await.is_err() {
                crate::runtime::sleep(pause).await;
                pause = (pause * 2).min(DELIVERY_PAUSE_MAX);
                continue;
            }
            self.space.is_delivering.store(false, Ordering::Release);
            let is_late =
                !self.space.pending.is_empty() && !self.space.is_delivering.swap(true, Ordering::AcqRel);
            if !is_late {
                return;
            }
        }
    }

    /// Tries once to deliver what waits now.
    pub(crate) async fn deliver_once(&self) -> Result<(), RemoteError> {
        let Some(l2) = self.l2() else { return Ok(()) };
        let delivery = self.space.pending.delivery();
        let namespace = &self.space.namespace;
        for rule in &delivery.rules {
            l2.call(&self.space, |remote| remote.sweep(namespace, rule)).await?;
        }
        for tags in delivery.tags.chunks(DELIVERY_KEYS_MAX) {
            l2.call(&self.space, |remote| remote.bump_tags(namespace, tags)).await?;
        }
        for keys in delivery.keys.chunks(DELIVERY_KEYS_MAX) {
            l2.call(&self.space, |remote| remote.invalidate(namespace, keys)).await?;
        }
        self.space.pending.delivered(&delivery);
        Ok(())
    }
}

/// The tags that a caller gave, if they are not too many.
pub(crate) fn check_tags(tags: Vec<Tag>) -> Result<Vec<Tag>, Error> {
    let count = tags.len();
    if count > Tag::PER_ENTRY_MAX {
        return Err(Error::TooManyTags { count, count_max: Tag::PER_ENTRY_MAX });
    }
    Ok(tags)
}
