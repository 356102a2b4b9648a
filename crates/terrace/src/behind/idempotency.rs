//! What a sender calls a request, so that it is carried out once, however often it comes.
//!
//! 1. A key is kept as a digest, in memory and in the file: all take the same room, and nobody reads the keys of others out of a journal.
//! 2. Whether two requests are the same is told by a digest of all that they ask for. It is the same in every process and release, since it
//!    is compared after restarts. Both digests are 128 bits of SHA-256: who makes up two requests of one digest deceives nobody else.

use super::record::Operation;
use sha2::{Digest as _, Sha256};
use std::fmt;

/// The name that a sender gives a request, and to all of its repetitions: 1 to 255 visible ASCII characters, such as a UUID.
///
/// It is chosen anew for each request, by chance. See [`Keyspace::put_once`](crate::Keyspace::put_once).
///
/// # Examples
/// ```
/// use terrace::behind::IdempotencyKey;
/// assert!(IdempotencyKey::new("8e03978e-40d5-43dd-bc93-6894a57f9324").is_ok());
/// assert!(IdempotencyKey::new("two words").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Box<str>);

impl IdempotencyKey {
    /// Longest key, in bytes.
    pub const BYTES_MAX: usize = 255;

    /// A key.
    ///
    /// # Errors
    /// [`IdempotencyKeyError`] if the text is empty, longer than [`BYTES_MAX`](Self::BYTES_MAX), or has anything but visible ASCII characters.
    pub fn new(text: &str) -> Result<Self, IdempotencyKeyError> {
        match text.len() {
            0 => Err(IdempotencyKeyError::Empty),
            bytes if bytes > Self::BYTES_MAX => Err(IdempotencyKeyError::TooLong { bytes }),
            _ if text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Self(text.into())),
            _ => Err(IdempotencyKeyError::Character),
        }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdempotencyKey({:?})", self.0)
    }
}

/// Why a text is no [`IdempotencyKey`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdempotencyKeyError {
    /// It has no characters.
    #[error("an idempotency key is not empty; give each request a name of its own, such as a UUID")]
    Empty,
    /// It has too many.
    #[error("an idempotency key has at most 255 bytes, and this one {bytes}; a UUID is enough")]
    TooLong {
        /// How many bytes it has.
        bytes: usize,
    },
    /// It has a space, a control character, or one that is not ASCII.
    #[error("an idempotency key has visible ASCII characters alone; give the request a name such as a UUID")]
    Character,
}

/// A request, by what its sender calls it and by what it asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Request {
    pub(super) name: u128,
    pub(super) content: u128,
}

impl Request {
    /// A change of a key, and in `terms` what else it asks for.
    pub(crate) fn new(name: &IdempotencyKey, key: &[u8], operation: &Operation, terms: &[u8]) -> Self {
        let (kind, value): (u8, &[u8]) = match operation {
            Operation::Store(value) => (1, value),
            Operation::Delete => (2, &[]),
        };
        let mut content = Sha256::new();
        content.update([kind]);
        for part in [key, value, terms] {
            content.update((part.len() as u64).to_le_bytes());
            content.update(part);
        }
        Self { name: half(&Sha256::digest(name.0.as_bytes())), content: half(&content.finalize()) }
    }
}

/// The first half of a digest.
fn half(digest: &[u8]) -> u128 {
    digest.iter().take(16).fold(0, |half, byte| (half << 8) | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_ascii_and_not_long() {
        for text in ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", "!\"\\~", &"k".repeat(255)] {
            assert_eq!(IdempotencyKey::new(text).expect("a key").as_str(), text);
        }
        for (text, error) in [
            ("", IdempotencyKeyError::Empty),
            (&*"k".repeat(256), IdempotencyKeyError::TooLong { bytes: 256 }),
            ("two words", IdempotencyKeyError::Character),
            ("a\n", IdempotencyKeyError::Character),
            ("\u{e9}", IdempotencyKeyError::Character),
        ] {
            assert_eq!(IdempotencyKey::new(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn each_part_of_a_request_tells_it_from_another() {
        let name = IdempotencyKey::new("n").expect("a key");
        let store = |value: &'static [u8]| Operation::Store(value.into());
        let all = [
            Request::new(&name, b"k", &store(b"v"), b""),
            Request::new(&name, b"l", &store(b"v"), b""),
            Request::new(&name, b"k", &store(b"w"), b""),
            Request::new(&name, b"k", &store(b"v"), b"t"),
            Request::new(&name, b"kv", &store(b""), b""),
            Request::new(&name, b"k", &store(b""), b"v"),
            Request::new(&name, b"k", &store(b""), b""),
            Request::new(&name, b"k", &Operation::Delete, b""),
        ];
        let distinct: std::collections::HashSet<u128> = all.iter().map(|request| request.content).collect();
        assert_eq!(distinct.len(), all.len());
        assert!(all.iter().all(|request| request.name == all[0].name));
    }

    #[test]
    fn digests_are_the_same_for_ever() {
        let name = IdempotencyKey::new("abc").expect("a key");
        let request = Request::new(&name, b"", &Operation::Delete, b"");
        // The first half of what FIPS 180 gives for this text.
        assert_eq!(request.name, 0xba78_16bf_8f01_cfea_4141_40de_5dae_2223);
        assert_eq!(request.content, OF_A_DELETE, "{:#x}", request.content);
    }

    /// A file of another release has to say the same.
    const OF_A_DELETE: u128 = 0xd339_6282_a06c_23f4_8a71_004c_78b3_0331;
}
