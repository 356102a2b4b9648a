//! What Python clients of the tests import: a virtual environment under `target/`, made once.
//!
//! Without Python, or a network, there is none: the tests that need it say that they were skipped.

use crate::process::{Stop, on_path, run};
use anyhow::Result;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Where tests look for it.
pub(crate) const VARIABLE: &str = "TERRACE_PYTHON";
const PACKAGES: [&str; 1] = ["httpx==0.28.1"];

/// The environment's Python; `None`, with the reason on the terminal, if it cannot be made.
///
/// # Errors
/// After a request to stop.
pub(crate) fn environment(stop: &Stop) -> Result<Option<PathBuf>> {
    let folder = crate::root().join("target/python");
    let python = folder.join("bin/python");
    if imports(&python) {
        return Ok(Some(python));
    }
    if on_path("python3").is_none() {
        eprintln!("SKIPPED: clients in Python; install python3 and python3-venv");
        return Ok(None);
    }
    let made = run(Command::new("python3").args(["-m", "venv"]).arg(&folder), stop).and_then(|()| {
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES), stop)
    });
    stop.check()?;
    if let Err(error) = made {
        eprintln!("SKIPPED: clients in Python; {error:#}");
    }
    Ok(imports(&python).then_some(python))
}

fn imports(python: &PathBuf) -> bool {
    let mut import = Command::new(python);
    import.args(["-c", "import httpx"]).stdout(Stdio::null()).stderr(Stdio::null());
    import.status().is_ok_and(|status| status.success())
}
