//! Tokens: who gets in, to what, how often; and what is refused before anybody could.

use crate::log::Log;
use crate::support::{Answer, Running, refused, start, token};
use terrace_server::Stop;
use terrace_server::config::{Config, Sources};

const READ_USERS: &str = "reads-users-0123456789";
const WRITE_ALL: &str = "writes-all-0123456789";
const INVALIDATE: &str = "invalidates-users-01234";
const ADMIN: &str = "is-an-admin-0123456789";

fn tokens() -> String {
    token("reader", READ_USERS, "scopes = ['read:user:*']")
        + &token("writer", WRITE_ALL, "scopes = ['read:*', 'write:*']")
        + &token("purger", INVALIDATE, "scopes = ['invalidate:user:*', 'read:user:1']")
        + &token("ops", ADMIN, "scopes = ['admin']")
}

impl Running {
    pub(crate) async fn with(&self, token: &str, method: &str, target: &str, body: &str) -> Answer {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.raw(head.as_bytes()).await
    }
}

#[tokio::test]
async fn nobody_gets_in_without_a_token_but_to_what_says_nothing() {
    let service = start(&tokens()).await;
    for target in
        ["/api/cache/user:1", "/api/cache/metrics", "/metrics", "/api/cache/hot", "/nowhere", "/api/cache"]
    {
        let answer = service.get(target).await;
        answer.problem(401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), Some("bearer realm=\"terrace\""), "{target}");
        service.with("wrong", "GET", target, "").await.problem(401, "unauthorized");
    }
    service.post("/api/cache/invalidate", "{\"keys\":[\"a\"]}").await.problem(401, "unauthorized");
    for target in ["/livez", "/readyz", "/healthz", "/problems/unauthorized"] {
        assert_eq!(service.get(target).await.status, 200, "{target}");
        assert_eq!(service.with("wrong", "GET", target, "").await.status, 200, "{target}");
    }
}

#[tokio::test]
async fn a_token_does_what_its_scopes_say_and_nothing_else() {
    let service = start(&tokens()).await;
    let value = "{\"value\":1}";
    for (token, method, target, body, status) in [
        (WRITE_ALL, "PUT", "/api/cache/user:1", value, 200),
        (WRITE_ALL, "PUT", "/api/cache/order:1", value, 200),
        (READ_USERS, "GET", "/api/cache/user:1", "", 200),
        (READ_USERS, "HEAD", "/api/cache/user:1", "", 200),
        (READ_USERS, "GET", "/api/cache?key=user:1", "", 200),
        (READ_USERS, "GET", "/api/cache/user%3A1", "", 200),
        (READ_USERS, "GET", "/api/cache/order:1", "", 403),
        (READ_USERS, "GET", "/api/cache?key=order:1", "", 403),
        (READ_USERS, "HEAD", "/api/cache/order:1", "", 403),
        (READ_USERS, "GET", "/api/cache/nothing-is-here", "", 403),
        (READ_USERS, "PUT", "/api/cache/user:1", value, 403),
        (READ_USERS, "DELETE", "/api/cache/user:1", "", 403),
        (READ_USERS, "GET", "/api/cache/metrics", "", 403),
        (READ_USERS, "GET", "/api/cache/why/user:1", "", 403),
        (READ_USERS, "GET", "/api/cache/events", "", 403),
        (READ_USERS, "GET", "/metrics", "", 403),
        (READ_USERS, "GET", "/nowhere", "", 403),
        (INVALIDATE, "GET", "/api/cache/user:1", "", 200),
        (INVALIDATE, "GET", "/api/cache/user:11", "", 403),
        (INVALIDATE, "DELETE", "/api/cache/user:1", "", 403),
        (ADMIN, "GET", "/api/cache/user:1", "", 403),
        (ADMIN, "PUT", "/api/cache/user:1", value, 403),
        (ADMIN, "GET", "/api/cache/metrics", "", 200),
        (ADMIN, "GET", "/metrics", "", 200),
        (ADMIN, "GET", "/api/cache/hot", "", 200),
        (ADMIN, "GET", "/api/cache/behind", "", 200),
        (ADMIN, "GET", "/api/cache/why/user:1", "", 200),
        (ADMIN, "GET", "/nowhere", "", 404),
    ] {
        let answer = service.with(token, method, target, body).await;
        assert_eq!(answer.status, status, "{token} {method} {target}: {answer:?}");
        if status == 403 && method != "HEAD" {
            answer.problem(403, "forbidden");
        }
    }
}

