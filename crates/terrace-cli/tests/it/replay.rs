//! `replay`: in this process and over HTTP, right answers and wrong ones.

use crate::process::{Run, Service, run, terrace, write};
use rusqlite::Connection;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Requests and keys of the traces made here.
pub(crate) const REQUESTS: u64 = 8_000;
pub(crate) const KEYS: u64 = 800;

/// A trace that asks for some keys more often than for others.
pub(crate) fn trace(folder: &Path, name: &str, requests: u64) -> PathBuf {
    let mut state = 7_u64;
    let mut keys = (0..KEYS).collect::<Vec<_>>();
    for _ in KEYS..requests {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (low, high) = ((state >> 33) % KEYS, (state >> 45) % KEYS);
        keys.push(low * high / KEYS);
    }
    let text = keys.iter().map(|key| format!("user:{key}\n")).collect::<Vec<_>>().concat();
    write(folder, name, text.as_bytes())
}

pub(crate) fn report(run: &Run) -> Value {
    serde_json::from_str(run.stdout.lines().next().expect("a report")).expect("JSON")
}

pub(crate) fn count(report: &Value, path: &str) -> u64 {
    report.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {report}"))
}

/// A service over a SQLite file with the rows of a trace.
struct Stage {
    service: Service,
    trace: String,
    origin: String,
    database: PathBuf,
    _folder: TempDir,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let database = folder.path().join("origin.db");
        let origin = format!("sqlite:{}", database.display());
        let trace = trace(folder.path(), "tiny.txt", REQUESTS).to_string_lossy().into_owned();
        run(["replay", &trace, "--origin", &origin, "--prepare"]).expect(0);
        let config =
            run(["replay", &trace, "--origin", &origin, "--l1-share", "100%", "--print-config"]).expect(0);
        let service = Service::start(&config.stdout);
        Self { service, trace, origin, database, _folder: folder }
    }

    fn replay(&self, more: &[&str]) -> Run {
        let args = ["replay", &self.trace, "--origin", &self.origin, "--url", &self.service.url];
        run(args.iter().chain(more))
    }
}

#[test]
fn in_process_every_request_is_answered_rightly() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = trace(folder.path(), "tiny.txt", REQUESTS);
    let run = run(["replay", &path.to_string_lossy(), "--json", "--l1-share", "10%"]).expect(0);
    let report = report(&run);
    assert_eq!((count(&report, "/requests"), count(&report, "/distinct_keys")), (REQUESTS, KEYS));
    assert_eq!(
        (count(&report, "/failed"), count(&report, "/wrong"), count(&report, "/l1_entries")),
        (0, 0, 80)
    );
    let (l1, origin) = (count(&report, "/l1/answers"), count(&report, "/origin/answers"));
    assert_eq!(l1 + origin, REQUESTS);
    assert!(l1 > REQUESTS / 10 && origin >= KEYS, "{report}");
    let loads = count(&report, "/loads");
    assert!((KEYS..=origin).contains(&loads), "{report}");
}

#[test]
fn several_traces_make_one_table_and_do_not_mix() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let first = trace(folder.path(), "first.txt", REQUESTS);
    let keys: Vec<u8> = (0..5_000_u64).flat_map(|request| (request % 3_000).to_le_bytes()).collect();
    let second = write(folder.path(), "second.k64", &keys);
    let run =
        run(["replay", &first.to_string_lossy(), &second.to_string_lossy(), "--policy", "lru"]).expect(0);
    for row in ["| first  |    8,000 |", "| second |    5,000 |", "| first  | l1 ", "| second | all "] {
        assert!(run.stdout.contains(row), "{row} is missing in\n{}", run.stdout);
    }
}

#[test]
fn a_limit_cuts_a_trace_short() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = trace(folder.path(), "tiny.txt", REQUESTS);
    let run = run(["replay", &path.to_string_lossy(), "--json", "--limit", "500"]).expect(0);
    assert_eq!(count(&report(&run), "/requests"), 500);
}

#[test]
fn over_http_every_request_is_answered_rightly() {
    let stage = Stage::new();
    let report = report(&stage.replay(&["--json"]).expect(0));
    assert_eq!(
        (count(&report, "/requests"), count(&report, "/failed"), count(&report, "/wrong")),
        (REQUESTS, 0, 0)
    );
    assert_eq!(count(&report, "/loads"), KEYS);
    assert!(count(&report, "/l1/answers") >= REQUESTS - 2 * KEYS, "{report}");
}

#[test]
fn an_answer_that_the_origin_does_not_hold_is_noticed() {
    let stage = Stage::new();
    stage.replay(&[]).expect(0);
    let database = Connection::open(&stage.database).expect("the origin");
    let changed = database.execute("update terrace_replay set doc = 'other' where id = 'tiny:7'", []);
    assert_eq!(changed, Ok(1));
    let run = stage.replay(&["--json", "--warm"]).expect(1);
    let report = report(&run);
    assert!(count(&report, "/wrong") > 0, "{report}");
    assert_eq!(count(&report, "/failed"), 0);
    assert!(run.stderr.contains("tiny:7 from l1 is not what the origin holds"), "{}", run.stderr);
    stage.replay(&[]).expect(0);
}

#[test]
fn a_value_that_is_missing_is_noticed() {
    let stage = Stage::new();
    let other = Service::start("");
    let run =
        run(["replay", &stage.trace, "--origin", &stage.origin, "--url", &other.url, "--json"]).expect(1);
    assert_eq!(count(&report(&run), "/wrong"), REQUESTS);
    assert!(run.stderr.contains("has no value"), "{}", run.stderr);
}

#[test]
fn a_service_is_told_who_asks() {
    let stage = Stage::new();
    let digest = "27f8289bd606baf3f7eceef1e3f559136cfa6ef1231bb68f0141150fda7dbe5a"; // of `replayer`
    let token = format!(
        "[[auth.token]]\nname = 'r'\nsha256 = '{digest}'\nscopes = ['read:*', 'invalidate:*', 'admin']\n"
    );
    let service = Service::start(&token);
    let args = ["replay", &stage.trace, "--origin", &stage.origin, "--url", &service.url, "--json"];
    run(args).expect(4);
    let output = terrace().args(args).env("TERRACE_TOKEN", "replayer").output().expect("it runs");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(count(&report, "/failed"), 0, "{report}");
    assert_eq!(count(&report, "/wrong"), REQUESTS, "it has none of the values");
}

#[test]
fn requests_that_fail_are_counted() {
    let stage = Stage::new();
    let mut command = terrace();
    command.args(["-v", "replay", &stage.trace, "--origin", &stage.origin, "--url", &stage.service.url]);
    command.args(["--json", "--concurrency", "1"]);
    let mut running = crate::process::Running::start(&mut command);
    running.stderr.find("10 % of");
    stage.service.running.signal("KILL");
    let line = running.stdout.find("\"trace\"");
    let report: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(count(&report, "/requests"), REQUESTS);
    assert!(count(&report, "/failed") > 0, "{report}");
    assert_eq!(running.wait(), 1);
}

#[test]
fn a_service_cannot_read_a_temporary_origin() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = trace(folder.path(), "tiny.txt", KEYS);
    let run = run(["replay", &path.to_string_lossy(), "--url", "http://127.0.0.1:1"]).expect(2);
    assert!(run.stderr.contains("--origin"), "{}", run.stderr);
}
