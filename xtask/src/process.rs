//! Starting, watching and stopping the processes of a task. The one place of this crate that reads a clock or waits.
//!
//! 1. Every child leads a process group of its own, so that one signal reaches all it started in turn.
//! 2. Dropping a [`Group`] ends it: gently first, by SIGKILL when the grace is over. So a `?` or a panic leaves nothing.
//! 3. A signal is sent only while the leader is unreaped: its number cannot belong to anybody else then.
//! 4. A child that is [`tied`] also ends when this process is killed with SIGKILL, where the machine has `setpriv`.
//!
//! Deliberately absent: finding processes by name.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// How long a group may take to end after it was asked to. Nextest gives its tests ten seconds of it.
const GRACE: Duration = Duration::from_secs(15);
/// Between two looks at a child or a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The moment now, for durations that are printed and for deadlines.
#[expect(clippy::disallowed_methods, reason = "the one owner of time in the tasks")]
pub fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the one owner of waiting in the tasks")]
fn pause() {
    std::thread::sleep(LOOK_EVERY);
}

/// Whether this task was asked to end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// Listens for Ctrl-C, SIGTERM and SIGHUP from now on; `nohup` is respected.
    ///
    /// # Errors
    /// When the operating system refuses the handlers.
    pub fn on_signals() -> Result<Self> {
        let stop = Self::default();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hang_up = (!is_ignored(&status, 1)).then_some((SIGHUP, 1));
        for (signal, number) in [(SIGINT, 2), (SIGTERM, 15)].into_iter().chain(hang_up) {
            signal_hook::flag::register_usize(signal, Arc::clone(&stop.0), number)
                .context("cannot listen for signals")?;
        }
        Ok(stop)
    }

    /// Asks the task to end, as signal `number` would.
    pub fn request(&self, number: u8) {
        self.0.store(usize::from(number), Ordering::SeqCst);
    }

    /// # Errors
    /// [`Interrupted`] when the task was asked to end.
    pub fn check(&self) -> Result<()> {
        match u8::try_from(self.0.load(Ordering::SeqCst)) {
            Ok(0) | Err(_) => Ok(()),
            Ok(signal) => Err(Interrupted { signal }.into()),
        }
    }
}

/// Whether the status of a process says that it ignores signal `number`.
fn is_ignored(status: &str, number: usize) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (number - 1) & 1 == 1
}

/// The task was asked to end by a signal.
#[derive(Debug)]
pub struct Interrupted {
    signal: u8,
}

impl Interrupted {
    /// 128 + the number of the signal, as shells have it.
    pub fn exit_code(&self) -> u8 {
        128 + self.signal
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped by signal {}; everything it started is stopped too", self.signal)
    }
}

impl std::error::Error for Interrupted {}

/// A command ended without success.
#[derive(Debug)]
pub struct Failed {
    what: String,
    status: ExitStatus,
}

impl Failed {
    /// The code of the command; 1 where it has none.
    pub fn exit_code(&self) -> u8 {
        self.status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(1)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status.signal() {
            Some(signal) => write!(f, "{} was ended by signal {signal}", self.what),
            None => write!(f, "{} failed (exit code {})", self.what, self.exit_code()),
        }
    }
}

impl std::error::Error for Failed {}

/// A running child and the process group it leads.
#[derive(Debug)]
pub struct Group {
    child: Child,
    name: String,
    gentle: Signal,
    grace: Duration,
    reaped: bool,
}

