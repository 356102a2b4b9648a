//! What clients should not send: refused with the right words, and survived.

use crate::support::{Answer, Running, beside, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn memory() -> Running {
    start("defaults.max_value = '64KiB'").await
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused_with_the_place() {
    let service = memory().await;
    for (body, words) in [
        ("", "there is no body"),
        ("{", "line 1 column 1"),
        ("{\"value\": }", "line 1 column 11"),
        ("{\"value\":1}\nx", "line 2 column 1"),
        ("{\"value\":'a'}", "line 1 column 10"),
        ("{\"value\":NaN}", "line 1 column 10"),
        ("{'value':1}", "line 1 column 2"),
    ] {
        let detail = service.put("/api/cache/a", body).await.problem(400, "body_malformed");
        assert!(detail.contains(words), "{body}: {detail}");
    }
    let invalid_utf8 = service.send_bytes("PUT", "/api/cache/a", b"{\"value\":\"\xff\"}").await;
    invalid_utf8.problem(400, "body_malformed");
}

#[tokio::test]
async fn bodies_of_another_form_are_refused() {
    let service = memory().await;
    for (body, words) in [
        ("{}", "missing field `value`"),
        ("[]", "an object with the member `value`"),
        ("7", "an object with the member `value`"),
        (r#"{"value":1,"tll":5}"#, "unknown field `tll`"),
        (r#"{"value":1,"value":2}"#, "duplicate field `value`"),
        (r#"{"value":1,"ttl":-1}"#, "expected a duration"),
        (r#"{"value":1,"ttl":1.5}"#, "expected a duration"),
        (r#"{"value":1,"ttl":1e400}"#, ""),
        (r#"{"value":1,"ttl":"soon"}"#, "expected a duration"),
        (r#"{"value":1,"ttl":true}"#, "expected a duration"),
        (r#"{"value":1,"ttl":[]}"#, "expected a duration"),
        (r#"{"value":1,"key":7}"#, "invalid type: integer"),
        (r#"{"value":1,"tags":"a"}"#, "invalid type: string"),
        (r#"{"value":1,"tags":[""]}"#, "the tag is empty"),
        (r#"{"value":1,"tags":["a\u0000"]}"#, "the tag contains"),
    ] {
        let answer = service.put("/api/cache/a", body).await;
        if words.is_empty() {
            assert!((400..500).contains(&answer.status), "{body}: {answer:?}");
            continue;
        }
        let detail = answer.problem(422, "body_invalid");
        assert!(detail.contains(words), "{body}: {detail}");
    }
    let many: Vec<String> = (0..33).map(|number| format!("\"t{number}\"")).collect();
    let body = format!(r#"{{"value":1,"tags":[{}]}}"#, many.join(","));
    service.put("/api/cache/a", &body).await.problem(422, "body_invalid");
}

#[tokio::test]
async fn a_key_in_the_body_must_agree_with_the_path() {
    let service = memory().await;
    assert_eq!(service.put("/api/cache/a%2Fb", r#"{"value":1,"key":"a/b"}"#).await.status, 200);
    let detail = service.put("/api/cache/a", r#"{"value":1,"key":"b"}"#).await.problem(422, "key_mismatch");
    assert_eq!(detail, "the path names a, and the body b");
    let long = format!(r#"{{"value":1,"key":"{}"}}"#, "é".repeat(1000));
    let detail = service.put("/api/cache/a", &long).await.problem(422, "key_mismatch");
    assert!(detail.len() < 300, "{detail}");
}

#[tokio::test]
async fn keys_that_cannot_be_are_refused() {
    let service = memory().await;
    let too_long = "k".repeat(513);
    for (key, code) in [
        ("", "key_empty"),
        ("%00", "key_character"),
        ("a%0d%0aset-cookie:%20x", "key_character"),
        ("%c2%85", "key_character"),
        ("%ff%fe", "key_encoding"),
        (too_long.as_str(), "key_too_long"),
    ] {
        for method in ["GET", "DELETE", "PUT"] {
            let answer = service.send(method, &format!("/api/cache/{key}"), r#"{"value":1}"#).await;
            answer.problem(400, code);
            assert!(!answer.head.contains("set-cookie"), "{answer:?}");
        }
    }
    assert_eq!(service.put(&format!("/api/cache/{}", &too_long[1..]), r#"{"value":1}"#).await.status, 200);
}

#[tokio::test]
async fn a_key_of_100_kb_is_a_problem_like_any_other() {
    let service = memory().await;
    let key = "k".repeat(100 << 10);
    for method in ["GET", "PUT", "DELETE"] {
        service.send(method, &format!("/api/cache/{key}"), "").await.problem(414, "uri_too_long");
    }
    service.get(&format!("/api/cache?key={key}")).await.problem(414, "uri_too_long");
    for length in [10, 30, 40, 60, 70, 300, 1000] {
        let long = "k".repeat(length << 10);
        let answer = service.get(&format!("/api/cache/{long}")).await;
        let (status, code) = if length < 32 { (400, "key_too_long") } else { (414, "uri_too_long") };
        answer.problem(status, code);
    }
    let body = format!(r#"{{"keys":["{key}"]}}"#);
    let detail = service.post("/api/cache/invalidate", &body).await.problem(422, "body_invalid");
    assert_eq!(detail, "key number 1: the key has 102400 bytes, and at most 512 are allowed");
}

#[tokio::test]
async fn heads_that_are_too_large_or_no_http_are_problems_too() {
    let service = memory().await;
    let large = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "x".repeat(40 << 10));
    service.raw(large.as_bytes()).await.problem(431, "head_too_large");
    let many = format!("GET /livez HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-many: 1\r\n".repeat(200));
    service.raw(many.as_bytes()).await.problem(431, "head_too_large");
    for nonsense in
        ["\x16\x03\x01\x02\n\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\0\0\0\0\r\n\r\n"]
    {
        service.raw(nonsense.as_bytes()).await.problem(400, "malformed_request");
    }
}

#[tokio::test]
async fn values_have_a_size_limit() {
    let service = memory().await;
    let fits = "x".repeat((64 << 10) - 2);
    assert_eq!(service.put("/api/cache/a", &format!("{{\"value\":\"{fits}\"}}")).await.status, 200);
    let detail = service
        .put("/api/cache/a", &format!("{{\"value\":\"{fits}x\"}}"))
        .await
        .problem(413, "value_too_large");
    assert_eq!(detail, "the value has 65537 bytes, and at most 65536 are allowed");
    assert_eq!(service.get("/api/cache/a").await.status, 200, "the old value is kept");
}

#[tokio::test]
async fn bodies_may_be_as_large_as_configured() {
    let service = start("server.max_body = '6MiB'\ndefaults.max_value = '5MiB'").await;
    let body = format!("{{\"value\":\"{}\"}}", "x".repeat((5 << 20) - 2));
    assert_eq!(service.put("/api/cache/a", &body).await.status, 200);
    assert!(service.get("/api/cache/a").await.body.starts_with(&body[..body.len() - 1]));
    let body = format!("{body}{}", " ".repeat(2 << 20));
    service.put("/api/cache/a", &body).await.problem(413, "body_too_large");
}

#[tokio::test]
async fn values_have_a_depth_limit() {
    let service = start("defaults.max_value = '1MiB'").await;
    let nested = |depth: usize| format!("{{\"value\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(service.put("/api/cache/a", &nested(127)).await.status, 200);
    service.put("/api/cache/a", &nested(128)).await.problem(422, "value_invalid");
    service.put("/api/cache/a", &nested(100_000)).await.problem(422, "value_invalid");
    let objects = format!("{{\"value\":{}1{}}}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    service.put("/api/cache/a", &objects).await.problem(422, "value_invalid");
    let answer = service.post("/api/cache/invalidate", &"[".repeat(100_000)).await;
    assert!((400..500).contains(&answer.status), "{answer:?}");
    let answer = service.put("/api/cache/a", &format!("{{\"tags\":{}", "[".repeat(100_000))).await;
    assert!((400..500).contains(&answer.status), "{answer:?}");
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_not_read() {
    let service = memory().await;
    let head = format!("PUT /api/cache/a HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 100 << 20);
    service.raw(head.as_bytes()).await.problem(413, "body_too_large");
}

#[tokio::test]
async fn a_body_of_100_mb_that_does_not_say_so_is_cut_off() {
    let service = memory().await;
    let mut stream = TcpStream::connect(service.address).await.expect("it listens");
    let head = b"PUT /api/cache/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head).await.expect("the head is read");
    let (mut reader, mut writer) = stream.into_split();
    let sending = beside(async move {
        let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 0x10000], b"\r\n"].concat();
        let mut sent = 0_u64;
        while sent < 100 << 20 && writer.write_all(&chunk).await.is_ok() {
            sent += 0x10000;
        }
        sent
    });
    let mut answer = Vec::new();
    // What was sent in vain may end the connection with an error; the answer is there before it.
    reader.read_to_end(&mut answer).await.ok();
    Answer::parse(&answer).problem(413, "body_too_large");
    let sent = sending.await.expect("the client does not panic");
    assert!(sent < 32 << 20, "{sent} bytes were taken");
    assert_eq!(service.get("/livez").await.status, 200);
}

#[tokio::test]
async fn routes_and_methods_that_are_not_there() {
    let service = memory().await;
    for path in [
        "/assets",
        "/api",
        "/api/cach/a",
        "/api/cache2",
        "/API/CACHE/a",
        "//api/cache/a",
        "/livez/",
        "/../etc/passwd",
    ] {
        service.get(path).await.problem(404, "route_not_found");
    }
    for (method, path, allow) in [
        ("POST", "/api/cache/a", "get,head,put,delete"),
        ("PATCH", "/api/cache/a", "get,head,put,delete"),
        ("OPTIONS", "/api/cache/a", "get,head,put,delete"),
        ("BREW", "/api/cache/a", "get,head,put,delete"),
        ("GET", "/api/cache/invalidate", "post"),
        ("PUT", "/api/cache/metrics", "get,head"),
        ("POST", "/livez", "get,head"),
    ] {
        let answer = service.send(method, path, "").await;
        answer.problem(405, "method_not_allowed");
        let mut allowed: Vec<&str> =
            answer.header("allow").unwrap_or_default().split(',').map(str::trim).collect();
        let mut expected: Vec<&str> = allow.split(',').collect();
        allowed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(allowed, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn targets_that_are_no_paths() {
    let service = memory().await;
    for (method, target) in [("OPTIONS", "*"), ("GET", "*"), ("CONNECT", "example.org:80"), ("GET", "?key=a")]
    {
        let answer = service.send(method, target, "").await;
        assert!((400..500).contains(&answer.status), "{method} {target}: {answer:?}");
    }
    service.put("/api/cache/a", r#"{"value":1}"#).await;
    assert_eq!(
        service.get("http://elsewhere/api/cache/a").await.status,
        200,
        "the absolute form is a path, too"
    );
}

#[tokio::test]
async fn invalidations_of_another_form_are_refused() {
    let service = memory().await;
    for (body, words) in [
        ("{}", "name `keys`, a `pattern` or `tags`"),
        (r#"{"keys":[]}"#, "name `keys`, a `pattern` or `tags`"),
        (r#"{"pattern":""}"#, "the pattern is empty"),
        (r#"{"pattern":["a"]}"#, "invalid type"),
        (r#"{"keys":"a"}"#, "invalid type"),
        (r#"{"keys":["a",""]}"#, "key number 2: the key is empty"),
        (r#"{"tags":["a\n"]}"#, "tag number 1"),
        (r#"{"key":["a"]}"#, "unknown field `key`"),
    ] {
        let detail = service.post("/api/cache/invalidate", body).await.problem(422, "body_invalid");
        assert!(detail.contains(words), "{body}: {detail}");
    }
    let pattern = format!(r#"{{"pattern":"{}"}}"#, "a*".repeat(1000));
    service.post("/api/cache/invalidate", &pattern).await.problem(422, "body_invalid");
    let keys = format!(r#"{{"keys":[{}"a"]}}"#, "\"a\",".repeat(10_000));
    service.post("/api/cache/invalidate", &keys).await.problem(422, "body_invalid");
    service.post("/api/cache/invalidate", "{").await.problem(400, "body_malformed");
}

#[tokio::test]
async fn keys_that_look_like_patterns_and_paths_are_just_keys() {
    let service = memory().await;
    for key in
        ["*", "%3F", "%5Ba-z%5D", "%5C", "%7Btag%7D", "..%2F..%2Fetc%2Fpasswd", "'%3B%20drop%20table", "%25"]
    {
        let target = format!("/api/cache/{key}");
        assert_eq!(service.put(&target, r#"{"value":1}"#).await.status, 200, "{key}");
        assert_eq!(service.get(&target).await.status, 200, "{key}");
    }
    assert_eq!(service.get("/api/cache/other").await.status, 404);
    let done = service.post("/api/cache/invalidate", r#"{"keys":["*"]}"#).await;
    assert_eq!(done.body, r#"{"invalidated":1,"success":true}"#);
}
