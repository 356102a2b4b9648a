//! How a load ends: with an error, a panic, never, or with its runtime; and the key is free afterwards.

use crate::fixture::{HOUR, Loads, Node, Texts, ended, hold, let_others_run, loader, runtime, spawn, within};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use terrace::{Cache, ErrorKind, Keyspace, LoadError};
use terrace_core::codec::CodecId;
use terrace_core::{Codec, CodecError};
use terrace_testkit::fake::Operation;

fn message<T: std::fmt::Debug>(result: Loads<T>) -> String {
    let error = result.expect_err("the loader panicked");
    match error.cache() {
        Some(ErrorKind::LoadPanicked { message }) => message.to_string(),
        _ => panic!("the loader panicked: {error:?}"),
    }
}

#[tokio::test]
async fn a_thousand_panics_leave_the_key_free() {
    for node in [Node::first().await, Node::first_without_l1().await] {
        for n in 0..1_000 {
            let result: Loads<Infallible> =
                node.texts.get_or_load("k", move || async move { panic!("number {n}") }).await;
            assert_eq!(message(result), format!("number {n}"));
        }
        assert_eq!(node.load("k", "v").await, "v");
        let stats = node.cache.stats().total;
        assert_eq!((stats.loads_panicked, stats.loads_found), (1_000, 1));
        assert_eq!(node.calls(Operation::Release), 1_000, "a lease that is kept would block other nodes");
    }
}

#[tokio::test]
async fn a_panic_is_told_to_everybody_who_waited() {
    let node = Node::first().await;
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let texts = node.texts.clone();
    let leader: tokio::task::JoinHandle<Loads<Infallible>> = spawn(async move {
        let load = move || async move {
            gone.await.expect("it is told");
            panic!("{}", "all together")
        };
        texts.get_or_load("k", load).await
    });
    let_others_run().await;
    let texts = node.texts.clone();
    let follower = spawn(async move { texts.get_or_load("k", loader("never loaded")).await });
    let_others_run().await;
    go.send(()).unwrap();
    assert_eq!(message(ended(leader).await), "all together");
    assert_eq!(message(ended(follower).await), "all together");
}

#[tokio::test]
async fn a_loader_that_panics_before_it_is_a_future_is_no_different() {
    let node = Node::first().await;
    let load = || -> std::future::Ready<Result<String, Infallible>> { panic!("at once") };
    assert_eq!(message(node.texts.get_or_load("k", load).await), "at once");
    assert_eq!(node.load("k", "v").await, "v");
}

#[tokio::test]
async fn a_weigher_or_tagger_that_panics_is_no_different() {
    let cache = Cache::memory().unwrap();
    let weighed: Texts = cache.keyspace("weighed").weigher(|_| panic!("too heavy")).build().unwrap();
    assert_eq!(message(weighed.get_or_load("k", loader("v")).await), "too heavy");
    let tagged: Texts = cache.keyspace("tagged").tags(|_, _| panic!("no tags")).build().unwrap();
    assert_eq!(message(tagged.get_or_load("k", loader("v")).await), "no tags");
    let wait = |texts: Texts| async move { texts.get_or_load("k", loader("v")).await };
    assert_eq!(message(within("the next call", wait(weighed)).await), "too heavy");
    assert_eq!(message(within("the next call", wait(tagged)).await), "no tags");
}

/// A codec that cannot stand values that begin with `!`.
#[derive(Debug)]
struct Nervous;

impl Codec<String> for Nervous {
    fn id(&self) -> CodecId {
        CodecId(200)
    }

    fn encode(&self, value: &String) -> Result<bytes::Bytes, CodecError> {
        assert!(!value.starts_with('!'), "encoding {value}");
        Ok(value.clone().into_bytes().into())
    }

    fn decode(&self, bytes: &bytes::Bytes) -> Result<String, CodecError> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        assert!(!text.starts_with('?'), "decoding {text}");
        Ok(text)
    }

    fn weight(&self, value: &String) -> u64 {
        value.len() as u64
    }
}

