//! A key is made only from the very text that it has, and two keys that differ have texts that differ.
//!
//! Input is four texts, between line feeds. Each is tried as a key of every type that can be read, and they are tried
//! as two pairs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::fmt::Debug;
use terrace_core::{CacheKey, Key, Namespace, Tag, TextKey};

fuzz_target!(|input: &str| {
    let mut texts = input.split('\n');
    let [a, b, c, d] = [(); 4].map(|()| texts.next().unwrap_or_default());
    for text in [a, b, c, d] {
        one(text);
    }
    let (left, right) = ((a, b), (c, d));
    assert_eq!(text_of(&left) == text_of(&right), left == right, "{left:?} {right:?}");
    back(&(a.to_owned(), b.to_owned()));
    back(&(a.to_owned(), b.to_owned(), c.to_owned()));
    back(&(a.to_owned(), b.len() as u64, c.to_owned(), d.to_owned()));
});

fn one(text: &str) {
    if let Ok(key) = Key::new(text) {
        assert_eq!(Key::check(text), Ok(()));
        assert_eq!((key.as_str(), text_of(&key).as_str()), (text, text));
        key.with_name(|name| text.with_name(|of_text| assert_eq!(name, of_text)));
    } else {
        assert!(Key::check(text).is_err());
    }
    if let Ok(namespace) = Namespace::new(text) {
        assert_eq!(namespace.as_str(), text);
    }
    if let Ok(tag) = Tag::new(text) {
        assert_eq!(tag.as_str(), text);
    }
    read::<u8>(text);
    read::<i64>(text);
    read::<u128>(text);
    read::<(u64, i8)>(text);
    read::<(String, u32)>(text);
    read::<(String, String, String)>(text);
    read::<(i16, String, u64, String)>(text);
}

/// What is read from a text has this text and no other.
fn read<K: TextKey>(text: &str) {
    if let Some(key) = K::from_text(text) {
        assert_eq!(text_of(&key), text);
    }
}

/// The way there and back leads to the same key.
fn back<K: TextKey + PartialEq + Debug>(key: &K) {
    assert_eq!(K::from_text(&text_of(key)).as_ref(), Some(key));
}

fn text_of<K: CacheKey>(key: &K) -> String {
    key.with_text(str::to_owned)
}
