//! Requests that come again, with tiers before the journal: nothing of a repetition reaches one.

use crate::table::Table;
use std::time::Duration;
use terrace::behind::{Acknowledged, IdempotencyKey, Journal, JournalOptions, LaneOptions, WriteError};
use terrace::{Cache, Effect, EntryOptions, ErrorKind, Keyspace, Ttl, Version};
use terrace_core::Clock;
use terrace_testkit::fake::{FakeRemote, Fault, Operation};
use terrace_testkit::wait::until_some;

type Texts = Keyspace<String, String>;

/// One process that writes behind, and sends nothing before it is asked to.
struct Writer {
    _cache: Cache,
    texts: Texts,
    table: Table,
    _folder: tempfile::TempDir,
}

impl Writer {
    fn new(remote: Option<FakeRemote>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let journal =
            Journal::open(folder.path().join("journal"), JournalOptions::default()).expect("a journal");
        let mut builder = Cache::builder().journal(journal);
        if let Some(remote) = remote {
            builder = builder.l2(remote).staleness_max(crate::fixture::LEASE);
        }
        let (cache, table) = (builder.build().expect("valid settings"), Table::default());
        let patient = LaneOptions::default().interval(Duration::from_hours(1)).flush_at(1_000_000);
        let texts = cache.keyspace("rows").write_behind(table.clone(), patient).build().expect("new");
        Self { _cache: cache, texts, table, _folder: folder }
    }

    async fn get(&self) -> Option<String> {
        self.texts.get("k").await.expect("a valid key").map(|value| (*value).clone())
    }

    async fn put_once(&self, name: &str, value: &str) -> (Acknowledged, Effect) {
        let options = EntryOptions::new();
        let written = self.texts.put_once("k", value.to_owned(), options, &named(name)).await.expect("taken");
        let taken = written.journaled.expect("it is written behind");
        let is_nothing = written.ttl == Ttl::After(Duration::ZERO) && written.version == Version::ZERO;
        assert!(is_nothing || !taken.is_repetition, "{written:?}");
        (taken, written.effect)
    }

    async fn flush(&self) {
        assert_eq!(self.texts.behind().expect("it is written behind").flush().await.left(), 0);
    }
}

fn named(name: &str) -> IdempotencyKey {
    IdempotencyKey::new(name).expect("a key")
}

fn fleet() -> FakeRemote {
    FakeRemote::with_partitions(Clock::system(), 4).hearing()
}

#[tokio::test]
async fn an_old_put_that_comes_again_reaches_neither_tier_nor_journal() {
    for remote in [None, Some(fleet())] {
        let writer = Writer::new(remote.clone());
        let changes = || {
            let calls = |operation| remote.as_ref().map_or(0, |remote| remote.calls(operation));
            [Operation::Set, Operation::SetMany, Operation::Invalidate].map(calls)
        };
        let (first, _) = writer.put_once("a", "1").await;
        writer.texts.put("k", "2".into()).await.expect("taken");
        let before = changes();
        let (again, effect) = writer.put_once("a", "1").await;
        assert_eq!((again.id, again.is_repetition, effect), (first.id, true, Effect::Applied));
        assert_eq!((changes(), writer.get().await.as_deref()), (before, Some("2")));
        writer.flush().await;
        assert!(writer.put_once("a", "1").await.0.is_repetition);
        writer.texts.invalidate().keys(["k"]).send().await.expect("dropped");
        assert_eq!((writer.get().await.as_deref(), writer.table.row("k").as_deref()), (Some("2"), Some("2")));

        let removed = async || {
            let removed = writer.texts.remove_once("k", &named("b")).await.expect("taken");
            removed.journaled.expect("it is written behind")
        };
        let first = removed().await;
        writer.texts.put("k", "3".into()).await.expect("taken");
        let again = removed().await;
        assert!(again.is_repetition && again.id == first.id, "{again:?}");
        assert_eq!(writer.get().await.as_deref(), Some("3"));
        writer.flush().await;
        assert_eq!(writer.table.row("k").as_deref(), Some("3"));
        for name in ["a", "b"] {
            let other = writer.texts.put_once("k", "4".into(), EntryOptions::new(), &named(name)).await;
            let error = other.expect_err("it is another request");
            assert!(matches!(error.kind(), ErrorKind::Journal(WriteError::KeyReused { .. })), "{error}");
        }
        let ttl = EntryOptions::new().ttl(Duration::from_mins(1));
        assert!(writer.texts.put_once("k", "1".into(), ttl, &named("a")).await.is_err(), "another TTL");
    }
}

#[tokio::test]
async fn a_repetition_says_whether_l2_knows_of_the_first_by_now() {
    let remote = fleet();
    let writer = Writer::new(Some(remote.clone()));
    writer.put_once("a", "1").await;
    remote.set_fault(Some(Fault::Unavailable));
    assert_eq!(writer.put_once("b", "2").await.1, Effect::Queued);
    assert_eq!(writer.put_once("b", "2").await.1, Effect::Queued);
    assert_eq!(writer.get().await.as_deref(), Some("2"));
    remote.set_fault(None);
    until_some("L2 to be told", async || {
        (writer.put_once("b", "2").await.1 == Effect::Applied).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_requests_at_the_same_time_are_one_write() {
    for remote in [None, Some(fleet())] {
        let writer = Writer::new(remote);
        let texts = &writer.texts;
        let asking = (0..32).map(|_| async move {
            let written = texts.put_once("k", "1".into(), EntryOptions::new(), &named("a")).await;
            written.expect("taken").journaled.expect("it is written behind")
        });
        let taken = futures_util::future::join_all(asking).await;
        assert_eq!(taken.iter().filter(|taken| !taken.is_repetition).count(), 1);
        assert!(taken.iter().all(|of| of.id == taken[0].id), "{taken:?}");
        writer.flush().await;
        assert_eq!(writer.table.writes().len(), 1);
    }
}

#[tokio::test]
async fn where_nothing_is_written_behind_nothing_is_remembered_and_that_is_said() {
    let cache = Cache::memory().expect("a cache");
    let aside = cache.keyspace::<String, String>("aside").build().expect("new");
    let through = cache.keyspace::<String, String>("through").write_through(Table::default());
    for texts in [aside, through.build().expect("new")] {
        let put = texts.put_once("k", "1".into(), EntryOptions::new(), &named("a")).await;
        let error = put.expect_err("nobody would remember it").to_string();
        assert!(error.contains("idempotency_key") && error.contains("write"), "{error}");
        assert!(texts.remove_once("k", &named("a")).await.is_err());
        assert_eq!(texts.get("k").await.expect("a valid key"), None);
    }
}
