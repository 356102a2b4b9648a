//! Each answer of a chain, one by one.

use super::*;
use crate::bus::{Change, NodeId};

fn message(previous: u64, number: u64) -> Message {
    Message { previous: previous.into(), number: number.into(), origin: NodeId(1), change: Change::Floor }
}

fn log(entries: &[(u64, u64)]) -> Vec<Result<Message, MessageError>> {
    entries.iter().map(|&(previous, number)| Ok(message(previous, number))).collect()
}

fn unreadable() -> Result<Message, MessageError> {
    Message::parse(b"2 of a later release")
}

fn missing(after: u64, until: u64) -> Step {
    Step::Missing { after: after.into(), until: until.into() }
}

/// A chain that joined at this number, long ago.
fn settled(at: u64) -> Chain {
    let mut chain = Chain::default();
    assert_eq!(chain.joined(at.into()), Step::Suspect);
    assert_eq!(chain.settle(), Step::Known);
    chain
}

#[test]
fn whoever_begins_knows_nothing() {
    let mut chain = Chain::default();
    assert_eq!(chain.last(), None);
    assert_eq!(chain.heard(&message(4, 5)), Step::Suspect);
    assert_eq!(chain.heard(&message(5, 9)), Step::Apply);
    assert_eq!(chain.last(), Some(9.into()));
}

#[test]
fn joining_anew_shows_what_was_missed() {
    let mut chain = settled(5);
    assert_eq!(chain.joined(5.into()), Step::Known);
    assert_eq!(chain.joined(8.into()), missing(5, 8));
    assert_eq!(chain.last(), Some(5.into()), "nothing is passed over before the log is read");
    assert_eq!(chain.joined(4.into()), Step::Suspect, "the server has lost number 5");
    assert_eq!(chain.last(), Some(4.into()));
}

#[test]
fn what_follows_on_is_applied() {
    let mut chain = settled(5);
    assert_eq!(chain.heard(&message(5, 7)), Step::Apply);
    assert_eq!(chain.heard(&message(7, 90)), Step::Apply);
    assert_eq!(chain.last(), Some(90.into()));
}

#[test]
fn a_hole_is_seen() {
    let mut chain = settled(5);
    assert_eq!(chain.heard(&message(7, 9)), missing(5, 9));
    assert_eq!(chain.heard(&message(4, 9)), missing(5, 9), "number 5 is not of this history");
    assert_eq!(chain.last(), Some(5.into()));
}

#[test]
fn numbers_that_go_back_are_suspect() {
    for again in [message(3, 4), message(5, 5), message(5, 3), message(0, 2), message(0, 0)] {
        let mut chain = settled(5);
        assert_eq!(chain.heard(&again), Step::Suspect, "{again}");
        let number = again.number.get();
        assert_eq!(chain.last(), (number > 0).then(|| number.into()), "{again}");
    }
}

#[test]
fn after_one_step_back_the_next_one_is_seen_as_well() {
    let mut chain = settled(100);
    assert_eq!(chain.heard(&message(0, 50)), Step::Suspect);
    assert_eq!(chain.heard(&message(0, 20)), Step::Suspect);
    assert_eq!(chain.heard(&message(20, 30)), Step::Apply);
}

#[test]
fn nothing_follows_on_from_nothing() {
    let mut chain = settled(0);
    assert_eq!(chain.joined(Version::ZERO), Step::Suspect, "a history may have come and gone");
    assert_eq!(chain.heard(&message(0, 5)), Step::Suspect);
    assert_eq!(chain.heard(&message(5, 6)), Step::Apply);
    assert_eq!(chain.heard(&message(0, 9)), Step::Suspect, "a new counter, ahead of the old one");
    assert_eq!(settled(0).joined(5.into()), Step::Suspect);
}

#[test]
fn what_was_published_before_the_counter_was_read_is_known() {
    for before in [&[][..], &[(7, 8), (8, 9)], &[(8, 9)], &[(0, 9)]] {
        let mut chain = settled(9);
        assert_eq!(chain.joined(9.into()), Step::Known);
        for &(previous, number) in before {
            assert_eq!(chain.heard(&message(previous, number)), Step::Known, "{before:?}");
        }
        assert_eq!(chain.clone().settle(), Step::Known, "{before:?}");
        assert_eq!(chain.heard(&message(9, 10)), Step::Apply, "{before:?}");
        assert_eq!(chain.heard(&message(8, 9)), Step::Suspect, "{before:?}: it is over");
    }
}

