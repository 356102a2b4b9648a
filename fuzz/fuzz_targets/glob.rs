//! Matching agrees with a matcher that is too simple to be wrong, and ends soon.
//!
//! Input is a pattern, a line feed and a text. The simple matcher tries each star with every length, so it is asked
//! only about patterns with few stars.

#![no_main]

use libfuzzer_sys::fuzz_target;
use terrace_core::Glob;

const STARS_MAX: usize = 4;

fuzz_target!(|input: &str| {
    let Some((pattern, text)) = input.split_once('\n') else { return };
    let Ok(glob) = Glob::new(pattern) else { return };
    let is_match = glob.matches(text);
    if is_match {
        assert!(text.starts_with(&*glob.literal_prefix()));
    }
    assert!(!glob.is_all() || is_match || text.is_empty());
    if let Ok(escaped) = Glob::new(&Glob::escape(pattern)) {
        assert!(escaped.matches(pattern));
        assert_eq!(escaped.matches(text), pattern == text);
    }
    if pattern.bytes().filter(|&byte| byte == b'*').count() <= STARS_MAX && text.len() <= 64 {
        let expected = !text.is_empty() && simple(pattern.as_bytes(), text.as_bytes());
        assert_eq!(is_match, expected, "{pattern:?} {text:?}");
    }
});

fn simple(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], _) => text.is_empty(),
        ([b'*', after @ ..], _) => (0..=text.len()).any(|taken| simple(after, &text[taken..])),
        (_, []) => false,
        ([b'?', after @ ..], [_, rest @ ..]) => simple(after, rest),
        ([b'[', b'^', after @ ..], [byte, rest @ ..]) => {
            let (listed, after) = class(after);
            !listed[usize::from(*byte)] && simple(after, rest)
        }
        ([b'[', after @ ..], [byte, rest @ ..]) => {
            let (listed, after) = class(after);
            listed[usize::from(*byte)] && simple(after, rest)
        }
        ([b'\\', literal, after @ ..] | [literal, after @ ..], [byte, rest @ ..]) => {
            literal == byte && simple(after, rest)
        }
    }
}

fn class(mut rest: &[u8]) -> ([bool; 256], &[u8]) {
    let mut listed = [false; 256];
    loop {
        match rest {
            [b'\\', byte, after @ ..] => {
                listed[usize::from(*byte)] = true;
                rest = after;
            }
            [] => return (listed, rest),
            [b']', after @ ..] => return (listed, after),
            [a, b'-', b, after @ ..] => {
                let (a, b) = (a.cast_signed(), b.cast_signed());
                for byte in a.min(b)..=a.max(b) {
                    listed[usize::from(byte.cast_unsigned())] = true;
                }
                rest = after;
            }
            [byte, after @ ..] => {
                listed[usize::from(*byte)] = true;
                rest = after;
            }
        }
    }
}
