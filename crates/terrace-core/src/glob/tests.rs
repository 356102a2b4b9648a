//! Patterns, one detail of Redis at a time, and against a plain reference.

use super::*;
use proptest::prelude::*;

fn is_match(pattern: &str, text: &str) -> bool {
    Glob::new(pattern).expect("within the length").matches(text)
}

fn check(pattern: &str, matching: &[&str], others: &[&str]) {
    for text in matching {
        assert!(is_match(pattern, text), "{pattern:?} should match {text:?}");
    }
    for text in others {
        assert!(!is_match(pattern, text), "{pattern:?} should not match {text:?}");
    }
}

#[test]
fn stars_match_any_bytes_or_none() {
    check("*", &["a", "ab", "\n", "é"], &[""]);
    check("a*", &["a", "abc"], &["", "ba"]);
    check("*a", &["a", "ba", "aa", "aba"], &["ab"]);
    check("a*b*c", &["abc", "abbc", "a-b-c", "abcbc"], &["acb", "ab", "bc"]);
    check("**a**", &["a", "bab"], &["b"]);
    check("a**", &["a", "ab"], &["b"]);
}

#[test]
fn a_question_mark_is_one_byte() {
    check("a?c", &["abc", "a?c", "a*c"], &["ac", "abbc", "aéc"]);
    check("??", &["ab", "é"], &["a", "abc"]);
    check("?", &["a"], &["", "é"]);
}

#[test]
fn classes_list_bytes_and_ranges() {
    check("[abc]", &["a", "b", "c"], &["", "d", "ab", "[abc]"]);
    check("[a-c]x", &["ax", "cx"], &["dx", "-x", "a"]);
    check("[c-a]", &["a", "b", "c"], &["d", "-"]);
    check("[a-]", &["]", "^", "_", "a"], &["b", "-"]);
    check("[-a]", &["-", "a"], &["b"]);
    check("[a-c-e]", &["a", "b", "-", "e"], &["d"]);
    check("[0-9a-f]", &["0", "9", "a", "f"], &["g", "-"]);
    check("[*?]", &["*", "?"], &["a"]);
}

#[test]
fn a_caret_negates_and_an_exclamation_mark_does_not() {
    check("[^a]", &["b", "^"], &["a", "", "bb"]);
    check("[^a-c]", &["d", "-"], &["a", "b", "c"]);
    check("[a^]", &["a", "^"], &["b"]);
    check("[!a]", &["!", "a"], &["b"]);
}

#[test]
fn a_class_ends_at_the_first_bracket_or_at_the_end() {
    check("[]", &[], &["", "]", "[", "[]"]);
    check("[]a]", &[], &["a", "]", "a]", "]a]"]);
    check("[^]", &["a", "]"], &[""]);
    check("[^]a", &["xa", "]a"], &["a", "x"]);
    check("[ab", &["a", "b"], &["ab", "[ab", "c"]);
    check("[a-", &["a", "-"], &["b"]);
    check("[", &[], &["[", "a", ""]);
    check("[^", &["a", "^"], &["", "ab"]);
    check("x[^", &["xa"], &["x"]);
}

