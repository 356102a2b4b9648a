//! Is this value what the origin holds?
//!
//! 1. Two documents are the same if they are the same JSON, whatever their spaces and the order of their fields.
//! 2. What is expected comes from the origin alone, never from an answer of the cache.
//!
//! A document that was found right once is known by its bytes from then on, so that checking an answer costs a hash
//! and not a parse.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicU64, Ordering};

/// Stands for a document; 64 bits, so two different ones agree once in 18 million million million.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of a JSON document; `None` if it is not JSON.
    pub(crate) fn of(document: &[u8]) -> Option<Self> {
        let mut value: serde_json::Value = serde_json::from_slice(document).ok()?;
        value.sort_all_objects();
        Some(Self(hash(value.to_string().as_bytes())))
    }
}

/// What the origin holds for every key of a trace.
#[derive(Debug)]
pub(crate) struct Expected {
    documents: Vec<Fingerprint>,
    /// The hash of the bytes that were last found to be the right document; zero at first.
    right: Vec<AtomicU64>,
}

impl Expected {
    /// Documents in the order of keys.
    pub(crate) fn new(documents: Vec<Fingerprint>) -> Self {
        let right = documents.iter().map(|_| AtomicU64::new(0)).collect();
        Self { documents, right }
    }

    /// Whether these bytes are the document of that key.
    pub(crate) fn is_right(&self, key: u32, bytes: &[u8]) -> bool {
        let key = key as usize;
        let hash = hash(bytes).max(1);
        if self.right[key].load(Ordering::Relaxed) == hash {
            return true;
        }
        let is_right = Fingerprint::of(bytes) == Some(self.documents[key]);
        if is_right {
            self.right[key].store(hash, Ordering::Relaxed);
        }
        is_right
    }
}

fn hash(bytes: &[u8]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(documents: &[&str]) -> Expected {
        Expected::new(documents.iter().map(|text| Fingerprint::of(text.as_bytes()).unwrap()).collect())
    }

    #[test]
    fn the_same_json_is_right_however_it_is_written() {
        let expected = expected(&[r#"{"a":1,"b":{"x":"y z","w":2}}"#]);
        for same in [r#"{"a":1,"b":{"x":"y z","w":2}}"#, r#"{ "b": {"w": 2, "x": "y z"}, "a": 1 }"#] {
            assert!(expected.is_right(0, same.as_bytes()));
            assert!(expected.is_right(0, same.as_bytes()), "and still is");
        }
    }

    #[test]
    fn anything_else_is_wrong_also_after_a_right_answer() {
        let expected = expected(&[r#"{"a":1}"#, r#"{"a":2}"#]);
        assert!(expected.is_right(0, br#"{"a":1}"#));
        for wrong in [&br#"{"a":2}"#[..], br#"{"a":1,"b":1}"#, br#"{"a":"1"}"#, b"{", b"", b"null"] {
            assert!(!expected.is_right(0, wrong), "{}", String::from_utf8_lossy(wrong));
        }
        assert!(!expected.is_right(1, br#"{"a":1}"#));
    }
}
