//! Nodes that hear of each other's changes, and what they do when they may not have.

use crate::fixture::{LEASE, Node, ended, hold, spawn};
use std::convert::Infallible;
use std::time::Duration;
use terrace::{EntryOptions, ErrorKind, SuspectPolicy, Tier};
use terrace_testkit::fake::{Fault, Loss, Operation, Point};
use terrace_testkit::wait::{pause, until};

/// Two nodes, the second of which has copies of `k` and `other` in L1.
async fn two() -> (Node, Node) {
    let writer = Node::first_hearing().await;
    let reader = writer.another_hearing().await;
    for key in ["k", "other"] {
        writer.put(key, "old").await;
        assert_eq!(reader.source(key).await, Some((Tier::L2, "old".to_owned())));
        assert_eq!(reader.source(key).await, Some((Tier::L1, "old".to_owned())));
    }
    (writer, reader)
}

/// A while in which an audit has begun.
const AUDIT: Duration = Duration::from_secs(6);

/// A copy in L1 that counts as fresh.
fn has_copy(node: &Node, key: &str) -> bool {
    node.texts.peek(key).is_some()
}

async fn drops(node: &Node, key: &str) {
    until("the reader drops its copy", || !has_copy(node, key)).await;
}

/// What Prometheus is told of the gaps that were found.
fn gaps(node: &Node, outcome: &str) -> bool {
    let series = format!("terrace_bus_gaps_total{{keyspace=\"texts\",outcome=\"{outcome}\"}} ");
    let metrics = node.cache.metrics();
    let line = metrics.lines().find_map(|line| line.strip_prefix(&series)).expect("the series is there");
    line != "0"
}

#[tokio::test]
async fn a_change_of_a_key_is_heard() {
    let (writer, reader) = two().await;
    writer.put("k", "new").await;
    drops(&reader, "k").await;
    assert!(has_copy(&reader, "other"), "other keys stay");
    assert_eq!(reader.source("k").await, Some((Tier::L2, "new".to_owned())));
    assert!(has_copy(&reader, "k"));
    writer.texts.remove("k").await.unwrap();
    drops(&reader, "k").await;
    assert_eq!(reader.get("k").await, None);
}

/// So many messages of this type went this way, as Prometheus is told.
fn messages(node: &Node, dir: &str, kind: &str) -> u64 {
    let series = format!("terrace_bus_events_total{{dir=\"{dir}\",type=\"{kind}\"}} ");
    let metrics = node.cache.metrics();
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
    value.unwrap_or_else(|| panic!("no {series}in {metrics}")).parse().expect("a number")
}

#[tokio::test]
async fn messages_are_counted_by_type_and_by_whose_they_are() {
    let (writer, reader) = two().await;
    writer.texts.remove("k").await.unwrap();
    writer.texts.invalidate().tag("t").unwrap().send().await.unwrap();
    writer.texts.clear().await.unwrap();
    reader.put("mine", "v").await;
    let (mut held, loader) = hold::<Infallible>();
    let texts = reader.texts.clone();
    let loading = spawn(async move { texts.get_or_load("loaded", loader).await.is_ok() });
    held.started().await;
    let (asked, waiting) =
        (writer.calls(Operation::Lease), writer.loading_at_once("loaded", "of the writer"));
    until("the writer waits for the load", || writer.calls(Operation::Lease) > asked).await;
    held.bring("of the reader");
    assert!(ended(loading).await);
    assert_eq!(ended(waiting).await, "of the reader");
    for (node, own, others) in [(&writer, 2, 1), (&reader, 1, 2)] {
        until("each has come everywhere", || {
            messages(node, "out", "set") == own && messages(node, "in", "set") == others
        })
        .await;
    }
    for kind in ["invalidate", "tag", "sweep"] {
        until("it has come everywhere", || {
            messages(&writer, "out", kind) == 1 && messages(&reader, "in", kind) == 1
        })
        .await;
        assert_eq!((messages(&writer, "in", kind), messages(&reader, "out", kind)), (0, 0), "{kind}");
    }
    until("the end of the load is told", || messages(&writer, "in", "ended") == 1).await;
    until("beats go and come", || messages(&reader, "in", "beat") > 0).await;
    assert!(messages(&reader, "out", "beat") > 0);
    assert!(!writer.cache.metrics().contains("dir=\"out\",type=\"ended\""), "nobody's name is on it");
}

/// What was missed and told by the log has been heard as well.
#[tokio::test]
async fn messages_that_the_log_told_are_counted_too() {
    let (writer, reader) = two().await;
    let before = messages(&reader, "in", "set");
    reader.remote.set_loss(Loss::Messages);
    writer.put("k", "new").await;
    reader.remote.set_loss(Loss::Nothing);
    writer.put("third", "v").await;
    until("both are heard", || messages(&reader, "in", "set") == before + 2).await;
}

