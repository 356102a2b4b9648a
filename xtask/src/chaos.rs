//! `cargo xtask chaos`: a fleet of the built program, ill-treated, and its history checked.
//!
//! 1. What is checked, and how, is `terrace-chaos`' own; its exit code is this task's.
//! 2. The program is built with debug assertions, so that a broken one shows too.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;

use crate::install;
use crate::process::{self, Stop, cargo, tied};

/// Builds what is needed, and runs it with these arguments.
///
/// # Errors
/// When something cannot be installed or built, a promise was broken, or after a request to stop.
pub(crate) fn run(arguments: &[OsString], stop: &Stop) -> Result<()> {
    install::servers(stop)?;
    let mut build = cargo();
    build.args(["build", "-p", "terrace-cli", "-p", "terrace-chaos", "--all-features"]);
    process::run(build.current_dir(crate::root()), stop)?;
    let folder = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| crate::root().join("target"), PathBuf::from)
        .join("debug");
    let mut command = tied(folder.join("terrace-chaos"), "TERM", None);
    command.arg("--program").arg(folder.join("terrace")).args(arguments).current_dir(crate::root());
    process::run(&mut command, stop)
}
