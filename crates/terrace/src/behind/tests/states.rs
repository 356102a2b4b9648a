//! What is told of a write by its id, wherever it stands.

use super::disk::Disk;
use super::live::{LONG, Origin, drain, journal_on, lane_of, options, put};
use crate::behind::roll::COALESCED_MAX;
use crate::behind::{Ack, JournalOptions, Lane, Operation, Outcome, WriteId, WriteState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// What is told of a write, in a word; of one that was coalesced, the number of that which stands for it too.
fn told(lane: &Lane, id: WriteId) -> (&'static str, Option<u64>) {
    match lane.state_of(id) {
        None => ("never", None),
        Some(WriteState::Waiting { write, .. }) => ("waiting", Some(u64::from(write.attempt))),
        Some(WriteState::Dead(_)) => ("dead", None),
        Some(WriteState::Coalesced { by }) => ("coalesced", by.map(|by| by.number)),
        Some(WriteState::Gone) => ("gone", None),
    }
}

#[tokio::test]
async fn a_write_is_told_of_wherever_it_stands() {
    let disk = Disk::default();
    let journal = journal_on(&disk, JournalOptions::default());
    let origin = Arc::new(Origin { gate: Some(Semaphore::new(0)), ..Origin::default() });
    let lane = lane_of(&journal, options().attempt_timeout(LONG), &origin);
    let value = || Operation::Store("v".into());
    let first = lane.write("k".into(), value(), None, LONG).await.expect("room").id;
    let id = |number| WriteId { number, ..first };
    assert_eq!(told(&lane, first), ("waiting", Some(0)));
    assert_eq!(told(&lane, id(first.number + 1)), ("never", None), "it is not given out yet");
    assert_eq!(told(&lane, WriteId { journal: first.journal ^ 1, ..first }), ("never", None));
    assert!(
        tokio::time::timeout(Duration::from_millis(20), lane.flush()).await.is_err(),
        "it is at the gate"
    );
    assert_eq!(told(&lane, first), ("waiting", Some(1)), "it is with the sink");

    let mut behind = Vec::new();
    for value in ["2", "3", "4"] {
        behind.push(put(&lane, "k", value).await.expect("room"));
    }
    assert_eq!(told(&lane, id(behind[0])), ("coalesced", Some(behind[2])));
    assert_eq!(told(&lane, id(behind[1])), ("coalesced", Some(behind[2])));
    assert_eq!(told(&lane, id(behind[2])), ("waiting", Some(0)));
    let other = journal.lane("other", options(), Arc::new(Origin::default())).expect("its first sink");
    assert_eq!(told(&other, first), ("gone", None), "it is not of this keyspace");

    origin.failing.lock().insert("k".into(), Outcome::Refused("no".into()));
    origin.gate.as_ref().expect("gated").add_permits(99);
    drain(&lane).await;
    assert_eq!(told(&lane, first), ("dead", None));
    assert_eq!(told(&lane, id(behind[2])), ("dead", None));
    assert_eq!(told(&lane, id(behind[0])), ("coalesced", Some(behind[2])), "by one that is a dead letter");
    origin.failing.lock().clear();
    lane.retry_dead(b"k").expect("none is overtaken");
    assert_eq!(told(&lane, first), ("waiting", Some(0)));
    assert_eq!(told(&lane, id(behind[0])), ("coalesced", Some(behind[2])), "by one that was brought back");
    drain(&lane).await;
    assert_eq!((told(&lane, first), told(&lane, id(behind[2]))), (("gone", None), ("gone", None)));
    assert_eq!(told(&lane, id(behind[0])), ("coalesced", None), "what stood for it is over, too");

    let last = put(&lane, "k", "5").await.expect("room");
    assert_eq!(told(&lane, id(behind[0])), ("coalesced", None), "it did not take the place of that one");
    journal.shutdown(Duration::ZERO).await;
    let journal = journal_on(&disk.after_kill(), JournalOptions::default());
    let lane = lane_of(&journal, options(), &Arc::new(Origin::default()));
    assert_eq!(told(&lane, id(last)), ("waiting", Some(0)), "also after a restart");
    assert_eq!(told(&lane, id(behind[0])), ("gone", None), "the file has nothing of it");
}

#[tokio::test]
async fn of_what_was_coalesced_so_much_is_remembered_and_no_more() {
    let journal = journal_on(&Disk::default(), JournalOptions::default());
    let lane = lane_of(&journal, options().ack(Ack::Memory), &Arc::new(Origin::default()));
    let first = lane.write("k".into(), Operation::Delete, None, LONG).await.expect("room").id;
    while lane.figures().coalesced <= COALESCED_MAX as u64 {
        lane.write("k".into(), Operation::Delete, None, LONG).await.expect("room");
        tokio::task::yield_now().await;
    }
    assert_eq!(told(&lane, first), ("gone", None));
}

#[test]
fn a_write_has_one_name() {
    let id = WriteId { journal: 0xab, number: 17 };
    let name = "000000000000000000000000000000ab-17";
    assert_eq!((id.to_string().as_str(), name.parse()), (name, Ok(id)));
    for text in [
        "",
        "-",
        "ab-17",
        "17",
        &name[1..],
        &name.to_uppercase(),
        &format!("{name}0 "),
        &name.replace("17", "+17"),
        &name.replace("17", "017"),
        &name.replace("17", "-17"),
        &name.replace("17", "99999999999999999999"),
    ] {
        assert!(text.parse::<WriteId>().is_err(), "{text}");
    }
}
