//! Old values: when they are returned, who loads a new one, and that what was invalidated is not among them.

use crate::fixture::{Counted, HOUR, HeldLoad, ended, hold, let_others_run, loader, spawn, within};
use std::convert::Infallible;
use std::io::ErrorKind as Io;
use std::time::Duration;
use terrace::{
    Cache, Clock, EntryOptions, ErrorKind, Fetched, KeyspaceError, L1, LoadError, Origin, RefreshAhead,
    StaleReason, Tag, Tier,
};
use terrace_testkit::fake::{FakeRemote, Fault, Operation, Point};

const TTL: Duration = Duration::from_mins(1);
const PAST_TTL: Duration = Duration::from_secs(61);

type Texts = terrace::Keyspace<String, String>;

/// A node of a fleet whose entries are kept for an hour after their TTL.
struct Node {
    cache: Cache,
    texts: Texts,
    remote: Option<FakeRemote>,
    clock: Clock,
}

fn graceful() -> EntryOptions {
    EntryOptions::new().ttl(TTL).grace(HOUR)
}

fn eager() -> EntryOptions {
    graceful().stale_while_revalidate(HOUR)
}

impl Node {
    fn alone(options: EntryOptions) -> Self {
        let clock = Clock::manual();
        Self::of(Cache::builder().clock(clock.clone()).build().expect("valid settings"), None, clock, options)
    }

    fn first(options: EntryOptions) -> Self {
        let clock = Clock::manual();
        Self::on(FakeRemote::new(clock.clone()), clock, options)
    }

    fn another(&self, options: EntryOptions) -> Self {
        Self::on(self.remote.as_ref().expect("it has an L2").another_node(), self.clock.clone(), options)
    }

    fn on(remote: FakeRemote, clock: Clock, options: EntryOptions) -> Self {
        let cache = Cache::builder().clock(clock.clone()).l1(L1::default().ttl(HOUR)).l2(remote.clone());
        Self::of(cache.build().expect("valid settings"), Some(remote), clock, options)
    }

    fn of(cache: Cache, remote: Option<FakeRemote>, clock: Clock, options: EntryOptions) -> Self {
        let texts = cache.keyspace("texts").options(options).build().expect("valid options");
        Self { cache, texts, remote, clock }
    }

    async fn load(&self, value: &str) -> String {
        (*self.texts.get_or_load("k", loader(value)).await.expect("it does not fail")).clone()
    }

    async fn fail(&self) -> Result<String, LoadError<Io>> {
        let failing = async || Err::<String, _>(Io::ConnectionRefused);
        self.texts.get_or_load("k", failing).await.map(|value| (*value).clone())
    }

    /// A reader in a task of its own, with a load that the test holds.
    fn reading(&self) -> (HeldLoad<Infallible>, tokio::task::JoinHandle<String>) {
        let (held, load) = hold();
        let texts = self.texts.clone();
        (held, spawn(async move { (*texts.get_or_load("k", load).await.expect("it does not fail")).clone() }))
    }

