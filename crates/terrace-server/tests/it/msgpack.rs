//! Envelopes in `MessagePack`, for those who ask for it by `Accept`.

use crate::support::{Answer, Running, start};
use serde_json::{Value, json};

const PACKED: &str = "accept: application/msgpack";

/// An answer whose body is no text.
struct Packed {
    answer: Answer,
    body: Vec<u8>,
}

impl Packed {
    /// The body, where it has no binary values.
    fn value(&self) -> Value {
        rmp_serde::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    fn has(&self, bytes: &[u8]) -> bool {
        self.body.windows(bytes.len()).any(|window| window == bytes)
    }
}

async fn ask(service: &Running, method: &str, target: &str, lines: &[&str], body: &str) -> Packed {
    let bytes = service.bytes_of(method, target, lines, body.as_bytes()).await;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    Packed { answer: Answer::parse(&bytes[..end]), body: bytes[end..].to_vec() }
}

async fn get(service: &Running, target: &str) -> Packed {
    let packed = ask(service, "GET", target, &[PACKED], "").await;
    assert_eq!(packed.answer.status, 200, "{:?}", packed.answer);
    assert_eq!(packed.answer.header("content-type"), Some("application/msgpack"));
    packed
}

/// What is not of the moment.
fn without_times(mut value: Value) -> Value {
    for name in ["cached_at", "expires_at", "ttl", "age", "version"] {
        value.as_object_mut().expect("an object").remove(name);
    }
    value
}

#[tokio::test]
async fn an_envelope_has_the_same_members_in_both_forms() {
    let service = start("").await;
    let body = r#"{"value":{"name":"ann","n":[18446744073709551615,-9223372036854775808,0.1,null,true]},"tags":["org:7"]}"#;
    service.put("/api/cache/a", body).await;
    for target in ["/api/cache/a", "/api/cache?key=a", "/api/cache/a?verbose=true"] {
        let packed = get(&service, target).await.value();
        let text: Value = serde_json::from_str(&service.get(target).await.body).expect("JSON");
        let names = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&packed), names(&text), "{target}");
        assert_eq!(packed["cached_at"], text["cached_at"], "{target}");
        assert_eq!(without_times(packed), without_times(text), "{target}");
    }
    let never = start("defaults.ttl = 'never'").await;
    never.put("/api/cache/a", r#"{"value":1}"#).await;
    assert_eq!(get(&never, "/api/cache/a").await.value()["expires_at"], Value::Null);
}

