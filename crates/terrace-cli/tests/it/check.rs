//! `check`: configurations that are right, wrong, and right about what is not there.

use crate::process::{Run, run, write};
use rusqlite::Connection;

fn check(config: &str) -> Run {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let database = folder.path().join("ref.db");
    Connection::open(&database)
        .expect("a database")
        .execute_batch("create table t (id integer primary key, name text)")
        .expect("a table");
    let config = config.replace("FOLDER", &folder.path().to_string_lossy());
    let file = write(folder.path(), "terrace.toml", config.as_bytes());
    run(["check", "-c", &file.to_string_lossy()])
}

const GOOD: &str = r#"
[origin.lite]
type = "sqlite"
file = "FOLDER/ref.db"

[keyspace.things]
pattern = "thing:{id}"
strategy = "read-through"
source = { origin = "lite", load = "select * from t where id = :id" }
"#;

#[test]
fn a_good_configuration_is_printed_whole() {
    let run = check(GOOD).expect(0);
    for part in ["max_entries = 10000", "pattern = \"thing:{id}\"", "[origin.lite]"] {
        assert!(run.stdout.contains(part), "{part} is missing in {}", run.stdout);
    }
    assert!(run.stderr.contains("ok") && run.stderr.contains("memory alone"), "{}", run.stderr);
}

#[test]
fn an_unknown_key_is_shown_with_line_and_caret() {
    let run = check(&GOOD.replace("pattern =", "patern =")).expect(1);
    for part in ["patern", "^^^^^^", "7", "pattern"] {
        assert!(run.stderr.contains(part), "{part} is missing in {}", run.stderr);
    }
    assert!(run.stdout.is_empty());
}

#[test]
fn an_origin_that_does_not_answer_is_exit_code_5() {
    let run = check(&GOOD.replace("ref.db", "nowhere.db")).expect(5);
    assert!(run.stderr.contains("not ok   keyspace.things.source.load"), "{}", run.stderr);
    let run = check(&GOOD.replace("from t", "from nothing")).expect(5);
    assert!(run.stderr.contains("nothing"), "{}", run.stderr);
}

#[test]
fn secrets_are_not_shown() {
    let run = check("[l2]\nurl = \"redis://app:hunter2@127.0.0.1:1\"\n").expect(5);
    assert!(
        !run.stdout.contains("hunter2") && !run.stderr.contains("hunter2"),
        "{}{}",
        run.stdout,
        run.stderr
    );
    assert!(run.stdout.contains("redis://***@127.0.0.1:1"), "{}", run.stdout);
}
