//! The seam between a replay, which asks and checks, and what it asks.

use bytes::Bytes;
use std::future::Future;
use terrace::Tier;

/// An answer with a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    /// Which tier had it.
    pub(crate) tier: Tier,
    /// The value, as JSON.
    pub(crate) value: Bytes,
}

/// Asks for keys, one after another. Each worker of a replay has its own.
pub(crate) trait Asker: Send + 'static {
    /// Asks for one key; `None` if there is no value.
    fn ask(&mut self, id: &str) -> impl Future<Output = anyhow::Result<Option<Answer>>> + Send;
}
