//! Requests that are taken once: at the same time, after their writes are over, over restarts, and how long they are remembered.

use super::disk::{Disk, Faults};
use super::live::{LONG, Origin, drain, journal_on, lane_of, options, put};
use crate::behind::store::Store;
use crate::behind::{
    Ack, Acknowledged, IdempotencyKey, JournalOptions, Lane, OpenError, Operation, Outcome, WriteError,
};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use terrace_core::Clock;
use terrace_testkit::wait::until;
use tokio::sync::Semaphore;

const DAY: Duration = Duration::from_hours(24);

async fn once(lane: &Lane, name: &str, key: &str, value: &str) -> Result<Acknowledged, WriteError> {
    let name = IdempotencyKey::new(name).expect("a key");
    let operation = Operation::Store(Bytes::copy_from_slice(value.as_bytes()));
    lane.write_once(Bytes::copy_from_slice(key.as_bytes()), operation, None, &name, LONG).await
}

/// The number of a write, which has to be a repetition, or none.
async fn number(lane: &Lane, name: &str, value: &str, is_repetition: bool) -> u64 {
    let taken = once(lane, name, "k", value).await.expect("room");
    assert_eq!(taken.is_repetition, is_repetition, "{name} {value}");
    taken.id.number
}

fn values(origin: &Origin) -> Vec<String> {
    let text = |operation: &Operation| {
        operation.value().map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    };
    origin.log.lock().iter().map(|write| text(&write.operation)).collect()
}

#[tokio::test]
async fn a_repetition_is_no_write_wherever_the_first_stands() {
    let journal = journal_on(&Disk::default(), JournalOptions::default());
    let origin = Arc::new(Origin { gate: Some(Semaphore::new(0)), ..Origin::default() });
    let lane = lane_of(&journal, options().attempt_timeout(LONG), &origin);
    let first = number(&lane, "a", "1", false).await;
    assert_eq!(number(&lane, "a", "1", true).await, first, "it waits");
    let short = tokio::time::timeout(Duration::from_millis(20), lane.flush()).await;
    assert!(short.is_err(), "it is at the gate");
    assert_eq!(number(&lane, "a", "1", true).await, first, "it is with the sink");
    let second = number(&lane, "b", "2", false).await;
    let newest = put(&lane, "k", "3").await.expect("room");
    assert_eq!(number(&lane, "b", "2", true).await, second, "it was coalesced");
    origin.failing.lock().insert("k".into(), Outcome::Refused("no".into()));
    origin.gate.as_ref().expect("gated").add_permits(99);
    drain(&lane).await;
    assert_eq!(lane.dead_letters(9).len(), 2);
    assert_eq!(number(&lane, "a", "1", true).await, first, "it is a dead letter");
    origin.failing.lock().clear();
    lane.retry_dead(b"k").expect("none is overtaken");
    assert_eq!(number(&lane, "a", "1", true).await, first, "it was brought back");
    drain(&lane).await;
    assert_eq!(number(&lane, "a", "1", true).await, first, "it was stored");
    assert_eq!(number(&lane, "b", "2", true).await, second, "what has taken its place was stored");
    assert_eq!(lane.figures().pending, 0);
    assert!(newest > second && values(&origin).last().is_some_and(|value| value == "3"));
    assert_eq!((lane.figures().repeated, lane.figures().idempotency_keys), (7, 2));

    origin.failing.lock().insert("k".into(), Outcome::Refused("no".into()));
    let dropped = number(&lane, "c", "4", false).await;
    drain(&lane).await;
    assert_eq!(lane.drop_dead(b"k"), 1);
    assert_eq!(number(&lane, "c", "4", true).await, dropped, "it was dropped");
}

