//! What does the service cost over HTTP?
//!
//! One value in the answers of all: of the service, which has it in L1, of an axum handler that returns the same bytes and looks at
//! nothing, of webdis before Redis, and of nginx. All under the same load from `wrk`, in turn. The machine is shared by whoever is
//! measured, whoever is asked in turn, and `wrk`.

mod peers;

use crate::tasks;
use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use peers::Peer;
use std::cell::RefCell;
use std::future::pending;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use terrace_bench_harness::rounds::{self, Contender, Row};
use terrace_bench_harness::table;
use terrace_server::config::{Config, Sources};
use terrace_server::{Server, Stop};
use terrace_testkit::server::RedisServer;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

const CONNECTIONS: usize = 32;
const SECONDS: usize = 1;
const PATH: &str = "/api/cache/user:42";
const RAW_PATH: &str = "/v1/keys/user:42";
const CONSTANT_PATH: &str = "/constant";
const WEBDIS_PATH: &str = "/GET/user:42.txt";
const VALUE_BYTES: usize = 256;
/// A token and its SHA-256.
const TOKEN: &str = "bench-token-of-terrace";
const TOKEN_SHA256: &str = "973cef9f5038ae47c89ddedf377bb8722f306557aa26cde930b5636f705dc13f";

/// Something that answers.
struct Target {
    name: &'static str,
    address: SocketAddr,
    path: &'static str,
    header: Option<String>,
}

/// What `wrk` says of one run.
struct Report {
    per_second: f64,
    /// Microseconds within which half of the answers came, and 99 of 100.
    half: f64,
    most: f64,
}

/// Compares requests per second, and the times that they took.
pub(crate) fn run(rounds: usize) -> Result<()> {
    println!("## A hit over HTTP\n");
    if Command::new("wrk").arg("-v").output().is_err() {
        println!("skipped: wrk is not installed; `apt-get install wrk`\n");
        return Ok(());
    }
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let value = format!("\"{}\"", "v".repeat(VALUE_BYTES - 2));
    let open = start_service(&runtime, "")?;
    let body = fill(open, "", &value)?;
    let title = format!("{CONNECTIONS} connections, a value of {VALUE_BYTES} bytes");
    let constant = start_constant(&runtime, body)?;
    let closed = start_service(
        &runtime,
        &format!("[[auth.token]]\nname = 'bench'\nsha256 = '{TOKEN_SHA256}'\nscopes = ['read:*', 'write:*']"),
    )?;
    let authorization = format!("authorization: Bearer {TOKEN}");
    fill(closed, &format!("{authorization}\r\n"), &value)?;
    let plain = |name, address, path| Target { name, address, path, header: None };
    let mut targets = vec![
        plain("axum, constant", constant, CONSTANT_PATH),
        plain("terrace service, L1 hit", open, PATH),
        plain("terrace service, L1 hit, raw", open, RAW_PATH),
        Target {
            header: Some(authorization),
            ..plain("terrace service, L1 hit, with a token", closed, PATH)
        },
    ];
    let nginx = Peer::nginx(constant, CONSTANT_PATH)?;
    if let Some(nginx) = &nginx {
        targets.push(plain("nginx, passing on to the handler", nginx.address, "/passed"));
        targets.push(plain("nginx, from its own cache", nginx.address, "/kept"));
    }
    let redis = runtime.block_on(RedisServer::start());
    let webdis =
        redis.as_ref().map(|redis| runtime.block_on(start_webdis(redis, &value))).transpose()?.flatten();
    if let Some(webdis) = &webdis {
        targets.push(plain("webdis, from Redis", webdis.address, WEBDIS_PATH));
    }
    compare(&title, rounds, &targets)
}

