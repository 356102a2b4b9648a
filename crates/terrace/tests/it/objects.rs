//! Strategy objects: several over one keyspace.

use crate::fixture::{LEASE, Node, ended, spawn};
use crate::table::{Mood, Table};
use std::sync::Arc;
use terrace::strategies::{CacheStrategy, Expiring, Lru, WriteThrough};
use terrace::{Cache, Clock, ErrorKind, Keyspace, OriginFn, Ttl, WriteFailure};

type Texts = Keyspace<String, String>;
type Object = Box<dyn CacheStrategy<String, String>>;

fn opened(cache: &Cache) -> Texts {
    cache.keyspace("rows").build().expect("a new keyspace")
}

async fn put(object: &dyn CacheStrategy<String, String>, key: &str) {
    object.put(&key.to_owned(), key.to_uppercase()).await.expect("it is stored");
}

async fn get(object: &dyn CacheStrategy<String, String>, key: &str) -> Option<String> {
    object.get(&key.to_owned()).await.expect("a valid key").map(|value| (*value).clone())
}

#[tokio::test]
async fn the_least_recently_used_leaves_every_tier() {
    let node = Node::first().await;
    let (texts, others) = (opened(&node.cache), opened(&node.another_without_l1().await.cache));
    let lru = Lru::new(texts.clone(), 3).unwrap();
    for key in ["a", "b", "c"] {
        put(&lru, key).await;
    }
    assert_eq!(get(&lru, "a").await.as_deref(), Some("A"));
    put(&lru, "b").await;
    put(&lru, "d").await;
    for (key, is_there) in [("a", true), ("b", true), ("c", false), ("d", true)] {
        assert_eq!(others.contains(key).await.unwrap(), is_there, "{key}");
    }
    assert_eq!((lru.len(), lru.is_empty()), (Some(3), false));
    assert!(lru.remove(&"a".to_owned()).await.unwrap().existed);
    assert_eq!((lru.len(), get(&lru, "a").await), (Some(2), None));
    others.remove("b").await.unwrap();
    texts.invalidate().keys(["b"]).send().await.unwrap();
    assert_eq!(
        (get(&lru, "b").await, lru.len()),
        (None, Some(1)),
        "what is gone counts until it is asked for"
    );
    assert!(Lru::new(texts, 0).is_err());
}

