//! Other settings for a keyspace that is open.

use crate::fixture::{HOUR, ended, hold, let_others_run, spawn};
use std::convert::Infallible;
use std::time::Duration;
use terrace::behind::{Journal, JournalOptions, LaneOptions};
use terrace::{
    Cache, Clock, EntryOptions, ErrorKind, Keyspace, KeyspaceBuilder, KeyspaceError, OriginFn, Ttl,
};
use terrace_testkit::fake::FakeRemote;

type Texts = Keyspace<String, String>;

fn builder(cache: &Cache) -> KeyspaceBuilder<String, String> {
    cache.keyspace("texts").ttl(HOUR).weigher(|text: &String| text.len() as u64)
}

fn cache() -> (Cache, Clock) {
    let clock = Clock::manual();
    (Cache::builder().clock(clock.clone()).build().expect("valid"), clock)
}

async fn ttl(texts: &Texts, key: &str) -> Duration {
    let entry = texts.get_entry(key).await.expect("no error").expect("it is there");
    entry.ttl.duration().expect("it ends")
}

#[tokio::test]
async fn every_handle_goes_by_the_new_settings_and_entries_stay() {
    let (cache, _) = cache();
    let old = builder(&cache).build().expect("valid");
    old.put("a", "1".to_owned()).await.expect("stored");
    let new = builder(&cache).ttl(Duration::from_secs(5)).value_bytes_max(10).replace(&old).expect("valid");
    assert_eq!(ttl(&new, "a").await, HOUR, "with the TTL that it was stored with");
    for texts in [&old, &new] {
        texts.put("b", "2".to_owned()).await.expect("stored");
        assert_eq!(ttl(texts, "b").await, Duration::from_secs(5));
        let error = texts.put("c", "too long by far".to_owned()).await.expect_err("too large");
        assert!(matches!(error.kind(), ErrorKind::ValueTooLarge { bytes_max: 10, .. }), "{error}");
    }
}

#[tokio::test]
async fn old_values_are_returned_from_when_they_may_be() {
    let (cache, clock) = cache();
    let texts = builder(&cache).build().expect("valid");
    texts.put("before", "1".to_owned()).await.expect("stored");
    let grace = EntryOptions::new().grace(HOUR).stale_while_revalidate(HOUR);
    let origin = OriginFn::load(|_: String| async { Ok::<Option<String>, Infallible>(None) });
    let texts = builder(&cache).options(grace).read_through(origin).replace(&texts).expect("valid");
    texts.put("after", "2".to_owned()).await.expect("stored");
    clock.advance(HOUR + Duration::from_secs(1));
    assert_eq!(texts.get("before").await.expect("no error"), None, "it had no grace");
    let entry = texts.get_entry("after").await.expect("no error").expect("it has a grace");
    assert!(entry.is_stale, "{entry:?}");
}

#[tokio::test]
async fn a_bound_that_is_the_same_goes_on_and_another_counts_anew() {
    let (cache, _) = cache();
    let bound = |loads: usize| builder(&cache).loads_max(loads).loads_wait_max(Duration::ZERO);
    let texts = bound(1).build().expect("valid");
    let ((mut held, load), loading) = (hold::<Infallible>(), texts.clone());
    let first = spawn(async move { loading.get_or_load("a", load).await });
    held.started().await;
    let texts = bound(1).ttl(Duration::from_secs(5)).replace(&texts).expect("valid");
    let one = async || Ok::<_, Infallible>("x".to_owned());
    assert!(texts.get_or_load("b", one).await.is_err(), "the one place is taken");
    let texts = bound(2).replace(&texts).expect("valid");
    assert!(texts.get_or_load("b", one).await.is_ok());
    held.bring("y");
    assert_eq!(ended(first).await.expect("loaded").as_str(), "y");
    let_others_run().await;
    assert_eq!(cache.stats().bulkheads[0].loads_max, 2);
}

fn refused(result: Result<Texts, KeyspaceError>) -> &'static str {
    let KeyspaceError::Setting(error) = result.expect_err("it stays") else { panic!("another error") };
    error.setting
}

#[tokio::test]
async fn what_a_keyspace_is_made_of_stays_and_nothing_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(folder.path().join("j"), JournalOptions::default()).expect("a journal");
    let clock = Clock::manual();
    let remote = FakeRemote::new(clock.clone());
    let cache = Cache::builder().clock(clock).l2(remote).journal(journal).build().expect("valid");
    let texts = builder(&cache).build().expect("valid");
    let origin = || {
        OriginFn::load(|_: String| async { Ok::<Option<String>, Infallible>(None) })
            .store(|_, _| async { Ok(()) })
    };
    let short = || builder(&cache).ttl(Duration::from_secs(5));
    assert_eq!(refused(short().no_l1().replace(&texts)), "tiers");
    assert_eq!(
        refused(short().write_behind(origin(), LaneOptions::default()).replace(&texts)),
        "write_behind"
    );
    assert_eq!(refused(cache.keyspace("other").replace(&texts)), "name");
    assert_eq!(refused(short().load_timeout(Duration::ZERO).replace(&texts)), "load_timeout");
    assert_eq!(refused(short().loads_wait_max(HOUR).replace(&texts)), "loads_wait_max");
    let other = Cache::memory().expect("valid");
    assert_eq!(refused(builder(&other).replace(&texts)), "name");
    texts.put("a", "1".to_owned()).await.expect("stored");
    assert_eq!(texts.peek_ttl("a"), Some(Ttl::After(HOUR)));

    let behind = cache.keyspace::<String, String>("behind").write_behind(origin(), LaneOptions::default());
    let behind = behind.build().expect("valid");
    assert_eq!(refused(cache.keyspace("behind").ttl(HOUR).replace(&behind)), "write_behind");
    let same = cache.keyspace("behind").ttl(HOUR).write_behind(origin(), LaneOptions::default());
    let same = same.replace(&behind).expect("that may change");
    assert!(same.put("a", "1".to_owned()).await.expect("stored").journaled.is_some());
}

#[tokio::test]
async fn an_origin_that_is_taken_away_is_not_asked_by_a_refresh_either() {
    let (cache, _) = cache();
    let asked = crate::fixture::Counted::default();
    let counted = asked.clone();
    let origin = OriginFn::load(move |_: String| {
        let loading = counted.loader("loaded")();
        async move { loading.await.map(Some) }
    });
    let texts = builder(&cache).read_through(origin).build().expect("valid");
    let texts = texts.with_refresh(|text| Some(text.to_owned()));
    assert_eq!(texts.get("k").await.expect("loaded").as_deref().map(String::as_str), Some("loaded"));
    texts.refresh("k").await.expect("it is told");
    terrace_testkit::wait::until("it to be loaded anew", || asked.runs() == 2).await;
    let without = builder(&cache).replace(&texts).expect("valid");
    without.refresh("k").await.expect("it is told");
    let_others_run().await;
    assert_eq!(asked.runs(), 2);
}
