//! The end of a cache: what runs is waited for, nothing new begins, and nothing that was promised is lost silently.

use crate::fixture::{Node, ended, let_others_run, loader, within};
use crate::jitter::Dice;
use std::time::Duration;
use terrace::{Cache, Effect, ErrorKind};
use terrace_testkit::fake::{Fault, Operation, Point};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_runs_is_waited_for() {
    let node = Node::first().await;
    let (mut held, loading) = node.loading("loaded");
    held.started().await;
    let gate = node.remote.hold(Operation::Set, Point::BeforeEffect);
    let putting = node.putting("put", "v");
    gate.wait_until_held(1).await;
    let cache = node.cache.clone();
    let closing = crate::fixture::spawn(async move { cache.shutdown(LONG).await });
    let_others_run().await;
    assert!(!closing.is_finished());
    gate.open();
    held.bring("v");
    ended(closing).await.unwrap();
    assert_eq!(ended(putting).await.unwrap().effect, Effect::Applied);
    assert_eq!(*ended(loading).await.unwrap(), "v");
    let other = node.another().await;
    assert_eq!((other.get("loaded").await, other.get("put").await), (Some("v".into()), Some("v".into())));
}

#[tokio::test]
async fn nothing_begins_afterwards_and_l1_still_answers() {
    for node in [Node::first().await, Node::first_without_l1().await] {
        let memory = Cache::memory().unwrap();
        let memory = (memory.keyspace::<String, String>("texts").build().unwrap(), memory);
        for (texts, cache) in [(&node.texts, &node.cache), (&memory.0, &memory.1)] {
            texts.put("k", "v".to_owned()).await.unwrap();
            cache.shutdown(LONG).await.unwrap();
            let kept = texts.peek("k");
            assert_eq!(texts.get("k").await.unwrap(), kept);
            assert_eq!(texts.get("none").await.unwrap(), None);
            let refused = [
                texts.put("k", "w".to_owned()).await.unwrap_err(),
                texts.put_many([("k".to_owned(), "w".to_owned())]).await.unwrap_err(),
                texts.remove("k").await.unwrap_err(),
                texts.invalidate().keys(["k"]).send().await.unwrap_err(),
                texts.clear().await.unwrap_err(),
            ];
            assert!(refused.iter().all(|error| matches!(error.kind(), ErrorKind::Closed)), "{refused:?}");
            let refused = texts.get_or_load("none", loader("v")).await.unwrap_err();
            assert!(matches!(refused.cache(), Some(ErrorKind::Closed)), "{refused:?}");
            cache.shutdown(LONG).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_l2_has_not_seen_is_tried_once_more() {
    let node = Node::first().await;
    let other = node.another_without_l1().await;
    node.put("k", "old").await;
    node.remote.set_fault_on(Operation::Invalidate, Some(Fault::Unavailable));
    assert_eq!(node.texts.remove("k").await.unwrap().effect, Effect::Queued);
    node.remote.set_fault_on(Operation::Invalidate, None);
    node.cache.shutdown(LONG).await.unwrap();
    assert_eq!(other.get("k").await, None);
}

#[tokio::test]
async fn what_l2_never_saw_is_reported() {
    let node = Node::first().await;
    node.remote.set_fault(Some(Fault::Unavailable));
    node.texts.remove_many(&["a", "b"].map(str::to_owned)).await.unwrap();
    node.texts.clear().await.unwrap();
    let left = node.cache.shutdown(LONG).await.unwrap_err();
    assert_eq!((left.loads, left.invalidations), (0, 1), "everything includes the two keys");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_does_not_end_in_time_is_told_to_stop() {
    let node = Node::first().await;
    let (mut held, loading) = node.loading("k");
    held.started().await;
    let limit = Duration::from_secs(1);
    let left = node.cache.shutdown(limit).await.unwrap_err();
    assert_eq!((left.after, left.loads, left.invalidations), (limit, 1, 0));
    assert!(matches!(ended(loading).await.unwrap_err().cache(), Some(ErrorKind::Closed)));
    assert!(!held.is_alive());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_either_refused_or_waited_for() {
    for round in 0..200 {
        let node = Node::first().await;
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let texts = node.texts.clone();
                crate::fixture::spawn(async move {
                    for n in 0.. {
                        match texts.put(&format!("{writer}-{n}"), "v".to_owned()).await {
                            Ok(written) => assert_eq!(written.effect, Effect::Applied, "it began in time"),
                            Err(error) => {
                                return assert!(matches!(error.kind(), ErrorKind::Closed), "{error}");
                            }
                        }
                    }
                })
            })
            .collect();
        for _ in 0..round % 20 {
            tokio::task::yield_now().await;
        }
        within("the shutdown", node.cache.shutdown(LONG)).await.unwrap();
        for writer in writers {
            ended(writer).await;
        }
    }
}

#[test]
fn a_runtime_may_go_down_at_any_moment() {
    for seed in 0..60 {
        let fleet = crate::history::Fleet::new(seed);
        let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let doomed = threads.expect("a runtime can be made");
        for client in 0..8_u64 {
            let node = std::sync::Arc::clone(&fleet.nodes[usize::try_from(client % 3).expect("small")]);
            doomed.spawn(async move {
                let dice = Dice::new(seed * 100 + client);
                loop {
                    node.act(&dice).await;
                }
            });
        }
        doomed.block_on(Dice::new(seed).wait(seed * 40));
        doomed.shutdown_timeout(LONG);
        crate::fixture::runtime().block_on(within("every key to be free", async {
            fleet.nodes.iter().for_each(|node| node.remote.lose_leases());
            for node in &fleet.nodes {
                node.check_all().await;
            }
        }));
    }
}

#[test]
fn a_cache_may_be_shut_down_on_another_runtime() {
    let node = crate::fixture::runtime().block_on(Node::first());
    crate::fixture::runtime().block_on(async { node.put("k", "v").await });
    crate::fixture::runtime().block_on(node.cache.shutdown(LONG)).unwrap();
}
