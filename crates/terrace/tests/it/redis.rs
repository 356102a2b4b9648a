//! Both tiers over a real server: what the fake promises, once more from end to end.

use crate::fixture::{Counted, HOUR, Loads, Texts, hold, loader, spawn, within};
use std::convert::Infallible;
use std::time::Duration;
use terrace::{Cache, CacheBuilder, Clock, Effect, EntryOptions, Glob, Redis, RemoteError, Tag, Tier, Ttl};
use terrace_testkit::server::{RedisServer, redis_url, unique_prefix};
use terrace_testkit::wait::{pause, until, until_some};

/// A node on the server that tests share.
struct Node {
    cache: Cache,
    texts: Texts,
}

impl Node {
    fn on(url: &str, prefix: &str, set: impl FnOnce(CacheBuilder) -> CacheBuilder) -> Self {
        let redis = Redis::url(url).expect("a URL").key_prefix(prefix).read_timeout(Duration::from_secs(10));
        let redis = redis.write_timeout(Duration::from_secs(10)).build().expect("valid settings");
        let cache = set(Cache::builder().default_ttl(HOUR).l2(redis)).build().expect("valid settings");
        let tagger =
            |key: &String, _: &String| key.split_once(':').map(|(tag, _)| Tag::new(tag).expect("valid"));
        let tagger = move |key: &String, value: &String| tagger(key, value).into_iter().collect();
        let texts = cache.keyspace("texts").tags(tagger).build().expect("a new keyspace");
        Self { cache, texts }
    }

    async fn source(&self, key: &str) -> Option<(Tier, String)> {
        let entry = self.texts.get_entry(key).await.expect("a valid key")?;
        Some((entry.tier, (*entry.value).clone()))
    }

    async fn put(&self, key: &str, value: &str) {
        let written = self.texts.put(key, value.to_owned()).await.expect("stored");
        assert_eq!(written.effect, Effect::Applied);
    }
}

/// Two nodes on the shared server, the second without L1; `None`, with a line on the terminal, if there is none.
async fn fleet() -> Option<(Node, Node)> {
    let (url, prefix) = (redis_url().await?, unique_prefix());
    Some((Node::on(&url, &prefix, |builder| builder), Node::on(&url, &prefix, CacheBuilder::no_l1)))
}

