//! An invalidator: a policy, and patterns that are invalidated together.

use super::{InvalidateError, Invalidated, Invalidation};
use crate::error::Error;
use crate::space::View;
use parking_lot::Mutex;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;
use terrace_core::Glob;

/// When what is named stops being true.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum InvalidationPolicy {
    /// At once.
    #[default]
    Immediate,
    /// After so long, by the clock of L2, whoever dies meanwhile; without L2, while this process lives.
    Delayed(Duration),
    /// Not before it expires: nothing is done.
    Lazy,
}

/// Invalidates by one policy, and remembers patterns; see [`Keyspace::invalidator`](crate::Keyspace::invalidator).
pub struct Invalidator<K> {
    view: View,
    policy: InvalidationPolicy,
    patterns: Mutex<Vec<Glob>>,
    key: PhantomData<fn(K)>,
}

impl<K> fmt::Debug for Invalidator<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidator")
            .field("policy", &self.policy)
            .field("patterns", &self.patterns.lock())
            .finish_non_exhaustive()
    }
}

impl<K> Invalidator<K> {
    pub(crate) fn new(view: View, policy: InvalidationPolicy) -> Self {
        Self { view, policy, patterns: Mutex::default(), key: PhantomData }
    }

    /// When what is named stops being true.
    pub fn policy(&self) -> InvalidationPolicy {
        self.policy
    }

    /// Remembers a pattern. One that is there already is there once.
    ///
    /// # Errors
    /// [`InvalidateError::Pattern`] if it is empty or too long.
    pub fn register(&self, pattern: &str) -> Result<(), InvalidateError> {
        let glob = Glob::new(pattern)?;
        let mut patterns = self.patterns.lock();
        if !patterns.contains(&glob) {
            patterns.push(glob);
        }
        Ok(())
    }

    /// Forgets a pattern. Returns whether it was there.
    pub fn unregister(&self, pattern: &str) -> bool {
        let mut patterns = self.patterns.lock();
        let before = patterns.len();
        patterns.retain(|glob| glob.as_str() != pattern);
        patterns.len() < before
    }

    /// The patterns that are remembered, in the order in which they came.
    pub fn registered(&self) -> Vec<String> {
        self.patterns.lock().iter().map(|glob| glob.as_str().to_owned()).collect()
    }

    /// Names entries to be invalidated by this policy.
    pub fn invalidate(&self) -> Invalidation<K> {
        Invalidation::new(self.view.clone()).policy(self.policy)
    }

    /// Invalidates what the patterns name that are remembered.
    ///
    /// # Errors
    /// As [`Invalidation::send`].
    ///
    /// # Cost
    /// As [`Invalidation::send`], for each pattern.
    ///
    /// # Cancel safety
    /// It goes on when the caller goes away.
    pub async fn invalidate_registered(&self) -> Result<Invalidated, Error> {
        let patterns = self.patterns.lock().clone();
        self.invalidate().globs(patterns).send().await
    }
}
