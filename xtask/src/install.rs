//! What the tasks need and the machine may lack: two servers from Debian's packages, two cargo tools from crates.io; and what only
//! some tests need.
//!
//! 1. Nothing is installed that is there already.
//! 2. A package that is installed here never starts a service: not now (a policy file forbids it), not at the next boot.
//! 3. Versions of cargo tools are pinned here and nowhere else.
//!
//! Deliberately absent: other package managers. There the message says what is needed.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::browser;
use crate::process::{Failed, Stop, cargo, is_executable, is_root, on_path, run_to_the_end, wait_for};
use crate::services::{postgres::Postgres, redis::Redis};

/// How long another package manager may keep its lock.
const LOCK_WITHIN: Duration = Duration::from_mins(2);
/// Debian asks this program whether a package may start its service.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Packages that start a service.
const SERVICES: [&str; 3] = ["redis-server", "postgresql", PROMTOOL];
/// The answer "no" of [`POLICY`].
const FORBIDDEN: i32 = 101;
/// The policy while packages are installed. Whoever finds it later knows what it is, the next run too.
const NO_SERVICES: &str =
    "#!/bin/sh\n# Only while `cargo xtask` of terrace installs packages. Safe to remove.\nexit 101\n";

/// A program that `cargo install` brings.
#[derive(Debug)]
pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
    options: &'static [&'static str],
}

/// Runs the tests.
pub(crate) const NEXTEST: Tool = Tool {
    name: "cargo-nextest",
    version: "0.9.143",
    options: &["--no-default-features", "--features", "default-no-update"],
};

/// Checks licences, bans, sources and advisories.
pub(crate) const DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", options: &[] };

/// Built for a quick build: both tools wait for other programs and files, and are built on every new machine.
const QUICK_BUILD: [(&str, &str); 5] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
    ("CARGO_PROFILE_RELEASE_STRIP", "symbols"),
];

/// Makes sure that `cargo <tool>` works.
///
/// # Errors
/// When it is missing and cannot be built, or after a request to stop.
pub(crate) fn cargo_tool(tool: &Tool, stop: &Stop) -> Result<()> {
    let beside_cargo = cargo_home().map(|home| home.join("bin").join(tool.name));
    if on_path(tool.name).is_some() || beside_cargo.is_some_and(|program| is_executable(&program)) {
        return Ok(());
    }
    eprintln!("{} is missing: building it once", tool.name);
    let mut command = cargo();
    command
        .args(["install", "--locked", &format!("{}@{}", tool.name, tool.version)])
        .args(tool.options)
        .envs(QUICK_BUILD)
        .env_remove("CARGO_TARGET_DIR");
    crate::process::run(&mut command, stop).with_context(|| format!("cannot install {}", tool.name))
}

fn cargo_home() -> Option<PathBuf> {
    let named = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    named.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
}

/// Makes sure that the programs of both servers are there.
///
/// # Errors
/// When one is missing and this is not root on a Debian, or the installation fails.
pub(crate) fn servers(stop: &Stop) -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    let command = format!("apt-get install -y --no-install-recommends {names}");
    if on_path("apt-get").is_none() {
        bail!(
            "missing: {names}. The tests need redis-server (or valkey-server) on PATH, and initdb and postgres \
             beside each other on PATH. Install Redis 7 and PostgreSQL 13 or newer"
        );
    }
    if !is_root() {
        bail!("missing: {names}. Type this, then start again:\n\n    sudo {command}\n");
    }
    let outcome = apt_get(&missing, stop);
    stop.check()?;
    outcome.with_context(|| format!("cannot install {names}; type yourself: {command}"))?;
    ensure!(self::missing().is_empty(), "{names} installed, but the programs are not where they should be");
    Ok(())
}

/// What has promtool in Debian.
pub(crate) const PROMTOOL: &str = "prometheus";

