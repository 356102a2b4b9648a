//! Which keyspace does a key belong to, and what are its parts?
//!
//! ```text
//! user:{id}             user:42               id = 42
//! order:{shop}:{id}     order:berlin:7        shop = berlin, id = 7
//! event:{*at}           event:2026-11-20T09:00:00Z    at = all of the rest
//! session:*             session:anything      no parts
//! ```
//!
//! 1. A capture `{name}` is one or more characters other than `:`. Only the last may be `{*name}`, or a plain `*`: one
//!    or more characters of any kind.
//! 2. A key belongs to the template with the longest literal text before its first capture. Two templates with the
//!    same such text that could match one key are refused ([`Template::overlaps`]), so the choice never depends on
//!    the order in a file.
//! 3. Matching looks at each byte of the key a bounded number of times: captures end at the next `:`, so there is
//!    nothing to go back to.

use std::fmt;

/// Why a text cannot be a template.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Nothing was given.
    #[error("the pattern is empty; `session:*` matches every key that begins with `session:`")]
    Empty,
    /// Longer than [`Template::LENGTH_MAX`].
    #[error("the pattern has {length} bytes, and at most {} are allowed", Template::LENGTH_MAX)]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It begins with a capture or `*`, so it would match keys of every other keyspace.
    #[error("the pattern begins with `{0}`; begin with plain text, as in `user:{{id}}`")]
    NoPrefix(char),
    /// A `{` without a `}`, or the other way round.
    #[error("`{0}` has no partner; a capture is written `{{name}}`")]
    Unpaired(char),
    /// A capture with a name that SQL could not use.
    #[error(
        "`{0}` cannot be the name of a capture; use letters, digits and `_`, beginning with a letter or `_`"
    )]
    Name(String),
    /// Two captures of one name.
    #[error("`{0}` is captured twice")]
    Twice(String),
    /// `*` or `{*name}` before the end.
    #[error("`*` and `{{*name}}` match the whole rest of the key, so they can only stand at the end")]
    RestNotLast,
    /// A capture that is not followed by `:` or the end.
    #[error(
        "`{{{0}}}` must be followed by `:` or the end of the pattern, because a capture ends at the next `:`"
    )]
    NoSeparator(String),
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Literal(String),
    Capture(String),
    /// The rest of the key, with the name it is captured under, if any.
    Rest(Option<String>),
}

/// The pattern of a keyspace.
///
/// # Examples
/// ```
/// use terrace_server::template::Template;
/// let template = Template::parse("order:{shop}:{id}")?;
/// let captures = template.captures("order:berlin:7").expect("it matches");
/// assert_eq!(captures.get("shop"), Some("berlin"));
/// assert_eq!(captures.get("id"), Some("7"));
/// assert!(template.captures("order:berlin").is_none());
/// # Ok::<(), terrace_server::template::TemplateError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    prefix: String,
    parts: Vec<Part>,
}

