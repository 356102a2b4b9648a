//! Starting a server, and ending it whatever happens.
//!
//! A small shell stands between this process and the server. It waits for the server, and ends it when this process
//! is gone, which it knows from the pipe that closes then. So not even a killed test leaves a server behind.

use rustix::process::{Pid, Signal, kill_process};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const GUARD: &str = "exec 3<&0
output=$1
shift
\"$@\" </dev/null 3<&- >\"$output\" 2>&1 &
server=$!
echo $server
{ cat <&3 >/dev/null; kill -9 $server; } &
watcher=$!
wait $server
kill -9 $watcher";

/// A server process. It ends when this value is dropped, and at the latest with this process.
#[derive(Debug)]
pub struct Process {
    guard: Child,
    server: Pid,
}

impl Process {
    pub(super) fn start(program: &str, arguments: &[OsString]) -> Self {
        Self::start_with(OsStr::new(program), arguments, Path::new("/dev/null"), |_| {})
    }

    /// Starts a program. What it says is written to a file; what it finds in its environment is up to `prepare`.
    ///
    /// # Panics
    /// If there is no shell. A program that cannot be run ends at once.
    pub fn start_with(
        program: &OsStr,
        arguments: &[OsString],
        output: &Path,
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "guard"]).arg(output).arg(program).args(arguments);
        prepare(&mut command);
        let mut guard = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("every machine that runs these tests has a shell");
        let mut line = String::new();
        let output = guard.stdout.as_mut().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("the shell prints a line");
        let number = line.trim().parse().expect("the shell prints a process id");
        Self { guard, server: Pid::from_raw(number).expect("a process id is not zero") }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.guard.try_wait().is_ok_and(|status| status.is_some())
    }

    /// The number of its process.
    pub fn id(&self) -> i32 {
        self.server.as_raw_nonzero().get()
    }

    /// Halts it (SIGSTOP): its sockets stay open and nobody answers.
    pub fn halt(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn go_on(&mut self) {
        self.signal(Signal::CONT);
    }

    pub(super) fn signal(&mut self, signal: Signal) {
        if !self.has_ended() {
            kill_process(self.server, signal).ok();
        }
    }

    /// Ends it at once (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.guard.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
