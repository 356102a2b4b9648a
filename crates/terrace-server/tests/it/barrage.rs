//! A great many random requests over kept connections: each is answered whole, none by a 5xx but to say that there is too much to do,
//! and the memory of the process does not grow.
//!
//! `TERRACE_TEST_REQUESTS` says how many, `TERRACE_TEST_SEED` from which seed on; both are printed.

use crate::limits::database;
use crate::support::{Answer, Running, start};
use std::collections::BTreeMap;
use std::time::Duration;
use terrace::Chance;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// How many requests there are, unless told otherwise.
const REQUESTS: u64 = 20_000;
/// From so many on it is judged whether memory grows.
const REQUESTS_TO_JUDGE: u64 = 100_000;
/// Longest that any answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often memory is looked at.
const SAMPLES: u64 = 40;

const PATHS: [&str; 39] = [
    "/api/cache/{}",
    "/api/cache/{}",
    "/api/cache/{}",
    "/api/cache/user:{}",
    "/api/cache/user:{}",
    "/api/cache/late:{}",
    "/api/cache?key={}",
    "/api/cache",
    "/api/cache/",
    "/api/cache/invalidate",
    "/api/cache/refresh",
    "/api/cache/batch",
    "/api/cache/why/{}",
    "/api/cache/why?key={}",
    "/api/cache/hot?limit={}",
    "/api/cache/hot?keyspace={}",
    "/api/cache/behind?keyspace={}",
    "/api/cache/behind",
    "/api/cache/behind/late/writes/{}",
    "/api/cache/behind/late/flush",
    "/api/cache/behind/{}/retry",
    "/api/cache/behind/late/retry",
    "/api/cache/behind/late/drop",
    "/api/cache/keys?pattern={}",
    "/api/cache/keys?cursor={}",
    "/api/cache/keys?limit={}&tier={}",
    "/api/cache/keyspaces",
    "/api/cache/breakers",
    "/api/cache/latencies",
    "/api/cache/bus",
    "/api/cache/capacity",
    "/api/cache/history",
    "/api/cache/metrics?verbose={}",
    "/v1/keys/{}",
    "/metrics",
    "/readyz?{}",
    "/problems/{}",
    "/openapi.json",
    "/{}",
];

const METHODS: [&str; 12] =
    ["GET", "GET", "GET", "HEAD", "PUT", "PUT", "POST", "POST", "DELETE", "PATCH", "OPTIONS", "X"];

const HEADERS: [&str; 18] = [
    "accept: application/json",
    "accept: {}",
    "accept-encoding: zstd",
    "authorization: Bearer {}",
    "authorization: {}",
    "cache-control: no-cache",
    "cache-control: max-age={}, {}",
    "cache-control: only-if-cached",
    "cache-groups: \"{}\"",
    "content-type: application/json",
    "content-type: {}",
    "content-encoding: {}",
    "if-match: \"{}\"",
    "if-none-match: *",
    "if-none-match: {}",
    "last-event-id: {}",
    "range: bytes={}-",
    "x-{}: {}",
];

const WORDS: [&str; 26] = [
    "a",
    "b",
    "1",
    "2",
    "user:1",
    "late:1",
    "users",
    "default",
    "l1",
    "l2",
    "0",
    "-1",
    "18446744073709551616",
    "1e9",
    "true",
    "*",
    "[",
    "\\\\",
    "k?*",
    "never",
    "5m",
    "6c31",
    "64656661756c742f6c31",
    "internal",
    "..",
    "caf\u{e9}",
];

/// What is drawn from a seed.
struct Dice(Chance);

impl Dice {
    fn below(&self, bound: usize) -> usize {
        usize::try_from(self.0.below(bound as u64)).expect("it is below a usize")
    }

    fn one<'a, T: ?Sized>(&self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn is_one_in(&self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// A text for a key, a parameter, a header.
    fn word(&self) -> String {
        match self.below(8) {
            0 => "k".repeat(self.below(600)),
            1 => format!("k{}", self.below(2_000)),
            2 => (0..self.below(12))
                .map(|_| char::from(32 + u8::try_from(self.below(95)).expect("small")))
                .collect(),
            _ => self.one(&WORDS).to_owned(),
        }
    }

