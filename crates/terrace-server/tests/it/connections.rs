//! Connections: slow ones, many at once, and those that are there when the service stops.

use crate::support::{Answer, Running, beside, start};
use std::time::Duration;
use terrace_server::Stop;
use terrace_testkit::wait::until_some;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest that the service may take to end a connection that it should end.
const PATIENCE: Duration = Duration::from_secs(20);

async fn connect(service: &Running) -> TcpStream {
    TcpStream::connect(service.address).await.expect("it listens")
}

/// What comes until the connection ends.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it ends").ok();
    bytes
}

/// Reads one answer and leaves the connection open.
async fn one(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let reading = async {
        loop {
            bytes.push(stream.read_u8().await.expect("an answer"));
            let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let answer = Answer::parse(&bytes);
            let length: usize = answer.header("content-length").expect("a length").parse().expect("a number");
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.expect("a body");
            return Answer::parse(&[&bytes[..head + 4], &body].concat());
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("an answer in time")
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let service = start("server.header_timeout = '200ms'").await;
    for beginning in ["", "GET /livez HT", "GET /livez HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let mut stream = connect(&service).await;
        stream.write_all(beginning.as_bytes()).await.expect("sent");
        assert_eq!(rest(&mut stream).await, b"", "{beginning:?}");
    }
    assert_eq!(service.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_body_that_never_ends_is_answered() {
    let service = start("server.request_timeout = '200ms'").await;
    let mut stream = connect(&service).await;
    stream
        .write_all(b"PUT /api/cache/a HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n\r\n{\"value\"")
        .await
        .expect("sent");
    Answer::parse(&rest(&mut stream).await).problem(408, "body_timeout");
}

#[tokio::test]
async fn a_body_that_breaks_off_changes_nothing() {
    let service = start("").await;
    let mut stream = connect(&service).await;
    let head = b"PUT /api/cache/a HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\n\r\n{\"value\":1";
    stream.write_all(head).await.expect("sent");
    stream.shutdown().await.expect("half closed");
    rest(&mut stream).await;
    assert_eq!(service.get("/api/cache/a").await.status, 404);
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let service = start("").await;
    let mut stream = connect(&service).await;
    let put = b"PUT /api/cache/a HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\n\r\n{\"value\":1}";
    let get = b"GET /api/cache/a HTTP/1.1\r\nhost: x\r\n\r\n";
    let miss = b"GET /api/cache/%ff HTTP/1.1\r\nhost: x\r\n\r\n";
    let head = b"HEAD /api/cache/b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for (request, status) in [(&put[..], 200), (get, 200), (miss, 400), (get, 200)] {
        stream.write_all(request).await.expect("sent");
        assert_eq!(one(&mut stream).await.status, status);
    }
    stream.write_all(&[&get[..], miss, get, head].concat()).await.expect("sent at once");
    for status in [200, 400, 200] {
        assert_eq!(one(&mut stream).await.status, status);
    }
    assert_eq!(Answer::parse(&rest(&mut stream).await).status, 404);
}

/// A service with this setting, and keys `slow:…` that are loaded from a table with nothing in it, each after so long.
async fn beside_a_slow_origin(delay: &str, setting: &str) -> (tempfile::TempDir, Running) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.db");
    rusqlite::Connection::open(&file).and_then(|c| c.execute_batch("create table t (a)")).expect("a table");
    let service = start(&format!(
        "{setting}\norigin.slow = {{ type = 'sqlite', file = '{}', delay = '{delay}' }}\n\
         [keyspace.slow]\npattern = 'slow:{{a}}'\nsource = {{ origin = 'slow', load = 'select a from t where a = :a' }}\n",
        file.display()
    ))
    .await;
    (folder, service)
}

#[tokio::test]
async fn more_requests_than_may_be_at_work_are_turned_away_with_a_time() {
    let (_folder, service) = beside_a_slow_origin("1s", "server.max_requests = 2").await;
    let targets: Vec<String> = (0..10).map(|number| format!("/api/cache/slow:{number}")).collect();
    let answers = futures_util::future::join_all(targets.iter().map(|target| service.get(target))).await;
    let turned_away: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert_eq!(turned_away.len(), 8, "{answers:?}");
    for answer in turned_away {
        answer.problem(503, "overloaded");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(service.get("/api/cache/slow:1").await.status, 404, "afterwards there is room again");
}

#[tokio::test]
async fn hits_in_l1_are_answered_while_all_places_are_taken() {
    let (_folder, service) = beside_a_slow_origin("2s", "server.max_requests = 2").await;
    assert_eq!(service.put("/api/cache/k", r#"{"value":1}"#).await.status, 200);
    let slow =
        futures_util::future::join_all(["/api/cache/slow:1", "/api/cache/slow:2"].map(|t| service.get(t)));
    let hit = async {
        while service.get("/api/cache/none").await.status != 503 {}
        for target in ["/api/cache/k", "/v1/keys/k", "/api/cache?key=k&verbose"] {
            assert_eq!(service.get(target).await.status, 200, "{target}");
        }
        service.get("/api/cache/none").await.problem(503, "overloaded");
    };
    let (slow, ()) = futures_util::join!(slow, hit);
    assert!(slow.iter().all(|answer| answer.status == 404), "{slow:?}");
}

#[tokio::test]
async fn a_batch_that_there_is_no_room_for_the_answer_to_changes_nothing() {
    let service = start("server.max_requests = 256").await;
    let large = format!(r#"{{"value":"{}"}}"#, "x".repeat(900_000));
    assert_eq!(service.put("/api/cache/large", &large).await.status, 200);
    // As much as there is room for, and more than the system's buffers take.
    let gets = [r#""large""#; 18].join(",");
    let read = format!(r#"{{"get":[{gets}]}}"#);
    let mut slow = connect(&service).await;
    let head =
        format!("POST /api/cache/batch HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{read}", read.len());
    slow.write_all(head.as_bytes()).await.expect("it is read");
    slow.readable().await.expect("an answer begins");

    let batch = format!(r#"{{"get":[{gets}],"set":[{{"key":"k","value":1}}]}}"#);
    let answer = service.post("/api/cache/batch", &batch).await;
    answer.problem(503, "overloaded");
    assert_eq!(service.get("/api/cache/k").await.status, 404, "it was turned away");
    // What has changed nothing counts as large as it becomes, also where that cannot be told from what is there.
    let absent = vec![format!(r#""{}""#, "a".repeat(400)); 1000].join(",");
    let absent = service.post("/api/cache/batch", &format!(r#"{{"get":[{absent}]}}"#)).await;
    assert_eq!(absent.status, 503);
    drop(slow);
    until_some("room again", async || {
        (service.post("/api/cache/batch", &batch).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(service.get("/api/cache/k").await.status, 200);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up() {
    let (_folder, service) = beside_a_slow_origin("30s", "server.request_timeout = '100ms'").await;
    service.get("/api/cache/slow:1").await.problem(504, "timeout");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let service = start("server.max_connections = 2").await;
    let mut first = connect(&service).await;
    let mut second = connect(&service).await;
    for stream in [&mut first, &mut second] {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        assert_eq!(one(stream).await.status, 200);
    }
    let mut third = connect(&service).await;
    third.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let mut byte = [0];
    let waits = tokio::time::timeout(Duration::from_millis(200), third.peek(&mut byte)).await;
    assert!(waits.is_err(), "there is no place yet");
    drop(first);
    assert_eq!(one(&mut third).await.status, 200);
}

#[tokio::test]
async fn stopping_is_announced_then_requests_under_way_are_finished() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.db");
    rusqlite::Connection::open(&file).and_then(|c| c.execute_batch("create table t (a)")).expect("a table");
    let service = start(&format!(
        "server.shutdown = {{ drain = '400ms', grace = '10s' }}\n\
         origin.slow = {{ type = 'sqlite', file = '{}', delay = '900ms' }}\n\
         [keyspace.slow]\npattern = 'slow:{{a}}'\nsource = {{ origin = 'slow', load = 'select a from t where a = :a' }}\n",
        file.display()
    ))
    .await;
    let mut slow = connect(&service).await;
    let mut idle = connect(&service).await;
    let mut probe = connect(&service).await;
    let address = service.address;
    slow.write_all(b"GET /api/cache/slow:1 HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    probe.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    assert_eq!(one(&mut probe).await.status, 200);
    let stopping = beside(service.stop(Stop::Drain));
    let status = async {
        loop {
            probe.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
            let answer = one(&mut probe).await;
            if answer.status != 200 {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, status).await.expect("it says so");
    assert_eq!((answer.status, answer.body.as_str()), (503, r#"{"status":"stopping"}"#));
    assert!(TcpStream::connect(address).await.is_ok(), "it still accepts while it drains");
    assert_eq!(Answer::parse(&rest(&mut slow).await).status, 404, "the slow request is finished");
    assert_eq!(rest(&mut idle).await, b"", "an idle connection is closed");
    let ended = stopping.await.expect("no panic");
    assert!(ended.is_clean(), "{ended:?}");
    assert!(TcpStream::connect(address).await.is_err(), "it no longer listens");
}

#[tokio::test]
async fn what_exceeds_the_grace_period_is_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.db");
    rusqlite::Connection::open(&file).and_then(|c| c.execute_batch("create table t (a)")).expect("a table");
    let service = start(&format!(
        "server.shutdown = {{ drain = 0, grace = '200ms' }}\n\
         origin.slow = {{ type = 'sqlite', file = '{}', delay = '4s' }}\n\
         [keyspace.slow]\npattern = 'slow:{{a}}'\nsource = {{ origin = 'slow', load = 'select a from t where a = :a' }}\n",
        file.display()
    ))
    .await;
    let mut slow = connect(&service).await;
    slow.write_all(b"GET /api/cache/slow:1 HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let metrics = || async { service.get("/api/cache/metrics?verbose=true").await.body };
    until_some("the request to be under way", async || {
        metrics().await.contains("\"misses\":1").then_some(())
    })
    .await;
    let ended = service.stop(Stop::Now).await;
    assert_eq!(ended.connections_cut, 1, "{ended:?}");
}
