//! Writes of one key through the origin, one after the other and between those of others, where messages are late: what this node
//! wrote last stays in the tiers, and what somebody else may have come between does not.
//!
//! What is told the first node is held back until the test lets it arrive, in its order. Time passes only where nobody has
//! anything to do.

use crate::fixture::{LEASE, Node, ended, let_others_run, spawn};
use crate::strategies::{Texts, held, opened};
use crate::table::{Mood, Table};
use std::time::Duration;
use terrace::{EntryOptions, Namespace};
use terrace_testkit::fake::{Operation, Point};
use terrace_testkit::wait::{pause, until};

/// Two nodes that hear of each other, over one table.
pub(crate) struct Pair {
    pub(crate) first: Node,
    pub(crate) mine: Texts,
    pub(crate) second: Node,
    pub(crate) theirs: Texts,
    pub(crate) table: Table,
}

impl Pair {
    pub(crate) async fn new() -> Self {
        let first = Node::first_hearing().await;
        let (second, table) = (first.another_hearing().await, Table::default());
        let [mine, theirs] =
            [&first, &second].map(|node| opened(&node.cache, |builder| builder.write_through(table.clone())));
        for texts in [&mine, &theirs] {
            held(texts, "k").await;
        }
        let_others_run().await;
        Self { first, mine, second, theirs, table }
    }

    async fn put(&self, value: &str) {
        self.mine.put("k", value.to_owned()).await.expect("it is stored");
    }

    /// Begins a put that the origin holds up.
    async fn put_held(
        &self,
        value: &str,
    ) -> tokio::task::JoinHandle<Result<terrace::Written, terrace::Error>> {
        self.table.hold();
        let (texts, value) = (self.mine.clone(), value.to_owned());
        let writing = spawn(async move { texts.put("k", value).await });
        self.table.wait_until_held(1).await;
        writing
    }

    /// The other node changes the row, and drops the key.
    async fn they_change(&self, value: &str) {
        let (table, value) = (self.table.clone(), value.to_owned());
        let store = async move {
            table.set("k", &value);
            Ok::<_, &str>(())
        };
        self.theirs.put_around("k", store).await.expect("it is stored");
    }

    async fn all_arrive(&self) {
        self.first.remote.let_arrive();
        let_others_run().await;
    }

    fn is_in_l2(&self) -> bool {
        let namespace = Namespace::new("rows").expect("valid");
        self.first.remote.keys(&namespace).contains(&crate::fixture::key("k"))
    }