    /// `{}` replaced by words, which `quote` makes fit.
    fn filled(&self, form: &str, quote: impl Fn(&Self, &str) -> String) -> String {
        let mut parts = form.split("{}");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, rest| text + &quote(self, &self.word()) + rest)
    }

    fn target(&self) -> String {
        let encode = |dice: &Self, word: &str| {
            let byte = |byte: u8| match byte {
                b'a'..=b'z' | b'0'..=b'9' | b':' | b'*' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            };
            let encoded: String = word.bytes().map(byte).collect();
            if dice.is_one_in(20) {
                encoded + dice.one(&["%", "%f", "%ff", "%00", "%0d%0a", "&", "?", "/", "//", "+"])
            } else {
                encoded
            }
        };
        self.filled(self.one(&PATHS), encode)
    }

    fn json(&self, depth: usize) -> String {
        let name = |dice: &Self| {
            dice.one(&[
                "value", "ttl", "key", "keys", "tags", "pattern", "dry_run", "policy", "delay", "get", "set",
                "delete", "x",
            ])
        };
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0 => format!("{:?}", self.word()),
            1 => self.below(100_000).to_string(),
            2 => self
                .one(&[
                    "null",
                    "true",
                    "1.5e300",
                    "-0",
                    "[[[[[[]]]]]]",
                    "\"\\u0000\"",
                    "\"\\ud800\"",
                    "1e999",
                ])
                .to_owned(),
            3 | 4 => format!("{{\"value\":{},\"ttl\":{}}}", self.below(9), 1 + self.below(99)),
            5 => format!(
                "[{}]",
                (0..self.below(4)).map(|_| self.json(depth - 1)).collect::<Vec<_>>().join(",")
            ),
            _ => {
                let member = |_| format!("\"{}\":{}", name(self), self.json(depth - 1));
                format!("{{{}}}", (0..self.below(4)).map(member).collect::<Vec<_>>().join(","))
            }
        }
    }

    fn body(&self) -> Vec<u8> {
        match self.below(8) {
            0 => Vec::new(),
            1 => (0..self.below(64)).map(|_| u8::try_from(self.below(256)).expect("a byte")).collect(),
            2 => vec![b'['; self.below(2_000)],
            _ => self.json(3).into_bytes(),
        }
    }

    /// A method that the path may know.
    fn fitting(&self, target: &str) -> &'static str {
        let is_change = ["/invalidate", "/refresh", "/batch", "/flush", "/retry", "/drop"];
        if is_change.iter().any(|change| target.contains(change)) {
            return "POST";
        }
        self.one(&["GET", "GET", "HEAD", "PUT", "PUT", "DELETE"])
    }

    /// A method, and a request of it.
    fn request(&self) -> (&'static str, Vec<u8>) {
        let target = self.target();
        let method = if self.is_one_in(4) { self.one(&METHODS) } else { self.fitting(&target) };
        let mut request = format!("{method} {target} HTTP/1.1\r\nhost: test\r\n");
        for _ in 0..self.below(4) {
            let plain =
                |_: &Self, word: &str| word.chars().filter(char::is_ascii_graphic).collect::<String>();
            let line = self.filled(self.one(&HEADERS), plain);
            request.extend([line.as_str(), "\r\n"]);
        }
        let body = self.body();
        if self.is_one_in(10) {
            request += "transfer-encoding: chunked\r\n\r\n";
            let chunk = if body.is_empty() {
                Vec::new()
            } else {
                [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n"].concat()
            };
            return (method, [request.as_bytes(), &chunk, b"0\r\n\r\n"].concat());
        }
        request.extend(["content-length: ", &body.len().to_string(), "\r\n\r\n"]);
        (method, [request.as_bytes(), &body].concat())
    }
}

/// Sends a request over a connection, and reads its answer. Whether the connection can be used again.
async fn exchange(stream: &mut BufReader<TcpStream>, method: &str, request: &[u8]) -> Option<(Answer, bool)> {
    // The service may answer and close before it has read all.
    let _sent_or_refused = stream.write_all(request).await;
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    let head = Answer::parse(&bytes);
    if method == "HEAD" || head.status == 304 {
        let is_kept = head.header("connection") != Some("close");
        return Some((head, is_kept));
    }
    let length = head.header("content-length").map(|length| length.parse().expect("a number"));
    let from = bytes.len();
    bytes.resize(from + length.unwrap_or(0), 0);
    stream.read_exact(&mut bytes[from..]).await.ok()?;
    let is_kept = length.is_some() && head.header("connection") != Some("close");
    // A value that was stored raw is bytes of any kind.
    Some((Answer::parse(String::from_utf8_lossy(&bytes).as_bytes()), is_kept))
}

