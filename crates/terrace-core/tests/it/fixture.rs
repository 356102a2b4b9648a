//! Envelopes to test with.

use bytes::Bytes;
use std::time::Duration;
use terrace_core::codec::CodecId;
use terrace_core::envelope::{Compression, Envelope, EnvelopeError, Limits, Sealed, TagStamp};
use terrace_core::{Key, Namespace, Tag, Ttl, Version};

/// Where the fields stand, said a second time: a change of the layout has to be made twice.
pub(crate) const CHECKSUM_AT: std::ops::Range<usize> = 9..13;
pub(crate) const COMPRESSION_AT: usize = 14;
pub(crate) const FLAGS_AT: usize = 15;
pub(crate) const LENGTH_AT: std::ops::Range<usize> = 32..36;
pub(crate) const TAGS_AT: usize = 36;
pub(crate) const NAMESPACE_LENGTH_AT: usize = 37;
pub(crate) const KEY_LENGTH_AT: std::ops::Range<usize> = 38..40;
pub(crate) const HEAD: usize = 40;

pub(crate) const SMALL: Limits = Limits { payload_bytes_max: 64 << 10 };

pub(crate) fn namespace() -> Namespace {
    Namespace::new("users").expect("valid")
}

pub(crate) fn key() -> Key {
    Key::new("user:42").expect("valid")
}

pub(crate) fn stamp(tag: &str, generation: u64) -> TagStamp {
    TagStamp { tag: Tag::new(tag).expect("valid"), generation: Version::from(generation) }
}

/// An envelope with every field set.
pub(crate) fn full(payload: impl Into<Bytes>) -> Envelope {
    Envelope {
        version: Version::from(0x0102_0304_0506_0708),
        created_ms: 1_763_629_200_123,
        ttl: Ttl::After(Duration::from_millis(90_061)),
        grace: Duration::ZERO,
        load_time: Duration::ZERO,
        is_absent: false,
        codec: CodecId::JSON,
        tags: vec![stamp("org:7", 11), stamp("é", u64::MAX)],
        payload: payload.into(),
    }
}

/// The bytes of an envelope as L2 keeps them.
pub(crate) fn stored(envelope: &Envelope, compression: Compression) -> Bytes {
    let sealed: Sealed = envelope.seal(&namespace(), &key(), compression).expect("it can be sealed");
    sealed.stamp(envelope.version)
}

pub(crate) fn open(bytes: &Bytes) -> Result<Envelope, EnvelopeError> {
    Envelope::open(bytes, &namespace(), &key(), SMALL)
}

/// Changes bytes and makes the checksum right again, as somebody would who can write to L2.
pub(crate) fn forged(bytes: &Bytes, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = bytes.to_vec();
    change(&mut bytes);
    if bytes.len() >= CHECKSUM_AT.end {
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..1]), &bytes[CHECKSUM_AT.end..]);
        bytes[CHECKSUM_AT].copy_from_slice(&checksum.to_be_bytes());
    }
    bytes.into()
}

/// Text that shrinks to about a third.
pub(crate) fn compressible(bytes: usize) -> Bytes {
    let lines = (0_u32..).flat_map(|n| {
        format!("{{\"id\":{},\"name\":\"user\"}},", n.wrapping_mul(2_654_435_761)).into_bytes()
    });
    lines.take(bytes).collect::<Vec<u8>>().into()
}

/// Bytes that do not shrink.
pub(crate) fn incompressible(bytes: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let random = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    random.flatten().take(bytes).collect::<Vec<u8>>().into()
}
