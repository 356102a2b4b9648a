//! `cargo xtask test`: every test, against real servers.
//!
//! 1. Tests run with all features together (they only add), the same set as lints and docs, so that nothing is built twice.
//! 2. The last lines say how many tests ran and how many failed; the exit code is nextest's, the doctests' or that of the
//!    dashboard's own.
//!
//! Deliberately absent: retries. A test that fails now and then is a bug.

use std::fs::File;
use std::path::Path;

use anyhow::Result;
use rustix::process::Signal;

use crate::browser;
use crate::install::{self, NEXTEST};
use crate::process::{self, Group, Stop, cargo, on_path, success};
use crate::python;
use crate::services::Servers;

/// What every build of the checks has in common.
pub(crate) const EVERYTHING: [&str; 2] = ["--workspace", "--all-features"];
/// Where nextest leaves its report, from the root of the checkout (see `.config/nextest.toml`).
const REPORT: &str = "target/nextest/default/junit.xml";

/// Installs what is missing, starts the servers and runs the tests.
///
/// # Errors
/// When anything cannot be installed or started, a test fails, or after a request to stop.
pub(crate) fn run(filter: &[String], stop: &Stop) -> Result<()> {
    install::servers(stop)?;
    install::extras(stop)?;
    if on_path("helm").is_none() {
        eprintln!("SKIPPED: what the chart makes of values; install helm, which Debian does not have");
    }
    install::cargo_tool(&NEXTEST, stop)?;
    let python = python::environment(stop)?;
    let servers = Servers::start(stop)?;
    let tests = run_tests(filter, &servers, python.as_deref(), stop);
    let doctests = match &tests {
        Err(_) => Ok("not run: tests failed".to_owned()),
        Ok(()) if filter.is_empty() => run_doctests(&servers, stop),
        Ok(()) => Ok("SKIP: a filter was given".to_owned()),
    };
    drop(servers);
    let dashboard = match &tests {
        Err(_) => Ok("not run: tests failed".to_owned()),
        Ok(()) if filter.is_empty() => browser::run(&EVERYTHING, stop),
        Ok(()) => Ok("SKIP: a filter was given".to_owned()),
    };
    stop.check()?;
    eprintln!("tests     {}", read_report(&crate::root().join(REPORT)));
    eprintln!("doctests  {}", doctests.as_deref().unwrap_or("FAILED, see above"));
    eprintln!("dashboard {}", dashboard.as_deref().unwrap_or("FAILED, see above"));
    tests.and(doctests.map(drop)).and(dashboard.map(drop))
}

fn run_tests(filter: &[String], servers: &Servers, python: Option<&Path>, stop: &Stop) -> Result<()> {
    // An old report must not speak for a build that fails.
    let _none_yet = std::fs::remove_file(crate::root().join(REPORT));
    let mut command = cargo();
    // Cargo would take the whole workspace in spite of a package that is named.
    let everything =
        EVERYTHING.iter().filter(|option| !(names_a_package(filter) && **option == "--workspace"));
    command.args(["nextest", "run"]).args(everything).args(filter).current_dir(crate::root());
    command.env("NEXTEST_PROFILE", "default");
    servers.export(&mut command);
    if let Some(python) = python {
        command.env(python::VARIABLE, python);
    }
    process::run(&mut command, stop)
}

fn names_a_package(filter: &[String]) -> bool {
    filter.iter().any(|word| word.starts_with("-p") || word.starts_with("--package"))
}

/// Runs the examples of the docs. Their output is long and only of use when one fails.
fn run_doctests(servers: &Servers, stop: &Stop) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("doctests");
    let mut command = cargo();
    command
        .args(["test", "--doc"])
        .args(EVERYTHING)
        .current_dir(crate::root())
        .stdout(File::create(&output)?);
    servers.export(&mut command);
    eprintln!("$ cargo test --doc {}", EVERYTHING.join(" "));
    let status = Group::start(&mut command, Signal::TERM)?.wait(stop)?;
    let output = std::fs::read_to_string(&output)?;
    if !status.success() {
        println!("{output}");
    }
    success("cargo test --doc", status)?;
    Ok(count_doctests(&output))
}

/// Sums up the lines `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn count_doctests(output: &str) -> String {
    let results = || output.lines().filter_map(|line| line.strip_prefix("test result: "));
    let sum = |what: &str| -> usize {
        results()
            .flat_map(|line| line.split([';', '.']))
            .filter_map(|part| part.trim().strip_suffix(what)?.trim().parse::<usize>().ok())
            .sum()
    };
    format!("{} run: {} passed, {} failed", sum("passed") + sum("failed"), sum("passed"), sum("failed"))
}

/// The figures of nextest's report in one line.
fn read_report(report: &Path) -> String {
    let text = std::fs::read_to_string(report).unwrap_or_default();
    summary(&text).unwrap_or_else(|| "not run to the end, see above".to_owned())
}

fn summary(report: &str) -> Option<String> {
    let (_, rest) = report.split_once("<testsuites ")?;
    let (head, _) = rest.split_once('>')?;
    let value = |name: &str| -> Option<&str> {
        let (_, rest) = head.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0)
    };
    let count = |name: &str| value(name)?.parse::<usize>().ok();
    let (run, failed) = (count("tests")?, count("failures")? + count("errors")?);
    Some(format!("{run} run: {} passed, {failed} failed in {} s", run.checked_sub(failed)?, value("time")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_read() {
        let report = r#"<?xml version="1.0"?><testsuites name="nextest-run" tests="7" failures="1" errors="1" time="0.5">"#;
        assert_eq!(summary(report).unwrap(), "7 run: 5 passed, 2 failed in 0.5 s");
        assert_eq!(summary("<testsuites name=\"cut"), None);
    }

    #[test]
    fn doctests_are_summed_over_crates() {
        let output = "running 3 tests\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured\n\
                      noise\ntest result: FAILED. 4 passed; 2 failed; 0 ignored\n";
        assert_eq!(count_doctests(output), "9 run: 7 passed, 2 failed");
    }
}
