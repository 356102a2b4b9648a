//! Words with one place, or with none.
//!
//! 1. Metric names and physical Redis keys are written by their owners alone, so that one file tells them all.
//! 2. Nothing is left for later in a comment, and no lint is silenced without a reason.
//! 3. No file knows the machine it was written on.

use std::path::Path;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use super::Finding;
use super::source::{Piece, Source, line};

/// Whole words that put work off.
const PUT_OFF: [&str; 3] = ["TODO", "FIXME", "XXX"];
/// Kinds of files, besides Rust, whose comments are looked at. Prose may speak about the rule.
const COMMENTED: [&str; 5] = ["lua", "sh", "sql", "toml", "yml"];
/// Beginnings of paths that exist on one machine only; in two parts, so that this file passes.
const MACHINE_PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tmp/tar", "get")];

const METRIC_OWNER: &str = "crates/terrace/src/telemetry/names.rs";
const METRIC_PREFIX: &str = "terrace_";
/// What begins like a metric and is none: the crates, which are names of log targets, and the table of `terrace replay`.
const NO_METRICS: [&str; 8] = ["core", "memory", "redis", "server", "cli", "testkit", "sim", "replay"];

/// Where the layout in Redis is written, and where it is looked at from outside. Tests may do so as well.
const KEY_OWNERS: [&str; 6] = [
    "crates/terrace-redis/src/keys.rs",
    "crates/terrace-redis/src/keys/",
    "crates/terrace-redis/src/scripts",
    "crates/terrace-testkit/src/",
    "bench/src/",
    "xtask/src/tidy/",
];
const KEY_PARTS: [&str; 4] = [":d:", ":l:", "1:meta:", "1:{{"];
const KEY_ENDS: [&str; 5] = ["1:{", "}:s", "}:log", "}:g", "}:c"];

/// Rules for every text file of the repository.
pub(super) fn in_any_file(file: &Path, text: &str) -> Vec<Finding> {
    let kind = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let put_off: &[&str] = if COMMENTED.contains(&kind) { &PUT_OFF } else { &[] };
    let numbered = text.lines().enumerate().map(|(index, text)| (index + 1, text));
    let per_line = numbered.flat_map(|(line, text)| {
        let paths = MACHINE_PATHS.iter().filter(|path| has_path(text, path)).map(move |path| {
            let what = format!("`{path}` is a path of one machine");
            Finding::new(file, line, what, "name it relative to the checkout or by a variable")
        });
        let words = put_off.iter().filter(|word| has_word(text, word));
        paths.chain(words.map(move |word| put_off_finding(file, line, word)))
    });
    per_line.collect()
}

/// Rules for a Rust file.
pub(super) fn in_rust(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(module_docs(source));
    for comment in source.comments.iter().chain(&source.docs) {
        findings.extend(put_off(source, comment));
    }
    for literal in &source.strings {
        findings.extend(metric_name(source, literal));
        findings.extend(redis_key(source, literal));
    }
    in_tokens(source, source.tokens.clone(), &mut findings);
    findings
}

fn module_docs(source: &Source) -> Option<Finding> {
    let first = source.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let is_docs = first.starts_with("//!") || first.starts_with("#![doc");
    let remedy = "open it with `//!`: its job, its invariants, what is deliberately absent";
    (!is_docs).then(|| Finding::new(&source.path, 1, "the file does not say what it is for", remedy))
}

fn put_off(source: &Source, comment: &Piece) -> Vec<Finding> {
    let lines = comment.text.lines().zip(comment.line..);
    lines
        .flat_map(|(text, line)| {
            let words = PUT_OFF.iter().filter(move |word| has_word(text, word));
            words.map(move |word| put_off_finding(&source.path, line, word))
        })
        .collect()
}

fn put_off_finding(file: &Path, line: usize, word: &str) -> Finding {
    Finding::new(
        file,
        line,
        format!("`{word}` puts work off"),
        "do it now, or open an issue and say nothing here",
    )
}

