//! The settings of a keyspace that bound its loads, how stale its answers may be, and when it gives none.

use super::KeyspaceBuilder;
use crate::bulkhead::{Bulkhead, Bulkheads};
use crate::cache::Cache;
use crate::error::ConfigError;
use crate::space::Rules;
use crate::staleness::StalenessBudget;
use std::time::Duration;

impl<K, V, C> KeyspaceBuilder<K, V, C> {
    /// How many loads of this keyspace may be at work on this node at the same time. One more waits for its turn, for
    /// [`loads_wait_max`](Self::loads_wait_max), and is then refused with [`ErrorKind::Overloaded`](crate::ErrorKind::Overloaded);
    /// a stale value within its grace is returned instead. Background loads count as any other. Default: no bound.
    ///
    /// The call of the loader that a batch makes needs one place, whatever the number of its keys. A load that waits for another node's
    /// has none.
    ///
    /// Loads that load other keys of their keyspace hold their place meanwhile: if all places are held by such, the inner ones are
    /// refused after their wait.
    pub fn loads_max(mut self, loads_max: usize) -> Self {
        self.rules.loads_max = Some(loads_max);
        self
    }

    /// How long a load waits for its turn, where [`loads_max`](Self::loads_max) bounds how many there are. Zero refuses at once.
    /// Default: 1 second.
    pub fn loads_wait_max(mut self, limit: Duration) -> Self {
        self.rules.loads_wait_max = Some(limit);
        self
    }

    /// How long a loader may run before others stop waiting for it. Whoever comes or waits then begins a second load, which needs
    /// not wait for the first one's lease. What the first still brings is for the caller who began it, and is kept in no
    /// tier. So a loader that hangs stops a key for this long, and not for the whole [`load_timeout`](Self::load_timeout).
    /// Default: none, so that `load_timeout` alone ends a load, for all who wait for it.
    ///
    /// # Cost
    /// While an origin hangs, one load of the key after each such time, each with a place of its own where loads are bounded, until its
    /// `load_timeout`. A batch's loader is not given up in this way: its `load_timeout` ends it.
    pub fn flight_age_max(mut self, limit: Duration) -> Self {
        self.rules.terms.flight_age_max = Some(limit);
        self
    }

    /// How much of what this keyspace returns may be stale before the cache's health says that it is too much. Default: the cache's.
    pub fn staleness_budget(mut self, budget: StalenessBudget) -> Self {
        self.rules.staleness_budget = budget;
        self
    }

    /// Fails what L1 cannot answer while L2 cannot be asked, with [`ErrorKind::L2Unavailable`](crate::ErrorKind::L2Unavailable), instead of going on
    /// without L2: nothing is loaded from the origin then, nor is a key said to be absent that L2 may have. For origins that could not
    /// bear what L2 keeps from them, and for values that are in L2 alone, such as sessions.
    ///
    /// L2 cannot be asked where it does not answer within the cache's wait for it, or answers with an error (it has no memory left, a permission is
    /// missing, it is no primary any more), is left alone by its breaker, or was not told yet of a change of the key. What failed is as a load that failed: an
    /// entry that is past its TTL and within its [grace](crate::EntryOptions::grace) is the answer, marked as stale. A copy in L1 is what
    /// [`KeyspaceBuilder::suspect`] says, but for the knowledge that the origin has no value: what cannot be proven of that is no answer. Once the breaker
    /// lets calls through again, all reads of this keyspace ask L2, and not a share that grows. Changes are made as ever, and told to L2 later. Without an L2 this does nothing.
    ///
    /// # Examples
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let sessions = terrace::Cache::memory()?.keyspace::<String, String>("sessions").fail_closed().build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn fail_closed(mut self) -> Self {
        self.rules.fails_closed = true;
        self
    }

    /// A bound on loads that this keyspace shares with others, because they share an origin. It comes on top of
    /// [`loads_max`](Self::loads_max): a load needs a place in both. Default: none.
    pub fn bulkhead(mut self, bulkhead: &Bulkhead) -> Self {
        self.rules.bulkhead = Some(bulkhead.clone());
        self
    }
}

/// Whether these bounds make sense.
pub(super) fn check(rules: &Rules) -> Result<(), ConfigError> {
    rules.staleness_budget.check()?;
    match rules.terms.flight_age_max {
        Some(age) if age >= rules.load_timeout => {
            let allowed = "shorter than `load_timeout`, which ends a load anyway";
            Err(ConfigError::new("flight_age_max", age, allowed))
        }
        _ => Ok(()),
    }
}

/// The bulkheads of a keyspace with these rules.
pub(super) fn bulkheads(name: &str, rules: &Rules) -> Result<Bulkheads, ConfigError> {
    let own = match (rules.loads_max, rules.loads_wait_max) {
        (Some(loads_max), wait_max) => {
            Some(Bulkhead::new(name, loads_max, wait_max.unwrap_or(Bulkhead::WAIT_MAX_DEFAULT))?)
        }
        (None, Some(wait_max)) => {
            let allowed = "nothing waits without a bound: set `loads_max` as well";
            return Err(ConfigError::new("loads_wait_max", wait_max, allowed));
        }
        (None, None) => None,
    };
    Ok(Bulkheads { own, shared: rules.bulkhead.clone() })
}

/// Whether no other keyspace shares another bulkhead of the same name.
pub(super) fn check_shared(cache: &Cache, rules: &Rules) -> Result<(), ConfigError> {
    let Some(shared) = &rules.bulkhead else { return Ok(()) };
    let spaces = cache.shared.spaces.read();
    let is_other = |other: &Bulkhead| other.name() == shared.name() && !other.is(shared);
    if spaces.values().any(|space| space.rules().bulkheads.shared.as_ref().is_some_and(is_other)) {
        let allowed = "another one has this name: clone that, or give this one a name of its own";
        return Err(ConfigError::new("bulkhead", shared.name(), allowed));
    }
    Ok(())
}
