//! The system of record behind the cache.

use crate::entry::Tier;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

/// Loads what the cache does not have.
///
/// Bind one to a keyspace with [`Keyspace::with_origin`](crate::Keyspace::with_origin), and `get` reads through.
///
/// # Examples
/// ```
/// use terrace::Origin;
///
/// struct Squares;
///
/// impl Origin<u64, u64> for Squares {
///     type Error = std::convert::Infallible;
///
///     async fn load(&self, key: &u64) -> Result<Option<u64>, Self::Error> {
///         Ok(key.checked_mul(*key))
///     }
/// }
/// ```
pub trait Origin<K, V>: Send + Sync + 'static {
    /// Why a load failed.
    type Error: fmt::Display + fmt::Debug + Send + Sync + 'static;

    /// Loads one value; `None` if the origin has none.
    ///
    /// Runs in a task of its own, at most once at a time per key and node, and goes on when the caller that
    /// started it is gone. It is dropped after the keyspace's `load_timeout`.
    fn load(&self, key: &K) -> impl Future<Output = Result<Option<V>, Self::Error>> + Send;
}

impl<K, V, O: Origin<K, V>> Origin<K, V> for Arc<O>
where
    K: Sync,
{
    type Error = O::Error;

    fn load(&self, key: &K) -> impl Future<Output = Result<Option<V>, Self::Error>> + Send {
        (**self).load(key)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