#[tokio::test]
async fn a_name_is_of_one_request_of_one_keyspace() {
    let journal = journal_on(&Disk::default(), JournalOptions::default());
    let lane = lane_of(&journal, options(), &Arc::new(Origin::default()));
    let first = once(&lane, "a", "k", "1").await.expect("room").id;
    let name = IdempotencyKey::new("a").expect("a key");
    let delete = lane.write_once("k".into(), Operation::Delete, None, &name, LONG).await;
    for other in [once(&lane, "a", "k", "2").await, once(&lane, "a", "l", "1").await, delete] {
        assert_eq!(other, Err(WriteError::KeyReused { id: first }));
    }
    assert_eq!((lane.figures().pending, lane.figures().refused), (1, 3));
    let other = journal.lane("other", options(), Arc::new(Origin::default())).expect("its first sink");
    let there = once(&other, "a", "l", "2").await.expect("room");
    assert!(!there.is_repetition && there.id != first, "{there:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_equal_requests_at_the_same_time_one_is_taken() {
    for ack in [Ack::Fsync, Ack::Os, Ack::Memory] {
        let journal = journal_on(&Disk::default(), JournalOptions::default());
        let lane = lane_of(&journal, options().ack(ack), &Arc::new(Origin::default()));
        for round in 0..20 {
            let name = format!("n{round}");
            let mut asking = tokio::task::JoinSet::new();
            for _ in 0..32 {
                let (lane, name) = (lane.clone(), name.clone());
                asking.spawn(async move { once(&lane, &name, "k", "v").await.expect("room") });
            }
            let taken = asking.join_all().await;
            assert_eq!(taken.iter().filter(|taken| !taken.is_repetition).count(), 1);
            assert!(taken.iter().all(|of| of.id == taken[0].id), "{taken:?}");
        }
        assert_eq!((lane.figures().acknowledged, lane.figures().repeated), (20, 20 * 31));
    }
}

#[tokio::test]
async fn a_repetition_waits_with_the_first_and_takes_its_place_if_that_is_refused() {
    let disk = Disk::default();
    // The first is on its way to the file for as long as the window is.
    let window = Duration::from_millis(300);
    let journal = journal_on(&disk, JournalOptions::default().commit_window(window));
    let lane = lane_of(&journal, options(), &Arc::new(Origin::default()));
    let asking = async |wait_max| {
        let (name, value) = (IdempotencyKey::new("a").expect("a key"), Operation::Store("v".into()));
        lane.write_once("k".into(), value, None, &name, wait_max).await
    };
    let later = async {
        until("the first to be taken in", || lane.figures().pending == 1).await;
        (asking(Duration::ZERO).await, asking(LONG).await)
    };
    let (first, (impatient, again)) = tokio::join!(asking(LONG), later);
    // It may be acknowledged by now, on a machine that is busy.
    let of = match impatient {
        Err(WriteError::Unacknowledged { id, .. }) => id,
        told => told.expect("room").id,
    };
    let (first, again) = (first.expect("room"), again.expect("room"));
    assert!(
        of == first.id && first.id == again.id && !first.is_repetition && again.is_repetition,
        "{first:?} {again:?}"
    );

    disk.fail(Faults { room: Some(0), ..Faults::default() });
    let refused = once(&lane, "b", "k", "w").await;
    assert_eq!(refused, Err(WriteError::DiskFull));
    assert_eq!(
        once(&lane, "a", "k", "v").await.map(|taken| taken.id),
        Ok(first.id),
        "also where nothing is taken"
    );
    disk.fail(Faults::default());
    until("there to be room", || journal.figures().condition == crate::behind::Condition::Sound).await;
    assert!(
        !once(&lane, "b", "k", "w").await.expect("room").is_repetition,
        "what was refused was never taken"
    );
}

#[tokio::test]
async fn what_was_acknowledged_is_remembered_by_the_next_process_too() {
    let disk = Disk::default();
    let journal = journal_on(&disk, JournalOptions::default());
    let lane = lane_of(&journal, options(), &Arc::new(Origin::default()));
    let stored = number(&lane, "stored", "1", false).await;
    drain(&lane).await;
    let coalesced = number(&lane, "coalesced", "2", false).await;
    let waiting = number(&lane, "waiting", "3", false).await;
    let (mut disk, mut journal, mut lane) = (disk.after_kill(), journal, lane);
    // What is over is known by the second of these lives from the first alone.
    for life in 0..3 {
        drop((lane, journal));
        journal = journal_on(&disk, JournalOptions::default());
        let origin = Arc::new(Origin::default());
        lane = lane_of(&journal, options(), &origin);
        for (name, value, of) in
            [("stored", "1", stored), ("coalesced", "2", coalesced), ("waiting", "3", waiting)]
        {
            assert_eq!(number(&lane, name, value, true).await, of, "life {life}");
            let other = once(&lane, name, "k", "else").await;
            assert!(matches!(other, Err(WriteError::KeyReused { id }) if id.number == of), "{other:?}");
        }
        drain(&lane).await;
        let (values, newest) = (values(&origin), (life == 0).then_some("3"));
        assert_eq!(values.last().map(String::as_str), newest, "life {life}: {values:?}");
        journal.shutdown(Duration::from_secs(5)).await;
        disk = disk.after_kill();
    }
}

#[tokio::test]
async fn what_is_over_is_remembered_for_its_time_and_over_restarts_no_longer() {
    let (disk, clock) = (Disk::default(), Clock::manual());
    let open = |disk: &Disk| journal_on(disk, JournalOptions::default().clock(clock.clone()));
    let journal = open(&disk);
    let lane = lane_of(&journal, options(), &Arc::new(Origin::default()));
    let first = number(&lane, "a", "1", false).await;
    clock.advance(DAY * 3);
    assert_eq!(number(&lane, "a", "1", true).await, first, "it waits, for however long");
    drain(&lane).await;
    put(&lane, "other", "v").await.expect("room");
    // That it is over is in the file as well by now: what is noted is taken along by each commit.
    clock.advance(DAY / 2);
    assert_eq!(number(&lane, "a", "1", true).await, first);
    journal.shutdown(Duration::from_secs(5)).await;
    let disk = disk.after_kill();
    drop((lane, journal));

    let journal = open(&disk);
    let lane = lane_of(&journal, options(), &Arc::new(Origin::default()));
    clock.advance(Duration::from_secs(12 * 3600 - 5));
    assert_eq!(number(&lane, "a", "1", true).await, first, "half of its time was over before");
    clock.advance(Duration::from_secs(10));
    let second = number(&lane, "a", "2", false).await;
    assert!(second > first);
    drain(&lane).await;
    clock.advance(DAY + Duration::from_secs(1));
    number(&lane, "b", "3", false).await;
    assert_eq!(lane.figures().idempotency_keys, 1, "what is not asked for is forgotten as well");
    drain(&lane).await;
    journal.shutdown(Duration::from_secs(5)).await;
    drop((lane, journal));
    clock.advance(DAY * 7);
    let journal = open(&disk.after_kill());
    assert_eq!(journal.figures().lanes["space"].idempotency_keys, 0, "also where nobody writes any more");
}

#[tokio::test]
async fn of_what_is_over_so_many_are_remembered_and_all_whose_writes_wait() {
    let disk = Disk::default();
    let journal = journal_on(&disk, JournalOptions::default());
    let lane = lane_of(&journal, options().idempotency_keys_max(3), &Arc::new(Origin::default()));
    for n in 0..10 {
        once(&lane, &format!("n{n}"), &format!("k{n}"), "v").await.expect("room");
    }
    assert_eq!(lane.figures().idempotency_keys, 10, "their writes wait");
    drain(&lane).await;
    assert_eq!(lane.figures().idempotency_keys, 3);
    let waits = once(&lane, "waits", "waits", "v").await.expect("room");
    let remembered = async |lane: &Lane| {
        let mut names = Vec::new();
        for n in 0..10 {
            let (operation, key) = (Operation::Delete, Bytes::from(format!("other{n}")));
            let name = IdempotencyKey::new(&format!("n{n}")).expect("a key");
            // Another request: it is refused if the name is known, and taken else.
            let other = lane.write_once(key, operation, None, &name, LONG).await;
            if other.is_err() {
                names.push(n);
            }
        }
        names
    };
    journal.shutdown(Duration::ZERO).await;
    drop((lane, journal));
    let journal = journal_on(&disk.after_kill(), JournalOptions::default());
    let lane = lane_of(&journal, options().idempotency_keys_max(2), &Arc::new(Origin::default()));
    assert_eq!(lane.figures().idempotency_keys, 3, "two, and the one that waits");
    assert_eq!(remembered(&lane).await, [8, 9], "those that were over last");
    assert_eq!(once(&lane, "waits", "waits", "v").await.map(|taken| taken.id), Ok(waits.id));
}

/// Opens a file by itself.
fn open(disk: &Disk) -> Result<Vec<u64>, OpenError> {
    let (_, loaded) = Store::open(Path::new("test.journal"), disk.opener(), 100, 7)?;
    Ok(loaded.pending.iter().map(|(record, _)| record.number).collect())
}

fn format_of(disk: &Disk) -> u128 {
    let database = redb::Database::builder().create_with_backend(disk.clone()).expect("sound");
    let transaction = redb::ReadableDatabase::begin_read(&database).expect("sound");
    let meta = transaction.open_table(redb::TableDefinition::<&str, u128>::new("meta")).expect("a table");
    meta.get("format").expect("sound").expect("it has one").value()
}

/// A file as the first release makes it, with a write that waits.
fn of_the_first_release() -> Disk {
    type Row = (&'static str, &'static [u8], Option<&'static [u8]>, u64);
    type DeadRow = (&'static str, &'static [u8], Option<&'static [u8]>, u64, u32, &'static str);
    let disk = Disk::default();
    let database = redb::Database::builder().create_with_backend(disk.clone()).expect("new");
    let transaction = database.begin_write().expect("writable");
    {
        let mut meta = transaction.open_table(redb::TableDefinition::<&str, u128>::new("meta")).expect("new");
        for (name, value) in [("format", 1), ("journal", 9), ("reserved", 100), ("stamp", 50)] {
            meta.insert(name, value).expect("room");
        }
        let mut pending =
            transaction.open_table(redb::TableDefinition::<u64, Row>::new("pending")).expect("new");
        pending.insert(17, ("space", &b"k"[..], Some(&b"old"[..]), 40)).expect("room");
        transaction.open_table(redb::TableDefinition::<u64, u32>::new("attempts")).expect("new");
        transaction.open_table(redb::TableDefinition::<u64, DeadRow>::new("dead")).expect("new");
        transaction.open_table(redb::TableDefinition::<u64, ()>::new("overtaken")).expect("new");
    }
    transaction.commit().expect("sound");
    drop(database);
    disk
}

#[tokio::test]
async fn a_file_of_the_first_release_is_read_and_is_one_until_a_request_has_a_name() {
    let disk = of_the_first_release();
    assert_eq!(open(&disk).expect("it is read"), [17]);
    let journal = journal_on(&disk, JournalOptions::default());
    let lane = lane_of(&journal, options(), &Arc::new(Origin::default()));
    put(&lane, "k", "new").await.expect("room");
    journal.shutdown(Duration::ZERO).await;
    drop((lane, journal));
    assert_eq!(format_of(&disk), 1, "that release reads it still");

    let journal = journal_on(&disk, JournalOptions::default());
    let lane = lane_of(&journal, options(), &Arc::new(Origin::default()));
    let first = number(&lane, "a", "1", false).await;
    journal.shutdown(Duration::ZERO).await;
    drop((lane, journal));
    assert_eq!(format_of(&disk), 2, "that release refuses it, since it would forget the request");
    assert_eq!(open(&disk).expect("it is read"), [first]);
}

#[test]
fn a_file_of_a_later_release_is_refused_by_name_and_kept() {
    let disk = of_the_first_release();
    let database = redb::Database::builder().create_with_backend(disk.clone()).expect("sound");
    let transaction = database.begin_write().expect("writable");
    let meta = redb::TableDefinition::<&str, u128>::new("meta");
    transaction.open_table(meta).expect("a table").insert("format", 3).expect("room");
    transaction.commit().expect("sound");
    drop(database);
    let refused = open(&disk).expect_err("nobody knows what it is");
    assert!(matches!(refused, OpenError::NotAJournal { .. }), "{refused}");
    assert!(refused.to_string().contains("its format is 3, and 2 is the newest that is known"), "{refused}");
    assert_eq!(format_of(&disk), 3);
}
