//! What is kept, for how long, and what is asserted of it.

use super::*;
use terrace_core::{Clock, Glob};

fn key(text: &str) -> Key {
    Key::new(text).expect("valid")
}

fn named(text: &str) -> Named {
    Named::Key(key(text))
}

fn tag(text: &str) -> Tag {
    Tag::new(text).expect("valid")
}

fn owed(recent: &Recent, clock: &Clock) -> Vec<Reassertion> {
    recent.owed(clock.now(), |_| true)
}

fn of_key(text: &str, number: Option<u64>) -> Reassertion {
    Reassertion::Key { key: key(text), number: number.map(Version::from) }
}

fn done(recent: &Recent, clock: &Clock, text: &str, number: u64) -> u64 {
    recent.begin([named(text)], clock.now()) + recent.acknowledge([(named(text), number.into())], clock.now())
}

#[test]
fn a_change_has_a_number_once_it_is_acknowledged_and_the_greatest_counts() {
    let (clock, recent) = (Clock::manual(), Recent::default());
    assert!(recent.is_empty());
    recent.begin([named("a")], clock.now());
    assert_eq!(owed(&recent, &clock), [of_key("a", None)], "it may have been made");
    recent.acknowledge([(named("a"), 7.into())], clock.now());
    done(&recent, &clock, "b", 8);
    assert_eq!(owed(&recent, &clock), [of_key("a", Some(7)), of_key("b", Some(8))]);
    done(&recent, &clock, "a", 5);
    assert_eq!(owed(&recent, &clock), [of_key("b", Some(8)), of_key("a", Some(7))]);
}

#[test]
fn one_that_failed_is_forgotten() {
    let (clock, recent) = (Clock::manual(), Recent::default());
    recent.begin([named("a")], clock.now());
    recent.fail([named("a"), named("never begun")]);
    assert!(recent.is_empty());
    done(&recent, &clock, "a", 3);
    recent.begin([named("a")], clock.now());
    recent.fail([named("a")]);
    assert_eq!(owed(&recent, &clock), [of_key("a", Some(3))]);
}

#[test]
fn one_that_was_never_acknowledged_leaves_the_number_open() {
    let (clock, recent) = (Clock::manual(), Recent::default());
    recent.begin([named("a")], clock.now());
    done(&recent, &clock, "a", 7);
    assert_eq!(owed(&recent, &clock), [of_key("a", None)]);
}

#[test]
fn a_change_is_kept_for_a_while_and_longer_while_l2_is_not_heard() {
    let (clock, recent) = (Clock::manual(), Recent::default());
    done(&recent, &clock, "a", 1);
    clock.advance(KEPT);
    assert_eq!(owed(&recent, &clock), [of_key("a", Some(1))]);
    recent.freeze(clock.now(), true);
    clock.advance(Duration::from_hours(1));
    recent.freeze(clock.now(), true);
    done(&recent, &clock, "b", 2);
    assert_eq!(owed(&recent, &clock), [of_key("a", Some(1)), of_key("b", Some(2))]);
    recent.thaw();
    assert_eq!(owed(&recent, &clock), [of_key("b", Some(2))]);
}

#[test]
fn while_l2_is_not_heard_what_is_older_is_dead_where_numbers_are_the_order_of_changes() {
    let (clock, recent) = (Clock::manual(), Recent::default());
    done(&recent, &clock, "a", 7);
    let dead = |name: &str, number: u64| recent.outdates(&key(name), number.into());
    assert!(!dead("a", 6), "it is heard");
    recent.freeze(clock.now(), false);
    assert!(!dead("a", 6), "a smaller number may have come later");
    recent.freeze(clock.now(), true);
    assert_eq!((dead("a", 6), dead("a", 7), dead("b", 1)), (true, false, false));
    recent.owe();
    recent.pay();
    assert!(dead("a", 6), "it was asserted to a life that may be over");
    recent.thaw();
    assert!(!dead("a", 6));
}

