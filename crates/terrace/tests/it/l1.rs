//! Memory only: every operation.

use crate::fixture::{HOUR, loader, within};
use std::sync::Arc;
use std::time::Duration;
use terrace::{Cache, Clock, Effect, EntryOptions, ErrorKind, Keyspace, L1, Tag, Tier, Ttl, Version};

fn texts() -> (Clock, Cache, Keyspace<String, String>) {
    let clock = Clock::manual();
    let cache = Cache::builder().clock(clock.clone()).default_ttl(HOUR).build().expect("valid");
    let texts = cache.keyspace("texts").build().expect("new");
    (clock, cache, texts)
}

async fn get(texts: &Keyspace<String, String>, key: &str) -> Option<String> {
    texts.get(key).await.expect("a valid key").map(|value| (*value).clone())
}

#[tokio::test]
async fn a_value_is_there_until_it_is_removed() {
    let (_, _, texts) = texts();
    assert_eq!(get(&texts, "k").await, None);
    let first = texts.put("k", "v1".to_owned()).await.unwrap();
    assert_eq!((first.effect, first.ttl), (Effect::Applied, Ttl::After(HOUR)));
    assert_eq!(get(&texts, "k").await.as_deref(), Some("v1"));
    let second = texts.put("k", "v2".to_owned()).await.unwrap();
    assert!(second.version.supersedes(first.version));
    assert_eq!(get(&texts, "k").await.as_deref(), Some("v2"));
    assert!(texts.contains("k").await.unwrap());
    assert_eq!(texts.peek("k").as_deref().map(String::as_str), Some("v2"));
    let removed = texts.remove("k").await.unwrap();
    assert!(removed.existed);
    assert_eq!(removed.effect, Effect::Applied);
    assert!(!texts.remove("k").await.unwrap().existed);
    assert_eq!(get(&texts, "k").await, None);
    assert!(!texts.contains("k").await.unwrap());
    assert_eq!(texts.peek("k"), None);
}

#[tokio::test]
async fn a_hit_hands_out_the_very_value_that_is_kept() {
    let (_, _, texts) = texts();
    let loaded = texts.get_or_load("k", loader("v")).await.unwrap();
    assert!(Arc::ptr_eq(&loaded, &texts.get("k").await.unwrap().unwrap()));
    assert!(Arc::ptr_eq(&loaded, &texts.peek("k").unwrap()));
}

#[tokio::test]
async fn an_entry_says_what_is_known_about_it() {
    let (clock, _, texts) = texts();
    let options = EntryOptions::default().ttl(Duration::from_mins(1)).tag("t").unwrap();
    let written = texts.put_with("k", "v".to_owned(), options).await.unwrap();
    let created = clock.wall();
    clock.advance(Duration::from_secs(20));
    let entry = texts.get_entry("k").await.unwrap().unwrap();
    assert_eq!((&**entry.value, entry.tier), ("v", Tier::L1));
    assert_eq!((entry.age, entry.ttl), (Duration::from_secs(20), Ttl::After(Duration::from_secs(40))));
    assert_eq!((entry.version, entry.created), (written.version, created));
    assert_eq!(entry.tags, [Tag::new("t").unwrap()]);
    assert_eq!(texts.peek_ttl("k"), Some(Ttl::After(Duration::from_secs(40))));
    clock.advance(Duration::from_secs(40));
    assert!(texts.get_entry("k").await.unwrap().is_none());
    assert_eq!(texts.peek_ttl("k"), None);
}

#[tokio::test]
async fn a_load_brings_what_is_missing_and_only_that() {
    let (clock, _, texts) = texts();
    assert_eq!(*texts.get_or_load("k", loader("v1")).await.unwrap(), "v1");
    assert_eq!(*texts.get_or_load("k", loader("v2")).await.unwrap(), "v1");
    clock.advance(HOUR);
    assert_eq!(*texts.get_or_load("k", loader("v3")).await.unwrap(), "v3");
    let short = EntryOptions::default().ttl(Duration::from_secs(1));
    texts.remove("k").await.unwrap();
    assert_eq!(*texts.get_or_load_with("k", short, loader("v4")).await.unwrap(), "v4");
    clock.advance(Duration::from_secs(1));
    assert_eq!(get(&texts, "k").await, None);
}