fn metric_name(source: &Source, literal: &Piece) -> Option<Finding> {
    let rest = literal.text.strip_prefix(METRIC_PREFIX)?;
    let word = rest.split(|c: char| !is_word(c)).next().filter(|word| !word.is_empty())?;
    let owner = source.path.as_os_str() == METRIC_OWNER || is_test(&source.path);
    if owner || NO_METRICS.contains(&word) {
        return None;
    }
    let what = format!("the metric name `{METRIC_PREFIX}{word}` is written here");
    Some(Finding::new(&source.path, literal.line, what, format!("use its constant of {METRIC_OWNER}")))
}

fn redis_key(source: &Source, literal: &Piece) -> Option<Finding> {
    let path = source.path.to_string_lossy();
    let part = KEY_PARTS.iter().find(|part| literal.text.contains(**part));
    let part = part.or_else(|| KEY_ENDS.iter().find(|end| literal.text.ends_with(**end)))?;
    if is_test(&source.path) || KEY_OWNERS.iter().any(|owner| path.starts_with(owner)) {
        return None;
    }
    let what = format!("`{part}` is part of a physical Redis key");
    Some(Finding::new(&source.path, literal.line, what, "ask crates/terrace-redis/src/keys.rs for the key"))
}

/// A name that others rely on is a promise; the test that holds it writes it out.
fn is_test(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}

fn in_tokens(source: &Source, tokens: TokenStream, findings: &mut Vec<Finding>) {
    let mut add =
        |span, what: &str, remedy: &str| findings.push(Finding::new(&source.path, line(span), what, remedy));
    let mut inside = Vec::new();
    let mut attribute = false;
    let mut last = String::new();
    for token in tokens {
        let hash = matches!(&token, TokenTree::Punct(mark) if mark.as_char() == '#');
        let bang = matches!(&token, TokenTree::Punct(mark) if mark.as_char() == '!');
        if bang && last == "dbg" {
            add(token.span(), "`dbg!` is for a moment at the desk", "remove it, or use tracing");
        }
        if let TokenTree::Group(group) = &token {
            if attribute && group.delimiter() == Delimiter::Bracket {
                lint_levels(group, &mut add);
            }
            inside.push(group.stream());
        }
        attribute = hash || (attribute && bang);
        last = if let TokenTree::Ident(word) = &token { word.to_string() } else { String::new() };
    }
    for tokens in inside {
        in_tokens(source, tokens, findings);
    }
}

/// Looks for `allow(…)` and for `expect(…)` without a reason, also within `cfg_attr(…)`.
fn lint_levels(attribute: &Group, add: &mut impl FnMut(proc_macro2::Span, &str, &str)) {
    let tokens: Vec<TokenTree> = attribute.stream().into_iter().collect();
    for pair in tokens.windows(2) {
        let [TokenTree::Ident(word), TokenTree::Group(arguments)] = pair else { continue };
        match word.to_string().as_str() {
            "allow" => add(
                word.span(),
                "`allow` silences a lint for ever",
                "put it right, or use `#[expect(lint, reason = \"…\")]`",
            ),
            "expect" if !has_reason(arguments) => {
                add(word.span(), "`expect` without a reason", "add `reason = \"…\"`");
            }
            "cfg_attr" => lint_levels(arguments, add),
            _ => {}
        }
    }
}

fn has_reason(arguments: &Group) -> bool {
    arguments.stream().into_iter().any(|token| matches!(token, TokenTree::Ident(word) if word == "reason"))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `word` with no letter, digit or underscore at its sides.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let after = text[at + word.len()..].chars().next();
        !text[..at].ends_with(is_word) && !after.is_some_and(is_word)
    })
}

/// `path` where a path begins, not in the middle of a longer one.
fn has_path(text: &str, path: &str) -> bool {
    text.match_indices(path).any(|(at, _)| !text[..at].ends_with(|c: char| is_word(c) || "./}-".contains(c)))
}

#[cfg(test)]
mod tests {
    use super::super::source::sample;
    use super::*;

    /// What is found in a file with docs and this code, without file and remedy.
    fn found_in(path: &str, code: &str) -> Vec<String> {
        let found = in_rust(&sample(path, &format!("//! Docs.\n{code}\n")));
        found.into_iter().map(|finding| format!("{}: {}", finding.line, finding.what)).collect()
    }