impl Group {
    /// Starts `command` with nothing to read, in a group of its own. `gentle` is the signal that asks it to end.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(command: &mut Command, gentle: Signal) -> Result<Self> {
        let name = display(command);
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start `{name}`"))?;
        Ok(Self { child, name, gentle, grace: GRACE, reaped: false })
    }

    /// The process number of the leader, which is the number of the group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the leader ended, if it has.
    ///
    /// # Errors
    /// When the operating system does not know the child.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait().with_context(|| format!("cannot watch `{}`", self.name))?;
        self.reaped |= status.is_some();
        Ok(status)
    }

    /// Waits for the leader. A request to stop ends the group.
    ///
    /// # Errors
    /// [`Interrupted`] after a request to stop.
    pub fn wait(&mut self, stop: &Stop) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if let Err(interrupted) = stop.check() {
                self.end();
                return Err(interrupted);
            }
            pause();
        }
    }

    /// Ends the group: gently, then by SIGKILL whatever is left of it after the grace. Returns when the leader is gone.
    pub fn end(&mut self) {
        self.signal(self.gentle);
        let deadline = now() + self.grace;
        while !self.reaped && !self.leader_is_done() && now() < deadline {
            pause();
        }
        self.kill();
    }

    /// Ends the group by SIGKILL at once. Returns when the leader is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if !self.reaped {
            self.reaped = self.child.wait().is_ok();
        }
    }

    fn signal(&self, signal: Signal) {
        if !self.reaped {
            // The only failure left is that all have ended already.
            let _gone = kill_process_group(self.pid(), signal);
        }
    }

    /// Looks without reaping, so that the number of the group stays ours.
    fn leader_is_done(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.pid()), look), Ok(None))
    }

    fn pid(&self) -> Pid {
        to_pid(self.child.id())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// Shows and runs `command`, its output going where ours goes.
///
/// # Errors
/// [`Failed`] when it ends without success, [`Interrupted`] after a request to stop.
pub fn run(command: &mut Command, stop: &Stop) -> Result<()> {
    stop.check()?;
    eprintln!("$ {}", typed(command));
    let mut group = Group::start(command, Signal::TERM)?;
    let status = group.wait(stop)?;
    success(&group.name, status)
}

/// As [`run`], for what must not be cut off half way (a package manager): a request to stop counts afterwards.
///
/// # Errors
/// As [`run`].
pub fn run_to_the_end(command: &mut Command, stop: &Stop) -> Result<()> {
    stop.check()?;
    eprintln!("$ {}", typed(command));
    let mut group = Group::start(command, Signal::TERM)?;
    let status = group.wait(&Stop::default())?;
    stop.check()?;
    success(&group.name, status)
}

/// # Errors
/// [`Failed`] when `status` is not a success.
pub fn success(what: &str, status: ExitStatus) -> Result<()> {
    if status.success() { Ok(()) } else { Err(Failed { what: what.to_owned(), status }.into()) }
}

/// Asks `ready` again and again until it answers.
///
/// # Errors
/// An error of `ready`, the end of `limit`, or [`Interrupted`].
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    stop: &Stop,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = now() + limit;
    loop {
        if let Some(answer) = ready()? {
            return Ok(answer);
        }
        stop.check()?;
        if now() >= deadline {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        pause();
    }
}

/// A command that ends with this process, however that ends. `as_user` needs root and `setpriv`.
pub fn tied(program: impl AsRef<OsStr>, death: &str, as_user: Option<&str>) -> Command {
    let Some(setpriv) = setpriv() else { return Command::new(program) };
    let mut command = Command::new(setpriv);
    if let Some(user) = as_user {
        command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg("--init-groups");
    }
    command.arg(format!("--pdeathsig={death}")).arg("--").arg(program);
    command
}

/// The util-linux program that ties a child to its parent, where there is one.
pub fn setpriv() -> Option<&'static PathBuf> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let path = on_path("setpriv")?;
            let probe = Command::new(&path).args(["--pdeathsig=keep", "--", "true"]).output().ok()?;
            probe.status.success().then_some(path)
        })
        .as_ref()
}

/// The first executable called `name` on the search path.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| is_executable(path))
}

/// Whether `path` leads to a file that may be executed.
pub fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Whether the process `id` runs: it exists, and is not merely waiting for its parent to ask how it ended.
pub fn is_alive(id: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{id}/stat")) {
        Ok(state) => !state.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')),
        Err(_) => !cfg!(target_os = "linux") && rustix::process::test_kill_process(to_pid(id)).is_ok(),
    }
}

fn to_pid(id: u32) -> Pid {
    let number = i32::try_from(id).expect("process numbers fit");
    Pid::from_raw(number).expect("no process has number 0")
}

/// Whether this task runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The cargo that started this task.
pub fn cargo() -> Command {
    tied(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), "TERM", None)
}

/// The command as one would type it, with the variables that it sets.
fn typed(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| Some((name, value?.to_string_lossy())));
    let quoted = set.map(|(name, value)| {
        let quote = if value.contains(|c: char| c.is_whitespace() || "&?*;".contains(c)) { "'" } else { "" };
        format!("{}={quote}{value}{quote} ", name.to_string_lossy())
    });
    quoted.chain([display(command)]).collect()
}

