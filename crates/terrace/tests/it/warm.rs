//! Warming: what is loaded, how many at a time, what it does to L1, and what it never brings back.

use crate::fixture::{HOUR, LEASE, Node, ended, hold, let_others_run, loader, spawn, within};
use crate::table::Table;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use terrace::{
    Cache, CacheBuilder, Clock, EntryOptions, ErrorKind, Glob, Keyspace, L1, LoadError, Policy, Tag, Warmed,
};
use terrace_testkit::fake::{FakeRemote, Fault, Loss, Operation, Point};
use terrace_testkit::wait::{until, until_some};

type Texts = Keyspace<String, String>;

fn names(names: std::ops::Range<usize>) -> Vec<String> {
    names.map(|n| n.to_string()).collect()
}

fn over(table: &Table, set: impl FnOnce(CacheBuilder) -> CacheBuilder) -> (Cache, Texts) {
    let cache = set(Cache::builder()).build().expect("valid settings");
    let grace = EntryOptions::new().grace(HOUR);
    let texts = cache.keyspace("rows").options(grace).read_through(table.clone()).build();
    (cache, texts.expect("a new keyspace"))
}

fn filled(keys: &[String]) -> Table {
    let table = Table::default();
    for key in keys {
        table.set(key, &format!("row {key}"));
    }
    table
}

/// Done, skipped and failed.
fn counts(warmed: &Warmed) -> (u64, u64, u64) {
    (warmed.done(), warmed.skipped(), warmed.failed)
}

fn row(key: &str) -> (String, String) {
    (key.to_owned(), format!("row {key}"))
}

/// A server whose nodes hear of changes, by the real clock.
fn fleet() -> FakeRemote {
    FakeRemote::with_partitions(Clock::system(), 1).hearing()
}

/// A node of it, which hears by now.
async fn node(remote: &FakeRemote) -> (Cache, Texts) {
    let cache = Cache::builder().l2(remote.clone()).staleness_max(LEASE).build().expect("valid settings");
    let texts: Texts = cache.keyspace("rows").build().expect("a new keyspace");
    until_some("the node to hear", async || {
        texts.put("heard", "yes".into()).await.expect("it can be stored");
        texts.peek("heard")
    })
    .await;
    (cache, texts)
}

#[tokio::test]
async fn keys_are_loaded_by_the_origin_and_counted_as_no_lookups() {
    let keys = names(0..600);
    let table = filled(&keys);
    let (cache, texts) = over(&table, |builder| builder);
    texts.get("7").await.unwrap();
    cache.reset_stats();
    let asked = keys.iter().cloned().chain(["none".into(), "bad\n".into()]);
    let warm = texts.warm();
    let progress = warm.progress();
    assert_eq!(progress.now().total, None);
    let warmed = warm.keys(asked.collect::<Vec<_>>()).await.unwrap();
    assert_eq!((warmed.total, warmed.seen()), (Some(602), 602));
    assert_eq!((warmed.loaded, warmed.there, warmed.absent, warmed.failed), (599, 1, 1, 1));
    assert!(matches!(warmed.first_failure.unwrap().kind(), ErrorKind::Key(_)));
    assert!(keys.iter().all(|key| texts.peek(key.as_str()).is_some_and(|value| *value == row(key).1)));
    let stats = cache.stats().total;
    assert_eq!((stats.hits_l1, stats.misses), (0, 0));
    assert_eq!(progress.now().loaded, 599);
}

#[tokio::test]
async fn what_l2_has_is_read_by_the_batch_and_the_rest_is_loaded_once_for_all_nodes() {
    let remote = FakeRemote::new(Clock::manual());
    let keys = names(0..600);
    let table = filled(&keys);
    let (_other, others) = over(&table, |builder| builder.l2(remote.another_node()));
    others.put_many(names(0..100).into_iter().map(|key| (key, "stored".into()))).await.unwrap();
    let (_cache, texts) = over(&table, |builder| builder.l2(remote.clone()));
    texts.put("100", "here".into()).await.unwrap();
    remote.reset_calls();
    let warmed = texts.warm().keys(keys.clone()).await.unwrap();
    assert_eq!((warmed.promoted, warmed.there, warmed.loaded), (100, 1, 499));
    assert_eq!((remote.calls(Operation::GetMany), table.loads()), (6, 3), "by the batch");
    assert_eq!(remote.calls(Operation::Get), 0);
    assert_eq!(*texts.peek("7").unwrap(), "stored");
    let again = others.warm().keys(keys).await.unwrap();
    assert_eq!((again.done(), again.there, table.loads()), (500, 100, 3), "L2 had what was loaded");
}

