//! Loading many keys in one call: who is loaded with whom, and that each key succeeds or fails by itself.

use crate::fixture::{Node, ended, hold, let_others_run, loader, spawn, within};
use crate::table::Table;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use terrace::{Cache, EntryOptions, ErrorKind, Keyspace, LoadError};
use terrace_testkit::fake::Operation;

type Texts = Keyspace<String, String>;
type Found = Vec<Result<Option<Arc<String>>, LoadError<&'static str>>>;

fn keys<const N: usize>(keys: [&str; N]) -> Vec<String> {
    keys.map(str::to_owned).to_vec()
}

fn memory() -> Texts {
    Cache::memory().expect("a cache").keyspace("texts").build().expect("a new keyspace")
}

/// A loader of many that brings `key!`, counts its calls and keys, and fails for keys that begin with `bad`.
#[derive(Clone, Default)]
struct Bang {
    calls: Arc<AtomicU64>,
    keys: Arc<AtomicU64>,
}

impl Bang {
    fn load(&self, keys: Vec<String>) -> Vec<Result<Option<String>, &'static str>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.keys.fetch_add(keys.len() as u64, Ordering::SeqCst);
        let answer = |key: String| match key.as_str() {
            "none" => Ok(None),
            key if key.starts_with("bad") => Err("no such luck"),
            key => Ok(Some(format!("{key}!"))),
        };
        keys.into_iter().map(answer).collect()
    }

    async fn get(&self, texts: &Texts, keys: &[String]) -> Found {
        let own = self.clone();
        texts.get_or_load_many(keys, move |keys| std::future::ready(own.load(keys))).await
    }

    fn figures(&self) -> (u64, u64) {
        (self.calls.load(Ordering::SeqCst), self.keys.load(Ordering::SeqCst))
    }
}

fn values(found: &Found) -> Vec<Option<&str>> {
    found.iter().map(|found| found.as_ref().ok()?.as_deref().map(String::as_str)).collect()
}

#[tokio::test]
async fn what_no_tier_has_is_loaded_in_one_call_and_fails_key_by_key() {
    for node in [None, Some(Node::first().await), Some(Node::first_without_l1().await)] {
        let texts = node.as_ref().map_or_else(memory, |node| node.texts.clone());
        texts.put("a", "put".into()).await.unwrap();
        let bang = Bang::default();
        let asked = keys(["a", "b", "bad", "none", "b", "c", "line\nbreak"]);
        let found = bang.get(&texts, &asked).await;
        assert_eq!(values(&found), [Some("put"), Some("b!"), None, None, Some("b!"), Some("c!"), None]);
        assert!(matches!(&found[2], Err(LoadError::Loader(error)) if **error == "no such luck"));
        assert!(found[3].as_ref().is_ok_and(Option::is_none));
        assert!(matches!(found[6].as_ref().unwrap_err().cache(), Some(ErrorKind::Key(_))));
        assert_eq!(bang.figures(), (1, 4), "each key once");
        if let Some(node) = &node {
            assert_eq!((node.calls(Operation::GetMany), node.calls(Operation::Get)), (1, 0));
        }
        bang.get(&texts, &asked).await;
        assert_eq!(bang.figures(), (2, 6), "what failed, and what there is nothing of");
    }
}

#[tokio::test]
async fn an_origin_loads_many_in_one_call() {
    for node in [None, Some(Node::first().await)] {
        let table = Table::default();
        for key in ["a", "b"] {
            table.set(key, key);
        }
        let texts = node.as_ref().map_or_else(memory, |node| node.texts.clone()).with_origin(table.clone());
        let found = texts.get_many(&keys(["a", "none", "b"])).await.unwrap();
        assert_eq!(found.iter().flatten().count(), 2);
        assert_eq!(table.batches_of_loads(), [keys(["a", "none", "b"])]);
        table.set("b2", "broken");
        let error = texts.get_many(&keys(["a", "b2", "c2"])).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Load(_)), "{error}");
        assert_eq!(table.batches_of_loads()[1], keys(["b2", "c2"]));
    }
}

