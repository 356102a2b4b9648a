//! The raw view: bytes in, the same bytes out, and what the headers say.

use crate::support::{Answer, Running, start, token};
use terrace_testkit::server::{redis_url, unique_prefix};
use terrace_testkit::wait;

impl Running {
    async fn put_raw(&self, key: &str, lines: &[&str], body: &[u8]) -> Answer {
        self.send_with("PUT", &format!("/v1/keys/{key}"), lines, body).await
    }

    async fn get_raw(&self, key: &str, lines: &[&str]) -> Answer {
        self.send_with("GET", &format!("/v1/keys/{key}"), lines, b"").await
    }
}

/// The number after `max-age=`.
fn max_age(answer: &Answer) -> u64 {
    let control = answer.header("cache-control").expect("a lifetime");
    let number = control.strip_prefix("private, max-age=").expect("a private lifetime");
    number.parse().expect("a number")
}

#[tokio::test]
async fn what_is_put_is_what_is_got_with_its_type() {
    let service = start("").await;
    for (media, body) in [
        ("application/json", &b"{\"n\": 1}"[..]),
        ("application/octet-stream", b"a\0b\r\n\r\n\xff\xfe"),
        ("text/plain; charset=utf-8", "na\u{ef}ve".as_bytes()),
        ("application/msgpack", b"\x81\xa1n\x01"),
        ("application/x-protobuf", b""),
    ] {
        let line = format!("content-type: {media}");
        let put = service.put_raw("k", &[&line], body).await;
        assert_eq!(put.status, 200, "{put:?}");
        assert!(put.header("etag").is_some(), "{put:?}");
        let bytes = service.bytes_of("GET", "/v1/keys/k", &[], b"").await;
        let split = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        assert_eq!(&bytes[split..], body, "{media}");
        let head = service.send_with("HEAD", "/v1/keys/k", &[], b"").await;
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        assert_eq!(head.header("content-type"), Some(media));
        assert_eq!(head.header("content-length"), Some(body.len().to_string().as_str()));
        assert_eq!(head.header("etag"), put.header("etag"));
        assert_eq!(head.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(head.header("content-security-policy"), Some("sandbox; default-src 'none'"));
    }
    let deleted = service.send_with("DELETE", "/v1/keys/k", &[], b"").await;
    assert_eq!(deleted.body, r#"{"success":true,"deleted":true}"#);
    service.get_raw("k", &[]).await.problem(404, "key_not_found");
}

#[tokio::test]
async fn both_views_show_the_same_entries() {
    let service = start("").await;
    service.put("/api/cache/j", r#"{"value": {"n":[1]}}"#).await;
    let json = service.get_raw("j", &[]).await;
    assert_eq!((json.body.as_str(), json.header("content-type")), (r#"{"n":[1]}"#, Some("application/json")));

    service.put_raw("b", &["content-type: image/png"], b"\x00\xff").await;
    let shown = service.get("/api/cache/b").await.body_without_times();
    let expected = r#"{"value":"AP8=","encoding":"base64","content_type":"image/png","hit":true,"source":"l1","cached_at":"T","expires_at":"T"}"#;
    assert_eq!(shown, expected);
    service.put_raw("t", &["content-type: text/plain"], b"say \"x\"").await;
    let shown = service.get("/api/cache/t").await.body_without_times();
    assert!(
        shown.starts_with(r#"{"value":"say \"x\"","encoding":"text","content_type":"text/plain","hit""#),
        "{shown}"
    );

    service.put("/api/cache/c", r#"{"value":"AP8=","encoding":"base64","content_type":"a/b"}"#).await;
    let head = service.send_with("HEAD", "/v1/keys/c", &[], b"").await;
    assert_eq!((head.header("content-type"), head.header("content-length")), (Some("a/b"), Some("2")));
    for body in [
        r#"{"value":"A","encoding":"base64"}"#,
        r#"{"value":1,"encoding":"text"}"#,
        r#"{"value":"x","content_type":"text/plain"}"#,
        r#"{"value":"x","encoding":"text","content_type":"text\r\nx"}"#,
    ] {
        service.put("/api/cache/c", body).await.problem(422, "value_invalid");
    }
}

#[tokio::test]
async fn headers_of_a_put_are_its_times_and_tags() {
    let service = start("").await;
    let lines = ["cache-control: max-age=300, stale-while-revalidate=30", "cache-groups: \"org:7\", \"a,b\""];
    service.put_raw("k", &lines, b"v").await;
    let got = service.get_raw("k", &[]).await;
    assert!((298..=300).contains(&max_age(&got)), "{got:?}");
    assert_eq!(got.header("cache-groups"), Some("\"org:7\", \"a,b\""));
    let verbose = service.get("/api/cache/k?verbose=true").await.body;
    assert!(verbose.contains(r#""tags":["org:7","a,b"]"#), "{verbose}");
    let done = service.post("/api/cache/invalidate", r#"{"tags":["a,b"]}"#).await;
    assert_eq!(done.status, 200, "{done:?}");
    service.get_raw("k", &[]).await.problem(404, "key_not_found");

    for line in ["cache-control: max-age=x", "cache-groups: org", "if-match: x", "content-encoding: gzip"] {
        service.put_raw("k", &[line], b"v").await.problem(400, "header_invalid");
    }
    service.put_raw("k", &["content-type: nothing"], b"v").await.problem(422, "value_invalid");
    service.put_raw("k", &["content-type: application/json"], b"{").await.problem(422, "value_invalid");
    service.get_raw("k", &[]).await.problem(404, "key_not_found");
}

#[tokio::test]
async fn an_answer_says_how_fresh_it_is_and_where_it_came_from() {
    let service = start("").await;
    service.put("/api/cache/k", r#"{"value":1,"ttl":60}"#).await;
    for target in ["/api/cache/k", "/v1/keys/k"] {
        let got = service.get(target).await;
        assert_eq!(got.header("age"), Some("0"), "{got:?}");
        assert!((58..=60).contains(&max_age(&got)), "{got:?}");
        assert!(got.header("last-modified").is_some_and(|date| date.ends_with(" gmt")), "{got:?}");
        let status = got.header("cache-status").expect("a status");
        assert!(["terrace-l1; hit; ttl=59", "terrace-l1; hit; ttl=60"].contains(&status), "{got:?}");
    }
    service.put("/api/cache/ever", r#"{"value":1,"ttl":"never"}"#).await;
    let ever = service.get("/v1/keys/ever").await;
    assert_eq!((max_age(&ever), ever.header("cache-status")), (31_536_000, Some("terrace-l1; hit")));
    let none = service.get("/v1/keys/none").await;
    none.problem(404, "key_not_found");
    assert_eq!(none.header("cache-status"), Some("terrace-l1; fwd=uri-miss"));
}

/// A service over a table of one row.
async fn with_origin(directory: &tempfile::TempDir, more: &str) -> (Running, rusqlite::Connection) {
    let file = directory.path().join("table.db");
    let table = rusqlite::Connection::open(&file).expect("a file");
    table
        .execute_batch("create table t (id text, doc text); insert into t values ('1', '1')")
        .expect("a table");
    let toml = format!(
        "origin.lite = {{ type = 'sqlite', file = '{}' }}\n[keyspace.t]\npattern = 't:{{id}}'\nstrategy = 'read-through'\n{more}\n\
         source = {{ origin = 'lite', document = 'doc', load = 'select doc from t where id = :id' }}\n",
        file.display()
    );
    (start(&toml).await, table)
}

#[tokio::test]
async fn that_there_is_nothing_is_a_hit_of_who_knows_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let (service, _table) = with_origin(&directory, "negative_ttl = '1h'").await;
    for target in ["/v1/keys/t:9", "/api/cache/t:8"] {
        let first = service.get(target).await;
        first.problem(404, "key_not_found");
        assert_eq!(first.header("cache-status"), Some("terrace-l1; fwd=uri-miss"), "the origin was asked");
        let known = service.get(target).await;
        known.problem(404, "key_not_found");
        let status = known.header("cache-status").expect("a status");
        assert!(status.starts_with("terrace-l1; hit; ttl=3"), "{status}");
        assert!(status.ends_with("; detail=negative"), "{status}");
        let anew = service.send_with("GET", target, &["cache-control: no-cache"], b"").await;
        assert_eq!(anew.header("cache-status"), Some("terrace-l1; fwd=uri-miss"), "it was asked again");
    }
}

#[tokio::test]
async fn a_reader_can_say_what_it_wants() {
    let directory = tempfile::tempdir().expect("a directory");
    let (service, table) = with_origin(&directory, "stale_if_error = '1h'").await;
    let not_cached = service.get_raw("t:1", &["cache-control: only-if-cached"]).await;
    not_cached.problem(504, "not_cached");
    assert_eq!(not_cached.header("cache-status"), Some("terrace-l1; detail=only-if-cached"));

    let unkept = service.get_raw("t:1", &["cache-control: no-store"]).await;
    let status = "terrace-l1; fwd=uri-miss; fwd-status=200";
    assert_eq!((unkept.body.as_str(), unkept.header("cache-status")), ("1", Some(status)));
    service.get_raw("t:1", &["cache-control: only-if-cached"]).await.problem(504, "not_cached");

    let loaded = service.get_raw("t:1", &[]).await;
    let status = "terrace-l1; fwd=uri-miss; fwd-status=200; stored";
    assert_eq!((loaded.body.as_str(), loaded.header("cache-status")), ("1", Some(status)));
    assert_eq!(service.get_raw("t:1", &["cache-control: only-if-cached"]).await.body, "1");

    table.execute_batch("update t set doc = '2'").expect("an update");
    assert_eq!(service.get_raw("t:1", &["cache-control: max-stale=60"]).await.body, "1");
    let anew = service.send_with("GET", "/api/cache/t:1", &["cache-control: no-cache"], b"").await;
    let status = "terrace-l1; fwd=request; fwd-status=200; stored";
    assert!(anew.body.starts_with(r#"{"value":2,"hit":false"#), "{anew:?}");
    assert_eq!(anew.header("cache-status"), Some(status));
    assert_eq!(service.get_raw("t:1", &[]).await.body, "2");
    table.execute_batch("drop table t").expect("a table that is gone");
    let old = service.get_raw("t:1", &["cache-control: no-cache"]).await;
    assert_eq!(old.body, "2");
    let status = old.header("cache-status").expect("a status");
    assert!(
        status.starts_with("terrace-l1; hit; ttl=3") && status.ends_with("; detail=stale-if-error"),
        "{status}"
    );
    service.get_raw("t:1", &["cache-control: max-stale=x"]).await.problem(400, "header_invalid");
}

#[tokio::test]
async fn what_is_past_its_ttl_says_for_how_long() {
    let directory = tempfile::tempdir().expect("a directory");
    let (service, table) = with_origin(&directory, "ttl = '1s'\nstale_if_error = '1h'").await;
    service.get_raw("t:1", &[]).await;
    table.execute_batch("drop table t").expect("a table that is gone");
    let old = wait::until_some("its TTL to be over for a second", async || {
        let got = service.get_raw("t:1", &[]).await;
        let status = got.header("cache-status").expect("a status").to_owned();
        (status == "terrace-l1; hit; ttl=-2; detail=stale-if-error").then_some(got)
    })
    .await;
    let age: u64 = old.header("age").and_then(|age| age.parse().ok()).expect("an age");
    assert!(max_age(&old) < age, "a reader must not take it for fresh: {old:?}");
}

/// S4: keys that mean something to somebody on the way.
#[tokio::test]
async fn strange_keys_are_keys_or_refused_and_no_header_holds_them() {
    let service = start("").await;
    for (target, key) in [
        ("*%3F%5B%5D%5C", "*?[]\\"),
        ("%7Bx%7D", "{x}"),
        ("..%2F..%2Fetc", "../../etc"),
        ("a%2Fb", "a/b"),
        ("a//b", "a//b"),
        ("%250d%250a", "%0d%0a"),
        ("caf%C3%A9", "caf\u{e9}"),
        ("%22quoted%22%3B%20x%3D1", "\"quoted\"; x=1"),
    ] {
        let put = service.put_raw(target, &["content-type: text/plain"], key.as_bytes()).await;
        assert_eq!(put.status, 200, "{target}: {put:?}");
        let got = service.get_raw(target, &[]).await;
        assert_eq!(got.body, key, "{target}");
        let shown: serde_json::Value =
            serde_json::from_str(&service.get(&format!("/api/cache/{target}?verbose")).await.body)
                .expect("JSON");
        assert_eq!((shown["key"].as_str(), shown["value"].as_str()), (Some(key), Some(key)), "{target}");
        for answer in [&put, &got] {
            assert!(!answer.head.contains(&key.to_ascii_lowercase()), "{target}: {answer:?}");
        }
    }
    for (target, code) in [
        ("%00", "key_character"),
        ("a%0d%0aset-cookie:%20x", "key_character"),
        ("a%0ab", "key_character"),
        ("%7f", "key_character"),
        ("%ff", "key_encoding"),
        ("%C3", "key_encoding"),
        ("", "key_empty"),
    ] {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let answer = service.send_with(method, &format!("/v1/keys/{target}"), &[], b"").await;
            assert_eq!(answer.status, 400, "{method} {target}: {answer:?}");
            assert_eq!(answer.header("set-cookie"), None);
            if method != "HEAD" {
                answer.problem(400, code);
            }
        }
    }
    assert_eq!(service.send_with("PUT", "/v1/keys?key=metrics", &[], b"x").await.status, 200);
    assert_eq!(service.get("/v1/keys/metrics").await.body, "x", "nothing is reserved");
}

#[tokio::test]
async fn what_an_origin_keeps_is_json() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("table.db");
    rusqlite::Connection::open(&file)
        .expect("a file")
        .execute_batch("create table t (id text primary key, doc text)")
        .expect("a table");
    let toml = format!(
        "origin.lite = {{ type = 'sqlite', file = '{}' }}\n[keyspace.t]\npattern = 't:{{id}}'\nstrategy = 'write-through'\n[keyspace.t.source]\n\
         origin = 'lite'\ndocument = 'doc'\nload = 'select doc from t where id = :id'\ndelete = 'delete from t where id = :id'\n\
         store = 'insert into t values (:id, :value) on conflict (id) do update set doc = excluded.doc'\n",
        file.display()
    );
    let service = start(&toml).await;
    service.put_raw("t:1", &["content-type: text/plain"], b"x").await.problem(415, "media_unsupported");
    assert_eq!(service.put_raw("t:1", &["content-type: application/json"], b"7").await.status, 200);
    assert_eq!(service.get_raw("t:1", &[]).await.body, "7");
    for lines in [&["if-none-match: *"][..], &["if-match: *"]] {
        service.put_raw("t:1", lines, b"8").await.problem(415, "media_unsupported");
        let lines = [lines, &["content-type: application/json"]].concat();
        service.put_raw("t:1", &lines, b"8").await.problem(501, "condition_unsupported");
        service.send_with("DELETE", "/v1/keys/t:1", &lines, b"").await.problem(501, "condition_unsupported");
    }
    assert_eq!(service.get_raw("t:1", &[]).await.body, "7");
}

#[tokio::test]
async fn through_redis_both_views_and_every_type_come_out_as_they_went_in() {
    let Some(url) = redis_url().await else { return };
    let toml = format!("[l2]\nurl = '{url}'\nkey_prefix = '{}'\n", unique_prefix());
    let (one, two) = (start(&toml).await, start(&toml).await);
    let put = one.put_raw("b", &["content-type: text/csv", "cache-control: max-age=60"], b"a,b").await;
    for (status, is_l2) in [("terrace-l2; hit; ttl=", true), ("terrace-l1; hit; ttl=", false)] {
        let got = two.get_raw("b", &[]).await;
        assert_eq!((got.body.as_str(), got.header("content-type")), ("a,b", Some("text/csv")));
        assert_eq!(got.header("etag"), put.header("etag"), "the same from every instance");
        let said = got.header("cache-status").expect("a status");
        assert!(said.starts_with(status), "{said}");
        assert_eq!(said.ends_with(", terrace-l1; fwd=uri-miss; stored"), is_l2, "{said}");
    }
    one.put("/api/cache/j", r#"{"value":{"n":1}}"#).await;
    assert_eq!(two.get_raw("j", &[]).await.body, r#"{"n":1}"#);
}

#[tokio::test]
async fn the_raw_view_asks_for_the_same_scopes_and_shows_each_tenant_its_own() {
    const READER: &str = "reads-users-0123456789";
    const ONE: &str = "is-of-tenant-one-0123456789";
    const TWO: &str = "is-of-tenant-two-0123456789";
    let all = "scopes = ['read:*', 'write:*']";
    let tokens = token("reader", READER, "scopes = ['read:user:*']")
        + &token("one", ONE, &format!("tenant = 'one'\n{all}"))
        + &token("two", TWO, &format!("tenant = 'two'\n{all}"));
    let service = start(&tokens).await;
    service.get_raw("user:1", &[]).await.problem(401, "unauthorized");
    for (token, method, key, status) in [
        (READER, "GET", "user:1", 404),
        (READER, "GET", "order:1", 403),
        (READER, "HEAD", "order:1", 403),
        (READER, "PUT", "user:1", 403),
        (READER, "DELETE", "user:1", 403),
        (ONE, "PUT", "user:1", 200),
        (ONE, "GET", "user:1", 200),
        (TWO, "GET", "user:1", 404),
        (READER, "GET", "user:1", 404),
    ] {
        let answer = service.with(token, method, &format!("/v1/keys/{key}"), "v").await;
        assert_eq!(answer.status, status, "{method} {key}: {answer:?}");
    }
    let line = format!("authorization: Bearer {TWO}");
    let created = service.put_raw("user:1", &[&line, "if-none-match: *"], b"w").await;
    assert_eq!(created.status, 201, "another tenant's entry is not there: {created:?}");
}

#[tokio::test]
async fn shared_caches_may_keep_what_is_not_private() {
    let keyspaces =
        "[keyspace.news]\npattern = 'news:{id}'\nprivate = false\n[keyspace.users]\npattern = 'user:{id}'\n";
    let tokens = token("one", "one", "scopes = ['read:*', 'write:*']");
    for (toml, is_known) in [(keyspaces.to_owned(), false), (format!("{keyspaces}{tokens}"), true)] {
        let service = start(&toml).await;
        let line: &[&str] = if is_known { &["authorization: Bearer one"] } else { &[] };
        for (key, audience) in [
            ("news:1", if is_known { "public, " } else { "" }),
            ("user:1", "private, "),
            ("unmatched", "private, "),
        ] {
            let put = service.put_raw(key, &[line, &["cache-control: max-age=100"]].concat(), b"1").await;
            assert_eq!(put.status, 200, "{put:?}");
            for (method, view) in
                [("GET", "/v1/keys"), ("HEAD", "/v1/keys"), ("GET", "/api/cache"), ("HEAD", "/api/cache")]
            {
                let answer = service.send_with(method, &format!("{view}/{key}"), line, b"").await;
                let control = answer.header("cache-control").expect("a lifetime");
                assert!(
                    control.starts_with(&format!("{audience}max-age=")),
                    "{method} {view} {key}: {control}"
                );
            }
            let anew = [line, &["cache-control: no-cache"]].concat();
            let answer = service.get_raw(key, &anew).await;
            assert!(
                answer
                    .header("cache-control")
                    .is_some_and(|control| control.starts_with(&format!("{audience}max-age="))),
                "{answer:?}"
            );
        }
        let private = toml.replace("private = false", "private = true");
        service.reload(&private).await.expect("it is taken");
        let answer = service.get_raw("news:1", line).await;
        assert!(max_age(&answer) > 90, "{answer:?}");
    }
}
