//! In which form does memory keep a key?
//!
//! The text of a key is what L2, other nodes and people see. Within a process a number is shorter to keep, and quicker
//! to hash, to compare and to make from an integer key than its digits are.
//!
//! 1. The form is a function of the text alone: whoever has the key as text finds what was put by number.

/// The text of a key in the form in which memory keeps it: a number where the text is one.
///
/// Each text has one form, and each form one text.
///
/// # Examples
/// ```
/// use terrace_core::KeyName;
/// assert_eq!(KeyName::of("42"), KeyName::Number(42));
/// assert_eq!(KeyName::of("042"), KeyName::Text("042"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyName<'a> {
    /// The number whose decimal digits are the text, without leading zeros.
    Number(u64),
    /// Any other text.
    Text(&'a str),
}

impl<'a> KeyName<'a> {
    /// The form of a text.
    ///
    /// # Cost
    /// One look at the first byte, unless that is a digit.
    #[inline]
    pub fn of(text: &'a str) -> Self {
        match text.as_bytes().first() {
            Some(b'0'..=b'9') => Self::of_digits(text),
            _ => Self::Text(text),
        }
    }

    #[inline(never)]
    fn of_digits(text: &'a str) -> Self {
        if text.len() > 1 && text.starts_with('0') {
            return Self::Text(text);
        }
        text.parse().map_or(Self::Text(text), Self::Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::CacheKey;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// What a key is kept under in memory is the same, whether it comes as itself or as its text.
    fn assert_one_name(key: &impl CacheKey) {
        let of_text = key.with_text(|text| format!("{:?}", KeyName::of(text)));
        assert_eq!(key.with_name(|name| format!("{name:?}")), of_text);
    }

    #[test]
    fn a_text_is_kept_as_a_number_only_if_it_is_how_that_is_written() {
        for text in ["", "00", "01", "+1", "-1", "1_000", "1 ", "1a", "18446744073709551616", "\u{661}"] {
            assert_eq!(KeyName::of(text), KeyName::Text(text));
        }
        for number in [0, 1, 10, u64::MAX] {
            assert_eq!(KeyName::of(&number.to_string()), KeyName::Number(number));
        }
    }

    proptest! {
        #[test]
        fn a_key_has_one_name(text in "[0-9]{0,21}|.{0,5}", signed: i128, unsigned: u64, small: i8) {
            assert_one_name(&text);
            assert_one_name(&signed);
            assert_one_name(&(signed >> 64));
            assert_one_name(&unsigned);
            assert_one_name(&Arc::new(small));
            assert_one_name(&(text, unsigned));
        }
    }
}
