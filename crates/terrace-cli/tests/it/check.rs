//! `check`: configurations that are right, wrong, and right about what is not there.

use crate::process::{Run, run, write};
use rusqlite::Connection;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use terrace_testkit::server::RedisServer;

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
    assert!(run.stderr.contains("ok") && run.stderr.contains("everything is in memory"), "{}", run.stderr);
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
    assert!(run.stderr.contains("not ok  keyspace.things.source.load"), "{}", run.stderr);
    assert!(
        check(&GOOD.replace("from t", "from nowhere")).expect(1).stderr.contains("no such table: nowhere")
    );
    let both =
        GOOD.replace("from t", "from nowhere") + "[origin.dead]\ntype = 'sqlite'\nfile = '/nowhere/x.db'\n";
    check(&both).expect(5);
}

/// A server that gives everybody who says something this answer.
fn answering(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut said = [0; 4096];
            let has_said = stream.read(&mut said).is_ok_and(|count| count > 0);
            if has_said && stream.write_all(&answer).is_ok() {
                stream.shutdown(std::net::Shutdown::Write).ok();
                while stream.read(&mut said).is_ok_and(|count| count > 0) {}
            }
        }
    });
    address
}

/// How PostgreSQL refuses a connection.
fn refusal_of_postgres(state: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{state}\0Mnot with that password\0\0");
    let length = u32::try_from(fields.len() + 4).expect("it is short");
    [&b"E"[..], &length.to_be_bytes(), fields.as_bytes()].concat()
}

#[test]
fn an_origin_that_does_not_let_us_in_is_exit_code_4() {
    let folder = tempfile::tempdir().expect("a folder");
    let look = |origin: &str, load: &str| {
        let keyspace =
            format!("[keyspace.a]\npattern = 'a:{{id}}'\nsource = {{ origin = 'o', load = '{load}' }}\n");
        for text in [origin.to_owned(), format!("{origin}{keyspace}")] {
            let text = format!("server.listen = '127.0.0.1:0'\n[origin.o]\n{text}");
            let file = write(folder.path(), "terrace.toml", text.as_bytes());
            let file = file.to_string_lossy();
            for (verb, code) in ["check", "doctor"].map(|verb| (verb, run([verb, "-c", &file]))) {
                let told = format!("{}{}", code.stdout, code.stderr);
                assert_eq!(code.code, 4, "{verb} of {text}: {told}");
                assert!(told.contains("not ok"), "{verb} of {text}: {told}");
            }
        }
    };
    for state in ["28P01", "28000"] {
        let address = answering(refusal_of_postgres(state));
        let url = format!("postgres://app:wrong@{address}/app?sslmode=disable");
        look(&format!("type = 'postgres'\nurl = '{url}'\n"), "select 1 as a where :id = 1");
    }
    let http = |status: &str| {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        format!("type = 'http'\nbase_url = 'http://{}'\n", answering(answer.into_bytes()))
    };
    look(&http("401 Unauthorized"), "GET /docs/{id}");
    check(&format!("[origin.o]\n{}", http("403 Forbidden"))).expect(0);
}

#[test]
fn a_postgres_that_has_no_room_is_exit_code_5() {
    let address = answering(refusal_of_postgres("53300"));
    check(&format!("[origin.o]\ntype = 'postgres'\nurl = 'postgres://app@{address}/app?sslmode=disable'\n"))
        .expect(5);
}

#[test]
fn origins_that_no_keyspace_uses_are_asked_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let text =
        write(folder.path(), "no.db", b"this is text, and no database at all, however long one looks at it");
    let unused = format!(
        "[origin.gone]\ntype = 'sqlite'\nfile = '/nowhere/ref.db'\n[origin.text]\ntype = 'sqlite'\nfile = '{}'\n\
         [origin.api]\ntype = 'http'\nbase_url = 'http://127.0.0.1:1'\n\
         [origin.pg]\ntype = 'postgres'\nurl = 'postgres://nobody@127.0.0.1:1/none'\n",
        text.display()
    );
    let run = check(&format!("{GOOD}{unused}")).expect(5);
    for name in ["gone", "text", "api", "pg"] {
        assert!(run.stderr.contains(&format!("not ok  origin.{name}: ")), "{name}: {}", run.stderr);
    }
    assert!(!run.stderr.contains("origin.lite"), "its statement was tried: {}", run.stderr);
    let fine = check(&GOOD.replace(
        "[keyspace.things]",
        "[origin.more]\ntype = 'sqlite'\nfile = 'FOLDER/ref.db'\n[keyspace.things]",
    ));
    assert!(fine.expect(0).stderr.contains("ok      origin.more"));
}

#[test]
fn findings_are_objects_for_scripts_at_the_level_that_the_doctor_gives_them() {
    let behind = GOOD
        .replace("read-through", "write-behind")
        .replace(":id\" }", ":id\", store = \"insert into t values (:id, :value)\" }")
        + "[write_behind]\npath = 'FOLDER/journal'\n";
    let folder = tempfile::tempdir().expect("a folder");
    Connection::open(folder.path().join("ref.db"))
        .expect("a database")
        .execute_batch("create table t (id integer primary key, name text)")
        .expect("a table");
    let text = format!(
        "server.listen = '127.0.0.1:0'\n{}",
        behind.replace("FOLDER", &folder.path().to_string_lossy())
    );
    let file = write(folder.path(), "terrace.toml", text.as_bytes());
    let found = |verb: &str| -> Vec<serde_json::Value> {
        let run = run([verb, "--json", "-c", &file.to_string_lossy()]).expect(0);
        run.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let (checked, doctored) = (found("check"), found("doctor"));
    let open =
        |finding: &&serde_json::Value| finding["says"].as_str().is_some_and(|says| says.contains(":version"));
    let note = checked.iter().find(open).unwrap_or_else(|| panic!("{checked:?}"));
    assert_eq!(note["state"], "note");
    assert_eq!(Some(note), doctored.iter().find(open));
    assert_eq!(doctored[1..], checked[..], "the doctor looks at more, and not otherwise");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_does_not_let_us_in_is_exit_code_4() {
    let builder = RedisServer::builder().password("right").acl("reader on >right ~* +@read +@connection");
    let Some(redis) = builder.start().await else { return };
    let address = redis.address();
    let (nobody, stranger) = ("", "password = 'wrong'\n");
    let reader = "username = 'reader'\npassword = 'right'\n";
    for (mode, who) in [
        ("coherent", nobody),
        ("coherent", stranger),
        ("coherent", reader),
        ("plain", nobody),
        ("plain", stranger),
    ] {
        let run = check(&format!("[bus]\nmode = '{mode}'\n[l2]\nurl = 'redis://{address}'\n{who}"));
        assert!(run.stderr.contains("not ok  l2: "), "{mode} {who}: {}", run.stderr);
        assert_eq!(run.code, 4, "{mode} {who}: {}", run.stderr);
    }
    let dead = "[origin.dead]\ntype = 'sqlite'\nfile = '/nowhere/x.db'\n";
    check(&format!("{dead}[l2]\nurl = 'redis://{address}'\n")).expect(5);
}