#[tokio::test]
async fn the_writer_keeps_its_own_copy() {
    let (writer, reader) = two().await;
    writer.put("k", "new").await;
    drops(&reader, "k").await;
    assert_eq!(writer.source("k").await, Some((Tier::L1, "new".to_owned())));
}

#[tokio::test]
async fn tags_patterns_and_clearing_are_heard() {
    let (writer, reader) = two().await;
    let tagged = EntryOptions::default().tag("t").unwrap();
    writer.texts.put_with("tagged", "v".to_owned(), tagged).await.unwrap();
    assert!(reader.get("tagged").await.is_some() && has_copy(&reader, "tagged"));
    writer.texts.invalidate().tag("t").unwrap().send().await.unwrap();
    drops(&reader, "tagged").await;
    assert!(has_copy(&reader, "k") && has_copy(&reader, "other"));
    writer.texts.invalidate().pattern("oth*").unwrap().send().await.unwrap();
    drops(&reader, "other").await;
    assert!(has_copy(&reader, "k"));
    writer.texts.clear().await.unwrap();
    drops(&reader, "k").await;
}

#[tokio::test]
async fn a_lost_message_is_read_from_the_log_when_the_next_one_comes() {
    let (writer, reader) = two().await;
    reader.remote.set_loss(Loss::Messages);
    writer.put("k", "new").await;
    reader.remote.set_loss(Loss::Nothing);
    writer.put("third", "v").await;
    drops(&reader, "k").await;
    assert!(has_copy(&reader, "other"), "the log says what was lost, so nothing else is dropped");
    assert!(gaps(&reader, "repaired") && !gaps(&reader, "suspected"));
}

#[tokio::test]
async fn a_lost_message_with_nothing_after_it_is_missed_by_its_number() {
    let (writer, reader) = two().await;
    reader.remote.set_loss(Loss::Messages);
    writer.put("k", "new").await;
    drops(&reader, "k").await;
    assert!(gaps(&reader, "repaired"));
}

#[tokio::test]
async fn a_connection_that_was_lost_misses_nothing() {
    let (writer, reader) = two().await;
    reader.remote.cut_bus();
    writer.put("k", "new").await;
    reader.remote.mend_bus();
    drops(&reader, "k").await;
    assert!(has_copy(&reader, "other"));
}

#[tokio::test]
async fn without_a_chain_every_joining_costs_all_copies_and_every_message_counts() {
    let (writer, reader) = two().await;
    reader.remote.disown_chain();
    reader.remote.cut_bus();
    writer.put("k", "new").await;
    reader.remote.mend_bus();
    drops(&reader, "k").await;
    drops(&reader, "other").await;
    assert_eq!(reader.get("other").await.as_deref(), Some("old"));
    reader.remote.set_loss(Loss::Messages);
    writer.put("third", "v").await;
    reader.remote.set_loss(Loss::Nothing);
    assert!(reader.get("k").await.is_some() && has_copy(&reader, "k"));
    writer.put("k", "newer").await;
    drops(&reader, "k").await;
    assert!(has_copy(&reader, "other"), "no gap is looked for");
}

#[tokio::test]
async fn what_the_log_cannot_tell_makes_all_copies_suspect() {
    let (writer, reader) = two().await;
    reader.remote.cut_bus();
    writer.remote.flush();
    reader.remote.mend_bus();
    drops(&reader, "k").await;
    drops(&reader, "other").await;
    assert!(gaps(&reader, "suspected"));
    writer.put("k", "anew").await;
    assert_eq!(reader.get("k").await.as_deref(), Some("anew"));
}

#[tokio::test]
async fn without_beats_a_copy_counts_as_fresh_no_longer_than_the_lease() {
    let (writer, reader) = two().await;
    reader.remote.set_loss(Loss::Everything);
    writer.put("k", "new").await;
    assert_eq!(reader.source("k").await, Some((Tier::L1, "old".to_owned())), "within the lease");
    reader.clock.advance(LEASE);
    assert_eq!(reader.source("k").await, Some((Tier::L2, "new".to_owned())));
    assert!(!has_copy(&reader, "k"), "what was read cannot be proven fresh later either");
    reader.remote.set_loss(Loss::Nothing);
    until("beats come back", || has_copy(&reader, "k")).await;
}

