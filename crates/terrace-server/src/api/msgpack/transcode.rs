//! A JSON text as `MessagePack`, if that can hold the same value.
//!
//! 1. Whole numbers from -2^63 to 2^64 - 1 are integers. One with a point or an exponent is a double if that, rounded to as many digits as are
//!    written, is the same number, as of `0.1`, `1.50` and `6.02e23`. What a double has no room for, as `3.14159265358979323846`, and a whole
//!    number of more digits cannot be held.
//! 2. A string of JSON can have half of a surrogate pair, which is no character: it cannot be held.
//! 3. Members of objects stay in their order, those of the same name included.
//!
//! The text was checked to be JSON when it was made. So it is read as tokens, twice: first each list and object is counted, since their lengths
//! come first in `MessagePack`. No recursion, and memory for a number per list and object.

use super::{length, written};
use rmp::encode;
use std::borrow::Cow;

/// A piece of a JSON text.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Token<'a> {
    List,
    Object,
    End,
    /// With its quotation marks.
    Text(&'a str),
    /// A number, or a word.
    Plain(&'a str),
}

/// The pieces of a JSON text; what only separates them is passed over.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.0 = self.0.trim_start_matches([' ', '\t', '\r', '\n', ',', ':']);
        let (token, end) = match self.0.bytes().next()? {
            b'[' => (Token::List, 1),
            b'{' => (Token::Object, 1),
            b']' | b'}' => (Token::End, 1),
            b'"' => {
                let end = end_of_text(self.0);
                (Token::Text(&self.0[..end]), end)
            }
            _ => {
                let is_end =
                    |character| matches!(character, ',' | ':' | ']' | '}' | ' ' | '\t' | '\r' | '\n');
                let end = self.0.find(is_end).unwrap_or(self.0.len());
                (Token::Plain(&self.0[..end]), end)
            }
        };
        self.0 = &self.0[end..];
        Some(token)
    }
}

/// Where the string ends with which a text begins.
fn end_of_text(text: &str) -> usize {
    let mut is_escaped = false;
    let is_end = |&(at, byte): &(usize, u8)| {
        let was_escaped = std::mem::take(&mut is_escaped);
        is_escaped = byte == b'\\' && !was_escaped;
        at > 0 && byte == b'"' && !was_escaped
    };
    text.bytes().enumerate().find(is_end).map_or(text.len(), |(at, _)| at + 1)
}

/// How many pieces are right within each list and object, in the order in which those begin.
fn counts(text: &str) -> Vec<usize> {
    let (mut counts, mut open) = (Vec::new(), Vec::new());
    for token in Tokens(text) {
        if token == Token::End {
            open.pop();
            continue;
        }
        if let Some(&within) = open.last() {
            counts[within] += 1;
        }
        if matches!(token, Token::List | Token::Object) {
            open.push(counts.len());
            counts.push(0);
        }
    }
    counts
}

/// Writes the value of a JSON text; `false` if it cannot be held, and nothing was written.
pub(super) fn push(out: &mut Vec<u8>, text: &str) -> bool {
    let before = out.len();
    let mut counts = counts(text).into_iter();
    let mut count = || counts.next().unwrap_or_default();
    for token in Tokens(text) {
        let is_held = match token {
            Token::List => {
                written(encode::write_array_len(out, length(count())));
                true
            }
            Token::Object => {
                written(encode::write_map_len(out, length(count() / 2)));
                true
            }
            Token::End => true,
            Token::Text(quoted) => push_text(out, quoted),
            Token::Plain(word) => push_plain(out, word),
        };
        if !is_held {
            out.truncate(before);
            return false;
        }
    }
    true
}

fn push_text(out: &mut Vec<u8>, quoted: &str) -> bool {
    let within = &quoted[1..quoted.len() - 1];
    let text = if within.contains('\\') {
        let Ok(text) = serde_json::from_str::<String>(quoted) else { return false };
        Cow::Owned(text)
    } else {
        Cow::Borrowed(within)
    };
    written(encode::write_str(out, &text));
    true
}

fn push_plain(out: &mut Vec<u8>, word: &str) -> bool {
    match word {
        "null" => written(encode::write_nil(out)),
        "true" => written(encode::write_bool(out, true)),
        "false" => written(encode::write_bool(out, false)),
        // Zero has a sign only as a double.
        "-0" => written(encode::write_f64(out, -0.0)),
        _ => {
            if let Ok(number) = word.parse::<u64>() {
                written(encode::write_uint(out, number));
            } else if let Ok(number) = word.parse::<i64>() {
                written(encode::write_sint(out, number));
            } else if let Some(number) = double(word) {
                written(encode::write_f64(out, number));
            } else {
                return false;
            }
        }
    }
    true
}

/// Digits of which every decimal number is told from its neighbours by the double that it is rounded to, unless that is subnormal.
const DIGITS_SURE: usize = 15;
/// Digits that the value of a double can have, at most.
const DIGITS_MAX: usize = 767;

