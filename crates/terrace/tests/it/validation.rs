//! Copies that cannot be proven fresh: L2 is asked about them by version, and they are kept meanwhile.

use crate::fixture::{LEASE, Node, Texts, ended, let_others_run, spawn};
use std::time::Duration;
use terrace::{Cache, Compression, EntryOptions, L1, SuspectPolicy, Tier};
use terrace_testkit::fake::{Fault, Loss, Operation, Point};
use terrace_testkit::wait::{self, pause, until};

/// Two nodes, the second of which has copies of these keys in L1, each with the value `old`.
async fn two(keys: &[&str]) -> (Node, Node) {
    let writer = Node::first_hearing().await;
    let reader = writer.another_hearing().await;
    for key in keys {
        writer.put(key, "old").await;
        copied(&reader, key).await;
    }
    reader.remote.reset_calls();
    (writer, reader)
}

/// Reads until there is a copy that counts as fresh.
async fn copied(node: &Node, key: &str) {
    node.get(key).await;
    until("the copy counts as fresh", || has_copy(node, key)).await;
}

fn has_copy(node: &Node, key: &str) -> bool {
    node.texts.peek(key).is_some()
}

/// From now on nothing is heard, and copies do not count as fresh.
fn lapse(node: &Node) {
    node.remote.set_loss(Loss::Everything);
    node.clock.advance(LEASE);
}

async fn heal(node: &Node, key: &str) {
    node.remote.set_loss(Loss::Nothing);
    until("copies count as fresh again", || has_copy(node, key)).await;
}

/// What was changed while nothing was heard cannot be read from the log.
async fn suspicion(writer: &Node, reader: &Node) {
    reader.remote.set_fault_on(Operation::ChangesSince, Some(Fault::Refused));
    reader.remote.cut_bus();
    writer.put("k", "new").await;
    reader.remote.mend_bus();
    until("what was missed is given up", || metric(&reader.cache, "bus_gaps", "outcome=\"suspected\"") > 0)
        .await;
    reader.remote.set_fault_on(Operation::ChangesSince, None);
}

/// A number that Prometheus is told of the keyspace `texts`.
fn metric(cache: &Cache, name: &str, label: &str) -> u64 {
    let series = format!("terrace_{name}_total{{keyspace=\"texts\",{label}}} ");
    let metrics = cache.metrics();
    let line = metrics.lines().find_map(|line| line.strip_prefix(&series)).expect("the series is there");
    line.parse().expect("a number")
}

fn bytes_read(node: &Node) -> u64 {
    metric(&node.cache, "l2_bytes", "direction=\"read\"")
}

/// How many lookups were validated: the same, changed, missing, unanswered.
fn outcomes(node: &Node) -> [u64; 4] {
    ["same", "changed", "missing", "unanswered"]
        .map(|outcome| metric(&node.cache, "validations", &format!("outcome=\"{outcome}\"")))
}

fn reads(node: &Node) -> [u64; 3] {
    [Operation::Validate, Operation::Get, Operation::GetMany].map(|operation| node.calls(operation))
}

#[tokio::test]
async fn a_value_that_is_the_same_is_not_moved() {
    let (_writer, reader) = two(&["k"]).await;
    lapse(&reader);
    let before = bytes_read(&reader);
    assert_eq!(reader.source("k").await, Some((Tier::L2, "old".to_owned())));
    assert!(!reader.entry("k").await.unwrap().is_stale);
    assert_eq!((reads(&reader), outcomes(&reader)), ([2, 0, 0], [2, 0, 0, 0]));
    assert_eq!(reader.load("k", "not loaded").await, "old");
    assert_eq!((reads(&reader), bytes_read(&reader)), ([3, 0, 0], before));
    heal(&reader, "k").await;
    assert_eq!(reader.source("k").await, Some((Tier::L1, "old".to_owned())));
    assert_eq!((reads(&reader)[1..].to_vec(), bytes_read(&reader)), (vec![0, 0], before));
}

