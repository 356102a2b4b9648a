//! Which crate may know which: the arrows of the design, each written once.
//!
//! 1. An arrow that is not in the table does not exist. A new crate needs a row.
//! 2. Tests may use what the crate itself may use, and the testkit; the testkit and the core use nothing more in tests.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, MetadataCommand};

use super::Finding;
use super::manifests::line_of;

const TESTKIT: &str = "terrace-testkit";
/// A fleet of real processes. Tests of the program may use it, as it cannot build the program itself.
const CHAOS: &str = "terrace-chaos";
const PROGRAM: &str = "terrace-cli";

/// A crate, the crates of this workspace it may use, and whether its tests may use the testkit.
const MAY_USE: [(&str, &[&str], bool); 17] = [
    ("terrace-core", &[], false),
    ("terrace-memory", &["terrace-core"], true),
    ("terrace-redis", &["terrace-core"], true),
    ("terrace", &["terrace-core", "terrace-memory", "terrace-redis"], true),
    ("terrace-server", &["terrace"], true),
    ("terrace-cli", &["terrace", "terrace-server"], true),
    ("terrace-examples", &["terrace"], true),
    (TESTKIT, &["terrace-core"], false),
    ("terrace-sim", &["terrace", "terrace-core", TESTKIT], true),
    (CHAOS, &["terrace-core", TESTKIT], false),
    (
        "terrace-bench",
        &[
            "terrace",
            "terrace-core",
            "terrace-memory",
            "terrace-redis",
            "terrace-server",
            "terrace-cli",
            "terrace-bench-harness",
            TESTKIT,
        ],
        true,
    ),
    ("terrace-bench-behind", &["terrace", "terrace-bench-harness"], false),
    ("terrace-bench-harness", &["terrace-core", "terrace-memory"], false),
    ("terrace-bench-engine", &["terrace-core", "terrace-memory", "terrace-bench-harness"], false),
    ("terrace-bench-compare", &["terrace-core", "terrace-memory", "terrace-bench-harness"], false),
    ("terrace-bench-traces", &["terrace-core", "terrace-memory", "terrace-bench-harness"], false),
    ("xtask", &[], false),
];

/// One crate that uses another of the workspace.
struct Arrow {
    from: String,
    to: String,
    in_tests: bool,
}

/// Checks every arrow between the crates of the workspace at `root`.
pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cargo metadata")?;
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let path = package.manifest_path.as_std_path();
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let file = path.strip_prefix(root).map_or_else(|_| path.to_owned(), PathBuf::from);
        let ours = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
        for dependency in ours {
            let arrow = Arrow {
                from: package.name.to_string(),
                to: dependency.name.clone(),
                in_tests: dependency.kind == DependencyKind::Development,
            };
            findings.extend(judge(&arrow, &file, line_of(&text, &dependency.name)));
        }
        if allowed(&package.name).is_none() {
            findings.push(Finding::new(
                &file,
                1,
                format!("`{}` has no place in the design", package.name),
                ADD_ROW,
            ));
        }
    }
    Ok(findings)
}

const ADD_ROW: &str = "give it a row in tidy's table and in ARCHITECTURE.md";

fn allowed(name: &str) -> Option<(&'static [&'static str], bool)> {
    MAY_USE.iter().find(|(crate_name, ..)| *crate_name == name).map(|(_, uses, testkit)| (*uses, *testkit))
}

fn judge(arrow: &Arrow, file: &Path, line: usize) -> Option<Finding> {
    let (uses, testkit) = allowed(&arrow.from)?;
    let of_tests = arrow.to == TESTKIT || (arrow.from == PROGRAM && arrow.to == CHAOS);
    let may = uses.contains(&arrow.to.as_str()) || (testkit && arrow.in_tests && of_tests);
    let what = format!("`{}` must not know `{}`", arrow.from, arrow.to);
    let remedy = "turn the arrow round: move the word or trait they share to a crate that both may use";
    (!may).then(|| Finding::new(file, line, what, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_found(from: &str, to: &str, in_tests: bool) -> bool {
        let arrow = Arrow { from: from.to_owned(), to: to.to_owned(), in_tests };
        judge(&arrow, Path::new("Cargo.toml"), 1).is_some()
    }

    #[test]
    fn wrong_arrows_are_found() {
        for (from, to) in [
            ("terrace-memory", "terrace-redis"),
            ("terrace-redis", "terrace-memory"),
            ("terrace-core", "terrace-memory"),
            ("terrace-core", TESTKIT),
            ("terrace-server", "terrace-redis"),
            ("terrace-server", "terrace-memory"),
            ("terrace-cli", "terrace-redis"),
            ("terrace", "terrace-server"),
            ("xtask", "terrace"),
            (TESTKIT, "terrace-redis"),
        ] {
            assert!(is_found(from, to, false) && is_found(from, to, true), "{from} -> {to}");
        }
        assert!(is_found("terrace", TESTKIT, false), "the testkit is for tests");
        assert!(is_found(PROGRAM, CHAOS, false) && is_found("terrace", CHAOS, true), "and so is the fleet");
    }

    #[test]
    fn right_arrows_pass() {
        assert!(!is_found("terrace", "terrace-redis", false));
        assert!(!is_found("terrace-cli", "terrace-server", false));
        assert!(!is_found("terrace-redis", TESTKIT, true));
        assert!(!is_found(PROGRAM, CHAOS, true));
        assert!(!is_found("terrace-bench", "terrace-memory", false));
    }

    #[test]
    fn an_unknown_crate_is_found() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("src")).unwrap();
        std::fs::write(root.path().join("src/lib.rs"), "").unwrap();
        std::fs::write(root.path().join("Cargo.toml"), "[package]\nname = \"stray\"\nedition = \"2024\"\n")
            .unwrap();
        let findings = check(root.path()).unwrap();
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].what, "`stray` has no place in the design");
    }
}
