//! What was too long when its rule came. The list only shrinks.
//!
//! 1. An entry holds the exact length, so each change for the better lowers it and none for the worse passes.
//! 2. An entry that is not needed any more is a finding.

use super::Finding;
use super::lengths::Measure;

/// One thing that may stay as long as it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    pub file: &'static str,
    /// The function's name; nothing for the whole file.
    pub function: Option<&'static str>,
    pub lines: usize,
}

/// Nothing is, so far.
pub(super) const ALLOWED: &[Allowed] = &[];

/// What is too long, and what `allowed` has in excess.
pub(super) fn judge(measures: &[Measure], allowed: &[Allowed]) -> Vec<Finding> {
    let too_long = || measures.iter().filter(|measure| measure.lines >= measure.limit());
    let excess = allowed.iter().filter(|entry| !too_long().any(|measure| is_for(entry, measure)));
    let excess = excess.map(|entry| {
        let what = format!("allowed to be {} lines long and needs it no more", entry.lines);
        Finding::new(entry.file.as_ref(), 1, what, "take the entry out of tidy's list")
    });
    too_long().filter_map(|measure| too_long_for(measure, allowed)).chain(excess).collect()
}

fn is_for(entry: &Allowed, measure: &Measure) -> bool {
    measure.file.as_os_str() == entry.file && measure.function.as_deref() == entry.function
}

fn too_long_for(measure: &Measure, allowed: &[Allowed]) -> Option<Finding> {
    let name = measure.function.as_ref().map_or_else(|| "the file".to_owned(), |name| format!("`{name}`"));
    let what = format!("{name} has {} lines", measure.lines);
    let remedy = match allowed.iter().find(|entry| is_for(entry, measure)) {
        Some(entry) if entry.lines == measure.lines => return None,
        Some(entry) if entry.lines > measure.lines => {
            format!("lower its entry of {} in tidy's list", entry.lines)
        }
        Some(entry) => format!("it was {} already: shorten it", entry.lines),
        None => format!("split it: fewer than {}", measure.limit()),
    };
    Some(Finding::new(&measure.file, measure.line, what, remedy))
}

#[cfg(test)]
mod tests {
    use super::super::lengths::{FILE_LINES, FUNCTION_LINES, measure};
    use super::super::source::sample;
    use super::*;

    fn function_of(lines: usize) -> Vec<Measure> {
        let body = "\n".repeat(lines - 1);
        measure(&sample("a.rs", &format!("//! D\nfn long() {{{body}}}\n")))
    }

    fn found(measures: &[Measure], allowed: &[Allowed]) -> Vec<String> {
        judge(measures, allowed).iter().map(Finding::to_string).collect()
    }

    fn entry(lines: usize) -> Allowed {
        Allowed { file: "a.rs", function: Some("long"), lines }
    }

    #[test]
    fn a_long_function_is_found() {
        assert!(found(&function_of(FUNCTION_LINES - 1), &[]).is_empty());
        let expected = "a.rs:2: `long` has 70 lines; split it: fewer than 70";
        assert_eq!(found(&function_of(FUNCTION_LINES), &[]), [expected]);
    }

    #[test]
    fn a_long_file_is_found() {
        let file = |lines: usize| measure(&sample("a.rs", &format!("//! D\n{}", "\n".repeat(lines - 1))));
        assert!(found(&file(FILE_LINES - 1), &[]).is_empty());
        assert_eq!(
            found(&file(FILE_LINES), &[]),
            ["a.rs:1: the file has 500 lines; split it: fewer than 500"]
        );
    }

    #[test]
    fn the_list_only_shrinks() {
        let now = function_of(80);
        assert!(found(&now, &[entry(80)]).is_empty());
        assert!(found(&now, &[entry(79)])[0].ends_with("it was 79 already: shorten it"));
        assert!(found(&now, &[entry(81)])[0].ends_with("lower its entry of 81 in tidy's list"));
        let short = found(&function_of(10), &[entry(80)]);
        assert_eq!(
            short,
            ["a.rs:1: allowed to be 80 lines long and needs it no more; take the entry out of tidy's list"]
        );
    }
}
