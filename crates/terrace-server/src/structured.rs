//! Lists in headers, as far as they are read here: members between commas, strings of structured fields (RFC 9651), directives of
//! `Cache-Control` (RFC 9111), and entity tags (RFC 9110).
//!
//! 1. Of parameters nothing is wanted but where they end: a quotation mark in one that is no string of it would make what follows, the next
//!    members included, a part of it. Such a member is none.
//! 2. In a string `\` escapes; in a display string, which is `%` before the quotation marks, it is a character like others.
//! 3. A number of seconds that is too large counts as the largest, as RFC 9111 wants it. What is no number is none.
//!
//! Who may read what into a header is for those who ask: requests to the service, and answers of origins.

use std::time::Duration;

/// The members of a list, without those that are empty; a comma between quotation marks is part of a member.
pub(crate) fn split(list: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_display, mut is_escaped, mut last) = (false, false, false, ' ');
    let is_comma = move |character: char| {
        let was_escaped = std::mem::take(&mut is_escaped);
        let before = std::mem::replace(&mut last, character);
        match character {
            '"' if !was_escaped => {
                is_display = !is_quoted && before == '%';
                is_quoted = !is_quoted;
            }
            '\\' if is_quoted && !is_display && !was_escaped => is_escaped = true,
            ',' => return !is_quoted,
            _ => {}
        }
        false
    };
    list.split(is_comma).map(str::trim).filter(|member| !member.is_empty())
}

/// The largest number of seconds of a directive.
pub(crate) const SECONDS_MAX: Duration = Duration::from_secs(u32::MAX as u64);

/// A directive of `Cache-Control`: a name, and what it is set to.
#[derive(Clone, Copy)]
pub(crate) struct Directive<'a> {
    name: &'a str,
    pub(crate) value: Option<&'a str>,
}

/// The directives of a line.
pub(crate) fn directives(line: &str) -> impl Iterator<Item = Directive<'_>> {
    split(line).map(|member| match member.split_once('=') {
        Some((name, value)) => Directive { name: name.trim(), value: Some(value.trim()) },
        None => Directive { name: member, value: None },
    })
}

impl Directive<'_> {
    /// Its name, in small letters.
    pub(crate) fn name(&self) -> String {
        self.name.to_ascii_lowercase()
    }

    /// What it is set to, as a number of seconds; quotation marks around it are nothing.
    pub(crate) fn seconds(&self) -> Option<Duration> {
        let value = self.value?;
        seconds(match value.strip_prefix('"') {
            Some(quoted) => quoted.strip_suffix('"')?,
            None => value,
        })
    }

    /// Whether it is a directive by its form. A member that is none may have others within it.
    pub(crate) fn is_one(&self) -> bool {
        let is_of_a_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_token = |text: &str| !text.is_empty() && text.bytes().all(is_of_a_token);
        let is_value = |value| is_token(value) || quoted(value).is_some_and(|(_, rest)| rest.is_empty());
        is_token(self.name) && self.value.is_none_or(is_value)
    }
}

/// A number of seconds, in digits alone.
pub(crate) fn seconds(digits: &str) -> Option<Duration> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().map_or(SECONDS_MAX, Duration::from_secs).min(SECONDS_MAX))
}

/// Entity tags, each with whether it is weak, quotation marks included. There is no way to escape within one.
pub(crate) fn entity_tags(list: &str) -> Option<Vec<(bool, String)>> {
    let mut tags = Vec::new();
    let mut rest = list.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (is_weak, after) = rest.strip_prefix("W/").map_or((false, rest), |after| (true, after));
        let end = after.strip_prefix('"')?.find('"')? + 2;
        tags.push((is_weak, after[..end].to_owned()));
        let next = after[end..].trim_start_matches([' ', '\t']);
        if !next.is_empty() && !next.starts_with(',') {
            return None;
        }
        rest = next.trim_start_matches([' ', '\t', ',']);
    }
    Some(tags)
}

