//! Many keys in one call, over both tiers.

use crate::fixture::{Node, Texts, ended, let_others_run, spawn, within};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use terrace::{Effect, EntryOptions, ErrorKind, Origin, Tier};
use terrace_testkit::fake::{Fault, Operation, Point};

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn values(texts: &Texts, keys: &[&str]) -> Vec<Option<String>> {
    let found = texts.get_many(&names(keys)).await.expect("valid keys");
    found.into_iter().map(|value| value.map(|value| (*value).clone())).collect()
}

#[tokio::test]
async fn each_key_is_answered_by_the_nearest_tier() {
    let node = Node::first().await;
    let other = node.another().await;
    node.put("here", "1").await;
    other.put("there", "2").await;
    let tagged = EntryOptions::default().tag("t").unwrap();
    other.texts.put_with("tagged", "3".to_owned(), tagged.clone()).await.unwrap();
    other.texts.put_with("dead", "4".to_owned(), tagged.tag("u").unwrap()).await.unwrap();
    other.texts.invalidate().tag("u").unwrap().send().await.unwrap();
    node.remote.reset_calls();
    let keys = ["none", "there", "here", "dead", "tagged", "there"];
    let expected =
        [None, Some("2"), Some("1"), None, Some("3"), Some("2")].map(|value| value.map(str::to_owned));
    assert_eq!(values(&node.texts, &keys).await, expected);
    assert_eq!((node.calls(Operation::GetMany), node.remote.calls_total()), (1, 2));
    assert_eq!(node.source("tagged").await.unwrap().0, Tier::L1);
    assert_eq!(node.source("there").await.unwrap().0, Tier::L1);
    let stats = node.cache.stats().total;
    assert_eq!((stats.hits_l1, stats.hits_l2, stats.misses), (3, 3, 2));
}

#[tokio::test]
async fn what_a_large_batch_put_stays_in_l1() {
    let node = Node::first().await;
    let entries = (0..5_000).map(|n| (n.to_string(), n.to_string()));
    node.texts.put_many(entries).await.unwrap();
    let kept = (0..5_000).filter(|n: &u64| node.texts.peek(&n.to_string()).is_some()).count();
    assert_eq!(kept, 5_000, "keys of one batch do not stand in each other's way");
}

#[tokio::test]
async fn puts_are_all_checked_before_the_first_is_stored() {
    let node = Node::first().await;
    let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let refused = node.texts.put_many([entry("a", "1"), entry("bad\n", "2")]).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Key(_)));
    let small: Texts = node.cache.keyspace("small").value_bytes_max(10).build().unwrap();
    let refused = small.put_many([entry("a", "1"), entry("b", "longer than that")]).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::ValueTooLarge { .. }));
    assert_eq!((values(&node.texts, &["a"]).await, values(&small, &["a"]).await), (vec![None], vec![None]));
    let written = node.texts.put_many([entry("a", "1"), entry("a", "2")]).await.unwrap();
    assert!(written[1].version.supersedes(written[0].version));
    assert_eq!(node.get("a").await.as_deref(), Some("2"), "the last one of a key stays");
    assert_eq!(written[0].effect, Effect::Applied);
}

/// An origin that answers a key with itself in capitals, has none that begin with `-`, and fails on `!`.
struct Capitals(Arc<Mutex<Vec<String>>>);

impl Origin<String, String> for Capitals {
    type Error = &'static str;

    async fn load(&self, key: &String) -> Result<Option<String>, &'static str> {
        self.0.lock().push(key.clone());
        match key.as_bytes()[0] {
            b'!' => Err("this one fails"),
            b'-' => Ok(None),
            _ => Ok(Some(key.to_uppercase())),
        }
    }
}

#[tokio::test]
async fn with_an_origin_one_round_trip_finds_what_is_there_and_the_rest_is_loaded() {
    for node in [Node::first().await, Node::first_without_l1().await] {
        let other = node.another().await;
        other.put("in l2", "L2").await;
        node.put("put", "PUT").await;
        node.remote.reset_calls();
        let loaded = Arc::new(Mutex::new(Vec::new()));
        let through = node.texts.clone().with_origin(Capitals(Arc::clone(&loaded)));
        let keys = ["a", "in l2", "-none", "put", "b", "a"];
        let expected = [Some("A"), Some("L2"), None, Some("PUT"), Some("B"), Some("A")];
        assert_eq!(values(&through, &keys).await, expected.map(|value| value.map(str::to_owned)));
        loaded.lock().sort();
        assert_eq!(*loaded.lock(), ["-none", "a", "b"], "each once");
        assert_eq!(node.calls(Operation::GetMany), 1);
        assert_eq!((node.calls(Operation::Lease), node.calls(Operation::Fill)), (3, 2));
        assert!(node.calls(Operation::Get) <= 1, "only who joined in vain looks again");
        let stats = node.cache.stats().total;
        assert_eq!((stats.requests, stats.loads), (6, 3));
        let failing = through.get_many(&names(&["c", "!", "d"])).await.unwrap_err();
        assert_eq!(failing.to_string(), "the origin failed: this one fails");
        let_others_run().await;
        assert_eq!(node.get("d").await.as_deref(), Some("D"), "the others were loaded all the same");
    }
}

