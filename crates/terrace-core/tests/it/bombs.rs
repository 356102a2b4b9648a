//! Few bytes that stand for many, as somebody would store them who can write to L2: what opening them takes, at most.
//!
//! The allocator of this language counts what is allocated by it alone, zstd's own memory is in the process's high-water mark: both are
//! looked at. Figures are printed.

use crate::fixture::{COMPRESSION_AT, HEAD, LENGTH_AT, compressible, forged, full, key, namespace, stored};
use allocation_counter::measure;
use bytes::Bytes;
use terrace_core::codec::{Codec, Json, RawJson};
use terrace_core::envelope::{Algorithm, Compression, Envelope, Limits};

/// What a service allows.
const LIMITS: Limits = Limits { payload_bytes_max: 1 << 20 };
/// Bytes that one block of zstd can stand for.
const BLOCK: u64 = 128 << 10;
/// Namespace and key, behind the head.
const NAMES: usize = 5 + 7;
/// What may be allocated besides the payload.
const BESIDES: u64 = 64 << 10;

/// A frame of zstd whose blocks all say "this byte, 131,072 times", and that asks for a window of so many bits.
fn zstd(bytes: u64, window_bits: u8) -> Vec<u8> {
    let blocks = bytes.div_ceil(BLOCK);
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, (window_bits - 10) << 3];
    for number in 1..=blocks {
        let header = u32::from(number == blocks) | 1 << 1 | (u32::try_from(BLOCK).expect("it fits")) << 3;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// A block of LZ4 with one match that goes on for so many bytes.
fn lz4(bytes: usize) -> Vec<u8> {
    let mut block = vec![0x1f, 0, 1, 0];
    block.resize(block.len() + bytes / 255, 0xff);
    block.extend_from_slice(&[0, 0x50, 0, 0, 0, 0, 0]);
    block
}

/// An envelope with this in the place of a compressed payload, which it says has `length` bytes.
fn envelope(compression: Compression, payload: &[u8], length: u32) -> Bytes {
    let honest = stored(&Envelope { tags: vec![], ..full(compressible(3_000)) }, compression);
    forged(&honest, |bytes| {
        bytes.truncate(HEAD + NAMES);
        bytes.extend_from_slice(payload);
        bytes[LENGTH_AT].copy_from_slice(&length.to_be_bytes());
    })
}

/// The most that this process has held, in KiB. Zero where nobody says.
fn high_water_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn what_a_bomb_takes_is_the_payload_that_is_allowed_and_little_more() {
    let (namespace, key) = (namespace(), key());
    let gib = 1 << 30;
    let bombs = [
        (Compression::ZSTD, zstd(10 * gib, 20), "zstd, 10 GiB"),
        (Compression::ZSTD, zstd(32 << 20, 20), "zstd, 32 MiB of 1 KiB"),
        (Compression::ZSTD, zstd(10 * gib, 31), "zstd, 10 GiB, a window of 2 GiB"),
        (Compression::LZ4, lz4(1 << 30), "lz4, 1 GiB"),
        (Compression::LZ4, lz4(256 << 10), "lz4, 256 KiB of 1 KiB"),
    ];
    let before = high_water_kib();
    for (compression, bomb, name) in bombs {
        if !compression.algorithm.is_some_and(Algorithm::is_present) {
            continue;
        }
        let mut most = 0;
        for length in [0, 1_000, 1 << 20, (1 << 20) + 1, u32::MAX] {
            let bytes = envelope(compression, &bomb, length);
            let mut is_refused = false;
            let cost = measure(|| is_refused = Envelope::open(&bytes, &namespace, &key, LIMITS).is_err());
            assert!(is_refused, "{name}, said to be {length}");
            most = most.max(cost.bytes_max);
        }
        println!("{name}: {} bytes stored, at most {most} bytes allocated, refused", bomb.len());
        assert!(most <= LIMITS.payload_bytes_max as u64 + BESIDES, "{name}: {most}");
    }
    let grown = high_water_kib().saturating_sub(before);
    println!("the process has grown by {grown} KiB while they were opened");
    assert!(grown < 64 << 10, "{grown} KiB");
}

#[test]
#[cfg(feature = "zstd")]
fn what_a_bomb_behind_a_dictionarys_mark_takes_is_no_more() {
    let dictionary = crate::dictionary::trained("name");
    let mark = rapidhash::v3::rapidhash_v3(dictionary.as_bytes()).to_be_bytes();
    let before = high_water_kib();
    for (bytes, window_bits) in [(10 << 30, 20), (32 << 20, 20), (10 << 30, 31)] {
        let payload = [&mark[..], &zstd(bytes, window_bits)].concat();
        for length in [0, 1_000, 1 << 20, (1 << 20) + 1, u32::MAX] {
            let bomb = envelope(Compression::ZSTD, &payload, length);
            let bomb = forged(&bomb, |bytes| bytes[COMPRESSION_AT] = 3);
            let mut is_refused = false;
            let open =
                || Envelope::open_with(&bomb, &namespace(), &key(), LIMITS, Some(&dictionary)).is_err();
            let cost = measure(|| is_refused = open());
            assert!(is_refused, "{bytes} in a window of 2^{window_bits}, said to be {length}");
            assert!(cost.bytes_max <= LIMITS.payload_bytes_max as u64 + BESIDES, "{}", cost.bytes_max);
        }
    }
    let grown = high_water_kib().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB");
    let honest = envelope(Compression::ZSTD, &[&mark[..], &zstd(1 << 20, 20)].concat(), 1 << 20);
    let honest = forged(&honest, |bytes| bytes[COMPRESSION_AT] = 3);
    let opened = Envelope::open_with(&honest, &namespace(), &key(), LIMITS, Some(&dictionary));
    assert_eq!(opened.expect("so the others are refused for what they are").payload.len(), 1 << 20);
}

#[test]
fn a_bomb_that_is_honest_is_opened_so_the_others_are_refused_for_what_they_are() {
    for (compression, bomb, length) in [
        (Compression::ZSTD, zstd(1 << 20, 20), 1 << 20),
        (Compression::LZ4, lz4(255 * 1_000), 1 + 4 + 15 + 255 * 1_000 + 5),
    ] {
        if compression.algorithm.is_some_and(Algorithm::is_present) {
            let bytes = envelope(compression, &bomb, length);
            let opened =
                Envelope::open(&bytes, &namespace(), &key(), LIMITS).expect("it is within the limit");
            assert!(opened.payload.iter().all(|byte| *byte == 0) && opened.payload.len() == length as usize);
        }
    }
}

#[test]
fn what_nests_without_end_is_refused_for_little() {
    const DEPTH: usize = 100_000;
    let lists = Bytes::from("[".repeat(DEPTH) + &"]".repeat(DEPTH));
    let objects = Bytes::from("{\"a\":".repeat(DEPTH) + "1" + &"}".repeat(DEPTH));
    for (name, text) in [("lists", &lists), ("objects", &objects)] {
        let mut is_refused = [false; 2];
        let raw = measure(|| is_refused[0] = RawJson.decode(text).is_err());
        let typed = measure(|| is_refused[1] = Codec::<serde_json::Value>::decode(&Json, text).is_err());
        println!(
            "{DEPTH} JSON {name}, {} bytes: at most {} and {} bytes allocated, refused",
            text.len(),
            raw.bytes_max,
            typed.bytes_max
        );
        assert_eq!(is_refused, [true; 2]);
        assert!(raw.bytes_max.max(typed.bytes_max) < BESIDES);
    }
    #[cfg(feature = "msgpack")]
    for (name, byte) in [("lists", 0x91), ("maps", 0x81)] {
        let bytes = Bytes::from(vec![byte; DEPTH]);
        let mut is_refused = false;
        let codec = terrace_core::codec::MessagePack;
        let cost = measure(|| is_refused = Codec::<serde_json::Value>::decode(&codec, &bytes).is_err());
        println!("{DEPTH} MessagePack {name}: at most {} bytes allocated, refused", cost.bytes_max);
        assert!(is_refused && cost.bytes_max < BESIDES);
    }
}

/// What changes an envelope by chance is found; what makes the checksum right again is not, and is bound by its names alone.
#[test]
fn of_envelopes_that_were_changed_none_passes_unless_its_checksum_was_made_right() {
    let changes = std::env::var("TERRACE_TEST_FORGERIES").ok().map(|count| count.parse().expect("a number"));
    let changes: u64 = changes.unwrap_or(20_000);
    let limits = Limits { payload_bytes_max: 64 << 10 };
    let samples = [Compression::NONE, Compression::ZSTD, Compression::LZ4]
        .map(|compression| stored(&full(compressible(3_000)), compression));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 11).expect("64 bits") % bound
    };
    let (mut passed, mut made_right) = (0, 0);
    for _ in 0..changes {
        let sample = &samples[below(samples.len())];
        let mut changed = sample.to_vec();
        for _ in 0..=below(4) {
            // The version, which stands outside of the checksum, is what L2 says.
            let at = [0, below(sample.len() - 9) + 9][usize::from(below(50) > 0)];
            changed[at] = u8::try_from(below(256)).expect("a byte");
        }
        if changed[..] == sample[..] {
            continue;
        }
        let changed = Bytes::from(changed);
        let open = |bytes: &Bytes| Envelope::open(bytes, &namespace(), &key(), limits).is_ok();
        passed += u64::from(open(&changed));
        made_right += u64::from(open(&forged(&changed, |_| ())));
    }
    println!(
        "{changes} envelopes were changed: {passed} passed; with a checksum made right {made_right} did"
    );
    assert_eq!(passed, 0);
    let other = terrace_core::Key::new("user:43").expect("valid");
    assert!(
        Envelope::open(&samples[0], &namespace(), &other, limits).is_err(),
        "under another name none does"
    );
}
