//! `cargo xtask ci`: everything that must pass, in one run, the quick steps first.
//!
//! 1. Every step runs even when an earlier one failed: one run tells all. Only a request to stop ends it early.
//! 2. A step that cannot run here says SKIP and why, in the summary too; it never passes in silence.
//!
//! Deliberately absent: anything that is checked here only. Each step can be typed by hand as shown.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Error, Result};
use rustix::process::Signal;

use crate::install::{self, DENY};
use crate::process::{self, Group, Interrupted, Stop, cargo, now, wait_for};
use crate::test::EVERYTHING;

/// How long the advisory database may take to arrive.
const ADVISORIES_WITHIN: Duration = Duration::from_secs(90);

/// What became of a step that did not fail.
pub(crate) enum Outcome {
    Passed,
    /// And why.
    Skipped(String),
}

type Step = (&'static str, fn(&Stop) -> Result<Outcome>);

const STEPS: [Step; 9] = [
    ("fmt", fmt),
    ("tidy", tidy),
    ("clippy", clippy),
    ("docs", docs),
    ("test", test),
    ("mutants", mutants),
    ("sanitize", sanitize),
    ("deny", deny),
    ("advisories", advisories),
];

/// Runs every step and prints what became of each.
///
/// # Errors
/// The error of the first step that failed, or [`Interrupted`].
pub(crate) fn run(stop: &Stop) -> Result<()> {
    run_with_summary(&STEPS, stop)
}

/// As [`run`], for steps of another task.
pub(crate) fn run_with_summary<S>(steps: &[(&str, S)], stop: &Stop) -> Result<()>
where
    S: Fn(&Stop) -> Result<Outcome>,
{
    let begin = now();
    let (lines, first) = run_all(steps, stop)?;
    eprintln!("\n== summary\n{}\n{:>7.1} s  in all", lines.join("\n"), begin.elapsed().as_secs_f64());
    first.map_or(Ok(()), Err)
}

/// A line for each step, and the first error.
fn run_all<S>(steps: &[(&str, S)], stop: &Stop) -> Result<(Vec<String>, Option<Error>)>
where
    S: Fn(&Stop) -> Result<Outcome>,
{
    let mut lines = Vec::new();
    let mut first: Option<Error> = None;
    for (name, step) in steps {
        eprintln!("\n== {name}");
        let begin = now();
        let what = match step(stop) {
            Ok(Outcome::Passed) => "ok".to_owned(),
            Ok(Outcome::Skipped(why)) => {
                eprintln!("SKIP {name}: {why}");
                format!("SKIP: {why}")
            }
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => {
                let what = format!("FAILED: {error:#}");
                first.get_or_insert(error.context(format!("the step {name}")));
                what
            }
        };
        lines.push(format!("{:>7.1} s  {name:<11} {what}", begin.elapsed().as_secs_f64()));
    }
    Ok((lines, first))
}

fn passed(command: &mut std::process::Command, stop: &Stop) -> Result<Outcome> {
    process::run(command.current_dir(crate::root()), stop).map(|()| Outcome::Passed)
}

fn fmt(stop: &Stop) -> Result<Outcome> {
    passed(cargo().args(["fmt", "--all", "--check"]), stop)
}

fn tidy(_: &Stop) -> Result<Outcome> {
    crate::tidy::run(&crate::root()).map(|()| Outcome::Passed)
}

fn clippy(stop: &Stop) -> Result<Outcome> {
    let mut command = cargo();
    command.arg("clippy").args(EVERYTHING).args(["--locked", "--all-targets", "--", "-D", "warnings"]);
    passed(&mut command, stop)
}

/// Programs first, libraries after: `terrace` is the name of one of each, and the library's docs are the ones to keep.
fn docs(stop: &Stop) -> Result<Outcome> {
    for kind in ["--bins", "--lib"] {
        let mut command = cargo();
        command
            .arg("doc")
            .args(EVERYTHING)
            .args(["--locked", "--no-deps", kind])
            .env("RUSTDOCFLAGS", "-Dwarnings");
        passed(&mut command, stop)?;
    }
    Ok(Outcome::Passed)
}

fn test(stop: &Stop) -> Result<Outcome> {
    crate::test::run(&[], stop).map(|()| Outcome::Passed)
}

/// Whether the simulator finds each rule that is left out, by the seeds that are known to.
fn mutants(stop: &Stop) -> Result<Outcome> {
    crate::sim::run_known(stop).map(|()| Outcome::Passed)
}

/// The proofs of the memory engine that take a minute.
fn sanitize(stop: &Stop) -> Result<Outcome> {
    crate::sanitize::run_parts(&crate::sanitize::IN_CI, true, stop).map(|()| Outcome::Passed)
}

fn deny(stop: &Stop) -> Result<Outcome> {
    install::cargo_tool(&DENY, stop)?;
    passed(cargo_deny().args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]), stop)
}

fn cargo_deny() -> std::process::Command {
    let mut command = cargo();
    command.args(["deny", "--locked", "--log-level", "error"]).args(EVERYTHING);
    command
}

/// Known vulnerabilities, from a database on the network.
fn advisories(stop: &Stop) -> Result<Outcome> {
    install::cargo_tool(&DENY, stop)?;
    if let Err(error) = fetch_advisories(stop) {
        stop.check()?;
        return Ok(Outcome::Skipped(format!("the advisory database cannot be fetched here ({error:#})")));
    }
    passed(cargo_deny().args(["--offline", "check", "--hide-inclusion-graph", "advisories"]), stop)
}

fn fetch_advisories(stop: &Stop) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("fetch.log");
    let output = std::fs::File::create(&log)?;
    let mut command = cargo_deny();
    command.args(["fetch", "db"]).current_dir(crate::root()).stdout(output.try_clone()?).stderr(output);
    let mut fetch = Group::start(&mut command, Signal::TERM)?;
    let status = wait_for("the advisory database", ADVISORIES_WITHIN, stop, || fetch.ended())?;
    process::success("cargo deny fetch", status).with_context(|| last_line(&log))
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_hides_no_other_and_nothing_is_skipped_in_silence() {
        let steps: [Step; 4] = [
            ("good", |_| Ok(Outcome::Passed)),
            ("bad", |_| anyhow::bail!("broken")),
            ("absent", |_| Ok(Outcome::Skipped("no network".to_owned()))),
            ("worse", |_| anyhow::bail!("lost")),
        ];
        let (lines, first) = run_all(&steps, &Stop::default()).unwrap();
        let ends = ["ok", "FAILED: broken", "SKIP: no network", "FAILED: lost"];
        assert!(lines.iter().zip(ends).all(|(line, end)| line.ends_with(end)), "{lines:?}");
        assert_eq!(first.unwrap().to_string(), "the step bad");
    }

    #[test]
    fn a_request_to_stop_ends_it_early() {
        let steps: [Step; 2] =
            [("first", |stop| stop.check().map(|()| Outcome::Passed)), ("second", |_| panic!("ran"))];
        let stop = Stop::default();
        stop.request(15);
        assert!(run_all(&steps, &stop).is_err());
    }
}