/// A string of a structured field, without its parameters; `None` if the member is none.
pub(crate) fn string(member: &str) -> Option<String> {
    let (text, mut rest) = quoted(member)?;
    while !rest.trim_start().is_empty() {
        rest = after_parameter(rest)?;
    }
    Some(text)
}

/// The string with which a text begins, and what is behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut characters = text.strip_prefix('"')?.chars();
    let mut string = String::new();
    loop {
        match characters.next()? {
            '"' => return Some((string, characters.as_str())),
            '\\' => string.push(characters.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            other => string.push(other),
        }
    }
}

/// What is behind the parameter with which a text begins.
fn after_parameter(text: &str) -> Option<&str> {
    let parameter = text.trim_start().strip_prefix(';')?.trim_start();
    let end = parameter.find(['"', ';', ',', ' ', '\t']).unwrap_or(parameter.len());
    let (word, rest) = parameter.split_at(end);
    match rest.strip_prefix('"') {
        None => (!word.is_empty()).then_some(rest),
        Some(display) if word.ends_with("=%") => display.split_once('"').map(|(_, rest)| rest),
        Some(_) if word.ends_with('=') => quoted(rest).map(|(_, rest)| rest),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &str) -> Option<Vec<String>> {
        split(list).map(string).collect()
    }

    #[test]
    fn directives_are_told_from_what_only_looks_like_them() {
        let one = |line: &'static str| directives(line).next().expect("a member");
        for (line, number) in [
            ("max-age=60", Some(60)),
            ("max-age=\"60\"", Some(60)),
            ("max-age = 60", Some(60)),
            ("max-age=0", Some(0)),
            ("max-age=4294967296", Some(u64::from(u32::MAX))),
            ("max-age=99999999999999999999999", Some(u64::from(u32::MAX))),
            ("max-age", None),
            ("max-age=", None),
            ("max-age=-1", None),
            ("max-age=+1", None),
            ("max-age=1.5", None),
            ("max-age=\"60", None),
            ("max-age=60\"", None),
            ("max-age=6 0", None),
        ] {
            assert_eq!(one(line).seconds().map(|time| time.as_secs()), number, "{line}");
        }
        for line in ["public", "No-Cache=\"a, b\"", "x=y", "max-age=\"60\""] {
            assert!(one(line).is_one(), "{line}");
        }
        for line in ["public; max-age=1", "x=\"a, no-store", "a b", "=1", "x=\"a\"b", "\"a, no-store\""] {
            assert!(!one(line).is_one(), "{line}");
        }
        assert_eq!(
            directives("a, x=\"b, c\",, D=1").map(|one| one.name()).collect::<Vec<_>>(),
            ["a", "x", "d"]
        );
    }

    #[test]
    fn parameters_end_where_they_end() {
        for (list, expected) in [
            (r#""a";p, "b";p=1;q=?0"#, &["a", "b"][..]),
            (r#""a" ; p="x, \"y", "b""#, &["a", "b"]),
            (r#""a";p=%"x, y";q, "b""#, &["a", "b"]),
            (r#""a";p=%"\", "b""#, &["a", "b"]),
            (r#""a%";p=%"%22", "\\""#, &["a%", "\\"]),
        ] {
            assert_eq!(strings(list).expect(list), expected, "{list}");
        }
    }

    #[test]
    fn a_member_does_not_become_a_part_of_the_parameter_before_it() {
        for list in [
            r#""a";p=", "b""#,
            r#""a";p=x", "b""#,
            r#""a";", "b""#,
            r#""a";p=%", "b""#,
            r#""a";p="\", "b""#,
            r#""a";p="\x", "b""#,
            r#""a";p="x"y, "b""#,
            r#""a";, "b""#,
            r#""a";p x"#,
            r#""a";p"x", "b""#,
        ] {
            assert_eq!(strings(list), None, "{list}");
        }
    }
}
