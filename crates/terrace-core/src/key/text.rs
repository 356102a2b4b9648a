//! Which key does a text name?
//!
//! 1. The way back of [`CacheKey::with_text`]: a key is made only from the very text that it has. So `"042"` is no number,
//!    and what comes back can be taken for what was sent.

use super::{CacheKey, Key};
use std::sync::Arc;

/// A key that can be made from its text: what a write that outlived its process, or a name found in L2, is turned into.
///
/// # Examples
/// ```
/// use terrace_core::TextKey;
/// assert_eq!(u64::from_text("42"), Some(42));
/// assert_eq!(u64::from_text("042"), None);
/// assert_eq!(<(String, u32)>::from_text("a%3Ab:7"), Some(("a:b".to_owned(), 7)));
/// ```
pub trait TextKey: CacheKey + Sized {
    /// The key whose text this is; `None` if there is none.
    fn from_text(text: &str) -> Option<Self>;
}

impl TextKey for String {
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl TextKey for Key {
    fn from_text(text: &str) -> Option<Self> {
        Self::new(text).ok()
    }
}

impl<T: TextKey> TextKey for Arc<T> {
    fn from_text(text: &str) -> Option<Self> {
        T::from_text(text).map(Self::new)
    }
}

/// The key, if this is its text.
fn checked<K: CacheKey>(key: K, text: &str) -> Option<K> {
    key.with_text(|own| own == text).then_some(key)
}

macro_rules! integers_of_text {
    ($($int:ty)*) => {$(
        impl TextKey for $int {
            fn from_text(text: &str) -> Option<Self> {
                checked(text.parse().ok()?, text)
            }
        }
    )*};
}

integers_of_text!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

macro_rules! tuples_of_text {
    ($($part:ident),+) => {
        impl<$($part: TextKey),+> TextKey for ($($part,)+) {
            fn from_text(text: &str) -> Option<Self> {
                let mut parts = text.split(':');
                let key = ($( $part::from_text(&unescaped(parts.next()?))?, )+);
                if parts.next().is_some() { None } else { checked(key, text) }
            }
        }
    };
}

tuples_of_text!(A, B);
tuples_of_text!(A, B, C);
tuples_of_text!(A, B, C, D);

/// A part of a tuple's text, as it was before `:` and `%` were escaped.
fn unescaped(part: &str) -> String {
    part.replace("%3A", ":").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_very_text_of_a_number_is_one() {
        for text in ["", "007", "+7", "-0", "7 ", "256"] {
            assert_eq!(u8::from_text(text), None, "{text}");
        }
        assert_eq!(i8::from_text("-7"), Some(-7));
    }

    #[test]
    fn a_tuple_has_its_number_of_parts() {
        assert_eq!(<(u8, u8)>::from_text("1"), None);
        assert_eq!(<(u8, u8)>::from_text("1:2:3"), None);
        assert_eq!(<(u8, u8)>::from_text("1:2"), Some((1, 2)));
        assert_eq!(<(String, String)>::from_text("a%3a:b"), None, "`%` is written `%25`");
    }

    proptest! {
        #[test]
        fn the_way_back_leads_to_the_same_key(a in ".{0,40}", b: i64, c in "[:%A0-9]{0,9}", d: u8) {
            let key = (a, b, c, d);
            let back = key.with_text(<(String, i64, String, u8)>::from_text);
            prop_assert_eq!(back, Some(key));
        }
    }
}
