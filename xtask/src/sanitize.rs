//! `cargo xtask sanitize [PART…]`: what proves the memory engine beyond its tests; in `shuttle`, what decides about
//! coherence; in `fuzz`, what reads envelopes, messages, journals, replies, configurations, and clients' documents and headers.
//!
//! 1. Every part runs even when an earlier one failed. One that lacks a tool says SKIP and what to install.
//! 2. Each part builds in a folder of its own, so that its flags make nothing else build anew.
//! 3. A part that finds no test to run fails: it would prove nothing.
//! 4. What a part leaves out stands in a table here, with the reason.
//!
//! Deliberately absent: anything that only runs here. Each command can be typed as it is shown.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use rustix::process::Signal;

use crate::ci::{self, Outcome};
use crate::process::{self, Group, Stop, cargo, on_path, success, tied};

const CRATE: [&str; 3] = ["-p", "terrace-memory", "--all-features"];
/// What decides about coherence, which needs no server to be explored.
const LIBRARY: [&str; 3] = ["-p", "terrace", "--no-default-features"];
/// Tests of counts of allocations: the tools below put their own allocator in place.
const NO_COUNTING: &str = "allocat";
/// The soak takes its time, and what it measures is meant for a program as it is shipped.
const NO_SOAK: &str = "ten_seconds";
/// Under memcheck, which is 30 times slower: what takes its time by the number of entries, not by what it tries.
const NO_CROWDS: [&str; 6] = [
    "in_after_each_step",
    "clear_lets_others_in",
    "one_pass_over_many_keys",
    "a_skewed_load",
    "keys_spread",
    "expiry_keeps_to_its_budget",
];

/// What to prove, and how thoroughly.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// All of them unless named
    #[arg(value_enum)]
    parts: Vec<Part>,

    /// A minute or less for each
    #[arg(long)]
    quick: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Part {
    /// The tests without what only some systems have: membarrier, prefetch
    Portable,
    /// Every interleaving of small cases, up to a number of preemptions, under the C11 memory model
    Loom,
    /// Random interleavings of larger cases, and of tickets, trust and flights
    Shuttle,
    /// The tests under `AddressSanitizer` and `LeakSanitizer`
    Address,
    /// The tests under memcheck
    Valgrind,
    /// The tests in the interpreter that knows all undefined behaviour
    Miri,
    /// Each target in `fuzz/`: operations by chance against a model, and whatever comes from outside
    Fuzz,
    /// Everything at once, for an hour: what is kept stays bounded
    Soak,
}

/// What `cargo xtask ci` asks for: what is quick once it is built.
pub(crate) const IN_CI: [Part; 3] = [Part::Portable, Part::Loom, Part::Shuttle];

/// Runs the parts and prints what became of each.
///
/// # Errors
/// The error of the first part that failed, or [`process::Interrupted`].
pub(crate) fn run(args: &Args, stop: &Stop) -> Result<()> {
    let all = if args.parts.is_empty() { Part::value_variants() } else { &args.parts };
    run_parts(all, args.quick, stop)
}

