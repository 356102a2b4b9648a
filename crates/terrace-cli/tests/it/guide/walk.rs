//! Going through a page: its configurations are checked, its commands run and compared.
//!
//! With `TERRACE_RENEW=1` what a page says that its commands print is replaced, where that is not what they print. What varies
//! has to be marked by hand then.

use super::expect::{comes, matches};
use super::folder;
use super::page::{Block, Kind, Page, Step};
use super::session::{Outcome, Session};
use super::stage::Stage;
use crate::process::{DEADLINE, terrace};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use terrace_testkit::wait::pause;

/// What fragments are put beneath.
const BASE: &str = "base.toml";
/// How often a command is run that is to print something soon.
const AGAIN: Duration = Duration::from_millis(100);

/// A step whose output is another one: the lines of the page that say what it is, and what they should be.
type Change = (std::ops::Range<usize>, Vec<String>);

/// How often it is still worth while to look again.
struct Patience(u128);

impl Patience {
    fn of(time: Duration) -> Self {
        Self(time.as_millis() / AGAIN.as_millis())
    }

    /// Waits a little; `false` once the time is over.
    async fn lasts(&mut self) -> bool {
        pause(AGAIN).await;
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }
}

/// Runs a page.
pub(super) async fn walk(file: &str) {
    let page = Page::read(file);
    let Some(stage) = Stage::set(file, &page.text).await else { return };
    let mut shell = Command::new("bash");
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["TERRACE_", "CACHE_", "REDIS_", "METRICS_", "RUST_LOG", "PG"]
            .iter()
            .any(|ours| name.starts_with(ours))
        {
            shell.env_remove(&*name);
        }
    }
    shell
        .env("TERRACE__SERVER__LISTEN", &stage.listen)
        .env("TERRACE_URL", format!("http://{}", stage.listen));
    shell.env("NO_COLOR", "1").env("TZ", "UTC").env("LC_ALL", "C.UTF-8");
    let mut session = Session::start(shell, stage.folder.path());
    let mut changes = Vec::new();
    for block in &page.blocks {
        match block.kind {
            Kind::Config { fragment, unreachable } => check(file, block, fragment, unreachable, &stage),
            Kind::Console { wait } => {
                for step in block.steps() {
                    changes.extend(take(file, &step, wait, &mut session, &stage).await);
                }
            }
            Kind::NotRun | Kind::Rust | Kind::Shown => {}
        }
    }
    renew(file, &page.text, &changes);
}

fn renewing() -> bool {
    std::env::var_os("TERRACE_RENEW").is_some()
}

/// A whole configuration whose first line is `# NAME.toml` is also written there, for the commands below.
fn check(file: &str, block: &Block, fragment: bool, unreachable: bool, stage: &Stage) {
    let text = stage.meant(&block.text);
    let name = text.lines().next().and_then(|line| line.strip_prefix("# ")).filter(|line| {
        !fragment && !line.contains(' ') && Path::new(line).extension().is_some_and(|kind| kind == "toml")
    });
    if let Some(name) = name {
        std::fs::write(stage.folder.path().join(name), &text).expect("the folder is ours");
        // What it names comes with the commands below it, which run `terrace check` where that matters.
    }
    let elsewhere = tempfile::tempdir().expect("a folder");
    let config = elsewhere.path().join("checked.toml");
    let base = if fragment {
        std::fs::read_to_string(folder().join(BASE)).expect("it is there")
    } else {
        String::new()
    };
    std::fs::write(&config, format!("{base}\n{text}")).expect("the folder is ours");
    let database = elsewhere.path().join("app.db");
    let made = rusqlite::Connection::open(database)
        .and_then(|database| database.execute_batch(include_str!("../../../../../docs/guide/base.sql")));
    made.expect("a database");
    let output = terrace().args(["check", "-c", "checked.toml"]).current_dir(elsewhere.path()).output();
    let output = output.expect("it starts");
    let code = output.status.code().expect("it ends by itself");
    // What is refused is not printed; what is not there yet, a server or a table, is said beside it.
    let is_missing = matches!(code, 1 | 5) && !output.stdout.is_empty();
    let is_allowed = code == 0 || (is_missing && (unreachable || name.is_some()));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(is_allowed, "{file}:{}: `terrace check` ends with {code}:\n{told}", block.line);
}

/// Runs a step; gives what is to be changed on the page, if that is wanted.
async fn take(file: &str, step: &Step, wait: bool, session: &mut Session, stage: &Stage) -> Option<Change> {
    let command = stage.meant(&step.command);
    let mut patience = Patience::of(DEADLINE);
    loop {
        let (fits, lines) = match session.run(&command) {
            Outcome::Ended { code, lines } => {
                let lines = printed(&lines.join("\n"), stage);
                assert!(
                    code == 0 || wait,
                    "{file}:{}: `{}` ends with {code}:\n{}",
                    step.line,
                    step.command,
                    lines.join("\n")
                );
                stage.adapt_files();
                (code == 0 && matches(&step.expected, &lines), lines)
            }
            Outcome::Beside(log) => beside(step, &log, stage).await,
        };
        if fits {
            return None;
        }
        if wait && patience.lasts().await {
            continue;
        }
        if renewing() {
            let end = step.expected_line + step.expected.len();
            return Some((step.expected_line..end, lines));
        }
        panic!(
            "{file}:{}: `{}` is said to print\n{}\nand prints\n{}",
            step.line,
            step.command,
            step.expected.join("\n"),
            lines.join("\n")
        );
    }
}

/// Waits until what runs beside has printed what is expected of it.
async fn beside(step: &Step, log: &Path, stage: &Stage) -> (bool, Vec<String>) {
    let mut patience = Patience::of(if renewing() { Duration::from_secs(5) } else { DEADLINE });
    loop {
        let lines = printed(&std::fs::read_to_string(log).unwrap_or_default(), stage);
        let fits = comes(&step.expected, &lines);
        if fits || !patience.lasts().await {
            return (fits, lines);
        }
    }
}

fn printed(text: &str, stage: &Stage) -> Vec<String> {
    let mut lines: Vec<String> = stage.said(text).lines().map(str::to_owned).collect();
    while lines.last().is_some_and(|line| line.trim().is_empty()) {
        lines.pop();
    }
    lines
}

fn renew(file: &str, text: &str, changes: &[Change]) {
    if changes.is_empty() {
        return;
    }
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (place, actual) in changes.iter().rev() {
        lines.splice(place.start - 1..place.end - 1, actual.iter().cloned());
    }
    lines.push(String::new());
    std::fs::write(folder().join(file), lines.join("\n")).expect("the page can be written");
}