    async fn until_fresh(&self, value: &str) {
        within("a new value", async {
            while self.texts.peek("k").is_none_or(|found| *found != value) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

fn both(options: &EntryOptions) -> [Node; 2] {
    [Node::alone(options.clone()), Node::first(options.clone())]
}

#[tokio::test]
async fn an_old_value_is_returned_if_the_origin_fails_and_no_other() {
    for node in both(&graceful()) {
        assert!(node.fail().await.is_err(), "nothing is there to be returned");
        assert_eq!(node.load("old").await, "old");
        node.clock.advance(PAST_TTL);
        assert_eq!(node.fail().await.unwrap(), "old");
        assert_eq!(node.texts.peek("k"), None, "it is no answer by itself");
        node.clock.advance(HOUR);
        assert!(node.fail().await.is_err(), "it is past its grace");
        let stats = node.cache.stats().total;
        assert_eq!((stats.stale_hits, stats.loads_failed), (1, 3));
        assert_eq!(stats.requests, stats.hits + stats.stale_hits + stats.misses);
    }
}

#[tokio::test]
async fn what_was_invalidated_is_never_returned_however_old_values_are_wanted() {
    for node in both(&eager()) {
        for invalidate in 0..4 {
            node.texts.put_with("k", "old".to_owned(), EntryOptions::new().tag("t").unwrap()).await.unwrap();
            node.clock.advance(PAST_TTL);
            match invalidate {
                0 => drop(node.texts.remove("k").await.unwrap()),
                1 => drop(node.texts.invalidate().tag("t").unwrap().send().await.unwrap()),
                2 => drop(node.texts.invalidate().pattern("*").unwrap().send().await.unwrap()),
                _ => drop(node.texts.clear().await.unwrap()),
            }
            assert!(node.fail().await.is_err(), "kind {invalidate}");
        }
    }
}

#[tokio::test]
async fn a_value_that_is_invalidated_during_the_load_that_fails_is_not_returned() {
    for node in both(&graceful()) {
        node.load("old").await;
        node.clock.advance(PAST_TTL);
        let (mut held, load) = hold::<Io>();
        let texts = node.texts.clone();
        let reader = spawn(async move { texts.get_or_load("k", load).await });
        held.started().await;
        node.texts.remove("k").await.unwrap();
        held.end(Err(Io::ConnectionRefused));
        let follower = node.fail().await;
        assert!(follower.is_err());
        assert!(reader.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn an_old_value_is_returned_at_once_while_one_load_runs() {
    for node in both(&eager()) {
        node.load("old").await;
        node.clock.advance(PAST_TTL);
        let (mut held, reader) = node.reading();
        assert_eq!(within("the reader", reader).await.unwrap(), "old");
        held.started().await;
        let counted = Counted::default();
        for _ in 0..100 {
            assert_eq!(*node.texts.get_or_load("k", counted.loader("other")).await.unwrap(), "old");
        }
        assert_eq!(counted.runs(), 0);
        held.bring("new");
        node.until_fresh("new").await;
        assert_eq!(node.cache.stats().total.loads_behind, 1);
    }
}

#[tokio::test]
async fn a_node_that_has_no_copy_returns_the_old_value_of_l2_at_once() {
    let node = Node::first(eager());
    let other = node.another(eager());
    node.load("old").await;
    node.clock.advance(PAST_TTL);
    let (mut held, reader) = other.reading();
    assert_eq!(within("the reader", reader).await.unwrap(), "old");
    held.started().await;
    held.bring("new");
    other.until_fresh("new").await;
}

#[tokio::test]
async fn one_node_of_the_fleet_loads_what_is_old_on_all() {
    let node = Node::first(eager());
    let nodes = [node.another(eager()), node.another(eager()), node.another(eager())];
    node.load("old").await;
    for node in &nodes {
        assert_eq!(node.load("not loaded").await, "old");
    }
    node.clock.advance(PAST_TTL);
    let counted = Counted::default();
    for node in &nodes {
        assert_eq!(*node.texts.get_or_load("k", counted.loader("new")).await.unwrap(), "old");
    }
    for node in &nodes {
        node.until_fresh("new").await;
    }
    assert_eq!(counted.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_load_is_waited_for_until_the_soft_timeout_and_goes_on() {
    for node in both(&graceful().soft_timeout(Duration::from_millis(200))) {
        node.load("old").await;
        node.clock.advance(PAST_TTL);
        let (mut held, reader) = node.reading();
        held.started().await;
        assert_eq!(within("the reader", reader).await.unwrap(), "old");
        held.bring("new");
        node.until_fresh("new").await;
        assert_eq!(node.load("not loaded").await, "new");
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_old_value_a_caller_gives_up_at_the_hard_timeout_and_the_load_goes_on() {
    let hard = Duration::from_millis(300);
    for node in both(&graceful().soft_timeout(hard / 2).hard_timeout(hard)) {
        let (held, load) = hold::<Infallible>();
        let error = node.texts.get_or_load("k", load).await.unwrap_err();
        let Some(ErrorKind::LoadTimedOut { after }) = error.cache() else { panic!("{error}") };
        assert_eq!(*after, hard);
        held.bring("late");
        node.until_fresh("late").await;
    }
}

#[tokio::test]
async fn after_a_failure_no_load_is_begun_for_a_while() {
    for node in both(&graceful().failure_pause(Duration::from_secs(10))) {
        node.load("old").await;
        node.clock.advance(PAST_TTL);
        assert_eq!(node.fail().await.unwrap(), "old");
        let counted = Counted::default();
        for _ in 0..10 {
            assert_eq!(*node.texts.get_or_load("k", counted.loader("new")).await.unwrap(), "old");
        }
        assert_eq!(counted.runs(), 0);
        node.clock.advance(Duration::from_secs(11));
        assert_eq!(*node.texts.get_or_load("k", counted.loader("new")).await.unwrap(), "new");
        assert_eq!(node.fail().await.unwrap(), "new", "it is fresh");
    }
}

#[tokio::test]
async fn a_load_that_fails_makes_no_copy_last_longer_than_its_time_in_l1() {
    let clock = Clock::manual();
    let remote = FakeRemote::new(clock.clone());
    let cache = Cache::builder().clock(clock.clone()).l1(L1::default().ttl(TTL / 6)).l2(remote.clone());
    let node = Node::of(cache.build().unwrap(), Some(remote.clone()), clock, graceful());
    node.load("old").await;
    node.clock.advance(TTL / 3);
    remote.set_fault(Some(Fault::Unavailable));
    assert_eq!(node.fail().await.unwrap(), "old");
    assert_eq!(node.texts.peek("k"), None, "its entry is fresh, and it has been here for too long to count");
}

#[tokio::test]
async fn a_copy_says_that_it_is_stale_and_why() {
    struct Broken;
    impl Origin<String, String> for Broken {
        type Error = Io;
        async fn load(&self, _: &String) -> Result<Option<String>, Io> {
            Err(Io::ConnectionRefused)
        }
    }
    let node = Node::first(graceful());
    node.load("old").await;
    let entry = node.texts.get_entry("k").await.unwrap().unwrap();
    assert_eq!((entry.stale, entry.is_stale, entry.tier), (None, false, Tier::L1));
    node.clock.advance(PAST_TTL);
    assert!(node.texts.get_entry("k").await.unwrap().is_none(), "nobody loads it");
    let texts = node.texts.clone().with_origin(Broken);
    let entry = texts.get_entry("k").await.unwrap().unwrap();
    assert_eq!((entry.stale, entry.is_stale), (Some(StaleReason::LoadFailed), true));
    assert!(entry.ttl.is_zero());
}

#[tokio::test]
async fn who_does_not_load_is_given_no_old_value_by_any_way_to_read() {
    for node in both(&graceful()) {
        node.load("old").await;
        node.clock.advance(PAST_TTL);
        assert_eq!(node.texts.get("k").await.unwrap(), None);
        assert!(node.texts.get_entry("k").await.unwrap().is_none());
        assert!(!node.texts.contains("k").await.unwrap());
        assert_eq!(node.texts.get_many(&["k".to_owned()]).await.unwrap(), [None]);
        assert_eq!((node.texts.peek("k"), node.texts.peek_ttl("k")), (None, None));
        assert!(node.texts.hit_entry("k").is_none());
    }
}

#[tokio::test]
async fn an_aging_value_is_loaded_ahead_by_one_node_and_nobody_waits() {
    let ahead = EntryOptions::new().ttl(TTL).refresh_ahead(RefreshAhead::After(0.5));
    let node = Node::first(ahead.clone());
    let other = node.another(ahead);
    node.load("old").await;
    assert_eq!(other.load("not loaded").await, "old");
    node.clock.advance(TTL / 4);
    let counted = Counted::default();
    assert_eq!(*node.texts.get_or_load("k", counted.loader("new")).await.unwrap(), "old");
    let_others_run().await;
    assert_eq!(counted.runs(), 0, "it is not due");
    assert!(node.texts.hit_entry("k").is_some());
    node.clock.advance(TTL / 2);
    assert!(node.texts.hit_entry("k").is_none(), "something is to be done about it");
    for node in [&node, &other] {
        for _ in 0..10 {
            assert_eq!(*node.texts.get_or_load("k", counted.loader("new")).await.unwrap(), "old");
        }
    }
    node.until_fresh("new").await;
    other.until_fresh("new").await;
    assert_eq!(counted.runs(), 1);
    assert_eq!(node.cache.stats().total.stale_hits, 0);
}

#[tokio::test]
async fn a_load_ahead_that_fails_leaves_the_value_and_pauses() {
    for node in both(&EntryOptions::new().ttl(TTL).refresh_ahead(RefreshAhead::After(0.5))) {
        node.load("old").await;
        node.clock.advance(TTL * 3 / 4);
        for _ in 0..10 {
            assert_eq!(node.fail().await.unwrap(), "old");
            let_others_run().await;
        }
        assert_eq!(node.cache.stats().total.loads_failed, 1);
    }
}

/// An origin that has nothing, and counts how often it is asked.
#[derive(Clone, Default)]
struct Empty(Counted);

impl Origin<String, String> for Empty {
    type Error = Infallible;

    async fn load(&self, _: &String) -> Result<Option<String>, Infallible> {
        self.0.loader("")().await.map(|_| None)
    }
}

#[tokio::test]
async fn that_there_is_no_value_is_remembered_by_the_fleet_until_one_is_stored() {
    let options = EntryOptions::new().ttl(TTL).negative_ttl(Duration::from_secs(10));
    let (node, origin) = (Node::first(options.clone()), Empty::default());
    let texts = node.texts.clone().with_origin(origin.clone());
    let other = node.another(options).texts.with_origin(origin.clone());
    for _ in 0..3 {
        assert_eq!(texts.get("k").await.unwrap(), None);
        assert_eq!(other.get("k").await.unwrap(), None);
        assert!(!texts.contains("k").await.unwrap());
        assert_eq!(texts.peek("k"), None);
        assert!(texts.hit_entry("k").is_none());
        assert_eq!(texts.get_many(&["k".to_owned()]).await.unwrap(), [None]);
    }
    assert_eq!(origin.0.runs(), 1);
    assert_eq!(node.cache.stats().total.negative_hits, 5);
    assert_eq!(*texts.get_or_load("k", loader("loaded")).await.unwrap(), "loaded", "a loader brings a value");
    texts.remove("k").await.unwrap();
    assert_eq!(texts.get("k").await.unwrap(), None);
    texts.put("k", "stored".to_owned()).await.unwrap();
    assert_eq!(texts.get("k").await.unwrap().as_deref().map(String::as_str), Some("stored"));
    assert_eq!(origin.0.runs(), 2);
    texts.remove("k").await.unwrap();
    texts.get("k").await.unwrap();
    node.clock.advance(Duration::from_secs(11));
    texts.get("k").await.unwrap();
    assert_eq!(origin.0.runs(), 4);
}

#[tokio::test]
async fn what_the_origin_has_no_more_is_not_returned_as_old() {
    for node in both(&graceful()) {
        node.load("old").await;
        node.clock.advance(PAST_TTL);
        let texts = node.texts.clone().with_origin(Empty::default());
        assert_eq!(texts.get("k").await.unwrap(), None);
        node.clock.advance(Duration::from_secs(1));
        assert!(node.fail().await.is_err());
        if let Some(remote) = &node.remote {
            assert!(remote.calls(Operation::Fill) >= 2);
        }
    }
}

#[tokio::test]
async fn options_of_a_call_override_those_of_its_keyspace() {
    let node = Node::alone(EntryOptions::new().ttl(HOUR));
    let short = graceful();
    node.texts.put_with("k", "old".to_owned(), short).await.unwrap();
    node.clock.advance(PAST_TTL);
    assert_eq!(node.texts.peek("k"), None);
    assert_eq!(node.fail().await.unwrap(), "old", "the entry has a grace, whatever this call says");
    let contradiction = EntryOptions::new().soft_timeout(TTL);
    let refused = node.texts.get_or_load_with("other", contradiction.clone(), loader("v")).await.unwrap_err();
    assert!(matches!(refused.cache(), Some(ErrorKind::Options(error)) if error.setting == "soft_timeout"));
    let refused = node.cache.keyspace::<u8, u8>("other").options(contradiction).build().unwrap_err();
    assert!(matches!(refused, KeyspaceError::Setting(error) if error.setting == "soft_timeout"));
}

#[tokio::test]
async fn a_loader_is_given_the_old_value_and_may_say_that_it_still_holds() {
    for node in both(&graceful()) {
        let fetch = |answer: Fetched<String>, expected: Option<&'static str>| {
            node.texts.fetch("k", EntryOptions::new(), move |old| async move {
                assert_eq!(old.as_deref().map(String::as_str), expected);
                Ok::<_, Io>(answer)
            })
        };
        let nothing = fetch(Fetched::same(), None).await.unwrap_err();
        assert!(matches!(nothing, LoadError::Foreign(_)), "{nothing}");
        let tag = Tag::new("t").unwrap();
        let first = Fetched::value("first".to_owned()).tags([tag.clone()]).ttl(TTL / 2);
        let entry = fetch(first, None).await.unwrap().unwrap();
        assert_eq!(
            (entry.value.as_str(), entry.tags, entry.tier),
            ("first", vec![tag.clone()], Tier::Origin)
        );
        assert!(entry.ttl.duration().unwrap() <= TTL / 2);
        node.clock.advance(TTL);
        let entry = fetch(Fetched::same(), Some("first")).await.unwrap().unwrap();
        assert_eq!((entry.value.as_str(), entry.tags, entry.stale), ("first", vec![tag], None));
        node.texts.invalidate().tag("t").unwrap().send().await.unwrap();
        assert!(fetch(Fetched::absent(), None).await.unwrap().is_none(), "it kept its tags");
    }
}

#[tokio::test]
async fn without_l1_what_was_invalidated_is_not_the_stale_answer_of_who_came_later() {
    let clock = Clock::manual();
    let remote = FakeRemote::new(clock.clone());
    let cache = Cache::builder().clock(clock.clone()).no_l1().l2(remote.clone()).build().unwrap();
    let node = Node::of(cache, Some(remote.clone()), clock, graceful());
    assert_eq!(node.load("old").await, "old");
    node.clock.advance(PAST_TTL);
    let answer = remote.hold(Operation::Get, Point::AfterEffect);
    let (mut held, load) = hold::<Io>();
    let texts = node.texts.clone();
    let first = spawn(async move { texts.get_or_load("k", load).await.map(|value| (*value).clone()) });
    answer.wait_until_held(1).await;
    node.texts.remove("k").await.unwrap();
    answer.open();
    held.started().await;
    let texts = node.texts.clone();
    let later = spawn(async move {
        let failing = async || Err::<String, _>(Io::ConnectionRefused);
        texts.get_or_load("k", failing).await.map(|value| (*value).clone())
    });
    let_others_run().await;
    held.end(Err(Io::ConnectionRefused));
    drop(ended(first).await);
    let later = ended(later).await;
    assert!(later.is_err(), "it was removed before this read began: {later:?}");
}
