//! Both tiers: their order, how long a copy lives, and who may load in the whole fleet.

use crate::fixture::{Counted, HOUR, L1_TTL, Node, ended, loader, spawn, within};
use std::time::Duration;
use terrace::{Effect, EntryOptions, Tier, Ttl};
use terrace_testkit::fake::{Operation, Point};
use terrace_testkit::wait::until;

fn before(end: Duration, by: Duration) -> Duration {
    end.checked_sub(by).expect("it is shorter")
}

#[tokio::test]
async fn the_nearest_tier_answers() {
    let node = Node::first().await;
    let other = node.another().await;
    assert_eq!(node.load("k", "v").await, "v");
    let mut tiers = Vec::new();
    for node in [&node, &other, &other] {
        tiers.push(node.source("k").await.unwrap().0);
    }
    assert_eq!(tiers, [Tier::L1, Tier::L2, Tier::L1]);
    let versions = [node.entry("k").await.unwrap().version, other.entry("k").await.unwrap().version];
    assert_eq!(versions[0], versions[1], "copies of one entry have its version");
    assert_eq!(node.get("none").await, None);
}

#[tokio::test]
async fn a_copy_is_read_again_from_l2_after_its_l1_ttl() {
    let node = Node::first().await;
    node.put("k", "v").await;
    node.clock.advance(before(L1_TTL, Duration::from_secs(1)));
    assert_eq!(node.source("k").await.unwrap().0, Tier::L1);
    node.clock.advance(Duration::from_secs(1));
    assert_eq!(node.source("k").await.unwrap().0, Tier::L2);
    let entry = node.entry("k").await.unwrap();
    assert_eq!(
        (entry.tier, entry.ttl),
        (Tier::L1, Ttl::After(before(HOUR, L1_TTL))),
        "the entry's TTL, not the copy's"
    );
    assert_eq!(entry.age, L1_TTL);
}

#[tokio::test]
async fn a_copy_never_outlives_the_entry_however_it_came() {
    let ttl = Duration::from_secs(10);
    let options = || EntryOptions::default().ttl(ttl);
    let writer = Node::first().await;
    let readers = [writer.another().await, writer.another().await];
    let batch = ["put", "loaded"].map(str::to_owned);
    writer.texts.put_with("put", "v".to_owned(), options()).await.unwrap();
    writer.texts.get_or_load_with("loaded", options(), loader("v")).await.unwrap();
    writer.clock.advance(ttl * 9 / 10);
    for key in &batch {
        assert_eq!(readers[0].source(key).await.unwrap().0, Tier::L2);
    }
    assert!(readers[1].texts.get_many(&batch).await.unwrap().iter().all(Option::is_some));
    for node in readers.iter().chain([&writer]) {
        for key in &batch {
            let entry = node.entry(key).await.unwrap();
            assert_eq!((entry.tier, entry.ttl), (Tier::L1, Ttl::After(ttl / 10)), "{key}");
        }
    }
    writer.clock.advance(ttl / 10);
    for node in readers.iter().chain([&writer]) {
        for key in &batch {
            assert_eq!(node.get(key).await, None, "{key}");
            assert_eq!(node.texts.peek(key.as_str()), None, "{key}");
        }
    }
}

#[tokio::test]
async fn the_time_an_answer_takes_counts_against_the_copy() {
    let node = Node::first().await;
    let other = node.another().await;
    let options = EntryOptions::default().ttl(Duration::from_secs(10));
    other.texts.put_with("k", "v".to_owned(), options).await.unwrap();
    let gate = node.remote.hold(Operation::Get, Point::AfterEffect);
    let getting = node.getting("k");
    gate.wait_until_held(1).await;
    node.clock.advance(Duration::from_secs(8));
    gate.open();
    assert_eq!(ended(getting).await.as_deref(), Some("v"));
    assert_eq!(node.entry("k").await.unwrap().ttl, Ttl::After(Duration::from_secs(2)));
}

#[tokio::test]
async fn the_copy_of_a_write_ends_no_later_than_the_entry_in_l2() {
    let node = Node::first().await;
    let other = node.another_without_l1().await;
    let gate = node.remote.hold(Operation::Set, Point::BeforeEffect);
    let putting = node.putting("k", "v");
    gate.wait_until_held(1).await;
    node.clock.advance(Duration::from_secs(10));
    gate.open();
    assert_eq!(ended(putting).await.unwrap().effect, Effect::Applied);
    let (here, there) = (node.entry("k").await.unwrap(), other.entry("k").await.unwrap());
    assert_eq!((here.tier, here.ttl), (Tier::L1, Ttl::After(before(HOUR, Duration::from_secs(10)))));
    assert_eq!(there.ttl, Ttl::After(HOUR));
}

