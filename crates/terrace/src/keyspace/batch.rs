//! Many keys in one call.
//!
//! A batch is as many single operations, made in one round trip where there is L2. It is not atomic: another caller
//! may see some of it done and some not.

use super::{EntryOptions, Keyspace};
use crate::Tier;
use crate::coherence::tickets::Ticket;
use crate::entry::{Entry, Found};
use crate::error::{Error, ErrorKind};
use crate::read::Look;
use crate::space::View;
use crate::telemetry::{Event, Op};
use crate::write::{Removed, Writing, Written};
use futures_util::future::join;
use futures_util::{StreamExt, stream};
use std::any::Any;
use std::borrow::Borrow;
use std::sync::Arc;
use terrace_core::envelope::{Envelope, TagStamp};
use terrace_core::remote::Stored;
use terrace_core::{CacheKey, Key, Moment};

/// Keys of one batch that are loaded at the same time: an origin has only so many connections.
const BATCH_READS_MAX: usize = 256;

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
    /// key by key, up to 256 at the same time.
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
        let counters = &self.view.space.counters;
        let timer = counters.timer();
        let texts = texts(keys)?;
        let looks = self.view.look_for_many(&texts).await;
        let looks = looks.into_iter().zip(texts.iter().zip(keys));
        let finds: Vec<_> =
            looks.map(|(look, (text, key))| self.find_after(look, text, || key.to_owned())).collect();
        let found: Vec<_> = stream::iter(finds).buffered(BATCH_READS_MAX).collect().await;
        let result = found.into_iter().collect();
        let farthest = if self.backing.is_some() { Tier::Origin } else { self.farthest() };
        counters.observe(Op::Get, farthest, timer);
        result
    }

    /// What became of one key of a batch, and of its load if there is an origin.
    async fn find_after(
        &self,
        look: Look,
        text: &Key,
        owned: impl FnOnce() -> K,
    ) -> Result<Option<Found>, Error> {
        let found = match (look, &self.backing) {
            (Look::Hit(found) | Look::Kept(found), _) => Some(found),
            (Look::Unproven, _) => return Err(ErrorKind::Unproven.into()),
            (look, Some(backing)) => {
                return self.find_through(&backing.origin, text, Some(look), owned).await;
            }
            (_, None) => None,
        };
        self.view.count_lookup(found.as_ref());
        Ok(found)
    }
}

fn texts<Q: CacheKey>(keys: &[Q]) -> Result<Vec<Key>, Error> {
    keys.iter().map(|key| key.with_text(Key::new).map_err(Error::from)).collect()
}

impl View {
    /// [`View::look`] for many keys: what L1 has, and what L2 says of the rest, in one round trip.
    async fn look_for_many(&self, keys: &[Key]) -> Vec<Look> {
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
        let sent = self.shared.clock.now();
        let namespace = &self.space.namespace;
        let read = l2.ask_each(&self.space, keys.len(), |remote| remote.get_many(namespace, keys)).await;
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
        let judged = stored.iter().zip(&opened).zip(trusted);
        judged
            .zip(keys)
            .map(|(((stored, envelope), is_trusted), key)| match (stored, envelope) {
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
        sent: Moment,
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
