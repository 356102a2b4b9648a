//! At most so many keys, of those that came through one object.
//!
//! 1. Whoever is counted too much leaves the tiers, and never the origin.
//! 2. A key is counted before it is stored, and once more after that: it may have been found to be one too many meanwhile, or not to
//!    be there. So no value stays that is not counted, and at most as many as are being stored at the time are above the bound.
//! 3. A key that is found not to be there is counted no more, unless it was used since the look began.

use super::CacheStrategy;
use crate::entry::Tier;
use crate::error::{ConfigError, Error};
use crate::keyspace::Keyspace;
use crate::write::{Removed, Written};
use parking_lot::Mutex;
use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use terrace_core::remote::BoxFuture;
use terrace_core::{CacheKey, Key};

/// Keeps at most so many keys of its own: those that were stored through it, or that its `get` has loaded. Of more, the one that was
/// used longest ago leaves every tier, on all nodes, and stays in the origin if the keyspace has one.
///
/// Only what goes through this object counts as a use. A value that has expired, or was removed past it, counts until it is asked
/// for, or is the one that was used longest ago.
///
/// # Cost
/// Per call one lock and a lookup that is logarithmic in the bound; per key that leaves one [invalidation](Keyspace::invalidate).
/// About 150 bytes for each key.
///
/// # Races
/// A key that is stored again while it is just leaving may leave: the next `get` is a miss.
///
/// # Examples
/// See [`strategies`](super).
#[derive(Debug)]
pub struct Lru<K, V> {
    keyspace: Keyspace<K, V>,
    keys_max: usize,
    order: Mutex<Order<K>>,
}

/// Keys in the order of their last use.
#[derive(Debug)]
struct Order<K> {
    uses: u64,
    by_key: HashMap<Key, (u64, K)>,
    by_use: BTreeMap<u64, Key>,
}

impl<K> Default for Order<K> {
    fn default() -> Self {
        Self { uses: 0, by_key: HashMap::new(), by_use: BTreeMap::new() }
    }
}

impl<K: Clone> Order<K> {
    /// Counts a use of a key that is counted already. Whether it is.
    fn touch(&mut self, key: &Key) -> bool {
        let Some((used, _)) = self.by_key.get_mut(key) else { return false };
        self.uses += 1;
        self.by_use.remove(used);
        self.by_use.insert(self.uses, key.clone());
        *used = self.uses;
        true
    }

    /// Counts a use of a key. Gives the keys that are too many now.
    fn add(&mut self, key: &Key, own: &K, keys_max: usize) -> Vec<K> {
        if !self.touch(key) {
            self.uses += 1;
            self.by_key.insert(key.clone(), (self.uses, own.clone()));
            self.by_use.insert(self.uses, key.clone());
        }
        let mut leaving = Vec::new();
        while self.by_key.len() > keys_max {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            leaving.extend(self.by_key.remove(&oldest).map(|(_, own)| own));
        }
        leaving
    }

    /// When the key was used last, if it is counted.
    fn last_use(&self, key: &Key) -> Option<u64> {
        self.by_key.get(key).map(|(used, _)| *used)
    }

    fn forget(&mut self, key: &Key) {
        if let Some((used, _)) = self.by_key.remove(key) {
            self.by_use.remove(&used);
        }
    }
}

impl<K, V> Lru<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    /// Over this keyspace, with at most so many keys.
    ///
    /// # Errors
    /// If that is none.
    pub fn new(keyspace: Keyspace<K, V>, keys_max: usize) -> Result<Self, ConfigError> {
        if keys_max == 0 {
            return Err(ConfigError::new("keys_max", 0, "at least one key"));
        }
        Ok(Self { keyspace, keys_max, order: Mutex::default() })
    }

    /// Counts a use, and lets leave who is too much.
    async fn count(&self, text: &Key, key: &K) -> Result<(), Error> {
        let leaving = self.order.lock().add(text, key, self.keys_max);
        if !leaving.is_empty() {
            self.keyspace.invalidate().keys(leaving).send().await?;
        }
        Ok(())
    }

    async fn get(&self, key: &K) -> Result<Option<Arc<V>>, Error> {
        let text = key.to_key()?;
        let last_use = self.order.lock().last_use(&text);
        let Some(entry) = self.keyspace.get_entry(key).await? else {
            let mut order = self.order.lock();
            if order.last_use(&text) == last_use {
                order.forget(&text);
            }
            return Ok(None);
        };
        let is_counted = self.order.lock().touch(&text);
        if !is_counted && entry.tier == Tier::Origin {
            self.count(&text, key).await?;
        }
        Ok(Some(entry.value))
    }

    async fn put(&self, key: &K, value: V) -> Result<Written, Error> {
        let text = key.to_key()?;
        self.count(&text, key).await?;
        let written = self.keyspace.put(key, value).await?;
        self.count(&text, key).await?;
        Ok(written)
    }

    async fn remove(&self, key: &K) -> Result<Removed, Error> {
        let text = key.to_key()?;
        // Before it is removed: a value that is stored meanwhile is counted after this.
        self.order.lock().forget(&text);
        match self.keyspace.remove(key).await {
            Ok(removed) => Ok(removed),
            Err(error) => {
                self.count(&text, key).await?;
                Err(error)
            }
        }
    }
}

impl<K, V> CacheStrategy<K, V> for Lru<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    fn get<'a>(&'a self, key: &'a K) -> BoxFuture<'a, Result<Option<Arc<V>>, Error>> {
        Box::pin(self.get(key))
    }

    fn put<'a>(&'a self, key: &'a K, value: V) -> BoxFuture<'a, Result<Written, Error>> {
        Box::pin(self.put(key, value))
    }

    fn remove<'a>(&'a self, key: &'a K) -> BoxFuture<'a, Result<Removed, Error>> {
        Box::pin(self.remove(key))
    }

    fn len(&self) -> Option<usize> {
        Some(self.order.lock().by_key.len())
    }
}
