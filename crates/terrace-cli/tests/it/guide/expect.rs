//! Whether a command printed what a page says it does: line by line, and empty lines at the end count for nothing.
//!
//! `[..]` in a line stands for any text; a line `...` stands for any number of lines.

/// Whether `actual` is what is `expected`.
pub(super) fn matches(expected: &[String], actual: &[String]) -> bool {
    lines(trimmed(expected), trimmed(actual))
}

/// Whether each line that is expected comes in `actual`, in this order, whatever is between them.
pub(super) fn comes(expected: &[String], actual: &[String]) -> bool {
    let mut rest = actual.iter();
    trimmed(expected).iter().all(|wanted| wanted == "..." || rest.any(|line| fits(wanted, line)))
}

fn trimmed(lines: &[String]) -> &[String] {
    let end = lines.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |last| last + 1);
    &lines[..end]
}

fn lines(expected: &[String], actual: &[String]) -> bool {
    match expected.split_first() {
        None => actual.is_empty(),
        Some((any, rest)) if any == "..." => {
            (0..=actual.len()).any(|skipped| lines(rest, &actual[skipped..]))
        }
        Some((wanted, rest)) => {
            actual.split_first().is_some_and(|(line, left)| fits(wanted, line) && lines(rest, left))
        }
    }
}

fn fits(wanted: &str, line: &str) -> bool {
    let mut parts = wanted.trim_end().split("[..]");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.trim_end().strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn what_varies_is_any_text_and_everything_else_is_itself() {
    assert!(fits("a [..] c", "a b c") && fits("[..]", "") && fits("x[..]y[..]z", "x1y2yz"));
    assert!(!fits("a [..] c", "a b d") && !fits("a", "ab") && !fits("[..]b[..]b", "xb"));
    let of = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(matches(&of("a\n...\nd\n\n"), &of("a\nb\nc\nd")) && matches(&of("a\n..."), &of("a")));
    assert!(!matches(&of("a\n...\nd"), &of("a\nb")) && !matches(&of("a"), &of("a\nb")));
    assert!(comes(&of("b\nd"), &of("a\nb\nc\nd")) && !comes(&of("d\nb"), &of("a\nb\nc\nd")));
}
