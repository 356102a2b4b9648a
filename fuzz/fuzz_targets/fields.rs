//! Headers say what they say to a parser of structured fields (RFC 9651), and what is written into one is read from it again.
//!
//! Input is the lines of a header. What sfv takes is taken as the same. Besides, on purpose, lists are taken with empty members, with tabs
//! around members and space before `;`, and with parameters that are none but for their strings. An idempotency key is also taken without
//! quotation marks.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sfv::{BareItem, Item, List, ListEntry, Parser};
use terrace_core::Tag;
use terrace_server::fuzzing::{read_entity_tags, read_groups, read_idempotency_key, write_groups};

/// Longest idempotency key, in bytes.
const KEY_BYTES_MAX: usize = 255;

fuzz_target!(|input: &str| {
    let lines: Vec<&str> = input.split('\n').collect();
    let text = lines.join(", ");
    groups(&lines, &text);
    entity_tags(&lines, &text);
    if let [line] = lines[..] {
        idempotency_key(line);
    } else {
        assert_eq!(read_idempotency_key(&lines), None, "a request has one name");
    }
});

/// The strings of a list; `None` if it has anything else.
fn strings(list: List) -> Option<Vec<String>> {
    let string = |entry| match entry {
        ListEntry::Item(item) => string(item),
        ListEntry::InnerList(_) => None,
    };
    list.into_iter().map(string).collect()
}

fn string(item: Item) -> Option<String> {
    match item.bare_item {
        BareItem::String(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

fn groups(lines: &[&str], text: &str) {
    let read = read_groups(lines);
    let names = |tags: &[Tag]| tags.iter().map(|tag| tag.as_str().to_owned()).collect::<Vec<_>>();
    let expected = match Parser::new(text).parse::<List>() {
        Ok(list) => strings(list),
        Err(_) if read.is_none() => None,
        Err(_) => plain(text).and_then(|plain| strings(Parser::new(&plain).parse().ok()?)),
    };
    let expected = expected.filter(|all| all.iter().all(|name| Tag::new(name).is_ok()));
    assert_eq!(read.as_deref().map(names), expected, "{text:?}");
    let Some(tags) = read.filter(|tags| !tags.is_empty()) else { return };
    let written = write_groups(&tags).expect("what was read can be written");
    let list = Parser::new(&written).parse::<List>().expect("what is written is a list");
    assert_eq!(strings(list), Some(names(&tags)), "{text:?}");
    assert_eq!(read_groups(&[&written]), Some(tags), "{text:?}");
}

/// A list without what is meant to be taken although it is none by the letter: empty members, space around members and parameters, and
/// parameters. `None` if it ends within a string.
fn plain(text: &str) -> Option<String> {
    let (mut members, mut member) = (Vec::new(), String::new());
    let (mut is_quoted, mut has_escapes, mut is_parameter) = (false, true, false);
    let mut characters = text.chars();
    let mut before = ' ';
    while let Some(character) = characters.next() {
        let mut taken = character.to_string();
        match character {
            '\\' if is_quoted && has_escapes => taken.extend(characters.next()),
            '"' => {
                has_escapes = is_quoted || before != '%';
                is_quoted = !is_quoted;
            }
            ';' if !is_quoted => is_parameter = true,
            ',' if !is_quoted => {
                is_parameter = false;
                members.push(std::mem::take(&mut member));
                taken.clear();
            }
            _ => {}
        }
        if !is_parameter {
            member.push_str(&taken);
        }
        before = character;
    }
    members.push(member);
    let members = members.iter().map(|member| member.trim_matches([' ', '\t']));
    let all: Vec<&str> = members.filter(|member| !member.is_empty()).collect();
    (!is_quoted).then(|| all.join(", "))
}

fn idempotency_key(line: &str) {
    let read = read_idempotency_key(&[line]);
    let expected = if line.contains(['"', '\\', ',', ';']) {
        match Parser::new(line).parse::<Item>() {
            Ok(item) => string(item),
            Err(_) if read.is_none() => None,
            Err(_) => plain(line).and_then(|plain| string(Parser::new(&plain).parse().ok()?)),
        }
    } else {
        Some(line.trim_matches([' ', '\t']).to_owned())
    };
    let is_name = |name: &String| {
        (1..=KEY_BYTES_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
    };
    assert_eq!(read, expected.filter(is_name), "{line:?}");
}

/// What is between quotation marks is a tag, since nothing is escaped there, and outside are commas, space and `W/`.
fn entity_tags(lines: &[&str], text: &str) {
    let read = read_entity_tags(lines);
    let is_visible = text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    let expected = if text.trim() == "*" { Some(Vec::new()) } else { named(text) };
    assert_eq!(read, expected.filter(|_| is_visible), "{text:?}");
    let Some(named) = read.filter(|named| !named.is_empty()) else { return };
    let again: Vec<String> =
        named.iter().map(|(is_weak, tag)| format!("{}{tag}", if *is_weak { "W/" } else { "" })).collect();
    assert_eq!(read_entity_tags(&[&again.join(",")]), Some(named));
}

fn named(text: &str) -> Option<Vec<(bool, String)>> {
    let pieces: Vec<&str> = text.split('"').collect();
    let [between @ .., last] = &pieces[..] else { return None };
    if between.is_empty() || !is_separator(last) && !last.trim_matches([' ', '\t']).is_empty() {
        return None;
    }
    let mut named = Vec::new();
    for (number, pair) in between.chunks(2).enumerate() {
        let &[outside, inside] = pair else { return None };
        let (is_weak, outside) = outside.strip_suffix("W/").map_or((false, outside), |rest| (true, rest));
        let is_first = number == 0 && outside.trim_matches([' ', '\t']).is_empty();
        if !is_first && !is_separator(outside) {
            return None;
        }
        named.push((is_weak, format!("\"{inside}\"")));
    }
    Some(named)
}

/// Whether a text is at least one comma, and space.
fn is_separator(text: &str) -> bool {
    text.contains(',') && text.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b','))
}
