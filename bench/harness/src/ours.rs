//! terrace's engine as a contender.

use crate::subject::{Subject, VALUE_BYTES, Value};
use anyhow::Result;
use std::time::Duration;
use terrace_core::{Clock, Moment};
use terrace_memory::{Memory, Policy, Text};

/// The type of our keys, looked up by `&str`.
pub type Key = Text;

/// What an entry weighs: it is bounded by entries, so this is only summed up.
const WEIGHT_BYTES: u64 = (crate::keys::KEY_BYTES + VALUE_BYTES) as u64;

/// A cache bounded by entries, with or without a TTL for all of them.
#[derive(Debug)]
pub struct Ours {
    memory: Memory<Key, Value>,
    clock: Clock,
    ttl: Option<Duration>,
}

impl Ours {
    /// Builds one.
    ///
    /// # Errors
    /// If the capacity is not allowed.
    pub fn new(capacity: usize, policy: Policy, ttl: Option<Duration>) -> Result<Self> {
        let clock = Clock::system();
        let memory = Memory::builder().entries_max(capacity).policy(policy).clock(clock.clone()).build()?;
        Ok(Self { memory, clock, ttl })
    }
}

impl Subject for Ours {
    #[inline]
    fn get(&self, key: &str) -> Option<Value> {
        self.memory.get(key)
    }

    #[inline]
    fn read(&self, key: &str) -> Option<u8> {
        self.memory.get_with(key, |value| value[0])
    }

    #[inline]
    fn insert(&self, key: &str, value: Value) {
        let deadline = self.ttl.map_or(Moment::NEVER, |ttl| self.clock.now().plus(ttl));
        self.memory.insert(Key::from(key), value, WEIGHT_BYTES, deadline);
    }

    #[inline]
    fn remove(&self, key: &str) {
        self.memory.remove(key);
    }
}
