//! What the tier does with copies, one call at a time.

use super::*;
use crate::terms::Lasting;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use terrace_core::Namespace;

fn l1() -> L1 {
    let tickets = Arc::new(Tickets::new(&terrace_core::Chance::system()));
    L1::new(10, 0, Policy::Default, None, &tickets, &Clock::manual()).expect("a bound is set")
}

fn copy(version: u64) -> Copy {
    let lasting = Lasting { ttl: Ttl::Never, grace: Duration::ZERO };
    let resident = Resident::new(Arc::new(version), version.into(), Moment::from_nanos(0), lasting);
    Copy { resident, weight_bytes: 1, ttl: Ttl::Never, ahead: None }
}

const NAME: KeyRef<'static> = KeyRef { space: 0, name: KeyName::Text("k") };

fn bans() -> Bans {
    Bans::new(Namespace::new("n").expect("valid"))
}

fn key() -> Key {
    Key::new("k").expect("valid")
}

#[test]
fn a_write_that_was_overtaken_at_its_very_end_leaves_no_copy() {
    let l1 = l1();
    let renewed = l1.tickets.renew([(l1.tickets.take(NAME), 1.into())])[0];
    assert!(renewed.is_some());
    l1.tickets.void(NAME);
    l1.settle(0, &key(), renewed, Some(copy(1)));
    assert!(l1.peek(NAME).is_none());
}

#[test]
fn what_was_returned_and_is_not_kept_leaves_no_older_copy() {
    let l1 = l1();
    assert!(l1.replace(0, &key(), Some(copy(5))));
    for older_or_same in [0, 4, 5] {
        l1.forget_older(NAME, older_or_same.into());
        assert!(l1.peek(NAME).is_some(), "{older_or_same}");
    }
    let ticket = l1.tickets.take(NAME);
    l1.forget_older(NAME, 6.into());
    assert!(l1.peek(NAME).is_none());
    assert!(!l1.tickets.is_valid(ticket), "a read that began before may bring an older value");
    let ticket = l1.tickets.take(NAME);
    l1.forget_older(NAME, 0.into());
    assert!(l1.tickets.is_valid(ticket), "what has no version is in no order");
}

#[test]
fn an_entry_is_found_by_number_and_by_text_and_in_its_own_namespace_only() {
    let l1 = l1();
    for (version, text) in [(1, "7"), (2, "07"), (3, "a text that is too long to lie within the entry")] {
        assert!(l1.replace(0, &Key::new(text).expect("valid"), Some(copy(version))));
        let there = l1.peek(KeyRef::of(0, text)).expect("there");
        assert_eq!(there.version, version.into());
        assert!(l1.peek(KeyRef::of(1, text)).is_none());
    }
    let by_number = l1.peek(KeyRef { space: 0, name: KeyName::Number(7) });
    assert_eq!(by_number.map(|there| there.version), Some(1.into()));
    assert_eq!(l1.remove_where(0, |name, _| name.with_text(|text| text.ends_with('7'))), 2);
    assert_eq!(size_of::<L1Key>(), 32, "the number takes no room of its own");
}

#[test]
fn a_write_voids_the_reads_that_began_before_it_ended() {
    let l1 = l1();
    let before = l1.tickets.take(NAME);
    l1.settle(0, &key(), None, Some(copy(2)));
    assert!(!l1.keep(0, &key(), before, copy(1)));
    let before = l1.tickets.take(NAME);
    assert!(l1.replace(0, &key(), Some(copy(3))));
    assert!(!l1.keep(0, &key(), before, copy(4)));
    assert_eq!(l1.peek(NAME).map(|there| there.version), Some(3.into()));
}

#[test]
fn of_two_copies_the_greater_version_stays() {
    let l1 = l1();
    for version in [2, 1, 3, 2] {
        l1.keep(0, &key(), l1.tickets.take(NAME), copy(version));
    }
    assert_eq!(l1.peek(NAME).map(|there| there.version), Some(3.into()));
    assert!(!l1.replace(0, &key(), Some(copy(2))), "it has to try again with a greater one");
    assert_eq!(l1.peek(NAME).map(|there| there.version), Some(3.into()));
}

#[test]
fn who_looks_in_order_waits_for_a_change_that_has_voided_tickets() {
    let l1 = l1();
    l1.keep(0, &key(), l1.tickets.take(NAME), copy(1));
    let (voided, is_voided) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    thread::scope(|scope| {
        let l1 = &l1;
        scope.spawn(move || {
            l1.insert_if(0, &key(), 0, copy(2), |_| {
                l1.tickets.void(NAME);
                voided.send(()).expect("somebody waits");
                may_go.recv().is_ok()
            })
        });
        is_voided.recv().expect("the change begins");
        let ticket = l1.tickets.take(NAME);
        assert_eq!(l1.peek(NAME).map(|there| there.version), Some(1.into()), "others do not wait");
        let (seen, sees) = mpsc::channel();
        scope.spawn(move || seen.send(l1.peek_in_order(NAME, &bans()).map(|there| there.version)));
        let early = sees.recv_timeout(Duration::from_millis(300));
        go.send(()).expect("the change waits");
        assert_eq!(early, Err(RecvTimeoutError::Timeout), "it waits as long as the change lasts");
        assert_eq!(sees.recv(), Ok(Some(2.into())));
        assert!(l1.tickets.is_valid(ticket), "so a load must not begin under it");
    });
}