fn compare(title: &str, rounds: usize, targets: &[Target]) -> Result<()> {
    let times: Vec<RefCell<[Vec<f64>; 2]>> = targets.iter().map(|_| RefCell::default()).collect();
    let contenders = targets.iter().zip(&times).map(|(target, times)| {
        Contender::new(target.name, || {
            let report = load(target)?;
            let [half, most] = &mut *times.borrow_mut();
            half.push(report.half);
            most.push(report.most);
            Ok(report.per_second)
        })
    });
    table::print(title, "requests per second", 0, &rounds::measure(title, rounds, contenders.collect())?);
    for (which, what) in ["half of the answers", "99 of 100 answers"].into_iter().enumerate() {
        // The first round counts nowhere.
        let row = |(target, times): (&Target, &RefCell<[Vec<f64>; 2]>)| Row {
            name: target.name,
            values: times.borrow()[which].iter().skip(1).copied().collect(),
        };
        let rows: Vec<Row> = targets.iter().zip(&times).map(row).collect();
        table::print(&format!("{title}: {what} within"), "microseconds", 0, &rows);
    }
    Ok(())
}

fn start_service(runtime: &Runtime, auth: &str) -> Result<SocketAddr> {
    let config = format!("server.listen = '127.0.0.1:0'\nmetrics.interval = '1h'\n{auth}");
    let config = Config::load(&Sources::text(&config))?;
    let server = runtime.block_on(Server::bind(&config))?;
    let address = server.local_addr();
    tasks::spawn(runtime, async {
        server.run(pending::<Stop>()).await;
    });
    Ok(address)
}

fn start_constant(runtime: &Runtime, body: String) -> Result<SocketAddr> {
    let body: &'static str = body.leak();
    let router =
        Router::new().route(CONSTANT_PATH, get(async move || ([(CONTENT_TYPE, "application/json")], body)));
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    tasks::spawn(runtime, async {
        axum::serve(listener, router).await.expect("a listener that was bound serves");
    });
    Ok(address)
}

/// webdis before a server that has the value.
async fn start_webdis(redis: &RedisServer, value: &str) -> Result<Option<Peer>> {
    let client = redis::Client::open(redis.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("SET").arg("user:42").arg(value).query_async::<()>(&mut connection).await?;
    Peer::webdis(redis.port())
}

/// Puts the entry, and returns the body of a hit in L1.
fn fill(service: SocketAddr, headers: &str, value: &str) -> Result<String> {
    let body = format!("{{\"value\":{value}}}");
    let length = body.len();
    let head = format!("{headers}content-type: application/json\r\ncontent-length: {length}\r\n");
    let stored = request(service, &format!("PUT {PATH}"), &head, &body)?;
    ensure!(stored.contains("\"success\":true"), "the value was not stored: {stored}");
    let answer = request(service, &format!("GET {PATH}"), headers, "")?;
    let (_, body) = answer.split_once("\r\n\r\n").context("an answer has a head and a body")?;
    ensure!(body.contains("\"source\":\"l1\""), "not a hit in L1: {body}");
    Ok(body.to_owned())
}

/// One request on a connection of its own; returns the whole answer.
fn request(address: SocketAddr, line: &str, headers: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "{line} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// What `wrk` gets answered, all of it with success.
fn load(target: &Target) -> Result<Report> {
    let mut command = Command::new("wrk");
    command.args(["--latency", "--threads", "1", "--connections", &CONNECTIONS.to_string()]);
    command.args(["--duration", &format!("{SECONDS}s")]);
    command.args(target.header.iter().flat_map(|header| ["--header", header]));
    let output = command.arg(format!("http://{}{}", target.address, target.path)).output()?;
    let report = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || report.contains("Non-2xx") || report.contains("Socket errors") {
        bail!("wrk met failures at {}: {report}", target.name);
    }
    let after = |start: &str| {
        let line = report.lines().find_map(|line| line.trim().strip_prefix(start));
        line.map(str::trim).with_context(|| format!("wrk reports {start}"))
    };
    Ok(Report {
        per_second: after("Requests/sec:")?.parse()?,
        half: microseconds(after("50%")?)?,
        most: microseconds(after("99%")?)?,
    })
}

/// Reads a time as `wrk` writes it: `86.00us`, `1.02ms`.
fn microseconds(text: &str) -> Result<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    let found =
        units.iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor));
    found.with_context(|| format!("{text} is no time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_wrk_are_read() {
        assert_eq!(microseconds("86.00us").ok(), Some(86.0));
        assert_eq!(microseconds("1.50ms").ok(), Some(1500.0));
        assert_eq!(microseconds("2.00s").ok(), Some(2e6));
        assert!(microseconds("soon").is_err());
    }
}