#[tokio::test]
async fn what_was_changed_or_removed_is_found_out() {
    let (writer, reader) = two(&["k", "gone", "stays"]).await;
    lapse(&reader);
    writer.put("k", "new").await;
    writer.texts.remove("gone").await.unwrap();
    assert_eq!(reader.source("k").await, Some((Tier::L2, "new".to_owned())));
    assert_eq!(reader.get("gone").await, None);
    assert_eq!(outcomes(&reader), [0, 1, 1, 0]);
    assert_eq!(reader.get("gone").await, None);
    assert_eq!(outcomes(&reader), [0, 1, 1, 0], "there is no copy any more to ask about");
    heal(&reader, "stays").await;
    assert_eq!(reader.source("k").await, Some((Tier::L1, "new".to_owned())));
    assert!(!has_copy(&reader, "gone"));
}

#[tokio::test]
async fn a_copy_ends_no_later_than_l2_says() {
    let (writer, reader) = two(&["other"]).await;
    let minute = EntryOptions::default().ttl(Duration::from_mins(1));
    writer.texts.put_with("k", "v".to_owned(), minute).await.unwrap();
    copied(&reader, "k").await;
    reader.remote.reset_calls();
    lapse(&reader);
    let left = |entry: terrace::Entry<String>| entry.ttl.duration().expect("it ends");
    let before = left(reader.entry("k").await.unwrap());
    reader.clock.advance(Duration::from_secs(20));
    let after = left(reader.entry("k").await.unwrap());
    assert_eq!(reads(&reader), [2, 0, 0]);
    assert!(after + Duration::from_secs(20) <= before, "{before:?} {after:?}");
}

#[tokio::test]
async fn a_tag_that_was_bumped_kills_a_copy_of_the_same_version() {
    let (writer, reader) = two(&["k"]).await;
    for (key, tag) in [("dead", "t"), ("alive", "u")] {
        let tagged = EntryOptions::default().tag(tag).unwrap();
        writer.texts.put_with(key, "v".to_owned(), tagged).await.unwrap();
        copied(&reader, key).await;
    }
    let loaded = EntryOptions::default().tag("t").unwrap();
    reader.texts.get_or_load_with("loaded", loaded, crate::fixture::loader("v")).await.unwrap();
    reader.remote.reset_calls();
    lapse(&reader);
    writer.texts.invalidate().tag("t").unwrap().send().await.unwrap();
    assert_eq!(reader.get("alive").await.as_deref(), Some("v"));
    assert_eq!(reader.get("dead").await, None);
    assert_eq!(reader.get("loaded").await, None);
    assert_eq!((reads(&reader), outcomes(&reader)), ([3, 0, 0], [1, 0, 2, 0]));
}

#[tokio::test]
async fn copies_that_may_have_been_missed_are_kept_and_asked_about() {
    let (writer, reader) = two(&["k", "other"]).await;
    suspicion(&writer, &reader).await;
    assert!(!has_copy(&reader, "other"));
    let before = bytes_read(&reader);
    assert_eq!(reader.source("other").await, Some((Tier::L2, "old".to_owned())));
    assert_eq!((reads(&reader)[1..].to_vec(), bytes_read(&reader)), (vec![0, 0], before));
    until("the copy counts as fresh again", || has_copy(&reader, "other")).await;
    assert_eq!(reader.source("k").await, Some((Tier::L2, "new".to_owned())));
    assert_eq!(outcomes(&reader), [1, 1, 0, 0]);
}

#[tokio::test]
async fn copies_that_may_have_been_missed_are_there_while_l2_is_down() {
    let (writer, reader) = two(&["k", "other"]).await;
    suspicion(&writer, &reader).await;
    reader.remote.set_fault(Some(Fault::Unavailable));
    for _ in 0..2 {
        let entry = reader.entry("other").await.expect("it is kept");
        assert_eq!((entry.is_stale, entry.tier, entry.value.as_str()), (true, Tier::L1, "old"));
    }
    assert_eq!(outcomes(&reader)[3], 2);
    reader.remote.set_fault(None);
    let before = bytes_read(&reader);
    assert_eq!(reader.source("other").await, Some((Tier::L2, "old".to_owned())));
    assert_eq!(bytes_read(&reader), before);
}

