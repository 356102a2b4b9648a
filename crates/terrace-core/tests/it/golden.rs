//! Bytes that every release has to write and to read.

use crate::fixture::{full, key, namespace, open, stored};
use bytes::Bytes;
use std::time::Duration;
use terrace_core::envelope::{Algorithm, Compression, Envelope, EnvelopeError, Sealed};
use terrace_core::{Key, Namespace, Ttl, Version};

/// An envelope of format 1 with every field set, field by field.
const FULL: &str = concat!(
    "01",                 // format
    "0102030405060708",   // version
    "0dc767e8",           // checksum
    "01",                 // codec: JSON
    "00",                 // compression: none
    "00",                 // flags
    "0000000000015fcd",   // ttl: 90,061 ms
    "0000019aa07df2fb",   // created
    "0000000d",           // payload length
    "02",                 // tags
    "05",                 // namespace length
    "0007",               // key length
    "7573657273",         // users
    "757365723a3432",     // user:42
    "056f72673a37",       // tag org:7
    "000000000000000b",   // its generation
    "02c3a9",             // tag é
    "ffffffffffffffff",   // its generation
    "7b226964223a343220", // {"id":42
    "207d0a20",           // }
);

/// Head, then `"terrace "` 256 times, as zstd 1.5.7 and `lz4_flex` 0.14 wrote it: later releases may write other bytes, and
/// must read these.
const ZSTD: &str = concat!(
    "010102030405060708284e7cdd0101000000000000015fcd0000019aa07df2fb00000800000500077573657273757365723a3432",
    "28b52ffd6000077d00004074657272616365200100f5ef2f5c",
);
const LZ4: &str = concat!(
    "010102030405060708529d1c7a0102000000000000015fcd0000019aa07df2fb00000800000500077573657273757365723a3432",
    "8f74657272616365200800ffffffffffffffe660727261636520",
);

fn bytes(hex: &str) -> Bytes {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digit).collect::<Vec<u8>>().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

#[test]
fn format_1_is_written_as_ever() {
    let envelope = full("{\"id\":42  }\n ");
    assert_eq!(hex(&stored(&envelope, Compression::NONE)), FULL);
}

#[test]
fn format_1_is_read_as_ever() {
    assert_eq!(open(&bytes(FULL)), Ok(full("{\"id\":42  }\n ")));
    let compressed = Envelope { tags: vec![], ..full("terrace ".repeat(256)) };
    for (algorithm, golden) in [(Algorithm::Zstd, ZSTD), (Algorithm::Lz4, LZ4)] {
        let absent = EnvelopeError::AlgorithmAbsent { algorithm: algorithm.name() };
        let expected = if algorithm.is_present() { Ok(compressed.clone()) } else { Err(absent) };
        assert_eq!(open(&bytes(golden)), expected);
    }
}

#[test]
fn the_smallest_envelope_is_forty_bytes_and_its_names() {
    let envelope = Envelope { ttl: Ttl::Never, tags: vec![], ..full("") };
    let (namespace, key) = (Namespace::new("n").expect("valid"), Key::new("k").expect("valid"));
    let sealed = envelope.seal(&namespace, &key, Compression::NONE).expect("it can be sealed");
    let expected = "010000000000000000793be1ad010000ffffffffffffffff0000019aa07df2fb00000000000100016e6b";
    assert_eq!(hex(sealed.as_bytes()), expected);
}

#[test]
fn grace_load_time_and_absence_stand_before_the_names() {
    let envelope = Envelope {
        grace: Duration::from_mins(10),
        load_time: Duration::from_millis(52),
        is_absent: true,
        tags: vec![],
        ..full("")
    };
    let sealed = envelope.seal(&namespace(), &key(), Compression::NONE).expect("it can be sealed");
    let text = hex(sealed.as_bytes());
    assert_eq!(&text[30..32], "05");
    assert_eq!(&text[80..104], "00000000000927c00000cb20");
    assert_eq!(open(&sealed.stamp(envelope.version)), Ok(envelope));
}

#[test]
fn the_version_can_be_put_in_later_without_a_new_checksum() {
    let envelope = Envelope { version: Version::from(7), ..full("x") };
    let sealed = envelope.seal(&namespace(), &key(), Compression::NONE).expect("it can be sealed");
    assert_eq!(sealed.as_bytes()[Sealed::VERSION_AT], [0; 8]);
    assert_eq!(open(sealed.as_bytes()).expect("opens").version, Version::ZERO);
    assert_eq!(open(&sealed.stamp(Version::from(u64::MAX))).expect("opens").version, Version::from(u64::MAX));
}

#[test]
fn the_checksum_is_crc32c() {
    let bytes = bytes(FULL);
    let mut crc = u32::MAX;
    for byte in bytes[..1].iter().chain(&bytes[13..]) {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    assert_eq!(bytes[9..13], (!crc).to_be_bytes());
}