#[tokio::test]
async fn no_more_are_loaded_at_the_same_time_than_allowed() {
    let cache = Cache::memory().unwrap();
    let texts: Texts = cache.keyspace("rows").build().unwrap();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let load = |key: String| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let_others_run().await;
            now.fetch_sub(1, Ordering::SeqCst);
            if key == "3" { Err("no") } else { Ok(Some(key)) }
        }
    };
    let warmed = texts.warm().at_once(5).keys_with(names(0..300), load).await.unwrap();
    assert_eq!((counts(&warmed), most.load(Ordering::SeqCst)), ((299, 0, 1), 5));
    let ErrorKind::Load(failure) = warmed.first_failure.unwrap().into_kind() else { panic!("a failed load") };
    assert_eq!(failure.downcast::<&str>().as_deref(), Some(&"no"));
    let refused = texts.warm().at_once(0).keys_with(names(0..1), async |_| Ok::<_, Infallible>(None)).await;
    assert!(matches!(refused.unwrap_err().kind(), ErrorKind::Options(_)));
    let refused = texts.warm().keys(names(0..1)).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Options(_)), "there is no origin: {refused}");
}

#[tokio::test]
async fn where_loads_are_bounded_half_of_the_places_are_left_to_reads() {
    let cache = Cache::memory().unwrap();
    let builder = cache.keyspace("rows").loads_max(6).loads_wait_max(std::time::Duration::ZERO);
    let table = filled(&names(0..50));
    let texts: Texts = builder.read_through(table.clone()).build().unwrap();
    assert_eq!(texts.warm().keys(names(0..50)).await.unwrap().loaded, 50);
    assert_eq!(table.batches_of_loads().len(), 1, "it is one call");
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let load = |key: String| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let_others_run().await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, Infallible>(Some(key))
        }
    };
    let warmed = texts.warm().keys_with(names(50..80), load).await.unwrap();
    assert_eq!((counts(&warmed), most.load(Ordering::SeqCst)), ((30, 0, 0), 3));
    let mut held = Vec::new();
    for n in 0..6 {
        let (mut load, loader) = hold::<Infallible>();
        let (texts, key) = (texts.clone(), format!("read {n}"));
        let reading = spawn(async move { texts.get_or_load(&key, loader).await });
        load.started().await;
        held.push((load, reading));
    }
    let warmed = texts.warm().keys_with(names(80..90), load).await.unwrap();
    assert_eq!(counts(&warmed), (0, 0, 10));
    assert!(matches!(warmed.first_failure.unwrap().kind(), ErrorKind::Overloaded { .. }));
    let rows = async || Ok::<_, Infallible>(names(90..99).iter().map(|key| row(key)).collect::<Vec<_>>());
    assert_eq!(texts.warm().rows(rows).await.unwrap().loaded, 9, "the query is over: these ask nobody");
    for (load, reading) in held {
        load.bring("v");
        ended(reading).await.unwrap();
    }
}

#[tokio::test]
async fn progress_is_seen_meanwhile_and_who_goes_away_ends_it() {
    let table = filled(&names(0..100));
    let (_cache, texts) = over(&table, |builder| builder);
    table.hold();
    let warm = texts.warm().at_once(10);
    let progress = warm.progress();
    let warming = spawn(warm.keys(names(0..100)));
    table.wait_until_held(1).await;
    table.let_one_go(1);
    table.wait_until_held(2).await;
    assert_eq!(progress.now().to_string(), "10 of 100 keys: 10 done, 0 skipped, 0 failed");
    warming.abort();
    table.let_go();
    until_some("what began to end", async || texts.peek("19")).await;
    let_others_run().await;
    assert_eq!(table.loads(), 2, "none begins after that");
}

