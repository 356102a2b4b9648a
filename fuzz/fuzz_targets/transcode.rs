//! A JSON text is in an answer in MessagePack as the same value, or as its text where docs/service.md says that it cannot be held.
//!
//! What is JSON, which number a text is and what a string has in it is read by `terrace_fuzz`, and the answer by rmpv. Strings are
//! compared with those of serde_json as well. Order and repetition of members count.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rmpv::Value;
use terrace_fuzz::json::{self, Json};
use terrace_fuzz::number::{self, Number};
use terrace_server::fuzzing::pack;

/// Bytes that are no value: those of a map with three members that have names.
const FRAME_BYTES: usize = 64;

fuzz_target!(|input: &str| {
    let json = json::read(input);
    let packed = pack("application/json", input.as_bytes());
    assert_eq!(packed.is_some(), json.is_some(), "what is taken is JSON, and all of it");
    let (Some(packed), Some(json)) = (packed, json) else { return };
    assert!(packed.len() <= 3 * input.len() + FRAME_BYTES, "an answer is not much longer than that in JSON");
    let mut rest = &packed[..];
    let read = rmpv::decode::read_value_with_max_depth(&mut rest, 1000).expect("an answer");
    assert!(rest.is_empty(), "an answer is one value");
    let text = |name: &str| -> Value { name.into() };
    if is_held(&json) {
        let Value::Map(members) = read else { panic!("{read:?} is no map") };
        assert_eq!((members.len(), &members[0].0), (1, &text("value")));
        assert!(is_same(&members[0].1, &json), "{:?} {json:?}", members[0].1);
    } else {
        let expected = [("value", input), ("encoding", "json"), ("content_type", "application/json")];
        assert_eq!(read, Value::Map(expected.map(|(name, value)| (text(name), text(value))).into()));
    }
    strings(input, &json);
});

fn is_held(json: &Json) -> bool {
    match json {
        Json::Null | Json::Bool(_) => true,
        Json::Number(text) => number::held(text).is_some(),
        Json::Text(text) => text.is_some(),
        Json::List(items) => items.iter().all(is_held),
        Json::Object(members) => members.iter().all(|(name, value)| name.is_some() && is_held(value)),
    }
}

fn is_same(value: &Value, json: &Json) -> bool {
    match (value, json) {
        (Value::Nil, Json::Null) => true,
        (Value::Boolean(one), Json::Bool(other)) => one == other,
        (Value::Integer(one), Json::Number(text)) => {
            let one = one.as_i64().map(i128::from).or(one.as_u64().map(i128::from));
            matches!(number::held(text), Some(Number::Whole(other)) if one == Some(other))
        }
        (Value::F64(one), Json::Number(text)) => {
            matches!(number::held(text), Some(Number::Double(other)) if one.to_bits() == other.to_bits())
        }
        (Value::String(one), Json::Text(other)) => one.as_str() == other.as_deref(),
        (Value::Array(values), Json::List(items)) => {
            values.len() == items.len() && values.iter().zip(items).all(|(value, item)| is_same(value, item))
        }
        (Value::Map(values), Json::Object(members)) => {
            let is_member = |((key, value), (name, json)): (&(Value, Value), &(Option<String>, Json))| {
                key.as_str() == name.as_deref() && is_same(value, json)
            };
            values.len() == members.len() && values.iter().zip(members).all(is_member)
        }
        _ => false,
    }
}

/// What serde_json reads has the same strings. It keeps the last of members with one name.
fn strings(input: &str, json: &Json) {
    let Ok(value) = serde_json::from_str(input) else { return };
    compare(&value, json);
}

fn compare(value: &serde_json::Value, json: &Json) {
    match (value, json) {
        (serde_json::Value::String(one), Json::Text(other)) => assert_eq!(Some(one), other.as_ref()),
        (serde_json::Value::Array(values), Json::List(items)) => {
            values.iter().zip(items).for_each(|(value, item)| compare(value, item));
        }
        (serde_json::Value::Object(values), Json::Object(members)) => {
            for (name, value) in values {
                let member = members.iter().rev().find(|(other, _)| other.as_ref() == Some(name));
                compare(value, &member.expect("it is read there too").1);
            }
        }
        (serde_json::Value::Number(one), Json::Number(text)) => {
            if let Some(Number::Whole(other)) = number::held(text) {
                assert_eq!(one.as_i128(), Some(other));
            }
        }
        _ => {}
    }
}
