//! Keyspaces that are written behind: what is read meanwhile, here and elsewhere, and what is left after a restart.

use crate::fixture::{ended, let_others_run, loader, runtime, spawn};
use crate::table::{Mood, Table};
use std::sync::Arc;
use std::time::Duration;
use terrace::behind::{Ack, Journal, JournalOptions, LaneOptions};
use terrace::{Cache, Effect, EntryOptions, ErrorKind, Keyspace, KeyspaceError, Strategy, Tag};
use terrace_core::{Clock, Namespace};
use terrace_testkit::fake::{FakeRemote, Fault, Operation};
use terrace_testkit::wait::{until, until_some};

pub(crate) type Texts = Keyspace<String, String>;

/// Nothing is sent before it is asked for.
pub(crate) fn patient() -> LaneOptions {
    LaneOptions::default().interval(Duration::from_hours(1)).flush_at(1_000_000)
}

/// One process that writes behind.
pub(crate) struct Writer {
    pub(crate) cache: Cache,
    pub(crate) texts: Texts,
    pub(crate) table: Table,
    path: tempfile::TempPath,
}

impl Writer {
    fn open(remote: Option<FakeRemote>, table: Table, path: tempfile::TempPath, journal: Journal) -> Self {
        let mut builder = Cache::builder().journal(journal);
        if let Some(remote) = remote {
            builder = builder.l2(remote).staleness_max(crate::fixture::LEASE);
        }
        let cache = builder.build().expect("valid settings");
        let texts =
            cache.keyspace("rows").write_behind(table.clone(), patient()).build().expect("a new keyspace");
        Self { cache, texts, table, path }
    }

    pub(crate) fn new(remote: Option<FakeRemote>) -> Self {
        let path = tempfile::NamedTempFile::new().expect("a file").into_temp_path();
        std::fs::remove_file(&path).expect("its name alone is needed");
        let journal = Journal::open(&path, JournalOptions::default()).expect("a journal");
        Self::open(remote, Table::default(), path, journal)
    }

    pub(crate) async fn get(&self, key: &str) -> Option<String> {
        get(&self.texts, key).await
    }

    pub(crate) async fn put(&self, key: &str, value: &str) {
        let written = self.texts.put(key, value.to_owned()).await.expect("it is acknowledged");
        assert_eq!(written.journaled.expect("it is journaled").ack, Ack::Fsync);
    }

    pub(crate) async fn flush(&self) {
        assert_eq!(self.texts.behind().expect("it is written behind").flush().await.left(), 0);
    }
}

pub(crate) async fn get(texts: &Texts, key: &str) -> Option<String> {
    texts.get(key).await.expect("a valid key").map(|value| (*value).clone())
}

pub(crate) fn fleet() -> FakeRemote {
    FakeRemote::with_partitions(Clock::system(), 4).hearing()
}

/// A reader on another node, over the same table.
pub(crate) fn another(remote: &FakeRemote, table: &Table) -> (Cache, Texts) {
    let remote = remote.another_node().hearing();
    let cache =
        Cache::builder().l2(remote).staleness_max(crate::fixture::LEASE).build().expect("valid settings");
    let texts = cache.keyspace("rows").read_through(table.clone()).build().expect("a new keyspace");
    (cache, texts)
}

pub(crate) fn forget_in_l2(remote: &FakeRemote, key: &str) {
    remote.evict(&Namespace::new("rows").expect("valid"), &crate::fixture::key(key));
}

