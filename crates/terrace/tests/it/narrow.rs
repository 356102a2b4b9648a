//! Narrow places: interleavings in which loading together, ahead and behind, and writing, was wrong once.

use crate::fixture::{HOUR, LEASE, ended, hold, let_others_run, loader, spawn};
use crate::table::{Mood, Table};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use terrace::behind::{Journal, JournalOptions, LaneOptions};
use terrace::{Cache, Clock, EntryOptions, ErrorKind, Keyspace, KeyspaceBuilder, LoadError, StoreError};
use terrace_testkit::fake::{FakeRemote, Fault, Loss, Operation, Point};
use terrace_testkit::wait::{pause, until, until_some};

type Texts = Keyspace<String, String>;
type Builder = KeyspaceBuilder<String, String>;

fn fleet(partitions: u16) -> FakeRemote {
    FakeRemote::with_partitions(Clock::system(), partitions).hearing()
}

fn node(remote: &FakeRemote, set: impl FnOnce(Builder) -> Builder) -> (Cache, Texts) {
    let cache = Cache::builder().l2(remote.clone()).staleness_max(LEASE).build().expect("valid settings");
    let texts = set(cache.keyspace("rows")).build().expect("a new keyspace");
    (cache, texts)
}

/// A node that writes behind. The folder has its journal.
fn writer(
    remote: Option<&FakeRemote>,
    set: impl FnOnce(Builder) -> Builder,
) -> (tempfile::TempDir, Cache, Texts) {
    writer_with(JournalOptions::default(), remote, set)
}

