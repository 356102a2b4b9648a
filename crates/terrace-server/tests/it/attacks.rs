//! Clients that mean harm, while another goes on: how long it takes until they are gone, and what the other notices. Figures are
//! printed; `TERRACE_TEST_ATTACKERS` sets another number of them.

use crate::authority::Authority;
use crate::support::{Client, Running, beside, start};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use terrace::Clock;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Attackers at a time in the short form.
const ATTACKERS: usize = 300;
/// Longest that an attacker may last.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long clients may take here, so that attackers are gone soon; longer for many, which share two cores with the service.
fn limits() -> String {
    let seconds = 1 + attackers() / 1_000;
    format!("server.header_timeout = '{seconds}s'\nserver.request_timeout = '{seconds}s'\n")
}

fn attackers() -> usize {
    std::env::var("TERRACE_TEST_ATTACKERS").ok().and_then(|text| text.parse().ok()).unwrap_or(ATTACKERS)
}

async fn pause(millis: u64) {
    tokio::time::timeout(Duration::from_millis(millis), std::future::pending::<()>()).await.ok();
}

/// The 99th percentile, in milliseconds.
fn p99(mut times: Vec<Duration>) -> f64 {
    times.sort();
    let place = times.len().saturating_sub(1) * 99 / 100;
    times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// Somebody who reads an entry again and again, on one connection.
struct Reader {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Vec<Duration>>,
}

impl Reader {
    fn of<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(mut client: Client<S>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = beside(async move {
            let (clock, mut times) = (Clock::system(), Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                let begun = clock.precise();
                assert_eq!(client.ask("", "GET", "/api/cache/a", "").await.status, 200);
                times.push(clock.precise().since(begun));
                pause(2).await;
            }
            times
        });
        Self { stop, task }
    }

    /// How many reads there were, and the 99th percentile of what they took, in milliseconds.
    async fn end(self) -> (usize, f64) {
        self.stop.store(true, Ordering::Relaxed);
        let times = self.task.await.expect("every read was answered");
        (times.len(), p99(times))
    }
}

/// What comes until the connection ends, and after which time it does.
async fn until_end(stream: &mut (impl AsyncRead + Unpin)) -> (Vec<u8>, Duration) {
    let (clock, mut bytes) = (Clock::system(), Vec::new());
    let begun = clock.precise();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it is cut off").ok();
    (bytes, clock.precise().since(begun))
}

/// Sends a beginning and then a byte now and then, until the connection ends.
async fn drip(
    service: std::net::SocketAddr,
    beginning: &'static [u8],
    drop: &'static [u8],
) -> (Vec<u8>, Duration) {
    let Ok(stream) = TcpStream::connect(service).await else { return (Vec::new(), Duration::ZERO) };
    let (mut reader, mut writer) = stream.into_split();
    let dripping = beside(async move {
        let mut next = beginning;
        while writer.write_all(next).await.is_ok() {
            next = drop;
            pause(100 * attackers().div_ceil(ATTACKERS) as u64).await;
        }
    });
    let ended = until_end(&mut reader).await;
    dripping.abort();
    ended
}

/// Lets attackers at a service, all at the same time, and prints what came of it.
async fn attack<F>(name: &str, service: &Running, reader: Reader, one: impl Fn() -> F) -> Vec<Vec<u8>>
where
    F: Future<Output = (Vec<u8>, Duration)> + Send + 'static,
{
    let all: Vec<_> = (0..attackers()).map(|_| beside(one())).collect();
    let (mut answers, mut longest) = (Vec::new(), Duration::ZERO);
    for attacker in all {
        let (answer, lasted) = attacker.await.expect("no panic");
        answers.push(answer);
        longest = longest.max(lasted);
    }
    let (reads, p99) = reader.end().await;
    println!(
        "{name}: {} attackers, all gone after {:.1} s at most; meanwhile {reads} reads, p99 {p99:.2} ms",
        answers.len(),
        longest.as_secs_f64()
    );
    assert!(reads > 20, "the reader was kept from reading: {reads}");
    assert_eq!(service.get("/livez").await.status, 200);
    answers
}

async fn plain(more: &str) -> (Running, Reader) {
    let service = start(&format!("{}{more}", limits())).await;
    assert_eq!(service.put("/api/cache/a", "{\"value\":1}").await.status, 200);
    let reader = Reader::of(Client::of(&service).await);
    (service, reader)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_drip_are_cut_off() {
    let (service, reader) = plain("").await;
    let to = service.address;
    let head: &[u8] = b"GET /api/cache/a HTTP/1.1\r\nhost: x\r\nx-slow: ";
    let answers = attack("heads that drip", &service, reader, || drip(to, head, b"x")).await;
    assert!(answers.iter().all(|answer| !answer.starts_with(b"HTTP/1.1 200")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_drip_are_answered_with_408() {
    let (service, reader) = plain("").await;
    let to = service.address;
    let head: &[u8] = b"PUT /api/cache/b HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n";
    let answers = attack("bodies that drip", &service, reader, || drip(to, head, b"x")).await;
    let late = answers.iter().filter(|answer| answer.starts_with(b"HTTP/1.1 408")).count();
    let turned_away = answers.iter().filter(|answer| answer.starts_with(b"HTTP/1.1 503")).count();
    println!("bodies that drip: {late} answered 408, {turned_away} answered 503");
    assert!(late > 0 && late + turned_away > answers.len() / 2, "{late} {turned_away}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_are_cut_off() {
    let (service, reader) = plain("").await;
    let to = service.address;
    let answers = attack("connections without a byte", &service, reader, move || async move {
        match TcpStream::connect(to).await {
            Ok(mut stream) => until_end(&mut stream).await,
            Err(_) => (Vec::new(), Duration::ZERO),
        }
    });
    assert!(answers.await.iter().all(Vec::is_empty));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_are_not_made_are_cut_off() {
    let authority = Authority::new();
    let service = start(&(limits() + &authority.toml(""))).await;
    let stream = authority.connect(service.address, "http/1.1", None).await.expect("a handshake");
    let mut client = Client::over(stream);
    assert_eq!(client.ask("", "PUT", "/api/cache/a", "{\"value\":1}").await.status, 200);
    let (to, reader) = (service.address, Reader::of(client));
    let all: Vec<_> = (0..attackers()).map(|_| beside(drip(to, &[22, 3, 1, 2, 0], &[1]))).collect();
    let mut longest = Duration::ZERO;
    for one in all {
        longest = longest.max(one.await.expect("no panic").1);
    }
    let (reads, p99) = reader.end().await;
    println!(
        "handshakes that drip: {} attackers, all gone after {:.1} s at most; meanwhile {reads} reads, p99 {p99:.2} ms",
        attackers(),
        longest.as_secs_f64()
    );
    assert!(longest < Duration::from_secs(10) && reads > 20, "{longest:?} {reads}");
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `GET / https a`, in HPACK.
const GET: &[u8] = &[0x82, 0x87, 0x84, 0x41, 1, b'a'];
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

/// Whether there is a frame of a kind in what a service sent.
fn has_frame(mut bytes: &[u8], kind: u8) -> bool {
    while let [a, b, c, own, rest @ ..] = bytes {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        if *own == kind {
            return true;
        }
        bytes = rest.get(5 + length..).unwrap_or_default();
    }
    false
}

/// Sends frames without end; says how many went out, and whether the service has said goodbye.
async fn flood(name: &str, first: Vec<u8>, next: impl Fn(u32) -> Vec<u8>) {
    /// More than any of them should get.
    const ROUNDS_MAX: u32 = 200_000;
    let authority = Authority::new();
    let service = start(&(limits() + &authority.toml(""))).await;
    let stream = authority.connect(service.address, "http/1.1", None).await.expect("a handshake");
    let mut client = Client::over(stream);
    assert_eq!(client.ask("", "PUT", "/api/cache/a", "{\"value\":1}").await.status, 200);
    let reader = Reader::of(client);
    pause(200).await;
    let stream = authority.connect(service.address, "h2", None).await.expect("a handshake");
    let (mut from, mut to) = tokio::io::split(stream);
    let heard = beside(async move { until_end(&mut from).await.0 });
    let (clock, mut rounds) = (Clock::system(), 0);
    let begun = clock.precise();
    let mut sent = to.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &first].concat()).await;
    while sent.is_ok() && rounds < ROUNDS_MAX {
        let many: Vec<u8> = (rounds..rounds + 100).flat_map(&next).collect();
        sent = to.write_all(&many).await;
        rounds += 100;
    }
    let lasted = clock.precise().since(begun);
    drop(to);
    let heard = heard.await.expect("no panic");
    let (reads, p99) = reader.end().await;
    println!(
        "{name}: cut off after {rounds} rounds and {:.2} s; meanwhile {reads} reads, p99 {p99:.2} ms",
        lasted.as_secs_f64()
    );
    assert!(rounds < ROUNDS_MAX, "it goes on for ever");
    assert!(has_frame(&heard, GOAWAY), "{} bytes heard", heard.len());
    assert_eq!(reader_after(&authority, &service).await, 200);
}

async fn reader_after(authority: &Authority, service: &Running) -> u16 {
    let stream = authority.connect(service.address, "http/1.1", None).await.expect("a handshake");
    Client::over(stream).ask("", "GET", "/livez", "").await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_reset_at_once_end_the_connection() {
    flood("rapid reset", Vec::new(), |round| {
        let stream = 2 * round + 1;
        [frame(HEADERS, 0x5, stream, GET), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_without_an_end_end_the_connection() {
    flood("continuation flood", frame(HEADERS, 0x1, 1, GET), |_| {
        // A literal header that is not indexed, `x: y`.
        frame(CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y'])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_work_than_there_is_room_for_is_turned_away_and_the_rest_is_done() {
    const PLACES: usize = 16;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.db");
    rusqlite::Connection::open(&file).and_then(|c| c.execute_batch("create table t (a)")).expect("a table");
    let service = start(&format!(
        "server.max_requests = {PLACES}\norigin.slow = {{ type = 'sqlite', file = '{}', delay = '20ms' }}\n\
         [keyspace.slow]\npattern = 'slow:{{a}}'\nsource = {{ origin = 'slow', load = 'select a from t where a = :a' }}\n",
        file.display()
    ))
    .await;
    let load = async |clients: usize, name: &'static str| {
        let address = service.address;
        let one = move |client: usize| async move {
            let mut connection = Client::over(TcpStream::connect(address).await.expect("it listens"));
            let (clock, mut done, mut shed) = (Clock::system(), Vec::new(), 0_u64);
            let begun = clock.precise();
            for round in 0_u64.. {
                let asked = clock.precise();
                if asked.since(begun) > Duration::from_secs(2) {
                    break;
                }
                let answer =
                    connection.ask("", "GET", &format!("/api/cache/slow:{name}{client}-{round}"), "").await;
                match answer.status {
                    404 => done.push(clock.precise().since(asked)),
                    503 => {
                        assert_eq!(answer.header("retry-after"), Some("1"));
                        shed += 1;
                        pause(10).await;
                    }
                    other => panic!("{other}: {answer:?}"),
                }
            }
            (done, shed)
        };
        let all: Vec<_> = (0..clients).map(|client| beside(one(client))).collect();
        let (mut done, mut shed) = (Vec::new(), 0);
        for client in all {
            let (own, turned_away) = client.await.expect("no panic");
            done.extend(own);
            shed += turned_away;
        }
        let good = done.len() as f64 / 2.0;
        let share = shed as f64 / (shed as f64 + done.len() as f64);
        let p99 = p99(done);
        println!(
            "{clients} clients for {PLACES} places: {good:.0}/s done, {:.0} % turned away, p99 of what was done {p99:.1} ms",
            share * 100.0
        );
        (good, share, p99)
    };
    let (good, _, _) = load(PLACES, "a").await;
    let (good_of_more, turned_away, p99) = load(PLACES * 5, "b").await;
    assert!(turned_away > 0.1, "{turned_away}");
    assert!(good_of_more > good / 2.0, "goodput fell from {good} to {good_of_more}");
    assert!(p99 < 1_000.0, "{p99}");
}
