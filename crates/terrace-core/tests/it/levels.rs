//! The levels of zstd: which there are, that each is what is used, and that readers need not know it.

use crate::fixture::{HEAD, compressible, full, incompressible, key, namespace, open, stored};
use bytes::Bytes;
use terrace_core::envelope::{Compression, CompressionLevel, CompressionLevelError, Envelope, Limits};

/// Namespace and key, behind the head.
const NAMES: usize = 5 + 7;
/// The largest window that every decoder should be able to read: 8 MiB.
const WINDOW_MAX: u64 = 8 << 20;

fn at(level: u8) -> Compression {
    Compression::zstd_at(CompressionLevel::new(level).expect("it is one"))
}

fn sealed(payload: &Bytes, level: u8) -> Bytes {
    stored(&Envelope { tags: vec![], ..full(payload.clone()) }, at(level))
}

/// How far back a frame of zstd refers at most, as its head says.
fn window(frame: &[u8]) -> u64 {
    assert_eq!(frame[..4], [0x28, 0xb5, 0x2f, 0xfd], "a frame of zstd");
    assert_eq!(frame[4] & 0b10_0000, 0, "it has a window of its own, and is not one of its content's length");
    let (exponent, mantissa) = (u64::from(frame[5] >> 3), u64::from(frame[5] & 7));
    let base = 1 << (10 + exponent);
    base + base / 8 * mantissa
}

#[test]
fn there_are_levels_from_1_to_19() {
    let levels: Vec<u8> = (0..=u8::MAX).filter(|&level| CompressionLevel::new(level).is_ok()).collect();
    assert_eq!(levels, (1..=19).collect::<Vec<u8>>());
    assert_eq!(CompressionLevel::new(20), Err(CompressionLevelError { found: 20 }));
    assert_eq!(at(1), Compression::ZSTD);
    assert_eq!(CompressionLevel::default(), CompressionLevel::FASTEST);
}

#[test]
fn a_thread_that_uses_several_levels_uses_the_one_that_is_asked_for() {
    let payload = compressible(3_000);
    let alone = |level| {
        let payload = payload.clone();
        std::thread::spawn(move || sealed(&payload, level)).join().expect("it seals")
    };
    let (fast, hard) = (alone(1), alone(19));
    assert!(hard.len() < fast.len(), "{} and {} bytes", fast.len(), hard.len());
    for level in [1, 19, 19, 1, 1, 19] {
        let stored = sealed(&payload, level);
        assert_eq!(stored, if level == 1 { fast.clone() } else { hard.clone() }, "level {level}");
        assert_eq!(open(&stored).expect("it opens").payload, payload);
        // What does not shrink leaves the thread's context in the middle of a frame.
        let plain = incompressible(3_000);
        assert!(sealed(&plain, level).len() > plain.len());
    }
}

#[test]
fn a_large_value_at_the_highest_level_opens_again_and_needs_no_large_window() {
    // What cannot be compressed stands there twice, further apart than a window; what is between can.
    let (twice, between) = (incompressible(1 << 20), incompressible(32 << 10).repeat(288));
    let payload: Bytes = [&twice[..], &between, &twice].concat().into();
    assert!(payload.len() as u64 > WINDOW_MAX);
    let stored = sealed(&payload, CompressionLevel::MAX.get());
    assert!(stored.len() * 2 > twice.len() * 3, "the second part cannot refer to the first");
    assert_eq!(window(&stored[HEAD + NAMES..]), WINDOW_MAX);
    let limits = Limits { payload_bytes_max: payload.len() };
    let opened = Envelope::open(&stored, &namespace(), &key(), limits).expect("it opens");
    assert_eq!(opened.payload, payload);
}
