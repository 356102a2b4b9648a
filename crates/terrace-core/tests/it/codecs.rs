//! Each codec: what it writes, what it refuses, what it weighs.

use bytes::Bytes;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use terrace_core::codec::{Codec, CodecId, Json, JsonText, Raw, RawJson, Text};

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
    manager: Option<Box<User>>,
}

fn user(levels: usize) -> User {
    (1..levels).fold(User { id: 0, name: "é".to_owned(), manager: None }, |manager, id| User {
        id: id as u64,
        name: "Ada".to_owned(),
        manager: Some(Box::new(manager)),
    })
}

#[test]
fn the_numbers_are_for_ever() {
    let named: Vec<_> = (0..=255).filter_map(|number| Some((number, CodecId(number).name()?))).collect();
    let expected = [
        (1, "json"),
        (2, "raw"),
        (3, "text"),
        (4, "messagepack"),
        (5, "postcard"),
        (6, "protobuf"),
        (7, "media"),
    ];
    assert_eq!(named, expected);
    assert_eq!(Codec::<u8>::id(&Json), RawJson.id());
}

#[test]
fn text_is_what_people_write() {
    fn check<V>(value: &V, expected: &str)
    where
        V: PartialEq + std::fmt::Debug,
        Text: Codec<V>,
    {
        let bytes = Text.encode(value).expect("text");
        assert_eq!(bytes, expected);
        assert_eq!(Text.weight(value), expected.len() as u64);
        assert_eq!(&Text.decode(&bytes).expect("its own text"), value);
    }
    check(&"two\r\nlines\0".to_owned(), "two\r\nlines\0");
    check(&u8::MAX, "255");
    check(&i64::MIN, "-9223372036854775808");
    check(&u128::MAX, "340282366920938463463374607431768211455");
    check(&1.5_f32, "1.5");
    check(&f64::NEG_INFINITY, "-inf");
    check(&0.1_f64, "0.1");
    check(&true, "true");
    check(&'é', "é");
}

#[test]
fn text_of_another_type_is_refused() {
    let refuses = |text: &'static str| Codec::<u8>::decode(&Text, &text.into()).is_err();
    assert!(["", " 1", "1 ", "256", "-1", "1.0", "one", "0x1"].into_iter().all(refuses));
    assert!(Codec::<bool>::decode(&Text, &"TRUE".into()).is_err());
    assert!(Codec::<String>::decode(&Text, &Bytes::from_static(b"\xff")).is_err());
}

#[test]
fn raw_weighs_its_length() {
    assert_eq!(Raw.weight(&Bytes::from_static(b"four")), 4);
    assert_eq!(Raw.weight(&vec![0; 7]), 7);
}

#[test]
fn json_weighs_what_it_writes() {
    let value = user(3);
    assert_eq!(Json.weight(&value), Json.encode(&value).expect("JSON has objects").len() as u64);
    let nameless = BTreeMap::from([(vec![1], 1)]);
    assert_eq!(Json.weight(&nameless), size_of::<BTreeMap<Vec<i32>, i32>>() as u64);
}

#[test]
fn json_text_is_one_value_and_stays_as_it_came() {
    for text in [" {\"a\" : 1.50, \"a\":2}\n", "null", "1e999", "\"\\ud800\"", "[]", "-0.0", "\"\u{1f980}\""]
    {
        let json = JsonText::new(text.into()).expect("JSON");
        assert_eq!((json.as_str(), json.as_bytes().len()), (text, text.len()));
        assert_eq!(RawJson.decode(&RawJson.encode(&json).expect("JSON")), Ok(json));
    }
    for text in ["", " ", "{", "[1,]", "01", "{} {}", "'a'", "nul", "\"\n\"", "\"\\x\"", "NaN", "{a:1}"] {
        assert!(JsonText::new(text.into()).is_err(), "{text:?}");
    }
    assert!(JsonText::new(Bytes::from_static(b"\"\xff\"")).is_err());
}

#[test]
fn json_text_inside_other_json_is_a_value() {
    let text: JsonText = "{\"id\": 1}".parse().expect("JSON");
    let outer = serde_json::to_string(&vec![Some(&text), None]).expect("JSON has lists");
    assert_eq!(outer, "[{\"id\": 1},null]");
    assert_eq!(
        serde_json::from_str::<[Option<JsonText>; 2]>(&outer).expect("its own text"),
        [Some(text.clone()), None]
    );
    assert_eq!(text.to_value::<BTreeMap<String, u8>>(), Ok(BTreeMap::from([("id".to_owned(), 1)])));
}

#[test]
fn json_nests_to_one_bound_in_text_and_in_types() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let deepest = JsonText::new(nested(127).into()).expect("within the bound");
    assert!(deepest.to_value::<serde_json::Value>().is_ok());
    for depth in [128, 100_000] {
        assert!(JsonText::new(nested(depth).into()).is_err());
        assert!(Codec::<serde_json::Value>::decode(&Json, &nested(depth).into()).is_err());
    }
    let bracketed = serde_json::to_string(&"[{\"\\".repeat(500)).expect("JSON has strings");
    assert!(JsonText::new(bracketed.into()).is_ok(), "brackets inside a string do not nest");
    assert!(JsonText::new(("[]".repeat(300)).into()).is_err(), "many values are not one");
    assert!(JsonText::new(format!("[{}[]]", "[],".repeat(300)).into()).is_ok(), "siblings do not nest");

    let written = Json.encode(&user(127)).expect("within the bound");
    assert_eq!(Json.decode(&written), Ok(user(127)));
    assert!(Json.encode(&user(128)).is_err());
}