#[tokio::test]
async fn a_shutdown_ends_it() {
    let table = filled(&names(0..600));
    let (cache, texts) = over(&table, |builder| builder);
    table.hold();
    let warming = spawn(texts.warm().at_once(4).keys(names(0..600)));
    table.wait_until_held(1).await;
    let closing = spawn(async move { cache.shutdown(std::time::Duration::from_secs(20)).await });
    let_others_run().await;
    table.let_go();
    assert!(matches!(ended(warming).await.unwrap_err().kind(), ErrorKind::Closed));
    ended(closing).await.unwrap();
    assert_eq!(table.loads(), 1);
}

#[tokio::test]
async fn nobody_leaves_l1_for_it() {
    for remote in [None, Some(FakeRemote::new(Clock::manual()))] {
        let table = filled(&names(0..2_000));
        let (cache, texts) = over(&table, |builder| {
            let builder = builder.l1(L1::entries(800).policy(Policy::Lru));
            if let Some(remote) = &remote { builder.l2(remote.clone()) } else { builder }
        });
        let hot: Vec<String> = names(0..100).iter().map(|n| format!("hot {n}")).collect();
        texts.put_many(hot.iter().map(|key| (key.clone(), "hot".into()))).await.unwrap();
        let warmed = texts.warm().keys(names(0..2_000)).await.unwrap();
        assert!(hot.iter().all(|key| texts.peek(key.as_str()).is_some()));
        assert_eq!(cache.stats().total.evictions, 0);
        let kept = names(0..2_000).iter().filter(|key| texts.peek(key.as_str()).is_some()).count();
        assert!(kept > 400, "{kept}");
        match remote {
            None => {
                assert_eq!((warmed.loaded, warmed.no_room), (kept as u64, 2_000 - kept as u64));
                assert_eq!(table.loads(), 2, "what finds no room is not loaded");
            }
            Some(remote) => {
                assert_eq!((warmed.loaded, warmed.no_room), (2_000, 0), "they are in L2");
                let another = over(&table, |builder| builder.l2(remote.another_node()).no_l1()).1;
                assert!(another.contains("1999").await.unwrap());
            }
        }
        texts.warm().even_if_full().keys(names(0..2_000)).await.unwrap();
        assert!(cache.stats().total.evictions > 0);
    }
}

#[tokio::test]
async fn a_value_that_found_no_room_leaves_no_older_copy_behind() {
    let clock = Clock::manual();
    let remote = FakeRemote::new(clock.clone());
    let table = filled(&names(0..1));
    let cache = Cache::builder().clock(clock.clone()).l2(remote).l1(L1::entries(8)).build().unwrap();
    let grace = EntryOptions::new().ttl(LEASE).grace(HOUR).stale_while_revalidate(HOUR);
    let texts: Texts = cache.keyspace("rows").options(grace).read_through(table.clone()).build().unwrap();
    texts.put("0", "old".into()).await.unwrap();
    texts.put_many(names(1..20).into_iter().map(|key| (key, "v".into()))).await.unwrap();
    texts.put("0", "old".into()).await.unwrap();
    assert!(texts.peek("0").is_some());
    clock.advance(LEASE * 2);
    let warmed = texts.warm().keys(names(0..1)).await.unwrap();
    assert_eq!(warmed.loaded, 1);
    assert_eq!(*texts.get("0").await.unwrap().unwrap(), "row 0", "and not the old one at once");
}

#[tokio::test]
async fn l2_in_trouble_is_a_failure_and_spares_the_origin() {
    let remote = FakeRemote::new(Clock::manual());
    let table = filled(&names(0..10));
    let (_cache, texts) = over(&table, |builder| builder.l2(remote.clone()));
    for is_all in [false, true] {
        let fault = Some(Fault::Unavailable);
        if is_all {
            remote.set_fault(fault);
        } else {
            remote.set_fault_on(Operation::GetMany, fault);
        }
        let warmed = texts.warm().keys(names(0..10)).await.unwrap();
        assert_eq!((counts(&warmed), table.loads()), ((0, 0, 10), 0));
        assert!(warmed.first_failure.unwrap().is_unavailable());
    }
}

