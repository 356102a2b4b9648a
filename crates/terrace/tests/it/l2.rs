//! Redis only: what each operation asks of L2, and how often.

use crate::fixture::{HOUR, Node, ended, key, let_others_run, loader, namespace, spawn, within};
use crate::wrapped::{Around, Wrapped};
use std::time::Duration;
use terrace::{
    Cache, Clock, Effect, EntryOptions, Error, ErrorKind, Keyspace, RemoteError, Tier, Ttl, codec,
};
use terrace_core::Tag;
use terrace_core::remote::RemoteResult;
use terrace_testkit::fake::{FakeRemote, Fault, Operation};

async fn cost<T>(node: &Node, call: impl Future<Output = T>) -> (T, u64) {
    let before = node.remote.calls_total();
    let result = call.await;
    (result, node.remote.calls_total() - before)
}

#[tokio::test]
async fn each_operation_costs_what_it_says() {
    let node = Node::first_without_l1().await;
    let tag = || EntryOptions::default().tag("t").unwrap();
    let (texts, text) = (&node.texts, || "v".to_owned());
    let pair = || [("a".to_owned(), text()), ("b".to_owned(), text())];
    let keys = ["a", "b"].map(str::to_owned);
    assert_eq!(cost(&node, texts.put("k", text())).await.1, 1, "put");
    assert_eq!(cost(&node, texts.get("k")).await.1, 1, "a hit");
    assert_eq!(cost(&node, texts.get_entry("k")).await.1, 1, "a hit with its record");
    assert_eq!(cost(&node, texts.get("none")).await.1, 1, "a miss");
    assert_eq!(cost(&node, texts.contains("k")).await.1, 1, "contains");
    assert_eq!(
        cost(&node, texts.get_or_load("k", loader("v"))).await.1,
        1,
        "a hit of a caller with a loader"
    );
    assert_eq!(cost(&node, texts.get_or_load("l", loader("v"))).await.1, 3, "read, lease, fill");
    assert_eq!(cost(&node, texts.put_with("t", text(), tag())).await.1, 2, "put with tags");
    assert_eq!(cost(&node, texts.get("t")).await.1, 2, "a hit with tags");
    assert_eq!(cost(&node, texts.get_or_load_with("u", tag(), loader("v"))).await.1, 4, "a load with tags");
    assert_eq!(cost(&node, texts.put_many(pair())).await.1, 1, "put_many");
    assert_eq!(cost(&node, texts.get_many(&keys)).await.1, 1, "get_many");
    assert_eq!(cost(&node, texts.remove_many(&keys)).await.1, 1, "remove_many");
    assert_eq!(cost(&node, texts.remove("k")).await.1, 1, "remove");
    assert_eq!(
        cost(&node, texts.clear()).await.1,
        5,
        "clear: the sweep; then whether it is active, names, removal and end"
    );
    let named = texts.invalidate().keys(["a", "b"]).tag("t").unwrap().tag("u").unwrap();
    assert_eq!(cost(&node, named.send()).await.1, 2, "all keys in one, all tags in one");
    let none: (Vec<(String, String)>, Vec<String>) = (vec![], vec![]);
    assert_eq!(cost(&node, texts.put_many(none.0)).await.1, 0, "nothing to put");
    assert_eq!(cost(&node, texts.get_many(&none.1)).await.1, 0, "nothing to get");
    assert_eq!(cost(&node, texts.remove_many(&none.1)).await.1, 0, "nothing to remove");
    assert_eq!(node.cache.stats().total.l2_round_trips, node.remote.calls_total() + 2, "all are counted");
}

#[tokio::test]
async fn a_batch_with_tags_costs_two() {
    let node = Node::first_without_l1().await;
    let tagger = |key: &String, _: &String| vec![Tag::new(key).unwrap(), Tag::new("all").unwrap()];
    let texts: Keyspace<String, String> = node.cache.keyspace("tagged").tags(tagger).build().unwrap();
    texts.contains("the first call").await.unwrap();
    let keys: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let entries = keys.iter().map(|key| (key.clone(), key.clone()));
    assert_eq!(cost(&node, texts.put_many(entries)).await.1, 2);
    let (found, calls) = cost(&node, texts.get_many(&keys)).await;
    assert!(found.unwrap().iter().zip(&keys).all(|(value, key)| value.as_deref() == Some(key)));
    assert_eq!(calls, 2);
    texts.invalidate().tag("7").unwrap().send().await.unwrap();
    let found = texts.get_many(&keys).await.unwrap();
    let missing: Vec<&String> =
        keys.iter().zip(&found).filter(|(_, value)| value.is_none()).map(|(key, _)| key).collect();
    assert_eq!(missing, ["7"]);
}