#[test]
fn what_only_looks_as_if_it_was_read_is_suspect() {
    let mut chain = settled(9);
    assert_eq!(chain.joined(9.into()), Step::Known);
    assert_eq!(chain.heard(&message(0, 3)), Step::Known);
    assert_eq!(chain.heard(&message(3, 4)), Step::Known);
    assert_eq!(chain.settle(), Step::Suspect, "it did not lead to number 9");
    assert_eq!(chain.heard(&message(4, 5)), Step::Apply);

    let mut chain = settled(9);
    assert_eq!(chain.joined(9.into()), Step::Known);
    assert_eq!(chain.heard(&message(6, 7)), Step::Known);
    assert_eq!(chain.heard(&message(0, 3)), Step::Suspect, "it does not follow on from number 7");
    assert_eq!(chain.settle(), Step::Known);

    let mut chain = settled(9);
    assert_eq!(chain.joined(9.into()), Step::Known);
    assert_eq!(chain.heard(&message(8, 9)), Step::Known);
    assert_eq!(chain.heard(&message(8, 9)), Step::Suspect, "number 9 was the end of it");
}

#[test]
fn settling_ends_what_is_expected() {
    let mut chain = settled(9);
    assert_eq!(chain.joined(9.into()), Step::Known);
    assert_eq!(chain.settle(), Step::Known);
    assert_eq!(chain.heard(&message(8, 9)), Step::Suspect);
}

#[test]
fn what_is_no_message_is_suspect_and_leaves_a_hole() {
    let mut chain = settled(5);
    assert_eq!(chain.garbled(), Step::Suspect);
    assert_eq!(chain.heard(&message(6, 7)), missing(5, 7));
}

#[test]
fn the_log_fills_a_hole() {
    let mut chain = settled(5);
    let missed = chain.repair(log(&[(5, 7), (7, 9), (9, 12)]), 9.into()).expect("whole");
    assert_eq!(missed, [message(5, 7), message(7, 9), message(9, 12)]);
    assert_eq!(chain.last(), Some(12.into()));
    assert_eq!(chain.heard(&message(9, 12)), Step::Known, "it was in the log");
    assert_eq!(chain.heard(&message(12, 13)), Step::Apply);
    assert_eq!(settled(5).repair(vec![], 5.into()), Some(vec![]), "there was no gap");
}

#[test]
fn a_log_with_a_hole_is_suspect_and_the_chain_goes_on_behind_it() {
    let with_another_wire = [log(&[(5, 7)]), vec![unreadable()]].concat();
    let cases = [
        (vec![], 9),
        (log(&[(5, 7)]), 9),
        (log(&[(7, 9)]), 9),
        (log(&[(5, 7), (8, 9)]), 9),
        (log(&[(5, 7), (7, 6), (6, 9)]), 9),
        (log(&[(4, 9)]), 9),
        (with_another_wire, 9),
        (log(&[(5, 7), (7, 12)]), 12),
    ];
    for (log, goes_on_at) in cases {
        let mut chain = settled(5);
        let text = format!("{log:?}");
        assert_eq!(chain.repair(log, 9.into()), None, "{text}");
        assert_eq!(chain.last(), Some(goes_on_at.into()), "{text}");
        assert_eq!(chain.heard(&message(3, goes_on_at)), Step::Known, "{text}: published before the reading");
        assert_eq!(chain.heard(&message(goes_on_at, 20)), Step::Apply, "{text}");
    }
}

#[test]
fn a_log_that_passes_by_the_number_is_of_a_server_that_has_lost_it() {
    let mut chain = settled(5);
    assert_eq!(chain.heard(&message(7, 9)), missing(5, 9));
    assert_eq!(chain.repair(log(&[(5, 7), (7, 12)]), 9.into()), None);
}

#[test]
fn nothing_is_repaired_where_nothing_was_known() {
    for mut chain in [Chain::default(), settled(0)] {
        assert_eq!(chain.repair(log(&[(0, 5), (5, 6)]), 6.into()), None);
        assert_eq!(chain.last(), Some(6.into()));
    }
}

#[test]
fn a_counter_shows_what_was_neither_heard_nor_kept() {
    let chain = settled(5);
    let at = |number: u64| Some(Version::from(number));
    assert!(!chain.lags(at(5), 5.into()));
    assert!(chain.lags(at(5), 6.into()), "number 6 was not heard");
    assert!(!chain.lags(at(3), 4.into()), "number 5 was heard while the counter was under way");
    assert!(chain.lags(at(5), 4.into()), "number 5 was known, and is forgotten");
    assert!(chain.lags(at(5), Version::ZERO));
    assert!(!settled(0).lags(None, Version::ZERO));
    assert!(settled(0).lags(None, 1.into()));
}
