//! What a credential may do, as it is written: `read:user:*`, `invalidate:*`, `admin`.
//!
//! 1. A scope is a verb and the keys that it is for, as a pattern with the meaning of Redis' `SCAN MATCH`. `admin` has no keys: it is
//!    for what concerns the service.
//! 2. A key is covered if the pattern matches it. A pattern is covered if that is proven by its text: they are equal, the scope's
//!    matches every key, the scope's is plain text and a `*` with which the other begins, or the other names one key alone. What could
//!    be covered but is not proven is not covered.

use serde::{Serialize, Serializer};
use std::fmt;
use terrace::Glob;

/// What is done with keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// Values are read, and loaded where that is how the keyspace is read.
    Read,
    /// Values are stored and removed, at the origin too where the keyspace's strategy says so.
    Write,
    /// Copies are dropped, or loaded anew.
    Invalidate,
}

impl Verb {
    const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Invalidate];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Invalidate => "invalidate",
        }
    }
}

/// Why a text cannot be a scope.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScopeError {
    /// It has no known verb.
    #[error("there is no verb `{0}`; write `read:user:*`, `write:…`, `invalidate:…` or `admin`")]
    Verb(String),
    /// The verb has no keys.
    #[error("`{0}` needs to say which keys: `{0}:user:*`, or `{0}:*` for all")]
    Keys(&'static str),
    /// `admin` has keys.
    #[error("`admin` is for the service and has no keys; write `admin` alone")]
    Admin,
    /// The pattern cannot be one.
    #[error("{0}")]
    Pattern(String),
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Reach {
    All,
    /// Every key that begins so.
    Prefix(Box<str>),
    Pattern(Glob),
}

/// One thing that a credential may do.
///
/// # Examples
/// ```
/// use terrace_server::auth::{Scope, Verb};
/// let scope: Scope = "read:user:*".parse()?;
/// assert!(scope.covers_key(Verb::Read, "user:42"));
/// assert!(!scope.covers_key(Verb::Write, "user:42"));
/// assert!(!scope.covers_key(Verb::Read, "order:1"));
/// # Ok::<(), terrace_server::auth::ScopeError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scope(Allowed);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Allowed {
    Admin,
    Keys { verb: Verb, pattern: Glob, reach: Reach },
}

impl Scope {
    /// The scope that is for the service itself.
    pub const ADMIN: Self = Self(Allowed::Admin);

    /// A verb on every key.
    pub(crate) fn all(verb: Verb) -> Self {
        let pattern = Glob::new("*").expect("a star is a pattern");
        Self(Allowed::Keys { verb, pattern, reach: Reach::All })
    }

    /// Whether it is `admin`.
    pub fn is_admin(&self) -> bool {
        self.0 == Allowed::Admin
    }

    /// Whether it is for this verb, on whatever keys.
    pub fn is_for(&self, verb: Verb) -> bool {
        matches!(self.0, Allowed::Keys { verb: own, .. } if own == verb)
    }

    /// Whether it is for this verb on every key.
    pub fn is_for_all(&self, verb: Verb) -> bool {
        matches!(self.0, Allowed::Keys { verb: own, reach: Reach::All, .. } if own == verb)
    }

    /// Whether it allows this on a key.
    ///
    /// # Cost
    /// No allocation; a comparison of the beginning, unless the pattern has more than a `*` at its end.
    pub fn covers_key(&self, verb: Verb, key: &str) -> bool {
        match &self.0 {
            Allowed::Keys { verb: own, reach, .. } if *own == verb => match reach {
                Reach::All => true,
                Reach::Prefix(prefix) => key.starts_with(&**prefix),
                Reach::Pattern(pattern) => pattern.matches(key),
            },
            _ => false,
        }
    }

    /// Whether it provably allows this on every key that a pattern matches.
    pub fn covers_pattern(&self, verb: Verb, asked: &Glob) -> bool {
        let Allowed::Keys { verb: own, pattern, reach } = &self.0 else { return false };
        if *own != verb {
            return false;
        }
        match reach {
            Reach::All => true,
            _ if pattern == asked => true,
            Reach::Prefix(prefix) => asked.literal_prefix().starts_with(&**prefix),
            Reach::Pattern(pattern) => single_key(asked).is_some_and(|key| pattern.matches(&key)),
        }
    }
}

/// The only key that a pattern matches, if its text says so.
fn single_key(pattern: &Glob) -> Option<String> {
    let key = pattern.literal_prefix();
    // A pattern that is longer than what it begins with has something in it that could match more than one text.
    let is_whole = Glob::escape(&key) == pattern.as_str() || *key == *pattern.as_str();
    is_whole.then(|| key.into_owned())
}

