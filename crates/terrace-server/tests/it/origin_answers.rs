//! What an API says besides the document: how long its answer holds, and whether an old value still does.

use crate::http_api::{Api, Asked, Mood};
use crate::support::{Answer, Running, config, refused, start};
use serde_json::Value;

/// A keyspace over an API, with these lines, and these of its source.
fn toml(api: &Api, keyspace: &str, source: &str) -> String {
    format!(
        "[origin.api]\ntype = 'http'\nbase_url = '{}'\n[keyspace.docs]\npattern = 'doc:{{id}}'\nttl = '1h'\n{keyspace}\n\
         [keyspace.docs.source]\norigin = 'api'\nload = 'GET /docs/{{id}}'\n{source}\n",
        api.url()
    )
}

const BY_ANSWER: &str = "freshness = 'answer'";

/// A service before an API that has three documents.
async fn service(keyspace: &str, source: &str) -> (Api, Running) {
    let api = Api::start().await;
    for (id, document) in [("1", "1"), ("2", "2"), ("3", "3")] {
        api.set(&format!("/v2/docs/{id}"), document);
    }
    let service = start(&toml(&api, keyspace, source)).await;
    (api, service)
}

type Headers<'a> = &'a [(&'static str, &'a str)];

fn saying(headers: Headers<'_>) -> Mood {
    Mood::Saying(headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
}

/// Loads a key, whatever the tiers have.
async fn anew(service: &Running, key: &str) -> Answer {
    service.send_with("GET", &format!("/v1/keys/{key}"), &["cache-control: no-cache"], b"").await
}

/// Stores another value of a key in the tiers.
async fn put(service: &Running, media: &str, value: &[u8]) {
    let media = format!("content-type: {media}");
    let stored = service.send_with("PUT", "/v1/keys/doc:1", &[&media], value).await;
    assert_eq!(stored.status, 200, "{stored:?}");
}

/// For how long an answer may be kept.
fn max_age(answer: &Answer) -> u64 {
    let said = answer.header("cache-control").unwrap_or_else(|| panic!("{answer:?}"));
    let seconds = said.strip_prefix("private, max-age=").unwrap_or_else(|| panic!("{answer:?}"));
    seconds.parse().unwrap_or_else(|_| panic!("{answer:?}"))
}

/// Whether an answer may be kept for so many seconds, less what it took to load it.
fn lasts(answer: &Answer, seconds: u64) -> bool {
    answer.status == 200 && (seconds.saturating_sub(20)..=seconds).contains(&max_age(answer))
}

#[tokio::test]
async fn an_entry_is_fresh_for_as_long_as_the_answer_says_and_the_keyspace_allows() {
    let (api, service) = service("", BY_ANSWER).await;
    let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    let cases: [(Headers<'_>, u64); 9] = [
        (&[("cache-control", "max-age=100")], 100),
        (&[("cache-control", "public, max-age=600, s-maxage=100")], 100),
        (&[("cache-control", "max-age=600"), ("cache-control", "max-age=100")], 100),
        (&[("cache-control", "max-age=600"), ("age", "500")], 100),
        (&[("expires", "Sun, 06 Nov 1994 08:51:17 GMT"), date], 100),
        (&[("cache-control", "max-age=99999999999999999999")], 3_600),
        (&[("cache-control", "max-age=7200"), ("age", "60")], 3_600),
        (&[("cache-control", "public")], 3_600),
        (&[("age", "500")], 3_600),
    ];
    for (headers, seconds) in cases {
        api.mood(saying(headers));
        let loaded = anew(&service, "doc:1").await;
        assert!(lasts(&loaded, seconds), "{headers:?}: {loaded:?}");
        let kept = service.get("/v1/keys/doc:1").await;
        assert!(lasts(&kept, seconds), "{headers:?}: {kept:?}");
        assert_eq!(api.asked().len(), 1, "{headers:?}");
    }
    let batch = service.post("/api/cache/batch", r#"{"get":["doc:2"]}"#).await;
    assert_eq!((batch.status, api.asked().len()), (200, 1), "{batch:?}");
    api.mood(saying(&[("cache-control", "max-age=100")]));
    service.post("/api/cache/batch", r#"{"get":["doc:3"]}"#).await;
    let [long, short] = [service.get("/v1/keys/doc:2").await, service.get("/v1/keys/doc:3").await];
    assert!(lasts(&long, 3_600) && lasts(&short, 100), "{long:?} {short:?}");
}

#[tokio::test]
async fn what_is_not_to_be_kept_is_handed_out_and_asked_for_again() {
    let (api, service) = service("stale_if_error = '1h'", BY_ANSWER).await;
    let cases: [Headers<'_>; 9] = [
        &[("cache-control", "no-store")],
        &[("cache-control", "max-age=60, private")],
        &[("cache-control", "no-cache=\"x\", max-age=60")],
        &[("cache-control", "max-age=0")],
        &[("cache-control", "s-maxage=0, max-age=60")],
        &[("cache-control", "max-age=60, s-maxage=soon")],
        &[("cache-control", "max-age=60"), ("age", "61")],
        &[("expires", "0")],
        &[("expires", "Sun, 06 Nov 1994 08:49:37 GMT")],
    ];
    for headers in cases {
        api.mood(saying(headers));
        for _ in 0..2 {
            let answer = service.get("/v1/keys/doc:1").await;
            assert_eq!((answer.status, answer.body.as_str(), max_age(&answer)), (200, "1", 0), "{headers:?}");
        }
        assert_eq!(api.asked().len(), 2, "{headers:?}");
        api.mood(Mood::Status(500));
        service.get("/v1/keys/doc:1").await.problem(502, "origin_failed");
        api.asked();
    }
    api.mood(saying(&[("cache-control", "max-age=60")]));
    service.get("/v1/keys/doc:2").await;
    api.mood(saying(&[("cache-control", "no-store")]));
    anew(&service, "doc:2").await;
    api.mood(Mood::Status(500));
    service.get("/v1/keys/doc:2").await.problem(502, "origin_failed");
}

#[tokio::test]
async fn what_an_answer_says_of_times_is_nothing_unless_that_is_wanted() {
    let (api, service) = service("", "").await;
    api.mood(saying(&[("cache-control", "no-store"), ("expires", "0"), ("etag", "\"a\"")]));
    for target in ["/v1/keys/doc:1"; 2] {
        let answer = service.get(target).await;
        assert!(lasts(&answer, 3_600), "{answer:?}");
    }
    anew(&service, "doc:1").await;
    let asked = api.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|asked| condition(asked).is_none()), "{asked:?}");
}

#[tokio::test]
async fn that_there_is_no_value_is_remembered_for_as_long_as_the_keyspace_says() {
    let (api, service) = service("negative_ttl = '1h'", BY_ANSWER).await;
    api.mood(saying(&[("cache-control", "no-store")]));
    for _ in 0..2 {
        service.get("/v1/keys/doc:4").await.problem(404, "key_not_found");
    }
    assert_eq!(api.asked().len(), 1);
}

/// The condition of a request.
fn condition(asked: &Asked) -> Option<(&'static str, &str)> {
    let of = |name| Some((name, asked.headers.get(name)?.to_str().expect("text")));
    of("if-none-match").or_else(|| of("if-modified-since"))
}

/// The condition of the one request that was made.
fn one(api: &Api) -> Option<(&'static str, String)> {
    let asked = api.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    condition(&asked[0]).map(|(name, value)| (name, value.to_owned()))
}

const CONDITIONAL: &str = "conditional = true";

#[tokio::test]
async fn an_old_value_that_still_holds_is_not_sent_again() {
    let (api, service) = service("", CONDITIONAL).await;
    let (when, later) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:38 GMT");
    let cases: [(Headers<'_>, Option<(&str, &str)>); 6] = [
        (&[("etag", "\"a\"")], Some(("if-none-match", "\"a\""))),
        (
            &[("etag", "W/\"b\""), ("last-modified", when), ("date", later)],
            Some(("if-none-match", "W/\"b\"")),
        ),
        (&[("last-modified", when), ("date", later)], Some(("if-modified-since", when))),
        (&[("last-modified", when), ("date", when)], None),
        (&[("etag", "*")], None),
        (&[], None),
    ];
    for (headers, expected) in cases {
        api.mood(Mood::Well);
        anew(&service, "doc:1").await;
        api.asked();
        api.mood(saying(headers));
        anew(&service, "doc:1").await;
        assert_eq!(one(&api), None, "{headers:?}: nothing was known");
        let again = anew(&service, "doc:1").await;
        assert_eq!((again.status, again.body.as_str()), (200, "1"), "{headers:?}: {again:?}");
        assert_eq!(one(&api), expected.map(|(name, value)| (name, value.to_owned())), "{headers:?}");
        assert!(lasts(&service.get("/v1/keys/doc:1").await, 3_600));
        assert!(api.asked().is_empty(), "{headers:?}: it is kept");
    }
}

#[tokio::test]
async fn only_the_value_that_came_with_an_entity_tag_is_asked_about() {
    let (api, service) = service("", CONDITIONAL).await;
    let tagged = |tag| saying(&[("etag", tag)]);
    api.mood(tagged("\"a\""));
    anew(&service, "doc:1").await;
    anew(&service, "doc:2").await;
    assert!(api.asked().iter().all(|asked| condition(asked).is_none()));
    for media in ["application/json", "text/plain"] {
        put(&service, media, b"9").await;
        assert_eq!(
            anew(&service, "doc:1").await.body,
            "1",
            "the API would have said that its own still holds"
        );
        assert_eq!(one(&api), None, "{media}");
    }
    let long = format!("\"{}\"", "x".repeat(127));
    for (tag, next) in [("\"b\"", Some("\"b\"")), (&long, None), ("\"c\"", Some("\"c\""))] {
        api.set("/v2/docs/1", &format!("\"{}\"", tag.len()));
        api.mood(saying(&[("etag", tag)]));
        let changed = anew(&service, "doc:1").await;
        assert_eq!(changed.body, format!("\"{}\"", tag.len()));
        api.asked();
        anew(&service, "doc:1").await;
        assert_eq!(one(&api), next.map(|tag| ("if-none-match", tag.to_owned())), "{tag}");
    }
    service.delete("/v1/keys/doc:1").await;
    service.get("/v1/keys/doc:1").await;
    assert_eq!(one(&api), None, "there is no old value");
}

#[tokio::test]
async fn that_a_value_still_holds_counts_only_where_that_was_asked() {
    let (api, service) = service("stale_if_error = '1h'", CONDITIONAL).await;
    api.mood(saying(&[("etag", "\"a\"")]));
    anew(&service, "doc:1").await;
    api.mood(Mood::Status(304));
    service.get("/v1/keys/doc:3").await.problem(502, "origin_failed");
    api.asked();
    let held = anew(&service, "doc:1").await;
    assert_eq!((held.body.as_str(), held.header("warning"), held.header("age")), ("1", None, Some("0")));
    assert_eq!(one(&api), Some(("if-none-match", "\"a\"".to_owned())));
    api.mood(Mood::Head(304, vec![("etag", "\"b\"".to_owned())]));
    let body = |answer: &Answer| serde_json::from_str::<Value>(&answer.body).expect("JSON");
    let other = service.send_with("GET", "/api/cache/doc:1", &["cache-control: no-cache"], b"").await;
    assert_eq!(body(&other)["source"], "stale", "it is no answer: {other:?}");
    assert_eq!(one(&api), Some(("if-none-match", "\"a\"".to_owned())));
    let other = service.send_with("GET", "/api/cache/doc:1", &["cache-control: no-cache"], b"").await;
    assert_eq!(one(&api), None, "what the API does not know any more is forgotten: {other:?}");
}

#[tokio::test]
async fn an_answer_that_a_value_still_holds_says_for_how_long_and_of_which_groups_it_is() {
    let (api, service) = service("", &format!("{BY_ANSWER}\n{CONDITIONAL}")).await;
    let with = |rest: &[(&'static str, &str)]| saying(&[&[("etag", "\"a\"")], rest].concat());
    for (headers, seconds) in [
        (&[("cache-control", "max-age=600"), ("cache-groups", "\"one\"")][..], 600),
        (&[("cache-control", "max-age=100")], 100),
        (&[], 100),
        (&[("age", "40")], 60),
        (&[("cache-control", "max-age=300"), ("age", "60")], 240),
    ] {
        api.mood(with(headers));
        let answer = anew(&service, "doc:1").await;
        assert!(lasts(&answer, seconds), "{headers:?}: {answer:?}");
        assert_eq!(answer.header("cache-groups"), Some("\"one\""), "{headers:?}");
    }
    let asked = api.asked();
    assert_eq!(asked.iter().filter(|asked| condition(asked).is_some()).count(), 4, "{asked:?}");
    api.mood(with(&[("cache-groups", "\"two\"")]));
    let answer = anew(&service, "doc:1").await;
    assert_eq!((answer.body.as_str(), answer.header("cache-groups")), ("1", Some("\"two\"")));
    assert!(one(&api).is_some() && lasts(&answer, 300));
    for (tag, is_there) in [("one", true), ("two", false)] {
        service.post("/api/cache/invalidate", &format!("{{\"tags\":[\"{tag}\"]}}")).await;
        service.get("/v1/keys/doc:1").await;
        assert_eq!(api.asked().is_empty(), is_there, "{tag}");
    }
    api.mood(with(&[("cache-control", "no-store")]));
    anew(&service, "doc:1").await;
    api.asked();
    put(&service, "application/json", b"1").await;
    api.mood(with(&[]));
    anew(&service, "doc:1").await;
    assert_eq!(one(&api), None, "nothing is known of what is not to be kept");
}

#[test]
fn only_an_api_can_say_such_things_and_only_of_what_is_loaded() {
    let of = |origin: &str, source: &str| {
        format!(
            "[origin.api]\ntype = 'http'\nbase_url = 'https://api'\n[origin.lite]\ntype = 'sqlite'\nfile = 'a.db'\n\
             [keyspace.a]\npattern = 'a:{{id}}'\n[keyspace.a.source]\norigin = '{origin}'\n{source}\n"
        )
    };
    let (get, select) = ("load = 'GET /a/{id}'", "load = 'select id from a where id = :id'");
    let shown = |rest: &str| config(&of("api", &format!("{get}\n{rest}"))).effective_toml();
    let shown_as = |rest: &str, line: &str| assert!(shown(rest).lines().any(|own| own == line), "{rest}");
    shown_as("freshness = 'answer'", "freshness = \"answer\"");
    shown_as("conditional = true", "conditional = true");
    assert!(!shown("freshness = 'keyspace'\nconditional = false").contains("conditional"));
    for (origin, source, says) in [
        ("api", format!("{get}\nfreshness = 'anser'"), "did you mean `answer`?"),
        ("api", format!("{get}\nconditional = 'maybe'"), "true or false"),
        ("lite", format!("{select}\nfreshness = 'answer'"), "does not say how long a value is fresh"),
        ("lite", format!("{select}\nfreshness = 'keyspace'"), "does not say how long a value is fresh"),
        ("lite", format!("{select}\nconditional = true"), "does not say whether an old value still holds"),
    ] {
        let error = refused(&of(origin, &source));
        assert!(error.contains(says) && error.contains("-->"), "{says}: {error}");
    }
    for idle in ["freshness = 'answer'", "conditional = true"] {
        let source = of("api", &format!("store = 'PUT /a/{{id}}'\n{idle}"));
        let error = refused(&source.replace("[keyspace.a]", "[keyspace.a]\nstrategy = 'write-around'"));
        assert!(error.contains("this source loads nothing"), "{idle}: {error}");
    }
}
