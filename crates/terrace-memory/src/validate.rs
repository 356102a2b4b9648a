//! Recounting the whole cache, for tests.

use crate::cache::Memory;
use crate::hash;
use crate::raw::enter;
use std::hash::Hash;

impl<K, V> Memory<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Recounts entries, weights, queues, index and timers, and checks that they agree and that the bounds hold.
    ///
    /// Only with the feature `validate`. Others may use the cache meanwhile.
    ///
    /// # Panics
    /// If anything disagrees: a bug of this crate.
    ///
    /// # Cost
    /// Linear in the number of entries, each shard under its lock.
    pub fn validate(&self) {
        let bounds = self.bounds.lock();
        let count = self.shards.len();
        for (index, shard) in self.shards.iter().enumerate() {
            let guard = enter();
            let locked = self.lock(shard, &guard);
            locked.validate(bounds.of_all.share(index, count), bounds.shrinking == 0, |key| {
                let hash = self.hash(key);
                std::ptr::eq(self.shard(hash), shard)
                    && shard.find(hash::lower(hash), &guard, |found| std::ptr::eq(found, key)).is_some()
            });
        }
    }
}
