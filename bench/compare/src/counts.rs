//! Allocations and bytes, counted by the program `terrace-bench-compare-counts`, one process per contender.
//!
//! The counting allocator would slow down what is timed, so it is linked into that program only. One line per contender
//! goes from there to here: this module owns its form.

use anyhow::{Context, Result, ensure};
use std::fmt;
use std::process::{Command, Stdio};
use std::str::FromStr;

/// What was counted of one contender.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Counts {
    /// Bytes asked for per entry of an integer key and an integer value, without those 16.
    pub overhead: f64,
    /// Bytes by which the process grew per entry, without those 16: with what the allocator adds.
    pub resident: f64,
    /// Allocations of a hit.
    pub hit: f64,
    /// Allocations of an insert with eviction, its key and value included.
    pub insert: f64,
    /// Allocations of an overwrite, its key and value included.
    pub overwrite: f64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { overhead, resident, hit, insert, overwrite } = self;
        write!(f, "{overhead} {resident} {hit} {insert} {overwrite}")
    }
}

impl FromStr for Counts {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let numbers: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        ensure!(numbers.len() == 5, "five numbers are a line of counts, not `{line}`");
        let [overhead, resident, hit, insert, overwrite] = [0, 1, 2, 3, 4].map(|index| numbers[index]);
        Ok(Self { overhead, resident, hit, insert, overwrite })
    }
}

/// Builds the program that counts, so that nothing is compiled while something is timed.
///
/// # Errors
/// If that fails.
pub fn build() -> Result<()> {
    let status = cargo("build").status().context("cargo builds the program that counts")?;
    ensure!(status.success(), "the program that counts was not built");
    Ok(())
}

/// What the program that counts says of a contender.
///
/// # Errors
/// If it fails.
pub fn of(name: &str) -> Result<Counts> {
    let output = cargo("run").args(["--", name]).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "counting {name} failed");
    String::from_utf8(output.stdout)?.trim().parse()
}

fn cargo(what: &str) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args([what, "--quiet", "--release", "--bin", "terrace-bench-compare-counts"]);
    command
}
