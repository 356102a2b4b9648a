//! Requests from the configuration, with named parameters: `GET /users/{id}?full=true`.
//!
//! 1. What is written is a method and a path of the origin; scheme, host and port are the origin's own, and nothing that a key
//!    brings along changes them.
//! 2. Values are percent-encoded, every byte but letters, digits and `-._~`: a `/`, `?` or `#` of a key is data.
//! 3. A path whose segments would be `.` or `..` leads elsewhere by the rules of URLs, however it is encoded. It is refused: when it is
//!    written, and when a key would make it. Servers in front of an API decode before they look, so what counts is the decoded path.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Serialize, Serializer};
use std::fmt;

/// What is encoded: all but what RFC 3986 reserves for no purpose.
const DATA: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why a text cannot be a request.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// No method and path, with one space between them.
    #[error("write a method and a path, as in `GET /users/{{id}}`")]
    Form,
    /// A method that is not among those of [`Verb`].
    #[error("`{0}` is not one of GET, PUT, POST, PATCH and DELETE")]
    Method(String),
    /// Something that is not of a path or a query.
    #[error("`{0}` cannot stand in a path; percent-encode it, or make it a part of the key")]
    Character(char),
    /// It leads to another host, or to another place than it says.
    #[error("`{0}` would lead elsewhere; write the path from the origin's `base_url` on")]
    Elsewhere(&'static str),
    /// A `{` without a `}`, or the other way round.
    #[error("`{0}` has no partner; a parameter is written `{{name}}`")]
    Unpaired(char),
}

/// A method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// `GET`.
    Get,
    /// `PUT`.
    Put,
    /// `POST`.
    Post,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
}

const VERBS: [(&str, Verb); 5] = [
    ("GET", Verb::Get),
    ("PUT", Verb::Put),
    ("POST", Verb::Post),
    ("PATCH", Verb::Patch),
    ("DELETE", Verb::Delete),
];

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// A place in the names.
    Parameter(usize),
}

/// One request.
///
/// # Examples
/// ```
/// use terrace_server::origin::endpoint::Endpoint;
/// let endpoint = Endpoint::parse("GET /orders/{shop}?id={id}")?;
/// assert_eq!(endpoint.names(), ["shop", "id"]);
/// assert_eq!(endpoint.path(&["berlin/mitte", "7&x=1"]).as_deref(), Some("/orders/berlin%2Fmitte?id=7%26x%3D1"));
/// assert_eq!(endpoint.path(&["..", "7"]), None);
/// # Ok::<(), terrace_server::origin::endpoint::EndpointError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    text: String,
    verb: Verb,
    names: Vec<String>,
    parts: Vec<Part>,
}

impl Endpoint {
    /// Reads a request.
    ///
    /// # Errors
    /// [`EndpointError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let (method, path) = text.trim().split_once(' ').ok_or(EndpointError::Form)?;
        let known = VERBS.iter().find(|(name, _)| *name == method);
        let (_, verb) = known.ok_or_else(|| EndpointError::Method(method.to_owned()))?;
        if !path.starts_with('/') {
            return Err(EndpointError::Form);
        }
        if path.starts_with("//") {
            return Err(EndpointError::Elsewhere("//"));
        }
        let mut endpoint =
            Self { text: text.trim().to_owned(), verb: *verb, names: Vec::new(), parts: Vec::new() };
        endpoint.split(path)?;
        let placeholders: Vec<&str> = endpoint.names.iter().map(|_| "x").collect();
        if endpoint.path(&placeholders).is_none() {
            return Err(EndpointError::Elsewhere(".."));
        }
        Ok(endpoint)
    }

    fn split(&mut self, path: &str) -> Result<(), EndpointError> {
        let mut rest = path;
        while !rest.is_empty() {
            let end = rest.find(['{', '}']).unwrap_or(rest.len());
            let (literal, after) = rest.split_at(end);
            if let Some(wrong) = literal.chars().find(|c| !is_of_a_path(*c)) {
                return Err(EndpointError::Character(wrong));
            }
            if !literal.is_empty() {
                self.parts.push(Part::Literal(literal.to_owned()));
            }
            rest = match after.strip_prefix('{') {
                None if after.is_empty() => break,
                None => return Err(EndpointError::Unpaired('}')),
                Some(inner) => {
                    let (name, rest) = inner.split_once('}').ok_or(EndpointError::Unpaired('{'))?;
                    self.add(name);
                    rest
                }
            };
        }
        Ok(())
    }

    fn add(&mut self, name: &str) {
        let number = self.names.iter().position(|own| own == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        self.parts.push(Part::Parameter(number));
    }

    /// The request as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The method.
    pub fn verb(&self) -> Verb {
        self.verb
    }

    /// The names of the parameters, in the order of their values.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The path and query with these values; `None` if that would lead elsewhere, or if a value is missing.
    pub fn path(&self, values: &[&str]) -> Option<String> {
        let mut path = String::with_capacity(self.text.len());
        for part in &self.parts {
            match part {
                Part::Literal(text) => path.push_str(text),
                Part::Parameter(number) => path.extend(utf8_percent_encode(values.get(*number)?, DATA)),
            }
        }
        let before_query = path.split('?').next().unwrap_or_default();
        let decoded = percent_decode_str(before_query).decode_utf8_lossy();
        decoded.split(['/', '\\']).all(|segment| !is_dots(segment)).then_some(path)
    }
}

