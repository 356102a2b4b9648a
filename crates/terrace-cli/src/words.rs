//! How numbers look to a person.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use std::fmt::Write as _;
use std::time::Duration;

/// A time in three digits at most: `340 ns`, `1.2 µs`, `21 ms`, `3.5 s`.
pub(crate) fn time(duration: Duration) -> String {
    const UNITS: [(f64, &str); 4] = [(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")];
    let nanos = duration.as_nanos() as f64;
    let (scale, unit) = UNITS.into_iter().find(|(scale, _)| nanos >= *scale).unwrap_or((1.0, "ns"));
    let scaled = nanos / scale;
    let decimals = usize::from(scaled < 9.95 && scale > 1.0);
    format!("{scaled:.decimals$} {unit}")
}

/// How long ago something was, in its two largest units: `350 ms`, `12 s`, `3m 5s`, `4h 10m`, `12d 3h`.
pub(crate) fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A number with separated thousands: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes: `512 B`, `1.5 KiB`, `3.2 GiB`.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = number as f64;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0);
    format!("{scaled:.decimals$} {}", UNITS[unit])
}

/// A ratio as a percentage: `41.27 %`.
pub(crate) fn percent(ratio: f64) -> String {
    format!("{:.2} %", ratio * 100.0)
}

/// How many of something happened in a second.
pub(crate) fn rate(number: u64, during: Duration) -> u64 {
    let nanos = during.as_nanos().max(1);
    u64::try_from(u128::from(number) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// A table in the notation of Markdown, its first `left` columns aligned to the left, the others to the right.
pub(crate) fn table(header: &[&str], left: usize, rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for column in table.column_iter_mut().skip(left) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for row in rows {
        table.add_row(row);
    }
    table
}

/// A text without what would be an order to a terminal. Lines stay lines.
pub(crate) fn printable(text: &str) -> String {
    let replaced = |letter: char| if letter.is_control() && letter != '\n' { '\u{fffd}' } else { letter };
    text.chars().map(replaced).collect()
}

/// A text as a terminal is shown it: whole, and with every order to the terminal escaped. Lines and tabs stay.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && !matches!(letter, '\n' | '\t') {
            shown.extend(letter.escape_unicode());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Bytes as a text on one line, in which nothing is an order to a terminal: what is a control character, or no text, is escaped.
pub(crate) fn on_a_line(bytes: &[u8]) -> String {
    let mut line = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_control() { line.extend(letter.escape_default()) } else { line.push(letter) }
        }
        line.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    line
}

/// JSON on one line, in which nothing is an order to a terminal. What JSON leaves as it is of control characters, it may escape.
pub(crate) fn json(value: &serde_json::Value) -> String {
    let mut line = String::new();
    for letter in value.to_string().chars() {
        if letter.is_control() {
            write!(line, "\\u{:04x}", u32::from(letter)).expect("a text takes all");
        } else {
            line.push(letter);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_that_suits_them() {
        let shown = [0, 999, 1_000, 1_234, 21_400_000, 3_500_000_000].map(|n| time(Duration::from_nanos(n)));
        assert_eq!(shown, ["0 ns", "999 ns", "1.0 µs", "1.2 µs", "21 ms", "3.5 s"]);
    }

    #[test]
    fn orders_to_a_terminal_are_not_printed() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\u{9b}"), "a\u{fffd}[2Jb\nc\u{fffd}");
    }

    #[test]
    fn a_terminal_is_shown_lines_and_tabs_and_the_rest_escaped() {
        assert_eq!(visible("a\tb\n\u{1b}[2J\r\u{7f}\u{9b}é"), "a\tb\n\\u{1b}[2J\\u{d}\\u{7f}\\u{9b}é");
    }

    #[test]
    fn untrusted_bytes_are_one_line_without_orders() {
        assert_eq!(on_a_line(b"user:1 \xc3\xa9"), "user:1 \u{e9}");
        assert_eq!(on_a_line(b"\x1b[2J\n\x7f\xc2\x9b"), "\\u{1b}[2J\\n\\u{7f}\\u{9b}");
        assert_eq!(on_a_line(b"a\xff\x9bb"), "a\\xff\\x9bb");
        let text = "\u{1b}[2J\n\u{7f}\u{9b}";
        let line = json(&serde_json::json!({ "key": text }));
        assert!(!line.contains(char::is_control), "{line:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["key"], text);
    }

    #[test]
    fn ages_have_two_units() {
        let shown =
            [350, 12_999, 185_000, 15_000_000, 1_047_600_000].map(|ms| age(Duration::from_millis(ms)));
        assert_eq!(shown, ["350 ms", "12 s", "3m 5s", "4h 10m", "12d 3h"]);
    }

    #[test]
    fn counts_bytes_and_percentages() {
        assert_eq!([0, 12, 999, 1000, 1_234_567].map(count), ["0", "12", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1536, 3 << 30].map(bytes), ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]);
        assert_eq!(percent(0.41265), "41.27 %");
        assert_eq!(rate(300, Duration::from_millis(1500)), 200);
    }

    #[test]
    fn tables_are_markdown() {
        let table = table(&["trace", "hits"], 1, [vec!["oltp".to_owned(), "12".to_owned()]]).to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines, ["| trace | hits |", "|-------|------|", "| oltp  |   12 |"]);
    }
}
