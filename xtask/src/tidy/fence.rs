//! Where unsafe code may stand: in one folder.
//!
//! 1. The word is looked for among the tokens, inside macros too; comments, docs and strings may speak of it.
//! 2. Every root of a library or program forbids it, so that nothing in between can allow it again. The one crate that
//!    has the folder cannot; the workspace's lints deny it there, and the folder's module says that it expects it.
//!
//! Deliberately absent: roots of tests, examples and fuzz targets. The first rule covers them.

use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};

use super::Finding;
use super::source::{Source, line};

/// The folder, and the root of its crate.
const FENCED: &str = "crates/terrace-memory/src/raw/";
const FENCED_ROOT: &str = "crates/terrace-memory/src/lib.rs";
const ROOTS: [&str; 2] = ["src/lib.rs", "src/main.rs"];

/// What stands outside the fence, and what lets it.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let path = &source.path;
    let mut findings = Vec::new();
    if !path.starts_with(FENCED) {
        outside(path, &source.tokens, &mut findings);
    }
    let is_root = ROOTS.iter().any(|root| path.ends_with(root)) && path != Path::new(FENCED_ROOT);
    if is_root && !forbids(source) {
        let remedy = "add `#![forbid(unsafe_code)]` below its docs";
        findings.push(Finding::new(path, 1, "this crate does not forbid unsafe code", remedy));
    }
    findings
}

fn outside(path: &Path, tokens: &TokenStream, findings: &mut Vec<Finding>) {
    for token in tokens.clone() {
        match token {
            TokenTree::Group(group) => outside(path, &group.stream(), findings),
            TokenTree::Ident(word) if word == "unsafe" => {
                let remedy = format!("do it in safe code, or in {FENCED} where each block is proved");
                findings.push(Finding::new(path, line(word.span()), "unsafe code outside its fence", remedy));
            }
            _ => {}
        }
    }
}

fn forbids(source: &Source) -> bool {
    source.syntax.attrs.iter().any(|attribute| {
        let lint = attribute.parse_args::<syn::Path>();
        attribute.path().is_ident("forbid") && lint.is_ok_and(|lint| lint.is_ident("unsafe_code"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::source::sample;
    use super::*;

    fn found(path: &str, code: &str) -> Vec<String> {
        let found = check(&sample(path, &format!("//! Docs.\n{code}\n")));
        found.into_iter().map(|finding| format!("{}: {}", finding.line, finding.what)).collect()
    }

    #[test]
    fn unsafe_code_outside_its_fence_is_found() {
        let outside = ["2: unsafe code outside its fence"];
        for code in ["fn f() { unsafe { g() } }", "unsafe impl Send for A {}", "m! { [unsafe] }"] {
            for file in
                ["crates/terrace/src/read.rs", "crates/terrace-memory/src/write.rs", "bench/tests/a.rs"]
            {
                assert_eq!(found(file, code), outside, "{file}: {code}");
            }
            assert!(found("crates/terrace-memory/src/raw/table.rs", code).is_empty());
        }
        let words = "/// How unsafe.\n// unsafe\n#[expect(unsafe_code)]\nfn unsafely() { \"unsafe\"; }";
        assert!(found("crates/terrace/src/read.rs", words).is_empty());
    }

    #[test]
    fn a_crate_that_does_not_forbid_it_is_found() {
        for root in ["crates/terrace/src/lib.rs", "crates/terrace-cli/src/main.rs", "bench/src/main.rs"] {
            assert_eq!(found(root, "fn f() {}"), ["1: this crate does not forbid unsafe code"]);
            assert_eq!(found(root, "#![deny(unsafe_code)]").len(), 1);
            assert_eq!(found(root, "#![forbid(missing_docs)]").len(), 1);
            assert!(found(root, "#![forbid(unsafe_code)]").is_empty());
        }
        assert!(found(FENCED_ROOT, "fn f() {}").is_empty());
        assert!(found("crates/terrace/src/read.rs", "fn f() {}").is_empty());
    }
}