#[tokio::test]
async fn a_pattern_is_copied_from_l2_as_far_as_l1_has_room() {
    let first = Node::first().await;
    let keys = |range| names(range).into_iter().map(|n| (format!("user:{n}"), n));
    first.texts.put_many(keys(0..600)).await.unwrap();
    first.put("team:1", "other").await;
    let second = first.another().await;
    second.get("user:0").await;
    let warmed = second.texts.warm().matching(Glob::new("user:*").unwrap()).await.unwrap();
    assert_eq!((warmed.promoted, warmed.there, warmed.seen()), (599, 1, 600));
    assert!(second.texts.peek("user:599").is_some() && second.texts.peek("team:1").is_none());
    let cache = Cache::builder().l2(first.remote.another_node()).l1(L1::entries(400)).build().unwrap();
    let small: Texts = cache.keyspace("texts").build().unwrap();
    let warmed = small.warm().matching(Glob::new("*").unwrap()).await.unwrap();
    assert!(warmed.promoted > 200 && warmed.no_room > 0, "{warmed:?}");
    assert_eq!(cache.stats().total.evictions, 0);
    let memory: Texts = Cache::memory().unwrap().keyspace("rows").build().unwrap();
    let refused = memory.warm().matching(Glob::new("*").unwrap()).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Options(_)));
}

#[tokio::test]
async fn a_query_is_kept_as_loads_are() {
    let remote = fleet();
    let (first, second) = (node(&remote).await, node(&remote.another_node()).await);
    let memory = Cache::memory().unwrap();
    let alone: Texts = memory.keyspace("rows").build().unwrap();
    for texts in [&alone, &first.1] {
        texts.put("there", "stored".into()).await.unwrap();
        let tagged = EntryOptions::new().tag("all").unwrap();
        let rows = async || Ok::<_, Infallible>(["a", "there", "b"].map(row));
        let warmed = within("the rows", texts.warm().options(tagged).rows(rows)).await.unwrap();
        assert_eq!((warmed.loaded, warmed.there, warmed.total), (2, 1, Some(3)), "{warmed:?}");
        assert_eq!(*texts.get("there").await.unwrap().unwrap(), "stored");
        assert_eq!(*texts.peek("a").unwrap(), "row a");
        let entry = texts.get_entry("b").await.unwrap().unwrap();
        assert_eq!(entry.tags, [Tag::new("all").unwrap()]);
    }
    assert_eq!(second.1.get_entry("a").await.unwrap().unwrap().tier, terrace::Tier::L2);
    let failing = async || Err::<Vec<(String, String)>, _>("no such table");
    let failed = alone.warm().rows(failing).await.unwrap_err();
    assert!(matches!(failed, LoadError::Loader(error) if *error == "no such table"));
}

#[tokio::test]
async fn pages_and_streams_are_taken_in_pieces() {
    let texts: Texts = Cache::memory().unwrap().keyspace("rows").build().unwrap();
    let asked = Mutex::new(Vec::new());
    let page = async |after: Option<String>| {
        asked.lock().push(after.clone());
        let next = after.map_or(0, |after| after.parse::<usize>().expect("a number") + 1);
        Ok::<_, Infallible>(names(next..25.min(next + 10)).iter().map(|key| row(key)).collect::<Vec<_>>())
    };
    let warmed = texts.warm().pages(page).await.unwrap();
    assert_eq!((counts(&warmed), warmed.total), ((25, 0, 0), None));
    assert_eq!(asked.into_inner(), [None, Some("9".into()), Some("19".into()), Some("24".into())]);
    let polled = AtomicUsize::new(0);
    let entries = stream::iter(25..75).map(|n| {
        polled.fetch_add(1, Ordering::SeqCst);
        if n == 30 { Err("unreadable") } else { Ok(row(&n.to_string())) }
    });
    let warmed = texts.warm().at_once(7).stream(|| entries).await.unwrap();
    assert_eq!((counts(&warmed), polled.into_inner()), ((49, 0, 1), 50));
}

/// What becomes of a row whose key is changed while the query runs.
async fn changed_meanwhile(texts: &Texts, change: impl Future<Output = ()>) -> Warmed {
    let (change, tagged) = (Box::pin(change), EntryOptions::new().tag("t").expect("a tag"));
    let rows = || async {
        let rows = [row("k")];
        change.await;
        Ok::<_, Infallible>(rows)
    };
    within("the rows", texts.warm().options(tagged).rows(rows)).await.expect("the query does not fail")
}