fn writer_with(
    options: JournalOptions,
    remote: Option<&FakeRemote>,
    set: impl FnOnce(Builder) -> Builder,
) -> (tempfile::TempDir, Cache, Texts) {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(folder.path().join("journal"), options).expect("a journal");
    let builder = Cache::builder().journal(journal).staleness_max(LEASE);
    let builder = match remote {
        Some(remote) => builder.l2(remote.clone()),
        None => builder,
    };
    let cache = builder.build().expect("valid settings");
    let texts = set(cache.keyspace("rows")).build().expect("a new keyspace");
    (folder, cache, texts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_larger_than_the_journal_makes_room_for_itself() {
    let (remote, table) = (fleet(5), Table::default());
    let (_folder, _cache, texts) =
        writer_with(JournalOptions::default().pending_max(16), Some(&remote), |builder| {
            builder.write_behind(table.clone(), LaneOptions::default())
        });
    let many = || (0..200).map(|n| (format!("k{n}"), n.to_string()));
    let (one, other) = (texts.clone(), texts.clone());
    let batches = [one, other].map(|texts| spawn(async move { texts.put_many(many()).await }));
    for batch in batches {
        assert_eq!(ended(batch).await.expect("there is room in the end").len(), 200);
    }
    assert_eq!(texts.behind().unwrap().flush().await.left(), 0);
    assert!(many().all(|(key, value)| table.row(&key) == Some(value)));
}

async fn get(texts: &Texts, key: &str) -> Option<String> {
    texts.get(key).await.expect("a valid key").map(|value| (*value).clone())
}

/// What a loader of many answers at once.
type Answers = std::future::Ready<Vec<Result<Option<String>, &'static str>>>;

/// A loader of many that brings "new", and counts its calls.
fn news(calls: &Arc<AtomicU64>) -> impl Fn(Vec<String>) -> Answers + Send + Sync + 'static {
    let calls = Arc::clone(calls);
    move |keys| {
        calls.fetch_add(1, Ordering::SeqCst);
        std::future::ready(keys.into_iter().map(|_| Ok(Some("new".to_owned()))).collect())
    }
}

fn revalidating() -> EntryOptions {
    EntryOptions::new().ttl(Duration::from_mins(1)).grace(HOUR).stale_while_revalidate(HOUR)
}

#[tokio::test]
async fn a_batch_that_leaves_a_load_behind_needs_one_place_for_it() {
    let clock = Clock::manual();
    let cache = Cache::builder().clock(clock.clone()).l2(FakeRemote::new(clock.clone())).no_l1();
    let cache = cache.build().unwrap();
    let builder = cache.keyspace("texts").options(revalidating()).loads_max(1);
    let texts: Texts = builder.loads_wait_max(Duration::from_millis(200)).build().unwrap();
    texts.get_or_load("k", loader("old")).await.unwrap();
    clock.advance(Duration::from_mins(2));
    let calls = Arc::default();
    let found = texts.get_or_load_many(&["k".to_owned()], news(&calls)).await;
    assert_eq!(found[0].as_ref().unwrap().as_deref().map(String::as_str), Some("old"));
    until("the new value to be loaded", || calls.load(Ordering::SeqCst) == 1).await;
    assert_eq!(cache.stats().bulkheads[0].refused, 0);
}

#[tokio::test]
async fn a_value_that_is_too_heavy_is_refused_before_it_is_acknowledged() {
    let table = Table::default();
    let (_folder, _cache, texts) = writer(None, |builder| {
        let builder = builder.weigher(|value: &String| value.len() as u64 * 10).value_bytes_max(50);
        builder.write_behind(table.clone(), LaneOptions::default())
    });
    texts.put("k", "old".to_owned()).await.unwrap();
    let error = texts.put("k", "longer".to_owned()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ValueTooLarge { .. }), "{error}");
    texts.behind().unwrap().flush().await;
    assert_eq!((get(&texts, "k").await.as_deref(), table.row("k").as_deref()), (Some("old"), Some("old")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_origin_is_not_asked_before_the_tiers_have_a_write_and_what_it_refuses_does_not_stay_there() {
    let (remote, table) = (fleet(4), Table::default());
    table.set("k", "origin");
    let (_folder, _cache, texts) = writer(Some(&remote), |builder| {
        builder.write_behind(table.clone(), LaneOptions::default().flush_at(1))
    });
    assert_eq!(get(&texts, "k").await.as_deref(), Some("origin"));
    table.is(Mood::Refusing, Some("k"));
    let gate = remote.hold(Operation::Set, Point::BeforeEffect);
    let own = texts.clone();
    let putting = spawn(async move { own.put("k", "refused".to_owned()).await });
    gate.wait_until_held(1).await;
    for _ in 0..1_000 {
        let_others_run().await;
    }
    assert!(texts.behind().unwrap().dead_letters(1).is_empty(), "L2 has not given it a version yet");
    gate.open();
    ended(putting).await.unwrap();
    until("a dead letter", || texts.behind().unwrap().dead_letters(1).len() == 1).await;
    until_some("the origin's value", async || {
        (get(&texts, "k").await.as_deref() == Some("origin")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_batch_whose_caller_goes_away_fails_nobody_else() {
    let clock = Clock::manual();
    let remote = FakeRemote::new(clock.clone());
    let cache = Cache::builder().clock(clock.clone()).l2(remote.clone()).build().unwrap();
    let texts: Texts = cache.keyspace("texts").options(revalidating()).l1_ttl(HOUR).build().unwrap();
    texts.get_or_load("old", loader("old")).await.unwrap();
    clock.advance(Duration::from_mins(2));
    let gate = remote.hold(Operation::GetMany, Point::BeforeEffect);
    let (own, calls) = (texts.clone(), Arc::default());
    let batch =
        spawn(
            async move { own.get_or_load_many(&["old".to_owned(), "other".to_owned()], news(&calls)).await },
        );
    gate.wait_until_held(1).await;
    let own = texts.clone();
    let joiner = spawn(async move {
        let none = EntryOptions::new().stale_while_revalidate(Duration::ZERO);
        own.get_or_load_with("old", none, loader("new")).await
    });
    let_others_run().await;
    batch.abort();
    assert_eq!(*ended(joiner).await.unwrap(), "new");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_others_to_change_a_key_waits_for_so_long_and_no_longer() {
    let limit = Duration::from_secs(1);
    let texts: Texts = Cache::memory().unwrap().keyspace("texts").load_timeout(limit).build().unwrap();
    let writers: Vec<_> = (0..100)
        .map(|n| {
            let texts = texts.clone();
            spawn(async move {
                let hangs = |_| std::future::pending::<Result<(), &'static str>>();
                texts.put_through("k", n.to_string(), EntryOptions::new(), hangs).await
            })
        })
        .collect();
    let begun = Clock::system();
    let (mut busy, since) = (0, begun.precise());
    for writer in writers {
        let StoreError::Cache(error) = writer.await.unwrap().unwrap_err() else { panic!("it hangs") };
        busy += u64::from(matches!(error.kind(), ErrorKind::StoreBusy { .. }));
    }
    assert!(busy >= 98, "{busy}");
    assert!(begun.precise().since(since) < Duration::from_secs(20));
    texts.put_through("k", "v".into(), EntryOptions::new(), |_| async { Ok::<_, &str>(()) }).await.unwrap();
}

#[tokio::test]
async fn a_refresh_that_another_node_asks_for_leaves_a_write_that_waits() {
    let (remote, table) = (fleet(4), Table::default());
    table.set("k", "old");
    let (_folder, _cache, texts) = writer(Some(&remote), |builder| {
        builder.write_behind(table.clone(), LaneOptions::default().interval(HOUR))
    });
    let texts = texts.with_refresh(|text| Some(text.to_owned()));
    let (other, reader) =
        node(&remote.another_node().hearing(), |builder| builder.read_through(table.clone()));
    get(&reader, "x").await;
    texts.put("k", "new".to_owned()).await.unwrap();
    assert_eq!(get(&reader, "k").await.as_deref(), Some("new"));
    let mut events = texts.events();
    reader.refresh("k").await.unwrap();
    let is_refresh = |kind| matches!(kind, terrace::EventKind::Refresh(_));
    while !is_refresh(events.next().await.expect("it is heard").kind) {}
    let_others_run().await;
    assert_eq!((get(&texts, "k").await.as_deref(), table.loads()), (Some("new"), 1));
    drop(other);
}

#[tokio::test]
async fn what_is_invalidated_while_a_batch_reads_l2_does_not_come_back() {
    for (hears, by_other) in [(false, false), (true, false), (true, true)] {
        let clock = Clock::manual();
        let hear = |remote: FakeRemote| if hears { remote.hearing() } else { remote };
        let remote = hear(FakeRemote::with_partitions(clock.clone(), 1));
        let options = EntryOptions::new().ttl(Duration::from_mins(1)).grace(HOUR);
        let open = |remote: FakeRemote| {
            let cache = Cache::builder().clock(clock.clone()).l2(remote).staleness_max(LEASE);
            let cache = cache.build().unwrap();
            let texts: Texts = cache.keyspace("texts").options(options.clone()).build().unwrap();
            (cache, texts)
        };
        let (_other, elsewhere) = open(hear(remote.another_node()));
        elsewhere.get_or_load("old", loader("old")).await.unwrap();
        let (_cache, texts) = open(remote.clone());
        texts.contains("x").await.unwrap();
        let_others_run().await;
        clock.advance(Duration::from_mins(2));
        let_others_run().await;
        let gate = remote.hold(Operation::GetMany, Point::AfterEffect);
        let own = texts.clone();
        let fails = |keys: Vec<String>| {
            std::future::ready(keys.into_iter().map(|_| Err::<Option<String>, _>("down")).collect())
        };
        let batch =
            spawn(async move { own.get_or_load_many(&["old".to_owned(), "b".to_owned()], fails).await });
        gate.wait_until_held(1).await;
        let mut events = texts.events();
        let who = if by_other { &elsewhere } else { &texts };
        who.invalidate().keys(["old"]).send().await.unwrap();
        let is_it = |kind: &terrace::EventKind| matches!(kind, terrace::EventKind::Invalidated(_));
        while !is_it(&events.next().await.expect("it is heard here").kind) {}
        gate.open();
        assert!(ended(batch).await[0].is_err(), "{hears} {by_other}");
        let later = texts.get_or_load("old", || async { Err::<String, _>("down") }).await;
        assert!(matches!(later, Err(LoadError::Loader(_))), "{hears} {by_other}: {later:?}");
    }
}

#[tokio::test]
async fn the_origin_gets_every_write_while_l2_is_away() {
    let (remote, table) = (fleet(4), Table::default());
    let options = LaneOptions::default().interval(Duration::from_millis(10));
    let options = options.backoff(Duration::from_millis(50), Duration::from_mins(5));
    let (_folder, _cache, texts) =
        writer(Some(&remote), |builder| builder.write_behind(table.clone(), options));
    get(&texts, "x").await;
    remote.set_fault(Some(Fault::Unavailable));
    for n in 1..=5 {
        texts.put("k", n.to_string()).await.unwrap();
        until("the origin to have it", || table.row("k") == Some(n.to_string())).await;
    }
    assert_eq!(texts.behind().unwrap().figures().pending, 1, "L2 is still to be told");
    remote.set_fault(None);
    let is_told = async || (texts.behind().unwrap().flush().await.left() == 0).then_some(());
    until_some("L2 to be told", is_told).await;
    assert_eq!(table.writes().len(), 5, "each once");
}

#[tokio::test]
async fn a_node_that_is_shut_down_leaves_no_value_behind_that_may_be_in_the_wrong_order() {
    let (remote, table) = (fleet(1), Table::default());
    let (cache, first) = node(&remote, |builder| builder.write_through(table.clone()));
    let (_other, second) =
        node(&remote.another_node().hearing(), |builder| builder.write_through(table.clone()));
    for texts in [&first, &second] {
        get(texts, "x").await;
    }
    let_others_run().await;
    // The origin has the first node's write first, L2 has it last, and the other's message is lost.
    remote.set_loss(Loss::Messages);
    let gate = remote.hold(Operation::Set, Point::BeforeEffect);
    let own = first.clone();
    let putting = spawn(async move { own.put("k", "one".to_owned()).await });
    gate.wait_until_held(1).await;
    second.put("k", "two".to_owned()).await.unwrap();
    gate.open();
    ended(putting).await.unwrap();
    cache.shutdown(Duration::from_secs(10)).await.unwrap();
    let is_right = async || (get(&second, "k").await == table.row("k")).then_some(());
    until_some("the origin's value", is_right).await;
}

#[tokio::test]
async fn a_batch_that_waits_for_its_place_is_not_fenced() {
    let cache = Cache::memory().unwrap();
    let builder = cache.keyspace("texts").loads_max(1).loads_wait_max(Duration::from_secs(10));
    let texts: Texts = builder.flight_age_max(Duration::from_millis(20)).build().unwrap();
    let (mut held, load) = hold::<std::convert::Infallible>();
    let own = texts.clone();
    let busy = spawn(async move { own.get_or_load("busy", load).await });
    held.started().await;
    let (own, calls) = (texts.clone(), Arc::default());
    let loads = news(&calls);
    let batch = spawn(async move { own.get_or_load_many(&["a".to_owned()], loads).await });
    let_others_run().await;
    let own = texts.clone();
    let single = spawn(async move { own.get_or_load("a", loader("second")).await });
    pause(Duration::from_millis(60)).await;
    held.bring("v");
    ended(busy).await.unwrap();
    assert_eq!(*ended(single).await.unwrap(), "new");
    assert!(ended(batch).await[0].is_ok());
    assert_eq!((calls.load(Ordering::SeqCst), cache.stats().total.flights_fenced), (1, 0));
}

#[tokio::test]
async fn a_closure_that_panics_before_it_stores_is_a_failure() {
    let texts: Texts = Cache::memory().unwrap().keyspace("texts").build().unwrap();
    let panics = |value: Arc<String>| {
        assert!(value.is_empty(), "no");
        async { Ok::<(), &'static str>(()) }
    };
    let put = texts.put_through("k", "v".to_owned(), EntryOptions::new(), panics).await;
    let StoreError::Cache(error) = put.unwrap_err() else { panic!("it did not fail by itself") };
    assert!(matches!(error.kind(), ErrorKind::StorePanicked { .. }), "{error}");
}

#[tokio::test]
async fn a_keyspace_that_cannot_be_written_behind_is_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path().join("journal"), JournalOptions::default()).unwrap();
    let cache = Cache::builder().journal(journal).build().unwrap();
    let open = |options: LaneOptions| {
        cache.keyspace::<String, String>("rows").write_behind(Table::default(), options).build()
    };
    open(LaneOptions::default().batch_max(0)).unwrap_err();
    open(LaneOptions::default()).unwrap();
}

#[tokio::test]
async fn an_l2_that_hangs_makes_no_dead_letter_of_what_the_origin_has() {
    let (remote, table) = (fleet(4), Table::default());
    let options = LaneOptions::default().interval(Duration::from_millis(10)).attempts_max(2);
    let options = options.attempt_timeout(Duration::from_millis(200));
    let options = options.backoff(Duration::from_millis(10), Duration::from_secs(1));
    let (_folder, _cache, texts) =
        writer(Some(&remote), |builder| builder.write_behind(table.clone(), options));
    get(&texts, "x").await;
    let gates = [Operation::Settle, Operation::Invalidate]
        .map(|operation| remote.hold(operation, Point::BeforeEffect));
    texts.put("k", "1".to_owned()).await.unwrap();
    let behind = texts.behind().unwrap();
    until("some attempts to be over", || behind.figures().flushes.count > 4).await;
    let figures = behind.figures();
    assert_eq!((figures.dead, table.writes().len()), (0, 1), "{figures:?}");
    gates.iter().for_each(terrace_testkit::fake::Gate::open);
    until_some("L2 to be told", async || (behind.flush().await.left() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_batch_that_is_under_way_is_waited_for_by_a_shutdown() {
    let remote = fleet(1);
    let (cache, texts) = node(&remote, |builder| builder);
    let (_other, elsewhere) = node(&remote.another_node().hearing(), |builder| builder);
    texts.contains("x").await.unwrap();
    let (mut held, load) = hold::<std::convert::Infallible>();
    let loading = spawn(async move { elsewhere.get_or_load("b", load).await });
    held.started().await;
    let (own, calls) = (texts.clone(), Arc::default());
    let loads = news(&calls);
    let batch = spawn(async move { own.get_or_load_many(&["a".to_owned(), "b".to_owned()], loads).await });
    let_others_run().await;
    let shutting = spawn(async move { cache.shutdown(Duration::from_secs(15)).await });
    until("the first of them to be loaded", || calls.load(Ordering::SeqCst) == 1).await;
    held.bring("elsewhere");
    ended(loading).await.unwrap();
    assert!(ended(batch).await.iter().all(Result::is_ok));
    ended(shutting).await.unwrap();
}
