//! The five strategies: what `get`, `put` and `remove` do at the origin, and what its failures mean.

use crate::fixture::{Node, ended, let_others_run, loader, spawn, within};
use crate::table::{Mood, Table};
use crate::watched::Pair;
use std::time::Duration;
use terrace::{
    Cache, Effect, EntryOptions, ErrorKind, Keyspace, KeyspaceBuilder, OriginFn, StoreError, Strategy, Tier,
    WriteFailure,
};
use terrace_testkit::fake::{Fault, Loss, Operation, Point};

pub(crate) type Builder = KeyspaceBuilder<String, String>;
pub(crate) type Texts = Keyspace<String, String>;

pub(crate) fn opened(cache: &Cache, with: impl FnOnce(Builder) -> Builder) -> Texts {
    with(cache.keyspace("rows")).build().expect("a new keyspace")
}

/// A keyspace on memory alone, one with L2, and one without L1, each over its own table.
pub(crate) async fn everywhere(
    with: impl Fn(Builder, Table) -> Builder,
) -> Vec<(Texts, Table, Option<Node>)> {
    let mut all = Vec::new();
    let memory = Cache::memory().expect("a cache");
    let table = Table::default();
    all.push((opened(&memory, |builder| with(builder, table.clone())), table, None));
    for node in [Node::first().await, Node::first_without_l1().await, Node::first_hearing().await] {
        let table = Table::default();
        let texts = opened(&node.cache, |builder| with(builder, table.clone()));
        held(&texts, "the first call opens the namespace").await;
        let_others_run().await;
        all.push((texts, table, Some(node)));
    }
    all
}

async fn get(texts: &Texts, key: &str) -> Option<String> {
    texts.get(key).await.expect("a valid key").map(|value| (*value).clone())
}

/// What the tiers have, without the origin.
pub(crate) async fn held(texts: &Texts, key: &str) -> bool {
    texts.contains(key).await.expect("a valid key")
}

#[tokio::test]
async fn cache_aside_and_read_through_write_the_tiers_alone() {
    for (texts, table, _) in everywhere(|builder, _| builder).await {
        assert_eq!(texts.strategy(), Strategy::CacheAside);
        texts.put("k", "v".into()).await.unwrap();
        assert_eq!((get(&texts, "k").await.as_deref(), table.row("k")), (Some("v"), None));
        assert_eq!(*texts.get_or_load("other", loader("loaded")).await.unwrap(), "loaded");
    }
    for (texts, table, _) in everywhere(KeyspaceBuilder::read_through).await {
        assert_eq!(texts.strategy(), Strategy::ReadThrough);
        table.set("k", "row");
        assert_eq!(get(&texts, "k").await.as_deref(), Some("row"));
        assert_eq!(get(&texts, "k").await.as_deref(), Some("row"));
        assert_eq!(table.loads(), 1);
        texts.put("k", "v".into()).await.unwrap();
        texts.remove("other").await.unwrap();
        assert_eq!((get(&texts, "k").await.as_deref(), table.row("k").as_deref()), (Some("v"), Some("row")));
        assert_eq!(table.writes(), []);
    }
}

#[tokio::test]
async fn write_through_writes_the_origin_and_then_the_tiers() {
    for (texts, table, _) in everywhere(KeyspaceBuilder::write_through).await {
        let written = texts.put("k", "v".into()).await.unwrap();
        assert_eq!((written.effect, table.row("k").as_deref()), (Effect::Applied, Some("v")));
        assert!(held(&texts, "k").await);
        assert_eq!(get(&texts, "k").await.as_deref(), Some("v"));
        assert_eq!(table.loads(), 0);
        texts.put_many([("a".into(), "1".into()), ("b".into(), "2".into())]).await.unwrap();
        assert_eq!(table.batches(), [2]);
        assert!(held(&texts, "a").await && held(&texts, "b").await);
        assert!(texts.remove("k").await.unwrap().existed);
        assert_eq!((table.row("k"), get(&texts, "k").await), (None, None));
        texts.remove_many(&["a".to_owned(), "b".to_owned(), "a".to_owned()]).await.unwrap();
        assert_eq!(table.batches(), [2, 2], "each key once");
        assert_eq!((get(&texts, "a").await, get(&texts, "b").await), (None, None));
    }
}

