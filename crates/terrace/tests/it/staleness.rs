//! That values are stale is measured, and a cache that returns too many of them says so.

use crate::fixture::{HOUR, LEASE, Node as Hearing, let_others_run, loader};
use std::io::ErrorKind as Io;
use std::time::Duration;
use terrace::{
    Cache, Clock, EntryOptions, Fetched, KeyspaceError, Staleness, StalenessBudget, SuspectPolicy, Ttl,
};
use terrace_testkit::fake::{FakeRemote, Fault};

const TTL: Duration = Duration::from_mins(1);

type Texts = terrace::Keyspace<String, String>;

struct Node {
    cache: Cache,
    texts: Texts,
    clock: Clock,
}

fn graceful() -> EntryOptions {
    EntryOptions::new().ttl(TTL).grace(HOUR).failure_pause(Duration::ZERO)
}

/// A node in memory, and one with an L2.
fn both(options: &EntryOptions, budget: StalenessBudget) -> [Node; 2] {
    let clock = Clock::manual();
    let builder = || Cache::builder().clock(clock.clone()).staleness_budget(budget);
    let open = |cache: Cache| {
        let texts = cache.keyspace("texts").options(options.clone()).build().expect("valid options");
        Node { cache, texts, clock: clock.clone() }
    };
    let remote = FakeRemote::new(clock.clone());
    [open(builder().build().expect("valid")), open(builder().l2(remote).build().expect("valid"))]
}

impl Node {
    async fn load(&self) {
        self.texts.get_or_load("k", loader("v")).await.expect("valid");
    }

    async fn fail(&self, times: u64) {
        for _ in 0..times {
            let failing = async || Err::<String, _>(Io::ConnectionRefused);
            self.texts.get_or_load("k", failing).await.expect("the old value");
        }
    }

    fn staleness(&self) -> Staleness {
        self.cache.staleness().remove(0)
    }

    /// Whether health says that the share is over the budget, and that the age is.
    async fn over(&self) -> (bool, bool) {
        let health = self.cache.health().await;
        assert_eq!(health.is_whole(), health.over_budget.is_empty());
        let over = health.over_budget.first();
        over.map_or((false, false), |over| (over.is_share_over, over.is_age_over))
    }

    fn metric(&self, series: &str) -> f64 {
        let text = self.cache.metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).trim().parse().expect("a number")
    }
}

#[tokio::test]
async fn how_old_each_stale_answer_was_is_told_by_reason() {
    for node in both(&graceful().stale_while_revalidate(TTL), StalenessBudget::new()) {
        node.load().await;
        node.clock.advance(TTL + Duration::from_secs(10));
        node.fail(1).await;
        let_others_run().await;
        node.clock.advance(TTL * 2);
        node.fail(2).await;
        let labels = |reason| format!("{{keyspace=\"texts\",reason=\"{reason}\"}}");
        for (reason, count, seconds) in
            [("revalidating", 1.0, 10.0), ("load_failed", 2.0, 260.0), ("load_slow", 0.0, 0.0)]
        {
            let of = |part: &str| node.metric(&format!("terrace_stale_age_seconds_{part}{}", labels(reason)));
            assert!((of("count") - count).abs() < 1e-9, "{reason}");
            assert!((of("sum") - seconds).abs() < 1e-3, "{reason}: {}", of("sum"));
        }
        let bucket =
            "terrace_stale_age_seconds_bucket{le=\"104.8576\",keyspace=\"texts\",reason=\"load_failed\"}";
        assert!(node.metric(bucket).abs() < 1e-9, "130 s are more than 105 s");
        let longer = bucket.replace("104.8576", "209.7152");
        assert!((node.metric(&longer) - 2.0).abs() < 1e-9);
    }
}

#[tokio::test]
async fn a_value_that_is_only_not_proven_fresh_is_stale_and_not_old() {
    let node = Hearing::first_hearing().await;
    let texts: Texts = node.cache.keyspace("suspects").suspect(SuspectPolicy::Stale).build().unwrap();
    texts.put("k", "v".to_owned()).await.unwrap();
    node.remote.set_fault(Some(Fault::Unavailable));
    node.clock.advance(LEASE * 10);
    assert!(texts.get_entry("k").await.unwrap().expect("it is there").is_stale);
    let staleness = node.cache.staleness().remove(0);
    assert_eq!((staleness.stale, staleness.oldest), (1, Duration::ZERO));
}

#[tokio::test]
async fn too_large_a_share_of_stale_answers_is_told_until_a_minute_after() {
    for node in both(&graceful(), StalenessBudget::new().share_max(0.4)) {
        node.load().await;
        node.clock.advance(TTL + Duration::from_secs(1));
        node.fail(19).await;
        assert_eq!(node.over().await, (false, false), "so few lookups say nothing");
        node.fail(1).await;
        assert_eq!(node.over().await, (true, false));
        let staleness = node.staleness();
        assert_eq!((staleness.lookups, staleness.stale, staleness.is_over()), (20, 20, true));
        assert!((node.metric("terrace_stale_over_budget{keyspace=\"texts\"}") - 1.0).abs() < 1e-9);
        node.load().await;
        for _ in 0..40 {
            node.load().await;
        }
        assert_eq!(node.over().await, (false, false), "20 of 61 are less");
        assert!((node.staleness().share() - 20.0 / 61.0).abs() < 1e-9);
        node.clock.advance(TTL + Duration::from_secs(1));
        assert_eq!(
            (node.staleness().stale, node.staleness().lookups),
            (0, 0),
            "that was more than a minute ago"
        );
    }
}

