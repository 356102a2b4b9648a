//! Strategy objects: several ways to use one keyspace, side by side, each behind the same few calls.
//!
//! | object | `get` | `put` | `remove` |
//! |---|---|---|---|
//! | [`Lru`] | reads | stores; of more than so many keys the one that was used longest ago leaves the keyspace | removes |
//! | [`Expiring`] | reads | stores for a TTL of its own | removes |
//! | [`WriteThrough`] | reads | the origin first, then the keyspace | the origin first, then the keyspace |
//!
//! All of them see each other's entries, for they are in one keyspace. What is chosen at run time goes behind
//! `Box<dyn CacheStrategy<K, V>>`.
//!
//! A keyspace of which everything is to be written through, or expires after one time, needs none of this: it is told so when it is
//! [built](crate::KeyspaceBuilder). And L1 is bounded by itself ([`L1`](crate::L1)); [`Lru`] is for keys that are to leave L2, too.
//!
//! # Examples
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use std::time::Duration;
//! use terrace::strategies::{CacheStrategy, Expiring, Lru};
//!
//! let pages = terrace::Cache::memory()?.keyspace::<String, String>("pages").build()?;
//! let recent = Lru::new(pages.clone(), 2)?;
//! let drafts = Expiring::new(pages.clone(), Duration::from_secs(30));
//!
//! drafts.put(&"draft".into(), "…".into()).await?;
//! for page in ["a", "b", "c"] {
//!     recent.put(&page.into(), page.to_uppercase()).await?;
//! }
//! assert_eq!(pages.peek("a"), None, "two are more recent");
//! assert_eq!(recent.get(&"draft".into()).await?.as_deref().map(String::as_str), Some("…"));
//! assert_eq!((recent.len(), drafts.len()), (Some(2), None));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

mod lru;
mod through;

pub use lru::Lru;
pub use through::WriteThrough;

use crate::error::Error;
use crate::keyspace::Keyspace;
use crate::terms::EntryOptions;
use crate::write::{Removed, Written};
use std::any::Any;
use std::sync::Arc;
use terrace_core::remote::BoxFuture;
use terrace_core::{CacheKey, Ttl};

/// A way to use a keyspace.
///
/// # Cost
/// Each call boxes its future, besides what it costs on a [`Keyspace`].
///
/// # Cancel safety
/// As of the [`Keyspace`]'s own calls: what was begun goes on.
pub trait CacheStrategy<K, V>: Send + Sync {
    /// The value of a key. Else as [`Keyspace::get`].
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    fn get<'a>(&'a self, key: &'a K) -> BoxFuture<'a, Result<Option<Arc<V>>, Error>>;

    /// Stores a value. Else as [`Keyspace::put`].
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    fn put<'a>(&'a self, key: &'a K, value: V) -> BoxFuture<'a, Result<Written, Error>>;

    /// Removes a key. Else as [`Keyspace::remove`].
    ///
    /// # Errors
    /// As [`Keyspace::remove`].
    fn remove<'a>(&'a self, key: &'a K) -> BoxFuture<'a, Result<Removed, Error>>;

    /// How many keys it keeps account of; `None` if of none.
    fn len(&self) -> Option<usize> {
        None
    }

    /// Whether it keeps account of keys, and has none.
    fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

/// Stores for a TTL of its own. What a read-through `get` loads has the keyspace's.
///
/// # Examples
/// See [`strategies`](self).
#[derive(Debug)]
pub struct Expiring<K, V> {
    keyspace: Keyspace<K, V>,
    options: EntryOptions,
}

impl<K, V> Expiring<K, V> {
    /// Over this keyspace, with this TTL.
    #[must_use]
    pub fn new(keyspace: Keyspace<K, V>, ttl: impl Into<Ttl>) -> Self {
        Self { keyspace, options: EntryOptions::new().ttl(ttl) }
    }
}

impl<K, V> CacheStrategy<K, V> for Expiring<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    fn get<'a>(&'a self, key: &'a K) -> BoxFuture<'a, Result<Option<Arc<V>>, Error>> {
        Box::pin(self.keyspace.get(key))
    }

    fn put<'a>(&'a self, key: &'a K, value: V) -> BoxFuture<'a, Result<Written, Error>> {
        Box::pin(self.keyspace.put_with(key, value, self.options.clone()))
    }

    fn remove<'a>(&'a self, key: &'a K) -> BoxFuture<'a, Result<Removed, Error>> {
        Box::pin(self.keyspace.remove(key))
    }
}
