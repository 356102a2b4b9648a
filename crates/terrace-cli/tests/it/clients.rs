//! Clients in other languages, through two instances that share a Redis and a PostgreSQL table: `examples/clients`.

use crate::process::{Running, terrace, write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use terrace_testkit::server::{RedisServer, postgres_url};
use tokio_postgres::NoTls;

const STRATEGIES: &str =
    "cache_aside: ok\nread_through: ok\nwrite_through: ok\nwrite_around: ok\nwrite_behind: ok\n";
/// The Python that has what the client imports, if the test command has set one up.
const PYTHON: &str = "TERRACE_PYTHON";

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/clients")
}

/// A schema with the table of `terrace.toml`. Gives the address of a database that begins there.
async fn table(name: &str) -> Option<String> {
    let url = postgres_url()?;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("the server answers");
    let making = async {
        let made = format!(
            "create schema {name}; set search_path = {name};
             create table docs (kind text, id text, doc jsonb not null, version bigint not null default 0, primary key (kind, id));
             insert into docs values ('read', '1', '{{\"name\": \"ann\"}}'), ('read', '2', '{{\"name\": \"bob\"}}');"
        );
        client.batch_execute(&made).await.expect("a table");
        drop(client);
    };
    let ((), _) = tokio::join!(making, connection);
    let sign = if url.contains('?') { '&' } else { '?' };
    Some(format!("{url}{sign}options=-csearch_path%3D{name}"))
}

/// An instance, and where it is.
fn instance(redis: &str, database: &str, folder: &Path, name: &str) -> (Running, String) {
    let config =
        write(folder, "terrace.toml", &std::fs::read(clients().join("terrace.toml")).expect("there"));
    let mut command = terrace();
    command.arg("serve").arg("-c").arg(config).args(["--listen", "127.0.0.1:0"]);
    command.env("REDIS_URL", redis).env("DATABASE_URL", database);
    command.env("TERRACE__WRITE_BEHIND__PATH", folder.join(name));
    let mut running = Running::start(&mut command);
    let line = running.stdout.find("listening on http://");
    let url = line.split([' ', ',']).find(|word| word.starts_with("http://")).expect("a URL").to_owned();
    (running, url)
}

/// Whether a program runs this much; says so if not.
fn can(program: &str, arguments: &[&str], needs: &str) -> bool {
    let ran = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let can = ran.is_ok_and(|status| status.success());
    if !can {
        eprintln!("SKIPPED: there is no {needs}");
    }
    can
}

async fn five_strategies(language: &str, program: &str, script: &str) {
    let Some(redis) = RedisServer::start().await else { return };
    let name = format!("terrace_clients_{language}_{}", std::process::id());
    let Some(database) = table(&name).await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (_one, one_url) = instance(&redis.url(), &database, folder.path(), "one.journal");
    let (_other, other_url) = instance(&redis.url(), &database, folder.path(), "other.journal");
    let output = Command::new(program).arg(clients().join(script)).args([one_url, other_url]).output();
    let output = output.expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(text(&output.stdout), STRATEGIES);
}

#[tokio::test(flavor = "multi_thread")]
async fn python_does_the_five_strategies_through_two_instances() {
    let python = std::env::var(PYTHON).unwrap_or_else(|_| "python3".to_owned());
    if can(&python, &["-c", "import httpx"], "Python 3 with httpx; `pip install httpx`") {
        five_strategies("python", &python, "five_strategies.py").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_does_the_five_strategies_through_two_instances() {
    if can("node", &["-e", "fetch"], "Node 18 or newer") {
        five_strategies("node", "node", "five_strategies.mjs").await;
    }
}