#[cfg(feature = "msgpack")]
mod messagepack {
    use super::{BTreeMap, Bytes, Codec, User, user};
    use proptest::prelude::*;
    use terrace_core::codec::MessagePack;

    type Anything = serde_json::Value;

    fn reads(bytes: &[u8]) -> bool {
        Codec::<Anything>::decode(&MessagePack, &Bytes::copy_from_slice(bytes)).is_ok()
    }

    #[test]
    fn fields_have_names() {
        let bytes = MessagePack.encode(&user(1)).expect("written");
        assert_eq!(&bytes[..], b"\x83\xa2id\x00\xa4name\xa2\xc3\xa9\xa7manager\xc0");
        assert_eq!(MessagePack.weight(&user(1)), bytes.len() as u64);
    }

    #[test]
    fn every_kind_of_item_is_measured() {
        let long = |length: usize| "x".repeat(length);
        let value = (
            vec![0, -1, -33, -129, -32_769, -2_147_483_649, i64::MIN],
            vec![127, 128, 256, 65_536, u64::MAX],
            vec![long(0), long(31), long(32), long(256), long(65_536)],
            vec![vec![1_u8; 16], vec![2; 65_536]],
            (0..70_000_u32).map(|n| (n, n % 2 == 0)).collect::<BTreeMap<_, _>>(),
            (1.5_f32, 2.5_f64),
        );
        let bytes = MessagePack.encode(&value).expect("written");
        assert!(MessagePack.decode(&bytes) == Ok(value), "a value of many kinds");
        let small: BTreeMap<u32, bool> = (0..16).map(|n| (n, true)).collect();
        assert_eq!(MessagePack.decode(&MessagePack.encode(&small).expect("written")), Ok(small));
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for lying in [
            &b"\xdd\xff\xff\xff\xff"[..],
            b"\xdf\xff\xff\xff\xff\xa1k",
            b"\xdb\xff\xff\xff\xffa",
            b"\xc6\xff\xff\xff\xffa",
            b"\xc9\xff\xff\xff\xff\x01a",
            b"\x9f\x00",
            b"\x8f\x00",
            b"\xd8\x01\x02",
            b"\xc1",
        ] {
            assert!(!reads(lying), "{lying:02x?}");
        }
    }

    #[test]
    fn nesting_is_bounded_before_it_is_followed() {
        let nested = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
        assert!(reads(&nested(64)));
        assert!(!reads(&nested(65)));
        assert!(!reads(&nested(1_000_000)));
        assert!(!reads(&[0x81].repeat(1_000_000)));
        let written = MessagePack.encode(&user(64)).expect("within the bound");
        assert_eq!(MessagePack.decode(&written), Ok(user(64)));
        assert!(MessagePack.encode(&user(65)).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = Bytes::from(bytes);
            let _ = Codec::<User>::decode(&MessagePack, &bytes);
            let _ = Codec::<Anything>::decode(&MessagePack, &bytes);
        }
    }
}

#[cfg(feature = "postcard")]
#[test]
fn postcard_reads_one_value_and_weighs_it() {
    use terrace_core::codec::Postcard;
    let bytes = Postcard.encode(&user(2)).expect("written");
    assert_eq!(Postcard.weight(&user(2)), bytes.len() as u64);
    assert_eq!(Postcard.decode(&bytes), Ok(user(2)));
    let longer = Bytes::from([&bytes[..], b"\0"].concat());
    assert!(Codec::<User>::decode(&Postcard, &longer).is_err());
    assert!(Codec::<Vec<u64>>::decode(&Postcard, &Bytes::from_static(b"\xff\xff\xff\xff\x0f\x01")).is_err());
}

#[cfg(feature = "protobuf")]
#[test]
fn protobuf_reads_messages_and_shares_their_bytes() {
    use terrace_core::codec::Protobuf;
    let value = Bytes::from_static(b"shared");
    let bytes = Protobuf.encode(&value).expect("written");
    assert_eq!(Protobuf.weight(&value), bytes.len() as u64);
    let decoded: Bytes = Protobuf.decode(&bytes).expect("its own bytes");
    assert_eq!((&decoded, decoded.as_ptr()), (&value, bytes[2..].as_ptr()));
    assert!(Codec::<Bytes>::decode(&Protobuf, &Bytes::from_static(b"\x0a\xff\xff\xff\xff\x0fx")).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_a_codec_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        let _ = Codec::<User>::decode(&Json, &bytes);
        let _ = Codec::<f64>::decode(&Text, &bytes);
        let _ = Codec::<String>::decode(&Text, &bytes);
        prop_assert_eq!(RawJson.decode(&bytes).is_ok(), serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
    }

    #[test]
    fn json_text_is_what_a_typed_reader_takes(text in r#"([\[\]{}:,"\\0-9ea. +\-]|true|null|"a":){0,12}"#) {
        let typed = serde_json::from_str::<serde_json::Value>(&text);
        let is_number_too_large = typed.as_ref().is_err_and(|error| error.to_string().contains("out of range"));
        prop_assert_eq!(JsonText::new(text.into()).is_ok(), typed.is_ok() || is_number_too_large);
    }
}
