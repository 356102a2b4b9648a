//! Lists in headers, as far as they are read here: members between commas, and strings of structured fields (RFC 9651).
//!
//! 1. Of parameters nothing is wanted but where they end: a quotation mark in one that is no string of it would make what follows, the next
//!    members included, a part of it. Such a member is none.
//! 2. In a string `\` escapes; in a display string, which is `%` before the quotation marks, it is a character like others.
//!
//! Who may read what into a header is for those who ask: requests to the service, and answers of origins.

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