#[tokio::test]
async fn what_was_lost_with_a_beat_is_known_before_copies_count_as_fresh_again() {
    let writer = Node::first_hearing_of(256).await;
    let reader = writer.another_hearing().await;
    let keys: Vec<String> = (0..64).map(|number| number.to_string()).collect();
    for key in &keys {
        writer.put(key, "old").await;
        assert_eq!(reader.get(key).await.as_deref(), Some("old"));
    }
    let (other, changed) = keys.split_first().expect("there are some");
    reader.remote.set_loss(Loss::Everything);
    for key in changed {
        writer.put(key, "new").await;
    }
    let beats = reader.remote.calls(Operation::Beat);
    until("a beat is lost", || reader.remote.calls(Operation::Beat) > beats + 1).await;
    reader.clock.advance(LEASE);
    assert!(!has_copy(&reader, other));
    reader.remote.set_loss(Loss::Nothing);
    until("beats come back", || has_copy(&reader, other)).await;
    let old: Vec<&String> = changed.iter().filter(|key| has_copy(&reader, key)).collect();
    assert!(old.is_empty(), "{old:?}");
    assert!(gaps(&reader, "repaired") && !gaps(&reader, "suspected"));
}

#[tokio::test]
async fn a_node_that_was_paused_returns_nothing_old_at_its_first_read() {
    let (writer, reader) = two().await;
    let at_once = reader.texts.clone();
    // The reader's tasks do not run between here and the read: all of it happens without an await.
    reader.remote.set_loss(Loss::Everything);
    writer.put("k", "new").await;
    reader.clock.advance(Duration::from_secs(10));
    assert!(at_once.peek("k").is_none());
}

#[tokio::test]
async fn a_copy_that_cannot_be_proven_fresh_is_marked_stale_while_l2_is_down() {
    let (_writer, reader) = two().await;
    assert!(!reader.entry("k").await.unwrap().is_stale);
    reader.remote.set_fault(Some(Fault::Unavailable));
    reader.clock.advance(LEASE);
    let entry = reader.entry("k").await.expect("L2 in trouble costs no hit");
    assert_eq!((entry.is_stale, entry.tier, entry.value.as_str()), (true, Tier::L1, "old"));
    assert_eq!(reader.load("k", "not loaded").await, "old", "an old value is there for those who load, too");
    assert_eq!(reader.texts.get_many(&["k".to_owned()]).await.unwrap().len(), 1);
    assert_eq!(reader.cache.stats().total.stale_hits, 3);
    reader.remote.set_fault(None);
    until("beats come back", || has_copy(&reader, "k")).await;
    assert!(!reader.entry("k").await.unwrap().is_stale);
}

#[tokio::test]
async fn a_keyspace_may_prefer_an_error_to_a_stale_value() {
    let (_writer, reader) = two().await;
    let strict = reader.cache.keyspace("strict").suspect(SuspectPolicy::Error).build().unwrap();
    strict.put("k", "v".to_owned()).await.unwrap();
    reader.remote.set_fault(Some(Fault::Unavailable));
    reader.clock.advance(LEASE);
    let refused: terrace::Error = strict.get("k").await.map(|value: Option<_>| value).unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Unproven), "{refused}");
    let refused = strict.get_or_load("k", crate::fixture::loader("v")).await.unwrap_err();
    assert!(matches!(refused.cache(), Some(ErrorKind::Unproven)), "{refused}");
    let refused = strict.get_many(&["k".to_owned()]).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Unproven), "{refused}");
    assert_eq!(strict.get("absent").await.unwrap(), None);
}

#[tokio::test]
async fn a_keyspace_may_return_stale_values_without_asking() {
    let (_writer, reader) = two().await;
    let hasty = reader.cache.keyspace("hasty").suspect(SuspectPolicy::Stale).build().unwrap();
    hasty.put("k", "v".to_owned()).await.unwrap();
    reader.remote.set_loss(Loss::Everything);
    reader.clock.advance(LEASE);
    reader.remote.reset_calls();
    let entry: terrace::Entry<String> = hasty.get_entry("k").await.unwrap().expect("it is there");
    assert!(entry.is_stale);
    assert_eq!(*hasty.get_or_load("k", crate::fixture::loader("w")).await.unwrap(), "v");
    assert_eq!(reader.remote.calls(Operation::Get), 0);
}

