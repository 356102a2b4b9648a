//! What was stored as MessagePack is in an answer byte for byte exactly if it is one value nested at most 127 deep, else as `bin`.
//!
//! What one value is says rmpv, which differs on purpose in two things: it takes the byte that MessagePack never uses for nothing,
//! and strings that are not UTF-8. An answer with either would be unreadable to others.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rmpv::Value;
use terrace_server::fuzzing::pack;

const MEDIA: &str = "application/msgpack";
const DEPTH_MAX: usize = 127;
/// For rmpv, which counts each list, what is in it, and bytes of strings: more than is needed, and no more than the stack has.
const DEPTH_READ_MAX: usize = 1_000;
const NEVER_USED: u8 = 0xc1;
const NIL: u8 = 0xc0;

fuzz_target!(|input: &[u8]| {
    let packed = pack(MEDIA, input).expect("any bytes are a document");
    let is_whole = read(input).is_some_and(|value| {
        depth(&value) <= DEPTH_MAX && has_texts(&value) && !has_never_used(input, &value)
    });
    let value = Value::from(input);
    let mut expected = Vec::new();
    if is_whole {
        expected.extend_from_slice(b"\x82\xa5value");
        expected.extend_from_slice(input);
    } else {
        expected.extend_from_slice(b"\x83\xa5value");
        rmpv::encode::write_value(&mut expected, &value).expect("memory");
        expected.extend_from_slice(b"\xa8encoding\xa6binary");
    }
    expected.extend_from_slice(b"\xaccontent_type\xb3application/msgpack");
    assert_eq!(packed, expected, "{input:x?}");
});

/// The value that all of the bytes are.
fn read(mut bytes: &[u8]) -> Option<Value> {
    let value = rmpv::decode::read_value_with_max_depth(&mut bytes, DEPTH_READ_MAX).ok()?;
    bytes.is_empty().then_some(value)
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Map(members) => {
            1 + members.iter().flat_map(|(key, value)| [depth(key), depth(value)]).max().unwrap_or_default()
        }
        _ => 0,
    }
}

fn has_texts(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_str(),
        Value::Array(items) => items.iter().all(has_texts),
        Value::Map(members) => members.iter().all(|(key, value)| has_texts(key) && has_texts(value)),
        _ => true,
    }
}

/// Whether the byte that is never used stands for a value: what it is read as is the same as of the one for nothing, which no byte
/// within a number, a text or a length would be.
fn has_never_used(input: &[u8], value: &Value) -> bool {
    let written = |value: &Value| {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).expect("memory");
        bytes
    };
    let own = written(value);
    let positions = input.iter().enumerate().filter(|(_, byte)| **byte == NEVER_USED);
    positions.into_iter().any(|(at, _)| {
        let mut other = input.to_vec();
        other[at] = NIL;
        read(&other).is_some_and(|other| written(&other) == own)
    })
}