#[tokio::test]
async fn what_a_body_names_is_judged_key_by_key() {
    let service = start(&tokens()).await;
    let ask = async |token: &str, body: &str| {
        service.with(token, "POST", "/api/cache/invalidate", body).await.status
    };
    for (body, status) in [
        (r#"{"keys":["user:1"]}"#, 200),
        (r#"{"keys":["user:1","order:1"]}"#, 403),
        (r#"{"keys":["user:1","order:1"],"dry_run":true}"#, 403),
        (r#"{"pattern":"user:*"}"#, 200),
        (r#"{"pattern":"user:4?"}"#, 200),
        (r#"{"pattern":"user:*","dry_run":true}"#, 200),
        (r#"{"pattern":"*"}"#, 403),
        (r#"{"pattern":"u*"}"#, 403),
        (r#"{"pattern":"[u]ser:*"}"#, 403),
        (r#"{"pattern":"*","dry_run":true}"#, 403),
        (r#"{"tags":["org:7"]}"#, 403),
        (r#"{"keys":["user:1"],"tags":["org:7"]}"#, 403),
    ] {
        assert_eq!(ask(INVALIDATE, body).await, status, "{body}");
    }
    assert_eq!(ask(READ_USERS, r#"{"keys":["user:1"]}"#).await, 403);
    assert_eq!(ask(ADMIN, r#"{"keys":["user:1"]}"#).await, 403);
    let refresh = |body| service.with(INVALIDATE, "POST", "/api/cache/refresh", body);
    assert_eq!(refresh(r#"{"keys":["user:1"]}"#).await.status, 200);
    assert_eq!(refresh(r#"{"keys":["user:1","order:1"]}"#).await.status, 403);
}

#[tokio::test]
async fn a_body_is_not_read_for_whom_it_is_not_for() {
    let service = start(&("server.request_timeout = '20s'\n".to_owned() + &tokens())).await;
    let head = "PUT /api/cache/user:1 HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\nconnection: close\r\n";
    for (token, status) in [("wrong", 401), (READ_USERS, 403)] {
        let begun = format!("{head}authorization: Bearer {token}\r\n\r\n{{");
        assert_eq!(service.raw(begun.as_bytes()).await.status, status);
    }
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let service = start("").await;
    for (site, status) in [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)] {
        let body = r#"{"keys":["a"]}"#;
        let head = format!(
            "POST /api/cache/invalidate HTTP/1.1\r\nhost: x\r\nconnection: close\r\nsec-fetch-site: {site}\r\n\
             content-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(service.raw(head.as_bytes()).await.status, status, "{site}");
        let get =
            format!("GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\nsec-fetch-site: {site}\r\n\r\n");
        assert_eq!(service.raw(get.as_bytes()).await.status, 200, "{site}");
    }
}

#[tokio::test]
async fn a_page_whose_name_was_led_here_gets_nothing_where_nobody_is_asked_for_a_token() {
    let (open, named) = (start("").await, start("auth.hosts = ['cache.internal']").await);
    let asked = start(&token("web", "t", "scopes = ['read:*']")).await;
    let get = |target: &str, host: &str| {
        format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").into_bytes()
    };
    for service in [&open, &named] {
        assert_eq!(service.put("/api/cache/kept", "{\"value\":1}").await.status, 200);
    }
    for (host, alone, with_name) in [
        ("localhost:4000", 404, 404),
        ("127.0.0.1:4000", 404, 404),
        ("[::1]:4000", 404, 404),
        ("terrace:4000", 404, 404),
        ("evil.example:4000", 403, 403),
        ("127.0.0.1.evil.example", 403, 403),
        ("Cache.Internal:80", 403, 404),
    ] {
        for target in ["/api/cache/a", "/api/cache/kept", "/v1/keys/kept"] {
            let get = get(target, host);
            let expected = |status| if status == 404 && target.ends_with("kept") { 200 } else { status };
            assert_eq!(open.raw(&get).await.status, expected(alone), "{host} {target}");
            assert_eq!(named.raw(&get).await.status, expected(with_name), "{host} {target}");
            assert_eq!(asked.raw(&get).await.status, 401, "{host} {target}");
        }
    }
}

#[tokio::test]
async fn a_form_of_another_page_changes_nothing_without_the_headers_of_a_browser_that_says_whose_it_is() {
    let service = start("").await;
    for (origin, status) in
        [("http://x", 200), ("http://evil.example", 403), ("null", 403), ("http://y", 403)]
    {
        let body = r#"{"keys":["a"]}"#;
        let head = format!(
            "POST /api/cache/invalidate HTTP/1.1\r\nhost: x\r\nconnection: close\r\norigin: {origin}\r\n\
             content-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(service.raw(head.as_bytes()).await.status, status, "{origin}");
    }
}

#[tokio::test]
async fn more_than_the_rate_is_refused_with_a_time() {
    let rated = token("web", "t", "scopes = ['read:*']\nrate = { per_second = 1, burst = 2 }");
    let service = start(&(rated + &token("other", "o", "scopes = ['read:*']"))).await;
    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(service.with("t", "GET", "/api/cache/a", "").await);
    }
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!((2..=4).contains(&refused.len()), "{answers:?}");
    refused[0].problem(429, "rate_limited");
    assert_eq!(refused[0].header("retry-after"), Some("1"));
    assert_eq!(service.with("o", "GET", "/api/cache/a", "").await.status, 404, "others go on");
}

#[tokio::test]
async fn tokens_are_replaced_while_the_service_runs() {
    let service = start(&token("old", "one", "scopes = ['read:*']")).await;
    assert_eq!(service.with("one", "GET", "/api/cache/a", "").await.status, 404);
    let new =
        Config::load(&Sources::text(token("new", "two", "scopes = ['read:*']"))).expect("a configuration");
    service.security.replace(&new).expect("replaced");
    assert_eq!(service.with("one", "GET", "/api/cache/a", "").await.status, 401);
    assert_eq!(service.with("two", "GET", "/api/cache/a", "").await.status, 404);
    assert!(service.stop(Stop::Now).await.is_clean());
}

#[test]
fn what_would_let_the_wrong_ones_in_is_refused_where_it_stands() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let section = |rest: &str| format!("[[auth.token]]\n{rest}\n");
    let read = "scopes = ['read:*']";
    for (toml, words) in [
        (section(&format!("name = 'a'\nsha256 = '{empty}'\n{read}")), "no token at all"),
        (section(&format!("name = 'a'\nsha256 = 'hunter2'\n{read}")), "64 hexadecimal digits"),
        (section(&format!("name = 'a'\nsha256 = ''\n{read}")), "64 hexadecimal digits"),
        (section(&format!("name = 'a'\n{read}")), "has no `sha256`"),
        (section(&format!("name = 'a'\nsha256 = '${{NOT_SET}}'\n{read}")), "`NOT_SET` is not set"),
        (section("name = 'a'\nsha256_file = '/nowhere'\nscopes = ['read:*']"), "cannot read this file"),
        (token("a", "t", ""), "may do nothing"),
        (token("a", "t", "scopes = ['reed:*']"), "no verb `reed`"),
        (token("a", "t", "scopes = ['read']"), "which keys"),
        (token("a", "t", "scopes = ['admin:*']"), "`admin` alone"),
        (token("a b", "t", read), "letters, digits"),
        (token("a", "t", read) + &token("a", "u", read), "two tokens named `a`"),
        (token("a", "t", read) + &token("b", "t", read), "the token of `a`"),
        (token("a", "t", &format!("{read}\nrate = {{ burst = 1 }}")), "no `per_second`"),
        (token("a", "t", &format!("{read}\nrate = {{ per_second = 0 }}")), "from 1 to"),
        (token("a", "t", &format!("{read}\ntenant = 'A'")), "a-z and 0-9"),
        (format!("auth.mode = 'none'\n{}", token("a", "t", read)), "nobody is asked"),
        ("auth.mode = 'token'".to_owned(), "nobody could come in"),
        (format!("auth.allow_open = true\n{}", token("a", "t", read)), "nothing is open"),
        ("server.listen = '0.0.0.0:4000'".to_owned(), "nobody is asked for a token"),
        ("server.listen = '[::]:4000'".to_owned(), "nobody is asked for a token"),
        ("server.listen = 'cache.internal:4000'".to_owned(), "nobody is asked for a token"),
        ("server.admin_listen = '10.0.0.1:4001'".to_owned(), "nobody is asked for a token"),
    ] {
        let error = refused(&toml);
        assert!(error.contains(words) && error.contains('^'), "{toml}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    for listen in ["127.0.0.1:0", "127.1.2.3:0", "[::1]:0", "localhost:0"] {
        Config::load(&Sources::text(format!("server.listen = '{listen}'"))).expect(listen);
    }
    let beyond = "server.listen = '0.0.0.0:4000'\n";
    Config::load(&Sources::text(format!("{beyond}auth.allow_open = true"))).expect("it is meant");
    Config::load(&Sources::text(format!("{beyond}{}", token("a", "t", read)))).expect("with tokens");
}

#[test]
fn a_digest_can_be_in_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("web.sha256");
    std::fs::write(&file, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n")
        .expect("written");
    let toml = format!("[[auth.token]]\nname = 'a'\nsha256_file = '{}'\nscopes = ['read:*']", file.display());
    let config = Config::load(&Sources::text(toml)).expect("a configuration");
    assert_eq!(config.auth.tokens[0].sha256, terrace_server::auth::Digest::of(b"abc"));
    assert!(!config.effective_toml().contains("ba7816bf"), "a digest is not shown");
}

#[tokio::test]
async fn what_changes_more_than_one_entry_is_noted_and_who_did_it() {
    let log = Log::of_this_thread();
    let service = start(&tokens()).await;
    let lines = |word: &str| {
        log.text().lines().filter(|line| line.contains(word)).map(str::to_owned).collect::<Vec<_>>()
    };
    service.with(WRITE_ALL, "PUT", "/api/cache/user:1", "{\"value\":\"planted\"}").await;
    assert_eq!(lines("terrace::audit"), Vec::<String>::new(), "one entry is not noted");
    service
        .with(INVALIDATE, "POST", "/api/cache/invalidate", r#"{"keys":["user:1","user:2\u001b[31m"]}"#)
        .await;
    service.with(INVALIDATE, "POST", "/api/cache/invalidate", r#"{"keys":["user:1","user:2 x"]}"#).await;
    service.with(INVALIDATE, "POST", "/api/cache/invalidate", r#"{"tags":["org:7"]}"#).await;
    let noted = lines("terrace::audit");
    assert_eq!(noted.len(), 3, "{noted:?}");
    assert!(noted[0].contains("outcome=\"body_invalid\""), "{noted:?}");
    assert!(noted[1].contains("who=\"purger\"") && noted[1].contains("outcome=\"done\""), "{noted:?}");
    assert!(
        noted[1].contains("what=\"key user:1 key user:2 x\"") && noted[1].contains("count=1"),
        "{noted:?}"
    );
    assert!(noted[2].contains("outcome=\"forbidden\""), "{noted:?}");
    service.get("/api/cache/user:1").await;
    service.with(READ_USERS, "GET", "/api/cache/order:1", "").await;
    let refused = lines("refused");
    assert!(
        refused.iter().any(|line| line.contains("who=\"reader\"") && line.contains("forbidden")),
        "{refused:?}"
    );
    assert!(refused.iter().any(|line| line.contains("outcome=\"unauthorized\"")), "{refused:?}");
    for secret in [READ_USERS, WRITE_ALL, INVALIDATE, ADMIN, "planted"] {
        assert!(!lines("terrace::audit").iter().any(|line| line.contains(secret)), "{secret}");
    }
}

#[tokio::test]
async fn a_dry_run_names_only_keys_that_may_be_read() {
    let scopes = "scopes = ['write:*', 'invalidate:*']";
    let half = "scopes = ['invalidate:*', 'read:user:*']";
    let service = start(&format!("{}{}", token("blind", "blind", scopes), token("half", "half", half))).await;
    for key in ["user:1", "order:1"] {
        let put = service.with("blind", "PUT", &format!("/api/cache/{key}"), r#"{"value":1}"#).await;
        assert_eq!(put.status, 200, "{put:?}");
    }
    for (who, sample) in [("blind", ""), ("half", "\"user:1\"")] {
        for names in [r#""pattern":"*""#, r#""keys":["user:1","order:1"]"#] {
            let body = format!("{{{names},\"dry_run\":true}}");
            let answer = service.with(who, "POST", "/api/cache/invalidate", &body).await;
            let expected = format!("\"sample\":[{sample}]");
            assert!(answer.body.contains(&expected), "{who} {body}: {answer:?}");
            assert!(answer.body.contains("\"matched\":2"), "{who} {body}: {answer:?}");
        }
    }
}
