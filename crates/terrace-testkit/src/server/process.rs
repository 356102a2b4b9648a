//! Starting a server, and ending it whatever happens.
//!
//! A small shell stands between this process and the server. It waits for the server, and ends it when this process
//! is gone, which it knows from the pipe that closes then. So not even a killed test leaves a server behind.

use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const GUARD: &str = "exec 3<&0
\"$@\" </dev/null 3<&- >/dev/null 2>&1 &
server=$!
echo $server
{ cat <&3 >/dev/null; kill -9 $server; } &
watcher=$!
wait $server
kill -9 $watcher";

/// A server process.
pub(super) struct Process {
    guard: Child,
    server: Pid,
}

impl Process {
    pub(super) fn start(program: &str, arguments: &[OsString]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "guard", program]).args(arguments);
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

    /// Whether the server has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        self.guard.try_wait().is_ok_and(|status| status.is_some())
    }

    pub(super) fn signal(&mut self, signal: Signal) {
        if !self.has_ended() {
            kill_process(self.server, signal).ok();
        }
    }

    /// Ends the server at once, and waits until it is gone.
    pub(super) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.guard.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