    fn found(code: &str) -> Vec<String> {
        found_in("crates/terrace/src/read.rs", code)
    }

    #[test]
    fn a_file_without_docs_is_found() {
        assert_eq!(in_rust(&sample("a.rs", "fn f() {}\n")).len(), 1);
        assert_eq!(in_rust(&sample("a.rs", "// no docs\n")).len(), 1);
        assert!(in_rust(&sample("a.rs", "#![doc = include_str!(\"../README.md\")]\n")).is_empty());
    }

    #[test]
    fn work_put_off_is_found_in_comments_and_docs_only() {
        assert_eq!(found("fn f() {} // TODO: more"), ["2: `TODO` puts work off"]);
        assert_eq!(found("/* fine\n FIXME */"), ["3: `FIXME` puts work off"]);
        assert_eq!(found("/// XXX\nfn f() {}"), ["2: `XXX` puts work off"]);
        assert!(found("const A: &str = \"TODO\"; // TODOS and autodoc").is_empty());
        let in_toml = in_any_file(Path::new("a.toml"), concat!("a = 1\n# TO", "DO\n"));
        assert_eq!(in_toml[0].line, 2);
        assert!(in_any_file(Path::new("a.md"), concat!("no TO", "DO\n")).is_empty());
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        let path = |path: &str| in_any_file(Path::new("a.md"), &format!("see {path}main\n"));
        assert_eq!(path(MACHINE_PATHS[0]).len(), 1);
        assert_eq!(path(&format!("`{}", MACHINE_PATHS[1])).len(), 1);
        assert!(path(&format!("frame{}", MACHINE_PATHS[0])).is_empty());
        assert!(path(&format!("$HOME{}", MACHINE_PATHS[0])).is_empty());
    }

    #[test]
    fn metric_names_belong_to_their_owner() {
        let code = "const A: &str = \"terrace_hits_total\";";
        assert_eq!(found(code), ["2: the metric name `terrace_hits_total` is written here"]);
        assert_eq!(found_in("crates/terrace/src/telemetry/mod.rs", code).len(), 1);
        for owner in
            [METRIC_OWNER, "crates/terrace-server/tests/it/m.rs", "crates/terrace/src/telemetry/tests.rs"]
        {
            assert!(found_in(owner, code).is_empty(), "{owner}");
        }
        assert!(found("const A: &str = \"terrace_server=debug\"; const B: &str = \"terrace_\";").is_empty());
        assert!(found("/// `terrace_hits_total` is explained\nfn f() {}").is_empty());
    }

    #[test]
    fn redis_keys_belong_to_their_owner() {
        let code = "fn f() { format!(\"{prefix}1:{{{ns}.{p}}}:d:{key}\"); }";
        assert_eq!(found(code), ["2: `:d:` is part of a physical Redis key"]);
        assert_eq!(found("const S: &[u8] = b\"}:log\";"), ["2: `}:log` is part of a physical Redis key"]);
        for owner in ["crates/terrace-redis/src/keys.rs", "crates/terrace-cli/tests/it/demo.rs"] {
            assert!(found_in(owner, code).is_empty(), "{owner}");
        }
        assert_eq!(found_in("crates/terrace-redis/src/remote.rs", code).len(), 1);
        assert!(found("const A: &str = \"redis://127.0.0.1:{port}\"; const B: &str = \"a:d\";").is_empty());
    }

    #[test]
    fn silenced_lints_are_found() {
        assert_eq!(found("#[allow(dead_code)]\nfn f() {}"), ["2: `allow` silences a lint for ever"]);
        assert_eq!(found("mod m { #![cfg_attr(test, allow(dead_code))] }").len(), 1);
        assert_eq!(found("#[expect(dead_code)]\nfn f() {}"), ["2: `expect` without a reason"]);
        assert!(
            found("#[expect(dead_code, reason = \"shown\")]\nfn f() { x.expect(\"y\"); allow(1); }")
                .is_empty()
        );
    }

    #[test]
    fn debug_prints_are_found_in_macros_too() {
        assert_eq!(found("fn f() { g!(dbg!(1)); }"), ["2: `dbg!` is for a moment at the desk"]);
        assert!(found("fn dbg() { dbg(); }").is_empty());
    }
}
