//! An envelope on its way to L2.

use crate::version::Version;
use bytes::Bytes;

/// An envelope in bytes, complete but for its version, which L2 gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    pub(super) bytes: Bytes,
    pub(super) payload_bytes: usize,
}

impl Sealed {
    /// Where the version stands in the bytes: eight bytes, big-endian.
    pub const VERSION_AT: std::ops::Range<usize> = super::layout::VERSION_AT;

    /// The bytes with a version of zero, as they travel to L2.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many of the bytes are the payload, as it is kept: compressed, if that pays.
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// The bytes as L2 keeps them.
    ///
    /// # Cost
    /// A copy of the bytes.
    #[must_use]
    pub fn stamp(&self, version: Version) -> Bytes {
        let mut bytes = self.bytes.to_vec();
        bytes[Self::VERSION_AT].copy_from_slice(&version.get().to_be_bytes());
        bytes.into()
    }
}
