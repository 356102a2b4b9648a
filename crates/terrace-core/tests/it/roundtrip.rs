//! What is sealed opens as it was.

use crate::fixture::{compressible, full, incompressible, key, namespace, open, stored};
use bytes::Bytes;
use proptest::prelude::*;
use std::time::Duration;
use terrace_core::codec::{Codec, CodecId, Json, JsonText, Raw, RawJson, Text};
use terrace_core::envelope::{
    Algorithm, Compression, CompressionLevel, Envelope, EnvelopeError, Limits, TagStamp,
};
use terrace_core::{CodecError, Tag, Ttl, Version};

fn payloads() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..3000).prop_map(Bytes::from),
        (0_usize..70_000).prop_map(compressible),
        (proptest::collection::vec(any::<u8>(), 1..20), 1_usize..400)
            .prop_map(|(part, times)| part.repeat(times).into()),
    ]
}

fn compressions() -> impl Strategy<Value = Compression> {
    let algorithm = prop_oneof![Just(None), Just(Some(Algorithm::Zstd)), Just(Some(Algorithm::Lz4))]
        .prop_filter("built in", |algorithm| algorithm.is_none_or(Algorithm::is_present));
    let level = (1_u8..=9).prop_map(|level| CompressionLevel::new(level).expect("it is one"));
    (algorithm, prop_oneof![Just(0), Just(1024)], level)
        .prop_map(|(algorithm, threshold_bytes, level)| Compression { algorithm, threshold_bytes, level })
}

fn tags() -> impl Strategy<Value = Vec<TagStamp>> {
    let tag = ("[ -~é]{1,60}", any::<u64>()).prop_map(|(text, generation)| TagStamp {
        tag: Tag::new(&text).expect("printable"),
        generation: Version::from(generation),
    });
    proptest::collection::vec(tag, 0..=Tag::PER_ENTRY_MAX)
}

fn ttls() -> impl Strategy<Value = Ttl> {
    prop_oneof![
        Just(Ttl::Never),
        (0_u64..=3_153_600_000_000).prop_map(|ms| Ttl::After(Duration::from_millis(ms)))
    ]
}

/// Seals what `codec` makes of a value, opens it, and gives back what `codec` makes of that.
fn travel<V>(codec: &impl Codec<V>, value: &V, compression: Compression) -> Result<V, CodecError> {
    let envelope = Envelope { codec: codec.id(), ..full(codec.encode(value)?) };
    let opened = Envelope::open(&stored(&envelope, compression), &namespace(), &key(), Limits::default());
    opened.expect("what was sealed opens").decode(codec)
}

proptest! {
    #[test]
    fn any_envelope(
        payload in payloads(),
        compression in compressions(),
        tags in tags(),
        ttl in ttls(),
        (version, created_ms, codec) in any::<(u64, u64, u8)>(),
        (grace, load_time, is_absent) in any::<(u64, u32, bool)>(),
    ) {
        let version = Version::from(version);
        let (grace, load_time) = (Duration::from_millis(grace), Duration::from_micros(u64::from(load_time)));
        let codec = CodecId(codec);
        let envelope =
            Envelope { version, created_ms, ttl, grace, load_time, is_absent, codec, tags, payload };
        let stored = stored(&envelope, compression);
        prop_assert_eq!(Envelope::open(&stored, &namespace(), &key(), Limits::default()), Ok(envelope));
    }

    #[test]
    fn any_value_in_the_codecs_without_features(
        compression in compressions(),
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        string in ".{0,600}",
        (int, wide, truth, letter) in any::<(i64, u128, bool, char)>(),
        float in proptest::num::f64::ANY.prop_filter("not a number equals nothing", |f| !f.is_nan()),
        list in proptest::collection::vec((any::<i32>(), ".{0,9}"), 0..80),
    ) {
        prop_assert_eq!(travel(&Raw, &bytes, compression), Ok(bytes.clone()));
        prop_assert_eq!(travel(&Raw, &Bytes::from(bytes.clone()), compression), Ok(Bytes::from(bytes)));
        prop_assert_eq!(travel(&Text, &string, compression), Ok(string));
        prop_assert_eq!(travel(&Text, &int, compression), Ok(int));
        prop_assert_eq!(travel(&Text, &wide, compression), Ok(wide));
        prop_assert_eq!(travel(&Text, &truth, compression), Ok(truth));
        prop_assert_eq!(travel(&Text, &letter, compression), Ok(letter));
        prop_assert_eq!(travel(&Text, &float, compression), Ok(float));
        let text = JsonText::from_value(&list).expect("JSON has lists");
        prop_assert_eq!(travel(&RawJson, &text, compression), Ok(text));
        prop_assert_eq!(travel(&Json, &list, compression), Ok(list));
    }
}