#[tokio::test]
async fn the_table_of_odd_ttls() {
    let (clock, _, texts) = texts();
    let shortest = Duration::from_micros(5);
    for (ttl, is_kept) in [
        (Ttl::After(Duration::ZERO), false),
        (Ttl::After(shortest), true),
        (Ttl::After(Duration::from_micros(500)), true),
        (Ttl::from(Duration::from_millis(1)), true),
        (Ttl::from(Duration::from_millis(1 << 31)), true),
        (Ttl::from(Duration::from_millis(1 << 53)), true),
        (Ttl::from(Duration::MAX), true),
        (Ttl::After(Duration::MAX), true),
        (Ttl::Never, true),
    ] {
        let options = EntryOptions::default().ttl(ttl);
        texts.put("k", "old".to_owned()).await.unwrap();
        texts.put_with("k", "new".to_owned(), options.clone()).await.unwrap();
        assert_eq!(get(&texts, "k").await.is_some(), is_kept, "put with {ttl:?}");
        assert_ne!(get(&texts, "k").await.as_deref(), Some("old"), "put with {ttl:?}");
        texts.remove("k").await.unwrap();
        let loaded = texts.get_or_load_with("k", options, loader("loaded")).await.unwrap();
        assert_eq!(*loaded, "loaded");
        assert_eq!(get(&texts, "k").await.is_some(), is_kept, "loaded with {ttl:?}");
        clock.advance(shortest);
        let ages_at_once = ttl.duration().is_some_and(|ttl| ttl <= shortest);
        assert_eq!(get(&texts, "k").await.is_none(), ages_at_once, "a moment after {ttl:?}");
    }
}

#[tokio::test]
async fn a_copy_stays_no_longer_than_l1_allows() {
    let clock = Clock::manual();
    let l1 = L1::default().ttl(Duration::from_secs(10));
    let cache = Cache::builder().clock(clock.clone()).default_ttl(HOUR).l1(l1).build().unwrap();
    let plain = cache.keyspace::<u64, u64>("plain").build().unwrap();
    let short = cache.keyspace::<u64, u64>("short").l1_ttl(Duration::from_secs(5)).build().unwrap();
    let long = cache.keyspace::<u64, u64>("long").l1_ttl(Duration::from_secs(99)).build().unwrap();
    for keyspace in [&plain, &short, &long] {
        keyspace.put(&1, 1).await.unwrap();
    }
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.push([&plain, &short, &long].map(|keyspace| keyspace.peek(&1).is_some()));
        clock.advance(Duration::from_secs(5));
    }
    assert_eq!(kept, [[true, true, true], [true, false, true], [false, false, false]]);
}

#[tokio::test]
async fn keys_have_types() {
    let cache = Cache::memory().unwrap();
    let pairs = cache.keyspace::<(String, String), u64>("pairs").build().unwrap();
    pairs.put(&("a:b".to_owned(), "c".to_owned()), 1).await.unwrap();
    pairs.put(&("a".to_owned(), "b:c".to_owned()), 2).await.unwrap();
    assert_eq!(*pairs.get(&("a:b".to_owned(), "c".to_owned())).await.unwrap().unwrap(), 1);
    assert_eq!(*pairs.get(&("a".to_owned(), "b:c".to_owned())).await.unwrap().unwrap(), 2);
    let numbers = cache.keyspace::<i64, String>("numbers").build().unwrap();
    numbers.put(&-7, "minus".to_owned()).await.unwrap();
    assert_eq!(*numbers.get(&-7).await.unwrap().unwrap(), "minus");
    assert!(numbers.get(&7).await.unwrap().is_none());
    let triples = cache.keyspace::<(u8, String, i32), u64>("triples").build().unwrap();
    triples.put(&(1, "x".to_owned(), -3), 3).await.unwrap();
    assert_eq!(triples.peek(&(1, "x".to_owned(), -3)).as_deref(), Some(&3));
}

#[tokio::test]
async fn a_key_that_cannot_be_one_changes_nothing() {
    let (_, cache, texts) = texts();
    let long = "k".repeat(1025);
    for key in ["", "two\nlines", "nul\0", &long] {
        assert!(matches!(texts.get(key).await.unwrap_err().kind(), ErrorKind::Key(_)), "{key:?}");
        assert!(
            matches!(texts.put(key, String::new()).await.unwrap_err().kind(), ErrorKind::Key(_)),
            "{key:?}"
        );
        assert!(matches!(texts.remove(key).await.unwrap_err().kind(), ErrorKind::Key(_)), "{key:?}");
        assert!(texts.get_or_load(key, loader("v")).await.is_err(), "{key:?}");
        assert_eq!(texts.peek(key), None);
    }
    texts.put("good", "v".to_owned()).await.unwrap();
    let named = texts.invalidate().keys(["good", "bad\n"]).send().await;
    assert!(matches!(named.unwrap_err().kind(), ErrorKind::Key(_)));
    assert_eq!(get(&texts, "good").await.as_deref(), Some("v"));
    assert_eq!(cache.stats().total.entries, 1);
}

