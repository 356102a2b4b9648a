//! The tags that rules give are those of a reading that is too simple to be wrong, and a rule is refused exactly if that cannot use it.
//!
//! Input is a key, two rules and a document, between line feeds; what is not JSON is a document of another type.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use terrace_core::Key;
use terrace_fuzz::json::{self, Json};
use terrace_server::TagRule;
use terrace_server::fuzzing::tags_by_rules;
use terrace_server::template::Template;

const PATTERN: &str = "order:{shop}:{*id}";
const TAG_BYTES_MAX: usize = 128;

/// What a key and a document say.
struct Said<'a> {
    key: &'a str,
    shop: &'a str,
    id: &'a str,
    document: Option<Json>,
}

fuzz_target!(|input: &str| {
    let mut lines = input.splitn(4, '\n');
    let [key, one, other, document] = [(); 4].map(|()| lines.next().unwrap_or_default());
    let pattern = Template::parse(PATTERN).expect("a pattern");
    let Ok(name) = Key::new(key) else { return };
    let parts = key.strip_prefix("order:").and_then(|rest| rest.split_once(':'));
    let parts = parts.filter(|(shop, id)| !shop.is_empty() && !id.is_empty());
    let (shop, id) = parts.unwrap_or(("x", "x"));
    let said = Said { key, shop, id, document: json::read(document) };
    let media = if said.document.is_some() { "application/json" } else { "text/plain" };
    let (mut rules, mut expected) = (Vec::new(), BTreeSet::new());
    for text in [one, other] {
        let rule = TagRule::parse(text, &pattern);
        let texts = if text.is_empty() { None } else { said.texts(text).filter(|(_, members)| *members < 2) };
        assert_eq!(rule.is_ok(), texts.is_some(), "{text:?}: {rule:?}");
        if let (Ok(rule), Some((texts, _))) = (rule, texts) {
            rules.push(rule);
            expected.extend(texts.into_iter().filter(|text| is_tag(text)));
        }
    }
    if parts.is_none() {
        expected.clear();
    }
    let tags = tags_by_rules(&rules, &pattern, &name, media, document.as_bytes()).expect("a document");
    let tags: Vec<&str> = tags.iter().map(AsRef::as_ref).collect();
    assert_eq!(tags, expected.iter().map(String::as_str).collect::<Vec<_>>());
});

fn is_tag(text: &str) -> bool {
    !text.is_empty() && text.len() <= TAG_BYTES_MAX && !text.contains(char::is_control)
}

impl Said<'_> {
    /// What a rule says, and how many members of the document it has; `None` if it is no rule.
    fn texts(&self, rule: &str) -> Option<(Vec<String>, usize)> {
        let Some((before, rest)) = rule.split_once('{') else {
            return (!rule.contains('}')).then(|| (vec![rule.to_owned()], 0));
        };
        let (name, after) = rest.split_once('}').filter(|_| !before.contains('}'))?;
        let (values, member) = match (name, name.strip_prefix("value.")) {
            ("key", _) => (vec![self.key.to_owned()], 0),
            ("shop", _) => (vec![self.shop.to_owned()], 0),
            ("id", _) => (vec![self.id.to_owned()], 0),
            (_, Some(path)) if path.split('.').all(|name| !name.is_empty()) => (self.values(path), 1),
            _ => return None,
        };
        let (afters, members) = self.texts(after)?;
        let texts =
            values.iter().flat_map(|value| afters.iter().map(move |after| format!("{before}{value}{after}")));
        Some((texts.collect(), member + members))
    }

    fn values(&self, path: &str) -> Vec<String> {
        let member = path.split('.').try_fold(self.document.as_ref(), |within, name| {
            let Some(Json::Object(members)) = within else { return None };
            let last = members.iter().rev().find(|(other, _)| other.as_deref() == Some(name));
            last.map(|(_, value)| Some(value))
        });
        match member.flatten() {
            Some(Json::List(items)) => items.iter().filter_map(value).collect(),
            Some(json) => value(json).into_iter().collect(),
            None => Vec::new(),
        }
    }
}

fn value(json: &Json) -> Option<String> {
    match json {
        Json::Text(text) => text.clone(),
        Json::Number(text) => Some(text.clone()),
        Json::Bool(is_so) => Some(is_so.to_string()),
        Json::Null | Json::List(_) | Json::Object(_) => None,
    }
}