#[tokio::test]
async fn a_key_is_loaded_once_whoever_asks_for_it() {
    for node in [None, Some(Node::first().await)] {
        let texts = node.map_or_else(memory, |node| node.texts);
        let (mut held, single) = hold::<&'static str>();
        let alone = texts.clone();
        let alone = spawn(async move { alone.get_or_load("b", single).await });
        held.started().await;
        let bang = Bang::default();
        let (own, many) = (bang.clone(), texts.clone());
        let batch = spawn(async move { own.get(&many, &keys(["a", "b"])).await });
        terrace_testkit::wait::until("the other key to be loaded", || bang.figures() == (1, 1)).await;
        let (own, many) = (bang.clone(), texts.clone());
        let second = spawn(async move { own.get(&many, &keys(["a", "b"])).await });
        let_others_run().await;
        held.bring("alone");
        for batch in [batch, second] {
            assert_eq!(values(&ended(batch).await), [Some("a!"), Some("alone")]);
        }
        ended(alone).await.unwrap();
        assert_eq!(bang.figures(), (1, 1));
    }
}

#[tokio::test]
async fn two_nodes_that_load_the_same_keys_load_each_once() {
    let node = Node::first_hearing().await;
    let other = node.another_hearing().await;
    let bang = Bang::default();
    let asked: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    let batches: Vec<_> = [&node, &other, &node, &other]
        .into_iter()
        .map(|node| {
            let (bang, texts, asked) = (bang.clone(), node.texts.clone(), asked.clone());
            spawn(async move { bang.get(&texts, &asked).await })
        })
        .collect();
    for batch in batches {
        assert!(ended(batch).await.iter().all(Result::is_ok));
    }
    assert_eq!(bang.figures().1, 200);
}

#[tokio::test]
async fn who_waits_for_another_node_holds_up_nobody() {
    let node = Node::first_hearing().await;
    let other = node.another_hearing().await;
    let (mut held, elsewhere) = hold::<&'static str>();
    let texts = other.texts.clone();
    let elsewhere = spawn(async move { texts.get_or_load("b", elsewhere).await });
    held.started().await;
    let bang = Bang::default();
    let (own, texts) = (bang.clone(), node.texts.clone());
    let batch = spawn(async move { own.get(&texts, &keys(["a", "b", "c"])).await });
    terrace_testkit::wait::until("the others to be loaded", || bang.figures() == (1, 2)).await;
    assert_eq!(node.load("a", "not run").await, "a!");
    held.bring("elsewhere");
    assert_eq!(values(&ended(batch).await), [Some("a!"), Some("elsewhere"), Some("c!")]);
    ended(elsewhere).await.unwrap();
    assert_eq!(bang.figures(), (1, 2));
}

