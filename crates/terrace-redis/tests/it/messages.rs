//! Every change is logged and published, and the chain of numbers has no gap.

use crate::support::{LONG, Shared, change, key, namespace, physical, read_log, set};
use std::time::Duration;
use terrace_core::remote::{LeaseOutcome, LeaseToken, Remote, SweepRule};
use terrace_core::{Glob, Partition, Tag};
use terrace_testkit::conformance::differential::Change;
use terrace_testkit::conformance::samples;
use terrace_testkit::wait;
use tokio::sync::mpsc::UnboundedReceiver;

/// Listens to a partition's channel.
async fn listen(
    shared: &Shared,
    channel: &str,
) -> (redis::aio::MultiplexedConnection, UnboundedReceiver<redis::PushInfo>) {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let client = redis::Client::open(format!("{}/?protocol=resp3", shared.url)).expect("a valid URL");
    let config = redis::AsyncConnectionConfig::new().set_push_sender(sender);
    let connection = client.get_multiplexed_async_connection_with_config(&config).await;
    let mut connection = connection.expect("the server is up");
    connection.subscribe(channel).await.expect("it subscribes");
    (connection, receiver)
}

fn published(push: &redis::PushInfo) -> Option<Change> {
    if push.kind != redis::PushKind::Message {
        return None;
    }
    let Some(redis::Value::BulkString(message)) = push.data.get(1) else { panic!("a message has content") };
    Some(change(std::str::from_utf8(message).expect("keys are text")))
}

#[tokio::test]
async fn every_change_is_logged_and_published_in_an_unbroken_chain() {
    let Some(shared) = Shared::find().await else { return };
    let redis = shared.builder().partitions(1).node_id(0xabc).build().expect("valid settings");
    let (namespace, partition) = (namespace("log"), Partition(0));
    let channel = physical(&shared.prefix, &namespace, partition, "c");
    let (_listening, mut pushes) = listen(&shared, &channel).await;

    redis.open(&namespace).await.expect("it opens");
    let (plain, odd) = (key("plain"), key("two words\u{1f980}"));
    set(&redis, &namespace, &plain, "value").await;
    redis.invalidate(&namespace, &[plain.clone(), odd.clone()]).await.expect("it succeeds");
    let asked = redis.lease(&namespace, &plain, LeaseToken(1), Duration::from_secs(10), None).await;
    let LeaseOutcome::Granted(lease) = asked.expect("asking succeeds") else { panic!("nobody else loads") };
    let value = samples::sealed(&namespace, &plain, "loaded", LONG);
    redis.fill(&namespace, &plain, &lease, value.clone(), LONG).await.expect("it succeeds");
    redis.release(&namespace, &plain, &lease).await.expect("it succeeds");
    let nothing = terrace_core::Ttl::After(Duration::ZERO);
    redis.set(&namespace, &plain, value, nothing).await.expect("it succeeds");
    redis.bump_tags(&namespace, &[Tag::new("org:7").expect("valid")]).await.expect("it succeeds");
    redis
        .sweep(&namespace, &SweepRule::Matching(Glob::new("pl*n x").expect("valid")))
        .await
        .expect("it succeeds");
    redis.sweep(&namespace, &SweepRule::All).await.expect("it succeeds");

    let log =
        read_log(&mut shared.raw().await, &physical(&shared.prefix, &namespace, partition, "log")).await;
    let what: Vec<&str> = log.iter().map(|(_, change)| change.what.as_str()).collect();
    let expected = [
        "floor ",
        "floor ",
        "set plain",
        "invalidate plain",
        "invalidate two words\u{1f980}",
        "invalidate plain",
        "tag org:7",
        "sweep pl*n x",
        "sweep ",
    ];
    assert_eq!(what, expected, "fills, leases and releases change no logical state");
    let mut previous = 0;
    for (id, change) in &log {
        assert_eq!(*id, format!("{}-0", change.sequence), "an entry is found by its number");
        assert_eq!(change.previous, previous);
        assert!(change.sequence > previous);
        previous = change.sequence;
    }
    let mut heard = Vec::new();
    while heard.len() < log.len() {
        let push = wait::within("a message", wait::DEADLINE, pushes.recv()).await.expect("it listens");
        heard.extend(published(&push));
    }
    assert_eq!(heard, log.into_iter().map(|(_, change)| change).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_chain_holds_under_many_writers() {
    let Some(shared) = Shared::find().await else { return };
    let namespace = namespace("busy");
    let nodes: Vec<_> =
        (0..4).map(|_| shared.builder().partitions(2).build().expect("valid settings")).collect();
    nodes[0].open(&namespace).await.expect("it opens");
    let write = |node: &terrace_redis::Redis, index: u32| {
        let (node, namespace) = (node.clone(), namespace.clone());
        async move {
            for round in 0..50 {
                let key = key(&format!("key:{}", (index + round) % 7));
                set(&node, &namespace, &key, "value").await;
                let leased = node.lease(&namespace, &key, LeaseToken(1), Duration::from_secs(1), None).await;
                leased.expect("asking succeeds");
                node.invalidate(&namespace, &[key]).await.expect("it succeeds");
            }
        }
    };
    futures_util::future::join_all(nodes.iter().zip(0..).map(|(node, index)| write(node, index))).await;
    let mut raw = shared.raw().await;
    let mut changes = 0;
    for partition in [Partition(0), Partition(1)] {
        let log = read_log(&mut raw, &physical(&shared.prefix, &namespace, partition, "log")).await;
        for pair in log.windows(2) {
            assert_eq!(pair[1].1.previous, pair[0].1.sequence);
        }
        changes += log.iter().filter(|(_, change)| !change.what.starts_with("floor")).count();
    }
    assert_eq!(changes, 4 * 50 * 2);
}

#[tokio::test]
async fn the_log_is_bounded() {
    let Some(shared) = Shared::find().await else { return };
    let redis = shared.builder().partitions(1).build().expect("valid settings");
    let namespace = namespace("long");
    redis.open(&namespace).await.expect("it opens");
    let keys = vec![key("key"); 1000];
    for _ in 0..10 {
        redis.invalidate(&namespace, &keys).await.expect("they succeed");
    }
    let name = physical(&shared.prefix, &namespace, Partition(0), "log");
    let length = read_log(&mut shared.raw().await, &name).await.len();
    assert!((4096..4096 + 200).contains(&length), "{length} messages");
}
