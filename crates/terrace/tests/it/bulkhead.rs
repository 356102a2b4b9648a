//! How many loads are at work at the same time: of one keyspace, of those that share an origin, with and without L2.

use crate::fixture::{Counted, HOUR, HeldLoad, Loads, ended, hold, let_others_run, loader, spawn, within};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use terrace::{
    Bulkhead, Cache, Clock, ConfigError, EntryOptions, Error, ErrorKind, KeyspaceBuilder, KeyspaceError,
    Origin, StaleReason,
};
use terrace_testkit::fake::FakeRemote;
use tokio::task::JoinHandle;

type Texts = terrace::Keyspace<String, String>;
type Builder = KeyspaceBuilder<String, String>;

const WAIT: Duration = Duration::from_secs(2);

/// A cache in memory, and one with an L2.
fn both() -> [(Cache, Clock); 2] {
    let clock = Clock::manual();
    let remote = FakeRemote::new(clock.clone());
    let memory = Cache::builder().clock(clock.clone()).build().expect("valid settings");
    [
        (memory, clock.clone()),
        (Cache::builder().clock(clock.clone()).l2(remote).build().expect("valid"), clock),
    ]
}

fn texts(cache: &Cache, set: impl FnOnce(Builder) -> Builder) -> Texts {
    set(cache.keyspace("texts").ttl(HOUR)).build().expect("valid settings")
}

/// Loads in a task of its own, with a loader that the test holds.
fn loading(texts: &Texts, key: &str) -> (HeldLoad<Infallible>, JoinHandle<Loads<Infallible>>) {
    let ((held, load), texts, key) = (hold(), texts.clone(), key.to_owned());
    (held, spawn(async move { texts.get_or_load(&key, load).await }))
}

fn overloaded(result: Loads<Infallible>) -> ErrorKind {
    let error = result.expect_err("there is no place");
    let kind = error.cache().expect("it is no loader's error").clone();
    let error = Error::from(kind.clone());
    assert!(error.is_retryable() && error.is_unavailable());
    kind
}

