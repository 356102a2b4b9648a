//! What opening an envelope reserves in memory.

use crate::fixture::{LENGTH_AT, TAGS_AT, compressible, forged, full, key, namespace, open, stored};
use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use terrace_core::codec::{Codec, JsonText, Raw, RawJson, Text};
use terrace_core::envelope::{Algorithm, Compression, Envelope, Limits};

const GENEROUS: Limits = Limits { payload_bytes_max: usize::MAX };

fn cost_of_opening(bytes: &Bytes, limits: Limits) -> AllocationInfo {
    let (namespace, key) = (namespace(), key());
    let shared = bytes.clone();
    let cost = measure(|| drop(Envelope::open(bytes, &namespace, &key, limits)));
    drop(shared);
    cost
}

#[test]
fn a_plain_envelope_opens_without_memory() {
    let envelope = Envelope { tags: vec![], ..full(compressible(4_000)) };
    let bytes = stored(&envelope, Compression::NONE);
    assert_eq!(cost_of_opening(&bytes, GENEROUS).count_total, 0);
    assert_eq!(open(&bytes).expect("opens").payload.as_ptr(), bytes[bytes.len() - 4_000..].as_ptr());
}

#[test]
fn tags_cost_one_list_and_a_text_each() {
    let bytes = stored(&full("x"), Compression::NONE);
    assert_eq!(cost_of_opening(&bytes, GENEROUS).count_total, 1 + 2);
}

#[test]
fn a_length_above_the_limit_is_refused_before_memory_is_reserved() {
    for compression in [Compression::NONE, Compression::ZSTD, Compression::LZ4] {
        if compression.algorithm.is_none_or(Algorithm::is_present) {
            let envelope = Envelope { tags: vec![], ..full(compressible(2_000)) };
            let lying = forged(&stored(&envelope, compression), |bytes| bytes[LENGTH_AT].fill(0xff));
            let limits = Limits { payload_bytes_max: 1 << 20 };
            assert_eq!(cost_of_opening(&lying, limits).bytes_total, 0, "{compression:?}");
        }
    }
}

#[test]
fn a_plain_payload_that_lies_reserves_nothing_whatever_the_limit() {
    let envelope = Envelope { tags: vec![], ..full("short") };
    let lying = forged(&stored(&envelope, Compression::NONE), |bytes| bytes[LENGTH_AT].fill(0xff));
    assert!(cost_of_opening(&lying, GENEROUS).bytes_total < 100, "an error at most");
}

#[test]
fn decompression_reserves_the_payload_and_no_more() {
    for compression in [Compression::ZSTD, Compression::LZ4] {
        if compression.algorithm.is_some_and(Algorithm::is_present) {
            let envelope = Envelope { tags: vec![], ..full(compressible(60_000)) };
            let bytes = stored(&envelope, compression);
            open(&bytes).expect("opens, and makes the thread's context");
            let cost = cost_of_opening(&bytes, GENEROUS);
            assert!((60_000..60_200).contains(&cost.bytes_max), "{compression:?}: {} bytes", cost.bytes_max);
        }
    }
}

#[test]
fn announced_tags_reserve_at_most_a_list_of_thirty_two() {
    let envelope = Envelope { tags: vec![], ..full("") };
    let bytes = stored(&envelope, Compression::NONE);
    let announced =
        |count| cost_of_opening(&forged(&bytes, |bytes| bytes[TAGS_AT] = count), GENEROUS).bytes_max;
    assert!(announced(32) <= 1024);
    assert_eq!(announced(33), 0);
}

#[test]
fn reading_raw_bytes_and_json_text_copies_nothing() {
    let bytes = Bytes::from(b"{\"list\":[1,2,{\"deep\":\"\\u00e9\"}]}".to_vec());
    let _shared = bytes.clone();
    let raw = measure(|| drop(Codec::<Bytes>::decode(&Raw, &bytes)));
    let text = measure(|| drop(RawJson.decode(&bytes)));
    assert_eq!(raw.count_total, 0);
    assert!(text.bytes_max <= 16, "a byte for each level, and not the {} bytes of the text", bytes.len());
}

#[test]
fn weighing_allocates_nothing() {
    let text = JsonText::from_value(&vec![1; 500]).expect("JSON has lists");
    let list: Vec<u64> = (0..500).collect();
    let mut weights = Vec::with_capacity(4);
    let cost = measure(|| {
        weights.push(RawJson.weight(&text));
        weights.push(Text.weight(&-1.25e-9_f64));
        weights.push(Codec::<String>::weight(&Text, &String::new()));
        weights.push(terrace_core::codec::Json.weight(&list));
    });
    assert_eq!(weights, [1001, 14, 0, 1891]);
    assert_eq!(cost.count_total, 0);
}