#[tokio::test]
async fn what_was_changed_since_the_query_began_is_not_brought_back() {
    let remote = fleet();
    let (first, second) = (node(&remote).await, node(&remote.another_node()).await);
    let memory = Cache::memory().unwrap();
    let alone: Texts = memory.keyspace("rows").build().unwrap();
    for (texts, changer) in [(&alone, &alone), (&first.1, &first.1), (&first.1, &second.1)] {
        for change in ["key", "tag", "pattern", "clear", "put and evicted"] {
            let invalidate = changer.invalidate();
            let changing = async {
                match change {
                    "key" => drop(invalidate.keys(["k"]).send().await.unwrap()),
                    "tag" => drop(invalidate.tag("t").unwrap().send().await.unwrap()),
                    "pattern" => drop(invalidate.pattern("k*").unwrap().send().await.unwrap()),
                    "clear" => drop(changer.clear().await.unwrap()),
                    _ => {
                        changer.put("k", "newer".into()).await.unwrap();
                        changer.remove("k").await.unwrap();
                    }
                }
            };
            let warmed = changed_meanwhile(texts, changing).await;
            assert_eq!(counts(&warmed), (0, 1, 0), "{change}: {warmed:?}");
            assert_eq!(warmed.overtaken, 1, "{change}");
            assert!(!texts.contains("k").await.unwrap(), "{change}");
            assert!(!changer.contains("k").await.unwrap(), "{change}");
        }
        let put = async {
            changer.put("k", "newer".into()).await.unwrap();
        };
        changed_meanwhile(texts, put).await;
        assert_eq!(*changer.get("k").await.unwrap().unwrap(), "newer");
        texts.remove("k").await.unwrap();
    }
}

#[tokio::test]
async fn what_was_not_heard_yet_counts_as_well() {
    let remote = fleet();
    let (_first, texts) = node(&remote).await;
    let (_second, theirs) = node(&remote.another_node()).await;
    let log = remote.hold(Operation::ChangesSince, Point::BeforeEffect);
    let changing = async {
        remote.set_loss(Loss::Messages);
        theirs.invalidate().keys(["k"]).send().await.unwrap();
        remote.set_loss(Loss::Nothing);
        // This one shows that one is missing, and the log is asked for it, which takes its time.
        theirs.put("other", "v".into()).await.unwrap();
        log.wait_until_held(1).await;
    };
    let (reader, joined) = (texts.clone(), Mutex::new(None));
    let warming = changed_meanwhile(&texts, changing);
    let meanwhile = async {
        log.wait_until_held(1).await;
        until("the row to have a lease", || remote.calls(Operation::Lease) > 0).await;
        let reading = spawn(async move { reader.get_or_load("k", loader("loaded")).await });
        let_others_run().await;
        *joined.lock() = Some(reading);
        log.open();
    };
    let (warmed, ()) = tokio::join!(warming, meanwhile);
    assert_eq!((counts(&warmed), warmed.overtaken), ((0, 1, 0), 1), "{warmed:?}");
    let joined = joined.into_inner().expect("it was begun");
    assert_eq!(*ended(joined).await.unwrap(), "loaded", "whoever joined looks again");
    assert_eq!(*theirs.get("k").await.unwrap().unwrap(), "loaded");
}

#[tokio::test]
async fn where_nothing_is_heard_nothing_is_kept() {
    let remote = fleet();
    let (cache, texts) = node(&remote).await;
    let warmed = changed_meanwhile(&texts, async { remote.cut_bus() }).await;
    assert_eq!(counts(&warmed), (0, 0, 1));
    assert!(matches!(warmed.first_failure.unwrap().kind(), ErrorKind::Unproven));
    remote.mend_bus();
    assert!(!texts.contains("k").await.unwrap());
    cache.shutdown(std::time::Duration::from_secs(5)).await.unwrap();
    let deaf = Node::first().await;
    let refused = deaf.texts.warm().rows(async || Ok::<_, Infallible>([row("k")])).await.unwrap_err();
    assert!(matches!(refused.cache(), Some(ErrorKind::Options(_))), "{refused}");
}
