//! Lists in headers, as far as they are read here: members between commas, and strings of structured fields (RFC 9651).
//!
//! Who may read what into a header is for those who ask: requests to the service, and answers of origins.

/// The members of a list, without those that are empty; a comma between quotation marks is part of a member.
pub(crate) fn split(list: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let is_comma = move |character: char| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match character {
            '"' if !was_escaped => is_quoted = !is_quoted,
            '\\' if is_quoted && !was_escaped => is_escaped = true,
            ',' => return !is_quoted,
            _ => {}
        }
        false
    };
    list.split(is_comma).map(str::trim).filter(|member| !member.is_empty())
}

/// A string of a structured field, without its parameters; `None` if the member is none.
pub(crate) fn string(member: &str) -> Option<String> {
    let mut characters = member.strip_prefix('"')?.char_indices();
    let mut text = String::new();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                let rest = member[at + 2..].trim_start();
                return (rest.is_empty() || rest.starts_with(';')).then_some(text);
            }
            '\\' => text.push(
                characters
                    .next()
                    .map(|(_, escaped)| escaped)
                    .filter(|escaped| matches!(escaped, '"' | '\\'))?,
            ),
            other => text.push(other),
        }
    }
    None
}
