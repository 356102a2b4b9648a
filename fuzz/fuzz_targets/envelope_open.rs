//! No bytes from L2 make a reader panic, exceed its limit, or yield what cannot be sealed and opened again.
//!
//! The first byte of the input chooses: the bytes as they are, or with a checksum that is right, or around the
//! names that the reader expects. Without the latter two nothing but the checksum would ever be tried.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use terrace_core::codec::{Codec, Json, JsonText, MessagePack, Postcard, Protobuf, RawJson, Text};
use terrace_core::envelope::{Compression, Envelope, Limits};
use terrace_core::{Key, Namespace};

const LIMITS: Limits = Limits { payload_bytes_max: 1 << 20 };
const NAMES: &[u8] = b"users42";
/// Namespace and key length, the last three bytes of the fixed part.
const NAME_LENGTHS: [u8; 3] = [5, 0, 2];
const FIXED_BYTES: usize = 40;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else { return };
    let bytes = match choice % 4 {
        0 => rest.to_vec(),
        1 => checked(rest.to_vec()),
        _ => named(rest),
    };
    check(&bytes.into());
});

fn named(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    if let Some(fixed) = bytes.first_chunk_mut::<FIXED_BYTES>() {
        fixed[FIXED_BYTES - NAME_LENGTHS.len()..].copy_from_slice(&NAME_LENGTHS);
        bytes.splice(FIXED_BYTES..FIXED_BYTES, NAMES.iter().copied());
    }
    checked(bytes)
}

fn checked(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() >= FIXED_BYTES {
        bytes[0] = 1;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..1]), &bytes[13..]);
        bytes[9..13].copy_from_slice(&checksum.to_be_bytes());
    }
    bytes
}

fn check(bytes: &Bytes) {
    let namespace = Namespace::new("users").expect("valid");
    let key = Key::new("42").expect("valid");
    let Ok(envelope) = Envelope::open(bytes, &namespace, &key, LIMITS) else { return };
    assert!(envelope.payload.len() <= LIMITS.payload_bytes_max);
    for compression in [Compression::NONE, Compression::ZSTD, Compression::LZ4] {
        let stored =
            envelope.seal(&namespace, &key, compression).expect("it was sealed").stamp(envelope.version);
        assert_eq!(Envelope::open(&stored, &namespace, &key, LIMITS).as_ref(), Ok(&envelope));
    }
    decode(&envelope.payload);
}

fn decode(payload: &Bytes) {
    if let Ok(text) = RawJson.decode(payload) {
        assert_eq!(JsonText::new(text.as_bytes().clone()), Ok(text));
    }
    if let Ok(value) = Codec::<serde_json::Value>::decode(&Json, payload) {
        RawJson.decode(payload).expect("what a type reads is text");
        Json.encode(&value).expect("what is read can be written");
    }
    let _ = Codec::<serde_json::Value>::decode(&MessagePack, payload);
    let _ = Codec::<Vec<(u64, Option<String>)>>::decode(&MessagePack, payload);
    let _ = Codec::<Vec<(u64, Option<String>)>>::decode(&Postcard, payload);
    let _ = Codec::<String>::decode(&Protobuf, payload);
    let _ = Codec::<f64>::decode(&Text, payload);
    let _ = Codec::<i128>::decode(&Text, payload);
}