#[tokio::test]
async fn a_load_that_another_node_overtakes_is_kept_nowhere() {
    let (writer, reader) = two().await;
    let (mut held, loading) = reader.loading("fresh");
    held.started().await;
    writer.put("fresh", "new").await;
    held.bring("overtaken");
    drop(loading.await.unwrap());
    assert_eq!(reader.get("fresh").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn caches_that_share_a_connection_hear_each_other() {
    let (writer, _reader) = two().await;
    let twin = writer.twin().await;
    assert!(twin.get("k").await.is_some() && has_copy(&twin, "k"));
    writer.put("k", "new").await;
    drops(&twin, "k").await;
    assert_eq!(twin.get("k").await.as_deref(), Some("new"));
    twin.put("k", "newer").await;
    drops(&writer, "k").await;
    assert_eq!(writer.get("k").await.as_deref(), Some("newer"));
}

#[tokio::test]
async fn a_writer_keeps_its_copy_although_it_hears_of_it_first() {
    let (writer, reader) = two().await;
    let acknowledgement = writer.remote.hold(Operation::Set, Point::AfterEffect);
    let putting = writer.putting("k", "new");
    acknowledgement.wait_until_held(1).await;
    reader.put("other", "new").await;
    drops(&writer, "other").await;
    acknowledgement.open();
    putting.await.unwrap().unwrap();
    assert!(has_copy(&writer, "k"), "the message that it heard was its own");
}

#[tokio::test]
async fn a_writer_keeps_no_copy_that_another_has_overwritten() {
    let (writer, reader) = two().await;
    let acknowledgement = writer.remote.hold(Operation::Set, Point::AfterEffect);
    let putting = writer.putting("k", "new");
    acknowledgement.wait_until_held(1).await;
    reader.put("k", "newer").await;
    reader.put("other", "new").await;
    drops(&writer, "other").await;
    acknowledgement.open();
    putting.await.unwrap().unwrap();
    assert_eq!(writer.get("k").await.as_deref(), Some("newer"));
}

#[tokio::test]
async fn what_a_cache_keeps_to_itself_is_not_changed_by_what_another_on_its_connection_hears() {
    let (writer, _reader) = two().await;
    let twin = writer.twin().await;
    let alone = twin.cache.keyspace::<String, String>("private").memory_only().build().unwrap();
    alone.put("k", "mine".to_owned()).await.unwrap();
    assert!(twin.get("k").await.is_some() && has_copy(&twin, "k"));
    let shared = writer.cache.keyspace::<String, String>("private").build().unwrap();
    shared.put("k", "theirs".to_owned()).await.unwrap();
    writer.put("k", "new").await;
    drops(&twin, "k").await;
    assert_eq!(alone.get("k").await.unwrap().as_deref().map(String::as_str), Some("mine"));
}

#[test]
fn listening_goes_on_in_the_next_runtime_also_for_those_who_only_read_batches() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (_writer, reader) = first.block_on(two());
    drop(first);
    reader.clock.advance(LEASE);
    assert!(!has_copy(&reader, "k"));
    runtime().block_on(async {
        assert!(reader.texts.get_many(&["k".to_owned()]).await.unwrap()[0].is_some());
        until("it listens, and keeps copies, again", || {
            let reader = &reader;
            has_copy(reader, "k") || {
                futures_util::FutureExt::now_or_never(reader.texts.get_many(&["k".to_owned()]));
                false
            }
        })
        .await;
    });
}

#[tokio::test]
async fn logs_that_cannot_be_read_make_copies_suspect_and_hearing_goes_on() {
    let (writer, reader) = two().await;
    reader.remote.set_fault_on(Operation::ChangesSince, Some(Fault::Unavailable));
    reader.remote.cut_bus();
    writer.put("k", "new").await;
    reader.remote.mend_bus();
    drops(&reader, "other").await;
    until("what was missed is given up", || gaps(&reader, "suspected")).await;
    assert_eq!(reader.get("k").await.as_deref(), Some("new"));
    until("copies count as fresh again", || has_copy(&reader, "k")).await;
}

/// What Prometheus is told of the copies that were audited.
fn audits(node: &Node, outcome: &str) -> bool {
    let series = format!("terrace_audits_total{{keyspace=\"texts\",outcome=\"{outcome}\"}} ");
    let metrics = node.cache.metrics();
    metrics.lines().find_map(|line| line.strip_prefix(&series)).is_some_and(|count| count != "0")
}

#[tokio::test(start_paused = true)]
async fn an_audit_finds_what_nobody_has_heard_of() {
    let (writer, reader) = two().await;
    // A clock that stands still trusts for ever, as a broken one would.
    pause(AUDIT).await;
    reader.remote.set_loss(Loss::Everything);
    writer.put("k", "new").await;
    assert!(has_copy(&reader, "k"), "it has not heard");
    until("the old copy is found", || audits(&reader, "failed")).await;
}

#[tokio::test(start_paused = true)]
async fn an_audit_finds_nothing_where_all_is_well() {
    let (writer, reader) = two().await;
    pause(AUDIT).await;
    writer.put("k", "new").await;
    drops(&reader, "k").await;
    assert_eq!(reader.get("k").await.as_deref(), Some("new"));
    until("it was looked for", || audits(&reader, "passed")).await;
    pause(AUDIT * 3).await;
    assert!(!audits(&reader, "failed"));
}
