//! What is counted: exactly one hit or miss per lookup, whatever became of it.

use crate::fixture::{Node, ended, hold, let_others_run, loader, spawn};
use std::convert::Infallible;
use std::time::Duration;
use terrace::{Cache, EntryOptions, Figures};
use terrace_testkit::fake::{Fault, Operation, Point};

fn lookups(node: &Node) -> (u64, u64, u64) {
    let Figures { hits_l1, hits_l2, misses, requests, .. } = node.cache.stats().total;
    assert_eq!(hits_l1 + hits_l2 + misses, requests);
    (hits_l1, hits_l2, misses)
}

#[tokio::test]
async fn every_way_to_look_up_counts_once() {
    let node = Node::first().await;
    let other = node.another().await;
    other.put("l2", "v").await;
    node.put("l1", "v").await;
    let through = node.texts.clone().with_origin(Nothing);
    assert_eq!(lookups(&node), (0, 0, 0));
    node.get("l1").await;
    node.entry("l1").await;
    node.load("l1", "v").await;
    through.get("l1").await.unwrap();
    assert_eq!(lookups(&node), (4, 0, 0));
    node.get("none").await;
    node.entry("none").await;
    through.get("none").await.unwrap();
    node.load("loaded", "v").await;
    assert_eq!(lookups(&node), (4, 0, 4));
    for (count, read) in ["get", "entry", "load", "through"].into_iter().enumerate() {
        other.put("l2", "v").await;
        node.clock.advance(Duration::from_mins(1));
        match read {
            "get" => drop(node.get("l2").await),
            "entry" => drop(node.entry("l2").await),
            "load" => drop(node.load("l2", "never loaded").await),
            _ => drop(through.get("l2").await),
        }
        assert_eq!(lookups(&node), (4, 1 + count as u64, 4), "{read}");
    }
    let keys = ["l1", "l2", "none"].map(str::to_owned);
    node.texts.get_many(&keys).await.unwrap();
    assert_eq!(lookups(&node), (5, 5, 5), "l1's copy has gone to L2 again");
    through.get_entries(&keys).await.unwrap();
    assert_eq!(lookups(&node), (7, 5, 6));
}

#[tokio::test]
async fn a_hit_that_alone_is_asked_for_counts_and_what_is_none_does_not() {
    let node = Node::first().await;
    node.put("k", "v").await;
    assert!(node.texts.hit_entry("none").is_none());
    assert_eq!(lookups(&node), (0, 0, 0));
    let (hit, entry) = (node.texts.hit_entry("k").expect("a hit"), node.entry("k").await.expect("a hit"));
    assert_eq!(
        (&hit.value, hit.version, hit.ttl, hit.tier),
        (&entry.value, entry.version, entry.ttl, entry.tier)
    );
    assert_eq!(lookups(&node), (2, 0, 0));
}

/// An origin that has nothing.
struct Nothing;

impl terrace::Origin<String, String> for Nothing {
    type Error = Infallible;

    async fn load(&self, _: &String) -> Result<Option<String>, Infallible> {
        Ok(None)
    }
}

#[tokio::test]
async fn looking_without_reading_counts_nothing() {
    let node = Node::first().await;
    node.put("k", "v").await;
    node.texts.peek("k");
    node.texts.peek_ttl("k");
    node.texts.contains("k").await.unwrap();
    node.texts.contains("none").await.unwrap();
    node.texts.get("not\na key").await.unwrap_err();
    assert_eq!(lookups(&node), (0, 0, 0));
}

#[tokio::test]
async fn failures_are_misses() {
    let node = Node::first().await;
    node.texts.get_or_load("k", || async { Err::<String, _>("no") }).await.unwrap_err();
    let panicking = || async { panic!("no") };
    let panicked: Result<_, terrace::LoadError<Infallible>> = node.texts.get_or_load("k", panicking).await;
    panicked.unwrap_err();
    node.remote.set_fault(Some(Fault::Unavailable));
    node.get("k").await;
    assert_eq!(lookups(&node), (0, 0, 3));
    node.remote.set_fault(None);
    node.cache.shutdown(Duration::from_secs(5)).await.unwrap();
    node.texts.get_or_load("k", loader("v")).await.unwrap_err();
    assert_eq!(lookups(&node), (0, 0, 4), "a refused lookup is one too");
}

#[tokio::test]
async fn those_who_share_a_load_are_misses_and_coalesced() {
    let node = Node::first().await;
    let (mut held, leader) = node.loading("k");
    held.started().await;
    let followers: Vec<_> = (0..9).map(|_| node.loading_at_once("k", "never loaded")).collect();
    let_others_run().await;
    held.bring("v");
    ended(leader).await.unwrap();
    for follower in followers {
        ended(follower).await;
    }
    let stats = node.cache.stats().total;
    assert_eq!((stats.requests, stats.misses, stats.coalesced, stats.loads), (10, 10, 9, 1));
    assert_eq!((stats.fills, stats.fills_rejected), (1, 0));
}

#[tokio::test]
async fn who_joins_in_vain_is_not_coalesced() {
    let node = Node::first().await;
    let (mut held, leader) = node.loading("k");
    held.started().await;
    let follower = node.loading_at_once("k", "own");
    let_others_run().await;
    node.texts.remove("k").await.unwrap();
    held.bring("overtaken");
    ended(leader).await.unwrap();
    assert_eq!(ended(follower).await, "own");
    let stats = node.cache.stats().total;
    assert_eq!((stats.requests, stats.misses, stats.coalesced, stats.loads), (2, 2, 0, 2));
    assert_eq!((stats.fills, stats.fills_rejected), (1, 1));
}

