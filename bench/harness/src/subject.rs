//! What a cache must be able to do to take part.
//!
//! Everybody gets a borrowed key and makes the owned one itself, from the same text: that work is part of an insert, and
//! keys of another type pay or save it as they would in a program.

use std::sync::Arc;

/// What is kept: shared bytes, handed out as a new reference.
pub type Value = Arc<[u8]>;

/// Bytes of a value.
pub const VALUE_BYTES: usize = 256;

/// A new value. Making it is the same work for everybody.
#[inline]
pub fn value(number: usize) -> Value {
    Arc::from([number.to_le_bytes()[0]; VALUE_BYTES])
}

/// A cache or a map under test.
pub trait Subject {
    /// The value of a key, as a reference of the caller's own.
    fn get(&self, key: &str) -> Option<Value>;

    /// The first byte of the value of a key, seen in place where the contender can do that.
    #[inline]
    fn read(&self, key: &str) -> Option<u8> {
        self.get(key).map(|value| value[0])
    }

    /// Stores a value under a key made from this text.
    fn insert(&self, key: &str, value: Value);

    /// Removes a key.
    fn remove(&self, key: &str);

    /// The value of a key; where there is none, it is made and stored first.
    #[inline]
    fn load(&self, key: &str, make: impl FnOnce() -> Value) -> Value {
        self.get(key).unwrap_or_else(|| {
            let value = make();
            self.insert(key, value.clone());
            value
        })
    }

    /// Does what was put off.
    fn settle(&self) {}
}
