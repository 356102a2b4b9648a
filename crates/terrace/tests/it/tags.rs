//! Entries with tags: alive until one of their tags is bumped.

use crate::fixture::{Counted, Node, Texts, loader};
use terrace::{EntryOptions, ErrorKind, Tag, Tier};
use terrace_testkit::fake::Operation;

fn tagged(tags: &[&str]) -> EntryOptions {
    tags.iter().fold(EntryOptions::default(), |options, tag| options.tag(tag).expect("valid"))
}

async fn bump(node: &Node, tag: &str) -> u64 {
    node.texts.invalidate().tag(tag).expect("valid").send().await.expect("invalidated").count
}

#[tokio::test]
async fn the_first_load_of_a_tagged_entry_is_kept() {
    let node = Node::first().await;
    let reader = node.another().await;
    let counted = Counted::default();
    for n in 0..50 {
        let (name, tag) = (format!("k{n}"), format!("t{n}"));
        let options = tagged(&[&tag, "all"]);
        node.texts.get_or_load_with(&name, options.clone(), counted.loader("v")).await.unwrap();
        node.texts.get_or_load_with(&name, options, counted.loader("again")).await.unwrap();
        assert_eq!(counted.runs(), n + 1);
        let entry = reader.entry(&name).await.unwrap();
        assert_eq!((entry.tier, entry.tags.len()), (Tier::L2, 2));
    }
}

#[tokio::test]
async fn a_bump_kills_what_has_the_tag_and_nothing_else() {
    let node = Node::first().await;
    let other = node.another_without_l1().await;
    for (name, tags) in [("a", &["x"][..]), ("b", &["x", "y"]), ("c", &["y"]), ("d", &[])] {
        node.texts.put_with(name, name.to_owned(), tagged(tags)).await.unwrap();
    }
    let alive = async |node: &Node| {
        let mut alive = String::new();
        for name in ["a", "b", "c", "d"] {
            alive.extend(node.get(name).await);
        }
        alive
    };
    assert_eq!((alive(&node).await, alive(&other).await), ("abcd".into(), "abcd".into()));
    assert_eq!(bump(&node, "x").await, 2);
    assert_eq!((alive(&node).await, alive(&other).await), ("cd".into(), "cd".into()));
    assert!(!other.texts.contains("b").await.unwrap(), "every way to read knows");
    bump(&node, "none").await;
    assert_eq!(alive(&other).await, "cd");
    bump(&other, "y").await;
    assert_eq!(alive(&other).await, "d");
    assert_eq!(
        node.texts.peek("c").as_deref().map(String::as_str),
        Some("c"),
        "this L2 does not tell of changes"
    );
}

#[tokio::test]
async fn after_a_bump_new_entries_with_the_tag_live() {
    let node = Node::first_without_l1().await;
    for n in 0..5 {
        let value = n.to_string();
        node.texts.put_with("put", value.clone(), tagged(&["t"])).await.unwrap();
        node.texts.get_or_load_with("loaded", tagged(&["t"]), loader(&value)).await.unwrap();
        assert_eq!(node.get("put").await, Some(value.clone()));
        assert_eq!(node.get("loaded").await, Some(value));
        bump(&node, "t").await;
        assert_eq!((node.get("put").await, node.get("loaded").await), (None, None));
    }
}