#[cfg(all(feature = "msgpack", feature = "postcard", feature = "protobuf"))]
proptest! {
    #[test]
    fn any_value_in_the_codecs_behind_features(
        compression in compressions(),
        list in proptest::collection::vec(any::<(i64, Option<bool>, String, f32)>(), 0..60),
        message in ".{0,900}",
    ) {
        use terrace_core::codec::{MessagePack, Postcard, Protobuf};
        let list: Vec<_> = list.into_iter().filter(|entry| !entry.3.is_nan()).collect();
        prop_assert_eq!(travel(&MessagePack, &list, compression), Ok(list.clone()));
        prop_assert_eq!(travel(&Postcard, &list, compression), Ok(list));
        prop_assert_eq!(travel(&Protobuf, &message, compression), Ok(message));
    }
}

#[test]
fn a_plain_value_stands_readable_at_the_end() {
    let payload = Text.encode(&42_u8).expect("numbers are text");
    assert!(stored(&full(payload), Compression::default()).ends_with(b"42"));
}

#[test]
fn ttls_are_rounded_down_and_end_at_never() {
    let opened_ttl =
        |ttl| open(&stored(&Envelope { ttl, ..full("") }, Compression::NONE)).expect("opens").ttl;
    assert_eq!(opened_ttl(Ttl::After(Duration::from_micros(1999))), Ttl::After(Duration::from_millis(1)));
    assert_eq!(opened_ttl(Ttl::After(Duration::from_micros(999))), Ttl::After(Duration::ZERO));
    assert_eq!(opened_ttl(Ttl::After(Duration::MAX)), Ttl::Never);
    assert_eq!(opened_ttl(Ttl::After(Ttl::LONGEST)), Ttl::After(Ttl::LONGEST));
}

#[test]
fn compression_starts_at_its_threshold() {
    for compression in [Compression::ZSTD, Compression::LZ4] {
        if !compression.algorithm.is_some_and(Algorithm::is_present) {
            continue;
        }
        let length = |bytes| stored(&full(compressible(bytes)), compression).len();
        let head = stored(&full(""), compression).len();
        assert_eq!(length(1023), head + 1023, "{compression:?}");
        assert!(length(1024) < head + 800, "{compression:?}");
    }
}

#[test]
fn compression_that_gains_less_than_a_tenth_is_not_kept() {
    for compression in [Compression::ZSTD, Compression::LZ4] {
        if !compression.algorithm.is_some_and(Algorithm::is_present) {
            continue;
        }
        let head = stored(&full(""), compression).len();
        for runs in (0..2_000).step_by(100) {
            let payload: Bytes = [incompressible(9_000), vec![0; runs].into()].concat().into();
            let length = stored(&full(payload.clone()), compression).len() - head;
            assert!(
                length == payload.len() || length * 10 <= payload.len() * 9,
                "{compression:?} {runs} {length}"
            );
        }
        assert!(
            stored(&full(vec![0; 2_000]), compression).len() < head + 100,
            "it works again after a refusal"
        );
    }
}

#[test]
fn an_algorithm_that_is_not_built_in_is_refused_by_name() {
    for algorithm in [Algorithm::Zstd, Algorithm::Lz4] {
        let compression =
            Compression { algorithm: Some(algorithm), threshold_bytes: 0, ..Compression::default() };
        let sealed = full("x").seal(&namespace(), &key(), compression);
        let absent = EnvelopeError::AlgorithmAbsent { algorithm: algorithm.name() };
        assert_eq!(sealed.err(), (!algorithm.is_present()).then_some(absent), "{algorithm:?}");
    }
}

#[test]
fn more_tags_than_allowed_are_refused() {
    let tags = (0..33).map(|n| crate::fixture::stamp(&n.to_string(), n)).collect();
    let sealed = Envelope { tags, ..full("") }.seal(&namespace(), &key(), Compression::NONE);
    assert_eq!(sealed, Err(EnvelopeError::TagsTooMany { count: 33, count_max: 32 }));
}

#[test]
fn a_value_of_another_codec_is_not_decoded() {
    let opened = open(&stored(&full("42"), Compression::NONE)).expect("opens");
    let refusal = opened.decode::<u32>(&Text).expect_err("refused");
    assert_eq!(refusal, CodecError::Mismatch { expected: CodecId::TEXT, found: CodecId::JSON });
    assert_eq!(refusal.to_string(), "the value was written by codec json, and is read by codec text");
    assert_eq!(opened.decode::<u32>(&Json), Ok(42));
    assert_eq!(opened.decode::<JsonText>(&RawJson).expect("one number, two codecs").as_str(), "42");
}
