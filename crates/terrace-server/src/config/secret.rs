//! Passwords, and addresses that contain them.
//!
//! 1. Neither `Debug` nor `Display` nor serde ever shows a secret. Only `reveal` does, and only the code that opens
//!    a connection calls it.
//! 2. A wrong value is refused without being quoted.
//! 3. [`mask`] keeps the length of a text, so that an error can point into the masked text. It shows the names of variables, `${NAME}`, which
//!    are no secrets, and what stands behind a value.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// What stands where a secret was.
const HIDDEN: &str = "***";

/// A password.
///
/// # Examples
/// ```
/// use terrace_server::config::Secret;
/// let password = Secret::new("hunter2");
/// assert_eq!(format!("{password:?}"), "***");
/// assert_eq!(password.reveal(), "hunter2");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever opens the connection.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QuietText).map(Self)
    }
}

/// The address of a server, which may contain a user and a password.
///
/// # Examples
/// ```
/// use terrace_server::config::Address;
/// let address = Address::new("redis://app:hunter2@cache:6379/3");
/// assert_eq!(address.to_string(), "redis://***@cache:6379/3");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// Keeps the credentials of an address secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The whole address, for whoever opens the connection.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it leads to the same place, for the same user, as another with another password.
    pub(crate) fn is_same_but_password(&self, other: &Self) -> bool {
        let user = |address: &Self| {
            let found = credentials(&address.0).into_iter().next();
            let credentials = found.map_or("", |range| &address.0[range]);
            credentials.split(':').next().unwrap_or_default().to_owned()
        };
        hide(&self.0) == hide(&other.0) && user(self) == user(other)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hide(&self.0))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", hide(&self.0))
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QuietText).map(Self)
    }
}

/// Takes text, and refuses anything else without repeating it.
struct QuietText;

const NOT_TEXT: &str = "expected text in quotes";

impl Visitor<'_> for QuietText {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text in quotes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<String, E> {
        Err(E::custom(NOT_TEXT))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<String, E> {
        Err(E::custom(NOT_TEXT))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<String, E> {
        Err(E::custom(NOT_TEXT))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<String, E> {
        Err(E::custom(NOT_TEXT))
    }
}

/// Where the credentials of an address are: from after `://` to before the last `@`, and what follows `password=`.
fn credentials(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    if let Some(scheme_end) = text.find("://").map(|at| at + 3)
        && let Some(at) = text[scheme_end..].rfind('@')
    {
        found.push(scheme_end..scheme_end + at);
    }
    let (lower, is_url) = (text.to_ascii_lowercase(), text.contains("://"));
    for (at, word) in lower.match_indices("password") {
        let after = lower[at + word.len()..].trim_start();
        let Some(value) = after.strip_prefix('=') else { continue };
        let from = text.len() - value.len();
        // Elsewhere a value may be in quotes, with anything in them.
        let end = if is_url { value.find('&') } else { None };
        let to = end.map_or(text.len(), |length| from + length);
        if found.iter().all(|range: &std::ops::Range<usize>| range.end <= from) {
            found.push(from..to);
        }
    }
    found
}

/// An address without its credentials, for people.
fn hide(address: &str) -> String {
    let mut hidden = address.to_owned();
    for range in credentials(address).into_iter().rev() {
        hidden.replace_range(range, HIDDEN);
    }
    hidden
}

/// A configuration text with every secret replaced by as many stars.
pub(super) fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut is_in_headers = false;
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with('[') {
            is_in_headers = headers_at(line).is_some();
        }
        masked.push_str(&mask_line(line, is_in_headers));
    }
    masked
}

/// The table whose values are secrets, whatever they are called.
const HEADERS: &str = "headers";

fn mask_line(line: &str, is_in_headers: bool) -> String {
    let body = line.trim_end_matches(['\n', '\r']);
    let mut masked = line.to_owned();
    let mut star_out = |range: std::ops::Range<usize>| {
        let stars = starred(&masked[range.clone()]);
        masked.replace_range(range, &stars);
    };
    let secret = password_value(body).or_else(|| header_value(body, is_in_headers));
    let (before, after) = secret.as_ref().map_or((body.len(), body.len()), |range| (range.start, range.end));
    // What ends where the secret begins is the secret's own name, and a quotation mark.
    let is_text =
        |range: &std::ops::Range<usize>| !body[range.clone()].trim_matches([' ', '"', '\'']).is_empty();
    for range in credentials(&body[..before]).into_iter().filter(is_text) {
        star_out(range);
    }
    for range in credentials(&body[after..]) {
        star_out(after + range.start..after + range.end);
    }
    if let Some(range) = secret {
        star_out(range);
    }
    masked
}

/// As many stars, with the names of variables left as they are. Behind what is none, a `$${` or one with a default, there are stars alone.
fn starred(secret: &str) -> String {
    let (mut stars, mut rest) = (String::with_capacity(secret.len()), secret);
    while let Some((before, after)) = rest.split_once("${") {
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let named = after.split_once('}').filter(|(name, _)| is_name(name) && !before.ends_with('$'));
        let Some((name, behind)) = named else { break };
        stars.push_str(&"*".repeat(before.len()));
        stars.extend(["${", name, "}"]);
        rest = behind;
    }
    stars + &"*".repeat(rest.len())
}