#[tokio::test]
async fn a_codec_that_panics_is_no_different() {
    let node = Node::first().await;
    let nervous = || node.cache.keyspace::<String, String>("nervous").codec(Nervous);
    let texts: Texts = nervous().build().unwrap();
    assert_eq!(message(texts.get_or_load("encode", loader("!v")).await), "encoding !v");
    let elsewhere = node.another().await;
    let there: Texts = elsewhere.cache.keyspace("nervous").codec(Nervous).build().unwrap();
    there.put("decode", "?v".to_owned()).await.unwrap();
    assert_eq!(message(texts.get_or_load("decode", loader("v")).await), "decoding ?v");
    assert_eq!(*texts.get_or_load("k", loader("v")).await.unwrap(), "v");
}

#[tokio::test]
#[should_panic(expected = "encoding !v")]
async fn a_codec_that_panics_in_a_write_panics_in_the_writer() {
    let node = Node::first().await;
    let texts: Texts = node.cache.keyspace("nervous").codec(Nervous).build().unwrap();
    let _panics = texts.put("k", "!v".to_owned()).await;
}

#[tokio::test]
async fn one_failure_is_shared_and_keeps_its_type() {
    let node = Node::first().await;
    let (mut held, load) = hold::<std::io::Error>();
    let call = |load| {
        let texts = node.texts.clone();
        spawn(async move { texts.get_or_load("k", load).await })
    };
    let leader = call(load);
    held.started().await;
    let (_unused, load) = hold::<std::io::Error>();
    let follower = call(load);
    let texts = node.texts.clone();
    let foreigner = spawn(async move { texts.get_or_load("k", loader("never loaded")).await });
    let_others_run().await;
    held.end(Err(std::io::Error::other("the disk is full")));
    let errors = (ended(leader).await.unwrap_err(), ended(follower).await.unwrap_err());
    let (LoadError::Loader(one), LoadError::Loader(other)) = &errors else { panic!("{errors:?}") };
    assert!(Arc::ptr_eq(one, other));
    assert_eq!(errors.0.to_string(), "the loader failed: the disk is full");
    let foreign = ended(foreigner).await.unwrap_err();
    let LoadError::Foreign(failure) = &foreign else { panic!("{foreign:?}") };
    assert!(Arc::ptr_eq(&failure.downcast::<std::io::Error>().unwrap(), one));
    assert_eq!(node.load("k", "v").await, "v", "the key is free");
    assert_eq!(node.cache.stats().total.loads_failed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_hangs_is_dropped() {
    let node = Node::first().await;
    let (mut held, leader) = node.loading("k");
    held.started().await;
    let texts = node.texts.clone();
    let follower = spawn(async move { texts.get_or_load("k", loader("never loaded")).await });
    let results = (leader.await.unwrap(), follower.await.unwrap());
    for result in [results.0, results.1] {
        let Err(LoadError::Cache(error)) = result else { panic!("{result:?}") };
        assert!(
            matches!(error.kind(), ErrorKind::LoadTimedOut { after } if *after == Duration::from_secs(30))
        );
        assert!(error.is_retryable() && error.is_unavailable());
    }
    assert!(!held.is_alive());
    let elsewhere = node.another().await;
    assert_eq!(elsewhere.load("k", "v").await, "v");
    assert_eq!(elsewhere.calls(Operation::Lease), 1, "the lease was given back");
}

#[tokio::test]
async fn a_value_of_a_load_that_was_overtaken_is_returned_and_kept_nowhere() {
    let tagged = |node: &Node| {
        let keyspace = node.cache.keyspace("tagged");
        keyspace.tags(|_: &String, _: &String| vec![terrace::Tag::new("t").unwrap()]).build().unwrap()
    };
    for change in ["put", "put_many", "remove", "remove_many", "key", "pattern", "tag", "clear"] {
        let node = Node::first().await;
        let elsewhere = node.another_without_l1().await;
        let (texts, there): (Texts, Texts) = (tagged(&node), tagged(&elsewhere));
        let (mut held, load) = hold::<Infallible>();
        let leading = texts.clone();
        let leader = spawn(async move { leading.get_or_load("k", load).await });
        held.started().await;
        overtake(&texts, change).await;
        let expected = change.starts_with("put").then_some("new");
        let late = within("a read that comes after the change", texts.get("k")).await.unwrap();
        assert_eq!(late.as_deref().map(String::as_str), expected, "{change}");
        held.bring("old");
        assert_eq!(*ended(leader).await.unwrap(), "old", "{change}");
        for texts in [&texts, &there] {
            let left = texts.get("k").await.unwrap();
            assert_eq!(left.as_deref().map(String::as_str), expected, "{change}");
        }
    }
}

async fn overtake(texts: &Texts, change: &str) {
    let k = || vec!["k".to_owned()];
    let invalidation = texts.invalidate();
    match change {
        "put" => texts.put("k", "new".to_owned()).await.map(|_| ()).expect("stored"),
        "put_many" => {
            texts.put_many([("k".to_owned(), "new".to_owned())]).await.map(|_| ()).expect("stored");
        }
        "remove" => texts.remove("k").await.map(|_| ()).expect("removed"),
        "remove_many" => texts.remove_many(&k()).await.map(|_| ()).expect("removed"),
        "key" => invalidation.keys(k()).send().await.map(|_| ()).expect("invalidated"),
        "pattern" => {
            invalidation.pattern("?").expect("valid").send().await.map(|_| ()).expect("invalidated");
        }
        "tag" => invalidation.tag("t").expect("valid").send().await.map(|_| ()).expect("invalidated"),
        "clear" => texts.clear().await.map(|_| ()).expect("cleared"),
        other => panic!("{other} is no change"),
    }
}

#[tokio::test]
async fn without_l2_a_load_that_was_overtaken_is_kept_nowhere_either() {
    let cache = Cache::builder().default_ttl(HOUR).build().unwrap();
    for change in ["put", "put_many", "remove", "remove_many", "key", "pattern", "tag", "clear"] {
        let name = format!("m-{change}");
        let tag = |_: &String, _: &String| vec![terrace::Tag::new("t").unwrap()];
        let texts: Texts = cache.keyspace(&name).tags(tag).build().unwrap();
        let (mut held, load) = hold::<Infallible>();
        let leading = texts.clone();
        let leader = spawn(async move { leading.get_or_load("k", load).await });
        held.started().await;
        overtake(&texts, change).await;
        held.bring("old");
        assert_eq!(*ended(leader).await.unwrap(), "old", "{change}");
        let left = texts.get("k").await.unwrap();
        assert_eq!(
            left.as_deref().map(String::as_str),
            change.starts_with("put").then_some("new"),
            "{change}"
        );
    }
}

#[tokio::test]
async fn who_comes_after_an_invalidation_does_not_join_the_load_from_before() {
    let node = Node::first().await;
    let (mut held, leader) = node.loading("k");
    held.started().await;
    node.texts.remove("k").await.unwrap();
    assert_eq!(within("a load of its own", node.load("k", "new")).await, "new");
    held.bring("old");
    assert_eq!(*ended(leader).await.unwrap(), "old");
    assert_eq!(node.get("k").await.as_deref(), Some("new"));
}

#[test]
fn a_runtime_that_goes_down_with_a_load_answers_those_who_wait_elsewhere() {
    let cache = Cache::memory().unwrap();
    let texts: Keyspace<String, String> = cache.keyspace("texts").build().unwrap();
    let doomed = runtime();
    let (mut held, load) = hold::<Infallible>();
    let leading = texts.clone();
    doomed.block_on(async {
        spawn(async move { leading.get_or_load("k", load).await });
        held.started().await;
    });
    let other = runtime();
    other.block_on(async {
        let following = texts.clone();
        let follower = spawn(async move { following.get_or_load("k", loader("never loaded")).await });
        let_others_run().await;
        doomed.shutdown_background();
        assert!(matches!(ended(follower).await.unwrap_err().cache(), Some(ErrorKind::Closed)));
        assert_eq!(*texts.get_or_load("k", loader("v")).await.unwrap(), "v", "the key is free");
    });
}