#[tokio::test]
async fn forms_have_tags_of_their_own_and_a_change_takes_any() {
    let service = start("").await;
    service.put("/api/cache/a", r#"{"value":1}"#).await;
    let text = service.get("/api/cache/a").await;
    let packed = get(&service, "/api/cache/a").await.answer;
    let (text_tag, packed_tag) = (text.header("etag").expect("a tag"), packed.header("etag").expect("a tag"));
    assert_ne!(text_tag, packed_tag);
    assert_eq!((text.header("vary"), packed.header("vary")), (Some("accept"), Some("accept")));
    assert_eq!(service.get("/v1/keys/a").await.header("vary"), None);
    for (line, tag, status) in [
        (PACKED, packed_tag, 304),
        (PACKED, text_tag, 200),
        ("accept: */*", text_tag, 304),
        ("accept: */*", packed_tag, 200),
    ] {
        let condition = format!("if-none-match: {tag}");
        for method in ["GET", "HEAD"] {
            let answer = ask(&service, method, "/api/cache/a", &[line, &condition], "").await.answer;
            assert_eq!(
                (answer.status, answer.header("vary")),
                (status, Some("accept")),
                "{method} {line} {tag}"
            );
        }
    }
    let condition = format!("if-match: {packed_tag}");
    let lines = [PACKED, condition.as_str()];
    let changed = ask(&service, "PUT", "/api/cache/a", &lines, r#"{"value":2}"#).await;
    assert_eq!((changed.answer.status, &changed.value()["success"]), (200, &json!(true)));
    assert_eq!(changed.answer.header("etag"), get(&service, "/api/cache/a").await.answer.header("etag"));
    let stale = ask(&service, "PUT", "/api/cache/a", &lines, r#"{"value":3}"#).await.answer;
    assert_eq!((stale.status, stale.header("content-type")), (412, Some("application/problem+json")));
    let other = format!("if-none-match: {}", changed.answer.header("etag").expect("a tag"));
    let refused = service.send_with("PUT", "/api/cache/a", &[&other], br#"{"value":3}"#).await;
    assert_eq!(refused.status, 412, "it is there, in whichever form it was read");
    let removed = ask(&service, "DELETE", "/api/cache/a", &[PACKED], "").await;
    assert_eq!(removed.value(), json!({ "success": true, "deleted": true }));
}

#[tokio::test]
async fn what_is_not_json_is_not_written_as_base64() {
    let service = start("").await;
    let put = async |key: &str, media: &str, bytes: &[u8]| {
        let line = format!("content-type: {media}");
        service.send_with("PUT", &format!("/v1/keys/{key}"), &[&line], bytes).await;
    };
    put("bytes", "image/png", b"\xff\0\x01").await;
    let packed = get(&service, "/api/cache/bytes").await;
    assert!(packed.has(b"\xa5value\xc4\x03\xff\0\x01"), "{:?}", packed.body);
    assert!(packed.has(b"\xa8encoding\xa6binary\xaccontent_type\xa9image/png"), "{:?}", packed.body);

    put("text", "text/plain", "é".as_bytes()).await;
    let text = get(&service, "/api/cache/text").await.value();
    assert_eq!((&text["value"], &text["encoding"]), (&json!("é"), &json!("text")));

    put("packed", "application/x-msgpack", b"\x81\xa1a\x93\x01\x02\x03").await;
    let inner = get(&service, "/api/cache/packed").await.value();
    assert_eq!(inner["value"], json!({ "a": [1, 2, 3] }));
    assert_eq!((&inner["encoding"], &inner["content_type"]), (&Value::Null, &json!("application/x-msgpack")));
    let as_text: Value = serde_json::from_str(&service.get("/api/cache/packed").await.body).expect("JSON");
    assert_eq!(as_text["encoding"], "base64");

    let forged = b"\x01\xa3hit\xc2";
    put("forged", "application/msgpack", forged).await;
    let packed = get(&service, "/api/cache/forged").await;
    let as_bytes = [&b"\xa5value\xc4\x06"[..], forged, b"\xa8encoding\xa6binary"].concat();
    assert!(packed.has(&as_bytes), "it cannot be members of the envelope: {:?}", packed.body);
    put("deep", "application/msgpack", &[vec![0x91; 10_000], vec![1]].concat()).await;
    assert!(get(&service, "/api/cache/deep").await.has(b"\xa8encoding\xa6binary"));
}

#[tokio::test]
async fn a_number_that_it_cannot_hold_is_not_damaged() {
    let service = start("").await;
    for value in ["123456789012345678901234567890", "[3.14159265358979323846]", "{\"a\":1e400}"] {
        service.put("/api/cache/n", &format!("{{\"value\":{value}}}")).await;
        let packed = get(&service, "/api/cache/n").await.value();
        assert_eq!((&packed["value"], &packed["encoding"]), (&json!(value), &json!("json")));
        assert_eq!((&packed["content_type"], &packed["hit"]), (&json!("application/json"), &json!(true)));
    }
}

#[tokio::test]
async fn a_batch_has_the_form_and_lines_and_errors_stay_json() {
    let service = start("defaults.max_value = '64B'").await;
    service.put("/v1/keys/a", "xyz").await;
    let lines = [PACKED, "content-type: application/json"];
    let body = r#"{"get":["a","none"],"set":[{"key":"b","value":[1,{"c":2.5}]}],"delete":["b"]}"#;
    let packed = ask(&service, "POST", "/api/cache/batch", &lines, body).await;
    assert_eq!(packed.answer.header("content-type"), Some("application/msgpack"));
    assert!(packed.has(b"\xa3key\xa1a\xa6status\xcc\xc8\xa5value\xc4\x03xyz"), "{:?}", packed.body);
    service.delete("/api/cache/a").await;
    service.put("/api/cache/a", r#"{"value":{"x":1}}"#).await;
    let packed = ask(&service, "POST", "/api/cache/batch", &lines, body).await.value();
    assert_eq!(
        (&packed["get"][0]["value"], &packed["get"][0]["key"], &packed["get"][0]["status"]),
        (&json!({ "x": 1 }), &json!("a"), &json!(200))
    );
    assert_eq!(
        (&packed["get"][1]["status"], &packed["get"][1]["code"]),
        (&json!(404), &json!("key_not_found"))
    );
    assert_eq!((&packed["set"][0]["status"], &packed["delete"][0]["deleted"]), (&json!(200), &json!(true)));
    let empty = ask(&service, "POST", "/api/cache/batch", &lines, "{}").await.value();
    assert_eq!(empty, json!({ "get": [], "set": [], "delete": [] }));
    let streamed = service.send_with(
        "POST",
        "/api/cache/batch",
        &[PACKED, "content-type: application/x-ndjson"],
        b"{\"get\":\"a\"}\n",
    );
    let streamed = streamed.await;
    assert_eq!(streamed.header("content-type"), Some("application/x-ndjson"), "{streamed:?}");
    service.send_with("GET", "/api/cache/none", &[PACKED], b"").await.problem(404, "key_not_found");
    let neither = service.send_with("GET", "/api/cache/a", &["accept: text/html"], b"").await;
    assert_eq!((neither.status, neither.header("content-type")), (200, Some("application/json")));
    let vendor =
        ask(&service, "GET", "/api/cache/a", &["accept: application/vnd.msgpack, */*;q=0.1"], "").await;
    assert_eq!(vendor.answer.header("content-type"), Some("application/vnd.msgpack"));
}