#[tokio::test(start_paused = true)]
async fn the_fleet_loads_once() {
    let first = Node::first().await;
    let nodes = [&first, &first.another().await];
    let (mut held, leader) = nodes[0].loading("k");
    held.started().await;
    let counted = Counted::default();
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let (texts, load) = (nodes[1].texts.clone(), counted.loader("never loaded"));
            spawn(async move { (*texts.get_or_load("k", load).await.unwrap()).clone() })
        })
        .collect();
    while nodes[1].calls(Operation::Lease) < 3 {
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    held.bring("v");
    assert_eq!(*leader.await.unwrap().unwrap(), "v");
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), "v");
    }
    assert_eq!(counted.runs(), 0);
    assert_eq!(nodes[1].source("k").await.unwrap().0, Tier::L1, "what was waited for is kept");
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_another_node_is_bounded_and_its_lease_respected() {
    let node = Node::first().await;
    let other = node.another().await;
    let (mut held, leader) = node.loading("k");
    held.started().await;
    let started = node.cache.stats().seconds;
    let loaded = tokio::time::timeout(Duration::from_secs(12), other.load("k", "own")).await;
    assert_eq!(loaded.expect("the wait ends after ten seconds"), "own");
    assert!(other.calls(Operation::Lease) < 220, "{} calls", other.calls(Operation::Lease));
    assert_eq!((started, other.calls(Operation::Fill)), (0.0, 0), "a manual clock stands still");
    assert_eq!(other.texts.peek("k"), None, "without the lease there is no right to keep it");
    held.bring("leased");
    assert_eq!(*leader.await.unwrap().unwrap(), "leased");
    assert_eq!(other.get("k").await.as_deref(), Some("leased"));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_brings_nothing_gives_its_lease_back() {
    let node = Node::first().await;
    let other = node.another().await;
    let short = EntryOptions::default().ttl(Duration::ZERO);
    node.texts.get_or_load_with("k", short, loader("not to be kept")).await.unwrap();
    let failed = node.texts.get_or_load("k", || async { Err::<String, _>("no") }).await;
    assert!(failed.is_err());
    assert_eq!(other.load("k", "v").await, "v");
    assert_eq!(other.calls(Operation::Lease), 1, "nobody else has it");
    assert_eq!(other.calls(Operation::Fill), 1);
}

#[tokio::test]
async fn whoever_waits_hears_that_the_load_has_ended() {
    for brings in [true, false] {
        let node = Node::first_hearing().await;
        let other = node.another_hearing().await;
        let (mut held, load) = crate::fixture::hold::<&str>();
        let texts = node.texts.clone();
        let leader = spawn(async move { texts.get_or_load("k", load).await });
        held.started().await;
        let waiting = other.loading_at_once("k", "own");
        until("the other node asks", || other.calls(Operation::Lease) == 1).await;
        let beats = other.calls(Operation::Beat);
        until("time passes", || other.calls(Operation::Beat) > beats + 10).await;
        assert!(other.calls(Operation::Lease) <= 3, "{} calls", other.calls(Operation::Lease));
        let asked = other.calls(Operation::Lease);
        held.end(if brings { Ok("v".to_owned()) } else { Err("no") });
        assert_eq!(ended(leader).await.is_ok(), brings);
        assert_eq!(ended(waiting).await, if brings { "v" } else { "own" });
        assert_eq!(other.calls(Operation::Lease), asked + 1, "it was woken, once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_lasts_as_long_as_its_load() {
    let node = Node::first().await;
    let other = node.another().await;
    let (mut held, leader) = node.loading("k");
    held.started().await;
    for renewals in 1..=4 {
        while node.calls(Operation::Renew) < renewals {
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        node.clock.advance(Duration::from_millis(2900));
    }
    held.bring("v");
    assert_eq!(*leader.await.unwrap().unwrap(), "v");
    assert_eq!(other.get("k").await.as_deref(), Some("v"), "it was filled");
}

#[tokio::test]
async fn a_lease_that_is_lost_is_not_renewed() {
    let node = Node::first().await;
    let other = node.another().await;
    let (mut held, leader) = node.loading("k");
    held.started().await;
    other.put("k", "new").await;
    until("the lease is found lost", || node.calls(Operation::Renew) == 1).await;
    held.bring("late");
    assert_eq!(*ended(leader).await.unwrap(), "late", "its call began before");
    assert_eq!((node.get("k").await.as_deref(), node.calls(Operation::Renew)), (Some("new"), 1));
}

#[tokio::test]
async fn a_lease_does_not_outlive_a_node_for_long() {
    let node = Node::first().await;
    let eternal =
        node.cache.keyspace::<String, String>("eternal").load_timeout(Duration::MAX).build().unwrap();
    let (mut held, load) = crate::fixture::hold::<std::convert::Infallible>();
    let leading = eternal.clone();
    let leader = spawn(async move { leading.get_or_load("k", load).await });
    held.started().await;
    node.clock.advance(Duration::from_mins(5));
    let other = node.another().await;
    let there = other.cache.keyspace::<String, String>("eternal").build().unwrap();
    assert_eq!(*within("the load", there.get_or_load("k", loader("v"))).await.unwrap(), "v");
    assert_eq!((other.calls(Operation::Lease), other.calls(Operation::Fill)), (1, 1));
    held.bring("late");
    assert_eq!(*ended(leader).await.unwrap(), "late");
    assert_eq!(eternal.get("k").await.unwrap().as_deref().map(String::as_str), Some("v"));
}

#[tokio::test]
async fn writes_at_the_same_time_leave_the_newest() {
    for is_reversed in [false, true] {
        let node = Node::first().await;
        let mut puts = Vec::new();
        for value in ["v1", "v2"] {
            let gate = node.remote.hold(Operation::Set, Point::AfterEffect);
            let putting = node.putting("k", value);
            gate.wait_until_held(1).await;
            puts.push((gate, putting));
        }
        if is_reversed {
            puts.reverse();
        }
        for (gate, putting) in puts {
            gate.open();
            ended(putting).await.unwrap();
        }
        assert_eq!(node.get("k").await.as_deref(), Some("v2"), "{is_reversed}");
    }
}

#[tokio::test]
async fn one_keyspace_may_do_without_l1() {
    let node = Node::first().await;
    let plain = node.cache.keyspace::<String, String>("plain").no_l1().build().unwrap();
    plain.put("k", "v".to_owned()).await.unwrap();
    assert_eq!(plain.peek("k"), None);
    assert_eq!(plain.get_entry("k").await.unwrap().unwrap().tier, Tier::L2);
    assert_eq!(*plain.get_or_load("l", loader("w")).await.unwrap(), "w");
    assert_eq!(plain.peek("l"), None);
    assert_eq!(node.cache.stats().keyspaces["plain"].entries, 0);
}