#[tokio::test]
async fn who_takes_stale_values_gets_fresh_ones_soon() {
    let (writer, reader) = two(&["k"]).await;
    let hasty = reader.cache.keyspace::<String, String>("hasty").suspect(SuspectPolicy::Stale);
    let hasty = hasty.build().unwrap();
    hasty.put("k", "v".to_owned()).await.unwrap();
    until("it counts as fresh", || hasty.peek("k").is_some()).await;
    reader.remote.set_fault_on(Operation::ChangesSince, Some(Fault::Refused));
    reader.remote.cut_bus();
    let other = writer.cache.keyspace::<String, String>("hasty").build().unwrap();
    other.put("other", "v".to_owned()).await.unwrap();
    reader.remote.mend_bus();
    until("what was missed is given up", || hasty.peek("k").is_none()).await;
    until("copies could count as fresh", || has_copy(&reader, "k")).await;
    assert!(hasty.get_entry("k").await.unwrap().expect("it is kept").is_stale);
    until("it counts as fresh again", || hasty.peek("k").is_some()).await;
}

#[tokio::test]
async fn what_nobody_reads_for_a_minute_is_dropped_with_the_suspicion() {
    let (writer, reader) = two(&["k", "other"]).await;
    suspicion(&writer, &reader).await;
    until("copies could count as fresh", || {
        let trust = futures_util::FutureExt::now_or_never(reader.texts.why("absent"));
        trust.is_some_and(|why| matches!(why.unwrap().trust, terrace::Trusted::For(_)))
    })
    .await;
    tokio::time::pause();
    let entries = || reader.cache.stats().total.entries;
    pause(Duration::from_secs(50)).await;
    assert_eq!(entries(), 2);
    pause(Duration::from_secs(20)).await;
    assert_eq!(entries(), 0);
}

#[tokio::test]
async fn those_who_ask_about_one_key_together_ask_once() {
    let (_writer, reader) = two(&["k"]).await;
    lapse(&reader);
    let gate = reader.remote.hold(Operation::Validate, Point::BeforeEffect);
    let mut readers: Vec<_> = (0..50).map(|_| reader.getting("k")).collect();
    gate.wait_until_held(1).await;
    readers.extend((0..50).map(|_| reader.getting("k")));
    gate.wait_until_held(2).await;
    let_others_run().await;
    assert_eq!(gate.held(), 2, "those who came after the question was sent ask once more, together");
    gate.open();
    for reader in readers {
        assert_eq!(ended(reader).await.as_deref(), Some("old"));
    }
    assert_eq!(reads(&reader), [2, 0, 0]);
}

#[tokio::test]
async fn a_change_on_the_way_of_the_answer_keeps_the_copy_from_counting_as_fresh() {
    let (_writer, reader) = two(&["k"]).await;
    lapse(&reader);
    let gate = reader.remote.hold(Operation::Validate, Point::AfterEffect);
    let reading = reader.getting("k");
    gate.wait_until_held(1).await;
    reader.texts.invalidate().keys(["k"]).send().await.unwrap();
    gate.open();
    ended(reading).await;
    assert_eq!(reader.get("k").await, None, "what was the same before the invalidation is not kept after it");
}

#[tokio::test(start_paused = true)]
async fn an_l2_that_does_not_answer_costs_fifty_milliseconds() {
    let (_writer, reader) = two(&["k", "other"]).await;
    lapse(&reader);
    let _gate = reader.remote.hold(Operation::Validate, Point::BeforeEffect);
    let limit = Duration::from_millis(60);
    let entry = wait::within("an answer about one", limit, reader.entry("k")).await.expect("it is kept");
    assert!(entry.is_stale);
    let keys = ["k".to_owned(), "other".to_owned()];
    let entries = wait::within("an answer about many", limit, reader.texts.get_entries(&keys)).await.unwrap();
    assert!(entries.into_iter().all(|entry| entry.is_some_and(|entry| entry.is_stale)));
    assert_eq!(outcomes(&reader), [0, 0, 0, 3]);
}

