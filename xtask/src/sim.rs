//! `cargo xtask sim`: fleets in virtual time, as many seeds as one likes, or with each known fault put into the code.
//!
//! 1. Seeds run in a release build. Mutants run in a debug build of the workspace's own crates, which cargo keeps apart from
//!    the ordinary one in the same folder, while what others have written is shared.
//! 2. The exit code is that of the simulator: a promise was broken, or a mutant was not caught.

use crate::process::{self, Stop, cargo};
use anyhow::Result;

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

    /// How many seeds; of each mutant, how many at most
    #[arg(long, default_value_t = 500)]
    seeds: u64,

    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,

    /// Let values be stored whose callers have given up, which breaks what is promised
    #[arg(long)]
    late_sets: bool,

    /// Print every call
    #[arg(long)]
    calls: bool,
}

/// Builds the simulator and runs it.
///
/// # Errors
/// When it cannot be built, a promise is broken or a mutant lives, or after a request to stop.
pub(crate) fn run(args: &Args, stop: &Stop) -> Result<()> {
    let root = crate::root();
    let mut command = cargo();
    command.args(["run", "--quiet", "--locked", "-p", "terrace-sim", "--all-features"]).current_dir(&root);
    if args.mutants || args.mutant.is_some() {
        command.env("RUSTC_WORKSPACE_WRAPPER", root.join(WITH_MUTANTS));
    } else {
        command.arg("--release");
    }
    command.arg("--").args(["--seeds", &args.seeds.to_string(), "--from", &args.from.to_string()]);
    command.args(args.mutants.then_some("--mutants"));
    command.args(args.mutant.iter().flat_map(|mutant| ["--mutant", mutant]));
    command.args(args.late_sets.then_some("--late-sets"));
    command.args(args.calls.then_some("--calls"));
    process::run(&mut command, stop)
}