/// The command alone: the program without its folder, nor the wrapper that ties it to us.
pub(crate) fn display(command: &Command) -> String {
    let mut words = Vec::from([command.get_program()]);
    words.extend(command.get_args());
    let wrapped = setpriv().is_some_and(|setpriv| words[0] == setpriv.as_os_str());
    if let Some(end) = words.iter().position(|word| wrapped && *word == "--") {
        words.drain(..=end);
    }
    words[0] = Path::new(words[0]).file_name().unwrap_or(words[0]);
    words.join(OsStr::new(" ")).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell that starts a child, which ignores what the shell ignores, and names both in a file.
    struct Family {
        group: Group,
        members: Vec<u32>,
        _folder: tempfile::TempDir,
    }

    fn family(before: &str) -> Family {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("members");
        let script = format!("{before} sleep 1000 & echo $$ $! > part; mv part members; wait");
        let mut command = tied("sh", "KILL", None);
        command.args(["-c", &script]).current_dir(folder.path());
        let group = Group::start(&mut command, Signal::TERM).unwrap();
        let members = wait_for("the family", Duration::from_secs(20), &Stop::default(), || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let members: Vec<u32> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
            Ok((members.len() == 2).then_some(members))
        });
        Family { group, members: members.unwrap(), _folder: folder }
    }

    fn assert_gone(members: &[u32]) {
        let gone = wait_for("the end of the family", Duration::from_secs(20), &Stop::default(), || {
            Ok(members.iter().all(|member| !is_alive(*member)).then_some(()))
        });
        gone.unwrap();
    }

    #[test]
    fn a_dropped_group_is_gone_with_its_children() {
        let Family { group, members, .. } = family("");
        assert_eq!(group.id(), members[0], "the wrapper became the program");
        assert!(members.iter().all(|member| is_alive(*member)));
        drop(group);
        assert_gone(&members);
    }

    #[test]
    fn a_panic_leaves_no_group() {
        let mut members = Vec::new();
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let family = family("");
            members.clone_from(&family.members);
            panic!("on purpose");
        }));
        assert!(panic.is_err());
        assert_gone(&members);
    }

    #[test]
    fn a_group_that_does_not_listen_is_killed() {
        let Family { mut group, members, .. } = family("trap '' TERM;");
        group.grace = Duration::from_millis(100);
        group.end();
        assert_gone(&members);
    }

    #[test]
    fn a_request_to_stop_ends_the_wait() {
        let Family { mut group, members, .. } = family("");
        let stop = Stop::default();
        stop.request(15);
        let error = group.wait(&stop).unwrap_err();
        assert_eq!(error.downcast_ref::<Interrupted>().unwrap().exit_code(), 143);
        assert_gone(&members);
        assert!(run(&mut Command::new("true"), &stop).is_err(), "nothing starts after a request to stop");
    }

    #[test]
    fn a_failure_keeps_its_code() {
        let code = |script: &str| {
            let error = run(tied("sh", "TERM", None).args(["-c", script]), &Stop::default()).unwrap_err();
            (error.downcast_ref::<Failed>().unwrap().exit_code(), error.to_string())
        };
        assert_eq!(code("exit 100"), (100, "sh -c exit 100 failed (exit code 100)".to_owned()));
        assert_eq!(code("kill -9 $$"), (1, "sh -c kill -9 $$ was ended by signal 9".to_owned()));
    }

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = tied("/bin/echo", "TERM", None);
        command.arg("a").env("ONE", "1").env("TWO", "1 2").env_remove("PATH");
        assert_eq!(typed(&command), "ONE=1 TWO='1 2' echo a");
    }

    #[test]
    fn ignored_signals_are_known() {
        let status = "SigBlk:\t0000000000000004\nSigIgn:\t0000000000001001\n";
        assert_eq!([1, 2, 13, 15].map(|number| is_ignored(status, number)), [true, false, true, false]);
        assert!(!is_ignored("", 1));
    }

    #[test]
    fn waiting_has_an_end() {
        let error = wait_for("rain", Duration::ZERO, &Stop::default(), || Ok(None::<()>)).unwrap_err();
        assert_eq!(error.to_string(), "rain: not within 0 s");
    }
}
