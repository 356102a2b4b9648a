//! An origin that is made of closures.

use super::{Origin, WriteFailure};
use std::fmt;
use std::future::Future;
use terrace_core::remote::BoxFuture;

type Load<K, V, E> = dyn Fn(K) -> BoxFuture<'static, Result<Option<V>, E>> + Send + Sync;
type Store<K, V, E> = dyn Fn(K, V) -> BoxFuture<'static, Result<(), WriteFailure<E>>> + Send + Sync;
type Delete<K, E> = dyn Fn(K) -> BoxFuture<'static, Result<(), WriteFailure<E>>> + Send + Sync;

/// An [`Origin`] made of closures, for programs that have no type for it.
///
/// # Cost
/// One allocation for each call, and a clone of the key and of a stored value.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::{convert::Infallible, sync::Arc};
/// use terrace::{Cache, OriginFn};
///
/// let stored = Arc::new(AtomicU64::new(0));
/// let counter = Arc::clone(&stored);
/// let origin = OriginFn::load(|key: u64| async move { Ok::<_, Infallible>(Some(key * 2)) }).store(
///     move |_key, value| {
///         counter.store(value, Ordering::SeqCst);
///         async { Ok(()) }
///     },
/// );
///
/// let numbers = Cache::memory()?.keyspace::<u64, u64>("numbers").write_through(origin).build()?;
/// assert_eq!(numbers.get(&4).await?.as_deref(), Some(&8));
/// numbers.put(&4, 9).await?;
/// assert_eq!(stored.load(Ordering::SeqCst), 9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct OriginFn<K, V, E> {
    load: Box<Load<K, V, E>>,
    store: Option<Box<Store<K, V, E>>>,
    delete: Option<Box<Delete<K, E>>>,
}

impl<K, V, E> OriginFn<K, V, E> {
    /// An origin that loads so, and cannot be written.
    #[must_use]
    pub fn load<F>(load: impl Fn(K) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<V>, E>> + Send + 'static,
    {
        Self { load: Box::new(move |key| Box::pin(load(key))), store: None, delete: None }
    }

    /// The same, that stores so.
    #[must_use]
    pub fn store<F>(self, store: impl Fn(K, V) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), WriteFailure<E>>> + Send + 'static,
    {
        Self { store: Some(Box::new(move |key, value| Box::pin(store(key, value)))), ..self }
    }

    /// The same, that removes so.
    #[must_use]
    pub fn delete<F>(self, delete: impl Fn(K) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), WriteFailure<E>>> + Send + 'static,
    {
        Self { delete: Some(Box::new(move |key| Box::pin(delete(key)))), ..self }
    }
}

impl<K, V, E> Origin<K, V> for OriginFn<K, V, E>
where
    K: Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: fmt::Display + fmt::Debug + Send + Sync + 'static,
{
    type Error = E;

    async fn load(&self, key: &K) -> Result<Option<V>, E> {
        (self.load)(key.clone()).await
    }

    async fn store(&self, key: &K, value: &V) -> Result<(), WriteFailure<E>> {
        match &self.store {
            Some(store) => store(key.clone(), value.clone()).await,
            None => Err(WriteFailure::Unsupported),
        }
    }

    async fn delete(&self, key: &K) -> Result<(), WriteFailure<E>> {
        match &self.delete {
            Some(delete) => delete(key.clone()).await,
            None => Err(WriteFailure::Unsupported),
        }
    }
}

impl<K, V, E> fmt::Debug for OriginFn<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginFn")
            .field("can_store", &self.store.is_some())
            .field("can_delete", &self.delete.is_some())
            .finish_non_exhaustive()
    }
}
