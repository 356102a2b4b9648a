//! The tasks of this project, started with `cargo xtask`.
//!
//! 1. A task changes nothing on the machine but what it says: missing packages, temporary folders, the build folder.
//! 2. Whatever a task starts, it stops: after success, failure, panic, Ctrl-C and SIGTERM.
//! 3. The exit code is that of the first thing that failed; 128 + n after signal n.
//!
//! Deliberately absent: a task that publishes or pushes anything.

#![forbid(unsafe_code)]

mod browser;
mod chaos;
mod ci;
mod install;
pub mod process;
mod python;
mod replay;
mod sanitize;
mod schemathesis;
pub mod services;
mod sim;
mod test;
pub mod tidy;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use process::{Failed, Interrupted, Stop};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The tasks of terrace", disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Everything that must pass before a change is taken: style, lints, rules, licences, docs and all tests
    Ci,
    /// All tests against a real Redis and PostgreSQL, which are installed and started as needed
    Test {
        /// Passed on to `cargo nextest run`: names, `-p CRATE`, `-E FILTER`. Doctests are left out then.
        #[arg(last = true)]
        filter: Vec<String>,
    },
    /// The tests of the dashboard, in a real browser in front of a real service
    Dashboard,
    /// The rules of this project that no common tool knows
    Tidy,
    /// Recorded requests through the service, in front of real servers, every value checked
    Replay(replay::Args),
    /// Fleets in virtual time, checked against what is promised; with `--mutants`, whether faults are found
    Sim(sim::Args),
    /// Real processes on real servers, ill-treated while their history is recorded and checked
    Chaos {
        /// Passed on: `--seed S`, `--seconds N`, `--topology single|sentinel|cluster|all`, `--fault NAME`, `--only-faults`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Requests made up from the service's `OpenAPI` document, every answer held against it (needs Python)
    Schemathesis {
        /// Requests for each kind of them, at most
        #[arg(long, default_value_t = 20)]
        examples: u32,
    },
    /// Proofs of the memory engine: model checkers, sanitizers, memcheck, fuzzing, a soak
    Sanitize(sanitize::Args),
    /// terrace against its peers, in one run; see `bench/README.md`
    Bench {
        /// `l1`, `l2`, `http` or `all`, and how many rounds
        #[arg(default_value = "all")]
        arguments: Vec<String>,
    },
    /// A command beside a fresh Redis and PostgreSQL, which end with it
    WithServers {
        /// The command; it finds the addresses in `TERRACE_TEST_REDIS_URL` and `TERRACE_TEST_POSTGRES_URL`
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// Runs the task named on the command line.
pub fn main() -> ExitCode {
    let args = Args::parse();
    match Stop::on_signals().and_then(|stop| run(&args.task, &stop)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            exit_code(&error)
        }
    }
}

fn run(task: &Task, stop: &Stop) -> Result<()> {
    match task {
        Task::Ci => ci::run(stop),
        Task::Test { filter } => test::run(filter, stop),
        Task::Dashboard => browser::run(&browser::ALONE, stop).map(|what| eprintln!("dashboard {what}")),
        Task::Tidy => tidy::run(&root()),
        Task::Chaos { arguments } => chaos::run(arguments, stop),
        Task::Schemathesis { examples } => schemathesis::run(*examples, stop),
        Task::Sanitize(args) => sanitize::run(args, stop),
        Task::Sim(args) => sim::run(args, stop),
        Task::Replay(args) => replay::run(args, stop),
        Task::Bench { arguments } => {
            let mut command = process::cargo();
            command
                .args(["run", "--release", "-p", "terrace-bench", "--"])
                .args(arguments)
                .current_dir(root());
            process::run(&mut command, stop)
        }
        Task::WithServers { command } => services::run_beside(command, stop),
    }
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
        return ExitCode::from(interrupted.exit_code());
    }
    error.downcast_ref::<Failed>().map_or(ExitCode::FAILURE, |failed| ExitCode::from(failed.exit_code()))
}

/// The folder of the checkout this task works on.
pub fn root() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    own.parent().map_or_else(|| own.clone(), PathBuf::from)
}
