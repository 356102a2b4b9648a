//! Bytes that somebody else wrote: an error for every cause, and never a panic.

use crate::fixture::{
    COMPRESSION_AT, FLAGS_AT, HEAD, KEY_LENGTH_AT, LENGTH_AT, NAMESPACE_LENGTH_AT, SMALL, TAGS_AT,
    compressible, forged, full, key, namespace, open, stored,
};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use terrace_core::envelope::{Algorithm, Compression, Envelope, EnvelopeError, Limits};
use terrace_core::{Key, Namespace};

/// Envelopes of every kind that this build can write.
fn samples() -> Vec<Bytes> {
    let payload = compressible(3_000);
    [Compression::NONE, Compression::ZSTD, Compression::LZ4]
        .into_iter()
        .filter(|compression| compression.algorithm.is_none_or(Algorithm::is_present))
        .map(|compression| stored(&full(payload.clone()), compression))
        .collect()
}

fn plain() -> Bytes {
    stored(&full("{\"id\":42}"), Compression::NONE)
}

fn kind(bytes: &Bytes) -> &'static str {
    open(bytes).expect_err("it is forged").kind()
}

#[test]
fn an_envelope_cut_anywhere_is_refused() {
    for sample in samples() {
        for length in 0..sample.len() {
            let cut = sample.slice(..length);
            assert!(open(&cut).is_err(), "{length}");
            assert!(open(&forged(&cut, |_| ())).is_err(), "{length}, with a checksum that is right");
        }
    }
}

#[test]
fn an_envelope_with_one_bit_changed_is_refused() {
    for sample in samples() {
        for bit in 0..sample.len() * 8 {
            let mut changed = sample.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            let is_version = (1..9).contains(&(bit / 8));
            assert_eq!(open(&changed.into()).is_ok(), is_version, "bit {bit}");
        }
    }
}

#[test]
fn every_cause_has_its_own_error() {
    let plain = plain();
    let forge = |change: fn(&mut Vec<u8>)| kind(&forged(&plain, change));
    assert_eq!(kind(&Bytes::new()), "truncated");
    assert_eq!(kind(&plain.slice(..39)), "truncated");
    assert_eq!(kind(&Bytes::from_static(b"\x02")), "format");
    assert_eq!(kind(&Bytes::from_static(b"{\"id\":42}")), "format");
    assert_eq!(forge(|bytes| bytes[0] = 2), "format");
    assert_eq!(forge(|bytes| bytes[COMPRESSION_AT] = 4), "algorithm_unknown");
    assert_eq!(forge(|bytes| bytes[COMPRESSION_AT] = 3), "dictionary_absent");
    assert_eq!(forge(|bytes| bytes[TAGS_AT] = 33), "tags_too_many");
    assert_eq!(forge(|bytes| bytes[HEAD + 5 + 7] = 200), "truncated");
    assert_eq!(forge(|bytes| bytes[HEAD + 5 + 7] = 0), "tag");
    assert_eq!(forge(|bytes| bytes[HEAD + 5 + 7 + 1] = b'\n'), "tag");
    assert_eq!(forge(|bytes| bytes[HEAD + 5 + 7 + 1] = 0xff), "tag");
    assert_eq!(forge(|bytes| bytes[HEAD] = b'v'), "other_entry");
    assert_eq!(forge(|bytes| bytes[HEAD + 5] = b'v'), "other_entry");
    assert_eq!(forge(|bytes| bytes.push(b' ')), "payload_length");
    let mut damaged = plain.to_vec();
    damaged[HEAD] ^= 1;
    assert_eq!(kind(&damaged.into()), "checksum");
}

#[test]
fn flags_that_matter_are_refused_and_others_ignored() {
    let plain = plain();
    for bit in 0..8 {
        let flagged = forged(&plain, |bytes| bytes[FLAGS_AT] = 1 << bit);
        match bit {
            0 => assert!(open(&flagged).is_ok_and(|envelope| envelope.is_absent)),
            1 | 3 => assert_eq!(open(&flagged), Err(EnvelopeError::Flags { found: 1 << bit })),
            2 => assert_eq!(open(&flagged), Err(EnvelopeError::OtherEntry), "the names stand elsewhere"),
            _ => assert_eq!(open(&flagged), open(&plain)),
        }
    }
}