#[tokio::test]
async fn who_leaves_stays_in_the_origin_and_what_is_loaded_counts() {
    let table = Table::default();
    let texts = Cache::memory().unwrap().keyspace("rows").write_through(table.clone()).build().unwrap();
    let lru = Lru::new(texts.clone(), 2).unwrap();
    for key in ["a", "b", "c"] {
        put(&lru, key).await;
    }
    assert_eq!((texts.peek("a"), table.row("a").as_deref()), (None, Some("A")));
    assert_eq!(get(&lru, "a").await.as_deref(), Some("A"), "it is loaded");
    assert_eq!((lru.len(), texts.peek("b")), (Some(2), None));
    texts.put("strange", "S".into()).await.unwrap();
    assert_eq!(get(&lru, "strange").await.as_deref(), Some("S"));
    put(&lru, "d").await;
    put(&lru, "e").await;
    assert!(texts.peek("strange").is_some(), "it is none of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_value_stays_that_is_not_counted() {
    let texts: Texts = opened(&Cache::memory().unwrap());
    let lru = Arc::new(Lru::new(texts.clone(), 10).unwrap());
    let writers = (0..8).map(|writer| {
        let lru = Arc::clone(&lru);
        spawn(async move {
            for n in 0..500_usize {
                let key = ((n * 7 + writer) % 40).to_string();
                match n % 5 {
                    0 => drop(lru.remove(&key).await),
                    1 | 2 => drop(get(&*lru, &key).await),
                    _ => put(&*lru, &key).await,
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        ended(writer).await;
    }
    let kept = (0..40).filter(|n: &u32| texts.peek(&n.to_string()).is_some()).count();
    assert!(kept <= 10 && lru.len().unwrap() <= 10, "{kept} {:?}", lru.len());
}

#[tokio::test]
async fn what_expires_does_so_after_the_object_s_ttl() {
    let clock = Clock::manual();
    let cache = Cache::builder().clock(clock.clone()).build().unwrap();
    let texts = opened(&cache);
    let short: Object = Box::new(Expiring::new(texts.clone(), LEASE));
    let long: Object = Box::new(Expiring::new(texts.clone(), Ttl::Never));
    put(&*short, "a").await;
    put(&*long, "b").await;
    assert_eq!(get(&*long, "a").await.as_deref(), Some("A"), "they see each other's entries");
    clock.advance(LEASE * 2);
    assert_eq!((get(&*short, "a").await, get(&*short, "b").await.as_deref()), (None, Some("B")));
    assert!(long.remove(&"b".to_owned()).await.unwrap().existed);
    assert_eq!((texts.peek("b"), long.len()), (None, None));
}

#[tokio::test]
async fn writing_through_writes_the_origin_first() {
    for texts in [opened(&Cache::memory().unwrap()), opened(&Node::first().await.cache)] {
        let table = Table::default();
        let through = WriteThrough::new(texts.clone(), table.clone()).unwrap();
        put(&through, "a").await;
        assert_eq!((table.row("a").as_deref(), get(&through, "a").await.as_deref()), (Some("A"), Some("A")));
        table.set("b", "row");
        assert_eq!(get(&through, "b").await.as_deref(), Some("row"));
        table.is(Mood::Failing, None);
        let failed = through.put(&"a".to_owned(), "new".into()).await.unwrap_err();
        assert!(matches!(failed.kind(), ErrorKind::Store(_)));
        assert_eq!(texts.get("a").await.unwrap().as_deref().map(String::as_str), Some("A"));
        table.is(Mood::Unsure, None);
        through.put(&"a".to_owned(), "unsure".into()).await.unwrap_err();
        assert!(!texts.contains("a").await.unwrap(), "the origin may have it");
        table.is(Mood::Fine, None);
        through.remove(&"a".to_owned()).await.unwrap();
        assert_eq!((table.row("a"), get(&through, "a").await), (None, None));
    }
}

#[tokio::test]
async fn a_closure_is_enough_and_loads_nothing() {
    let (texts, table) = (opened(&Cache::memory().unwrap()), Table::default());
    let rows = table.clone();
    let through = WriteThrough::by(texts.clone(), move |key, value: Option<String>| {
        let rows = rows.clone();
        async move {
            let Some(value) = value else { return Err(WriteFailure::Refused("nothing is removed here")) };
            rows.set(&key, &value);
            Ok(())
        }
    })
    .unwrap();
    put(&through, "a").await;
    assert_eq!((table.row("a").as_deref(), get(&through, "a").await.as_deref()), (Some("A"), Some("A")));
    assert!(through.remove(&"a".to_owned()).await.is_err() && texts.peek("a").is_some());
    assert_eq!((get(&through, "b").await, table.loads()), (None, 0));
}

#[cfg(feature = "journal")]
#[tokio::test]
async fn what_is_written_behind_is_not_written_through_beside_that() {
    use terrace::behind::{Journal, JournalOptions, LaneOptions};
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path().join("journal"), JournalOptions::default()).unwrap();
    let cache = Cache::builder().journal(journal).build().unwrap();
    let behind =
        cache.keyspace("rows").write_behind(Table::default(), LaneOptions::default()).build().unwrap();
    let load = || OriginFn::load(|_: String| async { Ok::<Option<String>, &str>(None) });
    assert!(WriteThrough::new(behind.clone(), load()).is_err());
    assert!(WriteThrough::new(behind.with_origin(load()), load()).is_err());
    cache.shutdown(std::time::Duration::from_secs(5)).await.unwrap();
}