#[tokio::test]
async fn a_batch_asks_about_many_at_a_time() {
    let keys: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    let (writer, reader) = two(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    lapse(&reader);
    writer.put("7", "new").await;
    writer.texts.remove("8").await.unwrap();
    let before = bytes_read(&reader);
    let found = reader.texts.get_entries(&keys).await.unwrap();
    for (key, entry) in keys.iter().zip(&found) {
        let expected = match key.as_str() {
            "7" => Some("new"),
            "8" => None,
            _ => Some("old"),
        };
        assert_eq!(entry.as_ref().map(|entry| entry.value.as_str()), expected, "{key}");
        assert!(entry.as_ref().is_none_or(|entry| !entry.is_stale), "{key}");
    }
    assert_eq!((reads(&reader), outcomes(&reader)), ([3, 0, 1], [298, 1, 1, 0]));
    assert!(bytes_read(&reader) - before < 200, "one short value");
}

/// Copies, and how long each is.
const COPIES: usize = 10_000;
const LENGTH: usize = 10 << 10;
const READERS: usize = 100;

/// Another node, with room for all copies.
fn roomy(writer: &Node) -> Node {
    let (remote, clock) = (writer.remote.another_node().hearing(), writer.clock.clone());
    let builder = Cache::builder().clock(clock.clone()).l2(remote.clone()).staleness_max(LEASE);
    let cache = builder.l1(L1::entries(2 * COPIES)).build().expect("valid settings");
    let texts = cache.keyspace("texts").build().expect("a new keyspace");
    Node { cache, texts, remote, clock }
}

fn big(node: &Node) -> Texts {
    node.cache.keyspace("big").compression(Compression::NONE).build().expect("a new keyspace")
}

/// Reads all keys, with many readers at a time, and says how many calls and bytes that took.
async fn read_all(node: &Node, texts: &Texts) -> (u64, u64) {
    let figures = || {
        let calls = [Operation::Validate, Operation::Get, Operation::GetMany].map(|of| node.calls(of));
        (calls.iter().sum::<u64>(), node.cache.stats().keyspaces["big"].l2_bytes_read)
    };
    let before = figures();
    let read = |first: usize| {
        let texts = texts.clone();
        async move {
            for key in (first..COPIES).step_by(READERS) {
                let entry = texts.get_entry(&key.to_string()).await.expect("a read").expect("it is there");
                assert_eq!((entry.value.len(), entry.is_stale), (LENGTH, false));
            }
        }
    };
    for reader in (0..READERS).map(|first| spawn(read(first))).collect::<Vec<_>>() {
        ended(reader).await;
    }
    let after = figures();
    (after.0 - before.0, after.1 - before.1)
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_copies_cost_little_after_a_lapse() {
    let writer = Node::first_hearing().await;
    let reader = roomy(&writer);
    let (written, read) = (big(&writer), big(&reader));
    let entry = |n: usize| (n.to_string(), format!("{n:0>LENGTH$}"));
    for first in (0..COPIES).step_by(500) {
        written.put_many((first..first + 500).map(entry)).await.expect("stored");
    }
    let (calls_cold, bytes_cold) = read_all(&reader, &read).await;
    lapse(&reader);
    let (calls, bytes) = read_all(&reader, &read).await;
    println!(
        "without copies: {calls_cold} calls, {bytes_cold} bytes; after a lapse: {calls} calls, {bytes} bytes"
    );
    assert!(calls_cold >= COPIES as u64 && bytes_cold > (COPIES * LENGTH) as u64);
    assert_eq!(bytes, 0, "no value was moved");
    assert!(calls <= (COPIES / READERS * 2) as u64, "{calls} calls");
}