#[tokio::test]
async fn what_was_before_the_minute_does_not_dilute_it() {
    for node in both(&graceful(), StalenessBudget::new().share_max(0.5)) {
        for _ in 0..10_000 {
            node.load().await;
        }
        node.clock.advance(HOUR / 2);
        node.fail(30).await;
        assert_eq!(node.over().await, (true, false));
        assert_eq!(node.staleness().lookups, 30);
        for second in 0..50 {
            node.clock.advance(Duration::from_secs(1));
            node.fail(1).await;
            assert_eq!(node.over().await, (true, false), "second {second}");
        }
        assert_eq!(node.staleness().lookups, 80);
    }
}

#[tokio::test]
async fn too_old_an_answer_is_told_until_a_minute_after() {
    for node in both(&graceful(), StalenessBudget::new().age_max(Duration::from_secs(100))) {
        node.load().await;
        node.clock.advance(TTL + Duration::from_secs(100));
        node.fail(1).await;
        assert_eq!((node.over().await, node.staleness().oldest), ((false, false), Duration::from_secs(100)));
        node.clock.advance(Duration::from_millis(50));
        node.fail(1).await;
        assert_eq!(node.over().await, (false, true), "one is enough");
        node.load().await;
        for _ in 0..13 {
            assert_eq!(node.over().await, (false, true));
            node.clock.advance(Duration::from_secs(5));
        }
        assert_eq!((node.over().await, node.staleness().oldest), ((false, false), Duration::ZERO));
    }
}

#[tokio::test]
async fn an_old_answer_before_a_long_silence_is_none_of_the_last_minute() {
    for node in both(&graceful(), StalenessBudget::new().age_max(Duration::from_secs(1))) {
        node.load().await;
        node.clock.advance(TTL * 2);
        node.fail(2).await;
        node.clock.advance(TTL * 3);
        assert_eq!((node.over().await, node.staleness().oldest), ((false, false), Duration::ZERO));
    }
}

#[tokio::test]
async fn a_refresh_that_fails_in_the_background_shows() {
    for node in both(&graceful().stale_while_revalidate(HOUR), StalenessBudget::new()) {
        node.load().await;
        assert!((node.staleness().background_success() - 1.0).abs() < 1e-9);
        node.clock.advance(TTL + Duration::from_secs(1));
        for _ in 0..3 {
            node.fail(1).await;
            let_others_run().await;
            node.clock.advance(Duration::from_secs(1));
        }
        let absent = async |_| Ok::<_, Io>(Fetched::value("new".to_owned()));
        node.texts.fetch("k", graceful(), absent).await.unwrap();
        let_others_run().await;
        let staleness = node.staleness();
        assert_eq!((staleness.background_loads, staleness.background_failed), (4, 3));
        assert!((node.metric("terrace_background_success_ratio{keyspace=\"texts\"}") - 0.25).abs() < 1e-9);
        let total = node.cache.stats().total;
        assert_eq!((total.loads_background, total.loads_background_failed), (4, 3));
        assert_ne!(node.texts.peek_ttl("k"), Some(Ttl::After(Duration::ZERO)));
    }
}

#[tokio::test]
async fn a_keyspace_may_have_a_budget_of_its_own() {
    let clock = Clock::manual();
    let strict = StalenessBudget::new().age_max(Duration::ZERO);
    let cache = Cache::builder().clock(clock.clone()).staleness_budget(strict).build().unwrap();
    let loose = cache.keyspace("loose").options(graceful()).staleness_budget(StalenessBudget::new());
    let both: [Texts; 2] =
        [loose.build().unwrap(), cache.keyspace("strict").options(graceful()).build().unwrap()];
    for texts in &both {
        texts.get_or_load("k", loader("v")).await.unwrap();
    }
    clock.advance(TTL * 2);
    for texts in &both {
        let failing = async || Err::<String, _>(Io::ConnectionRefused);
        texts.get_or_load("k", failing).await.unwrap();
    }
    let over = cache.health().await.over_budget;
    assert_eq!(over.iter().map(|over| over.keyspace.as_str()).collect::<Vec<_>>(), ["strict"]);
}

#[tokio::test]
async fn budgets_that_cannot_be_are_refused() {
    for share in [1.0, -0.1, f64::NAN] {
        let budget = StalenessBudget::new().share_max(share);
        let refused = Cache::builder().staleness_budget(budget).build().unwrap_err();
        assert_eq!(refused.setting, "staleness_budget.share_max");
        let refused = Cache::memory().unwrap().keyspace::<u8, u8>("a").staleness_budget(budget).build();
        assert!(matches!(refused, Err(KeyspaceError::Setting(_))));
    }
}

#[tokio::test]
async fn how_old_a_value_is_does_not_depend_on_the_node_that_reads_it() {
    let clock = Clock::manual();
    let remote = FakeRemote::new(clock.clone());
    let options = graceful().stale_while_revalidate(TTL);
    let open = |remote: FakeRemote| {
        let cache = Cache::builder().clock(clock.clone()).l2(remote).build().unwrap();
        let texts: Texts = cache.keyspace("texts").options(options.clone()).build().unwrap();
        Node { cache, texts, clock: clock.clone() }
    };
    let (node, elsewhere) = (open(remote.clone()), open(remote.another_node()));
    node.load().await;
    clock.advance(TTL * 3);
    elsewhere.fail(1).await;
    assert_eq!(elsewhere.staleness().oldest, TTL * 2, "it has no copy of its own");
    assert_eq!(elsewhere.cache.stats().total.loads_behind, 0, "it is too old to be returned at once");
}