#[test]
fn an_acknowledgement_that_comes_late_counts_from_when_it_came() {
    let (clock, recent) = (Clock::manual(), Recent::default());
    recent.begin([named("a")], clock.now());
    clock.advance(KEPT);
    recent.acknowledge([(named("a"), 1.into())], clock.now());
    clock.advance(KEPT);
    assert_eq!(owed(&recent, &clock), [of_key("a", Some(1))]);
}

#[test]
fn a_key_that_is_changed_all_the_time_takes_the_room_of_one() {
    let (clock, recent) = (Clock::manual(), Recent::default());
    for number in 1..10_000 {
        assert_eq!(done(&recent, &clock, "a", number), 0);
    }
    assert!(recent.log.lock().order.len() < 1000);
    assert_eq!(owed(&recent, &clock), [of_key("a", Some(9_999))]);
}

#[test]
fn the_oldest_go_when_there_are_too_many() {
    let (clock, recent) = (Clock::manual(), Recent::default());
    let mut dropped = 0;
    for number in 0..=CHANGES_MAX {
        dropped += done(&recent, &clock, &number.to_string(), 1 + number as u64);
    }
    assert_eq!(dropped, 1);
    let owed = owed(&recent, &clock);
    assert_eq!((owed.len(), &owed[0]), (CHANGES_MAX, &of_key("1", Some(2))));
}

#[test]
fn the_oldest_go_when_their_texts_are_too_long() {
    let (clock, recent) = (Clock::manual(), Recent::default());
    let mut dropped = 0;
    for number in 0..=BYTES_MAX / 1024 {
        dropped += done(&recent, &clock, &format!("{number:01024}"), 1);
    }
    assert_eq!(dropped, 1);
    assert!(recent.log.lock().bytes <= BYTES_MAX);
}

#[test]
fn tags_and_patterns_are_asserted_too_and_too_many_patterns_are_everything() {
    let (clock, recent) = (Clock::manual(), Recent::default());
    let rule = |text: &str| SweepRule::Matching(Glob::new(text).expect("valid"));
    recent.begin([Named::Rule(rule("a*")), Named::Tag(tag("t"))], clock.now());
    recent.acknowledge([(Named::Rule(rule("a*")), Version::ZERO)], clock.now());
    let both = [Reassertion::Tag(tag("t")), Reassertion::Sweep(rule("a*"))];
    assert_eq!(owed(&recent, &clock), both);
    for number in 0..RULES_MAX {
        recent.begin([Named::Rule(rule(&format!("{number}*")))], clock.now());
    }
    assert_eq!(owed(&recent, &clock), [Reassertion::Tag(tag("t")), Reassertion::Sweep(SweepRule::All)]);
    clock.advance(KEPT * 2);
    assert_eq!(owed(&recent, &clock), []);
    assert!(recent.is_empty());
}

#[test]
fn only_what_is_concerned_is_asserted() {
    let (clock, recent) = (Clock::manual(), Recent::default());
    done(&recent, &clock, "a", 1);
    done(&recent, &clock, "b", 2);
    recent.begin([Named::Tag(tag("a"))], clock.now());
    assert_eq!(recent.owed(clock.now(), |text| text == "b"), [of_key("b", Some(2))]);
}

#[test]
fn l2_is_not_believed_while_changes_are_owed() {
    let (clock, recent) = (Clock::manual(), Recent::default());
    let stamp = TagStamp { tag: tag("t"), generation: 1.into() };
    done(&recent, &clock, "a", 1);
    recent.begin([Named::Tag(tag("t"))], clock.now());
    recent.begin([Named::Rule(SweepRule::Matching(Glob::new("x*").expect("valid")))], clock.now());
    assert!(!recent.distrusts_tags(std::slice::from_ref(&stamp)));
    let outdates = |text: &str, version: u64| recent.outdates(&key(text), version.into());
    assert!(!outdates("a", 0));
    recent.owe();
    assert!(outdates("a", 0) && !outdates("a", 1), "a value that is not older is what L2 has not forgotten");
    assert!(outdates("xy", 9) && !outdates("b", 0));
    assert!(recent.distrusts_tags(std::slice::from_ref(&stamp)));
    recent.begin([named("a")], clock.now());
    assert!(outdates("a", 9), "nobody knows the number of what is under way");
    recent.thaw();
    assert!(!outdates("a", 0));
}
