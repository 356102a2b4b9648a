//! What may be a key, a namespace or a tag, and which partition does a key belong to?
//!
//! 1. A [`Key`] is text: 1 to 1,024 bytes of UTF-8 without control characters. Everything else in it is data. In
//!    particular `*`, `?`, `[`, `{` and `:` mean nothing in a key, and can reach nothing outside its namespace,
//!    because the namespace comes first in every physical name and cannot contain them.
//! 2. A [`Namespace`] is 1 to 32 bytes of `a-z 0-9 _ -`, starting with a letter or digit.
//! 3. A [`Partition`] is a stable function of the key (rapidhash v3): the same on every node, release and machine.
//! 4. All three are cheap to clone (one reference count).

mod text;

pub use text::TextKey;

use crate::name::KeyName;
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Why a text cannot be a key, a namespace or a tag.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Nothing was given.
    #[error("{what} is empty; give it at least one character")]
    Empty {
        /// What was being named.
        what: &'static str,
    },
    /// The text is longer than allowed.
    #[error(
        "{what} has {length} bytes, and at most {length_max} are allowed; shorten it, or use a hash of it"
    )]
    TooLong {
        /// What was being named.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The longest length allowed, in bytes.
        length_max: usize,
    },
    /// The text contains a character that is not allowed.
    #[error("{what} contains {character:?} at byte {position}, which is not allowed; {allowed}")]
    Character {
        /// What was being named.
        what: &'static str,
        /// The first character that is not allowed.
        character: char,
        /// Its place in the text, in bytes.
        position: usize,
        /// What is allowed.
        allowed: &'static str,
    },
}

fn check_length(what: &'static str, text: &str, length_max: usize) -> Result<(), KeyError> {
    match text.len() {
        0 => Err(KeyError::Empty { what }),
        length if length > length_max => Err(KeyError::TooLong { what, length, length_max }),
        _ => Ok(()),
    }
}

fn check_characters(
    what: &'static str,
    text: &str,
    allowed: &'static str,
    is_allowed: impl Fn(char) -> bool,
) -> Result<(), KeyError> {
    match text.char_indices().find(|&(_, character)| !is_allowed(character)) {
        Some((position, character)) => Err(KeyError::Character { what, character, position, allowed }),
        None => Ok(()),
    }
}

macro_rules! shared_text {
    ($name:ident) => {
        impl $name {
            /// The text.
            #[inline]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = KeyError;

            fn try_from(text: &str) -> Result<Self, KeyError> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                Self::new(text)
            }
        }
    };
}

/// The name of one entry within its namespace.
///
/// # Examples
/// ```
/// use terrace_core::Key;
/// assert_eq!(Key::new("user:42")?.as_str(), "user:42");
/// assert!(Key::new("two\nlines").is_err());
/// # Ok::<(), terrace_core::KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Longest key, in bytes.
    pub const LENGTH_MAX: usize = 1024;

    /// Checks a text and makes it a key.
    ///
    /// # Errors
    /// [`KeyError`] if it is empty, longer than [`Key::LENGTH_MAX`], or contains a control character.
    ///
    /// # Cost
    /// One pass over the text, one allocation.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        Self::check(text)?;
        Ok(Self(text.into()))
    }

    /// Checks a text without making it a key.
    ///
    /// # Errors
    /// As [`Key::new`].
    ///
    /// # Cost
    /// One pass over the text, no allocation.
    pub fn check(text: &str) -> Result<(), KeyError> {
        check_length("the key", text, Self::LENGTH_MAX)?;
        if text.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
            return Ok(());
        }
        check_characters("the key", text, "control characters are not", |c| !c.is_control())
    }
}

shared_text!(Key);

/// An isolated space of keys. Two namespaces never see each other's entries, tags or invalidations.
///
/// # Examples
/// ```
/// use terrace_core::Namespace;
/// assert!(Namespace::new("users").is_ok());
/// assert!(Namespace::new("users.*").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// Longest namespace, in bytes.
    pub const LENGTH_MAX: usize = 32;

    /// Checks a text and makes it a namespace.
    ///
    /// # Errors
    /// [`KeyError`] if it is empty, longer than [`Namespace::LENGTH_MAX`], has a character other than
    /// `a-z 0-9 _ -`, or begins with `_` or `-`.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        const ALLOWED: &str = "use a-z, 0-9, _ and -, beginning with a letter or digit";
        check_length("the namespace", text, Self::LENGTH_MAX)?;
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        check_characters("the namespace", text, ALLOWED, |c| is_plain(c) || c == '_' || c == '-')?;
        check_characters("the namespace", &text[..1], ALLOWED, is_plain)?;
        Ok(Self(text.into()))
    }
}

shared_text!(Namespace);