#[tokio::test]
async fn a_key_that_is_stored_twice_in_a_batch_ends_as_it_was_stored_last() {
    for (texts, table, _) in everywhere(KeyspaceBuilder::write_through).await {
        texts.put_many([("k".into(), "1".into()), ("k".into(), "2".into())]).await.unwrap();
        assert_eq!((table.row("k").as_deref(), get(&texts, "k").await.as_deref()), (Some("2"), Some("2")));
    }
}

#[tokio::test]
async fn an_origin_that_does_not_take_a_write_leaves_the_tiers_as_they_were() {
    for around in [false, true] {
        let with = |builder: Builder, table| {
            if around { builder.write_around(table) } else { builder.write_through(table) }
        };
        for (texts, table, _) in everywhere(with).await {
            table.set("k", "old");
            assert_eq!(get(&texts, "k").await.as_deref(), Some("old"));
            for mood in [Mood::Failing, Mood::Refusing, Mood::Away] {
                table.is(mood, None);
                let error = texts.put("k", "new".into()).await.unwrap_err();
                let ErrorKind::Store(failure) = error.kind() else { panic!("{error}") };
                assert!(failure.downcast::<&'static str>().is_some());
                let error = texts.remove("k").await.unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::Store(_)), "{error}");
                assert!(held(&texts, "k").await, "{mood:?}");
                assert_eq!(get(&texts, "k").await.as_deref(), Some("old"));
            }
            assert_eq!(table.loads(), 1);
        }
    }
}

#[tokio::test]
async fn of_a_batch_the_origin_takes_what_it_takes() {
    for (texts, table, _) in everywhere(KeyspaceBuilder::write_through).await {
        table.is(Mood::Failing, Some("b"));
        let entries = ["a", "b", "c"].map(|key| (key.to_owned(), "v".to_owned()));
        let error = texts.put_many(entries).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Store(_)), "{error}");
        let there = [held(&texts, "a").await, held(&texts, "b").await, held(&texts, "c").await];
        assert_eq!(there, [true, false, true]);
    }
}

#[tokio::test(start_paused = true)]
async fn where_nobody_knows_whether_the_origin_has_it_copies_are_dropped() {
    let limit = Duration::from_secs(5);
    for (texts, table, _) in
        everywhere(|builder, table| builder.load_timeout(limit).write_through(table)).await
    {
        for mood in [Mood::Unsure, Mood::Hanging, Mood::Panicking] {
            table.is(Mood::Fine, None);
            texts.put("k", "old".into()).await.unwrap();
            table.is(mood, None);
            let error = texts.put("k", "new".into()).await.unwrap_err();
            let is_fit = match mood {
                Mood::Unsure => matches!(error.kind(), ErrorKind::Store(_)),
                Mood::Hanging => matches!(error.kind(), ErrorKind::StoreTimedOut { .. }),
                _ => matches!(error.kind(), ErrorKind::StorePanicked { .. }),
            };
            assert!(is_fit, "{error}");
            assert!(!held(&texts, "k").await, "{mood:?}");
            assert_eq!(get(&texts, "k").await, table.row("k"), "{mood:?}");
        }
    }
}

#[tokio::test]
async fn a_tier_that_fails_after_the_origin_fails_no_write_and_is_told_later() {
    for fault in [Fault::Unavailable, Fault::TimeoutAfterEffect, Fault::Refused] {
        let (node, table) = (Node::first().await, Table::default());
        let texts = opened(&node.cache, |builder| builder.write_through(table.clone()));
        texts.put("k", "old".into()).await.unwrap();
        node.remote.set_fault_on(Operation::Set, Some(fault));
        let written = texts.put("k", "new".into()).await.unwrap();
        assert_eq!((written.effect, table.row("k").as_deref()), (Effect::Queued, Some("new")));
        assert_eq!(get(&texts, "k").await.as_deref(), Some("new"), "{fault:?}");
        assert!(
            node.cache.metrics().contains(r#"terrace_write_repairs_total{keyspace="rows",reason="l2"} 1"#)
        );
        node.remote.set_fault_on(Operation::Invalidate, Some(fault));
        let removed = texts.remove("k").await.unwrap();
        assert_eq!((removed.effect, table.row("k")), (Effect::Queued, None));
        assert_eq!(get(&texts, "k").await, None, "{fault:?}");
    }
}

#[tokio::test]
async fn write_around_leaves_the_next_read_to_load() {
    for (texts, table, _) in everywhere(KeyspaceBuilder::write_around).await {
        table.set("k", "old");
        assert_eq!(get(&texts, "k").await.as_deref(), Some("old"));
        let written = texts.put("k", "new".into()).await.unwrap();
        assert!(written.effect == Effect::Applied && written.ttl.is_zero());
        assert!(!held(&texts, "k").await);
        assert_eq!((get(&texts, "k").await.as_deref(), table.loads()), (Some("new"), 2));
        texts.remove("k").await.unwrap();
        assert_eq!(get(&texts, "k").await, None);
        texts.put_many([("a".into(), "1".into()), ("b".into(), "2".into())]).await.unwrap();
        assert_eq!((table.batches(), held(&texts, "a").await), (vec![2], false));
    }
}

#[tokio::test]
async fn an_origin_that_only_loads_cannot_be_written() {
    let origin = OriginFn::load(|_: String| async { Ok::<Option<String>, &str>(None) });
    let texts = opened(&Cache::memory().unwrap(), |builder| builder.write_through(origin));
    let error = texts.put("k", "v".into()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::StoreUnsupported), "{error}");
    assert_eq!(texts.peek("k"), None);
}