/// A value that begins there on a line: what is in its quotation marks if nothing follows, else all to the end. Somebody may have written in a
/// comment what it was before.
fn value_at(line: &str, from: usize) -> std::ops::Range<usize> {
    let text = line[from..].trim_start();
    let begin = line.len() - text.len();
    let quoted = match text.bytes().next() {
        Some(quote @ (b'"' | b'\'')) => {
            let mut is_escaped = false;
            text.bytes().skip(1).position(|byte| {
                let is_end = byte == quote && !is_escaped;
                is_escaped = quote == b'"' && byte == b'\\' && !is_escaped;
                is_end
            })
        }
        _ => None,
    };
    let behind = |length: usize| text[length + 2..].trim_start();
    match quoted {
        Some(length) if behind(length).is_empty() => begin + 1..begin + 1 + length,
        Some(length) if behind(length).starts_with('#') => begin + 1..line.len(),
        _ => begin..line.len(),
    }
}

/// What stands after `password =` or `sha256 =` on a line. Somebody may have written the token itself there.
fn password_value(line: &str) -> Option<std::ops::Range<usize>> {
    let named = |name: &'static str| line.match_indices(name);
    for (at, word) in named("password").chain(named("sha256")) {
        let after = &line[at + word.len()..];
        let rest = after.trim_start_matches(['"', '\'', ' ', '\t']);
        if let Some(value) = rest.strip_prefix('=') {
            return Some(value_at(line, line.len() - value.len()));
        }
    }
    None
}

/// Where headers are named on a line, and not the files that they are in.
fn headers_at(line: &str) -> Option<usize> {
    line.match_indices(HEADERS).map(|(at, _)| at).find(|at| !line[at + HEADERS.len()..].starts_with("_file"))
}

/// What stands after `headers` and the next `=` on a line; among headers, after the first `=`.
fn header_value(line: &str, is_in_headers: bool) -> Option<std::ops::Range<usize>> {
    let from = if is_in_headers { 0 } else { headers_at(line)? };
    let at = from + line[from..].find('=')?;
    Some(value_at(line, at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_their_credentials() {
        for (address, shown) in [
            ("redis://localhost:6379", "redis://localhost:6379"),
            ("redis://:pw@host/1", "redis://***@host/1"),
            ("rediss://user:p@ss/w@host:1/0", "rediss://***@host:1/0"),
            ("postgres://h/db?user=a&password=pw&x=1", "postgres://h/db?user=a&password=***&x=1"),
            ("host=h user=u password='p w' dbname=d", "host=h user=u password=***"),
            ("postgres://u:pw@h/db?password=pw", "postgres://***@h/db?password=***"),
        ] {
            assert_eq!(Address::new(address).to_string(), shown);
            assert_eq!(format!("{:?}", Address::new(address)), format!("{shown:?}"));
        }
    }

    #[test]
    fn addresses_that_differ_by_a_password_are_told_from_others() {
        let one = Address::new("redis://app:one@host/1");
        for (other, is_same) in [
            ("redis://app:one@host/1", true),
            ("redis://app:t:w@o@host/1", true),
            ("redis://op:one@host/1", false),
            ("redis://:one@host/1", false),
            ("redis://app:one@host/2", false),
            ("rediss://app:one@host/1", false),
            ("redis://host/1", false),
        ] {
            assert_eq!(one.is_same_but_password(&Address::new(other)), is_same, "{other}");
        }
    }

    #[test]
    fn masking_keeps_the_length_and_hides_the_secret() {
        for line in [
            "password = \"hunter2\"\n",
            "l2 = { password = \"hunter2\", database = 3 }\r\n",
            "\"password\"='hunter2'",
            "{ name = 'web', sha256 = 'hunter2' }",
            "url = \"redis://u:hunter2@host\" # note\n",
            "url = \"postgres://h/?password=hunter2\"",
            "headers = { authorization = \"Bearer hunter2\" }",
            "origin.api.headers.x-key = 'hunter2'",
            "[origin.api.headers]\nx-key = 'hunter2'\n",
        ] {
            let masked = mask(line);
            assert_eq!(masked.len(), line.len());
            assert!(!masked.contains("hunter2"), "{masked}");
        }
    }

    #[test]
    fn masking_shows_the_names_of_variables() {
        for (line, masked) in [
            ("sha256 = \"${WEB_SHA256}\"  # of the web", "sha256 = \"${WEB_SHA256}***************"),
            ("password = \"hunter2\" # note", "password = \"***************"),
            ("password = 'it\\' # note", "password = '***********"),
            ("password = \"a\\\"b\" # note", "password = \"************"),
            ("password = \"a\\\"b\"", "password = \"****\""),
            ("password = \"$${hunter2}\"", "password = \"***********\""),
            ("password = \"${A:-${hunter2}}\"", "password = \"****************\""),
            ("url = \"ftp://u:$${hunter2}@h\"", "url = \"ftp://*************@h\""),
            ("password = \"${PW:-hunter2}\"", "password = \"**************\""),
            ("password = \"a${PW}b\"", "password = \"*${PW}*\""),
            ("password = \"a\", username = \"b\"", "password = *******************"),
            ("password = hunter2", "password = *******"),
            ("headers = { authorization = \"Bearer ${T}\" }", "headers = **************************${T}***"),
            ("url = \"redis://:${PW}@h\"", "url = \"redis://*${PW}@h\""),
            (
                "headers_file = { authorization = \"/run/token\" }",
                "headers_file = { authorization = \"/run/token\" }",
            ),
        ] {
            let shown = mask(line);
            assert_eq!((shown.len(), line.len()), (line.len(), masked.len()), "{line}");
            assert_eq!(shown, masked);
        }
    }

    #[test]
    fn masking_leaves_the_rest_alone() {
        let text =
            "[l2]\nurl = \"redis://host\"\n# the password is in a file\npassword_file = \"/run/secret\"\n";
        assert_eq!(mask(text), text);
    }
}
