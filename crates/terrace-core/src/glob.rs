//! Does this key match this pattern?
//!
//! A pattern means here what it means to `SCAN MATCH` of Redis and Valkey, byte for byte, because the same pattern
//! is applied to L1 by this module and to L2 by the server:
//!
//! | pattern | matches |
//! |---|---|
//! | `*` | any bytes, or none |
//! | `?` | one byte: half of an `é` |
//! | `[abc]`, `[a-z]`, `[^a-z]` | one byte that is listed; that is in the range; that is not |
//! | `\` and a byte | that byte; inside `[ ]` too |
//! | all else | itself |
//!
//! Where other dialects differ: `{a,b}` and `!` stand for themselves. `[z-a]` is `[a-z]`. A `[` without a `]` lists
//! everything up to the end of the pattern. `[]` lists nothing and matches nothing, `[^]` matches any byte. A `\` at
//! the end stands for itself. Ranges compare bytes as *signed* numbers, as a server on x86 does, so the bytes of
//! letters beyond ASCII come before all others. Empty text matches nothing, not even `*`; keys are never empty.
//!
//! 1. Matching takes at most (length of pattern) × (length of text) steps, no recursion and no allocation.

use std::borrow::Cow;
use std::fmt;

/// Why a text cannot be a pattern.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GlobError {
    /// Nothing was given.
    #[error("the pattern is empty; `*` matches every key")]
    Empty,
    /// The pattern is longer than allowed.
    #[error("the pattern has {length} bytes, and at most {length_max} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The longest length allowed, in bytes.
        length_max: usize,
    },
}

/// A pattern with the meaning of Redis' `SCAN MATCH`.
///
/// # Examples
/// ```
/// use terrace_core::Glob;
/// let pattern = Glob::new("user:4?:*")?;
/// assert!(pattern.matches("user:42:name"));
/// assert!(!pattern.matches("user:4:name"));
/// # Ok::<(), terrace_core::glob::GlobError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Glob(Box<str>);

impl Glob {
    /// Longest pattern, in bytes.
    pub const LENGTH_MAX: usize = 256;

    /// Makes a text a pattern.
    ///
    /// # Errors
    /// [`GlobError`] if it is empty or longer than [`Glob::LENGTH_MAX`].
    pub fn new(text: &str) -> Result<Self, GlobError> {
        match text.len() {
            0 => Err(GlobError::Empty),
            length if length > Self::LENGTH_MAX => {
                Err(GlobError::TooLong { length, length_max: Self::LENGTH_MAX })
            }
            _ => Ok(Self(text.into())),
        }
    }

    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `text` matches.
    ///
    /// # Cost
    /// No allocation; at most (length of pattern) × (length of text) steps.
    pub fn matches(&self, text: &str) -> bool {
        matches(self.0.as_bytes(), text.as_bytes())
    }

    /// Whether this is `*`, or stars alone: a pattern that every key matches.
    pub fn is_all(&self) -> bool {
        self.0.bytes().all(|byte| byte == b'*')
    }

    /// What every text that matches begins with. Allocates only if it contains something escaped.
    ///
    /// # Examples
    /// ```
    /// use terrace_core::Glob;
    /// assert_eq!(Glob::new("user:4?")?.literal_prefix(), "user:4");
    /// assert_eq!(Glob::new(r"50\*2")?.literal_prefix(), "50*2");
    /// # Ok::<(), terrace_core::glob::GlobError>(())
    /// ```
    pub fn literal_prefix(&self) -> Cow<'_, str> {
        let end = prefix_length(self.0.as_bytes());
        let prefix = &self.0[..end];
        if prefix.contains('\\') { Cow::Owned(unescape(prefix)) } else { Cow::Borrowed(prefix) }
    }

    /// A pattern's text that matches `text` alone. It is up to twice as long.
    ///
    /// # Examples
    /// ```
    /// use terrace_core::Glob;
    /// let pattern = Glob::new(&(Glob::escape("50*2?") + ":*"))?;
    /// assert!(pattern.matches("50*2?:x"));
    /// assert!(!pattern.matches("5002x:x"));
    /// # Ok::<(), terrace_core::glob::GlobError>(())
    /// ```
    pub fn escape(text: &str) -> String {
        let mut escaped = String::with_capacity(text.len());
        for character in text.chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '\\') {
                escaped.push('\\');
            }
            escaped.push(character);
        }
        escaped
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Glob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, GlobError> {
        Self::new(text)
    }
}

/// Where the first `*`, `?` or `[` stands that is not escaped.
fn prefix_length(pattern: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = pattern.get(at) {
        match byte {
            b'*' | b'?' | b'[' => return at,
            b'\\' if at + 1 < pattern.len() => at += 2,
            _ => at += 1,
        }
    }
    pattern.len()
}

/// Takes each `\` away that has something to escape.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => characters.next().unwrap_or('\\'),
            _ => character,
        });
    }
    plain
}

/// Goes back to the last star only. That is enough: if the rest of a pattern after a star matches from no place on,
/// then moving an earlier star would only begin that search later.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return false;
    }
    let (mut at, mut from) = (0, 0);
    let mut last_star = None;
    while let Some(&byte) = text.get(from) {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            if at == pattern.len() {
                return true;
            }
            last_star = Some((at, from));
        } else if let Some(next) = step(pattern, at, byte) {
            at = next;
            from += 1;
        } else if let Some((after_star, taken)) = last_star {
            at = after_star;
            from = taken + 1;
            last_star = Some((at, from));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// Matches one byte of text against the one element of the pattern at `at`. Where the pattern goes on, if it does.
fn step(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => class(pattern, at + 1, byte),
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == byte).then_some(at + 2),
        literal => (literal == byte).then_some(at + 1),
    }
}

/// Matches one byte against a class whose `[` stands before `at`. Where the pattern goes on, if it does.
fn class(pattern: &[u8], mut at: usize, byte: u8) -> Option<usize> {
    let is_negated = pattern.get(at) == Some(&b'^');
    if is_negated {
        at += 1;
    }
    let mut is_listed = false;
    let after = loop {
        match &pattern[at..] {
            [] => break at,
            [b'\\', escaped, ..] => {
                is_listed |= *escaped == byte;
                at += 2;
            }
            [b']', ..] => break at + 1,
            [first, b'-', last, ..] => {
                is_listed |= is_between(*first, *last, byte);
                at += 3;
            }
            [listed, ..] => {
                is_listed |= *listed == byte;
                at += 1;
            }
        }
    };
    (is_listed != is_negated).then_some(after)
}

fn is_between(first: u8, last: u8, byte: u8) -> bool {
    let [first, last, byte] = [first, last, byte].map(u8::cast_signed);
    (first.min(last)..=first.max(last)).contains(&byte)
}

#[cfg(test)]
mod tests;
