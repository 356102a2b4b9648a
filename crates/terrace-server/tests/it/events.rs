//! Events over HTTP, as a reader on a socket sees them.

use crate::support::{Running, beside, start, token};
use std::time::Duration;
use terrace_server::Stop;
use terrace_testkit::server::{RedisServer, redis_url, unique_prefix};
use terrace_testkit::wait;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// One event, as it came.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Told {
    pub(crate) id: Option<String>,
    pub(crate) name: String,
    pub(crate) data: String,
}

impl Told {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.data).unwrap_or_else(|_| panic!("{self:?}"))
    }

    pub(crate) fn key(&self) -> String {
        self.json()["key"].as_str().unwrap_or_default().to_owned()
    }
}

pub(crate) struct Reader {
    stream: BufReader<TcpStream>,
    head: String,
    last_id: Option<String>,
}

impl Reader {
    pub(crate) async fn open(service: &Running, query: &str, last_id: Option<&str>) -> Self {
        let line = last_id.map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
        Self { last_id: last_id.map(str::to_owned), ..Self::with(service, query, &line).await }
    }

    /// A reader with one more line in the head of its request.
    pub(crate) async fn with(service: &Running, query: &str, line: &str) -> Self {
        let mut stream = TcpStream::connect(service.address).await.expect("it listens");
        let request = format!("GET /api/cache/events{query} HTTP/1.1\r\nhost: test\r\n{line}\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut reader = Self { stream: BufReader::new(stream), head: String::new(), last_id: None };
        while let Some(line) = reader.line().await.filter(|line| !line.is_empty()) {
            reader.head.push_str(&line.to_ascii_lowercase());
            reader.head.push('\n');
        }
        reader
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let reading = self.stream.read_line(&mut line);
        let length = wait::within("a line", wait::DEADLINE, reading).await.ok()?;
        (length > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event; none if the stream has ended.
    async fn next(&mut self) -> Option<Told> {
        let mut told = Told::default();
        loop {
            let line = self.line().await?;
            if let Some(id) = line.strip_prefix("id: ") {
                told.id = Some(id.to_owned());
                self.last_id.clone_from(&told.id);
            } else if let Some(name) = line.strip_prefix("event: ") {
                name.clone_into(&mut told.name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                data.clone_into(&mut told.data);
                return Some(told);
            }
        }
    }

    pub(crate) async fn told(&mut self) -> Told {
        self.next().await.expect("the stream goes on")
    }

    /// The next event of a type.
    async fn of(&mut self, name: &str) -> Told {
        loop {
            let told = self.told().await;
            if told.name == name {
                return told;
            }
        }
    }

    /// Waits until the beginning was read, so that what happens from now on is told.
    pub(crate) async fn begun(&mut self) -> String {
        while self.last_id.is_none() {
            let line = self.line().await.expect("the stream goes on");
            if let Some(id) = line.strip_prefix("id: ") {
                self.last_id = Some(id.to_owned());
            }
        }
        self.last_id.clone().expect("it was read")
    }
}

async fn put(service: &Running, key: &str) {
    assert_eq!(service.put(&format!("/api/cache/{key}"), r#"{"value":1}"#).await.status, 200);
}

#[tokio::test]
async fn changes_are_told_as_they_happen() {
    let service = start("keyspace.users.pattern = 'user:{id}'").await;
    let mut reader = Reader::open(&service, "", None).await;
    assert!(reader.head.contains("200 ok") && reader.head.contains("content-type: text/event-stream"));
    reader.begun().await;
    put(&service, "user:1").await;
    service.delete("/api/cache/user:1").await;
    let body = r#"{"tags":["t"],"pattern":"user:*"}"#;
    service.post("/api/cache/invalidate", body).await;
    service.post("/api/cache/refresh", r#"{"keys":["user:1"]}"#).await;
    let set = reader.told().await;
    assert_eq!((set.name.as_str(), set.key().as_str()), ("set", "user:1"));
    let json = set.json();
    assert_eq!((json["keyspace"].as_str(), json["own"].as_bool()), (Some("users"), Some(true)));
    assert_eq!(reader.told().await.key(), "user:1");
    let mut more = [reader.told().await, reader.told().await, reader.told().await, reader.told().await];
    more.sort_by_key(|told| told.data.clone());
    assert!(more.iter().all(|told| told.name == "invalidate"));
    assert_eq!(more.iter().filter(|told| told.json()["tag"] == "t").count(), 2, "tags go to every keyspace");
    let refresh = reader.told().await;
    assert_eq!((refresh.name.as_str(), refresh.key().as_str()), ("refresh", "user:1"));
}

#[tokio::test]
async fn events_of_another_process_arrive() {
    let Some(url) = redis_url().await else { return };
    let toml = format!("[l2]\nurl = '{url}'\nkey_prefix = '{}'\n", unique_prefix());
    let (here, there) = (start(&toml).await, start(&toml).await);
    let mut reader = Reader::open(&here, "", None).await;
    assert_eq!(reader.of("bus").await.json()["state"], "joined");
    put(&there, "a").await;
    let told = reader.of("set").await;
    assert_eq!((told.key().as_str(), &told.json()["own"]), ("a", &false.into()));
    assert!(told.json()["version"].as_u64().is_some());
    there.delete("/api/cache/a").await;
    assert_eq!(reader.of("invalidate").await.key(), "a");
    put(&here, "b").await;
    assert_eq!(reader.of("set").await.json()["own"], true);
}

/// The `id` of an answer.
fn id_of(answer: &str) -> Option<Vec<u64>> {
    let answer: serde_json::Value = serde_json::from_str(answer).expect("JSON");
    let id = answer.get("id")?.as_array().expect("a list");
    Some(id.iter().map(|number| number.as_u64().expect("a number")).collect())
}

/// What the next events are of, in the order of their texts, each with its keyspace and number.
async fn next_named(reader: &mut Reader, count: usize) -> Vec<(String, String, u64)> {
    let mut told = Vec::new();
    for _ in 0..count {
        let event = reader.of("invalidate").await.json();
        let named = ["key", "tag", "pattern"].into_iter().find_map(|field| event[field].as_str());
        let text = |text: Option<&str>| text.expect("it is said").to_owned();
        let version = event["version"].as_u64().expect("Redis was told");
        told.push((text(named), text(event["keyspace"].as_str()), version));
    }
    told.sort();
    told
}

/// Two instances on one Redis, and a reader of the events of one that hears of the other.
async fn two_and_a_reader(server: &RedisServer, more: &str) -> (Running, Running, Reader) {
    let (url, prefix) = (server.url(), unique_prefix());
    let toml = format!(
        "[keyspace.users]\npattern = 'user:{{id}}'\n[l2]\nurl = '{url}'\nkey_prefix = '{prefix}'\n{more}"
    );
    let (here, there) = (start(&toml).await, start(&toml).await);
    // What is changed before its instance has joined is told twice.
    let mut own = Reader::open(&here, "?types=bus", None).await;
    let mut reader = Reader::open(&there, "?types=invalidate,bus", None).await;
    for _ in 0..2 {
        assert_eq!(own.told().await.json()["state"], "joined");
        assert_eq!(reader.told().await.json()["state"], "joined");
    }
    (here, there, reader)
}

#[tokio::test]
async fn the_id_of_an_invalidation_is_that_under_which_other_instances_tell_of_it() {
    let Some(server) = RedisServer::start().await else { return };
    for mode in ["", "[bus]\nmode = 'plain'\n"] {
        let (here, _there, mut reader) = two_and_a_reader(&server, mode).await;
        let id = async |body: &str| {
            let answer = here.post("/api/cache/invalidate", body).await;
            assert_eq!((answer.status, answer.header("terrace-effect")), (200, None), "{answer:?}");
            id_of(&answer.body).expect("numbers")
        };
        let tried = r#"{"keys":["a"],"tags":["t"],"pattern":"*","dry_run":true}"#;
        assert_eq!(id_of(&here.post("/api/cache/invalidate", tried).await.body), None, "nothing was done");

        let keys = id(r#"{"keys":["user:2","loose","user:1"]}"#).await;
        let told = next_named(&mut reader, 3).await;
        let names: Vec<&str> = told.iter().map(|(named, ..)| named.as_str()).collect();
        assert_eq!(names, ["loose", "user:1", "user:2"]);
        assert_eq!(keys, [told[2].2, told[0].2, told[1].2], "in the order in which they were named");

        let tags = id(r#"{"tags":["t","other"]}"#).await;
        let told = next_named(&mut reader, 4).await;
        let names: Vec<_> =
            told.iter().map(|(named, keyspace, _)| (named.as_str(), keyspace.as_str())).collect();
        assert_eq!(names, [("other", "default"), ("other", "users"), ("t", "default"), ("t", "users")]);
        assert_eq!(tags, [told[3].2, told[2].2, told[1].2, told[0].2], "tag by tag, of every keyspace");

        let pattern = id(r#"{"pattern":"user:*"}"#).await;
        let told = next_named(&mut reader, 2).await;
        assert_eq!((told[0].1.as_str(), told[1].1.as_str()), ("default", "users"), "one each: {told:?}");
        assert_eq!(pattern, [told[1].2, told[0].2]);

        let all = id(r#"{"keys":["a"],"tags":["t"],"pattern":"b*"}"#).await;
        let told = next_named(&mut reader, 4).await;
        let names: Vec<_> =
            told.iter().map(|(named, keyspace, _)| (named.as_str(), keyspace.as_str())).collect();
        assert_eq!(names, [("a", "default"), ("b*", "default"), ("t", "default"), ("t", "users")]);
        assert_eq!(all, [told[0].2, told[3].2, told[2].2, told[1].2]);
        assert!(all[1] > tags[0] && all[2] > tags[1], "numbers of a tag rise");
    }
}

#[tokio::test]
async fn what_has_not_been_told_to_redis_has_no_id() {
    let Some(server) = RedisServer::start().await else { return };
    let (here, _there, _reader) = two_and_a_reader(&server, "").await;
    let named = [r#""keys":["a"]"#, r#""tags":["t"]"#, r#""pattern":"user:*""#];
    for named in named {
        for later in [r#""policy":"delayed","delay":"1h""#, r#""policy":"lazy""#] {
            let answer = here.post("/api/cache/invalidate", &format!("{{{named},{later}}}")).await;
            assert_eq!(answer.header("terrace-effect"), Some("later"), "{answer:?}");
            assert_eq!(id_of(&answer.body), None, "{named} {later}");
        }
    }
    let tags: Vec<String> = (0..501).map(|tag| format!("\"{tag}\"")).collect();
    let tags = format!("{{\"tags\":[{}]", tags.join(","));
    let many = here.post("/api/cache/invalidate", &format!("{tags}}}")).await;
    assert_eq!(id_of(&many.body).map(|id| id.len()), Some(1002), "{many:?}");
    let keys: Vec<String> = (0..9_000).map(|key| format!("\"{key}\"")).collect();
    let more = here.post("/api/cache/invalidate", &format!("{tags},\"keys\":[{}]}}", keys.join(","))).await;
    assert_eq!((more.status, id_of(&more.body)), (200, None), "of more than 10,000 there are none");
    server.kill();
    for named in named {
        let queued = here.post("/api/cache/invalidate", &format!("{{{named}}}")).await;
        assert_eq!(
            (queued.header("terrace-effect"), id_of(&queued.body)),
            (Some("queued"), None),
            "{queued:?}"
        );
    }
    let alone = start("").await.post("/api/cache/invalidate", r#"{"keys":["a"],"pattern":"b*"}"#).await;
    assert_eq!(alone.body, r#"{"invalidated":0,"success":true}"#);
}

#[tokio::test]
async fn a_reader_that_comes_back_gets_exactly_what_it_missed() {
    let service = start("").await;
    let mut reader = Reader::open(&service, "", None).await;
    reader.begun().await;
    put(&service, "first").await;
    let seen = reader.told().await;
    drop(reader);
    for key in ["second", "third"] {
        put(&service, key).await;
    }
    for query in [String::new(), format!("?last_event_id={}", seen.id.clone().expect("an id"))] {
        let header = seen.id.as_deref().filter(|_| query.is_empty());
        let mut reader = Reader::open(&service, &query, header).await;
        assert_eq!((reader.told().await.key(), reader.told().await.key()), ("second".into(), "third".into()));
        put(&service, "fourth").await;
        assert_eq!(reader.told().await.key(), "fourth");
        service.delete("/api/cache/fourth").await;
        assert_eq!(reader.told().await.name, "invalidate");
        drop(reader);
        // The next round misses the same and these two.
        if query.is_empty() {
            let mut reader = Reader::open(&service, "", seen.id.as_deref()).await;
            let keys = [reader.told().await.key(), reader.told().await.key(), reader.told().await.key()];
            assert_eq!(keys, ["second", "third", "fourth"]);
            return;
        }
    }
}

#[tokio::test]
async fn what_cannot_be_gone_on_from_is_told() {
    let service = start("").await;
    for id in ["0000000000000001-7", "nonsense"] {
        let mut reader = Reader::open(&service, "", Some(id)).await;
        let gap = reader.told().await;
        assert_eq!((gap.name.as_str(), gap.data.as_str()), ("gap", r#"{"missed":null}"#));
        put(&service, "a").await;
        assert_eq!(reader.told().await.key(), "a", "and from there on all is told");
    }
}

#[tokio::test]
async fn a_reader_that_is_away_for_too_long_is_told_how_much_it_missed() {
    let service = start("").await;
    let mut reader = Reader::open(&service, "", None).await;
    let place = reader.begun().await;
    drop(reader);
    let keys: Vec<String> = (0..500).map(|number| format!("\"{number}\"")).collect();
    let body = format!("{{\"keys\":[{}]}}", keys.join(","));
    for _ in 0..18 {
        assert_eq!(service.post("/api/cache/invalidate", &body).await.status, 200);
    }
    let mut caught_up = Reader::open(&service, "", Some(&place)).await;
    let gap = caught_up.told().await;
    assert_eq!(gap.name, "gap");
    let mut count = gap.json()["missed"].as_u64().expect("a number");
    while count < 9_000 {
        let told = caught_up.told().await;
        count += told.json()["missed"].as_u64().unwrap_or(1);
    }
    assert_eq!(count, 9_000, "each event is told or counted");
}

#[tokio::test]
async fn a_slow_reader_is_told_and_not_waited_for() {
    let service = start("").await;
    let mut slow = Reader::open(&service, "", None).await;
    slow.begun().await;
    let long: Vec<String> = (0..400).map(|number| format!("\"{number:0>500}\"")).collect();
    let body = format!("{{\"keys\":[{}]}}", long.join(","));
    for _ in 0..100 {
        assert_eq!(service.post("/api/cache/invalidate", &body).await.status, 200, "nobody waits for it");
    }
    let mut quick = Reader::open(&service, "", None).await;
    quick.begun().await;
    put(&service, "last").await;
    assert_eq!(quick.of("set").await.key(), "last");
    let (mut told, mut missed) = (0_u64, 0_u64);
    loop {
        let next = slow.told().await;
        match next.name.as_str() {
            "gap" => missed += next.json()["missed"].as_u64().expect("a number"),
            "set" => break,
            _ => told += 1,
        }
    }
    assert!(missed > 0, "{told} told");
    assert_eq!(told + missed, 40_000, "each event is told or counted");
}

#[tokio::test]
async fn readers_choose_what_they_are_told() {
    let service = start("").await;
    let mut users = Reader::open(&service, "?pattern=user:*", None).await;
    let mut removals = Reader::open(&service, "?types=invalidate,refresh", None).await;
    for reader in [&mut users, &mut removals] {
        reader.begun().await;
    }
    put(&service, "a").await;
    put(&service, "user:1").await;
    service.delete("/api/cache/b").await;
    service.post("/api/cache/invalidate", r#"{"pattern":"*"}"#).await;
    assert_eq!(users.told().await.key(), "user:1");
    assert_eq!(users.told().await.json()["pattern"], "*", "it could be of a user");
    assert_eq!(removals.told().await.key(), "b");
    let refused = service.get("/api/cache/events?types=nonsense").await;
    assert!(
        refused
            .problem(422, "query_invalid")
            .contains("set, invalidate, refresh, bus, breaker, queue, config")
    );
    let unknown = service.get("/api/cache/events?type=set").await.problem(422, "query_invalid");
    assert!(unknown.contains("did you mean `types`?"), "{unknown}");
    service.get("/api/cache/events?pattern=").await.problem(422, "query_invalid");
}

#[tokio::test]
async fn readers_are_bounded_in_number_and_end_with_the_service() {
    let service = start("").await;
    let mut readers = Vec::new();
    for _ in 0..64 {
        let mut reader = Reader::open(&service, "", None).await;
        reader.begun().await;
        readers.push(reader);
    }
    let refused = service.get("/api/cache/events").await.problem(503, "overloaded");
    assert!(refused.contains("too many read events"), "{refused}");
    readers.pop();
    wait::until_some("a seat to be free", async || {
        let reader = Reader::open(&service, "", None).await;
        reader.head.contains("200 ok").then_some(())
    })
    .await;
    put(&service, "a").await;
    assert_eq!(readers[0].told().await.key(), "a");
    let stopping = beside(service.stop(Stop::Now));
    for reader in &mut readers {
        while let Some(told) = reader.next().await {
            assert_eq!(told.key(), "a", "nothing else happened");
        }
    }
    let ended = wait::within("the end", Duration::from_secs(20), stopping).await.expect("it does not panic");
    assert!(ended.is_clean(), "{ended:?}");
}

#[tokio::test]
async fn who_may_not_read_events_any_more_is_told_nothing_from_then_on() {
    let all = "scopes = ['read:*', 'write:*', 'admin']";
    let (one, other) = (token("one", "one", all), token("other", "other", all));
    let fewer = token("one", "one", "scopes = ['read:*', 'write:*']");
    for after in [other.clone(), fewer, token("one", "three", all) + &other] {
        let service = start(&format!("{one}{other}")).await;
        let mut gone = Reader::with(&service, "", "authorization: Bearer one\r\nconnection: close\r\n").await;
        gone.begun().await;
        let before = service.with("other", "PUT", "/api/cache/before", "{\"value\":1}").await;
        assert_eq!((before.status, gone.told().await.key().as_str()), (200, "before"));
        service.reload(&after).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(gone.next().await, None, "not even of the other configuration: {after}");
    }
    let service = start(&format!("{one}{other}")).await;
    let mut stays = Reader::with(&service, "", "authorization: Bearer other\r\n").await;
    stays.begun().await;
    service.reload(&other).await.expect("a token may go");
    assert_eq!(stays.told().await.name, "config");
    let open = start("").await;
    let mut anybody = Reader::with(&open, "", "connection: close\r\n").await;
    anybody.begun().await;
    open.reload(&other).await.expect("tokens may come");
    assert_eq!(anybody.next().await, None);
}

#[tokio::test]
async fn keys_that_cannot_be_loaded_anew_are_refused() {
    let service = start("").await;
    for body in [r#"{"keys":[]}"#, r#"{"keys":[""]}"#, r#"{"key":"a"}"#] {
        service.post("/api/cache/refresh", body).await.problem(422, "body_invalid");
    }
    let asked = service.post("/api/cache/refresh", r#"{"keys":["a","b"]}"#).await;
    assert_eq!((asked.status, asked.body.as_str()), (200, r#"{"refreshing":2,"success":true}"#));
}
