//! `cargo xtask sim`: fleets in virtual time, as many seeds as one likes, or with each known fault put into the code.
//!
//! 1. Seeds run in a release build. Mutants run in a debug build of the workspace's own crates, which cargo keeps apart from
//!    the ordinary one in the same folder, while what others have written is shared: so it has the features of all builds
//!    of the checks.
//! 2. The exit code is that of the simulator: a promise was broken, or a mutant was not caught.

use crate::process::{self, Stop, cargo, tied};
use crate::test::EVERYTHING;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// What is put in place of the compiler for the workspace's own crates, from the root of the checkout.
const WITH_MUTANTS: &str = "xtask/with-mutants.sh";

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Put each known fault into the code, and see that a promise is found broken
    #[arg(long)]
    mutants: bool,

    /// Only the mutant of this name, e.g. `NoTicket`
    #[arg(long)]
    mutant: Option<String>,

    /// Put each known fault into the code, and see that it is found, first by the seeds of `mutants.txt`
    #[arg(long)]
    known: bool,

    /// How many seeds; of each mutant, how many at most
    #[arg(long, default_value_t = 500)]
    seeds: u64,

    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,

    /// Print every call
    #[arg(long)]
    calls: bool,
}

/// Builds the simulator and runs it.
///
/// # Errors
/// When it cannot be built, a promise is broken or a mutant lives, or after a request to stop.
pub(crate) fn run(args: &Args, stop: &Stop) -> Result<()> {
    let mut command = if args.mutants || args.known || args.mutant.is_some() {
        with_mutants(stop)?
    } else {
        let mut command = cargo();
        command.args([
            "run",
            "--quiet",
            "--locked",
            "-p",
            "terrace-sim",
            "--all-features",
            "--release",
            "--",
        ]);
        command
    };
    command.args(["--seeds", &args.seeds.to_string(), "--from", &args.from.to_string()]);
    command.args(args.mutants.then_some("--mutants"));
    command.args(args.known.then_some("--known"));
    command.args(args.mutant.iter().flat_map(|mutant| ["--mutant", mutant]));
    command.args(args.calls.then_some("--calls"));
    process::run(command.current_dir(crate::root()), stop)
}

/// Runs each mutant with the seeds around the one that is known to find it.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_known(stop: &Stop) -> Result<()> {
    let mut command = with_mutants(stop)?;
    process::run(command.args(["--known", "--seeds", "2000"]).current_dir(crate::root()), stop)
}

/// Builds the simulator with mutants, and returns the call of it.
fn with_mutants(stop: &Stop) -> Result<Command> {
    let root = crate::root();
    let mut build = cargo();
    build.arg("build").args(EVERYTHING).args(["--quiet", "--locked", "--bin", "terrace-sim"]);
    build.env("RUSTC_WORKSPACE_WRAPPER", root.join(WITH_MUTANTS));
    process::run(build.current_dir(&root), stop)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(tied(target.join("debug/terrace-sim"), "TERM", None))
}
