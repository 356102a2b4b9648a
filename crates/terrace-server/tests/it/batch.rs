//! Many entries in one request.

use crate::support::{Running, start, token};
use serde_json::Value;
use terrace_testkit::server::{RedisServer, redis_url, unique_prefix};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn batch(service: &Running, body: &str) -> Value {
    let answer = service.post("/api/cache/batch", body).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{answer:?}");
    serde_json::from_str(&answer.body).expect("JSON")
}

/// Status and key of each answer to a kind of item.
fn statuses(answer: &Value, kind: &str) -> Vec<(u64, String)> {
    let of = |item: &Value| {
        (item["status"].as_u64().expect("a status"), item["key"].as_str().unwrap_or("-").to_owned())
    };
    answer[kind].as_array().expect("a list").iter().map(of).collect()
}

fn pairs(of: &[(u64, &str)]) -> Vec<(u64, String)> {
    of.iter().map(|(status, key)| (*status, (*key).to_owned())).collect()
}

#[tokio::test]
async fn every_item_has_an_answer_of_its_own_and_in_order() {
    let service = start("keyspace.users.pattern = 'user:{id}'\ndefaults.max_value = '16'").await;
    let body = r#"{"set":[{"key":"user:1","value":{"n":1},"ttl":60,"tags":["t"]},{"key":"b","value":2},{"key":"","value":3},
        {"key":"big","value":"0123456789abcdef"},{"key":"b","value":4},{"key":"b","value":5,"if_absent":true},{"value":6},
        {"key":"bin","value":"AP8=","encoding":"base64"}]}"#;
    let set = batch(&service, body).await;
    let expected = pairs(&[
        (200, "user:1"),
        (200, "b"),
        (400, ""),
        (413, "big"),
        (200, "b"),
        (412, "b"),
        (422, "-"),
        (200, "bin"),
    ]);
    assert_eq!(statuses(&set, "set"), expected, "{set}");
    assert!(set["set"][0]["expires_at"].is_string() && set["set"][3]["code"] == "value_too_large", "{set}");

    let all =
        batch(&service, r#"{"get":["b","none","user:1","a\u0000","b","bin"],"delete":["b","none"]}"#).await;
    let expected =
        pairs(&[(200, "b"), (404, "none"), (200, "user:1"), (400, "a\0"), (200, "b"), (200, "bin")]);
    assert_eq!(statuses(&all, "get"), expected, "{all}");
    assert_eq!(
        (&all["get"][0]["value"], &all["get"][0]["source"]),
        (&4.into(), &"l1".into()),
        "the last write of a key wins"
    );
    assert_eq!(all["get"][1]["code"], "key_not_found");
    assert_eq!(all["get"][2]["value"]["n"], 1);
    assert_eq!(all["get"][5]["encoding"], "base64");
    assert_eq!(statuses(&all, "delete"), pairs(&[(200, "b"), (200, "none")]));
    assert_eq!((&all["delete"][0]["deleted"], &all["delete"][1]["deleted"]), (&true.into(), &false.into()));
    assert_eq!(batch(&service, "{}").await, serde_json::json!({"get": [], "set": [], "delete": []}));
}

#[tokio::test]
async fn a_batch_has_bounds() {
    let service = start("").await;
    let keys: Vec<String> = (0..1001).map(|n| format!("\"{n}\"")).collect();
    let most = batch(&service, &format!("{{\"get\":[{}]}}", keys[1..].join(","))).await;
    assert_eq!(most["get"].as_array().map(Vec::len), Some(1000));
    let more = service.post("/api/cache/batch", &format!("{{\"get\":[{}]}}", keys.join(","))).await;
    assert!(more.problem(422, "body_invalid").contains("1000"));
    for (body, status, code) in [
        ("", 400, "body_malformed"),
        ("{\"put\":[]}", 422, "body_invalid"),
        ("{\"get\":1}", 422, "body_invalid"),
    ] {
        service.post("/api/cache/batch", body).await.problem(status, code);
    }
    service.get("/api/cache/batch").await.problem(405, "method_not_allowed");
}

/// The lines of an answer in chunks.
fn lines(body: &str) -> Vec<Value> {
    let mut lines = Vec::new();
    let mut rest = body;
    let mut whole = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).expect("the size of a chunk");
        if size == 0 {
            break;
        }
        whole.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    for line in whole.lines() {
        lines.push(serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")));
    }
    lines
}

