//! HTTP by hand, so that what the program sends and answers is seen as it is.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// A reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: serde_json::Value,
}

/// Sends one request on a connection of its own.
pub(crate) fn request(method: &str, url: &str, headers: &[String], body: &str) -> Reply {
    let rest = url.strip_prefix("http://").expect("plain HTTP");
    let (host, path) = rest.split_once('/').expect("a path");
    let mut stream = TcpStream::connect(host).expect("the service listens");
    let headers = headers.iter().map(|header| format!("{header}\r\n")).collect::<Vec<_>>().concat();
    let request = format!(
        "{method} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("the service reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("the service answers");
    let (head, body) = reply.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let is_page = body.starts_with('<');
    let body = if is_page { body.into() } else { serde_json::from_str(body).expect("JSON") };
    Reply { status, body }
}

/// Does what a line of `curl` says.
pub(crate) fn curl(line: &str) -> Reply {
    let words = shell_words(line);
    let mut words = words.iter().map(String::as_str);
    assert_eq!(words.next(), Some("curl"));
    let (mut method, mut headers, mut body, mut url) = ("GET", Vec::new(), "", "");
    while let Some(word) = words.next() {
        match word {
            "-s" => {}
            "-X" => method = words.next().expect("a method"),
            "-H" => headers.push(words.next().expect("a header").to_owned()),
            "-d" => body = words.next().expect("a body"),
            word => url = word,
        }
    }
    request(method, url, &headers, body)
}

/// Splits a line at spaces, except within single quotes.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.trim().split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