/// A label that entries share, so that all of them can be invalidated at once.
///
/// # Examples
/// ```
/// use terrace_core::Tag;
/// assert_eq!(Tag::new("org:7")?.to_string(), "org:7");
/// # Ok::<(), terrace_core::KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

impl Tag {
    /// Longest tag, in bytes.
    pub const LENGTH_MAX: usize = 128;
    /// Most tags that one entry can have.
    pub const PER_ENTRY_MAX: usize = 32;

    /// Checks a text and makes it a tag.
    ///
    /// # Errors
    /// [`KeyError`] if it is empty, longer than [`Tag::LENGTH_MAX`], or contains a control character.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        check_length("the tag", text, Self::LENGTH_MAX)?;
        check_characters("the tag", text, "control characters are not", |c| !c.is_control())?;
        Ok(Self(text.into()))
    }
}

shared_text!(Tag);

/// The part of a namespace that a key belongs to: all that is in one partition changes atomically in L2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Partition(pub u16);

impl Partition {
    /// Partitions of a namespace, unless it is configured otherwise.
    pub const COUNT_DEFAULT: u16 = 256;

    /// The partition of a key or tag, of `count` in its namespace.
    ///
    /// # Panics
    /// If `count` is zero.
    pub fn of(namespace: &Namespace, name: &str, count: u16) -> Self {
        let seed = rapidhash::v3::rapidhash_v3(namespace.as_str().as_bytes());
        let seeds = rapidhash::v3::RapidSecrets::seed_cpp(seed);
        let hash = rapidhash::v3::rapidhash_v3_seeded(name.as_bytes(), &seeds);
        Self(u16::try_from(hash % u64::from(count)).expect("a remainder of a u16 fits a u16"))
    }
}

/// A type that can name an entry: strings, integers, and tuples of them.
///
/// The text of a key is what L2, other nodes and people see. It must be one-to-one: two keys that differ have
/// texts that differ. For tuples that is done by escaping `:` and `%` inside strings, so `("a:b", "c")` and
/// `("a", "b:c")` stay two keys.
///
/// # Examples
/// ```
/// use terrace_core::CacheKey;
/// assert_eq!(42_u64.with_text(str::to_owned), "42");
/// assert_eq!(("org", 7).with_text(str::to_owned), "org:7");
/// assert_eq!(("a:b", "c").with_text(str::to_owned), "a%3Ab:c");
/// ```
pub trait CacheKey {
    /// Calls `use_text` with the text of this key.
    ///
    /// # Cost
    /// No allocation for strings, integers, and tuples whose text is at most 128 bytes.
    fn with_text<R>(&self, use_text: impl FnOnce(&str) -> R) -> R;

    /// Calls `use_name` with [`KeyName::of`] the text of this key. Worth an implementation for a type that knows its
    /// number without writing it out; the result must be the same.
    #[inline]
    fn with_name<R>(&self, use_name: impl FnOnce(KeyName<'_>) -> R) -> R {
        self.with_text(|text| use_name(KeyName::of(text)))
    }

    /// This key as a [`Key`]. Worth an implementation for a type that has one; the result must be the same.
    ///
    /// # Errors
    /// [`KeyError`] if its text is no key.
    ///
    /// # Cost
    /// One allocation; none for a [`Key`].
    #[inline]
    fn to_key(&self) -> Result<Key, KeyError> {
        self.with_text(Key::new)
    }
}

impl CacheKey for str {
    #[inline]
    fn with_text<R>(&self, use_text: impl FnOnce(&str) -> R) -> R {
        use_text(self)
    }
}

impl CacheKey for String {
    #[inline]
    fn with_text<R>(&self, use_text: impl FnOnce(&str) -> R) -> R {
        use_text(self)
    }
}

impl CacheKey for Key {
    #[inline]
    fn with_text<R>(&self, use_text: impl FnOnce(&str) -> R) -> R {
        use_text(self.as_str())
    }

    #[inline]
    fn to_key(&self) -> Result<Key, KeyError> {
        Ok(self.clone())
    }
}

impl<T: CacheKey + ?Sized> CacheKey for &T {
    #[inline]
    fn with_text<R>(&self, use_text: impl FnOnce(&str) -> R) -> R {
        (**self).with_text(use_text)
    }

    #[inline]
    fn with_name<R>(&self, use_name: impl FnOnce(KeyName<'_>) -> R) -> R {
        (**self).with_name(use_name)
    }

    #[inline]
    fn to_key(&self) -> Result<Key, KeyError> {
        (**self).to_key()
    }
}

impl<T: CacheKey + ?Sized> CacheKey for Arc<T> {
    #[inline]
    fn with_text<R>(&self, use_text: impl FnOnce(&str) -> R) -> R {
        (**self).with_text(use_text)
    }

