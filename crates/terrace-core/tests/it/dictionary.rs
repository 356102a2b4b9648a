//! Dictionaries: who has the one that was used reads the value, and nobody else reads anything.

use crate::fixture::{
    COMPRESSION_AT, LENGTH_AT, SMALL, forged, full, incompressible, key, namespace, stored,
};
use bytes::Bytes;
use terrace_core::envelope::{Compression, Dictionary, DictionaryError, Envelope, EnvelopeError};

/// A value as many services have them.
fn value(id: u64, kind: &str) -> String {
    let mixed = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!(
        r#"{{"id":{id},"{kind}":"{mixed:016x}","email":"user.{}@example.com","plan":"team","active":true,"roles":["reader","writer"],"created_at":"2026-0{}-1{}T09:00:00Z"}}"#,
        mixed % 100_000,
        1 + mixed % 9,
        mixed % 10,
    )
}

pub(crate) fn trained(kind: &str) -> Dictionary {
    let samples: Vec<String> = (0..1_000).map(|id| value(id, kind)).collect();
    Dictionary::train(&samples, 4 << 10).expect("they have much in common")
}

fn sealed(payload: &str, dictionary: &Dictionary) -> Bytes {
    let envelope = full(payload.to_owned());
    let sealed = envelope.seal_with(&namespace(), &key(), Compression::NONE, Some(dictionary));
    sealed.expect("it can be sealed").stamp(envelope.version)
}

fn open(bytes: &Bytes, dictionary: Option<&Dictionary>) -> Result<Envelope, EnvelopeError> {
    Envelope::open_with(bytes, &namespace(), &key(), SMALL, dictionary)
}

#[test]
fn who_has_it_reads_what_was_written_with_it_and_what_was_not() {
    let dictionary = trained("name");
    let again = Dictionary::new(dictionary.as_bytes()).expect("it is one");
    for id in 1_000..1_200 {
        let payload = value(id, "name");
        let bytes = sealed(&payload, &dictionary);
        assert_eq!(bytes[COMPRESSION_AT], 3);
        assert_eq!(
            open(&bytes, Some(&again)).map(|envelope| envelope.payload),
            Ok(Bytes::from(payload.clone()))
        );
        for compression in [Compression::NONE, Compression::default()] {
            let plain = stored(&full(payload.repeat(20)), compression);
            assert_eq!(open(&plain, Some(&again)).expect("it is read").payload, payload.repeat(20));
        }
    }
}

#[test]
fn short_values_shrink_to_less_than_half_of_what_they_take_without() {
    let dictionary = trained("name");
    let values: Vec<String> = (1_000..1_200).map(|id| value(id, "name")).collect();
    let sum = |length: &dyn Fn(&[u8]) -> usize| -> usize {
        values.iter().map(|value| length(value.as_bytes())).sum()
    };
    let (without, with) =
        (sum(&|value| Dictionary::length_without(value)), sum(&|value| dictionary.length_with(value)));
    println!("{} bytes without, {} with, each", without / values.len(), with / values.len());
    assert!(with * 2 < without, "{with} {without}");
}

#[test]
fn who_has_another_one_or_none_reads_nothing_and_says_which_it_is() {
    let (dictionary, other) = (trained("name"), trained("title"));
    assert_ne!(dictionary.id(), other.id());
    let bytes = sealed(&value(7, "name"), &dictionary);
    for reader in [None, Some(&other)] {
        let refused = open(&bytes, reader).expect_err("it cannot be read");
        assert_eq!(refused, EnvelopeError::DictionaryAbsent { found: dictionary.id() });
        assert_eq!(refused.kind(), "dictionary_absent");
    }
}

#[test]
fn another_dictionary_of_the_same_number_gives_no_wrong_value() {
    let (dictionary, other) = (trained("name"), trained("title"));
    // The number stands behind the four bytes that all dictionaries begin with.
    let mut bytes = other.as_bytes().to_vec();
    bytes[4..8].copy_from_slice(&dictionary.as_bytes()[4..8]);
    let alike = Dictionary::new(&bytes).expect("it is one");
    assert_eq!(alike.id(), dictionary.id());
    for id in 0..100 {
        let refused =
            open(&sealed(&value(id, "name"), &dictionary), Some(&alike)).map(|envelope| envelope.payload);
        assert_eq!(refused, Err(EnvelopeError::DictionaryAbsent { found: dictionary.id() }));
    }
}

