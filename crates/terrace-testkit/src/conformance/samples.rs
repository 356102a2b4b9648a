//! Values to store: whole envelopes, so that what is stored can be checked against its key.

use bytes::Bytes;
use std::time::Duration;
use terrace_core::codec::CodecId;
use terrace_core::envelope::{Compression, Envelope, Limits, Sealed};
use terrace_core::{Key, Namespace, Ttl, Version};

/// An envelope of plain text.
///
/// # Panics
/// If the text is too long for an envelope.
pub fn sealed(namespace: &Namespace, key: &Key, text: &str, ttl: Ttl) -> Sealed {
    let envelope = Envelope {
        version: Version::ZERO,
        created_ms: 1_577_836_800_000,
        ttl,
        grace: Duration::ZERO,
        load_time: Duration::ZERO,
        is_absent: false,
        codec: CodecId::TEXT,
        tags: Vec::new(),
        payload: Bytes::copy_from_slice(text.as_bytes()),
    };
    envelope.seal(namespace, key, Compression::NONE).expect("a short text fits an envelope")
}

/// The version and the text of an envelope of plain text.
///
/// # Panics
/// If the bytes are no envelope of this very key: that is what the suites are there to find.
pub fn opened(namespace: &Namespace, key: &Key, bytes: &Bytes) -> (Version, String) {
    let envelope = Envelope::open(bytes, namespace, key, Limits::default())
        .unwrap_or_else(|error| panic!("what is stored under {key:?} is not an envelope of it: {error}"));
    let text = String::from_utf8(envelope.payload.to_vec()).expect("only text was stored");
    (envelope.version, text)
}