#[tokio::test]
async fn a_loader_that_panics_or_miscounts_fails_its_keys_and_frees_them() {
    for node in [None, Some(Node::first().await)] {
        let texts = node.map_or_else(memory, |node| node.texts);
        let asked = keys(["a", "b"]);
        let panics = |_: Vec<String>| async { panic!("on fire") };
        let found: Found = texts.get_or_load_many(&asked, panics).await;
        let is_panic = |error: &LoadError<_>| matches!(error.cache(), Some(ErrorKind::LoadPanicked { .. }));
        assert!(found.iter().all(|found| found.as_ref().is_err_and(is_panic)));
        let found: Found = texts.get_or_load_many(&asked, |_| async { vec![Ok(Some("one".into()))] }).await;
        let is_miscount = |error: &LoadError<_>| {
            matches!(error.cache(), Some(ErrorKind::LoadMiscounted { asked: 2, got: 1 }))
        };
        assert!(found.iter().all(|found| found.as_ref().is_err_and(is_miscount)));
        assert_eq!(values(&Bang::default().get(&texts, &asked).await), [Some("a!"), Some("b!")]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_hangs_is_dropped() {
    let limit = Duration::from_secs(2);
    let texts: Texts = Cache::memory().unwrap().keyspace("texts").load_timeout(limit).build().unwrap();
    let hangs = |_: Vec<String>| std::future::pending::<Vec<Result<Option<String>, &'static str>>>();
    let found = texts.get_or_load_many(&keys(["a", "b"]), hangs).await;
    let is_late = |error: &LoadError<_>| matches!(error.cache(), Some(ErrorKind::LoadTimedOut { .. }));
    assert!(found.iter().all(|found| found.as_ref().is_err_and(is_late)));
    assert_eq!(values(&Bang::default().get(&texts, &keys(["a"])).await), [Some("a!")]);
}

#[tokio::test]
async fn a_batch_whose_caller_goes_away_is_loaded_all_the_same() {
    let texts = memory();
    let bang = Bang::default();
    let (own, many) = (bang.clone(), texts.clone());
    let batch = spawn(async move { own.get(&many, &keys(["a", "b"])).await });
    tokio::task::yield_now().await;
    batch.abort();
    within("it", terrace_testkit::wait::until("the values", || texts.peek("b").is_some())).await;
    assert_eq!(bang.figures(), (1, 2));
}

#[tokio::test]
async fn a_large_batch_is_loaded_in_goes() {
    let cache = Cache::builder().l1(terrace::L1::entries(20_000)).build().unwrap();
    let texts: Texts = cache.keyspace("texts").build().unwrap();
    let bang = Bang::default();
    let asked: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    assert_eq!(values(&bang.get(&texts, &asked).await).iter().flatten().count(), 10_000);
    assert_eq!(bang.figures(), (3, 10_000));
}

#[tokio::test]
async fn old_values_are_returned_at_once_and_loaded_behind() {
    let node = Node::first().await;
    let options = EntryOptions::new().ttl(Duration::from_secs(1)).grace(Duration::from_mins(1));
    let options = options.stale_while_revalidate(Duration::from_mins(1));
    let texts: Texts = node.cache.keyspace("aging").options(options).build().unwrap();
    let asked = keys(["a", "b"]);
    for key in &asked {
        texts.get_or_load(key, loader("old")).await.unwrap();
    }
    node.clock.advance(Duration::from_secs(2));
    let bang = Bang::default();
    assert_eq!(values(&bang.get(&texts, &asked).await), [Some("old"), Some("old")]);
    terrace_testkit::wait::until("both to be loaded, in one call", || bang.figures() == (1, 2)).await;
    let fresh = async || values(&bang.get(&texts, &asked).await).contains(&Some("b!")).then_some(());
    terrace_testkit::wait::until_some("the new value", fresh).await;
}

#[tokio::test]
async fn a_batch_takes_one_place_where_loads_are_bounded() {
    for node in [None, Some(Node::first().await)] {
        let cache = node.map_or_else(|| Cache::memory().unwrap(), |node| node.cache);
        let builder = cache.keyspace("bounded").loads_max(1).loads_wait_max(Duration::from_millis(50));
        let texts: Texts = builder.build().unwrap();
        let bang = Bang::default();
        let found = bang.get(&texts, &keys(["a", "b", "c", "d"])).await;
        assert_eq!((values(&found).iter().flatten().count(), bang.figures()), (4, (1, 4)));
        let (mut held, single) = hold::<&'static str>();
        let alone = texts.clone();
        let alone = spawn(async move { alone.get_or_load("busy", single).await });
        held.started().await;
        let found = bang.get(&texts, &keys(["e", "f"])).await;
        let is_full = |error: &LoadError<_>| matches!(error.cache(), Some(ErrorKind::Overloaded { .. }));
        assert!(found.iter().all(|found| found.as_ref().is_err_and(is_full)), "{found:?}");
        held.bring("done");
        ended(alone).await.unwrap();
        assert_eq!(values(&bang.get(&texts, &keys(["e", "f"])).await), [Some("e!"), Some("f!")]);
        assert_eq!(cache.stats().bulkheads[0].running, 0);
    }
}

#[tokio::test]
async fn a_batch_has_options_like_any_call() {
    let texts = memory();
    let asked = keys(["a", "b"]);
    let bang = Bang::default();
    let load = |bang: Bang| move |keys: Vec<String>| std::future::ready(bang.load(keys));
    let tagged = EntryOptions::new().ttl(Duration::from_mins(1)).tag("t").unwrap();
    let found = texts.get_or_load_many_with(&asked, tagged, load(bang.clone())).await;
    assert_eq!(values(&found), [Some("a!"), Some("b!")]);
    let entry = texts.get_entry("a").await.unwrap().unwrap();
    assert!(entry.tags[0].as_str() == "t" && entry.ttl.duration().unwrap() <= Duration::from_mins(1));
    texts.invalidate().tag("t").unwrap().send().await.unwrap();
    let none = EntryOptions::new().soft_timeout(Duration::from_secs(1));
    let found = texts.get_or_load_many_with(&asked, none, load(bang.clone())).await;
    let is_refused = |error: &LoadError<_>| matches!(error.cache(), Some(ErrorKind::Options(_)));
    assert!(found.iter().all(|found| found.as_ref().is_err_and(is_refused)));
    assert_eq!(bang.figures(), (1, 2));
    bang.get(&texts, &asked).await;
    assert_eq!(bang.figures(), (2, 4));
}