#[tokio::test]
async fn every_operation_works() {
    let Some((node, other)) = fleet().await else { return };
    let counted = Counted::default();
    assert_eq!(*node.texts.get_or_load("a:1", counted.loader("1")).await.unwrap(), "1");
    assert_eq!(*other.texts.get_or_load("a:1", counted.loader("again")).await.unwrap(), "1");
    assert_eq!(counted.runs(), 1);
    assert_eq!(node.source("a:1").await, Some((Tier::L1, "1".to_owned())));
    assert_eq!(other.source("a:1").await, Some((Tier::L2, "1".to_owned())));
    let (here, there) = (node.texts.get_entry("a:1").await, other.texts.get_entry("a:1").await);
    let (here, there) = (here.unwrap().unwrap(), there.unwrap().unwrap());
    assert_eq!((here.version, here.tags), (there.version, there.tags));
    node.put("a:1", "2").await;
    assert_eq!(other.source("a:1").await, Some((Tier::L2, "2".to_owned())));
    let entries = ["a:2", "b:1", "b:2", "c"].map(|key| (key.to_owned(), key.to_owned()));
    let written = node.texts.put_many(entries).await.unwrap();
    assert!(written.iter().all(|written| written.effect == Effect::Applied && written.version.get() > 0));
    let keys = ["c", "none", "b:1", "a:1"].map(str::to_owned);
    let found = other.texts.get_many(&keys).await.unwrap();
    let found: Vec<Option<&str>> = found.iter().map(|value| value.as_deref().map(String::as_str)).collect();
    assert_eq!(found, [Some("c"), None, Some("b:1"), Some("2")]);
    assert!(other.texts.remove("c").await.unwrap().existed);
    node.texts.invalidate().tag("a").unwrap().send().await.unwrap();
    assert_eq!((other.source("a:1").await, other.source("a:2").await), (None, None));
    let swept = node.texts.invalidate().pattern("b:[1]").unwrap().send().await.unwrap();
    assert_eq!((swept.count, swept.effect), (1, Effect::Applied));
    assert_eq!(other.source("b:1").await, None);
    assert_eq!(other.source("b:2").await, Some((Tier::L2, "b:2".to_owned())));
    assert!(node.texts.clear().await.unwrap().count >= 1);
    assert!(!other.texts.contains("b:2").await.unwrap());
    let health = node.cache.health().await;
    assert!(health.is_whole(), "{health:?}");
    node.cache.shutdown(Duration::from_secs(10)).await.unwrap();
    other.cache.shutdown(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn the_first_load_of_a_tagged_entry_is_kept() {
    let Some((node, other)) = fleet().await else { return };
    node.texts.get_or_load("t:1", loader("v")).await.unwrap();
    assert_eq!(other.source("t:1").await, Some((Tier::L2, "v".to_owned())));
}

#[tokio::test]
async fn a_load_overtaken_by_a_change_on_another_node_is_kept_nowhere() {
    let Some((node, other)) = fleet().await else { return };
    for change in ["put", "remove", "tag", "clear"] {
        let key = "t:overtaken";
        node.texts.remove(key).await.unwrap();
        let (mut held, load) = hold::<Infallible>();
        let texts = node.texts.clone();
        let leader = spawn(async move { texts.get_or_load(key, load).await });
        held.started().await;
        match change {
            "put" => other.put(key, "new").await,
            "remove" => drop(other.texts.remove(key).await.unwrap().existed),
            "tag" => drop(other.texts.invalidate().tag("t").unwrap().send().await.unwrap().count),
            _ => drop(other.texts.clear().await.unwrap().count),
        }
        held.bring("old");
        let brought: Loads<Infallible> = within("the load", leader).await.unwrap();
        assert_eq!(*brought.unwrap(), "old");
        let expected = (change == "put").then(|| (Tier::L2, "new".to_owned()));
        assert_eq!(other.source(key).await, expected, "{change}");
        assert_eq!(node.source(key).await, expected, "{change}");
    }
}

#[tokio::test]
async fn the_fleet_loads_once() {
    let Some((node, other)) = fleet().await else { return };
    let (mut held, load) = hold::<Infallible>();
    let texts = node.texts.clone();
    let leader = spawn(async move { texts.get_or_load("k", load).await });
    held.started().await;
    let (texts, counted) = (other.texts.clone(), Counted::default());
    let never_loads = counted.loader("never loaded");
    let waiting = spawn(async move { texts.get_or_load("k", never_loads).await });
    until("the other node to ask", || other.cache.stats().total.l2_round_trips >= 4).await;
    held.bring("v");
    assert_eq!(*within("the load", leader).await.unwrap().unwrap(), "v");
    let found: Loads<Infallible> = within("the other node", waiting).await.unwrap();
    assert_eq!((found.unwrap().as_str(), counted.runs()), ("v", 0));
}

#[tokio::test]
async fn whoever_waits_is_woken_by_the_end_of_the_load() {
    const ROUNDS: usize = 20;
    let Some(url) = redis_url().await else { return };
    let prefix = unique_prefix();
    let (node, other) =
        (Node::on(&url, &prefix, |builder| builder), Node::on(&url, &prefix, |builder| builder));
    drop(other.source("joined").await);
    let clock = Clock::system();
    let (mut waits, mut trips) = (Vec::new(), 0);
    for round in 0..ROUNDS {
        let key = round.to_string();
        let (mut held, load) = hold::<Infallible>();
        let (texts, name) = (node.texts.clone(), key.clone());
        let leader = spawn(async move { texts.get_or_load(&name, load).await });
        held.started().await;
        let asked = other.cache.stats().total.l2_round_trips;
        let texts = other.texts.clone();
        let waiting = spawn(async move { texts.get_or_load(&key, loader("never loaded")).await });
        until("the other node to wait", || other.cache.stats().total.l2_round_trips >= asked + 2).await;
        pause(Duration::from_millis(20)).await;
        held.bring("v");
        within("the load", leader).await.unwrap().unwrap();
        let since = clock.precise();
        assert_eq!(*within("the other node", waiting).await.unwrap().unwrap(), "v");
        waits.push(clock.precise().since(since));
        trips += other.cache.stats().total.l2_round_trips - asked;
    }
    waits.sort();
    let (median, longest) = (waits[ROUNDS / 2], waits[ROUNDS - 1]);
    println!(
        "woken after {median:?} in the median, {longest:?} at most; {trips} round trips in {ROUNDS} waits"
    );
    assert!(median < Duration::from_millis(200), "whoever is not woken looks twice a second: {median:?}");
    assert!(trips <= 4 * ROUNDS as u64, "and whoever is woken has no need to look: {trips}");
}

#[tokio::test]
async fn odd_ttls_are_kept_as_long_as_they_say() {
    let Some((node, other)) = fleet().await else { return };
    for (ttl, is_kept) in [
        (Ttl::After(Duration::ZERO), false),
        (Ttl::After(Duration::from_micros(500)), false),
        (Ttl::from(Duration::from_millis(1 << 31)), true),
        (Ttl::from(Duration::from_millis(1 << 53)), true),
        (Ttl::After(Duration::MAX), true),
        (Ttl::Never, true),
    ] {
        let options = EntryOptions::default().ttl(ttl);
        node.put("k", "old").await;
        node.texts.put_with("k", "new".to_owned(), options.clone()).await.unwrap();
        let entry = other.texts.get_entry("k").await.unwrap();
        assert_eq!(entry.as_ref().map(|entry| entry.value.as_str()), is_kept.then_some("new"), "{ttl:?}");
        node.texts.remove("k").await.unwrap();
        node.texts.get_or_load_with("k", options, loader("loaded")).await.unwrap();
        let entry = other.texts.get_entry("k").await.unwrap();
        assert_eq!(entry.as_ref().map(|entry| entry.value.as_str()), is_kept.then_some("loaded"), "{ttl:?}");
        if let Some(entry) = entry {
            let longest = ttl.duration().unwrap_or(Duration::MAX);
            assert!(entry.ttl.duration().is_none_or(|left| left <= longest), "{ttl:?}: {:?} left", entry.ttl);
        }
    }
}

#[tokio::test]
async fn a_server_that_goes_away_and_comes_back_empty_costs_loads_and_nothing_else() {
    let Some(server) = RedisServer::start().await else { return };
    let node = Node::on(&server.url(), "t:", CacheBuilder::no_l1);
    node.put("k", "old").await;
    node.put("l", "old").await;
    server.kill();
    let queued = until_some("a removal to be queued", async || {
        let removed = node.texts.remove("k").await.expect("a server that is away is no error");
        (removed.effect == Effect::Queued).then_some(removed)
    });
    queued.await;
    assert_eq!(*node.texts.get_or_load("k", loader("own")).await.unwrap(), "own");
    assert!(matches!(node.cache.health().await.l2, Some(Err(RemoteError::Unavailable { .. }))));
    server.restart().await;
    until("the removal to be delivered", || node.cache.stats().pending_invalidations == 0).await;
    assert_eq!((node.source("k").await, node.source("l").await), (None, None));
    until_some("writes to be applied again", async || {
        let written = node.texts.put("k", "new".to_owned()).await.expect("stored");
        (written.effect == Effect::Applied).then_some(())
    })
    .await;
    assert_eq!(node.source("k").await, Some((Tier::L2, "new".to_owned())));
}

#[tokio::test]
async fn what_is_warmed_is_kept_as_loads_are() {
    let (Some(url), prefix) = (redis_url().await, unique_prefix()) else { return };
    // A busy machine answers late, and what is late is not in L2.
    let patient = |builder: CacheBuilder| builder.l2_wait_max(Duration::from_secs(20));
    let node = Node::on(&url, &prefix, patient);
    let other = Node::on(&url, &prefix, |builder| patient(builder).no_l1());
    let warmed = within("the first to hear", async {
        let rows = || async { Ok::<_, Infallible>((0..2_000).map(|n| (format!("w:{n}"), n.to_string()))) };
        node.texts.warm().rows(rows).await.unwrap()
    });
    let warmed = warmed.await;
    assert_eq!((warmed.loaded, warmed.failed), (2_000, 0), "{warmed:?}");
    assert_eq!(other.source("w:7").await, Some((Tier::L2, "7".to_owned())));
    let changed = async || {
        other.texts.invalidate().keys(["x:1"]).tag("y").unwrap().send().await.unwrap();
        Ok::<_, Infallible>(["x:1", "y:1", "z:1"].map(|key| (key.to_owned(), "old".to_owned())))
    };
    let warmed = node.texts.warm().rows(changed).await.unwrap();
    assert_eq!((warmed.loaded, warmed.overtaken), (1, 2), "{warmed:?}");
    assert_eq!((other.source("x:1").await, other.source("y:1").await), (None, None));
    let loaded = other
        .texts
        .warm()
        .keys_with((0..500).map(|n| format!("k:{n}")), async |key: String| Ok::<_, Infallible>(Some(key)));
    assert_eq!(loaded.await.unwrap().loaded, 500);
    let copied = node.texts.warm().matching(Glob::new("k:*").unwrap()).await.unwrap();
    assert_eq!((copied.promoted, copied.failed), (500, 0));
    assert_eq!(node.texts.peek("k:499").as_deref().map(String::as_str), Some("k:499"));
}
