//! `cargo xtask schemathesis`: requests that are made up from the service's own `OpenAPI` document, and every answer held against it.
//!
//! 1. The tool comes into a folder of its own under `target/`, once. Without Python the task says SKIP and what to install.
//! 2. What is served and what is checked is the test's own (`crates/terrace-server/tests/it/schemathesis.rs`).

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::process::{self, Stop, cargo, on_path};

/// What is installed. Another version may find other things, and take other options.
const PACKAGE: &str = "schemathesis==4.32.5";

/// Installs the tool if it is missing, and runs it against the service.
///
/// # Errors
/// When the tool cannot be installed, something is found, or after a request to stop.
pub(crate) fn run(examples: u32, stop: &Stop) -> Result<()> {
    let Some(python) = on_path("python3") else {
        eprintln!("SKIP: there is no python3; install it with venv, e.g. `apt-get install python3-venv`");
        return Ok(());
    };
    let folder = crate::root().join("target/schemathesis");
    let program = folder.join("bin/schemathesis");
    if !process::is_executable(&program) {
        install(&python, &folder, stop)?;
    }
    let mut command = cargo();
    command
        .args(["nextest", "run", "-p", "terrace-server", "--all-features", "--no-capture", "schemathesis::"])
        .env("TERRACE_TEST_SCHEMATHESIS", &program)
        .env("TERRACE_TEST_EXAMPLES", examples.to_string())
        .current_dir(crate::root());
    process::run(&mut command, stop)
}

fn install(python: &Path, folder: &Path, stop: &Stop) -> Result<()> {
    process::run(Command::new(python).args(["-m", "venv"]).arg(folder), stop)?;
    process::run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", PACKAGE]), stop)
}
