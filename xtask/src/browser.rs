//! The dashboard: whether its sources are sound, whether `dashboard/dist/` is what they build, and what it does in a browser.
//!
//! 1. What is missing on the machine is installed where that can be done. Where it cannot, the tests say SKIP and what to
//!    install; they never pass in silence.
//! 2. The service that is looked at is the one of this checkout.
//! 3. Nothing is fetched but the packages of `dashboard/package-lock.json`, and their scripts do not run.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use crate::install;
use crate::process::{self, Group, Stop, cargo, on_path, success, tied};

/// Names of a browser that the tests can drive.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// What is run, in this order; each is a script of `dashboard/package.json`.
const SCRIPTS: [&str; 4] = ["check", "same", "unit", "browse"];

/// A browser of this machine.
pub(crate) fn find() -> Option<PathBuf> {
    BROWSERS.iter().find_map(|name| on_path(name))
}

/// The service alone, for those who build nothing else.
pub(crate) const ALONE: [&str; 3] = ["-p", "terrace-cli", "--all-features"];

/// Runs the tests of the dashboard, and says how many there were or why there were none. `packages` says what to build the
/// service with, so that one that was built with others is not built again.
///
/// # Errors
/// When one fails, or what they need cannot be built, or after a request to stop.
pub(crate) fn run(packages: &[&str], stop: &Stop) -> Result<String> {
    let missing = install::extras(stop)?;
    let missing: Vec<&str> = missing.into_iter().filter(|package| *package != install::PROMTOOL).collect();
    if !missing.is_empty() {
        return Ok(format!("SKIP: install {}", missing.join(" ")));
    }
    let browser = find().context("a browser was installed, and is not on PATH")?;
    let folder = crate::root().join("dashboard");
    let npm = || {
        let mut npm = tied("npm", "TERM", None);
        npm.current_dir(&folder);
        npm
    };
    process::run(npm().args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]), stop)?;
    process::run(
        cargo().arg("build").args(packages).args(["--bin", "terrace"]).current_dir(crate::root()),
        stop,
    )?;
    let mut sums = (0, 0);
    for script in SCRIPTS {
        let mut command = npm();
        command.args(["run", "--silent", script]).env("CHROMIUM", &browser);
        command.env("TERRACE_BIN", crate::root().join("target/debug/terrace"));
        let (passed, skipped) = one(script, &mut command, stop)?;
        sums = (sums.0 + passed, sums.1 + skipped);
    }
    Ok(format!("{} passed, 0 failed, {} skipped", sums.0, sums.1))
}

/// Runs a script; its output is of use when it fails.
fn one(script: &str, command: &mut Command, stop: &Stop) -> Result<(usize, usize)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("output");
    let output = File::create(&path)?;
    command.stderr(output.try_clone()?).stdout(output);
    eprintln!("$ npm run {script}, in dashboard/");
    let status = Group::start(command, Signal::TERM)?.wait(stop)?;
    let output = std::fs::read_to_string(&path)?;
    if !status.success() {
        println!("{output}");
    }
    success(&format!("npm run {script}"), status)?;
    Ok((count(&output, "pass"), count(&output, "skipped")))
}

/// Sums up the lines `# pass 3` or `ℹ pass 3` of node's test runner.
fn count(output: &str, what: &str) -> usize {
    let lines = output.lines().filter_map(|line| line.trim_start_matches(['#', 'ℹ', ' ']).strip_prefix(what));
    lines.filter_map(|rest| rest.trim().parse::<usize>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_of_nodes_test_runner_are_read() {
        let output = "ok 1 - passes\n# tests 3\n# pass 2\n# skipped 1\nℹ pass 4\n# passing 9\n";
        assert_eq!((count(output, "pass"), count(output, "skipped")), (6, 1));
    }
}
