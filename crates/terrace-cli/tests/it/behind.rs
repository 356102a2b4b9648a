//! `serve`, written behind: what was acknowledged reaches the origin, however the process ends.

use crate::process::{DEADLINE, Running, terrace, write};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

const TABLE: &str = "create table counts (id text primary key, n text not null, version integer not null);";

/// A file to write to, a journal, and the configuration that says so.
fn files(interval: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let (origin, journal) = (folder.path().join("counts.db"), folder.path().join("writes.journal"));
    Connection::open(&origin).and_then(|connection| connection.execute_batch(TABLE)).expect("a table");
    let toml = format!(
        "[server.shutdown]\ndrain = \"0s\"\n\
         [origin.lite]\ntype = \"sqlite\"\nfile = \"{}\"\n\
         [write_behind]\npath = \"{}\"\ninterval = \"{interval}\"\nbackoff_min = \"50ms\"\n\
         [keyspace.counts]\npattern = \"count:{{id}}\"\nstrategy = \"write-behind\"\n\
         [keyspace.counts.source]\norigin = \"lite\"\ndocument = \"n\"\n\
         load = \"select n from counts where id = :id\"\n\
         store = \"insert into counts values (:id, :value, :version) on conflict (id) do update set n = excluded.n, version = excluded.version where counts.version < excluded.version\"\n",
        origin.display(),
        journal.display()
    );
    write(folder.path(), "terrace.toml", toml.as_bytes());
    folder
}

/// `terrace serve`, and where it listens.
fn serve(folder: &Path) -> (Running, String) {
    let mut command = terrace();
    command.arg("serve").arg("-c").arg(folder.join("terrace.toml")).args(["--listen", "127.0.0.1:0"]);
    let mut running = Running::start(&mut command);
    let line = running.stdout.find("listening on http://");
    let url = line.split([' ', ',']).find(|word| word.starts_with("http://")).expect("a URL");
    let host = url.trim_start_matches("http://").to_owned();
    (running, host)
}

/// The body of a good answer; `None` if there is none, as when the service ends.
fn ask(host: &str, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 20").then(|| body.to_owned())
}

/// Stores numbers until the service does not take them any more. Gives the last one that was acknowledged, by key.
fn store_until_refused(host: &str, writer: usize, acknowledged: &AtomicUsize) -> BTreeMap<String, u64> {
    let mut last = BTreeMap::new();
    for number in 0.. {
        let id = format!("{writer}-{}", number % 50);
        let body = format!("{{\"value\":{number}}}");
        let Some(answer) = ask(host, "PUT", &format!("/api/cache/count:{id}"), &body) else { break };
        assert!(answer.contains("\"ack\":\"fsync\",\"write_id\":\""), "{answer}");
        last.insert(id, number);
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
    last
}

/// Starts writers, ends the service while they write, and gives what was acknowledged.
fn write_and_end(host: &str, end: impl FnOnce()) -> BTreeMap<String, u64> {
    let acknowledged = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                scope.spawn({
                    let acknowledged = &acknowledged;
                    move || store_until_refused(host, writer, acknowledged)
                })
            })
            .collect();
        while acknowledged.load(Ordering::SeqCst) < 400 {
            assert!(
                !writers.iter().all(std::thread::ScopedJoinHandle::is_finished),
                "nobody writes any more"
            );
            std::thread::yield_now();
        }
        end();
        writers.into_iter().flat_map(|writer| writer.join().expect("a writer")).collect()
    })
}

/// Every acknowledged number is at the origin, or a newer one of its key that nobody was told of.
fn assert_stored(folder: &Path, acknowledged: &BTreeMap<String, u64>) {
    let connection = Connection::open(folder.join("counts.db")).expect("the file");
    assert!(acknowledged.len() > 50, "{}", acknowledged.len());
    for (id, &number) in acknowledged {
        let stored: Result<String, _> =
            connection.query_row("select n from counts where id = ?", [id], |row| row.get(0));
        let stored: u64 = stored.unwrap_or_else(|error| panic!("{id}: {error}")).parse().expect("a number");
        assert!(stored >= number, "{id}: {stored} is older than {number}");
    }
}

#[test]
fn a_service_that_is_told_to_end_under_load_brings_everything_to_the_origin() {
    let folder = files("1h");
    let (running, host) = serve(folder.path());
    let acknowledged = write_and_end(&host, || running.signal("TERM"));
    assert_eq!(running.wait(), 0);
    assert_stored(folder.path(), &acknowledged);
}