#[test]
fn a_backslash_takes_the_next_byte_as_it_is() {
    check(r"\*", &["*"], &["a", r"\*"]);
    check(r"a\?c", &["a?c"], &["abc"]);
    check(r"\[a]", &["[a]"], &["a"]);
    check(r"\a", &["a"], &[r"\a"]);
    check(r"\\", &[r"\"], &[r"\\"]);
    check(r"a\", &[r"a\"], &["a", "ab"]);
    check(r"\", &[r"\"], &["a"]);
    check(r"[\]]", &["]"], &[r"\", "a"]);
    check(r"[\^a]", &["^", "a"], &[r"\", "b"]);
    check(r"[a\-c]", &["a", "-", "c"], &["b", r"\"]);
    check(r"[\", &[r"\"], &["a"]);
    check(r"[Z-\]]", &["Z]", r"[]", r"\]"], &["Z", "a]"]);
}

#[test]
fn braces_are_themselves() {
    check("{a,b}", &["{a,b}"], &["a", "b"]);
    check("a{1..3}", &["a{1..3}"], &["a1"]);
}

#[test]
fn letters_beyond_ascii_are_bytes_and_come_before_all_others() {
    check("é", &["é"], &["e"]);
    check("[é]", &[], &["é", "e"]);
    check("[é][é]", &["é"], &["e"]);
    check("[\u{1}-é]?", &[], &["aa"]);
    check("[é-a]a", &["aa", "\u{1}a"], &["ba"]);
    check("\\é", &["é"], &["e"]);
}

#[test]
fn hard_patterns_end_soon() {
    let pattern = Glob::new(&("a*".repeat(100) + "b")).expect("within the length");
    let text = "a".repeat(1024);
    for _ in 0..20 {
        assert!(!pattern.matches(&text));
    }
    assert!(pattern.matches(&(text + "b")));
}

#[test]
fn the_length_of_patterns_is_bounded() {
    assert_eq!(Glob::new(""), Err(GlobError::Empty));
    assert!(Glob::new(&"a".repeat(256)).is_ok());
    assert_eq!(Glob::new(&"a".repeat(257)), Err(GlobError::TooLong { length: 257, length_max: 256 }));
}

#[test]
fn patterns_that_match_everything_say_so() {
    let is_all = |text: &str| Glob::new(text).expect("within the length").is_all();
    assert!(is_all("*") && is_all("***"));
    assert!(!is_all("*a") && !is_all(r"\*") && !is_all("?*"));
}

#[test]
fn prefixes_end_at_the_first_element_that_is_not_literal() {
    for (pattern, prefix) in [
        ("user:4?", "user:4"),
        ("*", ""),
        ("plain", "plain"),
        ("a[bc]", "a"),
        (r"50\*2\\:*", r"50*2\:"),
        (r"end\", r"end\"),
        ("\\é*", "é"),
        ("a]{}!^-b*", "a]{}!^-b"),
    ] {
        assert_eq!(Glob::new(pattern).expect("within the length").literal_prefix(), prefix, "{pattern:?}");
    }
}

/// The meaning of a pattern, as plainly as it can be said: each star is tried with every length.
fn reference(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], _) => text.is_empty(),
        ([b'*', after @ ..], _) => (0..=text.len()).any(|taken| reference(after, &text[taken..])),
        (_, []) => false,
        ([b'?', after @ ..], [_, rest @ ..]) => reference(after, rest),
        ([b'[', after @ ..], [byte, rest @ ..]) => {
            let (listed, after) = reference_class(after);
            listed.contains(byte) && reference(after, rest)
        }
        ([b'\\', literal, after @ ..] | [literal, after @ ..], [byte, rest @ ..]) => {
            literal == byte && reference(after, rest)
        }
    }
}

/// All bytes that a class stands for, and the pattern after it.
fn reference_class(inside: &[u8]) -> (Vec<u8>, &[u8]) {
    let (is_negated, mut rest) = match inside {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, inside),
    };
    let mut listed = Vec::new();
    loop {
        match rest {
            [b'\\', byte, after @ ..] => {
                listed.push(*byte);
                rest = after;
            }
            [] => break,
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [a, b'-', b, after @ ..] => {
                let (a, b) = (a.cast_signed(), b.cast_signed());
                listed.extend((a.min(b)..=a.max(b)).map(i8::cast_unsigned));
                rest = after;
            }
            [byte, after @ ..] => {
                listed.push(*byte);
                rest = after;
            }
        }
    }
    let all = (0..=u8::MAX).filter(|byte| listed.contains(byte) != is_negated).collect();
    (all, rest)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn the_matcher_agrees_with_the_reference(
        pattern in r"[*?\[\]\\^!{},\-abcé]{1,12}",
        text in r"[*?\[\]\\^\-abcé]{1,8}",
    ) {
        let expected = reference(pattern.as_bytes(), text.as_bytes());
        prop_assert_eq!(is_match(&pattern, &text), expected);
    }

    #[test]
    fn the_matcher_agrees_with_the_reference_where_most_match(
        pattern in r"([*?ab]|\[\^?[abc\-]{0,3}\]?){1,8}",
        text in "[ab]{1,8}",
    ) {
        let expected = reference(pattern.as_bytes(), text.as_bytes());
        prop_assert_eq!(is_match(&pattern, &text), expected);
    }

    #[test]
    fn escaped_text_matches_itself_alone(
        text in r"[*?\[\]\\^\-abé]{1,9}",
        other in r"[*?\[\]\\^\-abé]{1,9}",
    ) {
        let pattern = Glob::new(&Glob::escape(&text)).expect("within the length");
        prop_assert!(pattern.matches(&text));
        prop_assert_eq!(pattern.matches(&other), text == other);
        prop_assert_eq!(pattern.literal_prefix(), text);
    }

    #[test]
    fn what_matches_begins_with_the_prefix(
        pattern in r"[a\\]{0,3}[*?\[\]ab]{1,4}",
        text in r"[ab\\*]{1,6}",
    ) {
        let pattern = Glob::new(&pattern).expect("within the length");
        prop_assert!(!pattern.matches(&text) || text.starts_with(&*pattern.literal_prefix()));
    }
}