    #[inline]
    fn with_name<R>(&self, use_name: impl FnOnce(KeyName<'_>) -> R) -> R {
        (**self).with_name(use_name)
    }

    #[inline]
    fn to_key(&self) -> Result<Key, KeyError> {
        (**self).to_key()
    }
}

macro_rules! integer_keys {
    ($($int:ty)*) => {$(
        impl CacheKey for $int {
            #[inline]
            fn with_text<R>(&self, use_text: impl FnOnce(&str) -> R) -> R {
                use_text(itoa::Buffer::new().format(*self))
            }

            #[inline]
            fn with_name<R>(&self, use_name: impl FnOnce(KeyName<'_>) -> R) -> R {
                match u64::try_from(*self) {
                    Ok(number) => use_name(KeyName::Number(number)),
                    Err(_) => self.with_text(|text| use_name(KeyName::Text(text))),
                }
            }
        }
    )*};
}

integer_keys!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

macro_rules! tuple_keys {
    ($($part:ident $index:tt),+) => {
        impl<$($part: CacheKey),+> CacheKey for ($($part,)+) {
            fn with_text<R>(&self, use_text: impl FnOnce(&str) -> R) -> R {
                let mut joined = JoinedText::default();
                $( self.$index.with_text(|part| joined.push_part(part)); )+
                use_text(joined.as_str())
            }
        }
    };
}

tuple_keys!(A 0, B 1);
tuple_keys!(A 0, B 1, C 2);
tuple_keys!(A 0, B 1, C 2, D 3);

/// The text of a tuple in the making: on the stack while it is short.
struct JoinedText {
    short: [u8; Self::SHORT_BYTES],
    length: usize,
    long: Option<String>,
    parts: usize,
}

impl Default for JoinedText {
    fn default() -> Self {
        Self { short: [0; Self::SHORT_BYTES], length: 0, long: None, parts: 0 }
    }
}

impl JoinedText {
    const SHORT_BYTES: usize = 128;

    fn push_part(&mut self, part: &str) {
        if self.parts > 0 {
            self.push(":");
        }
        self.parts += 1;
        let mut rest = part;
        while let Some(at) = rest.find([':', '%']) {
            self.push(&rest[..at]);
            self.push(if rest.as_bytes()[at] == b':' { "%3A" } else { "%25" });
            rest = &rest[at + 1..];
        }
        self.push(rest);
    }

    fn push(&mut self, text: &str) {
        let end = self.length + text.len();
        if let Some(long) = &mut self.long {
            long.push_str(text);
        } else if end <= Self::SHORT_BYTES {
            self.short[self.length..end].copy_from_slice(text.as_bytes());
            self.length = end;
        } else {
            let mut long = String::with_capacity(end * 2);
            long.push_str(self.as_str());
            long.push_str(text);
            self.long = Some(long);
        }
    }

    fn as_str(&self) -> &str {
        match &self.long {
            Some(long) => long,
            None => std::str::from_utf8(&self.short[..self.length]).expect("only whole strings were pushed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn odd_keys_are_refused_with_what_and_where() {
        let refusal = |text: &str| Key::new(text).expect_err("refused").to_string();
        assert!(refusal("").contains("empty"));
        assert!(refusal(&"k".repeat(1025)).contains("1025 bytes"));
        assert!(refusal("a\r\nb").contains("'\\r' at byte 1"));
        assert!(refusal("nul\0").contains("'\\0' at byte 3"));
        assert!(refusal("c1\u{85}").contains("at byte 2"));
    }

    #[test]
    fn keys_may_hold_what_globs_and_slots_care_about() {
        for text in ["*", "user:[a-z]?", "{tag}", "a/b%2F..", "\u{1f980}", " "] {
            assert_eq!(Key::new(text).expect("allowed").as_str(), text);
        }
    }

    #[test]
    fn namespaces_cannot_hold_what_globs_and_slots_care_about() {
        for text in ["", "A", "a*", "a.b", "a{", "a:b", "_a", "-a", "é", &"a".repeat(33)] {
            assert!(Namespace::new(text).is_err(), "{text:?}");
        }
        assert!(Namespace::new("0rders_eu-west").is_ok());
    }

    #[test]
    fn partitions_are_the_same_for_ever() {
        let namespace = Namespace::new("users").expect("valid");
        let of = |name| Partition::of(&namespace, name, Partition::COUNT_DEFAULT).0;
        assert_eq!([of("1"), of("2"), of("user:42")], GOLDEN_PARTITIONS);
    }

    const GOLDEN_PARTITIONS: [u16; 3] = [218, 195, 134];

    proptest! {
        #[test]
        fn texts_of_tuples_are_one_to_one(a in ".{0,90}", b in ".{0,90}", c in ".{0,90}", d in ".{0,90}") {
            let left = (a.as_str(), b.as_str()).with_text(str::to_owned);
            let right = (c.as_str(), d.as_str()).with_text(str::to_owned);
            prop_assert_eq!(left == right, (a, b) == (c, d));
        }
    }
}
