//! Both tiers: a read or a load on its way while the key changes, one test per order of events.

use crate::fixture::{Node, ended, key, let_others_run, loader, namespace, spawn, within};
use terrace::{EntryOptions, Tier};
use terrace_testkit::fake::{Fault, Operation, Point};

const CHANGES: [&str; 6] = ["put", "put_many", "remove", "key", "pattern", "clear"];

/// Changes the key `k` in one of several ways. Afterwards it is "new" if it was put, else gone.
async fn change(node: &Node, how: &str) {
    let texts = &node.texts;
    match how {
        "put" => {
            node.put("k", "new").await;
        }
        "put_many" => {
            let entries = ["k", "l"].map(|key| (key.to_owned(), "new".to_owned()));
            texts.put_many(entries).await.expect("stored");
        }
        "remove" => {
            texts.remove("k").await.expect("removed");
        }
        "key" => {
            texts.invalidate().keys(["k"]).send().await.expect("invalidated");
        }
        "pattern" => {
            texts.invalidate().pattern("[k]").expect("a pattern").send().await.expect("invalidated");
        }
        "clear" => {
            texts.clear().await.expect("cleared");
        }
        other => panic!("{other} is no change"),
    }
}

fn after(how: &str) -> Option<&'static str> {
    how.starts_with("put").then_some("new")
}

/// What a change asks of L2.
fn operation(how: &str) -> Operation {
    match how {
        "put" => Operation::Set,
        "put_many" => Operation::SetMany,
        "remove" | "key" => Operation::Invalidate,
        _ => Operation::Sweep,
    }
}

#[tokio::test]
async fn an_answer_from_before_a_change_is_not_kept_after_it() {
    for how in CHANGES {
        for is_batch in [false, true] {
            let node = Node::first().await;
            node.another().await.put("k", "old").await;
            let asked = if is_batch { Operation::GetMany } else { Operation::Get };
            let gate = node.remote.hold(asked, Point::AfterEffect);
            let texts = node.texts.clone();
            let early = spawn(async move {
                let batch = ["k".to_owned()];
                if is_batch {
                    texts.get_many(&batch).await.unwrap().remove(0)
                } else {
                    texts.get("k").await.unwrap()
                }
            });
            gate.wait_until_held(1).await;
            change(&node, how).await;
            gate.open();
            let early = ended(early).await;
            assert_eq!(early.as_deref().map(String::as_str), Some("old"), "{how}: it began before");
            assert_eq!(node.get("k").await.as_deref(), after(how), "{how} {is_batch}");
        }
    }
}

#[tokio::test]
async fn an_answer_to_a_caller_with_a_loader_is_not_kept_either() {
    for how in CHANGES {
        let node = Node::first().await;
        node.another().await.put("k", "old").await;
        let gate = node.remote.hold(Operation::Get, Point::AfterEffect);
        let early = node.loading_at_once("k", "never loaded");
        gate.wait_until_held(1).await;
        change(&node, how).await;
        gate.open();
        assert_eq!(ended(early).await, "old", "{how}: it began before");
        assert_eq!(node.get("k").await.as_deref(), after(how), "{how}");
    }
}

#[tokio::test]
async fn what_is_read_during_a_change_is_gone_after_it() {
    for how in CHANGES {
        let node = Node::first().await;
        node.another().await.put("k", "old").await;
        assert_eq!(node.get("k").await.as_deref(), Some("old"));
        let gate = node.remote.hold(operation(how), Point::BeforeEffect);
        let changing = change(&node, how);
        tokio::pin!(changing);
        tokio::select! {
            biased;
            () = &mut changing => panic!("the gate is shut"),
            () = gate.wait_until_held(1) => {}
        }
        let during = node.source("k").await.unwrap();
        assert_eq!(during, (Tier::L2, "old".to_owned()), "{how}: L1 has dropped it, L2 not yet");
        assert_eq!(node.source("k").await.unwrap().0, Tier::L1, "{how}: kept for now");
        gate.open();
        within("the change", changing).await;
        assert_eq!(node.get("k").await.as_deref(), after(how), "{how}");
    }
}

#[tokio::test]
async fn what_was_asked_for_during_a_change_is_not_kept_after_it() {
    for how in CHANGES {
        let node = Node::first().await;
        node.another().await.put("k", "old").await;
        let shut = node.remote.hold(operation(how), Point::BeforeEffect);
        let answer = node.remote.hold(Operation::Get, Point::AfterEffect);
        let changing = change(&node, how);
        tokio::pin!(changing);
        tokio::select! {
            biased;
            () = &mut changing => panic!("the gate is shut"),
            () = shut.wait_until_held(1) => {}
        }
        let during = node.getting("k");
        answer.wait_until_held(1).await;
        shut.open();
        within("the change", changing).await;
        answer.open();
        assert_eq!(ended(during).await.as_deref(), Some("old"), "{how}: it began before the change ended");
        assert_eq!(node.get("k").await.as_deref(), after(how), "{how}");
    }
}

