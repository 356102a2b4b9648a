//! Lookups that nobody answers, and loads that nobody is asked for: how both are counted, and under which strategy a lookup is.

use crate::fixture::{HOUR, LEASE, Node, ended, hold, let_others_run, loader, spawn};
use futures_util::FutureExt;
use std::convert::Infallible;
use std::fmt;
use std::pin::pin;
use std::time::Duration;
use terrace::{Cache, EntryOptions, Fault, Figures, Keyspace, Origin, OriginFn, ReadOptions};
use terrace_testkit::fake;
use terrace_testkit::wait::until;

type Numbers = Keyspace<u64, u64>;

/// What an origin does with a key: by its last digit.
struct Fails;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Failed {
    Broken,
    LeftAlone,
    NoSuchKey,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Origin<u64, u64> for Fails {
    type Error = Failed;

    async fn load(&self, key: &u64) -> Result<Option<u64>, Failed> {
        match key % 10 {
            0 => Ok(None),
            1 => Err(Failed::Broken),
            2 => Err(Failed::LeftAlone),
            3 => Err(Failed::NoSuchKey),
            4 => panic!("it breaks"),
            5 => std::future::pending().await,
            _ => Ok(Some(*key)),
        }
    }

    fn fault_of(&self, error: &Failed) -> Fault {
        match error {
            Failed::Broken => Fault::Origin,
            Failed::LeftAlone => Fault::Here,
            Failed::NoSuchKey => Fault::Caller,
        }
    }
}

/// The same origin, which has no call for many keys.
struct FailsApart;

impl Origin<u64, u64> for FailsApart {
    type Error = Failed;

    async fn load(&self, key: &u64) -> Result<Option<u64>, Failed> {
        Fails.load(key).await
    }

