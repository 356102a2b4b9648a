//! What does the service add to an HTTP request?
//!
//! `GET /api/cache/{key}`, answered from L1, against an axum handler that returns the same bytes and looks at nothing.
//! Both run in this process on one runtime, in turn, under the same load from `wrk`, which shares the machine.

use crate::tasks;
use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use std::future::pending;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use terrace_bench_harness::rounds::{self, Contender};
use terrace_bench_harness::table;
use terrace_server::config::{Config, Sources};
use terrace_server::{Server, Stop};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

const CONNECTIONS: usize = 32;
const SECONDS: usize = 1;
const PATH: &str = "/api/cache/user:42";
const CONSTANT_PATH: &str = "/constant";
const VALUE_BYTES: usize = 256;

/// Compares requests per second.
pub(crate) fn run(rounds: usize) -> Result<()> {
    println!("## A hit over HTTP\n");
    if Command::new("wrk").arg("-v").output().is_err() {
        println!("skipped: wrk is not installed; `apt-get install wrk`\n");
        return Ok(());
    }
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let service = start_service(&runtime)?;
    let body = fill(service)?;
    let title = format!("{CONNECTIONS} connections, bodies of {} bytes", body.len());
    let constant = start_constant(&runtime, body)?;
    let contenders = vec![
        Contender::new("axum, constant", || load(constant, CONSTANT_PATH)),
        Contender::new("terrace service, L1 hit", || load(service, PATH)),
    ];
    table::print(&title, "requests per second", 0, &rounds::measure(&title, rounds, contenders)?);
    Ok(())
}

fn start_service(runtime: &Runtime) -> Result<SocketAddr> {
    let config = Config::load(&Sources::text("server.listen = '127.0.0.1:0'\nmetrics.interval = '1h'"))?;
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

/// Puts the entry, and returns the body of a hit in L1.
fn fill(service: SocketAddr) -> Result<String> {
    let value = format!("{{\"value\":\"{}\"}}", "v".repeat(VALUE_BYTES - 2));
    let length = value.len();
    let head = "content-type: application/json\r\n";
    let stored =
        request(service, &format!("PUT {PATH}"), &format!("{head}content-length: {length}\r\n"), &value)?;
    ensure!(stored.contains("\"success\":true"), "the value was not stored: {stored}");
    let answer = request(service, &format!("GET {PATH}"), "", "")?;
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

/// Requests per second that `wrk` gets answered, all of them with success.
fn load(address: SocketAddr, path: &str) -> Result<f64> {
    let output = Command::new("wrk")
        .args(["--threads", "1", "--connections", &CONNECTIONS.to_string()])
        .args(["--duration", &format!("{SECONDS}s"), &format!("http://{address}{path}")])
        .output()?;
    let report = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || report.contains("Non-2xx") || report.contains("Socket errors") {
        bail!("wrk met failures: {report}");
    }
    let line = report.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    Ok(line.context("wrk reports requests per second")?.trim().parse()?)
}