/// The double that has the value of a number which is not written as a whole one.
fn double(text: &str) -> Option<f64> {
    if !text.contains(['.', 'e', 'E']) {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    if number.is_normal() && digits(text) <= DIGITS_SURE {
        return Some(number);
    }
    let value = decimal(text)?;
    if !number.is_finite() || value.0.len() > DIGITS_MAX {
        return None;
    }
    let rounded = format!("{number:.*e}", value.0.len().saturating_sub(1));
    // Of a value in the middle between two texts of so many digits, some write the one and some the other.
    let is_same = |written: &str| decimal(written).is_some_and(|written| written == value);
    (is_same(&rounded) || is_same(&format!("{number:e}"))).then_some(number)
}

/// How many digits a number has, from the first that is not zero on.
fn digits(text: &str) -> usize {
    let mantissa = text.bytes().take_while(|byte| !matches!(byte, b'e' | b'E'));
    mantissa.filter(u8::is_ascii_digit).skip_while(|&digit| digit == b'0').count()
}

/// The digits of a decimal number without zeros around them, and the power of ten of the last of them.
fn decimal(text: &str) -> Option<(String, i64)> {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{part}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some((String::new(), 0));
    }
    let zeros = digits.len() - digits.trim_end_matches('0').len();
    let power: i64 = power.parse().ok()?;
    let power = power.checked_sub(i64::try_from(part.len()).ok()?)?;
    Some((significant.to_owned(), power.checked_add(i64::try_from(zeros).ok()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn packed(text: &str) -> Option<Vec<u8>> {
        let mut out = vec![0xc1];
        let is_held = push(&mut out, text);
        assert!(is_held || out == [0xc1], "nothing is left of what cannot be held");
        is_held.then(|| out.split_off(1))
    }

    #[test]
    fn values_are_the_same_bytes_as_those_of_others_who_write_it() {
        for text in [
            "null",
            " [ ] ",
            "{}",
            r#"{"":"x:,]}\"y","a":[1,-1,[{}],true,false,null],"b":{"c":"d"}}"#,
            r#"["\u00e9\n\\", "é", "\ud83d\ude00", "\\"]"#,
            "[0,127,128,255,256,65535,65536,4294967295,4294967296,18446744073709551615]",
            "[-1,-32,-33,-128,-129,-32768,-32769,-2147483648,-2147483649,-9223372036854775808]",
            "[0.5,1e3,-2.5E-3]",
        ] {
            let value: Value = serde_json::from_str(text).expect(text);
            let expected = rmp_serde::to_vec(&value).expect(text);
            assert_eq!(packed(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_number_is_the_same_one_or_is_not_held() {
        for (text, number) in [
            ("0.1", 0.1),
            ("1.50", 1.5),
            ("1.0", 1.0),
            ("-0.0", -0.0),
            ("-0", -0.0),
            ("0e99", 0.0),
            ("6.02e23", 6.02e23),
            ("602000000000000000000000.0", 6.02e23),
            ("0.000001", 1e-6),
            ("1E+2", 100.0),
            ("5e-324", 5e-324),
            ("1.7976931348623157e308", f64::MAX),
            ("152794631404738.12", 152_794_631_404_738.13),
            ("152794631404738.13", 152_794_631_404_738.13),
            ("152794631404738.125", 152_794_631_404_738.13),
            ("0.1000000000000000055511151231257827", 0.1),
        ] {
            let mut expected = Vec::new();
            encode::write_f64(&mut expected, number).expect("memory");
            assert_eq!(packed(text), Some(expected), "{text}");
        }
        for text in [
            "18446744073709551616",
            "-9223372036854775809",
            "100000000000000000000000",
            "0.100000000000000012",
            "3.14159265358979323846",
            "9007199254740993.0",
            "1e400",
            "1e-400",
            "1e99999999999999999999",
        ] {
            assert_eq!(packed(text), None, "{text}");
            assert_eq!(packed(&format!("{{\"a\":[1,{text}]}}")), None, "{text}");
        }
    }

    #[test]
    fn a_number_without_end_is_not_held_and_takes_no_time() {
        assert_eq!(packed(&format!("0.{}", "1".repeat(1 << 20))), None);
        assert_eq!(packed(&"1".repeat(1 << 20)), None);
        assert_eq!(packed(&format!("1.{}", "0".repeat(1 << 20))).map(|bytes| bytes[0]), Some(0xcb));
    }

    #[test]
    fn half_a_character_is_not_held() {
        assert_eq!(packed(r#""\ud800""#), None);
        assert_eq!(packed(r#"{"\udc00":1}"#), None);
    }

    #[test]
    fn members_of_one_name_are_all_there() {
        assert_eq!(packed(r#"{"a":1,"a":2}"#), Some(vec![0x82, 0xa1, b'a', 1, 0xa1, b'a', 2]));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..20)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_can_be_held_is_read_as_it_was(value in any_json(), is_pretty in any::<bool>()) {
            let text = if is_pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let packed = packed(&text.expect("JSON")).expect("doubles are written in full");
            let read: Value = rmp_serde::from_slice(&packed).expect("MessagePack");
            prop_assert_eq!(read, value);
        }
    }
}