impl Template {
    /// Longest template, in bytes.
    pub const LENGTH_MAX: usize = 256;

    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError`] says what is wrong and how to write it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        match text.chars().next() {
            None => return Err(TemplateError::Empty),
            Some(first @ ('{' | '*')) => return Err(TemplateError::NoPrefix(first)),
            Some(_) if text.len() > Self::LENGTH_MAX => {
                return Err(TemplateError::TooLong { length: text.len() });
            }
            Some(_) => {}
        }
        let parts = split(text)?;
        check(&parts)?;
        let prefix = match &parts[0] {
            Part::Literal(prefix) => prefix.clone(),
            Part::Capture(_) | Part::Rest(_) => unreachable!("a template begins with plain text"),
        };
        Ok(Self { text: text.to_owned(), prefix, parts })
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The plain text before the first capture.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A glob that matches every key of this template, and perhaps others.
    pub(crate) fn glob(&self) -> String {
        let mut glob = String::with_capacity(self.text.len());
        for part in &self.parts {
            match part {
                Part::Literal(text) => {
                    for letter in text.chars() {
                        if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^') {
                            glob.push('\\');
                        }
                        glob.push(letter);
                    }
                }
                Part::Capture(_) | Part::Rest(_) => glob.push('*'),
            }
        }
        glob
    }

    /// The names of the captures, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(Part::name)
    }

    /// Whether the key is one of this template's.
    ///
    /// # Cost
    /// One pass over the key, no allocation.
    pub fn matches(&self, key: &str) -> bool {
        self.walk(key, |_, _| {})
    }

    /// The parts of the key, if it is one of this template's.
    ///
    /// # Cost
    /// As [`Template::matches`], and one allocation.
    pub fn captures<'a>(&'a self, key: &'a str) -> Option<Captures<'a>> {
        let mut pairs = Vec::new();
        let matched = self.walk(key, |name, value| pairs.push((name, value)));
        matched.then_some(Captures { key, pairs })
    }

    fn walk<'a>(&'a self, key: &'a str, mut capture: impl FnMut(&'a str, &'a str)) -> bool {
        let mut rest = key;
        for part in &self.parts {
            let taken = match part {
                Part::Literal(text) if rest.starts_with(text.as_str()) => text.len(),
                Part::Literal(_) => return false,
                Part::Capture(_) => rest.find(':').unwrap_or(rest.len()),
                Part::Rest(_) => rest.len(),
            };
            let (value, after) = rest.split_at(taken);
            if value.is_empty() {
                return false;
            }
            if let Some(name) = part.name() {
                capture(name, value);
            }
            rest = after;
        }
        rest.is_empty()
    }

    /// The key with these parts, in the order of [`Template::names`].
    ///
    /// # Errors
    /// The name of the first part that no key can have: an empty one, or one with a `:` that is not the rest of the key.
    pub(crate) fn key(&self, values: &[String]) -> Result<String, &str> {
        let mut key = String::with_capacity(self.text.len());
        let mut values = values.iter();
        for part in &self.parts {
            if let Part::Literal(text) = part {
                key.push_str(text);
                continue;
            }
            let value = values.next().map_or("", String::as_str);
            if value.is_empty() || (matches!(part, Part::Capture(_)) && value.contains(':')) {
                return Err(part.name().unwrap_or("*"));
            }
            key.push_str(value);
        }
        Ok(key)
    }

    /// Whether its keys end in something that has no name.
    pub(crate) fn has_nameless_rest(&self) -> bool {
        self.parts.last() == Some(&Part::Rest(None))
    }

    /// Whether some key belongs to both templates and neither has the longer literal prefix.
    pub fn overlaps(&self, other: &Self) -> bool {
        if self.prefix != other.prefix {
            return false;
        }
        let (mine, theirs) = (self.pieces(), other.pieces());
        // Row by row: does what is left of mine, from piece i on, share a text with what is left of theirs?
        let mut below = vec![false; theirs.len() + 1];
        for i in (0..=mine.len()).rev() {
            let mut row = vec![false; theirs.len() + 1];
            for j in (0..=theirs.len()).rev() {
                row[j] = match (mine.get(i), theirs.get(j)) {
                    (None, None) => true,
                    (Some(a), _) if a.is_many && below[j] => true,
                    (_, Some(b)) if b.is_many && row[j + 1] => true,
                    (Some(a), Some(b)) if a.what.meets(b.what) => match (a.is_many, b.is_many) {
                        (false, false) => below[j + 1],
                        (true, false) => row[j + 1],
                        (false, true) => below[j],
                        (true, true) => false,
                    },
                    _ => false,
                };
            }
            below = row;
        }
        below[0]
    }

    /// The template as a list of single characters and runs, for [`Template::overlaps`].
    fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for part in &self.parts {
            let what = match part {
                Part::Literal(text) => {
                    pieces.extend(text.chars().map(|c| Piece { what: What::Only(c), is_many: false }));
                    continue;
                }
                Part::Capture(_) => What::NotColon,
                Part::Rest(_) => What::Any,
            };
            pieces.extend([Piece { what, is_many: false }, Piece { what, is_many: true }]);
        }
        pieces
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?})", self.text)
    }
}

impl Part {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Literal(_) | Self::Rest(None) => None,
            Self::Capture(name) | Self::Rest(Some(name)) => Some(name),
        }
    }
}

/// One character of a certain kind, or any number of them.
#[derive(Clone, Copy)]
struct Piece {
    what: What,
    is_many: bool,
}

#[derive(Clone, Copy)]
enum What {
    Only(char),
    NotColon,
    Any,
}

impl What {
    /// Whether some character is of both kinds.
    fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::Only(a), Self::Only(b)) => a == b,
            (Self::Only(c), Self::NotColon) | (Self::NotColon, Self::Only(c)) => c != ':',
            _ => true,
        }
    }
}

/// The parts of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Captures<'a> {
    key: &'a str,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Captures<'a> {
    /// The parts, and one more.
    #[must_use]
    pub(crate) fn and(mut self, name: &'a str, value: &'a str) -> Self {
        self.pairs.push((name, value));
        self
    }

    /// The name under which the whole key can be asked for, unless a capture has that name.
    pub const WHOLE_KEY: &'static str = "key";

    /// The part with this name.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        match self.pairs.iter().find(|(own, _)| *own == name) {
            Some((_, value)) => Some(value),
            None if name == Self::WHOLE_KEY => Some(self.key),
            None => None,
        }
    }
}

fn split(text: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}', '*']) {
        if at > 0 {
            parts.push(Part::Literal(rest[..at].to_owned()));
        }
        match rest.as_bytes()[at] {
            b'*' => {
                parts.push(Part::Rest(None));
                rest = &rest[at + 1..];
            }
            b'{' => {
                let end = rest[at..].find('}').ok_or(TemplateError::Unpaired('{'))? + at;
                parts.push(capture(&rest[at + 1..end])?);
                rest = &rest[end + 1..];
            }
            _ => return Err(TemplateError::Unpaired('}')),
        }
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest.to_owned()));
    }
    Ok(parts)
}

fn capture(inner: &str) -> Result<Part, TemplateError> {
    let name = inner.strip_prefix('*').unwrap_or(inner);
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !begins_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(TemplateError::Name(inner.to_owned()));
    }
    Ok(if inner.len() == name.len() {
        Part::Capture(name.to_owned())
    } else {
        Part::Rest(Some(name.to_owned()))
    })
}

fn check(parts: &[Part]) -> Result<(), TemplateError> {
    for (index, part) in parts.iter().enumerate() {
        if let Some(name) = part.name()
            && parts[..index].iter().any(|earlier| earlier.name() == Some(name))
        {
            return Err(TemplateError::Twice(name.to_owned()));
        }
        match (part, parts.get(index + 1)) {
            (Part::Rest(_), Some(_)) => return Err(TemplateError::RestNotLast),
            (Part::Capture(name), Some(next)) => match next {
                Part::Literal(text) if text.starts_with(':') => {}
                _ => return Err(TemplateError::NoSeparator(name.clone())),
            },
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        Template::parse(text).expect("a valid template")
    }

    fn values<'a>(pattern: &'a Template, key: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
        pattern.captures(key).map(|captures| captures.pairs)
    }

    #[test]
    fn keys_match_by_segments() {
        let user = template("user:{id}");
        assert_eq!(values(&user, "user:42"), Some(vec![("id", "42")]));
        assert_eq!(values(&user, "user:a/b%2F*{}"), Some(vec![("id", "a/b%2F*{}")]));
        for key in ["user:", "user", "user:1:2", "user:1:", "users:1", "", "USER:1", "user::"] {
            assert_eq!(values(&user, key), None, "{key:?}");
            assert!(!user.matches(key));
        }
        let order = template("order:{shop}:{id}");
        assert_eq!(values(&order, "order:berlin:7"), Some(vec![("shop", "berlin"), ("id", "7")]));
        assert_eq!(values(&order, "order::7"), None);
    }

    #[test]
    fn a_key_is_made_of_its_parts_alone() {
        let made = |text: &str, values: &[&str]| {
            let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
            template(text).key(&values).map_err(str::to_owned)
        };
        assert_eq!(made("order:{shop}:{id}", &["a/b %", "7"]).as_deref(), Ok("order:a/b %:7"));
        assert_eq!(made("event:{*at}", &["09:00"]).as_deref(), Ok("event:09:00"));
        assert_eq!(made("order:{shop}:{id}", &["a", "7:8"]), Err("id".to_owned()));
        assert_eq!(made("order:{shop}:{id}", &["", "7"]), Err("shop".to_owned()));
    }

    #[test]
    fn the_rest_of_a_key_may_hold_anything() {
        let event = template("event:{*at}");
        let key = "event:2026-11-20T09:00:00Z";
        assert_eq!(values(&event, key), Some(vec![("at", "2026-11-20T09:00:00Z")]));
        assert_eq!(values(&template("session:*"), "session:a:b"), Some(vec![]));
        assert_eq!(values(&template("session:*"), "session:"), None);
        assert_eq!(values(&template("motd"), "motd"), Some(vec![]));
        assert_eq!(values(&template("motd"), "motd:1"), None);
    }

    #[test]
    fn the_whole_key_has_a_name_unless_a_capture_took_it() {
        assert_eq!(template("a:*").captures("a:b").and_then(|c| c.get("key")), Some("a:b"));
        assert_eq!(template("a:{key}").captures("a:b").and_then(|c| c.get("key")), Some("b"));
        assert_eq!(template("a:{id}").captures("a:b").and_then(|c| c.get("nix")), None);
    }

    #[test]
    fn texts_that_are_no_templates_are_refused() {
        for (text, words) in [
            ("", "is empty"),
            ("{id}", "begins with `{`"),
            ("*", "begins with `*`"),
            ("a:{id", "`{` has no partner"),
            ("a:id}", "`}` has no partner"),
            ("a:{}", "`` cannot be the name"),
            ("a:{1d}", "`1d` cannot be the name"),
            ("a:{i-d}", "`i-d` cannot be the name"),
            ("a:{id}:{id}", "`id` is captured twice"),
            ("a:*:b", "only stand at the end"),
            ("a:{*all}:b", "only stand at the end"),
            ("a:{id}-{no}", "followed by `:`"),
            ("a:{id}{no}", "followed by `:`"),
        ] {
            let refusal = Template::parse(text).expect_err(text).to_string();
            assert!(refusal.contains(words), "{text:?}: {refusal}");
        }
        assert!(Template::parse(&"a".repeat(257)).is_err());
    }

    #[test]
    fn overlaps_are_found() {
        for (a, b, expected) in [
            ("user:{id}", "user:{name}", true),
            ("user:{id}", "user:*", true),
            ("user:{id}", "user:{id}:orders", false),
            ("user:{id}", "user:me", false),
            ("user:{a}:{b}", "user:{*all}", true),
            ("user:{a}:x", "user:{b}:y", false),
            ("user:{a}:x", "user:{b}:{c}", true),
            ("user:{a}", "order:{a}", false),
            ("motd", "motd", true),
        ] {
            assert_eq!(template(a).overlaps(&template(b)), expected, "{a} {b}");
            assert_eq!(template(b).overlaps(&template(a)), expected, "{b} {a}");
        }
    }
}