fn is_of_a_path(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~/?&=%:@!$'()*+,;".contains(c)
}

/// Whether a segment is `.` or `..` by the rules of URLs.
fn is_dots(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

impl Verb {
    /// Its name in HTTP.
    pub fn as_str(self) -> &'static str {
        VERBS.iter().find(|(_, verb)| *verb == self).map_or("GET", |(name, _)| name)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({:?})", self.text)
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str, values: &[&str]) -> Option<String> {
        Endpoint::parse(text).expect(text).path(values)
    }

    #[test]
    fn values_are_data_wherever_they_stand() {
        for (value, encoded) in [
            ("a/b", "a%2Fb"),
            ("a?b#c", "a%3Fb%23c"),
            ("a\r\nhost: x", "a%0D%0Ahost%3A%20x"),
            ("é", "%C3%A9"),
            ("a..b", "a..b"),
        ] {
            assert_eq!(path("GET /x/{id}", &[value]), Some(format!("/x/{encoded}")), "{value}");
        }
    }

    #[test]
    fn no_value_leads_to_another_place() {
        for (text, value) in [
            ("GET /x/{id}/y", ".."),
            ("GET /x/{id}", "."),
            ("GET /x/.{id}?a=b", "."),
            ("GET /x/{id}", "../y"),
            ("GET /x/{id}", "a/../../y"),
            ("GET /x/{id}", "..\\y"),
            ("GET /x/{id}", "a/."),
            ("GET /x/{id}", "%2e%2E"),
        ] {
            assert_eq!(path(text, &[value]), None, "{text} {value}");
        }
        assert_eq!(path("GET /x?id={id}", &[".."]).as_deref(), Some("/x?id=.."), "a query has no segments");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (text, error) in [
            ("/x", EndpointError::Form),
            ("GET x", EndpointError::Form),
            ("TRACE /x", EndpointError::Method("TRACE".into())),
            ("GET //evil/x", EndpointError::Elsewhere("//")),
            ("GET /x/../y", EndpointError::Elsewhere("..")),
            ("GET /x/%2E%2e/y", EndpointError::Elsewhere("..")),
            ("GET /x y", EndpointError::Character(' ')),
            ("GET /x#y", EndpointError::Character('#')),
            ("GET /x\\y", EndpointError::Character('\\')),
            ("GET /{id", EndpointError::Unpaired('{')),
            ("GET /id}", EndpointError::Unpaired('}')),
        ] {
            assert_eq!(Endpoint::parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        /// What a URL parser makes of a path keeps the host, the segments, and the value.
        #[test]
        fn a_value_stays_one_segment_of_the_same_host(value in "\\PC{1,20}|[./%?#@\\\\:]{1,6}|[./2eE%]{1,12}") {
            let Some(path) = path("GET /a/{id}/b", &[&value]) else { return Ok(()) };
            let url = reqwest::Url::parse("http://origin:1").unwrap().join(&path).unwrap();
            prop_assert_eq!(url.host_str(), Some("origin"));
            prop_assert_eq!(url.port(), Some(1));
            let segments: Vec<&str> = url.path_segments().unwrap().collect();
            prop_assert_eq!(segments.len(), 3);
            let decoded = percent_decode_str(segments[1]).decode_utf8().unwrap();
            prop_assert_eq!(decoded.as_ref(), value.as_str());
            prop_assert_eq!((url.query(), url.fragment()), (None, None));
            // Nor does it lead elsewhere where it is decoded first.
            prop_assert!(value.split(['/', '\\']).all(|part| part != "." && part != ".."));
        }
    }
}