#[tokio::test]
async fn a_fill_on_its_way_does_not_undo_a_change() {
    for point in [Point::BeforeEffect, Point::AfterEffect] {
        for is_elsewhere in [false, true] {
            for how in CHANGES {
                let node = Node::first().await;
                let other = node.another_without_l1().await;
                let gate = node.remote.hold(Operation::Fill, point);
                let leader = node.loading_at_once("k", "old");
                gate.wait_until_held(1).await;
                change(if is_elsewhere { &other } else { &node }, how).await;
                gate.open();
                assert_eq!(ended(leader).await, "old", "{how}: its call began before");
                assert_eq!(other.get("k").await.as_deref(), after(how), "{how}: in L2");
                if !is_elsewhere || point == Point::BeforeEffect {
                    assert_eq!(node.get("k").await.as_deref(), after(how), "{how} {point:?} {is_elsewhere}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_lease_on_its_way_does_not_undo_a_change() {
    for point in [Point::BeforeEffect, Point::AfterEffect] {
        for how in CHANGES {
            let node = Node::first().await;
            let other = node.another_without_l1().await;
            let gate = node.remote.hold(Operation::Lease, point);
            let leader = node.loading_at_once("k", "old");
            gate.wait_until_held(1).await;
            change(&node, how).await;
            gate.open();
            let_others_run().await;
            let brought = ended(leader).await;
            let seen = [other.get("k").await, node.get("k").await];
            let is_as_after = seen.iter().all(|value| value.as_deref() == after(how));
            let began_after =
                seen.iter().all(|value| value.as_deref() == Some("old")) && point == Point::BeforeEffect;
            assert!(is_as_after || began_after, "{how} {point:?}: {brought} was brought, {seen:?} is there");
            assert!(!(began_after && how.starts_with("put")), "{how}: the lease finds what was put");
        }
    }
}

#[tokio::test]
async fn a_tag_counts_from_the_moment_it_is_bumped() {
    let node = Node::first().await;
    let other = node.another().await;
    let tagged = || EntryOptions::default().tag("t").unwrap();
    other.texts.put_with("k", "old".to_owned(), tagged()).await.unwrap();
    let shut = node.remote.hold(Operation::BumpTags, Point::BeforeEffect);
    let texts = node.texts.clone();
    let bumping = spawn(async move { texts.invalidate().tag("t").unwrap().send().await });
    shut.wait_until_held(1).await;
    assert_eq!(node.source("k").await.unwrap(), (Tier::L2, "old".to_owned()));
    assert_eq!(node.source("k").await.unwrap().0, Tier::L1);
    shut.open();
    ended(bumping).await.unwrap();
    assert_eq!(node.get("k").await, None, "kept while the tag was bumped");
}

#[tokio::test]
async fn an_entry_read_before_its_tag_was_bumped_is_not_kept() {
    for (asked, point) in [(Operation::Get, Point::AfterEffect), (Operation::Generations, Point::AfterEffect)]
    {
        let node = Node::first().await;
        let tagged = EntryOptions::default().tag("t").unwrap();
        node.another().await.texts.put_with("k", "old".to_owned(), tagged).await.unwrap();
        let gate = node.remote.hold(asked, point);
        let early = node.getting("k");
        gate.wait_until_held(1).await;
        node.texts.invalidate().tag("t").unwrap().send().await.unwrap();
        gate.open();
        let _old_or_none_it_began_before = ended(early).await;
        assert_eq!(node.get("k").await, None, "{asked:?}");
        assert_eq!(node.texts.peek("k"), None, "{asked:?}");
    }
}

#[tokio::test]
async fn a_load_during_which_a_tag_of_its_value_is_bumped_is_kept_nowhere() {
    for is_elsewhere in [false, true] {
        let node = Node::first().await;
        let other = node.another_without_l1().await;
        let (mut held, load) = crate::fixture::hold::<std::convert::Infallible>();
        let texts = node.texts.clone();
        let tagged = EntryOptions::default().tag("t").unwrap();
        let leader = spawn(async move { texts.get_or_load_with("k", tagged, load).await });
        held.started().await;
        let bumper = if is_elsewhere { &other } else { &node };
        bumper.texts.invalidate().tag("t").unwrap().send().await.unwrap();
        held.bring("old");
        assert_eq!(*ended(leader).await.unwrap(), "old");
        assert_eq!((node.get("k").await, other.get("k").await), (None, None), "{is_elsewhere}");
        assert!(!node.remote.keys(&namespace()).contains(&key("k")));
    }
}

#[tokio::test]
async fn a_tag_bumped_between_its_check_and_the_fill_kills_what_is_filled() {
    let node = Node::first().await;
    let other = node.another_without_l1().await;
    let gate = node.remote.hold(Operation::Fill, Point::BeforeEffect);
    let texts = node.texts.clone();
    let tagged = EntryOptions::default().tag("t").unwrap();
    let leader = spawn(async move { texts.get_or_load_with("k", tagged, loader("old")).await });
    gate.wait_until_held(1).await;
    other.texts.invalidate().tag("t").unwrap().send().await.unwrap();
    gate.open();
    ended(leader).await.unwrap();
    assert_eq!(other.get("k").await, None, "it carries the generation from before");
}

#[tokio::test]
async fn a_tag_bumped_while_its_entry_is_put_leaves_no_copy() {
    let node = Node::first().await;
    let other = node.another_without_l1().await;
    let gate = node.remote.hold(Operation::Set, Point::BeforeEffect);
    let texts = node.texts.clone();
    let tagged = EntryOptions::default().tag("t").unwrap();
    let putting = spawn(async move { texts.put_with("k", "v".to_owned(), tagged).await });
    gate.wait_until_held(1).await;
    node.texts.invalidate().tag("t").unwrap().send().await.unwrap();
    gate.open();
    ended(putting).await.unwrap();
    assert_eq!(other.get("k").await, None);
    assert_eq!(node.texts.peek("k"), None, "L1 must not have what is dead in L2");
}

#[tokio::test]
async fn a_write_that_leaves_no_copy_leaves_no_room_for_an_older_one() {
    let node = Node::first().await;
    node.another().await.put("k", "old").await;
    let shut = node.remote.hold(Operation::Set, Point::BeforeEffect);
    let texts = node.texts.clone();
    let brief = EntryOptions::default().ttl(std::time::Duration::from_nanos(1));
    let putting = spawn(async move { texts.put_with("k", "brief".to_owned(), brief).await });
    shut.wait_until_held(1).await;
    let answer = node.remote.hold(Operation::Get, Point::AfterEffect);
    let during = node.getting("k");
    answer.wait_until_held(1).await;
    node.clock.advance(std::time::Duration::from_millis(1));
    shut.open();
    ended(putting).await.unwrap();
    answer.open();
    assert_eq!(ended(during).await.as_deref(), Some("old"), "it began before the write ended");
    assert_eq!(node.get("k").await, None);
}

#[tokio::test]
async fn who_comes_after_a_write_does_not_join_a_load_that_began_during_it() {
    for has_l1 in [false, true] {
        for is_disturbed in [false, true] {
            let node = if has_l1 { Node::first().await } else { Node::first_without_l1().await };
            let shut = node.remote.hold(Operation::Set, Point::BeforeEffect);
            let putting = node.putting("k", "new");
            shut.wait_until_held(1).await;
            if is_disturbed {
                node.texts.remove("k").await.unwrap();
            }
            node.remote.set_fault_on(Operation::Get, Some(Fault::TimeoutBeforeEffect));
            let (mut held, leader) = node.loading("k");
            held.started().await;
            shut.open();
            ended(putting).await.unwrap();
            let late = node.loading_at_once("k", "own");
            let_others_run().await;
            held.bring("old");
            assert_eq!(*ended(leader).await.unwrap(), "old");
            assert_ne!(ended(late).await, "old", "{has_l1} {is_disturbed}");
            assert_ne!(node.get("k").await.as_deref(), Some("old"), "{has_l1} {is_disturbed}");
        }
    }
}

#[tokio::test]
async fn a_late_answer_never_replaces_a_newer_copy() {
    let node = Node::first().await;
    let other = node.another_without_l1().await;
    other.put("k", "v1").await;
    let gate = node.remote.hold(Operation::Get, Point::AfterEffect);
    let early = node.getting("k");
    gate.wait_until_held(1).await;
    other.put("k", "v2").await;
    node.remote.hold(Operation::Get, Point::AfterEffect).open();
    assert_eq!(node.source("k").await, Some((Tier::L2, "v2".to_owned())));
    gate.open();
    assert_eq!(ended(early).await.as_deref(), Some("v1"));
    assert_eq!(node.source("k").await, Some((Tier::L1, "v2".to_owned())));
}
