//! Loading ahead of the first read.

use super::Keyspace;
use crate::warm::Warm;
use std::any::Any;
use terrace_core::CacheKey;

impl<K, V> Keyspace<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    /// A warm-up: loads ahead of their first read the keys of a list, copies from L2 into L1 what a pattern names, or keeps what a
    /// query brings.
    ///
    /// # Examples
    /// See [`Warm`].
    pub fn warm(&self) -> Warm<K, V> {
        let origin = self.to_load().cloned();
        Warm::new(self.view.clone(), self.tagger.clone(), origin)
    }
}
