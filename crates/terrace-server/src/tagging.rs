//! Which tags does an entry have, by what its keyspace says?
//!
//! ```text
//! org:{value.org_id}      the member `org_id` of the document: 7 makes it `org:7`
//! shop:{shop}             a part of the key
//! label:{value.labels}    a tag for each item, if that is a list
//! prices                  of all entries
//! ```
//!
//! 1. A part of the key is always there. A member of the document is if it is a text, a number, `true` or `false`, or a list of such: where it
//!    is not, and of what is not JSON, the rule gives no tag. A number is written as the document has it.
//! 2. What cannot be a tag names nothing, as it would in an invalidation.
//! 3. A rule has one member of the document at most: of two lists it would be each item with each.
//! 4. Whoever stores an entry asks here: loads, writes of every strategy, batches.

use crate::document::Document;
use crate::template::{Captures, Template};
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde::{Deserializer, Serialize};
use serde_json::value::RawValue;
use std::fmt;
use terrace::codec::JsonText;
use terrace::{Key, Tag};

/// What a member of the document begins with.
const MEMBER: &str = "value.";

/// Why a text cannot be a rule for tags.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TagRuleError {
    /// Nothing was given.
    #[error("the tag is empty; write it as in `org:{{value.org_id}}`")]
    Empty,
    /// A `{` without a `}`, or the other way round.
    #[error("`{0}` has no partner; a part is written `{{name}}`, a member of the document `{{value.name}}`")]
    Unpaired(char),
    /// A part that the pattern does not have.
    #[error(
        "the pattern captures no `{0}`; a member of the document is written `{{value.{0}}}`, the whole key `{{key}}`"
    )]
    Unknown(String),
    /// A member without a name.
    #[error("`{0}` names no member of the document; it is written as in `{{value.org.id}}`")]
    Member(String),
    /// Two members of the document.
    #[error("the tag has two members of the document, and may have one; make two tags of it")]
    TwoMembers,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Plain(String),
    Part(String),
    Member(Vec<String>),
}

/// A rule that gives tags.
///
/// # Examples
/// ```
/// use terrace_server::{TagRule, template::Template};
/// let pattern = Template::parse("user:{id}")?;
/// assert_eq!(TagRule::parse("org:{value.org_id}", &pattern)?.as_str(), "org:{value.org_id}");
/// assert!(TagRule::parse("org:{org}", &pattern).unwrap_err().to_string().contains("{value.org}"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct TagRule {
    text: String,
    pieces: Vec<Piece>,
}

impl TagRule {
    /// Reads a rule for keys of this pattern.
    ///
    /// # Errors
    /// [`TagRuleError`] says what is wrong and how to write it.
    pub fn parse(text: &str, pattern: &Template) -> Result<Self, TagRuleError> {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            if rest.as_bytes()[at] == b'}' {
                return Err(TagRuleError::Unpaired('}'));
            }
            let end = rest[at..].find('}').ok_or(TagRuleError::Unpaired('{'))? + at;
            if at > 0 {
                pieces.push(Piece::Plain(rest[..at].to_owned()));
            }
            pieces.push(piece(&rest[at + 1..end], pattern)?);
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Plain(rest.to_owned()));
        }
        match pieces.iter().filter(|piece| matches!(piece, Piece::Member(_))).count() {
            _ if pieces.is_empty() => Err(TagRuleError::Empty),
            0 | 1 => Ok(Self { text: text.to_owned(), pieces }),
            _ => Err(TagRuleError::TwoMembers),
        }
    }

    /// The rule as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The texts of the tags of an entry whose document is this JSON text, if it is one.
    fn texts(&self, captures: &Captures<'_>, document: Option<&str>) -> Vec<String> {
        let mut texts = vec![String::new()];
        for piece in &self.pieces {
            match piece {
                Piece::Plain(plain) => push(&mut texts, plain),
                Piece::Part(name) => push(&mut texts, captures.get(name).unwrap_or_default()),
                Piece::Member(path) => {
                    let begun = texts.pop().unwrap_or_default();
                    let items = document.and_then(|document| member(document, path)).map(items);
                    texts = items.unwrap_or_default().iter().map(|item| format!("{begun}{item}")).collect();
                }
            }
        }
        texts
    }
}

impl fmt::Debug for TagRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TagRule({:?})", self.text)
    }
}

impl Serialize for TagRule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

fn push(texts: &mut [String], more: &str) {
    for text in texts {
        text.push_str(more);
    }
}

fn piece(inner: &str, pattern: &Template) -> Result<Piece, TagRuleError> {
    if let Some(path) = inner.strip_prefix(MEMBER) {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        return if path.iter().any(String::is_empty) {
            Err(TagRuleError::Member(inner.to_owned()))
        } else {
            Ok(Piece::Member(path))
        };
    }
    if inner == Captures::WHOLE_KEY || pattern.names().any(|name| name == inner) {
        Ok(Piece::Part(inner.to_owned()))
    } else {
        Err(TagRuleError::Unknown(inner.to_owned()))
    }
}

/// The JSON text of a member within members.
fn member<'a>(document: &'a str, path: &[String]) -> Option<&'a str> {
    path.iter().try_fold(document, |within, name| {
        let mut json = serde_json::Deserializer::from_str(within);
        Named(name).deserialize(&mut json).ok()?.map(RawValue::get)
    })
}

