//! The guide, `docs/guide/`: each page is run from top to bottom, and held against what it says.
//!
//! 1. A page is run as a reader would: one shell, a folder of its own, the built program on `PATH`, real servers. What a command
//!    prints is compared with what the page says it prints; every command has to succeed.
//! 2. Every configuration on a page is given to `terrace check`. What cannot be run says why.
//! 3. Every page has a test, and is in `docs/SUMMARY.md`; every link leads somewhere.
//!
//! `docs/guide/README.md` is for those who write pages: what is run, what is compared, and what varies.

mod expect;
mod links;
mod page;
mod session;
mod stage;
mod walk;

use std::path::{Path, PathBuf};

/// The root of the checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn folder() -> PathBuf {
    root().join("docs/guide")
}

/// A test for each page.
macro_rules! pages {
    ($($name:ident: $file:literal,)*) => {
        /// All pages.
        const PAGES: &[&str] = &[$($file),*];
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            walk::walk($file).await;
        })*
    };
}

pages! {
    batch: "batch.md",
    cli: "cli.md",
    coherence: "coherence.md",
    dashboard: "dashboard.md",
    freshness: "freshness.md",
    keyspaces: "keyspaces.md",
    library: "library.md",
    metrics: "metrics.md",
    migrate_fusioncache: "migrate-fusioncache.md",
    migrate_go: "migrate-go.md",
    migrate_spring: "migrate-spring.md",
    negative: "negative.md",
    operations: "operations.md",
    origins: "origins.md",
    postgres: "postgres.md",
    raw: "raw.md",
    refresh_ahead: "refresh-ahead.md",
    runbook: "runbook.md",
    security: "security.md",
    stale: "stale.md",
    start: "start.md",
    strategies: "strategies.md",
    tags: "tags.md",
    troubleshooting: "troubleshooting.md",
    write_behind: "write-behind.md",
}

#[test]
fn every_page_has_a_test() {
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .expect("the guide is there")
        .map(|entry| entry.expect("a file").file_name().to_string_lossy().into_owned())
        .filter(|name| Path::new(name).extension().is_some_and(|kind| kind == "md") && name != "README.md")
        .collect();
    files.sort();
    assert_eq!(files, PAGES);
}

#[test]
fn what_is_not_run_says_why() {
    let mut left_out = 0;
    for file in PAGES {
        let page = page::Page::read(file);
        for block in page.blocks.iter().filter(|block| block.kind == page::Kind::NotRun) {
            left_out += 1;
            assert!(
                block.reason.as_deref().is_some_and(|reason| reason.len() > 10),
                "{file}:{}: write `<!-- not run: why -->` above it",
                block.line
            );
        }
    }
    eprintln!("the guide has {left_out} blocks of commands that no test runs; each says why");
}

#[test]
fn each_alert_has_an_entry_in_the_runbook_that_it_names() {
    let alerts = std::fs::read_to_string(root().join("deploy/prometheus/alerts.yml")).expect("it is there");
    let anchors = links::anchors(&page::Page::read("runbook.md").text);
    let mut count = 0;
    for alert in alerts.split("- alert: ").skip(1) {
        let name = alert.lines().next().expect("a name").trim();
        let anchor = name.to_lowercase();
        assert!(anchors.contains(&anchor), "the runbook has no entry {name}");
        let named = format!("docs/guide/runbook.md#{anchor}\"");
        assert!(
            alert.lines().any(|line| line.trim().starts_with("runbook_url:") && line.ends_with(&named)),
            "{name} has no runbook_url that ends with {named}"
        );
        count += 1;
    }
    assert!(count > 10, "{count} alerts");
}

#[test]
fn programs_in_rust_are_documentation_tests() {
    let library = std::fs::read_to_string(root().join("crates/terrace/src/lib.rs")).expect("it is there");
    for file in PAGES {
        let has = page::Page::read(file).blocks.iter().any(|block| block.kind == page::Kind::Rust);
        let named = library.contains(&format!("docs/guide/{file}"));
        assert_eq!(
            has, named,
            "crates/terrace/src/lib.rs has to include {file} if it has Rust, and only then"
        );
    }
}
