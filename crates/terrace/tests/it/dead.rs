//! Both tiers: values in L2 that are none, and metadata that L2 has lost. All of it costs a load, never an old value.

use crate::fixture::{Node, Texts, ended, hold, key, loader, namespace, spawn};
use std::convert::Infallible;
use terrace::{EntryOptions, Tier, codec};
use terrace_core::Remote;
use terrace_testkit::fake::{FakeRemote, Operation};

/// The bytes that L2 holds under a key.
async fn bytes(remote: &FakeRemote, name: &str) -> bytes::Bytes {
    let stored = remote.get(&namespace(), &key(name)).await.expect("it is up");
    stored.expect("it is there").bytes
}

/// Puts something into L2 under `k` that is no value of this keyspace.
async fn spoil(node: &Node, how: &str) {
    let good = {
        node.put("k", "old").await;
        bytes(&node.remote, "k").await
    };
    let spoilt = match how {
        "empty" => bytes::Bytes::new(),
        "garbage" => bytes::Bytes::from_static(
            b"\xff\x00garbage that is longer than a head of forty bytes and no envelope",
        ),
        "short" => good.slice(..7),
        "truncated" => good.slice(..good.len() - 1),
        "another key's" => {
            node.put("other", "other").await;
            bytes(&node.remote, "other").await
        }
        "another format" => [&[2], &good[1..]].concat().into(),
        other => panic!("{other} is no way to spoil"),
    };
    node.remote.tamper(&namespace(), &key("k"), spoilt);
}

#[tokio::test]
async fn bytes_that_are_no_entry_of_the_key_are_a_miss_and_are_replaced() {
    for how in ["empty", "garbage", "short", "truncated", "another key's", "another format"] {
        for is_batch in [false, true] {
            let node = Node::first().await;
            let writer = node.another().await;
            spoil(&writer, how).await;
            if is_batch {
                assert_eq!(node.texts.get_many(&["k".to_owned()]).await.unwrap(), [None], "{how}");
            } else {
                assert_eq!(node.get("k").await, None, "{how}");
            }
            assert_eq!(node.cache.stats().total.decode_failures, 1, "{how}");
            assert!(!node.texts.contains("k").await.unwrap(), "{how}");
            assert_eq!(node.load("k", "new").await, "new", "{how}");
            assert_eq!(node.source("k").await.unwrap(), (Tier::L1, "new".to_owned()), "{how}");
            let reader = node.another().await;
            assert_eq!(reader.source("k").await.unwrap(), (Tier::L2, "new".to_owned()), "{how}");
        }
    }
}

#[tokio::test]
async fn values_of_another_codec_or_type_are_a_miss_and_are_replaced() {
    let node = Node::first().await;
    let others = [node.another().await, node.another().await];
    let plain: Texts = others[0].cache.keyspace("mixed").codec(codec::Text).build().unwrap();
    let numbers = others[1].cache.keyspace::<String, u64>("mixed").build().unwrap();
    let texts: Texts = node.cache.keyspace("mixed").build().unwrap();
    for n in 0..2 {
        let name = format!("k{n}");
        // Who has another codec is refused, unless somebody says that the settings do not count any more.
        node.cache.forget_settings("mixed").await.unwrap();
        if n == 0 {
            plain.put("k0", "\"JSON could read this\"".to_owned()).await.unwrap();
        } else {
            numbers.put("k1", 7).await.unwrap();
        }
        node.cache.forget_settings("mixed").await.unwrap();
        assert_eq!(texts.get(&name).await.unwrap(), None);
        assert_eq!(*texts.get_or_load(&name, loader("new")).await.unwrap(), "new");
        assert_eq!(texts.get_entry(&name).await.unwrap().unwrap().tier, Tier::L1);
    }
    assert_eq!(node.cache.stats().total.decode_failures, 4, "each was looked at twice");
    assert_eq!(node.calls(Operation::Fill), 2);
    assert!(numbers.get("k0").await.unwrap().is_none(), "and the other way round");
}