    fn loads_together(&self) -> bool {
        false
    }
}

fn numbers(cache: &Cache) -> Numbers {
    let keyspace = cache.keyspace("numbers").ttl(HOUR).load_timeout(Duration::from_secs(1));
    keyspace.read_through(Fails).build().expect("valid settings")
}

/// The number of a series.
fn series(cache: &Cache, name: &str) -> u64 {
    let (text, name) = (cache.metrics(), format!("{name} "));
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
}

fn result(cache: &Cache, result: &str) -> u64 {
    series(cache, &format!("terrace_requests_total{{keyspace=\"numbers\",op=\"get\",result=\"{result}\"}}"))
}

fn outcome(cache: &Cache, outcome: &str) -> u64 {
    series(cache, &format!("terrace_origin_requests_total{{keyspace=\"numbers\",outcome=\"{outcome}\"}}"))
}

fn misses(cache: &Cache, strategy: &str) -> u64 {
    series(cache, &format!("terrace_misses_total{{keyspace=\"numbers\",strategy=\"{strategy}\"}}"))
}

fn hits(cache: &Cache, tier: &str, strategy: &str) -> u64 {
    let labels = format!("keyspace=\"numbers\",tier=\"{tier}\",strategy=\"{strategy}\"");
    series(cache, &format!("terrace_hits_total{{{labels}}}"))
}

/// Every way to look a key up, and how many lookups that are.
async fn look_up(numbers: &Numbers, key: u64) -> u64 {
    let keys = [key, key + 10];
    numbers.get(&key).await.ok();
    numbers.get_entry(&key).await.ok();
    numbers.get_entry_with(&key, ReadOptions::new().anew()).await.ok();
    numbers.get_each_entry(&keys).await.truncate(0);
    numbers.get_many(&keys).await.ok();
    7
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_ends_in_an_error_is_a_miss_and_an_error_and_no_other_miss_is() {
    for (key, answered, load) in [
        (1, false, "failed"),
        (2, false, "refused"),
        (3, true, "failed"),
        (4, false, "panicked"),
        (5, false, "failed"),
    ] {
        let cache = Cache::memory().expect("a cache");
        let numbers = numbers(&cache);
        let names = ["miss", "error", "negative", "hit_l1"].map(|name| result(&cache, name));
        assert_eq!(names, [0; 4], "each is there from the start");
        let count = look_up(&numbers, key).await;
        let (answered, unanswered) = if answered { (count, 0) } else { (0, count) };
        assert_eq!((result(&cache, "miss"), result(&cache, "error")), (answered, unanswered), "{key}");
        assert_eq!(misses(&cache, "read-through"), count, "{key}");
        let Figures { requests, misses, lookups_failed, loads, loads_not_asked, .. } = cache.stats().total;
        assert_eq!((requests, misses, lookups_failed), (count, count, unanswered), "{key}");
        let outcomes = ["found", "absent", "failed", "panicked", "refused"];
        for name in outcomes {
            assert_eq!(outcome(&cache, name) > 0, name == load, "{key}: {name}");
        }
        let all: u64 = outcomes.iter().map(|name| outcome(&cache, name)).sum();
        assert_eq!(loads + loads_not_asked, all, "{key}");
        assert_eq!(loads == 0, load == "refused", "{key}: what nobody was asked for is no load");
    }
}

#[tokio::test]
async fn what_is_answered_is_no_error() {
    let cache = Cache::memory().expect("a cache");
    let numbers = numbers(&cache);
    for key in [0, 7, 7] {
        numbers.get(&key).await.expect("an answer");
    }
    assert_eq!((result(&cache, "miss"), result(&cache, "hit_l1"), result(&cache, "error")), (2, 1, 0));
}

#[tokio::test]
async fn an_old_value_in_place_of_a_failed_load_is_no_error() {
    let node = Node::first().await;
    let options = || EntryOptions::new().ttl(Duration::from_mins(1)).grace(HOUR);
    node.texts.get_or_load_with("k", options(), loader("old")).await.expect("it is loaded");
    node.clock.advance(Duration::from_secs(61));
    let failing = || async { Err::<String, _>("no") };
    let stale = node.texts.get_or_load_with("k", options(), failing).await.expect("an old value");
    assert_eq!(*stale, "old");
    node.texts.get_or_load_with("none", options(), failing).await.expect_err("there is no old value");
    let Figures { misses, stale_hits, lookups_failed, .. } = node.cache.stats().total;
    assert_eq!((misses, stale_hits, lookups_failed), (2, 1, 1));
}

#[tokio::test]
async fn a_value_that_cannot_be_proven_fresh_is_an_error_where_the_keyspace_wants_one() {
    let node = Node::first_hearing().await;
    let cache = &node.cache;
    let numbers = cache.keyspace("numbers").suspect(terrace::SuspectPolicy::Error);
    let numbers: Numbers = numbers.build().expect("valid settings");
    numbers.put(&1, 1).await.expect("stored");
    until("a copy that is proven", || numbers.peek(&1).is_some()).await;
    node.remote.set_fault(Some(fake::Fault::Unavailable));
    node.clock.advance(LEASE);
    numbers.get(&1).await.expect_err("nobody can say");
    assert_eq!((result(cache, "error"), result(cache, "miss")), (1, 0));
    assert!(numbers.get_each_entry(&[1]).await[0].is_err());
    assert_eq!((result(cache, "error"), misses(cache, "cache-aside")), (2, 2));
}

#[tokio::test]
async fn a_lookup_that_its_caller_gives_up_is_an_error_and_its_load_goes_on() {
    let cache = Cache::memory().expect("a cache");
    let texts: Keyspace<String, String> = cache.keyspace("numbers").build().expect("valid settings");
    let (mut held, load) = hold::<&str>();
    {
        let mut lookup = pin!(texts.get_or_load("k", load));
        assert!(lookup.as_mut().now_or_never().is_none(), "it waits");
        held.started().await;
        assert_eq!((result(&cache, "error"), cache.stats().total.requests), (0, 0), "it has not ended");
    }
    assert_eq!((result(&cache, "error"), result(&cache, "miss")), (1, 0));
    let follower = spawn({
        let texts = texts.clone();
        async move { texts.get_or_load("k", loader("another")).await.map(|value| (*value).clone()) }
    });
    let_others_run().await;
    held.bring("v");
    assert_eq!(ended(follower).await.expect("it is loaded"), "v");
    let Figures { requests, misses, lookups_failed, loads_found, .. } = cache.stats().total;
    assert_eq!((requests, misses, lookups_failed, loads_found), (2, 2, 1, 1));
}

#[tokio::test]
async fn of_a_batch_that_is_given_up_each_key_is_an_error() {
    let cache = Cache::memory().expect("a cache");
    let numbers = numbers(&cache);
    numbers.put(&8, 8).await.expect("stored");
    assert!(numbers.get_each_entry(&[8, 15, 25]).now_or_never().is_none(), "it waits");
    assert_eq!((result(&cache, "error"), cache.stats().total.requests), (3, 3));
}

#[tokio::test]
async fn of_a_batch_that_gets_no_place_each_load_is_refused_and_none_has_failed() {
    let cache = Cache::memory().expect("a cache");
    let numbers = cache.keyspace("numbers").loads_max(1).loads_wait_max(Duration::from_millis(1));
    let numbers: Numbers = numbers.read_through(Fails).build().expect("valid settings");
    assert!(numbers.get(&5).now_or_never().is_none(), "it has the only place");
    let found = numbers.get_each_entry(&[6, 7, 8]).await;
    assert!(found.iter().all(Result::is_err), "{found:?}");
    numbers.get(&9).await.expect_err("there is no place");
    assert_eq!((outcome(&cache, "refused"), outcome(&cache, "failed")), (4, 0));
    let Figures { loads, loads_refused, loads_not_asked, .. } = cache.stats().total;
    assert_eq!((loads, loads_refused, loads_not_asked), (0, 4, 0));
    assert_eq!(series(&cache, "terrace_loads_refused_total{keyspace=\"numbers\"}"), 4);
    assert_eq!((result(&cache, "error"), result(&cache, "miss")), (5, 0), "the first was given up");
}

#[tokio::test]
async fn each_load_of_one_key_of_a_batch_that_gets_no_place_is_refused_once() {
    let cache = Cache::memory().expect("a cache");
    let numbers = cache.keyspace("numbers").loads_max(1).loads_wait_max(Duration::from_millis(1));
    let numbers: Numbers = numbers.read_through(FailsApart).build().expect("valid settings");
    assert!(numbers.get(&5).now_or_never().is_none(), "it has the only place");
    let found = numbers.get_each_entry(&[6, 7, 8]).await;
    assert!(found.iter().all(Result::is_err), "{found:?}");
    assert_eq!((outcome(&cache, "refused"), outcome(&cache, "failed")), (3, 0));
    let warming = numbers.warm().keys_with([16, 17], |key| async move { Ok::<_, Infallible>(Some(key)) });
    assert_eq!(warming.await.expect("it can be warmed").failed, 2);
    assert_eq!((outcome(&cache, "refused"), outcome(&cache, "failed")), (5, 0));
    let stats = cache.stats();
    let Figures { loads, loads_refused, .. } = stats.total;
    assert_eq!((loads, loads_refused, stats.bulkheads[0].refused), (0, 5, 5));
}

#[tokio::test]
async fn each_strategy_keeps_its_lookups_when_a_keyspace_is_given_another() {
    let node = Node::first().await;
    let cache = &node.cache;
    let builder = || cache.keyspace::<u64, u64>("numbers").ttl(HOUR);
    let origin = || OriginFn::load(async |key: u64| Ok::<_, &str>((key < 90).then_some(key)));
    let aside = builder().build().expect("valid settings");
    assert_eq!(["l1", "l2"].map(|tier| hits(cache, tier, "cache-aside")), [0; 2], "from the start");
    assert_eq!(misses(cache, "cache-aside"), 0);
    aside.get(&1).await.expect("an answer");
    aside.put(&1, 1).await.expect("stored");
    aside.get(&1).await.expect("an answer");
    let shares = |strategy| (hits(cache, "l1", strategy), misses(cache, strategy));
    assert_eq!(shares("cache-aside"), (1, 1));

    let through = builder().read_through(origin()).replace(&aside).expect("it can change");
    assert_eq!((shares("cache-aside"), shares("read-through")), ((1, 1), (0, 0)), "from the change on");
    through.get(&1).await.expect("an answer");
    through.get(&2).await.expect("an answer");
    aside.get(&99).await.expect("an answer");
    assert_eq!((shares("cache-aside"), shares("read-through")), ((1, 1), (1, 2)));

    let again = builder().replace(&through).expect("it can change");
    again.get(&1).await.expect("an answer");
    assert_eq!((shares("cache-aside"), shares("read-through")), ((2, 1), (1, 2)), "it goes on");
    builder().replace(&again).expect("it is the same");
    cache.reset_stats();
    assert_eq!((shares("cache-aside"), shares("read-through")), ((2, 1), (1, 2)), "metrics go on");
    let all: u64 = ["hit_l1", "hit_l2", "miss"].iter().map(|name| result(cache, name)).sum();
    assert_eq!(all, 3 + 3, "no lookup is in two shares, or in none");
}
