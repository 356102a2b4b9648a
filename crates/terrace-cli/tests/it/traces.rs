//! `serve` sends traces where the environment says, also those of its last moments.

use crate::http::request;
use crate::process::{DEADLINE, Running, terrace};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::channel;

/// Takes one request, answers it, and gives its head and its body.
fn take(listener: &TcpListener) -> (String, Vec<u8>) {
    let (mut stream, _) = listener.accept().expect("somebody comes");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut chunk).expect("it goes on");
        assert_ne!(length, 0, "it broke off");
        bytes.extend_from_slice(&chunk[..length]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.and_then(|length| length.parse().ok()).expect("a length");
        if bytes.len() >= end + 4 + length {
            let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(reply).expect("it reads");
            return (head, bytes.split_off(end + 4));
        }
    }
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_request_just_before_the_end_is_in_a_trace_and_the_log_has_no_spans() {
    let collector = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", collector.local_addr().expect("an address"));
    let (sender, received) = channel();
    std::thread::spawn(move || sender.send(take(&collector)));
    let mut command = terrace();
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint).env("OTEL_SERVICE_NAME", "shop-cache");
    command.env("TERRACE__TELEMETRY__OTLP__HEADERS__AUTHORIZATION", "Bearer hunter2");
    let mut service = Running::start(&mut command);
    let line = service.stdout.find("listening on http://");
    let url = line.split([' ', ',']).find(|word| word.starts_with("http://")).expect("a URL");
    let sampled = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    let reply = request("GET", &format!("{url}/api/cache/nothing"), &[sampled], "");
    assert_eq!(reply.status, 404, "{reply:?}");
    service.signal("INT");
    let (head, body) = received.recv_timeout(DEADLINE).expect("it is sent");
    assert!(head.starts_with("post /v1/traces "), "{head}");
    assert!(head.contains("authorization: bearer hunter2"), "{head}");
    for text in ["GET /api/cache/{*key}", "shop-cache", "lookup"] {
        assert!(has(&body, text), "no {text:?} in {}", String::from_utf8_lossy(&body));
    }
    assert!(!has(&body, "nothing") && !has(&body, "hunter2"));
    let log = service.stderr.drain().join("\n");
    assert!(log.contains("\"message\":\"stopping\"") && !log.contains("\"span"), "{log}");
    assert_eq!(service.wait(), 0);
}
