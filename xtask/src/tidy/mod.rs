//! The rules of this project that no common tool knows, as code.
//!
//! 1. A rule looks at the checkout only: no build, no network.
//! 2. Every finding names file and line, what is wrong, and what to do.
//! 3. Every rule has a test with a bad sample that it must find, and a good one that it must leave alone.
//!
//! Deliberately absent: what rustfmt, clippy, rustc and cargo-deny check already.

mod allow;
mod comments;
mod crates;
mod fence;
mod files;
mod lengths;
mod manifests;
mod source;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use source::Source;

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, from the root of the checkout.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    fn new(file: &Path, line: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.file.display(), self.line, self.what, self.remedy)
    }
}

/// Prints every finding in the checkout at `root`.
///
/// # Errors
/// When there is one, or the checkout cannot be read.
pub fn run(root: &Path) -> Result<()> {
    let findings = check(root)?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => bail!("tidy: {count} to put right"),
    }
}

/// Applies every rule to the checkout at `root`.
///
/// # Errors
/// When the checkout cannot be read. Findings are no error.
pub fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut findings = crates::check(root)?;
    let mut measures = Vec::new();
    for file in files::list(root)? {
        // A file that is no text, or that went away meanwhile, is none of ours.
        let Ok(text) = std::fs::read_to_string(root.join(&file)) else { continue };
        findings.extend(words::in_any_file(&file, &text));
        if file.ends_with("Cargo.toml") {
            findings.extend(manifests::check(&file, &text)?);
        }
        if file.extension().is_some_and(|extension| extension == "rs") {
            match Source::parse(&file, text) {
                Ok(source) => {
                    findings.extend(words::in_rust(&source));
                    findings.extend(comments::check(&source));
                    findings.extend(fence::check(&source));
                    measures.extend(lengths::measure(&source));
                }
                Err(finding) => findings.push(finding),
            }
        }
    }
    findings.extend(allow::judge(&measures, allow::ALLOWED));
    findings.sort();
    Ok(findings)
}
