//! Changes on a condition: compare-and-set.

use super::{EntryOptions, Keyspace, Strategy};
use crate::entry::{Entry, Found};
use crate::error::{Error, ErrorKind};
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
    /// Stores a value if `holds` says so of what is there at that very moment; `None` if it does not, and nothing was changed. Two callers,
    /// on whichever nodes, that want the same version to be there do not both have their way.
    ///
    /// What is there is what L2 has; without L2, what this process has. What is past its TTL, or was invalidated, is not there any more.
    /// `holds` may be asked several times, if others change the key meanwhile.
    ///
    /// # Errors
    /// As [`Keyspace::put_with`]. [`ErrorKind::ConditionUnsupported`] if the keyspace is written to its origin, or L2 cannot look and change
    /// in one step, as in the plain mode. [`ErrorKind::ConditionUnknown`] if L2 cannot be asked. [`ErrorKind::Contended`] if others were always
    /// faster.
    ///
    /// # Cost
    /// Without L2: no await. With L2: two round trips, one more with tags; again for each time that somebody else was faster.
    ///
    /// # Races
    /// A tag that is bumped between the look and the change counts as bumped after it. All else that comes in between is seen.
    ///
    /// # Cancel safety
    /// The write goes on when the caller goes away.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use terrace::EntryOptions;
    /// let users = terrace::Cache::memory()?.keyspace::<u64, String>("users").build()?;
    /// let create = |name: &str| users.put_if(&7, name.to_owned(), EntryOptions::new(), |there| there.is_none());
    /// assert!(create("ann").await?.is_some());
    /// assert!(create("ben").await?.is_none(), "there is one already");
    ///
    /// let seen = users.get_entry(&7).await?.expect("it was created").version;
    /// let is_same = move |there: Option<&terrace::Entry<String>>| there.is_some_and(|there| there.version == seen);
    /// assert!(users.put_if(&7, "cy".to_owned(), EntryOptions::new(), is_same).await?.is_some());
    /// assert!(users.remove_if(&7, is_same).await?.is_none(), "it has another version now");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn put_if<Q>(
        &self,
        key: &Q,
        value: V,
        options: EntryOptions,
        holds: impl Fn(Option<&Entry<V>>) -> bool + Send + Sync + 'static,
    ) -> Result<Option<Written>, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ToOwned<Owned = K> + Sync + ?Sized,
    {
        self.check_tiers_alone()?;
        let timer = self.timer_of_change();
        let writing = self.writing(key, value, options)?;
        let written = self.view.write_if(writing, self.judged(holds)).await;
        self.view.space.counters.observe(Op::Put, self.farthest(), timer);
        match written {
            Ok(None) => Ok(None),
            Ok(Some(written)) => self.counted_put(Ok(written)).map(Some),
            Err(error) => self.counted_put(Err(error)).map(Some),
        }
    }

    /// Removes a key if `holds` says so of what is there at that very moment; `None` if it does not. See [`Keyspace::put_if`].
    ///
    /// # Errors
    /// As [`Keyspace::put_if`].
    ///
    /// # Cost
    /// As [`Keyspace::put_if`].
    ///
    /// # Cancel safety
    /// The removal goes on when the caller goes away.
    pub async fn remove_if<Q>(
        &self,
        key: &Q,
        holds: impl Fn(Option<&Entry<V>>) -> bool + Send + Sync + 'static,
    ) -> Result<Option<Removed>, Error>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        self.check_tiers_alone()?;
        let timer = self.timer_of_change();
        let key = key.to_key()?;
        let removed = self.view.remove_if(key, self.judged(holds)).await;
        self.view.space.counters.observe(Op::Remove, self.farthest(), timer);
        match removed {
            Ok(None) => Ok(None),
            Ok(Some(removed)) => self.counted_remove(Ok(removed)).map(Some),
            Err(error) => self.counted_remove(Err(error)).map(Some),
        }
    }

    /// Whether changes stay in the tiers: nobody can say what an origin has at the moment of a change.
    fn check_tiers_alone(&self) -> Result<(), Error> {
        match self.strategy() {
            Strategy::CacheAside | Strategy::ReadThrough if !self.view.writes_behind() => Ok(()),
            _ => Err(ErrorKind::ConditionUnsupported.into()),
        }
    }

    /// A condition on what is found, with its type back.
    fn judged(
        &self,
        holds: impl Fn(Option<&Entry<V>>) -> bool + Send + Sync + 'static,
    ) -> Box<dyn Fn(Option<Found>) -> bool + Send + Sync> {
        let clock = self.view.shared.clock.clone();
        Box::new(move |found| holds(found.and_then(|found| found.into_entry(&clock)).as_ref()))
    }
}
