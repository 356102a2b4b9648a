//! `cargo xtask replay TRACE…`: recorded requests through the service, in front of a real PostgreSQL, with a real Redis.
//!
//! 1. Every value is checked against the origin, by `terrace replay`; its exit code is this task's.
//! 2. With `--kill-redis`, Redis is killed and started anew, empty, again and again while the requests run. No request
//!    may fail for it.
//! 3. Each trace has a service of its own, started cold, with an L1 of a share of the trace's keys.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::install;
use crate::process::{self, Group, Stop, cargo, success, tied, wait_for};
use crate::services::Servers;
use crate::services::redis::Redis;

/// How long the service may take until it listens.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// How long Redis lives between two kills.
const ALIVE: Duration = Duration::from_secs(4);
/// How long it stays dead.
const DEAD: Duration = Duration::from_secs(2);

/// What to replay, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kill Redis and start it anew, again and again while the requests run
    #[arg(long)]
    kill_redis: bool,

    /// Entries that L1 holds, as a part of the different keys of each trace
    #[arg(long, default_value = "1%")]
    l1_share: String,

    /// Only the first N requests of each trace
    #[arg(long)]
    limit: Option<usize>,

    /// Traces, as `terrace replay` reads them
    #[arg(required = true)]
    traces: Vec<PathBuf>,
}

/// Replays every trace.
///
/// # Errors
/// When something cannot be installed, built or started, a request fails, a value is wrong, or after a request to stop.
pub(crate) fn run(args: &Args, stop: &Stop) -> Result<()> {
    let missing = args.traces.iter().find(|trace| !trace.is_file());
    ensure!(
        missing.is_none(),
        "there is no trace {}",
        missing.map_or_else(String::new, |path| path.display().to_string())
    );
    install::servers(stop)?;
    process::run(cargo().args(["build", "--release", "-p", "terrace-cli"]).current_dir(crate::root()), stop)?;
    let folder = tempfile::tempdir()?;
    let mut servers = Servers::start(stop)?;
    for trace in &args.traces {
        replay(args, trace, &mut servers, folder.path(), stop)?;
    }
    Ok(())
}

fn replay(args: &Args, trace: &Path, servers: &mut Servers, folder: &Path, stop: &Stop) -> Result<()> {
    let origin = servers.postgres.url();
    let mut common: Vec<OsString> = vec!["replay".into(), trace.into(), "--origin".into(), origin.into()];
    if let Some(limit) = args.limit {
        common.extend(["--limit".into(), limit.to_string().into()]);
    }
    process::run(terrace().args(&common).arg("--prepare"), stop)?;

    let config = folder.join("terrace.toml");
    let redis = servers.redis.url();
    let output = terrace()
        .args(&common)
        .args(["--print-config", "--l1-share", &args.l1_share, "--redis", &redis])
        .output()
        .context("cannot run terrace")?;
    success("terrace replay --print-config", output.status)?;
    std::fs::write(&config, output.stdout)?;

    let (mut service, url) = serve(&config, &folder.join("service.log"), stop)?;
    let mut replay = Group::start(terrace().args(&common).args(["--url", &url]), Signal::INT)?;
    let kills = if args.kill_redis { torment(&mut replay, &mut servers.redis, stop)? } else { 0 };
    let status = replay.wait(stop)?;
    if args.kill_redis {
        eprintln!("Redis was killed and started anew {kills} times meanwhile");
        ensure!(kills > 0, "the replay ended before Redis could be killed: use a longer trace");
    }
    service.end();
    success("terrace replay", status)
}

/// Kills Redis and starts it anew until the replay ends. Returns how often.
fn torment(replay: &mut Group, redis: &mut Redis, stop: &Stop) -> Result<u32> {
    let mut kills = 0;
    loop {
        if ends_within(replay, ALIVE, stop)? {
            return Ok(kills);
        }
        redis.kill();
        let ended = ends_within(replay, DEAD, stop)?;
        redis.start_again(stop)?;
        kills += 1;
        if ended {
            return Ok(kills);
        }
    }
}

fn ends_within(group: &mut Group, limit: Duration, stop: &Stop) -> Result<bool> {
    let deadline = process::now() + limit;
    wait_for("the replay", limit * 2, stop, || {
        let ended = group.ended()?.is_some();
        Ok((ended || process::now() >= deadline).then_some(ended))
    })
}

/// Starts the service on a free port, and returns where it listens.
fn serve(config: &Path, log: &Path, stop: &Stop) -> Result<(Group, String)> {
    let output = File::create(log)?;
    let mut command = terrace();
    command.arg("serve").arg("--config").arg(config).args(["--listen", "127.0.0.1:0"]);
    command.stdout(output.try_clone()?).stderr(output);
    let mut group = Group::start(&mut command, Signal::TERM)?;
    let url = wait_for("the service", READY_WITHIN, stop, || {
        let text = std::fs::read_to_string(log)?;
        ensure!(group.ended()?.is_none(), "the service ended at once:\n{text}");
        Ok(listening_on(&text))
    })?;
    Ok((group, url))
}

/// The first address in what the service printed.
fn listening_on(text: &str) -> Option<String> {
    const START: &str = "http://127.0.0.1:";
    let (_, rest) = text.split_once(START)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit())?;
    (digits > 0).then(|| format!("{START}{}", &rest[..digits]))
}

fn terrace() -> std::process::Command {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from);
    let mut command = tied(target.join("release/terrace"), "TERM", None);
    // The servers of this task are the only ones that the service is to know.
    for name in ["REDIS_URL", "REDIS_ADDR", "TERRACE_CONFIG", "TERRACE_URL"] {
        command.env_remove(name);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_what_the_service_prints() {
        assert_eq!(
            listening_on("listening on http://127.0.0.1:4711\n").as_deref(),
            Some("http://127.0.0.1:4711")
        );
        assert_eq!(listening_on("listening on http://127.0.0.1:47"), None, "the line is not complete");
        assert_eq!(listening_on("starting"), None);
    }
}
