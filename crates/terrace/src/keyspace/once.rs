//! Changes that are made once, however often they are asked for.

use super::strategy::one;
use super::{EntryOptions, Keyspace, Strategy};
use crate::behind::IdempotencyKey;
use crate::error::{ConfigError, Error, ErrorKind};
use crate::telemetry::Op;
use crate::write::{Removed, Written};
use std::any::Any;
use std::borrow::Borrow;
use terrace_core::CacheKey;

impl<K, V> Keyspace<K, V>
where
    K: CacheKey + Clone + Send + Sync + 'static,
    V: Any + Send + Sync,
{
    /// Stores a value in a keyspace that is written behind, unless the same request was taken before: for callers who ask again because they had
    /// no answer. A repetition is acknowledged under the id of the first write, with
    /// [`is_repetition`](crate::behind::Acknowledged::is_repetition), whatever has become of that, and changes nothing: neither the journal nor
    /// a tier, so that what others have written to the key since stays. Its `ttl` and its version are zero.
    ///
    /// The same is the request that names the same key, value, TTLs and tags. Values are compared as their codec encodes them: it has to give equal
    /// values equal bytes, which that of a map without an order does not.
    ///
    /// A request is remembered while its write waits or is a dead letter, and for 24 hours from then on, of 65,536 requests of the keyspace
    /// ([`LaneOptions::idempotency_keys_for`](crate::behind::LaneOptions::idempotency_keys_for),
    /// [`idempotency_keys_max`](crate::behind::LaneOptions::idempotency_keys_max)); over restarts, as its write is. Other nodes do not know of it.
    ///
    /// # Errors
    /// As [`Keyspace::put_with`]. [`ErrorKind::Options`] if the keyspace is not written behind: elsewhere nothing is remembered.
    /// [`ErrorKind::Journal`] with [`WriteError::KeyReused`](crate::behind::WriteError::KeyReused) if the idempotency key was given to another
    /// request of this keyspace: nothing was changed. Of a write that is refused, nothing is remembered.
    ///
    /// # Cost
    /// As [`Keyspace::put`], and two SHA-256, of which one is of the value. A repetition takes the key's place in the order of changes, and
    /// one short lock.
    ///
    /// # Races
    /// Of equal requests at the same time one is made; the others wait for it, and get its id.
    ///
    /// # Cancel safety
    /// The write goes on when the caller goes away, and is found by the next request of this name.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(async {
    /// use terrace::behind::{IdempotencyKey, Journal, JournalOptions, LaneOptions};
    /// use terrace::{Cache, EntryOptions, Origin, WriteFailure};
    ///
    /// struct Table;
    ///
    /// impl Origin<u64, String> for Table {
    ///     type Error = std::io::Error;
    ///
    ///     async fn load(&self, _: &u64) -> Result<Option<String>, Self::Error> {
    ///         Ok(None)
    ///     }
    ///
    ///     async fn store(&self, _: &u64, _: &String) -> Result<(), WriteFailure<Self::Error>> {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("writes.journal");
    /// let cache = Cache::builder().journal(Journal::open(&path, JournalOptions::default())?).build()?;
    /// let users = cache.keyspace::<u64, String>("users").write_behind(Table, LaneOptions::default()).build()?;
    ///
    /// let name = IdempotencyKey::new("8e03978e-40d5-43dd-bc93-6894a57f9324")?;
    /// let put = || users.put_once(&7, "ann".to_owned(), EntryOptions::new(), &name);
    /// let first = put().await?.journaled.expect("it is written behind");
    /// users.put(&7, "ben".to_owned()).await?;
    ///
    /// let again = put().await?.journaled.expect("it is written behind");
    /// assert!(again.is_repetition && again.id == first.id);
    /// assert_eq!(users.get(&7).await?.as_deref().map(String::as_str), Some("ben"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn put_once<Q>(
        &self,
        key: &Q,
        value: V,
        options: EntryOptions,
        idempotency_key: &IdempotencyKey,
    ) -> Result<Written, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
    {
        self.check_written_behind()?;
        let (timer, terms) = (self.timer_of_change(), options.of_stored());
        let writing = self.writing(key, value, options)?;
        let written = one(self.view.store_once(writing, idempotency_key, &terms).await);
        self.view.space.counters.observe(Op::Put, self.farthest_written(), timer);
        self.counted_put(written)
    }

    /// Removes a key from a keyspace that is written behind, unless the same request was taken before. See [`Keyspace::put_once`]. A repetition
    /// does not say whether the key `existed`.
    ///
    /// # Errors
    /// As [`Keyspace::put_once`].
    ///
    /// # Cost
    /// As [`Keyspace::put_once`].
    ///
    /// # Cancel safety
    /// The removal goes on when the caller goes away.
    pub async fn remove_once<Q>(&self, key: &Q, idempotency_key: &IdempotencyKey) -> Result<Removed, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        self.check_written_behind()?;
        let timer = self.timer_of_change();
        let removed = one(self.view.drop_once(key.to_key()?, idempotency_key).await);
        self.view.space.counters.observe(Op::Remove, self.farthest_written(), timer);
        self.counted_remove(removed)
    }

    fn check_written_behind(&self) -> Result<(), Error> {
        match self.strategy() {
            Strategy::WriteBehind => Ok(()),
            strategy => {
                let allowed =
                    "given where writes go behind; elsewhere nobody remembers it: use `put_with` or `remove`";
                Err(ErrorKind::Options(ConfigError::new("idempotency_key", strategy, allowed)).into())
            }
        }
    }
}
