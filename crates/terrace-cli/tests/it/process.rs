//! Running the program, and a service of one test's own.
//!
//! 1. The environment of the test run does not reach the program: what it reads, a test gives it.
//! 2. A program that is still running when its test ends is killed.
//! 3. Waiting for output has a deadline.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Far longer than anything here takes, on a loaded machine.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// The program, in a clean environment.
pub(crate) fn terrace() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_terrace"));
    for (name, _) in std::env::vars_os() {
        let is_ours = ["TERRACE_", "CACHE_", "REDIS_", "METRICS_", "OTEL_", "RUST_LOG", "NO_COLOR"]
            .iter()
            .any(|prefix| name.to_string_lossy().starts_with(prefix));
        if is_ours {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the program to its end.
pub(crate) fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    run_with_stdin(args, b"")
}

/// Runs the program to its end, with something to read.
pub(crate) fn run_with_stdin<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>, stdin: &[u8]) -> Run {
    let mut command = terrace();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut pipe = child.stdin.take().expect("it is piped");
    pipe.write_all(stdin).expect("the program reads");
    drop(pipe);
    let output = child.wait_with_output().expect("the program ends");
    Run {
        code: output.status.code().expect("the program ends by itself"),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

impl Run {
    /// Insists on an exit code.
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// A program that is running.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let stdout = Lines::of(child.stdout.take().expect("it is piped"));
        let stderr = Lines::of(child.stderr.take().expect("it is piped"));
        Self { child, stdout, stderr }
    }

    /// Sends it a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill is there");
        assert!(status.success(), "cannot send {name}");
    }

    /// Waits for it to end; gives its exit code.
    pub(crate) fn wait(mut self) -> i32 {
        self.stdout.drain();
        self.stderr.drain();
        let status = self.child.wait().expect("it is ours");
        status.code().expect("it ends by itself")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The lines that a program writes.
#[derive(Debug)]
pub(crate) struct Lines {
    receiver: Receiver<String>,
    seen: Vec<String>,
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { receiver, seen: Vec::new() }
    }

    /// The next line that contains a text.
    pub(crate) fn find(&mut self, text: &str) -> String {
        loop {
            let line = self.receiver.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|error| panic!("{error}: no {text:?} after {:#?}", self.seen));
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Everything up to the end.
    pub(crate) fn drain(&mut self) -> &[String] {
        while let Ok(line) = self.receiver.recv_timeout(DEADLINE) {
            self.seen.push(line);
        }
        &self.seen
    }
}

/// `terrace serve` on a free port.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) running: Running,
    pub(crate) url: String,
    pub(crate) folder: tempfile::TempDir,
}

impl Service {
    pub(crate) fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = write(folder.path(), "terrace.toml", config.as_bytes());
        let mut command = terrace();
        command.arg("serve").arg("-c").arg(file).args(["--listen", "127.0.0.1:0"]);
        let mut running = Running::start(&mut command);
        let line = running.stdout.find("listening on http://");
        let url = line.split([' ', ',']).find(|word| word.starts_with("http://")).expect("a URL").to_owned();
        Self { running, url, folder }
    }

    /// Runs a verb against it.
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        run(args.iter().copied().chain(["--url", &self.url]))
    }
}

/// Writes a file of a test.
pub(crate) fn write(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("the folder is ours");
    path
}