#[tokio::test]
async fn closures_do_what_origins_do() {
    for (texts, table, _) in everywhere(|builder, _| builder).await {
        let store = |mood| {
            let table = table.clone();
            move |value: std::sync::Arc<String>| async move {
                if mood == Mood::Fine {
                    table.set("k", &value);
                }
                if mood == Mood::Fine { Ok(()) } else { Err("no") }
            }
        };
        let none = EntryOptions::new;
        texts.put_through("k", "v".into(), none(), store(Mood::Fine)).await.unwrap();
        assert_eq!((table.row("k").as_deref(), get(&texts, "k").await.as_deref()), (Some("v"), Some("v")));
        let error = texts.put_through("k", "w".into(), none(), store(Mood::Failing)).await.unwrap_err();
        assert!(matches!(error, StoreError::Origin(error) if *error == "no"));
        assert_eq!(get(&texts, "k").await.as_deref(), Some("v"));
        let error = texts.put_around("k", async { Err("no") }).await.unwrap_err();
        assert!(matches!(error, StoreError::Origin(_)) && held(&texts, "k").await);
        let removed = texts.put_around("k", async { Ok::<_, &str>(()) }).await.unwrap();
        assert!(removed.existed && !held(&texts, "k").await);
    }
}

#[tokio::test]
async fn a_write_goes_on_when_its_caller_has_gone() {
    for (texts, table, _) in everywhere(KeyspaceBuilder::write_through).await {
        table.hold();
        let writer = texts.clone();
        let writing = spawn(async move { writer.put("k", "v".into()).await });
        table.wait_until_held(1).await;
        writing.abort();
        table.let_go();
        within(
            "the write",
            terrace_testkit::wait::until_some("the value", async || texts.get("k").await.unwrap()),
        )
        .await;
        assert_eq!(table.row("k").as_deref(), Some("v"));
    }
}

#[tokio::test]
async fn changes_of_one_key_reach_origin_and_tiers_in_one_order() {
    for (texts, table, _) in everywhere(KeyspaceBuilder::write_through).await {
        let writers: Vec<_> = (0..20)
            .map(|n| {
                let texts = texts.clone();
                spawn(async move { texts.put("k", n.to_string()).await.unwrap() })
            })
            .collect();
        for writer in writers {
            ended(writer).await;
        }
        assert_eq!(get(&texts, "k").await, table.row("k"));
        assert_eq!(table.writes().len(), 20);
    }
}

/// Puts a value whose origin is held up, does something meanwhile, and lets it go.
async fn put_meanwhile(texts: &Texts, table: &Table, change: impl Future<Output = ()>) {
    table.hold();
    let (writer, tag) = (texts.clone(), EntryOptions::new().tag("t").expect("a tag"));
    let writing = spawn(async move { writer.put_with("k", "mine".into(), tag).await });
    table.wait_until_held(1).await;
    change.await;
    table.let_go();
    assert_eq!(ended(writing).await.expect("it is stored").effect, Effect::Applied);
}