#[test]
fn what_was_acknowledged_before_a_kill_is_delivered_by_the_next_start() {
    let folder = files("1h");
    let (running, host) = serve(folder.path());
    let acknowledged = write_and_end(&host, || running.signal("KILL"));
    drop(running);
    let connection = Connection::open(folder.path().join("counts.db")).expect("the file");
    let before: i64 =
        connection.query_row("select count(*) from counts", [], |row| row.get(0)).expect("rows");
    assert_eq!(before, 0, "nothing had been delivered: the interval is long");

    let (running, host) = serve(folder.path());
    let waiting = ask(&host, "GET", "/api/cache/behind", "").expect("an answer");
    let waiting: serde_json::Value = serde_json::from_str(&waiting).expect("JSON");
    let (pending, least) = (waiting["keyspaces"][0]["pending"].as_u64(), acknowledged.len() as u64);
    assert!(pending >= Some(least), "{least}: {waiting}");
    let (id, &number) = acknowledged.iter().next().expect("one");
    let read = ask(&host, "GET", &format!("/api/cache/count:{id}"), "").expect("an answer");
    let read: serde_json::Value = serde_json::from_str(&read).expect("JSON");
    assert!(read["value"].as_u64() >= Some(number), "{number}: {read}: what waits is seen by reads");
    ask(&host, "POST", "/api/cache/behind/counts/flush", "").expect("an answer");
    assert_stored(folder.path(), &acknowledged);
    running.signal("TERM");
    assert_eq!(running.wait(), 0);
}

#[test]
fn what_an_origin_that_is_away_does_not_take_stays_and_the_service_ends_well() {
    let folder = files("10ms");
    let lock = Connection::open(folder.path().join("counts.db")).expect("the file");
    lock.execute_batch("begin exclusive").expect("locked");
    let (mut running, host) = serve(folder.path());
    ask(&host, "PUT", "/api/cache/count:1", "{\"value\":7}").expect("acknowledged");
    running.signal("TERM");
    let told = running.stderr.find("writes that stay in the journal");
    let told: serde_json::Value =
        serde_json::from_str(&told).expect("an event of the log, like the lines around it");
    assert_eq!((&told["level"], &told["writes"], &told["loads"]), (&"WARN".into(), &1.into(), &0.into()));
    assert_eq!(running.wait(), 0);
    lock.execute_batch("rollback").expect("unlocked");
    let (running, host) = serve(folder.path());
    ask(&host, "POST", "/api/cache/behind/counts/flush", "").expect("an answer");
    running.signal("TERM");
    assert_eq!(running.wait(), 0);
    let stored = lock.query_row("select n from counts where id = '1'", [], |row| row.get::<_, String>(0));
    assert_eq!(stored.as_deref(), Ok("7"));
}

/// What a write with this name is answered: its id, and whether it was taken before.
fn put_named(host: &str, name: usize) -> Option<(String, bool)> {
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    let body = format!("{{\"value\":{name}}}");
    let request = format!(
        "PUT /api/cache/count:{} HTTP/1.1\r\nhost: {host}\r\nidempotency-key: \"n{name}\"\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        name % 7,
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 202 "), "{answer}");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    Some((body["write_id"].as_str().expect("an id").to_owned(), body["repeated"] == true))
}

/// Writes under names until the service is gone. Gives the ids of those that were acknowledged, by name.
fn put_named_until_killed(host: &str, writer: usize, acknowledged: &AtomicUsize) -> BTreeMap<usize, String> {
    let mut ids = BTreeMap::new();
    for name in (writer..).step_by(4) {
        let Some((id, is_repetition)) = put_named(host, name) else { break };
        assert!(!is_repetition, "{name} is new");
        ids.insert(name, id);
        acknowledged.fetch_add(1, Ordering::SeqCst);
    }
    ids
}

#[test]
fn what_has_a_name_is_written_once_though_the_service_is_killed() {
    let folder = files("1h");
    let (running, host) = serve(folder.path());
    let acknowledged = AtomicUsize::new(0);
    let ids: BTreeMap<usize, String> = std::thread::scope(|scope| {
        let (host, acknowledged) = (host.as_str(), &acknowledged);
        let writers: Vec<_> = (0..4)
            .map(|writer| scope.spawn(move || put_named_until_killed(host, writer, acknowledged)))
            .collect();
        while acknowledged.load(Ordering::SeqCst) < 200 {
            assert!(writers.iter().any(|writer| !writer.is_finished()), "nobody writes any more");
            std::thread::yield_now();
        }
        running.signal("KILL");
        writers.into_iter().flat_map(|writer| writer.join().expect("a writer")).collect()
    });
    drop(running);
    assert!(ids.len() >= 200, "{}", ids.len());

    let (running, host) = serve(folder.path());
    let read = |key: usize| ask(&host, "GET", &format!("/api/cache/count:{key}"), "").expect("an answer");
    let value =
        |text: String| serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["value"].clone();
    let before: Vec<_> = (0..7).map(|key| value(read(key))).collect();
    for is_flushed in [false, true] {
        for (name, id) in &ids {
            assert_eq!(put_named(&host, *name), Some((id.clone(), true)), "{name}, flushed {is_flushed}");
        }
        ask(&host, "POST", "/api/cache/behind/counts/flush", "").expect("an answer");
        assert_eq!((0..7).map(|key| value(read(key))).collect::<Vec<_>>(), before, "flushed {is_flushed}");
    }
    println!("{} names were known after the kill", ids.len());
    running.signal("TERM");
    assert_eq!(running.wait(), 0);
}