/// Installs, where that can be done, what only some tests need: a browser, Node, promtool. Gives what is still missing.
///
/// # Errors
/// Only after a request to stop.
pub(crate) fn extras(stop: &Stop) -> Result<Vec<&'static str>> {
    let missing = || -> Vec<&'static str> {
        let found = [
            ("chromium", browser::find().is_some()),
            ("nodejs", on_path("node").is_some()),
            ("npm", on_path("npm").is_some()),
            (PROMTOOL, on_path("promtool").is_some()),
        ];
        found.into_iter().filter(|(_, is_there)| !is_there).map(|(package, _)| package).collect()
    };
    let names = missing();
    if names.is_empty() || on_path("apt-get").is_none() || !is_root() {
        return Ok(names);
    }
    let outcome = apt_get(&names, stop);
    stop.check()?;
    if let Err(error) = outcome {
        eprintln!("warning: cannot install {}: {error:#}", names.join(" "));
    }
    Ok(missing())
}

fn missing() -> Vec<&'static str> {
    let found = [("redis-server", Redis::find().is_some()), ("postgresql", Postgres::find().is_some())];
    found.into_iter().filter(|(_, is_there)| !is_there).map(|(package, _)| package).collect()
}

fn apt_get(packages: &[&str], stop: &Stop) -> Result<()> {
    let _no_service = NoServices::declare()?;
    refresh_lists(stop)?;
    let mut install = Command::new("apt-get");
    install
        .arg(format!("-oDPkg::Lock::Timeout={}", LOCK_WITHIN.as_secs()))
        .args(["install", "-y", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null());
    let outcome = run_to_the_end(&mut install, stop);
    if !outcome.as_ref().is_err_and(anyhow::Error::is::<Failed>) {
        packages.iter().filter(|package| SERVICES.contains(package)).try_for_each(|one| not_at_boot(one))?;
    }
    outcome
}

/// Asks for the package lists, waiting for whoever else is at it. Old lists may do as well, so a failure only speaks up.
fn refresh_lists(stop: &Stop) -> Result<()> {
    eprintln!("$ apt-get update");
    wait_for("the lock of the package lists", LOCK_WITHIN, stop, || {
        let update = Command::new("apt-get").args(["update", "-q"]).env("LC_ALL", "C").output()?;
        let complaint = String::from_utf8_lossy(&update.stderr);
        if !update.status.success() && complaint.contains("Could not get lock") {
            return Ok(None);
        }
        eprint!("{complaint}");
        Ok(Some(()))
    })
}

/// A new package would start its service at the next boot, on a fixed port.
fn not_at_boot(package: &str) -> Result<()> {
    let ways: [(&str, &[&str]); 2] =
        [("systemctl", &["--quiet", "disable", package]), ("update-rc.d", &[package, "disable"])];
    for (program, arguments) in ways {
        let Some(program) = on_path(program) else { continue };
        let disable = Command::new(program).args(arguments).output()?;
        if !disable.status.success() {
            let complaint = String::from_utf8_lossy(&disable.stderr);
            eprintln!("warning: the service {package} may start at the next boot: {}", complaint.trim());
        }
    }
    Ok(())
}

/// While it lives, packages may not start services.
#[derive(Debug)]
struct NoServices {
    ours: Option<&'static Path>,
}

impl NoServices {
    fn declare() -> Result<Self> {
        let policy = Path::new(POLICY);
        let is_old_one_of_ours = std::fs::read_to_string(policy).is_ok_and(|text| text == NO_SERVICES);
        if policy.exists() && !is_old_one_of_ours {
            let answer = Command::new(policy).args(["redis-server", "start"]).status();
            let forbids = answer.is_ok_and(|status| status.code() == Some(FORBIDDEN));
            ensure!(
                forbids,
                "{POLICY} of this machine lets packages start services; it is not ours to change"
            );
            return Ok(Self { ours: None });
        }
        std::fs::write(policy, NO_SERVICES).context(POLICY)?;
        let declared = Self { ours: Some(policy) };
        std::fs::set_permissions(policy, Permissions::from_mode(0o755))?;
        Ok(declared)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.ours.map(std::fs::remove_file) {
            eprintln!("warning: remove {POLICY} yourself: {error}");
        }
    }
}