async fn connected(service: &Running) -> BufReader<TcpStream> {
    BufReader::new(TcpStream::connect(service.address).await.expect("it listens"))
}

/// What is wrong with an answer.
fn wrong(method: &str, answer: &Answer) -> Option<&'static str> {
    let is_shed = answer.status == 503 && answer.header("retry-after").is_some();
    // What a header asked for that cannot be: a condition that an origin cannot keep, an entry that no tier has and no origin may bring.
    let is_asked_for = ["condition_unsupported", "not_cached"]
        .iter()
        .any(|code| answer.body.contains(&format!("\"code\":\"{code}\"")));
    if answer.status >= 500 && !is_shed && !is_asked_for && method != "HEAD" {
        return Some("a 5xx");
    }
    if method != "HEAD" && answer.status >= 400 {
        if answer.header("content-type") != Some("application/problem+json") {
            return Some("an error that is no problem");
        }
        if serde_json::from_str::<serde_json::Value>(&answer.body).is_err() {
            return Some("a problem that is no JSON");
        }
    }
    None
}

/// Resident memory of this process; 0 where the system does not tell.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_barrage_of_requests_is_answered_and_leaves_nothing_behind() {
    let (_folder, file, _connection) = database();
    let journals = tempfile::tempdir().expect("a folder");
    let service = start(&format!(
        r#"
        l1.max_entries = 1000
        server.max_body = "1KiB"
        metrics.interval = "1h"
        origin.lite = {{ type = "sqlite", file = "{file}" }}
        write_behind = {{ path = "{}", interval = "50ms", ack = "memory", pending_max = 1000, dead_max = 100, attempts_max = 1 }}
        [keyspace.users]
        pattern = "user:{{id}}"
        source = {{ origin = "lite", load = "select * from users where id = :id" }}
        [keyspace.late]
        pattern = "late:{{id}}"
        strategy = "write-behind"
        [keyspace.late.source]
        origin = "lite"
        load = "select * from users where id = :id"
        store = "insert into users (id, name) values (:id, :value) on conflict (id) do update set name = excluded.name"
        delete = "delete from users where id = :id"
        "#,
        journals.path().join("w.journal").display()
    ))
    .await;
    let requests = from_environment("TERRACE_TEST_REQUESTS", REQUESTS);
    let seed = from_environment("TERRACE_TEST_SEED", 1);
    let dice = Dice(Chance::seeded(seed));
    let (mut stream, mut statuses, mut resident) =
        (connected(&service).await, BTreeMap::<u16, u64>::new(), Vec::new());
    for number in 0..requests {
        let (method, request) = dice.request();
        let answered = tokio::time::timeout(PATIENCE, async {
            if let Some(answered) = exchange(&mut stream, method, &request).await {
                return Some(answered);
            }
            // The connection was over since the last answer.
            stream = connected(&service).await;
            exchange(&mut stream, method, &request).await
        })
        .await;
        let said = || format!("seed {seed}, request {number}: {:?}", String::from_utf8_lossy(&request));
        let Some((answer, is_kept)) = answered.unwrap_or_else(|_| panic!("no answer in time to {}", said()))
        else {
            panic!("no answer to {}", said());
        };
        if let Some(what) = wrong(method, &answer) {
            panic!("{what} to {}: {answer:?}", said());
        }
        *statuses.entry(answer.status).or_default() += 1;
        if !is_kept {
            stream = connected(&service).await;
        }
        if number % (requests / SAMPLES).max(1) == 0 {
            resident.push(resident_kib());
        }
    }
    let (first, last) = resident.split_at(resident.len() / 2);
    let (first, last) = (first.iter().max().copied().unwrap_or(0), last.iter().max().copied().unwrap_or(0));
    println!(
        "{requests} requests from seed {seed}: {statuses:?}; at most {first} KiB resident in the first half, {last} in the last"
    );
    assert!([200, 404, 405, 422].iter().all(|status| statuses.contains_key(status)), "{statuses:?}");
    if requests >= REQUESTS_TO_JUDGE {
        assert!(last <= first + first / 10 + 4096, "{resident:?}");
    }
    assert_eq!(service.get("/livez").await.status, 200);
}