    fn contested(&self) -> bool {
        !self.first.cache.metrics().contains(r#"reason="contested"} 0"#)
    }

    /// Every tier has this value, now and when all watches have ended.
    async fn is_warm(&self, value: &str, why: &str) {
        let loads = self.table.loads();
        for _ in 0..2 {
            assert_eq!(self.mine.peek("k").as_deref().map(String::as_str), Some(value), "{why}");
            assert!(self.is_in_l2(), "{why}");
            let entry = self.theirs.get_entry("k").await.expect("valid").expect("the origin has it");
            assert_eq!((entry.value.as_str(), self.table.loads()), (value, loads), "{why}");
            pause(LEASE * 4).await;
        }
        assert!(!self.contested(), "{why}");
    }

    /// Nobody has anything but what the origin has, once all was heard.
    async fn is_right(&self, why: &str) {
        let row = self.table.row("k");
        let asked = self.table.loads();
        for texts in [&self.mine, &self.theirs] {
            assert_eq!(texts.get("k").await.expect("valid").as_deref(), row.as_ref(), "{why}");
        }
        assert!(self.table.loads() > asked, "{why}: the origin is asked");
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_node_writes_twice_stays_in_the_tiers() {
    for arrives in ["after both", "before the origin has the second", "before L2 has the second"] {
        let pair = Pair::new().await;
        pair.first.remote.hold_back();
        pair.put("1").await;
        match arrives {
            "after both" => pair.put("2").await,
            "before the origin has the second" => {
                let writing = pair.put_held("2").await;
                pair.all_arrive().await;
                pair.table.let_go();
                ended(writing).await.expect("it is stored");
            }
            _ => {
                let gate = pair.first.remote.hold(Operation::Set, Point::BeforeEffect);
                let texts = pair.mine.clone();
                let writing = spawn(async move { texts.put("k", "2".into()).await });
                gate.wait_until_held(1).await;
                pair.all_arrive().await;
                gate.open();
                ended(writing).await.expect("it is stored");
            }
        }
        pair.all_arrive().await;
        pair.is_warm("2", arrives).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_written_again_and_again_stays_in_the_tiers() {
    let pair = Pair::new().await;
    for round in 0..10 {
        pair.first.remote.hold_back();
        for n in 0..20 {
            pair.put(&format!("{round}.{n}")).await;
        }
        pair.all_arrive().await;
    }
    pair.is_warm("9.19", "after 200 writes").await;
}

#[tokio::test(start_paused = true)]
async fn every_way_to_write_through_may_be_followed_by_every_other() {
    type Way = (&'static str, Option<&'static str>);
    const WAYS: [Way; 5] = [
        ("put", Some("put")),
        ("put_many", Some("many")),
        ("put_through", Some("through")),
        ("remove", None),
        ("put_around", None),
    ];
    let change = async |pair: &Pair, way: &str| match way {
        "put" => pair.put("put").await,
        "put_many" => {
            let entries = ["k", "other"].map(|key| (key.to_owned(), "many".to_owned()));
            pair.mine.put_many(entries).await.expect("they are stored");
        }
        "put_through" => {
            let table = pair.table.clone();
            let store = move |value: std::sync::Arc<String>| async move {
                table.set("k", &value);
                Ok::<_, &str>(())
            };
            let options = EntryOptions::new();
            pair.mine.put_through("k", "through".into(), options, store).await.expect("it is stored");
        }
        "remove" => {
            pair.mine.remove("k").await.expect("it is removed");
        }
        _ => {
            pair.mine.put_around("k", async { Ok::<_, &str>(()) }).await.expect("it is dropped");
        }
    };
    for (before, _) in WAYS {
        for (after, value) in WAYS {
            let (pair, why) = (Pair::new().await, format!("{before}, then {after}"));
            pair.first.remote.hold_back();
            change(&pair, before).await;
            change(&pair, after).await;
            pair.all_arrive().await;
            match value {
                Some(value) => pair.is_warm(value, &why).await,
                None => assert!(!pair.is_in_l2() && !pair.contested(), "{why}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_between_two_writes_of_one_node_drops_the_second() {
    let pair = Pair::new().await;
    pair.first.remote.hold_back();
    pair.put("1").await;
    let gate = pair.first.remote.hold(Operation::Set, Point::BeforeEffect);
    let texts = pair.mine.clone();
    let writing = spawn(async move { texts.put("k", "2".into()).await });
    gate.wait_until_held(1).await;
    // The origin has the second, and then theirs; L2 sees theirs, and then the second.
    pair.they_change("theirs").await;
    gate.open();
    ended(writing).await.expect("it is stored");
    assert!(pair.is_in_l2(), "nobody has heard of theirs");
    pair.all_arrive().await;
    until("the key to be dropped", || !pair.is_in_l2()).await;
    pair.is_right("theirs came last").await;
}

#[tokio::test(start_paused = true)]
async fn what_came_before_the_first_write_is_not_forgotten_for_a_second() {
    for second in ["waits", "fails", "is stored"] {
        let pair = Pair::new().await;
        pair.first.remote.hold_back();
        let gate = pair.first.remote.hold(Operation::Set, Point::BeforeEffect);
        let texts = pair.mine.clone();
        let writing = spawn(async move { texts.put("k", "1".into()).await });
        gate.wait_until_held(1).await;
        pair.they_change("theirs").await;
        gate.open();
        ended(writing).await.expect("it is stored");
        match second {
            "waits" => {
                let writing = pair.put_held("2").await;
                pair.all_arrive().await;
                // The first is an old value until the second is there, however long that takes.
                until("the key to be dropped", || !pair.is_in_l2()).await;
                pair.table.let_go();
                ended(writing).await.expect("it is stored");
            }
            "fails" => {
                pair.table.is(Mood::Failing, None);
                pair.mine.put("k", "2".into()).await.expect_err("the origin does not take it");
            }
            _ => pair.put("2").await,
        }
        pair.all_arrive().await;
        until("the key to be dropped", || !pair.is_in_l2()).await;
        pair.is_right(second).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_nodes_that_write_in_turn_keep_what_was_written_last() {
    let pair = Pair::new().await;
    for n in 0..6 {
        let texts = if n % 2 == 0 { &pair.mine } else { &pair.theirs };
        texts.put("k", n.to_string()).await.expect("it is stored");
        let_others_run().await;
    }
    pair.put("last").await;
    let_others_run().await;
    pair.is_warm("last", "each heard of the other in time").await;
    pair.first.remote.hold_back();
    pair.put("1").await;
    pair.theirs.put("k", "2".into()).await.expect("it is stored");
    pair.put("3").await;
    pair.all_arrive().await;
    until("the key to be dropped", || !pair.is_in_l2()).await;
    pair.is_right("somebody came between, as far as this node knows").await;
}

#[tokio::test(start_paused = true)]
async fn what_was_invalidated_by_others_before_l2_had_it_is_not_kept() {
    for what in ["tag", "pattern", "everything"] {
        for is_late in [true, false] {
            let pair = Pair::new().await;
            // The tag's generation is asked for after the origin, and before L2 is told.
            let asking = pair.first.remote.hold(Operation::Generations, Point::BeforeEffect);
            let options = EntryOptions::new().tag("t").expect("a tag");
            let texts = pair.mine.clone();
            let writing = spawn(async move { texts.put_with("k", "mine".into(), options).await });
            asking.wait_until_held(1).await;
            if is_late {
                pair.first.remote.hold_back();
            }
            pair.table.set("k", "theirs");
            let invalidate = pair.theirs.invalidate();
            let invalidated = match what {
                "tag" => invalidate.tag("t").expect("a tag").send().await,
                "pattern" => invalidate.pattern("k*").expect("a pattern").send().await,
                _ => pair.theirs.clear().await,
            };
            invalidated.expect("it is invalidated");
            let answer = pair.first.remote.hold(Operation::Set, Point::AfterEffect);
            asking.open();
            answer.wait_until_held(1).await;
            assert!(pair.is_in_l2(), "{what}");
            let_others_run().await;
            answer.open();
            ended(writing).await.expect("it is stored");
            pair.all_arrive().await;
            until("the key to be dropped", || !pair.is_in_l2()).await;
            pair.is_right(what).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_stranger_touched_before_l2_had_it_is_not_kept() {
    let (node, table) = (Node::first_tracking().await, Table::default());
    let texts = opened(&node.cache, |builder| builder.write_through(table.clone()));
    held(&texts, "k").await;
    let_others_run().await;
    node.remote.hold_back();
    let gate = node.remote.hold(Operation::Set, Point::BeforeEffect);
    let writer = texts.clone();
    let writing = spawn(async move { writer.put("k", "mine".into()).await });
    gate.wait_until_held(1).await;
    let (namespace, key) = (Namespace::new("rows").expect("valid"), crate::fixture::key("k"));
    table.set("k", "theirs");
    node.remote.tamper(&namespace, &key, bytes::Bytes::from_static(b"theirs"));
    gate.open();
    ended(writing).await.expect("it is stored");
    let is_in_l2 = || node.remote.keys(&namespace).contains(&key);
    assert!(is_in_l2(), "nobody has heard of theirs");
    node.remote.let_arrive();
    until("the key to be dropped", || !is_in_l2()).await;
    assert_eq!(texts.get("k").await.expect("valid").as_deref().map(String::as_str), Some("theirs"));
}

#[tokio::test(start_paused = true)]
async fn changes_of_other_keys_are_none_of_this_one() {
    let pair = Pair::new().await;
    pair.first.remote.hold_back();
    pair.put("1").await;
    // More keys than there are groups of keys: some share that of this one.
    pair.theirs.invalidate().keys((0..20_000).map(|n| n.to_string())).send().await.expect("they are dropped");
    pair.put("2").await;
    pair.all_arrive().await;
    pair.is_warm("2", "nobody else has changed it").await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_back_is_dropped_in_time_and_at_the_end() {
    let pair = Pair::new().await;
    pair.first.remote.hold_back();
    for n in 0..3 {
        pair.put(&n.to_string()).await;
        assert!(pair.is_in_l2());
    }
    pause(LEASE * 3).await;
    assert!(!pair.is_in_l2(), "two leases are over");
    pair.put("again").await;
    assert!(pair.is_in_l2());
    pair.first.cache.shutdown(Duration::from_secs(10)).await.expect("nothing is left");
    assert!(!pair.is_in_l2(), "nobody watches any more");
    pair.second.cache.shutdown(Duration::from_secs(10)).await.expect("nothing is left");
}