#[test]
fn what_is_written_is_the_mark_of_the_dictionary_and_a_frame_that_names_it() {
    let dictionary = trained("name");
    let (with, plain) =
        (sealed(&value(7, "name"), &dictionary), stored(&full(value(7, "name")), Compression::NONE));
    let at = plain.len() - value(7, "name").len();
    assert_eq!(with[at..at + 8], rapidhash::v3::rapidhash_v3(dictionary.as_bytes()).to_be_bytes());
    assert_eq!(with[at + 8..at + 12], [0x28, 0xb5, 0x2f, 0xfd], "what a frame of zstd begins with");
    assert!(with[at + 12..].windows(4).take(4).any(|bytes| bytes == dictionary.id().to_le_bytes()));
    assert_eq!(with[..COMPRESSION_AT][13..], plain[..COMPRESSION_AT][13..]);
}

#[test]
fn short_payloads_and_those_that_do_not_shrink_are_kept_as_they_are() {
    let dictionary = trained("name");
    let short = value(7, "name")[..Dictionary::PAYLOAD_BYTES_MIN - 1].to_owned();
    for payload in [Bytes::new(), Bytes::from(short), incompressible(64), incompressible(5_000)] {
        let envelope = full(payload);
        let with = envelope.seal_with(&namespace(), &key(), Compression::default(), Some(&dictionary));
        assert_eq!(
            with.expect("it can be sealed").stamp(envelope.version),
            stored(&envelope, Compression::NONE)
        );
    }
}

#[test]
fn bytes_that_were_tampered_with_make_no_more_than_they_announce() {
    let dictionary = trained("name");
    let payload = value(7, "name");
    let bytes = sealed(&payload, &dictionary);
    let at = bytes.len() - dictionary.length_with(payload.as_bytes());
    for place in at..bytes.len() {
        for flip in [1, 0x80] {
            let opened = open(&forged(&bytes, |bytes| bytes[place] ^= flip), Some(&dictionary));
            assert!(opened.is_err() || place >= at + 8, "{place}: the mark decides");
            assert!(opened.is_err() || opened.is_ok_and(|envelope| envelope.payload.len() == payload.len()));
        }
        assert!(open(&forged(&bytes, |bytes| bytes.truncate(place)), Some(&dictionary)).is_err(), "{place}");
    }
}

#[test]
fn what_is_announced_too_long_is_refused_before_it_is_made() {
    let dictionary = trained("name");
    let bomb = sealed(&"x".repeat(SMALL.payload_bytes_max + 1), &dictionary);
    assert!(bomb.len() < 1_000);
    assert!(matches!(open(&bomb, Some(&dictionary)), Err(EnvelopeError::PayloadTooLong { .. })));
    let honest = sealed(&"x".repeat(1_000), &dictionary);
    let short = forged(&honest, |bytes| bytes[LENGTH_AT].copy_from_slice(&999_u32.to_be_bytes()));
    assert!(matches!(open(&short, Some(&dictionary)), Err(EnvelopeError::Decompress { .. })));
}

#[test]
fn what_is_no_dictionary_is_refused() {
    let dictionary = trained("name");
    let refused = |bytes: &[u8]| Dictionary::new(bytes).expect_err("it is none");
    assert_eq!(refused(b""), DictionaryError::NotOne);
    assert_eq!(refused(&[b'x'; 1_000]), DictionaryError::NotOne);
    let mut nameless = dictionary.as_bytes().to_vec();
    nameless[4..8].fill(0);
    assert_eq!(refused(&nameless), DictionaryError::NotOne);
    assert_eq!(refused(&dictionary.as_bytes()[..12]), DictionaryError::Damaged);
    let length = Dictionary::BYTES_MAX + 1;
    assert_eq!(
        refused(&vec![0; length]),
        DictionaryError::TooLong { length, length_max: Dictionary::BYTES_MAX }
    );
    let few = Dictionary::train(&[value(1, "name")], 4 << 10);
    assert!(matches!(few, Err(DictionaryError::Samples { count: 1, .. })), "{few:?}");
}

#[test]
fn many_dictionaries_at_a_time_are_each_used_for_their_own() {
    let all: Vec<Dictionary> = (0..10).map(|number| trained(&format!("field_{number}"))).collect();
    for round in 0..3 {
        for dictionary in &all {
            let payload = value(round, "name");
            let bytes = sealed(&payload, dictionary);
            assert_eq!(open(&bytes, Some(dictionary)).expect("it is read").payload, payload);
        }
    }
}
