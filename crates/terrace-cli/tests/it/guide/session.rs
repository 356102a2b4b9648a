//! The shell of a page: its commands share variables, folder and jobs, as those of a person who types them.
//!
//! 1. Each command has no input, and both its outputs come in the order in which they were written.
//! 2. A command that ends with `&` goes on beside the others; what it prints is kept apart.
//! 3. When a session is dropped, everything that it started is killed.

use crate::process::DEADLINE;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// What ends the output of a command, with its exit code behind it.
const END: &str = "\u{1}end of the command\u{1}";

/// A shell.
#[derive(Debug)]
pub(super) struct Session {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    /// Where commands and what runs beside them are written; not the page's folder.
    notes: tempfile::TempDir,
    count: usize,
}

/// What came of a command.
#[derive(Debug)]
pub(super) enum Outcome {
    Ended {
        code: i32,
        lines: Vec<String>,
    },
    /// It goes on, and prints into this file.
    Beside(PathBuf),
}

impl Session {
    pub(super) fn start(mut shell: Command, folder: &Path) -> Self {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_terrace"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(program.parent().expect("a folder").to_owned())
            .chain(std::env::split_paths(&path));
        let path = std::env::join_paths(folders).expect("no folder has a colon");
        shell.args(["--noprofile", "--norc"]).current_dir(folder).env("PATH", path).env("HOME", folder);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut child = shell.spawn().expect("there is a bash");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, stdin, lines, notes: tempfile::tempdir().expect("a folder"), count: 0 }
    }

    /// Runs a command to its end, or until it is beside the others.
    pub(super) fn run(&mut self, command: &str) -> Outcome {
        self.count += 1;
        let script = self.notes.path().join(format!("{}.sh", self.count));
        let beside = command.trim_end().strip_suffix('&').filter(|rest| !rest.ends_with('&'));
        let log = self.notes.path().join(format!("{}.log", self.count));
        let text = beside.map_or_else(
            || command.to_owned(),
            |command| format!("{command} > {log} 2>&1 &", log = log.display()),
        );
        fs::write(&script, text).expect("the folder is ours");
        let call = format!(". {} < /dev/null 2>&1; printf '\\n{END}%s\\n' \"$?\"\n", script.display());
        self.stdin.write_all(call.as_bytes()).expect("the shell reads");
        let (code, lines) = self.output(command);
        if beside.is_some() { Outcome::Beside(log) } else { Outcome::Ended { code, lines } }
    }

    fn output(&self, command: &str) -> (i32, Vec<String>) {
        let mut lines = Vec::new();
        loop {
            let line = self.lines.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|error| panic!("{error}: {command} printed {lines:#?}"));
            if let Some(code) = line.strip_prefix(END) {
                return (code.parse().expect("a number"), lines);
            }
            lines.push(line.trim_end_matches('\r').to_owned());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status().ok();
        self.child.wait().ok();
    }
}