/// As [`run`].
pub(crate) fn run_parts(parts: &[Part], quick: bool, stop: &Stop) -> Result<()> {
    let steps: Vec<_> =
        parts.iter().map(|part| (part.name(), move |stop: &Stop| part.run(quick, stop))).collect();
    ci::run_with_summary(&steps, stop)
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Loom => "loom",
            Self::Shuttle => "shuttle",
            Self::Address => "address",
            Self::Valgrind => "valgrind",
            Self::Miri => "miri",
            Self::Fuzz => "fuzz",
            Self::Soak => "soak",
        }
    }

    fn run(self, quick: bool, stop: &Stop) -> Result<Outcome> {
        match self {
            Self::Portable => self.portable(stop),
            Self::Loom => self.loom(quick, stop),
            Self::Shuttle => self.shuttle(quick, stop),
            Self::Address => self.address(stop),
            Self::Valgrind => self.valgrind(quick, stop),
            Self::Miri => self.miri(quick, stop),
            Self::Fuzz => self.fuzz(quick, stop),
            Self::Soak => self.soak(quick, stop),
        }
    }

    fn portable(self, stop: &Stop) -> Result<Outcome> {
        let build = || {
            let mut command = self.on(cargo(), &["test", "--locked"]);
            command.args(["--lib", "--tests"]).env("RUSTFLAGS", "--cfg terrace_portable");
            command
        };
        run_tests(build, &["--skip", NO_SOAK], stop)
    }

    fn loom(self, quick: bool, stop: &Stop) -> Result<Outcome> {
        let build = || {
            let mut command = self.model_checker(quick, &CRATE);
            command.args(["--lib", "loom_"]).env("RUSTFLAGS", "--cfg terrace_loom");
            command.env("LOOM_MAX_PREEMPTIONS", if quick { "3" } else { "4" });
            command
        };
        run_tests(build, &[], stop)
    }

    fn shuttle(self, quick: bool, stop: &Stop) -> Result<Outcome> {
        for package in [&CRATE[..], &LIBRARY] {
            let build = || {
                let mut command = self.model_checker(quick, package);
                command.args(["--lib", "shuttle_"]).env("RUSTFLAGS", "--cfg terrace_shuttle");
                command.env("TERRACE_SHUTTLE_ITERATIONS", if quick { "1000" } else { "50000" });
                command
            };
            run_tests(build, &[], stop)?;
        }
        Ok(Outcome::Passed)
    }

    fn address(self, stop: &Stop) -> Result<Outcome> {
        let (Some(nightly), Some(target)) = (nightly(), linux_target()) else { return Ok(no_nightly()) };
        let build = || {
            let mut command = self.on(nightly(), &["test", "--locked", "--target", &target]);
            command.args(["--lib", "--tests"]).env("RUSTFLAGS", "-Zsanitizer=address");
            command.env("ASAN_OPTIONS", "detect_leaks=1").env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
            command
        };
        run_tests(build, &["--skip", NO_COUNTING, "--skip", NO_SOAK], stop)
    }

    fn valgrind(self, quick: bool, stop: &Stop) -> Result<Outcome> {
        let Some(target) = linux_target().filter(|_| on_path("valgrind").is_some()) else {
            return Ok(Outcome::Skipped("needs valgrind on Linux: apt-get install valgrind".to_owned()));
        };
        let runner = format!("CARGO_TARGET_{}_RUNNER", target.to_uppercase().replace('-', "_"));
        let memcheck = "valgrind --quiet --fair-sched=yes --error-exitcode=1 --leak-check=full \
                        --show-leak-kinds=definite --errors-for-leak-kinds=definite";
        let build = || {
            let mut command = self.on(cargo(), &["test", "--locked", "--target", &target]);
            command.args(["--lib", "--test", "matrix", "--test", "guards"]);
            // Rustix reads the clock from a page that valgrind unmaps, unless it goes through libc.
            command.env("RUSTFLAGS", "--cfg rustix_use_libc").env(&runner, memcheck);
            command.env("PROPTEST_CASES", if quick { "16" } else { "256" });
            command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
            command
        };
        let skipped = NO_CROWDS.iter().flat_map(|name| ["--skip", name]);
        run_tests(build, &skipped.collect::<Vec<_>>(), stop)
    }

    fn miri(self, quick: bool, stop: &Stop) -> Result<Outcome> {
        let works = nightly()
            .and_then(|nightly| nightly().args(["miri", "--version"]).output().ok())
            .is_some_and(|output| output.status.success());
        let Some(nightly) = nightly().filter(|_| works) else {
            let what =
                "`cargo +nightly miri` does not work here: rustup +nightly component add miri rust-src";
            return Ok(Outcome::Skipped(what.to_owned()));
        };
        let build = || {
            let mut command = self.on(nightly(), &["miri", "test", "--locked", "--lib"]);
            command.env("MIRIFLAGS", "-Zmiri-disable-isolation -Zmiri-many-seeds=0..4");
            command.env("PROPTEST_CASES", if quick { "3" } else { "12" });
            command
        };
        let filter: &[&str] = if quick { &["raw::"] } else { &[] };
        let skipped = NO_CROWDS.iter().flat_map(|name| ["--skip", name]);
        run_tests(build, &filter.iter().copied().chain(skipped).collect::<Vec<_>>(), stop)
    }

    fn fuzz(self, quick: bool, stop: &Stop) -> Result<Outcome> {
        let Some(nightly) = nightly() else { return Ok(no_nightly()) };
        if !nightly().args(["fuzz", "--version"]).output().is_ok_and(|output| output.status.success()) {
            return Ok(Outcome::Skipped("needs cargo-fuzz: cargo install --locked cargo-fuzz".to_owned()));
        }
        let seconds = if quick { 60 } else { 600 };
        let fuzz = crate::root().join("fuzz");
        let mut failed = Vec::new();
        for target in fuzz_targets(&fuzz)? {
            let (corpus, seeds) = (fuzz.join("corpus").join(&target), fuzz.join("seeds").join(&target));
            std::fs::create_dir_all(&corpus)?;
            let mut command = nightly();
            command.args(["fuzz", "run", "--target-dir"]).arg(self.folder()).arg(&target).arg(corpus);
            command.args(seeds.is_dir().then_some(seeds));
            command.args(["--", "-print_final_stats=1"]).arg(format!("-max_total_time={seconds}"));
            if target == "memory" {
                command.arg("-max_len=1202");
            }
            if passed(&mut command, stop).is_err() {
                stop.check()?;
                failed.push(target);
            }
        }
        ensure!(failed.is_empty(), "what was found is in fuzz/artifacts: {}", failed.join(", "));
        Ok(Outcome::Passed)
    }

    fn soak(self, quick: bool, stop: &Stop) -> Result<Outcome> {
        let mut command = self.on(cargo(), &["run", "--locked", "--release", "--example", "soak"]);
        command.args(["--", "--minutes", if quick { "1" } else { "60" }]);
        passed(&mut command, stop)
    }

    /// Runs with the debug assertions of the code that is checked: built soon if quick, to be fast otherwise.
    fn model_checker(self, quick: bool, package: &[&str]) -> Command {
        if quick {
            let mut command = self.on_package(cargo(), &["test", "--locked"], package);
            command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
            return command;
        }
        let mut command = self.on_package(cargo(), &["test", "--locked", "--release"], package);
        command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true");
        command
    }

    /// A command on the crate that builds in this part's own folder.
    fn on(self, command: Command, words: &[&str]) -> Command {
        self.on_package(command, words, &CRATE)
    }

    fn on_package(self, mut command: Command, words: &[&str], package: &[&str]) -> Command {
        command.args(words).args(package).arg("--target-dir").arg(self.folder());
        command
    }

    fn folder(self) -> PathBuf {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        crate::root().join(target).join("sanitize").join(self.name())
    }
}