/// Finds the last member of a name. Names are read as they are written: one may have half a surrogate pair, which no text has.
struct Named<'n>(&'n str);

impl Named<'_> {
    fn is(&self, quoted: &str) -> bool {
        if quoted.contains('\\') {
            serde_json::from_str::<String>(quoted).is_ok_and(|name| name == self.0)
        } else {
            quoted.get(1..quoted.len() - 1) == Some(self.0)
        }
    }
}

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Named<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some((name, value)) = members.next_entry::<&RawValue, &RawValue>()? {
            if self.is(name.get()) {
                found = Some(value);
            }
        }
        Ok(found)
    }
}

/// What tags are made of: a value that is no list and no object, or each such item of a list.
fn items(json: &str) -> Vec<String> {
    match json.bytes().next() {
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
            items.iter().filter_map(|item| item_of(item.get())).collect()
        }
        _ => item_of(json).into_iter().collect(),
    }
}

fn item_of(json: &str) -> Option<String> {
    match json.bytes().next()? {
        b'"' => serde_json::from_str(json).ok(),
        b'[' | b'{' | b'n' => None,
        _ => Some(json.to_owned()),
    }
}

/// The tags of an entry, by these rules.
///
/// # Cost
/// The document is read once for each rule and level that names a member of it.
pub(crate) fn tags_of(rules: &[TagRule], pattern: &Template, key: &Key, document: &Document) -> Vec<Tag> {
    let Some(captures) = pattern.captures(key.as_str()) else { return Vec::new() };
    let json = document.as_json().map(JsonText::as_str);
    let texts = rules.iter().flat_map(|rule| rule.texts(&captures, json));
    let mut tags: Vec<Tag> = texts.filter_map(|text| Tag::new(&text).ok()).collect();
    tags.sort_unstable();
    tags.dedup();
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(rule: &str, document: &str) -> Vec<String> {
        let pattern = Template::parse("order:{shop}:{id}").expect("a pattern");
        let rule = TagRule::parse(rule, &pattern).expect("a rule");
        let document = Document::json(JsonText::new(document.to_owned().into()).expect("JSON"));
        let key = Key::new("order:berlin:7").expect("a key");
        tags_of(&[rule], &pattern, &key, &document).iter().map(|tag| tag.as_str().to_owned()).collect()
    }

    #[test]
    fn parts_of_the_key_and_members_of_the_document_make_tags() {
        let document = r#"{"org":{"id":7,"na\u006de":"a b"},"labels":["x",2,null,{"y":1},["z"],true,"x"],"big":12345678901234567890123}"#;
        for (rule, expected) in [
            ("all", &["all"][..]),
            ("shop:{shop}", &["shop:berlin"]),
            ("{key}", &["order:berlin:7"]),
            ("org:{value.org.id}:{shop}", &["org:7:berlin"]),
            ("{value.org.name}", &["a b"]),
            ("l:{value.labels}", &["l:2", "l:true", "l:x"]),
            ("n:{value.big}", &["n:12345678901234567890123"]),
            ("org:{value.org}", &[]),
            ("org:{value.none}", &[]),
            ("org:{value.org.id.more}", &[]),
        ] {
            assert_eq!(tags(rule, document), expected, "{rule}");
        }
        assert_eq!(tags("{value.a}", r#"{"a":""}"#), [""; 0], "what no entry can have names nothing");
        assert_eq!(tags("{value.a}", "[1]"), [""; 0]);
    }

    #[test]
    fn a_member_is_found_beside_one_whose_name_is_no_text() {
        let document =
            r#"{"\ud800":1,"org":{"id":6},"o\u0072g":{"\udc00":"\ud800","id":7,"labels":["\ud800","x"]}}"#;
        for (rule, expected) in [("org:{value.org.id}", &["org:7"][..]), ("l:{value.org.labels}", &["l:x"])] {
            assert_eq!(tags(rule, document), expected, "{rule}");
        }
    }

    #[test]
    fn what_is_not_json_has_the_tags_of_its_key_alone() {
        let pattern = Template::parse("order:{shop}:{id}").expect("a pattern");
        let rules =
            ["shop:{shop}", "org:{value.org}"].map(|rule| TagRule::parse(rule, &pattern).expect("a rule"));
        let document = Document::of("text/plain", "{\"org\":7}".into()).expect("a document");
        let tags = tags_of(&rules, &pattern, &Key::new("order:berlin:7").expect("a key"), &document);
        assert_eq!(tags, [Tag::new("shop:berlin").expect("a tag")]);
    }

    #[test]
    fn what_cannot_be_a_rule_is_refused_with_what_to_write() {
        let pattern = Template::parse("order:{shop}:{*id}").expect("a pattern");
        for (text, said) in [
            ("", "empty"),
            ("a{", "`{` has no partner"),
            ("a}b", "`}` has no partner"),
            ("{org}", "captures no `org`"),
            ("{value}", "captures no `value`"),
            ("{value.}", "`value.` names no member"),
            ("{value.a..b}", "names no member"),
            ("{value.a}:{value.b}", "two members"),
        ] {
            let error = TagRule::parse(text, &pattern).expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(TagRule::parse("{id}:{shop}", &pattern).is_ok(), "the rest of the key is a part too");
    }
}