#[tokio::test]
async fn what_is_named_is_invalidated_and_nothing_else() {
    let (_, _, texts) = texts();
    for key in ["user:1", "user:2", "org:1", "org:2", "tagged", "other"] {
        let tag = if key == "tagged" { "t" } else { "u" };
        let options = EntryOptions::default().tag(tag).unwrap();
        texts.put_with(key, "v".to_owned(), options).await.unwrap();
    }
    let named = texts.invalidate().keys(["org:1", "none"]).pattern("user:*").unwrap().tag("t").unwrap();
    let done = named.send().await.unwrap();
    assert_eq!((done.count, done.effect), (4, Effect::Applied));
    let mut left = Vec::new();
    for key in ["user:1", "user:2", "org:1", "org:2", "tagged", "other"] {
        left.extend(get(&texts, key).await.map(|_| key));
    }
    assert_eq!(left, ["org:2", "other"]);
    assert_eq!(texts.clear().await.unwrap().count, 2);
    assert_eq!(get(&texts, "other").await, None);
    let nothing = texts.invalidate().send().await.unwrap();
    assert_eq!((nothing.count, nothing.effect), (0, Effect::Applied));
}

#[tokio::test]
async fn batches_keep_the_order_of_their_keys() {
    let (_, _, texts) = texts();
    let entries = [("a", "1"), ("b", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let written = texts.put_many(entries).await.unwrap();
    assert!(written[1].version.supersedes(written[0].version));
    let keys = ["b", "none", "a", "b"].map(str::to_owned);
    let values = texts.get_many(&keys).await.unwrap();
    let values: Vec<Option<&str>> = values.iter().map(|value| value.as_deref().map(String::as_str)).collect();
    assert_eq!(values, [Some("2"), None, Some("1"), Some("2")]);
    let entries = texts.get_entries(&keys).await.unwrap();
    assert_eq!(entries[2].as_ref().unwrap().version, written[0].version);
    let removed = texts.remove_many(&keys).await.unwrap();
    assert_eq!(removed.iter().map(|removed| removed.existed).collect::<Vec<_>>(), [true, false, true, false]);
    assert!(texts.get_many::<String>(&[]).await.unwrap().is_empty());
    assert!(texts.put_many([]).await.unwrap().is_empty());
    assert!(texts.remove_many::<String>(&[]).await.unwrap().is_empty());
}

#[test]
fn without_a_runtime_everything_but_loading_works() {
    use futures_util::FutureExt;
    let (_, cache, texts) = texts();
    texts.put("k", "v".to_owned()).now_or_never().expect("nothing to wait for").unwrap();
    let got = texts.get("k").now_or_never().expect("nothing to wait for").unwrap();
    assert_eq!(*got.unwrap(), "v");
    texts.remove("k").now_or_never().expect("nothing to wait for").unwrap();
    texts.put("k1", "v".to_owned()).now_or_never().expect("nothing to wait for").unwrap();
    let named = texts.invalidate().pattern("k*").unwrap().tag("t").unwrap();
    assert_eq!(named.send().now_or_never().expect("nothing to wait for").unwrap().count, 1);
    texts.clear().now_or_never().expect("nothing to wait for").unwrap();
    assert_eq!(cache.stats().total.entries, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_never_replaces_what_was_put_before_it_began() {
    let cache = Cache::memory().unwrap();
    let numbers = cache.keyspace::<u64, u64>("numbers").build().unwrap();
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let numbers = numbers.clone();
        readers.spawn(async move {
            loop {
                let default = async || Ok::<_, std::convert::Infallible>(0);
                numbers.get_or_load(&1, default).await.expect("it does not fail");
                tokio::task::yield_now().await;
            }
        });
    }
    for n in 1..30_000 {
        numbers.remove(&1).await.unwrap();
        numbers.put(&1, n).await.unwrap();
        for _ in 0..3 {
            assert_eq!(numbers.get(&1).await.unwrap().as_deref(), Some(&n), "put, and nobody else puts");
            tokio::task::yield_now().await;
        }
    }
    readers.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_writes_at_the_same_time_the_greater_version_stays() {
    let cache = Cache::memory().unwrap();
    let numbers = cache.keyspace::<u64, u64>("numbers").build().unwrap();
    numbers.put(&1, 0).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..2 {
        let numbers = numbers.clone();
        writers.spawn(async move {
            for n in 0..50_000 {
                numbers.put(&1, writer * 1_000_000 + n).await.unwrap();
            }
        });
    }
    let mut newest = Version::ZERO;
    while writers.try_join_next().is_none() {
        for _ in 0..100 {
            let seen = numbers.get_entry(&1).await.unwrap().expect("it is never removed").version;
            assert!(!newest.supersedes(seen), "{seen} was read after {newest}");
            newest = seen;
        }
    }
    within("the writers", writers.join_all()).await;
}