#[tokio::test]
async fn a_key_that_was_changed_meanwhile_is_not_kept() {
    for (texts, table, node) in everywhere(KeyspaceBuilder::write_through).await {
        let changes = ["remove", "key", "tag", "pattern", "clear", "put"];
        for change in changes {
            let other = async {
                // Somebody else changes the row, and says so.
                table.set("k", "theirs");
                let invalidate = texts.invalidate();
                match change {
                    "remove" => drop(texts.put_around("k2", async { Ok::<_, &str>(()) }).await),
                    "key" => drop(invalidate.keys(["k"]).send().await),
                    "tag" => drop(invalidate.tag("t").unwrap().send().await),
                    "pattern" => drop(invalidate.pattern("k*").unwrap().send().await),
                    "clear" => drop(texts.clear().await),
                    _ => {}
                }
            };
            put_meanwhile(&texts, &table, other).await;
            let is_kept = held(&texts, "k").await;
            assert_eq!(is_kept, matches!(change, "remove" | "put"), "{change} {:?}", node.is_some());
            assert_eq!(get(&texts, "k").await, table.row("k"), "{change}");
        }
    }
}

#[tokio::test]
async fn two_nodes_that_write_one_key_at_a_time_keep_neither_s_value_in_the_wrong_order() {
    let Pair { first, mine, theirs, table, second: _second } = Pair::new().await;
    // Mine is at the origin first, and at L2 last.
    let gate = first.remote.hold(Operation::Set, Point::BeforeEffect);
    let writer = mine.clone();
    let writing = spawn(async move { writer.put("k", "mine".into()).await });
    gate.wait_until_held(1).await;
    theirs.put("k", "theirs".into()).await.unwrap();
    let_others_run().await;
    gate.open();
    ended(writing).await.unwrap();
    assert_eq!(table.row("k").as_deref(), Some("theirs"));
    for texts in [&mine, &theirs] {
        let is_right = async || {
            let found = texts.get_entry("k").await.unwrap()?;
            (*found.value == "theirs").then_some(())
        };
        terrace_testkit::wait::until_some("the origin's value", is_right).await;
    }
    assert!(first.cache.metrics().contains(r#"reason="contested"} 1"#), "{}", first.cache.metrics());
}

#[tokio::test]
async fn what_is_heard_after_the_acknowledgement_counts_as_well() {
    let Pair { first, mine, theirs, table, second: _second } = Pair::new().await;
    table.hold();
    let writer = mine.clone();
    let writing = spawn(async move { writer.put("k", "mine".into()).await });
    table.wait_until_held(1).await;
    // Their change is in L2 before this one, and its message is lost: it is read from the log, which takes its time.
    first.remote.set_loss(Loss::Messages);
    let log = first.remote.hold(Operation::ChangesSince, Point::BeforeEffect);
    theirs.put_around("k", async { Ok::<_, &str>(()) }).await.unwrap();
    first.remote.set_loss(Loss::Nothing);
    table.let_go();
    ended(writing).await.unwrap();
    log.wait_until_held(1).await;
    let metrics = || first.cache.metrics();
    assert!(metrics().contains(r#"reason="contested"} 0"#), "nobody has heard of it yet");
    log.open();
    terrace_testkit::wait::until("the key to be dropped", || metrics().contains(r#"reason="contested"} 1"#))
        .await;
    assert!(!held(&theirs, "k").await);
}

#[tokio::test]
async fn a_load_that_began_before_a_write_is_not_kept() {
    for (texts, table, _) in everywhere(KeyspaceBuilder::write_through).await {
        table.set("k", "old");
        table.hold();
        let reader = texts.clone();
        let reading = spawn(async move { get(&reader, "k").await });
        table.wait_until_held(1).await;
        let writer = texts.clone();
        let writing = spawn(async move { writer.put("k", "new".into()).await });
        table.wait_until_held(2).await;
        table.let_go();
        ended(writing).await.unwrap();
        ended(reading).await;
        assert_eq!(get(&texts, "k").await.as_deref(), Some("new"));
    }
}

#[tokio::test]
async fn where_an_answer_comes_from_is_told() {
    let table = Table::default();
    table.set("k", "row");
    let texts = opened(&Cache::memory().unwrap(), |builder| builder.read_through(table));
    let tier = async || texts.get_entry("k").await.unwrap().map(|entry| entry.tier);
    assert_eq!((tier().await, tier().await), (Some(Tier::Origin), Some(Tier::L1)));
}

#[test]
fn a_failure_says_what_it_says() {
    let failure = WriteFailure::Unavailable("no route");
    assert_eq!(failure.to_string(), "no route");
    assert_eq!(WriteFailure::from("x"), WriteFailure::Failed("x"));
}