#[tokio::test]
async fn a_dead_entry_is_loaded_over_at_once() {
    let node = Node::first().await;
    let other = node.another().await;
    other.texts.put_with("k", "old".to_owned(), tagged(&["t"])).await.unwrap();
    bump(&other, "t").await;
    for is_batch in [false, true] {
        let reader = node.another().await;
        if is_batch {
            assert_eq!(reader.texts.get_many(&["k".to_owned()]).await.unwrap(), [None]);
        }
        let name = if is_batch { "k" } else { "untouched" };
        assert_eq!(*reader.texts.get_or_load_with(name, tagged(&["t"]), loader("new")).await.unwrap(), "new");
        assert_eq!((reader.calls(Operation::Lease), reader.calls(Operation::Fill)), (1, 1));
        assert_eq!(node.source(name).await, Some((Tier::L2, "new".to_owned())));
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_overtaken_by_a_bump_gives_its_lease_back() {
    let node = Node::first().await;
    let other = node.another().await;
    let overtaken = {
        let texts = other.texts.clone();
        move || async move {
            texts.invalidate().tag("t").unwrap().send().await.unwrap();
            Ok::<_, std::convert::Infallible>("overtaken".to_owned())
        }
    };
    let first = node.texts.get_or_load_with("k", tagged(&["t"]), overtaken).await.unwrap();
    assert_eq!(*first, "overtaken");
    assert_eq!(*other.texts.get_or_load_with("k", tagged(&["t"]), loader("v")).await.unwrap(), "v");
    assert_eq!(other.calls(Operation::Lease), 1, "nobody else has it");
    assert_eq!(other.source("k").await, Some((Tier::L1, "v".to_owned())));
    let stats = node.cache.stats().total;
    assert_eq!((stats.fills, stats.fills_rejected), (0, 1));
}

#[tokio::test]
async fn tags_come_from_the_keyspace_and_from_the_call() {
    let node = Node::first().await;
    let tagger = |key: &String, value: &String| vec![Tag::new(key).unwrap(), Tag::new(value).unwrap()];
    let texts: Texts = node.cache.keyspace("tagged").tags(tagger).build().unwrap();
    texts.put_with("k", "v".to_owned(), tagged(&["call"])).await.unwrap();
    texts.get_or_load_with("l", tagged(&["call"]), loader("w")).await.unwrap();
    let tags = async |name: &str| texts.get_entry(name).await.unwrap().unwrap().tags;
    assert_eq!(tags("k").await, ["call", "k", "v"].map(|tag| Tag::new(tag).unwrap()));
    assert_eq!(tags("l").await, ["call", "l", "w"].map(|tag| Tag::new(tag).unwrap()));
    for tag in ["v", "l"] {
        texts.invalidate().tag(tag).unwrap().send().await.unwrap();
    }
    assert_eq!((texts.get("k").await.unwrap(), texts.get("l").await.unwrap()), (None, None));
}

#[tokio::test]
async fn a_tag_given_twice_is_no_different() {
    let node = Node::first_without_l1().await;
    node.texts.put_with("k", "v".to_owned(), tagged(&["t", "t", "u"])).await.unwrap();
    assert_eq!(node.get("k").await.as_deref(), Some("v"));
    assert!(node.texts.get_many(&["k".to_owned()]).await.unwrap()[0].is_some());
    bump(&node, "u").await;
    assert_eq!(node.get("k").await, None);
}

#[tokio::test]
async fn an_entry_has_a_bounded_number_of_tags() {
    let node = Node::first().await;
    let names: Vec<String> = (0..=Tag::PER_ENTRY_MAX).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (most, too_many) = (tagged(&names[1..]), tagged(&names));
    node.texts.put_with("k", "v".to_owned(), most).await.unwrap();
    assert_eq!(node.another().await.entry("k").await.unwrap().tags.len(), Tag::PER_ENTRY_MAX);
    let refused = node.texts.put_with("k", "w".to_owned(), too_many.clone()).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::TooManyTags { count: 33, count_max: 32 }), "{refused}");
    assert_eq!(node.get("k").await.as_deref(), Some("v"), "nothing was changed");
    let refused = node.texts.get_or_load_with("l", too_many, loader("v")).await.unwrap_err();
    assert!(matches!(refused.cache(), Some(ErrorKind::TooManyTags { .. })), "{refused}");
    assert_eq!(node.load("l", "v").await, "v", "the key is free");
}

#[tokio::test]
async fn a_bump_costs_the_same_whatever_the_number_of_entries() {
    let node = Node::first_without_l1().await;
    let texts: Texts = node.cache.keyspace("many").tags(|_, _| vec![Tag::new("t").unwrap()]).build().unwrap();
    let keys: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    texts.put_many(keys.iter().map(|key| (key.clone(), key.clone()))).await.unwrap();
    assert!(texts.get_many(&keys).await.unwrap().iter().all(Option::is_some));
    node.remote.reset_calls();
    texts.invalidate().tag("t").unwrap().send().await.unwrap();
    assert_eq!(node.remote.calls_total(), 1);
    assert!(texts.get_many(&keys).await.unwrap().iter().all(Option::is_none));
}