/// The plain text before a `*` that ends the pattern, if that is all there is.
fn prefix_of(pattern: &Glob) -> Option<Box<str>> {
    let prefix = pattern.as_str().strip_suffix('*')?;
    let is_plain = !prefix.contains(['*', '?', '[', '\\']);
    is_plain.then(|| prefix.into())
}

impl std::str::FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let (word, keys) = text.split_once(':').map_or((text, None), |(word, keys)| (word, Some(keys)));
        if word == "admin" {
            return if keys.is_none() { Ok(Self::ADMIN) } else { Err(ScopeError::Admin) };
        }
        let verb = Verb::ALL.into_iter().find(|verb| verb.as_str() == word);
        let verb = verb.ok_or_else(|| ScopeError::Verb(word.chars().take(32).collect()))?;
        let keys = keys.filter(|keys| !keys.is_empty()).ok_or(ScopeError::Keys(verb.as_str()))?;
        let pattern = Glob::new(keys).map_err(|error| ScopeError::Pattern(error.to_string()))?;
        let reach = match prefix_of(&pattern) {
            _ if pattern.is_all() => Reach::All,
            Some(prefix) => Reach::Prefix(prefix),
            None => Reach::Pattern(pattern.clone()),
        };
        Ok(Self(Allowed::Keys { verb, pattern, reach }))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Allowed::Admin => f.write_str("admin"),
            Allowed::Keys { verb, pattern, .. } => write!(f, "{}:{pattern}", verb.as_str()),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scope(text: &str) -> Scope {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn glob(text: &str) -> Glob {
        Glob::new(text).expect("a pattern")
    }

    #[test]
    fn a_scope_is_for_its_verb_and_its_keys() {
        for (text, key, is_covered) in [
            ("read:*", "anything", true),
            ("read:**", "anything", true),
            ("read:user:*", "user:1", true),
            ("read:user:*", "user:", true),
            ("read:user:*", "users:1", false),
            ("read:user:?", "user:1", true),
            ("read:user:?", "user:12", false),
            ("read:user:1", "user:1", true),
            ("read:user:1", "user:12", false),
            (r"read:a\*b", "a*b", true),
            (r"read:a\*b", "axb", false),
        ] {
            assert_eq!(scope(text).covers_key(Verb::Read, key), is_covered, "{text} {key}");
            assert!(!scope(text).covers_key(Verb::Write, key), "{text} {key}");
            assert_eq!(scope(text).to_string(), text);
        }
        assert!(scope("admin").is_admin());
        assert!(!Verb::ALL.into_iter().any(|verb| scope("admin").covers_key(verb, "x")));
    }

    #[test]
    fn a_pattern_is_covered_if_that_is_proven() {
        for (own, asked, is_covered) in [
            ("*", "user:*", true),
            ("user:*", "user:*", true),
            ("user:*", "user:1*", true),
            ("user:*", "user:[12]", true),
            ("user:*", "use*", false),
            ("user:*", "*", false),
            ("user:*", "[u]ser:*", false),
            ("user:*", r"\user:*", true),
            ("user:*", r"\*", false),
            ("user:?", "user:?", true),
            ("user:?", "user:[12]", false),
            ("user:?", "user:1", true),
            ("user:?", "user:12", false),
            ("user:1", "user:1", true),
            ("user:1", "user:1*", false),
            ("user:*:x", "user:1:x", true),
            ("user:*:x", "user:1:*", false),
        ] {
            let covers = scope(&format!("invalidate:{own}")).covers_pattern(Verb::Invalidate, &glob(asked));
            assert_eq!(covers, is_covered, "{own} {asked}");
        }
        assert!(!scope("read:*").covers_pattern(Verb::Invalidate, &glob("a")));
        assert!(!scope("admin").covers_pattern(Verb::Invalidate, &glob("a")));
    }

    #[test]
    fn what_is_no_scope_is_refused() {
        for text in ["", "read", "read:", "admin:*", "Read:*", "delete:*", "*", ":x", " read:*"] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
    }

    proptest! {
        /// What a scope says of a pattern holds of every key that the pattern matches.
        #[test]
        fn a_covered_pattern_matches_covered_keys_alone(
            own in r"[ab*?\[\]\\^:-]{1,6}", asked in r"[ab*?\[\]\\^:-]{1,6}", key in r"[ab*?\[\]\\^:-]{1,6}"
        ) {
            let scope = scope(&format!("read:{own}"));
            let asked = glob(&asked);
            if scope.covers_pattern(Verb::Read, &asked) && asked.matches(&key) {
                prop_assert!(scope.covers_key(Verb::Read, &key), "{own} {asked} {key}");
            }
            prop_assert_eq!(scope.covers_key(Verb::Read, &key), glob(&own).matches(&key));
        }
    }
}