#[tokio::test]
async fn those_who_share_an_answer_of_l2_are_hits() {
    let node = Node::first().await;
    node.another().await.put("k", "v").await;
    let gate = node.remote.hold(Operation::Get, Point::BeforeEffect);
    let callers: Vec<_> = (0..10).map(|_| node.loading_at_once("k", "never loaded")).collect();
    gate.wait_until_held(1).await;
    gate.open();
    for caller in callers {
        ended(caller).await;
    }
    let (hits_l1, hits_l2, misses) = lookups(&node);
    assert_eq!((hits_l1 + hits_l2, misses), (10, 0));
}

#[tokio::test]
async fn without_l2_fills_are_counted_too() {
    let cache = Cache::memory().unwrap();
    let texts = cache.keyspace::<String, String>("texts").build().unwrap();
    texts.get_or_load("kept", loader("v")).await.unwrap();
    let (mut held, load) = hold::<Infallible>();
    let leading = texts.clone();
    let leader = spawn(async move { leading.get_or_load("k", load).await });
    held.started().await;
    texts.remove("k").await.unwrap();
    held.bring("overtaken");
    ended(leader).await.unwrap();
    let stats = cache.stats().total;
    assert_eq!((stats.loads, stats.fills, stats.fills_rejected), (2, 1, 1));
}

#[tokio::test]
async fn changes_are_counted_by_what_was_asked_for() {
    let node = Node::first().await;
    let entry = |key: &str| (key.to_owned(), "v".to_owned());
    node.put("a", "v").await;
    node.put("a", "w").await;
    node.texts.put_many([entry("b"), entry("c")]).await.unwrap();
    node.texts.remove("a").await.unwrap();
    node.texts.remove_many(&["b".to_owned(), "none".to_owned()]).await.unwrap();
    let named = node.texts.invalidate().keys(["x", "y"]).pattern("p*").unwrap().tag("t").unwrap();
    named.send().await.unwrap();
    node.texts.clear().await.unwrap();
    node.remote.set_fault(Some(Fault::Unavailable));
    node.put("q", "v").await;
    node.texts.remove("q").await.unwrap();
    node.remote.set_fault(Some(Fault::Refused));
    node.texts.put("r", "v".to_owned()).await.unwrap_err();
    let stats = node.cache.stats().total;
    assert_eq!((stats.sets, stats.sets_queued, stats.sets_failed), (5, 1, 1));
    assert_eq!((stats.deletes, stats.deletes_queued, stats.deletes_failed), (4, 1, 0));
    let named = (stats.invalidated_keys, stats.invalidated_patterns, stats.invalidated_tags, stats.clears);
    assert_eq!((named, stats.invalidations), ((2, 1, 1, 1), 5));
    assert_eq!(node.cache.stats().pending_invalidations, node.cache.health().await.pending_invalidations);
}

#[tokio::test]
async fn what_leaves_l1_is_counted_by_its_reason() {
    let cache = Cache::memory().unwrap();
    let texts = cache.keyspace::<String, String>("texts").build().unwrap();
    for _ in 0..10 {
        texts.put("replaced", "v".to_owned()).await.unwrap();
    }
    texts.put("removed", "v".to_owned()).await.unwrap();
    texts.remove("removed").await.unwrap();
    let stats = cache.stats().total;
    assert_eq!((stats.evictions, stats.expirations, stats.entries), (0, 0, 1));
    let metrics = cache.metrics();
    let invalidated = metrics.lines().find(|line| line.contains("invalidated") && line.contains("texts"));
    let invalidated = invalidated.expect("there is such a metric");
    assert!(invalidated.ends_with(" 1"), "a value that is replaced is not invalidated: {invalidated}");
}

#[tokio::test]
async fn a_reset_starts_from_zero_and_keeps_what_is_held() {
    let node = Node::first().await;
    let tagged = EntryOptions::default().tag("t").unwrap();
    node.texts.put_with("k", "v".to_owned(), tagged).await.unwrap();
    node.get("k").await;
    node.clock.advance(Duration::from_secs(5));
    node.cache.reset_stats();
    node.clock.advance(Duration::from_secs(3));
    let stats = node.cache.stats();
    assert_eq!((stats.total.requests, stats.total.sets, stats.total.l2_round_trips), (0, 0, 0));
    assert_eq!((stats.total.entries, stats.seconds), (1, 3.0));
    node.get("k").await;
    assert_eq!(lookups(&node), (1, 0, 0));
}

#[tokio::test]
async fn what_compression_saves_is_the_difference_of_two_counters() {
    let node = Node::first().await;
    let bytes = |stage: &str| -> u64 {
        let series = format!("terrace_compression_bytes_total{{keyspace=\"texts\",stage=\"{stage}\"}} ");
        let text = node.cache.metrics();
        let value = text.lines().find_map(|line| line.strip_prefix(&series));
        value.unwrap_or_else(|| panic!("no {series}in {text}")).parse().expect("a number")
    };
    assert_eq!((bytes("before"), bytes("after")), (0, 0));
    node.put("short", "v").await;
    let short = bytes("before");
    assert!(short > 0);
    assert_eq!(bytes("after"), short, "too short to be compressed");
    node.put("long", &"again and again ".repeat(5_000)).await;
    assert!(bytes("before") - short >= 80_000, "{}", bytes("before"));
    assert!(bytes("after") - short < 8_000, "{}", bytes("after"));
    node.load("loaded", &"again and again ".repeat(5_000)).await;
    assert!(
        bytes("before") - short >= 160_000 && bytes("after") - short < 16_000,
        "what is loaded counts too"
    );
}