#[tokio::test]
async fn no_more_loads_of_a_keyspace_run_than_may_and_the_next_begins_when_one_ends() {
    for (cache, _) in both() {
        let texts = texts(&cache, |builder| builder.loads_max(2).loads_wait_max(HOUR));
        let mut loads = Vec::new();
        for key in ["a", "b", "c", "d"] {
            loads.push(loading(&texts, key));
            let_others_run().await;
        }
        let mut loads = loads.into_iter();
        let mut next = || loads.next().expect("four");
        let (mut first, mut second, mut third, mut fourth) = (next(), next(), next(), next());
        first.0.started().await;
        second.0.started().await;
        let load = cache.stats().bulkheads.remove(0);
        assert_eq!((load.name.as_str(), load.is_own, load.loads_max), ("texts", true, 2));
        assert_eq!((load.running, load.waiting, load.refused), (2, 2, 0));
        first.0.bring("v");
        ended(first.1).await.unwrap();
        third.0.started().await;
        let_others_run().await;
        let load = cache.stats().bulkheads.remove(0);
        assert_eq!((load.running, load.waiting), (2, 1), "the fourth waits for the second or third");
        second.0.bring("v");
        fourth.0.started().await;
        third.0.bring("v");
        fourth.0.bring("v");
        for task in [second.1, third.1, fourth.1] {
            assert_eq!(*ended(task).await.unwrap(), "v");
        }
        assert_eq!(cache.stats().bulkheads[0].running, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_has_waited_for_too_long_is_refused_and_all_who_want_it_have_waited_once() {
    for (cache, _) in both() {
        let texts = texts(&cache, |builder| builder.loads_max(1).loads_wait_max(WAIT));
        let (mut held, first) = loading(&texts, "a");
        held.started().await;
        let callers: Vec<_> = (0..50).map(|_| loading(&texts, "b").1).collect();
        let all = async {
            for caller in callers {
                let kind = overloaded(caller.await.expect("no panic"));
                let ErrorKind::Overloaded { bulkhead, loads_max, waited_max } = kind else {
                    panic!("{kind:?}")
                };
                assert_eq!((bulkhead.as_str(), loads_max, waited_max), ("texts", 1, WAIT));
            }
        };
        tokio::time::timeout(WAIT * 3 / 2, all).await.expect("they wait together");
        let stats = cache.stats();
        assert_eq!((stats.total.loads_refused, stats.bulkheads[0].refused), (1, 1));
        held.bring("v");
        assert_eq!(*ended(first).await.unwrap(), "v");
        assert_eq!(*texts.get_or_load("b", loader("v")).await.unwrap(), "v", "the key is free");
        assert!(
            cache
                .metrics()
                .contains("terrace_bulkhead_refused_total{bulkhead=\"texts\",scope=\"keyspace\"} 1\n")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_value_is_returned_where_a_load_is_refused() {
    for (cache, clock) in both() {
        let options = EntryOptions::new().ttl(Duration::from_mins(1)).grace(HOUR);
        let texts = texts(&cache, |builder| builder.options(options).loads_max(1).loads_wait_max(WAIT));
        texts.get_or_load("b", loader("old")).await.unwrap();
        clock.advance(Duration::from_mins(2));
        let (mut held, first) = loading(&texts, "a");
        held.started().await;
        let counted = Counted::default();
        let entry = texts.fetch("b", EntryOptions::new(), {
            let load = counted.loader("new");
            move |_| async move { load().await.map(terrace::Fetched::value) }
        });
        let entry = entry.await.expect("it is there").expect("it is there");
        assert_eq!((entry.value.as_str(), entry.stale), ("old", Some(StaleReason::LoadFailed)));
        assert_eq!(counted.runs(), 0);
        held.bring("v");
        ended(first).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn keyspaces_that_share_an_origin_share_its_places() {
    for (cache, _) in both() {
        let origin = Bulkhead::new("main", 1, WAIT).expect("valid");
        let [one, other] = ["one", "other"].map(|name| -> Texts {
            cache.keyspace(name).bulkhead(&origin).loads_max(5).build().expect("valid settings")
        });
        let (mut held, first) = loading(&one, "k");
        held.started().await;
        let (mut next, second) = loading(&other, "k");
        let_others_run().await;
        assert_eq!((origin.load().running, origin.load().waiting), (1, 1));
        held.bring("v");
        next.started().await;
        assert!(matches!(
            overloaded(loading(&one, "l").1.await.unwrap()),
            ErrorKind::Overloaded { bulkhead, .. } if bulkhead == "main"
        ));
        next.bring("v");
        for task in [first, second] {
            ended(task).await.unwrap();
        }
        let names: Vec<_> =
            cache.stats().bulkheads.into_iter().map(|load| (load.is_own, load.name)).collect();
        assert_eq!(names, [(false, "main".into()), (true, "one".into()), (true, "other".into())]);
    }
}

/// Two nodes of a fleet. The first runs one load at a time.
fn fleet() -> [Texts; 2] {
    let clock = Clock::manual();
    let remote = FakeRemote::new(clock.clone());
    let node = |remote| Cache::builder().clock(clock.clone()).l2(remote).build().expect("valid settings");
    let busy = texts(&node(remote.clone()), |builder| builder.loads_max(1).loads_wait_max(HOUR));
    [busy, texts(&node(remote.another_node()), |builder| builder)]
}

#[tokio::test]
async fn nobody_has_a_lease_who_waits_for_a_place() {
    let [busy, other] = fleet();
    let (mut held, first) = loading(&busy, "a");
    held.started().await;
    let (unused, queued) = loading(&busy, "b");
    let_others_run().await;
    let value = within("the other node", other.get_or_load("b", loader("v"))).await.unwrap();
    assert_eq!(*value, "v", "it does not wait for the first node's lease");
    held.bring("v");
    ended(first).await.unwrap();
    assert_eq!(*ended(queued).await.unwrap(), "v");
    assert!(!unused.is_alive(), "the value was there when there was a place");
}

// With a real clock its wait could be over between two steps, and then it queues for a place.
#[tokio::test(start_paused = true)]
async fn nobody_has_a_place_who_waits_for_the_lease_of_another_node() {
    let [busy, other] = fleet();
    let (mut held, first) = loading(&other, "a");
    held.started().await;
    let (_, waiting) = loading(&busy, "a");
    let_others_run().await;
    let value = within("another key", busy.get_or_load("b", loader("v"))).await.unwrap();
    assert_eq!(*value, "v");
    let (mut occupied, second) = loading(&busy, "c");
    occupied.started().await;
    held.bring("of the other");
    ended(first).await.unwrap();
    assert_eq!(*ended(waiting).await.unwrap(), "of the other", "it needs no place to find the value");
    occupied.bring("v");
    ended(second).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_nodes_value_is_found_when_the_wait_is_over() {
    let clock = Clock::manual();
    let remote = FakeRemote::new(clock.clone());
    let node = |remote| Cache::builder().clock(clock.clone()).l2(remote).build().expect("valid settings");
    let busy = texts(&node(remote.clone()), |builder| builder.loads_max(1).loads_wait_max(WAIT));
    let other = texts(&node(remote.another_node()), |builder| builder);
    let (mut held, first) = loading(&busy, "a");
    held.started().await;
    let (_, queued) = loading(&busy, "b");
    let_others_run().await;
    other.put("b", "v".to_owned()).await.unwrap();
    assert_eq!(*ended(queued).await.unwrap(), "v");
    held.bring("v");
    ended(first).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn however_a_load_ends_its_place_is_free() {
    for (cache, _) in both() {
        let texts = texts(&cache, |builder| builder.loads_max(1).loads_wait_max(HOUR).load_timeout(WAIT));
        for _ in 0..3 {
            let panics: Loads<Infallible> = texts.get_or_load("k", || async { panic!("on purpose") }).await;
            assert!(panics.is_err());
            let fails = texts.get_or_load("k", || async { Err::<String, _>("refused") }).await;
            assert!(fails.is_err());
            let (_held, never) = loading(&texts, "k");
            assert!(ended(never).await.is_err());
            let (_held, caller) = loading(&texts, "k");
            let_others_run().await;
            caller.abort();
            assert_eq!(*texts.get_or_load("other", loader("v")).await.unwrap(), "v");
            texts.remove("other").await.unwrap();
        }
        assert_eq!(cache.stats().bulkheads[0].running, 0);
        assert_eq!(*texts.get_or_load("k", loader("v")).await.unwrap(), "v");
    }
}

#[tokio::test]
async fn bounds_that_cannot_be_are_refused() {
    let refused = |error: ConfigError| error.setting;
    assert_eq!(Bulkhead::new("a", 0, WAIT).map_err(refused).unwrap_err(), "loads_max");
    assert_eq!(Bulkhead::new("a", usize::MAX, WAIT).map_err(refused).unwrap_err(), "loads_max");
    let cache = Cache::memory().unwrap();
    let built = |name: &str, set: &dyn Fn(Builder) -> Builder| match set(cache.keyspace(name)).build() {
        Ok(_) => "built",
        Err(KeyspaceError::Setting(error)) => error.setting,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(built("a", &|builder| builder.loads_max(0)), "loads_max");
    assert_eq!(built("a", &|builder| builder.loads_wait_max(WAIT)), "loads_wait_max");
    let main = Bulkhead::new("main", 1, WAIT).unwrap();
    assert_eq!(built("a", &|builder| builder.bulkhead(&main)), "built");
    assert_eq!(built("b", &|builder| builder.bulkhead(&main)), "built");
    let other = Bulkhead::new("main", 1, WAIT).unwrap();
    assert_eq!(built("c", &|builder| builder.bulkhead(&other)), "bulkhead");
}

/// An origin that loads one by one, and notes how many loads were at work at a time.
#[derive(Clone, Default)]
struct OneByOne {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Origin<String, String> for OneByOne {
    type Error = Infallible;

    async fn load(&self, key: &String) -> Result<Option<String>, Infallible> {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        let_others_run().await;
        self.now.fetch_sub(1, Ordering::Relaxed);
        Ok(Some(key.clone()))
    }

    fn loads_together(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_batch_that_is_loaded_one_by_one_takes_a_place_for_each() {
    for (cache, _) in both() {
        let origin = OneByOne::default();
        let bound = |builder: Builder| builder.loads_max(3).loads_wait_max(HOUR).read_through(origin.clone());
        let texts = texts(&cache, bound);
        let keys: Vec<String> = (0..40).map(|number| number.to_string()).collect();
        let found = texts.get_each_entry(&keys).await;
        let values: Vec<String> = found
            .into_iter()
            .map(|entry| String::clone(&entry.expect("it is loaded").expect("it is there").value))
            .collect();
        assert_eq!(values, keys);
        assert_eq!(origin.most.load(Ordering::Relaxed), 3);
    }
}
