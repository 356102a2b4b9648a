//! Writing through, over a keyspace that is not written through as a whole.

use super::CacheStrategy;
use crate::error::{ConfigError, Error};
use crate::keyspace::Keyspace;
use crate::origin::{Origin, WriteFailure};
use crate::write::{Removed, Written};
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use terrace_core::CacheKey;
use terrace_core::remote::BoxFuture;

/// Writes the origin first, and then the keyspace: see [`write_through`](crate::KeyspaceBuilder::write_through) for what failures mean,
/// and what races it.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use terrace::WriteFailure;
/// use terrace::strategies::{CacheStrategy, WriteThrough};
///
/// let users = terrace::Cache::memory()?.keyspace::<u64, String>("users").build()?;
/// let stored = WriteThrough::by(users.clone(), |id, name| async move {
///     // Here: INSERT … ON CONFLICT UPDATE, or DELETE if there is no name
///     if name.is_some() && id == 0 { Err(WriteFailure::Refused("there is no user 0")) } else { Ok(()) }
/// })?;
/// stored.put(&7, "ann".into()).await?;
/// assert!(stored.put(&0, "nobody".into()).await.is_err());
/// assert_eq!((users.peek(&7).is_some(), users.peek(&0)), (true, None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct WriteThrough<K, V> {
    read: Keyspace<K, V>,
    written: Keyspace<K, V>,
}

impl<K, V> WriteThrough<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    /// Over this keyspace and this origin, by which `get` loads as well.
    ///
    /// # Errors
    /// If the keyspace is [written behind](crate::KeyspaceBuilder::write_behind): its journal could bring an older write to the origin
    /// after this one.
    pub fn new(keyspace: Keyspace<K, V>, origin: impl Origin<K, V>) -> Result<Self, ConfigError> {
        let written = keyspace.written_through(origin)?;
        Ok(Self { read: written.clone(), written })
    }

    /// Over this keyspace, storing by `store`, which is given `None` to remove a key. `get` does what the keyspace's does.
    ///
    /// # Errors
    /// As [`WriteThrough::new`].
    pub fn by<F, E>(
        keyspace: Keyspace<K, V>,
        store: impl Fn(K, Option<V>) -> F + Send + Sync + 'static,
    ) -> Result<Self, ConfigError>
    where
        V: Clone,
        F: Future<Output = Result<(), WriteFailure<E>>> + Send + 'static,
        E: fmt::Display + fmt::Debug + Send + Sync + 'static,
    {
        let written = keyspace.clone().written_through(Storing(store))?;
        Ok(Self { read: keyspace, written })
    }
}

impl<K, V> CacheStrategy<K, V> for WriteThrough<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    fn get<'a>(&'a self, key: &'a K) -> BoxFuture<'a, Result<Option<Arc<V>>, Error>> {
        Box::pin(self.read.get(key))
    }

    fn put<'a>(&'a self, key: &'a K, value: V) -> BoxFuture<'a, Result<Written, Error>> {
        Box::pin(self.written.put(key, value))
    }

    fn remove<'a>(&'a self, key: &'a K) -> BoxFuture<'a, Result<Removed, Error>> {
        Box::pin(self.written.remove(key))
    }
}

/// An origin that is stored by a closure, and never read.
struct Storing<S>(S);

impl<K, V, S, F, E> Origin<K, V> for Storing<S>
where
    K: Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: Fn(K, Option<V>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), WriteFailure<E>>> + Send + 'static,
    E: fmt::Display + fmt::Debug + Send + Sync + 'static,
{
    type Error = E;
    async fn load(&self, _: &K) -> Result<Option<V>, E> {
        Ok(None)
    }

    async fn store(&self, key: &K, value: &V) -> Result<(), WriteFailure<E>> {
        (self.0)(key.clone(), Some(value.clone())).await
    }

    async fn delete(&self, key: &K) -> Result<(), WriteFailure<E>> {
        (self.0)(key.clone(), None).await
    }
}