#[tokio::test]
async fn lines_are_answered_by_lines_in_their_order() {
    let service = start("").await;
    let body = "{\"set\":{\"key\":\"a\",\"value\":1}}\n{\"get\":\"a\"}\r\n\n{\"get\":\"none\"}\nnonsense\n\
        {\"set\":{\"key\":\"a\",\"value\":2}}\n{\"get\":\"a\"}\n{\"delete\":\"a\"}\n{\"get\":\"a\"}";
    let answer = service
        .send_with("POST", "/api/cache/batch", &["content-type: application/x-ndjson"], body.as_bytes())
        .await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/x-ndjson")),
        "{answer:?}"
    );
    let lines = lines(&answer.body);
    let told: Vec<_> =
        lines.iter().map(|line| format!("{} {} {}", line["op"], line["status"], line["value"])).collect();
    let expected = [
        "\"set\" 200 null",
        "\"get\" 200 1",
        "\"get\" 404 null",
        "\"line\" 400 null",
        "\"set\" 200 null",
        "\"get\" 200 2",
        "\"delete\" 200 null",
        "\"get\" 404 null",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_long_stream_is_whole() {
    let service = start("").await;
    let lines_of = |line: fn(u32) -> String| (0..2000).map(line).collect::<Vec<_>>().join("\n");
    let sets = lines_of(|n| format!("{{\"set\":{{\"key\":\"{n}\",\"value\":{n}}}}}"));
    let gets = lines_of(|n| format!("{{\"get\":\"{n}\"}}"));
    let body = format!("{sets}\n{gets}");
    let answer = service
        .send_with("POST", "/api/cache/batch", &["content-type: application/x-ndjson"], body.as_bytes())
        .await;
    let lines = lines(&answer.body);
    assert_eq!(lines.len(), 4000);
    for (n, line) in lines[2000..].iter().enumerate() {
        assert_eq!((&line["key"], &line["value"]), (&n.to_string().into(), &n.into()));
    }
}

#[tokio::test]
async fn a_batch_reads_what_another_service_has_stored() {
    let Some(url) = redis_url().await else { return };
    let toml = format!("[l2]\nurl = '{url}'\nkey_prefix = '{}'\n", unique_prefix());
    let (one, two) = (start(&toml).await, start(&toml).await);
    let set: Vec<String> = (0..200).map(|n| format!("{{\"key\":\"{n}\",\"value\":{n}}}")).collect();
    batch(&one, &format!("{{\"set\":[{}]}}", set.join(","))).await;
    let keys: Vec<String> = (0..200).map(|n| format!("\"{n}\"")).collect();
    let got = batch(&two, &format!("{{\"get\":[{}]}}", keys.join(","))).await;
    for (n, item) in got["get"].as_array().expect("a list").iter().enumerate() {
        assert_eq!((&item["value"], &item["source"]), (&n.into(), &"l2".into()));
    }
}

#[tokio::test]
async fn without_redis_a_batch_says_what_is_queued() {
    let Some(redis) = RedisServer::start().await else { return };
    let toml = format!(
        "[l2]\nurl = '{}'\nkey_prefix = 'x:'\ntimeouts = {{ connect = '1s', read = '1s', write = '1s' }}\n",
        redis.url()
    );
    let service = start(&toml).await;
    batch(&service, r#"{"set":[{"key":"a","value":1}]}"#).await;
    redis.kill();
    let all = batch(&service, r#"{"get":["a"],"set":[{"key":"b","value":2}]}"#).await;
    assert_eq!(
        (&all["get"][0]["status"], &all["set"][0]["effect"]),
        (&200.into(), &"queued".into()),
        "{all}"
    );
}

#[tokio::test]
async fn each_item_needs_the_scope_that_it_needs_by_itself() {
    const READER: &str = "reads-users-0123456789";
    const BOTH: &str = "reads-and-writes-users-0123456789";
    let tokens = token("reader", READER, "scopes = ['read:user:*']")
        + &token("both", BOTH, "scopes = ['read:user:*', 'write:user:*']");
    let service = start(&tokens).await;
    let body = r#"{"get":["user:1","order:1"],"set":[{"key":"user:1","value":1},{"key":"order:1","value":1}],"delete":["order:1"]}"#;
    for (token, set) in [(READER, 403), (BOTH, 200)] {
        let answer = service.with(token, "POST", "/api/cache/batch", body).await;
        let told: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(statuses(&told, "get"), pairs(&[(404, "user:1"), (403, "order:1")]), "{told}");
        assert_eq!(statuses(&told, "set"), pairs(&[(set, "user:1"), (403, "order:1")]), "{told}");
        assert_eq!(statuses(&told, "delete"), pairs(&[(403, "order:1")]), "{told}");
    }
    let lines = "{\"get\":\"order:1\"}\n{\"delete\":\"user:1\"}\n{\"get\":\"user:1\"}\n";
    let head = format!("authorization: Bearer {READER}");
    let lines_in = ["content-type: application/x-ndjson", &head];
    let answer = service.send_with("POST", "/api/cache/batch", &lines_in, lines.as_bytes()).await;
    let told: Vec<_> = self::lines(&answer.body).iter().map(|line| line["status"].clone()).collect();
    assert_eq!(told, [403, 403, 200]);
    service.post("/api/cache/batch", body).await.problem(401, "unauthorized");
}

/// The most memory that this process has taken, in KiB; 0 where the system does not tell.
fn resident_max_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
}

/// Sends a batch on a connection of its own.
async fn send(service: &Running, lines: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(service.address).await.expect("it listens");
    let length = body.len();
    let head = format!(
        "POST /api/cache/batch HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{lines}content-length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.expect("sent");
    stream
}

/// Reads to the end, keeps nothing, and says how many bytes came and how many answers had which status.
async fn counted(mut stream: TcpStream, statuses: [&str; 2]) -> (usize, [usize; 2]) {
    let (mut bytes, mut counts, mut left) = (0, [0; 2], Vec::with_capacity(1 << 20));
    while stream.read_buf(&mut left).await.expect("it answers") > 0 {
        // What could be the beginning of a status stays.
        let text = String::from_utf8_lossy(&left).into_owned();
        let kept = left.len().min(statuses[0].len() - 1);
        for (count, status) in counts.iter_mut().zip(statuses) {
            *count += text.matches(status).count();
        }
        bytes += left.len() - kept;
        left.drain(..left.len() - kept);
    }
    (bytes + left.len(), counts)
}

const STATUSES: [&str; 2] = ["\"status\":200", "\"status\":413"];

#[tokio::test]
async fn an_answer_takes_no_more_memory_than_it_may_have_bytes() {
    const ITEMS: usize = 1_000;
    // As many as are made together.
    const LINES: usize = 256;
    let service = start("").await;
    let big = "v".repeat(1_000_000);
    let put = service.put("/api/cache/big", &format!("{{\"value\":\"{big}\"}}")).await;
    assert_eq!(put.status, 200);
    let before = resident_max_kib();
    let lines = "{\"get\":\"big\"}\n".repeat(LINES);
    let stream = send(&service, "content-type: application/x-ndjson\r\n", &lines).await;
    let (bytes, counts) = counted(stream, STATUSES).await;
    assert_eq!((bytes > LINES * big.len(), counts), (true, [LINES, 0]), "lines have no such bound");
    let of_lines = resident_max_kib() - before;

    let keys = vec!["\"big\""; ITEMS - 1].join(",");
    let body = format!("{{\"get\":[{keys}],\"set\":[{{\"key\":\"k\",\"value\":1}}]}}");
    let (bytes, [made, too_large]) = counted(send(&service, "", &body).await, STATUSES).await;
    let of_object = resident_max_kib() - before;
    println!("{of_lines} KiB for lines, {of_object} KiB for an object, of {bytes} bytes");
    assert_eq!(
        (made, too_large),
        (67 + 1, ITEMS - 1 - 67),
        "what was stored is said to be, also without room"
    );
    assert!(bytes < 65 << 20, "{bytes}");
    assert!(of_lines < 64 << 10, "{of_lines} KiB");
    // An answer of 64 MiB, and as much again while its room grows.
    assert!(of_object < 256 << 10, "{of_object} KiB");
}

#[tokio::test]
async fn lines_that_come_up_after_their_token_is_gone_are_refused_and_not_done() {
    const LINES: usize = 2_000;
    let scopes = "scopes = ['read:*', 'write:*']";
    let (one, other) = (token("one", "one", scopes), token("other", "other", scopes));
    let service = start(&format!("{one}{other}")).await;
    let large = format!("{{\"value\":\"{}\"}}", "v".repeat(100_000));
    assert_eq!(service.with("one", "PUT", "/api/cache/large", &large).await.status, 200);
    let body = "{\"get\":\"large\"}\n".repeat(LINES) + "{\"set\":{\"key\":\"last\",\"value\":1}}\n";
    let lines = "content-type: application/x-ndjson\r\nauthorization: Bearer one\r\n";
    let mut stream = send(&service, lines, &body).await;
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.expect("it begins to answer");
    assert!(first.ends_with(b"200"), "200 MB are not in the buffers of a socket");
    service.reload(&other).await.expect("a token may go");
    let (_, [made, refused]) = counted(stream, ["\"status\":200", "\"status\":401"]).await;
    println!("{made} made, {refused} refused");
    assert_eq!((made + refused, refused > 1), (LINES + 1, true));
    assert_eq!(service.with("other", "GET", "/api/cache/last", "").await.status, 404, "it was not stored");
}