#[test]
fn lengths_that_lie_are_refused() {
    let plain = plain();
    for length in [0, 1, 4, 6, 32, 33, 255] {
        let forged = forged(&plain, |bytes| bytes[NAMESPACE_LENGTH_AT] = length);
        assert!(["other_entry", "truncated"].contains(&kind(&forged)), "namespace of {length}");
    }
    for length in [0, 1, 6, 8, 1024, 1025, u16::MAX] {
        let forged = forged(&plain, |bytes| bytes[KEY_LENGTH_AT].copy_from_slice(&length.to_be_bytes()));
        assert!(["other_entry", "truncated"].contains(&kind(&forged)), "key of {length}");
    }
    for sample in samples() {
        for length in [0, 1, 2_999, 3_001, 65_536, 65_537, u32::MAX] {
            let forged = forged(&sample, |bytes| bytes[LENGTH_AT].copy_from_slice(&length.to_be_bytes()));
            let expected: &[_] =
                if length > 65_536 { &["payload_too_long"] } else { &["payload_length", "decompress"] };
            assert!(expected.contains(&kind(&forged)), "payload of {length}: {}", kind(&forged));
        }
    }
}

#[test]
fn where_a_name_ends_is_part_of_the_name() {
    let envelope = full("x");
    let (ab, a) = (Namespace::new("ab").expect("valid"), Namespace::new("a").expect("valid"));
    let (c, bc) = (Key::new("c").expect("valid"), Key::new("bc").expect("valid"));
    let sealed = envelope.seal(&ab, &c, Compression::NONE).expect("it can be sealed");
    assert!(Envelope::open(sealed.as_bytes(), &ab, &c, SMALL).is_ok());
    assert_eq!(Envelope::open(sealed.as_bytes(), &a, &bc, SMALL), Err(EnvelopeError::OtherEntry));
}

#[test]
fn the_value_of_another_entry_never_comes_out() {
    let bytes = plain();
    for other in ["user:4", "user:421", "user:43", "USER:42"] {
        let other = Key::new(other).expect("valid");
        assert_eq!(Envelope::open(&bytes, &namespace(), &other, SMALL), Err(EnvelopeError::OtherEntry));
    }
    for other in ["user", "users2", "orders"] {
        let other = Namespace::new(other).expect("valid");
        assert_eq!(Envelope::open(&bytes, &other, &key(), SMALL), Err(EnvelopeError::OtherEntry));
    }
}

#[test]
fn a_bomb_gives_no_more_than_it_declared() {
    for compression in [Compression::ZSTD, Compression::LZ4] {
        if !compression.algorithm.is_some_and(Algorithm::is_present) {
            continue;
        }
        let bomb = stored(&full(vec![0; 4 << 20]), compression);
        assert!(bomb.len() < 20_000, "{} bytes", bomb.len());
        let honest = Limits { payload_bytes_max: 4 << 20 };
        assert!(Envelope::open(&bomb, &namespace(), &key(), honest).is_ok());
        let too_long = EnvelopeError::PayloadTooLong { length: 4 << 20, length_max: 64 << 10 };
        assert_eq!(open(&bomb), Err(too_long));
        let understated = forged(&bomb, |bytes| bytes[LENGTH_AT].copy_from_slice(&1000_u32.to_be_bytes()));
        assert_eq!(kind(&understated), "decompress");
    }
}

#[test]
fn a_payload_may_be_as_long_as_the_limit_and_no_longer() {
    for compression in [Compression::NONE, Compression::default()] {
        let length_max = SMALL.payload_bytes_max;
        assert!(open(&stored(&full(compressible(length_max)), compression)).is_ok());
        let longer = open(&stored(&full(compressible(length_max + 1)), compression));
        assert_eq!(longer.expect_err("too long").kind(), "payload_too_long");
    }
}

proptest! {
    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), format in any::<bool>()) {
        let mut bytes = bytes;
        if format && !bytes.is_empty() {
            bytes[0] = 1;
        }
        let bytes = Bytes::from(bytes);
        prop_assert!(open(&bytes).is_err());
        if let Ok(opened) = open(&forged(&bytes, |_| ())) {
            prop_assert!(false, "made of chance: {opened:?}");
        }
    }

    #[test]
    fn changed_envelopes_are_refused_or_stay_within_their_bounds(
        which in any::<Index>(),
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        cut in proptest::option::weighted(0.2, any::<Index>()),
        is_in_head in any::<bool>(),
    ) {
        let samples = samples();
        let sample = &samples[which.index(samples.len())];
        let changed = forged(sample, |bytes| {
            let reach = if is_in_head { 80 } else { bytes.len() };
            for (at, byte) in changes {
                bytes[at.index(reach)] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
        });
        match open(&changed) {
            Ok(envelope) => {
                prop_assert!(envelope.payload.len() <= SMALL.payload_bytes_max);
                prop_assert!(envelope.tags.len() <= 32);
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