#[tokio::test]
async fn a_write_is_seen_at_once_and_reaches_the_origin_later() {
    for remote in [None, Some(fleet())] {
        let writer = Writer::new(remote);
        assert_eq!(writer.texts.strategy(), Strategy::WriteBehind);
        writer.table.set("k", "old");
        assert_eq!(writer.get("k").await.as_deref(), Some("old"));
        writer.put("k", "new").await;
        assert_eq!(
            (writer.get("k").await.as_deref(), writer.table.row("k").as_deref()),
            (Some("new"), Some("old"))
        );
        writer.texts.put_many([("a".into(), "1".into()), ("b".into(), "2".into())]).await.unwrap();
        writer.flush().await;
        assert_eq!(writer.table.batches(), [3]);
        assert_eq!(
            (writer.table.row("k").as_deref(), writer.table.row("b").as_deref()),
            (Some("new"), Some("2"))
        );
        let fences = writer.table.fences();
        assert!(fences.iter().all(|fence| fence.is_some_and(|fence| fence.attempt == 1)), "{fences:?}");
        assert_eq!(writer.get("k").await.as_deref(), Some("new"));
        writer.cache.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test]
async fn writes_of_a_key_are_coalesced_and_the_last_one_wins() {
    let writer = Writer::new(None);
    for n in 0..50 {
        writer.put("k", &n.to_string()).await;
    }
    writer.flush().await;
    assert_eq!(writer.table.writes(), [("k".to_owned(), Some("49".to_owned()))]);
}

#[tokio::test]
async fn a_write_that_waits_is_the_answer_wherever_a_load_would_be() {
    for remote in [None, Some(fleet())] {
        let writer = Writer::new(remote.clone());
        writer.table.set("k", "old");
        writer.put("k", "new").await;
        writer.put("gone", "x").await;
        writer.texts.remove("gone").await.unwrap();
        for _ in 0..2 {
            writer.texts.invalidate().keys(["k", "gone"]).send().await.unwrap();
            assert_eq!((writer.get("k").await.as_deref(), writer.get("gone").await), (Some("new"), None));
            assert!(
                writer.texts.contains("k").await.unwrap() && !writer.texts.contains("gone").await.unwrap()
            );
            writer.texts.clear().await.unwrap();
            let many = writer.texts.get_many(&["k".to_owned(), "gone".to_owned()]).await.unwrap();
            assert_eq!(
                many.iter().map(|v| v.as_deref().map(String::as_str)).collect::<Vec<_>>(),
                [Some("new"), None]
            );
        }
        let loaded = writer.texts.get_or_load("k", loader("older still")).await.unwrap();
        assert_eq!((loaded.as_str(), writer.table.loads()), ("new", 0));
        writer.flush().await;
        assert_eq!((writer.get("k").await.as_deref(), writer.table.loads()), (Some("new"), 1));
    }
}

#[tokio::test]
async fn what_a_closure_loads_of_a_key_whose_removal_waits_is_not_kept() {
    for remote in [None, Some(fleet())] {
        let writer = Writer::new(remote);
        writer.table.set("k", "row");
        writer.texts.remove("k").await.unwrap();
        for _ in 0..2 {
            assert_eq!(*writer.texts.get_or_load("k", loader("row")).await.unwrap(), "row");
            assert_eq!(writer.get("k").await, None);
        }
        writer.flush().await;
        assert_eq!((writer.table.row("k"), writer.get("k").await), (None, None));
    }
}

#[tokio::test]
async fn other_nodes_hear_of_a_write_and_find_it_in_l2() {
    let remote = fleet();
    let writer = Writer::new(Some(remote.clone()));
    let (_cache, reader) = another(&remote, &writer.table);
    writer.put("k", "1").await;
    assert_eq!(get(&reader, "k").await.as_deref(), Some("1"));
    writer.put("k", "2").await;
    until_some("the reader to hear of it", async || {
        (get(&reader, "k").await.as_deref() == Some("2")).then_some(())
    })
    .await;
    assert_eq!(writer.table.loads(), 0);
}

/// A node with a write of `k` that waits, and another that has loaded the older row into L2, which has forgotten the write.
pub(crate) async fn loaded_meanwhile() -> (FakeRemote, Writer, (Cache, Texts)) {
    let remote = fleet();
    let writer = Writer::new(Some(remote.clone()));
    let (cache, reader) = another(&remote, &writer.table);
    writer.table.set("k", "old");
    writer.put("k", "new").await;
    forget_in_l2(&remote, "k");
    writer.texts.invalidate().keys(["k"]).send().await.expect("it is dropped");
    assert_eq!(get(&reader, "k").await.as_deref(), Some("old"), "it knows of nothing better");
    (remote, writer, (cache, reader))
}

#[tokio::test]
async fn what_another_node_loads_meanwhile_is_no_answer_here_and_does_not_outlive_the_write() {
    let (_remote, writer, (_cache, reader)) = loaded_meanwhile().await;
    assert_eq!(writer.get("k").await.as_deref(), Some("new"));
    assert!(writer.texts.contains("k").await.unwrap());
    writer.flush().await;
    assert_eq!(writer.get("k").await.as_deref(), Some("new"));
    until_some("the reader to be rid of it", async || {
        (get(&reader, "k").await.as_deref() == Some("new")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_load_that_another_node_has_begun_meanwhile_is_not_kept() {
    let remote = fleet();
    let writer = Writer::new(Some(remote.clone()));
    let (_cache, reader) = another(&remote, &writer.table);
    writer.table.set("k", "old");
    writer.put("k", "new").await;
    forget_in_l2(&remote, "k");
    writer.table.hold();
    let loading = {
        let reader = reader.clone();
        spawn(async move { get(&reader, "k").await })
    };
    writer.table.wait_until_held(1).await;
    let flushing = {
        let texts = writer.texts.clone();
        spawn(async move { texts.behind().unwrap().flush().await.left() })
    };
    writer.table.wait_until_held(2).await;
    // The write is let go first, and all that it brings about is over, before the load is.
    writer.table.let_one_go(2);
    assert_eq!(ended(flushing).await, 0);
    writer.table.let_go();
    ended(loading).await;
    assert_eq!(get(&reader, "k").await.as_deref(), Some("new"));
    assert_eq!(writer.get("k").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn what_another_node_stores_meanwhile_is_newer() {
    let remote = fleet();
    let writer = Writer::new(Some(remote.clone()));
    let (_cache, other) = another(&remote, &writer.table);
    writer.put("k", "mine").await;
    other.put("k", "theirs".into()).await.unwrap();
    until_some("it to be heard", async || (writer.get("k").await.as_deref() == Some("theirs")).then_some(()))
        .await;
}

#[tokio::test]
async fn what_l2_still_has_of_a_write_stays_when_the_origin_has_it() {
    let remote = fleet();
    let writer = Writer::new(Some(remote.clone()));
    let (_cache, reader) = another(&remote, &writer.table);
    writer.put("k", "v").await;
    writer.flush().await;
    assert_eq!(get(&reader, "k").await.as_deref(), Some("v"));
    assert_eq!((writer.table.loads(), remote.calls(Operation::Invalidate)), (0, 0));
}

#[test]
fn a_write_survives_its_process_and_is_seen_by_the_next_one() {
    for remote in [None, Some(fleet())] {
        let first = runtime();
        let (table, path) = first.block_on(async {
            let writer = Writer::new(remote.clone());
            writer.table.set("k", "old");
            if let Some(remote) = &remote {
                // L2 never hears of it from this process, and keeps what was stored before.
                writer.put("k", "older").await;
                writer.flush().await;
                remote.set_fault(Some(Fault::Unavailable));
            }
            writer.put("k", "new").await;
            writer.texts.remove("gone").await.unwrap();
            (writer.table, writer.path)
        });
        // All that this process was about to do ends with it.
        drop(first);
        runtime().block_on(async {
            let reopened = async || Journal::open(&path, JournalOptions::default()).ok();
            let journal = until_some("the journal to be let go of", reopened).await;
            let next = remote.as_ref().map(FakeRemote::another_node).map(FakeRemote::hearing);
            let writer = Writer::open(next, table, path, journal);
            assert_eq!(writer.get("k").await.as_deref(), Some("new"));
            writer.flush().await;
            assert_eq!(writer.table.row("k").as_deref(), Some("new"));
            assert_eq!(writer.get("k").await.as_deref(), Some("new"));
            let fences = writer.table.fences();
            let numbers: Vec<u64> = fences.iter().flatten().map(|fence| fence.id.number).collect();
            assert!(numbers.is_sorted(), "{numbers:?}");
        });
    }
}

#[tokio::test]
async fn a_write_that_is_given_up_is_seen_no_more_until_it_is_brought_back() {
    for remote in [None, Some(fleet())] {
        let writer = Writer::new(remote);
        writer.table.set("k", "row");
        writer.table.is(Mood::Refusing, Some("k"));
        writer.put("k", "new").await;
        let behind = writer.texts.behind().unwrap();
        assert_eq!(behind.flush().await.dead, 1);
        let letters = behind.dead_letters(10);
        assert!(letters[0].reason.contains("too large"), "{letters:?}");
        assert_eq!(writer.get("k").await.as_deref(), Some("row"));
        writer.table.is(Mood::Fine, Some("k"));
        assert_eq!(behind.retry_dead(b"k").unwrap(), 1);
        assert_eq!(writer.get("k").await.as_deref(), Some("new"));
        writer.flush().await;
        assert_eq!(
            (writer.table.row("k").as_deref(), writer.get("k").await.as_deref()),
            (Some("new"), Some("new"))
        );
    }
}

#[tokio::test]
async fn an_origin_that_is_away_is_tried_again_and_holds_up_no_other_key_s_reads() {
    let writer = Writer::new(None);
    writer.table.is(Mood::Away, None);
    writer.put("k", "v").await;
    assert_eq!(writer.texts.behind().unwrap().flush().await.parked, 1);
    assert_eq!(writer.get("k").await.as_deref(), Some("v"));
    let error = writer.cache.shutdown(Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.writes, 1, "{error}");
}

#[tokio::test]
async fn a_shutdown_brings_to_the_origin_what_waits() {
    let writer = Writer::new(Some(fleet()));
    for n in 0..100 {
        writer.put(&n.to_string(), "v").await;
    }
    writer.cache.shutdown(Duration::from_secs(10)).await.unwrap();
    assert_eq!(writer.table.writes().len(), 100);
    let error = writer.texts.put("k", "v".into()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Closed), "{error}");
}

#[tokio::test]
async fn l2_that_is_down_fails_no_write_that_the_journal_has() {
    for fault in [Fault::Unavailable, Fault::Refused] {
        let remote = fleet();
        let writer = Writer::new(Some(remote.clone()));
        writer.put("k", "old").await;
        remote.set_fault(Some(fault));
        let written = writer.texts.put("k", "new".into()).await.unwrap();
        assert!(written.effect == Effect::Queued && written.journaled.is_some());
        assert_eq!(writer.get("k").await.as_deref(), Some("new"));
        let removed = writer.texts.remove("k").await.unwrap();
        assert!(removed.effect == Effect::Queued && removed.journaled.is_some());
        assert_eq!(writer.get("k").await, None);
        remote.set_fault(None);
        writer.flush().await;
        let_others_run().await;
        assert_eq!((writer.table.row("k"), writer.get("k").await), (None, None));
    }
}

#[tokio::test]
async fn a_refresh_of_a_key_that_is_written_behind_drops_it() {
    let remote = fleet();
    let writer = Writer::new(Some(remote.clone()));
    writer.table.set("k", "old");
    writer.put("k", "new").await;
    let texts = writer.texts.clone().with_refresh(|text| Some(text.to_owned()));
    texts.refresh("k").await.unwrap();
    let_others_run().await;
    assert_eq!((writer.get("k").await.as_deref(), writer.table.loads()), (Some("new"), 0));
}

#[test]
fn it_needs_a_journal_and_a_codec() {
    let cache = Cache::memory().unwrap();
    let refused = cache.keyspace::<String, String>("rows").write_behind(Table::default(), patient()).build();
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("CacheBuilder::journal"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path().join("j"), JournalOptions::default()).unwrap();
    let cache = Cache::builder().journal(journal).build().unwrap();
    let builder = cache.keyspace::<String, String>("rows").write_behind(Table::default(), patient());
    let error = builder.memory_only().build().unwrap_err();
    assert!(
        matches!(error, KeyspaceError::Setting(_)) && error.to_string().contains("memory_only"),
        "{error}"
    );
    let builder = cache.keyspace::<String, String>("rows");
    builder.write_behind(Table::default(), patient().batch_max(0)).build().unwrap_err();
}

#[tokio::test]
async fn tags_of_a_write_that_waits_are_no_way_to_keep_what_they_kill() {
    let remote = fleet();
    let writer = Writer::new(Some(remote.clone()));
    let tag = EntryOptions::new().tag("t").unwrap();
    writer.texts.put_with("k", "new".into(), tag).await.unwrap();
    forget_in_l2(&remote, "k");
    writer.texts.invalidate().keys(["k"]).send().await.unwrap();
    assert_eq!(writer.get("k").await.as_deref(), Some("new"), "from the journal");
    writer.flush().await;
    writer.table.set("k", "newer");
    writer.texts.invalidate().tag(Tag::new("t").unwrap().as_str()).unwrap().send().await.unwrap();
    assert_eq!(writer.get("k").await.as_deref(), Some("newer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_under_load_is_over_in_time_and_loses_nothing() {
    for limit in [Duration::ZERO, Duration::from_millis(50), Duration::from_secs(10)] {
        let writer = Writer::new(None);
        writer.table.is(Mood::Fine, None);
        let acknowledged = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let writers: Vec<_> = (0..32)
            .map(|number| {
                let (texts, acknowledged) = (writer.texts.clone(), Arc::clone(&acknowledged));
                spawn(async move {
                    for n in 0.. {
                        let key = format!("{number}:{n}");
                        if texts.put(&key, key.clone()).await.is_err() {
                            return;
                        }
                        acknowledged.lock().push(key);
                    }
                })
            })
            .collect();
        until("some hundred to be acknowledged", || acknowledged.lock().len() > 300).await;
        let (clock, begun) = (Clock::system(), Clock::system().precise());
        let left = writer.cache.shutdown(limit).await.map_or_else(|error| error.writes, |()| 0);
        let took = clock.precise().since(begun);
        for writer in writers {
            ended(writer).await;
        }
        let acknowledged = acknowledged.lock().clone();
        println!("{} acknowledged, {left} left after {took:?} of {limit:?}", acknowledged.len());
        assert!(took < limit + Duration::from_secs(5), "{took:?}");
        let Writer { cache, texts, table, path } = writer;
        drop((cache, texts));
        let reopened = async || Journal::open(&path, JournalOptions::default()).ok();
        let journal = until_some("the journal to be let go of", reopened).await;
        let writer = Writer::open(None, table, path, journal);
        writer.flush().await;
        let missing =
            acknowledged.iter().filter(|key| writer.table.row(key).as_deref() != Some(key.as_str()));
        assert_eq!(missing.count(), 0);
    }
}

#[tokio::test]
async fn where_the_keyspace_fails_closed_no_loader_runs_over_a_removal_that_waits_while_l2_is_away() {
    let remote = fleet();
    let (writer, loads) = (Writer::new(Some(remote.clone())), crate::fixture::Counted::default());
    let closed = writer.cache.keyspace("closed").fail_closed().write_behind(writer.table.clone(), patient());
    let texts: Texts = closed.build().expect("a new keyspace");
    texts.put("k", "v".to_owned()).await.unwrap();
    texts.remove("k").await.unwrap();
    assert_eq!(*texts.get_or_load("k", loads.loader("own")).await.unwrap(), "own");
    remote.set_fault(Some(Fault::Unavailable));
    let refused = texts.get_or_load("k", loads.loader("own")).await.unwrap_err();
    assert!(matches!(refused.cache(), Some(ErrorKind::L2Unavailable)), "{refused}");
    assert_eq!((texts.get("k").await.unwrap(), loads.runs()), (None, 1), "what waits here is known here");
}