#[tokio::test]
async fn what_one_node_does_the_other_sees() {
    let node = Node::first_without_l1().await;
    let other = node.another_without_l1().await;
    let written = node.put("k", "v1").await;
    assert_eq!(written.effect, Effect::Applied);
    let entry = other.entry("k").await.unwrap();
    assert_eq!((&**entry.value, entry.tier, entry.version), ("v1", Tier::L2, written.version));
    assert_eq!(entry.ttl, Ttl::After(HOUR));
    assert!(other.texts.remove("k").await.unwrap().existed);
    assert_eq!(node.get("k").await, None);
    assert!(!other.texts.remove("k").await.unwrap().existed);
    node.put("a1", "v").await;
    node.put("b1", "v").await;
    let done = other.texts.invalidate().pattern("a*").unwrap().send().await.unwrap();
    assert_eq!((done.count, done.effect), (1, Effect::Applied));
    assert_eq!((node.get("a1").await, node.get("b1").await), (None, Some("v".to_owned())));
    assert_eq!(other.texts.clear().await.unwrap().count, 1);
    assert!(!node.texts.contains("b1").await.unwrap());
}

#[tokio::test]
async fn the_table_of_odd_ttls() {
    for (ttl, is_kept) in [
        (Ttl::After(Duration::ZERO), false),
        (Ttl::After(Duration::from_micros(500)), false),
        (Ttl::from(Duration::from_millis(1)), true),
        (Ttl::from(Duration::from_millis(1 << 31)), true),
        (Ttl::from(Duration::from_millis(1 << 53)), true),
        (Ttl::from(Duration::MAX), true),
        (Ttl::After(Duration::MAX), true),
        (Ttl::Never, true),
    ] {
        let node = Node::first().await;
        let other = node.another_without_l1().await;
        let options = EntryOptions::default().ttl(ttl);
        node.put("k", "old").await;
        node.texts.put_with("k", "new".to_owned(), options.clone()).await.unwrap();
        assert_ne!(node.get("k").await.as_deref(), Some("old"), "put with {ttl:?}");
        assert_eq!(other.get("k").await.as_deref(), is_kept.then_some("new"), "put with {ttl:?}");
        node.texts.remove("k").await.unwrap();
        node.texts.get_or_load_with("k", options, loader("loaded")).await.unwrap();
        assert_eq!(other.get("k").await.as_deref(), is_kept.then_some("loaded"), "loaded with {ttl:?}");
        node.clock.advance(Duration::from_millis(1));
        let is_old = ttl.duration().is_some_and(|ttl| ttl <= Duration::from_millis(1));
        assert_eq!(node.get("k").await.is_none(), is_old, "a millisecond after {ttl:?}");
        assert_eq!(other.get("k").await.is_none(), is_old, "a millisecond after {ttl:?}");
        let next = within("the key to be free", node.load("l", "v")).await;
        assert_eq!(next, "v");
    }
}

#[tokio::test]
async fn a_namespace_is_opened_once_however_many_come_at_once() {
    let remote = FakeRemote::new(Clock::system());
    let cache = Cache::builder().no_l1().l2(remote.clone()).build().unwrap();
    let texts: Keyspace<String, String> = cache.keyspace("texts").build().unwrap();
    let gate = remote.hold(Operation::Open, terrace_testkit::fake::Point::BeforeEffect);
    let call = |n: u32| {
        let texts = texts.clone();
        spawn(async move { texts.get(&n.to_string()).await.unwrap() })
    };
    let first = call(0);
    gate.wait_until_held(1).await;
    let others: Vec<_> = (1..100).map(call).collect();
    let_others_run().await;
    first.abort();
    let_others_run().await;
    gate.open();
    for other in others {
        assert_eq!(ended(other).await, None);
    }
    assert_eq!((remote.calls(Operation::Open), remote.calls(Operation::Get)), (1, 99));
}

#[tokio::test]
async fn those_who_wait_for_the_opening_share_its_failure_and_the_next_one_tries_again() {
    let remote = FakeRemote::new(Clock::system());
    let cache = Cache::builder().no_l1().l2(remote.clone()).build().unwrap();
    let texts: Keyspace<String, String> = cache.keyspace("texts").build().unwrap();
    remote.fail_next(Operation::Open, Fault::TimeoutBeforeEffect);
    let gate = remote.hold(Operation::Open, terrace_testkit::fake::Point::AfterEffect);
    let call = |_| {
        let texts = texts.clone();
        spawn(async move { texts.get("k").await.unwrap() })
    };
    let callers: Vec<_> = (0..100).map(call).collect();
    gate.wait_until_held(1).await;
    let_others_run().await;
    gate.open();
    for caller in callers {
        assert_eq!(ended(caller).await, None);
    }
    assert_eq!((remote.calls(Operation::Open), remote.calls(Operation::Get)), (1, 0));
    assert_eq!(texts.get("k").await.unwrap(), None);
    assert_eq!((remote.calls(Operation::Open), remote.calls(Operation::Get)), (2, 1));
}

