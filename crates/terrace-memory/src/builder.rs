//! Settings of a cache, checked when it is built.
//!
//! Nothing is clamped or guessed: a setting out of range is refused with its name, its value and what is allowed.

use crate::bounds::Bounds;
use crate::cache::Memory;
use crate::listener::{Listener, RemovalCause, RemovalFn};
use std::fmt;
use std::hash::Hash;
use std::num::NonZero;
use std::thread;
use terrace_core::Clock;

/// Who leaves when room is needed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[non_exhaustive]
pub enum Policy {
    /// S3-FIFO, tuning itself: what is read again stays, one pass over many keys flushes nothing, and a hit takes no lock.
    /// It finds more than LRU on nearly every workload.
    #[default]
    Default,
    /// The least recently used entry leaves. Easy to predict, but a pass over many keys flushes the cache, and every
    /// hit takes its shard's lock for itself alone.
    Lru,
}

/// A setting that is not allowed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{setting} = {value}: allowed is {allowed}")]
#[non_exhaustive]
pub struct ConfigError {
    /// Name of the setting.
    pub setting: &'static str,
    /// The value that it was given.
    pub value: String,
    /// What it may be.
    pub allowed: String,
}

impl ConfigError {
    pub(crate) fn new(setting: &'static str, value: &impl ToString, allowed: impl Into<String>) -> Self {
        Self { setting, value: value.to_string(), allowed: allowed.into() }
    }
}

/// Settings of a [`Memory`]; see [`Memory::builder`].
///
/// # Examples
/// ```
/// use terrace_memory::{Memory, Policy};
/// let settings = Memory::<u64, String>::builder().entries_max(1_000).bytes_max(1 << 20);
/// let memory = settings.policy(Policy::Lru).build()?;
/// # Ok::<(), terrace_memory::ConfigError>(())
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct Builder<K, V> {
    pub(crate) bounds: Bounds,
    pub(crate) policy: Policy,
    pub(crate) clock: Clock,
    listener: Option<RemovalFn<K, V>>,
}

impl<K, V> Builder<K, V> {
    /// The entries bound unless another is set: enough for most working sets, at most a few MB for small values.
    pub const ENTRIES_MAX_DEFAULT: usize = 10_000;

    pub(crate) fn new() -> Self {
        let bounds = Bounds { entries: Self::ENTRIES_MAX_DEFAULT, bytes: 0 };
        Self { bounds, policy: Policy::Default, clock: Clock::system(), listener: None }
    }

    /// At most this many entries, expired ones included; 0 means "not bounded by entries". Default: 10,000.
    pub fn entries_max(mut self, entries: usize) -> Self {
        self.bounds.entries = entries;
        self
    }

    /// Weights of the entries add up to at most this; 0, the default, means "not bounded by bytes".
    ///
    /// With [`Builder::entries_max`] set too, both bounds hold. Alone, this bound also allows no more entries than bytes, so
    /// entries without weight are bounded too.
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bounds.bytes = bytes;
        self
    }

    /// Who leaves when room is needed. Default: [`Policy::Default`].
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The clock that deadlines are compared with. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Calls `listener` for each entry that leaves, with the reason.
    ///
    /// It runs on the thread whose call took the entry out, before that call returns, outside all locks: it may use
    /// the cache, and it should be quick. If it panics, the panic is caught and counted, and the next removal is
    /// told as ever. Removals that it causes itself are told too, nested at most 8 deep.
    ///
    /// # Examples
    /// ```
    /// use std::sync::mpsc;
    /// use terrace_core::Moment;
    /// use terrace_memory::{Memory, RemovalCause};
    /// let (left, leaves) = mpsc::channel();
    /// let memory = Memory::builder()
    ///     .entries_max(1)
    ///     .on_removal(move |key: &&str, value: &u32, cause| left.send((*key, *value, cause)).unwrap())
    ///     .build()?;
    /// memory.insert("a", 1, 0, Moment::NEVER);
    /// memory.insert("b", 2, 0, Moment::NEVER);
    /// assert_eq!(leaves.try_recv(), Ok(("a", 1, RemovalCause::Capacity)));
    /// # Ok::<(), terrace_memory::ConfigError>(())
    /// ```
    pub fn on_removal(mut self, listener: impl Fn(&K, &V, RemovalCause) + Send + Sync + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }
}

impl<K, V> Builder<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Builds the cache.
    ///
    /// # Errors
    /// [`ConfigError`] if both bounds are 0, or one is above what can be counted (2^31 entries, 2^62 bytes).
    ///
    /// # Cost
    /// A few kilobytes. Room for entries is taken as they come.
    pub fn build(self) -> Result<Memory<K, V>, ConfigError> {
        let bounds = self.bounds.checked(1)?;
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        Ok(Memory::new(bounds, bounds.shards(cores), self.policy, self.clock, Listener::new(self.listener)))
    }
}

impl<K, V> fmt::Debug for Builder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bounds, policy, clock, listener } = self;
        f.debug_struct("Builder")
            .field("entries_max", &bounds.entries)
            .field("bytes_max", &bounds.bytes)
            .field("policy", policy)
            .field("clock", clock)
            .field("listens", &listener.is_some())
            .finish()
    }
}
