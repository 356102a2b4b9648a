//! Entries with tags: alive until one of their tags is bumped.

use crate::fixture::{Counted, Node, Texts, ended, hold, loader, spawn};
use std::convert::Infallible;
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
            Ok::<_, Infallible>("overtaken".to_owned())
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

#[tokio::test]
async fn a_hit_with_tags_is_one_call_once_their_generations_are_known() {
    let writer = Node::first_hearing().await;
    let reader = writer.another_hearing().await;
    let all = ["t", "u", "v"];
    for key in ["a", "b", "c"] {
        writer.texts.put_with(key, "old".to_owned(), tagged(&all)).await.unwrap();
    }
    assert_eq!(writer.calls(Operation::Generations), 1, "the second and the third know them");
    assert_eq!(reader.source("a").await, Some((Tier::L2, "old".to_owned())));
    reader.remote.reset_calls();
    assert_eq!(reader.source("b").await, Some((Tier::L2, "old".to_owned())));
    assert!(reader.texts.get_many(&["c".to_owned()]).await.unwrap()[0].is_some());
    assert_eq!((reader.calls(Operation::Get), reader.calls(Operation::GetMany)), (1, 1));
    assert_eq!(reader.calls(Operation::Generations), 0);

    bump(&writer, "u").await;
    terrace_testkit::wait::until("the bump is heard", || reader.texts.peek("a").is_none()).await;
    reader.remote.reset_calls();
    for key in ["a", "b", "c"] {
        assert_eq!(reader.get(key).await, None);
    }
    assert_eq!(reader.calls(Operation::Generations), 0, "what was heard is known");
    reader.texts.get_or_load_with("a", tagged(&all), loader("new")).await.unwrap();
    assert_eq!(reader.calls(Operation::Generations), 1, "a fill has to be sure");
    assert_eq!(writer.source("a").await, Some((Tier::L2, "new".to_owned())));
}

#[tokio::test]
async fn a_load_that_a_bump_overtook_is_kept_nowhere_whether_or_not_the_bump_was_heard() {
    for is_heard in [true, false] {
        let writer = Node::first_hearing().await;
        let reader = writer.another_hearing().await;
        reader.texts.put_with("before", "v".to_owned(), tagged(&["t"])).await.unwrap();
        assert!(reader.texts.peek("before").is_some());
        let (mut held, load) = hold::<Infallible>();
        let texts = reader.texts.clone();
        let loading = spawn(async move { texts.get_or_load_with("k", tagged(&["t"]), load).await });
        held.started().await;
        if !is_heard {
            reader.remote.set_loss(terrace_testkit::fake::Loss::Everything);
        }
        bump(&writer, "t").await;
        if is_heard {
            let heard = || reader.texts.peek("before").is_none();
            terrace_testkit::wait::until("the bump is heard", heard).await;
        }
        held.bring("old");
        assert_eq!(*ended(loading).await.unwrap(), "old", "its own call began before");
        for node in [&writer, &reader] {
            assert_eq!(node.get("k").await, None, "heard: {is_heard}");
        }
    }
}

#[tokio::test]
async fn a_bump_disturbs_no_load_of_another_tag() {
    let writer = Node::first_hearing().await;
    let reader = writer.another_hearing().await;
    reader.texts.put_with("bumped", "v".to_owned(), tagged(&["t"])).await.unwrap();
    let (mut held, load) = hold::<Infallible>();
    let (texts, joining) = (reader.texts.clone(), reader.texts.clone());
    let loading = spawn(async move { texts.get_or_load_with("k", tagged(&["u"]), load).await });
    held.started().await;
    bump(&writer, "t").await;
    terrace_testkit::wait::until("the bump is heard", || reader.texts.peek("bumped").is_none()).await;
    let joined = spawn(async move { joining.get_or_load("k", loader("another load")).await });
    crate::fixture::let_others_run().await;
    held.bring("v");
    assert_eq!((&**ended(loading).await.unwrap(), &**ended(joined).await.unwrap()), ("v", "v"));
    assert!(reader.texts.peek("k").is_some(), "it is kept");
    assert_eq!(writer.get("k").await.as_deref(), Some("v"));
}

#[tokio::test]
async fn who_joined_a_load_after_a_bump_of_its_tag_does_not_get_what_it_brings() {
    let node = Node::first_hearing().await;
    let (mut held, load) = hold::<Infallible>();
    let (texts, joining) = (node.texts.clone(), node.texts.clone());
    let loading = spawn(async move { texts.get_or_load_with("k", tagged(&["t"]), load).await });
    held.started().await;
    bump(&node, "t").await;
    let joined = spawn(async move { joining.get_or_load_with("k", tagged(&["t"]), loader("new")).await });
    crate::fixture::let_others_run().await;
    held.bring("old");
    assert_eq!((&**ended(loading).await.unwrap(), &**ended(joined).await.unwrap()), ("old", "new"));
    assert_eq!(node.get("k").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn a_bump_over_many_copies_kills_them_before_they_are_removed() {
    let cache = terrace::Cache::builder().l1(terrace::L1::entries(100_000)).build().unwrap();
    let texts: Texts = cache.keyspace("many").tags(|_, _| vec![Tag::new("t").unwrap()]).build().unwrap();
    let keys: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
    texts.put_many(keys.iter().map(|key| (key.clone(), key.clone()))).await.unwrap();
    let bumped = texts.invalidate().tag("t").unwrap().send().await.unwrap();
    assert_eq!(bumped.count, 0, "nobody has looked for them");
    assert_eq!(cache.stats().total.entries, 20_000);
    assert!(keys.iter().all(|key| texts.peek(key).is_none()));
    texts.put(&keys[0], "new".to_owned()).await.unwrap();
    assert!(texts.peek(&keys[0]).is_some());
    terrace_testkit::wait::until("they are removed", || cache.stats().total.entries == 1).await;
    assert!(texts.peek(&keys[0]).is_some());
}