/// An origin that counts how many of its loads run at the same time.
#[derive(Default)]
struct Crowded {
    running: AtomicU64,
    most: AtomicU64,
}

impl Origin<String, String> for Crowded {
    type Error = Infallible;

    async fn load(&self, key: &String) -> Result<Option<String>, Infallible> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let_others_run().await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok(Some(key.clone()))
    }
}

#[tokio::test]
async fn a_large_batch_does_not_crowd_the_origin() {
    let node = Node::first().await;
    let origin = Arc::new(Crowded::default());
    let through = node.texts.clone().with_origin(Arc::clone(&origin));
    let keys: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    let found = through.get_many(&keys).await.unwrap();
    assert!(found.iter().zip(&keys).all(|(value, key)| value.as_deref() == Some(key)));
    let most = origin.most.load(Ordering::SeqCst);
    assert!((2..=256).contains(&most), "{most} at the same time");
}

#[tokio::test]
async fn a_dead_value_in_a_batch_is_loaded_over() {
    let node = Node::first().await;
    let other = node.another_without_l1().await;
    let tagged = EntryOptions::default().tag("t").unwrap();
    other.texts.put_with("k", "old".to_owned(), tagged).await.unwrap();
    other.texts.invalidate().tag("t").unwrap().send().await.unwrap();
    let through = node.texts.clone().with_origin(Capitals(Arc::default()));
    node.remote.reset_calls();
    assert_eq!(values(&through, &["k"]).await, [Some("K".to_owned())]);
    let calls =
        [Operation::GetMany, Operation::Generations, Operation::Get, Operation::Lease, Operation::Fill];
    assert_eq!(calls.map(|operation| node.calls(operation)), [1, 1, 0, 1, 1]);
    assert_eq!(other.get("k").await.as_deref(), Some("K"));
}

#[tokio::test]
async fn a_batch_joins_loads_that_are_on_their_way() {
    let node = Node::first().await;
    let (mut held, leader) = node.loading("k");
    held.started().await;
    let through = node.texts.clone().with_origin(Capitals(Arc::default()));
    let batch = spawn(async move { values(&through, &["k", "l"]).await });
    let_others_run().await;
    held.bring("from the other load");
    ended(leader).await.unwrap();
    let expected = ["from the other load", "L"].map(|value| Some(value.to_owned()));
    assert_eq!(ended(batch).await, expected);
}

#[tokio::test]
async fn a_batch_that_cannot_ask_about_tags_finds_the_rest() {
    let node = Node::first().await;
    let other = node.another().await;
    let tagged = EntryOptions::default().tag("t").unwrap();
    other.texts.put_with("tagged", "1".to_owned(), tagged).await.unwrap();
    other.put("plain", "2").await;
    node.remote.set_fault_on(Operation::Generations, Some(Fault::TimeoutBeforeEffect));
    assert_eq!(values(&node.texts, &["tagged", "plain"]).await, [None, Some("2".to_owned())]);
    node.remote.set_fault_on(Operation::Generations, None);
    assert_eq!(values(&node.texts, &["tagged", "plain"]).await, [Some("1".to_owned()), Some("2".to_owned())]);
}

#[tokio::test]
async fn a_batch_that_began_before_an_invalidation_was_delivered_does_not_bring_the_old_value_back() {
    for node in [Node::first().await, Node::first_without_l1().await] {
        node.put("k", "old").await;
        node.remote.set_fault_on(Operation::Invalidate, Some(Fault::TimeoutBeforeEffect));
        assert_eq!(node.texts.remove("k").await.unwrap().effect, Effect::Queued);
        let gate = node.remote.hold(Operation::GetMany, Point::AfterEffect);
        let texts = node.texts.clone();
        let batch = spawn(async move { values(&texts, &["k"]).await });
        gate.wait_until_held(1).await;
        node.remote.set_fault_on(Operation::Invalidate, None);
        within("the delivery", async {
            while node.cache.health().await.pending_invalidations > 0 {
                terrace_testkit::wait::pause(std::time::Duration::from_millis(1)).await;
            }
        })
        .await;
        gate.open();
        assert_eq!(ended(batch).await, [None], "the removal had returned before the batch began");
        assert_eq!(node.get("k").await, None);
    }
}
