//! The digest of a token: what is compared instead of it.
//!
//! 1. A token is never kept. What is kept is its SHA-256, and what is compared are two digests of one length, in a time that does not
//!    depend on where they differ.
//! 2. A digest is not shown either: who sees it could try short tokens at home.

use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::fmt;
use subtle::{Choice, ConstantTimeEq};

/// Bytes of a digest.
const LENGTH: usize = 32;

/// The SHA-256 of a token.
///
/// # Examples
/// ```
/// use terrace_server::auth::Digest;
/// let digest = Digest::of(b"a long random text");
/// let written = "5afdcd7cdb7f84a1b1ae13c4b8d2a0ee5d9c0a5ab8d6b4b5f6a1f1f2b5c1d0e3";
/// assert!(Digest::from_hex(written).is_some() && Digest::from_hex("5afd").is_none());
/// assert_eq!(format!("{digest:?}"), "***");
/// ```
#[derive(Clone, Copy)]
pub struct Digest([u8; LENGTH]);

impl Digest {
    /// The digest of a token.
    ///
    /// # Cost
    /// Tens of nanoseconds for a token of ordinary length; no allocation.
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// A digest as `sha256sum` prints it: 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 2 * LENGTH {
            return None;
        }
        let mut bytes = [0; LENGTH];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// Whether both are the same, in constant time.
    pub(super) fn same(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.same(other).into()
    }
}

impl Eq for Digest {}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_sha256sum() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::from_hex(empty), Some(Digest::of(b"")));
        let abc = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
        assert_eq!(Digest::from_hex(abc), Some(Digest::of(b"abc")));
        for other in ["", "e3b0", &abc[1..], &abc.replace('F', "g"), &abc.replace("BA", "é")] {
            assert_eq!(Digest::from_hex(other), None, "{other}");
        }
    }
}
