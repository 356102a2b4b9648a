//! Other settings for a keyspace that is open.
//!
//! 1. The settings take the place of the old ones all at once. A call that is under way may end by the old ones, by the new ones, or by
//!    some of each; one that begins later goes by the new ones.
//! 2. What is kept stays, with the TTL that it was stored with. Nobody forgets what other nodes have told.
//! 3. What a keyspace is made of cannot be replaced: its codec and weigher, whether it uses L1 and L2, whether it is written behind. That is
//!    refused before anything is changed, but for codec and weigher, which are those it was opened with.

use super::limits;
use super::strategy::{Backing, strategy_of};
use super::{Keyspace, KeyspaceBuilder, builder};
use crate::error::{ConfigError, KeyspaceError};
use crate::space::Rules;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl<K: Send + Sync + 'static, V: Send + Sync + 'static, C> KeyspaceBuilder<K, V, C> {
    /// Gives a keyspace that is open these settings, and returns a handle of it that has this builder's origin, strategy and tags.
    ///
    /// All handles go by the new settings from now on; handles that were there before keep their origin and tags. What waits
    /// to be written behind goes where, and as, it was to go when the keyspace was opened.
    ///
    /// # Errors
    /// [`KeyspaceError::Setting`] if a setting cannot be, or cannot be changed while the keyspace is open: its name, whether it
    /// uses L1 or L2, whether it is written behind. Then nothing has changed.
    ///
    /// # Cost
    /// No await. A bound on loads that is another than before counts anew, so as many loads as before may run beside it until they end.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// let cache = terrace::Cache::memory()?;
    /// let users = cache.keyspace::<u64, String>("users").ttl(Duration::from_secs(60)).build()?;
    /// users.put(&1, "ann".to_owned()).await?;
    ///
    /// let users = cache.keyspace("users").ttl(Duration::from_secs(5)).replace(&users)?;
    /// assert_eq!(users.get(&1).await?.as_deref().map(String::as_str), Some("ann"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn replace(self, open: &Keyspace<K, V>) -> Result<Keyspace<K, V>, KeyspaceError> {
        let space = &open.view.space;
        builder::check(&self.rules, &self.cache)?;
        let is_same_cache = Arc::ptr_eq(&self.cache.shared, &open.view.shared);
        if self.name != space.namespace.as_str() || !is_same_cache {
            return Err(fixed("name", &self.name, "the name of the keyspace, of the same cache"));
        }
        if (self.uses_l1, self.uses_l2) != (space.uses_l1, space.uses_l2) {
            return Err(fixed("tiers", "others", "those that the keyspace was opened with"));
        }
        #[cfg(feature = "journal")]
        if self.behind.is_some() != open.view.writes_behind() {
            return Err(fixed("write_behind", "otherwise", "as the keyspace was opened"));
        }
        let before = space.rules.load_full();
        let bounds = |rules: &Rules| (rules.loads_max, rules.loads_wait_max);
        let mut bulkheads = limits::bulkheads(&self.name, &self.rules)?;
        if bounds(&self.rules) == bounds(&before) {
            bulkheads.own.clone_from(&before.bulkheads.own);
        }
        if self.rules.terms.may_linger() {
            // Before the first copy is stored by the new terms.
            space.lingers.store(true, Ordering::Release);
        }
        space.rules.store(Arc::new(Rules { bulkheads, ..self.rules }));
        let backing = self.backing.map(|backing| Arc::new(backing.timed(&space.counters)));
        space.counters.change_strategy(strategy_of(backing.as_deref()));
        if backing.as_deref().and_then(Backing::to_load).is_none() {
            // Nor are keys loaded anew where somebody asks for that.
            space.refreshes.load_no_more();
        }
        Ok(Keyspace { view: open.view.clone(), tagger: self.tagger, backing })
    }
}

/// The refusal of what cannot be changed while a keyspace is open.
fn fixed(setting: &'static str, value: &str, allowed: &str) -> KeyspaceError {
    ConfigError::new(setting, value, &format!("it stays while the keyspace is open: {allowed}")).into()
}
