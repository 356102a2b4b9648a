//! Many keys in one call.
//!
//! A batch is as many single operations, made in one round trip where there is L2. It is not atomic: another caller
//! may see some of it done and some not.

use super::{EntryOptions, Keyspace};
use crate::Tier;
use crate::entry::{Entry, Found};
use crate::error::Error;
use crate::read::Look;
use crate::space::View;
use crate::telemetry::{Event, Op};
use crate::write::{Effect, Removed, Writing, Written};
use std::any::Any;
use std::borrow::Borrow;
use std::sync::Arc;
use terrace_core::envelope::{Envelope, TagStamp};
use terrace_core::remote::Stored;
use terrace_core::{CacheKey, Key, Moment};

impl<K, V> Keyspace<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    /// [`Keyspace::get`] for many keys, in their order.
    ///
    /// # Errors
    /// As [`Keyspace::get`]; one key that fails fails the call.
    ///
    /// # Cost
    /// One round trip for all that L1 does not have, two if one of them has tags. With an origin, the rest is loaded
    /// key by key, at the same time.
    pub async fn get_many<Q>(&self, keys: &[Q]) -> Result<Vec<Option<Arc<V>>>, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync,
    {
        let found = self.find_many(keys).await?;
        Ok(found.into_iter().map(|found| found.map(Found::into_value)).collect())
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
        Ok(found.into_iter().map(|found| found.map(|found| found.into_entry(clock))).collect())
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
        let writings: Vec<Writing> = entries
            .into_iter()
            .map(|(key, value)| self.writing(&key, value, EntryOptions::default()))
            .collect::<Result<_, _>>()?;
        let counters = &self.view.space.counters;
        let (timer, count) = (counters.timer(), writings.len() as u64);
        let result = self.view.write(writings).await;
        counters.observe(Op::Put, self.farthest(), timer);
        let event = match result.as_deref() {
            Ok([Written { effect: Effect::Queued, .. }, ..]) => Event::PutQueued,
            Ok(_) => Event::PutApplied,
            Err(_) => Event::PutFailed,
        };
        counters.add(event, count);
        result
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
        Q: CacheKey,
    {
        self.remove_keys(texts(keys)?).await
    }

    async fn find_many<Q>(&self, keys: &[Q]) -> Result<Vec<Option<Found>>, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync,
    {
        let counters = &self.view.space.counters;
        let timer = counters.timer();
        let texts = texts(keys)?;
        let result = if self.origin.is_some() {
            let reads = texts.iter().zip(keys).map(|(text, key)| self.find_text(text, || key.to_owned()));
            futures_util::future::join_all(reads).await.into_iter().collect()
        } else {
            Ok(self.view.read_many(&texts).await)
        };
        let farthest = if self.origin.is_some() { Tier::Origin } else { self.farthest() };
        counters.observe(Op::Get, farthest, timer);
        result
    }
}

fn texts<Q: CacheKey>(keys: &[Q]) -> Result<Vec<Key>, Error> {
    keys.iter().map(|key| key.with_text(Key::new).map_err(Error::from)).collect()
}

impl View {
    /// [`View::read`] for many keys.
    async fn read_many(&self, keys: &[Key]) -> Vec<Option<Found>> {
        let mut found: Vec<Option<Found>> = keys.iter().map(|key| self.look_in_l1(key.as_str())).collect();
        let missing: Vec<usize> = (0..keys.len()).filter(|&at| found[at].is_none()).collect();
        let tickets: Vec<_> =
            missing.iter().map(|&at| self.shared.tickets.take(self.name(keys[at].as_str()))).collect();
        let asked: Vec<Key> = missing.iter().map(|&at| keys[at].clone()).collect();
        let looks = self.look_in_l2_for_many(&asked).await;
        for ((at, ticket), look) in missing.into_iter().zip(tickets).zip(looks) {
            let Look::Hit(hit) = look else {
                self.space.counters.miss();
                continue;
            };
            if let Some(l1) = self.l1() {
                l1.keep(self.space.id, &keys[at], ticket, self.copy(hit.resident.clone(), None, true));
            }
            self.space.counters.hit(Tier::L2);
            found[at] = Some(hit);
        }
        found
    }

    async fn look_in_l2_for_many(&self, keys: &[Key]) -> Vec<Look> {
        let sent = self.shared.clock.now();
        let stored = match self.l2() {
            Some(l2) if !keys.is_empty() => {
                l2.call(&self.space, |remote| remote.get_many(&self.space.namespace, keys)).await
            }
            _ => return keys.iter().map(|_| Look::Unknown).collect(),
        };
        let Ok(stored) = stored else { return keys.iter().map(|_| Look::Unknown).collect() };
        let opened: Vec<Option<(Envelope, &Stored)>> = keys
            .iter()
            .zip(&stored)
            .map(|(key, stored)| {
                let stored = stored.as_ref().filter(|_| !self.space.pending.distrusts(key))?;
                Some((self.open(key, stored)?, stored))
            })
            .collect();
        let all_stamps: Vec<TagStamp> =
            opened.iter().flatten().flat_map(|(envelope, _)| envelope.tags.iter().cloned()).collect();
        let alive = self.alive(&all_stamps).await.unwrap_or_default();
        opened.into_iter().map(|entry| self.judge(entry, &alive, sent)).collect()
    }

    /// Makes a hit of an envelope whose tags are all alive.
    fn judge(&self, entry: Option<(Envelope, &Stored)>, alive: &[TagStamp], sent: Moment) -> Look {
        let Some((envelope, stored)) = entry else { return Look::Unknown };
        if !envelope.tags.iter().all(|stamp| alive.contains(stamp)) {
            return Look::Unknown;
        }
        match self.decode(&envelope) {
            Some(value) => Look::Hit(Self::found(value, &envelope, stored, sent)),
            None => Look::Unknown,
        }
    }
}