/// The names of what is fuzzed, in order.
fn fuzz_targets(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder.join("fuzz_targets"))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    ensure!(!names.is_empty(), "there is nothing to fuzz in {}", folder.display());
    names.sort_unstable();
    Ok(names)
}

/// How to call the cargo of the nightly toolchain, where there is one.
fn nightly() -> Option<impl Fn() -> Command> {
    let call = || {
        let mut command = tied("rustup", "TERM", None);
        command.args(["run", "nightly", "cargo"]);
        command
    };
    on_path("rustup")?;
    call().arg("--version").output().is_ok_and(|output| output.status.success()).then_some(call)
}

fn no_nightly() -> Outcome {
    Outcome::Skipped("needs a nightly toolchain on Linux: rustup toolchain install nightly".to_owned())
}

/// Naming the target keeps a part's flags and runner away from build scripts.
fn linux_target() -> Option<String> {
    let linux = cfg!(all(target_os = "linux", target_env = "gnu"));
    linux.then(|| format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
}

fn passed(command: &mut Command, stop: &Stop) -> Result<Outcome> {
    process::run(command.current_dir(crate::root()), stop).map(|()| Outcome::Passed)
}

/// Counts the tests that `build` and `filter` choose, then runs them.
fn run_tests(build: impl Fn() -> Command, filter: &[&str], stop: &Stop) -> Result<Outcome> {
    let (mut list, mut test) = (build(), build());
    let output = tempfile::NamedTempFile::new()?;
    list.arg("--").args(filter).args(["--list", "--format", "terse"]).current_dir(crate::root());
    list.stdout(Stdio::from(output.reopen()?));
    stop.check()?;
    let status = Group::start(&mut list, Signal::TERM)?.wait(stop)?;
    success("the build, or the list of tests,", status)?;
    let count = count_tests(&std::fs::read_to_string(output.path())?);
    ensure!(count > 0, "no test has this name, so nothing would be proved: {}", process::display(&test));
    eprintln!("{count} tests");
    test.arg("--").args(filter);
    passed(&mut test, stop)
}

/// Counts the lines `path::of::a_test: test`.
fn count_tests(list: &str) -> usize {
    list.lines().filter(|line| line.ends_with(": test")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_over_all_binaries() {
        assert_eq!(count_tests("a::b: test\nc: benchmark\n\nd: test\n"), 2);
        assert_eq!(count_tests(""), 0);
    }

    #[test]
    fn a_part_without_a_test_fails() {
        let list = |test: &'static str| {
            move || {
                let mut command = tied("sh", "TERM", None);
                command.args(["-c", &format!("echo '{test}'")]);
                command
            }
        };
        assert!(run_tests(list("a: test"), &[], &Stop::default()).is_ok());
        let error = run_tests(list("0 tests"), &[], &Stop::default()).err().unwrap();
        assert!(error.to_string().starts_with("no test has this name"), "{error}");
    }

    #[test]
    fn every_part_has_the_name_it_is_called_by_and_a_folder_of_its_own() {
        for part in Part::value_variants() {
            assert_eq!(part.to_possible_value().unwrap().get_name(), part.name());
            assert!(part.folder().ends_with(PathBuf::from("sanitize").join(part.name())));
        }
    }
}
