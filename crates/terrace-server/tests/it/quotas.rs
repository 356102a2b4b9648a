//! How much a tenant may ask for: its rate, its requests at work, and that one that asks for too much keeps nobody else waiting.

use crate::support::{Client, Running, beside, start, token};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use terrace_testkit::wait::until_some;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ALL: &str = "scopes = ['read:*', 'write:*', 'invalidate:*', 'admin']";

fn tokens(names: &[(&str, &str)], more: &str) -> String {
    let token = |(name, tenant): &(&str, &str)| token(name, name, &format!("{ALL}\ntenant = '{tenant}'"));
    names.iter().map(token).collect::<String>() + more
}

/// A write whose body does not come: it is at work until its connection ends.
async fn hold(service: &Running, token: &str) -> TcpStream {
    let mut stream = TcpStream::connect(service.address).await.expect("it listens");
    let head = format!(
        "PUT /api/cache/held HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\ncontent-length: 20\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream
}

async fn status(service: &Running, token: &str) -> u16 {
    service.with(token, "PUT", "/api/cache/k", "{\"value\":1}").await.status
}

#[tokio::test]
async fn all_tokens_of_a_tenant_have_one_rate() {
    let limits = "[auth.tenant.a]\nrate = { per_second = 1, burst = 4 }\n";
    let service = start(&tokens(&[("a1", "a"), ("a2", "a"), ("b1", "b")], limits)).await;
    let mut refused = 0;
    for turn in 0..12 {
        let answer = service.with(["a1", "a2"][turn % 2], "GET", "/api/cache/k", "").await;
        if answer.status == 429 {
            assert!(answer.problem(429, "rate_limited").contains("of this tenant"), "{answer:?}");
            assert_eq!(answer.header("retry-after"), Some("1"));
            refused += 1;
        }
    }
    assert!((5..=8).contains(&refused), "{refused} of 12");
    for _ in 0..12 {
        assert_eq!(status(&service, "b1").await, 200, "another tenant goes on");
    }
}

#[tokio::test]
async fn a_batch_counts_as_many_as_it_names() {
    let rated = format!("{ALL}\nrate = {{ per_second = 1, burst = 10 }}");
    for (path, most, too_many) in [
        ("batch", "{\"get\":[\"a\",\"b\",\"c\",\"d\"],\"delete\":[\"a\",\"b\",\"c\",\"d\"]}", "get"),
        ("invalidate", "{\"keys\":[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\"],\"tags\":[\"t\",\"u\"]}", "keys"),
        ("refresh", "{\"keys\":[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\"]}", "keys"),
    ] {
        let service = start(&token("t", "t", &rated)).await;
        let ask = |body: String| async {
            let body = body;
            service.with("t", "POST", &format!("/api/cache/{path}"), &body).await
        };
        let keys = ["\"k\""; 11].join(",");
        let never = ask(format!("{{\"{too_many}\":[{keys}]}}")).await;
        assert!(
            never.problem(422, "body_invalid").contains("11 requests, and the rate allows 10"),
            "{never:?}"
        );
        assert_eq!(ask(most.to_owned()).await.status, 200, "{path}");
        let later = ask(most.to_owned()).await;
        assert!(later.problem(429, "rate_limited").contains("counts as 8"), "{path}: {later:?}");
        assert_eq!(later.header("retry-after"), Some("1"));
    }
}

#[tokio::test]
async fn of_lines_those_are_refused_that_are_more_than_the_rate() {
    let service = start(&token("t", "t", &format!("{ALL}\nrate = {{ per_second = 1, burst = 10 }}"))).await;
    let lines = (0..35).fold(String::new(), |lines, number| {
        lines + &format!("{{\"set\":{{\"key\":\"k{number}\",\"value\":1}}}}\n")
    });
    let head = format!(
        "POST /api/cache/batch HTTP/1.1\r\nhost: test\r\nconnection: close\r\nauthorization: Bearer t\r\n\
         content-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n{lines}",
        lines.len()
    );
    let answer = service.raw(head.as_bytes()).await;
    let count = |word: &str| answer.body.matches(word).count();
    let (made, refused) =
        (count("\"status\":200") + count("\"status\":201"), count("\"code\":\"rate_limited\""));
    assert_eq!((made, refused), (10, 25), "{answer:?}");
}

#[tokio::test]
async fn a_tenant_has_so_many_requests_at_work_and_no_more() {
    let limits = |most: u32| format!("[auth.tenant_defaults]\nmax_requests = {most}\n");
    let names = [("a1", "a"), ("a2", "a"), ("b1", "b")];
    let service = start(&tokens(&names, &limits(1))).await;
    let held = hold(&service, "a1").await;
    let refused = until_some("it to be at work", async || {
        let answer = service.with("a1", "GET", "/api/cache/k", "").await;
        (answer.status == 429).then_some(answer)
    })
    .await;
    assert!(refused.problem(429, "rate_limited").contains("1 requests at work"), "{refused:?}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(status(&service, "a2").await, 429, "another token is no way around");
    assert_eq!(status(&service, "b1").await, 200, "another tenant has its own");
    assert_eq!(service.with("a1", "GET", "/readyz", "").await.status, 200, "probes do not count");

    service.reload(&tokens(&names[1..], &limits(1))).await.expect("a token goes");
    assert_eq!(status(&service, "a2").await, 429, "what is at work still counts");
    service.reload(&tokens(&names, &limits(3))).await.expect("limits may change");
    assert_eq!(status(&service, "a2").await, 200, "another number counts anew");
    service.reload(&tokens(&names, &limits(1))).await.expect("limits may change");
    drop(held);
    for _ in 0..20 {
        assert_eq!(status(&service, "a1").await, 200, "an answer that was taken leaves its place");
    }
    let mut client = Client::of(&service).await;
    for _ in 0..20 {
        assert_eq!(client.ask("a1", "GET", "/api/cache/k", "").await.status, 200);
    }
}

#[tokio::test]
async fn a_share_of_a_tenants_requests_may_send_bodies() {
    let names = [("a1", "a"), ("a2", "a"), ("b1", "b")];
    let service = start(&tokens(&names, "[auth.tenant.a]\nmax_requests = 8\n")).await;
    let held = [hold(&service, "a1").await, hold(&service, "a2").await];
    let refused = until_some("both to be at work", async || {
        let answer = service.with("a1", "PUT", "/api/cache/k", "{\"value\":1}").await;
        (answer.status == 429).then_some(answer)
    })
    .await;
    assert!(refused.problem(429, "rate_limited").contains("2 bodies"), "{refused:?}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_ne!(service.with("a2", "GET", "/api/cache/k", "").await.status, 429, "it has no body");
    assert_eq!(status(&service, "b1").await, 200, "another tenant has its own");
    drop(held);
    until_some("a place for a body", async || (status(&service, "a1").await == 200).then_some(())).await;
}

/// Asks for something large, and does not read on after the beginning of the answer.
async fn asked_and_unread(bytes: usize, request: &str, content: &str) {
    let limits =
        "[auth.tenant.a]\nmax_requests = 1\n[server]\nmax_body = '64MiB'\n[defaults]\nmax_value = '64MiB'\n";
    let service = start(&tokens(&[("a1", "a")], limits)).await;
    let value = format!("{{\"value\":\"{}\"}}", "v".repeat(bytes));
    assert_eq!(service.with("a1", "PUT", "/api/cache/large", &value).await.status, 200);
    let mut reader = TcpStream::connect(service.address).await.expect("it listens");
    let head = format!(
        "{request} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer a1\r\n\
         content-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n{content}",
        content.len()
    );
    reader.write_all(head.as_bytes()).await.expect("sent");
    let mut first = [0; 12];
    reader.read_exact(&mut first).await.expect("it begins to answer");
    assert!(first.ends_with(b"200"), "{first:?}");
    for _ in 0..3 {
        assert_eq!(status(&service, "a1").await, 429, "so much is not in the buffers of a socket");
    }
    drop(reader);
    until_some("the place to be left", async || (status(&service, "a1").await == 200).then_some(())).await;
}

#[tokio::test]
async fn a_request_is_at_work_until_its_client_has_the_answer() {
    asked_and_unread(100_000, "POST /api/cache/batch", &"{\"get\":\"large\"}\n".repeat(2_000)).await;
    for path in ["/api/cache/large", "/v1/keys/large", "/api/cache/large?verbose"] {
        asked_and_unread(32 << 20, &format!("GET {path}"), "").await;
    }
}

/// A tenant that keeps as many writes at work as it can, until it is told to end.
async fn drip(service: Arc<Running>, is_over: Arc<AtomicBool>, turned_away: Arc<AtomicU64>) {
    while !is_over.load(Ordering::Relaxed) {
        let mut stream = hold(&service, "greedy").await;
        let mut answer = [0; 12];
        if stream.read_exact(&mut answer).await.is_ok() && answer.ends_with(b"429") {
            turned_away.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// How many of a tenant's requests are answered, and how many are not, while another one drips.
async fn beside_one_that_drips(limits: &str) -> (u64, u64, u64) {
    let toml = "server.max_requests = 16\nserver.request_timeout = '500ms'\n".to_owned()
        + &tokens(&[("greedy", "greedy"), ("modest", "modest")], limits);
    let service = Arc::new(start(&toml).await);
    let (is_over, turned_away) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let drips: Vec<_> = (0..32)
        .map(|_| beside(drip(Arc::clone(&service), Arc::clone(&is_over), Arc::clone(&turned_away))))
        .collect();
    let (mut done, mut refused) = (0, 0);
    for _ in 0..100 {
        match status(&service, "modest").await {
            200 => done += 1,
            503 => refused += 1,
            other => panic!("{other}"),
        }
    }
    is_over.store(true, Ordering::Relaxed);
    for drip in drips {
        drip.await.expect("it does not panic");
    }
    (done, refused, turned_away.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_asks_for_all_there_is_keeps_nobody_waiting_where_it_has_a_limit() {
    // The first has fewer places than the service has for bodies, the second has more.
    for most in [3, 12] {
        let limit = format!("[auth.tenant.greedy]\nmax_requests = {most}\n");
        let (done, refused, turned_away) = beside_one_that_drips(&limit).await;
        println!(
            "beside 32 writes that drip and {most} places: {done} of 100 done, {refused} refused (of the others {turned_away})"
        );
        assert_eq!((done, refused), (100, 0), "{most}");
    }
    let (done_without, refused_without, _) = beside_one_that_drips("").await;
    println!("without a limit {done_without} done, {refused_without} refused");
    assert!(refused_without > 0, "the attack is one");
}
