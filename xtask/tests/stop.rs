//! Whatever ends a task, the servers it started end with it.

use std::fs::Permissions;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use xtask::process::{Stop, is_alive, setpriv, wait_for};
use xtask::services::{postgres::Postgres, redis::Redis};

const LIMIT: Duration = Duration::from_secs(40);

/// A running task and what it started.
struct Task {
    child: Child,
    servers: Vec<SocketAddr>,
    command: Option<u32>,
}

/// Starts `cargo xtask with-servers` with a command that says where the servers are and goes on with `then`.
fn start(folder: &Path, then: &str) -> Result<Option<Task>> {
    if Redis::find().is_none() || Postgres::find().is_none() {
        eprintln!("SKIP: redis-server or PostgreSQL is not installed; `cargo xtask test` installs them");
        return Ok(None);
    }
    // A task that is killed leaves its folder; this one goes with the test. The user `postgres` must get into it.
    std::fs::set_permissions(folder, Permissions::from_mode(0o711))?;
    let say = "echo $TERRACE_TEST_REDIS_URL $TERRACE_TEST_POSTGRES_URL $$ > part; mv part said";
    let child = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["with-servers", "--", "sh", "-c", &format!("{say}; {then}")])
        .current_dir(folder)
        .env("TMPDIR", folder)
        .stderr(Stdio::null())
        .spawn()?;
    let mut task = Task { child, servers: Vec::new(), command: None };
    let said = wait_for("the servers", LIMIT, &Stop::default(), || {
        Ok(std::fs::read_to_string(folder.join("said")).ok().map(Ok).or_else(|| {
            let ended = task.child.try_wait().ok().flatten()?;
            // What it said may have come between the two looks.
            Some(std::fs::read_to_string(folder.join("said")).with_context(|| format!("no servers: {ended}")))
        }))
    })??;
    let words: Vec<&str> = said.split_whitespace().collect();
    task.servers = words[..2].iter().map(|url| address(url)).collect::<Result<_>>()?;
    task.command = Some(words[2].parse()?);
    Ok(Some(task))
}

/// `redis://127.0.0.1:1` or `postgres://postgres@127.0.0.1:1/postgres`.
fn address(url: &str) -> Result<SocketAddr> {
    let host = url.rsplit(['/', '@']).find(|part| part.starts_with("127.0.0.1:"));
    Ok(host.with_context(|| format!("no address in {url}"))?.parse()?)
}

fn answers(server: &SocketAddr) -> bool {
    TcpStream::connect_timeout(server, Duration::from_secs(1)).is_ok()
}

fn send(task: &Task, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(task.child.id().try_into()?).context("no process has number 0")?;
    Ok(kill_process(pid, signal)?)
}

fn wait_until_all_are_gone(task: &Task) -> Result<()> {
    wait_for("the end of the servers and the command", LIMIT, &Stop::default(), || {
        let gone = !task.servers.iter().any(answers) && !task.command.is_some_and(is_alive);
        Ok(gone.then_some(()))
    })
}

#[test]
fn a_polite_signal_stops_all() -> Result<()> {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let folder = tempfile::tempdir()?;
        let Some(mut task) = start(folder.path(), "sleep 1000")? else { return Ok(()) };
        assert!(task.servers.iter().all(answers));
        send(&task, signal)?;
        assert_eq!(task.child.wait()?.code(), Some(code));
        assert!(!task.servers.iter().any(answers), "a server outlived its task");
        wait_until_all_are_gone(&task)?;
    }
    Ok(())
}

#[test]
fn a_killed_task_takes_all_with_it() -> Result<()> {
    if setpriv().is_none() {
        eprintln!("SKIP: this machine has no setpriv, which ties a child to its parent");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let Some(mut task) = start(folder.path(), "exec sleep 1000")? else { return Ok(()) };
    send(&task, Signal::KILL)?;
    task.child.wait()?;
    wait_until_all_are_gone(&task)
}

#[test]
fn a_failing_command_passes_its_code_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some(mut task) = start(folder.path(), "exit 7")? else { return Ok(()) };
    assert_eq!(task.child.wait()?.code(), Some(7));
    assert!(!task.servers.iter().any(answers), "a server outlived its task");
    wait_until_all_are_gone(&task)
}