#[tokio::test]
async fn nodes_that_disagree_about_settings_do_not_share_anything() {
    let node = Node::first_without_l1().await;
    node.put("k", "v").await;
    let remote = node.remote.another_node_with_partitions(7);
    let cache = Cache::builder().l2(remote).build().unwrap();
    let texts: Keyspace<String, String> = cache.keyspace("texts").build().unwrap();
    assert_eq!(texts.get("k").await.unwrap(), None);
    let refused = texts.put("k", "w".to_owned()).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Remote(RemoteError::Mismatch { .. })), "{refused}");
    assert_eq!(*texts.get_or_load("k", loader("own")).await.unwrap(), "own", "reads go on");
    assert_eq!(node.get("k").await.as_deref(), Some("v"));
}

#[cfg(feature = "postcard")]
#[tokio::test]
async fn nodes_with_different_codecs_do_not_share_anything() {
    let node = Node::first_without_l1().await;
    node.put("k", "v").await;
    let other = Cache::builder().l2(node.remote.another_node()).no_l1().build().unwrap();
    let compact: Keyspace<String, String> = other.keyspace("texts").codec(codec::Postcard).build().unwrap();
    let refused = compact.put("k", "w".to_owned()).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Remote(RemoteError::Mismatch { .. })), "{refused}");
    for part in
        ["namespace `texts`", "codec name `json`", "set to `postcard`", "terrace forget-settings texts"]
    {
        assert!(refused.to_string().contains(part), "{part}: {refused}");
    }
    assert_eq!(compact.get("k").await.unwrap(), None);
    assert_eq!(node.get("k").await.as_deref(), Some("v"), "nothing was changed");
    assert!(other.forget_settings("no name!").await.is_err());
    other.forget_settings("texts").await.unwrap();
    compact.put("other", "w".to_owned()).await.expect("it decides now");
    assert_eq!(compact.get("other").await.unwrap().as_deref().map(String::as_str), Some("w"));
}

#[tokio::test]
async fn codecs_of_one_number_are_told_apart_by_their_names() {
    #[derive(Debug)]
    struct Own(&'static str);
    impl codec::Codec<String> for Own {
        fn id(&self) -> codec::CodecId {
            codec::CodecId(200)
        }
        fn name(&self) -> String {
            self.0.to_owned()
        }
        fn encode(&self, value: &String) -> Result<bytes::Bytes, terrace::CodecError> {
            Ok(value.clone().into())
        }
        fn decode(&self, bytes: &bytes::Bytes) -> Result<String, terrace::CodecError> {
            codec::Text.decode(bytes)
        }
    }
    let node = Node::first_without_l1().await;
    let open = async |name: &'static str| {
        let cache = Cache::builder().l2(node.remote.another_node()).no_l1().build().unwrap();
        let texts: Keyspace<String, String> = cache.keyspace("own").codec(Own(name)).build().unwrap();
        texts.put("k", "v".to_owned()).await.map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(open("ours").await, Ok(()));
    assert_eq!(open("ours").await, Ok(()));
    assert!(open("theirs").await.unwrap_err().contains("codec name `ours`"));
}

/// Loses the last of many answers.
#[derive(Debug)]
struct Forgetful;

impl Around for Forgetful {
    fn one<'a, T: Send + 'a>(&'a self, call: RemoteResult<'a, T>) -> RemoteResult<'a, T> {
        call
    }

    fn many<'a, T: Send + 'a>(&'a self, call: RemoteResult<'a, Vec<T>>) -> RemoteResult<'a, Vec<T>> {
        Box::pin(async move {
            let mut answers = call.await?;
            answers.pop();
            Ok(answers)
        })
    }
}

#[tokio::test]
async fn an_adapter_that_answers_too_little_is_not_believed() {
    let node = Node::first().await;
    let forgetful = Wrapped { remote: node.remote.another_node(), around: Forgetful };
    let cache = Cache::builder().clock(node.clock.clone()).l2(forgetful).build().unwrap();
    let texts: Keyspace<String, String> = cache.keyspace("texts").build().unwrap();
    let is_protocol = |error: Error| matches!(error.kind(), ErrorKind::Remote(RemoteError::Protocol { .. }));
    node.put("k", "old").await;
    assert_eq!(texts.get_many(&["k".to_owned()]).await.unwrap(), [None]);
    let pair = ["k", "l"].map(|key| (key.to_owned(), "new".to_owned()));
    assert!(is_protocol(texts.put_many(pair).await.unwrap_err()));
    assert!(is_protocol(texts.remove("k").await.unwrap_err()));
    assert!(is_protocol(texts.invalidate().tag("t").unwrap().send().await.unwrap_err()));
    let tagged = EntryOptions::default().tag("t").unwrap();
    assert!(is_protocol(texts.put_with("m", "v".to_owned(), tagged.clone()).await.unwrap_err()));
    assert_eq!(*texts.get_or_load_with("n", tagged, loader("v")).await.unwrap(), "v");
    assert!(!node.remote.keys(&namespace()).contains(&key("n")), "an entry must not lose its tags");
    assert_ne!(texts.get("k").await.unwrap().as_deref().map(String::as_str), Some("old"));
}