#[tokio::test]
async fn an_answer_to_a_lease_may_be_dead_too() {
    let node = Node::first().await;
    let writer = node.another().await;
    let gate = node.remote.hold(Operation::Lease, terrace_testkit::fake::Point::BeforeEffect);
    let leader = node.loading_at_once("k", "new");
    gate.wait_until_held(1).await;
    spoil(&writer, "garbage").await;
    gate.open();
    assert_eq!(ended(leader).await, "new");
    assert_eq!(node.source("k").await.unwrap(), (Tier::L1, "new".to_owned()));
    assert_eq!(node.calls(Operation::Fill), 1);
}

/// What L2 can lose while a load is on its way.
const LOSSES: [fn(&FakeRemote); 3] = [FakeRemote::lose_leases, FakeRemote::lose_counters, FakeRemote::flush];

#[tokio::test]
async fn a_load_whose_lease_was_lost_is_kept_nowhere() {
    for lose in LOSSES {
        let node = Node::first().await;
        let (mut held, leader) = node.loading("k");
        held.started().await;
        lose(&node.remote);
        held.bring("old");
        assert_eq!(*ended(leader).await.unwrap(), "old");
        assert_eq!(node.texts.peek("k"), None);
        assert!(node.remote.keys(&namespace()).is_empty());
        assert_eq!(node.load("k", "new").await, "new", "the key is free");
        assert_eq!(node.texts.peek("k").as_deref().map(String::as_str), Some("new"));
    }
}

#[tokio::test]
async fn a_load_does_not_survive_an_invalidation_that_was_lost_with_its_counters() {
    let node = Node::first().await;
    let other = node.another_without_l1().await;
    for lose in LOSSES {
        let (mut held, leader) = node.loading("k");
        held.started().await;
        other.texts.clear().await.unwrap();
        lose(&node.remote);
        held.bring("old");
        assert_eq!(*ended(leader).await.unwrap(), "old");
        assert_eq!((node.texts.peek("k"), other.get("k").await), (None, None));
    }
}

#[tokio::test]
async fn entries_with_tags_die_with_the_table_of_their_generations() {
    let node = Node::first().await;
    let reader = node.another_without_l1().await;
    let tagged = || EntryOptions::default().tag("t").unwrap();
    node.texts.put_with("tagged", "v".to_owned(), tagged()).await.unwrap();
    node.put("plain", "v").await;
    node.texts.invalidate().tag("t").unwrap().send().await.unwrap();
    node.texts.put_with("tagged", "v".to_owned(), tagged()).await.unwrap();
    assert_eq!(reader.get("tagged").await.as_deref(), Some("v"));
    node.remote.lose_generations();
    assert_eq!(reader.get("tagged").await, None);
    assert_eq!(reader.get("plain").await.as_deref(), Some("v"));
    let loads = [reader.texts.get_or_load_with("tagged", tagged(), loader("w")).await.unwrap()];
    assert_eq!(*loads[0], "w");
    assert_eq!(reader.get("tagged").await.as_deref(), Some("w"), "a new table serves new entries at once");
}

#[tokio::test]
async fn an_l2_that_comes_back_empty_is_filled_again() {
    let node = Node::first().await;
    let reader = node.another().await;
    let before = node.put("k", "old").await;
    node.remote.flush();
    assert_eq!(reader.get("k").await, None);
    assert_eq!(reader.load("k", "new").await, "new");
    let after = node.put("k", "newer").await;
    assert!(after.version.supersedes(before.version), "versions go on from the server's time");
    let tagged = EntryOptions::default().tag("t").unwrap();
    let mut loads = 0;
    while reader.texts.peek("tagged").is_none() {
        reader.texts.get_or_load_with("tagged", tagged.clone(), loader("v")).await.unwrap();
        loads += 1;
        assert!(loads <= 2, "one load makes what tags need, the next one is kept");
    }
}

#[tokio::test]
async fn one_value_that_is_evicted_is_loaded_again() {
    let node = Node::first_without_l1().await;
    node.put("k", "old").await;
    assert!(node.remote.evict(&namespace(), &key("k")));
    let (mut held, load) = hold::<Infallible>();
    let texts = node.texts.clone();
    let leader = spawn(async move { texts.get_or_load("k", load).await });
    held.started().await;
    held.bring("new");
    assert_eq!(*ended(leader).await.unwrap(), "new");
    assert_eq!(node.get("k").await.as_deref(), Some("new"));
}
