//! A key of text, in place where it is short.
//!
//! A `String` in an entry points to another place in memory, and comparing it costs a lookup one more cache miss. [`Text`] keeps up
//! to 24 bytes within itself, so within the entry's cache line.

use compact_str::CompactString;
use equivalent::Equivalent;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// Text that is kept in place up to 24 bytes, and on the heap beyond. A key for [`Memory`](crate::Memory), to be looked up
/// by `&str`.
///
/// # Examples
/// ```
/// use terrace_core::Moment;
/// use terrace_memory::{Memory, Text};
/// let memory = Memory::<Text, u32>::builder().build()?;
/// memory.insert(Text::from("user:42"), 7, 4, Moment::NEVER);
/// assert_eq!(memory.get("user:42"), Some(7));
/// # Ok::<(), terrace_memory::ConfigError>(())
/// ```
#[derive(Clone, Default)]
pub struct Text(CompactString);

impl Text {
    /// The text.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Deref for Text {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Hash for Text {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialEq for Text {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        is_same(self.as_bytes(), other.as_bytes())
    }
}

impl Eq for Text {}

impl Equivalent<Text> for str {
    #[inline]
    fn equivalent(&self, key: &Text) -> bool {
        is_same(self.as_bytes(), key.as_bytes())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

/// Compares bytes. From 8 to 32 bytes, where most keys lie, it takes four words that overlap, and no call.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let len = a.len();
    if len != b.len() {
        return false;
    }
    if len.wrapping_sub(8) > 24 {
        return a == b;
    }
    let differ = |at: usize| word(a, at) ^ word(b, at);
    let last = len - 8;
    differ(0) | differ(last) | differ(last.min(8)) | differ(last.saturating_sub(8)) == 0
}

/// Eight bytes of at least as many.
#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |chunk| u64::from_ne_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_are_compared_whole(a in prop::collection::vec(any::<u8>(), 0..70), at in any::<usize>(), flip in 1_u8..) {
            prop_assert!(is_same(&a, &a.clone()));
            let mut b = a.clone();
            if let Some(byte) = b.get_mut(at % a.len().max(1)) {
                *byte ^= flip;
                prop_assert!(!is_same(&a, &b));
            }
            b.push(0);
            prop_assert!(!is_same(&a, &b));
        }

        #[test]
        fn text_hashes_as_str(text in ".{0,40}") {
            use std::hash::BuildHasher;
            let hasher = foldhash::fast::FixedState::default();
            prop_assert_eq!(hasher.hash_one(Text::from(&*text)), hasher.hash_one(text.as_str()));
            prop_assert!(text.as_str().equivalent(&Text::from(text.clone())));
        }
    }
}
